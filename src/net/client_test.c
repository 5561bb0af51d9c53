/* SPDX-License-Identifier: MIT
 *
 * The client against canned peers, sockets by path, and escapes.
 */
#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/unix.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[] = "/tmp/davit-client-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/s.sock", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return davit_remove_tree(dir, NULL);
}

/* A peer that reads one request, says `answer` and closes. Its exit status says
 * whether the request began with `request`. */
static pid_t canned(const char *request, const char *answer)
{
	int fd;
	pid_t pid;

	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	pid = fork();
	if (pid == 0) {
		char data[4096] = "";
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int conn;
		ssize_t n;
		poll(&p, 1, 60000);
		conn = accept(fd, NULL, NULL);
		n = read(conn, data, sizeof data - 1);
		if (n > 0 && answer && write(conn, answer, strlen(answer)) < 0)
			_exit(3);
		bool as_wanted = n > 0 && !strncmp(data, request, strlen(request));
		while (!answer && read(conn, data, sizeof data) > 0)
			; /* silent until the client has gone */
		_exit(as_wanted ? 0 : 1);
	}
	close(fd);
	return pid;
}

static void ends_well(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void nobody_there_is_told_apart_from_other_failures(void **state)
{
	struct davit_client *c = NULL;
	struct davit_error err = {0};
	int fd;

	(void)state;
	unlink(path);
	assert_int_equal(davit_client_open(path, &c, &err), DAVIT_EUNAVAIL);
	assert_int_equal(err.sys_errno, ENOENT);
	assert_non_null(strstr(err.message, "no daemon listens at"));
	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	close(fd);
	assert_int_equal(davit_client_open(path, &c, &err), DAVIT_EUNAVAIL);
	assert_int_equal(err.sys_errno, ECONNREFUSED);
	assert_null(c);
}

static void a_socket_is_private_and_only_a_dead_one_is_replaced(void **state)
{
	struct davit_error err = {0};
	struct stat st;
	int fd, other, plain;

	(void)state;
	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(davit_unix_listen(path, &other, &err), DAVIT_EINUSE);
	close(fd);
	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	close(fd);
	unlink(path);
	plain = open(path, O_CREAT | O_WRONLY, 0600);
	close(plain);
	assert_int_equal(davit_unix_listen(path, &other, &err), DAVIT_EEXIST);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(path);
}

/* Whoever can make a socket where ours is expected would be told secrets. */
static void the_socket_of_another_user_is_not_spoken_to(void **state)
{
	struct davit_client *c;
	pid_t pid;
	int fd;

	(void)state;
	if (geteuid() != 0)
		skip();
	/* Its credentials are those with which it was made to listen. */
	unlink(path);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(seteuid(65533), 0);
	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(path, 0666), 0);
	pid = fork();
	if (pid == 0) {
		struct davit_error err = {0};
		if (setuid(65534) < 0)
			_exit(2);
		_exit(davit_client_open(path, &c, &err) == DAVIT_EPERM &&
				      strstr(err.message, "belongs to somebody else (uid 65533)")
			      ? 0
			      : 1);
	}
	ends_well(pid);
	close(fd);
	unlink(path);
	assert_int_equal(chmod(dir, 0700), 0);
}

static void paths_longer_than_a_socket_address_work(void **state)
{
	char parent[512], longer[600];
	struct davit_client *c;
	int fd;

	(void)state;
	snprintf(parent, sizeof parent, "%s/%0200d/%0200d", dir, 1, 2);
	assert_int_equal(davit_mkdirs(parent, 0700, NULL), 0);
	snprintf(longer, sizeof longer, "%s/davit.sock", parent);
	assert_int_equal(davit_unix_listen(longer, &fd, NULL), 0);
	assert_int_equal(davit_client_open(longer, &c, NULL), 0);
	davit_client_close(c);
	close(fd);
}

static void a_connection_closed_early_is_a_clear_error(void **state)
{
	static const char *const answers[] = {
		"", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(answers); i++) {
		DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
		pid_t pid = canned("GET /x HTTP/1.1\r\n", answers[i]);
		struct davit_error err = {0};
		struct davit_client *c;
		int status, r;
		assert_int_equal(davit_client_open(path, &c, NULL), 0);
		r = davit_client_send(c, &(struct davit_client_request){.target = "/x"}, &status, &err);
		if (r == 0)
			r = davit_client_body(c, 100, &body, &err);
		assert_int_equal(r, DAVIT_ECLOSED);
		assert_string_equal(err.message, "the daemon closed the connection");
		assert_int_equal(err.sys_errno, 0); /* it was read, and may have been obeyed */
		davit_client_close(c);
		ends_well(pid);
	}
}

static int accept_one(int fd)
{
	int conn = accept(fd, NULL, NULL);

	assert_true(conn >= 0);
	return conn;
}

/* By a peer that accepts nothing, or not all, before it is gone. */
static void a_request_that_nobody_has_read_is_told_from_one_that_may_be_obeyed(void **state)
{
	(void)state;
	for (int accepts = 0; accepts < 2; accepts++) {
		DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
		struct davit_error err = {0};
		struct davit_client *c;
		struct davit_client_request q = {.method = "POST", .target = "/x"};
		int fd, conn = -1, status;
		char some[10];
		pid_t pid;

		assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
		assert_int_equal(davit_client_open(path, &c, NULL), 0);
		if (accepts)
			conn = accept_one(fd);
		pid = fork();
		if (pid == 0) {
			/* More than a socket holds is cut, less is left unread. */
			for (int i = 0; i < (accepts ? 2000000 : 1000); i++)
				davit_buf_addc(&body, 'x');
			q.body = body.data;
			q.body_len = body.len;
			close(fd);
			if (conn >= 0)
				close(conn);
			_exit(davit_client_send(c, &q, &status, &err) == DAVIT_ECLOSED &&
					      err.sys_errno == ECONNRESET
				      ? 0
				      : 1);
		}
		if (accepts)
			assert_int_equal(read(conn, some, sizeof some), sizeof some);
		else
			usleep(50000); /* either way round is right */
		close(fd);
		if (conn >= 0)
			close(conn);
		davit_client_close(c);
		ends_well(pid);
	}
}

static void an_answer_that_is_no_http_is_refused(void **state)
{
	pid_t pid = canned("GET /x HTTP/1.1\r\n", "SSH-2.0-nothing\r\n\r\n");
	struct davit_error err = {0};
	struct davit_client *c;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &(struct davit_client_request){.target = "/x"}, &status, &err),
			 DAVIT_EPROTO);
	davit_client_close(c);
	ends_well(pid);
}

static void a_body_without_length_ends_with_the_connection(void **state)
{
	pid_t pid = canned("GET /x HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n\r\na\nb");
	struct davit_client *c;
	const char *line;
	size_t n;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &(struct davit_client_request){.target = "/x"}, &status, NULL),
			 0);
	assert_int_equal(davit_client_line(c, &line, &n, NULL), 1);
	assert_string_equal(line, "a");
	assert_int_equal(davit_client_line(c, &line, &n, NULL), 1);
	assert_string_equal(line, "b");
	assert_int_equal(davit_client_line(c, &line, &n, NULL), 0);
	davit_client_close(c);
	ends_well(pid);
}

static void a_silent_daemon_is_left_after_the_time_limit(void **state)
{
	pid_t pid = canned("GET /x HTTP/1.1\r\n", NULL);
	struct davit_error err = {0};
	struct davit_client *c;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(path, &c, NULL), 0);
	davit_client_set_timeout(c, 50 * DAVIT_NSEC_PER_MSEC);
	assert_int_equal(davit_client_send(c, &(struct davit_client_request){.target = "/x"}, &status, &err),
			 DAVIT_ETIMEDOUT);
	davit_client_close(c);
	ends_well(pid);
}

static int twice_more(struct davit_client *c, void *user, struct davit_error *err)
{
	int *asked = user;

	(void)c;
	return ++*asked < 3 ? 0 : davit_error_set(err, DAVIT_ECANCELED, NULL, "enough");
}

static void who_waits_asks_whether_there_is_somebody_to_wait_for(void **state)
{
	pid_t pid = canned("GET /x HTTP/1.1\r\n", NULL);
	struct davit_error err = {0};
	struct davit_client *c;
	int status, asked = 0;

	(void)state;
	assert_int_equal(davit_client_open(path, &c, NULL), 0);
	davit_client_set_patience(c, 10 * DAVIT_NSEC_PER_MSEC, twice_more, &asked);
	assert_int_equal(davit_client_send(c, &(struct davit_client_request){.target = "/x"}, &status, &err),
			 DAVIT_ECANCELED);
	assert_string_equal(err.message, "enough");
	assert_int_equal(asked, 3);
	davit_client_close(c);
	ends_well(pid);
}

static void line_breaks_cannot_smuggle_headers_in(void **state)
{
	struct davit_client_header bad = {"X", "a\r\nEvil: yes"};
	const struct davit_client_request requests[] = {
		{.target = "/a b"},
		{.target = "/x\r\nEvil: yes"},
		{.target = "no-slash"},
		{.target = "/x", .cause = "user\nEvil: yes"},
		{.target = "/x", .headers = &bad, .n_headers = 1},
	};
	struct davit_client *c;
	int fd, status;

	(void)state;
	assert_int_equal(davit_unix_listen(path, &fd, NULL), 0);
	assert_int_equal(davit_client_open(path, &c, NULL), 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(requests); i++)
		assert_int_equal(davit_client_send(c, &requests[i], &status, NULL), DAVIT_EINVAL);
	davit_client_close(c);
	close(fd);
}

static void escapes_come_back_equal(void **state)
{
	static const char *const words[] = {"", "plain", "a/b:c=d", "100% \"sure\"?&#+", "\xc3\xa9\x01\x7f"};
	static const char *const bad[] = {"%", "%1", "a%zz", "%00", "ab%4"};
	char *back;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(words); i++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
		davit_url_escape(&b, words[i]);
		assert_null(strpbrk(davit_buf_str(&b), "/:?&#+ \""));
		assert_int_equal(davit_url_unescape(davit_buf_str(&b), b.len, true, &back), 0);
		assert_string_equal(back, words[i]);
		free(back);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++)
		assert_int_equal(davit_url_unescape(bad[i], strlen(bad[i]), false, &back), DAVIT_EINVAL);
	assert_int_equal(davit_url_unescape("a+b%2Bc", 7, true, &back), 0);
	assert_string_equal(back, "a b+c");
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_there_is_told_apart_from_other_failures),
		cmocka_unit_test(the_socket_of_another_user_is_not_spoken_to),
		cmocka_unit_test(a_socket_is_private_and_only_a_dead_one_is_replaced),
		cmocka_unit_test(paths_longer_than_a_socket_address_work),
		cmocka_unit_test(a_connection_closed_early_is_a_clear_error),
		cmocka_unit_test(a_request_that_nobody_has_read_is_told_from_one_that_may_be_obeyed),
		cmocka_unit_test(an_answer_that_is_no_http_is_refused),
		cmocka_unit_test(a_body_without_length_ends_with_the_connection),
		cmocka_unit_test(a_silent_daemon_is_left_after_the_time_limit),
		cmocka_unit_test(who_waits_asks_whether_there_is_somebody_to_wait_for),
		cmocka_unit_test(line_breaks_cannot_smuggle_headers_in),
		cmocka_unit_test(escapes_come_back_equal),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

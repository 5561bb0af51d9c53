/* SPDX-License-Identifier: MIT
 *
 * Terminals that live in the keeper, their clients, and what they survive.
 */
#include "keeper/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "keeper/keeper.h"

#define SH(script) ARGV("/bin/sh", "-c", script)

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct screen {
	char text[1 << 20];
	size_t len;
	bool end;
};

/* Reads until the text is there (NULL: to the end). */
static bool see(int fd, struct screen *s, const char *text)
{
	int64_t end = now_us() + PATIENCE * INT64_C(1000);

	while (!s->end && !(text && s->len && memmem(s->text, s->len, text, strlen(text)))) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = end - now_us();
		ssize_t n;
		if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) <= 0)
			return false;
		assert_true(s->len < sizeof s->text - 1);
		n = recv(fd, s->text + s->len, sizeof s->text - 1 - s->len, MSG_DONTWAIT);
		s->end = n == 0 || (n < 0 && errno != EAGAIN);
		s->len += n > 0 ? (size_t)n : 0;
		s->text[s->len] = '\0';
	}
	return text ? memmem(s->text, s->len, text, strlen(text)) != NULL : s->end;
}

static void type(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static struct keeper_exit ended(struct client *c, const char *id)
{
	struct packet p;

	assert_true(client_wait(c, KEEPER_TERMINAL_EXITED, 0, id, PATIENCE, &p));
	return p.u.exited.exit;
}

static bool listed(struct client *c, const char *id, struct packet *ret)
{
	struct keeper_header h = {0};
	uint64_t tag = client_send(c, &h, KEEPER_TERMINALS, "", sizeof h, NULL, 0, NULL, 0);
	bool found = false;
	struct packet p;

	assert_int_equal(client_done(c, tag), 0);
	while (client_wait(c, KEEPER_TERMINAL_INFO, tag, NULL, 0, &p))
		if (!strcmp(p.u.h.id, id)) {
			*ret = p;
			found = true;
		}
	return found;
}

static int resize(struct client *c, const char *id, unsigned rows, unsigned columns)
{
	struct keeper_attach m = {.rows = rows, .columns = columns};

	return client_done(c, client_send(c, &m.h, KEEPER_RESIZE, id, sizeof m, NULL, 0, NULL, 0));
}

static int term_signal(struct client *c, const char *id, int signo)
{
	struct keeper_terminal_signal m = {.signo = signo};

	return client_done(c, client_send(c, &m.h, KEEPER_TERMINAL_SIGNAL, id, sizeof m, NULL, 0, NULL, 0));
}

static void a_terminal_echoes_and_its_command_has_it(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", ARGV("/bin/sh", "-i"), &p);

	assert_true(fd >= 0);
	assert_true(p.u.attached.pid > 0);
	assert_int_equal(p.u.attached.attached, 1);
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "$ "));
	type(fd, "tty; ps -o tpgid= -p $$ | grep -c $$ ; echo $TERM\n");
	assert_true(see(fd, &s, "/dev/pts/"));
	assert_true(see(fd, &s, "dumb\r\n"));
	s.len = 0;
	/* No echo takes longer than a person would notice. */
	int64_t worst = 0;
	for (int i = 0; i < 50; i++) {
		int64_t began = now_us();
		s.len = 0;
		type(fd, "x");
		assert_true(see(fd, &s, "x"));
		began = now_us() - began;
		worst = began > worst ? began : worst;
		nap(2);
	}
	print_message("worst of 50 echoes: %lld us\n", (long long)worst);
	s.len = 0;
	type(fd, "\003");
	assert_true(see(fd, &s, "$ "));
	type(fd, "exit 7\n");
	assert_true(see(fd, &s, NULL));
	struct keeper_exit e = ended(c, ID(01));
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 7);
	close(fd);
	/* It was taken to its end, and told: nothing is left. */
	assert_false(listed(c, ID(01), &p));
	assert_int_equal(client_attach(c, ID(01), NULL), DAVIT_ENOENT);
}

static void the_command_sees_its_size_and_when_it_changes(void **state)
{
	static struct screen s;
	struct client *c = *state;
	int fd = client_terminal(
		c, ID(01), "", SH("trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done"),
		NULL);

	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "24 80\r\n"));
	assert_int_equal(resize(c, ID(01), 50, 132), 0);
	assert_true(see(fd, &s, "50 132\r\n"));
	assert_true(see(fd, &s, NULL));
	ended(c, ID(01));
	close(fd);
	assert_int_equal(resize(c, ID(01), 50, 132), DAVIT_ENOENT);
}

static void a_signal_reaches_the_foreground_group(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", ARGV("/bin/sh", "-i"), &p);

	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "$ "));
	/* Interactive: the inner one is a group of its own, in the foreground. */
	type(fd, "sh -c 'trap \"echo got usr1\" USR1; trap \"echo got int; exit\" INT; echo re''ady; while "
		 ":; do sleep 0.05; done'\n");
	assert_true(see(fd, &s, "ready"));
	assert_int_equal(term_signal(c, ID(01), SIGUSR1), 0);
	assert_true(see(fd, &s, "got usr1"));
	assert_int_equal(term_signal(c, ID(01), SIGINT), 0);
	assert_true(see(fd, &s, "got int"));
	assert_true(alive(p.u.attached.pid)); /* the shell */
	assert_int_equal(term_signal(c, ID(01), 0), DAVIT_EINVAL);
	assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, ID(01)), 0);
	assert_false(alive(p.u.attached.pid));
	close(fd);
}

static void what_was_printed_comes_first_to_who_attaches(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", SH("echo before; read x; echo got $x; read y; exit 3"), NULL),
	    fd2;

	close(fd); /* detached before it printed, perhaps */
	WAIT_FOR(listed(c, ID(01), &p) && p.u.attached.attached == 0);
	assert_string_equal(p.u.bytes + sizeof p.u.attached + 1, "/bin/sh");
	fd = client_attach(c, ID(01), &p);
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "before\r\n"));
	type(fd, "this\n");
	assert_true(see(fd, &s, "got this\r\n"));
	/* A second one sees all of it, and both may type. */
	fd2 = client_attach(c, ID(01), &p);
	assert_int_equal(p.u.attached.attached, 2);
	static struct screen s2;
	memset(&s2, 0, sizeof s2);
	assert_true(see(fd2, &s2, "before\r\nthis\r\ngot this\r\n"));
	type(fd2, "end\n");
	assert_true(see(fd, &s, "end\r\n"));
	assert_true(see(fd, &s, NULL));
	assert_true(see(fd2, &s2, NULL));
	assert_string_equal(s.text, s2.text);
	assert_int_equal(ended(c, ID(01)).code, 3);
	close(fd);
	close(fd2);
}

static void a_command_without_clients_is_never_blocked_and_its_last_output_kept(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "",
				 SH("i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i; done; exit 5"),
				 NULL);

	close(fd);
	assert_int_equal(ended(c, ID(01)).code, 5);
	assert_true(listed(c, ID(01), &p));
	assert_int_equal(p.u.attached.exit.code, 5);
	fd = client_attach(c, ID(01), &p);
	assert_int_equal(p.u.attached.exit.kind, DAVIT_EXIT_CODE);
	assert_int_equal(p.u.attached.exit.code, 5);
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, NULL));
	assert_int_equal(s.len, DAVIT_SCROLLBACK);
	assert_string_equal(s.text + s.len - 12, "line 40000\r\n");
	close(fd);
	assert_false(listed(c, ID(01), &p));
}

/* `seq 1 n` as a terminal prints it. */
static bool complete(const struct screen *s, unsigned n)
{
	const char *at = s->text;
	char line[32];

	for (unsigned i = 1; i <= n; i++) {
		int len = snprintf(line, sizeof line, "%u\r\n", i);
		if (strncmp(at, line, (size_t)len))
			return false;
		at += len;
	}
	return !*at;
}

static void the_only_client_makes_the_command_wait_and_loses_nothing(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", ARGV("/usr/bin/seq", "1", "100000"), &p);

	nap(1500); /* longer than a slow one among several is waited for */
	assert_true(alive(p.u.attached.pid));
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, NULL));
	assert_true(complete(&s, 100000));
	assert_int_equal(ended(c, ID(01)).code, 0);
	close(fd);
}

static void one_of_several_that_does_not_read_is_passed_over(void **state)
{
	static struct screen s, slow;
	struct client *c = *state;
	int fd = client_terminal(c, ID(01), "", SH("read x; seq 1 100000; read x"), NULL);
	int lazy = client_attach(c, ID(01), NULL);
	int64_t began = now_us();

	memset(&s, 0, sizeof s);
	memset(&slow, 0, sizeof slow);
	type(fd, "\n");
	assert_true(see(fd, &s, "\n100000\r\n"));
	print_message("100000 lines beside a client that does not read: %lld ms\n",
		      (long long)(now_us() - began) / 1000);
	assert_true(now_us() - began < 8000000); /* one pause, not one for each piece */
	/* It reads again: what its socket held, then the end of what there is. */
	assert_true(see(lazy, &slow, "\n100000\r\n"));
	assert_true(slow.len < s.len);
	type(lazy, "\n");
	assert_true(see(fd, &s, NULL));
	assert_true(see(lazy, &slow, NULL));
	ended(c, ID(01));
	close(fd);
	close(lazy);
}

static void input_that_the_command_does_not_take_stays_in_the_socket(void **state)
{
	static char data[65536];
	static struct screen s;
	struct client *c = *state;
	int fd = client_terminal(c, ID(01), "",
				 SH("stty raw -echo; echo ready; sleep 2; head -c 1000000 | wc -c"), NULL);
	size_t sent = 0, before = 0;
	struct packet p;

	memset(data, 'a', sizeof data);
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "ready"));
	for (int64_t end = now_us() + PATIENCE * INT64_C(1000); sent < 1000000 && now_us() < end;) {
		ssize_t n = send(fd, data, sent + sizeof data > 1000000 ? 1000000 - sent : sizeof data,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			sent += (size_t)n;
			continue;
		}
		assert_int_equal(errno, EAGAIN);
		if (!before) {
			before = sent;
			assert_true(listed(c, ID(01), &p)); /* the keeper goes on */
		}
		nap(5);
	}
	assert_int_equal(sent, 1000000);
	assert_true(before > 0 && before < 900000);
	assert_true(see(fd, &s, "1000000"));
	assert_true(see(fd, &s, NULL));
	ended(c, ID(01));
	close(fd);
}

static void a_stop_of_the_instance_ends_its_terminals_and_removal_forgets_them(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p, q;
	pid_t stubborn;
	int fd, fd2;

	client_shell(c, ID(09), "exec sleep 1000");
	assert_int_equal(client_terminal(c, ID(01), ID(08), ARGV("/bin/sh"), NULL), DAVIT_ENOENT);
	fd = client_terminal(c, ID(01), ID(09), ARGV("/bin/sh", "-i"), &p);
	fd2 = client_terminal(c, ID(02), ID(09),
			      SH("trap '' HUP TERM; echo set; while :; do sleep 0.1; done"), &q);
	stubborn = q.u.attached.pid;
	memset(&s, 0, sizeof s);
	assert_true(see(fd2, &s, "set"));
	assert_int_equal(client_stop(c, ID(09), SIGTERM, 300), 0);
	assert_false(alive(p.u.attached.pid));
	assert_false(alive(stubborn));
	assert_int_equal(ended(c, ID(01)).kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(ended(c, ID(02)).signal, SIGKILL);
	assert_int_equal(client_terminal(c, ID(03), ID(09), ARGV("/bin/sh"), NULL), DAVIT_ESTATE);
	close(fd);
	close(fd2);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(09)), 0);
	assert_false(listed(c, ID(01), &p));
	assert_false(listed(c, ID(02), &p));
}

static void closing_hangs_up_then_kills(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", SH("trap '' HUP; echo set; while :; do sleep 0.1; done"), &p);

	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "set"));
	assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, ID(01)), 0);
	assert_false(alive(p.u.attached.pid));
	assert_int_equal(ended(c, ID(01)).signal, SIGKILL);
	assert_true(see(fd, &s, NULL));
	close(fd);
	assert_false(listed(c, ID(01), &p));
	assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, ID(01)), 0);
}

static void it_goes_on_while_the_daemon_is_away(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", SH("echo one; read x; echo two $x; read y; exit 4"), NULL);

	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "one\r\n"));
	client_disconnect(c); /* and a stream that was attached goes on */
	type(fd, "more\n");
	assert_true(see(fd, &s, "two more"));
	close(fd);
	client_connect(c);
	assert_true(listed(c, ID(01), &p));
	fd = client_attach(c, ID(01), NULL);
	client_disconnect(c);
	type(fd, "\n");
	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, NULL));
	assert_non_null(strstr(s.text, "one\r\n"));
	close(fd);
	/* Ended meanwhile: told to the next one. */
	client_connect(c);
	assert_int_equal(ended(c, ID(01)).code, 4);
}

static void an_upgrade_keeps_terminals_clients_and_what_was_printed(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	int fd = client_terminal(c, ID(01), "", SH("seq 1 1000; read x; echo two $x; read y; exit 4"), &p),
	    fd2;
	pid_t pid = p.u.attached.pid;

	memset(&s, 0, sizeof s);
	assert_true(see(fd, &s, "\n1000\r\n"));
	for (int i = 0; i < 3; i++)
		assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), 0);
	type(fd, "more\n");
	assert_true(see(fd, &s, "two more"));
	fd2 = client_attach(c, ID(01), &p);
	assert_int_equal(p.u.attached.pid, pid);
	static struct screen s2;
	memset(&s2, 0, sizeof s2);
	assert_true(see(fd2, &s2, "two more"));
	assert_memory_equal(s2.text, "1\r\n2\r\n", 6);
	type(fd2, "\n");
	assert_true(see(fd, &s, NULL));
	assert_int_equal(ended(c, ID(01)).code, 4);
	close(fd);
	close(fd2);
}

static void the_death_of_the_keeper_hangs_up_and_the_next_one_has_none(void **state)
{
	static struct screen s;
	struct client *c = *state;
	struct packet p;
	pid_t a, b;
	int fd = client_terminal(c, ID(01), "", ARGV("/bin/sh", "-i"), &p), fd2;

	a = p.u.attached.pid;
	fd2 = client_terminal(c, ID(02), "", SH("trap '' HUP; echo set; while :; do sleep 0.1; done"), &p);
	b = p.u.attached.pid;
	memset(&s, 0, sizeof s);
	assert_true(see(fd2, &s, "set"));
	client_kill_keeper(c);
	assert_true(see(fd, &s, NULL));
	WAIT_FOR(!alive(a));
	client_start_keeper(c);
	client_connect(c);
	WAIT_FOR(!alive(b));
	assert_false(listed(c, ID(01), &p));
	assert_false(listed(c, ID(02), &p));
	close(fd);
	close(fd2);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void ended_ones_are_kept_in_a_bounded_number(void **state)
{
	struct client *c = *state;
	struct packet p;
	unsigned kept = 0;

	for (int i = 0; i < 40; i++) {
		char id[24];
		snprintf(id, sizeof id, "%016x", i);
		int fd = client_terminal(c, id, "", ARGV("/bin/true"), NULL);
		assert_true(fd >= 0);
		close(fd);
		ended(c, id);
	}
	for (int i = 0; i < 40; i++) {
		char id[24];
		snprintf(id, sizeof id, "%016x", i);
		kept += listed(c, id, &p);
	}
	/* One that was still attached when it ended has been taken. */
	assert_true(kept <= 32);
	snprintf(p.u.bytes, sizeof p.u.bytes, "%016x", 39);
	assert_int_equal(client_simple(c, KEEPER_QUIT, ""), kept ? DAVIT_ESTATE : 0);
}

static void many_terminals_cost_no_descriptor_when_they_are_gone(void **state)
{
	struct client *c = *state;
	char path[64], id[24];
	size_t before;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)c->keeper);
	before = count_entries(path);
	for (int round = 0; round < 2; round++) {
		int fds[40];
		for (int i = 0; i < 40; i++) {
			snprintf(id, sizeof id, "%016x", i);
			fds[i] = client_terminal(c, id, "", ARGV("/bin/sleep", "1000"), NULL);
			assert_true(fds[i] >= 0);
		}
		for (int i = 0; i < 40; i++) {
			snprintf(id, sizeof id, "%016x", i);
			assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, id), 0);
			close(fds[i]);
		}
	}
	WAIT_FOR(count_entries(path) == before);
}

static void what_cannot_be_had_is_refused_with_the_reason(void **state)
{
	struct client *c = *state;
	int fds[KEEPER_CLIENTS_MAX], fd;

	assert_int_equal(client_terminal(c, ID(01), "", ARGV("/no/such"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /no/such: No such file or directory");
	assert_int_equal(client_terminal(c, "", "", ARGV("/bin/true"), NULL), DAVIT_EINVAL);
	fds[0] = client_terminal(c, ID(01), "", ARGV("/bin/sleep", "1000"), NULL);
	assert_int_equal(client_terminal(c, ID(01), "", ARGV("/bin/true"), NULL), DAVIT_EEXIST);
	for (int i = 1; i < KEEPER_CLIENTS_MAX; i++)
		assert_true((fds[i] = client_attach(c, ID(01), NULL)) >= 0);
	assert_int_equal(client_attach(c, ID(01), NULL), DAVIT_EQUOTA);
	close(fds[3]);
	WAIT_FOR((fd = client_attach(c, ID(01), NULL)) >= 0); /* when the keeper has seen that one go */
	close(fd);
	for (int i = 0; i < KEEPER_CLIENTS_MAX; i++)
		if (i != 3)
			close(fds[i]);
	assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, ID(01)), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, client_setup, client_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_terminal_echoes_and_its_command_has_it),
		T(the_command_sees_its_size_and_when_it_changes),
		T(a_signal_reaches_the_foreground_group),
		T(what_was_printed_comes_first_to_who_attaches),
		T(a_command_without_clients_is_never_blocked_and_its_last_output_kept),
		T(the_only_client_makes_the_command_wait_and_loses_nothing),
		T(one_of_several_that_does_not_read_is_passed_over),
		T(input_that_the_command_does_not_take_stays_in_the_socket),
		T(a_stop_of_the_instance_ends_its_terminals_and_removal_forgets_them),
		T(closing_hangs_up_then_kills),
		T(it_goes_on_while_the_daemon_is_away),
		T(an_upgrade_keeps_terminals_clients_and_what_was_printed),
		T(the_death_of_the_keeper_hangs_up_and_the_next_one_has_none),
		T(ended_ones_are_kept_in_a_bounded_number),
		T(many_terminals_cost_no_descriptor_when_they_are_gone),
		T(what_cannot_be_had_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "daemon/test_daemon.h"

#include "net/unix.h"

#include <sys/socket.h>

/* --- exec --- */

static void send_frame(int fd, unsigned char type, const char *data)
{
	unsigned char header[8] = {type, 0, 0, 0, 0, 0, 0, (unsigned char)strlen(data)};

	assert_int_equal(send(fd, header, 8, MSG_NOSIGNAL), 8);
	if (data[0])
		assert_int_equal(send(fd, data, strlen(data), MSG_NOSIGNAL), strlen(data));
}

/* Reads a frame into data; its type, or -1 at the end. */
static int take_frame(int fd, char data[256])
{
	unsigned char header[8];

	if (recv(fd, header, 8, MSG_WAITALL) != 8)
		return -1;
	memset(data, 0, 256);
	assert_int_equal(recv(fd, data, header[7], MSG_WAITALL), header[7]);
	return header[0];
}

static int start_exec(const char *body)
{
	int status, fd;
	json_t *list = ask("GET", "/v1/services/default/x/-", NULL, &status);
	const char *id = text(json_array_get(json_object_get(list, "instances"), 0), "id");
	char target[128];
	struct davit_client *c = dial();
	DAVIT_AUTO_BUF early = DAVIT_BUF_INIT;

	snprintf(target, sizeof target, "/v1/instances/%s/exec", id);
	json_decref(list);
	assert_int_equal(davit_client_send(c,
					   &(struct davit_client_request){.method = "POST",
									  .target = target,
									  .body = body,
									  .body_len = strlen(body),
									  .upgrade = "davit-exec"},
					   &status, NULL),
			 0);
	assert_int_equal(status, 101);
	assert_int_equal(davit_client_take_fd(c, &fd, &early, NULL), 0);
	assert_int_equal(early.len, 0); /* fake commands speak when spoken to */
	davit_client_close(c);
	return fd;
}

static void a_command_gets_its_input_and_gives_output_and_status(void **state)
{
	char data[256], id[32];
	int fd;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"x\",\"command\":[\"fake\"]}");
	instance_of_service("x", id);
	fd = start_exec("{\"command\":[\"cat\"]}");
	send_frame(fd, 0, "hello");
	assert_int_equal(take_frame(fd, data), 1);
	assert_string_equal(data, "hello");
	send_frame(fd, 6, "");
	assert_int_equal(take_frame(fd, data), 3);
	assert_string_equal(data, "{\"code\":0}");
	assert_int_equal(take_frame(fd, data), -1);
	close(fd);
	fd = start_exec("{\"command\":[\"cat\"]}");
	send_frame(fd, 9, "?");
	assert_int_equal(take_frame(fd, data), 3);
	assert_non_null(strstr(data, "malformed frame"));
	close(fd);
	kill_service("x");
}

static void secrets_are_listed_and_never_told(void **state)
{
	int status;
	json_t *v;

	(void)state;
	works("PUT", "/v1/secrets/default/token", "s3cr3t-value");
	v = ask("GET", "/v1/secrets", NULL, &status);
	char *all = json_dumps(v, 0);
	assert_non_null(strstr(all, "token"));
	assert_null(strstr(all, "s3cr3t"));
	free(all);
	json_decref(v);
	works("DELETE", "/v1/secrets/default/token", NULL);
	refused("DELETE", "/v1/secrets/default/token", NULL, 404, "token");
}

static void images_come_as_streams_of_any_length_and_go_by_name(void **state)
{
	struct flow big = {.n = 20 * 1024 * 1024};
	char *answer;
	int status;
	json_t *v;

	(void)state;
	assert_int_equal(stream_in("POST", "/v1/runtimes/-/images/import?reference=localhost%2Fbig%3A1", &big,
				   &answer),
			 200);
	assert_int_equal(big.sent, big.n);
	free(answer);
	works("POST", "/v1/runtimes/fake/images/pull", "{\"reference\":\"localhost/p:1\"}");
	v = ask("GET", "/v1/runtimes/fake/images", NULL, &status);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(v, json_array_size(v) - 2), "size")),
		20 * 1024 * 1024);
	json_decref(v);
	refused("DELETE", "/v1/runtimes/-/images?reference=nope", NULL, 404,
		"image 'nope' not found locally");
	refused("DELETE", "/v1/runtimes/-/images", NULL, 400, "parameter reference is needed");
	refused("POST", "/v1/runtimes/-/images/pull", "{\"reference\":\"missing/x\"}", 404,
		"has no 'missing/x'");
	refused("GET", "/v1/runtimes/nope/images", NULL, 404, "there is no runtime 'nope'");
	works("DELETE", "/v1/runtimes/-/images?reference=localhost%2Fbig%3A1", NULL);
	works("DELETE", "/v1/runtimes/-/images?reference=localhost%2Fp%3A1", NULL);
	big.sent = 0;
	assert_int_equal(stream_in("POST", "/v1/runtimes/-/images/load", &big, &answer), 502);
	assert_non_null(strstr(answer, "holds no image"));
	free(answer);
}

static void a_load_that_its_client_leaves_brings_nothing(void **state)
{
	static const char part[] = "POST /v1/runtimes/-/images/import?reference=half HTTP/1.1\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
	int fd, status;
	json_t *v, *i;
	size_t k;

	(void)state;
	assert_int_equal(davit_unix_connect(d.paths.socket, &fd, NULL), 0);
	assert_int_equal(send(fd, part, sizeof part - 1, MSG_NOSIGNAL), sizeof part - 1);
	usleep(50000);
	close(fd);
	usleep(50000);
	v = ask("GET", "/v1/runtimes/-/images", NULL, &status);
	json_array_foreach(v, k, i) assert_string_not_equal(
		json_string_value(json_array_get(json_object_get(i, "references"), 0)), "half");
	json_decref(v);
}

static void volumes_and_networks_are_kept_by_name(void **state)
{
	static const char *const kinds[] = {"volumes", "networks"};

	(void)state;
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(kinds); k++) {
		char target[96], one[128];
		int status;
		json_t *v;
		snprintf(target, sizeof target, "/v1/runtimes/-/%s", kinds[k]);
		snprintf(one, sizeof one, "%s/data.1", target);
		works("POST", target, "{\"name\":\"data.1\"}");
		works("POST", target, "{\"name\":\"data.1\"}");
		v = ask("GET", target, NULL, &status);
		assert_string_equal(text(json_array_get(v, json_array_size(v) - 1), "name"), "data.1");
		json_decref(v);
		refused("POST", target, "{\"name\":\"../x\"}", 400, "is no name of a");
		refused("POST", target, "{}", 400, "lacks 'name'");
		works("DELETE", one, NULL);
		refused("DELETE", one, NULL, 404, "not found");
	}
}

static void a_paused_service_says_so(void **state)
{
	char id[32];
	int status;
	json_t *v;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"frozen\",\"command\":[\"fake\"]}");
	instance_of_service("frozen", id);
	works("POST", "/v1/services/default/frozen/-/pause", "{}");
	v = ask("GET", "/v1/services/default/frozen/-", NULL, &status);
	assert_string_equal(text(v, "status"), "paused");
	assert_true(
		json_is_true(json_object_get(json_array_get(json_object_get(v, "instances"), 0), "paused")));
	json_decref(v);
	refused("POST", "/v1/services/default/frozen/-/pause", "{\"instance\":\"7\"}", 409,
		"no instance of 'frozen'");
	works("POST", "/v1/services/default/frozen/-/unpause", "{\"instance\":\"0\"}");
	v = ask("GET", "/v1/services/default/frozen/-", NULL, &status);
	assert_string_equal(text(v, "status"), "running");
	json_decref(v);
	works("POST", "/v1/services/default/frozen/-/pause", "{}");
	kill_service("frozen"); /* a stop thaws */
}

static void archives_go_in_and_come_out(void **state)
{
	/* A file "f" of 6 MiB, as ustar. */
	static char head[512] = "f";
	struct flow tar = {.head = head, .head_len = sizeof head, .n = 512 + (6 << 20) + 1024};
	struct davit_client_request q = {.method = "GET"};
	char target[128], id[32], *answer, block[65536];
	struct davit_client *c;
	unsigned sum = 0;
	size_t total = 0;
	ssize_t n;
	int status;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"files\",\"command\":[\"fake\"]}");
	instance_of_service("files", id);
	strcpy(head + 100, "0000644");
	strcpy(head + 124, "00030000000");
	memset(head + 148, ' ', 8);
	head[156] = '0';
	memcpy(head + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof head; i++)
		sum += (unsigned char)head[i];
	snprintf(head + 148, 8, "%06o", sum);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/tmp", id);
	assert_int_equal(stream_in("PUT", target, &tar, &answer), 200);
	free(answer);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/tmp/f", id);
	q.target = target;
	c = dial();
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 200);
	assert_string_equal(davit_client_header(c, "Content-Type"), "application/x-tar");
	while ((n = davit_client_read(c, block, sizeof block, NULL)) > 0) {
		if (!total)
			assert_string_equal(block, "f");
		total += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_true(total >= tar.n - 1024);
	davit_client_close(c);
	tar.sent = 0;
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/nope", id);
	refused("GET", target, NULL, 404, "/nope: no such file or directory");
	assert_int_equal(stream_in("PUT", target, &tar, &answer), 404);
	free(answer);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=tmp", id);
	refused("GET", target, NULL, 400, "must be absolute");
	kill_service("files");
}

static void a_terminal_wants_a_websocket_and_a_runtime_that_has_them(void **state)
{
	char id[32], target[128];
	struct davit_client_request q = {.method = "GET",
					 .target = target,
					 .upgrade = "websocket",
					 .headers = websocket,
					 .n_headers = DAVIT_ARRAY_SIZE(websocket)};
	struct davit_client *c;
	int status;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"t\",\"command\":[\"fake\"]}");
	instance_of_service("t", id);
	snprintf(target, sizeof target, "/v1/instances/%s/terminal?command=%%5B%%22sh%%22%%5D", id);
	refused("GET", target, NULL, 426, "this path is a WebSocket");
	refused("GET", "/v1/terminals/0123456789abcdef", NULL, 426, "this path is a WebSocket");
	refused("DELETE", "/v1/terminals/0123456789abcdef", NULL, 404,
		"terminal '0123456789abcdef' not found");
	works("GET", "/v1/terminals", NULL);
	snprintf(target, sizeof target, "/v1/instances/%s/terminal?command=sh", id);
	c = dial();
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 400); /* command is a JSON array */
	davit_client_close(c);
	kill_service("t");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_gets_its_input_and_gives_output_and_status),
		cmocka_unit_test(secrets_are_listed_and_never_told),
		cmocka_unit_test(images_come_as_streams_of_any_length_and_go_by_name),
		cmocka_unit_test(a_load_that_its_client_leaves_brings_nothing),
		cmocka_unit_test(volumes_and_networks_are_kept_by_name),
		cmocka_unit_test(a_paused_service_says_so),
		cmocka_unit_test(archives_go_in_and_come_out),
		cmocka_unit_test(a_terminal_wants_a_websocket_and_a_runtime_that_has_them),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, finish);
}

/* SPDX-License-Identifier: MIT
 *
 * The parts that need no engine: frames, lines and cursors, what an engine says,
 * counting runs, and what is asked of it. What does is test/conformance.
 */
#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"
#include "runtime/engine/frame.h"
#include "runtime/engine/lines.h"
#include "runtime/engine/observe.h"
#include "runtime/engine/runs.h"
#include "runtime/engine/spec.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#define T0 INT64_C(1795324195589186593) /* 2026-11-22T05:09:55.589186593Z */

/* --- frames --- */

static void add_frame(struct davit_buf *b, int stream, const char *text)
{
	size_t n = strlen(text);
	const unsigned char h[FRAME_HEADER] = {(unsigned char)stream,
					       0,
					       0,
					       0,
					       (unsigned char)(n >> 24),
					       (unsigned char)(n >> 16),
					       (unsigned char)(n >> 8),
					       (unsigned char)n};

	davit_buf_add(b, h, sizeof h);
	davit_buf_add(b, text, n);
}

static void a_frame_is_taken_when_it_is_whole(void **state)
{
	DAVIT_AUTO_BUF all = DAVIT_BUF_INIT, b = DAVIT_BUF_INIT;
	struct frame f;

	add_frame(&all, 2, "hello");
	for (size_t i = 0; i < all.len; i++) {
		assert_int_equal(frame_next(&b, &f), 0);
		davit_buf_add(&b, all.data + i, 1);
	}
	assert_int_equal(frame_next(&b, &f), 1);
	assert_int_equal(f.stream, DAVIT_STDERR);
	assert_int_equal(f.n, 5);
	assert_memory_equal(f.data, "hello", 5);
}

static void what_is_no_frame_is_refused(void **state)
{
	static const char *const bad[] = {"\3\0\0\0\0\0\0\1", "\1\1\0\0\0\0\0\1", "\1\0\0\1\0\0\0\1",
					  "\1\0\0\0\x7f\0\0\0", "2026-11-"};
	struct frame f;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
		davit_buf_add(&b, bad[i], 8);
		assert_int_equal(frame_next(&b, &f), DAVIT_EPROTO);
	}
}

static void a_stamp_is_taken_off(void **state)
{
	struct frame f = {.data = "2026-11-22T05:09:55.589186593Z two words\n", .n = 41};
	int64_t time;
	bool whole;

	assert_true(frame_stamp(&f, &time));
	assert_int_equal(time, T0);
	assert_memory_equal(f.data, "two words\n", f.n);
	f = (struct frame){.data = "no stamp", .n = 8};
	assert_false(frame_stamp(&f, &time));
	assert_int_equal(f.n, 8);
	f = (struct frame){.data = "2026-11-22T06:09:55.589186593+01:00 stderr P x", .n = 46};
	assert_true(frame_record(&f, &time, &whole));
	assert_int_equal(time, T0);
	assert_int_equal(f.stream, DAVIT_STDERR);
	assert_false(whole);
	assert_int_equal(f.n, 1);
	f = (struct frame){.data = "2026-11-22T06:09:55.5Z stdout F", .n = 31};
	assert_false(frame_record(&f, &time, &whole));
}

/* --- lines --- */

struct got {
	char text[64][32];
	uint64_t cursor[64];
	size_t n, stop_at;
};

static bool on_line(void *user, const struct davit_log_line *line)
{
	struct got *g = user;

	snprintf(g->text[g->n], sizeof g->text[0], "%.*s", (int)line->len, line->text);
	g->cursor[g->n++] = line->cursor;
	return g->n != g->stop_at;
}

/* Ten lines: bursts with one stamp, and one that comes late. */
static const int64_t stamps[] = {0, 0, 0, 5000, 4000, 5000, 9000, 9000, 9001, 2000000};

static void feed(struct lines *l, size_t from)
{
	char text[8];

	for (size_t i = from; i < DAVIT_ARRAY_SIZE(stamps); i++) {
		snprintf(text, sizeof text, "%zu", i);
		lines_add(l, DAVIT_STDOUT, T0 + stamps[i], text, strlen(text), true);
	}
}

static void cursors_grow_and_each_resumes_behind_its_line(void **state)
{
	struct got all = {0};
	struct davit_log_query q = {.tail = -1};
	struct lines l;

	lines_init(&l, &q, on_line, &all);
	feed(&l, 0);
	lines_fini(&l);
	assert_int_equal(all.n, DAVIT_ARRAY_SIZE(stamps));
	for (size_t i = 0; i < all.n; i++) {
		struct got rest = {0};
		assert_true(i == 0 || all.cursor[i] > all.cursor[i - 1]);
		q.after = all.cursor[i];
		lines_init(&l, &q, on_line, &rest);
		feed(&l, 0);
		lines_fini(&l);
		assert_int_equal(rest.n, all.n - i - 1);
		if (rest.n)
			assert_string_equal(rest.text[0], all.text[i + 1]);
	}
	/* The time to read from is never behind the line. */
	assert_true(lines_time(all.cursor[0]) <= T0);
	assert_true(T0 - lines_time(all.cursor[0]) < 1000);
}

static void a_tail_keeps_the_last_lines_and_can_pause(void **state)
{
	for (int64_t tail = 0; tail <= 12; tail++) {
		struct got g = {.stop_at = 2};
		const struct davit_log_query q = {.tail = tail};
		size_t want = tail > 10 ? 10 : (size_t)tail;
		struct lines l;

		lines_init(&l, &q, on_line, &g);
		feed(&l, 0);
		assert_int_equal(g.n, 0);
		assert_int_equal(lines_flush(&l), want < 2);
		assert_true(want < 2 || lines_flush(&l));
		assert_int_equal(g.n, want);
		if (want)
			assert_int_equal(atoi(g.text[0]), 10 - (int)want);
		lines_fini(&l);
	}
}

static void following_goes_on_behind_what_was_seen(void **state)
{
	struct got g = {0};
	const struct davit_log_query q = {.tail = 0, .follow = true};
	struct lines l;

	lines_init(&l, &q, on_line, &g);
	feed(&l, 0);
	lines_resume(&l);
	feed(&l, 3); /* the engine tells the last second again */
	assert_int_equal(g.n, 0);
	lines_add(&l, DAVIT_STDOUT, T0 + 3000000, "new", 3, true);
	assert_int_equal(g.n, 1);
	assert_string_equal(g.text[0], "new");
	lines_fini(&l);
}

static void parts_of_a_line_are_joined_by_stream(void **state)
{
	struct got g = {0};
	const struct davit_log_query q = {.tail = -1};
	struct lines l;

	lines_init(&l, &q, on_line, &g);
	lines_add(&l, DAVIT_STDOUT, T0, "a", 1, false);
	lines_add(&l, DAVIT_STDERR, T0, "x", 1, false);
	lines_add(&l, DAVIT_STDOUT, T0 + 1, "b", 1, true);
	lines_add(&l, DAVIT_STDERR, T0 + 1, "y", 1, true);
	lines_fini(&l);
	assert_int_equal(g.n, 2);
	assert_string_equal(g.text[0], "ab");
	assert_string_equal(g.text[1], "xy");
}

/* --- what an engine says --- */

static void exits_are_told_apart(void **state)
{
	struct davit_exit e;

	observe_exit(7, false, 1, &e);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 7);
	observe_exit(137, false, 1, &e);
	assert_int_equal(e.kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(e.signal, SIGKILL);
	observe_exit(137, true, 1, &e);
	assert_int_equal(e.kind, DAVIT_EXIT_OOM);
	assert_int_equal(e.signal, SIGKILL);
	/* Another one of the container was killed, this ended by itself. */
	observe_exit(1, true, 1, &e);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	observe_exit(170, false, 1, &e);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	observe_exit(255, false, 1, &e);
	assert_int_equal(e.code, 255);
}

static int observe_text(const char *text, struct observation *ret)
{
	json_t *o = json_loads(text, 0, NULL);
	int r = observe(o, ret, NULL);

	ret->label = NULL; /* borrowed */
	json_decref(o);
	return r;
}

#define ID64 "ae3344c66614f665f628008435d83d7edec3313455e39f0cd0b786ff05ddab8a"

static void the_states_of_a_container(void **state)
{
	struct observation o;

	assert_int_equal(observe_text("{\"Id\":\"" ID64
				      "\",\"State\":{\"StartedAt\":\"0001-01-01T00:00:00Z\","
				      "\"ExitCode\":127}}",
				      &o),
			 0);
	assert_int_equal(o.state, DAVIT_STATE_CREATED);
	assert_int_equal(o.exit.kind, DAVIT_EXIT_NONE);
	assert_int_equal(
		observe_text("{\"Id\":\"" ID64 "\",\"State\":{\"Running\":true,\"Paused\":true,\"Pid\":9,"
			     "\"StartedAt\":\"2026-11-22T05:09:55.589186593Z\"},"
			     "\"Config\":{\"Labels\":{\"davit.id\":\"0123456789abcdef\"}},"
			     "\"NetworkSettings\":{\"Networks\":{\"n\":{\"IPAddress\":\"10.1.2.3\"}}}}",
			     &o),
		0);
	assert_int_equal(o.state, DAVIT_STATE_STARTED);
	assert_int_equal(o.pid, 9);
	assert_int_equal(o.started, T0);
	assert_true(o.paused);
	assert_string_equal(o.id, "0123456789abcdef");
	assert_string_equal(o.address, "10.1.2.3");
	assert_int_equal(observe_text("{\"Id\":\"" ID64 "\",\"State\":{\"ExitCode\":3,\"Status\":\"exited\","
				      "\"StartedAt\":\"2026-11-22T05:09:55Z\"}}",
				      &o),
			 0);
	assert_int_equal(o.state, DAVIT_STATE_STOPPED);
	assert_int_equal(o.exit.code, 3);
	assert_int_equal(observe_text("{}", &o), DAVIT_EPROTO);
	assert_int_equal(observe_text("[1]", &o), DAVIT_EPROTO);
	assert_int_equal(observe_text("{\"Id\":7,\"State\":{}}", &o), DAVIT_EPROTO);
}

static void events_are_read_and_others_passed_over(void **state)
{
	static const char die[] = "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"" ID64 "\","
				  "\"Attributes\":{\"davit.id\":\"123\",\"exitCode\":\"7\"}},\"timeNano\":5}";
	static const char net[] = "{\"Type\":\"network\",\"Action\":\"connect\",\"timeNano\":6}";
	struct happening h;

	assert_int_equal(observe_event(die, strlen(die), &h, NULL), 0);
	assert_string_equal(h.action, "die");
	assert_string_equal(h.id, "123");
	assert_int_equal(h.exit_code, 7);
	assert_int_equal(h.time, 5);
	assert_int_equal(observe_event(net, strlen(net), &h, NULL), 0);
	assert_string_equal(h.id, "");
	assert_int_equal(observe_event("{\"Type\":", 8, &h, NULL), DAVIT_EPROTO);
}

static void failures_are_understood(void **state)
{
	assert_int_equal(observe_port_in_use("driver failed: Error starting userland proxy: listen tcp4 "
					     "127.0.0.1:8080: bind: address already in use"),
			 8080);
	assert_int_equal(observe_port_in_use("Bind for 127.0.0.1:81 failed: port is already allocated"), 81);
	assert_int_equal(observe_port_in_use("no such container: 12:34"), 0);
	assert_true(observe_exec_failure("OCI runtime create failed: exec: \"/x\": stat /x: no such file"));
	assert_true(observe_exec_failure("crun: executable file `/x` not found in $PATH: No such file"));
	assert_false(observe_exec_failure("no space left on device"));
	assert_true(observe_no_program(
		"OCI runtime exec failed: exec failed: container_linux.go:380: starting "
		"container process caused: exec: \"x\": executable file not found in $PATH: "
		"unknown"));
	assert_true(observe_no_program("crun: executable file `/x` not found in $PATH: No such file"));
	assert_false(
		observe_no_program("OCI runtime exec failed: exec failed: container_linux.go:380: starting "
				   "container process caused: exec: \"/x\": permission denied: unknown"));
	assert_false(observe_no_program("starting container process caused: chdir to cwd (\"/x\") set in "
					"config.json failed: no such file or directory"));
	assert_true(observe_broken("task 80510c220623: already exists"));
	assert_true(
		observe_broken("mounting storage for container b547: lstat /x: no such file or directory"));
	assert_false(observe_broken("no space left on device"));
}

static void versions(void **state)
{
	assert_int_equal(observe_version("1.41"), 41);
	assert_int_equal(observe_version("1.24"), 24);
	assert_int_equal(observe_version("2.0"), 0);
	assert_int_equal(observe_version("1.4x"), 0);
	assert_int_equal(observe_version(""), 0);
	assert_int_equal(observe_version(NULL), 0);
}

static void what_an_engine_without_root_promises_is_not_believed(void **state)
{
#define LIMITS "\"MemoryLimit\":true,\"CpuCfsQuota\":true,\"PidsLimit\":true,\"SwapLimit\":true"
	static const struct {
		const char *info;
		bool limits, measures;
	} cases[] = {
		{"{" LIMITS ",\"CgroupVersion\":\"1\",\"Rootless\":false}", true, true},
		{"{" LIMITS ",\"CgroupVersion\":\"2\",\"Rootless\":true}", true, true},
		{"{" LIMITS ",\"CgroupVersion\":\"1\",\"Rootless\":true}", false, false},
		{"{" LIMITS ",\"CgroupVersion\":\"1\",\"SecurityOptions\":[\"name=rootless\"]}", false,
		 false},
		{"{\"CgroupVersion\":\"1\",\"SecurityOptions\":[\"name=seccomp\"]}", false, true},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		struct davit_capabilities c = {0};
		json_t *info = json_loads(cases[i].info, 0, NULL);
		bool swap;
		assert_non_null(info);
		observe_info(info, &c, &swap);
		assert_int_equal(davit_can(&c, DAVIT_CAP_MEMORY_LIMIT), cases[i].limits);
		assert_int_equal(davit_can(&c, DAVIT_CAP_PIDS_LIMIT), cases[i].limits);
		assert_int_equal(davit_can(&c, DAVIT_CAP_STATS), cases[i].measures);
		assert_int_equal(davit_can(&c, DAVIT_CAP_PAUSE), cases[i].measures);
		json_decref(info);
	}
}

static void statistics_leave_the_cache_out(void **state)
{
	json_t *o = json_loads(
		"{\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":5}},\"pids_stats\":{\"current\":3},"
		"\"memory_stats\":{\"usage\":100,\"stats\":{\"total_inactive_file\":40}},"
		"\"blkio_stats\":{\"io_service_bytes_recursive\":[{\"op\":\"Read\",\"value\":1},"
		"{\"op\":\"read\",\"value\":2},{\"op\":\"Write\",\"value\":4},{\"op\":\"Sync\","
		"\"value\":8}]},\"networks\":{\"a\":{\"rx_bytes\":1,\"tx_bytes\":2},"
		"\"b\":{\"rx_bytes\":10,\"tx_bytes\":20}},\"system\":18446744073709551615}",
		JSON_DECODE_INT_AS_REAL, NULL);
	struct davit_stats s;

	assert_non_null(o);
	observe_stats(o, &s);
	json_decref(o);
	assert_int_equal(s.memory, 60);
	assert_int_equal(s.processes, 3);
	assert_int_equal(s.read_bytes, 3);
	assert_int_equal(s.write_bytes, 4);
	assert_int_equal(s.net_rx_bytes, 11);
	assert_int_equal(s.net_tx_bytes, 22);
}

/* --- runs --- */

static void runs_are_counted_whatever_dies(void **state)
{
	char dir[] = "/tmp/davit-runs-XXXXXX";
	static const char id[] = "0123456789abcdef";
	struct runs r = {0}, back;

	assert_non_null(mkdtemp(dir));
	runs_recall(dir, id, 0, &back);
	assert_int_equal(back.run, 0);
	assert_int_equal(runs_begin(dir, id, &r, NULL), 0);
	/* davitd dies here: the engine did not start it, or did. */
	runs_recall(dir, id, 0, &back);
	assert_int_equal(back.run, 0);
	runs_recall(dir, id, 100, &back);
	assert_int_equal(back.run, 1);
	runs_began(&r);
	assert_false(runs_learn(&r, 100));
	assert_int_equal(r.run, 1);
	assert_int_equal(runs_begin(dir, id, &r, NULL), 0);
	runs_recall(dir, id, 100, &back);
	assert_int_equal(back.run, 1);
	runs_recall(dir, id, 200, &back);
	assert_int_equal(back.run, 2);
	runs_began(&r);
	assert_false(runs_learn(&r, 100)); /* an old picture */
	assert_false(runs_learn(&r, 200));
	assert_false(runs_learn(&r, 200));
	assert_int_equal(r.run, 2);
	assert_true(runs_learn(&r, 300)); /* somebody else's */
	assert_int_equal(r.run, 3);
	runs_forget(dir, id);
	runs_recall(dir, id, 300, &back);
	assert_int_equal(back.run, 1); /* the count is lost, that it ran is not */
	davit_remove_tree(dir, NULL);
}

/* --- what is asked for --- */

static json_t *written(const struct davit_workload *w, const struct engine_flavour *flavour)
{
	const struct spec_context c = {.flavour = flavour, .home = "h", .init = true, .swap_limit = true};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	json_t *o;

	spec_write(&b, w, &c);
	o = json_loads(davit_buf_str(&b), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(o);
	return o;
}

static struct davit_workload workload(void)
{
	static char *argv[] = {(char *)"prog", (char *)"", NULL}, *env[] = {(char *)"A=b", NULL};
	static struct davit_port ports[] = {{.container = 80, .host = 8080},
					    {.container = 80, .host = 8081, .bind = "0.0.0.0"},
					    {.host = 53, .udp = true}};

	return (struct davit_workload){.id = "0123456789abcdef",
				       .namespace_ = (char *)"de fault",
				       .name = (char *)"web",
				       .image = (char *)"bb:1",
				       .argv = argv,
				       .env = env,
				       .ports = ports,
				       .n_ports = 3};
}

static void a_workload_is_written_whole(void **state)
{
	struct davit_workload w = workload();
	struct davit_rlimit limit = {.resource = RLIMIT_NOFILE, .soft = 10, .hard = UINT64_MAX};
	json_t *o, *host;

	w.memory = 1 << 20;
	w.cpu_millicores = 1500;
	w.rlimits = &limit;
	w.n_rlimits = 1;
	o = written(&w, &engine_docker);
	host = json_object_get(o, "HostConfig");
	assert_int_equal(json_array_size(json_object_get(o, "Cmd")), 2);
	assert_null(json_object_get(o, "Entrypoint"));
	assert_int_equal(json_integer_value(json_object_get(host, "Memory")), 1 << 20);
	assert_int_equal(json_integer_value(json_object_get(host, "MemorySwap")), 1 << 20);
	assert_int_equal(json_integer_value(json_object_get(host, "NanoCpus")), 1500000000);
	assert_int_equal(json_array_size(json_object_get(host, "Ulimits")), 1);
	assert_int_equal(json_integer_value(json_object_get(
				 json_array_get(json_object_get(host, "Ulimits"), 0), "Hard")),
			 -1);
	json_decref(o);
}

static void ports_are_bound_to_this_host_alone_unless_asked(void **state)
{
	struct davit_workload w = workload();
	json_t *o = written(&w, &engine_docker), *bindings, *web, *dns;

	bindings = json_object_get(json_object_get(o, "HostConfig"), "PortBindings");
	web = json_object_get(bindings, "80/tcp");
	dns = json_object_get(bindings, "53/udp");
	assert_int_equal(json_array_size(web), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(web, 0), "HostIp")),
			    "127.0.0.1");
	assert_string_equal(json_string_value(json_object_get(json_array_get(web, 0), "HostPort")), "8080");
	assert_string_equal(json_string_value(json_object_get(json_array_get(web, 1), "HostIp")), "0.0.0.0");
	assert_int_equal(json_array_size(dns), 1);
	json_decref(o);
	w.network = (char *)"host";
	o = written(&w, &engine_docker);
	assert_null(json_object_get(json_object_get(o, "HostConfig"), "PortBindings"));
	json_decref(o);
}

static void podman_is_always_given_limits(void **state)
{
	struct davit_workload w = workload();
	json_t *o = written(&w, &engine_podman);

	assert_int_equal(json_array_size(json_object_get(json_object_get(o, "HostConfig"), "Ulimits")), 2);
	json_decref(o);
}

static void a_name_can_be_read_and_is_one(void **state)
{
	const struct davit_workload w = workload();
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	spec_name(&b, &w);
	assert_string_equal(davit_buf_str(&b), "davit-de_fault-web-0-89abcdef");
	assert_true(spec_is_utf8("gr\xc3\xbc\xc3\x9f"));
	assert_false(spec_is_utf8("\xff"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_is_taken_when_it_is_whole),
		cmocka_unit_test(what_is_no_frame_is_refused),
		cmocka_unit_test(a_stamp_is_taken_off),
		cmocka_unit_test(cursors_grow_and_each_resumes_behind_its_line),
		cmocka_unit_test(a_tail_keeps_the_last_lines_and_can_pause),
		cmocka_unit_test(following_goes_on_behind_what_was_seen),
		cmocka_unit_test(parts_of_a_line_are_joined_by_stream),
		cmocka_unit_test(exits_are_told_apart),
		cmocka_unit_test(the_states_of_a_container),
		cmocka_unit_test(events_are_read_and_others_passed_over),
		cmocka_unit_test(failures_are_understood),
		cmocka_unit_test(versions),
		cmocka_unit_test(what_an_engine_without_root_promises_is_not_believed),
		cmocka_unit_test(statistics_leave_the_cache_out),
		cmocka_unit_test(runs_are_counted_whatever_dies),
		cmocka_unit_test(a_workload_is_written_whole),
		cmocka_unit_test(ports_are_bound_to_this_host_alone_unless_asked),
		cmocka_unit_test(podman_is_always_given_limits),
		cmocka_unit_test(a_name_can_be_read_and_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

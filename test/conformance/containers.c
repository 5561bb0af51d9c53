/* SPDX-License-Identifier: MIT
 *
 * What runtimes with images can do; and those whose engine can be moved about by
 * test/engines/engine-ctl: what becomes of their instances.
 */
#include "test/conformance/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static struct call call;

static struct davit_op *op(struct thing *t)
{
	begin(&call, t, 0);
	return &call.op;
}

/* --- copying --- */

static const char *archive(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", harness_home(), name);
	return path;
}

static __attribute__((format(printf, 1, 2))) int shell(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof command, fmt, ap);
	va_end(ap);
	return system(command);
}

static void files_are_copied_in_and_out(void)
{
	struct thing *t;

	need(DAVIT_CAP_COPY);
	t = make(RUNS, 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(shell("cd %s && mkdir tree && seq 100000 >tree/a && echo b >tree/b && tar cf in.tar tree",
			harness_home()),
		  0);
	rt->driver->copy->put(t->inst, "/tmp", open(archive("in.tar"), O_RDONLY | O_CLOEXEC), op(t));
	CHECK_INT(result(&call), 0);
	CHECK_INT(start(t), 0);
	rt->driver->copy->get(t->inst, "/tmp/tree",
			      open(archive("out.tar"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), op(t));
	CHECK_INT(result(&call), 0);
	CHECK_INT(shell("cd %s && mkdir back && tar xf out.tar -C back && diff -r tree back/tree",
			harness_home()),
		  0);
	rt->driver->copy->get(t->inst, "/nonexistent", open("/dev/null", O_WRONLY | O_CLOEXEC), op(t));
	CHECK_INT(result(&call), DAVIT_ENOENT);
}

static void a_slow_reader_is_waited_for(void)
{
	static char data[1 << 16];
	struct thing *t;
	size_t total = 0;
	ssize_t n;
	int fd[2];

	need(DAVIT_CAP_COPY);
	t = make(RUNS, 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(shell("cd %s && head -c 3000000 /dev/urandom >big && tar cf big.tar big", harness_home()),
		  0);
	rt->driver->copy->put(t->inst, "/tmp", open(archive("big.tar"), O_RDONLY | O_CLOEXEC), op(t));
	CHECK_INT(result(&call), 0);
	CHECK_INT(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	rt->driver->copy->get(t->inst, "/tmp/big", fd[1], op(t));
	pass(200 * MSEC);
	CHECK_INT(call.done, 0); /* a pipe holds no three megabytes */
	for (;;) {
		n = read(fd[0], data, sizeof data);
		if (n == 0)
			break;
		if (n > 0)
			total += (size_t)n;
		else
			pass(2 * MSEC);
	}
	close(fd[0]);
	CHECK_INT(result(&call), 0);
	CHECK(total >= 3000000 + 512);
}

/* --- images --- */

static const char *wanted;
static int seen, ours;

static void on_image(void *user, const struct davit_image_info *info)
{
	for (size_t i = 0; info->references[i]; i++)
		seen += !strcmp(info->references[i], wanted);
	ours += info->in_use;
}

static int listed(const char *reference)
{
	wanted = reference;
	seen = ours = 0;
	rt->driver->images->list(rt, on_image, NULL, op(NULL));
	CHECK_INT(result(&call), 0);
	return seen;
}

static char progress[4096];

static void on_progress(void *user, const char *line)
{
	size_t n = strlen(progress);

	snprintf(progress + n, sizeof progress - n, "%s\n", line);
}

static int image_tar(void)
{
	const char *path = getenv("DAVIT_TEST_IMAGE_TAR");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		skip("there is no image: not run by test/engines/with-engines");
	return fd;
}

static void an_image_is_imported_used_and_removed(void)
{
	static const char name[] = "localhost/davit-conformance:1";
	struct thing *t;

	need(DAVIT_CAP_IMAGES);
	rt->driver->images->import(rt, name, image_tar(), op(NULL));
	CHECK_INT(result(&call), 0);
	CHECK_INT(listed(name), 1);
	CHECK_INT(ours, 0);
	t = make(RUNS, 0);
	t->workload.image = (char *)name;
	CHECK_INT(create(t), 0);
	CHECK_INT(listed(name), 1);
	CHECK_INT(ours, 1);
	CHECK_INT(start(t), 0);
	rt->driver->images->remove(rt, name, false, op(NULL));
	CHECK_INT(result(&call), DAVIT_EINUSE);
	CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(remove_(t), 0);
	rt->driver->images->remove(rt, name, false, op(NULL));
	CHECK_INT(result(&call), 0);
	CHECK_INT(listed(name), 0);
	rt->driver->images->remove(rt, name, false, op(NULL));
	CHECK_INT(result(&call), DAVIT_ENOENT);
	CHECK_STR(strstr(call.op.error.message, "image '") ?: "",
		  "image 'localhost/davit-conformance:1' not found locally");
}

static void an_image_is_built(void)
{
	static const char name[] = "localhost/davit-built:1";

	need(DAVIT_CAP_IMAGE_BUILD);
	need_real("nothing is executed by it, so nothing is built");
	if (!listed(getenv("DAVIT_TEST_IMAGE"))) {
		rt->driver->images->load(rt, open(getenv("DAVIT_TEST_IMAGE_TAR"), O_RDONLY | O_CLOEXEC), NULL,
					 NULL, op(NULL));
		CHECK_INT(result(&call), 0);
	}
	CHECK_INT(shell("cd %s && mkdir -p context && printf 'FROM %s\\nLABEL made=here\\n' "
			">context/Dockerfile && "
			"tar cf context.tar -C context .",
			harness_home(), getenv("DAVIT_TEST_IMAGE")),
		  0);
	*progress = '\0';
	rt->driver->images->build(rt, name, open(archive("context.tar"), O_RDONLY | O_CLOEXEC), NULL,
				  on_progress, NULL, op(NULL));
	CHECK_INT(result(&call), 0);
	CHECK(strcasestr(progress, "step 1/2"));
	CHECK_INT(listed(name), 1);
	rt->driver->images->remove(rt, name, true, op(NULL));
	CHECK_INT(result(&call), 0);
	CHECK_INT(shell("printf 'FROM %s\\nNONSENSE\\n' >%s/context/Dockerfile && tar cf %s/context.tar -C "
			"%s/context .",
			getenv("DAVIT_TEST_IMAGE"), harness_home(), harness_home(), harness_home()),
		  0);
	rt->driver->images->build(rt, name, open(archive("context.tar"), O_RDONLY | O_CLOEXEC), NULL, NULL,
				  NULL, op(NULL));
	CHECK(result(&call) < 0);
}

static void a_missing_image_is_named(void)
{
	struct thing *t;

	need(DAVIT_CAP_IMAGES);
	t = make(RUNS, 0);
	t->workload.image = (char *)"localhost/nothing:1";
	begin(&call, t, 0);
	rt->driver->check(rt, &t->workload, &call.op);
	CHECK_INT(result(&call), DAVIT_ENOENT);
	CHECK(strstr(call.op.error.message, "image 'localhost/nothing:1' not found locally"));
	CHECK_INT(create(t), DAVIT_ENOENT);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
}

/* --- volumes and networks --- */

static void on_object(void *user, const struct davit_object_info *info)
{
	if (strcmp(info->name, wanted))
		return;
	seen++;
	ours += info->ours;
}

static int objects_listed(const struct davit_objects_facet *f, const char *name)
{
	wanted = name;
	seen = ours = 0;
	f->list(rt, on_object, NULL, op(NULL));
	CHECK_INT(result(&call), 0);
	return seen;
}

static void objects_live(const struct davit_objects_facet *f)
{
	static const char name[] = "davit-conformance";

	CHECK_INT(objects_listed(f, name), 0);
	for (int i = 0; i < 2; i++) {
		f->create(rt, name, op(NULL));
		CHECK_INT(result(&call), 0);
	}
	CHECK_INT(objects_listed(f, name), 1);
	CHECK_INT(ours, 1);
	f->remove(rt, name, op(NULL));
	CHECK_INT(result(&call), 0);
	CHECK_INT(objects_listed(f, name), 0);
	f->remove(rt, name, op(NULL));
	CHECK_INT(result(&call), DAVIT_ENOENT);
}

static void volumes_live(void)
{
	if (!rt->driver->volumes)
		skip("it has no volumes");
	objects_live(rt->driver->volumes);
}

static void networks_live(void)
{
	if (!rt->driver->networks)
		skip("it has no networks");
	objects_live(rt->driver->networks);
}

static void a_volume_is_made_on_first_use_and_kept(void)
{
	const struct davit_objects_facet *f = rt->driver->volumes;
	static struct davit_mount mounts[2] = {0};
	struct thing *t;

	need(DAVIT_CAP_NAMED_VOLUMES);
	need_real("nothing is executed by it, so nothing can look into a volume");
	t = make(RUNS, 0);
	mounts[0] = t->workload.mounts[0];
	mounts[1] = (struct davit_mount){
		.type = DAVIT_MOUNT_VOLUME, .source = (char *)"davit-data", .target = (char *)"/data"};
	t->workload.mounts = mounts;
	t->workload.n_mounts = 2;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	CHECK_INT(objects_listed(f, "davit-data"), 1);
	CHECK_INT(ours, 1);
	f->remove(rt, "davit-data", op(NULL));
	CHECK_INT(result(&call), DAVIT_EINUSE);
	CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(remove_(t), 0);
	t->workload.n_mounts = 0;
	CHECK_INT(objects_listed(f, "davit-data"), 1);
	f->remove(rt, "davit-data", op(NULL));
	CHECK_INT(result(&call), 0);
}

static void somebody_elses_network_is_not_touched(void)
{
	need(DAVIT_CAP_NETWORKS);
	if (!rt->driver->networks)
		skip("it has no networks");
	if (!subject->engine)
		skip("nobody else makes them");
	if (!objects_listed(rt->driver->networks, "bridge") &&
	    !objects_listed(rt->driver->networks, "podman"))
		skip("there is none");
	rt->driver->networks->remove(rt, wanted, op(NULL));
	CHECK_INT(result(&call), DAVIT_EPERM);
	rt->driver->networks->create(rt, wanted, op(NULL));
	CHECK_INT(result(&call), DAVIT_EEXIST);
}

/* A listener on any free port, or on that of the other. */
static int listener(const char *address, uint16_t *port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {inet_addr(address)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t n = sizeof a;

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 8) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		fail(__FILE__, __LINE__, "cannot listen on %s: %s", address, strerror(errno));
	*port = ntohs(a.sin_port);
	return fd;
}

static bool accepted(int fd)
{
	DAVIT_AUTO_CLOSE int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	return c >= 0;
}

/* It tries what is denied first: when the other has been reached, that is over. */
static bool denied_is_reached(struct davit_egress *egress, int denied, int allowed, uint16_t port)
{
	struct thing *t = make(CONNECTS, port);
	bool reached;

	if (!t->workload.image)
		t->workload.user = (char *)"nobody"; /* root is not held */
	t->workload.egress = egress;
	t->workload.n_egress = egress ? 1 : 0;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	WAIT(accepted(allowed));
	reached = accepted(denied);
	CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(remove_(t), 0);
	t->workload.user = NULL;
	t->workload.egress = NULL;
	t->workload.n_egress = 0;
	return reached;
}

static void what_is_not_allowed_is_not_reached(void)
{
	static char host[32], *hosts[] = {host, NULL};
	static struct davit_egress egress = {(char *)"service", hosts};
	uint16_t port = 0;
	int denied, allowed;

	need(DAVIT_CAP_EGRESS);
	need_real("nothing is executed by it, so nothing connects");
	if (!getenv("DAVIT_TEST_ENGINES"))
		skip("this machine's own network is left alone: not run by test/engines/with-engines");
	if (!strcmp(subject->name, "process") &&
	    shell("setpriv --reuid nobody --clear-groups test -x " CONFORMANCE_GUEST))
		skip("nobody may not execute the guest where it is");
	CHECK_INT(shell("ip address replace " TEST_DENIED "/32 dev lo && ip address replace " TEST_ALLOWED
			"/32 dev lo"),
		  0);
	denied = listener(TEST_DENIED, &port);
	allowed = listener(TEST_ALLOWED, &port);
	snprintf(host, sizeof host, TEST_ALLOWED ":%u", port);
	CHECK(denied_is_reached(NULL, denied, allowed, port));
	CHECK(!denied_is_reached(&egress, denied, allowed, port));
	close(denied);
	close(allowed);
}

static void a_port_inside_may_differ_from_the_hosts(void)
{
	static struct davit_port port = {.container = 80};
	struct davit_error err;
	struct thing *t;

	need(DAVIT_CAP_PORT_MAPPING);
	CHECK_INT(rt->driver->ports->resolve(rt, &port, 1, &err), 0);
	CHECK_INT(port.container, 80);
	CHECK(port.host);
	t = make(RUNS, 0);
	t->workload.ports = &port;
	t->workload.n_ports = 1;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	CHECK_INT(rt->driver->ports->resolve(rt, &port, 1, &err), DAVIT_EINUSE);
	CHECK_INT(stop(t, 0), 0);
	CHECK_INT(remove_(t), 0);
	t->workload.n_ports = 0;
}

/* --- the engine --- */

static void need_engine(void)
{
	if (!subject->engine || !getenv("DAVIT_TEST_ENGINES"))
		skip("it stands on no engine");
}

static void engine(const char *verb)
{
	CHECK_INT(shell("engine-ctl %s %s", subject->name, verb), 0);
}

/* Behind davit's back: by the names that people see. */
static void request(const char *method, struct thing *t, const char *rest)
{
	const char *socket =
		getenv(!strcmp(subject->name, "docker") ? "DAVIT_DOCKER_SOCKET" : "DAVIT_PODMAN_SOCKET");

	CHECK_INT(shell("curl -sf --unix-socket %s -X %s "
			"http://d/v1.40/containers/davit-default-conformance-0-%s%s",
			socket, method, t->workload.id + 8, rest),
		  0);
}

static void what_is_deleted_behind_its_back_is_noticed(void)
{
	struct thing *t, *u;

	need_engine();
	t = running(RUNS, 0);
	u = make(RUNS, 0);
	CHECK_INT(create(u), 0);
	request("DELETE", t, "?force=1");
	request("DELETE", u, "");
	WAIT(t->vanished && u->vanished);
	CHECK_INT(t->vanished, 1);
	CHECK(t->runs_told <= 1); /* an engine may tell how it ended */
	CHECK_INT(u->runs_told, 0);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
	CHECK_INT(create(t), 0);
}

static void what_somebody_else_starts_is_a_run(void)
{
	struct thing *t;

	need_engine();
	t = running(RUNS, 0);
	request("POST", t, "/restart?t=0");
	WAIT(t->runs_told == 1);
	WAIT(inspect(t).run == 2);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
	reopen(false);
	CHECK_INT(t->adopted.run, 2);
	CHECK_INT(stop(t, 0), 0);
	CHECK_INT(t->last_run, 2);
}

static void a_dead_engine_is_lost_and_regained(void)
{
	enum { N = 8 };
	struct thing *t[N];
	int64_t began;

	need_engine();
	for (int i = 0; i < N; i++)
		t[i] = running(i == 1 ? EXITS : RUNS, 3);
	WAIT(t[1]->runs_told);
	engine("kill");
	WAIT(lost == 1);
	CHECK_INT(create(make(RUNS, 0)), DAVIT_EUNAVAIL);
	engine("start");
	began = davit_loop_now(loop);
	WAIT(regained == 1);
	CHECK(davit_loop_now(loop) - began < 2 * SEC);
	CHECK_INT(lost, 1);
	CHECK_INT(t[1]->runs_told, 1);
	/* Whatever the engine has done with them: told, once, and true. */
	for (int i = 0; i < N; i++) {
		bool runs = inspect(t[i]).state == DAVIT_STATE_STARTED;
		CHECK_INT(inspect(t[i]).run, 1);
		CHECK_INT(t[i]->runs_told, !runs);
		CHECK_INT(t[i]->vanished, 0);
		CHECK(!runs || kill(inspect(t[i]).pid, 0) == 0);
		CHECK_INT(start(t[i]), 0);
		CHECK_INT(stop(t[i], 0), 0);
		CHECK_INT(t[i]->runs_told, runs ? 1 : 2);
	}
}

static void many_are_measured_soon(void)
{
	enum { N = 40 };
	static struct thing *t[N];
	static struct call calls[N];
	static struct davit_stats stats[N];
	int64_t began;

	need_engine();
	need(DAVIT_CAP_STATS);
	began = davit_loop_now(loop);
	for (int i = 0; i < N; i++) {
		t[i] = make(RUNS, 0);
		t[i]->workload.network = (char *)"none";
		do_create(&calls[i], t[i]);
	}
	for (int i = 0; i < N; i++) {
		CHECK_INT(result(&calls[i]), 0);
		do_start(&calls[i], t[i]);
	}
	for (int i = 0; i < N; i++)
		CHECK_INT(result(&calls[i]), 0);
	printf("# %d created and started in %lld ms\n", N,
	       (long long)((davit_loop_now(loop) - began) / MSEC));
	pass(SEC);
	began = davit_loop_now(loop);
	for (int i = 0; i < N; i++) {
		begin(&calls[i], t[i], 0);
		rt->driver->stats->read(t[i]->inst, &stats[i], &calls[i].op);
	}
	for (int i = 0; i < N; i++)
		CHECK_INT(result(&calls[i]), 0);
	printf("# %d measured in %lld ms\n", N, (long long)((davit_loop_now(loop) - began) / MSEC));
	/* Less than the second in which Docker collects once. */
	CHECK(davit_loop_now(loop) - began < SEC * 9 / 10);
	for (int i = 0; i < N; i++) {
		CHECK(stats[i].memory > 0);
		do_stop(&calls[i], t[i], 0, 0);
	}
	for (int i = 0; i < N; i++)
		CHECK_INT(result(&calls[i]), 0);
}

const struct test container_tests[] = {
	{"copy: files are copied in and out", files_are_copied_in_and_out},
	{"copy: a slow reader is waited for", a_slow_reader_is_waited_for},
	{"images: one is imported, used, and removed when it is not", an_image_is_imported_used_and_removed},
	{"images: one is built, or the failure told", an_image_is_built},
	{"images: a missing one is named, by check and by create", a_missing_image_is_named},
	{"volumes are made, listed and removed", volumes_live},
	{"networks are made, listed and removed", networks_live},
	{"a volume is made on first use and outlives the instance", a_volume_is_made_on_first_use_and_kept},
	{"ports: the one inside may differ from the host's", a_port_inside_may_differ_from_the_hosts},
	{"egress: what is not allowed is not reached", what_is_not_allowed_is_not_reached},
	{"networks: somebody else's is not touched", somebody_elses_network_is_not_touched},
	{"engine: what is deleted behind its back is noticed", what_is_deleted_behind_its_back_is_noticed},
	{"engine: a start by somebody else is a run", what_somebody_else_starts_is_a_run},
	{"engine: a dead one is lost, and regained with every change told once",
	 a_dead_engine_is_lost_and_regained},
	{"engine: many containers are measured at once", many_are_measured_soon},
	{0},
};

/* SPDX-License-Identifier: MIT
 *
 * davitd: joins the store, the core, the runtimes and the API, and runs them on
 * one loop.
 */
#include "daemon/api.h"
#include "daemon/daemon.h"
#include "daemon/probes.h"
#include "daemon/runs.h"
#include "source/source.h"

#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "base/util.h"
#include "loop/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

enum { THREAD_STACK = 256 * 1024 };

struct options {
	const char *store, *runtime, *source, *profile, *log_level;
};

static void usage(FILE *f)
{
	fputs("usage: davitd [OPTION]...\n"
	      "\n"
	      "The daemon of davit, in the foreground. `davit` starts one when it needs it.\n"
	      "\n"
	      "      --store NAME      where records are kept:",
	      f);
	for (size_t i = 0; daemon_store_at(i); i++)
		fprintf(f, "%s %s%s", i ? "," : "", daemon_store_at(i)->name, i ? "" : " (the default)");
	fputs(" [DAVIT_STORE]\n"
	      "      --runtime NAME    runtime of services that name none: process (the default), ... "
	      "[DAVIT_RUNTIME]\n"
	      "      --source SOURCE   directory, git URL or image prefix of bare names "
	      "[DAVIT_RUNTIME_SOURCE]\n"
	      "      --profile NAME    profile of services that name none [DAVIT_RUNTIME_PROFILE]\n"
	      "      --log-level NAME  error, warning, info (the default) or debug [DAVIT_LOG_LEVEL]\n"
	      "      --openapi         print the API as an OpenAPI document\n"
	      "      --help\n"
	      "      --version\n"
	      "\n"
	      "DAVIT_HOME names the directory of its store, socket and logs. SIGTERM ends it, and\n"
	      "workloads go on. SIGHUP reopens its log, if that is a file.\n",
	      f);
}

static const char *setting(const char *name, const char *deflt)
{
	const char *v = getenv(name);

	return v && v[0] ? v : deflt;
}

/* 0: go on; otherwise the exit status plus one. */
static int print_openapi(void)
{
	DAVIT_AUTO_BUF document = DAVIT_BUF_INIT;

	api_openapi(&document);
	if (document.oom) {
		fputs("davitd: out of memory\n", stderr);
		return 2;
	}
	puts(davit_buf_str(&document));
	return 1;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {
		{"store", required_argument, NULL, 's'},
		{"runtime", required_argument, NULL, 'r'},
		{"source", required_argument, NULL, 'S'},
		{"profile", required_argument, NULL, 'p'},
		{"log-level", required_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{"openapi", no_argument, NULL, 'o'},
		{0},
	};
	int c;

	*o = (struct options){
		.store = setting("DAVIT_STORE", daemon_store_at(0)->name),
		.runtime = setting("DAVIT_RUNTIME", "process"),
		.source = setting("DAVIT_RUNTIME_SOURCE", NULL),
		.profile = setting("DAVIT_RUNTIME_PROFILE", NULL),
		.log_level = setting("DAVIT_LOG_LEVEL", "info"),
	};
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 's':
			o->store = optarg;
			break;
		case 'r':
			o->runtime = optarg;
			break;
		case 'S':
			o->source = optarg;
			break;
		case 'p':
			o->profile = optarg;
			break;
		case 'l':
			o->log_level = optarg;
			break;
		case 'h':
			usage(stdout);
			return 1;
		case 'v':
			puts("davitd " DAVIT_VERSION);
			return 1;
		case 'o':
			return print_openapi();
		default:
			usage(stderr);
			return 3;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "davitd: unexpected argument '%s'\n", argv[optind]);
		return 3;
	}
	return 0;
}

static int check_options(const struct options *o, struct davit_error *err)
{
	int level = davit_log_level_from_name(o->log_level);

	if (level < 0)
		return davit_error_set(err, DAVIT_EINVAL, "log-level", "unknown log level '%s'",
				       o->log_level);
	davit_log_set_level((enum davit_log_level)level);
	if (!daemon_store(o->store))
		return davit_error_set(err, DAVIT_EINVAL, "store", "unknown store '%s'", o->store);
	return 0;
}

/* ----------------------------------------------------------------- signals */

void daemon_end(struct davit_daemon *d, enum daemon_end how)
{
	d->end = how;
	davit_loop_stop(d->loop);
}

/* Standard error is opened again by its name, when it is a file: a log that was
 * moved away is begun anew. */
static void reopen_log(void)
{
	char path[PATH_MAX];
	struct stat st;
	ssize_t n = readlink("/proc/self/fd/2", path, sizeof path - 1);
	int fd;

	if (n <= 0 || fstat(2, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	path[n] = '\0';
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		davit_log(DAVIT_LOG_ERROR, "cannot open %s again: %s", path, strerror(errno));
		return;
	}
	dup2(fd, 2);
	close(fd);
	davit_log(DAVIT_LOG_INFO, "log opened again");
}

static void on_signal(void *user, int signo)
{
	if (signo == SIGHUP) {
		reopen_log();
		return;
	}
	davit_log(DAVIT_LOG_INFO, "ending: %s", strsignal(signo));
	daemon_end(user, DAEMON_QUITS);
}

/* ------------------------------------------------------------------- parts */

static void on_trim(struct davit_timer *t)
{
	(void)t;
	malloc_trim(0);
}

static int open_store(struct davit_daemon *d, const struct options *o, struct davit_error *err)
{
	const struct davit_store_driver *driver = daemon_store(o->store);
	DAVIT_AUTO_FREE char *path = davit_path_join(d->paths.state, "store.db");

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_store_open(driver, d->loop, strcmp(driver->name, "memory") ? path : NULL, &d->store,
				err);
}

static int open_core(struct davit_daemon *d, const struct options *o, struct davit_error *err)
{
	struct davit_core_config config = {
		.loop = d->loop,
		.store = d->store,
		.paths = &d->paths,
		.default_runtime = o->runtime,
		.default_source = o->source,
		.default_profile = o->profile,
		.probes = &daemon_probes,
		.probes_user = &d->prober,
		.check_source = davit_source_check,
	};
	d->prober = (struct daemon_prober){.loop = d->loop, .libexec = d->paths.libexec};
	int r = davit_secrets_open(d->paths.state, d->paths.run, d->store, &d->secrets, err);

	config.secrets = d->secrets;
	if (r == 0)
		r = davit_core_new(&config, &d->core, err);
	return r < 0 ? r : daemon_add_runtimes(d, err);
}

/* The server gets a duplicate: ours lives on for a successor. */
static int open_server(struct davit_daemon *d, struct davit_error *err)
{
	const struct davit_http_config config = {
		.loop = d->loop, .handle = api_handle, .streams = api_streams, .user = d};
	int fd = fcntl(d->listen_fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return davit_error_errno(err, errno, "socket", "cannot duplicate the socket");
	return davit_http_server_new(&config, fd, &d->server, err);
}

/* Whoever connected meanwhile waits in the socket's queue: the first answer that
 * anybody gets is one that knows what runs. */
static void on_started(struct davit_op *op, int result)
{
	struct davit_daemon *d = op->user;
	struct davit_error err;

	if (result < 0)
		davit_log(DAVIT_LOG_ERROR, "not all that is stored could be taken up: %s", op->error.message);
	if (runs_open(d, &d->runs, &err) < 0 || open_server(d, &err) < 0 || daemon_place_keep(d, &err) < 0) {
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
		daemon_end(d, DAEMON_QUITS);
		return;
	}
	davit_log(DAVIT_LOG_INFO, "davitd " DAVIT_VERSION " serves %s", d->paths.socket);
	daemon_notify("READY=1");
	davit_timer_start(&d->trim, DAVIT_NSEC_PER_SEC);
}

static void find_self(struct davit_daemon *d)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

	path[n > 0 ? n : 0] = '\0';
	d->self = strdup(path);
	d->self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

static int open_all(struct davit_daemon *d, const struct options *o, struct davit_error *err)
{
	int r = davit_paths_init(&d->paths, err);

	if (r == 0)
		r = davit_paths_make(&d->paths, err);
	if (r == 0)
		r = daemon_acquire(d, err);
	if (r == 0)
		r = davit_loop_open(&d->loop, err);
	if (r < 0)
		return r;
	davit_timer_init(&d->trim, d->loop, on_trim);
	d->started = davit_loop_wall(d->loop);
	r = open_store(d, o, err);
	if (r == 0)
		r = open_core(d, o, err);
	return r;
}

/* Lets go in the reverse order. The socket goes first, so that nobody comes to a
 * daemon that cannot answer; for a successor it stays open. */
static void close_all(struct davit_daemon *d)
{
	bool stays = d->end == DAEMON_UPGRADES;

	daemon_place_leave(d);
	if (!stays && d->listen_fd >= 0) {
		if (daemon_place_is_ours(d))
			unlink(d->paths.socket);
		close(d->listen_fd);
	}
	davit_http_server_free(d->server);
	runs_close(d->runs);
	if (d->core)
		davit_core_flush(d->core);
	davit_core_free(d->core);
	davit_secrets_close(d->secrets);
	if (d->store)
		davit_store_close(d->store);
	/* What completed by all this still reaches its callers. */
	for (int i = 0; d->loop && i < 3; i++)
		uv_run(davit_loop_uv(d->loop), UV_RUN_NOWAIT);
	daemon_free_runtimes();
	davit_loop_close(d->loop);
}

static int run(struct davit_daemon *d, struct davit_error *err)
{
	static const int list[] = {SIGTERM, SIGINT, SIGHUP, 0};
	struct davit_signals signals;
	struct davit_op started;
	int r = davit_signals_open(&signals, d->loop, list, on_signal, d, err);

	if (r < 0) {
		close_all(d);
		return r;
	}
	davit_op_init(&started, d->loop, on_started, d);
	davit_op_begin(&started, 0);
	davit_core_start(d->core, &started);
	davit_loop_run(d->loop);
	if (d->end == DAEMON_QUITS)
		daemon_notify("STOPPING=1");
	davit_signals_close(&signals);
	close_all(d);
	return 0;
}

/* One arena and small stacks: davitd is idle most of the time, and should cost
 * as little then. */
static void save_memory(void)
{
	pthread_attr_t attr;

	mallopt(M_ARENA_MAX, 1);
	if (pthread_attr_init(&attr) == 0) {
		pthread_attr_setstacksize(&attr, THREAD_STACK);
		pthread_setattr_default_np(&attr);
		pthread_attr_destroy(&attr);
	}
}

int main(int argc, char **argv)
{
	struct davit_daemon d = {.argv = argv, .lock_fd = -1, .listen_fd = -1};
	struct davit_error err = {0};
	struct options o;
	int r = parse_options(argc, argv, &o);

	if (r)
		return r - 1;
	signal(SIGPIPE, SIG_IGN);
	save_memory();
	find_self(&d);
	r = check_options(&o, &err);
	if (r == 0)
		r = open_all(&d, &o, &err);
	if (r < 0)
		close_all(&d);
	else
		r = run(&d, &err);
	if (r == 0 && d.end == DAEMON_UPGRADES)
		r = daemon_execute(&d, &err);
	if (r < 0)
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
	davit_paths_fini(&d.paths);
	free(d.self);
	free(d.program);
	return r < 0 ? 1 : 0;
}

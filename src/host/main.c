/* SPDX-License-Identifier: MIT
 *
 * davit-containers PROJECT --socket PATH --record FILE: a project of containers.
 */
#include "host/host.h"

#include "base/file.h"
#include "base/notify.h"
#include "base/units.h"
#include "loop/signals.h"
#include "net/unix.h"

#include <getopt.h>
#include <signal.h>
#include <string.h>

#define SEARCH_THREAD "<type>/<name>/<name>.so"
#define SEARCH_PROCESS                                                                                       \
	"<type>/<name>/<name>.so:<type>/<name>/<name>:<type>/<name>/<name>.py:<type>/<name>/<name>.js"

static const char usage[] =
	"usage: davit-containers PROJECT --socket PATH --record FILE [--directory DIR] [--more DIRS]\n"
	"         [--search-thread PATTERN] [--search-process PATTERN] [--workers N]\n"
	"davit runs this for each project; see docs/containers.md.\n";

/* 0, or the status to exit with. */
static int take_options(struct host *h, struct davit_system_config *config, int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"record", required_argument, NULL, 'r'},
		{"directory", required_argument, NULL, 'd'},
		{"more", required_argument, NULL, 'm'},
		{"search-thread", required_argument, NULL, 't'},
		{"search-process", required_argument, NULL, 'p'},
		{"workers", required_argument, NULL, 'w'},
		{0},
	};
	int64_t workers = 0;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 's':
			h->socket = optarg;
			break;
		case 'r':
			h->record_path = optarg;
			break;
		case 'd':
			h->directory = optarg;
			break;
		case 'm':
			h->more = optarg;
			break;
		case 't':
			h->search[DAVIT_THREAD] = optarg;
			break;
		case 'p':
			h->search[DAVIT_PROCESS] = optarg;
			break;
		case 'w':
			if (davit_int_parse(optarg, 0, 1024, &workers, NULL) == 0)
				break;
			__attribute__((fallthrough));
		default:
			return 2;
		}
	}
	config->workers = (int)workers;
	h->project = argc - optind == 1 ? argv[optind] : NULL;
	return h->project && h->socket && h->record_path ? 0 : 2;
}

static void on_end(void *loop, int signo)
{
	(void)signo;
	davit_loop_stop(loop);
}

/* From then on it answers. */
static void serve(struct host *h)
{
	const struct davit_http_config config = {.loop = h->loop, .handle = host_handle, .user = h};
	struct davit_error err = {0};
	int fd, r;

	r = davit_unix_listen(h->socket, &fd, &err);
	if (r == 0)
		r = davit_http_server_new(&config, fd, &h->server, &err);
	if (r == 0)
		r = davit_notify("READY=1", &err);
	if (r < 0) {
		printf("%s\n", err.message);
		davit_loop_stop(h->loop);
	}
}

static int open_all(struct host *h, const struct davit_system_config *config, struct davit_error *err)
{
	int r = host_record_open(h, err);

	if (r == 0)
		r = davit_system_open(config, &h->system, err);
	if (r == 0) {
		h->c = davit_system_context(h->system);
		h->started = davit_loop_wall(h->loop);
		r = host_watch_open(h);
		if (r < 0)
			davit_error_set(err, r, NULL, "out of memory");
	}
	return r;
}

static void close_all(struct host *h)
{
	struct davit_system_stats before;

	if (h->system) {
		davit_system_stats(h->system, &before);
		printf("the project is stopped: %llu messages were handled, %llu became dead letters\n",
		       (unsigned long long)before.handled, (unsigned long long)before.dead);
	}
	davit_system_close(h->system);
	h->closed = true;
	host_results_close(h);
	host_changes_close(h);
	host_record_close(h, h->server != NULL);
	davit_http_server_free(h->server);
	host_definitions_free(h);
}

static int run(struct host *h, const struct davit_system_config *config, struct davit_error *err)
{
	static const int list[] = {SIGTERM, SIGINT, 0};
	struct davit_signals ends = {0};
	int r = davit_loop_open(&h->loop, err);

	if (r < 0)
		return r;
	r = davit_signals_open(&ends, h->loop, list, on_end, h->loop, err);
	if (r == 0)
		r = host_results_open(h, err);
	if (r == 0)
		r = host_changes_open(h, err);
	if (r == 0) {
		r = open_all(h, config, err);
		if (r == 0) {
			host_restore(h, serve);
			davit_loop_run(h->loop);
			if (!h->server)
				r = davit_error_set(err, DAVIT_EIO, NULL, "it cannot serve %s", h->socket);
		}
		close_all(h);
	}
	davit_signals_close(&ends);
	davit_loop_run(h->loop); /* until all is closed */
	davit_loop_close(h->loop);
	return r;
}

int main(int argc, char **argv)
{
	struct host h = {.search = {SEARCH_THREAD, SEARCH_PROCESS}};
	struct davit_system_config config = {
		.dead = host_dead_letter, .log = host_log_line, .changed = host_changed, .arg = &h};
	struct davit_error err = {0};
	int status = take_options(&h, &config, argc, argv);

	if (status) {
		fputs(usage, stderr);
		return status;
	}
	davit_list_init(&h.entries);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (run(&h, &config, &err) == 0)
		return 0;
	fprintf(stderr, "davit-containers: %s\n", err.message);
	return 1;
}

/* SPDX-License-Identifier: MIT */
#include "cli/follow.h"

#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <poll.h>
#include <string.h>

#define GIVE_UP_RESTARTS 5 /* a service that fails this often is not about to become ready */
#define LAST_LINES "10"
/* For how long what is ready is looked at, unless it is seen to stay; and how often. */
#define SETTLE_MAX (2 * DAVIT_NSEC_PER_SEC)
#define FIRST_LOOK 1
#define LATER_LOOK 16 /* ms */

size_t davit_service_ready(const json_t *service)
{
	json_t *i;
	size_t index, n = 0;

	json_array_foreach(json_object_get(service, "instances"), index, i) n +=
		json_is_true(json_object_get(i, "ready"));
	return n;
}

size_t davit_service_wanted(const json_t *service)
{
	json_t *wanted = json_object_get(service, "wanted");

	return json_is_integer(wanted) ? (size_t)json_integer_value(wanted)
				       : json_array_size(json_object_get(service, "instances"));
}

void davit_service_addresses(const json_t *service, const char *between, struct davit_buf *out)
{
	size_t start = out->len, i, k;
	json_t *inst, *address;

	json_array_foreach(json_object_get(service, "instances"), i,
			   inst) json_array_foreach(json_object_get(inst, "addresses"), k, address)
		davit_buf_addf(out, "%s%s", out->len > start ? between : "", json_string_value(address));
}

int davit_service_compare(const json_t *a, const json_t *b)
{
	static const char *const keys[] = {"namespace", "name", "version"};
	int order = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(keys) && !order; i++)
		order = strcmp(davit_string(a, keys[i]), davit_string(b, keys[i]));
	return order;
}

bool davit_service_ended(const json_t *service)
{
	const char *status = davit_string(service, "status");

	return !strcmp(status, "stopped") || !strcmp(status, "error");
}

int davit_service_exit(const json_t *service)
{
	json_t *i;
	size_t index;

	json_array_foreach(json_object_get(service, "instances"), index, i)
	{
		json_t *exit = json_object_get(i, "exit");
		int signal = (int)davit_integer(exit, "signal"), code = (int)davit_integer(exit, "code");
		if (signal || code)
			return signal ? 128 + signal : code;
	}
	return !strcmp(davit_string(service, "status"), "error") ? 1 : 0;
}

/* "exit status 3", "signal 9 (KILL)", "out of memory": of the last exit of any
 * instance, or "". Fills and returns buf. */
static char *exit_text(const json_t *service, char buf[96])
{
	json_t *i;
	size_t index;

	buf[0] = '\0';
	json_array_foreach(json_object_get(service, "instances"), index, i)
	{
		json_t *exit = json_object_get(i, "exit");
		int signal = (int)davit_integer(exit, "signal");
		const char *reason = davit_string(exit, "reason");
		if (!json_is_object(exit))
			continue;
		if (!strcmp(reason, "oom") || strstr(reason, "memory"))
			snprintf(buf, 96, "out of memory");
		else if (signal)
			snprintf(buf, 96, "signal %d (%s)", signal,
				 sigabbrev_np(signal) ? sigabbrev_np(signal) : "?");
		else if (json_is_integer(json_object_get(exit, "code")))
			snprintf(buf, 96, "exit status %d", (int)davit_integer(exit, "code"));
		else
			snprintf(buf, 96, "%.95s", reason);
	}
	return buf;
}

enum verdict { WAITING, READY, FAILED };

/* What a status object says about the service's coming up; `before` is how
 * often it had been restarted when we came. */
static enum verdict judge(const json_t *s, int64_t before, struct davit_error *err)
{
	int64_t restarts = davit_integer(s, "restarts") - before;
	const char *status = davit_string(s, "status"), *error = davit_string(s, "error");
	bool updating =
		json_is_true(json_object_get(s, "updating")) || !strcmp(davit_string(s, "build"), "building");
	char why[96];

	if (!strcmp(status, "error") || (error[0] && !updating && !strcmp(status, "running"))) {
		davit_error_set(err, DAVIT_EUNAVAIL, NULL, "service '%s' %s: %s", davit_string(s, "name"),
				!strcmp(status, "error") ? "failed" : "runs, but its update failed",
				error[0] ? error : exit_text(s, why));
		return FAILED;
	}
	if (updating)
		return WAITING;
	if (!strcmp(status, "stopped"))
		return READY;
	if (!strcmp(status, "running") && davit_service_ready(s) >= davit_service_wanted(s))
		return READY;
	if (restarts < GIVE_UP_RESTARTS)
		return WAITING;
	exit_text(s, why);
	davit_error_set(err, DAVIT_EUNAVAIL, NULL,
			"service '%s' keeps %s (%s; %d restarts); it is tried again until 'davit stop %s'",
			davit_string(s, "name"), strcmp(why, "exit status 0") ? "failing" : "ending",
			error[0] ? error
			: why[0] ? why
				 : "not ready",
			(int)restarts, davit_string(s, "name"));
	return FAILED;
}

/* The last lines of a failed service's output, on standard error. */
static void print_last_lines(struct davit_cli *cli, const json_t *s)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_client *stream = NULL;
	bool build = !strcmp(davit_string(s, "build"), "failed");
	json_t *line;

	davit_api_service_of(davit_string(s, "namespace"), davit_string(s, "name"),
			     davit_string(s, "version"), "/logs?tail=" LAST_LINES, &target);
	if (build)
		davit_url_query(&target, "build", "true");
	if (davit_api_stream(cli, davit_buf_str(&target), &stream, NULL) < 0)
		return;
	while (davit_api_next(stream, &line, NULL, NULL) > 0) {
		fprintf(stderr, "  | %s\n", davit_string(line, "text"));
		json_decref(line);
	}
	davit_client_close(stream);
}

struct following {
	struct davit_cli *cli;
	json_t *refs;	  /* borrowed */
	json_t *services; /* newest status objects of those in refs that were seen */
	json_t *before;	  /* for each of them: its restarts when it was first seen */
	bool synced;
	int64_t ready;	 /* monotonic ns since when all are; 0: not yet */
	int look;	 /* ms to the next look at their processes */
	char shown[192]; /* the progress line on the terminal */
};

static json_t *find(json_t *list, const json_t *service, size_t *ret_index)
{
	json_t *other;
	size_t i;

	json_array_foreach(list, i, other)
	{
		if (davit_service_compare(other, service) == 0) {
			*ret_index = i;
			return other;
		}
	}
	return NULL;
}

/* One line on a terminal, overwritten by the next. */
static void progress(struct following *f, const json_t *s)
{
	char text[sizeof f->shown], why[96];

	if (!f->cli->progress)
		return;
	snprintf(text, sizeof text, "%.60s: %s %zu/%zu ready", davit_string(s, "name"),
		 davit_string(s, "status"), davit_service_ready(s), davit_service_wanted(s));
	if (davit_integer(s, "restarts"))
		snprintf(text + strlen(text), sizeof text - strlen(text), ", %d restarts (%s)",
			 (int)davit_integer(s, "restarts"), exit_text(s, why));
	if (!strcmp(text, f->shown))
		return;
	fprintf(stderr, "\r\033[K%s", text);
	memcpy(f->shown, text, sizeof text);
}

static void end_progress(struct following *f)
{
	if (f->shown[0])
		fputs("\r\033[K", stderr);
	f->shown[0] = '\0';
}

/* Takes one line of the watch. 1 when all are ready, 0 to go on, or a code. */
static int take(struct following *f, json_t *line, struct davit_error *err)
{
	const char *type = davit_string(line, "type");
	json_t *s = json_object_get(line, "service");
	size_t at, ready = 0, i;

	if (!strcmp(type, "sync"))
		f->synced = true;
	else if (!s || !find(f->refs, s, &at))
		return 0;
	else if (!strcmp(type, "gone"))
		return davit_error_set(err, DAVIT_ENOENT, NULL, "service '%s' was removed meanwhile",
				       davit_string(s, "name"));
	else if (find(f->services, s, &at))
		json_array_set(f->services, at, s);
	else if (json_array_append_new(f->before, json_integer(davit_integer(s, "restarts"))) == 0)
		json_array_append(f->services, s);
	if (s)
		progress(f, s);
	json_array_foreach(f->services, i, s)
	{
		enum verdict v = judge(s, json_integer_value(json_array_get(f->before, i)), err);
		if (v == FAILED) {
			end_progress(f);
			print_last_lines(f->cli, s);
			return DAVIT_EUNAVAIL;
		}
		ready += v == READY;
	}
	return f->synced && ready == json_array_size(f->refs);
}

/* All are ready: whether they stay, as far as can be seen now. */
static bool stays(struct following *f)
{
	json_t *s;
	size_t i;

	if (!f->ready) {
		f->ready = davit_monotonic();
		f->look = FIRST_LOOK;
	}
	json_array_foreach(f->services, i, s)
	{
		if (davit_service_settled(s) != DAVIT_SETTLED)
			return davit_monotonic() - f->ready > SETTLE_MAX;
	}
	return true;
}

/* False: nothing has come from the daemon until the next look is due. */
static bool line_comes(struct following *f, struct davit_client *stream)
{
	struct pollfd p = {davit_client_fd(stream), POLLIN, 0};
	bool comes = davit_client_line_ready(stream) || poll(&p, 1, f->look) != 0;

	f->look = f->look * 2 > LATER_LOOK ? LATER_LOOK : f->look * 2;
	return comes;
}

/* The stream's timeout is per byte; this keeps the whole within the deadline. */
static int next_before(struct davit_client *stream, int64_t deadline, json_t **ret, struct davit_error *err)
{
	int64_t left = deadline - davit_monotonic();

	if (deadline && left <= 0)
		return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "timeout");
	davit_client_set_timeout(stream, deadline ? left : 0);
	return davit_api_next(stream, ret, NULL, err);
}

static int timed_out(struct following *f, int64_t timeout_ns, struct davit_error *err)
{
	char span[DAVIT_TIME_MAX];
	json_t *s;
	size_t i;

	davit_duration_format(timeout_ns, span);
	json_array_foreach(f->services, i,
			   s) if (judge(s, INT64_MAX / 2, NULL) !=
				  READY) return davit_error_set(err, DAVIT_ETIMEDOUT, NULL,
								"service '%s' is not ready after %s (status "
								"%s); see 'davit why %s'",
								davit_string(s, "name"), span,
								davit_string(s, "status"),
								davit_string(s, "name"));
	return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "not ready after %s", span);
}

/* One service is watched alone, several by watching all. */
static void watch_target(json_t *refs, struct davit_buf *out)
{
	json_t *ref = json_array_get(refs, 0);

	davit_buf_adds(out, "/v1/watch");
	if (json_array_size(refs) != 1) {
		davit_url_query(out, "namespace", "*");
		return;
	}
	davit_url_query(out, "namespace", davit_string(ref, "namespace"));
	davit_url_query(out, "name", davit_string(ref, "name"));
	davit_url_query(out, "version", davit_string(ref, "version"));
}

int davit_follow_ready(struct davit_cli *cli, json_t *refs, int64_t timeout_ns, json_t **ret_services,
		       struct davit_error *err)
{
	struct following f = {.cli = cli, .refs = refs, .services = json_array(), .before = json_array()};
	int64_t deadline = timeout_ns ? davit_monotonic() + timeout_ns : 0;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_client *stream = NULL;
	json_t *line = NULL;
	int r, done = 0;

	watch_target(refs, &target);
	r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
	while (r >= 0 && !done) {
		if (f.ready && !line_comes(&f, stream)) {
			done = stays(&f);
			continue;
		}
		r = next_before(stream, deadline, &line, err);
		if (r <= 0)
			break;
		done = take(&f, line, err);
		json_decref(line);
		if (done < 0)
			r = done;
		else if (done > 0)
			done = stays(&f);
		else
			f.ready = 0;
	}
	end_progress(&f);
	json_decref(f.before);
	davit_client_close(stream);
	if (r == 0)
		r = davit_error_set(err, DAVIT_ECLOSED, NULL, "the daemon has ended the stream");
	else if (r == DAVIT_ETIMEDOUT && !done)
		r = timed_out(&f, timeout_ns, err);
	if (r < 0) {
		json_decref(f.services);
		return r;
	}
	*ret_services = f.services;
	return 0;
}

void davit_print_summary(const struct davit_cli *cli, json_t *service)
{
	const char *name = davit_string(service, "name"), *version = davit_string(service, "version");
	const char *status = davit_string(service, "status"), *green = cli->color ? "\033[32m" : "";
	char ended[96] = "";
	DAVIT_AUTO_BUF addresses = DAVIT_BUF_INIT;
	bool latest = !strcmp(version, "latest");
	json_t *i;
	size_t index;
	bool first = true;

	if (!strcmp(status, "stopped"))
		exit_text(service, ended);
	if (ended[0])
		printf("%s%s%s has ended: %s\n", name, latest ? "" : " ", latest ? "" : version, ended);
	else
		printf("%s%s%s is %s%s%s\n", name, latest ? "" : " ", latest ? "" : version, green, status,
		       cli->color ? "\033[0m" : "");
	davit_service_addresses(service, ", ", &addresses);
	if (addresses.len)
		printf("  address  %s\n", davit_buf_str(&addresses));
	json_array_foreach(json_object_get(service, "instances"), index, i)
	{
		if (!davit_integer(i, "pid"))
			continue;
		printf("%s%d", first ? "  pid      " : ", ", (int)davit_integer(i, "pid"));
		first = false;
	}
	if (!first)
		putchar('\n');
	printf("  logs     davit logs -f %s%s%s\n", name, latest ? "" : " ", latest ? "" : version);
}

/* SPDX-License-Identifier: MIT */
#include "core/spec_table.h"

#include "base/units.h"
#include "core/spec_item.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#define SERVICE (1 << DAVIT_KIND_SERVICE)
#define SUPERVISOR (1 << DAVIT_KIND_SUPERVISOR)
#define NAMESPACE (1 << DAVIT_KIND_NAMESPACE)
#define ALL (SERVICE | SUPERVISOR | NAMESPACE)

#define ROW(p, t, m)                                                                                         \
	.path = (p), .type = DAVIT_TYPE_##t, .member = #m, .offset = offsetof(struct davit_spec, m),         \
	.size = sizeof(((struct davit_spec *)0)->m)
#define ITEMS(p, m, i)                                                                                       \
	ROW(p, ITEMS, m), .offset_n = offsetof(struct davit_spec, n_##m), .item = &davit_spec_item_##i

#define ITEMS_MAX 1000 /* of what is compared each with each */
#define DAYS (86400 * DAVIT_NSEC_PER_SEC)
#define FOREVER (3650 * DAYS)

/* In the order in which they are written. Rows of a group ("restart.") stand
 * together. A row that is taken out or renamed breaks stored specs. */
const struct davit_spec_row davit_spec_rows[] = {
	{ROW("kind", ENUM, kind), .kinds = ALL, .values = "Service|Supervisor|Namespace", .deflt = "Service",
	 .doc = "What this spec describes."},
	{ROW("namespace", STRING, namespace_), .kinds = SERVICE | SUPERVISOR, .deflt = "default",
	 .flag = "--namespace", .doc = "Namespace it belongs to."},
	{ROW("name", STRING, name), .kinds = ALL, .flag = "--name",
	 .doc = "Name of the service, supervisor or namespace; the one key that every spec needs."},
	{ROW("version", STRING, version), .kinds = SERVICE, .deflt = "latest",
	 .doc = "Version; services of the same name and other versions run side by side."},

	{ROW("source", STRING, source), .kinds = SERVICE, .replaces = true, .flag = "--source",
	 .doc = "Where the code is: a path, a git URL with @ref, or a name under the default source."},
	{ROW("type", STRING, type), .kinds = SERVICE, .replaces = true, .flag = "--type",
	 .doc = "Cell that builds and runs the source; found from its files when not given."},
	{ROW("image", STRING, image), .kinds = SERVICE, .replaces = true, .flag = "--image",
	 .doc = "Image to run, on a runtime that has images."},
	{ROW("runtime", STRING, runtime), .kinds = SERVICE, .replaces = true, .flag = "--runtime",
	 .doc = "Runtime that carries it; the daemon's default when not given."},
	{ROW("profile", STRING, profile), .kinds = SERVICE, .replaces = true, .flag = "--profile",
	 .doc = "Named preset of environment variables."},
	{ROW("command", STRINGS, command), .kinds = SERVICE, .replaces = true, .flag = "--command",
	 .doc = "Program and its first arguments, instead of what the cell says; a single text is the "
		"program "
		"alone and is never split."},
	{ROW("args", STRINGS, args), .kinds = SERVICE, .replaces = true, .flag = "--args",
	 .doc = "Arguments appended to the command."},
	{ROW("entrypoint", STRINGS, entrypoint), .kinds = SERVICE, .replaces = true, .flag = "--entrypoint",
	 .doc = "Replaces the entrypoint of the image."},
	{ITEMS("env", env, env), .kinds = SERVICE, .replaces = true, .flag = "--env",
	 .doc = "Environment variables, over those of image, cell and profile."},
	{ROW("directory", STRING, directory), .kinds = SERVICE, .replaces = true, .flag = "--directory",
	 .doc = "Working directory."},
	{ROW("user", STRING, user), .kinds = SERVICE, .replaces = true, .flag = "--user",
	 .doc = "User to run as: a name, a number, or user:group."},
	{ITEMS("metadata", metadata, metadata), .kinds = ALL, .flag = "--metadata",
	 .doc = "Names and texts of your own, shown and never interpreted."},
	{ROW("instances", INT, instances), .kinds = SERVICE, .min = 0, .max = 10000, .deflt = "1",
	 .flag = "--instances", .doc = "How many run; 0 keeps the record and runs nothing."},
	{ROW("stopped", BOOL, stopped), .kinds = SERVICE,
	 .doc = "Wanted stopped: the record is kept, nothing runs."},

	{ROW("resources.cpu", CPU, cpu), .kinds = SERVICE, .replaces = true, .flag = "--cpu",
	 .doc = "Limit of CPU: 2, 0.5 or 500m."},
	{ROW("resources.memory", SIZE, memory), .kinds = SERVICE, .replaces = true, .flag = "--memory",
	 .doc = "Limit of memory: 64Mi, 1.5Gi."},
	{ROW("resources.disk", SIZE, disk), .kinds = SERVICE, .replaces = true, .flag = "--disk",
	 .doc = "Limit of disk space."},
	{ROW("resources.pids", INT, pids), .kinds = SERVICE, .replaces = true, .min = 0, .max = 4194304,
	 .flag = "--pids", .doc = "Limit of processes and threads; 0 is none."},
	{ITEMS("rlimits", rlimits, rlimit), .kinds = SERVICE, .replaces = true, .flag = "--rlimit",
	 .doc = "Resource limits of setrlimit by name: n, soft:hard, or unlimited."},

	{ROW("restart.policy", ENUM, restart), .kinds = SERVICE, .is_short = true,
	 .values = "on-failure|never|always|unless-stopped", .deflt = "on-failure", .flag = "--restart",
	 .doc = "When an instance that ended is started again."},
	{ROW("restart.retries", INT, retries), .kinds = SERVICE, .min = -1, .max = 1000000000, .deflt = "-1",
	 .flag = "--retries",
	 .doc = "Exactly so many restarts, then the status is error; -1 is without end."},
	{ROW("restart.success", EXITS, success), .kinds = SERVICE,
	 .doc = "Exit statuses and signals that are clean ends, besides 0."},
	{ROW("restart.prevent", EXITS, prevent), .kinds = SERVICE,
	 .doc = "Exit statuses and signals after which it is never restarted."},
	{ROW("restart.backoff.initial", DURATION, backoff.initial), .kinds = SERVICE, .max = FOREVER,
	 .deflt = "100ms", .doc = "Delay before the first restart."},
	{ROW("restart.backoff.max", DURATION, backoff.max), .kinds = SERVICE, .max = FOREVER, .deflt = "30s",
	 .doc = "Longest delay."},
	{ROW("restart.backoff.factor", NUMBER, backoff.factor), .kinds = SERVICE, .min = 1, .max = 1000,
	 .deflt = "2", .doc = "What each delay is multiplied by for the next."},
	{ROW("restart.backoff.jitter", NUMBER, backoff.jitter), .kinds = SERVICE, .min = 0, .max = 1,
	 .deflt = "0.1", .doc = "Share of the delay that is random, 0 to 1."},
	{ROW("restart.backoff.reset", DURATION, backoff.reset), .kinds = SERVICE, .max = FOREVER,
	 .deflt = "1m", .doc = "So long in good health, and the delay starts over."},

	{ROW("stop.signal", SIGNAL, stop_signal), .kinds = SERVICE, .deflt = "SIGTERM",
	 .flag = "--stop-signal", .doc = "Signal that asks it to end."},
	{ROW("stop.grace", DURATION, stop_grace), .kinds = SERVICE, .max = FOREVER, .deflt = "10s",
	 .flag = "--stop-grace", .doc = "Time between that signal and SIGKILL."},

	{ROW("ready.type", ENUM, ready), .kinds = SERVICE, .replaces = true, .is_short = true,
	 .values = "started|notify|fd|port|log", .deflt = "started", .flag = "--ready",
	 .doc = "What makes an instance ready: it runs, it says so (sd_notify or a newline on a descriptor), "
		"a "
		"port is open, or a line is in its log."},
	{ROW("ready.fd", INT, ready_fd), .kinds = SERVICE, .replaces = true, .min = 3, .max = 1023,
	 .deflt = "3", .flag = "--ready-fd", .doc = "Descriptor for type fd."},
	{ROW("ready.port", INT, ready_port), .kinds = SERVICE, .min = 0, .max = 65535, .deflt = "0",
	 .flag = "--ready-port", .doc = "Port for type port; 0 is the first of `ports`."},
	{ROW("ready.pattern", STRING, ready_pattern), .kinds = SERVICE, .flag = "--ready-pattern",
	 .doc = "Extended regular expression over a log line, for type log."},
	{ROW("ready.timeout", DURATION, ready_timeout), .kinds = SERVICE, .min = 1000000, .max = FOREVER,
	 .deflt = "1m", .flag = "--ready-timeout", .doc = "Not ready by then is a failure."},

	{ITEMS("dependsOn", depends, dependency), .kinds = SERVICE, .max = ITEMS_MAX, .flag = "--depends-on",
	 .doc = "Services that must be there first."},
	{ITEMS("ports", ports, port), .kinds = SERVICE, .max = ITEMS_MAX, .replaces = true, .flag = "--port",
	 .doc = "Ports it listens on."},
	{ITEMS("volumes", volumes, volume), .kinds = SERVICE, .max = ITEMS_MAX, .replaces = true,
	 .flag = "--volume", .doc = "Host directories and files, volumes by name, and memory that it sees."},
	{ITEMS("health", health, health), .kinds = SERVICE, .max = 16, .flag = "--health-http",
	 .doc = "Checks of whether an instance is well: see docs/health.md."},
	{ROW("network", STRING, network), .kinds = SERVICE, .replaces = true, .flag = "--network",
	 .doc = "`bridge`, `host`, `none`, or the name of a network; the runtime's own choice when not "
		"given."},
	{ROW("dns", STRINGS, dns), .kinds = SERVICE, .replaces = true, .each = davit_spec_address,
	 .flag = "--dns", .doc = "Addresses of name servers."},
	{ROW("egress.policy", ENUM, egress), .kinds = SERVICE | NAMESPACE, .replaces = true, .is_short = true,
	 .values = "allow|deny", .deflt = "allow", .flag = "--egress",
	 .doc = "Whether it may open connections to anything, or to `egress.hosts` alone: see "
		"docs/network.md. Of a namespace: what none of its services may exceed."},
	{ROW("egress.hosts", STRINGS, egress_hosts), .kinds = SERVICE | NAMESPACE, .replaces = true,
	 .each = davit_spec_host, .flag = "--allow-host",
	 .doc = "Names, addresses and networks that policy deny lets it reach, with `:PORT` or on every "
		"port."},
	{ITEMS("secrets", secrets, secret), .kinds = SERVICE, .max = ITEMS_MAX, .replaces = true,
	 .flag = "--secret", .doc = "Secrets of its namespace that it gets."},
	{ROW("serviceAccount", STRING, service_account), .kinds = SERVICE, .replaces = true,
	 .flag = "--service-account", .doc = "The platform's own identity to run under."},
	{ROW("logs.maxSize", SIZE, log.max_size), .kinds = SERVICE, .replaces = true, .deflt = "10Mi",
	 .flag = "--log-max-size", .doc = "Size of a log file before it is rotated."},
	{ROW("logs.maxFiles", INT, log.max_files), .kinds = SERVICE, .replaces = true, .min = 1, .max = 1000,
	 .deflt = "3", .flag = "--log-max-files",
	 .doc = "Log files kept for an instance, the current one included."},
	{ROW("logs.policy", ENUM, log.policy), .kinds = SERVICE, .replaces = true, .values = "block|drop",
	 .deflt = "block", .flag = "--log-policy",
	 .doc = "What happens to a writer faster than the disk: it waits, or lines above the "
		"rate are counted and dropped."},
	{ROW("logs.rate", SIZE, log.rate), .kinds = SERVICE, .replaces = true, .flag = "--log-rate",
	 .doc = "Bytes a second and instance that policy drop lets through."},
	{ROW("noNewPrivileges", BOOL, no_new_privileges), .kinds = SERVICE, .replaces = true,
	 .flag = "--no-new-privileges", .doc = "It can gain no privilege by executing a set-user-ID file."},
	{ROW("readOnlyRootFilesystem", BOOL, read_only_root), .kinds = SERVICE, .replaces = true,
	 .flag = "--read-only", .doc = "It cannot write to its root file system, only to its volumes."},
	{ROW("capabilities.add", STRINGS, cap_add), .kinds = SERVICE, .replaces = true,
	 .each = davit_spec_linux_capability, .flag = "--cap-add",
	 .doc = "Linux capabilities that it has besides the runtime's usual ones, with or without `CAP_`; or "
		"`ALL`."},
	{ROW("capabilities.drop", STRINGS, cap_drop), .kinds = SERVICE, .replaces = true,
	 .each = davit_spec_linux_capability, .flag = "--cap-drop",
	 .doc = "Linux capabilities that it does not have; taken away before those of `add` are given."},

	{ROW("supervisor", STRING, supervisor), .kinds = SERVICE | SUPERVISOR, .flag = "--supervisor",
	 .doc = "Supervisor that it stands under; the root when not given."},
	{ROW("significant", BOOL, significant), .kinds = SERVICE | SUPERVISOR, .flag = "--significant",
	 .doc = "Its end shuts down a supervisor that has autoShutdown."},
	{ROW("update.order", ENUM, update_order), .kinds = SERVICE, .is_short = true,
	 .values = "start-first|stop-first", .deflt = "start-first", .flag = "--update-order",
	 .doc = "Whether a new instance is ready before the old one stops."},
	{ROW("update.parallel", INT, update_parallel), .kinds = SERVICE, .min = 1, .max = 10000, .deflt = "1",
	 .flag = "--update-parallel", .doc = "Instances replaced at once."},

	{ROW("strategy", ENUM, strategy), .kinds = SUPERVISOR,
	 .values = "one-for-one|one-for-all|rest-for-one", .deflt = "one-for-one",
	 .doc = "Which children are restarted with one that ended."},
	{ROW("intensity.restarts", INT, max_restarts), .kinds = SUPERVISOR, .min = -1, .max = 100000,
	 .deflt = "10", .doc = "More restarts than this within the period are a failure; -1 is no limit."},
	{ROW("intensity.period", DURATION, restart_period), .kinds = SUPERVISOR, .min = 1000000,
	 .max = FOREVER, .deflt = "1m", .doc = "The period."},
	{ROW("escalation", ENUM, escalation), .kinds = SUPERVISOR, .values = "isolate|parent|restart",
	 .deflt = "isolate", .doc = "When a child has failed: leave it so, fail too, or start it afresh."},
	{ROW("cooldown", DURATION, cooldown), .kinds = SUPERVISOR, .max = FOREVER, .deflt = "30s",
	 .doc = "Time before escalation restart starts afresh."},
	{ROW("autoShutdown", BOOL, auto_shutdown), .kinds = SUPERVISOR,
	 .doc = "The end of a significant child stops the others."},

	{ROW("quota.services", INT, quota_services), .kinds = NAMESPACE, .min = -1, .max = 1000000,
	 .deflt = "-1", .doc = "Most services in the namespace; -1 is no limit."},
	{ROW("quota.instances", INT, quota_instances), .kinds = NAMESPACE, .min = -1, .max = 1000000,
	 .deflt = "-1", .doc = "Most instances in the namespace; -1 is no limit."},
	{ROW("quota.memory", SIZE, quota_memory), .kinds = NAMESPACE,
	 .doc = "Most memory in the namespace, summed over resources.memory of all instances; 0 is no "
		"limit."},
};
const size_t davit_spec_n_rows = DAVIT_ARRAY_SIZE(davit_spec_rows);

static struct davit_spec defaults;
static struct davit_spec_field fields[DAVIT_ARRAY_SIZE(davit_spec_rows)];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make(void)
{
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		struct davit_error err;

		if (row->deflt && davit_spec_read_scalar(row, row->deflt, &defaults, &err))
			assert(!"a default in the table is wrong");
		fields[i] = (struct davit_spec_field){
			.path = row->path,
			.type = davit_spec_type_name(row),
			.values = row->values,
			.deflt = row->type == DAVIT_TYPE_BOOL ? "false" : row->deflt,
			.flag = row->flag,
			.doc = row->doc,
		};
	}
}

const struct davit_spec *davit_spec_defaults(void)
{
	pthread_once(&made, make);
	return &defaults;
}

const struct davit_spec_field *davit_spec_fields(size_t *ret_n)
{
	pthread_once(&made, make);
	*ret_n = davit_spec_n_rows;
	return fields;
}

const char *davit_spec_kind_name(enum davit_kind k)
{
	static const char *const names[] = {"Service", "Supervisor", "Namespace"};

	return (size_t)k < DAVIT_ARRAY_SIZE(names) ? names[k] : "unknown";
}

const char *davit_spec_type_name(const struct davit_spec_row *row)
{
	static const char *const names[] = {
		[DAVIT_TYPE_STRING] = "string", [DAVIT_TYPE_CHARS] = "string",
		[DAVIT_TYPE_STRINGS] = "list",	[DAVIT_TYPE_INT] = "int",
		[DAVIT_TYPE_BOOL] = "bool",	[DAVIT_TYPE_NUMBER] = "number",
		[DAVIT_TYPE_SIZE] = "size",	[DAVIT_TYPE_DURATION] = "duration",
		[DAVIT_TYPE_CPU] = "cpu",	[DAVIT_TYPE_ENUM] = "enum",
		[DAVIT_TYPE_SIGNAL] = "signal", [DAVIT_TYPE_EXITS] = "exits",
	};

	return row->type == DAVIT_TYPE_ITEMS ? row->item->type : names[row->type];
}

int64_t davit_spec_load(const struct davit_spec_row *row, const void *base)
{
	const void *p = davit_spec_at(row, base);
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		int64_t i64;
	} v;

	memcpy(&v, p, row->size);
	switch (row->size) {
	case 1:
		return v.u8;
	case 2:
		return v.u16;
	case 4:
		return v.u32;
	default:
		return v.i64;
	}
}

void davit_spec_store(const struct davit_spec_row *row, void *base, int64_t v)
{
	void *p = davit_spec_at(row, base);

	switch (row->size) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)v;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)v;
		break;
	default:
		*(int64_t *)p = v;
	}
}

const char *davit_spec_word(const char *values, int64_t v, char buf[32])
{
	size_t n;

	for (; v > 0 && values; v--) {
		values = strchr(values, '|');
		values += values != NULL;
	}
	if (!values)
		return "?";
	n = strcspn(values, "|");
	memcpy(buf, values, n < 31 ? n : 31);
	buf[n < 31 ? n : 31] = '\0';
	return buf;
}

/* SPDX-License-Identifier: MIT */
#include "runtime/engine/observe.h"

#include "base/units.h"
#include "base/util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* The zero time of Go, for what never was, is 0. */
static int64_t time_of(const json_t *o, const char *key)
{
	const char *s = text(o, key);
	int64_t t;

	if (!*s || !strncmp(s, "0001-", 5) || davit_time_parse(s, &t, NULL) < 0)
		return 0;
	return t;
}

void observe_exit(int status, bool oom, int64_t time, struct davit_exit *ret)
{
	*ret = (struct davit_exit){.kind = DAVIT_EXIT_CODE, .code = status, .time = time};
	if (status > 128 && status <= 128 + SIGSYS) {
		ret->kind = DAVIT_EXIT_SIGNAL;
		ret->code = 0;
		ret->signal = status - 128;
	}
	if (oom && ret->signal == SIGKILL)
		ret->kind = DAVIT_EXIT_OOM;
}

static void address_of(const json_t *o, char *buf, size_t size)
{
	const json_t *settings = json_object_get(o, "NetworkSettings");
	const char *address = text(settings, "IPAddress"), *key;
	json_t *networks = json_object_get(settings, "Networks"), *network;

	json_object_foreach(networks, key, network)
	{
		if (*address)
			break;
		address = text(network, "IPAddress");
	}
	snprintf(buf, size, "%s", address);
}

int observe(const json_t *o, struct observation *ret, struct davit_error *err)
{
	const json_t *state = json_object_get(o, "State");
	const json_t *labels = json_object_get(json_object_get(o, "Config"), "Labels");
	const char *container = text(o, "Id");

	*ret = (struct observation){0};
	if (!json_is_object(state) || strlen(container) >= sizeof ret->container || !*container)
		return davit_error_set(err, DAVIT_EPROTO, NULL,
				       "the engine's description of a container makes no sense");
	snprintf(ret->container, sizeof ret->container, "%s", container);
	snprintf(ret->id, sizeof ret->id, "%s", text(labels, "davit.id"));
	snprintf(ret->home, sizeof ret->home, "%s", text(labels, "davit.home"));
	ret->label = text(labels, "davit.label");
	snprintf(ret->image, sizeof ret->image, "%s", text(o, "Image"));
	ret->started = time_of(state, "StartedAt");
	ret->init = json_is_true(json_object_get(json_object_get(o, "HostConfig"), "Init"));
	ret->paused = json_is_true(json_object_get(state, "Paused"));
	if (json_is_true(json_object_get(state, "Running")) || ret->paused) {
		ret->state = DAVIT_STATE_STARTED;
		ret->pid = (pid_t)json_integer_value(json_object_get(state, "Pid"));
		address_of(o, ret->address, sizeof ret->address);
	} else if (!ret->started) {
		ret->state = DAVIT_STATE_CREATED;
	} else {
		ret->state = DAVIT_STATE_STOPPED;
		observe_exit((int)json_integer_value(json_object_get(state, "ExitCode")),
			     json_is_true(json_object_get(state, "OOMKilled")), time_of(state, "FinishedAt"),
			     &ret->exit);
	}
	return 0;
}

bool observe_exec_failure(const char *message)
{
	static const char *const words[] = {
		"exec: \"",			     /* runc: cannot be found, or may not be executed */
		"executable file",		     /* crun */
		"exec format error",		     /* both */
		"to invoke a command",		     /* podman */
		"starting container process caused", /* runc, older */
		"exec container process",
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(words); i++)
		if (strstr(message, words[i]))
			return true;
	return false;
}

bool observe_no_program(const char *message)
{
	return observe_exec_failure(message) && !strstr(message, "chdir") &&
	       (strstr(message, "not found") || strcasestr(message, "no such file or directory"));
}

bool observe_broken(const char *message)
{
	/* Docker, of what it started while it ended and then forgot; Podman, of a layer that another
	 * of its processes took for half-made and deleted. */
	return (strstr(message, "task ") && strstr(message, ": already exists")) ||
	       strstr(message, "mounting storage for container");
}

unsigned observe_port_in_use(const char *message)
{
	const char *at = strstr(message, "address already in use"), *p;
	unsigned port = 0;

	if (!at)
		at = strstr(message, "port is already allocated");
	if (!at)
		return 0;
	/* The last ":NUMBER" before it: "listen tcp4 127.0.0.1:80: bind: address ...". */
	for (p = message; p < at; p++)
		if (*p == ':' && p[1] >= '0' && p[1] <= '9')
			port = (unsigned)strtoul(p + 1, NULL, 10);
	return port;
}

int observe_event(const char *data, size_t n, struct happening *ret, struct davit_error *err)
{
	json_t *o = json_loadb(data, n, 0, NULL);
	const json_t *actor = json_object_get(o, "Actor");
	const json_t *attributes = json_object_get(actor, "Attributes");

	*ret = (struct happening){0};
	if (!json_is_object(o)) {
		json_decref(o);
		return davit_error_set(err, DAVIT_EPROTO, NULL, "an event of the engine makes no sense");
	}
	if (!strcmp(text(o, "Type"), "container")) {
		/* "exec_create: sh -c ..." has its command behind it: not of interest. */
		snprintf(ret->action, sizeof ret->action, "%s", text(o, "Action"));
		snprintf(ret->container, sizeof ret->container, "%s", text(actor, "ID"));
		snprintf(ret->id, sizeof ret->id, "%s", text(attributes, "davit.id"));
		ret->exit_code = atoi(text(attributes, "exitCode"));
	}
	ret->time = json_integer_value(json_object_get(o, "timeNano"));
	json_decref(o);
	return 0;
}

/* On control groups of version 1 nothing is handed down to who is not root: the
 * containers of such an engine are in the group that it is in itself. Podman tells of
 * limits all the same, and ignores them. */
static bool has_no_groups(const json_t *info)
{
	bool rootless = json_is_true(json_object_get(info, "Rootless"));
	const json_t *option;
	size_t i;

	json_array_foreach(json_object_get(info, "SecurityOptions"), i, option) rootless |=
		!strcmp(json_string_value(option) ?: "", "name=rootless");
	return rootless && strcmp(text(info, "CgroupVersion"), "2") != 0;
}

void observe_info(const json_t *info, struct davit_capabilities *ret, bool *ret_swap)
{
	static const enum davit_capability by_groups[] = {DAVIT_CAP_MEMORY_LIMIT, DAVIT_CAP_CPU_LIMIT,
							  DAVIT_CAP_PIDS_LIMIT, DAVIT_CAP_STATS,
							  DAVIT_CAP_PAUSE};
	static const struct {
		enum davit_capability cap;
		const char *key, *why_not;
	} limits[] = {
		{DAVIT_CAP_MEMORY_LIMIT, "MemoryLimit", "the engine has no memory controller"},
		{DAVIT_CAP_CPU_LIMIT, "CpuCfsQuota", "the engine has no cpu controller with quotas"},
		{DAVIT_CAP_PIDS_LIMIT, "PidsLimit", "the engine has no pids controller"},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(limits); i++)
		snprintf(ret->why_not[limits[i].cap], sizeof ret->why_not[0], "%s",
			 json_is_true(json_object_get(info, limits[i].key)) ? "" : limits[i].why_not);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(by_groups) && has_no_groups(info); i++)
		snprintf(ret->why_not[by_groups[i]], sizeof ret->why_not[0],
			 "the engine is not root's, and has no control groups of version 1");
	*ret_swap = json_is_true(json_object_get(info, "SwapLimit"));
}

static uint64_t number(const json_t *o, const char *key)
{
	double n = json_number_value(json_object_get(o, key));

	return n > 0 && n < 1e19 ? (uint64_t)n : 0;
}

static void observe_io(const json_t *blkio, struct davit_stats *ret)
{
	const json_t *e;
	size_t i;

	json_array_foreach(json_object_get(blkio, "io_service_bytes_recursive"), i, e)
	{
		/* Of each device; "Read" on version 1 of control groups, "read" on 2. */
		if (!strcasecmp(text(e, "op"), "read"))
			ret->read_bytes += number(e, "value");
		else if (!strcasecmp(text(e, "op"), "write"))
			ret->write_bytes += number(e, "value");
	}
}

void observe_stats(const json_t *o, struct davit_stats *ret)
{
	const json_t *memory = json_object_get(o, "memory_stats"), *detail = json_object_get(memory, "stats");
	json_t *networks = json_object_get(o, "networks"), *network;
	uint64_t cache = number(detail, "total_inactive_file"); /* version 1 of control groups */
	const char *name;

	if (!cache)
		cache = number(detail, "inactive_file");
	*ret = (struct davit_stats){
		.cpu_ns =
			number(json_object_get(json_object_get(o, "cpu_stats"), "cpu_usage"), "total_usage"),
		.memory = number(memory, "usage"),
		.memory_peak = number(memory, "max_usage"),
		.memory_limit = number(memory, "limit"),
		.processes = (uint32_t)number(json_object_get(o, "pids_stats"), "current"),
		.net_rx_bytes = networks ? 0 : -1,
		.net_tx_bytes = networks ? 0 : -1,
	};
	if (cache < ret->memory)
		ret->memory -= cache;
	observe_io(json_object_get(o, "blkio_stats"), ret);
	json_object_foreach(networks, name, network)
	{
		ret->net_rx_bytes += (int64_t)number(network, "rx_bytes");
		ret->net_tx_bytes += (int64_t)number(network, "tx_bytes");
	}
}

int observe_version(const char *version)
{
	int64_t minor;

	if (!version || strncmp(version, "1.", 2) || davit_int_parse(version + 2, 1, 999, &minor, NULL) < 0)
		return 0;
	return (int)minor;
}

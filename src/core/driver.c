/* SPDX-License-Identifier: MIT
 *
 * What all runtimes share: the names of capabilities and exits, and the check
 * that a driver's table is whole.
 */
#include "base/util.h"
#include "davit/runtime.h"

#include <string.h>

static const char *const capability_names[] = {
#define X(sym, name, doc) [DAVIT_CAP_##sym] = name,
	DAVIT_CAPABILITY_LIST(X)
#undef X
};

static const char *const capability_docs[] = {
#define X(sym, name, doc) [DAVIT_CAP_##sym] = doc,
	DAVIT_CAPABILITY_LIST(X)
#undef X
};

static const char *const exit_kind_names[] = {
	[DAVIT_EXIT_NONE] = "none", [DAVIT_EXIT_CODE] = "code", [DAVIT_EXIT_SIGNAL] = "signal",
	[DAVIT_EXIT_OOM] = "oom",   [DAVIT_EXIT_EXEC] = "exec", [DAVIT_EXIT_UNKNOWN] = "unknown",
};

const char *davit_capability_name(enum davit_capability c)
{
	return (unsigned)c < DAVIT_CAP_COUNT ? capability_names[c] : "unknown";
}

const char *davit_capability_doc(enum davit_capability c)
{
	return (unsigned)c < DAVIT_CAP_COUNT ? capability_docs[c] : "unknown";
}

const char *davit_exit_kind_name(enum davit_exit_kind kind)
{
	return (unsigned)kind < DAVIT_ARRAY_SIZE(exit_kind_names) ? exit_kind_names[kind] : "unknown";
}

/* --- the check of a table --- */

/* State above this is a size that was never meant: a missing initialiser, or a
 * table built against another header. */
enum { SIZE_MAX_SANE = 1 << 20 };

struct slot {
	const char *name;
	size_t offset;
};

#define SLOT(type, prefix, member)                                                                           \
	{                                                                                                    \
		prefix #member, offsetof(struct type, member)                                                \
	}

static const struct slot mandatory[] = {
	SLOT(davit_runtime_driver, "", open),	      SLOT(davit_runtime_driver, "", close),
	SLOT(davit_runtime_driver, "", capabilities), SLOT(davit_runtime_driver, "", adopt),
	SLOT(davit_runtime_driver, "", check),	      SLOT(davit_runtime_driver, "", create),
	SLOT(davit_runtime_driver, "", start),	      SLOT(davit_runtime_driver, "", stop),
	SLOT(davit_runtime_driver, "", remove),	      SLOT(davit_runtime_driver, "", inspect),
};
static const struct slot logs_slots[] = {
	SLOT(davit_logs_facet, "logs.", open),
	SLOT(davit_logs_facet, "logs.", resume),
	SLOT(davit_logs_facet, "logs.", close),
	SLOT(davit_logs_facet, "logs.", discard),
};
static const struct slot exec_slots[] = {
	SLOT(davit_exec_facet, "exec.", start),	      SLOT(davit_exec_facet, "exec.", write),
	SLOT(davit_exec_facet, "exec.", close_input), SLOT(davit_exec_facet, "exec.", resume),
	SLOT(davit_exec_facet, "exec.", resize),      SLOT(davit_exec_facet, "exec.", signal),
	SLOT(davit_exec_facet, "exec.", close),
};
static const struct slot stats_slots[] = {SLOT(davit_stats_facet, "stats.", read)};
static const struct slot signal_slots[] = {SLOT(davit_signal_facet, "signal.", send)};
static const struct slot ports_slots[] = {SLOT(davit_ports_facet, "ports.", resolve)};
static const struct slot terminal_slots[] = {
	SLOT(davit_terminal_facet, "terminal.", open),	 SLOT(davit_terminal_facet, "terminal.", attach),
	SLOT(davit_terminal_facet, "terminal.", list),	 SLOT(davit_terminal_facet, "terminal.", write),
	SLOT(davit_terminal_facet, "terminal.", resume), SLOT(davit_terminal_facet, "terminal.", resize),
	SLOT(davit_terminal_facet, "terminal.", signal), SLOT(davit_terminal_facet, "terminal.", detach),
	SLOT(davit_terminal_facet, "terminal.", close),
};
static const struct slot pause_slots[] = {
	SLOT(davit_pause_facet, "pause.", pause),
	SLOT(davit_pause_facet, "pause.", unpause),
};
static const struct slot copy_slots[] = {
	SLOT(davit_copy_facet, "copy.", put),
	SLOT(davit_copy_facet, "copy.", get),
};
static const struct slot images_slots[] = {
	SLOT(davit_images_facet, "images.", list),   SLOT(davit_images_facet, "images.", pull),
	SLOT(davit_images_facet, "images.", load),   SLOT(davit_images_facet, "images.", import),
	SLOT(davit_images_facet, "images.", remove), SLOT(davit_images_facet, "images.", build),
};
#define OBJECTS_SLOTS(prefix)                                                                                \
	{                                                                                                    \
		SLOT(davit_objects_facet, prefix, list), SLOT(davit_objects_facet, prefix, create),          \
			SLOT(davit_objects_facet, prefix, remove),                                           \
	}
static const struct slot volumes_slots[] = OBJECTS_SLOTS("volumes.");
static const struct slot networks_slots[] = OBJECTS_SLOTS("networks.");

/* A slot added to a table and not to the lists above does not compile. */
#define COVERS(list, type, others)                                                                           \
	_Static_assert(DAVIT_ARRAY_SIZE(list) * sizeof(void *) + (others) == sizeof(struct type),            \
		       #type " and its list of slots differ")
COVERS(mandatory, davit_runtime_driver, offsetof(struct davit_runtime_driver, open) + 11 * sizeof(void *));
COVERS(logs_slots, davit_logs_facet, sizeof(size_t));
COVERS(exec_slots, davit_exec_facet, sizeof(size_t));
COVERS(stats_slots, davit_stats_facet, 0);
COVERS(signal_slots, davit_signal_facet, 0);
COVERS(ports_slots, davit_ports_facet, 0);
COVERS(terminal_slots, davit_terminal_facet, sizeof(size_t));
COVERS(pause_slots, davit_pause_facet, 0);
COVERS(copy_slots, davit_copy_facet, 0);
COVERS(images_slots, davit_images_facet, 0);
COVERS(volumes_slots, davit_objects_facet, 0);

static int check_slots(const char *driver, const void *table, const struct slot *slots, size_t n,
		       struct davit_error *err)
{
	static const void *const null;

	if (!table)
		return 0; /* an absent facet */
	for (size_t i = 0; i < n; i++)
		if (!memcmp((const char *)table + slots[i].offset, &null, sizeof null))
			return davit_error_set(err, DAVIT_EINVAL, slots[i].name,
					       "runtime driver '%s': the slot '%s' is empty", driver,
					       slots[i].name);
	return 0;
}

static int check_size(const char *driver, const char *name, size_t size, struct davit_error *err)
{
	if (size > SIZE_MAX_SANE)
		return davit_error_set(err, DAVIT_EINVAL, name,
				       "runtime driver '%s': %s is %zu bytes, more than %d", driver, name,
				       size, SIZE_MAX_SANE);
	return 0;
}

static int check_name(const char *name, struct davit_error *err)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

	if (!name || !*name || !strchr(first, *name) || strspn(name, rest) != strlen(name) ||
	    strlen(name) > 32)
		return davit_error_set(err, DAVIT_EINVAL, "name",
				       "runtime driver '%.40s': the name must match [a-z][a-z0-9-]{0,31}",
				       name ? name : "");
	return 0;
}

int davit_runtime_driver_validate(const struct davit_runtime_driver *d, struct davit_error *err)
{
	int r;

	if (!d)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "there is no driver table");
	/* First of all: the rest of a table of another ABI means something else. */
	if (d->abi != DAVIT_RUNTIME_ABI)
		return davit_error_set(err, DAVIT_EINVAL, "abi",
				       "the driver was built for runtime ABI %u, this davit has %d", d->abi,
				       DAVIT_RUNTIME_ABI);
	r = check_name(d->name, err);
	if (r < 0)
		return r;
	if (!d->summary || !*d->summary || strchr(d->summary, '\n'))
		return davit_error_set(err, DAVIT_EINVAL, "summary",
				       "runtime driver '%s': the summary must be one line", d->name);

	const struct {
		const void *table;
		const struct slot *slots;
		size_t n;
	} tables[] = {
		{d, mandatory, DAVIT_ARRAY_SIZE(mandatory)},
		{d->logs, logs_slots, DAVIT_ARRAY_SIZE(logs_slots)},
		{d->exec, exec_slots, DAVIT_ARRAY_SIZE(exec_slots)},
		{d->stats, stats_slots, DAVIT_ARRAY_SIZE(stats_slots)},
		{d->signal, signal_slots, DAVIT_ARRAY_SIZE(signal_slots)},
		{d->ports, ports_slots, DAVIT_ARRAY_SIZE(ports_slots)},
		{d->terminal, terminal_slots, DAVIT_ARRAY_SIZE(terminal_slots)},
		{d->pause, pause_slots, DAVIT_ARRAY_SIZE(pause_slots)},
		{d->copy, copy_slots, DAVIT_ARRAY_SIZE(copy_slots)},
		{d->images, images_slots, DAVIT_ARRAY_SIZE(images_slots)},
		{d->volumes, volumes_slots, DAVIT_ARRAY_SIZE(volumes_slots)},
		{d->networks, networks_slots, DAVIT_ARRAY_SIZE(networks_slots)},
	};
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(tables); i++) {
		r = check_slots(d->name, tables[i].table, tables[i].slots, tables[i].n, err);
		if (r < 0)
			return r;
	}

	const struct {
		const char *name;
		size_t size;
	} sizes[] = {
		{"runtime_size", d->runtime_size},
		{"instance_size", d->instance_size},
		{"logs.reader_size", d->logs ? d->logs->reader_size : 0},
		{"exec.exec_size", d->exec ? d->exec->exec_size : 0},
		{"terminal.terminal_size", d->terminal ? d->terminal->terminal_size : 0},
	};
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(sizes); i++) {
		r = check_size(d->name, sizes[i].name, sizes[i].size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

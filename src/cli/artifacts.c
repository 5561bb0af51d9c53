/* SPDX-License-Identifier: MIT
 *
 * davit artifacts and davit caches. (In davit-steps.so.)
 */
#include "base/units.h"
#include "cli/output.h"
#include "cli/steps.h"

#include <inttypes.h>
#include <string.h>

static const char *const kinds[] = {
	[DAVIT_KEPT_TREE] = "tree",
	[DAVIT_KEPT_CACHE] = "cache",
	[DAVIT_KEPT_RESULT] = "result",
};

struct listing {
	struct davit_cli *cli;
	bool caches;
	struct davit_table *table; /* or */
	json_t *all;
};

static json_t *kept_json(const struct davit_kept *k)
{
	char used[DAVIT_TIME_MAX];

	return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:s, s:b}", "id", k->id, "kind", kinds[k->kind], "name",
			 k->name, "bytes", (json_int_t)k->bytes, "entries", (json_int_t)k->entries, "used",
			 davit_time_format(k->used, used), "inUse", k->in_use);
}

static int list_one(void *user, const struct davit_kept *k)
{
	struct listing *l = user;
	char size[DAVIT_TIME_MAX], entries[24], used[DAVIT_TIME_MAX], when[DAVIT_AGE_MAX + 8], id[16];
	struct libscols_line *row;
	int r = 0;

	if (l->caches && k->kind != DAVIT_KEPT_CACHE)
		return 0;
	if (l->all)
		return json_array_append_new(l->all, kept_json(k)) < 0 ? DAVIT_ENOMEM : 0;
	row = davit_table_row(l->table, NULL);
	snprintf(id, sizeof id, "%.12s", k->id);
	snprintf(entries, sizeof entries, "%" PRIu64, k->entries);
	davit_size_format(k->bytes, size);
	davit_time_format(k->used, used);
	const char *const cells[] = {id,
				     l->caches ? (k->name ? k->name : "") : kinds[k->kind],
				     size,
				     entries,
				     davit_time_text(l->cli, used, when),
				     k->in_use ? "yes" : ""};
	for (size_t i = 0; row && r == 0 && i < DAVIT_ARRAY_SIZE(cells); i++)
		r = davit_table_set(l->table, row, i, cells[i]);
	return row && r == 0 ? 0 : DAVIT_ENOMEM;
}

static int list(struct davit_cli *cli, struct davit_artifacts *s, bool caches, struct davit_error *err)
{
	const char *const columns[] = {"ID", caches ? "OF" : "KIND", "SIZE", "ENTRIES", "USED", "IN USE"};
	struct listing l = {.cli = cli, .caches = caches};
	int r = 0;

	if (cli->format == DAVIT_FORMAT_JSON)
		l.all = json_array();
	else
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &l.table, err);
	if (r == 0)
		r = davit_artifacts_list(s, list_one, &l, err);
	if (r == DAVIT_ENOMEM)
		davit_error_set(err, r, NULL, "out of memory");
	if (r == 0)
		r = l.all ? davit_print_value(cli, l.all, err) : davit_table_print(l.table, err);
	json_decref(l.all);
	davit_table_free(l.table);
	return r;
}

static int remove_named(struct davit_cli *cli, struct davit_artifacts *s, struct davit_error *err)
{
	int r = 0;

	if (cli->n_args < 2)
		return davit_cli_usage(cli, err, "which? davit %s rm ID...", cli->command->name);
	for (size_t i = 1; r == 0 && i < cli->n_args; i++)
		r = davit_artifacts_remove(s, cli->args[i], err);
	return r;
}

static int get_named(struct davit_cli *cli, struct davit_artifacts *s, struct davit_error *err)
{
	struct davit_artifact_hold h = DAVIT_ARTIFACT_HOLD_INIT;
	int r;

	if (cli->n_args != 3)
		return davit_cli_usage(cli, err, "which, and where to? davit artifacts get ID DIR|FILE.tar");
	r = davit_artifacts_find(s, cli->args[1], &h, err);
	if (r == 0)
		r = davit_artifacts_get(s, &h, cli->args[2], err);
	davit_artifact_release(&h);
	return r;
}

/* ------------------------------------------------------------------------------- prune */

struct pruning {
	struct davit_cli *cli;
	bool why;
	uint64_t things, bytes;
};

static void collected(void *user, const struct davit_kept *k, bool removed, const char *why)
{
	struct pruning *p = user;

	p->things += removed;
	p->bytes += removed ? k->bytes : 0;
	if (!p->why)
		return;
	if (p->cli->format == DAVIT_FORMAT_JSON) {
		json_t *v = kept_json(k);
		json_object_set_new(v, "removed", json_boolean(removed));
		json_object_set_new(v, "why", json_string(why));
		davit_print_line(v);
		json_decref(v);
		return;
	}
	printf("%s %s %.12s: %s\n", removed ? "removed" : "kept   ", kinds[k->kind], k->id, why);
}

static int prune(struct davit_cli *cli, struct davit_artifacts *s, struct davit_error *err)
{
	struct pruning p = {.cli = cli, .why = davit_cli_flag(cli, "why")};
	const char *to = davit_cli_value(cli, "to");
	char freed[DAVIT_TIME_MAX], rest[DAVIT_TIME_MAX];
	uint64_t left = 0, bytes = 0;
	int r = to ? davit_size_parse(to, &bytes, err) : 0;

	if (r == 0)
		r = davit_artifacts_collect(s, bytes, collected, &p, &left, err);
	if (r < 0 || cli->format == DAVIT_FORMAT_JSON)
		return r;
	printf("removed %" PRIu64 ", %s; %s are left\n", p.things, davit_size_format(p.bytes, freed),
	       davit_size_format(left, rest));
	return 0;
}

/* ------------------------------------------------------------------------------ commands */

struct verb {
	const char *name;
	int (*run)(struct davit_cli *cli, struct davit_artifacts *s, struct davit_error *err);
};

static const struct verb artifacts_verbs[] = {
	{"get", get_named}, {"rm", remove_named}, {"prune", prune}, {0}};
static const struct verb caches_verbs[] = {{"rm", remove_named}, {0}};

static int run(struct davit_cli *cli, bool caches, struct davit_error *err)
{
	const char *name = davit_cli_arg(cli, 0);
	const struct verb *verb = caches ? caches_verbs : artifacts_verbs;
	struct davit_artifacts *s;
	int r;

	while (name && verb->name && strcmp(verb->name, name) != 0)
		verb++;
	if (name && !verb->name)
		return davit_cli_usage(cli, err, "'%.64s' is not known: davit %s %s", name,
				       cli->command->name, cli->command->usage);
	if (!caches && (!name || verb->run != prune) &&
	    (davit_cli_flag(cli, "why") || davit_cli_value(cli, "to")))
		return davit_cli_usage(cli, err, "--why and --to are for 'davit artifacts prune'");
	if (name && verb->run == prune && cli->n_args > 1)
		return davit_cli_usage(cli, err, "prune takes no argument: davit artifacts prune --to SIZE");
	r = davit_artifacts_open(NULL, 0, &s, err);
	if (r < 0)
		return r;
	r = name ? verb->run(cli, s, err) : list(cli, s, caches, err);
	davit_artifacts_close(s);
	return r;
}

static int run_artifacts(struct davit_cli *cli, struct davit_error *err)
{
	return run(cli, false, err);
}

static int run_caches(struct davit_cli *cli, struct davit_error *err)
{
	return run(cli, true, err);
}

__attribute__((visibility("default"))) extern const struct davit_steps davit_steps;

const struct davit_steps davit_steps = {davit_steps_execute, run_artifacts, run_caches, davit_steps_intercept,
					davit_steps_job};

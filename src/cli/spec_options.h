/* SPDX-License-Identifier: MIT
 *
 * From options to a spec's JSON. davit_options_spec (cli.h) is the table: each
 * of its entries names the key that it sets, the same that davit_spec_fields()
 * has for that option.
 */
#ifndef DAVIT_CLI_SPEC_OPTIONS_H
#define DAVIT_CLI_SPEC_OPTIONS_H

#include "cli/cli.h"

/* Sets in `spec` (an object) what the options of this invocation say: a single
 * value replaces, maps (env, metadata, rlimits) are merged entry by entry, and
 * lists (ports, volumes, ...) are replaced as a whole. Reads --env-file. */
int davit_spec_options_apply(struct davit_cli *cli, json_t *spec, struct davit_error *err);

/* Takes the arguments NAME|DIR|URL [VERSION] and the variables DAVIT_RUNTIME,
 * DAVIT_RUNTIME_PROFILE and DAVIT_RUNTIME_SOURCE into account: name, version,
 * source and defaults of a new spec. */
int davit_spec_options_name(struct davit_cli *cli, json_t *spec, struct davit_error *err);

/* The parts of it that several options make together (spec_lists.c): --volume and
 * --tmpfs; --health-... . Settings of checks without a check are for those that the
 * spec has. */
int davit_spec_options_volumes(struct davit_cli *cli, json_t *spec, struct davit_error *err);
int davit_spec_options_health(struct davit_cli *cli, json_t *spec, struct davit_error *err);

/* Sets the key at "a.b", making what is missing on the way; takes value (NULL: out
 * of memory). */
int davit_spec_put(json_t *spec, const char *field, json_t *value, struct davit_error *err);

/* The option that sets this key of the spec ("restart.retries"), or NULL. */
const struct davit_option *davit_spec_option_of(const char *field);

/* An absolute path for one of the caller's: a heap string. DAVIT_ENOENT when
 * must_exist and it does not. */
int davit_absolute(const char *path, bool must_exist, char **ret, struct davit_error *err);

#endif

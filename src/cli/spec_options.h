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

/* The option that sets this key of the spec ("restart.retries"), or NULL. */
const struct davit_option *davit_spec_option_of(const char *field);

/* An absolute path for one of the caller's: a heap string. DAVIT_ENOENT when
 * must_exist and it does not. */
int davit_absolute(const char *path, bool must_exist, char **ret, struct davit_error *err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * workspace.json: what a workspace needs. Read strictly, brought into one form, and
 * merged over four levels (docs/workspaces.md).
 *
 * A config is a JSON object of this form; every key may be missing:
 *   image        text
 *   command      list of texts: what keeps the workspace alive
 *   shell        list of texts: what a terminal runs
 *   environment  list of {name, value} or {name, secret}
 *   mounts       list of {host, target, ro}
 *   ports        list of {container, host}; host 0: a free one is chosen
 *   network      {mode: "allow" | "deny", hosts: list of texts}
 *   secrets      list of names: files in $CREDENTIALS_DIRECTORY
 *   features     list of names
 *   agent        any object: the agent's settings
 */
#ifndef DAVIT_WORKSPACE_CONFIG_H
#define DAVIT_WORKSPACE_CONFIG_H

#include "davit/error.h"

#include <jansson.h>
#include <stddef.h>

#define DAVIT_WORKSPACE_CONFIG_MAX (1024 * 1024) /* bytes of text */

/* Reads text (no NUL needed) into the form above; *ret is a new reference. What is
 * wrong is refused with line, column and the key's path as err->where, an unknown key
 * with the nearest known one. `file` prefixes messages: "f.json:3:5: ..."; NULL: none.
 * DAVIT_EINVAL, DAVIT_ENOMEM. */
int davit_workspace_config_parse(const char *text, size_t len, const char *file, json_t **ret,
				 struct davit_error *err);
/* Reads a file; DAVIT_ENOENT names the path. */
int davit_workspace_config_load(const char *path, json_t **ret, struct davit_error *err);

/* What layers come to, and where each value is from. Start with {0}. */
struct davit_workspace_merged {
	json_t *config;
	json_t *from; /* an object: a value's path -> the layer's name */
};
void davit_workspace_merged_fini(struct davit_workspace_merged *m);

/* Lays a config over what there is; `layer` is its name. The later wins, lists are
 * merged by what names their items, and `agent` key by key. A policy is only ever
 * tightened: a mount that is read-only stays so, `deny` beats `allow`, and of the
 * hosts that may be reached those remain that both name. DAVIT_ENOMEM. */
int davit_workspace_merge(struct davit_workspace_merged *m, const json_t *config, const char *layer,
			  struct davit_error *err);

/* Tells every value with its path ("mounts./data.ro") and layer, in order. The path is
 * borrowed during the call. DAVIT_ENOMEM. */
int davit_workspace_merged_each(const struct davit_workspace_merged *m,
				void (*fn)(void *user, const char *path, const json_t *value,
					   const char *layer),
				void *user, struct davit_error *err);

#endif

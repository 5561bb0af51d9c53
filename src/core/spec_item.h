/* SPDX-License-Identifier: MIT
 *
 * What the lists of a spec are lists of, with their short forms. Internal to
 * spec*.c.
 */
#ifndef DAVIT_CORE_SPEC_ITEM_H
#define DAVIT_CORE_SPEC_ITEM_H

#include "core/spec_table.h"

extern const struct davit_spec_item davit_spec_item_env, davit_spec_item_metadata, davit_spec_item_rlimit,
	davit_spec_item_dependency, davit_spec_item_port, davit_spec_item_volume, davit_spec_item_secret,
	davit_spec_item_health;

#endif

/* SPDX-License-Identifier: MIT
 *
 * Secrets of a workload: files in a private directory, or variables.
 */
#include "core/core_impl.h"

int workload_secrets_check(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	(void)c;
	if (spec->n_secrets)
		return davit_error_set(err, DAVIT_ENOTSUP, "secrets", "secrets cannot be given yet");
	return 0;
}

int workload_secrets(struct instance *i, struct davit_error *err)
{
	return workload_secrets_check(i->core, i->service->spec, err);
}

void workload_secrets_wipe(struct instance *i)
{
	(void)i;
}

/* SPDX-License-Identifier: MIT
 *
 * What a workload may reach, as a spec has it: the text of a host, and what a policy
 * cannot stand beside.
 */
#include "core/spec_table.h"

#include "base/host.h"

#include <stdio.h>
#include <string.h>

int davit_spec_host(struct davit_region *a, const char *text, const char **ret, struct davit_error *err)
{
	char form[DAVIT_HOST_MAX];
	struct davit_host h;
	int r = davit_host_parse(text, &h, err);
	const char *kept;

	if (r < 0)
		return r;
	kept = davit_region_strdup(a, davit_host_format(&h, form));
	if (!kept)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = kept;
	return 0;
}

int davit_spec_check_egress(const struct davit_spec *s, struct davit_error *err)
{
	if (s->egress != DAVIT_EGRESS_DENY && s->egress_hosts && *s->egress_hosts)
		return davit_spec_bad(err, "egress.hosts",
				      "are the exceptions of egress.policy deny: set that too");
	return s->egress == DAVIT_EGRESS_DENY && s->kind == DAVIT_KIND_SERVICE
		       ? davit_spec_check_confined(s, "egress.policy deny", err)
		       : 0;
}

/* Each lets go around the rules, or change them. */
static const char *const too_much[] = {
	"ALL", "CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
};

int davit_spec_check_confined(const struct davit_spec *s, const char *who, struct davit_error *err)
{
	char path[48];

	if (s->network && !strcmp(s->network, "host"))
		return davit_spec_bad(err, "network",
				      "host cannot be had with %s: it is the host's own network", who);
	for (size_t i = 0; s->cap_add && s->cap_add[i]; i++)
		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(too_much); k++) {
			if (strcmp(s->cap_add[i], too_much[k]) != 0)
				continue;
			snprintf(path, sizeof path, "capabilities.add[%zu]", i);
			return davit_spec_bad(err, path,
					      "%s cannot be had with %s: it could be gone around with it",
					      s->cap_add[i], who);
		}
	return 0;
}

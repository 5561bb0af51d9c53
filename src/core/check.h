/* SPDX-License-Identifier: MIT
 *
 * What a spec must meet beyond its own form before anything is written: the
 * runtime can carry it, nothing depends on itself, quotas hold, ports are free,
 * secrets are there. Not for use outside src/core.
 */
#ifndef DAVIT_CORE_CHECK_H
#define DAVIT_CORE_CHECK_H

#include "core/core_impl.h"

/* The specs of one command; they shadow what is recorded. */
struct proposal {
	struct davit_core *c;
	struct davit_spec *const *specs;
	size_t n;
};

/* The same namespace, name and version. */
bool same_service(const struct davit_spec *a, const struct davit_spec *b);
/* All checks of a service but its ports. */
int check_service(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err);
/* The supervisor that a spec names is there, and it does not stand below itself. */
int check_supervisor(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err);
/* A source on this host is there, and not empty. */
int check_source(const struct davit_core *c, const struct davit_spec *spec, struct davit_error *err);
int check_quota(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err);
/* s: the service as it is, whose own ports are its own; or NULL. */
int check_ports(const struct proposal *p, const struct davit_service *s, const struct davit_spec *spec,
		struct davit_error *err);

#endif

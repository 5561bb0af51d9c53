/* SPDX-License-Identifier: MIT
 *
 * Reading status objects, and following services until something is settled.
 */
#ifndef DAVIT_CLI_FOLLOW_H
#define DAVIT_CLI_FOLLOW_H

#include "cli/cli.h"

/* How many instances of a status object are ready, and how many are wanted. */
size_t davit_service_ready(const json_t *service);
size_t davit_service_wanted(const json_t *service);
/* Appends the addresses of all instances, with `between` between them. */
void davit_service_addresses(const json_t *service, const char *between, struct davit_buf *out);
/* Order of two status objects: by namespace, name, version. */
int davit_service_compare(const json_t *a, const json_t *b);
/* It runs no more and will not by itself: stopped, or error. */
bool davit_service_ended(const json_t *service);
/* The exit status that stands for an ended service: of its instances the first
 * that is not 0, as a shell gives it (128 + signal); 1 for one that could not
 * be started at all. */
int davit_service_exit(const json_t *service);

/* Whether its processes have come to stay (settle.c). What is not on this host counts as settled. */
enum davit_settled {
	DAVIT_SETTLED,	   /* each waits for something, or works for some time */
	DAVIT_SETTLED_YET, /* one may be about to end */
	DAVIT_SETTLED_NOT, /* one is gone: the daemon will tell how it ended */
};
enum davit_settled davit_service_settled(const json_t *service);

/* Follows the services named in `refs` (objects with namespace, name, version)
 * until each runs, is ready and has come to stay, or has ended well, and sets *ret_services to
 * the list of their status objects, a new reference. One that failed ends it:
 * the code and the reason are in *err, and the last lines of its log have been
 * printed on standard error. timeout_ns 0: without end. */
int davit_follow_ready(struct davit_cli *cli, json_t *refs, int64_t timeout_ns, json_t **ret_services,
		       struct davit_error *err);

/* Prints what a person wants to know of a service that has just been started. */
void davit_print_summary(const struct davit_cli *cli, json_t *service);

#endif

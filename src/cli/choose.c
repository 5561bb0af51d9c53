/* SPDX-License-Identifier: MIT */
#include "cli/choose.h"

#include "cli/api.h"
#include "cli/output.h"

#include <string.h>

#define ID_LENGTH 16

/* The id itself, where the daemon has such an instance. */
static bool is_instance(struct davit_cli *cli, const char *name)
{
	json_t *all = NULL, *i;
	bool found = false;
	size_t index;

	if (strlen(name) != ID_LENGTH || strspn(name, "0123456789abcdef") != ID_LENGTH ||
	    davit_api_call(cli, "GET", "/v1/instances?namespace=*", NULL, &all, NULL) < 0)
		return false;
	json_array_foreach(all, index, i) found |= !strcmp(davit_string(i, "id"), name);
	json_decref(all);
	return found;
}

static bool matches(const json_t *i, const char *want, bool running)
{
	char number[24];

	if (want)
		return !strcmp(want, davit_string(i, "id")) || !strcmp(want, davit_text(i, "index", number));
	return !running || !strcmp(davit_string(i, "state"), "started");
}

int davit_choose_instance(struct davit_cli *cli, const char *name, const char *version, bool running,
			  struct davit_buf *ret_id, struct davit_error *err)
{
	const char *want = davit_cli_value(cli, "instance"), *id = NULL;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *service = NULL, *i;
	size_t index;
	int r;

	davit_api_service_of(davit_cli_namespace(cli), name, version, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &service, err);
	if (r == DAVIT_ENOENT && is_instance(cli, name)) {
		davit_error_clear(err);
		davit_buf_adds(ret_id, name);
		return 0;
	}
	if (r < 0)
		return r;
	json_array_foreach(json_object_get(service, "instances"), index, i)
	{
		bool runs = !strcmp(davit_string(i, "state"), "started");
		if (matches(i, want, running) && (!id || (runs && !want)))
			id = davit_string(i, "id");
		if (id && (runs || want))
			break;
	}
	if (id)
		davit_buf_adds(ret_id, id);
	json_decref(service);
	if (ret_id->len)
		return 0;
	if (want)
		return davit_error_set(err, DAVIT_ENOENT, NULL,
				       "service '%s' has no instance '%s'; see 'davit ps %s'", name, want,
				       name);
	return davit_error_set(err, DAVIT_ESTATE, NULL, "no instance of service '%s' %s; see 'davit why %s'",
			       name, running ? "runs" : "is there", name);
}

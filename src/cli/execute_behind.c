/* SPDX-License-Identifier: MIT
 *
 * davit execute --background: the task as a run of the daemon's. (In davit-steps.so.)
 */
#include "base/file.h"
#include "cli/api.h"
#include "cli/execute.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TASK_MAX ((size_t)1 << 20)

/* The task as the one step of a plan. What could be refused has been. */
static int make_plan(struct execute *e, const char *file, json_t **ret)
{
	const char *root = davit_cli_value(e->cli, "rootfs"), *timeout = davit_cli_value(e->cli, "timeout");
	DAVIT_AUTO_FREE char *real = root && root[0] == '.' ? realpath(root, NULL) : NULL;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const char *slash = strrchr(file, '/'), *v;
	json_t *spec, *params = json_object();
	size_t pos = 0;
	int r = davit_read_file(file, TASK_MAX, &text, e->err);

	if (r < 0) {
		json_decref(params);
		return r;
	}
	while ((v = davit_cli_next(e->cli, "param", &pos)))
		json_object_setn_new(params, v, strcspn(v, "="), json_string(strchr(v, '=') + 1));
	spec = json_pack("{s:s#,s:o,s:b,s:b,s:b,s:I,s:s*,s:s*,s:s*}", "text", davit_buf_str(&text), text.len,
			 "params", params, "privileged", davit_cli_flag(e->cli, "privileged"), "hermetic",
			 davit_cli_flag(e->cli, "hermetic"), "cache", davit_cli_flag(e->cli, "cache"),
			 "grace", (json_int_t)davit_cli_duration(e->cli, "grace", 0), "rootfs",
			 real ? real : root, "image_name", davit_cli_value(e->cli, "image"), "runtime",
			 davit_cli_value(e->cli, "runtime"));
	*ret = json_pack("{s:s,s:s,s:o}", "kind", "task", "name", slash ? slash + 1 : file, "spec", spec);
	if (*ret && timeout)
		*ret = json_pack("{s:s,s:s,s:o}", "kind", "timeout", "after", timeout, "step", *ret);
	return *ret ? 0 : davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Where its host is to write what it makes: the host has another directory. */
static json_t *make_outputs(struct execute *e)
{
	json_t *outputs = NULL;
	size_t pos = 0;
	const char *v;

	while ((v = davit_cli_next(e->cli, "output", &pos))) {
		const char *to = strchr(v, '=') + 1;
		DAVIT_AUTO_FREE char *here = *to == '/' ? strdup("") : getcwd(NULL, 0), *path = NULL;

		if (!outputs)
			outputs = json_object();
		if (!here || asprintf(&path, "%s%s%s", here, *to == '/' ? "" : "/", to) < 0)
			path = NULL;
		json_object_setn_new(outputs, v, (size_t)(to - v) - 1, json_string(path ? path : ""));
	}
	return outputs;
}

static json_t *make_run(struct execute *e, const char *file, json_t *plan)
{
	json_t *inputs = json_object(), *holds = e->n_inputs ? json_array() : NULL;
	const char *slash = strrchr(file, '/');
	DAVIT_AUTO_FREE char *real = realpath(file, NULL), *scope = NULL;

	for (size_t i = 0; i < e->n_inputs; i++) {
		json_object_set_new(inputs, e->artifacts[i].name, json_string(e->inputs[i].id));
		json_array_append_new(holds, json_string(e->inputs[i].id));
	}
	if (asprintf(&scope, "execute %s", real ? real : file) < 0)
		scope = NULL;
	return json_pack("{s:s,s:s,s:o,s:o,s:o*,s:o*,s:s*}", "name", slash ? slash + 1 : file, "kind",
			 "execute", "plan", plan, "inputs", inputs, "outputs", make_outputs(e), "holds",
			 holds, "scope", scope);
}

int davit_execute_behind(struct execute *e, const char *file)
{
	json_t *plan = NULL, *body, *run = NULL;
	int r = make_plan(e, file, &plan);

	if (r < 0)
		return r;
	body = make_run(e, file, plan);
	r = body ? davit_api_call(e->cli, "POST", "/v1/runs", body, &run, e->err)
		 : davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		puts(davit_string(run, "id"));
	davit_api_close(e->cli);
	json_decref(body);
	json_decref(run);
	return r;
}

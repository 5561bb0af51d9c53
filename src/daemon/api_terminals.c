/* SPDX-License-Identifier: MIT
 *
 * The terminals that are there: listed, attached to, ended.
 */
#include "daemon/api.h"

#include <stdio.h>
#include <string.h>

struct search {
	struct api_call *call;
	struct davit_buf out;
	struct davit_json json;
	const char *id, *instance; /* wanted; or NULL */
	char runtime[32];	   /* of the one with the id; "": not found */
	struct davit_terminal_info found;
	void (*then)(struct search *s);
};

static void write_info(struct davit_core *core, struct davit_json *j, const char *runtime,
		       const struct davit_terminal_info *info)
{
	struct davit_instance *i = davit_core_instance(core, NULL, info->instance);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	davit_json_open(j);
	davit_json_put_string(j, "id", info->id);
	davit_json_put_string(j, "runtime", runtime);
	davit_json_put_string(j, "instance", info->instance);
	if (i && i->workload->name)
		davit_buf_addf(&text, "%s/%s:%s", i->workload->namespace_, i->workload->name,
			       i->workload->version);
	davit_json_put_string(j, "service", text.len ? davit_buf_str(&text) : NULL);
	davit_json_put_string(j, "command", info->command);
	davit_json_put_time(j, "started", info->started);
	davit_json_key(j, "pid");
	if (info->pid)
		davit_json_int(j, info->pid);
	else
		davit_json_null(j);
	davit_json_put_int(j, "rows", info->rows);
	davit_json_put_int(j, "columns", info->columns);
	davit_json_put_int(j, "attached", info->attached);
	davit_json_key(j, "exit");
	davit_buf_reset(&text);
	if (info->exit.kind != DAVIT_EXIT_NONE)
		api_write_exit(&text, &info->exit);
	davit_json_raw(j, text.len ? davit_buf_str(&text) : "null");
	davit_json_close(j);
}

static void each(void *user, const char *runtime, const struct davit_terminal_info *info)
{
	struct search *s = user;

	if (s->id && strcmp(s->id, info->id) != 0)
		return;
	if (s->instance && strcmp(s->instance, info->instance) != 0)
		return;
	s->found = *info;
	snprintf(s->runtime, sizeof s->runtime, "%s", runtime);
	write_info(s->call->daemon->core, &s->json, runtime, info);
}

static void free_search(struct search *s)
{
	davit_buf_fini(&s->out);
	free(s);
}

static void searched(struct davit_op *op, int result)
{
	struct search *s = op->user;
	struct api_call *call = s->call;

	if (result < 0 || call->gone) {
		free_search(s);
		if (call->gone)
			api_call_free(call);
		else
			api_fail(call, &op->error);
		return;
	}
	if (s->id && !s->runtime[0]) {
		api_fail_with(call, DAVIT_ENOENT, "terminal", "terminal '%s' not found", s->id);
		free_search(s);
		return;
	}
	s->then(s);
}

static void search(struct api_call *call, const char *id, const char *instance, void (*then)(struct search *))
{
	struct search *s = calloc(1, sizeof *s);
	struct davit_error err = {0};
	int r;

	if (!s) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	*s = (struct search){.call = call, .id = id, .instance = instance, .then = then};
	s->json.out = &s->out;
	davit_json_open_array(&s->json);
	davit_op_init(&call->op, call->daemon->loop, searched, s);
	davit_op_begin(&call->op, 0);
	api_hold(call);
	r = davit_core_terminals(call->daemon->core, each, s, &call->op, &err);
	if (r < 0) {
		free_search(s);
		api_fail(call, &err);
	}
}

static void reply_list(struct search *s)
{
	davit_json_close_array(&s->json);
	api_reply(s->call, &s->out);
	free_search(s);
}

void api_terminals_list(struct api_call *call)
{
	search(call, NULL, api_query(call, "instance"), reply_list);
}

static void attach_found(struct search *s)
{
	struct api_call *call = s->call;
	struct davit_instance *i = davit_core_instance(call->daemon->core, NULL, s->found.instance);

	free_search(s);
	if (!i) {
		api_fail_with(call, DAVIT_ENOENT, "terminal", "the instance of terminal '%s' is gone",
			      call->path[0]);
		return;
	}
	api_terminal_use(call, i, call->path[0]);
}

void api_terminal_attach(struct api_call *call)
{
	if (!api_is_no_websocket(call))
		search(call, call->path[0], NULL, attach_found);
}

static void deleted(struct davit_op *op, int result)
{
	struct api_call *call = op->user;

	if (call->gone)
		api_call_free(call);
	else if (result < 0)
		api_fail(call, &op->error);
	else
		api_empty(call);
}

static void delete_found(struct search *s)
{
	struct api_call *call = s->call;
	struct davit_error err = {0};
	int r;

	davit_op_init(&call->op, call->daemon->loop, deleted, call);
	davit_op_begin(&call->op, 0);
	r = davit_core_terminal_close(call->daemon->core, s->runtime, call->path[0], &call->op, &err);
	free_search(s);
	api_begun(call, r, &err);
}

void api_terminal_delete(struct api_call *call)
{
	search(call, call->path[0], NULL, delete_found);
}

/* SPDX-License-Identifier: MIT */
#include "runtime/engine/terminal/command.h"

#include "base/file.h"
#include "base/json.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Of our own environment what is marked as the command's. */
static void put_env(struct davit_json *j, char *const *env)
{
	davit_json_key(j, "Env");
	davit_json_open_array(j);
	for (; *env; env++)
		if (**env == '+')
			davit_json_string(j, *env + 1);
	davit_json_close_array(j);
}

int command_make(struct command *c, const char *user, const char *directory, char *const *argv,
		 char *const *env, struct davit_error *err)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&body);
	const char *id;
	char path[128];
	json_t *o = NULL;
	int r;

	davit_json_open(&j);
	davit_json_put_bool(&j, "AttachStdin", true);
	davit_json_put_bool(&j, "AttachStdout", true);
	davit_json_put_bool(&j, "AttachStderr", true);
	davit_json_put_bool(&j, "Tty", true);
	davit_json_put_strv(&j, "Cmd", argv);
	put_env(&j, env);
	if (*directory)
		davit_json_put_string(&j, "WorkingDir", directory);
	if (*user)
		davit_json_put_string(&j, "User", user);
	davit_json_close(&j);
	if (body.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	snprintf(path, sizeof path, "/containers/%s/exec", c->container);
	r = api_call(&c->api, "POST", path, &body, &o, err);
	if (r < 0)
		return r;
	id = json_string_value(json_object_get(o, "Id"));
	if (id && strlen(id) == sizeof c->id - 1)
		memcpy(c->id, id, sizeof c->id);
	else
		r = davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer to exec has no id");
	json_decref(o);
	return r;
}

int command_start(struct command *c, int *ret_fd, struct davit_buf *early, struct davit_error *err)
{
	char path[128];

	snprintf(path, sizeof path, "/exec/%s/start", c->id);
	return api_stream(&c->api, path, "{\"Detach\":false,\"Tty\":true}", ret_fd, early, err);
}

int command_look(struct command *c, bool *ret_runs, int *ret_code, struct davit_error *err)
{
	char path[128];
	json_t *o = NULL;
	int r;

	snprintf(path, sizeof path, "/exec/%s/json", c->id);
	r = api_call(&c->api, "GET", path, NULL, &o, err);
	if (r < 0)
		return r;
	/* One that runs may have an exit code, and one that has ended a pid. */
	*ret_runs = json_is_true(json_object_get(o, "Running"));
	*ret_code = (int)json_integer_value(json_object_get(o, "ExitCode"));
	if (*ret_runs)
		c->pid = (pid_t)json_integer_value(json_object_get(o, "Pid"));
	json_decref(o);
	return 0;
}

/* A pid that an engine tells is one of its own machine and namespace: only one that
 * is in the container's control group here is really it. */
static bool is_ours(const struct command *c)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)c->pid);
	return c->pid > 1 && davit_read_file(path, 65536, &text, NULL) == 0 &&
	       strstr(davit_buf_str(&text), c->container);
}

/* The foreground group of its terminal; 0: none. */
static pid_t foreground(const struct command *c)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[64], *p;
	int group = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)c->pid);
	if (davit_read_file(path, 65536, &text, NULL) < 0)
		return 0;
	/* The name may hold anything: the fields begin behind its last parenthesis. */
	p = strrchr(davit_buf_str(&text), ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %d", &group) != 1)
		return 0;
	return group > 1 ? group : 0;
}

bool command_signal(struct command *c, int signo)
{
	bool runs, all = signo == SIGHUP || signo == SIGKILL;
	pid_t group;
	int code;

	if (!c->pid)
		command_look(c, &runs, &code, NULL);
	if (!is_ours(c))
		return false;
	group = foreground(c);
	if (group && kill(-group, signo) == 0 && (!all || group == c->pid))
		return true;
	return kill(c->pid, signo) == 0;
}

int command_resize(const struct command *c, uint16_t rows, uint16_t columns, int *ret_fd)
{
	char path[160];

	snprintf(path, sizeof path, "/exec/%s/resize?h=%u&w=%u", c->id, rows, columns);
	return api_send(&c->api, "POST", path, ret_fd, NULL);
}

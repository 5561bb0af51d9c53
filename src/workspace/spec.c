/* SPDX-License-Identifier: MIT
 *
 * From a workspace to the spec of its service, and back.
 */
#include "workspace/workspace.h"

#include "base/util.h"
#include "workspace/mount.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define META "davit.workspace."

/* A spec under construction. Failures of memory are gathered in `oom`. */
struct making {
	const struct davit_workspace *w;
	const struct davit_capabilities *can;
	struct davit_workspace_roots roots;
	json_t *spec, *env, *metadata, *volumes, *secrets, *ports;
	struct davit_error *err;
	bool oom;
};

static void put(struct making *m, json_t *object, const char *key, json_t *value)
{
	m->oom |= json_object_set_new(object, key, value) < 0;
}

static void put_text(struct making *m, json_t *object, const char *key, const char *value)
{
	if (value && value[0])
		put(m, object, key, json_string(value));
}

static const json_t *asked(const struct making *m, const char *key)
{
	return json_object_get(m->w->config, key);
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* A runtime that runs images and mounts the host's files into them; others show the
 * host's files as they are, or run nothing at all. */
static bool own_root(const struct making *m)
{
	return davit_can(m->can, DAVIT_CAP_IMAGES) && davit_can(m->can, DAVIT_CAP_VOLUMES);
}

/* ------------------------------------------------------------------------- the parts */

static int check_source(struct making *m)
{
	struct stat st;

	if (!m->w->source || m->w->source[0] != '/')
		return davit_error_set(m->err, DAVIT_EINVAL, "source", "the source must be an absolute path");
	if (stat(m->w->source, &st) < 0 || !S_ISDIR(st.st_mode))
		return davit_error_set(m->err, DAVIT_ENOENT, "source", "the source %s is not a directory",
				       m->w->source);
	return 0;
}

static int add_image(struct making *m)
{
	const char *image = json_string_value(asked(m, "image"));

	if (own_root(m) && !image)
		return davit_error_set(m->err, DAVIT_EINVAL, "image",
				       "runtime %s needs an image: --image, or 'image' in workspace.json",
				       m->w->runtime);
	if (image && !davit_can(m->can, DAVIT_CAP_IMAGES))
		return davit_error_set(m->err, DAVIT_ENOTSUP, "image",
				       "runtime %s does not support images: %s", m->w->runtime,
				       m->can->why_not[DAVIT_CAP_IMAGES]);
	put_text(m, m->spec, "image", image);
	return 0;
}

/* What holds the workspace. Our own holder has nothing to lose and, as process 1 of a
 * container, would ignore SIGTERM until the grace is over. */
static int add_command(struct making *m)
{
	const json_t *command = asked(m, "command");

	put(m, m->spec, "command",
	    command ? json_deep_copy(command) : json_pack("[s, s]", "sleep", "infinity"));
	if (!command && own_root(m))
		put(m, m->spec, "stop", json_pack("{s:s}", "signal", "SIGKILL"));
	return 0;
}

static int add_environment(struct making *m)
{
	const json_t *item;
	size_t i;

	put_text(m, m->env, "DAVIT_WORKSPACE", m->w->name);
	put_text(m, m->env, "DAVIT_WORKSPACE_ID", m->w->id);
	put_text(m, m->env, "DAVIT_AGENT", m->w->agent);
	json_array_foreach(asked(m, "environment"), i, item)
	{
		const char *name = text(item, "name"), *secret = text(item, "secret");
		if (secret)
			m->oom |= json_array_append_new(m->secrets, json_pack("{s:s, s:s}", "name", secret,
									      "env", name)) < 0;
		else
			put(m, m->env, name, json_string(text(item, "value")));
		if (!strcmp(name, "HOME") && own_root(m))
			m->roots.home_inside = text(item, "value");
	}
	json_array_foreach(asked(m, "secrets"), i, item) m->oom |=
		json_array_append_new(m->secrets, json_pack("{s:O}", "name", item)) < 0;
	put_text(m, m->env, "SOURCES", m->roots.inside);
	return 0;
}

/* Not for davit to understand: handed on to what runs inside. */
static int add_settings(struct making *m)
{
	const json_t *features = asked(m, "features"), *agent = asked(m, "agent");

	if (json_array_size(features)) {
		DAVIT_AUTO_FREE char *list = json_dumps(features, JSON_COMPACT);
		put(m, m->env, "DAVIT_FEATURES", json_string(list ? list : NULL));
	}
	if (json_object_size(agent)) {
		DAVIT_AUTO_FREE char *object = json_dumps(agent, JSON_COMPACT);
		put(m, m->env, "DAVIT_AGENT_SETTINGS", json_string(object ? object : NULL));
	}
	return 0;
}

static int add_volume(struct making *m, const char *source, const char *target, bool ro)
{
	json_t *v = json_pack("{s:s, s:s}", "source", source, "target", target);

	if (v && ro)
		put(m, v, "readOnly", json_true());
	m->oom |= json_array_append_new(m->volumes, v) < 0;
	return 0;
}

static int add_mount(struct making *m, const json_t *mount)
{
	DAVIT_AUTO_FREE char *host = NULL;
	DAVIT_AUTO_FREE char *target = NULL;
	DAVIT_AUTO_FREE char *same = NULL;
	int r = davit_workspace_mount_host(text(mount, "host"), &m->roots, &host, m->err);

	if (r == 0)
		r = davit_workspace_mount_target(text(mount, "target"), &m->roots, &target, m->err);
	if (r < 0)
		return r;
	/* The same file by another way, on a runtime that shows the host's files. */
	same = own_root(m) ? NULL : realpath(target, NULL);
	return add_volume(m, host, same && !strcmp(same, host) ? host : target,
			  json_is_true(json_object_get(mount, "ro")));
}

static int add_mounts(struct making *m)
{
	const json_t *mount;
	size_t i;
	int r = 0;

	if (own_root(m))
		add_volume(m, m->w->source, DAVIT_WORKSPACE_SOURCES, false);
	json_array_foreach(asked(m, "mounts"), i, mount)
	{
		r = add_mount(m, mount);
		if (r < 0)
			break;
	}
	/* Else $SOURCES alone tells. */
	if (davit_can(m->can, DAVIT_CAP_DIRECTORY))
		put_text(m, m->spec, "directory", m->roots.inside);
	return r;
}

static int add_ports(struct making *m)
{
	bool mapping = davit_can(m->can, DAVIT_CAP_PORT_MAPPING);
	const json_t *port;
	size_t i;

	json_array_foreach(asked(m, "ports"), i, port)
	{
		json_int_t inside = json_integer_value(json_object_get(port, "container"));
		json_int_t host = json_integer_value(json_object_get(port, "host"));
		if (!mapping && host && host != inside)
			return davit_error_set(
				m->err, DAVIT_ENOTSUP, "ports",
				"port %d cannot be forwarded from port %d: runtime %s does not "
				"support port-mapping: %s",
				(int)inside, (int)host, m->w->runtime,
				m->can->why_not[DAVIT_CAP_PORT_MAPPING]);
		m->oom |= json_array_append_new(m->ports,
						json_pack("{s:I, s:I, s:s}", "container", inside, "host",
							  mapping ? host : inside, "bind", "127.0.0.1")) < 0;
	}
	return 0;
}

static int add_network(struct making *m)
{
	const json_t *network = asked(m, "network");
	json_t *hosts = json_object_get(network, "hosts");
	const char *mode = text(network, "mode");

	if (!mode || strcmp(mode, "deny") != 0)
		return 0;
	/* What has ports is reached still; nothing needs rules where there is no network at all. */
	if (!json_array_size(hosts) && !json_array_size(asked(m, "ports")) &&
	    davit_can(m->can, DAVIT_CAP_NETWORKS)) {
		put_text(m, m->spec, "network", "none");
		return 0;
	}
	if (!davit_can(m->can, DAVIT_CAP_EGRESS))
		return davit_error_set(m->err, DAVIT_ENOTSUP, "network.mode",
				       "network.mode: runtime %s cannot deny the network: %s", m->w->runtime,
				       m->can->why_not[DAVIT_CAP_EGRESS]);
	put(m, m->spec, "egress", json_pack("{s:s, s:O*}", "policy", "deny", "hosts", hosts));
	return 0;
}

static int add_record(struct making *m)
{
	const struct davit_workspace *w = m->w;
	const json_t *shell = asked(m, "shell");

	put_text(m, m->spec, "namespace", DAVIT_WORKSPACES);
	put_text(m, m->spec, "name", w->name);
	put_text(m, m->spec, "runtime", w->runtime);
	put_text(m, m->spec, "restart", "never");
	if (!w->start)
		put(m, m->spec, "stopped", json_true());
	put_text(m, m->metadata, META "id", w->id);
	put_text(m, m->metadata, META "source", w->source);
	put_text(m, m->metadata, META "agent", w->agent);
	put_text(m, m->metadata, META "project", w->project);
	put_text(m, m->metadata, META "config", w->config_path);
	if (shell) {
		DAVIT_AUTO_FREE char *words = json_dumps(shell, JSON_COMPACT);
		put(m, m->metadata, META "shell", json_string(words ? words : NULL));
	}
	return 0;
}

/* ------------------------------------------------------------------------- the whole */

static json_t *part(struct making *m, const char *key, json_t *value)
{
	put(m, m->spec, key, value);
	return value;
}

int davit_workspace_spec(const struct davit_workspace *w, const struct davit_capabilities *can, json_t **ret,
			 struct davit_error *err)
{
	static int (*const steps[])(struct making *) = {check_source, add_image,       add_record,
							add_command,  add_environment, add_settings,
							add_mounts,   add_ports,       add_network};
	struct making m = {.w = w, .can = can, .spec = json_object(), .err = err};
	int r = 0;

	m.roots = (struct davit_workspace_roots){
		.source = w->source,
		.home = w->home,
		.inside = own_root(&m) ? DAVIT_WORKSPACE_SOURCES : w->source,
		.home_inside = own_root(&m) ? NULL : w->home,
	};
	m.env = part(&m, "env", json_object());
	m.metadata = part(&m, "metadata", json_object());
	m.volumes = part(&m, "volumes", json_array());
	m.secrets = part(&m, "secrets", json_array());
	m.ports = part(&m, "ports", json_array());
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(steps) && r == 0 && !m.oom; i++)
		r = steps[i](&m);
	if (r == 0 && m.oom)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		*ret = json_incref(m.spec);
	json_decref(m.spec);
	return r;
}

/* ------------------------------------------------------------------------- and back */

bool davit_workspace_read(const struct davit_spec *spec, struct davit_workspace_record *ret)
{
	const struct {
		const char *key;
		const char **to;
	} all[] = {
		{META "id", &ret->id},
		{META "source", &ret->source},
		{META "agent", &ret->agent},
		{META "project", &ret->project},
		{META "config", &ret->config_path},
		{META "shell", &ret->shell},
	};

	*ret = (struct davit_workspace_record){"", "", "", "", "", "", "", "", ""};
	if (strcmp(spec->namespace_, DAVIT_WORKSPACES) != 0)
		return false;
	ret->name = spec->name;
	ret->runtime = spec->runtime ? spec->runtime : "";
	ret->image = spec->image ? spec->image : "";
	for (size_t k = 0; k < spec->n_metadata; k++)
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
			if (!strcmp(spec->metadata[k].name, all[i].key))
				*all[i].to = spec->metadata[k].value;
	return ret->id[0] != '\0';
}

int davit_workspace_recheck(const struct davit_spec *spec, struct davit_error *err)
{
	int r = 0;

	for (size_t k = 0; k < spec->n_volumes && r == 0; k++)
		r = davit_workspace_mount_recheck(spec->volumes[k].source, err);
	return r;
}

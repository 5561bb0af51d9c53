/* SPDX-License-Identifier: MIT
 *
 * Further commands in a container that runs: what they need to know of it, the
 * process.json that describes one, and signals to it.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* process.json is for the command's start only, but nobody tells when it has been read,
 * and the pid file is for as long as it runs. By turns: more than keepers allow. */
#define COMMANDS 1024
#define COMMAND_MAX (4 << 20)

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
}

static void parse_user(const char *text, struct oci_user *u)
{
	unsigned v;
	int n;

	if (sscanf(text, "%u %u%n", &u->uid, &u->gid, &n) != 2)
		return;
	for (text += n; u->n_groups < DAVIT_ARRAY_SIZE(u->groups) && sscanf(text, "%u%n", &v, &n) == 1;
	     text += n)
		u->groups[u->n_groups++] = v;
}

int oci_command_read(const struct oci_place *pl, const char *id, struct oci_command *ret,
		     struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = local_path(pl->nets.bundles, id, "command");
	struct oci_command c = {0};
	size_t words = 0, n = 0;
	char *p, *end;
	int r = path ? davit_read_file(path, COMMAND_MAX, &c.text, err) : out_of_memory(err);

	if (r < 0) {
		davit_buf_fini(&c.text);
		return r;
	}
	for (size_t i = 0; i < c.text.len; i++)
		words += c.text.data[i] == '\0';
	c.env = calloc(words + 1, sizeof *c.env);
	if (!c.env || words < 3) {
		r = c.env ? davit_error_set(err, DAVIT_ECORRUPT, "oci", "%s was cut off", path)
			  : out_of_memory(err);
		oci_command_fini(&c);
		return r;
	}
	p = c.text.data;
	end = p + c.text.len;
	c.program = p;
	p += strlen(p) + 1;
	c.directory = p;
	p += strlen(p) + 1;
	parse_user(p, &c.user);
	for (p += strlen(p) + 1; p < end && n < words; p += strlen(p) + 1)
		c.env[n++] = p;
	*ret = c;
	return 0;
}

void oci_command_fini(struct oci_command *c)
{
	davit_buf_fini(&c->text);
	free(c->env);
}

static int write_file(const char *path, const struct davit_buf *text, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (text->oom)
		return out_of_memory(err);
	if (fd < 0 || write(fd, text->data, text->len) != (ssize_t)text->len)
		return davit_error_errno(err, errno, "oci", "cannot write %s", path);
	return 0;
}

static int compose(struct local_instance *pi, const struct davit_exec *x, const struct oci_command *base,
		   struct davit_buf *text, struct davit_error *err)
{
	const struct oci_place *pl = oci_runtime_of(local_runtime_of(pi->inst->runtime))->place;
	struct davit_json j = DAVIT_JSON_INIT(text);
	struct davit_workload w = *pi->inst->workload;
	DAVIT_AUTO_CLOSE int root = -1;
	DAVIT_AUTO_STRV env = NULL;
	char inside[32];
	int r = local_environment_beside(base->env, x->env, &env, err);
	struct oci_config c = {
		.place = pl,
		.workload = &w,
		.argv = x->argv,
		.directory = x->directory ? x->directory : base->directory,
		.user = base->user,
	};

	if (r < 0)
		return r;
	/* As it is inside now, with everything that is mounted there. */
	snprintf(inside, sizeof inside, "/proc/%d/root", (int)pi->pid);
	root = open(inside, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return davit_error_errno(err, errno, "oci", "cannot look into the container");
	if (x->user)
		r = oci_user_find(root, x->user, &c.user, err);
	w.n_mounts = 0; /* none covers what is seen */
	if (!r)
		r = oci_program_find(root, &w, x->argv[0], davit_strv_getenv(env, "PATH"), c.directory, err);
	if (r < 0)
		return r;
	c.env = env;
	oci_config_process(&j, &c, true, x->tty);
	return 0;
}

int oci_command_write(struct local_instance *pi, const struct davit_exec *x, char **ret_file,
		      char **ret_pid_file, struct davit_error *err)
{
	static unsigned turn;
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	const struct oci_place *pl = oci_runtime_of(p)->place;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct oci_command base;
	char name[48];
	int r = oci_command_read(pl, pi->id, &base, err);

	if (r < 0)
		return r;
	r = compose(pi, x, &base, &text, err);
	oci_command_fini(&base);
	if (r < 0)
		return r;
	p->command = turn++ % COMMANDS;
	snprintf(name, sizeof name, "process-%u.json", p->command);
	*ret_file = local_path(pl->nets.bundles, pi->id, name);
	snprintf(name, sizeof name, "process-%u.pid", p->command);
	*ret_pid_file = local_path(pl->nets.bundles, pi->id, name);
	if (!*ret_file || !*ret_pid_file)
		return out_of_memory(err);
	unlink(*ret_pid_file);
	return write_file(*ret_file, &text, err);
}

/* Whether both are in one pid namespace: a pid that was used again is not inside. */
static bool same_container(pid_t a, pid_t b)
{
	char path[2][48];
	struct stat st[2];

	snprintf(path[0], sizeof path[0], "/proc/%d/ns/pid", (int)a);
	snprintf(path[1], sizeof path[1], "/proc/%d/ns/pid", (int)b);
	return stat(path[0], &st[0]) == 0 && stat(path[1], &st[1]) == 0 && st[0].st_ino == st[1].st_ino &&
	       st[0].st_dev == st[1].st_dev;
}

bool oci_command_signal(struct local_runtime *p, const char *id, unsigned command, int signo)
{
	const struct local_instance *pi = davit_map_get(&p->instances, id);
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_FREE char *path = NULL;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char name[48];
	pid_t pid;

	snprintf(name, sizeof name, "process-%u.pid", command);
	path = local_path(oci_runtime_of(p)->place->nets.bundles, id, name);
	if (!pi || !pi->pid || !path || davit_read_file(path, 64, &text, NULL) < 0)
		return false;
	pid = (pid_t)strtol(davit_buf_str(&text), NULL, 10);
	fd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	return fd >= 0 && same_container(pid, pi->pid) &&
	       syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) == 0;
}

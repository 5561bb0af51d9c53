/* SPDX-License-Identifier: MIT
 *
 * The last steps before exec: who it is, what it may, where it begins.
 */
#include "davit/error.h"
#include "step/helper.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define GROUPS_MAX 64
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct who {
	uid_t uid;
	gid_t gid;
	char name[64];
	gid_t groups[GROUPS_MAX];
	size_t n_groups;
};

static void fail(int fd, int code, int sys_errno, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 4, 5)));
static void fail(int fd, int code, int sys_errno, const char *fmt, ...)
{
	struct step_exec_failure f = {.code = code, .sys_errno = sys_errno};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f.what, sizeof f.what, fmt, ap);
	va_end(ap);
	if (davit_write_full(fd, &f, sizeof f) < 0)
		_exit(126);
	_exit(127);
}

/* ------------------------------------------------------------------------------ users */

/* The n-th field (from 0) of a line of /etc/passwd or /etc/group; "" when there is none. */
static char *field(char *line, int n)
{
	char *p = line;

	for (; n > 0 && p; n--) {
		p = strchr(p, ':');
		p = p ? p + 1 : NULL;
	}
	return p ? p : (char *)"";
}

/* The length of a field. */
static size_t length(const char *f)
{
	return strcspn(f, ":\n");
}

static bool is(const char *f, const char *word, size_t n)
{
	return length(f) == n && !strncmp(f, word, n);
}

static bool number(const char *s, size_t n, unsigned *ret)
{
	char *end;
	unsigned long v = n ? strtoul(s, &end, 10) : 0;

	if (!n || !isdigit((unsigned char)*s) || end != s + n || v >= UINT_MAX)
		return false;
	*ret = (unsigned)v;
	return true;
}

/* The static C library must not ask name services: only the files of the step's root count. */
static bool find_user(const char *word, size_t n, struct who *w)
{
	FILE *f = fopen("/etc/passwd", "re");
	char line[1024];
	bool found = false;
	unsigned uid;

	while (f && !found && fgets(line, sizeof line, f)) {
		char *id = field(line, 2), *group = field(line, 3);

		found = is(line, word, n) || is(id, word, n);
		if (!found || !number(id, length(id), &uid) || !number(group, length(group), &w->gid))
			continue;
		w->uid = uid;
		snprintf(w->name, sizeof w->name, "%.*s", (int)length(line), line);
	}
	if (f)
		fclose(f);
	return found;
}

static bool listed(const char *members, const char *name)
{
	size_t n = strlen(name);

	while (*members && *members != '\n') {
		size_t k = strcspn(members, ",\n");
		if (k == n && !strncmp(members, name, n))
			return true;
		members += k + (members[k] == ',');
	}
	return false;
}

/* Its groups, and if `word` is one, that one's number. */
static bool find_groups(const char *word, struct who *w, unsigned *ret)
{
	FILE *f = fopen("/etc/group", "re");
	char line[4096];
	bool found = false;
	unsigned gid;

	while (f && fgets(line, sizeof line, f)) {
		char *id = field(line, 2);

		if (!number(id, length(id), &gid))
			continue;
		if (word && is(line, word, strlen(word))) {
			*ret = gid;
			found = true;
		}
		if (w->name[0] && listed(field(line, 3), w->name) && w->n_groups < GROUPS_MAX)
			w->groups[w->n_groups++] = gid;
	}
	if (f)
		fclose(f);
	return found;
}

static void find_who(const char *user, struct who *w, int fd)
{
	const char *colon = strchr(user, ':');
	size_t n = colon ? (size_t)(colon - user) : strlen(user);
	unsigned uid, gid = 0;

	if (!find_user(user, n, w)) {
		if (!number(user, n, &uid))
			fail(fd, DAVIT_EINVAL, 0, "the step's /etc/passwd has no user '%.*s'", (int)n, user);
		w->uid = uid;
		w->gid = 0;
	}
	if (find_groups(colon ? colon + 1 : NULL, w, &gid) ||
	    (colon && number(colon + 1, strlen(colon + 1), &gid)))
		w->gid = gid;
	else if (colon)
		fail(fd, DAVIT_EINVAL, 0, "the step's /etc/group has no group '%s'", colon + 1);
}

/* What the user must be able to write to; the content of inputs keeps its owner. */
static void give(const struct step *s, const struct who *w, int fd)
{
	static const char *const own[] = {"/tmp/build", "/tmp/home"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(own); i++)
		if (lchown(own[i], w->uid, w->gid) < 0)
			fail(fd, DAVIT_EIO, errno, "cannot give %s to the user", own[i]);
	for (size_t i = 0; i < s->n_mounts; i++)
		if (lchown(s->mounts[i].target, w->uid, w->gid) < 0)
			fail(fd, DAVIT_EIO, errno, "cannot give %s to the user", s->mounts[i].target);
}

static void become(const struct step *s, struct who *w, int fd)
{
	if (s->user) {
		find_who(s->user, w, fd);
		if (s->rootless && w->uid != 0)
			fail(fd, DAVIT_ENOTSUP, 0,
			     "without root's rights a step has one user, its caller under the name of root, "
			     "and "
			     "cannot become '%s'",
			     s->user);
		if (w->uid)
			give(s, w, fd);
	}
	if (!s->rootless && setgroups(w->n_groups, w->groups) < 0)
		fail(fd, DAVIT_EIO, errno, "cannot set the groups");
	if ((w->gid && setresgid(w->gid, w->gid, w->gid) < 0))
		fail(fd, DAVIT_EIO, errno, "cannot set the group");
	if ((w->uid && setresuid(w->uid, w->uid, w->uid) < 0))
		fail(fd, DAVIT_EIO, errno, "cannot set the user");
}

/* ------------------------------------------------------------------------------ rights */

static const int kept[] = {STEP_RIGHTS};

static void drop_bounding(int fd)
{
	for (int c = 0; prctl(PR_CAPBSET_READ, c) >= 0; c++) {
		bool keep = false;

		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kept); i++)
			keep |= kept[i] == c;
		if (!keep && prctl(PR_CAPBSET_DROP, c) < 0)
			fail(fd, DAVIT_EIO, errno, "cannot drop a capability");
	}
}

static void drop_rights(int fd)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};
	uint64_t keep = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kept); i++)
		keep |= UINT64_C(1) << kept[i];
	if (syscall(SYS_capget, &h, d) < 0)
		fail(fd, DAVIT_EIO, errno, "cannot read the capabilities");
	for (int i = 0; i < 2; i++) {
		uint32_t mask = (uint32_t)(keep >> (32 * i));
		d[i].permitted &= mask;
		d[i].effective &= mask;
		d[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &h, d) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(fd, DAVIT_EIO, errno, "cannot drop the capabilities");
}

/* ------------------------------------------------------------------------------- exec */

static const char *env_value(const struct step *s, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < s->n_env; i++)
		if (!strncmp(s->env[i], name, n) && s->env[i][n] == '=')
			return s->env[i] + n + 1;
	return NULL;
}

/* Executes by the step's own PATH. Returns the errno that tells most. */
static int execute(const struct step *s)
{
	const char *path = env_value(s, "PATH");
	char file[PATH_MAX];
	int e = ENOENT;

	if (strchr(s->path, '/')) {
		execve(s->path, (char *const *)s->argv, (char *const *)s->env);
		return errno;
	}
	for (path = path ? path : DEFAULT_PATH; *path;) {
		size_t n = strcspn(path, ":");

		if (snprintf(file, sizeof file, "%.*s/%s", n ? (int)n : 1, n ? path : ".", s->path) <
		    (int)sizeof file) {
			execve(file, (char *const *)s->argv, (char *const *)s->env);
			if (errno != ENOENT && errno != ENOTDIR)
				e = errno;
		}
		path += n + (path[n] == ':');
	}
	return e;
}

void step_add_env(struct step *s, const char *text)
{
	const char **more = reallocarray(s->env, s->n_env + 2, sizeof *more);

	if (!more)
		return;
	s->env = more;
	s->env[s->n_env++] = text;
	s->env[s->n_env] = NULL;
}

static void set_default(struct step *s, const char *name, const char *value, int fd)
{
	char *text;

	if (env_value(s, name))
		return;
	if (asprintf(&text, "%s=%s", name, value) < 0)
		fail(fd, DAVIT_ENOMEM, 0, "out of memory");
	step_add_env(s, text);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The kernel that is short of memory should take this rather than its init. */
static void offer_to_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (write(fd, "200", 3) < 0)
			errno = 0; /* as it was, then */
		close(fd);
	}
}

static void set_streams(const struct step *s, int out, int err, int fd)
{
	int in = s->options.input ? STEP_FD_INPUT : open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || setsid() < 0)
		fail(fd, DAVIT_EIO, errno, "cannot set up the standard descriptors");
}

void step_program(struct step *s, int out, int err, int fd)
{
	struct who w = {.name = "root"};
	int e;

	reset_signals();
	offer_to_oom();
	umask(022);
	if (!s->intercepts)
		set_streams(s, out, err, fd);
	if (s->options.plain)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* no namespace ends it with init */
	if (!s->options.privileged)
		drop_bounding(fd);
	if (!s->options.plain)
		become(s, &w, fd);
	if (!s->options.privileged)
		drop_rights(fd);
	if (s->options.processes && s->rootless) {
		const struct rlimit limit = {s->options.processes, s->options.processes};
		if (setrlimit(RLIMIT_NPROC, &limit) < 0)
			fail(fd, DAVIT_EIO, errno, "cannot limit the number of processes");
	}
	set_default(s, "PATH", DEFAULT_PATH, fd);
	set_default(s, "HOME", "/tmp/home", fd);
	set_default(s, "TMPDIR", "/tmp", fd);
	set_default(s, "USER", w.name[0] ? w.name : "nobody", fd);
	/* Locks and sockets of the helper are no business of the program's. */
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		fail(fd, DAVIT_EIO, errno, "cannot close descriptors");
	if (chdir(s->chdir) < 0)
		fail(fd, DAVIT_EINVAL, errno, "cannot begin in %s", s->chdir);
	e = execute(s);
	fail(fd, DAVIT_EEXEC, e, "cannot execute %s", s->path);
}

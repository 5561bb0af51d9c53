/* SPDX-License-Identifier: MIT
 *
 * git is given nothing of its user's configuration, no terminal, no hooks, and
 * only the transports that the source needs.
 */
#include "source/git.h"

#include "base/file.h"
#include "base/strv.h"
#include "source/run.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct fetch {
	const struct davit_git *git;
	const struct davit_source *source;
	const char *directory;
	char **env;
	struct davit_buf seen; /* what git said last */
	bool everything;       /* all branches and tags were fetched */
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int make_env(struct fetch *f)
{
	static const char *const own[][2] = {
		{"GIT_TERMINAL_PROMPT", "0"},
		{"GIT_CONFIG_NOSYSTEM", "1"},
		{"GIT_CONFIG_GLOBAL", "/dev/null"},
		{"GIT_SSH_COMMAND", "ssh -o BatchMode=yes"},
		{"LC_ALL", "C"}, /* askpass and errors are read by us */
	};
	int r = 0;

	for (char *const *e = f->git->env; r == 0 && e && *e; e++)
		if (strncmp(*e, "GIT_", 4))
			r = davit_strv_add(&f->env, *e);
	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(own); i++)
		r = davit_strv_setenv(&f->env, own[i][0], own[i][1]);
	if (r == 0 && f->git->credentials) {
		r = davit_strv_setenv(&f->env, "GIT_ASKPASS", f->git->askpass);
		if (r == 0)
			r = davit_strv_setenv(&f->env, "DAVIT_GIT_CREDENTIALS_FILE", f->git->credentials);
		if (r == 0)
			r = davit_strv_setenv(&f->env, "DAVIT_GIT_ASKPASS", "1");
	}
	return r;
}

/* git with our settings and these words; NULL ends them. *ret_status as of
 * waitpid. Its standard output goes to out unless that is NULL. */
static int git(struct fetch *f, struct davit_buf *out, int *ret_status, struct davit_error *err,
	       const char *const *words)
{
	static const char *const settings[] = {
		"core.hooksPath=/dev/null",
		"core.fsmonitor=false",
		"credential.helper=",
		"protocol.allow=never",
		"protocol.https.allow=always",
		"protocol.ssh.allow=always",
		"gc.auto=0",
		"advice.detachedHead=false",
	};
	const char *extra = f->source->local				? "protocol.file.allow=always"
			    : !strncmp(f->source->location, "http:", 5) ? "protocol.http.allow=always"
									: NULL;
	DAVIT_AUTO_STRV argv = NULL;
	struct davit_run run = {.env = f->env, .out = out, .seen = &f->seen, .deadline = f->git->deadline};
	int r = davit_strv_add(&argv, "git");

	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(settings); i++) {
		r = davit_strv_add(&argv, "-c");
		if (r == 0)
			r = davit_strv_add(&argv, settings[i]);
	}
	if (r == 0 && extra && (r = davit_strv_add(&argv, "-c")) == 0)
		r = davit_strv_add(&argv, extra);
	if (r == 0 && (r = davit_strv_add(&argv, "-C")) == 0)
		r = davit_strv_add(&argv, f->directory);
	for (; r == 0 && *words; words++)
		r = davit_strv_add(&argv, *words);
	if (r < 0)
		return no_memory(err);
	davit_buf_reset(&f->seen);
	run.argv = argv;
	r = davit_run(&run, ret_status, err);
	if (r == DAVIT_ENOENT)
		return davit_error_set(err, DAVIT_ESOURCE, "source",
				       "a git source needs 'git': apt-get install git");
	return r;
}
#define GIT(f, out, status, err, ...) git(f, out, status, err, (const char *const[]){__VA_ARGS__, NULL})

/* The line of git's that says why, without its "fatal: ". */
static int failed(struct fetch *f, const char *what, struct davit_error *err)
{
	static const char *const absent[] = {"not found", "does not exist",
					     "not appear to be a git repository"};
	char *save = NULL, *why = NULL;
	int code = DAVIT_ESOURCE;

	for (char *l = f->seen.len ? strtok_r(f->seen.data, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(absent); i++)
			if (strstr(l, absent[i]))
				code = DAVIT_ENOENT;
		if (!why && (!strncmp(l, "fatal: ", 7) || !strncmp(l, "error: ", 7)))
			why = l + 7;
	}
	return davit_error_set(err, code, "source", "cannot %s %s%s%s of %.160s: %.160s", what,
			       f->source->ref ? "'" : "the default branch",
			       f->source->ref ? f->source->ref : "", f->source->ref ? "'" : "",
			       f->source->location, why ? why : "git failed");
}

static bool is_hex(const char *s)
{
	size_t n = strlen(s);

	return n >= 4 && n <= 64 && strspn(s, "0123456789abcdefABCDEF") == n;
}

/* One commit where that is possible; for an abbreviated one, or a server that
 * gives no commit by its hash, everything. */
static int fetch(struct fetch *f, struct davit_error *err)
{
	const char *url = f->source->location, *ref = f->source->ref;
	int status, r;

	r = GIT(f, NULL, &status, err, "fetch", "--quiet", "--depth=1", "--no-tags",
		"--no-recurse-submodules", "--", url, ref ? ref : "HEAD");
	if (r < 0 || status == 0)
		return r;
	if (!ref || !is_hex(ref))
		return failed(f, "fetch", err);
	printf("%s is no branch or tag; looking for a commit\n", ref);
	r = GIT(f, NULL, &status, err, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", url,
		"+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*");
	if (r < 0)
		return r;
	f->everything = true;
	return status ? failed(f, "fetch", err) : 0;
}

/* The commit that was fetched; after fetching everything, the one asked for. */
static int find_commit(struct fetch *f, char **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *name = NULL;
	int status, r;

	if (asprintf(&name, "%s^{commit}", f->everything ? f->source->ref : "FETCH_HEAD") < 0) {
		name = NULL;
		return no_memory(err);
	}
	r = GIT(f, &out, &status, err, "rev-parse", "--quiet", "--verify", name);
	if (r < 0)
		return r;
	if (status || !out.len)
		return failed(f, "find", err);
	*ret = strndup(out.data, strcspn(out.data, "\n"));
	return *ret ? 0 : no_memory(err);
}

static int check_out(struct fetch *f, const char *commit, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *modules = davit_path_join(f->directory, ".gitmodules");
	int status, r = GIT(f, NULL, &status, err, "checkout", "--quiet", "--force", "--detach", commit);

	if (r == 0 && status)
		return failed(f, "check out", err);
	if (r < 0 || !modules || access(modules, F_OK) < 0)
		return r;
	r = GIT(f, NULL, &status, err, "submodule", "--quiet", "update", "--init", "--recursive",
		"--depth=1");
	return r == 0 && status ? failed(f, "fetch the submodules of", err) : r;
}

int davit_git_fetch(const struct davit_git *g, const struct davit_source *source, const char *to,
		    char **ret_revision, struct davit_error *err)
{
	struct fetch f = {.git = g, .source = source, .directory = to};
	DAVIT_AUTO_FREE char *commit = NULL;
	int status, r = davit_mkdirs(to, 0755, err);

	if (r == 0 && make_env(&f) < 0)
		r = no_memory(err);
	if (r == 0)
		r = GIT(&f, NULL, &status, err, "init", "--quiet", "--template=", "--initial-branch=davit");
	if (r == 0 && status)
		r = failed(&f, "prepare for", err);
	if (r == 0)
		r = fetch(&f, err);
	if (r == 0)
		r = find_commit(&f, &commit, err);
	if (r == 0)
		r = check_out(&f, commit, err);
	if (r == 0)
		*ret_revision = DAVIT_TAKE(commit);
	davit_strv_free(f.env);
	davit_buf_fini(&f.seen);
	return r;
}

/* --- credentials --- */

/* Undoes %xx in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (*s == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
			*to++ = (char)strtol((char[]){s[1], s[2], 0}, NULL, 16);
			s += 2;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* SCHEME://[...@]HOST of a text up to end: scheme and host borrowed from it. */
static bool split_url(char *url, char **ret_scheme, char **ret_user, char **ret_host)
{
	char *colon = strstr(url, "://"), *at;

	if (!colon)
		return false;
	*colon = '\0';
	at = strrchr(colon + 3, '@');
	if (at)
		*at = '\0';
	*ret_scheme = url;
	*ret_user = at ? colon + 3 : NULL;
	*ret_host = at ? at + 1 : colon + 3;
	(*ret_host)[strcspn(*ret_host, "/")] = '\0';
	return true;
}

int davit_git_askpass(const char *prompt, const char *file, FILE *out, struct davit_error *err)
{
	const char *from = strchr(prompt, '\''), *to = from ? strchr(from + 1, '\'') : NULL;
	DAVIT_AUTO_FREE char *asked = to ? strndup(from + 1, (size_t)(to - from) - 1) : NULL;
	bool password = !strncmp(prompt, "Password ", 9);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char *scheme, *user, *host, *save = NULL;
	int r;

	if (!asked || !split_url(asked, &scheme, &user, &host) ||
	    (!password && strncmp(prompt, "Username ", 9)))
		return davit_error_set(err, DAVIT_EINVAL, NULL, "cannot understand git's question '%.128s'",
				       prompt);
	r = davit_read_file(file, 1 << 20, &text, err);
	for (char *l = text.len ? strtok_r(text.data, "\n", &save) : NULL; r == 0 && l;
	     l = strtok_r(NULL, "\n", &save)) {
		char *s, *u, *h, *colon;
		if (!split_url(l, &s, &u, &h) || !u || strcmp(s, scheme) || strcasecmp(h, host))
			continue;
		colon = strchr(u, ':');
		if (!colon)
			continue;
		*colon = '\0';
		unescape(u);
		unescape(colon + 1);
		fprintf(out, "%s\n", password ? colon + 1 : u);
		return fflush(out) ? davit_error_errno(err, EIO, NULL, "cannot answer git") : 0;
	}
	return r < 0 ? r
		     : davit_error_set(err, DAVIT_ENOENT, NULL, "there are no credentials for %.128s", host);
}

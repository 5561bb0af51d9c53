/* SPDX-License-Identifier: MIT */
#include "source/source.h"

#include "base/file.h"
#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_MAX 4096
#define REF_MAX 255

static int bad(struct davit_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(struct davit_error *err, const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return davit_error_set(err, DAVIT_ESOURCE, "source", "%s", text);
}

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

void davit_source_fini(struct davit_source *s)
{
	free(s->location);
	free(s->ref);
	*s = (struct davit_source){0};
}

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool ends(const char *s, size_t n, const char *suffix)
{
	size_t k = strlen(suffix);

	return n >= k && !memcmp(s + n - k, suffix, k);
}

/* --- parts --- */

/* The rules of git check-ref-format that matter to somebody who types a ref,
 * and no ref that git could take for an option. */
static int check_ref(const char *ref, struct davit_error *err)
{
	size_t n = strlen(ref);

	if (!n)
		return bad(err, "the ref after '@' is empty");
	if (n > REF_MAX)
		return bad(err, "the ref '%.32s...' is longer than %d bytes", ref, REF_MAX);
	if (*ref == '-')
		return bad(err, "the ref '%.64s' begins with '-'", ref);
	for (const char *p = ref; *p; p++)
		if ((unsigned char)*p <= ' ' || strchr("~^:?*[\\\177", *p))
			return bad(err, "the ref '%.64s' has a '%c' in it", ref, *p);
	if (strstr(ref, "..") || strstr(ref, "@{") || strstr(ref, "//") || strstr(ref, "/.") || *ref == '/' ||
	    *ref == '.' || ref[n - 1] == '/' || ref[n - 1] == '.' || ends(ref, n, ".lock"))
		return bad(err, "'%.64s' is not a name that git allows for a ref", ref);
	return 0;
}

/* Sets the ref; the default branch has none. */
static int take_ref(struct davit_source *s, const char *ref, struct davit_error *err)
{
	int r = check_ref(ref, err);

	if (r < 0 || !strcmp(ref, "latest") || !strcmp(ref, "HEAD"))
		return r;
	s->ref = strdup(ref);
	return s->ref ? 0 : no_memory(err);
}

/* [user@]host[:port] of n bytes. */
static int check_host(const char *host, size_t n, const char *text, struct davit_error *err)
{
	const char *colon = n && *host == '[' ? memchr(host, ']', n) : memchr(host, ':', n);
	char port[8];
	int64_t v;

	if (colon && *colon == ']')
		colon = colon + 1 < host + n && colon[1] == ':' ? colon + 1 : NULL;
	if (!n || host == colon)
		return bad(err, "there is no host in '%.128s'", text);
	if (colon) {
		size_t len = (size_t)(host + n - colon - 1);
		snprintf(port, sizeof port, "%.*s", (int)(len < 7 ? len : 7), colon + 1);
		if (davit_int_parse(port, 1, 65535, &v, NULL) < 0)
			return bad(err, "'%.16s' is not a port: 1 to 65535", port);
		n = (size_t)(colon - host);
	}
	if (*host == '[')
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)host[i]) && !(i && strchr(".-", host[i])))
			return bad(err, "'%.*s' is not the name of a host", (int)(n < 64 ? n : 64), host);
	return 0;
}

/* The path of a repository on a server: whole components, nothing that walks. */
static int check_repository(const char *path, struct davit_error *err)
{
	const char *p = path;

	for (const char *c = path; *c; c++)
		if (strchr("?#\\", *c))
			return bad(err, "the repository '%.128s' has a '%c' in it", path, *c);
	for (;;) {
		size_t n = strcspn(p, "/");
		if (!n)
			return bad(err, "the repository '%.128s' has an empty part", path);
		if ((n == 1 && *p == '.') || (n == 2 && !memcmp(p, "..", 2)))
			return bad(err, "the repository '%.128s' has '%.*s' in it", path, (int)n, p);
		if (*p == '-')
			return bad(err, "a part of the repository '%.128s' begins with '-'", path);
		if (!p[n])
			return 0;
		p += n + 1;
	}
}

/* PREFIX + repository[@ref], where rest is the last two. A trailing slash, as
 * copied from a browser, is dropped. */
static int take_repository(struct davit_source *s, const char *prefix, const char *rest, const char *text,
			   struct davit_error *err)
{
	const char *at = strchr(rest, '@');
	DAVIT_AUTO_FREE char *path = strndup(rest, at ? (size_t)(at - rest) : strlen(rest));
	size_t n = path ? strlen(path) : 0;
	int r;

	if (!path)
		return no_memory(err);
	if (n && path[n - 1] == '/')
		path[--n] = '\0';
	if (!n)
		return bad(err, "there is no repository in '%.128s'", text);
	r = check_repository(path, err);
	if (r == 0 && at)
		r = take_ref(s, at + 1, err);
	if (r < 0)
		return r;
	s->kind = DAVIT_SOURCE_GIT;
	return asprintf(&s->location, "%s%s", prefix, path) < 0 ? (s->location = NULL, no_memory(err)) : 0;
}

/* --- forms --- */

/* A directory that git can fetch from: bare, or with a .git in it. */
static bool is_repository(const char *path, bool bare_only)
{
	static const char *const parts[] = {"HEAD", "objects", "refs"};
	DAVIT_AUTO_FREE char *git = davit_path_join(path, ".git");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(parts); i++) {
		DAVIT_AUTO_FREE char *part = davit_path_join(path, parts[i]);
		if (!part || access(part, F_OK) < 0)
			return !bare_only && git && access(git, F_OK) == 0;
	}
	return true;
}

static int take_local_git(struct davit_source *s, const char *path, size_t n, const char *ref,
			  struct davit_error *err)
{
	s->kind = DAVIT_SOURCE_GIT;
	s->local = true;
	s->location = strndup(path, n);
	if (!s->location)
		return no_memory(err);
	return ref ? take_ref(s, ref, err) : 0;
}

/* An absolute path. What exists by the whole text is meant; else the text up to
 * an '@' may be a repository. */
static int parse_path(const char *text, bool git_only, struct davit_source *s, struct davit_error *err)
{
	struct stat st;

	if (stat(text, &st) == 0) {
		if (git_only || is_repository(text, true))
			return is_repository(text, false)
				       ? take_local_git(s, text, strlen(text), NULL, err)
				       : bad(err, "'%.256s' is not a git repository", text);
		if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
			return bad(err, "'%.256s' is neither a file nor a directory", text);
		s->kind = DAVIT_SOURCE_PATH;
		s->location = strdup(text);
		return s->location ? 0 : no_memory(err);
	}
	for (const char *at = strchr(text, '@'); at; at = strchr(at + 1, '@')) {
		DAVIT_AUTO_FREE char *path = strndup(text, (size_t)(at - text));
		if (!path)
			return no_memory(err);
		if (is_repository(path, false))
			return take_local_git(s, path, strlen(path), at + 1, err);
	}
	return bad(err, "'%.256s' does not exist", text);
}

static bool is_loopback(const char *host, size_t n)
{
	static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
		size_t k = strlen(names[i]);
		if (n >= k && !strncasecmp(host, names[i], k) && (n == k || host[k] == ':'))
			return true;
	}
	return false;
}

/* scheme://authority/path */
static int parse_url(const char *text, const char *colon, struct davit_source *s, struct davit_error *err)
{
	const char *host = colon + 3, *slash = strchr(host, '/');
	size_t scheme = (size_t)(colon - text), n = slash ? (size_t)(slash - host) : strlen(host);
	const char *user = memchr(host, '@', n);
	DAVIT_AUTO_FREE char *prefix = NULL;
	bool ssh = scheme == 3 && starts(text, "ssh"), http = scheme == 4 && starts(text, "http");
	int r;

	if (scheme == 4 && starts(text, "file"))
		return *host == '/' ? parse_path(host, true, s, err)
				    : bad(err, "file:// needs an absolute path: file:///path/repository.git");
	if (!ssh && !http && !(scheme == 5 && starts(text, "https")))
		return bad(err, "'%.*s://' is not supported: https://, ssh://, file://, docker://",
			   (int)(scheme < 32 ? scheme : 32), text);
	if (user && (!ssh || memchr(host, ':', (size_t)(user - host))))
		return bad(err,
			   "credentials do not belong into a source: see 'Credentials' in docs/sources.md");
	r = check_host(user ? user + 1 : host, n - (user ? (size_t)(user + 1 - host) : 0), text, err);
	if (r == 0 && user && (*host == '-' || user == host))
		r = bad(err, "there is no user before '@' in '%.128s'", text);
	if (r == 0 && http && !is_loopback(host, n))
		r = bad(err, "http:// is not encrypted: use https:// or ssh://");
	if (r < 0)
		return r;
	if (!slash)
		return bad(err, "there is no repository in '%.128s'", text);
	prefix = strndup(text, (size_t)(slash + 1 - text));
	return prefix ? take_repository(s, prefix, slash + 1, text, err) : no_memory(err);
}

/* user@host:path */
static int parse_scp(const char *text, const char *at, const char *colon, struct davit_source *s,
		     struct davit_error *err)
{
	DAVIT_AUTO_FREE char *prefix = strndup(text, (size_t)(colon + 1 - text));
	int r = check_host(at + 1, (size_t)(colon - at - 1), text, err);

	for (const char *p = text; r == 0 && p < at; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			r = bad(err, "'%.*s' is not the name of a user", (int)(at - text), text);
	if (r < 0)
		return r;
	return prefix ? take_repository(s, prefix, colon + 1, text, err) : no_memory(err);
}

static bool is_image(const char *text)
{
	const char *slash = strrchr(text, '/'), *at = strchr(text, '@');
	const char *colon = strchr(slash ? slash : text, ':');

	return strstr(text, "@sha256:") || (colon && colon[1] && !at);
}

static int take_image(struct davit_source *s, const char *image, struct davit_error *err)
{
	if (!*image)
		return bad(err, "there is no image after 'docker://'");
	s->kind = DAVIT_SOURCE_IMAGE;
	s->location = strdup(image);
	return s->location ? 0 : no_memory(err);
}

/* A bare name, perhaps of several parts: letters, digits, '.', '_', '-'. */
static int parse_name(const char *text, struct davit_source *s, struct davit_error *err)
{
	size_t n = strcspn(text, "@");
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (first ? !isalnum((unsigned char)c) : !isalnum((unsigned char)c) && !strchr("._-/", c))
			return bad(err, "'%.128s' is not a path, a git URL, an image or a name", text);
		first = c == '/';
	}
	if (!n || first)
		return bad(err, "'%.128s' is not a path, a git URL, an image or a name", text);
	s->kind = DAVIT_SOURCE_NAME;
	s->location = strndup(text, n);
	if (!s->location)
		return no_memory(err);
	return text[n] ? take_ref(s, text + n + 1, err) : 0;
}

static int check_text(const char *text, struct davit_error *err)
{
	if (!text || !*text)
		return bad(err, "the source is empty");
	if (strlen(text) > TEXT_MAX)
		return bad(err, "the source is longer than %d bytes", TEXT_MAX);
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == '\177')
			return bad(err, "the source has a control character (0x%02x) in it",
				   (unsigned char)*p);
	if (*text == '-')
		return bad(err, "the source '%.64s' begins with '-'", text);
	if (*text == '~' || !strcmp(text, ".") || !strcmp(text, "..") || starts(text, "./") ||
	    starts(text, "../"))
		return bad(err, "'%.128s' is a relative path: davitd needs an absolute one", text);
	if (*text != '/' && strchr(text, ' '))
		return bad(err, "the source '%.128s' has a blank in it", text);
	return 0;
}

static int parse(const char *text, struct davit_source *s, struct davit_error *err)
{
	const char *scheme = strstr(text, "://"), *slash, *at, *colon;
	DAVIT_AUTO_FREE char *prefix = NULL;
	size_t n;
	int r;

	if (*text == '/')
		return parse_path(text, false, s, err);
	if (starts(text, "docker://"))
		return take_image(s, text + 9, err);
	if (scheme && scheme < text + strcspn(text, "/@"))
		return parse_url(text, scheme, s, err);
	colon = strstr(text, "::");
	if (colon)
		return bad(err, "'%.*s::' is a transport helper of git, which is not allowed",
			   (int)(colon - text < 32 ? colon - text : 32), text);
	if (strstr(text, "@sha256:"))
		return take_image(s, text, err);
	slash = strchrnul(text, '/');
	at = memchr(text, '@', (size_t)(slash - text));
	colon = at ? memchr(at, ':', (size_t)(slash - at)) : NULL;
	if (colon)
		return at == text ? bad(err, "there is no user before '@' in '%.128s'", text)
				  : parse_scp(text, at, colon, s, err);
	if (is_image(text))
		return take_image(s, text, err);
	n = (size_t)(slash - text);
	if (!*slash || at || (!memchr(text, '.', n) && !memchr(text, ':', n) && !is_loopback(text, n)))
		return parse_name(text, s, err);
	r = check_host(text, n, text, err);
	if (r < 0)
		return r;
	if (asprintf(&prefix, "https://%.*s/", (int)n, text) < 0) {
		prefix = NULL;
		return no_memory(err);
	}
	return take_repository(s, prefix, slash + 1, text, err);
}

int davit_source_parse(const char *text, struct davit_source *ret, struct davit_error *err)
{
	struct davit_source s = {0};
	int r = check_text(text, err);

	if (r == 0)
		r = parse(text, &s, err);
	if (r < 0) {
		davit_source_fini(&s);
		return r;
	}
	*ret = s;
	return 0;
}

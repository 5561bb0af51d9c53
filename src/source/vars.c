/* SPDX-License-Identifier: MIT */
#include "source/vars.h"

#include "base/buf.h"
#include "base/strv.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
	const char *name;
	size_t offset;
} variables[] = {
	{"SOURCE", offsetof(struct davit_vars, source)},   {"OUT", offsetof(struct davit_vars, out)},
	{"TMP", offsetof(struct davit_vars, tmp)},	   {"NAME", offsetof(struct davit_vars, name)},
	{"DAVIT", offsetof(struct davit_vars, davit)},	   {"CACHE", offsetof(struct davit_vars, cache)},
	{"CELL", offsetof(struct davit_vars, cell)},	   {"HOME", offsetof(struct davit_vars, home)},
	{"PROGRAM", offsetof(struct davit_vars, program)},
};

/* The variable at p, which is at a "${": its index, and what comes behind it;
 * -1 for none. */
static int variable_at(const char *p, const char **ret_end)
{
	size_t n = strcspn(p + 2, "}");

	for (size_t i = 0; p[2 + n] && i < DAVIT_ARRAY_SIZE(variables); i++) {
		if (strlen(variables[i].name) == n && !memcmp(variables[i].name, p + 2, n)) {
			*ret_end = p + 2 + n + 1;
			return (int)i;
		}
	}
	return -1;
}

bool davit_vars_known(const char *text, char **ret_bad)
{
	for (const char *p = strstr(text, "${"), *end; p; p = strstr(end, "${")) {
		if (variable_at(p, &end) < 0) {
			*ret_bad = strndup(p, strcspn(p, "}") + 1);
			return false;
		}
	}
	return true;
}

/* Appends a path, quoted so that as a glob it matches itself alone. */
static void add_quoted(struct davit_buf *b, const char *path)
{
	for (; *path; path++) {
		if (strchr("*?[]{},\\", *path))
			davit_buf_addc(b, '\\');
		davit_buf_addc(b, *path);
	}
}

static void expand(struct davit_buf *b, const struct davit_vars *vars, const char *text,
		   void (*add)(struct davit_buf *b, const char *value))
{
	const char *end, *value;

	davit_buf_adds(b, "");
	while (*text) {
		size_t n = strcspn(text, "$");
		int v = !strncmp(text + n, "${", 2) ? variable_at(text + n, &end) : -1;
		davit_buf_add(b, text, n);
		text += n;
		if (v >= 0) {
			memcpy(&value, (const char *)vars + variables[v].offset, sizeof value);
			add(b, value ? value : "");
			text = end;
		} else if (*text) {
			davit_buf_addc(b, *text++);
		}
	}
}

char *davit_vars_expand(const struct davit_vars *vars, const char *text)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	expand(&b, vars, text, davit_buf_adds);
	return davit_buf_take(&b);
}

int davit_vars_expand_all(const struct davit_vars *vars, char *const *v, char ***ret, struct davit_error *err)
{
	DAVIT_AUTO_STRV out = NULL;

	for (; v && *v; v++) {
		DAVIT_AUTO_FREE char *s = davit_vars_expand(vars, *v);
		if (!s || davit_strv_add(&out, s) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	*ret = DAVIT_TAKE(out);
	return 0;
}

/* --- patterns --- */

/* A program that can be executed: an object file or a shared library cannot,
 * though it is ELF and may have its executable bit set. */
static bool is_elf_program(int fd)
{
	Elf64_Ehdr h;
	uint16_t n;

	if (pread(fd, &h, sizeof h, 0) < (ssize_t)sizeof(Elf32_Ehdr) || memcmp(h.e_ident, ELFMAG, SELFMAG))
		return false;
	/* The type is at the same place in both classes. */
	if (h.e_type == ET_EXEC)
		return true;
	if (h.e_type != ET_DYN || h.e_ident[EI_CLASS] != ELFCLASS64)
		return h.e_type == ET_DYN;
	/* One that has an entry point: a library has none, or an interpreter too. */
	n = h.e_phnum;
	for (uint16_t i = 0; i < n; i++) {
		Elf64_Phdr p;
		if (pread(fd, &p, sizeof p, (off_t)(h.e_phoff + i * sizeof p)) != (ssize_t)sizeof p)
			return false;
		if (p.p_type == PT_INTERP)
			return true;
	}
	return h.e_entry != 0;
}

static bool is_script(int fd)
{
	char magic[2];

	return pread(fd, magic, 2, 0) == 2 && !memcmp(magic, "#!", 2);
}

static bool is_alone(const char *path)
{
	const char *slash = strrchr(path, '/');
	DAVIT_AUTO_FREE char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
	DIR *d = dir ? opendir(dir) : NULL;
	size_t n = 0;

	if (!d)
		return false;
	while (readdir(d))
		n++;
	closedir(d);
	return n == 3; /* with . and .. */
}

enum kind { ANY, ELF, SCRIPT, EXECUTABLE, ONLY };
static const char *const kinds[] = {
	[ANY] = "", [ELF] = "elf:", [SCRIPT] = "script:", [EXECUTABLE] = "executable:", [ONLY] = "only:",
};

static enum kind split_kind(const char **pattern)
{
	for (size_t k = ELF; k < DAVIT_ARRAY_SIZE(kinds); k++) {
		size_t n = strlen(kinds[k]);
		if (!strncmp(*pattern, kinds[k], n)) {
			*pattern += n;
			return (enum kind)k;
		}
	}
	return ANY;
}

bool davit_pattern_known(const char *pattern)
{
	return split_kind(&pattern) != ANY || !strchr(pattern, ':');
}

static bool is_kind(const char *path, enum kind kind)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	struct stat st;

	if (kind == ANY)
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	if (kind == ONLY)
		return is_alone(path);
	return (st.st_mode & 0111) &&
	       ((kind != SCRIPT && is_elf_program(fd)) || (kind != ELF && is_script(fd)));
}

int davit_pattern_find(const struct davit_vars *vars, const char *pattern, char ***ret,
		       struct davit_error *err)
{
	DAVIT_AUTO_STRV found = NULL;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	enum kind kind = split_kind(&pattern);
	glob_t g = {0};
	int r;

	if (strncmp(pattern, "${", 2))
		expand(&b, vars, "${SOURCE}/", add_quoted);
	expand(&b, vars, pattern, add_quoted);
	if (b.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = glob(b.data, GLOB_BRACE, NULL, &g);
	if (r == GLOB_NOSPACE)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (size_t i = 0; r == 0 && i < g.gl_pathc; i++)
		if (is_kind(g.gl_pathv[i], kind))
			r = davit_strv_add(&found, g.gl_pathv[i]);
	globfree(&g);
	if (r == DAVIT_ENOMEM)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = DAVIT_TAKE(found);
	return 0;
}

int davit_pattern_matches(const struct davit_vars *vars, const char *pattern, struct davit_error *err)
{
	DAVIT_AUTO_STRV found = NULL;
	int r = davit_pattern_find(vars, pattern, &found, err);

	return r < 0 ? r : found != NULL;
}

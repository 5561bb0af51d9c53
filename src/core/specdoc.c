/* SPDX-License-Identifier: MIT
 *
 * davit-specdoc: writes docs/spec.md from the table of options; with a file as
 * argument it checks instead that the file is what it would write.
 */
#include "base/buf.h"
#include "base/file.h"
#include "core/spec_table.h"

#include <stdio.h>
#include <string.h>

static const char head[] =
	"# The spec\n"
	"Every key of a spec, made from the table in `src/core/spec_table.c` by `davit-specdoc`.\n"
	"\n"
	"A spec is YAML or JSON. Several of them stand in one text as YAML documents (`---`) or as a list. A "
	"text\n"
	"whose first character is `{` or `[` is read as JSON to the letter. Dots in the keys below are "
	"levels:\n"
	"`restart.policy: always` is written `restart: {policy: always}`. A key that is not known, is given "
	"twice, or\n"
	"belongs to another kind is refused with its line and column. A key whose value is null counts as "
	"not\n"
	"given. YAML is taken without its traps: only `true` and `false` are bools, a text stays as it is "
	"written\n"
	"(`version: 1.10`), anchors, aliases and tags are refused.\n"
	"\n"
	"```yaml\n"
	"name: web\n"
	"source: ./examples/helloworld\n"
	"env: {GREETING: hello}\n"
	"ports: [8080]\n"
	"restart: always\n"
	"resources: {memory: 64Mi, cpu: 500m}\n"
	"```\n"
	"\n"
	"| type | what it is |\n"
	"|---|---|\n"
	"| string | a text; a number or a bool is taken as it is written |\n"
	"| list | a list of texts; one text alone is a list of one, never split at blanks |\n"
	"| map | names with texts, or a list of `NAME=value` or `{name: NAME, value: text}`; of a name given "
	"twice in a "
	"list the last one counts |\n"
	"| int | a whole number |\n"
	"| number | a decimal number with at most six decimals |\n"
	"| bool | `true` or `false` |\n"
	"| size | bytes: `64Mi`, `1.5Gi`, `10k`, `1000` |\n"
	"| duration | `10s`, `500ms`, `1m30s`; a bare number is seconds |\n"
	"| cpu | `2`, `0.5`, `500m` |\n"
	"| enum | one of the values named |\n"
	"| signal | `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` |\n"
	"| exits | a list of exit statuses (0 to 255) and signals |\n"
	"| list of ... | a list of the long or short forms below; one alone is a list of one |\n";

static const struct {
	const char *path, *text;
} short_forms[] = {
	{"env", "Names: a letter or `_`, then letters, digits, `_`, `.` and `-`."},
	{"rlimits",
	 "Names: as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, "
	 "rttime, sigpending, stack. Values: `1024`, `1024:4096` (soft and hard), `unlimited`."},
	{"dependsOn", "Short: `db`, `db:v2`, `other/db:v2`, which waits until it is ready."},
	{"ports", "Short: `8080` (the same on the host), `8080:80`, `8080:80/udp`, `127.0.0.1:8080:80`, "
		  "`[::1]:8080:80`, `0:80` (a free one on the host)."},
	{"volumes",
	 "Short: `/source:/target`, `/source:/target:ro`, `/path` for both, or `name:/target` for a "
	 "volume."},
	{"health",
	 "Short: `http:8080/healthz`, `https:/healthz`, `tcp:5432`, `file:/run/up`. What they do is in "
	 "[health.md](health.md)."},
	{"secrets", "Short: the name, which gives a file."},
};

static const char *short_form(const char *path)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(short_forms); i++)
		if (!strcmp(short_forms[i].path, path))
			return short_forms[i].text;
	return NULL;
}

/* "a|b" as "`a`, `b`": a bar would end the cell. */
static void words(struct davit_buf *b, const char *values)
{
	for (const char *p = values; *p;) {
		size_t n = strcspn(p, "|");
		davit_buf_addf(b, "%s`%.*s`", p == values ? "" : ", ", (int)n, p);
		p += n + (p[n] == '|');
	}
}

static void row(struct davit_buf *b, const struct davit_spec_row *r)
{
	const char *deflt = r->type == DAVIT_TYPE_BOOL ? "false" : r->deflt;

	davit_buf_addf(b, "| `%s` | ", r->path);
	if (r->values)
		words(b, r->values);
	else
		davit_buf_adds(b, davit_spec_type_name(r));
	davit_buf_adds(b, " | ");
	if (deflt)
		davit_buf_addf(b, "`%s`", deflt);
	davit_buf_adds(b, " | ");
	if (r->flag)
		davit_buf_addf(b, "`%s`", r->flag);
	davit_buf_addf(b, " | %s", r->doc);
	if (r->is_short)
		davit_buf_addf(b, " Short: `%.*s: VALUE`.", (int)strcspn(r->path, "."), r->path);
	davit_buf_adds(b, " |\n");
}

static void rows(struct davit_buf *b, const char *title, unsigned kind)
{
	davit_buf_addf(b, "\n## %s\n| key | type or values | default | flag | |\n|---|---|---|---|---|\n",
		       title);
	for (size_t i = 0; i < davit_spec_n_rows; i++)
		if (davit_spec_rows[i].kinds & kind)
			row(b, &davit_spec_rows[i]);
}

static void items(struct davit_buf *b)
{
	davit_buf_adds(b, "\n## Items\n");
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *r = &davit_spec_rows[i];
		const char *text = short_form(r->path);

		if (!r->item || (!text && r->item->from_pair))
			continue;
		davit_buf_addf(b, "### %s\n%s\n", r->path, text ? text : "");
		if (r->item->from_pair)
			continue;
		davit_buf_adds(b, "\n| key | type or values | default | | |\n|---|---|---|---|---|\n");
		for (size_t k = 0; k < r->item->n_rows; k++)
			row(b, &r->item->rows[k]);
	}
}

static int check(const char *path, const struct davit_buf *want)
{
	DAVIT_AUTO_BUF have = DAVIT_BUF_INIT;
	struct davit_error err;

	if (davit_read_file(path, 1 << 20, &have, &err)) {
		fprintf(stderr, "davit-specdoc: %s\n", err.message);
		return 1;
	}
	if (have.len == want->len && !memcmp(have.data, want->data, have.len))
		return 0;
	fprintf(stderr, "davit-specdoc: %s is not up to date; make it with davit-specdoc >%s\n", path, path);
	return 1;
}

int main(int argc, char **argv)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	davit_buf_adds(&b, head);
	rows(&b, "kind: Service (the default)", 1u << DAVIT_KIND_SERVICE);
	rows(&b, "kind: Supervisor", 1u << DAVIT_KIND_SUPERVISOR);
	rows(&b, "kind: Namespace", 1u << DAVIT_KIND_NAMESPACE);
	items(&b);
	if (b.oom) {
		fprintf(stderr, "davit-specdoc: out of memory\n");
		return 1;
	}
	if (argc > 1)
		return check(argv[1], &b);
	return fputs(b.data, stdout) < 0 || fflush(stdout) ? 1 : 0;
}

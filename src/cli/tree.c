/* SPDX-License-Identifier: MIT
 *
 * davit tree: supervisors, services, instances, and the containers of projects beneath
 * the instance that hosts them.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Many changes within that are shown together. */
#define MOMENT (50 * DAVIT_NSEC_PER_MSEC)
/* A daemon that is away is looked for so often. */
#define AWAY (250 * DAVIT_NSEC_PER_MSEC)

enum { FOLLOWED_MAX = 256 /* projects that are asked for their changes */ };

/* Who tells that the tree has changed. */
struct followed {
	struct davit_client *services; /* a stream; NULL: not open */
	struct {
		char name[64];
		int64_t change;		     /* that is shown */
		struct davit_client *client; /* that waits for another; NULL: none */
		bool seen;
	} projects[FOLLOWED_MAX];
	size_t n;
};

/* --- the containers --- */

/* In the words of the tree. Takes what it needs of the container. */
static json_t *node_of(const json_t *container)
{
	json_t *node = json_pack(
		"{s:O, s:O, s:O, s:O, s:O}", "name", json_object_get(container, "alias"), "kind",
		json_object_get(container, "type"), "state", json_object_get(container, "state"), "restarts",
		json_object_get(container, "restarts"), "definition", json_object_get(container, "name"));
	json_t *children = json_array(), *child;
	size_t i;
	int r = node ? json_object_set_new(node, "children", children) : -1;

	json_array_foreach(json_object_get(container, "children"), i, child) if (r == 0) r =
		json_array_append_new(children, node_of(child));
	/* A host that was there before an upgrade does not tell it. */
	if (r == 0 && json_array_size(children) && json_object_get(container, "strategy"))
		r = json_object_set(node, "strategy", json_object_get(container, "strategy"));
	if (r == 0)
		return node;
	json_decref(node);
	return NULL;
}

static const char name_prefix[] = "projects/";

/* "shop" of "projects/shop/latest": the name of the service that a project is. */
static bool project_of(const json_t *node, char name[64])
{
	const char *s = davit_string(node, "name");
	size_t n;

	if (strcmp(davit_string(node, "kind"), "service") != 0 ||
	    strncmp(s, name_prefix, sizeof name_prefix - 1) != 0)
		return false;
	s += sizeof name_prefix - 1;
	n = strcspn(s, "/");
	if (n >= 64)
		return false;
	memcpy(name, s, n);
	name[n] = '\0';
	return true;
}

static void note_change(struct followed *f, const char *name, int64_t change)
{
	size_t i = 0;

	while (i < f->n && strcmp(f->projects[i].name, name) != 0)
		i++;
	if (i == FOLLOWED_MAX)
		return;
	if (i == f->n) {
		snprintf(f->projects[i].name, sizeof f->projects[i].name, "%s", name);
		f->projects[i].client = NULL;
		f->n++;
	}
	f->projects[i].change = change;
	f->projects[i].seen = true;
}

/* A project whose host does not answer now is shown without its containers, and why. */
static int add_project(struct davit_cli *cli, struct followed *f, json_t *service, const char *name,
		       struct davit_error *err)
{
	json_t *instance = json_array_get(json_object_get(service, "children"), 0);
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL, *root;
	struct davit_error why;
	int r;

	if (!instance || strcmp(davit_string(instance, "state"), "running") != 0)
		return 0;
	davit_buf_adds(&target, "/v1/containers");
	davit_url_query(&target, "project", name);
	if (davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, &why) < 0) {
		fprintf(stderr, "davit: %s\n", why.message);
		return 0;
	}
	if (f)
		note_change(f, name, davit_integer(answer, "change"));
	root = node_of(json_object_get(answer, "root"));
	r = root ? json_object_set_new(instance, "children", json_pack("[o]", root)) : -1;
	json_decref(answer);
	return r < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* f: NULL, or whose projects are noted there. */
static int add_projects(struct davit_cli *cli, struct followed *f, json_t *node, struct davit_error *err)
{
	char name[64];
	json_t *child;
	size_t i;
	int r = project_of(node, name) ? add_project(cli, f, node, name, err) : 0;

	json_array_foreach(json_object_get(node, "children"), i, child) if (r == 0) r =
		add_projects(cli, f, child, err);
	return r;
}

/* --- the tree --- */

static int fetch(struct davit_cli *cli, struct followed *f, json_t **ret, struct davit_error *err)
{
	json_t *root = NULL;
	int r = davit_api_call(cli, "GET", "/v1/tree", NULL, &root, err);

	if (r == 0)
		r = add_projects(cli, f, root, err);
	if (r == 0)
		*ret = root;
	else
		json_decref(root);
	return r;
}

static int text_of(const struct davit_cli *cli, json_t *root, char **ret, struct davit_error *err)
{
	static const char *const columns[] = {"NAME", "KIND", "STATE", "STRATEGY", "RESTARTS"};
	static const char *const keys[] = {"name", "kind", "state", "strategy", "restarts"};
	DAVIT_AUTO_TABLE *t = NULL;
	int r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), true, &t, err);

	if (r == 0 && davit_table_add_tree(t, NULL, root, keys, DAVIT_ARRAY_SIZE(keys)) < 0)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return r < 0 ? r : davit_table_text(t, ret, err);
}

/* --- live --- */

static void show(const struct davit_cli *cli, const char *text, bool first)
{
	if (cli->tty)
		fputs("\033[H\033[J", stdout);
	else if (!first)
		putchar('\n');
	fputs(text, stdout);
	fflush(stdout);
}

static int line_of(json_t *root, char **ret, struct davit_error *err)
{
	*ret = json_dumps(root, JSON_COMPACT);
	return *ret ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void pause_for(int64_t ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void unfollow(struct followed *f, size_t i)
{
	davit_client_close(f->projects[i].client);
	f->projects[i].client = NULL;
}

/* Each project is asked what there is after what was seen of it. One that cannot be is
 * asked with the next change: the watch of services tells of its host. */
static void follow(struct davit_cli *cli, struct followed *f)
{
	struct davit_client_request q = {0};

	for (size_t i = 0; i < f->n; i++) {
		DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
		char number[24];
		if (f->projects[i].client)
			continue;
		davit_buf_adds(&target, "/v1/containers");
		davit_url_query(&target, "project", f->projects[i].name);
		snprintf(number, sizeof number, "%" PRId64, f->projects[i].change);
		davit_url_query(&target, "after", number);
		q.target = davit_buf_str(&target);
		if (davit_client_open(cli->paths.socket, &f->projects[i].client, NULL) == 0 &&
		    davit_client_begin(f->projects[i].client, &q, NULL) < 0)
			unfollow(f, i);
	}
}

/* Projects that are not there any more, or do not run, tell of nothing. */
static void forget_gone(struct followed *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n; i++) {
		if (!f->projects[i].seen)
			unfollow(f, i);
		else
			f->projects[kept++] = f->projects[i];
	}
	f->n = kept;
}

/* Reads what is there of the watch of services. False: it has ended. */
static bool take_lines(struct davit_client *services)
{
	const char *line;
	size_t n;

	do {
		if (davit_client_line(services, &line, &n, NULL) <= 0)
			return false;
	} while (davit_client_line_ready(services));
	return true;
}

/* Sleeps until something has changed. False: nobody reads what is printed. */
static bool await_change(struct followed *f)
{
	struct pollfd p[FOLLOWED_MAX + 2] = {{.fd = STDOUT_FILENO}};
	size_t n = 1;

	p[n++] = (struct pollfd){.fd = f->services ? davit_client_fd(f->services) : -1, .events = POLLIN};
	for (size_t i = 0; i < f->n; i++)
		p[n++] = (struct pollfd){.fd = f->projects[i].client ? davit_client_fd(f->projects[i].client)
								     : -1,
					 .events = POLLIN};
	while (poll(p, n, f->services ? -1 : (int)(AWAY / DAVIT_NSEC_PER_MSEC)) < 0 && errno == EINTR)
		;
	if (p[0].revents & (POLLERR | POLLHUP))
		return false;
	pause_for(MOMENT);
	if (p[1].revents && !take_lines(f->services)) {
		davit_client_close(f->services);
		f->services = NULL;
	}
	for (size_t i = 0; i < f->n; i++)
		if (p[i + 2].revents)
			unfollow(f, i);
	return true;
}

/* The tree as it is now, as it is to be printed; and who tells when it is not. */
static int look(struct davit_cli *cli, struct followed *f, char **ret, struct davit_error *err)
{
	json_t *root = NULL;
	int r = 0;

	/* First of all, so that nothing is missed between the two. */
	if (!f->services)
		r = davit_api_stream(cli, "/v1/watch?namespace=%2A", &f->services, err);
	for (size_t i = 0; i < f->n; i++)
		f->projects[i].seen = false;
	if (r == 0)
		r = fetch(cli, f, &root, err);
	if (r == 0)
		r = cli->format == DAVIT_FORMAT_JSON ? line_of(root, ret, err) : text_of(cli, root, ret, err);
	json_decref(root);
	if (r == 0) {
		forget_gone(f);
		follow(cli, f);
	}
	return r;
}

/* Until the reader goes, or the user. */
static int watch(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *last = NULL;
	struct followed f = {0};

	do {
		DAVIT_AUTO_FREE char *text = NULL;
		int r = look(cli, &f, &text, err);
		if (r < 0 && !davit_api_is_away(r))
			return r;
		if (text && (!last || strcmp(last, text) != 0)) {
			if (cli->format == DAVIT_FORMAT_JSON)
				puts(text);
			else
				show(cli, text, !last);
			free(last);
			last = DAVIT_TAKE(text);
		}
		if (fflush(stdout) != 0 || ferror(stdout))
			break;
	} while (await_change(&f));
	return davit_error_set(err, DAVIT_EIO, NULL, "cannot write to standard output");
}

static int run_tree(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = NULL;
	json_t *root = NULL;
	int r;

	if (davit_cli_flag(cli, "watch") && cli->format == DAVIT_FORMAT_YAML)
		return davit_cli_usage(cli, err, "--watch prints a table, or JSON lines");
	if (davit_cli_flag(cli, "watch"))
		return watch(cli, err);
	r = fetch(cli, NULL, &root, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, root, err);
	else if (r == 0)
		r = text_of(cli, root, &text, err);
	if (text)
		fputs(text, stdout);
	json_decref(root);
	return r;
}

static const struct davit_option own[] = {
	{"watch", 'f', NULL, DAVIT_OPTION_FLAG, .doc = "Go on and show it anew when it has changed"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_data, NULL};
static const char *const examples[] = {"davit tree", "supervisors, services, instances, containers",
				       "davit tree -f", "live", NULL};

const struct davit_command davit_command_tree = {
	.name = "tree",
	.usage = "",
	.group = "Looking",
	.summary = "Show the supervision tree",
	.details = "The containers of a project stand beneath the instance that hosts them.",
	.options = options,
	.run = run_tree,
	.examples = examples,
};

/* SPDX-License-Identifier: MIT */
#include "actor/process_manage.h"

#include "actor/process.h"
#include "actor/remote.h"
#include "base/json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { COMMANDS_MAX = 1024, WORDS_MAX = 256 };

/* A definition for a program that a child has named; kept until the system is closed,
 * since containers borrow it. The same one for the same words. */
struct command {
	struct command *next;
	struct davit_definition definition;
	char *name;
	char **words;
};

static void command_free(struct command *k)
{
	for (size_t i = 0; k->words && k->words[i]; i++)
		free(k->words[i]);
	free(k->words);
	free(k->name);
	free(k);
}

void process_commands_fini(struct davit_system *s)
{
	struct command *k;

	while ((k = s->tree->commands)) {
		s->tree->commands = k->next;
		command_free(k);
	}
}

static bool same(const struct command *k, const char *name, const json_t *words)
{
	size_t n = json_array_size(words);

	if (strcmp(k->name, name))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!k->words[i] || strcmp(k->words[i], json_string_value(json_array_get(words, i))))
			return false;
	return !k->words[n];
}

static struct command *command_new(const char *name, const json_t *words)
{
	struct command *k = calloc(1, sizeof *k);
	size_t n = json_array_size(words);
	bool ok;

	if (!k)
		return NULL;
	ok = (k->name = strdup(name)) && (k->words = calloc(n + 1, sizeof *k->words));
	for (size_t i = 0; ok && i < n; i++)
		ok = (k->words[i] = strdup(json_string_value(json_array_get(words, i))));
	if (!ok) {
		command_free(k);
		return NULL;
	}
	k->definition = (struct davit_definition){
		.name = k->name, .type = DAVIT_PROCESS, .command = (const char *const *)k->words};
	return k;
}

/* NULL: they are not words, too many, or no memory. */
static const struct davit_definition *command_of(struct davit_system *s, const char *name,
						 const json_t *words)
{
	struct command *k;
	size_t n = json_array_size(words), known = 0;

	if (!n || n > WORDS_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!json_is_string(json_array_get(words, i)))
			return NULL;
	tree_lock(s);
	for (k = s->tree->commands; k && !same(k, name, words); k = k->next)
		known++;
	if (!k && known < COMMANDS_MAX && (k = command_new(name, words))) {
		k->next = s->tree->commands;
		s->tree->commands = k;
	}
	tree_unlock(s);
	return k ? &k->definition : NULL;
}

/* --- answers --- */

static void result(struct link *l, uint64_t id, int code, const struct davit_buf *json)
{
	if (json->oom || json->len > DAVIT_FRAME_MAX)
		link_control(l, DAVIT_FRAME_RESULT, id, DAVIT_ENOMEM, "{}", 2);
	else
		link_control(l, DAVIT_FRAME_RESULT, id, code, json->data, json->len);
}

static void result_text(struct link *l, uint64_t id, int code, const char *key, const char *text)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	davit_json_open(&j);
	davit_json_put_string(&j, key, text);
	davit_json_close(&j);
	result(l, id, code, &b);
}

static void no(struct link *l, uint64_t id, int code, const char *why)
{
	result_text(l, id, code, "message", why ? why : davit_error_doc(code));
}

struct asked {
	struct link *link;
	uint64_t id;
};

static void settled(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct asked *a = arg;

	if (o->state == DAVIT_PROMISE_FULFILLED)
		result_text(a->link, a->id, 0, "alias", o->data);
	else
		no(a->link, a->id, o->code, o->message);
	link_unref(a->link);
	free(a);
}

/* The promise's outcome is the answer. r: of the call that made it. */
static void answer_with(struct davit_context *c, struct link *l, uint64_t id, int r, struct davit_promise p)
{
	struct asked *a = r ? NULL : malloc(sizeof *a);

	if (a) {
		*a = (struct asked){link_ref(l), id};
		if (!davit_done(c, p, settled, a))
			return;
		link_unref(l);
		free(a);
		r = DAVIT_ENOMEM;
	} else if (!r) {
		davit_forget(c, p);
		r = DAVIT_ENOMEM;
	}
	no(l, id, r, NULL);
}

/* --- what is asked --- */

static const char *word(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static unsigned force(const json_t *j)
{
	const char *w = word(j, "force");

	return !w		    ? 0
	       : !strcmp(w, "soft") ? DAVIT_DESTROY_FORCE_SOFT
	       : !strcmp(w, "hard") ? DAVIT_DESTROY_FORCE_HARD
				    : DAVIT_DESTROY_FORCE;
}

static void do_create(struct davit_context *c, struct link *l, uint64_t id, const json_t *j)
{
	const json_t *command = json_object_get(j, "command");
	const char *parent = word(j, "parent"), *name = word(j, "name");
	struct davit_create what = {.alias = word(j, "alias"),
				    .name = name,
				    .args = word(j, "args"),
				    .parent = parent ? parent : l->alias,
				    .flags = force(j)};
	struct davit_promise p;
	int r;

	if (json_is_true(json_object_get(j, "start")))
		what.flags |= DAVIT_CREATE_START;
	if (json_is_array(command) && !(what.definition = command_of(c->system,
								     name		? name
								     : word(j, "alias") ? word(j, "alias")
											: "",
								     command))) {
		no(l, id, DAVIT_EINVAL, "that is no command");
		return;
	}
	if (parent && container_beneath(c->system, l->owner, parent, true)) {
		no(l, id, DAVIT_EPERM, "the parent does not stand beneath you");
		return;
	}
	r = davit_container_create(c, &what, &p);
	answer_with(c, l, id, r, p);
}

static void do_operate(struct davit_context *c, struct link *l, uint64_t id, const char *what,
		       const json_t *j)
{
	const char *address = word(j, "address"), *w;
	struct davit_promise p;
	int r = address ? container_beneath(c->system, l->owner, address, false) : DAVIT_EINVAL;

	if (r) {
		no(l, id, r, r == DAVIT_EPERM ? "it does not stand beneath you" : NULL);
		return;
	}
	if (!strcmp(what, "start")) {
		r = davit_container_start(c, address, &p);
	} else if (!strcmp(what, "stop")) {
		r = davit_container_stop(c, address, &p);
	} else if (!strcmp(what, "destroy")) {
		r = davit_container_destroy(c, address, force(j), &p);
	} else if (!strcmp(what, "fail")) {
		r = davit_container_fail(c, address, davit_error_from_word(word(j, "code")),
					 word(j, "message"), &p);
	} else {
		enum davit_solution s = DAVIT_SOLUTION_COUNT;
		w = word(j, "solution");
		for (int i = 0; w && i < DAVIT_SOLUTION_COUNT; i++)
			if (!strcmp(davit_solution_name((enum davit_solution)i), w))
				s = (enum davit_solution)i;
		w = word(j, "failure");
		r = davit_container_solve(c, address, w ? strtoull(w, NULL, 16) : 0, s, &p);
	}
	answer_with(c, l, id, r, p);
}

static void do_get(struct davit_context *c, struct link *l, uint64_t id, const char *address)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct davit_container_info i;
	char path[256], hash[20] = "";

	if (container_get_for(c, l->owner, address, &i, path, sizeof path)) {
		no(l, id, DAVIT_ENOENT, NULL);
		return;
	}
	if (i.failure)
		snprintf(hash, sizeof hash, "%016llx", (unsigned long long)i.failure);
	davit_json_open(&j);
	davit_json_put_string(&j, "alias", i.alias);
	davit_json_put_string(&j, "name", i.name);
	davit_json_put_string(&j, "path", path);
	davit_json_put_string(&j, "parent", i.parent);
	davit_json_put_string(&j, "type", i.type == DAVIT_PROCESS ? "process" : "thread");
	davit_json_put_string(&j, "state", davit_state_name(i.state));
	davit_json_put_string(&j, "failure", hash);
	davit_json_put_string(&j, "message", i.message);
	davit_json_put_int(&j, "restarts", i.restarts);
	davit_json_put_int(&j, "queued", i.queued);
	davit_json_put_int(&j, "children", (int64_t)i.n_children);
	davit_json_put_string(&j, "strategy", davit_strategy_name(i.strategy));
	davit_json_close(&j);
	result(l, id, 0, &b);
}

/* At most so many as fit into a frame; `total` says that there are more, `from` asks for them. */
static void do_children(struct davit_context *c, struct link *l, uint64_t id, const char *address,
			const json_t *asked)
{
	enum { TOGETHER = 512 };
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	json_int_t from = json_integer_value(json_object_get(asked, "from"));
	int there = davit_container_children(c, address, NULL, 0);
	size_t room = there > 0 ? (size_t)there : 1;
	char(*aliases)[64] = there < 0 ? NULL : calloc(room, sizeof *aliases);
	int n = there < 0 ? there
		: aliases ? davit_container_children(c, address, aliases, room)
			  : DAVIT_ENOMEM;

	if (n < 0) {
		free(aliases);
		no(l, id, n, NULL);
		return;
	}
	davit_json_open(&j);
	davit_json_key(&j, "children");
	davit_json_open_array(&j);
	for (size_t i = from > 0 ? (size_t)from : 0, k = 0; i < room && i < (size_t)n && k < TOGETHER;
	     i++, k++)
		davit_json_string(&j, aliases[i]);
	davit_json_close_array(&j);
	davit_json_put_int(&j, "total", n);
	davit_json_close(&j);
	result(l, id, 0, &b);
	free(aliases);
}

static void do_watch(struct davit_context *c, struct link *l, uint64_t id, const char *address)
{
	struct watched *w = calloc(1, sizeof *w);
	struct davit_message *m = davit_message_new(c, SIG_MONITOR, 0);
	struct davit_ref ref;
	int r = 0;

	if (!w || !m)
		r = DAVIT_ENOMEM;
	else if (container_alias(c->system, l->owner, address, &w->ref, w->alias) &&
		 (davit_find(davit_system_context(c->system), address, &ref) || /* its own parent may know */
		  container_alias(c->system, l->owner, address, &w->ref, w->alias)))
		r = DAVIT_ENOENT;
	if (r) {
		free(w);
		davit_message_free(c, m);
		no(l, id, r, NULL);
		return;
	}
	result_text(l, id, 0, "alias", w->alias);
	m->sender = l->owner;
	pthread_mutex_lock(&l->lock);
	w->next = l->watched;
	l->watched = w;
	pthread_mutex_unlock(&l->lock);
	send_signal(c, w->ref, m);
}

static void do_flush(struct davit_context *c, struct link *l, uint64_t id, const json_t *j)
{
	struct davit_promise p;
	int r = container_flush(c, l->alias, force(j), &p);

	answer_with(c, l, id, r, p);
}

int process_manage(struct davit_context *c, struct link *l, const struct davit_frame *f,
		   const unsigned char *body)
{
	json_t *j = json_loadb((const char *)body, f->size, 0, NULL);
	const char *what = json_is_object(j) ? word(j, "do") : NULL, *address;
	int r = 0;

	if (!what || !f->id) {
		json_decref(j);
		return DAVIT_EPROTO;
	}
	address = word(j, "address");
	if (!strcmp(what, "create"))
		do_create(c, l, f->id, j);
	else if (!strcmp(what, "start") || !strcmp(what, "stop") || !strcmp(what, "destroy") ||
		 !strcmp(what, "fail") || !strcmp(what, "solve"))
		do_operate(c, l, f->id, what, j);
	else if (!strcmp(what, "flush"))
		do_flush(c, l, f->id, j);
	else if (!strcmp(what, "get") && address)
		do_get(c, l, f->id, address);
	else if (!strcmp(what, "children") && address)
		do_children(c, l, f->id, address, j);
	else if (!strcmp(what, "watch") && address)
		do_watch(c, l, f->id, address);
	else
		no(l, f->id, DAVIT_EINVAL, "that is nothing that can be asked");
	json_decref(j);
	return r;
}

/* SPDX-License-Identifier: MIT
 *
 * A chat server: a container for each client and for each room.
 *
 *	Main
 *	├── clients
 *	│   ├── client-0       between one WebSocket and one room
 *	│   └── client-1
 *	└── rooms
 *	    ├── room-lobby     knows who is in it; passes on what they say
 *	    └── room-garden
 *
 * When a room fails it is restarted, and knows nobody: what it had in memory is not
 * trusted any more. It asks the clients, and those who were in it come in again; what
 * is said meanwhile is in its history, which who comes in is shown.
 */
#include "davit/container.h"
#include "socket.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 24, ROOM = 32, MEMBERS = 64, HISTORY = 20, TEXT = 4096 + 64, ROOMS = 100 };

enum {
	TYPED = 1, /* socket to client: a line */
	GONE,	   /* socket to client: the connection is closed */
	SHOW,	   /* room to client: a line */
	JOIN,	   /* client to room, a request: a name. Answered with nothing, or refused */
	REJOIN,	   /* the same, without a word to the others */
	SAY,	   /* client to room, a request: a line. It comes back if the room does not know the client */
	LEAVE,	   /* client to room */
	CRASH,	   /* client to room: fail */
	BACK,	   /* room to clients, and on to each: it has been restarted; its alias */
};

static struct socket_server *server;

/* ------------------------------------------------------------------ rooms */

struct room {
	struct member {
		struct davit_ref ref;
		char name[NAME];
	} members[MEMBERS];
	size_t n;
	char history[HISTORY][TEXT];
	size_t said;
};

static struct member *member(struct room *r, struct davit_ref who)
{
	for (size_t i = 0; i < r->n; i++)
		if (davit_ref_equal(r->members[i].ref, who))
			return &r->members[i];
	return NULL;
}

static void tell_all(struct davit_context *c, const char *text)
{
	struct room *r = davit_data(c);

	snprintf(r->history[r->said++ % HISTORY], TEXT, "%s", text);
	for (size_t i = 0; i < r->n; i++)
		davit_tell(c, r->members[i].ref, SHOW, text, strlen(text) + 1);
}

static int join(struct davit_context *c, struct davit_message *m)
{
	struct room *r = davit_data(c);
	const char *name = (const char *)m->data;
	char text[TEXT];
	int e;

	if (member(r, m->sender))
		return davit_reply(c, m, "", 0);
	for (size_t i = 0; i < r->n; i++)
		if (!strcmp(r->members[i].name, name))
			return davit_refuse(c, m, DAVIT_EEXIST, "there is a %s in here", name);
	if (r->n == MEMBERS)
		return davit_refuse(c, m, DAVIT_EQUOTA, "the room is full");
	if ((e = davit_monitor(c, m->sender)))
		return e;
	for (size_t i = r->said > HISTORY ? r->said - HISTORY : 0; i < r->said; i++)
		davit_tell(c, m->sender, SHOW, r->history[i % HISTORY], strlen(r->history[i % HISTORY]) + 1);
	r->members[r->n].ref = m->sender;
	snprintf(r->members[r->n++].name, NAME, "%s", name);
	if (m->type == JOIN) {
		snprintf(text, sizeof text, "* %s is here", name);
		tell_all(c, text);
	}
	return davit_reply(c, m, "", 0);
}

static void leave(struct davit_context *c, struct davit_ref who)
{
	struct room *r = davit_data(c);
	struct member *k = member(r, who);
	char text[TEXT];

	if (!k) /* it came before a failure */
		return;
	snprintf(text, sizeof text, "* %s has gone", k->name);
	*k = r->members[--r->n];
	davit_demonitor(c, who);
	tell_all(c, text);
}

static int say(struct davit_context *c, struct davit_message *m)
{
	struct member *k = member(davit_data(c), m->sender);
	char text[TEXT];

	if (!k) /* this room has been restarted: come in first, then say it again */
		return davit_reply(c, m, m->data, m->size);
	snprintf(text, sizeof text, "%s: %s", k->name, (const char *)m->data);
	tell_all(c, text);
	return davit_reply(c, m, "", 0);
}

static int room_behave(struct davit_context *c, struct davit_message *m)
{
	switch (m->type) {
	case JOIN:
	case REJOIN:
		return join(c, m);
	case SAY:
		return say(c, m);
	case LEAVE:
		leave(c, m->sender);
		return 0;
	case CRASH:
		return davit_fail(c, DAVIT_EIO, "somebody asked for it");
	case DAVIT_TYPE_DOWN:
		leave(c, ((const struct davit_down *)m->data)->ref);
		return 0;
	default:
		return 0;
	}
}

static int room_construct(struct davit_context *c)
{
	const char *alias = davit_alias(c);
	struct davit_message *back = davit_message_new(c, BACK, strlen(alias) + 1);
	struct room *r = davit_alloc(c, sizeof *r);

	if (!r || !back) {
		davit_message_free(c, back);
		return DAVIT_ENOMEM;
	}
	davit_set_data(c, r);
	tell_all(c, "* the room is open");
	memcpy(back->data, alias, strlen(alias) + 1);
	davit_send_to(c, "clients", &back, DAVIT_BUFFER_NONE);
	return 0;
}

static const struct davit_definition room = {
	.name = "Room", .construct = room_construct, .behaviour = room_behave};

/* ---------------------------------------------------------------- clients */

struct client {
	unsigned connection;
	char name[NAME];
	char room[ROOM];      /* its alias */
	uintptr_t moves;      /* from room to room: tells late answers from those that are waited for */
	struct davit_ref ref; /* nobody, until it is there */
};

static void show(struct davit_context *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void show(struct davit_context *c, const char *fmt, ...)
{
	const struct client *k = davit_data(c);
	char text[TEXT];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	socket_send(server, k->connection, text, n < TEXT ? (size_t)n : TEXT - 1);
}

static void on_joined(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct client *k = davit_data(c);

	if (o->state == DAVIT_PROMISE_FULFILLED || (uintptr_t)arg != k->moves)
		return;
	show(c, "! %s", o->message);
	k->ref = (struct davit_ref){0, 0};
}

static int enter(struct davit_context *c, uint32_t type)
{
	struct client *k = davit_data(c);
	struct davit_promise joined;
	int r = davit_ask(c, k->ref, type, k->name, strlen(k->name) + 1, NULL, &joined);

	return r ? r : davit_done(c, joined, on_joined, (void *)k->moves);
}

static void on_room(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct client *k = davit_data(c);

	if ((uintptr_t)arg != k->moves)
		return;
	if (o->state != DAVIT_PROMISE_FULFILLED)
		show(c, "! %s", o->message);
	else if (davit_find(c, k->room, &k->ref) || enter(c, JOIN))
		show(c, "! the room does not answer");
}

/* Into the room of k->room, which is made if there is none of that name. */
static int go(struct davit_context *c)
{
	struct davit_create what = {.definition = &room, .parent = "rooms", .flags = DAVIT_CREATE_START};
	struct client *k = davit_data(c);
	struct davit_promise p;
	int r;

	if (k->ref.generation)
		davit_tell(c, k->ref, LEAVE, NULL, 0);
	k->ref = (struct davit_ref){0, 0};
	k->moves++;
	what.alias = k->room;
	if (!davit_exists(c, k->room) && davit_container_children(c, "rooms", NULL, 0) >= ROOMS) {
		show(c, "! there are %d rooms already", ROOMS);
		return 0;
	}
	r = davit_container_create(c, &what, &p);
	return r ? r : davit_done(c, p, on_room, (void *)k->moves);
}

static int say_it(struct davit_context *c, const char *text, size_t size);

static void on_said(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	const struct client *k = davit_data(c);

	if (o->state != DAVIT_PROMISE_FULFILLED)
		show(c, "! not said: %s", o->message);
	else if (!o->size)
		return;
	else if ((uintptr_t)arg != k->moves || enter(c, REJOIN) || say_it(c, o->data, o->size))
		show(c, "! not said: the room has forgotten you");
}

static int say_it(struct davit_context *c, const char *text, size_t size)
{
	const struct client *k = davit_data(c);
	struct davit_promise said;
	int r = davit_ask(c, k->ref, SAY, text, size, NULL, &said);

	return r ? r : davit_done(c, said, on_said, (void *)k->moves);
}

static bool good_name(const char *name, size_t max)
{
	return *name && strlen(name) < max && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

static int typed(struct davit_context *c, const char *text, size_t size)
{
	struct client *k = davit_data(c);

	if (!strncmp(text, "/name ", 6) && good_name(text + 6, NAME)) {
		snprintf(k->name, NAME, "%s", text + 6);
		return go(c);
	}
	if (!strncmp(text, "/room ", 6) && good_name(text + 6, ROOM - strlen("room-"))) {
		snprintf(k->room, ROOM, "room-%s", text + 6);
		return go(c);
	}
	if (*text == '/' && strcmp(text, "/crash")) {
		show(c, "! /name NAME, /room NAME (of a-z, 0-9 and -) or /crash");
	} else if (!k->ref.generation) {
		show(c, "! you are in no room, or not yet");
	} else if (*text == '/') {
		davit_tell(c, k->ref, CRASH, NULL, 0);
	} else {
		return say_it(c, text, size);
	}
	return 0;
}

static int client_behave(struct davit_context *c, struct davit_message *m)
{
	const struct client *k = davit_data(c);

	switch (m->type) {
	case TYPED:
		return typed(c, (const char *)m->data, m->size);
	case SHOW:
		if (davit_ref_equal(m->sender, k->ref)) /* no line of a room that it has left */
			show(c, "%s", (const char *)m->data);
		return 0;
	case BACK:
		return k->ref.generation && !strcmp((const char *)m->data, k->room) ? enter(c, REJOIN) : 0;
	case GONE:
		return davit_container_destroy(c, davit_alias(c), DAVIT_DESTROY_FORCE, NULL);
	default:
		return 0;
	}
}

static int client_construct(struct davit_context *c)
{
	struct client *k = davit_alloc(c, sizeof *k);

	if (!k)
		return DAVIT_ENOMEM;
	davit_set_data(c, k);
	k->connection = (unsigned)strtoul(davit_args(c), NULL, 10);
	snprintf(k->name, NAME, "guest-%u", k->connection);
	snprintf(k->room, ROOM, "room-lobby");
	return go(c);
}

static const struct davit_definition client = {.name = "Client",
					       .construct = client_construct,
					       .behaviour = client_behave,
					       .options = {.limit = 1000}};

/* ------------------------------------------------------------- their parents */

/* What a restarted room says goes to all children of this one. */
static int pass_on(struct davit_context *c, struct davit_message *m)
{
	davit_broadcast(c, m->type, m->data, m->size);
	return 0;
}

static const struct davit_definition group = {
	.name = "Group", .behaviour = pass_on, .options = {.max_restarts = -1}};

/* ---------------------------------------------------------------- sockets */

static bool to_client(struct davit_context *c, unsigned connection, uint32_t type, const char *text, size_t n)
{
	struct davit_message *m = davit_message_new(c, type, n + 1);
	char alias[32];
	int r;

	if (!m)
		return false;
	memcpy(m->data, text, n + 1);
	snprintf(alias, sizeof alias, "client-%u", connection);
	r = davit_send_to(c, alias, &m, DAVIT_BUFFER_AWAY); /* it may be about to be created */
	davit_message_free(c, m);
	return !r;
}

static void on_opened(void *arg, unsigned connection)
{
	struct davit_create what = {.definition = &client, .parent = "clients", .flags = DAVIT_CREATE_START};
	char alias[32], number[16];

	snprintf(alias, sizeof alias, "client-%u", connection);
	snprintf(number, sizeof number, "%u", connection);
	what.alias = alias;
	what.args = number;
	davit_container_create(arg, &what, NULL);
}

static bool on_line(void *arg, unsigned connection, const char *text, size_t n)
{
	return to_client(arg, connection, TYPED, text, n);
}

static void on_closed(void *arg, unsigned connection)
{
	char alias[32];

	if (to_client(arg, connection, GONE, "", 0))
		return;
	snprintf(alias, sizeof alias, "client-%u", connection); /* its mailbox is full */
	davit_container_destroy(arg, alias, DAVIT_DESTROY_FORCE, NULL);
}

/* ------------------------------------------------------------------- main */

static int serve(struct davit_context *c, int port, const char *page, const sigset_t *until)
{
	static const struct socket_events events = {on_opened, on_line, on_closed};
	static const struct davit_create groups[] = {
		{.alias = "clients", .definition = &group, .flags = DAVIT_CREATE_START},
		{.alias = "rooms", .definition = &group, .flags = DAVIT_CREATE_START},
	};
	struct davit_promise p;
	int sig;

	if (davit_containers_create(c, groups, 2, &p) || davit_await(c, p, -1, NULL, NULL))
		return 1;
	if (socket_open(port, page, &events, c, &server, &port) || socket_start(server)) {
		fprintf(stderr, "cannot serve on port %d\n", port);
		return 1;
	}
	printf("http://127.0.0.1:%d/\n", port);
	fflush(stdout);
	sigwait(until, &sig);
	socket_stop(server);
	return 0;
}

int main(int argc, char **argv)
{
	struct davit_system *system;
	sigset_t until;
	int r;

	sigemptyset(&until);
	sigaddset(&until, SIGINT);
	sigaddset(&until, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &until, NULL);
	if (davit_system_open(NULL, &system, NULL))
		return 1;
	r = serve(davit_system_context(system), argc > 1 ? atoi(argv[1]) : 7681,
		  argc > 2 ? argv[2] : CHAT_PAGE, &until);
	davit_system_close(system);
	if (server)
		socket_free(server);
	return r;
}

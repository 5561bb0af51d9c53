/* SPDX-License-Identifier: MIT
 *
 * A container in a program that knows nothing but the protocol (docs/channel.md): this
 * one, executed again, with a socket only. It does what it should, and what it should
 * not.
 */
#include "actor/test_processes.h"
#include "channel/socket.h"

#include <errno.h>
#include <poll.h>

/* --- the peer --- */

static struct davit_socket socket_;
static uint64_t done;

static void send_frame(unsigned kind, uint64_t id, uint32_t type, const char *to, const void *data, size_t n)
{
	struct davit_frame f = {.kind = (uint8_t)kind,
				.id = id,
				.type = type,
				.to = (uint8_t)strlen(to),
				.size = (uint32_t)(strlen(to) + n)};

	davit_socket_send(&socket_, &f, NULL, to, data, false);
	while (davit_socket_queued(&socket_)) {
		struct pollfd p = {.fd = socket_.fd, .events = POLLOUT};
		poll(&p, 1, -1);
		davit_socket_flush(&socket_);
	}
}

static void say(unsigned kind, uint64_t id, uint32_t type, const char *text)
{
	send_frame(kind, id, type, "", text, strlen(text));
}

static bool is_impatient; /* the others bear a machine that does much else */

static void operate(const struct davit_frame *f, const char *json)
{
	if (strstr(json, "\"create\"") && is_impatient)
		say(DAVIT_FRAME_STATE, f->id, 0,
		    "{\"state\":\"created\",\"options\":{\"limit\":77,\"keepalive\":2000}}");
	else if (strstr(json, "\"create\""))
		say(DAVIT_FRAME_STATE, f->id, 0,
		    "{\"state\":\"created\",\"options\":{\"limit\":77,\"keepalive\":30000}}");
	else if (strstr(json, "\"stop\""))
		say(DAVIT_FRAME_STATE, f->id, 0, "{\"state\":\"stopped\"}");
	else if (strstr(json, "\"fail\""))
		say(DAVIT_FRAME_STATE, f->id, 0, "{\"state\":\"failed\",\"message\":\"as told\"}");
	else if (strstr(json, "\"destroy\""))
		say(DAVIT_FRAME_STATE, f->id, 0, "{\"state\":\"destroyed\"}");
	else
		say(DAVIT_FRAME_STATE, f->id, 0, "{\"state\":\"started\"}");
	if (strstr(json, "\"destroy\""))
		exit(0);
}

/* What a peer must not do, by the word that it was sent. */
static void misbehave(const char *word, uint64_t id)
{
	static unsigned char flood[1 << 19];
	unsigned char junk[64];

	memset(junk, 0xee, sizeof junk);
	if (!strcmp(word, "junk"))
		(void)!write(socket_.fd, junk, sizeof junk);
	else if (!strcmp(word, "flood")) /* more than is read at once */
		(void)!write(socket_.fd, memset(flood, 0xee, sizeof flood), sizeof flood);
	else if (!strcmp(word, "orphan") && fork())
		exit(0);
	else if (!strcmp(word, "orphan")) /* lives as long as the channel */
		while (read(socket_.fd, junk, sizeof junk) > 0)
			;
	else if (!strcmp(word, "orphans") && fork())
		exit(0);
	else if (!strcmp(word, "orphans"))
		while (!socket_.broken)
			say(DAVIT_FRAME_PONG, 1, 0, "");
	else if (!strcmp(word, "hello"))
		say(DAVIT_FRAME_HELLO, 0, 0, "{}");
	else if (!strcmp(word, "state"))
		say(DAVIT_FRAME_STATE, 0, 0, "{\"state\":\"happy\"}");
	else if (!strcmp(word, "alias")) /* it would go to terminals */
		say(DAVIT_FRAME_ANNOUNCE, 0, 0,
		    "{\"alias\":\"\\u001b[2J\",\"name\":\"N\",\"state\":\"started\"}");
	else if (!strcmp(word, "json"))
		say(DAVIT_FRAME_MANAGE, 1, 0, "{\"do\":");
	else if (!strcmp(word, "type"))
		say(DAVIT_FRAME_MESSAGE, 0, 0xffffff02u, "12345678123456781234567812345678");
	else if (!strcmp(word, "command"))
		say(DAVIT_FRAME_MESSAGE, 0, 0xffffff01u, "no end");
	else if (!strcmp(word, "acks"))
		say(DAVIT_FRAME_ACK, UINT64_MAX, 0, "");
	else if (!strcmp(word, "parts"))
		for (int i = 0; i < 2; i++)
			davit_socket_send(
				&socket_,
				&(struct davit_frame){.kind = i ? DAVIT_FRAME_REPLY : DAVIT_FRAME_MESSAGE,
						      .flags = DAVIT_FRAME_MORE,
						      .id = id},
				NULL, NULL, NULL, false);
	else if (!strcmp(word, "silence"))
		pause();
	else if (!strcmp(word, "close"))
		close(socket_.fd), pause();
	else if (!strcmp(word, "die"))
		raise(SIGKILL);
}

static void message(const struct davit_frame *f, const char *text)
{
	char reply[128];

	say(DAVIT_FRAME_ACK, done, 1, "");
	if (!strncmp(text, "to ", 3))
		send_frame(DAVIT_FRAME_REQUEST, 99, 1, text + 3, "from a peer", 12);
	else if (!strcmp(text, "forge")) /* answers to what it was not asked */
		for (uint64_t slot = 0; slot < 64; slot++)
			for (uint64_t generation = 1; generation < 8; generation++)
				say(DAVIT_FRAME_REPLY, slot << 32 | generation, 0, "forged");
	else if (!strncmp(text, "manage ", 7))
		say(DAVIT_FRAME_MANAGE, 5, 0, text + 7);
	else
		misbehave(text, f->id);
	snprintf(reply, sizeof reply, "peer: %s", text);
	if (f->kind == DAVIT_FRAME_REQUEST)
		say(DAVIT_FRAME_REPLY, f->id, 0, reply);
	say(DAVIT_FRAME_ACK, ++done, 0, "");
}

static char last_answer[512];

static void frame(const struct davit_frame *f, const unsigned char *body)
{
	char text[65537];

	memcpy(text, body, f->size);
	text[f->size] = 0;
	switch (f->kind) {
	case DAVIT_FRAME_HELLO:
		is_impatient = strstr(text, "impatient") != NULL;
		say(DAVIT_FRAME_WELCOME, 0, 0, "{\"protocol\":1,\"unknown\":[]}");
		break;
	case DAVIT_FRAME_OPERATE:
		operate(f, text);
		break;
	case DAVIT_FRAME_PING:
		say(DAVIT_FRAME_PONG, f->id, 0, "");
		break;
	case DAVIT_FRAME_REPLY:
	case DAVIT_FRAME_REFUSE:
	case DAVIT_FRAME_RESULT:
		snprintf(last_answer, sizeof last_answer, "%.500s", text);
		break;
	case DAVIT_FRAME_MESSAGE:
	case DAVIT_FRAME_REQUEST:
		if (!strcmp(text + f->from, "answer?"))
			snprintf(text + f->from, 512, "%s", last_answer);
		message(f, text + f->from);
		break;
	}
}

static int peer(void)
{
	const unsigned char *body;
	struct davit_frame f;

	davit_socket_init(&socket_, atoi(getenv("DAVIT_CHANNEL")));
	for (;;) {
		struct pollfd p = {.fd = socket_.fd, .events = POLLIN};
		poll(&p, 1, -1);
		if (davit_socket_receive(&socket_) <= 0 && socket_.ended)
			return 0;
		while (davit_socket_next(&socket_, DAVIT_END_CHILD, &f, &body) > 0)
			frame(&f, body);
	}
}

/* --- its parent --- */

static const char *const argv_[] = {"/proc/self/exe", "--peer", NULL};
static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
static const struct davit_remedy stay[] = {{0, nothing, 1}, {0}};
static const struct davit_definition definition = {.name = "Peer", .type = DAVIT_PROCESS, .command = argv_};
static const struct davit_definition staying = {
	.name = "Peer", .type = DAVIT_PROCESS, .command = argv_, .remedies = stay};
static const struct davit_definition other = {.name = "Other", .behaviour = answer};

static void a_program_that_speaks_the_protocol_is_a_container(void **unused)
{
	struct davit_promise p;

	start_with(NULL, "A", &definition, NULL);
	assert_string_equal(ask("A", "hi"), "peer: hi");
	davit_container_stop(c, "A", &p);
	assert_int_equal(finish(p), 0);
	davit_container_start(c, "A", &p);
	assert_int_equal(finish(p), 0);
	davit_container_fail(c, "A", DAVIT_EIO, "by the test", &p);
	assert_int_equal(finish(p), 0);
	assert_string_equal(ask("A", "hi again"), "peer: hi again");
	assert_string_equal(ask("A", "die"), "!the request was not handled: its handler failed");
	assert_string_equal(ask("A", "and again"), "peer: and again");
	davit_container_destroy(c, "A", DAVIT_DESTROY_FORCE_SOFT, &p);
	assert_int_equal(finish(p), 0);
	assert_false(davit_exists(c, "A"));
	balanced();
}

static const char *later(const char *want)
{
	const char *got = "";

	for (int i = 0; i < 30000 && !strstr(got = ask("A", "answer?"), want); i++)
		nap();
	return got;
}

static void it_asks_others_and_the_manager_of_its_parent(void **unused)
{
	start_with(NULL, "A", &definition, NULL);
	start_with(NULL, "B", &other, NULL);
	ask("A", "to B");
	assert_string_equal(later("B:"), "peer: B: from a peer");
	ask("A", "to Nobody");
	assert_string_equal(later("nobody"), "peer: nobody is there");
	ask("A", "manage {\"do\":\"get\",\"address\":\"B\"}");
	assert_non_null(strstr(later("Other"), "\"path\":\"Main/B\""));
	ask("A", "manage {\"do\":\"stop\",\"address\":\"B\"}");
	assert_non_null(strstr(later("beneath"), "it does not stand beneath you"));
	ask("A", "manage "
		 "{\"do\":\"create\",\"alias\":\"A1\",\"start\":true,\"command\":[\"/proc/self/"
		 "exe\",\"--peer\"]}");
	assert_non_null(strstr(later("alias"), "{\"alias\":\"A1\"}"));
	assert_string_equal(ask("Main/A/A1", "hi"), "peer: hi");
	ask("A", "manage {\"do\":\"destroy\",\"address\":\"A1\",\"force\":\"both\"}");
	for (int i = 0; i < 30000 && davit_exists(c, "A1"); i++)
		nap();
	assert_false(davit_exists(c, "A1"));
}

static void what_a_peer_does_wrong_harms_only_itself(void **unused)
{
	static const char *const words[] = {"junk",    "flood", "hello", "state", "json", "type",
					    "command", "acks",	"parts", "alias", "close"};
	struct davit_container_info i;
	struct davit_promise p;

	start_with(NULL, "A", &staying, NULL);
	start_with(NULL, "B", &other, NULL);
	for (size_t n = 0; n < sizeof words / sizeof *words; n++) {
		davit_tell(c, find("A"), 1, words[n], strlen(words[n]) + 1);
		become("A", DAVIT_STATE_FAILED);
		davit_container_get(c, "A", &i);
		assert_int_equal(i.code, DAVIT_EPROTO);
		davit_container_start(c, "A", &p);
		assert_int_equal(finish(p), 0);
		assert_string_equal(ask("A", "hi"), "peer: hi");
	}
	assert_string_equal(ask("B", "hi"), "B: hi");
	balanced();
}

static void its_end_is_noticed_though_another_process_holds_its_channel(void **unused)
{
	static const char *const words[] = {"orphan", "orphans"};
	struct davit_container_info i;
	struct davit_promise p;

	start_with(NULL, "A", &staying, NULL);
	start_with(NULL, "B", &other, NULL);
	for (size_t n = 0; n < sizeof words / sizeof *words; n++) {
		davit_tell(c, find("A"), 1, words[n], strlen(words[n]) + 1);
		become("A", DAVIT_STATE_FAILED);
		davit_container_get(c, "A", &i);
		assert_int_equal(i.code, DAVIT_ECLOSED);
		assert_string_equal(i.message, "it exited with 0");
		assert_string_equal(ask("B", "hi"), "B: hi");
		davit_container_start(c, "A", &p);
		assert_int_equal(finish(p), 0);
	}
	assert_string_equal(ask("A", "hi"), "peer: hi");
}

static void nobody_can_answer_for_others(void **unused)
{
	struct davit_promise p;

	start_with(NULL, "A", &definition, NULL);
	assert_int_equal(davit_promise_new(c, &p), 0);
	ask("A", "forge");
	assert_int_equal(davit_promise_state(c, p), DAVIT_PROMISE_PENDING);
	davit_fulfil(c, p, "", 0);
	davit_forget(c, p);
}

static void its_own_options_count(void **unused)
{
	struct davit_container_info i;

	start_with(NULL, "A", &staying, "impatient");
	davit_tell(c, find("A"), 1, "silence", 8);
	become("A", DAVIT_STATE_FAILED); /* after the two seconds that it named */
	davit_container_get(c, "A", &i);
	assert_int_equal(i.code, DAVIT_ETIMEDOUT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_program_that_speaks_the_protocol_is_a_container),
		T(it_asks_others_and_the_manager_of_its_parent),
		T(what_a_peer_does_wrong_harms_only_itself),
		T(its_end_is_noticed_though_another_process_holds_its_channel),
		T(nobody_can_answer_for_others),
		T(its_own_options_count),
	};

	if (argc > 1 && !strcmp(argv[1], "--peer"))
		return peer();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

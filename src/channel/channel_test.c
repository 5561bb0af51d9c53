/* SPDX-License-Identifier: MIT
 *
 * Frames, rings and sockets, both ends in one process.
 */
#include "channel/ring.h"
#include "channel/socket.h"
#include "davit/actor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

/* --- frames --- */

static void a_header_is_24_bytes_of_little_endian_numbers(void **unused)
{
	static const unsigned char want[DAVIT_FRAME_HEADER] = {5, 0, 0, 0, 9, 2, 1, 3, 8, 7, 6, 5,
							       4, 3, 2, 1, 4, 3, 2, 1, 9, 0, 0, 0};
	const struct davit_frame f = {.size = 5,
				      .kind = DAVIT_FRAME_REQUEST,
				      .flags = DAVIT_FRAME_FAILED,
				      .from = 1,
				      .to = 3,
				      .id = UINT64_C(0x0102030405060708),
				      .type = 0x01020304,
				      .time = 9};
	unsigned char bytes[DAVIT_FRAME_HEADER];
	struct davit_frame g;

	davit_frame_put(bytes, &f);
	assert_memory_equal(bytes, want, sizeof want);
	davit_frame_get(bytes, &g);
	assert_memory_equal(&f, &g, sizeof f);
}

static void an_end_is_sent_only_what_is_for_it(void **unused)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_HELLO};

	assert_int_equal(davit_frame_check(&f, DAVIT_END_CHILD), 0);
	assert_int_equal(davit_frame_check(&f, DAVIT_END_PARENT), DAVIT_EPROTO);
	f.kind = DAVIT_FRAME_STATE;
	assert_int_equal(davit_frame_check(&f, DAVIT_END_CHILD), DAVIT_EPROTO);
	f.kind = 0;
	assert_int_equal(davit_frame_check(&f, DAVIT_END_CHILD), DAVIT_EPROTO);
	f.kind = DAVIT_FRAME_KINDS;
	assert_int_equal(davit_frame_check(&f, DAVIT_END_CHILD), DAVIT_EPROTO);
	for (unsigned kind = 1; kind < DAVIT_FRAME_KINDS; kind++)
		assert_string_not_equal(davit_frame_name(kind), "?");
}

static void lengths_that_do_not_fit_each_other_are_refused(void **unused)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_MESSAGE, .size = 10, .from = 6, .to = 4};

	assert_int_equal(davit_frame_check(&f, DAVIT_END_PARENT), 0);
	f.to = 5;
	assert_int_equal(davit_frame_check(&f, DAVIT_END_PARENT), DAVIT_EPROTO);
	f = (struct davit_frame){.kind = DAVIT_FRAME_MESSAGE, .size = DAVIT_FRAME_MAX + 1};
	assert_int_equal(davit_frame_check(&f, DAVIT_END_PARENT), DAVIT_EPROTO);
	f = (struct davit_frame){.kind = DAVIT_FRAME_STATE, .flags = DAVIT_FRAME_MORE};
	assert_int_equal(davit_frame_check(&f, DAVIT_END_PARENT), DAVIT_EPROTO);
}

static void types_of_the_system_cannot_be_sent_but_commands_can(void **unused)
{
	assert_true(davit_frame_type_ok(DAVIT_TYPE_SYSTEM - 1, "", 0));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_DOWN, "", 0));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_CALL, "a\0b", 4));
	assert_true(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "name\0", 6));
	assert_true(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "name\0parameters", 16));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "name", 4));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "name", 5));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "name\0parameters", 15));
	assert_false(davit_frame_type_ok(DAVIT_TYPE_COMMAND, "\0x", 3));
}

/* --- rings --- */

enum { SLOTS = 1024 };

struct pair {
	struct davit_ring parent, child;
	int fds[2];
};

static int open_pair(void **state)
{
	static struct pair p;

	*state = &p;
	return davit_ring_create(&p.parent, SLOTS, p.fds) || davit_ring_attach(&p.child, SLOTS, p.fds);
}

static int close_pair(void **state)
{
	struct pair *p = *state;

	davit_ring_close(&p->parent);
	davit_ring_close(&p->child);
	close(p->fds[0]);
	close(p->fds[1]);
	return 0;
}

/* A message of n bytes, all `fill`. False: no room. */
static bool put(struct davit_ring *r, unsigned char fill, uint32_t n)
{
	static unsigned char data[DAVIT_RING_FRAME_MAX];
	struct davit_frame f = {.kind = DAVIT_FRAME_MESSAGE, .size = n + 3, .from = 1, .to = 2};
	bool room;

	memset(data, fill, n);
	assert_int_equal(davit_ring_room(r, f.size, &room), 0);
	if (room)
		davit_ring_write(r, &f, "F", "TO", data);
	return room;
}

/* The next one is that, of n bytes. */
static void take(struct davit_ring *r, enum davit_channel_end end, unsigned char fill, uint32_t n)
{
	static unsigned char data[DAVIT_FRAME_MAX];
	struct davit_frame f = {0};

	assert_int_equal(davit_ring_peek(r, &f), 1);
	assert_int_equal(f.size, n + 3);
	davit_ring_copy(r, 0, data, f.size);
	assert_memory_equal(data, "FTO", 3);
	for (uint32_t i = 3; i < f.size; i++)
		assert_int_equal(data[i], fill);
	davit_ring_next(r, &f);
}

static void frames_of_any_size_come_out_as_they_went_in_round_after_round(void **state)
{
	static const uint32_t sizes[] = {0, 1, 36, 37, 38, 500, 4096, DAVIT_RING_FRAME_MAX - 3};
	struct pair *p = *state;

	for (unsigned n = 0; n < 3000; n++) {
		uint32_t size = sizes[n % DAVIT_ARRAY_SIZE(sizes)];
		assert_true(put(&p->parent, (unsigned char)n, size));
		assert_true(put(&p->child, (unsigned char)~n, size));
		davit_ring_publish(&p->parent);
		davit_ring_publish(&p->child);
		take(&p->child, DAVIT_END_CHILD, (unsigned char)n, size);
		take(&p->parent, DAVIT_END_PARENT, (unsigned char)~n, size);
		davit_ring_release(&p->parent);
		davit_ring_release(&p->child);
	}
}

static void what_is_not_published_is_not_there(void **state)
{
	struct pair *p = *state;
	struct davit_frame f;

	put(&p->child, 1, 10);
	assert_false(davit_ring_any(&p->parent));
	assert_int_equal(davit_ring_peek(&p->parent, &f), 0);
	davit_ring_publish(&p->child);
	take(&p->parent, DAVIT_END_PARENT, 1, 10);
}

static void a_full_ring_has_room_when_it_was_read_and_released(void **state)
{
	struct pair *p = *state;
	int n = 0;

	while (put(&p->parent, 7, 30))
		n++;
	assert_int_equal(n, SLOTS);
	davit_ring_publish(&p->parent);
	take(&p->child, DAVIT_END_CHILD, 7, 30);
	assert_false(put(&p->parent, 7, 30));
	assert_false(davit_ring_waited_for(&p->child));
	davit_ring_wait(&p->parent);
	davit_ring_release(&p->child);
	assert_true(davit_ring_waited_for(&p->child));
	assert_false(davit_ring_waited_for(&p->child)); /* once */
	assert_true(put(&p->parent, 7, 30));
}

static void who_sleeps_is_rung_for_once(void **state)
{
	struct pair *p = *state;

	assert_true(davit_ring_sleep(&p->parent));
	put(&p->child, 1, 1);
	assert_true(davit_ring_publish(&p->child));
	put(&p->child, 2, 1);
	assert_false(davit_ring_publish(&p->child));
	davit_ring_wake(&p->parent);
	assert_false(davit_ring_sleep(&p->parent)); /* there is something */
	take(&p->parent, DAVIT_END_PARENT, 1, 1);
	take(&p->parent, DAVIT_END_PARENT, 2, 1);
	assert_true(davit_ring_sleep(&p->parent));
	put(&p->child, 3, 1);
	assert_true(davit_ring_publish(&p->child));
}

static void indexes_that_make_no_sense_are_found_out(void **state)
{
	struct pair *p = *state;
	struct davit_frame f;
	bool room;

	p->child.mine->tail = SLOTS + 1;
	assert_int_equal(davit_ring_peek(&p->parent, &f), DAVIT_EPROTO);
	p->child.mine->tail = UINT64_MAX;
	assert_int_equal(davit_ring_peek(&p->parent, &f), DAVIT_EPROTO);
	while (put(&p->parent, 7, 30))
		;
	p->child.mine->head = SLOTS + 1; /* more than was written */
	assert_int_equal(davit_ring_room(&p->parent, 30, &room), DAVIT_EPROTO);
	p->child.mine->head = 5;
	assert_int_equal(davit_ring_room(&p->parent, 30, &room), 0);
	while (put(&p->parent, 7, 30))
		;
	p->child.mine->head = 4; /* back */
	assert_int_equal(davit_ring_room(&p->parent, 30, &room), DAVIT_EPROTO);
}

static void a_frame_longer_than_what_was_published_is_found_out(void **state)
{
	const struct davit_frame f = {.kind = DAVIT_FRAME_MESSAGE, .size = 5000};
	struct pair *p = *state;
	struct davit_frame g;

	davit_frame_put((unsigned char *)p->child.mine + 4096, &f);
	p->child.mine->tail = 3;
	assert_int_equal(davit_ring_peek(&p->parent, &g), DAVIT_EPROTO);
}

static void the_child_cannot_write_what_the_parent_has_written(void **state)
{
	struct pair *p = *state;
	size_t size = 4096 + (size_t)SLOTS * DAVIT_RING_SLOT;

	assert_ptr_equal(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fds[0], 0), MAP_FAILED);
	assert_int_equal(ftruncate(p->fds[0], 0), -1);
	assert_int_equal(ftruncate(p->fds[1], 0), -1);
}

/* --- sockets --- */

static void urgent_frames_overtake_others_but_not_within_one(void **unused)
{
	static unsigned char data[DAVIT_FRAME_MAX];
	struct davit_frame f = {.kind = DAVIT_FRAME_MESSAGE, .size = sizeof data}, g;
	struct davit_socket a, b;
	const unsigned char *body;
	int ends[2], messages = 0, before = -1, r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	davit_socket_init(&a, ends[0]);
	davit_socket_init(&b, ends[1]);
	for (int i = 0; i < 40; i++) {
		f.id = (uint64_t)i;
		assert_int_equal(davit_socket_send(&a, &f, NULL, NULL, data, false), 0);
	}
	assert_true(davit_socket_queued(&a) > 0);
	davit_socket_send(&a, &(struct davit_frame){.kind = DAVIT_FRAME_PONG}, NULL, NULL, NULL, true);
	while (messages < 40) {
		davit_socket_flush(&a);
		davit_socket_receive(&b);
		while ((r = davit_socket_next(&b, DAVIT_END_PARENT, &g, &body)) > 0) {
			if (g.kind == DAVIT_FRAME_PONG)
				before = messages;
			else
				assert_int_equal(g.id, messages++);
		}
		assert_int_equal(r, 0);
	}
	assert_true(before >= 0 && before < 30);
	davit_socket_fini(&a);
	assert_int_equal(davit_socket_receive(&b), 0);
	assert_true(b.ended);
	davit_socket_fini(&b);
}

static void descriptors_go_with_the_first_frame(void **unused)
{
	struct davit_socket a, b;
	int ends[2], fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(pipe(fds), 0);
	davit_socket_init(&a, ends[0]);
	davit_socket_init(&b, ends[1]);
	davit_socket_pass(&a, fds[0], fds[1]);
	davit_socket_send(&a, &(struct davit_frame){.kind = DAVIT_FRAME_HELLO}, NULL, NULL, NULL, true);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(davit_socket_receive(&b), 1);
	assert_true(b.got[0] >= 0 && b.got[1] >= 0);
	assert_int_equal(write(b.got[1], "x", 1), 1);
	davit_socket_fini(&a);
	davit_socket_fini(&b);
}

static void a_socket_whose_other_end_has_gone_takes_all(void **unused)
{
	struct davit_socket a;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	davit_socket_init(&a, ends[0]);
	close(ends[1]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(davit_socket_send(&a, &(struct davit_frame){.kind = DAVIT_FRAME_PING}, NULL,
						   NULL, NULL, true),
				 0);
	assert_int_equal(davit_socket_queued(&a), 0);
	davit_socket_fini(&a);
}

int main(void)
{
#define RING(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_24_bytes_of_little_endian_numbers),
		cmocka_unit_test(an_end_is_sent_only_what_is_for_it),
		cmocka_unit_test(lengths_that_do_not_fit_each_other_are_refused),
		cmocka_unit_test(types_of_the_system_cannot_be_sent_but_commands_can),
		RING(frames_of_any_size_come_out_as_they_went_in_round_after_round),
		RING(what_is_not_published_is_not_there),
		RING(a_full_ring_has_room_when_it_was_read_and_released),
		RING(who_sleeps_is_rung_for_once),
		RING(indexes_that_make_no_sense_are_found_out),
		RING(a_frame_longer_than_what_was_published_is_found_out),
		RING(the_child_cannot_write_what_the_parent_has_written),
		cmocka_unit_test(urgent_frames_overtake_others_but_not_within_one),
		cmocka_unit_test(descriptors_go_with_the_first_frame),
		cmocka_unit_test(a_socket_whose_other_end_has_gone_takes_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * Two containers play until one of them drops the ball: it fails, Main restarts it, and
 * the game, which waited in its mailbox, goes on.
 */
#include "davit/container.h"

#include <semaphore.h>
#include <stdio.h>

enum { SERVE = 1, BALL };

static sem_t over;
static int hits, drops; /* of one player at a time: who has the ball */

static int play(struct davit_context *c, struct davit_message *m)
{
	const char *other = davit_args(c);
	struct davit_message *ball;

	if (++hits == 500 && !drops++) {
		ball = davit_message_new(c, BALL, 0);
		if (ball)
			davit_send_to(c, davit_alias(c), &ball, DAVIT_BUFFER_NONE);
		return davit_fail(c, DAVIT_EIO, "dropped the ball");
	}
	if (hits > 1000) {
		sem_post(&over);
		return 0;
	}
	ball = davit_take(c);
	return davit_send_to(c, other, &ball, DAVIT_BUFFER_AWAY);
}

static const struct davit_definition player = {.name = "Player", .behaviour = play};

int main(void)
{
	const struct davit_create players[] = {
		{.alias = "ping", .definition = &player, .args = "pong", .flags = DAVIT_CREATE_START},
		{.alias = "pong", .definition = &player, .args = "ping", .flags = DAVIT_CREATE_START},
	};
	struct davit_container_info ping, pong;
	struct davit_message *ball;
	struct davit_system *system;
	struct davit_context *c;
	struct davit_promise p;

	sem_init(&over, 0, 0);
	if (davit_system_open(NULL, &system, NULL))
		return 1;
	c = davit_system_context(system);
	if (davit_containers_create(c, players, 2, &p) || davit_await(c, p, -1, NULL, NULL))
		return 1;
	if (!(ball = davit_message_new(c, SERVE, 0)) || davit_send_to(c, "ping", &ball, DAVIT_BUFFER_NONE))
		return 1;
	sem_wait(&over);
	if (davit_container_get(c, "ping", &ping) || davit_container_get(c, "pong", &pong))
		return 1;
	printf("%d hits, %d dropped, %lld restarted\n", hits, drops,
	       (long long)(ping.restarts + pong.restarts));
	davit_system_close(system);
	return drops == 1 && ping.restarts + pong.restarts == 1 ? 0 : 1;
}

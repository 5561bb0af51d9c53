/* SPDX-License-Identifier: MIT
 *
 * Between a pseudoterminal and its clients.
 *
 * Output is read into the ring, and each client has a place in it: nothing is copied
 * for a client, and one that comes gets the ring from its beginning. While a client
 * that counts is far behind, nothing is read: the kernel makes the command wait. The
 * only client counts always; of several one that took nothing for a while does not
 * until it reads again.
 *
 * Input stays in the client's socket until the pseudoterminal has taken it: it is
 * looked at (MSG_PEEK), written, and taken out as far as it was written.
 */
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define LAG_MAX 65536u /* from which a client holds the command up */
#define TURN 65536u    /* bytes read at once, so that many terminals share the keeper */
#define INPUT 4096u
#define STALL_NS (1000 * DAVIT_NSEC_PER_MSEC)
#define SKIP_KEEP 16384u  /* of what was missed, what a client that was passed over still gets */
#define DRAIN_MAX 131072u /* with LAG_MAX below the ring: more than the kernel holds of one */

unsigned keeper_term_clients(const struct keeper_term *t)
{
	unsigned n = 0;

	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++)
		n += t->clients[i].fd >= 0;
	return n;
}

void keeper_term_detach(struct keeper_term *t, unsigned client)
{
	struct keeper_term_client *c = &t->clients[client];

	keeper_close(&c->fd);
	c->generation++;
	c->events = 0;
}

int keeper_term_attach(struct keeper *k, struct keeper_term *t, int *ret_fd, struct davit_error *err)
{
	struct keeper_term_client *c = NULL;
	int pair[2];

	for (size_t i = 0; i < KEEPER_CLIENTS_MAX && !c; i++)
		if (t->clients[i].fd < 0)
			c = &t->clients[i];
	if (!c)
		return davit_error_set(err, DAVIT_EQUOTA, NULL, "%d clients are attached already",
				       KEEPER_CLIENTS_MAX);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a socket");
	if (!keeper_may_open(k, pair[1], err)) {
		close(pair[0]);
		close(pair[1]);
		return DAVIT_EQUOTA;
	}
	*c = (struct keeper_term_client){
		.fd = pair[0],
		.generation = c->generation + 1,
		.at = t->written > KEEPER_RING ? t->written - KEEPER_RING : 0,
	};
	*ret_fd = pair[1];
	return 0;
}

/* ----------------------------------------------------------------------- output */

/* Behind what has left the ring, and a client that was passed over near its end,
 * where a line begins if there is one. */
static void catch_up(const struct keeper *k, const struct keeper_term *t, struct keeper_term_client *c)
{
	uint64_t oldest = t->written > KEEPER_RING ? t->written - KEEPER_RING : 0;
	const char *ring = k->rings[keeper_term_number(k, t)], *nl;

	if (c->at < oldest)
		c->at = oldest;
	if (!c->slow)
		return;
	c->slow = 0;
	if (t->written - c->at <= SKIP_KEEP)
		return;
	c->at = t->written - SKIP_KEEP;
	nl = memchr(ring + c->at % KEEPER_RING, '\n', SKIP_KEEP);
	if (nl)
		c->at += (uint64_t)(nl + 1 - (ring + c->at % KEEPER_RING));
}

/* False when the client is gone. */
static bool feed_one(struct keeper *k, struct keeper_term *t, struct keeper_term_client *c)
{
	const char *ring = k->rings[keeper_term_number(k, t)];

	/* One that was passed over comes back by its own event. */
	while (c->at < t->written && !c->slow) {
		uint64_t oldest = t->written > KEEPER_RING ? t->written - KEEPER_RING : 0;
		uint64_t from = c->at < oldest ? oldest : c->at;
		ssize_t n = DAVIT_EINTR(send(c->fd, ring + from % KEEPER_RING, t->written - from,
					     MSG_DONTWAIT | MSG_NOSIGNAL));
		if (n < 0 && errno == EAGAIN) {
			if (!c->stalled)
				c->stalled = keeper_monotonic();
			return true;
		}
		if (n < 0)
			return errno == ENOBUFS || errno == ENOMEM;
		c->at = from + (uint64_t)n;
		c->stalled = 0;
	}
	return true;
}

/* How much may be read without a client that counts falling too far behind. */
static size_t room(const struct keeper_term *t)
{
	uint64_t least = TURN;

	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		const struct keeper_term_client *c = &t->clients[i];
		uint64_t lag = t->written - c->at;
		if (c->fd < 0 || c->slow)
			continue;
		lag = lag < LAG_MAX ? LAG_MAX - lag : 0;
		least = lag < least ? lag : least;
	}
	return (size_t)least;
}

static void watch(struct keeper *k, struct keeper_term *t)
{
	uint32_t number = keeper_term_number(k, t), master = 0;
	bool several = keeper_term_clients(t) > 1;

	for (uint32_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		struct keeper_term_client *c = &t->clients[i];
		uint32_t want = (t->blocked ? 0u : EPOLLIN) | (c->at < t->written ? EPOLLOUT : 0u);
		if (c->fd < 0)
			continue;
		/* Its hang-up is noticed in any case. */
		keeper_adjust(k, c->fd, KEEPER_ON_CLIENT, number | i << 16, c->generation, &c->events,
			      want ? want : EPOLLRDHUP);
		if (several && c->stalled && !c->slow)
			keeper_due(&k->term_due, c->stalled + STALL_NS);
	}
	/* Not at all rather than for nothing: a hang-up is told in any case. */
	if (!t->hung_up && room(t) > 0)
		master |= EPOLLIN;
	if (t->blocked)
		master |= EPOLLOUT;
	keeper_adjust(k, t->fd_master, KEEPER_ON_TERM, number, t->generation, &t->events, master);
}

void keeper_term_feed(struct keeper *k, struct keeper_term *t)
{
	bool ended = !t->pid && t->fd_master < 0;

	for (unsigned i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		struct keeper_term_client *c = &t->clients[i];
		if (c->fd < 0)
			continue;
		if (!feed_one(k, t, c)) {
			keeper_term_detach(t, i);
		} else if (ended && c->at == t->written) {
			keeper_term_detach(t, i);
			t->taken = 1;
		}
	}
	/* Who is alone is waited for. */
	for (unsigned i = 0; i < KEEPER_CLIENTS_MAX && keeper_term_clients(t) == 1; i++)
		if (t->clients[i].fd >= 0 && t->clients[i].slow)
			catch_up(k, t, &t->clients[i]);
	watch(k, t);
	if (ended && t->taken)
		k->tell_terms = true; /* which settles it */
}

/* Reads until there is nothing, or n bytes are there. */
static void read_some(struct keeper *k, struct keeper_term *t, size_t max)
{
	char *ring = k->rings[keeper_term_number(k, t)];

	while (max > 0 && t->fd_master >= 0) {
		ssize_t n = DAVIT_EINTR(read(t->fd_master, ring + t->written % KEEPER_RING, max));
		if (n <= 0) {
			/* EIO: nobody has the other side open. */
			t->hung_up = n == 0 || errno != EAGAIN;
			t->blocked = t->blocked && !t->hung_up;
			return;
		}
		t->written += (uint64_t)n;
		max -= (size_t)n;
	}
}

void keeper_term_output(struct keeper *k, struct keeper_term *t)
{
	read_some(k, t, room(t));
	keeper_term_feed(k, t);
}

void keeper_term_drain(struct keeper *k, struct keeper_term *t)
{
	read_some(k, t, DRAIN_MAX);
}

int64_t keeper_term_stalls(struct keeper *k, struct keeper_term *t, int64_t now)
{
	int64_t next = 0;

	if (keeper_term_clients(t) < 2)
		return 0;
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		struct keeper_term_client *c = &t->clients[i];
		if (c->fd < 0 || c->slow || !c->stalled)
			continue;
		if (c->stalled + STALL_NS <= now)
			c->slow = 1;
		else
			keeper_due(&next, c->stalled + STALL_NS);
	}
	watch(k, t);
	return next;
}

/* ------------------------------------------------------------------------ input */

/* False when the client is gone. */
static bool take_input(struct keeper *k, struct keeper_term *t, int fd)
{
	ssize_t n = DAVIT_EINTR(recv(fd, k->chunk, INPUT, MSG_PEEK | MSG_DONTWAIT));
	ssize_t taken = n;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	if (t->fd_master >= 0)
		taken = DAVIT_EINTR(write(t->fd_master, k->chunk, (size_t)n));
	if (taken < 0 && errno != EAGAIN)
		taken = n; /* nobody reads it: it goes where keys go that nobody reads */
	if (taken > 0)
		DAVIT_EINTR(recv(fd, k->chunk, (size_t)taken, MSG_DONTWAIT));
	t->blocked = taken < n;
	t->hung_up = 0;
	return true;
}

void keeper_term_client_event(struct keeper *k, struct keeper_term *t, unsigned client, uint32_t events)
{
	struct keeper_term_client *c = &t->clients[client];

	if (events & EPOLLOUT && c->slow)
		catch_up(k, t, c);
	if (events & EPOLLIN && !t->blocked && !take_input(k, t, c->fd))
		keeper_term_detach(t, client);
	else if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) && (t->blocked || !(events & EPOLLIN)))
		keeper_term_detach(t, client);
	keeper_term_feed(k, t);
}

void keeper_term_writable(struct keeper *k, struct keeper_term *t)
{
	t->blocked = 0;
	keeper_term_feed(k, t);
}

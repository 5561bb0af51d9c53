/* SPDX-License-Identifier: MIT
 *
 * The loop: epoll, and a few things that are due at a time.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define EVENTS 128

/* Each end wakes the keeper, and then the daemon. Where so many came within a window, and for as
 * long as they come no further apart than this (100 a second), they are let collect until the next beat,
 * which is no longer than the daemon then waits between two commits; and only for a moment where
 * somebody waits for an end. What waits badly forbids it for a while. */
#define STORM_ENDS 8
#define STORM_GAP_NS (10 * DAVIT_NSEC_PER_MSEC)
#define STORM_WINDOW_NS (STORM_ENDS * STORM_GAP_NS)
#define STORM_BEAT_NS (100 * DAVIT_NSEC_PER_MSEC)
#define STORM_PAUSE_NS (7 * DAVIT_NSEC_PER_MSEC)
#define PRESSED_NS (200 * DAVIT_NSEC_PER_MSEC)

/* An event carries what it is about, and the generation of the descriptor: one
 * that was closed earlier in the same batch does not match any more. */
static uint64_t pack(enum keeper_source source, uint32_t number, uint32_t generation)
{
	return (uint64_t)source << 56 | (uint64_t)(generation & 0xffffff) << 32 | number;
}

int64_t keeper_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * DAVIT_NSEC_PER_SEC + ts.tv_nsec;
}

int64_t keeper_realtime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * DAVIT_NSEC_PER_SEC + ts.tv_nsec;
}

int keeper_watch(struct keeper *k, int fd, enum keeper_source source, uint32_t number, uint32_t generation,
		 uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u64 = pack(source, number, generation)};

	return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &e);
}

void keeper_adjust(struct keeper *k, int fd, enum keeper_source source, uint32_t number, uint32_t generation,
		   uint32_t *now, uint32_t want)
{
	struct epoll_event e = {.events = want, .data.u64 = pack(source, number, generation)};

	if (*now == want || fd < 0)
		return;
	if (epoll_ctl(k->epoll, *now ? (want ? EPOLL_CTL_MOD : EPOLL_CTL_DEL) : EPOLL_CTL_ADD, fd, &e) == 0)
		*now = want;
}

void keeper_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void slot_event(struct keeper *k, enum keeper_source source, uint32_t number, uint32_t generation,
		       uint32_t events)
{
	struct keeper_slot *s = number < KEEPER_SLOTS_MAX ? keeper_slot(k, number) : NULL;

	if (!s || !keeper_set_has(&k->used, number) || (s->generation & 0xffffff) != generation)
		return;
	switch (source) {
	case KEEPER_ON_PID:
		keeper_reap(k, s);
		break;
	case KEEPER_ON_PIPE:
		keeper_log_ready(k, s, KEEPER_OUT, events);
		break;
	case KEEPER_ON_PIPE_ERR:
		keeper_log_ready(k, s, KEEPER_ERR, events);
		break;
	case KEEPER_ON_READY:
		keeper_ready_readable(k, s);
		break;
	case KEEPER_ON_NOTIFY:
		keeper_notify_readable(k, s);
		break;
	case KEEPER_ON_CGROUP:
		keeper_stop_poke(k, s);
		break;
	default:
		break;
	}
}

/* What may come a moment later, or never waits: ends, the daemon, and output, which says itself
 * when its pipe is about to hold somebody up. */
static bool waits_well(enum keeper_source source)
{
	switch (source) {
	case KEEPER_ON_LISTEN:
	case KEEPER_ON_CONN:
	case KEEPER_ON_SIGNAL:
	case KEEPER_ON_PID:
	case KEEPER_ON_PIPE:
	case KEEPER_ON_PIPE_ERR:
		return true;
	default:
		return false;
	}
}

static void dispatch(struct keeper *k, const struct epoll_event *e)
{
	enum keeper_source source = (enum keeper_source)(e->data.u64 >> 56);
	uint32_t generation = (uint32_t)(e->data.u64 >> 32) & 0xffffff, number = (uint32_t)e->data.u64;
	struct keeper_exec_slot *x;

	if (!waits_well(source))
		k->pressed = keeper_monotonic();
	switch (source) {
	case KEEPER_ON_LISTEN:
		keeper_accept(k);
		break;
	case KEEPER_ON_CONN:
		if (k->conn >= 0 && number == (uint32_t)k->conn)
			keeper_conn_ready(k, e->events);
		break;
	case KEEPER_ON_SIGNAL:
		keeper_reap_signal(k);
		break;
	case KEEPER_ON_EXEC:
		x = &k->file->execs[number % KEEPER_EXECS_MAX];
		if ((x->generation & 0xffffff) == generation)
			keeper_reap_exec(k, x);
		break;
	case KEEPER_ON_TERM:
	case KEEPER_ON_TERM_PID:
	case KEEPER_ON_CLIENT:
		keeper_term_event(k, source, number, generation, e->events);
		break;
	default:
		slot_event(k, source, number, generation, e->events);
		break;
	}
}

static bool take_due(int64_t *due, int64_t now)
{
	if (!*due || *due > now)
		return false;
	*due = 0;
	return true;
}

/* With nothing to keep and nobody who asks the keeper ends, after a while. */
static void look_around(struct keeper *k)
{
	if (k->conn >= 0 || keeper_set_next(&k->used, 0) != KEEPER_NONE || keeper_terms_run(k))
		k->alone_due = 0;
	else
		keeper_due(&k->alone_due, keeper_monotonic() + k->linger);
}

static void run_due(struct keeper *k)
{
	int64_t now = keeper_monotonic();

	if (take_due(&k->alone_due, now))
		k->quit = true;
	if (take_due(&k->sweep_due, now))
		keeper_reap_sweep(k);
	if (take_due(&k->retry_due, now))
		keeper_log_retry(k);
	if (take_due(&k->marker_due, now))
		keeper_log_markers(k);
	if (take_due(&k->launch_due, now))
		keeper_launch_tick(k);
	if (take_due(&k->term_due, now))
		keeper_terms_tick(k);
	if (take_due(&k->stop_due, now))
		keeper_stop_tick(k);
}

static int timeout(const struct keeper *k)
{
	const int64_t dues[] = {k->sweep_due, k->retry_due,  k->marker_due, k->stop_due,
				k->alone_due, k->launch_due, k->term_due};
	int64_t next = 0, left;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dues); i++)
		if (dues[i] && (!next || dues[i] < next))
			next = dues[i];
	if (!next)
		return -1;
	left = next - keeper_monotonic();
	if (left <= 0)
		return 0;
	return left > 3600 * DAVIT_NSEC_PER_SEC
		       ? 3600000
		       : (int)((left + DAVIT_NSEC_PER_MSEC - 1) / DAVIT_NSEC_PER_MSEC);
}

/* Are there so many ends that they are let collect? Yes as soon as they are, and for the next window. */
static bool storms(struct keeper *k)
{
	int64_t now = keeper_monotonic();

	if (now - k->window >= STORM_WINDOW_NS) {
		k->storm = k->ends >= STORM_ENDS && now - k->window <= k->ends * STORM_GAP_NS;
		k->window = now;
		k->ends = 0;
	}
	k->storm |= k->ends >= STORM_ENDS;
	return k->storm && now - k->pressed >= PRESSED_NS;
}

/* Does somebody wait for an end? */
static bool is_awaited(const struct keeper *k)
{
	return keeper_set_next(&k->stopping, 0) != KEEPER_NONE ||
	       keeper_set_next(&k->launching, 0) != KEEPER_NONE;
}

/* Waits for the daemon alone, for `most` milliseconds (-1: any number) or until the next beat. The
 * beat is the clock's and not our own: where several keepers have ends to tell, the daemon hears of
 * them at once. */
static void collect(const struct keeper *k, int most)
{
	struct pollfd daemon[] = {{.fd = k->conn, .events = (short)k->conn_events},
				  {.fd = k->fd_listen, .events = POLLIN}};
	int64_t left = STORM_BEAT_NS - keeper_monotonic() % STORM_BEAT_NS;

	if (is_awaited(k) && left > STORM_PAUSE_NS)
		left = STORM_PAUSE_NS;
	if (most >= 0 && left > most * DAVIT_NSEC_PER_MSEC)
		left = most * DAVIT_NSEC_PER_MSEC;
	ppoll(daemon, DAVIT_ARRAY_SIZE(daemon), &(struct timespec){.tv_nsec = left}, NULL);
}

int keeper_loop(struct keeper *k, struct davit_error *err)
{
	struct epoll_event events[EVENTS];
	int n = 0, wait;

	for (;;) {
		keeper_conn_flush(k);
		if (k->quit)
			return 0;
		look_around(k);
		wait = timeout(k);
		if (wait && storms(k) && n < EVENTS) {
			collect(k, wait);
			wait = 0;
		}
		n = epoll_wait(k->epoll, events, EVENTS, wait);
		if (n < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "cannot wait for events");
		for (int i = 0; i < n && !k->quit; i++)
			dispatch(k, &events[i]);
		run_due(k);
	}
}

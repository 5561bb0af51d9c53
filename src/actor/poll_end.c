/* SPDX-License-Identifier: MIT
 *
 * The end of a process behind a link: noticed, told, and waited for, and its holder after it.
 */
#include "actor/poll_impl.h"
#include "actor/remote.h"
#include "base/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

enum { LAST_TURNS = 64 /* of READS, of the socket of one that has ended: more than a socket holds */ };

void link_kill(struct link *l, int code, const char *reason)
{
	pthread_mutex_lock(&l->lock);
	if (!l->end_reason) {
		l->end_reason = reason;
		l->end_code = code;
	}
	if (l->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
	else
		l->killed = true; /* as soon as it says who it is */
	pthread_mutex_unlock(&l->lock);
}

static const char *signal_text(int sig)
{
	const char *text = strsignal(sig);

	return text ? text : "a signal";
}

static void reason(const struct link *l, const siginfo_t *i, struct news *n)
{
	char name[DAVIT_SIGNAL_MAX];

	n->code = l->end_reason ? l->end_code : DAVIT_ECLOSED;
	if (l->end_reason)
		snprintf(n->text, sizeof n->text, "%s", l->end_reason);
	else if (!i->si_pid)
		snprintf(n->text, sizeof n->text, "its process has ended");
	else if (i->si_code == CLD_EXITED)
		snprintf(n->text, sizeof n->text, "it exited with %d", i->si_status);
	else
		snprintf(n->text, sizeof n->text, "killed by %s (%s)%s",
			 davit_signal_format(i->si_status, name), signal_text(i->si_status),
			 i->si_code == CLD_DUMPED ? ", core dumped" : "");
}

static void remove_link(struct poll *p, struct link *l)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->links[i] != l)
			continue;
		p->links[i] = p->links[--p->n];
		p->gone[p->n_gone++] = l; /* the reference goes along */
		break;
	}
	atomic_store(&p->count, p->n);
}

/* Is there more to be read, or its end? A read that was short need not have been the last. */
static bool is_readable(const struct link *l)
{
	struct pollfd p = {.fd = l->socket.fd, .events = POLLIN};

	return DAVIT_EINTR(poll(&p, 1, 0)) > 0;
}

/* Everything that it wrote is read; then its death is told. Of one that broke the protocol
 * nothing is; and where a process that it left behind holds the other end, nothing is
 * waited for, and what that goes on writing has an end. */
void poll_over(struct davit_context *c, struct poll *p, struct link *l, const siginfo_t *info)
{
	struct news n = {.kind = NEWS_DEAD, .link = l->number};

	for (int turns = LAST_TURNS; !l->ended && turns && !poll_receive(c, l, READS); turns--)
		if (!l->ended && !is_readable(l))
			break;
	pthread_mutex_lock(&p->lock);
	while (l->rings && link_read_ring(c, l, FRAMES) > 0)
		;
	remove_link(p, l);
	pthread_mutex_unlock(&p->lock);
	spare_gone(c->system, l);
	reason(l, info, &n);
	pthread_mutex_lock(&l->lock);
	l->epoll = -1;
	pthread_mutex_unlock(&l->lock);
	link_close(l);
	if (!l->owner.generation)
		return;
	remote_gone(c, l, NULL, n.code, n.text);
	process_news(c, l, &n);
}

void poll_ended(struct davit_context *c, struct poll *p, struct link *l)
{
	siginfo_t info = {0};

	if (l->epoll < 0)
		return; /* told already */
	/* It is reaped when there is time. Somebody else may have done that: its reason is unknown then. */
	if (l->pidfd >= 0 && waitid(P_PIDFD, (id_t)l->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    !info.si_pid)
		return;
	poll_over(c, p, l, &info);
}

/* --- afterwards --- */

static bool holder_ended(const struct link *l)
{
	siginfo_t i = {0};

	return waitid(P_PIDFD, (id_t)l->holder, &i, WEXITED | WNOHANG) || i.si_pid;
}

/* l's process has ended; its holder, if it has one, is taking the memory apart. */
static void holder_await(struct poll *p, struct link *l)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)(uintptr_t)l | OF_HOLDER};

	if (l->holder < 0 || holder_ended(l)) {
		link_unref(l);
		return;
	}
	l->ending = p->ending;
	p->ending = l;
	epoll_ctl(p->epoll, EPOLL_CTL_ADD, l->holder, &e);
}

void poll_holder_ended(struct poll *p, struct link *l)
{
	struct link **at = &p->ending;

	if (!holder_ended(l))
		return;
	while (*at != l)
		at = &(*at)->ending;
	*at = l->ending;
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, l->holder, NULL);
	link_unref(l);
}

/* Lets go of those that have ended since the last time: what came of that had no time to
 * lose, and this takes as long. */
void poll_drop_gone(struct poll *p)
{
	struct link *l;

	do {
		pthread_mutex_lock(&p->lock);
		l = p->n_gone ? p->gone[--p->n_gone] : NULL;
		pthread_mutex_unlock(&p->lock);
		if (!l)
			return;
		epoll_ctl(p->epoll, EPOLL_CTL_DEL, l->socket.fd, NULL);
		if (l->pidfd >= 0) {
			epoll_ctl(p->epoll, EPOLL_CTL_DEL, l->pidfd, NULL);
			(void)waitid(P_PIDFD, (id_t)l->pidfd, NULL, WEXITED | WNOHANG);
		}
		holder_await(p, l);
	} while (true);
}

/* Waits for an end, of a process or its holder. */
static void await_end(int pidfd)
{
	if (pidfd >= 0)
		(void)DAVIT_EINTR(waitid(P_PIDFD, (id_t)pidfd, NULL, WEXITED));
}

void poll_await_end(struct link *l)
{
	await_end(l->pidfd);
	await_end(l->holder);
	link_unref(l);
}

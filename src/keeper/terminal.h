/* SPDX-License-Identifier: MIT
 *
 * Terminals that live in the keeper: a command on a pseudoterminal, whose other end
 * is here, a ring with what it printed last, and clients that come and go.
 *
 * A terminal is in one of three states:
 *   it runs		pid and fd_master are there
 *   it has ended	neither is; the ring and how it ended are
 *   it is free		used is 0
 * In between, within one function, what is left in the pseudoterminal is read.
 */
#ifndef DAVIT_KEEPER_TERMINAL_H
#define DAVIT_KEEPER_TERMINAL_H

#include "keeper/keeper.h"

#define KEEPER_RING ((size_t)DAVIT_SCROLLBACK)

static inline uint32_t keeper_term_number(const struct keeper *k, const struct keeper_term *t)
{
	return (uint32_t)(t - k->terms);
}

/* ------------------------------------------------------ terminal.c: the command */
struct keeper_term *keeper_term_find(struct keeper *k, const char *id);
struct keeper_term *keeper_term_of_pid(struct keeper *k, pid_t pid);
struct keeper_term_plan {
	bool raw;
	const char *id, *instance, *command;
	struct keeper_slot *slot; /* or NULL */
	uint16_t rows, columns;
};
int keeper_term_open(struct keeper *k, const struct keeper_term_plan *plan, struct keeper_command *c,
		     struct keeper_term **ret, struct davit_error *err);
void keeper_term_resize(struct keeper_term *t, uint32_t rows, uint32_t columns);
/* To the foreground group. */
int keeper_term_signal(const struct keeper_term *t, int signo, struct davit_error *err);
/* To the command and its group. */
void keeper_term_kill(const struct keeper_term *t, int signo);
/* SIGHUP, and SIGKILL after a moment. */
void keeper_term_close(struct keeper *k, struct keeper_term *t);
/* Frees it: descriptors, ring, place. */
void keeper_term_free(struct keeper *k, struct keeper_term *t);
/* Frees it if it has ended and nobody has an interest any more. */
void keeper_term_settle(struct keeper *k, struct keeper_term *t);
/* What is told of it; the header is the caller's. */
void keeper_term_tell(const struct keeper *k, const struct keeper_term *t, struct keeper_attached *ret);
void keeper_term_event(struct keeper *k, enum keeper_source source, uint32_t number, uint32_t generation,
		       uint32_t events);
/* A child that ended: true when it was a terminal's, which is then reaped. */
bool keeper_term_reap_pid(struct keeper *k, pid_t pid);
/* Whether a command runs on any. */
bool keeper_terms_run(const struct keeper *k);
/* The slot is stopped: its commands are told, and killed with it. */
void keeper_terms_hang_up(struct keeper *k, const struct keeper_slot *s);
/* The slot goes. */
void keeper_terms_drop(struct keeper *k, const struct keeper_slot *s);
/* The timer: clients that do not read, commands that do not heed a hang-up. */
void keeper_terms_tick(struct keeper *k);
/* Nobody waits for the end of a TERMINAL_CLOSE. */
void keeper_terms_forget_tags(struct keeper *k);
/* After a crash: the other ends were in the keeper that died, so they are over. */
void keeper_terms_recover(struct keeper *k);
/* After an upgrade: everything is still open. */
void keeper_terms_upgraded(struct keeper *k);

/* --------------------------------------------------------- attach.c: its clients */
/* The client's end of a new socket, or a code. */
int keeper_term_attach(struct keeper *k, struct keeper_term *t, int *ret_fd, struct davit_error *err);
/* Reads from the pseudoterminal what may be read now and gives it to the clients. */
void keeper_term_output(struct keeper *k, struct keeper_term *t);
/* What is left in it after the command's end, as far as that comes without waiting. */
void keeper_term_drain(struct keeper *k, struct keeper_term *t);
/* Gives clients what they have not got, lets go of those that have everything, and
 * adapts what is watched. */
void keeper_term_feed(struct keeper *k, struct keeper_term *t);
void keeper_term_client_event(struct keeper *k, struct keeper_term *t, unsigned client, uint32_t events);
/* The pseudoterminal takes input again. */
void keeper_term_writable(struct keeper *k, struct keeper_term *t);
void keeper_term_detach(struct keeper_term *t, unsigned client);
unsigned keeper_term_clients(const struct keeper_term *t);
/* Passes over clients that do not read; when the next one is due, or 0. */
int64_t keeper_term_stalls(struct keeper *k, struct keeper_term *t, int64_t now);

#endif

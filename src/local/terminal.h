/* SPDX-License-Identifier: MIT
 *
 * The terminal facet for whoever has a keeper: terminals live there (see
 * docs/keeper.md), this is the daemon's end of them.
 *
 * A local runtime puts `local_terminal` (local.h) into its table and gives a
 * build_terminal in its struct local_ops; nothing of this file is needed then.
 *
 * A driver whose instances live elsewhere embeds a struct local_terminal_keeper in
 * its own state. Its keeper holds terminals alone, and is started with the first:
 *
 *	static int build(struct local_terminals *ts, const struct davit_terminal *t,
 *			 struct davit_error *err)
 *	{
 *		... argv = {"/path/of/helper", "exec", container, ..., NULL}
 *		return local_terminal_build(ts->packet, argv[0], argv, env, "/", err);
 *	}
 *	open:		local_terminal_keeper_open(&mine->terminals, rt, build, err)
 *	close:		local_terminal_keeper_close(&mine->terminals)
 *	facet .open:	local_terminals_open(&mine->terminals.set, t, op)
 *			  (after it has seen that the instance runs)
 *	.attach, .list, .close: likewise
 *	.write, .resume, .resize, .signal, .detach, .terminal_size: those of `local_terminal`
 */
#ifndef DAVIT_LOCAL_TERMINAL_H
#define DAVIT_LOCAL_TERMINAL_H

#include "base/buf.h"
#include "base/list.h"
#include "davit/runtime.h"
#include "local/keeper_client.h"

struct local_terminals;

struct local_terminals_ops {
	/* The nth keeper, NULL behind the last. */
	struct keeper_client *(*keeper)(struct local_terminals *ts, size_t n);
	/* The keeper for a terminal of that instance, `open`: one to be. NULL with the
	 * error where there can be none. It need not be up: requests wait for it. */
	struct keeper_client *(*keeper_of)(struct local_terminals *ts, struct davit_instance *inst, bool open,
					   struct davit_error *err);
	/* Builds TERMINAL in ts->packet: the struct's `spawn`, and the strings behind it. The
	 * rest is filled in by the caller. */
	int (*build)(struct local_terminals *ts, const struct davit_terminal *t, struct davit_error *err);
	/* They run beside the slot of their instance. */
	bool beside;
};

/* The terminals of one runtime. */
struct local_terminals {
	struct davit_runtime *rt;
	const struct local_terminals_ops *ops;
	struct davit_buf *packet; /* where requests are built */
	struct davit_list open;	  /* attached ones */
	struct davit_list asks;	  /* lists and closings under way */
};

void local_terminals_init(struct local_terminals *ts, struct davit_runtime *rt,
			  const struct local_terminals_ops *ops, struct davit_buf *packet);
/* Lets go of all of them: operations under way fail with DAVIT_ECLOSED, no other
 * callback comes. The commands go on. */
void local_terminals_fini(struct local_terminals *ts);

/* --- slots of the facet --- */
void local_terminals_open(struct local_terminals *ts, struct davit_terminal *t, struct davit_op *op);
void local_terminals_attach(struct local_terminals *ts, struct davit_terminal *t, struct davit_op *op);
/* A terminal of the instance is being opened: the keeper has not answered yet. */
bool local_terminals_opening(const struct local_terminals *ts, const struct davit_instance *inst);
/* inst NULL: all. */
void local_terminals_list(struct local_terminals *ts, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op);
void local_terminals_close(struct local_terminals *ts, const char *id, struct davit_op *op);
ssize_t local_terminal_write(struct davit_terminal *t, const void *data, size_t n);
void local_terminal_resume(struct davit_terminal *t);
void local_terminal_resize(struct davit_terminal *t, uint16_t rows, uint16_t columns);
int local_terminal_signal(struct davit_terminal *t, int signo, struct davit_error *err);
void local_terminal_detach(struct davit_terminal *t);
/* The slots of a facet that need no more than the terminal. */
#define LOCAL_TERMINAL_SIZE sizeof(void *)
#define LOCAL_TERMINAL_SLOTS                                                                                 \
	.terminal_size = LOCAL_TERMINAL_SIZE, .write = local_terminal_write,                                 \
	.resume = local_terminal_resume, .resize = local_terminal_resize, .signal = local_terminal_signal,   \
	.detach = local_terminal_detach

/* --- to be told, from the client's callbacks --- */
void local_terminals_up(struct local_terminals *ts, struct keeper_client *k);
void local_terminals_down(struct local_terminals *ts, struct keeper_client *k, const struct davit_error *why);
void local_terminals_event(struct local_terminals *ts, const struct keeper_header *h);

/* --- a keeper for terminals alone: terminal_keeper.c --- */
struct local_terminal_keeper {
	struct local_terminals set;
	struct local_terminals_ops ops;
	struct keeper_place place;
	struct keeper_client client;
	struct davit_buf packet;
	char *program;
	bool started; /* the client is open */
};

/* Connects to a keeper that a former daemon has left; otherwise nothing is started
 * before the first terminal. 0, or a code and nothing to close. */
int local_terminal_keeper_open(struct local_terminal_keeper *k, struct davit_runtime *rt,
			       int (*build)(struct local_terminals *ts, const struct davit_terminal *t,
					    struct davit_error *err),
			       struct davit_error *err);
/* The keeper goes on while there are terminals. */
void local_terminal_keeper_close(struct local_terminal_keeper *k);
/* Builds TERMINAL for a program that runs as the daemon's own user. path is absolute. */
int local_terminal_build(struct davit_buf *packet, const char *path, char *const *argv, char *const *env,
			 const char *directory, struct davit_error *err);

#endif

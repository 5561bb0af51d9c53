/* SPDX-License-Identifier: MIT
 *
 * A small client of the keeper for its tests. Functions fail the test at once
 * when something other than what is asked about goes wrong.
 */
#ifndef DAVIT_KEEPER_TESTING_H
#define DAVIT_KEEPER_TESTING_H

#include "base/util.h"
#include "davit/runtime.h"
#include "keeper/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct packet {
	size_t len;
	int fd; /* that came with it, or -1 */
	union {
		struct keeper_header h;
		struct keeper_welcome welcome;
		struct keeper_instance instance;
		struct keeper_done done;
		struct keeper_spawned spawned;
		struct keeper_exited exited;
		struct keeper_event_text text;
		struct keeper_attached attached;
		char bytes[4096];
	} u;
};

struct client {
	char dir[64];	   /* mktemp -d */
	char run[320];	   /* dir/run, or dir/xxx.../run */
	char log[80];	   /* dir/log */
	char program[512]; /* the davit-keeper that is executed */
	int fd;
	pid_t keeper;
	unsigned descriptors; /* the keeper's limit, if not 0 */
	bool without_clone3;  /* the next keeper is refused clone3, by a seccomp filter */
	uint64_t tag;
	struct packet *got; /* received and not asked for yet */
	size_t n_got;
	struct keeper_welcome welcome;
	char message[512]; /* of the last DONE */
	int sys_errno;
	uint32_t version; /* told in HELLO; 0: the present one */
	size_t most;	  /* messages that came in one packet */
};

/* cmocka's setup and teardown: a keeper in a new directory, all gone after. */
int client_setup(void **state);
int client_teardown(void **state);
/* The same with n more bytes in the path of the run directory. */
int client_setup_in(void **state, size_t n);
/* The same with few descriptors for the keeper. */
int client_setup_few(void **state, unsigned descriptors);
/* The same with a copy of davit-keeper in dir, which can be replaced. */
int client_setup_copy(void **state);

void client_start_keeper(struct client *c);
/* The exit status of one more davit-keeper on the same directory. */
int client_try_keeper(struct client *c);
void client_connect(struct client *c);
void client_disconnect(struct client *c);
/* kill -9 of the keeper, and wait until it is gone. */
void client_kill_keeper(struct client *c);

/* Sends struct and body; the tag is put in and returned. */
uint64_t client_send(struct client *c, struct keeper_header *h, uint32_t type, const char *id, size_t size,
		     const void *body, size_t body_len, const int *fds, size_t n_fds);
/* The next packet of that type and tag (0: any) and id (NULL: any), within the
 * time; false when none comes. */
bool client_wait(struct client *c, uint32_t type, uint64_t tag, const char *id, int ms, struct packet *ret);
/* The result of the DONE with that tag. */
int client_done(struct client *c, uint64_t tag);

struct spawn_options {
	const char *const *env;
	const char *directory;
	const struct keeper_rlimit *rlimits;
	uint32_t n_rlimits;
	uint32_t umask_;
	uint32_t ready;
	int ready_fd;
	bool no_new_privileges;
	bool set_user;
	uint32_t uid, gid;
	const char *path; /* instead of argv[0] */
};

struct log_options {
	uint64_t max_size;
	uint32_t max_files;
	uint32_t policy;
	uint64_t rate;
	const char *cgroup;
};

int client_create(struct client *c, const char *id, const struct log_options *o);
/* Makes a directory of our own in the first v2 mount: its path, or NULL. */
const char *client_own_cgroup(char path[128]);
/* The pid, or the negative result. */
int client_spawn(struct client *c, const char *id, uint32_t run, const char *const *argv,
		 const struct spawn_options *o);
/* LAUNCH of that program, which writes its pid to dir/ID.pid ($PIDFILE); not waited for. */
uint64_t client_launch(struct client *c, const char *id, uint32_t run, const char *const *argv, int limit_ms,
		       uint32_t flags);
/* The pid of SPAWNED, or the result of DONE. */
int client_spawned(struct client *c, uint64_t tag);
/* Creates and runs `/bin/sh -c script`. */
int client_shell(struct client *c, const char *id, const char *script);
int client_exec(struct client *c, const char *id, const char *const *argv, const int fds[3], bool tty,
		uint64_t *ret_tag);
/* A terminal with `argv` of that id, beside an instance ("": alone): the descriptor
 * of its first client, or the result. */
int client_terminal(struct client *c, const char *id, const char *slot, const char *const *argv,
		    struct packet *ret);
int client_attach(struct client *c, const char *id, struct packet *ret);
int client_stop(struct client *c, const char *id, int signo, int grace_ms);
int client_signal(struct client *c, const char *id, int signo, uint32_t scope, uint64_t exec_tag);
int client_simple(struct client *c, uint32_t type, const char *id);
struct keeper_exit client_exit(struct client *c, const char *id, uint32_t run);
/* LIST's record of the instance; false when there is none. */
bool client_inspect(struct client *c, const char *id, struct packet *ret);

/* The log of an instance, joined and without times: "stdout text\n...", a heap
 * string. raw: the files' bytes one behind the other. */
char *client_log(struct client *c, const char *id);
char *client_raw_log(struct client *c, const char *id, uint64_t *ret_first, size_t *ret_files);

bool alive(pid_t pid);
size_t count_entries(const char *dir);
void nap(int ms);
/* How many ms what must come is waited for: no machine is too busy for it. */
#define PATIENCE 60000
/* Waits until the condition holds; fails the test when it does not in time. */
#define WAIT_FOR(condition)                                                                                  \
	do {                                                                                                 \
		int left_ = PATIENCE;                                                                        \
		bool holds_;                                                                                 \
		while (!(holds_ = (condition)) && left_ > 0) {                                               \
			nap(5);                                                                              \
			left_ -= 5;                                                                          \
		}                                                                                            \
		if (!holds_)                                                                                 \
			fail_msg("never became so: %s", #condition);                                         \
	} while (0)
/* The contents of a small file as a heap string, NULL when it is not there. */
char *slurp(const char *path);

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ID(n) "00000000000000" #n

#endif

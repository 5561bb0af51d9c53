/* SPDX-License-Identifier: MIT
 *
 * Errors. Every davit function that can fail returns 0 (or a count) or a
 * negative DAVIT_E... code, and describes the failure in a struct davit_error
 * that the caller owns. Filling it never allocates. A library function never
 * logs an error that it returns and never exits.
 */
#ifndef DAVIT_ERROR_H
#define DAVIT_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* X(symbol, number, "word on the wire", HTTP status, "what it means") */
#define DAVIT_ERROR_LIST(X)                                                                                  \
	X(EINVAL, 1, "invalid", 400, "an argument, a spec or a request is malformed")                        \
	X(ENOENT, 2, "not-found", 404, "the named thing does not exist")                                     \
	X(EEXIST, 3, "exists", 409, "the named thing exists already")                                        \
	X(ESTATE, 4, "wrong-state", 409, "the operation is not allowed in the present state")                \
	X(ECONFLICT, 5, "conflict", 409, "the record was changed by somebody else meanwhile")                \
	X(ENOTSUP, 6, "unsupported", 422, "this runtime or this machine cannot do that")                     \
	X(EPERM, 7, "forbidden", 403, "the caller or the daemon has no right to do that")                    \
	X(ENOMEM, 8, "out-of-memory", 507, "memory could not be allocated")                                  \
	X(EIO, 9, "io", 500, "a read, write or system call failed")                                          \
	X(ENOSPC, 10, "no-space", 507, "no space or quota is left on the device")                            \
	X(ETIMEDOUT, 11, "timeout", 504, "the operation did not end before its deadline")                    \
	X(ECANCELED, 12, "canceled", 499, "the operation was cancelled")                                     \
	X(EPROTO, 13, "protocol", 502, "the peer did not keep to the protocol")                              \
	X(ECLOSED, 14, "closed", 503, "the connection or the object is closed")                              \
	X(ECORRUPT, 15, "corrupt", 500, "a stored record cannot be understood")                              \
	X(EUNAVAIL, 16, "unavailable", 503, "the store, runtime or service does not answer now")             \
	X(EQUOTA, 17, "quota", 403, "a quota of the namespace would be exceeded")                            \
	X(EEXEC, 18, "exec-failed", 422, "the program could not be executed")                                \
	X(EBUILD, 19, "build-failed", 422, "the source could not be built")                                  \
	X(ESOURCE, 20, "source", 422, "the source could not be resolved or fetched")                         \
	X(EINUSE, 21, "in-use", 409, "a port, name or file is in use by another")                            \
	X(ECOMPACTED, 22, "compacted", 410, "the asked-for revision is no longer kept")                      \
	X(EINTERNAL, 23, "internal", 500, "a defect in davit")

enum davit_error_code {
	DAVIT_OK = 0,
#define X(sym, num, word, http, doc) DAVIT_##sym = -(num),
	DAVIT_ERROR_LIST(X)
#undef X
};

/* Where a file or a request was wrong: filled by loaders, zero elsewhere. */
struct davit_error {
	int code;	   /* DAVIT_E..., or 0 while nothing failed */
	int sys_errno;	   /* errno of the cause, or 0. With DAVIT_EEXEC, ENOENT: there is no such program */
	unsigned line;	   /* 1-based line in the offending text, or 0 */
	unsigned column;   /* 1-based column, or 0 */
	char where[64];	   /* key, flag or subsystem concerned; may be empty */
	char message[448]; /* one sentence for a person, no trailing newline */
};

/* Clears *err. NULL is allowed and does nothing. */
void davit_error_clear(struct davit_error *err);

/* Fills *err (unless NULL) and returns code. `where` may be NULL. Too long
 * texts are cut. Never allocates, keeps errno. */
int davit_error_set(struct davit_error *err, int code, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* As davit_error_set, for a system call that failed: maps sys_errno to the
 * nearest code (ENOENT, EACCES, ENOMEM, ENOSPC, EEXIST, ETIMEDOUT, ... else
 * DAVIT_EIO), appends ": strerror", and returns that code. */
int davit_error_errno(struct davit_error *err, int sys_errno, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#ifdef __clang_analyzer__
/* What the analyser cannot see: neither ever returns 0. */
#define davit_error_set(err, code, ...) ((davit_error_set)(err, code, __VA_ARGS__), (code))
#define davit_error_errno(err, ...) ((davit_error_errno)(err, __VA_ARGS__), DAVIT_EIO)
#endif

/* Copies src to *dst unless either is NULL; returns src's code (0 for NULL). */
int davit_error_copy(struct davit_error *dst, const struct davit_error *src);

/* Puts "prefix: " before the message. Does nothing for NULL. */
void davit_error_prefix(struct davit_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The word used on the wire ("not-found"), never NULL; "ok" for 0. */
const char *davit_error_word(int code);

/* The code for a wire word, or DAVIT_EINTERNAL for an unknown one. */
int davit_error_from_word(const char *word);

/* The HTTP status that carries this code; 200 for 0. */
int davit_error_http(int code);

/* What the code means, for documentation; never NULL. */
const char *davit_error_doc(int code);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

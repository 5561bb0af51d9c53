/* SPDX-License-Identifier: MIT
 *
 * Small things that everything uses: cleanup attributes, arrays, flags.
 */
#ifndef DAVIT_BASE_UTIL_H
#define DAVIT_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define DAVIT_ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))
#define DAVIT_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define DAVIT_CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void davit_freep(void *p)
{
	free(*(void **)p);
}
static inline void davit_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
/* `DAVIT_AUTO_FREE char *s = ...;` frees s at the end of the scope. */
#define DAVIT_AUTO_FREE DAVIT_CLEANUP(davit_freep)
/* `DAVIT_AUTO_CLOSE int fd = -1;` closes fd at the end of the scope. */
#define DAVIT_AUTO_CLOSE DAVIT_CLEANUP(davit_closep)
/* Moves a pointer (or descriptor) out of an automatic variable. */
#define DAVIT_TAKE(p)                                                                                        \
	({                                                                                                   \
		__typeof__(p) taken_ = (p);                                                                  \
		(p) = NULL;                                                                                  \
		taken_;                                                                                      \
	})
#define DAVIT_TAKE_FD(fd)                                                                                    \
	({                                                                                                   \
		int taken_ = (fd);                                                                           \
		(fd) = -1;                                                                                   \
		taken_;                                                                                      \
	})

/* Retries a system call that a signal interrupted. */
#define DAVIT_EINTR(call)                                                                                    \
	({                                                                                                   \
		long r_;                                                                                     \
		do {                                                                                         \
			r_ = (long)(call);                                                                   \
		} while (r_ < 0 && errno == EINTR);                                                          \
		r_;                                                                                          \
	})

/* A moment of a loop that waits for another thread: the other half of the core has it meanwhile. */
static inline void davit_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	/* "yield" does nothing on most cores; this drains the pipeline, for about as long as x86 pauses. */
	__asm__ volatile("isb" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* Writes all n bytes to a blocking descriptor. 0, or -1 with errno. */
int davit_write_full(int fd, const void *data, size_t n);

#endif

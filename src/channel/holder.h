/* SPDX-License-Identifier: MIT
 *
 * A second process with the memory of this one, which does nothing but be there until this one
 * has ended, and ends then. The kernel takes the memory of a process apart before it closes its
 * descriptors and tells of its end, unless somebody else has that memory as well: then it is
 * told at once, however much memory there is, and the rest is done by nobody who is waited for.
 */
#ifndef DAVIT_CHANNEL_HOLDER_H
#define DAVIT_CHANNEL_HOLDER_H

/* Built for what knows nothing between a thread and a fork: there are none then. */
#if defined(__SANITIZE_THREAD__)
#define DAVIT_HOLDER_FORKS_ALONE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DAVIT_HOLDER_FORKS_ALONE 1
#endif
#endif
#ifndef DAVIT_HOLDER_FORKS_ALONE
#define DAVIT_HOLDER_FORKS_ALONE 0
#endif

/* One for this process, which has one thread; self is its own pidfd. It becomes a child of this
 * process's parent, who has to wait for it when this one has ended. It has no descriptors but
 * that one, and takes no signals but SIGKILL. Once in a process. Returns its pidfd, the
 * caller's, or -1: there is none, and the end takes what it takes. */
int davit_holder_start(int self);

#endif

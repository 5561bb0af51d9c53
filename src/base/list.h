/* SPDX-License-Identifier: MIT
 *
 * Intrusive doubly linked list with a head. A node that is in no list points
 * to itself, so removal is idempotent and membership can be asked.
 */
#ifndef DAVIT_BASE_LIST_H
#define DAVIT_BASE_LIST_H

#include "base/util.h"

struct davit_list {
	struct davit_list *prev, *next;
};

static inline void davit_list_init(struct davit_list *l)
{
	l->prev = l->next = l;
}
static inline bool davit_list_empty(const struct davit_list *l)
{
	return l->next == l;
}
static inline void davit_list_remove(struct davit_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	davit_list_init(n);
}
/* Appends n (in no list) before the head, that is at the end. */
static inline void davit_list_add_tail(struct davit_list *head, struct davit_list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
static inline void davit_list_add_head(struct davit_list *head, struct davit_list *n)
{
	davit_list_add_tail(head->next, n);
}
/* Moves all of `from` to the end of `to`. */
static inline void davit_list_splice(struct davit_list *to, struct davit_list *from)
{
	if (davit_list_empty(from))
		return;
	/* Its members are not looked at: they may be many, and cold. */
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	davit_list_init(from);
}
#define DAVIT_LIST_FOREACH(pos, head, member)                                                                \
	for ((pos) = DAVIT_CONTAINER_OF((head)->next, __typeof__(*(pos)), member); &(pos)->member != (head); \
	     (pos) = DAVIT_CONTAINER_OF((pos)->member.next, __typeof__(*(pos)), member))
/* As FOREACH, when the body may remove pos. */
#define DAVIT_LIST_FOREACH_SAFE(pos, tmp, head, member)                                                      \
	for ((pos) = DAVIT_CONTAINER_OF((head)->next, __typeof__(*(pos)), member),                           \
	    (tmp) = DAVIT_CONTAINER_OF((pos)->member.next, __typeof__(*(pos)), member);                      \
	     &(pos)->member != (head);                                                                       \
	     (pos) = (tmp), (tmp) = DAVIT_CONTAINER_OF((tmp)->member.next, __typeof__(*(tmp)), member))
#define DAVIT_LIST_FIRST(head, type, member)                                                                 \
	(davit_list_empty(head) ? NULL : DAVIT_CONTAINER_OF((head)->next, type, member))

#endif

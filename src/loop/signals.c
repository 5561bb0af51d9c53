/* SPDX-License-Identifier: MIT */
#include "loop/signals.h"

#include <assert.h>

static void on_signal(uv_signal_t *handle, int signo)
{
	struct davit_signals *s = handle->data;

	s->heard(s->user, signo);
}

int davit_signals_open(struct davit_signals *s, struct davit_loop *loop, const int *list,
		       void (*heard)(void *user, int signo), void *user, struct davit_error *err)
{
	int e = 0;

	s->n = 0;
	s->heard = heard;
	s->user = user;
	for (; !e && *list; list++) {
		assert(s->n < DAVIT_SIGNALS_MAX);
		e = uv_signal_init(davit_loop_uv(loop), &s->v[s->n]);
		if (e)
			break;
		s->v[s->n].data = s;
		e = uv_signal_start(&s->v[s->n++], on_signal, *list);
	}
	if (!e)
		return 0;
	davit_signals_close(s);
	return davit_error_set(err, DAVIT_EIO, NULL, "cannot watch for signals: %s", uv_strerror(e));
}

void davit_signals_close(struct davit_signals *s)
{
	while (s->n)
		uv_close((uv_handle_t *)&s->v[--s->n], NULL);
}

/* SPDX-License-Identifier: MIT */
#include "loop/hosted.h"

#include "base/util.h"
#include "loop/loop_impl.h"

struct hosted_loop {
	struct davit_loop base;
	void *host;
};

static struct hosted_loop *hosted(struct davit_loop *loop)
{
	return DAVIT_CONTAINER_OF(loop, struct hosted_loop, base);
}

static void hosted_close(struct davit_loop *loop)
{
	davit_loop_teardown(loop);
	free(hosted(loop));
}

int davit_loop_open_hosted(const struct davit_loop_ops *ops, void *host, struct davit_loop **ret_loop,
			   struct davit_error *err)
{
	struct hosted_loop *h = calloc(1, sizeof *h);

	if (!h)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	h->host = host;
	davit_loop_setup(&h->base, ops);
	h->base.close = hosted_close;
	*ret_loop = &h->base;
	return 0;
}

void *davit_loop_host(struct davit_loop *loop)
{
	return hosted(loop)->host;
}

void davit_loop_turn(struct davit_loop *loop)
{
	while (davit_loop_dispatch(loop))
		;
}

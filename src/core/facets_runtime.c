/* SPDX-License-Identifier: MIT
 *
 * Facets of runtimes: images, volumes and networks.
 */
#include "core/core_impl.h"

#include "base/units.h"

#include <stdio.h>
#include <string.h>

#define SHORT (60 * DAVIT_NSEC_PER_SEC)
#define NO_LIMIT 0 /* a pull takes as long as it takes */
#define NAME_MAX_LENGTH 63

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void give_up(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* "user: davit load: localhost/bb:1 on docker" */
static void tell(struct facet_op *f)
{
	core_event(f->core, f->event, NULL, NULL, "%s%s%s", f->cause ? f->cause : "", f->cause ? ": " : "",
		   f->what);
}

/* ------------------------------------------------------------------ by runtime */

enum which { IMAGES, IMAGE_BUILDS, VOLUMES, NETWORKS };

static const enum davit_capability capabilities[] = {
	[IMAGES] = DAVIT_CAP_IMAGES,
	[IMAGE_BUILDS] = DAVIT_CAP_IMAGE_BUILD,
	[VOLUMES] = DAVIT_CAP_NAMED_VOLUMES,
	[NETWORKS] = DAVIT_CAP_NETWORKS,
};

/* d is NULL for a runtime that is not loaded. */
static const void *facet_of(const struct davit_runtime_driver *d, enum which which)
{
	if (!d)
		return NULL;
	switch (which) {
	case IMAGES:
	case IMAGE_BUILDS:
		return d->images;
	case VOLUMES:
		return d->volumes;
	case NETWORKS:
		break;
	}
	return d->networks;
}

/* "; docker, podman do: --runtime" after the reason why this one does not. */
static void name_others(struct davit_core *c, enum which which, struct davit_error *err)
{
	size_t len = strlen(err->message), room = sizeof err->message;
	const struct core_runtime *r;
	size_t n = 0;

	DAVIT_LIST_FOREACH (r, &c->runtimes, list) {
		if (r->phase != RUNTIME_OPEN || !facet_of(r->driver, which) ||
		    !davit_can(&r->caps, capabilities[which]))
			continue;
		snprintf(err->message + len, room - len, "%s%s",
			 n++ ? ", " : "; runtimes that do: ", r->name);
		len = strlen(err->message);
	}
	if (!n)
		snprintf(err->message + len, room - len, "; no runtime here does");
}

static int find(struct davit_core *c, const char *name, enum which which, struct core_runtime **ret,
		struct davit_error *err)
{
	struct core_runtime *r;
	struct davit_error why;
	int code;

	if (!name || !name[0])
		name = c->config.default_runtime;
	r = core_runtime_find(c, name);
	if (!r)
		return davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'", name);
	code = facet_check(r, capabilities[which], facet_of(r->driver, which), &why);
	if (code == DAVIT_ENOTSUP)
		name_others(c, which, &why);
	if (code < 0)
		return davit_error_copy(err, &why);
	*ret = r;
	return 0;
}

int facet_builds_images(struct davit_core *c, const char *runtime, struct davit_error *err)
{
	struct core_runtime *r = core_runtime_find(c, runtime);

	/* One that does not answer just now does what it did. */
	if (r && r->phase == RUNTIME_LOST && r->driver->images && davit_can(&r->caps, DAVIT_CAP_IMAGE_BUILD))
		return 0;
	return find(c, runtime, IMAGE_BUILDS, &r, err);
}

int davit_core_images(struct davit_core *c, const char *runtime,
		      void (*each)(void *user, const struct davit_image_info *info), void *user,
		      struct davit_op *op, struct davit_error *err)
{
	struct core_runtime *r;
	struct facet_op *f;
	int code = find(c, runtime, IMAGES, &r, err);

	if (code < 0)
		return code;
	f = facet_op_new(c, NULL, op, SHORT, NULL);
	if (!f)
		return no_memory(err);
	r->driver->images->list(r->rt, each, user, &f->op);
	return 0;
}

/* What an order on an image needs until it is done. */
struct order {
	struct davit_image_order order;
	char *reference, *dockerfile;
	struct davit_buf loaded; /* names, each with a NUL */
	char runtime[32];
};

static void image_told(void *user, const char *text)
{
	struct facet_op *f = user;
	struct order *o = f->data;

	if (o->order.verb == DAVIT_IMAGE_LOAD && !strncmp(text, "loaded ", 7))
		davit_buf_add(&o->loaded, text + 7, strlen(text + 7) + 1);
	if (o->order.progress)
		o->order.progress(o->order.user, text);
}

static void image_done(struct facet_op *f)
{
	static const char *const events[] = {
		[DAVIT_IMAGE_PULL] = "image-pulled",	[DAVIT_IMAGE_LOAD] = "image-loaded",
		[DAVIT_IMAGE_IMPORT] = "image-loaded",	[DAVIT_IMAGE_BUILD] = "image-built",
		[DAVIT_IMAGE_REMOVE] = "image-removed",
	};
	struct order *o = f->data;

	f->event = events[o->order.verb];
	if (o->order.verb != DAVIT_IMAGE_LOAD) {
		core_event(f->core, f->event, NULL, NULL, "%s: %s on %s", f->cause, o->reference, o->runtime);
		return;
	}
	for (size_t at = 0; at < o->loaded.len; at += strlen(o->loaded.data + at) + 1)
		core_event(f->core, f->event, NULL, NULL, "%s: %s on %s", f->cause, o->loaded.data + at,
			   o->runtime);
}

static void free_order(void *data)
{
	struct order *o = data;

	if (!o)
		return;
	free(o->reference);
	free(o->dockerfile);
	davit_buf_fini(&o->loaded);
	free(o);
}

static struct order *copy_order(const struct davit_image_order *order, const char *runtime)
{
	struct order *o = calloc(1, sizeof *o);

	if (!o)
		return NULL;
	o->order = *order;
	o->reference = order->reference ? strdup(order->reference) : NULL;
	o->dockerfile = order->dockerfile ? strdup(order->dockerfile) : NULL;
	snprintf(o->runtime, sizeof o->runtime, "%s", runtime);
	if ((order->reference && !o->reference) || (order->dockerfile && !o->dockerfile)) {
		free_order(o);
		return NULL;
	}
	return o;
}

static void carry_out(struct core_runtime *r, struct facet_op *f)
{
	const struct davit_images_facet *images = r->driver->images;
	const struct order *o = f->data;
	int fd = o->order.fd;

	switch (o->order.verb) {
	case DAVIT_IMAGE_PULL:
		images->pull(r->rt, o->reference, image_told, f, &f->op);
		break;
	case DAVIT_IMAGE_LOAD:
		images->load(r->rt, fd, image_told, f, &f->op);
		break;
	case DAVIT_IMAGE_IMPORT:
		images->import(r->rt, o->reference, fd, &f->op);
		break;
	case DAVIT_IMAGE_BUILD:
		images->build(r->rt, o->reference, fd, o->dockerfile, image_told, f, &f->op);
		break;
	case DAVIT_IMAGE_REMOVE:
		images->remove(r->rt, o->reference, o->order.force, &f->op);
		break;
	}
}

int davit_core_image(struct davit_core *c, const char *runtime, const struct davit_image_order *order,
		     struct davit_op *op, struct davit_error *err)
{
	enum which which = order->verb == DAVIT_IMAGE_BUILD ? IMAGE_BUILDS : IMAGES;
	struct core_runtime *r;
	struct order *o = NULL;
	struct facet_op *f = NULL;
	int code = find(c, runtime, which, &r, err);

	if (code == 0 && order->verb != DAVIT_IMAGE_LOAD && (!order->reference || !order->reference[0]))
		code = davit_error_set(err, DAVIT_EINVAL, "reference", "the image has no name");
	if (code == 0) {
		o = copy_order(order, r->name);
		f = o ? facet_op_new(c, NULL, op, order->verb == DAVIT_IMAGE_REMOVE ? SHORT : NO_LIMIT,
				     order->cause ? order->cause : "user")
		      : NULL;
		code = f ? 0 : no_memory(err);
	}
	if (code < 0) {
		free_order(o);
		give_up(order->fd);
		return code;
	}
	f->data = o;
	f->drop = free_order;
	f->succeeded = image_done;
	carry_out(r, f);
	return 0;
}

/* ------------------------------------------------------- volumes and networks */

static const struct davit_objects_facet *objects_of(const struct core_runtime *r, enum davit_objects kind)
{
	return kind == DAVIT_OBJECTS_VOLUMES ? r->driver->volumes : r->driver->networks;
}

int davit_core_objects(struct davit_core *c, enum davit_objects kind, const char *runtime,
		       void (*each)(void *user, const struct davit_object_info *info), void *user,
		       struct davit_op *op, struct davit_error *err)
{
	struct core_runtime *r;
	struct facet_op *f;
	int code = find(c, runtime, kind == DAVIT_OBJECTS_VOLUMES ? VOLUMES : NETWORKS, &r, err);

	if (code < 0)
		return code;
	f = facet_op_new(c, NULL, op, SHORT, NULL);
	if (!f)
		return no_memory(err);
	objects_of(r, kind)->list(r->rt, each, user, &f->op);
	return 0;
}

static bool is_name(const char *s)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(s);

	return n && n <= NAME_MAX_LENGTH && strchr(letters, s[0]) &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

static int object_op(struct davit_core *c, enum davit_objects kind, const char *runtime, const char *name,
		     bool create, const char *cause, struct davit_op *op, struct davit_error *err)
{
	bool volumes = kind == DAVIT_OBJECTS_VOLUMES;
	const struct davit_objects_facet *facet;
	struct core_runtime *r;
	struct facet_op *f;
	int code = find(c, runtime, volumes ? VOLUMES : NETWORKS, &r, err);

	if (code < 0)
		return code;
	if (!is_name(name))
		return davit_error_set(
			err, DAVIT_EINVAL, "name",
			"'%s' is no name of a %s: letters, digits, '_', '.' and '-', 63 at most", name,
			volumes ? "volume" : "network");
	f = facet_op_new(c, NULL, op, SHORT, cause ? cause : "user");
	if (!f)
		return no_memory(err);
	f->data = strdup(name);
	if (!f->data || asprintf(&f->what, "%s on %s", name, r->name) < 0) {
		f->what = NULL;
		facet_op_free(f);
		return no_memory(err);
	}
	f->event = volumes ? (create ? "volume-created" : "volume-removed")
			   : (create ? "network-created" : "network-removed");
	f->succeeded = tell;
	facet = objects_of(r, kind);
	(create ? facet->create : facet->remove)(r->rt, f->data, &f->op);
	return 0;
}

int davit_core_object_create(struct davit_core *c, enum davit_objects kind, const char *runtime,
			     const char *name, const char *cause, struct davit_op *op,
			     struct davit_error *err)
{
	return object_op(c, kind, runtime, name, true, cause, op, err);
}

int davit_core_object_remove(struct davit_core *c, enum davit_objects kind, const char *runtime,
			     const char *name, const char *cause, struct davit_op *op,
			     struct davit_error *err)
{
	return object_op(c, kind, runtime, name, false, cause, op, err);
}

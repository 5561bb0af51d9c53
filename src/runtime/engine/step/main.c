/* SPDX-License-Identifier: MIT
 *
 * davit-step-engine RUNTIME              runs the step of descriptor 4 (src/step/protocol.h)
 * davit-step-engine RUNTIME remove ID    removes what one that was killed has left
 * davit-step-engine RUNTIME intercept ID USER COMMAND...    a terminal in a step that runs
 * davit-step-engine RUNTIME image NAME   prints the ID of an image, nothing if the engine does not have it
 * davit-step-engine RUNTIME fetch NAME   the same, but has the engine fetch it; or prints why it cannot
 *
 * In the place of a step's init: makes a container, puts davit-step and the artifacts into it, starts it,
 * carries what it says to the monitor and what the monitor says to it, and takes the outputs out.
 */
#include "runtime/engine/step/driver.h"

#include "base/paths.h"
#include "runtime/engine/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PATIENCE 120 /* seconds: engines take their time on a busy machine */

struct session {
	struct step_session step;
	struct driver driver;
	struct davit_buf in; /* frames of the engine */
};

static int take_frames(struct session *s, struct davit_error *err)
{
	struct frame f;
	int r;

	while ((r = frame_next(&s->in, &f)) > 0) {
		if (f.stream == DAVIT_STDOUT)
			davit_buf_add(&s->step.packets, f.data, f.n);
		else
			step_session_say(&s->step, f.data, f.n);
		davit_buf_consume(&s->in, FRAME_HEADER + f.n);
	}
	if (r < 0)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's stream makes no sense");
	if (s->step.packets.oom || s->in.oom || s->step.errors.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return step_session_take(&s->step, err);
}

static int hear(struct step_session *step, struct davit_error *err)
{
	struct session *s = DAVIT_CONTAINER_OF(step, struct session, step);
	int r = step_session_read_stream(step, &s->in, err);

	return r > 0 ? take_frames(s, err) : r;
}

/* ------------------------------------------------------------------------------ the whole */

static int run(struct session *s, struct davit_error *err)
{
	struct driver *d = &s->driver;
	int r = container_create(d, err);

	if (r == 0)
		r = carry_in(d, err);
	if (r == 0)
		r = container_start(d, &s->step.stream, &s->in, err);
	if (r == 0)
		r = step_session_order(&s->step, &d->order, err);
	if (r == 0) /* what came already */
		r = take_frames(s, err);
	if (r == 0)
		r = step_session_watch(&s->step, err);
	if (r == 0 && s->step.over && s->step.end.kind == STEP_ENDED)
		r = carry_out(d, err);
	return r;
}

static int step(struct session *s, struct davit_error *err)
{
	struct driver *d = &s->driver;
	struct davit_error second = {0};
	int r = step_session_read(&d->step, &d->order, err), removed;

	if (r == 0 && !d->step.image)
		r = davit_error_set(err, DAVIT_EINTERNAL, NULL, "the order of the step names no image");
	if (r < 0)
		return r;
	step_session_container(strrchr(d->step.directory, '/') + 1, d->container);
	r = run(s, err);
	if (s->step.unwanted)
		r = davit_error_set(err, DAVIT_ECANCELED, NULL, "nobody wants the step any more");
	removed = container_remove(d, &second);
	if (r == 0 && removed < 0)
		r = davit_error_copy(err, &second);
	return r;
}

/* By the program that does so for services; of the environment what begins with "+" is for over there. */
static int intercept(struct driver *d, int argc, char **argv)
{
	char **words = calloc((size_t)argc + 3, sizeof *words);
	char *program = davit_beside_program("davit-engine-terminal");

	if (!words || !program)
		return 125;
	words[0] = program;
	words[1] = (char *)d->api.socket;
	words[2] = (char *)"";
	words[3] = d->container;
	words[4] = argv[4];
	words[5] = (char *)"/tmp/build";
	memcpy(words + 6, argv + 5, (size_t)(argc - 5) * sizeof *words);
	execv(program, words);
	fprintf(stderr, "davit: %s: %s\n", program, strerror(errno));
	return 125;
}

/* Without a line's end; an image that is not there is no failure where it was not to be fetched. */
static int tell_image(struct driver *d, const char *name, bool fetch)
{
	struct davit_error err = {0};
	char id[128];
	int r;

	d->step.image = name;
	r = container_image(d, fetch, id, sizeof id, &err);
	if (r == 0)
		fputs(id, stdout);
	else if (r != DAVIT_ENOENT || fetch)
		fputs(err.message, stdout);
	return r == 0 || (r == DAVIT_ENOENT && !fetch) ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct session s = {.step = {.stream = -1, .hear = hear},
			    .driver = {.api = {.prefix = "", .patience = PATIENCE}}};
	struct driver *d = &s.driver;
	struct davit_error err = {0};
	DAVIT_AUTO_FREE char *socket = NULL;
	int r = 0;

	bool remove = argc == 4 && !strcmp(argv[2], "remove");
	bool join = argc > 5 && !strcmp(argv[2], "intercept");
	bool fetch = argc == 4 && !strcmp(argv[2], "fetch");
	bool image = fetch || (argc == 4 && !strcmp(argv[2], "image"));

	if (argc != 2 && !remove && !join && !image) {
		fputs("davit-step-engine is started by davit-step\n", stderr);
		return 2;
	}
	d->flavour = !strcmp(argv[1], "podman") ? &engine_podman : &engine_docker;
	socket = engine_flavour_socket(d->flavour, &err);
	d->api.socket = socket;
	if (!socket)
		r = err.code;
	if (image && r < 0)
		fputs(err.message, stdout);
	if (image)
		return r < 0 ? 1 : tell_image(d, argv[3], fetch);
	if (argc > 2)
		step_session_container(argv[3], d->container);
	if (join && r < 0)
		fprintf(stderr, "davit: %s\n", err.message);
	if (join)
		return r < 0 ? 125 : intercept(d, argc, argv);
	if (remove)
		return r == 0 && container_remove(d, &err) == 0 ? 0 : 1;
	if (r == 0)
		r = step(&s, &err);
	if (r < 0)
		step_session_fail(&err, r);
	else
		step_session_report(&s.step.end);
	davit_buf_fini(&s.in);
	step_session_fini(&s.step);
	davit_buf_fini(&d->order);
	return 0;
}

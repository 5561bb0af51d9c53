/* SPDX-License-Identifier: MIT
 *
 * The runtimes under test, and how each is made to do what a test needs.
 */
#include "base/buf.h"
#include "base/file.h"
#include "runtime/engine/engine.h"
#include "runtime/exec/exec.h"
#include "runtime/fake/fake.h"
#include "runtime/oci/oci.h"
#include "runtime/process/process.h"
#include "test/conformance/harness.h"

#include <stdarg.h>
#include <stdio.h>

static bool add(char ***argv, ...)
{
	const char *word;
	va_list ap;

	va_start(ap, argv);
	while ((word = va_arg(ap, const char *)))
		davit_strv_add(argv, word);
	va_end(ap);
	return true;
}

/* --- programs, for runtimes of this host --- */

static bool words_of(const char *guest, enum behaviour what, int n, char ***argv)
{
	static const char *const verbs[] = {
		[RUNS] = "run",
		[EXITS] = "exit",
		[DIES] = "die",
		[IGNORES_TERM] = "ignore",
		[PRINTS] = "print",
		[KEEPS_PRINTING] = "tick",
		[NOTIFIES] = "notify",
		[READY_BY_FD] = "ready-fd",
		[FORKS] = "daemon",
		[SHOWS] = "show",
		[SHOWS_DIRECTORY] = "directory",
		[CONNECTS] = "connect",
		[X_SAYS] = "say",
		[X_COPIES] = "copy",
		[X_SHOWS_NAME] = "name",
	};
	char number[16];

	if (what == MISSING || what == X_MISSING)
		return add(argv, "/nonexistent/program", NULL);
	snprintf(number, sizeof number, "%d", n);
	if (what == CONNECTS)
		return add(argv, guest, verbs[what], number, TEST_DENIED, TEST_ALLOWED, NULL);
	return add(argv, guest, verbs[what], what == SHOWS ? NULL : number, NULL);
}

static bool guest_words(enum behaviour what, int n, char ***argv)
{
	return words_of(CONFORMANCE_GUEST, what, n, argv);
}

/* --- fake, in a world that outlives the runtime --- */

static struct davit_fake_world *world;

static const struct davit_runtime_driver *get_fake(struct davit_loop *on, const char **why_not)
{
	if (davit_fake_world_new(on, &world, NULL) < 0) {
		*why_not = "out of memory";
		return NULL;
	}
	/* The suite breaks rules on purpose, to see them refused. */
	davit_fake_world_set_strict(world, false);
	return davit_fake_world_driver(world);
}

static void put_fake(const struct davit_runtime_driver *driver)
{
	davit_fake_world_free(world);
}

static bool fake_words(enum behaviour what, int n, char ***argv)
{
	char number[16], fd_text[32];

	snprintf(number, sizeof number, "%d", n);
	switch (what) {
	case RUNS:
	case READY_BY_FD:
		return add(argv, "fake", NULL);
	case EXITS:
		return add(argv, "fake", "exit", number, NULL);
	case DIES:
		return add(argv, "fake", "signal", number, "after", "0", NULL);
	case IGNORES_TERM:
		return add(argv, "fake", "ignore-stop", "log", "ignoring", NULL);
	case PRINTS:
		add(argv, "fake", NULL);
		for (int i = 1; i <= n; i++) {
			snprintf(fd_text, sizeof fd_text, "line %d", i);
			add(argv, "log", fd_text, NULL);
		}
		return add(argv, "log", "done", "stderr", NULL);
	case KEEPS_PRINTING:
		return add(argv, "fake", "log", "tick", "every", "20ms", "count", "0", NULL);
	case NOTIFIES:
		return add(argv, "fake", "status", "warming up", NULL);
	case SHOWS:
		return add(argv, "fake", "show", NULL);
	case MISSING:
		return add(argv, "fake", "fail-exec", NULL);
	case X_COPIES:
		return add(argv, "cat", NULL);
	case X_SHOWS_NAME:
		return add(argv, "env", "NAME", NULL);
	case X_SAYS:
		return add(argv, "say", number, NULL);
	case X_MISSING:
		return add(argv, "nonexistent", NULL);
	default:
		return false;
	}
}

/* --- exec, with the examples in Python --- */

static const struct davit_runtime_driver *get_program(const char *path, const char **why_not)
{
	const struct davit_runtime_driver *driver;
	static struct davit_error err;

	if (davit_exec_driver_new(path, &driver, &err) == 0)
		return driver;
	*why_not = err.message;
	return NULL;
}

static const struct davit_runtime_driver *get_pyproc(struct davit_loop *on, const char **why_not)
{
	return get_program(CONFORMANCE_EXAMPLES "/davit-runtime-pyproc", why_not);
}

static const struct davit_runtime_driver *get_python(struct davit_loop *on, const char **why_not)
{
	return get_program(CONFORMANCE_EXAMPLES "/davit-runtime-python", why_not);
}

static const struct subject fake = {"fake", false, get_fake, put_fake, NULL, fake_words};
static const struct subject pyproc = {"pyproc", true, get_pyproc, davit_exec_driver_free, NULL, guest_words};
static const struct subject python = {"python", true, get_python, davit_exec_driver_free, NULL, guest_words};

static const struct davit_runtime_driver *get_process(struct davit_loop *on, const char **why_not)
{
	return &davit_process_driver;
}

static void put_process(const struct davit_runtime_driver *driver)
{
}

static const struct subject process = {"process", true, get_process, put_process, NULL, guest_words};

/* --- engines, which test/engines/with-engines has started --- */

static const struct davit_runtime_driver *get_engine(const struct davit_runtime_driver *driver,
						     const char *word, const char **why_not)
{
	char name[64];
	const char *socket;

	snprintf(name, sizeof name, "DAVIT_TEST_%s_SOCKET", word);
	socket = getenv(name);
	snprintf(name, sizeof name, "DAVIT_TEST_NO_%s", word);
	*why_not = getenv(name) ? getenv(name) : "it was not run by test/engines/with-engines";
	if (!socket)
		return NULL;
	snprintf(name, sizeof name, "DAVIT_%s_SOCKET", word);
	setenv(name, socket, 1);
	return driver;
}

static const struct davit_runtime_driver *get_docker(struct davit_loop *on, const char **why_not)
{
	return get_engine(&davit_docker_driver, "DOCKER", why_not);
}

static const struct davit_runtime_driver *get_podman(struct davit_loop *on, const char **why_not)
{
	return get_engine(&davit_podman_driver, "PODMAN", why_not);
}

/* The guest is static, so that any image will do. */
static void prepare_container(struct davit_workload *w)
{
	static struct davit_mount guest = {.type = DAVIT_MOUNT_BIND,
					   .source = (char *)CONFORMANCE_GUEST,
					   .target = (char *)CONFORMANCE_GUEST,
					   .read_only = true};

	w->image = getenv("DAVIT_TEST_IMAGE");
	w->mounts = &guest;
	w->n_mounts = 1;
}

static const struct subject docker = {"docker",		 true,	      get_docker, put_process,
				      prepare_container, guest_words, true};
static const struct subject podman = {"podman",		 true,	      get_podman, put_process,
				      prepare_container, guest_words, true};

/* --- containers: a root file system with nothing but a place for files --- */

static char image[256];

static void prepare_rootfs(struct davit_workload *w)
{
	prepare_container(w);
	w->image = image;
}

static bool make_rootfs(const char **why_not)
{
	DAVIT_AUTO_FREE char *root = davit_path_join(harness_home(), "rootfs");
	DAVIT_AUTO_FREE char *tmp = root ? davit_path_join(root, "tmp") : NULL;
	static struct davit_error err;

	if (!tmp) {
		*why_not = "out of memory";
		return false;
	}
	snprintf(image, sizeof image, "rootfs:%s", root);
	if (davit_mkdirs(tmp, 0755, &err) == 0)
		return true;
	*why_not = err.message;
	return false;
}

static const struct davit_runtime_driver *get_crun(struct davit_loop *on, const char **why_not)
{
	return make_rootfs(why_not) ? &davit_crun_driver : NULL;
}

static const struct davit_runtime_driver *get_runc(struct davit_loop *on, const char **why_not)
{
	return make_rootfs(why_not) ? &davit_runc_driver : NULL;
}

static const struct subject crun = {"crun", true, get_crun, put_process, prepare_rootfs, guest_words};
static const struct subject runc = {"runc", true, get_runc, put_process, prepare_rootfs, guest_words};

const struct subject *const subjects[] = {
	&fake, &pyproc, &python, &process, &crun, &runc, &docker, &podman, NULL,
};

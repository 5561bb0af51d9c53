/* SPDX-License-Identifier: MIT
 *
 * The commands of steps. What they do is in davit-steps.so, with the libraries that it needs (libuv,
 * libarchive, libsodium), so that no other command starts slower for them.
 */
#include "cli/steps.h"

#include "base/file.h"

#include <dlfcn.h>

static int load(struct davit_cli *cli, const struct davit_steps **ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = NULL;
	void *module, *table = NULL;
	int r = cli->paths.libexec ? 0 : davit_paths_init(&cli->paths, err);

	if (r < 0)
		return r;
	path = davit_path_join(cli->paths.libexec, "davit-steps.so");
	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module)
		table = dlsym(module, "davit_steps");
	if (!table)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "steps cannot be run: %s", dlerror());
	*ret = table;
	return 0;
}

/* ----------------------------------------------------------------------------- execute */

static int run_execute(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_steps *steps;
	int r = load(cli, &steps, err);

	return r < 0 ? r : steps->execute(cli, err);
}

static const struct davit_option execute_options[] = {
	{"help", 'h', NULL, DAVIT_OPTION_FLAG, .doc = "Show this text"},
	{"config", 'c', "TASK", DAVIT_OPTION_PATH, .doc = "The task file"},
	{"input", 'i', "NAME=FROM", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "An input: a directory, a tar archive, or artifact:ID"},
	{"output", 'o', "NAME=TO", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "Where to put an output: a directory, or a tar archive (.tar, .tar.gz, .tar.zst)"},
	{"param", 'p', "NAME=VALUE", DAVIT_OPTION_PAIR, .repeat = true, .doc = "Set a param of the task"},
	{"include-ignored", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Of a git repository take also what git ignores"},
	{"cache", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Execute nothing if the same was done before, and give that result; remember this one"},
	{"hermetic", 0, NULL, DAVIT_OPTION_FLAG, .doc = "No network but a loopback of its own"},
	{"privileged", 0, NULL, DAVIT_OPTION_FLAG, .doc = "All capabilities and devices that the caller has"},
	{"runtime", 0, "RUNTIME", DAVIT_OPTION_STRING,
	 .doc = "process, oci, docker or podman (default: oci for a task in an image, else process)"},
	{"image", 0, "NAME", DAVIT_OPTION_STRING, .doc = "An image as root; goes before what the task says"},
	{"rootfs", 0, "ROOT", DAVIT_OPTION_STRING,
	 .doc = "The root: a directory, artifact:ID, or host; goes before what the task says"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION, .doc = "Abort it, as failed, after this time"},
	{"grace", 0, "DURATION", DAVIT_OPTION_DURATION,
	 .doc = "Between SIGTERM and SIGKILL when it is aborted (default: 10s)"},
	{"background", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Leave it to the daemon, and print the run's id: see davit run-log"},
	{"json", 0, NULL, DAVIT_OPTION_FLAG, .doc = "Events on standard output, one JSON object a line"},
	{0},
};
static const struct davit_option *const execute_lists[] = {execute_options, NULL};
static const char *const execute_examples[] = {
	"davit execute -c task.yml -i repo=. -o built=out",
	"run a task over this directory, and fetch what it made",
	"davit execute -c test.yml -i repo=. --hermetic",
	"the same without a network",
	"davit execute -c task.yml -i repo=. --cache",
	"do nothing if nothing has changed",
	NULL,
};

const struct davit_command davit_command_execute = {
	.name = "execute",
	.usage = "-c TASK",
	.group = "Steps",
	.summary = "Run a task over directories, isolated, and fetch what it makes",
	.details =
		"The task gets its inputs copy-on-write: what it changes in them, you do not see. Of a git "
		"repository it\ngets what git tracks and does not ignore. Its log comes as it is written. "
		"The exit "
		"status is the\ntask's own; 1 if it failed otherwise, 2 if it could not be run, 3 if it was "
		"aborted.",
	.options = execute_lists,
	.offline = true,
	.complete = "file",
	.run = run_execute,
	.examples = execute_examples,
};

/* --------------------------------------------------------------------------------- job */

static int run_job(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_steps *steps;
	int r = load(cli, &steps, err);

	return r < 0 ? r : steps->job(cli, err);
}

static const struct davit_option job_options[] = {
	{"input", 'i', "NAME=FROM", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "An artifact that is not fetched: a directory, a tar archive, or artifact:ID"},
	{"var", 'v', "NAME=VALUE", DAVIT_OPTION_PAIR, .repeat = true, .doc = "A ((var)) of the pipeline"},
	{"include-ignored", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Of a git repository take also what git ignores"},
	{"background", 0, NULL, DAVIT_OPTION_FLAG, .doc = "Print the run's id, and do not wait for its end"},
	{"watch", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Run again whenever the directory of the --input changes"},
	{"json", 0, NULL, DAVIT_OPTION_FLAG, .doc = "The same as -o json: events, one JSON object a line"},
	{0},
};
static const struct davit_option *const job_lists[] = {job_options, davit_options_lines, NULL};
static const char *const job_examples[] = {
	"davit job pipeline.yml build",
	"run the job, with a tree of its steps on a terminal",
	"davit job pipeline.yml build --input repo=. --var branch=main",
	"with this directory instead of what 'get: repo' would fetch",
	"davit job pipeline.yml build --background",
	"leave it to the daemon; see davit runs, run-log and abort",
	NULL,
};

const struct davit_command davit_command_job = {
	.name = "job",
	.usage = "PIPELINE.yml JOB",
	.group = "Steps",
	.summary = "Run a job of a pipeline file",
	.details = "The run is the daemon's, and goes on whatever becomes of this command or of the daemon. "
		   "The exit "
		   "status is\n0 when it succeeded, 1 when it failed, 2 when there was an error, 3 when it "
		   "was aborted. "
		   "Ctrl-C aborts it;\nonce more, at once.",
	.options = job_lists,
	.min_args = 2,
	.max_args = 2,
	.complete = "file",
	.run = run_job,
	.examples = job_examples,
};

/* --------------------------------------------------------------------- artifacts, caches */

static int run_artifacts(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_steps *steps;
	int r = load(cli, &steps, err);

	return r < 0 ? r : steps->artifacts(cli, err);
}

static int run_caches(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_steps *steps;
	int r = load(cli, &steps, err);

	return r < 0 ? r : steps->caches(cli, err);
}

static int run_intercept(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_steps *steps;
	int r = load(cli, &steps, err);

	return r < 0 ? r : steps->intercept(cli, err);
}

static const struct davit_option *const intercept_lists[] = {davit_options_common, NULL};
static const char *const intercept_examples[] = {
	"davit intercept",
	"a shell in the only step that runs",
	"davit intercept 3f2a77c0 -- ls -l built",
	"what a step has made so far",
	NULL,
};

const struct davit_command davit_command_intercept = {
	.name = "intercept",
	.usage = "[ID | RUN/STEP] [-- COMMAND [ARG...]]",
	.group = "Steps",
	.summary = "Open a shell in a step that runs",
	.details = "It sees what the step sees, is the same user and has no more rights. ID is that of the "
		   "step, "
		   "or of\nits run, or the beginning of one; without it the only step that runs is meant. "
		   "Exits with "
		   "the\ncommand's status, 125 when the step cannot be entered.",
	.options = intercept_lists,
	.max_args = 1,
	.rest = true,
	.offline = true,
	.run = run_intercept,
	.examples = intercept_examples,
};

static const struct davit_option artifacts_options[] = {
	{"why", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Tell of each why it is kept; with prune, why it went or stayed"},
	{"to", 0, "SIZE", DAVIT_OPTION_SIZE, .doc = "With prune: how much may be left (default: 0)"},
	{0},
};
static const struct davit_option *const artifacts_lists[] = {davit_options_common, artifacts_options, NULL};
static const char *const artifacts_examples[] = {
	"davit artifacts",
	"trees, caches and results, the least recently used first",
	"davit artifacts prune --to 5Gi --why",
	"make room, and tell of each why it went or stayed",
	"davit artifacts get 3f2a77c0 out",
	"copy one into a directory, or into an archive: out.tar, .tar.gz, .tar.zst",
	"davit artifacts rm 3f2a77c0",
	"remove one",
	NULL,
};

const struct davit_command davit_command_artifacts = {
	.name = "artifacts",
	.usage = "[get ID DIR|FILE.tar | rm ID... | prune]",
	.group = "Steps",
	.summary = "Show what steps took and made, and make room",
	.details = "What is in use is never removed. The store holds 20 GiB at most: what was used least "
		   "recently "
		   "goes\nbefore more comes in.",
	.options = artifacts_lists,
	.max_args = 64,
	.offline = true,
	.complete = "get|rm|prune",
	.run = run_artifacts,
	.examples = artifacts_examples,
};

static const struct davit_option caches_options[] = {
	{"why", 0, NULL, DAVIT_OPTION_FLAG, .doc = "Tell of each why it is kept"},
	{0},
};
static const struct davit_option *const caches_lists[] = {davit_options_common, caches_options, NULL};
static const char *const caches_examples[] = {
	"davit caches",
	"caches of tasks",
	"davit caches rm 3f2a77c0",
	"remove one: the next step begins with an empty one",
	NULL,
};

const struct davit_command davit_command_caches = {
	.name = "caches",
	.usage = "[rm ID...]",
	.group = "Steps",
	.summary = "Show the caches of tasks, and remove them",
	.options = caches_lists,
	.max_args = 64,
	.offline = true,
	.complete = "rm",
	.run = run_caches,
	.examples = caches_examples,
};

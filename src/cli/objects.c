/* SPDX-License-Identifier: MIT
 *
 * davit volume and davit network: what a runtime keeps by name.
 */
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <string.h>

struct object_kind {
	const char *name;   /* of the command */
	const char *plural; /* in the API */
	const char *detail; /* heading */
};

static void target_of(const struct davit_cli *cli, const struct object_kind *kind, const char *name,
		      struct davit_buf *out)
{
	const char *runtime = davit_cli_value(cli, "runtime");

	davit_buf_adds(out, "/v1/runtimes/");
	davit_url_escape(out, runtime && runtime[0] ? runtime : "-");
	davit_buf_addf(out, "/%s", kind->plural);
	if (name) {
		davit_buf_addc(out, '/');
		davit_url_escape(out, name);
	}
}

static int list(struct davit_cli *cli, const struct object_kind *kind, struct davit_error *err)
{
	const char *const columns[] = {"NAME", kind->detail, "CREATED", "MADE BY"};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *all = NULL, *v;
	size_t i;
	int r;

	target_of(cli, kind, NULL, &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &all, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t) {
		json_array_foreach(all, i, v)
		{
			char when[DAVIT_AGE_MAX + 8];
			struct libscols_line *row = davit_table_row(t, NULL);
			r |= davit_table_set(t, row, 0, davit_string(v, "name"));
			r |= davit_table_set(t, row, 1, davit_string(v, "detail"));
			r |= davit_table_set(t, row, 2,
					     davit_time_text(cli, davit_string(v, "created"), when));
			r |= davit_table_set(t, row, 3,
					     json_is_true(json_object_get(v, "ours")) ? "davit" : "others");
		}
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(all);
	return r;
}

static int create(struct davit_cli *cli, const struct object_kind *kind, const char *name,
		  struct davit_error *err)
{
	json_t *body = json_pack("{s:s}", "name", name);
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	if (!body)
		return davit_cli_usage(cli, err, "the name is not UTF-8 text");
	target_of(cli, kind, NULL, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), body, NULL, err);
	json_decref(body);
	return r;
}

static int drop(struct davit_cli *cli, const struct object_kind *kind, const char *name,
		struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	target_of(cli, kind, name, &target);
	return davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
}

static int run_kind(struct davit_cli *cli, const struct object_kind *kind, struct davit_error *err)
{
	const char *verb = cli->args[0];
	bool make = !strcmp(verb, "create");
	int r = 0;

	if (!strcmp(verb, "ls") && cli->n_args == 1)
		return list(cli, kind, err);
	if ((!make && strcmp(verb, "rm") != 0) || cli->n_args < 2)
		return davit_cli_usage(cli, err, "'%s' needs one of: ls, create NAME..., rm NAME...",
				       kind->name);
	for (size_t i = 1; r == 0 && i < cli->n_args; i++) {
		r = (make ? create : drop)(cli, kind, cli->args[i], err);
		if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
			printf("%s %s: %s\n", kind->name, cli->args[i], make ? "created" : "removed");
	}
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON)
		puts("{}");
	return r;
}

static const struct davit_option *const options[] = {davit_options_runtime, davit_options_data, NULL};

/* --- volumes --- */

static const struct object_kind volumes = {"volume", "volumes", "DIRECTORY"};

static int run_volume(struct davit_cli *cli, struct davit_error *err)
{
	return run_kind(cli, &volumes, err);
}

static const char *const volume_examples[] = {"davit volume ls --runtime docker",
					      "those of docker",
					      "davit volume create data",
					      "before its first use",
					      "davit volume rm data",
					      "with all that is in it",
					      NULL};

const struct davit_command davit_command_volume = {
	.name = "volume",
	.usage = "ls | create NAME... | rm NAME...",
	.group = "Images, volumes, networks",
	.summary = "List, make and remove volumes",
	.details = "A volume is made on its first use anyway: davit run -v NAME:/data.",
	.options = options,
	.min_args = 1,
	.max_args = 64,
	.complete = "ls|create|rm",
	.run = run_volume,
	.examples = volume_examples,
};

/* --- networks --- */

static const struct object_kind networks = {"network", "networks", "SUBNET"};

static int run_network(struct davit_cli *cli, struct davit_error *err)
{
	return run_kind(cli, &networks, err);
}

static const char *const network_examples[] = {"davit network create back --runtime docker",
					       "for davit run --network back",
					       "davit network ls",
					       "what is there",
					       "davit network rm back",
					       "remove it",
					       NULL};

const struct davit_command davit_command_network = {
	.name = "network",
	.usage = "ls | create NAME... | rm NAME...",
	.group = "Images, volumes, networks",
	.summary = "List, make and remove networks",
	.options = options,
	.min_args = 1,
	.max_args = 64,
	.complete = "ls|create|rm",
	.run = run_network,
	.examples = network_examples,
};

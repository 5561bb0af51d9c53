/* SPDX-License-Identifier: MIT */
#include "base/strv.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "cli/spec_options.h"
#include "cli/terminal.h"
#include "cli/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_WORDS 16

/* Parses a command line given as words; argv is borrowed by cli. */
static int parse(struct davit_cli *cli, char *argv[], struct davit_error *err)
{
	const struct davit_command *c = davit_command_find(argv[0]);
	int argc = 0;

	assert_non_null(c);
	while (argv[argc])
		argc++;
	*cli = (struct davit_cli){0};
	*err = (struct davit_error){0};
	return davit_cli_parse(cli, c, argc - 1, argv + 1, err);
}

static void options_and_arguments_may_be_mixed(void **state)
{
	char *argv[] = {"logs", "-fn", "7", "foobar", "--since=10s", "v2", NULL};
	struct davit_error err;
	struct davit_cli cli;

	(void)state;
	assert_int_equal(parse(&cli, argv, &err), 0);
	assert_true(davit_cli_flag(&cli, "follow"));
	assert_string_equal(davit_cli_value(&cli, "lines"), "7");
	assert_string_equal(davit_cli_value(&cli, "since"), "10s");
	assert_string_equal(davit_cli_arg(&cli, 0), "foobar");
	assert_string_equal(davit_cli_arg(&cli, 1), "v2");
	assert_null(davit_cli_arg(&cli, 2));
	davit_cli_fini(&cli);
}

static void what_follows_two_dashes_is_never_an_option(void **state)
{
	char *argv[] = {"exec", "foobar", "--", "ls", "--help", "-l", NULL};
	struct davit_error err;
	struct davit_cli cli;

	(void)state;
	assert_int_equal(parse(&cli, argv, &err), 0);
	assert_false(davit_cli_flag(&cli, "help"));
	assert_int_equal(cli.n_args, 1);
	assert_string_equal(cli.rest[0], "ls");
	assert_string_equal(cli.rest[2], "-l");
	davit_cli_fini(&cli);
}

static void the_last_of_a_single_option_wins_and_repeated_ones_all_count(void **state)
{
	char *argv[] = {"run", "x", "-e", "A=1", "--memory", "1Mi", "--env", "B=2", "--memory=2Mi", NULL};
	struct davit_error err;
	struct davit_cli cli;
	size_t pos = 0;

	(void)state;
	assert_int_equal(parse(&cli, argv, &err), 0);
	assert_string_equal(davit_cli_value(&cli, "memory"), "2Mi");
	assert_string_equal(davit_cli_next(&cli, "env", &pos), "A=1");
	assert_string_equal(davit_cli_next(&cli, "env", &pos), "B=2");
	assert_null(davit_cli_next(&cli, "env", &pos));
	davit_cli_fini(&cli);
}

static void a_wrong_command_line_is_a_usage_error_with_an_exact_message(void **state)
{
	static struct {
		char *argv[MAX_WORDS];
		const char *message;
	} bad[] = {
		{{"run", "x", "--memroy", "1"}, "'run' has no option '--memroy'; did you mean '--memory'?"},
		{{"run", "x", "--zzz"}, "'run' has no option '--zzz'; see 'davit run --help'"},
		{{"run", "x", "-Q"}, "'run' has no option '-Q'; see 'davit run --help'"},
		{{"run", "x", "--memory"}, "--memory needs a value: --memory SIZE"},
		{{"run", "x", "-e"}, "-e needs a value: -e NAME=VALUE"},
		{{"run", "x", "--force=yes"}, "--force takes no value"},
		{{"run", "x", "--memory", "64Xi"},
		 "--memory: '64Xi' is not a size such as 64Mi, 1.5Gi or 1000"},
		{{"run", "x", "--env", "A"}, "--env: 'A' is not of the form NAME=VALUE"},
		{{"run", "x", "--env", "=A"}, "--env: '=A' is not of the form NAME=VALUE"},
		{{"run", "x", "--restart", "alway"},
		 "--restart: 'alway' is not one of never, on-failure, always, unless-stopped; did you mean "
		 "'always'?"},
		{{"run", "x", "-i", "-1"}, NULL},
		{{"run", "x", "-i", "many"}, NULL},
		{{"run", "x", "--retries", "1.5"}, NULL},
		{{"run", "x", "--stop-grace", "5x"}, NULL},
		{{"run", "x", "--cpu", "two"}, NULL},
		{{"run", "x", "--ready-fd", "2"}, NULL},
		{{"run", "x", "--ready-port", "65536"}, NULL},
		{{"run", "x", "--command", "'open"}, "--command: a quote (') has no end"},
		{{"run", "x", "--directory", ""}, "--directory: the path is empty"},
		{{"run", "a", "b", "c"},
		 "'run' does not take the argument 'c': davit run NAME|DIR|URL [VERSION] [-- COMMAND "
		 "[ARG...]]"},
		{{"logs"}, "'logs' needs more arguments: davit logs NAME [VERSION]"},
		{{"logs", "x", "-n", "-3"}, NULL},
		{{"logs", "x", "--since", "yesterday"},
		 "--since: 'yesterday' is neither a duration such as 10s nor a time such as "
		 "2026-01-02T03:04:05Z"},
		{{"status", "-o", "jsn"},
		 "--output: 'jsn' is not one of table, wide, json, yaml, names; did you mean 'json'?"},
		{{"status", "--", "x"},
		 "'status' takes no command after '--': davit status [NAME [VERSION]]"},
		{{"kill"}, "'kill' needs more arguments: davit kill NAME [VERSION]"},
		{{"wait", "x", "--for", "never"}, "--for: 'never' is not one of ended, ready, gone"},
		{{"events", "--after", "x"}, NULL},
		{{"help", "a", "b"}, "'help' does not take the argument 'b': davit help [COMMAND]"},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_error err;
		struct davit_cli cli;
		assert_int_equal(parse(&cli, bad[i].argv, &err), DAVIT_EINVAL);
		assert_true(cli.usage);
		assert_true(err.message[0] != '\0');
		if (bad[i].message)
			assert_string_equal(err.message, bad[i].message);
		davit_cli_fini(&cli);
	}
}

static void every_command_is_whole_and_its_options_are_unique(void **state)
{
	(void)state;
	for (size_t i = 0; davit_commands[i]; i++) {
		const struct davit_command *c = davit_commands[i];
		char letters[256] = {0};
		assert_ptr_equal(davit_command_find(c->name), c);
		assert_true(!c->run == !!c->verbs);
		for (const struct davit_verb *v = c->verbs; v && v->name; v++)
			assert_true(v->run && v->usage && v->summary && v->options &&
				    v->min_args <= v->max_args);
		assert_non_null(c->summary);
		assert_non_null(c->examples);
		assert_non_null(davit_option_find(c, "help"));
		assert_non_null(davit_option_find(c, "output"));
		for (size_t k = 0; c->options[k]; k++)
			for (const struct davit_option *o = c->options[k]; o->name; o++) {
				assert_ptr_equal(davit_option_find(c, o->name), o);
				assert_true((o->type == DAVIT_OPTION_FLAG) == !o->value);
				assert_true((o->type == DAVIT_OPTION_CHOICE) == !!o->choices);
				assert_true(o->doc[strlen(o->doc) - 1] != '.');
				if (o->letter)
					assert_int_equal(letters[(unsigned char)o->letter]++, 0);
			}
	}
}

/* The spec that a command line makes, as compact JSON with sorted keys. */
static char *spec_of(char *argv[], struct davit_error *err)
{
	json_t *spec = json_object();
	struct davit_cli cli;
	char *text = NULL;
	int r = parse(&cli, argv, err);

	if (r == 0)
		r = davit_spec_options_apply(&cli, spec, err);
	if (r == 0)
		r = davit_spec_options_name(&cli, spec, err);
	if (r == 0)
		text = json_dumps(spec, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(spec);
	davit_cli_fini(&cli);
	return text;
}

static void options_become_keys_of_the_spec(void **state)
{
	static struct {
		char *argv[MAX_WORDS];
		const char *json;
	} good[] = {
		{{"run", "x", "--env", "A=b=c", "-e", "E="},
		 "{\"env\":{\"A\":\"b=c\",\"E\":\"\"},\"name\":\"x\",\"source\":\"x\"}"},
		{{"run", "x", "v2", "--namespace", "n"},
		 "{\"name\":\"x\",\"namespace\":\"n\",\"source\":\"x\",\"version\":\"v2\"}"},
		{{"run", "x", "--memory", "64Mi", "--cpu", "500m", "--pids", "7", "--image", "i"},
		 "{\"image\":\"i\",\"name\":\"x\",\"resources\":{\"cpu\":\"500m\",\"memory\":\"64Mi\","
		 "\"pids\":7}}"},
		{{"run", "x", "--retries", "3", "--restart", "always", "--image", "i"},
		 "{\"image\":\"i\",\"name\":\"x\",\"restart\":{\"policy\":\"always\",\"retries\":3}}"},
		{{"run", "x", "--command", "sleep 5", "--args", "-c 'a b'"},
		 "{\"args\":[\"-c\",\"a b\"],\"command\":[\"sleep\",\"5\"],\"name\":\"x\"}"},
		{{"run", "x", "--command", "sh", "--args", "-c", "--args", "a b"},
		 "{\"args\":[\"-c\",\"a b\"],\"command\":[\"sh\"],\"name\":\"x\"}"},
		{{"run", "x", "--", "printf", "%s", "a b"},
		 "{\"command\":[\"printf\",\"%s\",\"a b\"],\"name\":\"x\"}"},
		{{"run", "x", "--image", "i", "--depends-on", "db:v=1=ready", "--depends-on", "q"},
		 "{\"dependsOn\":[{\"condition\":\"ready\",\"service\":\"db:v=1\"},{\"service\":\"q\"}],"
		 "\"image\":\"i\",\"name\":\"x\"}"},
		{{"run", "x", "--image", "i", "--secret", "s", "--secret", "t=TOKEN"},
		 "{\"image\":\"i\",\"name\":\"x\",\"secrets\":[{\"name\":\"s\"},{\"env\":\"TOKEN\",\"name\":"
		 "\"t\"}]}"},
		{{"run", "x", "--image", "i", "-p", "8080:80", "-v", "/tmp:/data:ro"},
		 "{\"image\":\"i\",\"name\":\"x\",\"ports\":[\"8080:80\"],"
		 "\"volumes\":[{\"readOnly\":true,\"source\":\"/tmp\",\"target\":\"/data\"}]}"},
		{{"run", "x", "--image", "i", "-p", "8080:80,9090:9090/udp", "-v", "data:/d", "--tmpfs",
		  "/t:64Mi"},
		 "{\"image\":\"i\",\"name\":\"x\",\"ports\":[\"8080:80\",\"9090:9090/udp\"],\"volumes\":[{"
		 "\"readOnly\":false,\"source\":\"data\",\"target\":\"/"
		 "d\",\"type\":\"volume\"},{\"size\":\"64Mi\","
		 "\"target\":\"/t\",\"type\":\"tmpfs\"}]}"},
		{{"run", "x", "--image", "i", "--network", "none", "--read-only", "--cap-drop", "ALL",
		  "--cap-add", "net_admin"},
		 "{\"capabilities\":{\"add\":[\"net_admin\"],\"drop\":[\"ALL\"]},\"image\":\"i\",\"name\":"
		 "\"x\","
		 "\"network\":\"none\",\"readOnlyRootFilesystem\":true}"},
		{{"run", "x", "--image", "i", "--health-http", "8080/up", "--health-cmd", "a 'b c'",
		  "--health-retries", "2"},
		 "{\"health\":[{\"path\":\"/up\",\"port\":8080,\"retries\":\"2\",\"type\":\"http\"},"
		 "{\"command\":[\"a\",\"b c\"],\"retries\":\"2\",\"type\":\"command\"}],\"image\":\"i\","
		 "\"name\":\"x\"}"},
		{{"run", "x", "--image", "i", "--metadata", "a=1", "--metadata", "b=2", "-i", "0"},
		 "{\"image\":\"i\",\"instances\":0,\"metadata\":{\"a\":\"1\",\"b\":\"2\"},\"name\":\"x\"}"},
		{{"run", "--name", "x", "--source", "/tmp"}, "{\"name\":\"x\",\"source\":\"/tmp\"}"},
		{{"run", "--source", "/tmp"}, "{\"name\":\"tmp\",\"source\":\"/tmp\"}"},
		{{"run", "/tmp/", "v1"}, "{\"name\":\"tmp\",\"source\":\"/tmp\",\"version\":\"v1\"}"},
		{{"run", "example.org/group/web.git@v2"},
		 "{\"name\":\"web\",\"source\":\"example.org/group/web.git@v2\"}"},
		{{"run", "x", "--no-new-privileges", "--ready", "port", "--ready-port", "80", "--image", "i"},
		 "{\"image\":\"i\",\"name\":\"x\",\"noNewPrivileges\":true,\"ready\":{\"port\":80,\"type\":"
		 "\"port\"}}"},
	};

	(void)state;
	unsetenv("DAVIT_RUNTIME");
	unsetenv("DAVIT_RUNTIME_PROFILE");
	unsetenv("DAVIT_RUNTIME_SOURCE");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		struct davit_error err;
		char *text = spec_of(good[i].argv, &err);
		assert_string_equal(err.message, "");
		assert_non_null(text);
		assert_string_equal(text, good[i].json);
		free(text);
	}
}

static void the_environment_gives_defaults_and_options_win(void **state)
{
	char *plain[] = {"run", "x", NULL};
	char *given[] = {"run", "x", "--runtime", "process", "--source", "y", NULL};
	struct davit_error err;
	char *text;

	(void)state;
	setenv("DAVIT_RUNTIME", "fake", 1);
	setenv("DAVIT_RUNTIME_PROFILE", "local", 1);
	setenv("DAVIT_RUNTIME_SOURCE", "example.org/base", 1);
	text = spec_of(plain, &err);
	assert_string_equal(text, "{\"name\":\"x\",\"profile\":\"local\",\"runtime\":\"fake\","
				  "\"source\":\"example.org/base/x\"}");
	free(text);
	text = spec_of(given, &err);
	assert_string_equal(
		text, "{\"name\":\"x\",\"profile\":\"local\",\"runtime\":\"process\",\"source\":\"y\"}");
	free(text);
	unsetenv("DAVIT_RUNTIME");
	unsetenv("DAVIT_RUNTIME_PROFILE");
	unsetenv("DAVIT_RUNTIME_SOURCE");
}

static void what_cannot_be_a_spec_is_refused(void **state)
{
	static struct {
		char *argv[MAX_WORDS];
		const char *message;
	} bad[] = {
		{{"run"}, "no name is given: davit run NAME|DIR|URL [VERSION] [-- COMMAND [ARG...]]"},
		{{"run", "a", "--name", "b"}, "two names are given: 'a' and --name 'b'"},
		{{"run", "./no/such/dir"}, "./no/such/dir: No such file or directory"},
		{{"run", "x", "--source", "/no/such/dir"}, "/no/such/dir: No such file or directory"},
		{{"run", "x", "--directory", "/no/such"}, "--directory: /no/such: No such file or directory"},
		{{"run", "x", "-v", ":/x"}, "--volume: ':/x' is not of the form SOURCE[:TARGET][:ro]"},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_error err;
		assert_null(spec_of(bad[i].argv, &err));
		assert_string_equal(err.message, bad[i].message);
	}
}

static void words_are_split_as_in_a_shell_and_nothing_is_expanded(void **state)
{
	static const struct {
		const char *text;
		const char *words[6];
	} good[] = {
		{"", {NULL}},
		{"  a  b\tc ", {"a", "b", "c"}},
		{"sh -c 'echo $HOME; x'", {"sh", "-c", "echo $HOME; x"}},
		{"a\"b c\"d ''", {"ab cd", ""}},
		{"\"a\\\"b\\n\" \\ x", {"a\"b\\n", " x"}},
		{"'a\\b'", {"a\\b"}},
	};
	static const char *const bad[] = {"'a", "a \"b", "a\\"};
	struct davit_error err;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		char **words = NULL;
		assert_int_equal(davit_words_split(good[i].text, &words, &err), 0);
		for (size_t k = 0; good[i].words[k]; k++)
			assert_string_equal(words[k], good[i].words[k]);
		for (size_t k = davit_strv_len(words); k < 6; k++)
			assert_null(good[i].words[k]);
		davit_strv_free(words);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++)
		assert_int_equal(davit_words_check(bad[i], &err), DAVIT_EINVAL);
}

static int append_env(void *user, const char *name, const char *value, struct davit_error *err)
{
	if (!strcmp(name, "REFUSED"))
		return davit_error_set(err, DAVIT_EINVAL, NULL, "not so");
	davit_buf_addf(user, "%s=%s;", name, value);
	return 0;
}

static void environment_files_keep_values_as_they_are(void **state)
{
	static const struct {
		const char *text, *want;
	} good[] = {
		{"", ""},
		{"A=b=c\n", "A=b=c;"},
		{"# note\n\n  A=1\nexport B=2\r\nC=", "A=1;B=2;C=;"},
		{"A=\"x y\\n\"\nB='$x \"q\"'\n", "A=x y\n;B=$x \"q\";"},
		{"A= x # no comment\n", "A= x # no comment;"},
	};
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"A=1\nB\n", "f.env:2: 'B' is not of the form NAME=VALUE"},
		{"=1", "f.env:1: '=1' is not of the form NAME=VALUE"},
		{"A B=1", "f.env:1: 'A B=1' is not of the form NAME=VALUE"},
		{"A='x", "f.env:1: the quotes around the value of A do not match"},
		{"A=\"x\\\"", "f.env:1: the quotes around the value of A do not match"},
		{"A=1\nREFUSED=x", "f.env:2: not so"},
	};
	struct davit_error err;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		DAVIT_AUTO_BUF got = DAVIT_BUF_INIT;
		assert_int_equal(davit_env_parse(good[i].text, "f.env", append_env, &got, &err), 0);
		assert_string_equal(davit_buf_str(&got), good[i].want);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		DAVIT_AUTO_BUF got = DAVIT_BUF_INIT;
		assert_int_equal(davit_env_parse(bad[i].text, "f.env", append_env, &got, &err), DAVIT_EINVAL);
		assert_string_equal(err.message, bad[i].message);
	}
}

static void a_name_is_made_from_a_source(void **state)
{
	static const struct {
		const char *source, *name;
	} good[] = {
		{"/srv/web", "web"},	      {"/srv/My App/", "My-App"},
		{"host/a/web.git@v2", "web"}, {"https://h/g/sub/x@main", "x"},
		{"script.sh", "script.sh"},   {"/a/.hidden", "hidden"},
		{"/a/caf\xc3\xa9", "caf"},
	};
	struct davit_error err;
	char *name;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		assert_int_equal(davit_name_from_source(good[i].source, &name, &err), 0);
		assert_string_equal(name, good[i].name);
		free(name);
	}
	assert_int_equal(davit_name_from_source("/", &name, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "no name can be made from '/'; give one with --name");
}

static void ages_are_short(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} ages[] = {
		{0, "just now"},     {1, "1s ago"},    {59, "59s ago"},	   {60, "1m ago"},
		{3599, "59m ago"},   {3600, "1h ago"}, {86399, "23h ago"}, {86400, "1d ago"},
		{864000, "10d ago"}, {-5, "in 5s"},
	};
	char buf[DAVIT_AGE_MAX];
	int64_t now = INT64_C(1767225600) * DAVIT_NSEC_PER_SEC;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ages); i++)
		assert_string_equal(davit_age_format(now, now - ages[i].seconds * DAVIT_NSEC_PER_SEC, buf),
				    ages[i].text);
}

static void an_ended_service_has_the_exit_status_of_a_shell(void **state)
{
	static const struct {
		const char *json;
		bool ended;
		int exit;
	} cases[] = {
		{"{\"status\":\"stopped\",\"instances\":[{\"exit\":{\"code\":0,\"signal\":null}}]}", true, 0},
		{"{\"status\":\"error\",\"instances\":[{\"exit\":{\"code\":3,\"signal\":null}}]}", true, 3},
		{"{\"status\":\"error\",\"instances\":[{\"exit\":{\"code\":null,\"signal\":9}}]}", true, 137},
		{"{\"status\":\"error\",\"instances\":[{\"exit\":null}]}", true, 1},
		{"{\"status\":\"error\",\"instances\":[]}", true, 1},
		{"{\"status\":\"stopped\",\"instances\":[]}", true, 0},
		{"{\"status\":\"stopped\",\"instances\":[{\"exit\":{\"code\":0}},{\"exit\":{\"code\":4}}]}",
		 true, 4},
		{"{\"status\":\"running\",\"instances\":[{\"exit\":{\"code\":1}}]}", false, 1},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		json_t *s = json_loads(cases[i].json, 0, NULL);
		assert_int_equal(davit_service_ended(s), cases[i].ended);
		assert_int_equal(davit_service_exit(s), cases[i].exit);
		json_decref(s);
	}
}

static void yaml_quotes_what_would_be_read_as_something_else(void **state)
{
	json_t *v = json_pack("{s:s, s:s, s:s, s:i, s:b, s:n, s:[s,s]}", "a", "true", "b", "12", "c",
			      "plain text", "d", 12, "e", 1, "f", "g", "x", "");
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_yaml_write(v, out, &err), 0);
	fclose(out);
	assert_string_equal(
		text, "a: \"true\"\nb: \"12\"\nc: plain text\nd: 12\ne: true\nf: null\ng:\n- x\n- \"\"\n");
	free(text);
	json_decref(v);
}

static const char *typed(struct davit_keys *k, const char *text, bool *ret_whole)
{
	static struct davit_buf out;

	davit_buf_reset(&out);
	*ret_whole = davit_keys_filter(k, text, strlen(text), &out);
	return davit_buf_str(&out);
}

static void keys_that_detach_are_held_back_until_they_are_something_else(void **state)
{
	struct davit_keys k;
	struct davit_error err;
	bool whole;

	(void)state;
	assert_int_equal(davit_keys_parse("ctrl-p,ctrl-q", &k, &err), 0);
	assert_string_equal(typed(&k, "ab\x10", &whole), "ab");
	assert_false(whole);
	assert_string_equal(typed(&k, "c", &whole), "\x10"
						    "c");
	assert_string_equal(typed(&k, "\x10\x10", &whole), "\x10");
	assert_string_equal(typed(&k, "\x11rest", &whole), "");
	assert_true(whole);
	assert_int_equal(davit_keys_parse("a,a,b", &k, &err), 0);
	assert_string_equal(typed(&k, "aaab", &whole), "a");
	assert_true(whole);
	assert_int_equal(davit_keys_parse("", &k, &err), 0);
	assert_string_equal(typed(&k, "\x10\x11", &whole), "\x10\x11");
	assert_false(whole);
	assert_int_equal(davit_keys_parse(",,ctrl-]", &k, &err), 0);
	assert_int_equal(k.n, 2);
	assert_int_equal(davit_keys_parse("ctrl-", &k, &err), DAVIT_EINVAL);
	assert_int_equal(davit_keys_parse("ctrl-pp", &k, &err), DAVIT_EINVAL);
	assert_int_equal(davit_keys_parse("a,", &k, &err), DAVIT_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_arguments_may_be_mixed),
		cmocka_unit_test(what_follows_two_dashes_is_never_an_option),
		cmocka_unit_test(the_last_of_a_single_option_wins_and_repeated_ones_all_count),
		cmocka_unit_test(a_wrong_command_line_is_a_usage_error_with_an_exact_message),
		cmocka_unit_test(every_command_is_whole_and_its_options_are_unique),
		cmocka_unit_test(options_become_keys_of_the_spec),
		cmocka_unit_test(the_environment_gives_defaults_and_options_win),
		cmocka_unit_test(what_cannot_be_a_spec_is_refused),
		cmocka_unit_test(words_are_split_as_in_a_shell_and_nothing_is_expanded),
		cmocka_unit_test(environment_files_keep_values_as_they_are),
		cmocka_unit_test(a_name_is_made_from_a_source),
		cmocka_unit_test(ages_are_short),
		cmocka_unit_test(an_ended_service_has_the_exit_status_of_a_shell),
		cmocka_unit_test(yaml_quotes_what_would_be_read_as_something_else),
		cmocka_unit_test(keys_that_detach_are_held_back_until_they_are_something_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The test of @NAME@: a system of its own, in which the container is asked. */
#include <davit/container.h>

#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

extern const struct davit_definition davit_container;

/* Its answer, as text; or the error's. */
static const char *ask(struct davit_context *c, const char *text)
{
	struct davit_outcome *o = NULL;
	struct davit_error err = {0};
	static char answer[512];
	struct davit_promise p;
	struct davit_ref to;

	if (davit_find(c, "t", &to) || davit_ask(c, to, 1, text, strlen(text), NULL, &p))
		return "it cannot be asked";
	davit_await(c, p, 10 * SECOND, &o, &err);
	snprintf(answer, sizeof answer, "%s", o ? (const char *)o->data : err.message);
	davit_outcome_free(o);
	return answer;
}

static int expect(const char *what, const char *want, const char *got)
{
	int wrong = strcmp(want, got) != 0;

	printf("%s: %s\n", wrong ? "FAILED" : "ok", what);
	if (wrong)
		printf("  expected: %s\n  got:      %s\n", want, got);
	return wrong;
}

int main(void)
{
	const struct davit_create what = {
		.alias = "t", .definition = &davit_container, .flags = DAVIT_CREATE_START};
	const struct davit_system_config config = {.workers = 1, .no_processes = true};
	struct davit_system *system;
	struct davit_context *c;
	struct davit_error err;
	struct davit_promise p;
	int wrong = 0;

	if (davit_system_open(&config, &system, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	c = davit_system_context(system);
	if (davit_container_create(c, &what, &p) || davit_await(c, p, 10 * SECOND, NULL, &err)) {
		printf("FAILED: it does not start\n");
		wrong++;
	} else {
		wrong += expect("it answers", "t: request 1 was 'hello'", ask(c, "hello"));
		wrong += expect("it counts", "t: request 2 was 'again'", ask(c, "again"));
	}
	davit_system_close(system);
	return wrong ? 1 : 0;
}

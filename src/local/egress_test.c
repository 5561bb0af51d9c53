/* SPDX-License-Identifier: MIT
 *
 * The rules as text, and what the kernel makes of them: in a network namespace of this
 * test's own, in which an interface that leads nowhere stands for the way out.
 */
#include "local/egress.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char *one[] = {(char *)"192.0.2.0/24:443", (char *)"a.test", (char *)"[2001:db8::/32]:53", NULL};
static char *two[] = {(char *)"192.0.2.7", (char *)"127.0.0.0/8", NULL};
static struct davit_egress layers[] = {{(char *)"service", one}, {(char *)"namespace acme", two}};

static char *rules(size_t n, const struct local_names *names, const char *interface)
{
	const struct davit_workload w = {.egress = layers, .n_egress = n};
	struct davit_buf b = DAVIT_BUF_INIT;
	struct davit_error err;

	if (local_egress_rules(&w, names, "t", interface, &b, &err) < 0)
		fail_msg("%s", err.message);
	return davit_buf_take(&b);
}

static void each_layer_is_a_chain_that_all_must_return_from(void **state)
{
	struct local_name a = {.name = "a.test", .family = AF_INET, .address = {198, 51, 100, 9}};
	char *text = rules(2, &(struct local_names){&a, 1}, NULL);
	static const char *const parts[] = {
		"add table inet t\ndelete table inet t\ntable inet t {\n",
		"\tchain layer0 {\n\t\tip daddr 192.0.2.0/24 meta l4proto { tcp, udp } th dport 443 return\n"
		"\t\tip daddr 198.51.100.9/32 return\n"
		"\t\tip6 daddr 2001:db8::/32 meta l4proto { tcp, udp } th dport 53 return\n"
		"\t\tcounter reject",
		"\tchain layer1 {\n\t\tip daddr 192.0.2.7/32 return\n",
		"\t\tjump layer0\n\t\tjump layer1\n\t\taccept\n",
		"hook output priority 0; policy drop;",
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(parts); i++)
		if (!strstr(text, parts[i]))
			fail_msg("not there: %s\nin: %s", parts[i], text);
	free(text);
	text = rules(1, &(struct local_names){0}, "dvx0");
	assert_null(strstr(text, "198.51.100.9"));
	assert_non_null(strstr(text, "iifname != \"dvx0\" accept\n"));
	assert_null(strstr(text, "oifname"));
	free(text);
}

static void names_are_resolved_once_each_and_written_as_a_hosts_file(void **state)
{
	static char *names[] = {(char *)"localhost", (char *)"localhost:80", (char *)"192.0.2.1", NULL};
	struct davit_egress e = {(char *)"service", names};
	struct davit_workload w = {.egress = &e, .n_egress = 1};
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct local_names got;
	struct davit_error err;

	(void)state;
	assert_int_equal(local_names_resolve(&w, &got, &err), 0);
	local_names_write(&got, &text);
	assert_non_null(strstr(davit_buf_str(&text), "\tlocalhost\n"));
	assert_null(strstr(davit_buf_str(&text), "192.0.2.1"));
	for (size_t i = 0; i < got.n; i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(&got.v[i], &got.v[k], sizeof got.v[i]);
	local_names_fini(&got);
}

/* --- in a namespace --- */

/* An errno of sending one datagram, or 0. */
static int sent(const char *address, unsigned port)
{
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {inet_addr(address)}};
	DAVIT_AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (connect(s, (const struct sockaddr *)&a, sizeof a) < 0 || send(s, "x", 1, 0) < 0)
		return errno;
	/* What was rejected is told with the next. */
	return send(s, "x", 1, 0) < 0 ? errno : 0;
}

/* A pair of interfaces that everything goes to. */
static bool make_way_out(void)
{
	return system("ip link set lo up && ip link add out0 type veth peer name out1 && ip link set out1 up "
		      "&& ip address add 203.0.113.1/24 dev "
		      "out0 "
		      "&& ip link set out0 up && ip route add default dev out0") == 0;
}

#define CHECK(what)                                                                                          \
	do                                                                                                   \
		if (!(what)) {                                                                               \
			fprintf(stderr, "%d: not so: %s\n", __LINE__, #what);                                \
			_exit(1);                                                                            \
		}                                                                                            \
	while (0)

/* Without an interface the resolver has nobody to ask, and says so at once. */
static void unknown_name(void)
{
	static char *unknown[] = {(char *)"no-such-name.invalid", NULL};
	struct davit_egress e = {(char *)"service", unknown};
	const struct davit_workload w = {.egress = &e, .n_egress = 1};
	struct local_names got;
	struct davit_error err;

	CHECK(local_names_resolve(&w, &got, &err) == DAVIT_EUNAVAIL);
	CHECK(strstr(err.message, "egress.hosts: cannot resolve no-such-name.invalid: "));
	local_names_fini(&got);
}

static void in_namespace(void)
{
	const struct davit_workload w = {.egress = layers, .n_egress = 2};
	struct local_name a = {.name = "a.test", .family = AF_INET, .address = {198, 51, 100, 9}};
	struct local_names names = {&a, 1};
	DAVIT_AUTO_BUF script = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF wrong = DAVIT_BUF_INIT;
	struct davit_error err;
	int e;

	unknown_name();
	if (!make_way_out())
		_exit(77);
	CHECK(sent("192.0.2.7", 443) == 0);
	CHECK(sent("192.0.2.8", 443) == 0);
	CHECK(local_egress_rules(&w, &names, LOCAL_EGRESS_TABLE, NULL, &script, &err) == 0);
	if (local_nft("/proc/self/ns/net", &script, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		_exit(1);
	}
	CHECK(sent("192.0.2.7", 443) == 0);  /* both layers */
	CHECK(sent("192.0.2.7", 444) != 0);  /* the second alone */
	CHECK(sent("192.0.2.8", 443) != 0);  /* the first alone */
	CHECK(sent("198.51.100.9", 1) != 0); /* the same, by a name */
	CHECK(sent("203.0.113.9", 443) != 0);
	e = sent("127.0.0.1", 9);
	CHECK(e == 0 || e == ECONNREFUSED);
	/* Again: in place of what was there. */
	CHECK(local_nft(NULL, &script, &err) == 0);
	CHECK(sent("192.0.2.7", 443) == 0);
	/* Nothing of a script that is wrong in part is done. */
	davit_buf_adds(&wrong, "delete table inet " LOCAL_EGRESS_TABLE "\nno such command\n");
	CHECK(local_nft(NULL, &wrong, &err) == DAVIT_EIO);
	CHECK(strstr(err.message, "syntax error"));
	CHECK(sent("192.0.2.8", 443) != 0);
	_exit(0);
}

static void the_kernel_lets_through_what_every_layer_allows_and_nothing_else(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (!local_nft_program() || access("/sbin/ip", X_OK) < 0)
		skip();
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			_exit(77);
		in_namespace();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_layer_is_a_chain_that_all_must_return_from),
		cmocka_unit_test(names_are_resolved_once_each_and_written_as_a_hosts_file),
		cmocka_unit_test(the_kernel_lets_through_what_every_layer_allows_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

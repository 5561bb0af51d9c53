/* SPDX-License-Identifier: MIT
 *
 * The smaller facets: stats and signals are the peer's; ports are checked here,
 * since resolve may not wait for an answer.
 */
#include "runtime/exec/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static int stats_answered(struct request *q, const json_t *result, struct davit_error *err)
{
	return wire_get_stats(result, q->ret, err);
}

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	struct exec_runtime *e = exec_runtime(inst->runtime);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_error err;
	struct davit_json j;
	struct request *q;

	if (!exec_can(e, DAVIT_CAP_STATS, &err)) {
		davit_op_fail_error(op, &err);
		return;
	}
	q = request_new(e, "stats", inst, op, &buf, &j);
	if (!q)
		return;
	q->answer = stats_answered;
	q->ret = ret;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

const struct davit_stats_facet exec_stats = {.read = stats_read};

static void signal_send(struct davit_instance *inst, int signo, struct davit_op *op)
{
	struct exec_runtime *e = exec_runtime(inst->runtime);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_error err;
	struct davit_json j;
	struct request *q;

	if (!exec_can(e, DAVIT_CAP_SIGNAL, &err)) {
		davit_op_fail_error(op, &err);
		return;
	}
	q = request_new(e, "signal", inst, op, &buf, &j);
	if (!q)
		return;
	davit_json_put_int(&j, "signal", signo);
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

const struct davit_signal_facet exec_signal = {.send = signal_send};

/* --- ports --- */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static int parse_address(const struct davit_port *p, union address *ret, socklen_t *ret_len,
			 struct davit_error *err)
{
	const char *bind = *p->bind ? p->bind : "127.0.0.1";

	memset(ret, 0, sizeof *ret);
	if (inet_pton(AF_INET, bind, &ret->in.sin_addr) == 1) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(p->host);
		*ret_len = sizeof ret->in;
		return 0;
	}
	if (inet_pton(AF_INET6, bind, &ret->in6.sin6_addr) == 1) {
		ret->in6.sin6_family = AF_INET6;
		ret->in6.sin6_port = htons(p->host);
		*ret_len = sizeof ret->in6;
		return 0;
	}
	return davit_error_set(err, DAVIT_EINVAL, "ports", "'%s' is not an IP address", bind);
}

/* Binds the port for a moment: the only way to know. *ret is the one bound. */
static int probe(const struct davit_port *p, uint16_t *ret, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	union address a;
	socklen_t len;
	int on = 1;
	int r = parse_address(p, &a, &len, err);

	if (r < 0)
		return r;
	fd = socket(a.any.sa_family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return davit_error_errno(err, errno, "ports", "cannot open a socket");
	/* As servers do, or a port would be taken for a minute after its use. */
	if (!p->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &a.any, len) < 0) {
		if (errno == EADDRINUSE)
			return davit_error_set(err, DAVIT_EINUSE, "ports", "port %u is already in use",
					       p->host);
		return davit_error_errno(err, errno, "ports", "cannot use port %u", p->host);
	}
	if (getsockname(fd, &a.any, &len) < 0)
		return davit_error_errno(err, errno, "ports", "cannot learn the port");
	*ret = ntohs(a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
	return 0;
}

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	DAVIT_AUTO_FREE uint16_t *got = calloc(n + 1, sizeof *got);

	if (!got)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!exec_can(exec_runtime(rt), DAVIT_CAP_PORTS, err))
		return DAVIT_ENOTSUP;
	for (size_t i = 0; i < n; i++) {
		int r = probe(&ports[i], &got[i], err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++)
		ports[i].host = got[i];
	return 0;
}

const struct davit_ports_facet exec_ports = {.resolve = ports_resolve};

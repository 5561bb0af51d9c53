/* SPDX-License-Identifier: MIT
 *
 * The smaller facets of the fake runtime: stats, signals, ports.
 */
#include "runtime/fake/fake_impl.h"

#include <signal.h>

/* --- stats: invented, but the same for the same instance at the same time --- */

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	const struct fake_object *o = fake_object(inst);
	uint64_t up, grown;

	if (!o || o->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, "stats", "it does not run");
		return;
	}
	/* A twentieth of one CPU; memory that grows from 8 to 16 MiB in ten
	 * minutes, or to its limit; 1 KiB a second comes in, and half of that goes out. */
	up = (uint64_t)(davit_loop_now(o->world->loop) - o->started_at);
	grown = up / 600000000000 ? 8 << 20 : up * (8 << 20) / 600000000000;
	*ret = (struct davit_stats){
		.cpu_ns = up / 20,
		.memory = (8 << 20) + grown,
		.memory_limit = o->memory_limit,
		.processes = 1 + (uint32_t)o->n_execs,
		.net_rx_bytes = (int64_t)(up / 1000000 * 1024 / 1000),
		.net_tx_bytes = (int64_t)(up / 1000000 * 512 / 1000),
	};
	if (o->memory_limit && ret->memory > o->memory_limit)
		ret->memory = o->memory_limit;
	ret->memory_peak = ret->memory;
	davit_op_complete(op, 0);
}

const struct davit_stats_facet fake_stats = {.read = stats_read};

/* --- signals --- */

static bool harmless(int signo)
{
	return signo == 0 || signo == SIGCHLD || signo == SIGCONT || signo == SIGSTOP || signo == SIGTSTP ||
	       signo == SIGTTIN || signo == SIGTTOU || signo == SIGURG || signo == SIGWINCH;
}

static void signal_send(struct davit_instance *inst, int signo, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);
	struct davit_exit killed = fake_exit_signal(signo, "");
	int r = 0;

	if (!o || o->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, "signal", "it does not run");
		return;
	}
	if (signo < 0 || signo > SIGRTMAX) {
		davit_op_fail(op, DAVIT_EINVAL, "signal", "there is no signal %d", signo);
		return;
	}
	if (signo == SIGKILL || (!harmless(signo) && !o->ignores_stop))
		r = fake_object_end(o, 0, &killed);
	davit_op_complete(op, r);
}

const struct davit_signal_facet fake_signal = {.send = signal_send};

/* --- ports --- */

static bool wanted_before(const struct davit_port *ports, size_t n, uint16_t host)
{
	for (size_t i = 0; i < n; i++)
		if (ports[i].host == host)
			return true;
	return false;
}

/* The next free one; taken in turn, so that two that ask before either has
 * been created get two. 0 when all are taken. */
static uint16_t choose(struct davit_fake_world *w, const struct davit_port *ports, size_t n)
{
	for (int tries = FAKE_PORT_LAST - FAKE_PORT_FIRST + 1; tries; tries--) {
		uint16_t port = w->next_port;
		w->next_port = port == FAKE_PORT_LAST ? FAKE_PORT_FIRST : (uint16_t)(port + 1);
		if (!fake_world_port_taken(w, port) && !wanted_before(ports, n, port))
			return port;
	}
	return 0;
}

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	struct davit_fake_world *w = fake_world(rt);

	/* Refuse first: on failure nothing is changed. */
	for (size_t i = 0; i < n; i++)
		if (ports[i].host &&
		    (fake_world_port_taken(w, ports[i].host) || wanted_before(ports, i, ports[i].host)))
			return davit_error_set(err, DAVIT_EINUSE, "ports", "port %u is already in use",
					       ports[i].host);
	for (size_t i = 0; i < n; i++) {
		if (ports[i].host)
			continue;
		ports[i].host = choose(w, ports, n);
		if (!ports[i].host)
			return davit_error_set(err, DAVIT_EINUSE, "ports", "no port is free from %d to %d",
					       FAKE_PORT_FIRST, FAKE_PORT_LAST);
	}
	return 0;
}

const struct davit_ports_facet fake_ports = {.resolve = ports_resolve};

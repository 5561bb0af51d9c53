// SPDX-License-Identifier: MIT
//
// The benchmarks of bench-actor on the C++ Actor Framework 0.17 (Debian's libcaf-dev),
// with the same counts and the same lines.
//
// usage: bench-actor-caf WORKERS ROUNDS
#include <caf/all.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <semaphore.h>
#include <string>
#include <thread>
#include <vector>

#include <malloc.h>
#include <unistd.h>

using namespace caf;
using std::chrono::steady_clock;

namespace {

using go = atom_constant<atom("go")>;
using hit = atom_constant<atom("hit")>;
using get = atom_constant<atom("get")>;
using eat = atom_constant<atom("eat")>;
using denied = atom_constant<atom("denied")>;
using full = atom_constant<atom("full")>;
using bye = atom_constant<atom("bye")>;

sem_t done;

int64_t now()
{
	return std::chrono::nanoseconds(steady_clock::now().time_since_epoch()).count();
}

void await(int n)
{
	while (n--)
		sem_wait(&done);
}

// Millions of `work` a second.
template <class F> double rate(double work, F run)
{
	auto begun = now();
	run();
	return work / (double(now() - begun) * 1e-3);
}

// --- count, 4 to 1

behavior counter(event_based_actor *self, uint64_t want)
{
	return {[self, left = want](hit) mutable {
		if (!--left) {
			sem_post(&done);
			self->quit();
		}
	}};
}

behavior producer(event_based_actor *self, actor to, uint64_t each)
{
	return {[self, to, left = each](go) mutable {
		for (int i = 0; i < 1000 && left; i++, left--)
			self->send(to, hit::value);
		if (left)
			self->send(self, go::value);
		else
			self->quit();
	}};
}

double fan_in(actor_system &sys, int producers, uint64_t each)
{
	auto to = sys.spawn(counter, each * uint64_t(producers));
	return rate(double(each) * producers, [&] {
		for (int i = 0; i < producers; i++)
			anon_send(sys.spawn(producer, to, each), go::value);
		await(1);
	});
}

// --- ping-pong, ring

behavior pong(event_based_actor *self)
{
	return {[self](hit) { self->send(actor_cast<actor>(self->current_sender()), hit::value); },
		[self](bye) { self->quit(); }};
}

behavior ping(event_based_actor *self, actor other, uint64_t trips)
{
	auto left = std::make_shared<uint64_t>(trips);
	return {[self, other](go) { self->send(other, hit::value); },
		[self, other, left](hit) {
			if (--*left) {
				self->send(other, hit::value);
				return;
			}
			sem_post(&done);
			self->send(other, bye::value);
			self->quit();
		}};
}

double ping_pong(actor_system &sys)
{
	enum { TRIPS = 1000000 };
	auto a = sys.spawn(ping, sys.spawn(pong), TRIPS);
	return rate(TRIPS, [&] {
		anon_send(a, go::value);
		await(1);
	});
}

struct next_actor {
	actor next;
};

behavior ring_link(stateful_actor<next_actor> *self)
{
	return {[self](go, const actor &next) { self->state.next = next; },
		[self](uint64_t left) {
			if (!left)
				sem_post(&done);
			else
				self->send(self->state.next, left - 1);
		},
		[self](bye) { self->quit(); }};
}

double ring(actor_system &sys)
{
	enum { LINKS = 100, HOPS = 3000000 };
	std::vector<actor> all;
	for (int i = 0; i < LINKS; i++)
		all.push_back(sys.spawn(ring_link));
	for (int i = 0; i < LINKS; i++)
		anon_send(all[size_t(i)], go::value, all[size_t((i + 1) % LINKS)]);
	auto v = rate(HOPS, [&] {
		anon_send(all[0], uint64_t(HOPS));
		await(1);
	});
	for (auto &a : all)
		anon_send(a, bye::value);
	return v;
}

// --- big

enum { BIG = 120, BIG_PINGS = 20000 };

struct big_state {
	std::vector<actor> *all;
	uint64_t random;
	uint32_t left = BIG_PINGS;
};

behavior big_one(stateful_actor<big_state> *self, std::vector<actor> *all, uint64_t seed)
{
	self->state.all = all;
	self->state.random = seed;
	return {[self](hit) { self->send(actor_cast<actor>(self->current_sender()), get::value); },
		[self](get) {
			auto &s = self->state;
			if (!s.left) {
				sem_post(&done);
				return;
			}
			s.left--;
			s.random = s.random * UINT64_C(6364136223846793005) + 1442695040888963407u;
			self->send((*s.all)[(s.random >> 33) % BIG], hit::value);
		},
		[self](bye) { self->quit(); }};
}

double big(actor_system &sys)
{
	std::vector<actor> all;
	for (int i = 0; i < BIG; i++)
		all.push_back(sys.spawn(big_one, &all, uint64_t(i) * 7919 + 1));
	auto v = rate(2.0 * BIG * BIG_PINGS, [&] {
		for (auto &a : all)
			anon_send(a, get::value);
		await(BIG);
	});
	for (auto &a : all)
		anon_send(a, bye::value);
	return v;
}

// --- chameneos

enum { CHAMENEOS = 100, MEETINGS = 500000 };

struct mall_state {
	actor first;
	uint32_t left = MEETINGS, gone = 0;
};

behavior mall(stateful_actor<mall_state> *self)
{
	return {[self](hit) {
		auto &s = self->state;
		auto who = actor_cast<actor>(self->current_sender());
		if (!s.left) {
			self->send(who, bye::value);
			if (++s.gone == CHAMENEOS) {
				sem_post(&done);
				self->quit();
			}
		} else if (!s.first) {
			s.first = who;
		} else {
			self->send(s.first, hit::value, who);
			s.first = nullptr;
			s.left--;
		}
	}};
}

behavior chameneo(event_based_actor *self, actor where)
{
	return {[self, where](go) { self->send(where, hit::value); },
		[self, where](hit, const actor &other) {
			self->send(other, get::value);
			self->send(where, hit::value);
		},
		[self, where](get) { self->send(where, hit::value); },
		[self](bye) { self->quit(); }};
}

double chameneos(actor_system &sys)
{
	auto where = sys.spawn(mall);
	return rate(MEETINGS, [&] {
		for (int i = 0; i < CHAMENEOS; i++)
			anon_send(sys.spawn(chameneo, where), go::value);
		await(1);
	});
}

// --- behind a handler of 20 ms

double behind(actor_system &sys)
{
	enum { N = 15 };
	std::vector<int64_t> took;
	auto late = sys.spawn([&took](event_based_actor *self) -> behavior {
		return {[&took](int64_t sent) {
				took.push_back(now() - sent);
				sem_post(&done);
			},
			[self](bye) { self->quit(); }};
	});
	for (int i = 0; i < N; i++) {
		anon_send(sys.spawn([late](event_based_actor *self) -> behavior {
			return {[self, late](go) {
				auto sent = now();
				self->send(late, sent);
				while (now() < sent + 20000000)
					;
				self->quit();
			}};
		}),
			  go::value);
		await(1);
		std::this_thread::sleep_for(std::chrono::milliseconds(30));
	}
	anon_send(late, bye::value);
	std::sort(took.begin(), took.end());
	return double(took[N / 2]) * 1e-3;
}

// --- spawning

behavior nothing(event_based_actor *self)
{
	return {[self](bye) { self->quit(); }};
}

// Made by an actor, as bench-actor does; ended afterwards.
double made(actor_system &sys, int n, const std::function<double()> &after)
{
	std::vector<actor> all;
	all.reserve(size_t(n));
	sys.spawn([&all, n](event_based_actor *self) {
		for (int i = 0; i < n; i++)
			all.push_back(self->spawn<lazy_init>(nothing));
		sem_post(&done);
	});
	await(1);
	auto v = after();
	for (auto &a : all)
		anon_send(a, bye::value);
	return v;
}

double spawning(actor_system &sys)
{
	enum { N = 200000 };
	auto begun = now();
	return made(sys, N, [&] { return double(now() - begun) / N * 1e-3; });
}

double resident()
{
	long skip, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f && fscanf(f, "%ld %ld", &skip, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return double(pages) * double(sysconf(_SC_PAGESIZE));
}

double bytes(actor_system &sys)
{
	enum { N = 200000 };
	malloc_trim(0);
	auto before = resident();
	return made(sys, N, [&] { return (resident() - before - N * sizeof(actor)) / N; });
}

behavior child(event_based_actor *self, actor parent)
{
	return {[self, parent](go) {
		self->send(parent, hit::value);
		self->quit();
	}};
}

struct fork_state {
	uint32_t left, out = 0;
};

void fork_more(stateful_actor<fork_state> *self)
{
	auto &s = self->state;
	while (s.left && s.out < 1000) {
		self->send(self->spawn<lazy_init>(child, actor(self)), go::value);
		s.left--;
		s.out++;
	}
	if (!s.left && !s.out) {
		sem_post(&done);
		self->quit();
	}
}

behavior fork_join(stateful_actor<fork_state> *self, uint32_t n)
{
	self->state.left = n;
	return {[self](go) { fork_more(self); },
		[self](hit) {
			self->state.out--;
			fork_more(self);
		}};
}

double fork_join_creation(actor_system &sys)
{
	enum { N = 1000000 };
	auto a = sys.spawn(fork_join, uint32_t(N));
	return rate(N, [&] {
		anon_send(a, go::value);
		await(1);
	});
}

double fork_join_throughput(actor_system &sys)
{
	enum { FJ = 60, EACH = 50000 };
	std::vector<actor> all;
	for (int i = 0; i < FJ; i++)
		all.push_back(sys.spawn(counter, uint64_t(EACH)));
	auto giver = sys.spawn([&all](event_based_actor *self) -> behavior {
		auto left = std::make_shared<uint32_t>(EACH);
		return {[self, left, &all](go) {
			for (int turn = 0; turn < 16 && *left; turn++, --*left)
				for (auto &a : all)
					self->send(a, hit::value);
			if (*left)
				self->send(self, go::value);
			else
				self->quit();
		}};
	});
	return rate(double(FJ) * EACH, [&] {
		anon_send(giver, go::value);
		await(FJ);
	});
}

// --- dictionary

enum { CLIENTS = 20, ASKS = 50000, SLOTS = 512 };

behavior dictionary(event_based_actor *self)
{
	auto slots = std::make_shared<std::vector<uint64_t>>(SLOTS);
	return {[self, slots](hit, uint64_t key, uint64_t value) {
			(*slots)[key % SLOTS] = value;
			self->send(actor_cast<actor>(self->current_sender()), value);
		},
		[self, slots](get, uint64_t key) {
			self->send(actor_cast<actor>(self->current_sender()), (*slots)[key % SLOTS]);
		},
		[self](bye) { self->quit(); }};
}

struct client_state {
	uint64_t random;
	uint32_t left = ASKS;
};

void ask_next(stateful_actor<client_state> *self, const actor &to)
{
	auto &s = self->state;
	if (!s.left--) {
		sem_post(&done);
		self->quit();
		return;
	}
	s.random = s.random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	if (s.random >> 33 & 7)
		self->send(to, get::value, s.random >> 40);
	else
		self->send(to, hit::value, s.random >> 40, s.random);
}

behavior client(stateful_actor<client_state> *self, actor to, uint64_t seed)
{
	self->state.random = seed;
	return {[self, to](go) { ask_next(self, to); }, [self, to](uint64_t) { ask_next(self, to); }};
}

double concurrent_dictionary(actor_system &sys)
{
	auto to = sys.spawn(dictionary);
	auto v = rate(double(CLIENTS) * ASKS, [&] {
		for (uint64_t i = 0; i < CLIENTS; i++)
			anon_send(sys.spawn(client, to, i + 1), go::value);
		await(CLIENTS);
	});
	anon_send(to, bye::value);
	return v;
}

// --- philosophers

enum { PHILOSOPHERS = 20, MEALS = 20000 };

behavior arbiter(event_based_actor *self)
{
	auto forks = std::make_shared<std::vector<bool>>(PHILOSOPHERS);
	return {[self, forks](hit, uint32_t who) {
			auto left = (*forks)[who], right = (*forks)[(who + 1) % PHILOSOPHERS];
			auto from = actor_cast<actor>(self->current_sender());
			if (left || right) {
				self->send(from, denied::value);
				return;
			}
			(*forks)[who] = (*forks)[(who + 1) % PHILOSOPHERS] = true;
			self->send(from, eat::value);
		},
		[forks](full, uint32_t who) { (*forks)[who] = (*forks)[(who + 1) % PHILOSOPHERS] = false; },
		[self](bye) { self->quit(); }};
}

behavior philosopher(event_based_actor *self, actor to, uint32_t who)
{
	auto left = std::make_shared<uint32_t>(MEALS);
	return {[self, to, who](go) { self->send(to, hit::value, who); },
		[self, to, who, left](eat) {
			self->send(to, full::value, who);
			if (--*left) {
				self->send(to, hit::value, who);
				return;
			}
			sem_post(&done);
			self->quit();
		},
		[self, to, who](denied) { self->send(to, hit::value, who); }};
}

double philosophers(actor_system &sys)
{
	auto to = sys.spawn(arbiter);
	auto v = rate(double(PHILOSOPHERS) * MEALS, [&] {
		for (uint32_t i = 0; i < PHILOSOPHERS; i++)
			anon_send(sys.spawn(philosopher, to, i), go::value);
		await(PHILOSOPHERS);
	});
	anon_send(to, bye::value);
	return v;
}

// --- requests with a timeout

double request(actor_system &sys)
{
	enum { N = 300000 };
	auto to = sys.spawn([](event_based_actor *self) -> behavior {
		return {[](get) { return uint64_t(1); }, [self](bye) { self->quit(); }};
	});
	auto from = sys.spawn([to](event_based_actor *self) -> behavior {
		auto left = std::make_shared<uint32_t>(N);
		auto next = std::make_shared<std::function<void()>>();
		*next = [self, to, left, next] {
			if (!--*left) {
				sem_post(&done);
				self->quit();
				*next = nullptr;
				return;
			}
			self->request(to, std::chrono::seconds(10), get::value).then([next](uint64_t) {
				auto again = *next;
				again();
			});
		};
		return {[next](go) { (*next)(); }};
	});
	auto v = rate(N, [&] {
		anon_send(from, go::value);
		await(1);
	});
	anon_send(to, bye::value);
	return v;
}

struct bench {
	const char *name, *unit;
	bool less;
	std::function<double(actor_system &)> run;
};

const bench benches[] = {
	{"count", "M msg/s", false, [](actor_system &s) { return fan_in(s, 1, 5000000); }},
	{"4-to-1", "M msg/s", false, [](actor_system &s) { return fan_in(s, 4, 1000000); }},
	{"ping-pong", "M trips/s", false, ping_pong},
	{"ring", "M hops/s", false, ring},
	{"big", "M msg/s", false, big},
	{"chameneos", "M meetings/s", false, chameneos},
	{"behind-20ms", "us p50", true, behind},
	{"spawn", "us", true, spawning},
	{"bytes", "bytes/actor", true, bytes},
	{"fork-join-creation", "M actors/s", false, fork_join_creation},
	{"fork-join-throughput", "M msg/s", false, fork_join_throughput},
	{"dictionary", "M asks/s", false, concurrent_dictionary},
	{"philosophers", "M meals/s", false, philosophers},
	{"request", "M/s", false, request},
};

}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: bench-actor-caf WORKERS ROUNDS\n");
		return 2;
	}
	auto workers = std::max(1, atoi(argv[1])), rounds = std::max(1, atoi(argv[2]));
	sem_init(&done, 0, 0);
	for (auto &b : benches) {
		std::vector<double> v;
		for (int i = 0; i < rounds; i++) {
			actor_system_config cfg;
			cfg.set("scheduler.max-threads", uint64_t(workers));
			actor_system sys{cfg};
			v.push_back(b.run(sys));
		}
		std::sort(v.begin(), v.end());
		printf("%-24s %d workers %10.3f  best %10.3f %s\n", b.name, workers, v[size_t(rounds) / 2],
		       b.less ? v.front() : v.back(), b.unit);
		fflush(stdout);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * The spec: what a user wants to run. It comes from the command line, from YAML
 * or from JSON, goes into the store as canonical JSON, and comes back equal.
 * One table (davit_spec_fields) drives parsing, writing, comparing and the
 * documentation, so that an option cannot be dropped on the way.
 */
#ifndef DAVIT_SPEC_H
#define DAVIT_SPEC_H

#include "davit/error.h"
#include "davit/runtime.h"
#include "davit/supervision.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum davit_kind {
	DAVIT_KIND_SERVICE,    /* "Service": the default */
	DAVIT_KIND_SUPERVISOR, /* "Supervisor": an inner node of the tree */
	DAVIT_KIND_NAMESPACE,  /* "Namespace": quota of a namespace */
};

enum davit_ready_type {
	DAVIT_READY_TYPE_STARTED, /* ready when it runs: the default */
	DAVIT_READY_TYPE_NOTIFY,
	DAVIT_READY_TYPE_FD,
	DAVIT_READY_TYPE_PORT,
	DAVIT_READY_TYPE_LOG,
};

enum davit_condition {
	DAVIT_CONDITION_STARTED,
	DAVIT_CONDITION_READY,	   /* the default */
	DAVIT_CONDITION_COMPLETED, /* ended with success */
};

enum davit_egress_policy {
	DAVIT_EGRESS_ALLOW, /* it may connect to anything: the default */
	DAVIT_EGRESS_DENY,  /* ... to nothing but egress.hosts */
};

enum davit_update_order {
	DAVIT_UPDATE_START_FIRST, /* the default: the new one is ready before the old one stops */
	DAVIT_UPDATE_STOP_FIRST,
};

struct davit_dependency {
	char *service; /* "name", "name:version" or "namespace/name:version" */
	enum davit_condition condition;
};

struct davit_volume {
	char *source;  /* an absolute path, or a volume's name; NULL for a tmpfs */
	char *target;  /* an absolute path; of a config also a name: $CONFIG_DIRECTORY/NAME */
	char *content; /* of a config: its text */
	bool read_only;
	enum davit_mount_type type;
	uint64_t size; /* of a tmpfs, bytes; 0: the platform's default */
};

enum davit_health_type {
	DAVIT_HEALTH_HTTP, /* GET `path` on a port is answered with an expected status: the default */
	DAVIT_HEALTH_TCP,  /* a port accepts a connection */
	DAVIT_HEALTH_COMMAND,
	DAVIT_HEALTH_FILE,  /* a file is there */
	DAVIT_HEALTH_HTTPS, /* the same as HTTP by TLS */
};

enum davit_health_role {
	DAVIT_HEALTH_LIVENESS,	/* failing is a failure of the instance: the default */
	DAVIT_HEALTH_READINESS, /* failing makes it not ready */
	DAVIT_HEALTH_STARTUP,	/* until it has passed once, the others wait */
};

/* One health check (docs/health.md). Every number is set. */
struct davit_health_check {
	enum davit_health_type type;
	enum davit_health_role role;
	char *name;	       /* for people; NULL: the type */
	char **command;	       /* of type command: run inside */
	char *path;	       /* of type http: "/" */
	char *file;	       /* of type file: an absolute path */
	char *host;	       /* of type http: the Host header; NULL: address and port */
	char *ca;	       /* of type https: PEM file of the authorities; NULL: the system's */
	bool insecure;	       /* of type https: the certificate is not verified */
	int64_t port;	       /* of types http and tcp; 0: the first of `ports` */
	int64_t status;	       /* of type http: the status that is expected; 0: 200 to 399 */
	int64_t interval;      /* ns, 10 s */
	int64_t timeout;       /* ns, 2 s */
	int64_t retries;       /* failures in a row that make it fail, 3 */
	int64_t start_period;  /* ns after the start in which failures mean nothing, 0 */
	int64_t fast_interval; /* ns, until it has passed once: 1 s, at most `interval` */
};

struct davit_secret_ref {
	char *name; /* of the secret, in the service's namespace */
	char *env;  /* give it as this variable; NULL: as the file $CREDENTIALS_DIRECTORY/name */
};

struct davit_pair {
	char *name;
	char *value;
};

/* An int list, e.g. exit statuses; a signal is stored as 256 + its number. */
struct davit_ints {
	int *v;
	size_t n;
};

/* Immutable once parsed. All strings are owned by the spec; NULL where the user
 * gave nothing, unless a default is named. */
struct davit_spec {
	unsigned line, column; /* where it began in the text that it was parsed from; 0: in none */
	enum davit_kind kind;
	char *namespace_; /* "default" */
	char *name;
	char *version; /* "latest" */

	char *source; /* path, git URL, or name under the default source */
	char *type;   /* a cell's name, overriding detection */
	char *image;
	char *runtime; /* NULL: the daemon's default */
	char *profile;
	char **command;		/* program and its first arguments; replaces what the cell says */
	char **args;		/* appended to the command */
	char **entrypoint;	/* replaces the image's entrypoint */
	struct davit_pair *env; /* in order; later wins */
	size_t n_env;
	char *directory;
	char *user;
	struct davit_pair *metadata;
	size_t n_metadata;
	int64_t instances; /* 1; 0 allowed */
	bool stopped;	   /* wanted stopped: kept in the record, nothing runs */

	int64_t cpu;		      /* resources.cpu, millicores */
	uint64_t memory, disk;	      /* resources.memory, resources.disk, bytes */
	int64_t pids;		      /* resources.pids */
	struct davit_rlimit *rlimits; /* "rlimits": {"nofile": "1024:4096", ...} */
	size_t n_rlimits;

	enum davit_restart_policy restart; /* restart.policy; "restart: always" is short for it */
	int64_t retries;		   /* restart.retries; -1: without end, the default */
	struct davit_ints success;	   /* restart.success: exit statuses besides 0 that are clean */
	struct davit_ints prevent;	   /* restart.prevent: exits after which it is never restarted */
	struct davit_backoff backoff;	   /* restart.backoff.* */

	int stop_signal;    /* stop.signal: SIGTERM */
	int64_t stop_grace; /* stop.grace: ns, 10 s */

	enum davit_ready_type ready; /* ready.type */
	int64_t ready_fd;	     /* ready.fd: 3 */
	int64_t ready_port;	     /* ready.port: 0 means the service's first port */
	char *ready_pattern;	     /* ready.pattern: POSIX extended regular expression over a log line */
	int64_t ready_timeout;	     /* ready.timeout: ns, 60 s; not ready by then is a failure */

	struct davit_dependency *depends; /* dependsOn */
	size_t n_depends;
	struct davit_port *ports;
	size_t n_ports;
	struct davit_volume *volumes;
	size_t n_volumes;
	struct davit_secret_ref *secrets;
	size_t n_secrets;
	char *service_account;		 /* serviceAccount */
	struct davit_log_config log;	 /* logs.maxSize, logs.maxFiles, logs.policy, logs.rate */
	bool no_new_privileges;		 /* noNewPrivileges */
	bool read_only_root;		 /* readOnlyRootFilesystem */
	char **cap_add, **cap_drop;	 /* capabilities.add, .drop: "CAP_NET_ADMIN", "ALL" */
	char *network;			 /* "bridge", "host", "none", or the name of one */
	char **dns;			 /* addresses */
	enum davit_egress_policy egress; /* egress.policy; of a Namespace too */
	char **egress_hosts;		 /* egress.hosts, in the form of base/host.h */
	struct davit_health_check *health;
	size_t n_health;

	char *supervisor; /* name of the Supervisor it stands under; NULL: the root */
	bool significant; /* its end shuts a supervisor with autoShutdown down */

	enum davit_update_order update_order; /* update.order */
	int64_t update_parallel;	      /* update.parallel: 1 */

	/* kind Supervisor only */
	enum davit_strategy strategy;
	int64_t max_restarts;	/* intensity.restarts; -1: no limit, the default is 10 */
	int64_t restart_period; /* intensity.period: ns, 60 s */
	enum davit_escalation escalation;
	int64_t cooldown;   /* ns before `escalation: restart` starts afresh; 30 s */
	bool auto_shutdown; /* autoShutdown */

	/* kind Namespace only */
	int64_t quota_services, quota_instances; /* quota.services, .instances; -1: none */
	uint64_t quota_memory; /* quota.memory: sum of resources.memory x instances; 0: none */
};

/* Parses one or several specs: JSON (an object, or an array of them) or YAML
 * (documents separated by ---). `text` needs no NUL. On success *ret_specs is
 * a heap array of *ret_n specs, owned by the caller. On failure err has line,
 * column and `where` = the key's path ("restart.retries"), and message names
 * the offending value, and for an unknown key the nearest known one. Limits:
 * DAVIT_SPEC_TEXT_MAX bytes of text, DAVIT_SPEC_COUNT_MAX specs, depth 32,
 * 20,000 values a spec, no YAML anchors, aliases or tags. A text whose first
 * character is '{' or '[' is JSON to the letter (RFC 8259), any other is YAML.
 * A key whose value is null counts as not given. A text without any spec is
 * refused. `file` prefixes messages: "web.yaml:3:5: ..."; NULL: no prefix. Codes:
 * DAVIT_EINVAL, DAVIT_ENOMEM. */
#define DAVIT_SPEC_TEXT_MAX (4 * 1024 * 1024)
#define DAVIT_SPEC_COUNT_MAX 10000
int davit_spec_parse(const char *text, size_t len, const char *file, struct davit_spec ***ret_specs,
		     size_t *ret_n, struct davit_error *err);
/* For a refusal of one of them that came later: from the place where the spec begins, in
 * err->line and column, to the place of the key err->where within it. */
void davit_spec_locate(const char *text, size_t len, struct davit_error *err);
/* Exactly one spec. */
int davit_spec_parse_one(const char *text, size_t len, const char *file, struct davit_spec **ret,
			 struct davit_error *err);
/* A deep copy that stands on its own, owned by the caller; numbers in it may be
 * changed (then check it again), strings and lists may not. NULL when out of
 * memory. */
struct davit_spec *davit_spec_dup(const struct davit_spec *s);
/* A spec is one allocation. NULL is allowed. */
void davit_spec_free(struct davit_spec *s);
void davit_spec_free_all(struct davit_spec **specs, size_t n);

/* Checks what the table cannot: names, combinations, ranges. The parser has
 * called it. err->where is the path of the option that is wrong. */
int davit_spec_check(const struct davit_spec *s, struct davit_error *err);

/* Canonical JSON, keys in the table's order, defaults left out: equal specs
 * give equal text. A heap string, or NULL when out of memory. */
char *davit_spec_json(const struct davit_spec *s);
/* Of what a running instance depends on (not kind, namespace, name, version,
 * metadata, instances, stopped, restart, stop, ready but its type and fd,
 * health, dependsOn, supervisor, significant, update: all of these can be changed under
 * a running instance): a change of it means that instances are replaced. FNV-1a
 * over the canonical JSON of those options. Stable between versions of davit
 * for an unchanged spec. Never 0, but for "out of memory". */
uint64_t davit_spec_hash(const struct davit_spec *s);

/* Names: [a-z0-9A-Z] then [A-Za-z0-9._-], at most 63, for namespace and name.
 * Versions: at most 128 printable characters without blanks; ':' '/' '='
 * inside are fine. `what` is "name", "namespace" or "version". */
int davit_name_check(const char *what, const char *s, struct davit_error *err);

/* How a spec refers to a service: "name", "name:version",
 * "namespace/name:version". What is not said is "". */
struct davit_service_ref {
	char namespace_[64];
	char name[64];
	char version[129];
};
/* Takes a reference apart and checks its names. */
int davit_service_ref_parse(const char *s, struct davit_service_ref *ret, struct davit_error *err);

/* One row of the table, for documentation and for the command line. */
struct davit_spec_field {
	const char *path;   /* "restart.backoff.initial" */
	const char *type;   /* "string", "list", "map", "duration", "size", "cpu", "int", "bool", "enum",
			     * "number", "signal", "exits", "list of ports", ... */
	const char *values; /* "always|never|..." for an enum, else NULL */
	const char *deflt;  /* default as text, or NULL */
	const char *flag;   /* option of `davit run`, or NULL: "--memory" */
	const char *doc;    /* one sentence */
};
const struct davit_spec_field *davit_spec_fields(size_t *ret_n);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT
 *
 * What the driver's files share. Not for use outside this folder.
 *
 * On disk, all named by the instance's id, so that whatever a daemon that was
 * killed has left can be found and taken away:
 *   run_dir/bundles/ID    config.json, container, exit, pid, hosts, ... (struct oci_place: bundles)
 *   run_dir/engine/ID-N   the state of crun or runc for the Nth start
 *   state_dir/roots/ID    upper, work, and root, where the overlay is mounted
 */
#ifndef DAVIT_OCI_IMPL_H
#define DAVIT_OCI_IMPL_H

#include "base/json.h"
#include "base/list.h"
#include "local/local.h"
#include "local/net.h"

#include <stdatomic.h>
#include <uv.h>

/* Where things are and what this machine can do: made at open, not changed after, shared
 * with the threads that work. */
struct oci_place {
	unsigned references;	/* counted on the loop's thread */
	struct local_nets nets; /* bundles of this runtime, networks of all */
	char *run_dir, *roots, *engine, *volumes, *images;
	char *init;	     /* path of davit-init */
	char *image_program; /* path of davit-image */
	char *copy_program;  /* path of davit-copy */
	char *program;	     /* path of crun or runc */
	char *mkfs;	     /* path of mkfs.ext4, or NULL */
	char *cgroup;	     /* cgroupsPath without "/ID", for a runtime that makes groups; or NULL */
	char *cgroup_limits; /* the same for an instance with limits, where that is another; or NULL */
	uid_t uid;	     /* ours; not 0: rootless */
	gid_t gid;
	bool is_crun;
	char why_no_bridge[112];  /* "" where networks can be made */
	char why_no_network[112]; /* "" where a container can have a network that leads out: the bridge, or
				     without root that of slirp4netns */
	char *slirp;		  /* path of slirp4netns, where that is it; or NULL */
	char *slirp_hook;	  /* path of davit-slirp */
	char why_no_build[112];	  /* "" where images can be built */
	char why_no_disk[112];	  /* "" where disk space can be limited */
	char why_no_egress[112];  /* "" where connections can be limited */
	uint64_t capabilities;	  /* that we may give: our own bounding set */
};

/* Behind struct davit_runtime. */
struct oci_runtime {
	struct local_runtime local;
	struct oci_place *place;
	struct davit_list jobs, copies;
};

/* Behind struct davit_instance. */
struct oci_instance {
	struct local_instance local;
	struct davit_op *start; /* waits until what the last run left is gone */
	bool settling;
};

static inline struct oci_runtime *oci_runtime_of(struct local_runtime *p)
{
	return DAVIT_CONTAINER_OF(p, struct oci_runtime, local);
}
static inline struct oci_instance *oci_instance_of(struct local_instance *pi)
{
	return DAVIT_CONTAINER_OF(pi, struct oci_instance, local);
}

/* --- place.c: finding out --- */
/* *ret is owned: oci_place_drop. DAVIT_ENOTSUP with the reason where there is no
 * runtime that works here. `wanted`: "crun", "runc", a path, or NULL for any. */
int oci_place_open(const struct davit_runtime *rt, const char *wanted, struct oci_place **ret,
		   struct davit_error *err);
void oci_place_drop(struct oci_place *pl); /* NULL is allowed */
/* After the groups are known: sets cgroup and cgroup_limits. */
int oci_place_groups(struct oci_place *pl, const struct cgroups *cg, struct davit_error *err);

/* --- job.c: work that blocks, one at a time for one id --- */
struct oci_job {
	uv_work_t work;
	struct davit_list list; /* in oci_runtime.jobs */
	struct oci_runtime *o;	/* NULL: the runtime was closed meanwhile */
	struct oci_place *place;
	/* In a thread: may use place, id, argument and err. */
	void (*run)(struct oci_job *j);
	/* On the loop's thread after it, and only while the runtime is open. */
	void (*done)(struct oci_job *j);
	struct davit_op *op;		 /* failed with DAVIT_ECLOSED when the runtime is closed; or NULL */
	struct davit_workload *workload; /* a copy of its own, or NULL */
	void *argument;			 /* of the job's kind */
	void (*dispose)(void *argument); /* when the job is freed, in any case; or NULL */
	struct davit_error err;		 /* what run found */
	struct davit_error why;		 /* for op, of what came before */
	bool running;
	char id[DAVIT_ID_MAX];
};
/* A zeroed one, to be filled and given to oci_job_start, which takes it over; or NULL. */
struct oci_job *oci_job_new(struct oci_runtime *o, const char *id);
void oci_job_free(struct oci_job *j); /* one that was not started */
void oci_job_start(struct oci_job *j);
/* At close: nothing is told any more. */
void oci_jobs_close(struct oci_runtime *o);

/* --- rootfs.c: the root file system; all of it blocks --- */
/* What an image is made of. */
struct oci_image {
	char *id;      /* NULL: of no store */
	char **layers; /* the lowest first */
	char **env, **entrypoint, **command;
	char *directory, *user;
};
int oci_image_find(const struct oci_place *pl, const char *reference, const char *hold_as,
		   struct oci_image *ret, struct davit_error *err);
void oci_image_fini(struct oci_image *i);
/* The reverse of a find with hold_as. */
int oci_image_release(const struct oci_place *pl, const char *id, struct davit_error *err);
/* By overlayfs, or a copy of the layers where it cannot be had. disk: bytes that may be written
 * to it, 0 for any number. */
int oci_rootfs_make(const struct oci_place *pl, const char *id, const struct oci_image *image, uint64_t disk,
		    struct davit_error *err);
/* Unmounts and removes it; success when there is none. */
int oci_rootfs_remove(const struct oci_place *pl, const char *id, struct davit_error *err);

/* --- disk.c: file systems of limited size; blocks --- */
#define OCI_DISK_MIN (4 << 20)
/* Makes one in a file `path`, which is not there, and mounts it at dir. What a failure leaves,
 * oci_disk_remove and the removal of both take away. */
int oci_disk_make(const struct oci_place *pl, const char *path, const char *dir, uint64_t size,
		  struct davit_error *err);
/* Unmounts it; success when there is none. */
int oci_disk_remove(const char *dir, struct davit_error *err);

/* --- inside.c: looking at files inside a root --- */
struct oci_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[64];
	size_t n_groups;
	char home[256];
};
/* "name", "uid", either with ":group", resolved by the root's own passwd and group. */
int oci_user_find(int root, const char *user, struct oci_user *ret, struct davit_error *err);
/* 0, or DAVIT_EEXEC when it is certain that the program is not there (ENOENT) or may not be
 * executed (EACCES). */
int oci_program_find(int root, const struct davit_workload *w, const char *program, const char *path,
		     const char *directory, struct davit_error *err);

/* --- config.c and the parts of config.json --- */
struct oci_config {
	const struct oci_place *place;
	const struct davit_workload *workload;
	const char *bundle, *root;
	char *const *argv, *const *env;
	const char *directory;
	struct oci_user user;
	const char *hostname;
	const char *network; /* path of a network namespace, "" for a new one, or NULL: the host's */
	bool slirp;	     /* the new one leads out by slirp4netns */
	bool rules;	     /* ... beneath the rules in the bundle's file `egress` */
};
void oci_config_write(struct davit_buf *out, const struct oci_config *c);
/* The value of "process" (of config.json, or for a further command). */
void oci_config_process(struct davit_json *j, const struct oci_config *c, bool command, bool terminal);
/* security.c */
/* confined: what it may connect to is limited. */
uint64_t oci_capability_set(uint64_t ours, bool confined, char *const *add, char *const *drop);
/* Knows the name? Its bit, or 0. "ALL" is every bit. */
uint64_t oci_capability_bit(const char *name);
void oci_capabilities_write(struct davit_json *j, uint64_t set);
void oci_seccomp_write(struct davit_json *j, uint64_t set);

/* --- bundle.c: all that belongs to an instance; it blocks --- */
int oci_bundle_make(const struct oci_place *pl, const struct davit_workload *w, struct davit_error *err);
int oci_bundle_remove(const struct oci_place *pl, const char *id, struct davit_error *err);
/* Calls fn for each id that has anything. */
void oci_bundle_each(const struct oci_place *pl, void (*fn)(void *user, const char *id), void *user);

/* --- container.c: as crun and runc know them; all but the deletion is short --- */
#define OCI_CONTAINER_MAX (DAVIT_ID_MAX + 11)
/* The name for one more start, and that of the last one. DAVIT_ESTATE when the bundle is gone. */
int oci_container_next(const struct oci_place *pl, const char *id, char ret[OCI_CONTAINER_MAX],
		       struct davit_error *err);
int oci_container_name(const struct oci_place *pl, const char *id, char ret[OCI_CONTAINER_MAX],
		       struct davit_error *err);
/* Ends and forgets all that the instance has or had; blocks. Success when there is none. */
int oci_containers_delete(const struct oci_place *pl, const char *id, struct davit_error *err);
/* At its end: runc makes groups in every hierarchy, also in those that davit does not use, below its own
 * group, which is ours; it forgets them when it is killed before its state is written. */
void oci_groups_remove(const struct oci_place *pl, const char *id);

/* --- spawn.c: what the keeper executes; struct local_ops --- */
int oci_build_spawn(struct local_instance *pi, uint32_t run, struct davit_error *err);
int oci_build_exec(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err);
int oci_build_terminal(struct local_instance *pi, const struct davit_terminal *t, struct davit_error *err);

/* --- command.c: further commands --- */
/* What was put down for them when the bundle was made. */
struct oci_command {
	struct davit_buf text; /* everything lies in it */
	const char *program;   /* argv[0] of the instance itself */
	const char *directory;
	struct oci_user user;
	char **env; /* the instance's whole one; pointers into text, the vector is owned */
};
int oci_command_read(const struct oci_place *pl, const char *id, struct oci_command *ret,
		     struct davit_error *err);
void oci_command_fini(struct oci_command *c);
/* Writes process.json for it. *ret_file and *ret_pid_file are owned heap strings. DAVIT_EEXEC
 * when the program is not there. */
int oci_command_write(struct local_instance *pi, const struct davit_exec *x, char **ret_file,
		      char **ret_pid_file, struct davit_error *err);
/* struct local_ops: */
bool oci_command_signal(struct local_runtime *p, const char *id, unsigned command, int signo);

/* --- exit.c --- */
void oci_explain(struct local_runtime *p, const char *id, struct davit_exit *exit);
/* Before a run: no word of the one before is left. */
int oci_exit_prepare(struct local_instance *pi, struct davit_error *err);

/* --- check.c --- */
void oci_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret);
int oci_check(struct local_runtime *p, const struct davit_workload *w, bool complete,
	      struct davit_error *err);

/* --- program.c: running a program to its end; for threads --- */
/* Zeroed but for `in`. */
struct oci_child {
	int in; /* its standard input, borrowed; -1: nothing */
	struct davit_buf out;
	void (*heard)(struct oci_child *c); /* there is more in out, of which it may take; or NULL */
	atomic_int pidfd;		    /* + 1 */
	atomic_bool cancelled;
};
/* Its standard output goes into out, its standard error into the message. DAVIT_EIO. */
int oci_child_run(struct oci_child *c, char *const argv[], struct davit_error *err);
/* From another thread, at any time before fini: it ends soon. */
void oci_child_cancel(struct oci_child *c);
void oci_child_fini(struct oci_child *c);
/* Without output. in: see oci_child. */
int oci_run(int in, char *const argv[], struct davit_error *err);

/* --- volumes.c --- */
/* Makes it on first use, and notes that the instance has it. */
int oci_volume_use(const struct oci_place *pl, const char *name, const char *id, struct davit_error *err);
void oci_volumes_release(const struct oci_place *pl, const char *id);

/* --- copy.c --- */
/* At close: what is under way is ended. */
void oci_copies_close(struct oci_runtime *o);

/* --- facets --- */
extern const struct davit_copy_facet oci_copy;
extern const struct davit_images_facet oci_images;
extern const struct davit_objects_facet oci_volumes, oci_networks;

#endif

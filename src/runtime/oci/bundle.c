/* SPDX-License-Identifier: MIT
 *
 * All that belongs to one instance on disk: made before it is created, taken away
 * after it is removed, or when a daemon finds that nobody holds it. Everything here
 * blocks and is done in a thread. Nothing is synced: what a crash of the machine
 * leaves of it is only ever removed.
 */
#include "runtime/oci/impl.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/strv.h"
#include "local/egress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
}

static int put_file(int dir, const char *name, const void *data, size_t n, mode_t mode,
		    struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	while (fd >= 0 && n) {
		ssize_t w = DAVIT_EINTR(write(fd, data, n));

		if (w < 0)
			break;
		data = (const char *)data + w;
		n -= (size_t)w;
	}
	if (fd < 0 || n || fchmod(fd, mode) < 0) /* whatever the umask is */
		return davit_error_errno(err, errno, "oci", "cannot write %s of the bundle", name);
	return 0;
}

static int put_text(int dir, const char *name, const struct davit_buf *text, struct davit_error *err)
{
	if (text->oom)
		return out_of_memory(err);
	return put_file(dir, name, davit_buf_str(text), text->len, 0644, err);
}

/* --- files of /etc --- */

/* slirp4netns answers itself, for the host's name servers, of which some may be of its loopback. */
#define SLIRP_RESOLVER "nameserver 10.0.2.3\n"

static int put_resolver(int dir, const struct davit_workload *w, bool slirp, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	for (char **d = w->dns; d && *d; d++)
		davit_buf_addf(&text, "nameserver %s\n", *d);
	if (!w->dns && slirp)
		davit_buf_adds(&text, SLIRP_RESOLVER);
	else if (!w->dns)
		davit_read_file("/etc/resolv.conf", 65536, &text, NULL); /* none: an empty one */
	return put_text(dir, "resolv.conf", &text, err);
}

/* What a service is called is no host's name in every case. */
static void host_name(const struct davit_workload *w, char ret[64])
{
	size_t n = 0;

	for (const char *p = w->name ? w->name : w->id; *p && n < 63; p++) {
		bool fine = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z');

		if (fine || (n && (*p == '-' || *p == '.' || *p == '_')))
			ret[n++] = *p == '_' ? '-' : *p;
	}
	while (n && (ret[n - 1] == '-' || ret[n - 1] == '.'))
		n--;
	ret[n] = '\0';
	if (!n)
		snprintf(ret, 64, "%s", w->id);
}

/* The file `names` has the lines that stay in the hosts file, whoever joins the network. */
static int put_names(int dir, const char *name, const struct local_names *names, struct davit_error *err)
{
	DAVIT_AUTO_BUF more = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF hosts = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF line = DAVIT_BUF_INIT;
	int r;

	davit_buf_addf(&hosts, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name);
	local_names_write(names, &more);
	davit_buf_add(&hosts, davit_buf_str(&more), more.len);
	davit_buf_addf(&line, "%s\n", name);
	r = put_text(dir, "hosts", &hosts, err);
	if (!r)
		r = put_text(dir, "names", &more, err);
	return r < 0 ? r : put_text(dir, "hostname", &line, err);
}

/* --- what is to run --- */

/* What a command without a PATH is looked for in, by every engine. */
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* The workload's own first; then what it does not say. */
static int merge_env(char *const *own, char *const *image, char ***ret)
{
	int r = davit_strv_dup(own, ret);

	for (; !r && image && *image; image++) {
		char name[256];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(*image, "="), *image);
		if (!davit_strv_getenv(*ret, name))
			r = davit_strv_add(ret, *image);
	}
	if (!r && !davit_strv_getenv(*ret, "PATH"))
		r = davit_strv_add(ret, DEFAULT_PATH);
	return r;
}

static int add_all(char ***to, char *const *v)
{
	int r = 0;

	for (; !r && v && *v; v++)
		r = davit_strv_add(to, *v);
	return r;
}

/* As Docker has it: another entrypoint drops the image's command. */
static int compose(const struct davit_workload *w, const struct oci_image *image, char ***ret,
		   struct davit_error *err)
{
	bool own = w->argv && w->argv[0];
	int r = add_all(ret, w->entrypoint ? w->entrypoint : image->entrypoint);

	if (!r)
		r = add_all(ret, own ? w->argv : w->entrypoint ? NULL : image->command);
	if (r < 0)
		return out_of_memory(err);
	if (!*ret || !**ret)
		return davit_error_set(
			err, DAVIT_EINVAL, "command",
			"there is no command to run: neither the service nor the image has one");
	return 0;
}

/* What starts and further commands need to know (struct oci_command). */
static int put_command(int dir, const struct oci_config *c, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	davit_buf_add(&text, c->argv[0], strlen(c->argv[0]) + 1);
	davit_buf_add(&text, c->directory, strlen(c->directory) + 1);
	davit_buf_addf(&text, "%u %u", c->user.uid, c->user.gid);
	for (size_t i = 0; i < c->user.n_groups; i++)
		davit_buf_addf(&text, " %u", c->user.groups[i]);
	davit_buf_addc(&text, '\0');
	for (char *const *e = c->env; e && *e; e++)
		davit_buf_add(&text, *e, strlen(*e) + 1);
	return put_text(dir, "command", &text, err);
}

static int make_volumes(const struct oci_place *pl, const struct davit_workload *w, struct davit_error *err)
{
	int r = 0;

	for (size_t i = 0; i < w->n_mounts && !r; i++)
		if (w->mounts[i].type == DAVIT_MOUNT_VOLUME)
			r = oci_volume_use(pl, w->mounts[i].source, w->id, err);
	return r;
}

static int put_config(int dir, struct oci_config *c, const struct oci_image *image, struct davit_error *err)
{
	const struct davit_workload *w = c->workload;
	DAVIT_AUTO_CLOSE int root = open(c->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const char *user = w->user ? w->user : image->user && *image->user ? image->user : "0";
	int r;

	if (root < 0)
		return davit_error_errno(err, errno, "oci", "cannot open %s", c->root);
	r = oci_user_find(root, user, &c->user, err);
	if (r < 0)
		return r;
	if (c->place->uid && (c->user.uid || c->user.gid))
		return davit_error_set(err, DAVIT_ENOTSUP, "user",
				       "user '%s' cannot be had without root: there is one user to map, root",
				       user);
	r = put_file(dir, "exit", "", 0, 0600, err);
	if (!r && !c->place->uid && fchownat(dir, "exit", c->user.uid, c->user.gid, 0) < 0)
		r = davit_error_errno(err, errno, "oci", "cannot give the exit file to user %u", c->user.uid);
	if (!r && c->slirp && mkfifoat(dir, "net", 0600) < 0)
		r = davit_error_errno(err, errno, "oci", "cannot make a fifo in the bundle");
	if (!r)
		r = put_file(dir, "container", "00000000\n", 9, 0600, err);
	if (!r)
		r = put_command(dir, c, err);
	if (r < 0)
		return r;
	oci_config_write(&text, c);
	return put_text(dir, "config.json", &text, err);
}

/* Rules for what the workload may connect to, if it has a policy: in the file `egress`, for the
 * hook that needs them there. */
static int put_rules(int dir, const struct davit_workload *w, struct davit_buf *rules,
		     struct local_names *names, struct davit_error *err)
{
	int r;

	if (!w->n_egress)
		return 0;
	r = local_names_resolve(w, names, err);
	if (!r)
		r = local_egress_rules(w, names, LOCAL_EGRESS_TABLE, NULL, rules, err);
	return r < 0 ? r : put_text(dir, "egress", rules, err);
}

/* *ret is owned: see oci_config.network. */
static int put_network(const struct oci_place *pl, const struct davit_workload *w,
		       const struct davit_buf *rules, const char *name, char **ret, bool *ret_slirp,
		       struct davit_error *err)
{
	const char *network = w->network ? w->network : *pl->why_no_network ? "none" : "bridge";

	if (!strcmp(network, "host"))
		return 0;
	*ret_slirp = pl->slirp && strcmp(network, "none");
	if (strcmp(network, "none") && !pl->slirp)
		return local_net_attach(&pl->nets, w, rules, network, name, ret, err);
	*ret = strdup("");
	return *ret ? 0 : out_of_memory(err);
}

static int make_files(const struct oci_place *pl, const struct davit_workload *w, const char *bundle,
		      const struct oci_image *image, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DAVIT_AUTO_FREE char *root = local_path(pl->roots, w->id, "root");
	DAVIT_AUTO_STRV argv = NULL;
	DAVIT_AUTO_STRV env = NULL;
	DAVIT_AUTO_FREE char *network = NULL;
	DAVIT_AUTO_BUF rules = DAVIT_BUF_INIT;
	struct local_names names = {0};
	bool slirp = false;
	char name[64];
	int r;

	if (dir < 0)
		return davit_error_errno(err, errno, "oci", "cannot open %s", bundle);
	if (!root || merge_env(w->env, image->env, &env) < 0)
		return out_of_memory(err);
	host_name(w, name);
	r = compose(w, image, &argv, err);
	if (!r)
		r = put_rules(dir, w, &rules, &names, err);
	if (!r)
		r = put_names(dir, name, &names, err);
	local_names_fini(&names);
	if (!r)
		r = put_network(pl, w, &rules, name, &network, &slirp, err);
	if (!r)
		r = put_resolver(dir, w, slirp, err);
	if (!r)
		r = make_volumes(pl, w, err);
	if (!r) {
		struct oci_config c = {
			.place = pl,
			.workload = w,
			.bundle = bundle,
			.root = root,
			.argv = argv,
			.env = env,
			.directory = w->directory	? w->directory
				     : image->directory ? image->directory
							: "/",
			.hostname = name,
			.network = network,
			.slirp = slirp,
			.rules = rules.len > 0,
		};

		r = put_config(dir, &c, image, err);
	}
	return r;
}

static int make(const struct oci_place *pl, const struct davit_workload *w, const char *bundle,
		struct davit_error *err)
{
	struct oci_image image;
	int r;

	if (mkdir(bundle, 0711) < 0)
		return davit_error_errno(err, errno, "oci", "cannot make %s", bundle);
	DAVIT_FAULT("oci.create.bundle");
	r = oci_image_find(pl, w->image, w->id, &image, err);
	if (r < 0)
		return r;
	r = oci_rootfs_make(pl, w->id, &image, w->disk, err);
	DAVIT_FAULT("oci.create.root");
	if (!r)
		r = make_files(pl, w, bundle, &image, err);
	oci_image_fini(&image);
	return r;
}

int oci_bundle_make(const struct oci_place *pl, const struct davit_workload *w, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *bundle = davit_path_join(pl->nets.bundles, w->id);
	int r;

	if (!bundle)
		return out_of_memory(err);
	r = make(pl, w, bundle, err);
	if (r < 0)
		oci_bundle_remove(pl, w->id, NULL);
	return r;
}

/* The bundle goes last: it is what a leftover is found by. */
int oci_bundle_remove(const struct oci_place *pl, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *bundle = davit_path_join(pl->nets.bundles, id);
	int r = bundle ? oci_containers_delete(pl, id, err) : out_of_memory(err);

	DAVIT_FAULT("oci.remove.engine");
	if (!r)
		oci_groups_remove(pl, id);
	if (!r)
		r = local_net_detach(&pl->nets, id, err);
	DAVIT_FAULT("oci.remove.network");
	if (!r)
		r = oci_rootfs_remove(pl, id, err);
	oci_volumes_release(pl, id);
	if (!r)
		r = oci_image_release(pl, id, err);
	DAVIT_FAULT("oci.remove.root");
	return r < 0 ? r : davit_remove_tree(bundle, err);
}

/* Of a directory named ID, or of a container's, ID-N. */
static bool is_id(const char *name, char ret[DAVIT_ID_MAX])
{
	size_t n = strcspn(name, "-");

	snprintf(ret, DAVIT_ID_MAX, "%s", name);
	return n == DAVIT_ID_MAX - 1;
}

static void each(const char *dir, void (*fn)(void *user, const char *id), void *user)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char id[DAVIT_ID_MAX];

	while (d && (e = readdir(d)))
		if (is_id(e->d_name, id))
			fn(user, id);
	if (d)
		closedir(d);
}

void oci_bundle_each(const struct oci_place *pl, void (*fn)(void *user, const char *id), void *user)
{
	each(pl->nets.bundles, fn, user);
	/* After a reboot these alone are left. */
	each(pl->roots, fn, user);
	each(pl->engine, fn, user);
}

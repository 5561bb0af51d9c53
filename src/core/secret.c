/* SPDX-License-Identifier: MIT */
#include "core/secret.h"

#include "base/file.h"
#include "base/util.h"
#include "core/secret_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_BYTES crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define KEY_ID_BYTES 16

/* A record: this, then the sealed value. Times are little-endian. All of the
 * header is bound to the value. */
struct header {
	char magic[8];
	unsigned char key_id[KEY_ID_BYTES]; /* tells a wrong key from a damaged record */
	unsigned char created[8], updated[8];
	unsigned char nonce[NONCE_BYTES];
};
static const char magic[8] = "davitse1";

_Static_assert(sizeof(struct header) + TAG_BYTES <= DAVIT_STORE_VALUE_MAX - DAVIT_SECRET_MAX,
	       "DAVIT_SECRET_MAX leaves room for the header");

static void put_le64(unsigned char *p, int64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (unsigned char)((uint64_t)v >> 8 * i);
}

static int64_t get_le64(const unsigned char *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return (int64_t)v;
}

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

int davit_secrets_open(const char *state_dir, const char *run_dir, struct davit_store *store,
		       struct davit_secrets **ret, struct davit_error *err)
{
	struct davit_secrets *s;

	if (sodium_init() < 0)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "libsodium cannot get random numbers");
	s = calloc(1, sizeof *s);
	if (!s)
		return no_memory(err);
	s->store = store;
	s->key_path = davit_path_join(state_dir, "secret.key");
	s->run_dir = strdup(run_dir);
	if (!s->key_path || !s->run_dir) {
		davit_secrets_close(s);
		return no_memory(err);
	}
	*ret = s;
	return 0;
}

void davit_secrets_close(struct davit_secrets *s)
{
	if (!s)
		return;
	sodium_free(s->key); /* wipes */
	free(s->key_path);
	free(s->run_dir);
	secret_files_leave(s);
	free(s->files_dir);
	free(s);
}

/* --------------------------------------------------------------------- the key */

static void key_id(const unsigned char *key, unsigned char id[KEY_ID_BYTES])
{
	static const char what[] = "davit secret key id";

	crypto_generichash(id, KEY_ID_BYTES, (const unsigned char *)what, sizeof what - 1, key, KEY_BYTES);
}

/* Reads the key's file: 1 when there is one, 0 when not, or a code. */
static int read_key(const char *path, unsigned char *key, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size != KEY_BYTES)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL,
				       "%s is damaged: it is not a file of %u bytes", path, KEY_BYTES);
	if (st.st_mode & 077)
		return davit_error_set(err, DAVIT_EPERM, NULL,
				       "%s can be read by others; change its mode to 0600", path);
	n = DAVIT_EINTR(read(fd, key, KEY_BYTES));
	if (n != KEY_BYTES)
		return davit_error_errno(err, n < 0 ? errno : EIO, NULL, "cannot read %s", path);
	return 1;
}

/* The key must be on disk before the first value sealed with it is. */
static int make_key(const char *path, unsigned char *key, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = strndup(path, (size_t)(strrchr(path, '/') - path));
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	if (!dir)
		return no_memory(err);
	randombytes_buf(key, KEY_BYTES);
	r = davit_write_file(path, key, KEY_BYTES, 0600, err);
	if (r)
		return r;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write %s", dir);
	return 0;
}

struct first {
	bool any, understood;
	unsigned char key_id[KEY_ID_BYTES];
};

static bool on_first(void *user, const struct davit_kv *kv)
{
	struct first *f = user;
	const struct header *h = kv->value;

	f->any = true;
	f->understood = kv->len >= sizeof *h + TAG_BYTES && !memcmp(h->magic, magic, sizeof magic);
	if (f->understood)
		memcpy(f->key_id, h->key_id, KEY_ID_BYTES);
	return !f->understood; /* damaged ones tell nothing */
}

/* Reads the key, or makes it when `make` is set and no secret exists. Checks it
 * against the secrets that exist. */
static int need_key(struct davit_secrets *s, bool make, struct davit_error *err)
{
	unsigned char *key, id[KEY_ID_BYTES];
	struct first first = {0};
	int64_t revision;
	int r;

	if (s->key)
		return 0;
	r = s->store->driver->list(s->store, DAVIT_SECRET_PREFIX, NULL, 0, on_first, &first, &revision, err);
	if (r < 0)
		return r;
	key = sodium_malloc(KEY_BYTES);
	if (!key)
		return no_memory(err);
	r = read_key(s->key_path, key, err);
	if (r == 0 && first.any)
		r = davit_error_set(
			err, DAVIT_ECORRUPT, NULL,
			"%s is missing, and the secrets in the store cannot be opened without it; put "
			"it back, or remove the secrets",
			s->key_path);
	else if (r == 0 && !make)
		r = davit_error_set(err, DAVIT_ENOENT, NULL, "there are no secrets");
	else if (r == 0)
		r = make_key(s->key_path, key, err);
	if (r >= 0) {
		r = 0;
		key_id(key, id);
		if (first.understood && sodium_memcmp(id, first.key_id, KEY_ID_BYTES) != 0)
			r = davit_error_set(
				err, DAVIT_ECORRUPT, NULL,
				"%s is not the key that the secrets in the store were sealed with",
				s->key_path);
	}
	if (r < 0) {
		sodium_free(key);
		return r;
	}
	sodium_mprotect_readonly(key);
	s->key = key;
	return 0;
}

/* --------------------------------------------------------------------- sealing */

/* What a value is bound to: header, namespace, name. */
static size_t bound(const struct header *h, const char *namespace_, const char *name, unsigned char out[256])
{
	size_t n = strlen(namespace_) + 1, m = strlen(name) + 1;

	memcpy(out, h, sizeof *h);
	memcpy(out + sizeof *h, namespace_, n);
	memcpy(out + sizeof *h + n, name, m);
	return sizeof *h + n + m;
}

static int check_names(const char *namespace_, const char *name, struct davit_error *err)
{
	int r = davit_name_check("namespace", namespace_, err);

	return r ? r : davit_name_check("name", name, err);
}

/* Names have at most 63 characters. */
static void store_key(const char *namespace_, const char *name, char out[160])
{
	snprintf(out, 160, DAVIT_SECRET_PREFIX "%s/%s", namespace_, name);
}

struct record {
	const char *key;
	void *value;
	size_t len;
	bool found, oom;
};

static bool on_record(void *user, const struct davit_kv *kv)
{
	struct record *rec = user;

	/* The key itself is the first of those that begin with it. */
	if (strcmp(kv->key, rec->key) != 0)
		return false;
	rec->found = true;
	rec->value = malloc(kv->len ? kv->len : 1);
	rec->oom = !rec->value;
	if (rec->value)
		memcpy(rec->value, kv->value, kv->len);
	rec->len = kv->len;
	return false;
}

/* Reads a record: a copy in rec->value, to be freed. */
static int read_record(struct davit_secrets *s, const char *key, struct record *rec, struct davit_error *err)
{
	int64_t revision;
	int r;

	*rec = (struct record){.key = key};
	r = s->store->driver->list(s->store, key, NULL, 1, on_record, rec, &revision, err);
	if (r < 0)
		return r;
	return rec->oom ? no_memory(err) : 0;
}

static bool is_record(const struct record *rec)
{
	return rec->found && rec->len >= sizeof(struct header) + TAG_BYTES &&
	       !memcmp(rec->value, magic, sizeof magic);
}

/* ---------------------------------------------------------------------- writing */

/* A change under way; ends itself. */
struct request {
	struct davit_store_txn txn;
	struct davit_op *op; /* the caller's */
};

static void on_committed(struct davit_op *op, int result)
{
	struct request *q = DAVIT_CONTAINER_OF(op, struct request, txn.op);

	if (result < 0)
		davit_op_fail_error(q->op, &op->error);
	else
		davit_op_complete(q->op, 0);
	free(q);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct request *q = op->performer;

	(void)why;
	davit_op_cancel(&q->txn.op);
}

static int commit(struct davit_secrets *s, const struct davit_store_change *change, struct davit_op *op,
		  struct davit_error *err)
{
	struct request *q = calloc(1, sizeof *q);

	if (!q)
		return no_memory(err);
	q->op = op;
	davit_op_begin(op, 0);
	op->performer = q;
	davit_op_on_cancel(op, on_cancel);
	davit_op_init(&q->txn.op, s->store->loop, on_committed, q);
	davit_store_commit(s->store, change, 1, &q->txn, 0);
	return 0;
}

int davit_secrets_set(struct davit_secrets *s, const char *namespace_, const char *name, const void *value,
		      size_t len, struct davit_op *op, struct davit_error *err)
{
	DAVIT_AUTO_FREE unsigned char *sealed = NULL;
	struct header h = {0};
	unsigned char extra[256];
	unsigned long long n;
	char key[160];
	struct record old;
	int64_t now;
	int r = check_names(namespace_, name, err);

	if (r)
		return r;
	if (len > DAVIT_SECRET_MAX)
		return davit_error_set(err, DAVIT_EINVAL, "value",
				       "a secret has at most %d bytes, this one has %zu", DAVIT_SECRET_MAX,
				       len);
	r = need_key(s, true, err);
	if (r)
		return r;
	store_key(namespace_, name, key);
	r = read_record(s, key, &old, err);
	if (r)
		return r;
	now = davit_loop_wall(s->store->loop);
	memcpy(h.magic, magic, sizeof magic);
	key_id(s->key, h.key_id);
	put_le64(h.updated, now);
	put_le64(h.created, is_record(&old) ? get_le64(((struct header *)old.value)->created) : now);
	free(old.value);
	randombytes_buf(h.nonce, sizeof h.nonce);
	sealed = malloc(sizeof h + len + TAG_BYTES);
	if (!sealed)
		return no_memory(err);
	memcpy(sealed, &h, sizeof h);
	crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + sizeof h, &n, value, len, extra,
						   bound(&h, namespace_, name, extra), NULL, h.nonce, s->key);
	return commit(
		s,
		&(struct davit_store_change){
			.verb = DAVIT_STORE_PUT, .key = key, .value = sealed, .len = sizeof h + (size_t)n},
		op, err);
}

static int not_found(const char *namespace_, const char *name, struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOENT, NULL, "secret '%s' not found in namespace '%s'", name,
			       namespace_);
}

/* One that must be there; key has room for 160 bytes. The caller frees ret->value. */
static int find_record(struct davit_secrets *s, const char *namespace_, const char *name, char *key,
		       struct record *ret, struct davit_error *err)
{
	int r = check_names(namespace_, name, err);

	if (r)
		return r;
	store_key(namespace_, name, key);
	r = read_record(s, key, ret, err);
	if (!r && !ret->found)
		r = not_found(namespace_, name, err);
	if (r)
		free(ret->value);
	return r;
}

int davit_secrets_remove(struct davit_secrets *s, const char *namespace_, const char *name,
			 struct davit_op *op, struct davit_error *err)
{
	struct record rec;
	char key[160];
	int r = find_record(s, namespace_, name, key, &rec, err);

	if (r)
		return r;
	free(rec.value);
	return commit(s, &(struct davit_store_change){.verb = DAVIT_STORE_DELETE, .key = key}, op, err);
}

/* ---------------------------------------------------------------------- reading */

struct listing {
	bool (*fn)(void *user, const struct davit_secret_info *info);
	void *user;
};

static bool on_listed(void *user, const struct davit_kv *kv)
{
	struct listing *l = user;
	const struct header *h = kv->value;
	char namespace_[64];
	const char *from = kv->key + strlen(DAVIT_SECRET_PREFIX), *slash = strchr(from, '/');

	if (!slash || (size_t)(slash - from) >= sizeof namespace_ || kv->len < sizeof *h + TAG_BYTES ||
	    memcmp(h->magic, magic, sizeof magic) != 0)
		return true;
	memcpy(namespace_, from, (size_t)(slash - from));
	namespace_[slash - from] = '\0';
	return l->fn(l->user, &(struct davit_secret_info){
				      .namespace_ = namespace_,
				      .name = slash + 1,
				      .created = get_le64(h->created),
				      .updated = get_le64(h->updated),
			      });
}

int davit_secrets_list(struct davit_secrets *s, const char *namespace_,
		       bool (*fn)(void *user, const struct davit_secret_info *info), void *user,
		       struct davit_error *err)
{
	struct listing l = {fn, user};
	char prefix[160] = DAVIT_SECRET_PREFIX;
	int64_t revision;
	int r = namespace_ ? davit_name_check("namespace", namespace_, err) : 0;

	if (r)
		return r;
	if (namespace_)
		store_key(namespace_, "", prefix);
	return s->store->driver->list(s->store, prefix, NULL, 0, on_listed, &l, &revision, err);
}

static int unseal(struct davit_secrets *s, const char *namespace_, const char *name, const struct record *rec,
		  struct davit_secret *ret, struct davit_error *err)
{
	const struct header *h = rec->value;
	unsigned char extra[256], id[KEY_ID_BYTES];
	size_t n = rec->len - sizeof *h;
	unsigned long long len;
	char *data;

	key_id(s->key, id);
	if (sodium_memcmp(id, h->key_id, KEY_ID_BYTES) != 0)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL,
				       "secret '%s' in namespace '%s' was sealed with another key than %s",
				       name, namespace_, s->key_path);
	data = malloc(n - TAG_BYTES + 1);
	if (!data)
		return no_memory(err);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(
		    (unsigned char *)data, &len, NULL, (const unsigned char *)(h + 1), n, extra,
		    bound(h, namespace_, name, extra), h->nonce, s->key) < 0) {
		free(data);
		return davit_error_set(err, DAVIT_ECORRUPT, NULL, "secret '%s' in namespace '%s' is damaged",
				       name, namespace_);
	}
	data[len] = '\0';
	*ret = (struct davit_secret){data, (size_t)len};
	return 0;
}

int davit_secrets_get(struct davit_secrets *s, const char *namespace_, const char *name,
		      struct davit_secret *ret, struct davit_error *err)
{
	struct record rec;
	char key[160];
	int r = find_record(s, namespace_, name, key, &rec, err);

	if (r)
		return r;
	if (!is_record(&rec))
		r = davit_error_set(err, DAVIT_ECORRUPT, NULL, "secret '%s' in namespace '%s' is damaged",
				    name, namespace_);
	if (!r)
		r = need_key(s, false, err);
	if (!r)
		r = unseal(s, namespace_, name, &rec, ret, err);
	free(rec.value);
	return r;
}

void davit_secret_wipe(struct davit_secret *v)
{
	if (v->data)
		sodium_memzero(v->data, v->len);
	free(v->data);
	*v = (struct davit_secret){0};
}

/* SPDX-License-Identifier: MIT
 *
 * One fetch for all who ask for the same, and which artifacts a put needs.
 */
#include "step/resource.h"

#include "base/strv.h"

#include <sodium.h>
#include <string.h>

struct davit_get_flight {
	struct davit_gets *gets;
	char key[DAVIT_GET_KEY_MAX];
	struct davit_list asking; /* the first one fetches */
};

int davit_get_key(const char *type, const json_t *source, const json_t *version, const json_t *params,
		  char ret[DAVIT_GET_KEY_MAX], struct davit_error *err)
{
	/* Members that are missing and members that are null or empty are the same to the programs' eyes or
	 * not; they are not the same here, which at worst fetches once more. */
	json_t *o = json_pack("{s:s,s:O?,s:O?,s:O?}", "type", type, "source", source, "version", version,
			      "params", params);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	unsigned char hash[crypto_hash_sha256_BYTES];

	json_decref(o);
	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
	free(text);
	_Static_assert(DAVIT_GET_KEY_MAX == 2 * sizeof hash + 1, "a key has room for a hash");
	sodium_bin2hex(ret, DAVIT_GET_KEY_MAX, hash, sizeof hash);
	return 0;
}

int davit_get_ask(struct davit_gets *gets, const char *key, struct davit_get *g, struct davit_error *err)
{
	struct davit_get_flight *f = davit_map_get(&gets->flights, key);
	bool first = !f;

	if (first) {
		f = calloc(1, sizeof *f);
		if (!f)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		f->gets = gets;
		davit_list_init(&f->asking);
		snprintf(f->key, sizeof f->key, "%s", key);
		if (davit_map_put(&gets->flights, f->key, f) < 0) {
			free(f);
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		}
	}
	g->flight = f;
	davit_list_init(&g->link);
	davit_list_add_tail(&f->asking, &g->link);
	if (first)
		g->fetch(g);
	return 0;
}

/* Takes the flight away: who asks from now on begins another. */
static void land(struct davit_get_flight *f)
{
	davit_map_remove(&f->gets->flights, f->key);
	free(f);
}

void davit_get_fetched(struct davit_get *g)
{
	struct davit_get_flight *f = g->flight;
	struct davit_list waiting;
	struct davit_get *w;

	davit_list_init(&waiting);
	davit_list_remove(&g->link);
	g->flight = NULL;
	davit_list_splice(&waiting, &f->asking);
	land(f);
	DAVIT_LIST_FOREACH (w, &waiting, link)
		w->flight = NULL;
	while ((w = DAVIT_LIST_FIRST(&waiting, struct davit_get, link))) {
		davit_list_remove(&w->link);
		w->fetched(w);
	}
}

void davit_get_leave(struct davit_get *g)
{
	struct davit_get_flight *f = g->flight;
	struct davit_get *next;
	bool fetching;

	if (!f) {
		if (g->link.next)
			davit_list_remove(&g->link); /* of those who are just being told */
		return;
	}
	fetching = f->asking.next == &g->link;
	davit_list_remove(&g->link);
	g->flight = NULL;
	next = DAVIT_LIST_FIRST(&f->asking, struct davit_get, link);
	if (!next)
		land(f);
	else if (fetching)
		next->fetch(next);
}

void davit_gets_fini(struct davit_gets *gets)
{
	davit_map_fini(&gets->flights);
}

/* ----------------------------------------------------------------------- inputs of a put */

/* Is name the first part of a path among the texts in v? */
static bool mentioned(const json_t *v, const char *name)
{
	const char *key, *text = json_string_value(v);
	size_t n = strlen(name), i;
	json_t *m;

	if (text) {
		while (text[0] == '.' && text[1] == '/')
			for (text += 2; *text == '/'; text++)
				;
		return !strncmp(text, name, n) && (!text[n] || text[n] == '/');
	}
	json_object_foreach((json_t *)v, key, m) if (mentioned(m, name)) return true;
	json_array_foreach((json_t *)v, i, m) if (mentioned(m, name)) return true;
	return false;
}

static bool listed(const json_t *list, const char *name)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v) if (!strcmp(json_string_value(v), name)) return true;
	return false;
}

/* All in list must be among names. */
static int check_listed(const json_t *list, const char *const *names, size_t n, struct davit_error *err)
{
	DAVIT_AUTO_BUF missing = DAVIT_BUF_INIT;
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		bool is_there = false;
		if (!json_is_string(v))
			return davit_error_set(err, DAVIT_EINVAL, "inputs", "an input must be a name");
		for (size_t k = 0; k < n; k++)
			is_there = is_there || !strcmp(names[k], json_string_value(v));
		if (!is_there)
			davit_buf_addf(&missing, "%s%s", missing.len ? ", " : "", json_string_value(v));
	}
	return missing.len ? davit_error_set(err, DAVIT_ENOENT, "inputs", "missing inputs: %s",
					     davit_buf_str(&missing))
			   : 0;
}

int davit_put_inputs(const json_t *inputs, const json_t *params, const char *const *names, size_t n,
		     char ***ret, struct davit_error *err)
{
	const char *word = json_string_value(inputs);
	bool all = !inputs || (word && !strcmp(word, "all")), detect = word && !strcmp(word, "detect");
	DAVIT_AUTO_STRV v = NULL;
	int r = 0;

	if (!all && !detect && !json_is_array(inputs))
		return davit_error_set(err, DAVIT_EINVAL, "inputs",
				       "inputs are all, detect, or a list of names");
	if (json_is_array(inputs))
		r = check_listed(inputs, names, n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (all || (detect ? mentioned(params, names[i]) : listed(inputs, names[i])))
			if (davit_strv_add(&v, names[i]) < 0)
				r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		*ret = DAVIT_TAKE(v);
	return r;
}

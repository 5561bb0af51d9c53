/* SPDX-License-Identifier: MIT
 *
 * A streaming JSON writer. Commas and escapes are its business; nesting is the
 * caller's. Parsing is jansson's. Bytes that are not UTF-8 become U+FFFD.
 */
#ifndef DAVIT_BASE_JSON_H
#define DAVIT_BASE_JSON_H

#include "base/buf.h"
#include "davit/error.h"

struct davit_json {
	struct davit_buf *out; /* borrowed */
	bool comma;	       /* the next value needs one */
};

#define DAVIT_JSON_INIT(buf)                                                                                 \
	{                                                                                                    \
		.out = (buf)                                                                                 \
	}

void davit_json_open(struct davit_json *j);	  /* { */
void davit_json_close(struct davit_json *j);	  /* } */
void davit_json_open_array(struct davit_json *j); /* [ */
void davit_json_close_array(struct davit_json *j);
void davit_json_key(struct davit_json *j, const char *key);
void davit_json_string(struct davit_json *j, const char *s); /* NULL writes null */
void davit_json_stringn(struct davit_json *j, const char *s, size_t n);
/* How much of the n bytes can be written without cutting a character in two: all, but for the beginning of
 * one at their end. For a text that comes in pieces. */
size_t davit_json_whole(const char *s, size_t n);
void davit_json_int(struct davit_json *j, int64_t v);
void davit_json_double(struct davit_json *j, double v);
void davit_json_bool(struct davit_json *j, bool v);
void davit_json_null(struct davit_json *j);
void davit_json_raw(struct davit_json *j, const char *json); /* one ready value */

/* key and value in one */
void davit_json_put_string(struct davit_json *j, const char *key, const char *s);
void davit_json_put_int(struct davit_json *j, const char *key, int64_t v);
void davit_json_put_bool(struct davit_json *j, const char *key, bool v);
/* The strings of v, which ends with NULL, as an array; of NULL an empty one. */
void davit_json_put_strv(struct davit_json *j, const char *key, char *const *v);
/* "error": an object of what is set in err: code (its word), message, where, line, column. */
void davit_json_put_error(struct davit_json *j, const struct davit_error *err);
/* An RFC 3339 time, or null for 0. */
void davit_json_put_time(struct davit_json *j, const char *key, int64_t unix_ns);

#endif

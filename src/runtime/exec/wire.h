/* SPDX-License-Identifier: MIT
 *
 * The protocol's values: how workloads, inspections and bytes look in JSON.
 */
#ifndef DAVIT_EXEC_WIRE_H
#define DAVIT_EXEC_WIRE_H

#include "base/json.h"
#include "davit/runtime.h"

#include <jansson.h>

#define WIRE_PROTOCOL 1

/* "key": text where the bytes are UTF-8, otherwise {"base64": ...}. NULL writes
 * null. */
void wire_put_bytes(struct davit_json *j, const char *key, const char *data, size_t n);
void wire_put_strv(struct davit_json *j, const char *key, char *const *v);
void wire_put_workload(struct davit_json *j, const char *key, const struct davit_workload *w);

/* The readers return 0, or DAVIT_EPROTO with the field in *err. A field that is
 * missing or null counts as its zero; one of another type is an error. */
int wire_get_string(const json_t *o, const char *key, const char **ret, struct davit_error *err);
int wire_get_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct davit_error *err);
/* RFC 3339. */
int wire_get_time(const json_t *o, const char *key, int64_t *ret, struct davit_error *err);
/* Appends; text or {"base64": ...}. */
int wire_get_bytes(const json_t *o, const char *key, struct davit_buf *out, struct davit_error *err);
int wire_get_stream(const json_t *o, enum davit_stream *ret, struct davit_error *err);
/* *ret stays as it is where the key is absent. */
int wire_get_exit(const json_t *o, const char *key, struct davit_exit *ret, struct davit_error *err);
int wire_get_inspection(const json_t *o, struct davit_inspection *ret, struct davit_error *err);
int wire_get_stats(const json_t *o, struct davit_stats *ret, struct davit_error *err);
/* {"code": word, "message": text}, always into a failure. */
void wire_get_error(const json_t *o, struct davit_error *ret);
int wire_get_capabilities(const json_t *o, struct davit_capabilities *ret, struct davit_error *err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Times, durations, sizes and CPU shares as people write them.
 */
#ifndef DAVIT_BASE_UNITS_H
#define DAVIT_BASE_UNITS_H

#include "davit/error.h"

#include <stdint.h>

#define DAVIT_NSEC_PER_MSEC INT64_C(1000000)
#define DAVIT_NSEC_PER_SEC INT64_C(1000000000)
#define DAVIT_TIME_MAX 40 /* room for any formatted time or duration */

/* Wall clock time in RFC 3339, UTC, nanoseconds: 2026-01-02T03:04:05.678901234Z.
 * Fills and returns buf. */
char *davit_time_format(int64_t unix_ns, char buf[DAVIT_TIME_MAX]);
/* The reverse; fraction and zone (Z or +hh:mm) as in RFC 3339. */
int davit_time_parse(const char *s, int64_t *ret_unix_ns, struct davit_error *err);

/* "10", "10s", "500ms", "1m30s", "2h", "1d"; a bare number is seconds.
 * Fractions allowed ("1.5s"). Negative and overflowing ones are refused. */
int davit_duration_parse(const char *s, int64_t *ret_ns, struct davit_error *err);
/* The shortest exact form: "1m30s", "500ms", "0s". */
char *davit_duration_format(int64_t ns, char buf[DAVIT_TIME_MAX]);

/* Bytes: "64Mi", "64M", "1.5Gi", "1000", "10k"; Ki/Mi/Gi/Ti are binary,
 * k/K/M/G/T decimal, a final B is allowed. */
int davit_size_parse(const char *s, uint64_t *ret_bytes, struct davit_error *err);
/* The shortest exact form: "64Mi", "1000". */
char *davit_size_format(uint64_t bytes, char buf[DAVIT_TIME_MAX]);

/* Limits of setrlimit by their number: "nofile". */
enum { DAVIT_RLIMITS = 16 };
extern const char *const davit_rlimit_names[DAVIT_RLIMITS];

/* CPU: "2", "0.5", "500m" in millicores. */
int davit_cpu_parse(const char *s, int64_t *ret_millicores, struct davit_error *err);
char *davit_cpu_format(int64_t millicores, char buf[DAVIT_TIME_MAX]);

/* A whole decimal number, nothing before or after it, within [min, max]. */
int davit_int_parse(const char *s, int64_t min, int64_t max, int64_t *ret, struct davit_error *err);

#endif

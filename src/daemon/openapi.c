/* SPDX-License-Identifier: MIT
 *
 * The OpenAPI 3.1 document, from the table of routes.
 */
#include "daemon/api.h"

#include <ctype.h>
#include <string.h>

static void write_ref(struct davit_json *j, const char *schema)
{
	DAVIT_AUTO_BUF ref = DAVIT_BUF_INIT;

	davit_buf_addf(&ref, "#/components/schemas/%s", schema);
	davit_json_open(j);
	davit_json_put_string(j, "$ref", davit_buf_str(&ref));
	davit_json_close(j);
}

static void write_values(struct davit_json *j, const char *values)
{
	davit_json_key(j, "enum");
	davit_json_open_array(j);
	for (const char *v = values; v; v = strchr(v, '|') ? strchr(v, '|') + 1 : NULL)
		davit_json_stringn(j, v, strcspn(v, "|"));
	davit_json_close_array(j);
}

static void write_field_schema(struct davit_json *j, const struct api_field *f)
{
	davit_json_open(j);
	switch (f->type) {
	case API_STRING:
	case API_TIME:
		davit_json_put_string(j, "type", "string");
		break;
	case API_ENUM:
		write_values(j, f->values);
		break;
	case API_ANY:
		davit_json_put_string(j, "type", "object");
		break;
	case API_BOOL:
		davit_json_put_string(j, "type", "boolean");
		break;
	case API_INT:
		davit_json_put_string(j, "type", "integer");
		davit_json_put_int(j, "minimum", f->min);
		davit_json_put_int(j, "maximum", f->max);
		break;
	case API_STRINGS:
		davit_json_put_string(j, "type", "array");
		davit_json_put_int(j, "minItems", 1);
		davit_json_key(j, "items");
		davit_json_open(j);
		davit_json_put_string(j, "type", "string");
		davit_json_close(j);
		break;
	}
	if (f->type == API_TIME)
		davit_json_put_string(j, "description", "RFC 3339, or a duration before now");
	davit_json_close(j);
}

static void write_parameter(struct davit_json *j, const char *name, size_t n, const char *in,
			    const struct api_field *f)
{
	davit_json_open(j);
	davit_json_key(j, "name");
	davit_json_stringn(j, name, n);
	davit_json_put_string(j, "in", in);
	davit_json_put_bool(j, "required", !f || f->required);
	if (f)
		davit_json_put_string(j, "description", f->doc);
	davit_json_key(j, "schema");
	write_field_schema(j, f ? f : &(struct api_field){.type = API_STRING});
	davit_json_close(j);
}

static void write_parameters(struct davit_json *j, const struct api_route *route)
{
	davit_json_key(j, "parameters");
	davit_json_open_array(j);
	for (const char *p = strchr(route->path, '{'); p; p = strchr(p, '{')) {
		p++;
		write_parameter(j, p, strcspn(p, "}"), "path", NULL);
	}
	for (const struct api_field *f = route->query; f && f->name; f++)
		write_parameter(j, f->name, strlen(f->name), "query", f);
	davit_json_close_array(j);
}

static void write_object_schema(struct davit_json *j, const struct api_field *fields)
{
	davit_json_open(j);
	davit_json_put_string(j, "type", "object");
	davit_json_put_bool(j, "additionalProperties", false);
	davit_json_key(j, "required");
	davit_json_open_array(j);
	for (const struct api_field *f = fields; f->name; f++)
		if (f->required)
			davit_json_string(j, f->name);
	davit_json_close_array(j);
	davit_json_key(j, "properties");
	davit_json_open(j);
	for (const struct api_field *f = fields; f->name; f++) {
		davit_json_key(j, f->name);
		write_field_schema(j, f);
	}
	davit_json_close(j);
	davit_json_close(j);
}

static void open_content(struct davit_json *j, const char *type)
{
	davit_json_key(j, type);
	davit_json_open(j);
	davit_json_key(j, "schema");
}

static void write_body(struct davit_json *j, const struct api_route *route)
{
	if (route->body == API_NO_BODY)
		return;
	davit_json_key(j, "requestBody");
	davit_json_open(j);
	davit_json_key(j, "content");
	davit_json_open(j);
	if (route->body == API_OBJECT) {
		open_content(j, "application/json");
		write_object_schema(j, route->fields);
		davit_json_close(j);
	} else if (route->body == API_SPECS) {
		open_content(j, "application/json");
		davit_json_raw(j, "{\"type\":[\"object\",\"array\"]}");
		davit_json_close(j);
		open_content(j, "application/yaml");
		davit_json_raw(j, "{\"type\":\"string\"}");
		davit_json_close(j);
	} else {
		open_content(j, "application/octet-stream");
		davit_json_raw(j, "{\"type\":\"string\"}");
		davit_json_close(j);
	}
	davit_json_close(j);
	davit_json_close(j);
}

static void write_response(struct davit_json *j, const char *status, const char *description,
			   const char *type, const char *type2, const char *schema)
{
	davit_json_key(j, status);
	davit_json_open(j);
	davit_json_put_string(j, "description", description);
	davit_json_key(j, "content");
	davit_json_open(j);
	open_content(j, type);
	write_ref(j, schema);
	davit_json_close(j);
	if (type2) {
		open_content(j, type2);
		write_ref(j, schema);
		davit_json_close(j);
	}
	davit_json_close(j);
	davit_json_close(j);
}

static void write_operation(struct davit_json *j, const struct api_route *route)
{
	char method[16];
	size_t n = 0;

	for (; route->method[n]; n++)
		method[n] = (char)tolower((unsigned char)route->method[n]);
	method[n] = '\0';
	davit_json_key(j, method);
	davit_json_open(j);
	davit_json_put_string(j, "summary", route->summary);
	write_parameters(j, route);
	write_body(j, route);
	davit_json_key(j, "responses");
	davit_json_open(j);
	if (route->upgrade) {
		davit_json_key(j, "101");
		davit_json_raw(j, strcmp(route->upgrade, "websocket")
					  ? "{\"description\":\"frames follow, see docs/api.md\"}"
					  : "{\"description\":\"messages follow, see docs/api.md\"}");
	} else if (route->stream) {
		write_response(j, "200", "one object a line", "application/jsonl", "text/event-stream",
			       route->answer);
	} else {
		write_response(j, "200", route->summary, route->type ? route->type : "application/json", NULL,
			       route->answer);
	}
	write_response(j, "default", "an error", "application/json", NULL, "Error");
	davit_json_close(j);
	davit_json_close(j);
}

static bool first_of_path(size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(api_routes[k].path, api_routes[i].path))
			return false;
	return true;
}

void api_openapi(struct davit_buf *out)
{
	struct davit_json j = DAVIT_JSON_INIT(out);

	davit_json_open(&j);
	davit_json_put_string(&j, "openapi", "3.1.0");
	davit_json_key(&j, "info");
	davit_json_open(&j);
	davit_json_put_string(&j, "title", "davit");
	davit_json_put_string(&j, "version", DAVIT_VERSION);
	davit_json_close(&j);
	davit_json_key(&j, "paths");
	davit_json_open(&j);
	for (size_t i = 0; i < api_n_routes; i++) {
		if (!first_of_path(i))
			continue;
		davit_json_key(&j, api_routes[i].path);
		davit_json_open(&j);
		for (size_t k = i; k < api_n_routes; k++)
			if (!strcmp(api_routes[k].path, api_routes[i].path))
				write_operation(&j, &api_routes[k]);
		davit_json_close(&j);
	}
	davit_json_close(&j);
	davit_json_key(&j, "components");
	davit_json_open(&j);
	davit_json_key(&j, "schemas");
	davit_json_open(&j);
	for (size_t i = 0; api_schema_name(i); i++) {
		davit_json_key(&j, api_schema_name(i));
		davit_json_raw(&j, api_schema(api_schema_name(i)));
	}
	davit_json_close(&j);
	davit_json_close(&j);
	davit_json_close(&j);
}

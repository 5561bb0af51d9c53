/* SPDX-License-Identifier: MIT
 *
 * The shapes of answers, as JSON Schema.
 */
#include "daemon/api.h"

#include "base/util.h"

#include <string.h>

#define STRING "{\"type\":\"string\"}"
#define NULLABLE "{\"type\":[\"string\",\"null\"]}"
#define INT "{\"type\":\"integer\"}"
#define NULLABLE_INT "{\"type\":[\"integer\",\"null\"]}"
#define NULLABLE_OBJECT "{\"type\":[\"object\",\"null\"]}"
#define BOOL "{\"type\":\"boolean\"}"
#define TIME "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define WORKSPACE_STATE "{\"enum\":[\"running\",\"stopped\",\"error\",\"unknown\"]}"
#define RUN                                                                                                  \
	OBJECT(P("id", STRING) "," P("name", STRING) "," P("kind", STRING) "," P(                            \
		"state",                                                                                     \
		"{\"enum\":["                                                                                \
		"\"waiting\","                                                                               \
		"\"running\","                                                                               \
		"\"ended\"]}") "," P("outcome",                                                              \
				     NULLABLE) "," P("message",                                              \
						     NULLABLE) "," P("created",                              \
								     TIME) "," P("ended",                    \
										 TIME) "," P("bytes", INT))
#define STRINGS_OR_NULL "{\"type\":[\"array\",\"null\"],\"items\":" STRING "}"
#define LIST(of) "{\"type\":\"array\",\"items\":" of "}"
#define REF(name) "{\"$ref\":\"#/components/schemas/" name "\"}"
#define OBJECT(properties) "{\"type\":\"object\",\"properties\":{" properties "}}"
#define P(name, schema) "\"" name "\":" schema

#define CONTAINER_STATE "{\"enum\":[\"destroyed\",\"created\",\"started\",\"stopped\",\"failed\"]}"
#define CONTAINER                                                                                                                                                     \
	P("alias", STRING)                                                                                                                                            \
	"," P("name", STRING) "," P("type", STRING) "," P("parent", STRING) "," P("path", STRING) "," P(                                                              \
		"state",                                                                                                                                              \
		CONTAINER_STATE) "," P("failure",                                                                                                                     \
				       NULLABLE) "," P("code",                                                                                                        \
						       NULLABLE) "," P("reason",                                                                                      \
								       NULLABLE) "," P("restarts",                                                                    \
										       INT) "," P("queued",                                                           \
												  INT) "," P("dropped",                                               \
													     INT) "," P("refused",                                    \
															INT) "," P("blocked",                         \
																   INT) "," P("created",              \
																	      BOOL) "," P("children", \
																			  LIST(REF(   \
																				  "Container")))
#define HOST                                                                                                                                     \
	P("project", STRING)                                                                                                                     \
	"," P("pid", INT) "," P("started", TIME) "," P("directory", NULLABLE) "," P("workers", INT) "," P("actors", INT) "," P(                  \
		"sent",                                                                                                                          \
		INT) "," P("handled",                                                                                                            \
			   INT) "," P("dead",                                                                                                    \
				      INT) "," P("deadBy",                                                                                       \
						 "{\"type\":\"object\"}") "," P("restored",                                                      \
										INT) "," P("missing",                                            \
											   INT) "," P("uncl"                                     \
												      "ean",                                     \
												      BOOL) "," P("searchThread",                \
														  STRING) "," P("searchProcess", \
																STRING)
#define PROJECT                                                                                              \
	P("name", STRING)                                                                                    \
	"," P("state", STRING) "," P("error", STRING) "," P("directory", NULLABLE) "," P(                    \
		"restarts", INT) "," P("created", TIME) "," P("instance", STRING)

static const struct {
	const char *name;
	const char *schema;
} schemas[] = {
	{"Any", "{\"type\":\"object\"}"},
	{"Applied", OBJECT(P("services", LIST(OBJECT(P("kind", STRING) "," P("namespace", STRING) "," P(
						 "name", STRING) "," P("version", STRING)))))},
	{"Binary", "{\"type\":\"string\"}"},
	{"Change",
	 OBJECT(P("type", "{\"enum\":[\"update\",\"gone\",\"sync\"]}") "," P("service", REF("Service")))},
	{"Container", OBJECT(CONTAINER)},
	{"ContainerAnswer", OBJECT(P("text", STRING) "," P("hex", STRING))},
	{"Containers",
	 OBJECT(P("project", OBJECT(HOST)) "," P("change", INT) "," P("root", REF("Container")))},
	{"Collected",
	 LIST(OBJECT(P("id", STRING) "," P("removed", BOOL) "," P("why", STRING) "," P("bytes", INT)))},
	{"Daemon",
	 OBJECT(P("pid", INT) "," P("version", STRING) "," P("started", TIME) "," P("home", NULLABLE) "," P(
		 "socket",
		 STRING) "," P("services",
			       INT) "," P("instances",
					  INT) "," P("builds",
						     INT) "," P("store",
								OBJECT(P("name", STRING) "," P(
									"healthy",
									BOOL) "," P("error",
										    NULLABLE) "," P("revisio"
												    "n",
												    INT))))},
	{"Empty", "{\"type\":\"object\",\"additionalProperties\":false}"},
	{"Error",
	 OBJECT(P("error", OBJECT(P("code", STRING) "," P("message", STRING) "," P("where", STRING) "," P(
				   "line", INT) "," P("column", INT) "," P("errno", INT))))},
	{"Event", OBJECT(P("id", INT) "," P("time", TIME) "," P("type", STRING) "," P(
			  "service", NULLABLE) "," P("instance", NULLABLE) "," P("cause", NULLABLE))},
	{"Exit", "{\"type\":[\"object\",\"null\"],\"properties\":{" P("code", NULLABLE_INT) "," P(
			 "signal", NULLABLE_INT) "," P("reason", NULLABLE) "}}"},
	{"Images", LIST(OBJECT(P("id", STRING) "," P("references", LIST(STRING)) "," P("size", INT) "," P(
			   "created", TIME) "," P("inUse", BOOL)))},
	{"Instance",
	 OBJECT(P("id", STRING) "," P("service", STRING) "," P("index", INT) "," P("state", STRING) "," P(
		 "pid", NULLABLE_INT) "," P("ready",
					    BOOL) "," P("health",
							NULLABLE) "," P("started",
									TIME) "," P("restarts",
										    INT) "," P("exit",
											       REF("Exit")))},
	{"Instances", LIST(REF("Instance"))},
	{"LogLine",
	 OBJECT(P("instance", STRING) "," P("index", INT) "," P("time", TIME) "," P(
		 "stream", "{\"enum\":[\"stdout\",\"stderr\"]}") "," P("text", STRING) "," P("cursor",
											     STRING))},
	{"Node", OBJECT(P("name", STRING) "," P("kind", STRING) "," P("state", STRING) "," P(
			 "children", LIST(REF("Node"))))},
	{"Objects",
	 LIST(OBJECT(P("name", STRING) "," P("detail", STRING) "," P("created", TIME) "," P("ours", BOOL)))},
	{"Progress", OBJECT(P("progress", STRING))},
	{"Project", OBJECT(PROJECT)},
	{"Projects", LIST(REF("Project"))},
	{"Records", LIST(OBJECT(P("spec", "{\"type\":\"object\"}") "," P("revision", INT)))},
	{"Run", RUN},
	{"RunEvent", OBJECT(P("id", INT) "," P("time", TIME) "," P("event", STRING) "," P("step", STRING))},
	{"Runs", LIST(RUN)},
	{"Runtimes",
	 LIST(OBJECT(P("name", STRING) "," P("summary", STRING) "," P("available", BOOL) "," P(
		 "error", NULLABLE) "," P("capabilities",
					  LIST(OBJECT(P("name", STRING) "," P("supported", BOOL) "," P(
						  "reason", NULLABLE))))))},
	{"Secrets", LIST(OBJECT(P("namespace", STRING) "," P("name", STRING) "," P("created", TIME) "," P(
			    "updated", TIME)))},
	{"Service",
	 OBJECT(P("namespace", STRING) "," P("name", STRING) "," P("version", STRING) "," P("runtime", NULLABLE) "," P(
		 "source",
		 NULLABLE) "," P("status",
				 STRING) "," P("error",
					       NULLABLE) "," P("restarts",
							       INT) "," P("created",
									  TIME) "," P("updated",
										      TIME) "," P("instances",
												  LIST(REF(
													  "In"
													  "st"
													  "an"
													  "c"
													  "e"))))},
	{"Services", "{\"oneOf\":[" LIST(REF("Service")) "," OBJECT(
			     P("columns", LIST(STRING)) "," P("rows", LIST("{\"type\":\"array\"}"))) "]}"},
	{"Stats",
	 OBJECT(P("cpu", INT) "," P("memory", INT) "," P("memoryPeak", NULLABLE_INT) "," P("memoryLimit", NULLABLE_INT) "," P(
		 "processes",
		 INT) "," P("readBytes",
			    NULLABLE_INT) "," P("writeBytes",
						NULLABLE_INT) "," P("netRxBytes",
								    NULLABLE_INT) "," P("netTxBytes",
											NULLABLE_INT))},
	{"Terminals",
	 LIST(OBJECT(P("id", STRING) "," P("runtime", STRING) "," P("instance", STRING) "," P("service", NULLABLE) "," P(
		 "command",
		 STRING) "," P("started",
			       TIME) "," P("pid",
					   NULLABLE_INT) "," P("rows",
							       INT) "," P("columns",
									  INT) "," P("attached",
										     INT) "," P("exit",
												NULLABLE_OBJECT)))},
	{"Version", OBJECT(P("version", STRING) "," P("api", INT) "," P("pid", INT) "," P("started", TIME))},
	{"Why", OBJECT(P("service", STRING) "," P("status", STRING) "," P(
			"chain", LIST("{\"type\":\"object\"}")) "," P("text", STRING))},
	{"Workspace",
	 OBJECT(P("id", STRING) "," P("name", STRING) "," P("state", WORKSPACE_STATE) "," P("error", STRING) "," P("runtime", STRING) "," P("source", STRING) "," P("image", NULLABLE) "," P(
		 "agent",
		 NULLABLE) "," P("project",
				 NULLABLE) "," P("config",
						 NULLABLE) "," P("shell",
								 STRINGS_OR_NULL) "," P("created",
											TIME) "," P("updated",
												    TIME) "," P("instance",
														NULLABLE) "," P("ports",
																LIST(OBJECT(P("container", INT) "," P(
																	"host",
																	INT)))))},
	{"Workspaces", LIST(REF("Workspace"))},
};

const char *api_schema(const char *name)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(schemas); i++)
		if (!strcmp(schemas[i].name, name))
			return schemas[i].schema;
	return NULL;
}

const char *api_schema_name(size_t i)
{
	return i < DAVIT_ARRAY_SIZE(schemas) ? schemas[i].name : NULL;
}

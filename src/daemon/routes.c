/* SPDX-License-Identifier: MIT
 *
 * The API's table.
 */
#include "daemon/api.h"

#include "base/util.h"

#define NAMESPACE                                                                                            \
	{                                                                                                    \
		"namespace", API_STRING, "default: \"default\"; \"*\" means all"                             \
	}
#define SERVICE "/v1/services/{namespace}/{name}/{version}"
#define RUNTIME "/v1/runtimes/{runtime}"

static const struct api_field by_name[] = {
	NAMESPACE,
	{"name", API_STRING, "exactly this name"},
	{"version", API_STRING, "exactly this version"},
	{0},
};

static const struct api_field list_query[] = {
	NAMESPACE,
	{"name", API_STRING, "exactly this name"},
	{"version", API_STRING, "exactly this version"},
	{"view", API_ENUM, "status objects, or columns and rows for quick listing", "status|table"},
	{0},
};

static const struct api_field apply_query[] = {
	{"mode", API_ENUM,
	 "create refuses what exists and differs, update what does not exist; default: apply",
	 "create|update|apply|validate"},
	{"force", API_BOOL, "build and replace even where nothing has changed"},
	{"revision", API_INT, "that the service is to be at (inspect tells it), else ECONFLICT", .min = 1,
	 .max = INT64_MAX},
	{0},
};

static const struct api_field delete_query[] = {
	{"wait", API_BOOL, "answer when the last instance is gone, not when the wish is durable"},
	{0},
};

static const struct api_field scale_body[] = {
	{"instances", API_INT, "how many are to run", .max = 1000000, .required = true},
	{0},
};

static const struct api_field signal_body[] = {
	{"signal", API_STRING, "name or number: \"HUP\", \"SIGHUP\", \"1\"", .required = true},
	{"instance", API_STRING, "id or index of one instance; without it, all"},
	{0},
};

static const struct api_field logs_query[] = {
	{"tail", API_INT, "the last so many lines of each instance", .max = 1000000000},
	{"since", API_TIME, "not older than this"},
	{"after", API_STRING, "\"instance:cursor\", several with commas: resume exactly behind these lines"},
	{"follow", API_BOOL, "go on with what is written later, by later instances too"},
	{"instance", API_STRING, "id or index of one instance"},
	{"build", API_BOOL, "the log of the last build instead"},
	{0},
};

static const struct api_field events_query[] = {
	{"after", API_INT, "resume behind the event with this id", .max = INT64_MAX},
	{"follow", API_BOOL, "go on with what happens later"},
	{"limit", API_INT, "end after so many events", .min = 1, .max = INT64_MAX},
	{"service", API_STRING, "\"name\", \"namespace/name\" or \"namespace/name:version\""},
	{0},
};

static const struct api_field run_body[] = {
	{"name", API_STRING, "of the job or task", .required = true},
	{"kind", API_STRING, "what it is: job, execute", .required = true},
	{"plan", API_ANY, "what is to be done (docs/plans.md)", .required = true},
	{"inputs", API_ANY, "artifacts that are there from the first on: {name: id}"},
	{"outputs", API_ANY,
	 "where its host writes what it has made: {name: a directory, or a .tar, .tar.gz, .tgz, .tar.zst}"},
	{"holds", API_STRINGS, "ids of artifacts that are not collected while it lasts"},
	{"notes", API_STRINGS, "what its user was told of it"},
	{"scope", API_STRING, "what the names of its caches begin with"},
	{"pipeline", API_STRING, "name of the pipeline that the job is of"},
	{0},
};

static const struct api_field run_abort_body[] = {
	{"force", API_BOOL, "at once: without grace and without hooks"},
	{0},
};

static const struct api_field runs_prune_body[] = {
	{"keep", API_INT, "so many of those that have ended; default: 200", .max = 1000000},
	{"age", API_INT, "ns: those that have ended longer ago go; default: 14 days", .max = INT64_MAX},
	{0},
};

static const struct api_field run_events_query[] = {
	{"after", API_INT, "resume behind the event with this id", .max = INT64_MAX},
	{"follow", API_BOOL, "go on until the run has ended"},
	{0},
};

static const struct api_field run_log_query[] = {
	{"follow", API_BOOL, "go on until the run has ended"},
	{0},
};

static const struct api_field namespace_query[] = {NAMESPACE, {0}};

static const struct api_field exec_body[] = {
	{"command", API_STRINGS, "program and arguments", .required = true},
	{"env", API_STRINGS, "\"NAME=value\", added to the instance's environment"},
	{"directory", API_STRING, "working directory; default: the instance's"},
	{"user", API_STRING, "user; default: the instance's"},
	{"tty", API_BOOL, "with a terminal"},
	{"rows", API_INT, "of the terminal", .min = 1, .max = UINT16_MAX},
	{"columns", API_INT, "of the terminal", .min = 1, .max = UINT16_MAX},
	{0},
};

static const struct api_field pause_body[] = {
	{"instance", API_STRING, "id or index of one instance; without it, all"},
	{0},
};

#define TERMINAL_SIZE                                                                                        \
	{"rows", API_INT, "of the terminal", .min = 1, .max = UINT16_MAX},                                   \
	{                                                                                                    \
		"columns", API_INT, "of the terminal", .min = 1, .max = UINT16_MAX                           \
	}

static const struct api_field terminal_query[] = {
	{"command", API_STRING, "program and arguments, as a JSON array", .required = true},
	{"env", API_STRING, "\"NAME=value\" in a JSON array, added to the instance's environment"},
	{"directory", API_STRING, "working directory; default: the instance's"},
	{"user", API_STRING, "user; default: the instance's"},
	TERMINAL_SIZE,
	{0},
};

static const struct api_field attach_query[] = {TERMINAL_SIZE, {0}};

static const struct api_field terminals_query[] = {
	{"instance", API_STRING, "only those of the instance with this id"},
	{0},
};

static const struct api_field archive_query[] = {
	{"path", API_STRING, "absolute path inside the instance", .required = true},
	{0},
};

static const struct api_field import_query[] = {
	{"reference", API_STRING, "the name that the image gets", .required = true},
	{0},
};

static const struct api_field build_query[] = {
	{"reference", API_STRING, "the name that the image gets", .required = true},
	{"dockerfile", API_STRING, "its path in the context; default: Dockerfile"},
	{0},
};

static const struct api_field image_delete_query[] = {
	{"reference", API_STRING, "name or id of the image", .required = true},
	{"force", API_BOOL, "even where an instance needs it"},
	{0},
};

static const struct api_field pull_body[] = {
	{"reference", API_STRING, "what to pull, with its registry where that is not the default",
	 .required = true},
	{0},
};

static const struct api_field object_body[] = {
	{"name", API_STRING, "letters, digits, '_', '.' and '-', 63 at most", .required = true},
	{0},
};

static const struct api_field stop_body[] = {
	{"all", API_BOOL, "end every workload first; without it they go on"},
	{0},
};

static const struct api_field upgrade_body[] = {
	{"program", API_STRING, "absolute path of the new daemon; default: the file of the one that runs"},
	{0},
};

static const struct api_field workspace_body[] = {
	{"source", API_STRING, "directory of the source tree, absolute", .required = true},
	{"runtime", API_STRING, "name of the runtime; there is no default", .required = true},
	{"name", API_STRING, "what it is to be called; default: the source's last part"},
	{"agent", API_STRING, "the agent that works in it"},
	{"project", API_STRING, "the project that it belongs to"},
	{"config", API_ANY, "what workspace.json says, all levels merged"},
	{"configPath", API_STRING, "where that is from, for people"},
	{"start", API_BOOL, "start it, and answer when it runs; one that cannot leaves no record"},
	{0},
};

static const struct api_field workspace_delete_query[] = {
	{"force", API_BOOL, "also one that runs"},
	{0},
};

static const struct api_field project_body[] = {
	{"name", API_STRING, "what it is to be called", .required = true},
	{"directory", API_STRING, "where definitions are looked for, absolute; it runs there"},
	{"searchThread", API_STRING, "pattern of definitions of type thread, docs/containers.md"},
	{"searchProcess", API_STRING, "of type process"},
	{"workers", API_INT, "threads; default: one a processor", .max = 1024},
	{0},
};

static const struct api_field project_delete_query[] = {
	{"force", API_BOOL, "also one that runs"},
	{0},
};

#define PROJECT_QUERY                                                                                        \
	{                                                                                                    \
		"project", API_STRING, "the project; default: \"default\""                                   \
	}

static const struct api_field containers_query[] = {PROJECT_QUERY, {0}};

static const struct api_field containers_all_query[] = {
	PROJECT_QUERY,
	{"after", API_INT, "a `change` that is known: answered when there is another", .min = 0,
	 .max = INT64_MAX},
	{0},
};

static const struct api_field container_create_query[] = {
	PROJECT_QUERY,
	{"force", API_ENUM,
	 "end one that has the alias first: by asking, without its hooks, or one then the other",
	 "soft|hard|both"},
	{0},
};

static const struct api_field container_body[] = {
	{"alias", API_STRING, "unique in the project", .required = true},
	{"type", API_ENUM, "what it runs as", "thread|process", .required = true},
	{"parent", API_STRING, "address of the container above; default: Main"},
	{"name", API_STRING, "of the definition; default: the alias"},
	{"args", API_STRING, "a text for it"},
	{"start", API_BOOL, "start it, too"},
	{"directory", API_STRING, "where its definition is looked for first"},
	{"search", API_STRING, "pattern to look for it by, instead of the project's"},
	{0},
};

/* Of one container. `parent` and `type` refuse another one. */
#define CONTAINER_MEANT                                                                                      \
	PROJECT_QUERY, {"parent", API_STRING, "refuse one that does not stand below this"},                  \
	{                                                                                                    \
		"type", API_ENUM, "refuse one of another type", "thread|process"                             \
	}
static const struct api_field container_query[] = {
	CONTAINER_MEANT,
	{"subtree", API_BOOL, "with all beneath it"},
	{0},
};

static const struct api_field container_delete_query[] = {
	CONTAINER_MEANT,
	{"force", API_ENUM, "keep refuses one that runs; default: both", "keep|soft|hard|both"},
	{0},
};

static const struct api_field fail_body[] = {{"reason", API_STRING, "why, for people"}, {0}};

static const struct api_field message_body[] = {
	{"text", API_STRING, "the message"},
	{"type", API_INT, "of the message; default: 0", .max = 0xfffffeff},
	{0},
};

#define ANSWER_FIELDS                                                                                        \
	{"timeout", API_INT, "ns for each try; -1: none; default: 10 s", .min = -1, .max = INT64_MAX},       \
	{                                                                                                    \
		"retries", API_INT, "how often it is sent again; handled once all the same", .max = 1000     \
	}
static const struct api_field request_body[] = {
	{"text", API_STRING, "the message"},
	{"type", API_INT, "of the message; default: 0", .max = 0xfffffeff},
	ANSWER_FIELDS,
	{0},
};

static const struct api_field command_body[] = {
	{"name", API_STRING, "of the command", .required = true},
	{"parameters", API_STRING, "text, JSON by custom"},
	ANSWER_FIELDS,
	{0},
};

#define CONTAINER "/v1/containers/{container}"

const struct api_route api_routes[] = {
	{"GET", "/openapi.json", api_openapi_get, "this API as an OpenAPI document", "Any"},
	{"GET", "/v1/version", api_version_get, "version of the daemon and of the API", "Version"},
	{"GET", "/v1/daemon", api_daemon_get, "the daemon's health", "Daemon"},
	{"POST", "/v1/daemon/stop", api_daemon_stop, "end the daemon", "Empty", .body = API_OBJECT,
	 .fields = stop_body},
	{"POST", "/v1/daemon/upgrade", api_daemon_upgrade, "execute a new daemon in place of this one",
	 "Empty", .body = API_OBJECT, .fields = upgrade_body},
	{"GET", "/v1/services", api_services_list, "services, sorted by namespace, name and version",
	 "Services", .query = list_query},
	{"POST", "/v1/services", api_services_apply, "create or update: one or several specs, all or none",
	 "Applied", .query = apply_query, .body = API_SPECS},
	{"GET", SERVICE, api_service_get, "one service", "Service"},
	{"DELETE", SERVICE, api_service_delete, "stop and forget", "Empty", .query = delete_query},
	{"POST", SERVICE "/start", api_service_start, "run a stopped one", "Empty"},
	{"POST", SERVICE "/stop", api_service_stop, "stop it; the record stays", "Empty"},
	{"POST", SERVICE "/restart", api_service_restart, "stop and start its instances", "Empty"},
	{"POST", SERVICE "/scale", api_service_scale, "change how many instances run", "Empty",
	 .body = API_OBJECT, .fields = scale_body},
	{"POST", SERVICE "/signal", api_service_signal, "send a signal", "Empty", .body = API_OBJECT,
	 .fields = signal_body},
	{"POST", SERVICE "/pause", api_service_pause, "freeze its instances", "Empty", .body = API_OBJECT,
	 .fields = pause_body},
	{"POST", SERVICE "/unpause", api_service_unpause, "thaw them", "Empty", .body = API_OBJECT,
	 .fields = pause_body},
	{"GET", SERVICE "/inspect", api_service_inspect, "everything that is known of it", "Any"},
	{"GET", SERVICE "/why", api_service_why, "the causes of its present state", "Why"},
	{"GET", SERVICE "/logs", api_service_logs, "its log", "LogLine", .query = logs_query, .stream = true},
	{"GET", "/v1/instances", api_instances_list, "instances of services", "Instances",
	 .query = namespace_query},
	{"GET", "/v1/instances/{id}/stats", api_instance_stats, "what an instance uses now", "Stats"},
	{"POST", "/v1/instances/{id}/exec", api_instance_exec, "a further command in it; switches to frames",
	 "Empty", .body = API_OBJECT, .fields = exec_body, .upgrade = "davit-exec"},
	{"GET", "/v1/instances/{id}/terminal", api_instance_terminal,
	 "a command on a terminal that goes on when its user goes; a WebSocket", "Empty",
	 .query = terminal_query, .upgrade = "websocket"},
	{"GET", "/v1/instances/{id}/archive", api_instance_archive_get, "a file or directory of it, as tar",
	 "Binary", .query = archive_query, .type = "application/x-tar"},
	{"PUT", "/v1/instances/{id}/archive", api_instance_archive_put,
	 "unpack a tar stream below a directory of it", "Empty", .query = archive_query, .body = API_STREAM},
	{"GET", "/v1/terminals", api_terminals_list, "terminals, attached to or not", "Terminals",
	 .query = terminals_query},
	{"GET", "/v1/terminals/{id}", api_terminal_attach, "attach to one; a WebSocket", "Empty",
	 .query = attach_query, .upgrade = "websocket"},
	{"DELETE", "/v1/terminals/{id}", api_terminal_delete, "end its command", "Empty"},
	{"GET", "/v1/watch", api_watch, "services as they are, then each change", "Change", .query = by_name,
	 .stream = true},
	{"GET", "/v1/events", api_events, "what happened, in order", "Event", .query = events_query,
	 .stream = true},
	{"GET", "/v1/tree", api_tree_get, "the supervision tree", "Node"},
	{"GET", "/v1/runtimes", api_runtimes_get, "runtimes, what each can do and why not", "Runtimes"},
	{"GET", RUNTIME "/images", api_images_list, "images of a runtime; \"-\" is the default one",
	 "Images"},
	{"DELETE", RUNTIME "/images", api_image_delete, "remove an image", "Empty",
	 .query = image_delete_query},
	{"POST", RUNTIME "/images/load", api_image_load, "load the images of an archive", "Progress",
	 .body = API_STREAM, .stream = true},
	{"POST", RUNTIME "/images/import", api_image_import, "make an image of a root file system (tar)",
	 "Progress", .query = import_query, .body = API_STREAM, .stream = true},
	{"POST", RUNTIME "/images/pull", api_image_pull, "fetch an image from a registry", "Progress",
	 .body = API_OBJECT, .fields = pull_body, .stream = true},
	{"POST", RUNTIME "/images/build", api_image_build, "build an image of a context (tar)", "Progress",
	 .query = build_query, .body = API_STREAM, .stream = true},
	{"GET", RUNTIME "/volumes", api_volumes_list, "volumes of a runtime", "Objects"},
	{"POST", RUNTIME "/volumes", api_volume_create, "make a volume; success when it is there", "Empty",
	 .body = API_OBJECT, .fields = object_body},
	{"DELETE", RUNTIME "/volumes/{name}", api_volume_delete, "remove a volume", "Empty"},
	{"GET", RUNTIME "/networks", api_networks_list, "networks of a runtime", "Objects"},
	{"POST", RUNTIME "/networks", api_network_create, "make a network; success when it is there", "Empty",
	 .body = API_OBJECT, .fields = object_body},
	{"DELETE", RUNTIME "/networks/{name}", api_network_delete, "remove a network", "Empty"},
	{"GET", "/v1/supervisors", api_supervisors_list, "records of kind Supervisor", "Records"},
	{"DELETE", "/v1/supervisors/{namespace}/{name}", api_supervisor_delete,
	 "forget it; what stood under it stands under the root", "Empty"},
	{"GET", "/v1/namespaces", api_namespaces_list, "records of kind Namespace", "Records"},
	{"DELETE", "/v1/namespaces/{name}", api_namespace_delete, "forget it; refused while it has services",
	 "Empty"},
	{"GET", "/v1/workspaces", api_workspaces_list, "all workspaces, of all runtimes", "Workspaces"},
	{"POST", "/v1/workspaces", api_workspaces_create, "register a workspace", "Workspace",
	 .body = API_OBJECT, .fields = workspace_body},
	{"GET", "/v1/workspaces/{workspace}", api_workspace_get,
	 "one, by its id, a beginning of that, or its name", "Workspace"},
	{"DELETE", "/v1/workspaces/{workspace}", api_workspace_delete,
	 "remove it, answered when nothing of it is left; refused while it runs", "Empty",
	 .query = workspace_delete_query},
	{"POST", "/v1/workspaces/{workspace}/start", api_workspace_start, "answered when it runs",
	 "Workspace"},
	{"POST", "/v1/workspaces/{workspace}/stop", api_workspace_stop, "answered when nothing of it runs",
	 "Workspace"},
	{"GET", "/v1/projects", api_projects_list, "projects, the trees of containers", "Projects"},
	{"POST", "/v1/projects", api_projects_create, "make a project, answered when it runs", "Project",
	 .body = API_OBJECT, .fields = project_body},
	{"GET", "/v1/projects/{project}", api_project_get, "one project", "Project"},
	{"DELETE", "/v1/projects/{project}", api_project_delete, "forget it, and what is recorded in it",
	 "Empty", .query = project_delete_query},
	{"POST", "/v1/projects/{project}/start", api_project_start, "answered when it runs", "Project"},
	{"POST", "/v1/projects/{project}/stop", api_project_stop, "answered when it does not run", "Project"},
	{"GET", "/v1/containers", api_containers_forward, "a project and all its containers", "Containers",
	 .query = containers_all_query},
	{"POST", "/v1/containers", api_containers_forward,
	 "create a container; the first makes the default project", "Container",
	 .query = container_create_query, .body = API_OBJECT, .fields = container_body},
	{"GET", CONTAINER, api_containers_forward, "one, by its alias or another address", "Container",
	 .query = container_query},
	{"DELETE", CONTAINER, api_containers_forward, "destroy it with all beneath it", "Container",
	 .query = container_delete_query},
	{"POST", CONTAINER "/start", api_containers_forward, "answered when it is started", "Container",
	 .query = container_query},
	{"POST", CONTAINER "/stop", api_containers_forward, "answered when it is stopped", "Container",
	 .query = container_query},
	{"POST", CONTAINER "/continue", api_containers_forward, "solve its failure: it goes on as it was",
	 "Container", .query = container_query},
	{"POST", CONTAINER "/fail", api_containers_forward, "fail it, as by an error of its own", "Container",
	 .query = container_query, .body = API_OBJECT, .fields = fail_body},
	{"POST", CONTAINER "/send", api_containers_forward, "send it a message", "Empty",
	 .query = containers_query, .body = API_OBJECT, .fields = message_body},
	{"POST", CONTAINER "/request", api_containers_forward, "send it a request, answered by its answer",
	 "ContainerAnswer", .query = containers_query, .body = API_OBJECT, .fields = request_body},
	{"POST", CONTAINER "/command", api_containers_forward, "run a command of its", "ContainerAnswer",
	 .query = containers_query, .body = API_OBJECT, .fields = command_body},
	{"GET", "/v1/runs", api_runs_list, "runs of plans, the oldest first", "Runs"},
	{"POST", "/v1/runs", api_runs_create, "begin a run; answered when that is durable", "Run",
	 .body = API_OBJECT, .fields = run_body},
	{"POST", "/v1/runs/prune", api_runs_prune, "remove runs that have ended", "Collected",
	 .body = API_OBJECT, .fields = runs_prune_body},
	{"GET", "/v1/runs/{run}", api_run_get, "one, by its id or a beginning of that", "Run"},
	{"DELETE", "/v1/runs/{run}", api_run_delete, "remove one that has ended", "Empty"},
	{"POST", "/v1/runs/{run}/abort", api_run_abort, "end it; answered when the wish is durable", "Empty",
	 .body = API_OBJECT, .fields = run_abort_body},
	{"GET", "/v1/runs/{run}/events", api_run_events, "what happens in it", "RunEvent",
	 .query = run_events_query, .stream = true},
	{"GET", "/v1/runs/{run}/steps/{step}/log", api_run_step_log, "what one of its steps has printed",
	 "Binary", .query = run_log_query, .type = "text/plain"},
	{"GET", "/v1/secrets", api_secrets_list, "names and times of secrets, never values", "Secrets",
	 .query = namespace_query},
	{"PUT", "/v1/secrets/{namespace}/{name}", api_secret_put, "create or replace; the body is the value",
	 "Empty", .body = API_BYTES},
	{"DELETE", "/v1/secrets/{namespace}/{name}", api_secret_delete, "forget it", "Empty"},
};
const size_t api_n_routes = DAVIT_ARRAY_SIZE(api_routes);

/* SPDX-License-Identifier: MIT */
#include "runtime/engine/flavour.h"

#include "base/file.h"
#include "base/util.h"

#include <string.h>

const struct engine_flavour engine_docker = {
	.name = "docker",
	.path_variable = "DAVIT_DOCKER_SOCKET",
	.host_variable = "DOCKER_HOST",
	.system_socket = "/var/run/docker.sock",
	.user_socket = "docker.sock",
	.gone_event = "destroy",
	.reports_oom = true,
	.log_driver = "json-file",
};

const struct engine_flavour engine_podman = {
	.name = "podman",
	.path_variable = "DAVIT_PODMAN_SOCKET",
	.host_variable = "CONTAINER_HOST",
	.system_socket = "/run/podman/podman.sock",
	.user_socket = "podman/podman.sock",
	.gone_event = "remove",
	.limits_always = true,
	.log_to_file = true,
	.no_oom = "its API calls every container that was killed just killed",
	.log_driver = "k8s-file",
};

static char *copy(const char *path, struct davit_error *err)
{
	char *s = strdup(path);

	if (!s)
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return s;
}

char *engine_flavour_socket(const struct engine_flavour *f, struct davit_error *err)
{
	const char *path = getenv(f->path_variable), *host = getenv(f->host_variable);
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char *user;

	if (path && *path)
		return copy(path, err);
	if (host && !strncmp(host, "unix://", 7))
		return copy(host + 7, err);
	if (host && *host) {
		davit_error_set(err, DAVIT_ENOTSUP, f->host_variable,
				"%s is '%.100s': only unix:// addresses are supported", f->host_variable,
				host);
		return NULL;
	}
	if (geteuid() == 0 || !dir || !*dir)
		return copy(f->system_socket, err);
	user = davit_path_join(dir, f->user_socket);
	if (!user)
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	else if (access(user, F_OK) < 0 && access(f->system_socket, R_OK | W_OK) == 0) {
		free(user);
		return copy(f->system_socket, err);
	}
	return user;
}

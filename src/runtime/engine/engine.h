/* SPDX-License-Identifier: MIT
 *
 * Containers of an engine that is reached through its socket: the Docker Engine
 * API, and Podman's compatible one. One driver, registered twice.
 */
#ifndef DAVIT_ENGINE_H
#define DAVIT_ENGINE_H

#include "davit/runtime.h"

extern const struct davit_runtime_driver davit_docker_driver;
extern const struct davit_runtime_driver davit_podman_driver;

#endif

/* SPDX-License-Identifier: MIT
 *
 * Containers of an engine that is reached through its socket: the Docker Engine
 * API, and Podman's compatible one. One driver, registered twice.
 */
#ifndef DAVIT_ENGINE_H
#define DAVIT_ENGINE_H

#include "davit/runtime.h"

/* In a shared object, which davitd loads when there is an engine to speak to. */
#define DAVIT_ENGINE_EXPORT __attribute__((visibility("default")))

DAVIT_ENGINE_EXPORT extern const struct davit_runtime_driver davit_docker_driver;
DAVIT_ENGINE_EXPORT extern const struct davit_runtime_driver davit_podman_driver;

#endif

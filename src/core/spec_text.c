/* SPDX-License-Identifier: MIT
 *
 * Texts of a closed form in lists of a spec: addresses, Linux capabilities.
 */
#include "core/spec_table.h"

#include "base/nearest.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

int davit_spec_address(struct davit_region *a, const char *text, const char **ret, struct davit_error *err)
{
	struct in6_addr address;

	(void)a;
	if (inet_pton(AF_INET, text, &address) != 1 && inet_pton(AF_INET6, text, &address) != 1)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not an IP address", text);
	*ret = text;
	return 0;
}

/* capabilities(7) */
static const char *const capabilities[] = {
	"ALL",
	"CAP_AUDIT_CONTROL",
	"CAP_AUDIT_READ",
	"CAP_AUDIT_WRITE",
	"CAP_BLOCK_SUSPEND",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_KILL",
	"CAP_LEASE",
	"CAP_LINUX_IMMUTABLE",
	"CAP_MAC_ADMIN",
	"CAP_MAC_OVERRIDE",
	"CAP_MKNOD",
	"CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_RAW",
	"CAP_PERFMON",
	"CAP_SETFCAP",
	"CAP_SETGID",
	"CAP_SETPCAP",
	"CAP_SETUID",
	"CAP_SYSLOG",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_CHROOT",
	"CAP_SYS_MODULE",
	"CAP_SYS_NICE",
	"CAP_SYS_PACCT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_WAKE_ALARM",
};

int davit_spec_linux_capability(struct davit_region *a, const char *text, const char **ret,
				struct davit_error *err)
{
	bool prefixed = !strncasecmp(text, "CAP_", 4);
	char full[64];
	const char *near;

	(void)a; /* what is stored is the table's */
	snprintf(full, sizeof full, "%s%.50s", prefixed || !strcasecmp(text, "ALL") ? "" : "CAP_", text);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(capabilities); i++)
		if (!strcasecmp(full, capabilities[i])) {
			*ret = capabilities[i];
			return 0;
		}
	near = davit_nearest(full, capabilities, DAVIT_ARRAY_SIZE(capabilities));
	/* In the form in which it was written. */
	if (near && !prefixed && !strncmp(near, "CAP_", 4))
		near += 4;
	return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not a Linux capability%s%s%s", text,
			       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* SPDX-License-Identifier: MIT
 *
 * What a container may do: capabilities, and system calls.
 */
#include "runtime/oci/impl.h"

#include <linux/capability.h>
#include <string.h>

/* By number: linux/capability.h. */
static const char *const names[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};

#define BIT(n) (UINT64_C(1) << (n))

/* Docker's, without MKNOD: where the runtime keeps no device group, a device made
 * is a device had. */
static const char *const defaults[] = {
	"CHOWN",   "DAC_OVERRIDE", "FSETID",	       "FOWNER",     "NET_RAW", "SETGID",      "SETUID",
	"SETFCAP", "SETPCAP",	   "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",	"AUDIT_WRITE",
};

uint64_t oci_capability_bit(const char *name)
{
	if (!strncmp(name, "CAP_", 4))
		name += 4;
	if (!strcmp(name, "ALL"))
		return BIT(DAVIT_ARRAY_SIZE(names)) - 1;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return BIT(i);
	return 0;
}

/* With any of these what limits its connections could be changed, or gone around: packet
 * sockets are seen by no rule. */
static const char *const unconfined[] = {
	"BPF", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO",
};

uint64_t oci_capability_set(uint64_t ours, bool confined, char *const *add, char *const *drop)
{
	uint64_t set = 0;

	for (size_t i = 0; confined && i < DAVIT_ARRAY_SIZE(unconfined); i++)
		ours &= ~oci_capability_bit(unconfined[i]);

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(defaults); i++)
		set |= oci_capability_bit(defaults[i]);
	for (; drop && *drop; drop++)
		set &= ~oci_capability_bit(*drop);
	for (; add && *add; add++)
		set |= oci_capability_bit(*add);
	return set & ours;
}

void oci_capabilities_write(struct davit_json *j, uint64_t set)
{
	static const char *const kinds[] = {"bounding", "effective", "permitted"};

	davit_json_open(j);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(kinds); k++) {
		davit_json_key(j, kinds[k]);
		davit_json_open_array(j);
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
			char name[32] = "CAP_";

			if (!(set & BIT(i)))
				continue;
			strcat(name, names[i]);
			davit_json_string(j, name);
		}
		davit_json_close_array(j);
	}
	davit_json_close(j);
}

/* --- system calls --- */

/* What a container has no business with, by the capability that would be needed for
 * it and that its namespaces do not confine (0: none has). Everything else is allowed. */
static const struct {
	uint64_t unless;
	const char *const *calls;
} denied[] = {
	{BIT(CAP_SYS_ADMIN),
	 (const char *const[]){
		 "mount",	  "umount",	 "umount2",	   "mount_setattr", "move_mount",
		 "open_tree",	  "fsopen",	 "fsconfig",	   "fsmount",	    "fspick",
		 "pivot_root",	  "setns",	 "unshare",	   "bpf",	    "perf_event_open",
		 "quotactl",	  "quotactl_fd", "lookup_dcookie", "swapon",	    "swapoff",
		 "fanotify_init", NULL}},
	{BIT(CAP_SYS_BOOT), (const char *const[]){"reboot", "kexec_load", "kexec_file_load", NULL}},
	{BIT(CAP_SYS_TIME), (const char *const[]){"settimeofday", "stime", "clock_settime", "clock_adjtime",
						  "clock_settime64", "clock_adjtime64", NULL}},
	{BIT(CAP_SYSLOG), (const char *const[]){"syslog", NULL}},
	{BIT(CAP_SYS_PTRACE), (const char *const[]){"kcmp", "pidfd_getfd", NULL}},
	{BIT(CAP_SYS_MODULE),
	 (const char *const[]){"init_module", "finit_module", "delete_module", "create_module",
			       "query_module", "get_kernel_syms", NULL}},
	{BIT(CAP_SYS_RAWIO), (const char *const[]){"ioperm", "iopl", NULL}},
	{BIT(CAP_SYS_PACCT), (const char *const[]){"acct", NULL}},
	{BIT(CAP_DAC_READ_SEARCH), (const char *const[]){"open_by_handle_at", "name_to_handle_at", NULL}},
	/* Of these the kernel's keyrings know no namespaces, and the others are doors
	 * that were forced more than once. */
	{0, (const char *const[]){"add_key", "request_key", "keyctl", "userfaultfd", "io_uring_setup",
				  "io_uring_enter", "io_uring_register", "vm86", "vm86old", "uselib",
				  "nfsservctl", "sysfs", "_sysctl", "ustat", NULL}},
};

static void rule(struct davit_json *j, const char *const *calls, const char *action, int error)
{
	davit_json_open(j);
	davit_json_put_strv(j, "names", (char *const *)calls);
	davit_json_put_string(j, "action", action);
	davit_json_put_int(j, "errnoRet", error);
}

static void architectures(struct davit_json *j)
{
#if defined(__x86_64__)
	static const char *const list[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", NULL};
#elif defined(__aarch64__)
	static const char *const list[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", NULL};
#else
	static const char *const list[] = {"SCMP_ARCH_NATIVE", NULL};
#endif
	davit_json_put_strv(j, "architectures", (char *const *)list);
}

/* New namespaces by clone: its flags are the first argument (the second on s390). */
static void clone_rules(struct davit_json *j)
{
	static const char *const clone[] = {"clone", NULL}, *const clone3[] = {"clone3", NULL};
	/* NEWTIME shares its bit with the exit signal there; the others: */
	static const uint64_t flags[] = {0x00020000, 0x02000000, 0x04000000, 0x08000000,
					 0x10000000, 0x20000000, 0x40000000};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(flags); i++) {
		rule(j, clone, "SCMP_ACT_ERRNO", 1);
		davit_json_key(j, "args");
		davit_json_open_array(j);
		davit_json_open(j);
		davit_json_put_int(j, "index", 0);
		davit_json_put_int(j, "value", (int64_t)flags[i]);
		davit_json_put_int(j, "valueTwo", (int64_t)flags[i]);
		davit_json_put_string(j, "op", "SCMP_CMP_MASKED_EQ");
		davit_json_close(j);
		davit_json_close_array(j);
		davit_json_close(j);
	}
	/* A filter does not see its flags: libc falls back to clone. */
	rule(j, clone3, "SCMP_ACT_ERRNO", 38);
	davit_json_close(j);
}

void oci_seccomp_write(struct davit_json *j, uint64_t set)
{
	davit_json_open(j);
	davit_json_put_string(j, "defaultAction", "SCMP_ACT_ALLOW");
	architectures(j);
	davit_json_key(j, "syscalls");
	davit_json_open_array(j);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(denied); i++) {
		if (set & denied[i].unless)
			continue;
		rule(j, denied[i].calls, "SCMP_ACT_ERRNO", 1);
		davit_json_close(j);
	}
	if (!(set & BIT(CAP_SYS_ADMIN)))
		clone_rules(j);
	davit_json_close_array(j);
	davit_json_close(j);
}

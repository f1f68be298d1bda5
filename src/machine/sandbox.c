/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/sandbox.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sandbox_filters.h> /* by sandbox_rules.c, when this is built */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

/*
 * A uid and gid that no other process has: the pid in a range that neither distributions, nor
 * systemd, nor containers hand out (1879048192 to 2147483646).
 */
#define UID_BASE 0x70000000U

uid_t sandbox_uid(void)
{
	return UID_BASE + getpid();
}

static int drop_root(struct error *err)
{
	uid_t id = sandbox_uid();
	int code;

	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) == 0 && setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0)
		return 0;
	code = -errno;
	/* A user namespace that is given one id may not set groups, one that is given more lacks ours. */
	error_sys(err, code, NULL,
		"cannot take a user id (%u) and groups of its own for the sandbox", id);
	error_hint(err,
		"root in a user namespace (a container, \"unshare --map-root-user\") cannot; start it "
		"outside, as the user itself or as root");
	return code;
}

/* All but these, which a program that is executed has, too. */
static int drop_capabilities(uint32_t kept)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { kept, kept, kept } };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &header, data) < 0)
		return -errno;
	for (unsigned i = 0; i < 32; i++)
		if (kept & 1U << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return -errno;
	return 0;
}

#define READ_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE)
#define DIRECTORY_RIGHTS                                                    \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |     \
		LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
		LANDLOCK_ACCESS_FS_REMOVE_FILE)

static int allow_below(int ruleset, int fd, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

/* Where it is there. */
static int allow_path(int ruleset, const char *path, uint64_t rights)
{
	cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 ? 0 : allow_below(ruleset, fd, rights);
}

/* One with files reads whatever it reaches, as CAP_DAC_OVERRIDE does: of /etc only what its loader needs. */
static int allow_installed(int ruleset, bool has_files)
{
	static const char *const places[] = { "/usr", "/lib", "/lib64" };
	int code = 0;

	for (size_t i = 0; i < ARRAY_SIZE(places) && !code; i++)
		code = allow_path(ruleset, places[i], READ_RIGHTS | LANDLOCK_ACCESS_FS_READ_DIR);
	if (!code && has_files)
		code = allow_path(ruleset, "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE);
	else if (!code)
		code = allow_path(ruleset, "/etc", READ_RIGHTS | LANDLOCK_ACCESS_FS_READ_DIR);
	return code;
}

static int allow_program(int ruleset, const char *path, const struct sandbox_program *program)
{
	int code = allow_path(ruleset, path, READ_RIGHTS);

	/* By which QEMU looks whether files can be locked. */
	if (!code)
		code = allow_path(ruleset, "/dev/null",
			LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	if (!code)
		code = allow_installed(ruleset, program->file_count > 0);
	if (!code && program->directory >= 0)
		code = allow_below(ruleset, program->directory, DIRECTORY_RIGHTS);
	for (unsigned i = 0; i < program->file_count && !code; i++)
		code = allow_below(ruleset, program->files[i].fd,
			program->files[i].writable
				? LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE
				: LANDLOCK_ACCESS_FS_READ_FILE);
	return code;
}

/*
 * A ruleset that governs all file access, and allows none but what a program needs. Kernels without it have
 * seccomp alone.
 */
static int limit_paths(const char *path, const struct sandbox_program *program)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = (1ULL << 13) - 1 };
	cleanup_fd int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	int code = 0;

	if (ruleset < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
	if (program)
		code = allow_program(ruleset, path, program);
	if (!code && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		code = -errno;
	return code;
}

/*
 * What a process's rings may be asked for, and those of its children, whatever is executed: what read(2), write(2),
 * fdatasync(2) and poll(2) do with descriptors that are open, as QEMU does from 7.2 to 11.1. Nothing that opens, makes or
 * connects anything; no request with a flag.
 */
static const uint8_t ring_requests[] = {
	IORING_OP_READV,
	IORING_OP_WRITEV,
	IORING_OP_FSYNC,
	IORING_OP_POLL_ADD,
	IORING_OP_POLL_REMOVE,
	IORING_OP_TIMEOUT,
	IORING_OP_READ,
	IORING_OP_WRITE,
};

/* The kernel's struct io_uring_task_restriction, which old headers lack. */
struct ring_restrictions {
	uint16_t flags;
	uint16_t count;
	uint32_t reserved[3];
	struct io_uring_restriction list[ARRAY_SIZE(ring_requests)];
};

/* Of the process, not of one ring. */
static int register_restrictions(const struct ring_restrictions *restrictions)
{
	return syscall(SYS_io_uring_register, -1, IORING_REGISTER_RESTRICTIONS, restrictions, 1) < 0
		       ? -errno
		       : 0;
}

bool sandbox_confines_rings(void)
{
	/* Of none at all: who knows them looks there, or, of a user's process, for no_new_privs first. */
	int code = register_restrictions(NULL);

	return code == -EFAULT || code == -EACCES;
}

static int restrict_rings(void)
{
	struct ring_restrictions restrictions = { .count = ARRAY_SIZE(ring_requests) };

	for (size_t i = 0; i < ARRAY_SIZE(ring_requests); i++) {
		restrictions.list[i].opcode = IORING_RESTRICTION_SQE_OP;
		restrictions.list[i].sqe_op = ring_requests[i];
	}
	return register_restrictions(&restrictions);
}

/* Whoever runs Penstock needs neither libseccomp nor its tables in memory: the filters are made when it is built. */
static int load_filter(const struct sock_filter *filter, size_t count)
{
	struct sock_fprog program = { .len = count, .filter = (struct sock_filter *)filter };

	/* As who loads one has to, who may not undo it. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		return -errno;
	return 0;
}

/* It signals its own threads alone. */
static int load_machine_filter(void)
{
	struct sock_filter filter[ARRAY_SIZE(machine_filter)];

	memcpy(filter, machine_filter, sizeof(filter));
	filter[MACHINE_FILTER_PID].k = getpid();
	return load_filter(filter, ARRAY_SIZE(filter));
}

static int drop_privileges(uint32_t kept, struct error *err)
{
	int code = 0;

	if (kept && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		code = -errno;
	if (!code)
		code = drop_root(err);

	if (!code && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		code = -errno;
	if (!code)
		code = drop_capabilities(kept);
	/* A change of uid clears it: nobody, not even a process of the same uid, looks inside. */
	if (!code && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		code = -errno;
	/* After the change of uid, which clears this too. */
	if (!code && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		code = -errno;
	return code;
}

int sandbox_enter(struct error *err)
{
	int code;

	/* What libc would open files for later: the time zone; the number of CPUs for its arenas. */
	tzset();
	mallopt(M_ARENA_MAX, 1);
	code = drop_privileges(0, err);
	if (!code)
		code = limit_paths(NULL, NULL);
	if (!code)
		code = load_machine_filter();
	return code ? error_sys(err, code, NULL, "cannot enter the sandbox") : 0;
}

int sandbox_enter_display(struct error *err)
{
	int code;

	tzset();
	mallopt(M_ARENA_MAX, 1);
	code = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : limit_paths(NULL, NULL);
	if (!code)
		code = load_filter(display_filter, ARRAY_SIZE(display_filter));
	return code ? error_sys(err, code, NULL, "cannot enter the sandbox") : 0;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static int filter_program(bool has_ring)
{
	int code;

	if (!has_ring)
		return load_filter(program_filter, ARRAY_SIZE(program_filter));
	/* Before the filter, which leaves the rings as they are. */
	code = restrict_rings();
	return code ? code : load_filter(ring_program_filter, ARRAY_SIZE(ring_program_filter));
}

int sandbox_enter_program(
	const char *path, const struct sandbox_program *program, struct error *err)
{
	bool is_root = geteuid() == 0;
	uint32_t kept =
		is_root && program->file_count && has_landlock() ? 1U << CAP_DAC_OVERRIDE : 0;
	int code;

	/* A container may forbid it; what is left is as much as a user's processes have. */
	if (is_root)
		(void)!unshare(CLONE_NEWNET);
	code = drop_privileges(kept, err);
	if (!code)
		code = limit_paths(path, program);
	if (!code && program->file_count)
		code = filter_program(program->has_ring);
	return code ? error_sys(err, code, path, "cannot enter its sandbox") : 0;
}

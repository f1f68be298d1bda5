/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/sandbox.h"

#include "base/fd.h"
#include "base/size.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/vhost.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_PRE_FAULT_MEMORY 0xc040aed5
#endif

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

static const int allowed_calls[] = {
	SCMP_SYS(brk),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(close),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(fstat),
	SCMP_SYS(futex),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(gettid),
	SCMP_SYS(lseek),
	SCMP_SYS(madvise),
	SCMP_SYS(munmap),
	SCMP_SYS(newfstatat),
	SCMP_SYS(poll),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwrite64),
	SCMP_SYS(read),
	SCMP_SYS(recvmsg),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sendmsg),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(shutdown),
	SCMP_SYS(write),
	SCMP_SYS(writev),
};

static const unsigned long allowed_ioctls[] = {
	IOMMU_DESTROY,
	IOMMU_IOAS_ALLOC,
	IOMMU_IOAS_IOVA_RANGES,
	IOMMU_IOAS_MAP,
	IOMMU_IOAS_MAP_FILE,
	IOMMU_IOAS_UNMAP,
	KVM_CHECK_EXTENSION,
	KVM_CREATE_DEVICE,
	KVM_CREATE_IRQCHIP,
	KVM_CREATE_PIT2,
	KVM_CREATE_VCPU,
	KVM_CREATE_VM,
	KVM_ENABLE_CAP,
	KVM_GET_API_VERSION,
	KVM_GET_SREGS,
	KVM_GET_SUPPORTED_CPUID,
	KVM_GET_SUPPORTED_HV_CPUID,
	KVM_GET_VCPU_MMAP_SIZE,
	KVM_IOEVENTFD,
	KVM_IRQFD,
	KVM_IRQ_LINE,
	KVM_KVMCLOCK_CTRL,
	KVM_PRE_FAULT_MEMORY,
	KVM_RUN,
	KVM_SET_CPUID2,
	KVM_SET_DEVICE_ATTR,
	KVM_SET_GSI_ROUTING,
	KVM_SET_IDENTITY_MAP_ADDR,
	KVM_SET_MSRS,
	KVM_SET_REGS,
	KVM_SET_SREGS,
	KVM_SET_TSS_ADDR,
	KVM_SET_USER_MEMORY_REGION,
	KVM_SIGNAL_MSI,
	KVM_X86_SETUP_MCE,
	TUNSETOFFLOAD,
	VFIO_CHECK_EXTENSION,
	VFIO_DEVICE_ATTACH_IOMMUFD_PT,
	VFIO_DEVICE_BIND_IOMMUFD,
	VFIO_DEVICE_FEATURE,
	VFIO_DEVICE_GET_INFO,
	VFIO_DEVICE_GET_IRQ_INFO,
	VFIO_DEVICE_GET_REGION_INFO,
	VFIO_DEVICE_SET_IRQS,
	VFIO_GROUP_GET_DEVICE_FD,
	VFIO_GROUP_GET_STATUS,
	VFIO_GROUP_SET_CONTAINER,
	VFIO_IOMMU_GET_INFO,
	VFIO_IOMMU_MAP_DMA,
	VFIO_IOMMU_UNMAP_DMA,
	VFIO_SET_IOMMU,
	VHOST_GET_BACKEND_FEATURES,
	VHOST_GET_FEATURES,
	VHOST_NET_SET_BACKEND,
	VHOST_SET_BACKEND_FEATURES,
	VHOST_SET_FEATURES,
	VHOST_SET_MEM_TABLE,
	VHOST_SET_OWNER,
	VHOST_SET_VRING_ADDR,
	VHOST_SET_VRING_BASE,
	VHOST_SET_VRING_CALL,
	VHOST_SET_VRING_KICK,
	VHOST_SET_VRING_NUM,
	VHOST_VDPA_GET_CONFIG,
	VHOST_VDPA_GET_CONFIG_SIZE,
	VHOST_VDPA_GET_IOVA_RANGE,
	VHOST_VDPA_GET_STATUS,
	VHOST_VDPA_GET_VRING_NUM,
	VHOST_VDPA_SET_CONFIG,
	VHOST_VDPA_SET_CONFIG_CALL,
	VHOST_VDPA_SET_STATUS,
	VHOST_VDPA_SET_VRING_ENABLE,
	VHOST_VSOCK_SET_RUNNING,
};

/* To serve clients at a socket by libvncserver, and the broker; with no thread, and no ioctl. */
static const int display_calls[] = {
	SCMP_SYS(accept4),
	SCMP_SYS(brk),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(close),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(futex),
	SCMP_SYS(getpeername),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(gettid),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(lseek),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(newfstatat),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(pselect6),
	SCMP_SYS(read),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(select),
	SCMP_SYS(sendto),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(time),
	SCMP_SYS(uname),
	SCMP_SYS(write),
	SCMP_SYS(writev),
};

/* Threads alone: all of the flags that make one, and none that makes a namespace. */
#define CLONE_THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define CLONE_NEW_FLAGS                                                               \
	(CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | \
		CLONE_NEWUSER | CLONE_NEWUTS)

#define MASKED(argument, mask, value) \
	((struct scmp_arg_cmp){ (argument), SCMP_CMP_MASKED_EQ, (mask), (value) })

static int add_calls(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int code = 0;

	for (size_t i = 0; i < count && !code; i++)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (!code)
		code = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, MASKED(2, PROT_EXEC, 0));
	if (!code)
		code = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, MASKED(2, PROT_EXEC, 0));
	return code;
}

static int add_display_rules(scmp_filter_ctx filter)
{
	return add_calls(filter, display_calls, ARRAY_SIZE(display_calls));
}

#define SOCK_TYPE_MASK 0xf /* the kernel's */

static int add_machine_rules(scmp_filter_ctx filter)
{
	int code = add_calls(filter, allowed_calls, ARRAY_SIZE(allowed_calls));

	/* The request is an unsigned int to the kernel; libcs differ in what they put above it. */
	for (size_t i = 0; i < ARRAY_SIZE(allowed_ioctls) && !code; i++)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
			MASKED(1, UINT32_MAX, allowed_ioctls[i]));
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			MASKED(0, CLONE_THREAD_FLAGS | CLONE_NEW_FLAGS, CLONE_THREAD_FLAGS));
	/* Its flags are in memory, where a filter cannot see them; libc then takes clone(2). */
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			MASKED(0, UINT32_MAX, (uint64_t)getpid()));
	/*
	 * With itself alone, for the other end to be given away: by nothing else is a socket made, and by none of these
	 * is another one reached, as by one of datagrams.
	 */
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 2,
			MASKED(0, UINT32_MAX, AF_UNIX), MASKED(1, SOCK_TYPE_MASK, SOCK_STREAM));
	/* Of the thread that calls: a vCPU goes to the CPU that it is pinned to. */
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), 1,
			MASKED(0, UINT32_MAX, 0));
	return code;
}

static int filter_calls(int (*add_rules)(scmp_filter_ctx filter))
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int code;

	if (!filter)
		return -ENOMEM;
	/* A binary tree, not a list: KVM_RUN should not pay for all the others. */
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	code = add_rules(filter);
	if (!code)
		code = seccomp_load(filter);
	seccomp_release(filter);
	return code;
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
		code = filter_calls(add_machine_rules);
	return code ? error_sys(err, code, NULL, "cannot enter the sandbox") : 0;
}

int sandbox_enter_display(struct error *err)
{
	int code;

	tzset();
	mallopt(M_ARENA_MAX, 1);
	code = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : limit_paths(NULL, NULL);
	if (!code)
		code = filter_calls(add_display_rules);
	return code ? error_sys(err, code, NULL, "cannot enter the sandbox") : 0;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* Of newer kernels than libseccomp knows. */
#define NR_SETXATTRAT    463
#define NR_REMOVEXATTRAT 466

/*
 * What Landlock does not govern: who reaches another process by a socket or queue, or changes a file by its path, does
 * so with the rights of a uid, or of CAP_DAC_OVERRIDE. io_uring makes sockets without a system call that is seen here,
 * and to open for reading empties a file where it is to be truncated: Landlock took that for reading until Linux 6.2.
 */
static int forbid_other_ways(void)
{
	static const int calls[] = {
		NR_SETXATTRAT,
		NR_REMOVEXATTRAT,
		SCMP_SYS(connect),
		SCMP_SYS(creat),
		SCMP_SYS(io_uring_setup),
		SCMP_SYS(lsetxattr),
		SCMP_SYS(mq_open),
		SCMP_SYS(mq_unlink),
		SCMP_SYS(ptrace),
		SCMP_SYS(removexattr),
		SCMP_SYS(lremovexattr),
		SCMP_SYS(setxattr),
		SCMP_SYS(socket),
		SCMP_SYS(socketpair),
		SCMP_SYS(truncate),
		SCMP_SYS(utime),
		SCMP_SYS(utimensat),
		SCMP_SYS(utimes),
		SCMP_SYS(futimesat),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int code = filter ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(calls) && !code; i++)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(open), 1,
			MASKED(1, O_TRUNC, O_TRUNC));
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
			MASKED(2, O_TRUNC, O_TRUNC));
	/* Its flags are in memory; who gets this takes openat(2). */
	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0);
	if (!code)
		code = seccomp_load(filter);
	seccomp_release(filter);
	return code;
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
		code = forbid_other_ways();
	return code ? error_sys(err, code, path, "cannot enter its sandbox") : 0;
}

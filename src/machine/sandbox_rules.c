/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program of the build's: writes the seccomp filters that sandbox.c loads, as a header. libseccomp makes of rules what
 * the kernel runs.
 */
#include "base/size.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/vhost.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_PRE_FAULT_MEMORY 0xc040aed5
#endif

/* Stands where the machine puts its pid, which Linux keeps below 4194304. */
#define ANY_PID 0x7ffffffdU

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
			MASKED(0, UINT32_MAX, ANY_PID));
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

/* Of newer kernels than libseccomp knows. */
#define NR_SETXATTRAT    463
#define NR_REMOVEXATTRAT 466

/*
 * What Landlock does not govern: who reaches another process by a socket or queue, or changes a file by its path, does
 * so with the rights of a uid, or of CAP_DAC_OVERRIDE. To open for reading empties a file where it is to be truncated:
 * Landlock took that for reading until Linux 6.2.
 */
static int add_any_program_rules(scmp_filter_ctx filter)
{
	static const int calls[] = {
		NR_SETXATTRAT,
		NR_REMOVEXATTRAT,
		SCMP_SYS(connect),
		SCMP_SYS(creat),
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
	int code = 0;

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
	return code;
}

/* io_uring opens files and makes sockets without a system call that is seen here. */
static int add_program_rules(scmp_filter_ctx filter)
{
	int code = add_any_program_rules(filter);

	if (!code)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0);
	return code;
}

/* A ring that sandbox.c has restricted does not: and is not told of other descriptors, users or memory. */
static int add_ring_program_rules(scmp_filter_ctx filter)
{
	int code = add_any_program_rules(filter);

	if (!code)
		code = seccomp_rule_add(
			filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_register), 0);
	return code;
}

#define PROGRAM_MAX 1024 /* instructions; the kernel takes 4096 */

/* Where a program has the number that stands for a pid: once, or it is not what sandbox.c takes it for. */
static int find_pid(const struct sock_filter *program, size_t count)
{
	int found = -1;

	for (size_t i = 0; i < count; i++) {
		if (program[i].k != ANY_PID)
			continue;
		if (found >= 0 || program[i].code != (BPF_JMP | BPF_JEQ | BPF_K))
			return -1;
		found = i;
	}
	return found;
}

static int print_program(const char *name, scmp_filter_ctx filter, bool has_pid)
{
	static struct sock_filter program[PROGRAM_MAX + 1];
	int file = memfd_create(name, MFD_CLOEXEC);
	ssize_t size = file < 0 || seccomp_export_bpf(filter, file)
			       ? -1
			       : pread(file, program, sizeof(program), 0);
	size_t count = size < 0 ? 0 : size / sizeof(program[0]);
	int pid = find_pid(program, count);

	if (file >= 0)
		close(file);
	if (count == 0 || count > PROGRAM_MAX || has_pid != (pid >= 0))
		return -EINVAL;
	printf("\nstatic const struct sock_filter %s_filter[] = {\n", name);
	for (size_t i = 0; i < count; i++)
		printf("\t{ %#x, %u, %u, %#x },\n", program[i].code, program[i].jt, program[i].jf,
			program[i].k);
	printf("};\n");
	if (has_pid)
		printf("\n/* The instruction that compares with the process's own id. */\n"
		       "enum { MACHINE_FILTER_PID = %d };\n",
			pid);
	return 0;
}

static int print_filter(const char *name, uint32_t otherwise,
	int (*add_rules)(scmp_filter_ctx filter), bool has_pid)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	/* A binary tree, not a list: KVM_RUN should not pay for all the others. */
	int code = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) : -ENOMEM;

	if (!code)
		code = add_rules(filter);
	if (!code)
		code = print_program(name, filter, has_pid);
	if (code)
		fprintf(stderr, "cannot make the filter of the %s: %s\n", name, strerror(-code));
	seccomp_release(filter);
	return code;
}

int main(void)
{
	/* What the kernel has on which this is built says nothing of the one on which it will run. */
	seccomp_api_set(3);
	printf("/* Written by sandbox_rules.c. */\n#pragma once\n\n#include <linux/filter.h>\n");
	return print_filter("machine", SCMP_ACT_KILL_PROCESS, add_machine_rules, true) ||
	       print_filter("display", SCMP_ACT_KILL_PROCESS, add_display_rules, false) ||
	       print_filter("program", SCMP_ACT_ALLOW, add_program_rules, false) ||
	       print_filter("ring_program", SCMP_ACT_ALLOW, add_ring_program_rules, false);
}

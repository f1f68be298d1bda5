/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "machine/sandbox.h"
#include "test.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/vhost.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/*
 * Built without sanitizers, whose runtime makes calls of its own that no sandbox of a real machine
 * has to allow. Each act happens in a child, for it may be its last.
 */

/* KVM_PRE_FAULT_MEMORY, which old headers lack. */
#define PRE_FAULT_MEMORY 0xc040aed5

#define SANDBOX_FAILED 100

/* A call that waits is no reason for the test to: so long after the start its process ends. */
#define LIMIT_S 30

/* The filter as it is loaded (-Wl,--wrap=prctl), and whether it comes into force. */
int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);

static bool without_filter;
static int filter_to = -1; /* a descriptor that takes the program */

int __wrap_prctl(int option, ...)
{
	unsigned long arguments[4];
	va_list list;

	va_start(list, option);
	for (size_t i = 0; i < ARRAY_SIZE(arguments); i++)
		arguments[i] = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_SECCOMP) {
		const struct sock_fprog *program = (const struct sock_fprog *)arguments[1];

		if (filter_to >= 0 && write(filter_to, program->filter,
					      program->len * sizeof(*program->filter)) < 0)
			return -1;
		if (without_filter)
			return 0;
	}
	return __real_prctl(option, arguments[0], arguments[1], arguments[2], arguments[3]);
}

typedef int (*act)(void);

static void (*before)(void); /* in the child, before it enters */
static int (*enter)(struct error *err) = sandbox_enter;

static pid_t start(act what)
{
	pid_t pid = fork();
	struct error err = { 0 };

	if (pid)
		return pid;
	alarm(LIMIT_S);
	if (before)
		before();
	/* Not cmocka's handlers, which would go on with the next test in here. */
	signal(SIGILL, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	if (enter(&err)) {
		error_print(&err);
		_exit(SANDBOX_FAILED);
	}
	_exit(what());
}

static int status_of(act what)
{
	pid_t pid = start(what);
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool is_killed(act what)
{
	int status = status_of(what);

	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void assert_killed(act what, const char *name)
{
	int status = status_of(what);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("%s was not killed: wait status %#x", name, status);
}

#define assert_kills(what) assert_killed(what, #what)

static void assert_works(act what)
{
	int status = status_of(what);

	if (status)
		fail_msg("wait status %#x", status);
}

static int do_nothing(void)
{
	return 0;
}

static int do_exit_42(void)
{
	return 42;
}

TEST(a_machine_ends_with_its_exit_code)
{
	assert_works(do_nothing);
	assert_int_equal(WEXITSTATUS(status_of(do_exit_42)), 42);
}

static int do_open(void)
{
	return open("/dev/null", O_RDONLY) < 0;
}

static int do_open_old(void)
{
	return syscall(SYS_open, "/dev/null", O_RDONLY) < 0;
}

static int do_creat(void)
{
	return open("/tmp/penstock-sandbox-test", O_WRONLY | O_CREAT, 0600) < 0;
}

static int do_unlink(void)
{
	return unlink("/nonexistent/file");
}

static int do_chdir(void)
{
	return chdir("/");
}

TEST(no_path_is_opened)
{
	assert_kills(do_open);
	assert_kills(do_open_old);
	assert_kills(do_creat);
	assert_kills(do_unlink);
	assert_kills(do_chdir);
	assert_int_equal(access("/tmp/penstock-sandbox-test", F_OK), -1);
}

static int do_fork(void)
{
	return fork() < 0;
}

static int do_vfork(void)
{
	return syscall(SYS_vfork) < 0;
}

static int do_clone_process(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0;
}

static int do_exec(void)
{
	return execl("/bin/true", "true", NULL);
}

static int do_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}

static int do_kill_parent(void)
{
	return kill(getppid(), 0);
}

static int do_kill_other(void)
{
	return syscall(SYS_tgkill, 1, 1, 0);
}

static int do_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int do_setuid(void)
{
	return setuid(0);
}

static int do_prctl(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int do_unshare(void)
{
	return syscall(SYS_unshare, 0);
}

static int do_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}

TEST(nothing_reaches_other_processes)
{
	assert_kills(do_fork);
	assert_kills(do_vfork);
	assert_kills(do_clone_process);
	assert_kills(do_exec);
	assert_kills(do_socket);
	assert_kills(do_kill_parent);
	assert_kills(do_kill_other);
	assert_kills(do_ptrace);
}

TEST(nothing_gets_privileges_back)
{
	assert_kills(do_setuid);
	assert_kills(do_prctl);
	assert_kills(do_unshare);
	assert_kills(do_bpf);
}

static int do_mmap_exec(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

static int do_mprotect_exec(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return 1;
	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int do_mprotect_read(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED || mprotect(page, 4096, PROT_READ) || munmap(page, 4096);
}

TEST(no_memory_becomes_code)
{
	assert_kills(do_mmap_exec);
	assert_kills(do_mprotect_exec);
	assert_works(do_mprotect_read);
}

static int do_terminal_ioctl(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static int do_size_ioctl(void)
{
	struct winsize size;

	return ioctl(0, TIOCGWINSZ, &size);
}

/* The kernel looks at 32 bits of the request, and so must the filter. */
static int do_hidden_ioctl(void)
{
	return syscall(SYS_ioctl, 0, (unsigned long)KVM_RUN << 32 | TIOCSTI, "x");
}

/* One that differs in a single bit from one that is listed, high or low. */
static int do_similar_ioctl(void)
{
	return syscall(SYS_ioctl, -1, KVM_RUN ^ 0x100, 0);
}

static int do_other_direction_ioctl(void)
{
	return syscall(SYS_ioctl, -1, KVM_RUN ^ (1U << 30), 0);
}

static int do_high_half_ioctl(void)
{
	return syscall(SYS_ioctl, -1, 0xffffffff00000000 | KVM_RUN, 0) != -1 || errno != EBADF;
}

TEST(ioctls_are_seen_as_the_kernel_does)
{
	assert_kills(do_terminal_ioctl);
	assert_kills(do_size_ioctl);
	assert_kills(do_hidden_ioctl);
	assert_kills(do_similar_ioctl);
	assert_kills(do_other_direction_ioctl);
	assert_works(do_high_half_ioctl);
}

static void *touch_memory(void *opaque)
{
	char *large = malloc(10 << 20);
	char *small = malloc(100);

	if (!large || !small)
		return NULL;
	memset(large, 1, 10 << 20);
	free(large);
	free(small);
	return opaque;
}

static int do_threads(void)
{
	for (unsigned i = 0; i < 10; i++) {
		pthread_t thread;
		void *result;

		if (pthread_create(&thread, NULL, touch_memory, &i) ||
			pthread_join(thread, &result) || result != &i)
			return 1;
	}
	return 0;
}

static void do_not(int signal)
{
	(void)signal;
}

static void *wait_for_signal(void *opaque)
{
	struct timespec long_time = { .tv_sec = 10 };

	(void)opaque;
	return nanosleep(&long_time, NULL) < 0 ? opaque : NULL;
}

/* As vCPUs are kicked. */
static int do_kick(void)
{
	struct sigaction action = { .sa_handler = do_not };
	struct timespec moment = { .tv_nsec = 20000000 };
	pthread_t thread;
	void *result;
	int was_interrupted;

	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&thread, NULL, wait_for_signal, &was_interrupted))
		return 1;
	nanosleep(&moment, NULL);
	return pthread_kill(thread, SIGUSR1) || pthread_join(thread, &result) ||
	       result != &was_interrupted;
}

static int do_events(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event ready = { .events = EPOLLIN, .data.fd = event };
	eventfd_t count;

	if (epoll < 0 || event < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ready) < 0)
		return 1;
	eventfd_write(event, 1);
	if (epoll_wait(epoll, &ready, 1, 1000) != 1 || ready.data.fd != event ||
		eventfd_read(event, &count) < 0)
		return 1;
	return close(event) || close(epoll);
}

static int ram; /* opened before, as the broker does */

static int do_memory(void)
{
	char *at = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);

	if (at == MAP_FAILED || madvise(at, 4 << 20, MADV_HUGEPAGE) < 0)
		return at == MAP_FAILED;
	memset(at, 1, 4 << 20);
	return munmap(at, 4 << 20);
}

/* Printing a time or a message must not make libc open files of its own. */
static int do_library_calls(void)
{
	time_t now = time(NULL);
	char text[64];
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(text, sizeof(text), "%c %Z", &tm);
	snprintf(text, sizeof(text), "%s %f", strerror(ENOENT), 1.5);
	return fflush(stderr);
}

TEST(what_a_machine_needs_works)
{
	ram = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(ram, 4 << 20), 0);
	assert_works(do_threads);
	assert_works(do_kick);
	assert_works(do_events);
	assert_works(do_memory);
	assert_works(do_library_calls);
	close(ram);
}

/* Each system call that there is, or will be: those that are listed here pass, and no other. */

#define CALLS_END 1024 /* Linux 7 ends below 480 */
#define X32_CALL  0x40000000

/* The kernel shows no filter its uprobes' own calls, which do nothing outside of a probe. */
#define URETPROBE 335
#define UPROBE    336

static const unsigned passing[] = { SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone3,
	SYS_close, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_wait, SYS_eventfd2,
	SYS_exit, SYS_exit_group, SYS_fstat, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid,
	SYS_lseek, SYS_madvise, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_newfstatat, SYS_poll,
	SYS_pread64, SYS_preadv2, SYS_pwrite64, SYS_read, SYS_recvmsg, SYS_restart_syscall,
	SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity,
	SYS_sched_yield, SYS_sendmsg, SYS_set_robust_list, SYS_shutdown, SYS_write, SYS_writev };

static bool is_listed(const unsigned *list, size_t count, unsigned wanted)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == wanted)
			return true;
	return false;
}

static unsigned number;

/* With a bad descriptor or address, so that a call that passes does nothing. */
static int do_call(void)
{
	syscall(number, -1L, 0L, 0L, 0L, 0L, 0L);
	return 0;
}

/*
 * clone, ioctl, sched_setaffinity, socketpair and tgkill pass with some arguments alone, which are not these: see below. clone3 fails,
 * and is the only one that does so without the kernel's asking it.
 */
TEST(only_listed_calls_pass)
{
	for (number = 0; number < CALLS_END; number++) {
		bool expected = is_listed(passing, ARRAY_SIZE(passing), number);

		if (number == SYS_clone || number == URETPROBE || number == UPROBE)
			continue;
		if (is_killed(do_call) == expected)
			fail_msg("system call %u %s", number, expected ? "is killed" : "passes");
	}
}

TEST(no_call_passes_by_another_interface)
{
	for (size_t i = 0; i < ARRAY_SIZE(passing); i++) {
		number = passing[i] | X32_CALL;
		if (!is_killed(do_call))
			fail_msg("system call %u passes as one of x32", passing[i]);
	}
}

/* getpid, as a program of 32 bits asks for it. */
static int do_call_of_32_bits(void)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return 0;
}

TEST(no_call_of_32_bits_passes)
{
	int status = status_of(do_call_of_32_bits);

	/* A kernel without them says so by another signal. */
	assert_true(WIFSIGNALED(status));
	assert_true(WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV);
}

static pid_t whose;

static int do_pin(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ||
	       sched_setaffinity(whose, sizeof(set), &set);
}

TEST(a_thread_pins_itself_alone)
{
	assert_works(do_pin);
	whose = getpid();
	assert_kills(do_pin);
}

static int domain;

static int do_socketpair(void)
{
	int ends[2];

	return socketpair(domain, SOCK_STREAM, 0, ends);
}

TEST(a_socket_has_its_other_end_in_the_process)
{
	domain = AF_UNIX;
	assert_works(do_socketpair);
	domain = AF_TIPC;
	assert_kills(do_socketpair);
}

static int do_clone3(void)
{
	return syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS;
}

#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

static unsigned long clone_flags;

static int do_clone(void)
{
	return syscall(SYS_clone, clone_flags, 0, 0, 0, 0) < 0;
}

static void *open_path(void *opaque)
{
	(void)opaque;
	return (void *)(intptr_t)open("/dev/null", O_RDONLY);
}

static int do_open_in_a_thread(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, open_path, NULL) || pthread_join(thread, NULL);
}

/* Not its thread alone, which would leave the others' locks held. */
TEST(a_forbidden_call_ends_the_whole_process)
{
	assert_kills(do_open_in_a_thread);
}

TEST(only_threads_are_made)
{
	static const unsigned long all[] = { CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND,
		CLONE_THREAD };
	static const unsigned long new[] = { CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET,
		CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		clone_flags = THREAD_FLAGS & ~all[i];
		assert_kills(do_clone);
	}
	for (size_t i = 0; i < ARRAY_SIZE(new); i++) {
		clone_flags = THREAD_FLAGS | new[i];
		assert_kills(do_clone);
	}
	assert_works(do_clone3);
}

static int do_kill_thread_of_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static int do_kill_own_thread(void)
{
	return syscall(SYS_tgkill, getpid(), gettid(), 0);
}

TEST(only_its_own_threads_are_signalled)
{
	assert_kills(do_kill_thread_of_parent);
	assert_works(do_kill_own_thread);
}

/*
 * The same for ioctls. Their numbers have 32 bits, too many to try: but one that passes is compared
 * with, so it is a constant in the filter's program, and these can be tried.
 */

static const unsigned passing_ioctls[] = { IOMMU_DESTROY, IOMMU_IOAS_ALLOC, IOMMU_IOAS_IOVA_RANGES,
	IOMMU_IOAS_MAP, IOMMU_IOAS_MAP_FILE, IOMMU_IOAS_UNMAP, KVM_CHECK_EXTENSION,
	KVM_CREATE_DEVICE, KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2, KVM_CREATE_VCPU, KVM_CREATE_VM,
	KVM_ENABLE_CAP, KVM_GET_API_VERSION, KVM_GET_SREGS, KVM_GET_SUPPORTED_CPUID,
	KVM_GET_SUPPORTED_HV_CPUID, KVM_GET_VCPU_MMAP_SIZE, KVM_IOEVENTFD, KVM_IRQFD, KVM_IRQ_LINE,
	KVM_KVMCLOCK_CTRL, PRE_FAULT_MEMORY, KVM_RUN, KVM_SET_CPUID2, KVM_SET_DEVICE_ATTR,
	KVM_SET_GSI_ROUTING, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_MSRS, KVM_SET_REGS, KVM_SET_SREGS,
	KVM_SET_TSS_ADDR, KVM_SET_USER_MEMORY_REGION, KVM_SIGNAL_MSI, KVM_X86_SETUP_MCE,
	TUNSETOFFLOAD, VFIO_CHECK_EXTENSION, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
	VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_FEATURE, VFIO_DEVICE_GET_INFO,
	VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_SET_IRQS,
	VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER,
	VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_SET_IOMMU,
	VHOST_GET_BACKEND_FEATURES, VHOST_GET_FEATURES, VHOST_NET_SET_BACKEND,
	VHOST_SET_BACKEND_FEATURES, VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_OWNER,
	VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE, VHOST_SET_VRING_CALL, VHOST_SET_VRING_KICK,
	VHOST_SET_VRING_NUM, VHOST_VDPA_GET_CONFIG, VHOST_VDPA_GET_CONFIG_SIZE,
	VHOST_VDPA_GET_IOVA_RANGE, VHOST_VDPA_GET_STATUS, VHOST_VDPA_GET_VRING_NUM,
	VHOST_VDPA_SET_CONFIG, VHOST_VDPA_SET_CONFIG_CALL, VHOST_VDPA_SET_STATUS,
	VHOST_VDPA_SET_VRING_ENABLE, VHOST_VSOCK_SET_RUNNING };

static int do_ioctl(void)
{
	return ioctl(-1, number, 0) != -1 || errno != EBADF;
}

TEST(only_listed_ioctls_pass)
{
	struct sock_filter program[1024];
	size_t count, found = 0;

	filter_to = memfd_create("filter", MFD_CLOEXEC);
	assert_works(do_nothing);
	count = pread(filter_to, program, sizeof(program), 0) / sizeof(program[0]);
	close(filter_to);
	filter_to = -1;
	assert_in_range(count, 100, ARRAY_SIZE(program) - 1);
	for (size_t i = 0; i < count; i++) {
		bool expected;

		number = program[i].k;
		expected = is_listed(passing_ioctls, ARRAY_SIZE(passing_ioctls), number);
		found += expected && program[i].code == (BPF_JMP | BPF_JEQ | BPF_K);
		if (status_of(do_ioctl) == 0 ? !expected : expected)
			fail_msg("ioctl %#x %s", number, expected ? "is killed" : "passes");
	}
	assert_int_equal(found, ARRAY_SIZE(passing_ioctls));
}

/* Landlock, where the kernel has it: what seccomp would let through, or not see, has no path either. */

static char place[] = "/tmp/penstock-sandbox-XXXXXX";

static bool is_denied(long result)
{
	return result == -1 && errno == EACCES;
}

/* All of it would work but for Landlock: the directory is everybody's. */
static int do_paths(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };

	return is_denied(open("/dev/null", O_RDONLY)) && is_denied(open("/dev/null", O_WRONLY)) &&
			       is_denied(open("/", O_RDONLY | O_DIRECTORY)) &&
			       is_denied(open("old", O_RDONLY)) &&
			       is_denied(open("old", O_WRONLY)) &&
			       is_denied(open("new", O_WRONLY | O_CREAT, 0600)) &&
			       is_denied(mkdir("new", 0700)) && is_denied(rmdir("directory")) &&
			       is_denied(unlink("old")) && is_denied(symlink("old", "new")) &&
			       is_denied(mkfifo("new", 0600)) &&
			       is_denied(bind(socket(AF_UNIX, SOCK_STREAM, 0),
				       (struct sockaddr *)&address, sizeof(address))) &&
			       is_denied(execl("/bin/true", "true", NULL))
		       ? 0
		       : 1;
}

TEST(landlock_denies_every_path)
{
	int fd, here = open(".", O_RDONLY | O_DIRECTORY);

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		test_skip("this kernel has no Landlock, or it is off");
	assert_non_null(mkdtemp(place));
	assert_int_equal(chmod(place, 0777) | chdir(place), 0);
	fd = open("old", O_WRONLY | O_CREAT, 0666);
	assert_int_equal(fchmod(fd, 0666), 0);
	close(fd);
	assert_int_equal(mkdir("directory", 0777), 0);
	without_filter = true;
	assert_works(do_paths);
	without_filter = false;
	assert_int_equal(unlink("old") | rmdir("directory"), 0);
	assert_int_equal(fchdir(here) | rmdir(place), 0);
	close(here);
}

/* Root of a user namespace has no other uids to take. */

static void write_map(const char *path, const char *text)
{
	if (fd_write_file(path, text))
		_exit(SANDBOX_FAILED);
}

static void enter_as_root_of_a_namespace(int out)
{
	struct error err = { 0 };
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	if (unshare(CLONE_NEWUSER) < 0)
		_exit(77);
	write_map("/proc/self/setgroups", "deny");
	write_map("/proc/self/uid_map", map);
	sandbox_enter(&err);
	_exit(write(out, &err, sizeof(err)) != sizeof(err));
}

/* It is another program then, as a disk's daemon is. Exit code 0: nothing of what it tries works. */
static _Noreturn void be_program_with_file(int fd)
{
	static const char script[] =
		"import os, socket, sys\n"
		"def works(call):\n"
		"    try:\n"
		"        call()\n"
		"    except OSError:\n"
		"        return 0\n"
		"    return 1\n"
		"file = '/proc/self/fd/' + sys.argv[1]\n"
		"sys.exit(works(lambda: os.open('/etc/shadow', os.O_RDONLY)) |\n"
		"         works(lambda: os.open('/etc/passwd', os.O_RDONLY)) << 1 |\n"
		"         works(lambda: os.open(file, os.O_RDONLY | os.O_TRUNC)) << 2 |\n"
		"         works(socket.socketpair) << 3)\n";
	struct sandbox_file file = { fd, false };
	struct sandbox_program program = { .directory = -1, .files = &file, .file_count = 1 };
	struct error failure = { 0 };
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	if (sandbox_enter_program("/usr/bin/python3", &program, &failure) == 0)
		execl("/usr/bin/python3", "python3", "-ISc", script, number, NULL);
	error_print(&failure);
	_exit(99);
}

TEST(a_program_with_files_has_these_alone)
{
	char path[] = "/tmp/penstock-sandbox-XXXXXX";
	int fd = mkstemp(path), status;
	struct stat now;
	pid_t pid;

	assert_int_equal(write(fd, "disk", 4), 4);
	pid = fork();
	if (pid == 0)
		be_program_with_file(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(fstat(fd, &now), 0);
	assert_int_equal(now.st_size, 4);
	close(fd);
	unlink(path);
}

/*
 * A program's ring. It is another program, too: this one, which a word tells to be that. Each kind of request that there is,
 * with fields of which it makes little or nothing: what matters is whether the ring takes it.
 */

#define REQUESTS 128 /* more than any kernel has kinds */

static const unsigned passing_requests[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
	IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT, IORING_OP_READ,
	IORING_OP_WRITE };

struct ring {
	int fd;
	struct io_uring_params params;
	uint8_t *queues;
	struct io_uring_sqe *request;
};

static uint32_t *ring_word(const struct ring *ring, uint32_t offset)
{
	return (uint32_t *)(ring->queues + offset);
}

/* Of one request at a time. */
static bool ring_open(struct ring *ring)
{
	*ring = (struct ring){ .params.flags = 0 };
	ring->fd = syscall(SYS_io_uring_setup, 1, &ring->params);
	if (ring->fd < 0)
		return false;
	ring->queues = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
		IORING_OFF_SQ_RING);
	ring->request = mmap(NULL, sizeof(*ring->request), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	return ring->queues != MAP_FAILED && ring->request != MAP_FAILED;
}

/* What it says of the request. */
static int ring_ask(const struct ring *ring, const struct io_uring_sqe *request)
{
	const struct io_uring_params *params = &ring->params;
	uint32_t *tail = ring_word(ring, params->sq_off.tail),
		 *head = ring_word(ring, params->cq_off.head);
	const struct io_uring_cqe *answer;
	int result;

	*ring->request = *request;
	*ring_word(ring, params->sq_off.array) = 0;
	__atomic_add_fetch(tail, 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		_exit(90);
	answer = (const struct io_uring_cqe *)(ring->queues + params->cq_off.cqes);
	result = answer[*head & *ring_word(ring, params->cq_off.ring_mask)].res;
	__atomic_add_fetch(head, 1, __ATOMIC_RELEASE);
	return result;
}

/* Which waits for nothing. */
static int ring_ask_for(const struct ring *ring, unsigned kind, int fd, unsigned flags)
{
	static const struct __kernel_timespec soon = { .tv_nsec = 1 };
	static char byte;
	struct iovec vector = { &byte, 1 };
	struct io_uring_sqe request = {
		.opcode = kind,
		.flags = flags,
		.fd = fd,
		.addr = (uintptr_t)&byte,
		.len = 1,
	};

	if (kind == IORING_OP_READV || kind == IORING_OP_WRITEV)
		request.addr = (uintptr_t)&vector;
	else if (kind == IORING_OP_TIMEOUT)
		request.addr = (uintptr_t)&soon;
	else if (kind == IORING_OP_FSYNC)
		request.addr = request.len = 0;
	else if (kind == IORING_OP_POLL_ADD)
		request.addr = request.len = 0, request.poll32_events = POLLIN;
	else if (kind == IORING_OP_POLL_REMOVE)
		request.fd = -1, request.len = 0;
	return ring_ask(ring, &request);
}

static int check_requests(int fd)
{
	struct ring ring;

	if (!ring_open(&ring))
		return 91;
	for (unsigned kind = 0; kind < REQUESTS; kind++) {
		bool passes = is_listed(passing_requests, ARRAY_SIZE(passing_requests), kind);
		int result = ring_ask_for(&ring, kind, fd, 0);

		/* The kernel does not know the last ones. */
		if (passes ? result == -EACCES || result == -EINVAL
			   : result != -EACCES && result != -EINVAL) {
			fprintf(stderr, "request %u: %d\n", kind, result);
			return 92;
		}
	}
	if (ring_ask_for(&ring, IORING_OP_CONNECT, fd, 0) != -EACCES ||
		ring_ask_for(&ring, IORING_OP_OPENAT, fd, 0) != -EACCES ||
		ring_ask_for(&ring, IORING_OP_READ, fd, 0) != 1 ||
		ring_ask_for(&ring, IORING_OP_READ, fd, IOSQE_ASYNC) != -EACCES)
		return 93;
	return syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &fd, 1) == -1 &&
			       errno == EPERM
		       ? 0
		       : 94;
}

static void *check_requests_in_a_thread(void *opaque)
{
	return (void *)(intptr_t)check_requests((intptr_t)opaque);
}

/* Exit code 0: there is none, or it lets pass what it should, in each thread. */
static int be_program(const char *has_ring, int fd)
{
	pthread_t thread;
	void *result = NULL;
	int code;

	alarm(LIMIT_S);
	if (strcmp(has_ring, "ring"))
		return syscall(SYS_io_uring_setup, 1, NULL) == -1 && errno == EPERM ? 0 : 96;
	code = check_requests(fd);
	if (!code &&
		(pthread_create(&thread, NULL, check_requests_in_a_thread, (void *)(intptr_t)fd) ||
			pthread_join(thread, &result)))
		code = 95;
	return code ? code : (int)(intptr_t)result;
}

static _Noreturn void become_program(bool has_ring, int fd)
{
	struct sandbox_file file = { fd, true };
	struct sandbox_program program = {
		.directory = -1,
		.files = &file,
		.file_count = 1,
		.has_ring = has_ring,
	};
	struct error failure = { 0 };
	char self[PATH_MAX] = "", number[16];

	snprintf(number, sizeof(number), "%d", fd);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 &&
		sandbox_enter_program(self, &program, &failure) == 0)
		execl(self, self, has_ring ? "ring" : "no ring", number, NULL);
	_exit(failure.code ? 98 : 99);
}

static int status_of_program(bool has_ring)
{
	char path[] = "/tmp/penstock-sandbox-XXXXXX";
	int fd = mkstemp(path);
	pid_t pid;
	int status;

	assert_int_equal(write(fd, "disk", 4), 4);
	unlink(path);
	pid = fork();
	if (pid == 0)
		become_program(has_ring, fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fd);
	return status;
}

TEST(a_program_has_no_ring_that_nothing_confines)
{
	assert_int_equal(status_of_program(false), 0);
	if (!sandbox_confines_rings())
		assert_int_equal(WEXITSTATUS(status_of_program(true)), 98);
}

TEST(a_programs_ring_reads_and_writes_alone)
{
	if (!sandbox_confines_rings())
		test_skip("this kernel confines no rings");
	assert_int_equal(status_of_program(true), 0);
}

TEST(root_of_a_user_namespace_is_told_why)
{
	struct error err = { 0 };
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0)
		enter_as_root_of_a_namespace(out[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		test_skip("no user namespace can be had");
	assert_int_equal(status, 0);
	assert_int_equal(read(out[0], &err, sizeof(err)), sizeof(err));
	assert_int_equal(err.code, -EPERM);
	assert_non_null(strstr(err.what, "user id"));
	assert_non_null(strstr(err.hint, "user namespace"));
	close(out[0]);
	close(out[1]);
}

/* What is known of a process that is in the sandbox and waits to be let go. */
static int hold[2];

static int do_wait(void)
{
	char byte;

	close(hold[1]);
	return read(hold[0], &byte, 1) != 1;
}

static const char *line_of(const char *text, const char *key)
{
	const char *line = strstr(text, key);

	if (!line)
		fail_msg("/proc/PID/status lacks %s", key);
	return line + strlen(key);
}

/* Until seccomp is in force, which is the last step; the lines above may be of a moment before. */
static void wait_for_sandbox(pid_t pid, char *text, size_t size)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	for (unsigned tries = 0; tries < 500; tries++) {
		assert_true(fd_read_file(path, text, size) > 0);
		if (atoi(line_of(text, "\nSeccomp:")) == 2) {
			assert_true(fd_read_file(path, text, size) > 0);
			return;
		}
		usleep(10000);
	}
	fail_msg("no seccomp filter came into force");
}

static void assert_no_capability(const char *text, const char *key)
{
	assert_int_equal(strtoull(line_of(text, key), NULL, 16), 0);
}

static void assert_other_ids(const char *text, const char *key)
{
	const char *at = line_of(text, key);

	/* Real, effective, saved, file system. */
	for (unsigned i = 0; i < 4; i++) {
		char *end;

		assert_true(strtoul(at, &end, 10) > 0x70000000);
		at = end;
	}
}

TEST(the_kernel_says_that_it_is_in_force)
{
	char text[8192];
	const char *groups;
	struct stat stat_of;
	int status;
	pid_t pid;

	assert_int_equal(pipe(hold), 0);
	pid = start(do_wait);
	wait_for_sandbox(pid, text, sizeof(text));
	assert_int_equal(atoi(line_of(text, "\nNoNewPrivs:")), 1);
	assert_no_capability(text, "\nCapEff:");
	assert_no_capability(text, "\nCapPrm:");
	assert_no_capability(text, "\nCapInh:");
	assert_no_capability(text, "\nCapAmb:");
	if (geteuid() == 0) {
		assert_other_ids(text, "\nUid:");
		assert_other_ids(text, "\nGid:");
		groups = line_of(text, "\nGroups:");
		assert_int_equal(groups[strspn(groups, " \t")], '\n');
	}
	/* Not dumpable: its files in /proc are root's, whoever it is. */
	snprintf(text, sizeof(text), "/proc/%d/mem", pid);
	assert_int_equal(stat(text, &stat_of), 0);
	assert_int_equal(stat_of.st_uid, 0);
	assert_int_equal(write(hold[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(hold[0]);
	close(hold[1]);
}

/* A user may have some: by systemd's AmbientCapabilities=, by pam_cap. */
static void keep_a_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct some[2] = { 0 };

	some[0].permitted = some[0].inheritable = some[0].effective = 1 << CAP_NET_RAW;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresgid(12345, 12345, 12345) ||
		setresuid(12345, 12345, 12345) || syscall(SYS_capset, &header, some) ||
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0))
		_exit(SANDBOX_FAILED);
}

TEST(a_user_loses_capabilities_too)
{
	char text[8192];
	int status;
	pid_t pid;

	if (geteuid() != 0)
		test_skip("only root can give a capability away");
	assert_int_equal(pipe(hold), 0);
	before = keep_a_capability;
	pid = start(do_wait);
	before = NULL;
	wait_for_sandbox(pid, text, sizeof(text));
	assert_no_capability(text, "\nCapEff:");
	assert_no_capability(text, "\nCapPrm:");
	assert_no_capability(text, "\nCapInh:");
	assert_no_capability(text, "\nCapAmb:");
	assert_int_equal(write(hold[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(hold[0]);
	close(hold[1]);
}

/* The broker's death must not leave a machine behind: it holds the devices. */
TEST(it_dies_with_its_parent)
{
	struct pollfd gone;
	char text[8192];
	int alive[2], status;
	pid_t parent, pid;

	assert_int_equal(pipe(hold), 0);
	assert_int_equal(pipe(alive), 0);
	parent = fork();
	if (parent == 0) {
		pid = start(do_wait);
		wait_for_sandbox(pid, text, sizeof(text));
		_exit(0);
	}
	close(alive[1]); /* only the two of them have it now */
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_int_equal(status, 0);
	gone = (struct pollfd){ .fd = alive[0], .events = POLLIN };
	assert_int_equal(poll(&gone, 1, 5000), 1);
	assert_int_equal(read(alive[0], text, 1), 0);
	close(alive[0]);
	close(hold[0]);
	close(hold[1]);
}

static int do_accept(void)
{
	return accept4(-1, NULL, NULL, 0) == -1 && errno == EBADF ? 0 : 1;
}

/* The display's program has been confined before; what it needs no more goes when its libraries are loaded. */
TEST(a_display_serves_sockets_and_does_nothing_else)
{
	enter = sandbox_enter_display;
	assert_works(do_nothing);
	assert_works(do_accept);
	assert_kills(do_open);
	assert_kills(do_unlink);
	assert_kills(do_fork);
	assert_kills(do_exec);
	assert_kills(do_socket);
	assert_kills(do_kill_parent);
	assert_kills(do_prctl);
	assert_kills(do_mmap_exec);
	assert_kills(do_mprotect_exec);
	assert_kills(do_terminal_ioctl);
	enter = sandbox_enter;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_ends_with_its_exit_code),
		cmocka_unit_test(no_path_is_opened),
		cmocka_unit_test(nothing_reaches_other_processes),
		cmocka_unit_test(nothing_gets_privileges_back),
		cmocka_unit_test(no_memory_becomes_code),
		cmocka_unit_test(ioctls_are_seen_as_the_kernel_does),
		cmocka_unit_test(what_a_machine_needs_works),
		cmocka_unit_test(only_listed_calls_pass),
		cmocka_unit_test(no_call_passes_by_another_interface),
		cmocka_unit_test(no_call_of_32_bits_passes),
		cmocka_unit_test(a_thread_pins_itself_alone),
		cmocka_unit_test(a_socket_has_its_other_end_in_the_process),
		cmocka_unit_test(a_forbidden_call_ends_the_whole_process),
		cmocka_unit_test(only_threads_are_made),
		cmocka_unit_test(only_its_own_threads_are_signalled),
		cmocka_unit_test(only_listed_ioctls_pass),
		cmocka_unit_test(landlock_denies_every_path),
		cmocka_unit_test(a_program_with_files_has_these_alone),
		cmocka_unit_test(a_program_has_no_ring_that_nothing_confines),
		cmocka_unit_test(a_programs_ring_reads_and_writes_alone),
		cmocka_unit_test(root_of_a_user_namespace_is_told_why),
		cmocka_unit_test(the_kernel_says_that_it_is_in_force),
		cmocka_unit_test(a_user_loses_capabilities_too),
		cmocka_unit_test(it_dies_with_its_parent),
		cmocka_unit_test(a_display_serves_sockets_and_does_nothing_else),
	};

	if (argc == 3)
		return be_program(argv[1], atoi(argv[2]));
	if (argc == 2)
		cmocka_set_test_filter(argv[1]); /* these alone: "a_program*" */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

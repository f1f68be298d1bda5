/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "machine/sandbox.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
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
#include <sys/wait.h>
#include <time.h>

/*
 * Built without sanitizers, whose runtime makes calls of its own that no sandbox of a real machine
 * has to allow. Each act happens in a child, for it may be its last.
 */

#define SANDBOX_FAILED 100

typedef int (*act)(void);

static pid_t start(act what)
{
	pid_t pid = fork();
	struct error err = { 0 };

	if (pid)
		return pid;
	if (sandbox_enter(&err)) {
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

static int do_listed_ioctls(void)
{
	static const unsigned long listed[] = { KVM_RUN, KVM_CREATE_VM, KVM_IRQFD,
		KVM_SET_USER_MEMORY_REGION, KVM_SET_GSI_ROUTING, VFIO_DEVICE_SET_IRQS,
		VFIO_IOMMU_MAP_DMA, VFIO_DEVICE_GET_REGION_INFO };

	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
		if (ioctl(-1, listed[i], 0) != -1 || errno != EBADF)
			return 1;
	return syscall(SYS_ioctl, -1, 0xffffffff00000000 | KVM_RUN, 0) != -1 || errno != EBADF;
}

TEST(only_listed_ioctls_pass)
{
	assert_kills(do_terminal_ioctl);
	assert_kills(do_size_ioctl);
	assert_kills(do_hidden_ioctl);
	assert_kills(do_similar_ioctl);
	assert_kills(do_other_direction_ioctl);
	assert_works(do_listed_ioctls);
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

static int do_memory(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	char *at;

	if (fd < 0 || ftruncate(fd, 4 << 20) < 0)
		return 1;
	at = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
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
	assert_works(do_threads);
	assert_works(do_kick);
	assert_works(do_events);
	assert_works(do_memory);
	assert_works(do_library_calls);
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

/* Until seccomp is in force, which is the last step. */
static void wait_for_sandbox(pid_t pid, char *text, size_t size)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	for (unsigned tries = 0; tries < 500; tries++) {
		assert_true(fd_read_file(path, text, size) > 0);
		if (atoi(line_of(text, "\nSeccomp:")) == 2)
			return;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_ends_with_its_exit_code),
		cmocka_unit_test(no_path_is_opened),
		cmocka_unit_test(nothing_reaches_other_processes),
		cmocka_unit_test(nothing_gets_privileges_back),
		cmocka_unit_test(no_memory_becomes_code),
		cmocka_unit_test(only_listed_ioctls_pass),
		cmocka_unit_test(what_a_machine_needs_works),
		cmocka_unit_test(the_kernel_says_that_it_is_in_force),
		cmocka_unit_test(it_dies_with_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

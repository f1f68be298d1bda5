/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "broker/cpus.h"
#include "broker/numa.h"
#include "broker/resources.h"
#include "broker/vfio.h"
#include "host/fixture.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * What a machine needs, and what is said where the host has it not. The host is a made-up tree; nodes
 * and files outside of it are answered here (-Wl,--wrap), as are KVM's number of vCPUs and our limits.
 */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __wrap_getrlimit64(int resource, struct rlimit *limit);
int __wrap_setrlimit64(int resource, const struct rlimit *limit);
int __wrap_host_bind_load_vfio(const struct host *which, struct error *err);

#define NVME "/sys/devices/pci0000:00/0000:01:00.0"
#define NIC  "/sys/devices/pci0000:00/0000:02:00.0"
#define PAIR "/sys/devices/pci0000:00/0000:02:00.1"

static struct {
	const char *path; /* of what cannot be opened, with this errno */
	int error;
	char meminfo[512];
	unsigned nodes;         /* of VFIO that were opened */
	bool has_iommufd;       /* /dev/iommu is there */
	bool comes_with_module; /* what cannot be opened can be, after this */
	char opened[8][64];     /* these nodes */
	int most_cpus;
	cpu_set_t cpuset, affinity; /* that we may have, and do */
	struct rlimit memlock;
	bool is_root; /* who may raise it */
} host;

static struct broker_config config;
static const struct host *on; /* the fixture's */

int __wrap_host_bind_load_vfio(const struct host *which, struct error *err)
{
	(void)which;
	if (!host.comes_with_module)
		return error_set(err, -ENOENT, NULL, "no module");
	host.path = NULL;
	return 0;
}

static int text_file(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

static bool is_node(const char *path)
{
	return strcmp(path, "/dev/iommu") == 0 || strncmp(path, "/dev/vfio/", 10) == 0;
}

int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (host.path && strcmp(path, host.path) == 0) {
		errno = host.error;
		return -1;
	}
	if (strcmp(path, "/proc/meminfo") == 0)
		return text_file(host.meminfo);
	if (is_node(path))
		snprintf(host.opened[host.nodes++], sizeof(host.opened[0]), "%s", path);
	else if (strcmp(path, "/dev/kvm"))
		return __real_open64(path, flags, mode);
	return __real_open64("/dev/null", flags);
}

int __wrap_access(const char *path, int mode)
{
	if (!is_node(path))
		return __real_access(path, mode);
	if ((host.path && strcmp(path, host.path) == 0) ||
		(!host.has_iommufd && strcmp(path, "/dev/iommu") == 0)) {
		errno = host.path ? host.error : ENOENT;
		return -1;
	}
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;

	(void)fd;
	if (request == KVM_GET_SUPPORTED_CPUID) {
		va_start(args, request);
		va_arg(args, struct kvm_cpuid2 *)->nent = 0;
		va_end(args);
		return 0;
	}
	assert_int_equal(request, KVM_CHECK_EXTENSION);
	return host.most_cpus;
}

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	assert_int_equal(pid, 0);
	assert_int_equal(size, sizeof(*set));
	*set = host.affinity;
	return 0;
}

int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	cpu_set_t both;

	assert_int_equal(pid, 0);
	assert_int_equal(size, sizeof(*set));
	CPU_AND(&both, set, &host.cpuset);
	if (!CPU_COUNT(&both)) {
		errno = EINVAL;
		return -1;
	}
	host.affinity = both;
	return 0;
}

int __wrap_getrlimit64(int resource, struct rlimit *limit)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	*limit = host.memlock;
	return 0;
}

int __wrap_setrlimit64(int resource, const struct rlimit *limit)
{
	assert_int_equal(resource, RLIMIT_MEMLOCK);
	if (limit->rlim_max > host.memlock.rlim_max && !host.is_root) {
		errno = EPERM;
		return -1;
	}
	host.memlock = *limit;
	return 0;
}

static int setup(void **state)
{
	struct fixture *fixture;
	static char kernel[PATH_MAX];

	if (fixture_setup(state))
		return -1;
	fixture = *state;
	memset(&host, 0, sizeof(host));
	strcpy(host.meminfo, "MemTotal:        8388608 kB\nMemFree:          1048576 kB\n"
			     "MemAvailable:    4194304 kB\nSwapTotal:       1048576 kB\n");
	on = &fixture->host;
	fixture_file(fixture, "/kernel", "kernel");
	snprintf(kernel, sizeof(kernel), "%s/kernel", fixture->tree);
	config = (struct broker_config){
		.kernel = kernel, .memory = 512 * MIB, .cpus = KVM_CPUS(1)
	};
	return 0;
}

static void assert_error(
	const struct error *err, int code, const char *object, const char *what, const char *hint)
{
	if (err->code != code || strcmp(err->object, object) || !strstr(err->what, what) ||
		!strstr(err->hint, hint) || !hint[0] != !err->hint[0])
		fail_msg("%d: '%s': '%s': '%s'", err->code, err->object, err->what, err->hint);
}

/* Files */

static void refuse_files(int code, const char *object, const char *what, const char *hint)
{
	struct broker_files files = BROKER_FILES_NONE;
	struct error err = { 0 };

	assert_int_equal(broker_files_open(&files, &config, &err), code);
	assert_error(&err, code, object, what, hint);
	broker_files_close(&files);
}

static void files_are_open_until_they_are_closed(void **state)
{
	struct broker_files files = BROKER_FILES_NONE;
	struct error err = { 0 };

	(void)state;
	config.initrd = config.kernel;
	assert_int_equal(broker_files_open(&files, &config, &err), 0);
	assert_true(fcntl(files.kernel, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(files.initrd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(files.kvm, F_GETFD) & FD_CLOEXEC);
	assert_true(files.kernel != files.initrd);
	broker_files_close(&files);
	assert_int_equal(fcntl(files.kernel, F_GETFD), -1);
	assert_int_equal(fcntl(files.initrd, F_GETFD), -1);
	assert_int_equal(fcntl(files.kvm, F_GETFD), -1);
}

static void a_kernel_must_be_a_file(void **state)
{
	const char *kernel = config.kernel;
	char pipe[PATH_MAX];

	refuse_files(0, "", "", "");
	config.kernel = "/nonexistent";
	refuse_files(-ENOENT, "/nonexistent", "cannot open the kernel: No such file",
		"ls -l /nonexistent");
	config.kernel = "/tmp";
	refuse_files(-EINVAL, "/tmp", "the kernel must be a regular file", "");
	config.kernel = "/dev/null";
	refuse_files(-EINVAL, "/dev/null", "the kernel must be a regular file", "");
	/* Without a writer, whom an open() could wait for. */
	fixture_pipe(*state, "/pipe");
	snprintf(pipe, sizeof(pipe), "%s/pipe", ((struct fixture *)*state)->tree);
	config.kernel = pipe;
	refuse_files(-EINVAL, pipe, "the kernel must be a regular file", "");
	config.kernel = kernel;
	config.initrd = "/nonexistent";
	refuse_files(-ENOENT, "/nonexistent", "cannot open the initrd: No such file",
		"ls -l /nonexistent");
}

/* Written by hand: it ends as one does. */
static void a_bios_starts_no_kernel(void **state)
{
	static char image[64 * KIB];
	char path[PATH_MAX];
	int fd;

	memcpy(image + sizeof(image) - 16, "\xea\x5b\xe0\x00\xf0", 5);
	snprintf(path, sizeof(path), "%s/bios", ((struct fixture *)*state)->tree);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, image, sizeof(image)), sizeof(image));
	close(fd);
	config.firmware = path;
	refuse_files(-EINVAL, config.kernel, "a BIOS starts what is on a disk", "--firmware uefi");
	config.kernel = NULL;
	refuse_files(0, "", "", "");
}

static void kvm_must_be_there(void **state)
{
	(void)state;
	host.path = "/dev/kvm";
	host.error = EACCES;
	refuse_files(-EACCES, "/dev/kvm", "cannot be opened", "group kvm");
	host.error = ENOENT;
	refuse_files(-ENOENT, "/dev/kvm", "cannot be opened", "modprobe kvm");
}

/* CPUs */

static void kvm_says_how_many_cpus(void **state)
{
	struct error err = { 0 };

	(void)state;
	host.most_cpus = 4;
	config.cpus = KVM_CPUS(4);
	assert_int_equal(broker_cpus_check(&config, on, 0, &err), 0);
	config.cpus = KVM_CPUS(5);
	assert_int_equal(broker_cpus_check(&config, on, 0, &err), -EINVAL);
	assert_error(&err, -EINVAL, "", "5 vCPUs are too many: this host's KVM takes 4", "");
	host.most_cpus = -1; /* it does not say */
	err = (struct error){ 0 };
	assert_int_equal(broker_cpus_check(&config, on, 0, &err), 0);
}

/* Of a host that has CPUs 0 to 5, of which others keep 4 and 5. */
static void pin_to(struct fixture *fixture, unsigned first, unsigned count)
{
	fixture_file(fixture, "/sys/devices/system/cpu/online", "0-5\n");
	host.most_cpus = 16;
	CPU_ZERO(&host.cpuset);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		CPU_SET(cpu, &host.cpuset);
	host.affinity = host.cpuset;
	config.cpus = KVM_CPUS(count);
	config.cpus.pinned = true;
	for (unsigned i = 0; i < count; i++)
		config.cpus.pins[i] = first + i;
}

static void cpus_that_cannot_be_had_are_refused(void **state)
{
	static const struct {
		unsigned first, count;
		const char *what;
	} bad[] = {
		{ 3, 2, "CPU 4: the host keeps it for others" },
		{ 5, 1, "CPU 5: the host keeps it for others" },
		{ 6, 1, "CPU 6: the host has 0-5" },
		{ 1023, 1, "CPU 1023: the host has 0-5" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = { 0 };

		pin_to(*state, bad[i].first, bad[i].count);
		assert_int_equal(broker_cpus_check(&config, on, 0, &err), -EINVAL);
		assert_non_null(strstr(err.what, bad[i].what));
		assert_true(err.hint[0]);
		assert_true(CPU_EQUAL(&host.affinity, &host.cpuset));
	}
}

static void others_leave_the_cpus_of_the_guest(void **state)
{
	struct error err = { 0 };

	pin_to(*state, 1, 2);
	assert_int_equal(broker_cpus_check(&config, on, 0, &err), 0);
	assert_true(CPU_EQUAL(&host.affinity, &host.cpuset));
	broker_cpus_leave(&config);
	assert_int_equal(CPU_COUNT(&host.affinity), 2);
	assert_true(CPU_ISSET(0, &host.affinity) && CPU_ISSET(3, &host.affinity));
	/* Of all that there are none can be left. */
	pin_to(*state, 0, 4);
	broker_cpus_leave(&config);
	assert_true(CPU_EQUAL(&host.affinity, &host.cpuset));
	/* Nor is anybody sent away for nothing. */
	config.cpus.pinned = false;
	CPU_CLR(2, &host.affinity);
	broker_cpus_leave(&config);
	assert_int_equal(CPU_COUNT(&host.affinity), 3);
}

/* NUMA */

static int node_of(
	struct fixture *fixture, const char *nodes, const char *first, const char *second)
{
	fixture_file(fixture, "/sys/devices/system/node/online", nodes);
	fixture_file(fixture, NVME "/numa_node", first);
	fixture_file(fixture, NIC "/numa_node", second);
	config.device_count = 2;
	bdf_parse("0000:01:00.0", &config.devices[0]);
	bdf_parse("0000:02:00.0", &config.devices[1]);
	return broker_numa_node(on, &config);
}

static void memory_is_next_to_the_devices(void **state)
{
	struct fixture *fixture = *state;

	fixture_device(fixture, NVME, "0x010802", NULL, -1);
	fixture_device(fixture, NIC, "0x020000", NULL, -1);
	assert_int_equal(node_of(fixture, "0-1\n", "1\n", "1\n"), 1);
	assert_int_equal(node_of(fixture, "0-1\n", "0\n", "0\n"), 0);
	/* One that does not tell is at any. */
	assert_int_equal(node_of(fixture, "0-1\n", "-1\n", "1\n"), 1);
	assert_int_equal(node_of(fixture, "0-1\n", "-1\n", "-1\n"), -1);
	assert_int_equal(node_of(fixture, "0-1\n", "0\n", "1\n"), -1);
	assert_int_equal(node_of(fixture, "0\n", "0\n", "0\n"), -1);
	assert_int_equal(node_of(fixture, "", "1\n", "1\n"), -1);
	assert_int_equal(node_of(fixture, "0-1\n", "1024\n", "1024\n"), -1);
	config.device_count = 0;
	assert_int_equal(broker_numa_node(&fixture->host, &config), -1);
}

/* Memory */

static void refuse_memory(int code, const char *what, const char *hint)
{
	struct error err = { 0 };

	assert_int_equal(broker_check_memory(&config, on, &err), code);
	assert_error(&err, code, "", what, hint);
}

/* It need not be free: a guest may never use all of it. */
static void memory_must_exist(void **state)
{
	(void)state;
	config.memory = 9 * GIB; /* with the swap */
	refuse_memory(0, "", "");
	config.memory = 9 * GIB + MIB;
	refuse_memory(-ENOMEM, "the guest is to have 9.0 GiB of memory, the host has 9 GiB",
		"give it less with --memory");
	host.meminfo[0] = '\0';
	refuse_memory(-ENOMEM, "the host has 0", "--memory");
}

static void hugepages_must_be_free(void **state)
{
	const char *pool = "/sys/kernel/mm/hugepages/hugepages-2048kB";
	char path[128];

	config.hugepages = 2 * MIB;
	refuse_memory(-ENOMEM,
		"the host has 0 huge pages of 2 MiB that nobody uses, the guest needs 256",
		"echo 256 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	snprintf(path, sizeof(path), "%s/free_hugepages", pool);
	fixture_file(*state, path, "256\n");
	refuse_memory(0, "", "");
	/* Of these some are promised to others. */
	snprintf(path, sizeof(path), "%s/resv_hugepages", pool);
	fixture_file(*state, path, "1\n");
	snprintf(path, sizeof(path), "%s/nr_hugepages", pool);
	fixture_file(*state, path, "300\n");
	refuse_memory(-ENOMEM, "the host has 255 huge pages", "echo 301 >");
	config.memory = 500 * MIB;
	refuse_memory(0, "", "");
	config.memory = 500 * MIB + 4 * KIB;
	refuse_memory(-EINVAL, "huge pages of 2 MiB the memory must be a multiple of that", "");
}

static void larger_ones_must_be_free(void **state)
{
	const char *pool = "/sys/kernel/mm/hugepages/hugepages-1048576kB";
	char path[128];

	config.hugepages = GIB;
	config.memory = 3 * GIB;
	refuse_memory(-ENOTSUP, "this host has no huge pages of 1 GiB", "hugepages=2M");
	snprintf(path, sizeof(path), "%s/free_hugepages", pool);
	fixture_file(*state, path, "2\n");
	snprintf(path, sizeof(path), "%s/nr_hugepages", pool);
	fixture_file(*state, path, "4\n");
	refuse_memory(-ENOMEM,
		"the host has 2 huge pages of 1 GiB that nobody uses, the guest needs 3",
		"echo 5 >/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages");
	refuse_memory(-ENOMEM, "", "'hugepagesz=1G hugepages=5'");
	config.memory = 2 * GIB;
	refuse_memory(0, "", "");
	config.memory = 2 * GIB - 2 * MIB;
	refuse_memory(-EINVAL, "huge pages of 1 GiB the memory must be a multiple of that", "");
}

static void with_devices_memory_must_be_free(void **state)
{
	(void)state;
	host.is_root = true;
	config.device_count = 1;
	config.memory = 4 * GIB;
	refuse_memory(0, "", "");
	config.memory = 5 * GIB;
	refuse_memory(-ENOMEM, "the host has 4 GiB available", "end what uses the host's memory");
	config.device_count = 0;
	refuse_memory(0, "", "");
	config.prealloc = true;
	refuse_memory(-ENOMEM, "the host has 4 GiB available", "end what uses the host's memory");
}

#define GROUPS "/sys/fs/cgroup"
#define SLICE  GROUPS "/vm.slice"

/* A service in a slice, as systemd makes them; the limit that counts is the slice's. */
static void add_groups(struct fixture *fixture)
{
	fixture_file(
		fixture, "/proc/self/cgroup", "4:devices:/elsewhere\n0::/vm.slice/guest.service\n");
	fixture_file(fixture, GROUPS "/cgroup.controllers", "memory\n");
	fixture_file(fixture, SLICE "/memory.max", "536870912\n");
	fixture_file(fixture, SLICE "/memory.high", "max\n");
	fixture_file(fixture, SLICE "/guest.service/memory.max", "4294967296\n");
	fixture_file(fixture, SLICE "/guest.service/memory.high", "max\n");
}

static void a_control_group_must_give_the_memory(void **state)
{
	struct fixture *fixture = *state;

	host.is_root = true;
	add_groups(fixture);
	config.memory = 512 * MIB;
	refuse_memory(0, "", ""); /* and with the swap more */
	config.memory = 1536 * MIB;
	refuse_memory(0, "", "");
	config.memory += MIB;
	refuse_memory(-ENOMEM,
		"1.5 GiB of memory are needed with the guest's, but the control group /vm.slice may have "
		"512 MiB (memory.max)",
		"MemoryMax=");
	/* All of it present, and what the machine itself takes. */
	config.device_count = 1;
	config.memory = 512 * MIB;
	refuse_memory(-ENOMEM, "528 MiB of memory are needed", "--memory");
	config.memory = 496 * MIB;
	refuse_memory(0, "", "");
	fixture_file(fixture, SLICE "/guest.service/memory.high", "268435456\n");
	refuse_memory(
		-ENOMEM, "/vm.slice/guest.service may have 256 MiB (memory.high)", "MemoryHigh=");
	/* A pool's pages are not counted. */
	config.hugepages = 2 * MIB;
	fixture_file(fixture, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "256\n");
	refuse_memory(0, "", "");
}

/* What is said on stderr when memory is found good. */
static void hear_of_memory(char *text, size_t size)
{
	int said = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	ssize_t got;

	dup2(said, STDERR_FILENO);
	refuse_memory(0, "", "");
	dup2(saved, STDERR_FILENO);
	got = pread(said, text, size - 1, 0);
	text[got < 0 ? 0 : got] = '\0';
	close(saved);
	close(said);
}

/* As systemd makes it of OOMPolicy=kill: a machine that is killed there takes the broker with it. */
static void a_control_group_that_dies_as_one_is_told_of(void **state)
{
	struct fixture *fixture = *state;
	char text[1024];

	host.is_root = true;
	add_groups(fixture);
	config.name = "demo";
	config.memory = 256 * MIB;
	config.device_count = 1;
	fixture_file(fixture, SLICE "/guest.service/memory.oom.group", "0\n");
	hear_of_memory(text, sizeof(text));
	assert_string_equal(text, "");
	fixture_file(fixture, SLICE "/memory.oom.group", "1\n");
	hear_of_memory(text, sizeof(text));
	assert_non_null(strstr(text, "penstock: warning: demo: "));
	assert_non_null(strstr(text, "all of the control group /vm.slice (memory.oom.group)"));
	assert_non_null(strstr(text, "OOMPolicy=stop"));
	assert_non_null(strstr(text, "'echo 0 >/sys/fs/cgroup/vm.slice/memory.oom.group'"));
	assert_non_null(strstr(text, "'penstock release --stale'"));
	/* With a pool of huge pages, too; without devices there is nothing to give back. */
	config.hugepages = 2 * MIB;
	fixture_file(fixture, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "256\n");
	hear_of_memory(text, sizeof(text));
	assert_non_null(strstr(text, "/vm.slice"));
	config.device_count = 0;
	hear_of_memory(text, sizeof(text));
	assert_string_equal(text, "");
}

/* In a container the group that is the root there has a limit, too. */
static void a_container_has_a_limit(void **state)
{
	struct fixture *fixture = *state;

	config.prealloc = true;
	fixture_file(fixture, "/proc/self/cgroup", "0::/\n");
	refuse_memory(0, "", "");
	fixture_file(fixture, GROUPS "/memory.max", "268435456\n");
	refuse_memory(-ENOMEM, "the control group / may have 256 MiB (memory.max)", "--memory");
	/* What lies outside of it is not to be seen. */
	fixture_file(fixture, "/proc/self/cgroup", "0::/../other\n");
	refuse_memory(0, "", "");
}

static void with_devices_memory_must_be_locked(void **state)
{
	(void)state;
	/* Without devices it is not. */
	host.memlock = (struct rlimit){ 8 * MIB, 8 * MIB };
	refuse_memory(0, "", "");
	assert_int_equal(host.memlock.rlim_cur, 8 * MIB);
	config.device_count = 1;
	refuse_memory(-ENOMEM,
		"the memory-lock limit is 8 MiB, and passing a device through pins the guest's "
		"memory: 576 MiB are needed",
		"ulimit -l");
	host.memlock.rlim_max = 576 * MIB - 1;
	refuse_memory(-ENOMEM, "576 MiB are needed", "LimitMEMLOCK=");
	/* Each of vDPA's counts, and all of VFIO's as one. */
	config.vdpa_count = 2;
	refuse_memory(-ENOMEM, "1.6 GiB are needed", "ulimit -l");
	config.device_count = 0;
	refuse_memory(-ENOMEM, "1.1 GiB are needed", "ulimit -l");
	config.device_count = 1;
	config.vdpa_count = 0;
	host.memlock.rlim_max = 576 * MIB;
	refuse_memory(0, "", "");
	assert_int_equal(host.memlock.rlim_cur, 576 * MIB);
	host.is_root = true;
	refuse_memory(0, "", "");
	assert_true(host.memlock.rlim_cur == RLIM_INFINITY);
}

/* VFIO's nodes */

static void add_devices(struct fixture *fixture)
{
	fixture_device(fixture, NVME, "0x010802", "vfio-pci", 11);
	fixture_device(fixture, NIC, "0x020000", "vfio-pci", 12);
	fixture_device(fixture, PAIR, "0x020000", "vfio-pci", 12);
	config.devices[0] = (struct bdf){ .bus = 1 };
	config.devices[1] = (struct bdf){ .bus = 2 };
	config.devices[2] = (struct bdf){ .bus = 2, .function = 1 };
	config.device_count = 3;
}

static void a_group_is_opened_once(void **state)
{
	struct broker_vfio vfio;
	struct error err = { 0 };

	add_devices(*state);
	assert_int_equal(broker_vfio_open(&vfio, on, &config, &err), 0);
	assert_int_equal(vfio.count, 3);
	assert_int_equal(host.nodes, 3); /* the container, two groups */
	for (unsigned i = 0; i < 3; i++) {
		assert_true(bdf_equal(&vfio.sources[i].bdf, &config.devices[i]));
		assert_int_equal(fcntl(vfio.sources[i].fd, F_GETFD), FD_CLOEXEC);
		for (unsigned j = 0; j < i; j++)
			assert_true(vfio.sources[i].fd != vfio.sources[j].fd);
	}
	broker_vfio_close(&vfio);
	assert_int_equal(fcntl(vfio.iommu, F_GETFD), -1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fcntl(vfio.sources[i].fd, F_GETFD), -1);
}

static void add_own_nodes(struct fixture *fixture)
{
	static const char *const devices[] = { NVME, NIC, PAIR };

	host.has_iommufd = true;
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/vfio-dev/vfio%u/dev", devices[i], 3 + i);
		fixture_file(fixture, path, "511:0\n");
	}
}

static void assert_opened(const char *first, const char *second)
{
	struct broker_vfio vfio;
	struct error err = { 0 };

	host.nodes = 0;
	if (broker_vfio_open(&vfio, on, &config, &err))
		fail_msg("%s", err.what);
	assert_string_equal(host.opened[0], first);
	assert_string_equal(host.opened[1], second);
	assert_int_equal(
		vfio.kind, strcmp(first, "/dev/iommu") ? VFIO_IOMMU_TYPE1 : VFIO_IOMMU_IOMMUFD);
	assert_int_equal(host.nodes, vfio.kind == VFIO_IOMMU_TYPE1 ? 3 : 4);
	assert_int_equal(vfio.count, 3);
	broker_vfio_close(&vfio);
}

static void iommufd_is_taken_where_all_have_it(void **state)
{
	add_devices(*state);
	assert_opened("/dev/vfio/vfio", "/dev/vfio/11"); /* the kernel has it not */
	host.has_iommufd = true;
	assert_opened("/dev/vfio/vfio", "/dev/vfio/11"); /* the devices have not */
	add_own_nodes(*state);
	assert_opened("/dev/iommu", "/dev/vfio/devices/vfio3");
	assert_string_equal(host.opened[3], "/dev/vfio/devices/vfio5");
	/* Of one it is another's. */
	host.path = "/dev/vfio/devices/vfio4";
	host.error = EACCES;
	assert_opened("/dev/vfio/vfio", "/dev/vfio/11");
	host.path = "/dev/iommu";
	assert_opened("/dev/vfio/vfio", "/dev/vfio/11");
	host.path = NULL;
	config.iommu = BROKER_IOMMU_TYPE1;
	assert_opened("/dev/vfio/vfio", "/dev/vfio/11");
	config.iommu = BROKER_IOMMU_IOMMUFD;
	assert_opened("/dev/iommu", "/dev/vfio/devices/vfio3");
}

/* On a host where nothing has used VFIO yet. */
static void for_devices_to_come_vfio_is_loaded(void **state)
{
	struct broker_vfio vfio;
	struct error err = { 0 };

	(void)state;
	config.ports = 1;
	host.path = "/dev/vfio/vfio";
	host.error = ENOENT;
	host.comes_with_module = true;
	assert_int_equal(broker_vfio_open(&vfio, on, &config, &err), 0);
	assert_true(vfio.iommu >= 0);
	broker_vfio_close(&vfio);
	/* Or there is none: that is no reason not to start. */
	host.path = "/dev/vfio/vfio";
	host.comes_with_module = false;
	assert_int_equal(broker_vfio_open(&vfio, on, &config, &err), 0);
	assert_true(vfio.iommu < 0);
	broker_vfio_close(&vfio);
}

static void without_devices_no_node_is_opened(void **state)
{
	struct broker_vfio vfio;
	struct error err = { 0 };

	(void)state;
	assert_int_equal(broker_vfio_open(&vfio, on, &config, &err), 0);
	assert_int_equal(vfio.iommu, -1);
	assert_int_equal(host.nodes, 0);
	broker_vfio_close(&vfio);
}

static void refuse_vfio(
	const char *path, int error, const char *object, const char *what, const char *hint)
{
	struct broker_vfio vfio;
	struct error err = { 0 };

	host.path = path;
	host.error = error;
	assert_int_equal(broker_vfio_open(&vfio, on, &config, &err), -error);
	assert_error(&err, -error, object, what, hint);
	broker_vfio_close(&vfio);
}

static void a_node_that_cannot_be_opened_is_told(void **state)
{
	struct error err = { 0 };
	struct broker_vfio vfio;

	add_devices(*state);
	refuse_vfio("/dev/vfio/vfio", EACCES, "/dev/vfio/vfio", "cannot be opened", "run as root");
	refuse_vfio("/dev/vfio/vfio", ENOENT, "/dev/vfio/vfio", "cannot be opened",
		"modprobe vfio_iommu_type1");
	refuse_vfio("/dev/vfio/12", EACCES, "0000:02:00.0", "its IOMMU group, /dev/vfio/12",
		"chown $USER /dev/vfio/12");
	refuse_vfio("/dev/vfio/11", EBUSY, "0000:01:00.0", "its IOMMU group, /dev/vfio/11", "");
	config.iommu = BROKER_IOMMU_IOMMUFD;
	refuse_vfio("/dev/iommu", ENOENT, "/dev/iommu", "cannot be opened", "--iommu type1");
	refuse_vfio(
		"/dev/iommu", EACCES, "/dev/iommu", "cannot be opened", "chmod 0666 /dev/iommu");
	refuse_vfio("/none", ENOENT, "0000:01:00.0", "no node of its own", "VFIO_DEVICE_CDEV");
	add_own_nodes(*state);
	refuse_vfio("/dev/vfio/devices/vfio3", EACCES, "0000:01:00.0",
		"cannot open its VFIO device", "chown $USER /dev/vfio/devices/vfio3");
	host.path = NULL;
	config.devices[1].bus = 9;
	assert_true(broker_vfio_open(&vfio, on, &config, &err) < 0);
	assert_string_equal(err.object, "0000:09:00.0");
	broker_vfio_close(&vfio);
}

#define RESOURCES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RESOURCES_TEST(files_are_open_until_they_are_closed),
		RESOURCES_TEST(a_kernel_must_be_a_file),
		RESOURCES_TEST(a_bios_starts_no_kernel),
		RESOURCES_TEST(kvm_must_be_there),
		RESOURCES_TEST(kvm_says_how_many_cpus),
		RESOURCES_TEST(cpus_that_cannot_be_had_are_refused),
		RESOURCES_TEST(others_leave_the_cpus_of_the_guest),
		RESOURCES_TEST(memory_is_next_to_the_devices),
		RESOURCES_TEST(memory_must_exist),
		RESOURCES_TEST(hugepages_must_be_free),
		RESOURCES_TEST(larger_ones_must_be_free),
		RESOURCES_TEST(with_devices_memory_must_be_free),
		RESOURCES_TEST(a_control_group_must_give_the_memory),
		RESOURCES_TEST(a_control_group_that_dies_as_one_is_told_of),
		RESOURCES_TEST(a_container_has_a_limit),
		RESOURCES_TEST(with_devices_memory_must_be_locked),
		RESOURCES_TEST(a_group_is_opened_once),
		RESOURCES_TEST(iommufd_is_taken_where_all_have_it),
		RESOURCES_TEST(without_devices_no_node_is_opened),
		RESOURCES_TEST(for_devices_to_come_vfio_is_loaded),
		RESOURCES_TEST(a_node_that_cannot_be_opened_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "broker/ram.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* The file that is guest RAM, of the kernel that the test runs on. */

int __real_fsopen(const char *type, unsigned flags);
int __wrap_fsopen(const char *type, unsigned flags);

static int refused;       /* fsopen(2) fails so */
static pid_t refused_for; /* for this process alone; 0: for all */

int __wrap_fsopen(const char *type, unsigned flags)
{
	if (!refused || (refused_for && refused_for != getpid()))
		return __real_fsopen(type, flags);
	errno = refused;
	return -1;
}

static void open_ram(struct broker_ram *ram, uint64_t size)
{
	const struct broker_config config = { .memory = size };
	struct error err = { 0 };
	struct stat stat;

	if (broker_ram_open(ram, &config, &err))
		fail_msg("%s", err.what);
	assert_int_equal(fstat(ram->fd, &stat), 0);
	assert_int_equal(stat.st_size, size);
	assert_int_equal(stat.st_blocks, 0);
}

/* Of all mappings of this process: the kernel counts it in smaps_rollup. */
static unsigned long kib_of_huge_pages(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	unsigned long kib = 0;
	char line[128];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

static void assert_huge(uint64_t size)
{
	unsigned long before = kib_of_huge_pages();
	struct error err = { 0 };
	struct memory memory;
	struct broker_ram ram;

	open_ram(&ram, size);
	assert_int_equal(memory_place(&memory, size, MEMORY_PAGE, NULL, 0, &err), 0);
	assert_int_equal(memory_map(&memory, ram.fd, ram.kind, &err), 0);
	assert_int_equal(memory_populate(&memory, 0, size, &err), 0);
	assert_int_equal(kib_of_huge_pages() - before, align_down(size, 2 * MIB) / KIB);
	memory_free(&memory);
}

/* Whatever the host is set to; and whole, which its mount's limit must not prevent. */
TEST(it_is_of_huge_pages)
{
	struct broker_ram ram;

	open_ram(&ram, 16 * MIB);
	close(ram.fd);
	if (ram.kind != MEMORY_HUGE || access("/sys/kernel/mm/transparent_hugepage", F_OK))
		test_skip("nobody may mount a tmpfs here");
	assert_huge(16 * MIB);
	assert_huge(14 * MIB + 12 * KIB);
}

/* A machine that a guest has taken over has no more of it than was asked for. */
TEST(it_does_not_grow)
{
	struct broker_ram ram;

	open_ram(&ram, 16 * MIB);
	if (ram.kind == MEMORY_HUGE) {
		assert_int_equal(posix_fallocate(ram.fd, 0, 16 * MIB), 0);
		assert_int_equal(posix_fallocate(ram.fd, 16 * MIB, 4 * KIB), ENOSPC);
	}
	close(ram.fd);
}

/* Nobody else sees it: it has no name, and its tmpfs no place. */
TEST(it_is_mounted_nowhere)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char device[32], line[1024];
	struct broker_ram ram;
	struct stat stat;

	open_ram(&ram, 16 * MIB);
	assert_non_null(mounts);
	assert_int_equal(fstat(ram.fd, &stat), 0);
	assert_int_equal(stat.st_nlink, 0);
	snprintf(device, sizeof(device), " %u:%u ", major(stat.st_dev), minor(stat.st_dev));
	while (fgets(line, sizeof(line), mounts))
		assert_null(strstr(line, device));
	fclose(mounts);
	close(ram.fd);
}

static bool has_user_namespaces(void)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

TEST(who_may_not_mount_does_so_in_a_namespace)
{
	struct broker_ram ram;

	if (!has_user_namespaces() || access("/sys/kernel/mm/transparent_hugepage", F_OK))
		test_skip("there are no user namespaces for us");
	refused = EPERM;
	refused_for = getpid();
	open_ram(&ram, 16 * MIB);
	assert_int_equal(ram.kind, MEMORY_HUGE);
	assert_int_equal(fcntl(ram.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(waitpid(-1, NULL, __WALL), -1);
	close(ram.fd);
	assert_huge(16 * MIB);
	refused = refused_for = 0;
}

TEST(who_may_not_mount_anywhere_gets_small_pages)
{
	static const int errors[] = { EPERM, ENOSYS, EMFILE };
	struct broker_ram ram;

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		refused = errors[i];
		open_ram(&ram, 64 * MIB);
		assert_int_equal(ram.kind, MEMORY_COLLAPSE);
		close(ram.fd);
	}
	refused = 0;
}

TEST(it_may_be_of_the_pool)
{
	struct broker_config config = { .memory = 4 * MIB, .hugepages = 2 * MIB };
	struct error err = { 0 };
	struct broker_ram ram;
	struct statfs of;

	assert_int_equal(broker_ram_open(&ram, &config, &err), 0);
	assert_int_equal(ram.kind, MEMORY_HUGETLB);
	assert_int_equal(fstatfs(ram.fd, &of), 0);
	assert_int_equal(of.f_bsize, 2 * MIB);
	close(ram.fd);
	config.hugepages = GIB;
	config.memory = 2 * GIB;
	if (access("/sys/kernel/mm/hugepages/hugepages-1048576kB", F_OK)) {
		assert_true(broker_ram_open(&ram, &config, &err) < 0);
		return;
	}
	assert_int_equal(broker_ram_open(&ram, &config, &err), 0);
	assert_int_equal(ram.kind, MEMORY_HUGETLB);
	assert_int_equal(ram.page, GIB);
	assert_int_equal(fstatfs(ram.fd, &of), 0);
	assert_int_equal(of.f_bsize, GIB);
	close(ram.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_of_huge_pages),
		cmocka_unit_test(it_does_not_grow),
		cmocka_unit_test(it_is_mounted_nowhere),
		cmocka_unit_test(who_may_not_mount_does_so_in_a_namespace),
		cmocka_unit_test(who_may_not_mount_anywhere_gets_small_pages),
		cmocka_unit_test(it_may_be_of_the_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/disk.h"
#include "broker/seed.h"
#include "host/system/guard.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* With the programs themselves, in a directory of its own. */
struct fixture {
	char directory[32];
	struct host host;
	struct broker_disk_config config;
	struct broker_disk disk, other;
	struct error err;
};

/*
 * What the kernel says where a process confines its rings (-Wl,--wrap=syscall): it can, or cannot, whichever this one is.
 * It does not: what a ring that is confined lets pass is the test of the sandbox.
 */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

static bool rings;

long __wrap_syscall(long number, ...)
{
	long arguments[5]; /* in registers, given or not */
	va_list list;

	va_start(list, number);
	for (size_t i = 0; i < ARRAY_SIZE(arguments); i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_uring_register) {
		errno = rings ? EFAULT : EINVAL;
		return rings && arguments[2] ? 0 : -1;
	}
	return __real_syscall(
		number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[512];
	va_list list;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	if (system(command))
		fail_msg("%s", command);
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){
		.directory = "/tmp/penstock-disk-XXXXXX",
		.disk = BROKER_DISK_NONE,
		.other = BROKER_DISK_NONE,
	};
	assert_non_null(mkdtemp(fixture.directory));
	/* Where the kernel has no Landlock, root's daemon opens what anybody may. */
	assert_int_equal(chmod(fixture.directory, 0755), 0);
	umask(0);
	assert_int_equal(chdir(fixture.directory), 0);
	setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
	rings = false;
	*state = &fixture;
	return host_init(&fixture.host, NULL, NULL, &fixture.err);
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	broker_disk_end(&fixture->disk);
	broker_disk_end(&fixture->other);
	broker_disk_close(&fixture->disk);
	broker_disk_close(&fixture->other);
	nftw(fixture->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	return 0;
}

static int open_one(struct fixture *fixture, const char *path)
{
	fixture->err = (struct error){ 0 };
	fixture->config.path = path;
	return broker_disk_open(
		&fixture->disk, "disk0", &fixture->config, 2, &fixture->host, &fixture->err);
}

static void close_one(struct fixture *fixture)
{
	broker_disk_close(&fixture->disk);
	fixture->disk = (struct broker_disk)BROKER_DISK_NONE;
	fixture->config = (struct broker_disk_config){ 0 };
}

static void assert_good(const struct fixture *fixture)
{
	if (fixture->err.code)
		fail_msg("%s: %s", fixture->err.object, fixture->err.what);
}

static void assert_refused(struct fixture *fixture, const char *path, const char *object,
	const char *words, const char *hint)
{
	open_one(fixture, path);
	if (!fixture->err.code || strcmp(fixture->err.object, object) ||
		!strstr(fixture->err.what, words) || !strstr(fixture->err.hint, hint))
		fail_msg("%s: %d, %s: %s; %s", path, fixture->err.code, fixture->err.object,
			fixture->err.what, fixture->err.hint);
	close_one(fixture);
}

static void what_is_not_said_must_be_plain(void **state)
{
	struct fixture *fixture = *state;

	run("truncate -s 1M disk.img && qemu-img create -q -f qcow2 disk.qcow2 1M");
	assert_int_equal(open_one(fixture, "disk.img"), 0);
	assert_int_equal(fixture->disk.image.layers[0].format, BROKER_FORMAT_RAW);
	assert_int_equal(fixture->disk.queues, 2);
	close_one(fixture);
	assert_int_equal(open_one(fixture, "disk.qcow2"), 0);
	assert_int_equal(fixture->disk.image.layers[0].format, BROKER_FORMAT_QCOW2);
	close_one(fixture);
	run("cp disk.qcow2 other.img");
	assert_refused(fixture, "other.img", "other.img", "begins as a qcow2 image does",
		",format=raw' if a guest");
	fixture->config.format = BROKER_FORMAT_RAW;
	assert_int_equal(open_one(fixture, "other.img"), 0);
	close_one(fixture);
	fixture->config.format = BROKER_FORMAT_QCOW2;
	assert_int_equal(open_one(fixture, "other.img"), 0);
	close_one(fixture);
	run("cp disk.img other.qcow2 && qemu-img create -q -f vmdk disk.vmdk 1M");
	assert_refused(fixture, "other.qcow2", "other.qcow2", "no qcow2 image, as its name says",
		"format=raw");
	assert_refused(fixture, "disk.vmdk", "disk.vmdk", "a vmdk image", "qemu-img convert");
}

static void what_is_no_disk_is_refused(void **state)
{
	struct fixture *fixture = *state;

	run("mkdir directory && mkfifo pipe && : >empty && ln -s loop loop");
	assert_refused(
		fixture, "nothing", "nothing", "cannot open the disk", "penstock disk create");
	assert_refused(fixture, "directory", "directory", "a directory", "");
	assert_refused(fixture, "pipe", "pipe", "neither a file nor a block device", "");
	assert_refused(fixture, "/dev/null", "/dev/null", "neither a file nor a block device", "");
	assert_refused(fixture, "empty", "empty", "is empty", "");
	assert_refused(fixture, "loop", "loop", "cannot open the disk", "");
	setenv("PATH", "/nonexistent", 1);
	assert_refused(fixture, "empty", "", "--disk needs qemu-storage-daemon",
		"apt install qemu-utils qemu-system-common");
}

static void a_bad_image_is_refused(void **state)
{
	struct fixture *fixture = *state;

	run("qemu-img create -q -f qcow2 good.qcow2 64M");
	run("head -c 60 good.qcow2 >short.qcow2");
	fixture->config.format = BROKER_FORMAT_QCOW2;
	assert_refused(fixture, "short.qcow2", "short.qcow2",
		"this is no qcow2 image: ", "qemu-img check");
	/* Bits of its incompatible features: corrupt; one that nobody knows. */
	run("cp good.qcow2 corrupt.qcow2 && cp good.qcow2 newer.qcow2");
	run("printf '\\002' | dd of=corrupt.qcow2 bs=1 seek=79 conv=notrunc status=none");
	run("printf '\\001' | dd of=newer.qcow2 bs=1 seek=74 conv=notrunc status=none");
	assert_refused(
		fixture, "corrupt.qcow2", "corrupt.qcow2", "marked as corrupt", "check -r all");
	assert_refused(fixture, "newer.qcow2", "newer.qcow2", "feature", "");
	/* Of no room for what its tables are said to be. */
	run("cp good.qcow2 huge.qcow2");
	run("printf '\\377\\377\\377\\377' | dd of=huge.qcow2 bs=1 seek=36 conv=notrunc "
	    "status=none");
	assert_refused(fixture, "huge.qcow2", "huge.qcow2", "no good image", "");
	run("qemu-img create -q -f qcow2 -o data_file=data.raw outside.qcow2 1M");
	assert_refused(fixture, "outside.qcow2", "outside.qcow2", "", "qemu-img");
}

static void an_image_brings_those_below(void **state)
{
	struct fixture *fixture = *state;
	const struct broker_layer *layers = fixture->disk.image.layers;

	run("mkdir bases && truncate -s 1M bases/a.raw");
	run("qemu-img create -q -f qcow2 -F raw -b a.raw bases/b.qcow2");
	run("qemu-img create -q -f qcow2 -F qcow2 -b bases/b.qcow2 c.qcow2");
	open_one(fixture, "c.qcow2");
	assert_good(fixture);
	assert_int_equal(fixture->disk.image.count, 3);
	assert_string_equal(layers[1].path, "bases/b.qcow2");
	assert_string_equal(layers[2].path, "bases/a.raw");
	assert_int_equal(layers[2].format, BROKER_FORMAT_RAW);
	assert_int_equal(fcntl(layers[0].fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(fcntl(layers[1].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(broker_disk_start(&fixture->disk, &fixture->err), 0);
	broker_disk_end(&fixture->disk);
	close_one(fixture);
	run("rm bases/a.raw");
	assert_refused(fixture, "c.qcow2", "bases/b.qcow2", "based on bases/a.raw, which cannot",
		"qemu-img rebase");
	run("qemu-img rebase -f qcow2 -u -F qcow2 -b ../c.qcow2 bases/b.qcow2");
	assert_refused(fixture, "c.qcow2", "bases/b.qcow2", "and so on itself", "");
	run("qemu-img rebase -f qcow2 -u -F qcow2 -b nbd://host/disk bases/b.qcow2");
	assert_refused(
		fixture, "c.qcow2", "bases/b.qcow2", "nbd://host/disk, which is no file", "");
	run("qemu-img rebase -f qcow2 -u -F vmdk -b ../c.qcow2 bases/b.qcow2");
	assert_refused(fixture, "c.qcow2", "bases/b.qcow2", "of which format", "rebase -u");
}

/* As root, who can open whatever a header names. */
static void a_header_leads_root_to_what_all_may_read(void **state)
{
	struct fixture *fixture = *state;

	if (geteuid() != 0)
		skip();
	run("mkdir far && truncate -s 1M far/a.raw near.raw && chmod 600 far/a.raw near.raw");
	run("qemu-img create -q -f qcow2 -F raw -b near.raw c.qcow2");
	open_one(fixture, "c.qcow2");
	assert_good(fixture);
	close_one(fixture);
	run("qemu-img create -q -f qcow2 -F raw -b far/a.raw c.qcow2");
	assert_refused(fixture, "c.qcow2", "c.qcow2", "which not everybody may read", "chmod o+r");
	run("chmod 644 far/a.raw");
	open_one(fixture, "c.qcow2");
	assert_good(fixture);
	close_one(fixture);
	run("mknod block b 7 255 && qemu-img create -q -f qcow2 -F raw -u -b block c.qcow2 1M");
	assert_refused(fixture, "c.qcow2", "c.qcow2", "a header leads to no block device", "");
}

/* A daemon that has been taken over can write there what it would have at its next start. */
static void a_header_is_asked_once(void **state)
{
	struct fixture *fixture = *state;

	run("qemu-img create -q -f qcow2 disk.qcow2 8M");
	open_one(fixture, "disk.qcow2");
	assert_good(fixture);
	run("qemu-img create -q -f qcow2 -u -F raw -b /nonexistent new.qcow2 8M");
	run("cat new.qcow2 >disk.qcow2");
	assert_int_equal(broker_disk_start(&fixture->disk, &fixture->err), 0);
}

static void a_daemon_serves_each_life(void **state)
{
	struct fixture *fixture = *state;
	pid_t first;

	run("qemu-img create -q -f qcow2 disk.qcow2 8M");
	assert_int_equal(open_one(fixture, "disk.qcow2"), 0);
	for (unsigned life = 0; life < 2; life++) {
		broker_disk_start(&fixture->disk, &fixture->err);
		assert_good(fixture);
		first = fixture->disk.backend.pid;
		assert_int_equal(broker_disk_start(&fixture->disk, &fixture->err), 0);
		assert_int_equal(fixture->disk.backend.pid, first);
		assert_true(fixture->disk.machine_fd >= 0);
		broker_disk_end(&fixture->disk);
		assert_int_equal(kill(first, 0), -1);
	}
}

static void open_other(struct fixture *fixture, const char *path, bool readonly, int code)
{
	const struct broker_disk_config config = {
		.path = path, .readonly = readonly, .format = fixture->config.format
	};

	fixture->err = (struct error){ 0 };
	broker_disk_open(&fixture->other, "disk1", &config, 1, &fixture->host, &fixture->err);
	if (fixture->err.code != code)
		fail_msg("%s: %d: %s", path, fixture->err.code, fixture->err.what);
	broker_disk_close(&fixture->other);
	fixture->other = (struct broker_disk)BROKER_DISK_NONE;
}

/* While its daemon runs, and between two lives. */
static void an_image_is_one_machines(void **state)
{
	static const char *const formats[] = { "qcow2", "raw" };
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
		run("qemu-img create -q -f %s disk 8M", formats[i]);
		fixture->config.format = i ? BROKER_FORMAT_RAW : BROKER_FORMAT_QCOW2;
		assert_int_equal(open_one(fixture, "disk"), 0);
		for (unsigned life = 0; life < 2; life++) {
			fixture->err = (struct error){ 0 };
			broker_disk_start(&fixture->disk, &fixture->err);
			assert_good(fixture);
			open_other(fixture, "disk", false, -EBUSY);
			assert_non_null(strstr(fixture->err.what, "another program has this disk"));
			run("! qemu-io -f %s -c 'write 0 512' disk >log 2>&1 && grep -q lock log",
				formats[i]);
			broker_disk_end(&fixture->disk);
			open_other(fixture, "disk", false, -EBUSY);
			open_other(fixture, "disk", true, -EBUSY);
			run("! qemu-img convert -f %s -O raw disk copy >log 2>&1 && grep -q lock log",
				formats[i]);
		}
		close_one(fixture);
		fixture->config.format = i ? BROKER_FORMAT_RAW : BROKER_FORMAT_QCOW2;
		open_other(fixture, "disk", false, 0);
	}
}

/* Of a program that writes, or of one that reads and bears no writer. */
static int lock_as_qemu(const char *path, bool writes)
{
	static const off_t bytes[] = { 100, 201, 203, 101, 103 };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < (writes ? 5 : 3); i++)
		assert_int_equal(
			fcntl(fd, F_OFD_SETLK,
				&(struct flock){
					.l_type = F_RDLCK, .l_start = bytes[i], .l_len = 1 }),
			0);
	return fd;
}

static void an_image_in_use_is_not_taken(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	run("qemu-img create -q -f qcow2 disk.qcow2 8M");
	run("qemu-img create -q -f qcow2 -F qcow2 -b disk.qcow2 above.qcow2");
	fd = lock_as_qemu("disk.qcow2", true);
	assert_refused(
		fixture, "disk.qcow2", "disk.qcow2", "another program", "penstock disk clone");
	assert_refused(fixture, "above.qcow2", "disk.qcow2", "another program", "");
	close(fd);
	fd = lock_as_qemu("disk.qcow2", false);
	assert_refused(fixture, "disk.qcow2", "disk.qcow2", "another program", "");
	assert_int_equal(open_one(fixture, "above.qcow2"), 0);
	close(fd);
	open_other(fixture, "disk.qcow2", false, -EBUSY);
	open_other(fixture, "disk.qcow2", true, 0);
}

static void readers_share_an_image(void **state)
{
	struct fixture *fixture = *state;

	run("truncate -s 1M disk.raw && chmod 444 disk.raw");
	fixture->config = (struct broker_disk_config){ .readonly = true };
	assert_int_equal(open_one(fixture, "disk.raw"), 0);
	assert_int_equal(broker_disk_open(&fixture->other, "disk1", &fixture->config, 1,
				 &fixture->host, &fixture->err),
		0);
	assert_int_equal(broker_disk_start(&fixture->disk, &fixture->err), 0);
	assert_int_equal(broker_disk_start(&fixture->other, &fixture->err), 0);
}

static void each_cache_can_be_had(void **state)
{
	struct fixture *fixture = *state;

	run("truncate -s 1M /var/tmp/penstock-disk.raw");
	for (enum broker_cache cache = 0; cache <= BROKER_CACHE_UNSAFE; cache++) {
		fixture->config.cache = cache;
		assert_int_equal(open_one(fixture, "/var/tmp/penstock-disk.raw"), 0);
		broker_disk_start(&fixture->disk, &fixture->err);
		assert_good(fixture);
		broker_disk_end(&fixture->disk);
		close_one(fixture);
	}
	run("rm /var/tmp/penstock-disk.raw");
}

/* Which goes as soon as nobody has it open; -1 where none can be had. */
static int make_block_device(char *path, size_t size)
{
	FILE *stream = popen("/usr/sbin/losetup --find --show block.raw 2>/dev/null", "r");
	int fd = -1;

	if (fgets(path, size, stream)) {
		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		run("/usr/sbin/losetup --detach %s", path);
	}
	pclose(stream);
	return fd;
}

static bool daemon_was_told(const struct fixture *fixture, const char *word)
{
	char path[64], words[8192];
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", fixture->disk.backend.pid);
	size = fd_read_file(path, words, sizeof(words));
	return size > 0 && memmem(words, size, word, strlen(word));
}

static void assert_served(struct fixture *fixture, const char *path, enum broker_cache cache,
	enum broker_disk_way way)
{
	fixture->config = (struct broker_disk_config){
		.cache = cache,
		.format = BROKER_FORMAT_RAW,
	};
	open_one(fixture, path);
	assert_good(fixture);
	broker_disk_start(&fixture->disk, &fixture->err);
	assert_good(fixture);
	assert_int_equal(fixture->disk.way, way);
	assert_int_equal(daemon_was_told(fixture, "aio=native"), way == BROKER_DISK_AIO);
	assert_int_equal(daemon_was_told(fixture, "aio=io_uring"), way == BROKER_DISK_RING);
	broker_disk_end(&fixture->disk);
	close_one(fixture);
}

static void put_daemon_that_refuses(struct fixture *fixture, const char *word)
{
	char programs[64];

	run("mkdir -p bin && printf '#!/bin/sh\ncase $* in *=%s*) exit 1; esac\n"
	    "exec /usr/bin/qemu-storage-daemon \"$@\"\n' >bin/qemu-storage-daemon && "
	    "chmod 755 bin bin/*",
		word);
	snprintf(programs, sizeof(programs), "%s/bin:/usr/bin:/bin", fixture->directory);
	setenv("PATH", programs, 1);
}

/* Where the page cache is not between; and where the kernel has nothing left of it by threads. */
static void a_block_device_is_served_by_the_kernels_aio(void **state)
{
	struct fixture *fixture = *state;
	char path[64];
	cleanup_fd int fd = -1;

	run("truncate -s 1M block.raw");
	fd = make_block_device(path, sizeof(path));
	if (fd < 0)
		test_skip("no loop device can be had");
	assert_served(fixture, path, BROKER_CACHE_WRITEBACK, BROKER_DISK_THREADS);
	assert_served(fixture, path, BROKER_CACHE_NONE, BROKER_DISK_AIO);
	put_daemon_that_refuses(fixture, "native");
	assert_served(fixture, path, BROKER_CACHE_NONE, BROKER_DISK_THREADS);
	put_daemon_that_refuses(fixture, "io_uring");
	rings = true;
	assert_served(fixture, path, BROKER_CACHE_NONE, BROKER_DISK_AIO);
}

static void a_file_is_served_by_a_ring_where_the_kernel_confines_it(void **state)
{
	struct fixture *fixture = *state;

	if (__real_syscall(SYS_io_uring_setup, 1, NULL) == -1 && errno != EFAULT)
		test_skip("no ring can be had");
	run("truncate -s 1M file.raw");
	assert_served(fixture, "file.raw", BROKER_CACHE_WRITEBACK, BROKER_DISK_THREADS);
	rings = true;
	assert_served(fixture, "file.raw", BROKER_CACHE_WRITEBACK, BROKER_DISK_RING);
	put_daemon_that_refuses(fixture, "io_uring");
	assert_served(fixture, "file.raw", BROKER_CACHE_WRITEBACK, BROKER_DISK_THREADS);
}

/* The end of a daemon that is killed is told, and it is no zombie. */
static void a_daemon_that_ends_is_missed(void **state)
{
	struct fixture *fixture = *state;
	struct loop *loop = loop_new(&fixture->err);

	run("truncate -s 1M disk.raw");
	assert_int_equal(open_one(fixture, "disk.raw"), 0);
	assert_int_equal(broker_disk_start(&fixture->disk, &fixture->err), 0);
	broker_disk_handed_over(&fixture->disk, loop);
	assert_int_equal(fixture->disk.machine_fd, -1);
	kill(fixture->disk.backend.pid, SIGKILL);
	for (unsigned i = 0; i < 100 && fixture->disk.backend.pid; i++)
		loop_step(loop, 100);
	assert_int_equal(fixture->disk.backend.pid, 0);
	broker_disk_end(&fixture->disk);
	loop_free(loop);
}

/* What is on the disk of --cloud-init, whose files are not compressed. */
static bool seed_has(int fd, const char *text)
{
	cleanup_free char *bytes = calloc(1, 1 << 20);
	ssize_t size = pread(fd, bytes, 1 << 20, 0);

	return size > 0 && memmem(bytes, size, text, strlen(text));
}

static void refuse_seed(
	const struct broker_config *config, const char *object, const char *words, const char *hint)
{
	struct error err = { 0 };

	assert_true(broker_seed_make(config, &err) < 0);
	if (strcmp(err.object, object) || !strstr(err.what, words) || !strstr(err.hint, hint))
		fail_msg("%s: %s; %s", err.object, err.what, err.hint);
}

static void cloud_init_finds_a_seed(void **state)
{
	struct fixture *fixture = *state;
	struct broker_config config = { .name = "vm1" };
	int fd;

	run("printf '#cloud-config\\nmarked: 1\\n' >'user data' && chmod 600 'user data'");
	run("echo 'instance-id: other' >meta");
	config.cloud_init.user_data = "user data";
	/* A name that is nobody's choice is another one at each start. */
	fd = broker_seed_make(&config, &fixture->err);
	assert_good(fixture);
	assert_true(seed_has(fd, "instance-id: penstock-") && !seed_has(fd, "vm1"));
	close(fd);
	config.cloud_init.name = "vm1";
	fd = broker_seed_make(&config, &fixture->err);
	assert_good(fixture);
	assert_true(seed_has(fd, "#cloud-config\nmarked: 1\n"));
	assert_true(seed_has(fd, "instance-id: \"penstock-vm1\"\nlocal-hostname: \"vm1\"\n"));
	close(fd);
	config.cloud_init.meta_data = "meta";
	fd = broker_seed_make(&config, &fixture->err);
	assert_good(fixture);
	assert_true(seed_has(fd, "instance-id: other\n") && !seed_has(fd, "local-hostname"));
	assert_int_equal(broker_disk_take(&fixture->disk, "disk0", "seed", fd, &fixture->err), 0);
	broker_disk_start(&fixture->disk, &fixture->err);
	assert_good(fixture);
}

static void what_is_no_seed_is_refused(void **state)
{
	struct broker_config config = { .name = "vm1", .cloud_init.user_data = "data" };

	(void)state;
	refuse_seed(&config, "data", "cannot open it: No such file", "");
	run("mkfifo data");
	refuse_seed(&config, "data", "no regular file", "");
	run("rm data && echo 'users: []' >data");
	refuse_seed(&config, "data", "would not take this", "'#cloud-config'");
	run("echo '#!/bin/sh' >data && truncate -s 17M data");
	refuse_seed(&config, "data", "too large", "");
	run("echo '#!/bin/sh' >data");
	config.cloud_init.meta_data = "meta";
	refuse_seed(&config, "meta", "cannot open it", "");
	config.cloud_init.meta_data = NULL;
	setenv("PATH", "/nonexistent", 1);
	refuse_seed(&config, "", "--cloud-init needs xorriso", "the package xorriso");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_not_said_must_be_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_disk_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_bad_image_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_image_brings_those_below, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_header_leads_root_to_what_all_may_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_header_is_asked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_daemon_serves_each_life, setup, teardown),
		cmocka_unit_test_setup_teardown(an_image_is_one_machines, setup, teardown),
		cmocka_unit_test_setup_teardown(an_image_in_use_is_not_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(readers_share_an_image, setup, teardown),
		cmocka_unit_test_setup_teardown(each_cache_can_be_had, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_block_device_is_served_by_the_kernels_aio, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_is_served_by_a_ring_where_the_kernel_confines_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_daemon_that_ends_is_missed, setup, teardown),
		cmocka_unit_test_setup_teardown(cloud_init_finds_a_seed, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_seed_is_refused, setup, teardown),
	};

	return test_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "broker/vdpa.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Nodes of vhost-vdpa's, and what is none. One is /dev/null, of which the kernel says otherwise (-Wl,--wrap). */

#define NODE "/dev/null"

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
ssize_t __real_readlink(const char *path, char *target, size_t size);
ssize_t __wrap_readlink(const char *path, char *target, size_t size);
int __wrap_ioctl(int fd, unsigned long request, ...);

static struct {
	const char *link; /* of sysfs; NULL: the real one */
	int open_error;
	uint32_t type, queues;
	unsigned opened;
} kernel;

int __wrap_open64(const char *path, int flags, ...)
{
	if (strncmp(path, "/proc/self/fd/", 14) == 0) {
		kernel.opened++;
		assert_int_equal(flags, O_RDWR | O_CLOEXEC);
		errno = kernel.open_error;
		if (kernel.open_error)
			return -1;
	}
	return __real_open64(path, flags);
}

ssize_t __wrap_readlink(const char *path, char *target, size_t size)
{
	size_t length = kernel.link ? min_u64(strlen(kernel.link), size) : 0;

	if (!kernel.link)
		return __real_readlink(path, target, size);
	assert_string_equal(path, "/sys/dev/char/1:3");
	memcpy(target, kernel.link, length);
	return length;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	uint32_t *number;

	(void)fd;
	va_start(arguments, request);
	number = va_arg(arguments, uint32_t *);
	va_end(arguments);
	if (request == VHOST_VDPA_GET_DEVICE_ID) {
		*number = kernel.type;
	} else if (request != VHOST_VDPA_GET_VQS_COUNT || kernel.queues == UINT32_MAX) {
		errno = ENOTTY;
		return -1;
	} else {
		*number = kernel.queues;
	}
	return 0;
}

static int setup(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	kernel.link = "../../devices/vdpa0/vhost-vdpa-0";
	kernel.type = 2;
	kernel.queues = 3;
	return 0;
}

static void assert_refused(const char *node, const char *what, const char *hint)
{
	struct virtio_config device = { 0 };
	struct error err = { 0 };
	int fd = broker_vdpa_open(node, &device, &err);

	assert_true(fd < 0);
	assert_int_equal(fd, err.code);
	assert_string_equal(err.object, node);
	if (!strstr(err.what, what) || !strstr(err.hint, hint))
		fail_msg("%s; %s", err.what, err.hint);
	assert_int_equal(device.queues, 0);
}

TEST(a_device_is_what_it_says)
{
	struct virtio_config device = { 0 };
	struct error err = { 0 };
	int fd = broker_vdpa_open(NODE, &device, &err);

	assert_true(fd >= 0);
	assert_int_equal(device.type, 2);
	assert_int_equal(device.queues, 3);
	close(fd);
	assert_int_equal(broker_vdpa_check(NODE, &err), 0);
	assert_int_equal(kernel.opened, 1);
}

TEST(what_is_not_there_tells_how_it_comes)
{
	assert_refused("/nonexistent/vhost-vdpa-0", "there is no such vDPA device",
		"vdpa dev add name vdpa0 mgmtdev");
	assert_refused("/nonexistent/vhost-vdpa-0", "", "modprobe vhost_vdpa");
}

/* And is not opened, which might do anything. */
TEST(what_is_no_such_node_is_not_opened)
{
	static const char *const links[] = { NULL, "../../devices/virtual/mem/null", "vhost-vdpa-0",
		"../../devices/vhost-vdpa-0/other" };

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		kernel.link = links[i];
		assert_refused(NODE, "this is no node of vhost-vdpa's", "vdpa dev show");
	}
	kernel.link = "../../devices/vdpa0/vhost-vdpa-0";
	assert_refused("/etc/passwd", "this is no node", "");
	assert_refused("/", "this is no node", "");
	assert_int_equal(kernel.opened, 0);
}

TEST(a_device_that_cannot_be_had_is_told)
{
	kernel.open_error = EBUSY;
	assert_refused(NODE, "is in use: another VM, or another program, has it", "");
	kernel.open_error = EACCES;
	assert_refused(NODE, "cannot be opened", "chown $USER " NODE);
}

TEST(a_device_that_no_guest_can_have_is_told)
{
	static const uint32_t types[] = { 0, 64, UINT32_MAX }, queues[] = { 0, 64, UINT32_MAX - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		kernel.type = types[i];
		assert_refused(NODE, "which no PCI device can be", "");
	}
	kernel.type = 63;
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		kernel.queues = queues[i];
		assert_refused(NODE, "queues, not 1 to 63", "max_vqp 31");
	}
	kernel.queues = UINT32_MAX;
	assert_refused(NODE, "does not say what it is", "Linux 5.18");
}

#define test(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_device_is_what_it_says),
		test(what_is_not_there_tells_how_it_comes),
		test(what_is_no_such_node_is_not_opened),
		test(a_device_that_cannot_be_had_is_told),
		test(a_device_that_no_guest_can_have_is_told),
	};

	return test_run(tests);
}

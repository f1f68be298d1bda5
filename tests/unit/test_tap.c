/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/tap.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/*
 * Taps and a bridge of the kernel's, in a network namespace of this process. qemu-bridge-helper is this program under
 * another name, and HELPER says how it is.
 */

#define BRIDGE "vmbr0"
#define MTU    1400

static char directory[] = "/tmp/penstock-tap-XXXXXX";
static struct error err;
static bool is_user;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
uid_t __wrap_geteuid(void);

/* Nothing beside PATH. */
int __wrap_access(const char *path, int mode)
{
	if (strncmp(path, "/usr/", 5))
		return __real_access(path, mode);
	errno = ENOENT;
	return -1;
}

uid_t __wrap_geteuid(void)
{
	return is_user ? 1234 : 0;
}

static int interface_call(unsigned long call, const char *name, struct ifreq *request)
{
	cleanup_fd int link = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request->ifr_name, sizeof(request->ifr_name), "%s", name);
	return ioctl(link, call, request);
}

static int make_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 ? fd : -1;
}

static int send_tap(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = {
		.msg_iov = &(struct iovec){ "", 1 },
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) < 0;
}

static int be_helper(char **argv)
{
	const char *how = getenv("HELPER");

	if (strcmp(argv[1], "--use-vnet") || strcmp(argv[2], "--br=" BRIDGE))
		return 1;
	if (strcmp(how, "good") == 0)
		return send_tap(atoi(argv[3] + strlen("--fd=")), make_tap("tap0"));
	if (strcmp(how, "wrong") == 0)
		return send_tap(atoi(argv[3] + strlen("--fd=")), open("/dev/null", O_RDWR));
	if (strcmp(how, "empty") == 0)
		return write(atoi(argv[3] + strlen("--fd=")), "", 1) < 0;
	fprintf(stderr, "%s\n", how);
	return 1;
}

/* Without what it takes there is nothing to see. */
static bool enter_network(void)
{
	struct ifreq request = { .ifr_mtu = MTU };

	return unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("sysfs", "/sys", "sysfs", 0, NULL) == 0 && access("/dev/net/tun", W_OK) == 0 &&
	       interface_call(SIOCBRADDBR, BRIDGE, &request) == 0 &&
	       interface_call(SIOCSIFMTU, BRIDGE, &request) == 0;
}

static int setup(void **state)
{
	char self[256] = { 0 };

	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	assert_int_equal(symlink(self, "qemu-bridge-helper"), 0);
	setenv("PATH", directory, 1);
	err = (struct error){ 0 };
	is_user = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	unlink("qemu-bridge-helper");
	return rmdir(directory);
}

static void name_of(int fd, char name[static IFNAMSIZ])
{
	struct ifreq request;
	int header = 0;

	assert_int_equal(ioctl(fd, TUNGETIFF, &request), 0);
	assert_true(request.ifr_flags & IFF_TAP && request.ifr_flags & IFF_VNET_HDR);
	assert_int_equal(ioctl(fd, TUNGETVNETHDRSZ, &header), 0);
	assert_int_equal(header, 12);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	snprintf(name, IFNAMSIZ, "%s", request.ifr_name);
}

static bool is_port(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/" BRIDGE "/brif/%s", name);
	return __real_access(path, F_OK) == 0;
}

TEST(a_port_lasts_as_long_as_its_descriptor)
{
	struct ifreq request = { 0 };
	char first[IFNAMSIZ], second[IFNAMSIZ];
	int fds[2];

	fds[0] = broker_tap_open_at_bridge(BRIDGE, &err);
	assert_true(fds[0] >= 0);
	name_of(fds[0], first);
	assert_true(is_port(first));
	assert_int_equal(interface_call(SIOCGIFHWADDR, first, &request), 0);
	assert_int_equal((uint8_t)request.ifr_hwaddr.sa_data[0], 0xfe);
	assert_int_equal(interface_call(SIOCGIFMTU, first, &request), 0);
	assert_int_equal(request.ifr_mtu, MTU);
	assert_int_equal(interface_call(SIOCGIFFLAGS, first, &request), 0);
	assert_true(request.ifr_flags & IFF_UP);
	fds[1] = broker_tap_open_at_bridge(BRIDGE, &err);
	assert_true(fds[1] >= 0);
	name_of(fds[1], second);
	assert_true(is_port(second));
	close(fds[0]);
	assert_false(is_port(first));
	assert_true(is_port(second));
	close(fds[1]);
	assert_int_not_equal(interface_call(SIOCGIFFLAGS, second, &request), 0);
}

static void assert_refused(const char *name, int code, const char *what, const char *hint)
{
	err = (struct error){ 0 };
	assert_int_equal(broker_tap_open_at_bridge(name, &err), code);
	assert_int_equal(err.code, code);
	if (!strstr(err.what, what) || !strstr(err.hint, hint))
		fail_msg("%s: %s; %s", err.object, err.what, err.hint);
}

TEST(what_is_no_bridge_is_refused)
{
	assert_refused("nowhere", -ENODEV, "no bridge of this name", "ip link add nowhere");
	assert_refused("lo", -ENODEV, "is no bridge", "--net tap=NAME");
	is_user = true;
	assert_refused("nowhere", -ENODEV, "no bridge of this name", "ip link add nowhere");
}

TEST(a_user_has_a_tap_of_the_helpers)
{
	char name[IFNAMSIZ];
	int fd;

	is_user = true;
	setenv("HELPER", "good", 1);
	fd = broker_tap_open_at_bridge(BRIDGE, &err);
	assert_true(fd >= 0);
	name_of(fd, name);
	assert_string_equal(name, "tap0");
	close(fd);
}

TEST(what_the_helper_lacks_is_told)
{
	is_user = true;
	setenv("HELPER", "access denied by acl file", 1);
	assert_refused(BRIDGE, -EACCES, "access denied", "echo allow " BRIDGE " >>/etc/qemu/");
	setenv("HELPER", "failed to parse default acl file `/etc/qemu/bridge.conf'", 1);
	assert_refused(BRIDGE, -EACCES, "failed to parse", "mkdir -p /etc/qemu");
	setenv("HELPER", "failed to create tun device: Operation not permitted", 1);
	assert_refused(BRIDGE, -EPERM, "not set-uid here: failed to create",
		"dpkg-statoverride --update --add root root 4755 /tmp/penstock-tap");
	setenv("HELPER", "empty", 1);
	assert_refused(BRIDGE, -EPERM, "not set-uid here", "--net tap=NAME");
	setenv("HELPER", "wrong", 1);
	assert_refused(BRIDGE, -ENOTTY, "gives is no tap", "");
	setenv("PATH", "/nonexistent", 1);
	assert_refused(BRIDGE, -ENOENT, "needs qemu-bridge-helper, which is not installed",
		"apt install qemu-system-common");
}

TEST(a_tap_is_opened_by_its_name)
{
	char name[IFNAMSIZ];
	int fd = make_tap("tap1"), own;

	assert_true(fd >= 0);
	assert_int_equal(broker_tap_open("tap1", &err), -EBUSY);
	assert_non_null(strstr(err.what, "another program"));
	assert_int_equal(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	err = (struct error){ 0 };
	own = broker_tap_open("tap1", &err);
	assert_true(own >= 0);
	name_of(own, name);
	assert_string_equal(name, "tap1");
	assert_int_equal(ioctl(own, TUNSETPERSIST, 0), 0);
	close(own);
	assert_int_equal(broker_tap_open("tap1", &err), -ENODEV);
	err = (struct error){ 0 };
	assert_int_equal(broker_tap_open("lo", &err), -ENODEV);
	assert_non_null(strstr(err.what, "is no tap"));
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(a_port_lasts_as_long_as_its_descriptor),
		test(what_is_no_bridge_is_refused),
		test(a_user_has_a_tap_of_the_helpers),
		test(what_the_helper_lacks_is_told),
		test(a_tap_is_opened_by_its_name),
	};

	(void)argc;
	if (strcmp(argv[0], "qemu-bridge-helper") == 0)
		return be_helper(argv);
	if (!enter_network()) {
		fputs("skipped: no network namespace, tap or bridge can be made here\n", stderr);
		return 77;
	}
	return test_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/tap.h"

#include "base/fd.h"
#include "base/log.h"
#include "broker/backend.h"
#include "virtio/virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TUN       "/dev/net/tun"
#define HELPER_MS 10000

/* A number of the interface's in sysfs; -ENOENT: it has none. */
static long read_flags(const char *interface, const char *name)
{
	char path[64 + IFNAMSIZ], text[32];
	int got;

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", interface, name);
	got = fd_read_file(path, text, sizeof(text));
	return got < 0 ? got : strtol(text, NULL, 16);
}

static int refuse_tap(const char *name, const char *why, struct error *err)
{
	error_set(err, -ENODEV, name, "%s", why);
	error_hint(err, "make one: ip tuntap add %s mode tap user $USER, then ip link set %s up",
		name, name);
	return err->code;
}

/* Opening one that is not there would make it, and it would be gone with us. */
static int check_tap(const char *name, long *flags, struct error *err)
{
	if (read_flags(name, "flags") < 0)
		return refuse_tap(name, "there is no network interface of this name", err);
	*flags = read_flags(name, "tun_flags");
	if (*flags < 0 || !(*flags & IFF_TAP))
		return refuse_tap(name, "this network interface is no tap", err);
	if (!(read_flags(name, "flags") & IFF_UP))
		log_warning("%s is down, and carries nothing: 'ip link set %s up'", name, name);
	return 0;
}

static int refuse_opening(const char *name, int code, struct error *err)
{
	if (code == -EBUSY)
		return error_set(err, code, name, "another program has this tap");
	error_sys(err, code, name, "this tap cannot be opened");
	if (code == -EPERM)
		error_hint(err,
			"it is somebody else's: ip tuntap del %s mode tap, then ip tuntap add %s mode "
			"tap user $USER",
			name, name);
	return err->code;
}

static int open_tun(struct error *err)
{
	int fd = open(TUN, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	error_sys(err, -errno, TUN, "cannot be opened");
	error_hint(err, "load the module: modprobe tun");
	return err->code;
}

int broker_tap_open(const char *name, struct error *err)
{
	cleanup_fd int fd = -1;
	struct ifreq request = { 0 };
	int header = VIRTIO_NET_HEADER;
	long flags = 0;

	if (check_tap(name, &flags, err))
		return err->code;
	fd = open_tun(err);
	if (fd < 0)
		return fd;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (flags & IFF_MULTI_QUEUE);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return refuse_opening(name, -errno, err);
	return take_fd(&fd);
}

/* One that is made for a bridge */

static int check_bridge(const char *name, struct error *err)
{
	char path[64 + IFNAMSIZ];
	long flags = read_flags(name, "flags");

	snprintf(path, sizeof(path), "/sys/class/net/%s/bridge", name);
	if (flags < 0) {
		error_set(err, -ENODEV, name, "there is no bridge of this name");
		error_hint(err,
			"make one: ip link add %s type bridge, then ip link set %s up; 'ip link set "
			"NIC master %s' leads it outside",
			name, name, name);
	} else if (access(path, F_OK) < 0) {
		error_set(err, -ENODEV, name, "this network interface is no bridge");
		error_hint(err, "'ip link show type bridge' shows those that are; what is no "
				"bridge of the kernel's takes a tap: --net tap=NAME");
	} else if (!(flags & IFF_UP)) {
		log_warning("%s is down, and carries nothing: 'ip link set %s up'", name, name);
	}
	return err->code;
}

/*
 * As the bridge's MTU is; with an address above all others, as a bridge that has none of its own takes its ports'
 * lowest, and would change it with each machine.
 */
static int join_bridge(int link, const char *tap, const char *bridge)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap);
	if (ioctl(link, SIOCGIFHWADDR, &request) < 0)
		return -errno;
	request.ifr_hwaddr.sa_data[0] = (char)0xfe;
	if (ioctl(link, SIOCSIFHWADDR, &request) < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", bridge);
	if (ioctl(link, SIOCGIFMTU, &request) < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap);
	if (ioctl(link, SIOCSIFMTU, &request) < 0 || ioctl(link, SIOCGIFINDEX, &request) < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", bridge);
	if (ioctl(link, SIOCBRADDIF, &request) < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap);
	if (ioctl(link, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	request.ifr_flags |= IFF_UP;
	return ioctl(link, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int make_bridge_port(const char *bridge, struct error *err)
{
	cleanup_fd int fd = open_tun(err), link = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {
		.ifr_name = "penstock%d",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
	};
	int header = VIRTIO_NET_HEADER, code;

	if (fd < 0)
		return fd;
	if (link < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ||
		ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return error_sys(err, -errno, bridge, "cannot make a tap for it");
	code = join_bridge(link, request.ifr_name, bridge);
	if (code)
		return error_sys(err, code, bridge, "a tap cannot become a port of it");
	return take_fd(&fd);
}

/* The descriptor that comes with a byte; -1: it ends without, or says nothing in time. */
static int receive_tap(int socket)
{
	char byte;
	struct iovec part = { &byte, 1 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct pollfd wait = { socket, POLLIN, 0 };
	const struct cmsghdr *header;
	int fd = -1;

	if (poll(&wait, 1, HELPER_MS) <= 0 || recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
		header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

static int helper_refuses(
	const struct broker_backend *helper, const char *bridge, struct error *err)
{
	struct stat status = { 0 };
	char said[128];

	broker_backend_read_log(helper, said, sizeof(said));
	stat(helper->program, &status);
	if (strstr(said, "acl file")) {
		error_set(err, -EACCES, bridge, "qemu-bridge-helper may not use this bridge: %s",
			said);
		error_hint(err,
			"as root: mkdir -p /etc/qemu, then echo allow %s >>/etc/qemu/bridge.conf",
			bridge);
	} else if (!(status.st_mode & S_ISUID)) {
		error_set(err, -EPERM, bridge,
			"without root it takes qemu-bridge-helper, which is not set-uid here%s%s",
			said[0] ? ": " : "", said);
		error_hint(err,
			"as root: dpkg-statoverride --update --add root root 4755 %s; or have root "
			"make a tap: --net tap=NAME",
			helper->program);
	} else {
		error_set(err, -EIO, bridge, "qemu-bridge-helper gives no tap%s%s",
			said[0] ? ": " : "", said);
	}
	return err->code;
}

static int ask_helper(const char *bridge, struct error *err)
{
	struct broker_backend helper = BROKER_BACKEND_NONE;
	cleanup_fd int own = -1, its = -1, fd = -1;
	char option[16 + IFNAMSIZ], end[16];
	int ends[2], header = VIRTIO_NET_HEADER;

	if (broker_backend_find(&helper, "qemu-bridge-helper", "--net bridge=NAME without root",
		    "qemu-system-common", err))
		return err->code;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		error_sys(err, -errno, bridge, "cannot make a socket");
		goto out;
	}
	own = ends[0];
	its = ends[1];
	snprintf(option, sizeof(option), "--br=%s", bridge);
	snprintf(end, sizeof(end), "--fd=%d", its);
	if (broker_backend_start(&helper,
		    &(struct broker_backend_start){
			    .argv = (char *[]){ "qemu-bridge-helper", "--use-vnet", option, end,
				    NULL },
			    .fds = &its,
			    .fd_count = 1,
			    .sandbox = { .directory = -1, .has_its_own = true },
		    },
		    err))
		goto out;
	close(take_fd(&its));
	fd = receive_tap(own);
	broker_backend_end(&helper, 0, HELPER_MS);
	if (fd < 0)
		helper_refuses(&helper, bridge, err);
	else if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		error_sys(err, -errno, bridge, "what qemu-bridge-helper gives is no tap");
out:
	broker_backend_close(&helper);
	return err->code ? err->code : take_fd(&fd);
}

int broker_tap_open_at_bridge(const char *bridge, struct error *err)
{
	if (check_bridge(bridge, err))
		return err->code;
	return geteuid() == 0 ? make_bridge_port(bridge, err) : ask_helper(bridge, err);
}

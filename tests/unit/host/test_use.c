/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/use/use.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sys/sysmacros.h>

#define CARD "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"
#define NVME CARD "/nvme/nvme0/nvme0n1"
#define USB  CARD "/usb2/2-1/2-1:1.0/host4/target4:0:0/4:0:0:0/block/sdb"
#define NET  CARD "/net/enp1s0"
#define DM   "/sys/devices/virtual/block/dm-"

#define ROUTES \
	"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
#define SUBNET "enp1s0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"

static const struct bdf card = { 0, 1, 0, 0 };

static void assert_unused(struct fixture *fixture)
{
	struct host_use use;

	if (host_use_find(&fixture->host, &card, &use))
		fail_msg("in use: %s", use.reason);
}

static void assert_used(struct fixture *fixture, const char *reason)
{
	struct host_use use;

	assert_true(host_use_find(&fixture->host, &card, &use));
	assert_string_equal(use.reason, reason);
	assert_true(use.hint[0]);
}

static void make_nvme(struct fixture *fixture)
{
	fixture_device(fixture, CARD, "0x010802", "nvme", 1);
	fixture_disk(fixture, NVME, "259:0\n");
	fixture_partition(fixture, NVME "/nvme0n1p1", "259:1\n");
	fixture_partition(fixture, NVME "/nvme0n1p2", "259:2\n");
}

static void a_disk_that_is_merely_there(void **state)
{
	make_nvme(*state);
	fixture_file(*state, "/proc/self/mountinfo",
		"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
		"23 22 0:5 / /dev rw - devtmpfs udev rw\n");
	fixture_file(*state, "/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
	assert_unused(*state);
}

static void a_mounted_partition(void **state)
{
	make_nvme(*state);
	fixture_file(*state, "/proc/self/mountinfo",
		"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
		"30 22 259:2 / /home\\040of\\040all rw shared:2 - ext4 /dev/nvme0n1p2 rw\n");
	assert_used(*state, "its disk nvme0n1p2 is mounted at /home of all");
}

/* Of one partition that is, as of the disk that it is on; not of the one beside it. */
static void a_block_device_by_its_number(void **state)
{
	struct fixture *fixture = *state;
	struct host_use use;

	make_nvme(fixture);
	fixture_link(fixture, "/sys/dev/block/259:0", NVME);
	fixture_link(fixture, "/sys/dev/block/259:1", NVME "/nvme0n1p1");
	fixture_link(fixture, "/sys/dev/block/259:2", NVME "/nvme0n1p2");
	fixture_file(fixture, "/proc/self/mountinfo",
		"30 22 259:2 / /home rw shared:2 - ext4 /dev/nvme0n1p2 rw\n");
	assert_false(host_use_find_block(&fixture->host, makedev(259, 1), &use));
	assert_false(host_use_find_block(&fixture->host, makedev(8, 0), &use));
	assert_true(host_use_find_block(&fixture->host, makedev(259, 2), &use));
	assert_string_equal(use.reason, "its disk nvme0n1p2 is mounted at /home");
	assert_true(host_use_find_block(&fixture->host, makedev(259, 0), &use));
	assert_string_equal(use.hint, "unmount it: umount '/home'");
}

static void a_mounted_btrfs(void **state)
{
	make_nvme(*state);
	fixture_file(*state, "/proc/self/mountinfo",
		"22 1 0:24 /@ / rw,noatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd\n");
	assert_used(*state, "its disk nvme0n1p2 is mounted at /");
}

static void the_second_disk_of_a_btrfs(void **state)
{
	make_nvme(*state);
	fixture_file(*state, "/proc/self/mountinfo",
		"22 1 0:24 / / rw,noatime shared:1 - btrfs /dev/sda2 rw,ssd\n");
	fixture_file(*state, "/sys/fs/btrfs/0a1b/devices/nvme0n1p1", "");
	assert_used(*state, "its disk nvme0n1p1 is part of a mounted btrfs");
}

static void a_bcachefs_of_two_disks(void **state)
{
	make_nvme(*state);
	fixture_file(*state, "/proc/self/mountinfo",
		"22 1 0:24 / /pool rw shared:1 - bcachefs /dev/sda2:/dev/nvme0n1p1 rw\n");
	assert_used(*state, "its disk nvme0n1p1 is mounted at /pool");
}

static void swap_on_lvm_on_luks(void **state)
{
	make_nvme(*state);
	fixture_disk(*state, DM "0", "254:0\n");
	fixture_file(*state, DM "0/dm/name", "crypt\n");
	fixture_disk(*state, DM "1", "254:1\n");
	fixture_file(*state, DM "1/dm/name", "vg-swap\n");
	fixture_holder(*state, NVME "/nvme0n1p2", DM "0");
	fixture_holder(*state, DM "0", DM "1");
	assert_used(*state, "its disk nvme0n1p2 is part of dm-0 (crypt)");
	fixture_file(*state, "/proc/swaps",
		"Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1 partition\t999420\t0\t-2\n");
	assert_used(*state, "its disk nvme0n1p2 carries dm-1 (vg-swap), which is swap");
}

static void a_partition_of_a_raid(void **state)
{
	make_nvme(*state);
	fixture_disk(*state, "/sys/devices/virtual/block/md0", "9:0\n");
	fixture_partition(*state, "/sys/devices/virtual/block/md0/md0p1", "259:9\n");
	fixture_holder(*state, NVME "/nvme0n1p1", "/sys/devices/virtual/block/md0");
	fixture_file(*state, "/proc/self/mountinfo", "22 1 259:9 / /srv rw - xfs /dev/md0p1 rw\n");
	assert_used(*state, "its disk nvme0n1p1 carries md0p1, which is mounted at /srv");
}

static void holders_in_a_circle(void **state)
{
	make_nvme(*state);
	fixture_disk(*state, DM "0", "254:0\n");
	fixture_disk(*state, DM "1", "254:1\n");
	fixture_holder(*state, NVME, DM "0");
	fixture_holder(*state, DM "0", DM "1");
	fixture_holder(*state, DM "1", DM "0");
	fixture_holder(*state, DM "1", NVME);
	assert_used(*state, "its disk nvme0n1 is part of dm-0");
}

static void a_path_of_nvme_multipath(void **state)
{
	fixture_device(*state, CARD, "0x010802", "nvme", 1);
	fixture_disk(*state, CARD "/nvme/nvme0/nvme3c0n1", "0:0\n");
	fixture_disk(*state, "/sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1", "259:4\n");
	fixture_file(*state, "/proc/self/mountinfo", "22 1 259:4 / / rw - ext4 /dev/nvme3n1 rw\n");
	assert_used(*state, "its disk nvme3n1 is mounted at /");
}

/* A live host, asked by root, whose disk somebody has open for himself alone for so many tries. */
static int claimed_tries, opened;

bool __real_host_is_live(const struct host *host);
bool __wrap_host_is_live(const struct host *host);
bool __wrap_host_is_live(const struct host *host)
{
	return claimed_tries || __real_host_is_live(host);
}

uid_t __real_geteuid(void);
uid_t __wrap_geteuid(void);
uid_t __wrap_geteuid(void)
{
	return claimed_tries ? 0 : __real_geteuid();
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	if (!claimed_tries || strncmp(path, "/dev/", 5))
		return __real_open64(path, flags);
	assert_string_equal(path, "/dev/nvme0n1");
	assert_true(flags & O_EXCL);
	if (opened++ >= claimed_tries)
		return __real_open64("/dev/null", O_RDONLY);
	errno = EBUSY;
	return -1;
}

static void a_disk_that_something_has_for_itself_alone(void **state)
{
	make_nvme(*state);
	claimed_tries = 1000;
	assert_used(*state, "something has its disk nvme0n1 open for itself alone");
	/* As udev's programs have it, for a moment. */
	claimed_tries = 2;
	opened = 0;
	assert_unused(*state);
	assert_int_equal(opened, 3);
	claimed_tries = 0;
}

#define LOOP "/sys/devices/virtual/block/loop"

static void a_disk_under_a_loop_device(void **state)
{
	make_nvme(*state);
	fixture_disk(*state, LOOP "0", "7:0\n");
	fixture_disk(*state, LOOP "1", "7:1\n");
	fixture_file(*state, LOOP "1/loop/backing_file", "/var/lib/image\n");
	assert_unused(*state);
	fixture_file(*state, LOOP "0/loop/backing_file", "/dev/nvme0n1p2\n");
	assert_used(*state, "its disk nvme0n1p2 is part of loop0");
	fixture_file(*state, "/proc/self/mountinfo", "22 1 7:0 / /srv rw - ext4 /dev/loop0 rw\n");
	assert_used(*state, "its disk nvme0n1p2 carries loop0, which is mounted at /srv");
}

static void loop_devices_in_a_circle(void **state)
{
	make_nvme(*state);
	fixture_disk(*state, LOOP "0", "7:0\n");
	fixture_disk(*state, LOOP "1", "7:1\n");
	fixture_file(*state, LOOP "0/loop/backing_file", "/dev/loop1\n");
	fixture_file(*state, LOOP "1/loop/backing_file", "/dev/loop0\n");
	assert_unused(*state);
	fixture_file(*state, LOOP "1/loop/backing_file", "/dev/nvme0n1\n");
	assert_used(*state, "its disk nvme0n1 is part of loop1");
}

static void a_usb_disk_below_its_controller(void **state)
{
	fixture_device(*state, CARD, "0x0c0330", "xhci_hcd", 1);
	fixture_disk(*state, USB, "8:16\n");
	fixture_partition(*state, USB "/sdb1", "8:17\n");
	fixture_file(
		*state, "/proc/self/mountinfo", "22 1 8:17 / /media/usb rw - vfat /dev/sdb1 rw\n");
	assert_used(*state, "its disk sdb1 is mounted at /media/usb");
}

static void a_disk_of_another_device(void **state)
{
	fixture_device(*state, CARD, "0x010802", "nvme", 1);
	fixture_disk(*state, CARD "0/nvme/nvme1/nvme1n1", "259:0\n");
	fixture_file(*state, "/proc/self/mountinfo", "22 1 259:0 / / rw - ext4 /dev/nvme1n1 rw\n");
	assert_unused(*state);
}

static void overlong_mounts(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX];
	FILE *stream;

	make_nvme(fixture);
	snprintf(path, sizeof(path), "%s/proc/self/mountinfo", fixture->tree);
	fixture_file(fixture, "/proc/self/mountinfo", "");
	stream = fopen(path, "w");
	fputs("22 1 0:9 / /lower rw - overlay overlay lowerdir=", stream);
	for (int i = 0; i < 20000; i++)
		fputs(" 22 1 259:1 / /no rw - ext4 x", stream);
	fputs("\n\n-\n1\n1 2 3\n30 22 259:2 / /home rw - ext4 /dev/nvme0n1p2 rw\n", stream);
	fclose(stream);
	assert_used(fixture, "its disk nvme0n1p2 is mounted at /home");
}

static void make_nic(struct fixture *fixture)
{
	fixture_device(fixture, CARD, "0x020000", "igb", 1);
	fixture_interface(fixture, NET);
}

static void a_nic_with_an_address_only(void **state)
{
	make_nic(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES "enp10s0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" SUBNET);
	fixture_file(*state, "/proc/net/ipv6_route",
		"fe800000000000000000000000000000 40 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 00000100 00000001 00000000 00000001   enp1s0\n"
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n");
	assert_unused(*state);
}

static void a_nic_with_the_default_route(void **state)
{
	make_nic(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES SUBNET "enp1s0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n");
	assert_used(*state, "its network interface enp1s0 carries the default route");
}

static void a_nic_with_a_route_through_a_gateway(void **state)
{
	make_nic(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES SUBNET "enp1s0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n");
	assert_used(*state, "its network interface enp1s0 carries a route through the gateway "
			    "192.168.1.1");
}

static void a_nic_with_the_ipv6_default_route(void **state)
{
	make_nic(*state);
	fixture_file(*state, "/proc/net/ipv6_route",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"fe800000000000000000000000000001 00000064 00000001 00000000 00450003   enp1s0\n");
	assert_used(*state, "its network interface enp1s0 carries the IPv6 default route");
}

static void a_nic_below_a_vlan_on_a_bridge(void **state)
{
	make_nic(*state);
	fixture_interface(*state, "/sys/devices/virtual/net/br0");
	fixture_interface(*state, "/sys/devices/virtual/net/br0.7");
	fixture_link(*state, NET "/upper_br0", "/sys/devices/virtual/net/br0");
	fixture_link(*state, "/sys/devices/virtual/net/br0/upper_br0.7",
		"/sys/devices/virtual/net/br0.7");
	assert_unused(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES "br0.7\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_used(*state,
		"its network interface enp1s0 is part of br0.7, which carries the default route");
}

#define VIRTUAL "/sys/devices/virtual/net/"

/* As deep as is promised, and one to spare. */
static void a_nic_below_a_vlan_on_a_bridge_on_a_bond(void **state)
{
	static const char *const above[] = { "bond0", "br0", "br0.7", "macvlan0" };
	char path[128], link[192], routes[256];
	const char *below = NET;

	make_nic(*state);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), VIRTUAL "%s", above[i]);
		fixture_interface(*state, path);
		snprintf(link, sizeof(link), "%s%s/upper_%s", i ? VIRTUAL : "", below, above[i]);
		fixture_link(*state, link, path);
		below = above[i];
	}
	for (int i = 0; i < 4; i++) {
		snprintf(routes, sizeof(routes),
			ROUTES "%s\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
			above[i]);
		fixture_file(*state, "/proc/net/route", routes);
		snprintf(link, sizeof(link),
			"its network interface enp1s0 is part of %s, which carries the default "
			"route",
			above[i]);
		assert_used(*state, link);
	}
}

/* The NIC is a port, and so is a guest's tap; br0 is the host's own, and the VLAN's interface on it. */
static void make_switch(struct fixture *fixture)
{
	make_nic(fixture);
	fixture_interface(fixture, VIRTUAL "ovs-system");
	fixture_interface(fixture, VIRTUAL "br0");
	fixture_interface(fixture, VIRTUAL "br0.7");
	fixture_interface(fixture, VIRTUAL "tap0");
	fixture_link(fixture, NET "/upper_ovs-system", VIRTUAL "ovs-system");
	fixture_link(fixture, VIRTUAL "tap0/upper_ovs-system", VIRTUAL "ovs-system");
	fixture_link(fixture, VIRTUAL "br0/upper_br0.7", VIRTUAL "br0.7");
	fixture_link(fixture, VIRTUAL "br0.7/lower_br0", VIRTUAL "br0");
}

static void a_port_of_open_vswitch(void **state)
{
	make_switch(*state);
	assert_unused(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES "tap0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_unused(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES "br0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_used(*state,
		"its network interface enp1s0 is a port of Open vSwitch, and br0, which may be "
		"another one, carries the default route");
}

static void a_vlan_on_open_vswitch(void **state)
{
	make_switch(*state);
	fixture_file(*state, "/proc/net/route",
		ROUTES "br0.7\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_used(*state,
		"its network interface enp1s0 is a port of Open vSwitch, and br0.7, which may be "
		"another one, carries the default route");
}

static void the_default_route_beside_open_vswitch(void **state)
{
	struct fixture *fixture = *state;

	make_switch(fixture);
	fixture_interface(fixture, "/sys/devices/pci0000:00/0000:02:00.0/net/enp2s0");
	fixture_link(fixture, "/sys/devices/pci0000:00/0000:02:00.0/net/enp2s0/device",
		"/sys/devices/pci0000:00/0000:02:00.0");
	fixture_file(fixture, "/proc/net/route",
		ROUTES "enp2s0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_unused(fixture);
}

static void interfaces_in_a_circle(void **state)
{
	make_nic(*state);
	fixture_interface(*state, "/sys/devices/virtual/net/br0");
	fixture_link(*state, NET "/upper_br0", "/sys/devices/virtual/net/br0");
	fixture_link(*state, "/sys/devices/virtual/net/br0/upper_enp1s0", NET);
	fixture_file(*state, "/proc/net/route", "\n\t\t\tx\nenp1s0\t00000000");
	assert_unused(*state);
}

/* The kernel shows the directory, but in it only what is in the namespace that sysfs was mounted in. */
static void an_interface_in_another_namespace(void **state)
{
	fixture_device(*state, CARD, "0x020000", "igb", 1);
	fixture_file(*state, CARD "/net/", NULL);
	assert_used(*state, "its network interface is in another network namespace");
	fixture_interface(*state, NET);
	assert_unused(*state);
}

static void an_interface_in_another_namespace_below_usb(void **state)
{
	fixture_device(*state, CARD, "0x0c0330", "xhci_hcd", 1);
	fixture_file(*state, CARD "/usb2/2-1/2-1:1.0/net/", NULL);
	assert_used(*state, "its network interface is in another network namespace");
}

static void an_interface_in_another_namespace_that_vfio_has(void **state)
{
	fixture_device(*state, CARD, "0x020000", "vfio-pci", 1);
	fixture_file(*state, CARD "/net/", NULL);
	assert_unused(*state);
}

static void what_is_below_is_not_above(void **state)
{
	make_nic(*state);
	fixture_interface(*state, VIRTUAL "br0");
	fixture_link(*state, NET "/lower_br0", VIRTUAL "br0");
	fixture_file(*state, "/proc/net/route",
		ROUTES "br0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_unused(*state);
}

/* A device that goes away while it is looked at leaves links to nothing. */
static void what_is_gone_is_not_used(void **state)
{
	struct fixture *fixture = *state;
	struct host_use use;

	assert_false(host_use_find(&fixture->host, &card, &use));
	make_nic(fixture);
	fixture_link(fixture, "/sys/block/nvme9n1", CARD "/nvme/nvme9/nvme9n1");
	fixture_link(fixture, "/sys/class/net/enp9s0", CARD "/net/enp9s0");
	fixture_file(fixture, "/proc/net/route",
		ROUTES "enp9s0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_unused(fixture);
}

static void make_gpu(struct fixture *fixture, const char *driver)
{
	fixture_device(fixture, CARD, "0x030000", driver, 1);
	fixture_file(fixture, CARD "/boot_vga", "1\n");
	fixture_file(fixture, "/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
	fixture_file(fixture, "/sys/class/vtconsole/vtcon0/bind", "0\n");
}

static void make_console(struct fixture *fixture, const char *name, const char *active)
{
	fixture_file(fixture, "/sys/class/vtconsole/vtcon1/name", name);
	fixture_file(fixture, "/sys/class/vtconsole/vtcon1/bind", "1\n");
	fixture_file(fixture, "/sys/class/tty/console/active", active);
}

static void make_fb(struct fixture *fixture, const char *path)
{
	fixture_file(fixture, path, "");
	fixture_link(fixture, "/sys/class/graphics/fb0", path);
}

static void make_connector(struct fixture *fixture, const char *status, const char *enabled)
{
	fixture_file(fixture, CARD "/drm/card0/card0-DP-1/status", status);
	fixture_file(fixture, CARD "/drm/card0/card0-DP-1/enabled", enabled);
	fixture_link(fixture, "/sys/class/drm/card0", CARD "/drm/card0");
	fixture_link(fixture, "/sys/class/drm/card0-DP-1", CARD "/drm/card0/card0-DP-1");
}

static void a_boot_display_with_a_picture(void **state)
{
	make_gpu(*state, "amdgpu");
	make_connector(*state, "connected\n", "enabled\n");
	assert_used(*state, "it is the boot display and shows a picture on card0-DP-1");
}

static void a_second_card_with_a_picture(void **state)
{
	make_gpu(*state, "amdgpu");
	fixture_file(*state, CARD "/boot_vga", "0\n");
	make_connector(*state, "connected\n", "enabled\n");
	assert_unused(*state);
}

static void a_boot_display_with_its_own_frame_buffer(void **state)
{
	make_gpu(*state, "amdgpu");
	make_connector(*state, "disconnected\n", "disabled\n");
	make_console(*state, "(M) frame buffer device\n", "ttyS0 tty0\n");
	make_fb(*state, CARD "/graphics/fb0");
	assert_used(*state, "it is the boot display and carries the host's console");
}

static void another_cards_frame_buffer(void **state)
{
	make_gpu(*state, NULL);
	make_console(*state, "(M) frame buffer device\n", "tty0\n");
	make_fb(*state, "/sys/devices/pci0000:00/0000:00:02.0/graphics/fb0");
	assert_unused(*state);
}

static void a_boot_display_with_the_firmwares_frame_buffer(void **state)
{
	struct fixture *fixture = *state;

	make_gpu(fixture, NULL);
	make_console(fixture, "(M) frame buffer device\n", "tty0\n");
	fixture_file(fixture, "/sys/bus/platform/uevent", "");
	fixture_link(
		fixture, "/sys/devices/platform/efi-framebuffer.0/subsystem", "/sys/bus/platform");
	fixture_link(fixture, "/sys/devices/platform/efi-framebuffer.0/graphics/fb0/device",
		"/sys/devices/platform/efi-framebuffer.0");
	fixture_link(fixture, "/sys/class/graphics/fb0",
		"/sys/devices/platform/efi-framebuffer.0/graphics/fb0");
	assert_used(fixture, "it is the boot display and carries the host's console");
}

static void a_boot_display_in_text_mode(void **state)
{
	make_gpu(*state, NULL);
	make_console(*state, "(S) VGA+\n", "tty0\n");
	assert_used(*state, "it is the boot display and carries the host's console");
}

static void a_headless_host_with_a_serial_console(void **state)
{
	make_gpu(*state, NULL);
	make_console(*state, "(S) VGA+\n", "ttyS0\n");
	assert_unused(*state);
}

static void a_boot_display_that_vfio_has(void **state)
{
	make_gpu(*state, "vfio-pci");
	make_console(*state, "(S) VGA+\n", "tty0\n");
	assert_unused(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_disk_that_is_merely_there),
		TEST(a_mounted_partition),
		TEST(a_block_device_by_its_number),
		TEST(a_mounted_btrfs),
		TEST(the_second_disk_of_a_btrfs),
		TEST(a_bcachefs_of_two_disks),
		TEST(swap_on_lvm_on_luks),
		TEST(a_partition_of_a_raid),
		TEST(holders_in_a_circle),
		TEST(a_path_of_nvme_multipath),
		TEST(a_disk_that_something_has_for_itself_alone),
		TEST(a_disk_under_a_loop_device),
		TEST(loop_devices_in_a_circle),
		TEST(a_usb_disk_below_its_controller),
		TEST(a_disk_of_another_device),
		TEST(overlong_mounts),
		TEST(a_nic_with_an_address_only),
		TEST(a_nic_with_the_default_route),
		TEST(a_nic_with_a_route_through_a_gateway),
		TEST(a_nic_with_the_ipv6_default_route),
		TEST(a_nic_below_a_vlan_on_a_bridge),
		TEST(a_nic_below_a_vlan_on_a_bridge_on_a_bond),
		TEST(a_port_of_open_vswitch),
		TEST(a_vlan_on_open_vswitch),
		TEST(the_default_route_beside_open_vswitch),
		TEST(interfaces_in_a_circle),
		TEST(what_is_below_is_not_above),
		TEST(what_is_gone_is_not_used),
		TEST(an_interface_in_another_namespace),
		TEST(an_interface_in_another_namespace_below_usb),
		TEST(an_interface_in_another_namespace_that_vfio_has),
		TEST(a_boot_display_with_a_picture),
		TEST(a_second_card_with_a_picture),
		TEST(a_boot_display_with_its_own_frame_buffer),
		TEST(another_cards_frame_buffer),
		TEST(a_boot_display_with_the_firmwares_frame_buffer),
		TEST(a_boot_display_in_text_mode),
		TEST(a_headless_host_with_a_serial_console),
		TEST(a_boot_display_that_vfio_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host whose files in /sys, /proc and /etc, and whose journal, hold anything: missing, huge, binary,
 * directories, links that loop, pipes that hang, devices that never end. What reads them must end, and
 * without harm.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "host/address.h"
#include "host/bind.h"
#include "host/boot.h"
#include "host/doctor.h"
#include "host/inventory.h"
#include "host/journal.h"
#include "host/reset.h"
#include "host/vf.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CARD      "/sys/devices/pci0000:00/0000:01:00.0"
#define DISK      "/sys/devices/pci0000:00/0000:02:00.0"
#define HUGE_FILE (32 << 20)

/* What the host is made of: a path with its text, or with "-> " and a target. */
static const struct {
	const char *path, *text;
} parts[] = {
	{ CARD "/vendor", "0x1002\n" },
	{ CARD "/device", "0x73df\n" },
	{ CARD "/class", "0x030000\n" },
	{ CARD "/config", "\002\020\337s\7\4\20\0" },
	{ CARD "/resource", "0x1000 0x1fff 0x40200\n0x0 0x0 0x0\n" },
	{ CARD "/revision", "0xc1\n" },
	{ CARD "/boot_vga", "1\n" },
	{ CARD "/numa_node", "0\n" },
	{ CARD "/reset_method", "bus\n" },
	{ CARD "/power_state", "D0\n" },
	{ CARD "/power/control", "auto\n" },
	{ CARD "/driver_override", "(null)\n" },
	{ CARD "/modalias", "pci:v00001002d000073DF\n" },
	{ CARD "/sriov_totalvfs", "4\n" },
	{ CARD "/sriov_numvfs", "1\n" },
	{ CARD "/virtfn0", "-> ../0000:02:00.0" },
	{ CARD "/rom", "U\252" },
	{ CARD "/driver", "-> ../../../bus/pci/drivers/amdgpu" },
	{ CARD "/iommu_group", "-> ../../../kernel/iommu_groups/1" },
	{ DISK "/vendor", "0x144d\n" },
	{ DISK "/device", "0xa808\n" },
	{ DISK "/class", "0x010802\n" },
	{ DISK "/physfn", "-> ../0000:01:00.0" },
	{ DISK "/driver", "-> ../../../bus/pci/drivers/nvme" },
	{ DISK "/iommu_group", "-> ../../../kernel/iommu_groups/1" },
	{ DISK "/nvme/nvme0/nvme0n1/dev", "259:0\n" },
	{ DISK "/nvme/nvme0/nvme0n1/holders/dm-0", "-> ../../../../../../../virtual/block/dm-0" },
	{ DISK "/nvme/nvme0/nvme0n1/uevent", "DEVNAME=nvme0n1\n" },
	{ DISK "/net/eth0/flags", "0x1003\n" },
	{ "/sys/devices/virtual/block/dm-0/dev", "253:0\n" },
	{ "/sys/devices/virtual/block/dm-0/dm/name", "root\n" },
	{ "/sys/block/nvme0n1", "-> ../devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1" },
	{ "/sys/block/dm-0", "-> ../devices/virtual/block/dm-0" },
	{ "/sys/dev/block/259:0", "-> ../../devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1" },
	{ "/sys/class/net/eth0", "-> ../../devices/pci0000:00/0000:02:00.0/net/eth0" },
	{ "/sys/bus/pci/devices/0000:01:00.0", "-> ../../../devices/pci0000:00/0000:01:00.0" },
	{ "/sys/bus/pci/devices/0000:02:00.0", "-> ../../../devices/pci0000:00/0000:02:00.0" },
	{ "/sys/bus/pci/drivers/amdgpu/bind", "" },
	{ "/sys/bus/pci/drivers/nvme/bind", "" },
	{ "/sys/kernel/iommu_groups/1/devices/0000:01:00.0",
		"-> ../../../../devices/pci0000:00/0000:01:00.0" },
	{ "/sys/kernel/iommu_groups/1/devices/0000:02:00.0",
		"-> ../../../../devices/pci0000:00/0000:02:00.0" },
	{ "/sys/kernel/iommu_groups/1/reserved_regions", "0x0 0xfff direct\n" },
	{ "/sys/class/drm/card0-DP-1/status", "connected\n" },
	{ "/sys/class/vtconsole/vtcon0/name", "(S) frame buffer\n" },
	{ "/sys/class/iommu/dmar0/intel-iommu/cap", "d2008c40660462\n" },
	{ "/sys/fs/btrfs/1234/devices/nvme0n1", "" },
	{ "/usr/share/misc/pci.ids", "1002  AMD\n\t73df  Navi 22\nC 03  Display\n\t00  VGA\n" },
	{ "/proc/self/mountinfo", "1 0 259:0 / / rw - ext4 /dev/nvme0n1 rw\n" },
	{ "/proc/self/limits", "Max locked memory 65536 65536 bytes\n" },
	{ "/proc/swaps", "Filename\n/dev/nvme0n1 partition 1 0 -2\n" },
	{ "/proc/net/route", "Iface\neth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n" },
	{ "/proc/net/ipv6_route", "0000 00 0000 00 0000 00000000 0 0 00200200 eth0\n" },
	{ "/proc/cmdline", "quiet vfio-pci.ids=1002:73df\n" },
	{ "/proc/cpuinfo", "address sizes\t: 39 bits physical\nflags : vmx\n" },
	{ "/proc/interrupts", " 0: IR-IO-APIC\n" },
	{ "/proc/iomem", "1000-1fff : 0000:01:00.0\n  1000-1fff : BOOTFB\n" },
	{ "/proc/sys/kernel/osrelease", "6.12.0\n" },
	{ "/dmesg", "[ 1.0] vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up\n" },
	{ "/etc/os-release", "ID=debian\n" },
	{ "/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n" },
	{ "/etc/modprobe.d/vfio.conf", "options vfio-pci ids=1002:73df\n" },
	{ "/etc/X11/xorg.conf.d/gpu.conf", "BusID \"PCI:1:0:0\"\n" },
	{ "/usr/sbin/mkinitramfs", "" },
	{ "/lib/modules/6.12.0/modules.alias", "alias pci:v* amdgpu\n" },
	{ "/var/lib/penstock/boot-config.json", "{ \"version\": 1 }\n" },
	{ "/run/penstock/devices/0000:01:00.0",
		"penstock device 1\naddress 0000:01:00.0\ndriver amdgpu\noverride \nholder 0 0\n"
		"name bind\npersist yes\ncompanion no\nend\n" },
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

static char root[32];

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type;
	if (walk->level)
		remove(path);
	return 0;
}

static void remove_root(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	rmdir(root);
}

static void full_path(const char *path, char full[static PATH_MAX])
{
	snprintf(full, PATH_MAX, "%s%s", root, path);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(full, 0755);
		*at = '/';
	}
}

static void write_file(const char *path, const void *data, size_t size)
{
	char full[PATH_MAX];
	cleanup_fd int fd = -1;

	full_path(path, full);
	/* Not through a link that an earlier change has made: it may lead anywhere. */
	unlink(full);
	fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	if (fd >= 0 && fd_write_all(fd, data, size))
		abort();
}

static void write_link(const char *path, const char *target)
{
	char full[PATH_MAX];

	full_path(path, full);
	unlink(full);
	if (symlink(target, full) < 0 && errno != EEXIST && errno != ENOTDIR && errno != ELOOP)
		abort();
}

static void make_part(size_t i)
{
	if (strncmp(parts[i].text, "-> ", 3) == 0)
		write_link(parts[i].path, parts[i].text + 3);
	else
		write_file(parts[i].path, parts[i].text, strlen(parts[i].text));
}

enum change { CONTENT, HUGE, MISSING, DIRECTORY, LINK, SELF, PIPE, ZERO, CHANGES };

/*
 * Only whole parts become links, and these are made anew each time: nothing leads out of the root but
 * to /dev/zero.
 */
static void change_part(struct fuzz_input *input)
{
	size_t i = fuzz_byte(input) % PARTS, size = fuzz_byte(input);
	enum change change = fuzz_byte(input) % CHANGES;
	char full[PATH_MAX], bytes[256];

	full_path(parts[i].path, full);
	unlink(full);
	switch (change) {
	case CONTENT:
		fuzz_bytes(input, bytes, size);
		write_file(parts[i].path, bytes, size);
		break;
	case HUGE:
		write_file(parts[i].path, parts[i].text, strlen(parts[i].text));
		if (truncate(full, HUGE_FILE) < 0)
			return;
		break;
	case DIRECTORY:
		mkdir(full, 0755);
		break;
	case LINK:
		snprintf(bytes, sizeof(bytes), "%s", parts[fuzz_byte(input) % PARTS].path);
		write_link(parts[i].path, strrchr(bytes, '/') + 1);
		break;
	case SELF:
		write_link(parts[i].path, strrchr(parts[i].path, '/') + 1);
		break;
	case PIPE:
		mkfifo(full, 0644);
		break;
	case ZERO:
		write_link(parts[i].path, "/dev/zero");
		break;
	default:
		break;
	}
}

static void read_all(const struct host *host)
{
	static const struct bdf card = { .bus = 1 }, disk = { .bus = 2 };
	static const char *const words[] = { "01:00", "1002:73df", "eth0", "nvme0n1",
		"/sys/block" };
	struct bdf found[HOST_ADDRESS_MAX], *list = NULL;
	struct inventory inventory;
	struct doctor doctor;
	struct host_reset reset;
	struct host_record record;
	struct error err;

	err = (struct error){ 0 };
	inventory_read(host, &inventory, &err);
	inventory_free(&inventory);
	for (unsigned i = 0; i < 3; i++) {
		err = (struct error){ 0 };
		doctor_run(&doctor, host, i == 1 ? &card : &disk, i > 0, &err);
		doctor_free(&doctor);
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		err = (struct error){ 0 };
		host_address_find(host, words[i], found, &err);
	}
	host_reset_read(host, &card, &reset, &(struct error){ 0 });
	if (host_vf_list(host, &card, &list, &(struct error){ 0 }) >= 0)
		free(list);
	host_journal_read(host, &card, &record, &(struct error){ 0 });
	host_release_stale(host, true, &(struct error){ 0 });
}

static void plan_boot(const struct host *host)
{
	static const struct bdf card = { .bus = 1 };
	struct boot_result result = { 0 };
	struct boot_plan plan;
	struct error err = { 0 };

	if (boot_plan_make(&plan, host, &card, 1, true, &err) == 0)
		boot_apply(host, &plan, true, &result, &err);
	boot_result_free(&result);
	boot_plan_free(&plan);
}

struct fuzz_goal fuzz_goals[] = { { 0 } };

void fuzz_one(struct fuzz_input *input)
{
	struct error err = { 0 };
	struct host host;

	if (!root[0]) {
		strcpy(root, "/tmp/penstock-fuzz-XXXXXX");
		if (!mkdtemp(root))
			abort();
		atexit(remove_root);
	}
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	for (size_t i = 0; i < PARTS; i++)
		make_part(i);
	while (input->size)
		change_part(input);
	if (host_init(&host, root, NULL, &err))
		abort();
	host.limit_ms = 5000;
	read_all(&host);
	plan_boot(&host);
}

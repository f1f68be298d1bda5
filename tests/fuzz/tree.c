/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tree.h"

#include "base/fd.h"

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

/* What the host is made of: a path with its text, with "-> " and a target, or with none a directory. */
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
	{ "/etc/kernel/cmdline", "root=/dev/nvme0n1 quiet\n" },
	{ "/etc/mkinitcpio.d/linux.preset", "PRESETS=('default')\ndefault_config=/etc/my.conf\n" },
	{ "/boot/loader/entries/linux.conf", "title Linux\noptions root=/dev/nvme0n1 quiet\n" },
	{ "/usr/sbin/mkinitramfs", "" },
	{ "/usr/sbin/update-grub", "" },
	{ "/usr/bin/dracut", "" },
	{ "/usr/bin/mkinitcpio", "" },
	{ "/usr/bin/Xorg", "" },
	{ "/etc/modules-load.d", NULL },
	{ "/etc/default/grub.d", NULL },
	{ "/etc/initramfs-tools/hooks", NULL },
	{ "/etc/mkinitcpio.conf.d", NULL },
	{ "/lib/modules/6.12.0/modules.alias", "alias pci:v* amdgpu\n" },
	{ "/var/lib/penstock/boot-config.json",
		"{ \"version\": 1, \"undo\": [], \"directories\": [], \"files\": [] }\n" },
	{ "/run/penstock/devices/0000:01:00.0",
		"penstock device 1\naddress 0000:01:00.0\ndriver amdgpu\noverride \nholder 0 0\n"
		"name bind\npersist yes\ncompanion no\nend\n" },
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

char tree_root[PATH_MAX];

static char outside[64];           /* where a link may lead that leaves the tree */
static struct stat outside_was[2]; /* the directory, and the file in it */
static bool changed[PARTS];

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_root(void)
{
	remove_all(tree_root);
	remove_all(outside);
}

static void full_path(const char *path, char full[static PATH_MAX])
{
	size_t root = strlen(tree_root);

	memcpy(full, tree_root, root);
	snprintf(full + root, PATH_MAX - root, "%s", path);
}

/* Not through a link that an earlier change has made: it may lead anywhere. */
static void write_file(const char *full, const void *data, size_t size)
{
	cleanup_fd int fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	fuzz_check(fd >= 0 && fd_write_all(fd, data, size) == 0);
}

static void make_part(size_t i)
{
	const char *text = parts[i].text;
	char full[PATH_MAX];

	full_path(parts[i].path, full);
	remove_all(full);
	for (char *at = full + strlen(tree_root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(full, 0755);
		*at = '/';
	}
	if (!text)
		fuzz_check(mkdir(full, 0755) == 0);
	else if (strncmp(text, "-> ", 3) == 0)
		fuzz_check(symlink(text + 3, full) == 0);
	else
		write_file(full, text, strlen(text));
	changed[i] = false;
}

static void look_outside(struct stat seen[2])
{
	char file[sizeof(outside) + 8];

	snprintf(file, sizeof(file), "%s/file", outside);
	fuzz_check(lstat(outside, &seen[0]) == 0 && lstat(file, &seen[1]) == 0);
}

/* Not even for a moment: a file that was made and removed has changed its directory's time. */
void tree_check_outside(void)
{
	struct stat seen[2];

	look_outside(seen);
	for (unsigned i = 0; i < 2; i++)
		fuzz_check(seen[i].st_ino == outside_was[i].st_ino &&
			   seen[i].st_ctim.tv_sec == outside_was[i].st_ctim.tv_sec &&
			   seen[i].st_ctim.tv_nsec == outside_was[i].st_ctim.tv_nsec);
}

static void make_outside(void)
{
	char file[sizeof(outside) + 8];

	fuzz_check(mkdtemp(outside));
	snprintf(file, sizeof(file), "%s/file", outside);
	write_file(file, "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n", 36);
	look_outside(outside_was);
}

void tree_make(void)
{
	const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	for (size_t i = 0; i < PARTS && tree_root[0]; i++)
		if (changed[i])
			make_part(i);
	if (tree_root[0])
		return;
	umask(022);
	snprintf(tree_root, sizeof(tree_root), "%s/penstock-fuzz-XXXXXX", memory);
	snprintf(outside, sizeof(outside), "%s/penstock-outside-XXXXXX", memory);
	fuzz_check(mkdtemp(tree_root));
	make_outside();
	atexit(remove_root);
	for (size_t i = 0; i < PARTS; i++)
		make_part(i);
}

void tree_remove(const char *path)
{
	for (size_t i = 0; i < PARTS; i++)
		if (strcmp(parts[i].path, path) == 0) {
			char full[PATH_MAX];

			full_path(path, full);
			remove_all(full);
			changed[i] = true;
		}
}

enum change {
	CONTENT,
	HUGE,
	MISSING,
	DIRECTORY,
	LINK,
	SELF,
	PIPE,
	ZERO,
	MODE,
	OWNER,
	OUTSIDE,
	ADDED,
	CHANGES
};

/* Not of what a link leads to, which may be /dev/zero. */
static void set_rights(const char *full, enum change change, unsigned number)
{
	struct stat stat;

	if (lstat(full, &stat) < 0 || S_ISLNK(stat.st_mode))
		return;
	if (change == MODE)
		fuzz_check(chmod(full, number & 07777) == 0);
	else if (!geteuid())
		fuzz_check(lchown(full, number, number / 2) == 0);
}

static void spoil(size_t i, enum change change, struct fuzz_input *input)
{
	const char *text = parts[i].text ? parts[i].text : "";
	char full[PATH_MAX], bytes[256];
	size_t size;

	full_path(parts[i].path, full);
	changed[i] = true;
	if (change == MODE || change == OWNER) {
		set_rights(full, change, fuzz_number(input, 2));
		return;
	}
	remove_all(full);
	switch (change) {
	case CONTENT:
		size = fuzz_byte(input);
		fuzz_bytes(input, bytes, size);
		write_file(full, bytes, size);
		break;
	case ADDED: /* more behind what is there */
		size = snprintf(bytes, sizeof(bytes), "%.200s", text);
		fuzz_bytes(input, bytes + size, 32);
		write_file(full, bytes, size + 32);
		break;
	case HUGE:
		write_file(full, text, strlen(text));
		fuzz_check(truncate(full, HUGE_FILE) == 0);
		break;
	case DIRECTORY:
		mkdir(full, 0755);
		break;
	case LINK:
		snprintf(bytes, sizeof(bytes), "%s", parts[fuzz_byte(input) % PARTS].path);
		fuzz_check(symlink(strrchr(bytes, '/') + 1, full) == 0);
		break;
	case SELF:
		fuzz_check(symlink(strrchr(parts[i].path, '/') + 1, full) == 0);
		break;
	case PIPE:
		mkfifo(full, 0644);
		break;
	case ZERO:
		fuzz_check(symlink("/dev/zero", full) == 0);
		break;
	case OUTSIDE:
		snprintf(
			bytes, sizeof(bytes), "%s%s", outside, fuzz_byte(input) & 1 ? "/file" : "");
		fuzz_check(symlink(bytes, full) == 0);
		break;
	default:
		break;
	}
}

void tree_change(struct fuzz_input *input, bool is_written)
{
	size_t i = fuzz_byte(input) % PARTS;
	enum change change = fuzz_byte(input) % CHANGES;

	/* A fault that follows the link must not hit what is no file of ours. */
	if (change == ZERO && is_written)
		change = OUTSIDE;
	spoil(i, change, input);
}

/* A snapshot: a line for each file with all that must stay. */

static FILE *lines;
static size_t below; /* bytes of the path that are left out */

static uint64_t digest(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t hash = 14695981039346656037u;
	uint8_t bytes[4096];
	ssize_t got = fd < 0 ? 0 : read(fd, bytes, sizeof(bytes));

	for (ssize_t i = 0; i < got; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	return hash;
}

static int note_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	char target[PATH_MAX] = "";

	(void)type, (void)walk;
	if (S_ISLNK(stat->st_mode) && readlink(path, target, sizeof(target) - 1) < 0)
		return 0;
	fprintf(lines, "%s %o %u:%u %jd %jx %s\n", path + below, stat->st_mode, stat->st_uid,
		stat->st_gid, S_ISDIR(stat->st_mode) ? 0 : (intmax_t)stat->st_size,
		S_ISREG(stat->st_mode) ? (uintmax_t)digest(path) : 0, target);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The order in which a directory is read may change. */
static void sort_lines(char *text)
{
	cleanup_free char *copy = strdup(text);
	char *all[1024], *save;
	size_t count = 0;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		fuzz_check(count < 1024);
		all[count++] = line;
	}
	qsort(all, count, sizeof(all[0]), compare);
	for (size_t i = 0; i < count; i++)
		text = stpcpy(stpcpy(text, all[i]), "\n");
}

char *tree_snapshot(void)
{
	static const char *const tops[] = { "/etc", "/usr", "/lib", "/boot", "/sys", "/proc" };
	char *text, full[PATH_MAX];
	size_t size;

	lines = open_memstream(&text, &size);
	fuzz_check(lines);
	below = strlen(tree_root);
	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		full_path(tops[i], full);
		nftw(full, note_one, 16, FTW_PHYS);
	}
	fclose(lines);
	sort_lines(text);
	return text;
}

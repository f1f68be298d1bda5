/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/use/use.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/multipath.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Disks, partitions and holders that are looked at: more is a hostile tree. */
#define BLOCKS_MAX  256
#define DEPTH_MAX   8 /* LVM on LUKS on md on a partition of a disk is 4 */
#define LINE_LENGTH 8192

#define EXCLUSIVE_TRIES   5 /* udev's programs open a disk for themselves for moments only */
#define EXCLUSIVE_WAIT_US 100000

struct block {
	char name[HOST_NAME];  /* the kernel's: "nvme0n1p2", "dm-0" */
	char alias[HOST_NAME]; /* device-mapper's: "vg-root", or "" */
	unsigned major, minor;
};

struct walk {
	const struct host *host;
	struct host_use *use;
	char (*visited)[HOST_NAME];
	unsigned count;
	char bottom[HOST_NAME];         /* the disk or partition of the device below the holders */
	char holder[2 * HOST_NAME + 8]; /* one that was found, as "dm-0 (vg-root)" */
	char held[HOST_NAME];           /* what it holds */
};

static bool read_block(const struct host *host, const char *path, struct block *block)
{
	struct host here = *host;
	char text[32];
	const char *slash = strrchr(path, '/');

	snprintf(here.root, sizeof(here.root), "%s", path);
	*block = (struct block){ 0 };
	text_format(block->name, sizeof(block->name), "%s", slash ? slash + 1 : path);
	host_read(&here, block->alias, sizeof(block->alias), "/dm/name");
	if (host_read(&here, text, sizeof(text), "/dev") <= 0)
		return false;
	return sscanf(text, "%u:%u", &block->major, &block->minor) == 2;
}

/* Does "/dev/nvme0n1p2", "/dev/mapper/vg-root" or another path mean this block device? */
static bool is_source(const struct host *host, const char *source, const struct block *block)
{
	struct stat stat_;

	if (strncmp(source, "/dev/", 5))
		return false;
	if (strcmp(source + 5, block->name) == 0)
		return true;
	if (strncmp(source, "/dev/mapper/", 12) == 0 && block->alias[0] &&
		strcmp(source + 12, block->alias) == 0)
		return true;
	return host_is_live(host) && stat(source, &stat_) == 0 && S_ISBLK(stat_.st_mode) &&
	       major(stat_.st_rdev) == block->major && minor(stat_.st_rdev) == block->minor;
}

/* bcachefs names all its disks: "/dev/sda:/dev/sdb". */
static bool any_means(const struct host *host, char *sources, const struct block *block)
{
	char *save, *source = strtok_r(sources, ":", &save);

	for (; source; source = strtok_r(NULL, ":", &save))
		if (is_source(host, source, block))
			return true;
	return false;
}

/* The kernel writes a space in a path as \040. */
static void unescape_spaces(char *text)
{
	char *at;

	while ((at = strstr(text, "\\040"))) {
		*at = ' ';
		memmove(at + 1, at + 4, strlen(at + 4) + 1);
	}
}

/*
 * One line of mountinfo (proc(5)): "36 35 98:0 / /home rw shared:1 - ext4 /dev/sda1 rw". A file
 * system that spans disks has a device number of its own (0:N), and is found by its source.
 */
static char *match_mount(const struct host *host, char *line, const struct block *block)
{
	char *fields[5], *save, *word = strtok_r(line, " \n", &save);
	unsigned major, minor;

	for (int i = 0; i < 5; i++, word = strtok_r(NULL, " \n", &save)) {
		if (!word)
			return NULL;
		fields[i] = word;
	}
	if (sscanf(fields[2], "%u:%u", &major, &minor) != 2)
		return NULL;
	if (major == block->major && minor == block->minor)
		return fields[4];
	while (word && strcmp(word, "-"))
		word = strtok_r(NULL, " \n", &save);
	strtok_r(NULL, " \n", &save); /* the file system's type */
	word = word ? strtok_r(NULL, " \n", &save) : NULL;
	return word && major == 0 && any_means(host, word, block) ? fields[4] : NULL;
}

static bool find_mount(const struct host *host, const struct block *block, char *point, size_t size)
{
	FILE *stream = host_open(host, "/proc/self/mountinfo");
	char line[LINE_LENGTH], *found = NULL;
	bool start = true;

	if (!stream)
		return false;
	while (!found && fgets(line, sizeof(line), stream)) {
		bool whole = strchr(line, '\n');

		/* What follows in an overlong line is options: not the start of another mount. */
		if (start)
			found = match_mount(host, line, block);
		start = whole;
	}
	fclose(stream);
	if (!found)
		return false;
	unescape_spaces(found);
	text_format(point, size, "%s", found);
	return true;
}

static bool is_swap(const struct host *host, const struct block *block)
{
	FILE *stream = host_open(host, "/proc/swaps");
	char line[LINE_LENGTH], *save;
	bool found = false;

	if (!stream)
		return false;
	while (!found && fgets(line, sizeof(line), stream)) {
		char *file = strtok_r(line, " \t\n", &save);

		found = file && is_source(host, file, block);
	}
	fclose(stream);
	return found;
}

/* A disk of a mounted btrfs other than the one that mountinfo names. */
static bool is_in_btrfs(const struct host *host, const struct block *block)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	bool found = false;
	DIR *directory;

	if (host_path(host, path, "/sys/fs/btrfs") || !(directory = opendir(path)))
		return false;
	while (!found && (entry = readdir(directory)))
		found = entry->d_name[0] != '.' &&
			host_path(host, path, "/sys/fs/btrfs/%s/devices/%s", entry->d_name,
				block->name) == 0 &&
			access(path, F_OK) == 0;
	closedir(directory);
	return found;
}

static void describe_block(const struct block *block, char *text, size_t size)
{
	if (block->alias[0])
		text_format(text, size, "%s (%s)", block->name, block->alias);
	else
		text_format(text, size, "%s", block->name);
}

static bool tell_use(struct walk *walk, const struct block *block, const char *how)
{
	struct host_use *use = walk->use;
	char name[2 * HOST_NAME + 8];

	describe_block(block, name, sizeof(name));
	if (strcmp(block->name, walk->bottom) == 0)
		text_format(use->reason, sizeof(use->reason), "its disk %s %s", name, how);
	else
		text_format(use->reason, sizeof(use->reason), "its disk %s carries %s, which %s",
			walk->bottom, name, how);
	return true;
}

/* Uses that are told by the block device itself. */
static bool find_use_of_block(struct walk *walk, const struct block *block)
{
	struct host_use *use = walk->use;
	char point[128], how[160];

	if (find_mount(walk->host, block, point, sizeof(point))) {
		text_format(use->hint, sizeof(use->hint), "unmount it: umount '%s'", point);
		text_format(how, sizeof(how), "is mounted at %s", point);
		return tell_use(walk, block, how);
	}
	if (is_swap(walk->host, block)) {
		text_format(use->hint, sizeof(use->hint), "switch it off: swapoff /dev/%s",
			block->name);
		return tell_use(walk, block, "is swap");
	}
	if (is_in_btrfs(walk->host, block)) {
		text_format(use->hint, sizeof(use->hint), "unmount that file system");
		return tell_use(walk, block, "is part of a mounted btrfs");
	}
	return false;
}

static bool visit_block(struct walk *walk, const char *path, unsigned depth);

static bool has_entry(const char *directory, const char *name)
{
	char path[PATH_MAX + NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

static bool join_path(char path[static PATH_MAX], const char *directory, const char *name)
{
	int used = snprintf(path, PATH_MAX, "%s/%s", directory, name);

	return used > 0 && used < PATH_MAX;
}

/* Partitions are directories in their disk's. */
static bool visit_partitions(struct walk *walk, const char *path, unsigned depth)
{
	const struct dirent *entry;
	DIR *directory = opendir(path);
	char child[PATH_MAX];
	bool used = false;

	while (!used && directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || !join_path(child, path, entry->d_name) ||
			!has_entry(child, "partition"))
			continue;
		/* What is on a holder's partition is still told of the device's own disk. */
		if (depth == 0)
			text_format(walk->bottom, sizeof(walk->bottom), "%s", entry->d_name);
		used = visit_block(walk, child, depth + 1);
	}
	if (directory)
		closedir(directory);
	return used;
}

static bool visit_holder(struct walk *walk, const char *link, const char *held, unsigned depth)
{
	char path[PATH_MAX];
	struct block block;

	if (!realpath(link, path))
		return false;
	if (!walk->holder[0]) {
		read_block(walk->host, path, &block);
		describe_block(&block, walk->holder, sizeof(walk->holder));
		text_format(walk->held, sizeof(walk->held), "%s", held);
	}
	return visit_block(walk, path, depth + 1);
}

static bool visit_holders(struct walk *walk, const char *path, const char *held, unsigned depth)
{
	const struct dirent *entry;
	char holders[PATH_MAX], link[PATH_MAX];
	bool used = false;
	DIR *directory;

	if (!join_path(holders, path, "holders") || !(directory = opendir(holders)))
		return false;
	while (!used && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && join_path(link, holders, entry->d_name))
			used = visit_holder(walk, link, held, depth);
	closedir(directory);
	return used;
}

/* A loop device is no holder to the kernel: it opens its file, which may be this disk, as a program does. */
static bool visit_loops(struct walk *walk, const struct block *block, unsigned depth)
{
	const struct dirent *entry;
	char blocks[PATH_MAX], link[PATH_MAX], file[PATH_MAX];
	bool used = false;
	DIR *directory;

	if (host_path(walk->host, blocks, "/sys/block") || !(directory = opendir(blocks)))
		return false;
	while (!used && (entry = readdir(directory)))
		if (host_read(walk->host, file, sizeof(file), "/sys/block/%s/loop/backing_file",
			    entry->d_name) > 0 &&
			is_source(walk->host, file, block) &&
			join_path(link, blocks, entry->d_name))
			used = visit_holder(walk, link, block->name, depth);
	closedir(directory);
	return used;
}

static bool is_new_block(struct walk *walk, const char *name)
{
	for (unsigned i = 0; i < walk->count; i++)
		if (strcmp(walk->visited[i], name) == 0)
			return false;
	if (walk->count == BLOCKS_MAX)
		return false;
	strcpy(walk->visited[walk->count++], name);
	return true;
}

static bool visit_block(struct walk *walk, const char *path, unsigned depth)
{
	struct block block;

	if (!read_block(walk->host, path, &block) || !is_new_block(walk, block.name))
		return false;
	if (find_use_of_block(walk, &block))
		return true;
	return depth < DEPTH_MAX &&
	       (visit_holders(walk, path, block.name, depth) || visit_loops(walk, &block, depth) ||
		       visit_partitions(walk, path, depth));
}

/* Something claims it that no list above tells of; only a live kernel can be asked. */
static bool is_claimed(const struct host *host, const char *name)
{
	char path[sizeof("/dev/") + HOST_NAME];

	if (!host_is_live(host) || geteuid() != 0)
		return false;
	text_format(path, sizeof(path), "/dev/%s", name);
	for (char *at = path; *at; at++)
		if (*at == '!') /* how sysfs spells a slash */
			*at = '/';
	for (int i = 0; i < EXCLUSIVE_TRIES; i++) {
		cleanup_fd int fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);

		if (fd >= 0 || errno != EBUSY)
			return false;
		usleep(EXCLUSIVE_WAIT_US);
	}
	return true;
}

static bool find_held(struct walk *walk, const char *name)
{
	struct host_use *use = walk->use;

	if (walk->holder[0]) {
		text_format(use->reason, sizeof(use->reason), "its disk %s is part of %s",
			walk->held, walk->holder);
		text_format(use->hint, sizeof(use->hint),
			"take that apart first ('vgchange -an', 'cryptsetup close', 'mdadm --stop', "
			"'losetup -d'); "
			"'lsblk' shows how they build on each other");
		return true;
	}
	if (!is_claimed(walk->host, name))
		return false;
	text_format(use->reason, sizeof(use->reason),
		"something has its disk %s open for itself alone", name);
	text_format(use->hint, sizeof(use->hint),
		"look for a ZFS pool ('zpool status'), or a mount outside of this one's view ('lsblk', containers)");
	return true;
}

static bool check_disk(const struct host *host, const char *name, struct host_use *use)
{
	cleanup_free char(*visited)[HOST_NAME] = calloc(BLOCKS_MAX, HOST_NAME);
	struct walk walk = { .host = host, .use = use, .visited = visited };
	char link[PATH_MAX], path[PATH_MAX], head[HOST_NAME];

	if (host_multipath_head(name, head))
		name = head;
	text_format(walk.bottom, sizeof(walk.bottom), "%s", name);
	if (!visited || host_path(host, link, "/sys/block/%s", name) || !realpath(link, path))
		return false;
	return visit_block(&walk, path, 0) || find_held(&walk, name);
}

bool host_use_find_disk(const struct host *host, const char *path, struct host_use *use)
{
	const struct dirent *entry;
	char blocks[PATH_MAX];
	bool used = false;
	DIR *directory;

	if (host_path(host, blocks, "/sys/block") || !(directory = opendir(blocks)))
		return false;
	while (!used && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' &&
			host_is_below(host, path, "/sys/block/%s", entry->d_name))
			used = check_disk(host, entry->d_name, use);
	closedir(directory);
	return used;
}

bool host_use_find_block(const struct host *host, dev_t device, struct host_use *use)
{
	cleanup_free char(*visited)[HOST_NAME] = calloc(BLOCKS_MAX, HOST_NAME);
	struct walk walk = { .host = host, .use = use, .visited = visited };
	char link[PATH_MAX], path[PATH_MAX];

	*use = (struct host_use){ 0 };
	if (!visited ||
		host_path(host, link, "/sys/dev/block/%u:%u", major(device), minor(device)) ||
		!realpath(link, path))
		return false;
	text_format(walk.bottom, sizeof(walk.bottom), "%s", strrchr(path, '/') + 1);
	return visit_block(&walk, path, 0) || find_held(&walk, walk.bottom);
}

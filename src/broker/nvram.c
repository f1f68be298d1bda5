/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/nvram.h"

#include "base/fd.h"
#include "base/size.h"
#include "machine/platform/flash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* EFI_FIRMWARE_VOLUME_HEADER, and the variable store behind it, by their offsets. */
#define VOLUME_TYPE      16 /* a GUID */
#define VOLUME_LENGTH    32
#define VOLUME_SIGNATURE 40
#define VOLUME_HEADER    48 /* its length, which ends where the store begins */
#define HEADER_LEAST     56
#define HEADER_MOST      128
#define STORE_SIZE       16
#define STORE_FORMAT     20
#define STORE_STATE      21
#define STORE_HEAD       28
#define STORE_FORMATTED  0x5a
#define STORE_HEALTHY    0xfe

#define GUID_SIZE 16
#define ERASED    0xff

/* EFI_SYSTEM_NV_DATA_FV_GUID. */
static const uint8_t volume_type[GUID_SIZE] = { 0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c,
	0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50 };
/* EFI_AUTHENTICATED_VARIABLE_GUID, and EFI_VARIABLE_GUID of firmware without Secure Boot. */
static const uint8_t store_types[][GUID_SIZE] = {
	{ 0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77,
		0x92 },
	{ 0x16, 0x36, 0xcf, 0xdd, 0x75, 0x32, 0x64, 0x41, 0x98, 0xb6, 0xfe, 0x85, 0x70, 0x7f, 0xfe,
		0x7d },
};

bool nvram_is_volume(const uint8_t head[static NVRAM_HEAD])
{
	return memcmp(head + VOLUME_SIGNATURE, "_FVH", 4) == 0;
}

static unsigned header_length(const uint8_t head[static NVRAM_HEAD])
{
	return head[VOLUME_HEADER] | head[VOLUME_HEADER + 1] << 8;
}

static bool has_sum(const uint8_t *bytes, unsigned length)
{
	uint16_t sum = 0;

	for (unsigned i = 0; i < length; i += 2)
		sum += bytes[i] | bytes[i + 1] << 8;
	return sum == 0;
}

static bool is_store(const uint8_t *store)
{
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(store_types); i++)
		known |= memcmp(store, store_types[i], GUID_SIZE) == 0;
	return known && store[STORE_FORMAT] == STORE_FORMATTED &&
	       store[STORE_STATE] == STORE_HEALTHY;
}

bool nvram_is_whole(const uint8_t head[static NVRAM_HEAD], uint64_t size)
{
	unsigned length = header_length(head);
	uint64_t stated;

	memcpy(&stated, head + VOLUME_LENGTH, sizeof(stated));
	return nvram_is_volume(head) && stated == size &&
	       memcmp(head + VOLUME_TYPE, volume_type, GUID_SIZE) == 0 && length >= HEADER_LEAST &&
	       length <= HEADER_MOST && length % 2 == 0 && has_sum(head, length) &&
	       is_store(head + length);
}

/*
 * The heads of a firmware's variables are always the same. Where firmware was killed in the midst of writing its
 * first block anew, some bytes are erased; it knows how to go on.
 */
static bool is_of(const uint8_t head[static NVRAM_HEAD], const uint8_t template[static NVRAM_HEAD])
{
	unsigned length = header_length(template) + STORE_HEAD;

	for (unsigned i = 0; i < length; i++)
		if (head[i] != template[i] && head[i] != ERASED)
			return false;
	return true;
}

static int read_head(int fd, const char *path, uint8_t head[static NVRAM_HEAD], uint64_t *size,
	struct error *err)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_sys(err, -errno, path, "cannot be read");
	*size = stat.st_size;
	if (*size < NVRAM_HEAD || *size % FLASH_BLOCK || *size > FLASH_MAX) {
		error_set(err, -EINVAL, path,
			"holds no firmware's variables: it has %llu bytes, no multiple of 4 KiB up to "
			"16 MiB",
			(unsigned long long)*size);
		return err->code;
	}
	return fd_pread_all(fd, head, NVRAM_HEAD, 0) ? error_set(err, -EIO, path, "cannot be read")
						     : 0;
}

static int open_template(
	const char *path, uint8_t head[static NVRAM_HEAD], uint64_t *size, struct error *err)
{
	cleanup_fd int fd = fd_open_regular(path);

	if (fd < 0)
		error_sys(err, fd, path, "cannot open the template of the firmware's variables");
	else if (read_head(fd, path, head, size, err) == 0 && !nvram_is_whole(head, *size))
		error_set(err, -EINVAL, path, "is no template of a firmware's variables");
	if (!err->code)
		return take_fd(&fd);
	error_hint(err, "is the firmware's package whole? (apt install --reinstall ovmf)");
	return err->code;
}

static int check_against(int fd, const char *path, const char *template, struct error *err)
{
	uint8_t head[NVRAM_HEAD], original[NVRAM_HEAD];
	uint64_t size, wanted;
	int original_fd;

	if (read_head(fd, path, head, &size, err))
		return err->code;
	if (!template)
		return nvram_is_whole(head, size)
			       ? 0
			       : error_set(err, -EINVAL, path,
					 "is corrupt, or holds no firmware's variables");
	original_fd = open_template(template, original, &wanted, err);
	if (original_fd < 0)
		return err->code;
	close(original_fd);
	if (size != wanted)
		return error_set(err, -EINVAL, path,
			"holds the variables of another firmware: it has %llu bytes, this one's have "
			"%llu",
			(unsigned long long)size, (unsigned long long)wanted);
	if (is_of(head, original))
		return 0;
	return error_set(err, -EINVAL, path,
		nvram_is_whole(head, size) ? "holds the variables of another firmware"
					   : "is corrupt: it does not begin as this "
					     "firmware's variables do");
}

static int check_nvram(int fd, const char *path, const char *template, struct error *err)
{
	if (check_against(fd, path, template, err))
		error_hint(err,
			"name another file with --nvram: one that is not there is made anew; or "
			"put a backup in its place");
	return err->code;
}

static int lock(int fd, const char *path, struct error *err)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return error_sys(err, -errno, path, "cannot be locked");
	error_set(err, -EBUSY, path, "is in use by another machine");
	error_hint(err, "each machine has variables of its own: name another file with --nvram");
	return err->code;
}

static int copy(int to, const char *path, const char *template, struct error *err)
{
	uint8_t bytes[NVRAM_HEAD];
	uint64_t size;
	cleanup_fd int from = open_template(template, bytes, &size, err);

	if (from < 0)
		return err->code;
	for (uint64_t done = 0; done < size; done += sizeof(bytes))
		if (fd_pread_all(from, bytes, sizeof(bytes), done) ||
			pwrite(to, bytes, sizeof(bytes), done) != sizeof(bytes))
			return error_sys(err, errno ? -errno : -EIO, path, "cannot be made from %s",
				template);
	return 0;
}

static int no_template(const char *path, struct error *err)
{
	error_set(err, -ENOENT, path, "is not there, and no descriptor tells from what to make it");
	error_hint(err, "copy the template that came with the firmware to it, such as "
			"/usr/share/OVMF/OVMF_VARS_4M.fd");
	return err->code;
}

/* Under another name until it is whole. Who is first has that locked, and the file with it. */
static int make(const char *path, const char *template, struct error *err)
{
	char new[PATH_MAX];
	cleanup_fd int fd = -1;

	if (!template)
		return no_template(path, err);
	if (snprintf(new, sizeof(new), "%s.new", path) >= (int)sizeof(new))
		return error_sys(err, -ENAMETOOLONG, path, "cannot be made");
	fd = open(new, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0) {
		error_sys(err, -errno, new, "cannot make the file of the firmware's variables");
		error_hint(err, "is its directory there, and may you write to it?");
		return err->code;
	}
	if (lock(fd, path, err))
		return err->code;
	if (ftruncate(fd, 0) < 0 || access(path, F_OK) == 0)
		return error_set(err, -EBUSY, path, "is being made by another machine");
	if (copy(fd, path, template, err) == 0 && (fsync(fd) < 0 || rename(new, path) < 0))
		error_sys(err, -errno, path, "cannot be made");
	if (err->code)
		unlink(new);
	return err->code ? err->code : take_fd(&fd);
}

int nvram_open(const char *path, const char *template, struct error *err)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;

	if (fd < 0 && errno == ENOENT)
		return make(path, template, err);
	if (fd < 0 || fstat(fd, &stat) < 0) {
		error_sys(err, -errno, path, "cannot open the firmware's variables");
		error_hint(err, "ls -l %s shows what is there; firmware writes to it", path);
		return err->code;
	}
	if (!S_ISREG(stat.st_mode))
		return error_set(err, -EINVAL, path, "must be a regular file");
	if (lock(fd, path, err) || check_nvram(fd, path, template, err))
		return err->code;
	return take_fd(&fd);
}

int nvram_copy(const char *template, struct error *err)
{
	cleanup_fd int fd = -1;

	if (!template)
		return -1;
	fd = memfd_create("nvram", MFD_CLOEXEC);
	if (fd < 0)
		return error_sys(err, -errno, template, "cannot be copied");
	return copy(fd, template, template, err) ? err->code : take_fd(&fd);
}

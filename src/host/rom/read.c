/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/rom/read.h"

#include "base/fd.h"
#include "host/device/processes.h"
#include "host/journal/lock.h"
#include "host/rom/rom.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>

#define DEVICES "/sys/bus/pci/devices/"

#define WAKE_TRIES   100
#define WAKE_WAIT_US 10000

/* What the child reads into: memory that both processes have. */
struct shared {
	const struct host *host;
	const char *name;
	size_t size;
	uint8_t data[ROM_SIZE_MAX];
};

/* Bytes until the end of the file or of the room; -EFBIG where the file goes on after it. */
static ssize_t read_rom_bytes(int fd, uint8_t *data, size_t room)
{
	size_t used = 0;
	uint8_t more;

	for (;;) {
		ssize_t got = used < room ? read(fd, data + used, room - used) : read(fd, &more, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : (ssize_t)used;
		if (used == room)
			return -EFBIG;
		used += got;
	}
}

static int fail_to_read(const char *path, int code, struct error *err)
{
	if (code == -EFBIG)
		return error_set(err, code, path, "more than %u MiB, which no option ROM has",
			ROM_SIZE_MAX >> 20);
	if (code == -EINVAL)
		return error_set(err, code, path, "an option ROM is read from a regular file only");
	return error_sys(err, code, path, "cannot read the option ROM");
}

int rom_read_file(const char *path, uint8_t **data, size_t *size, struct error *err)
{
	cleanup_fd int fd = fd_open_regular(path);
	cleanup_free uint8_t *buffer = malloc(ROM_SIZE_MAX);
	ssize_t got;

	if (fd < 0)
		return fail_to_read(path, fd, err);
	if (!buffer)
		return fail_to_read(path, -ENOMEM, err);
	got = read_rom_bytes(fd, buffer, ROM_SIZE_MAX);
	if (got < 0)
		return fail_to_read(path, got, err);
	*size = got;
	*data = buffer;
	buffer = NULL;
	return 0;
}

/* All up to explain_rom() is done in the child. */

static int open_attribute(const struct shared *shared, const char *attribute)
{
	char path[PATH_MAX];
	int fd, code = host_path(shared->host, path, DEVICES "%s/%s", shared->name, attribute);

	if (code)
		return code;
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The ROM is decoded only in between, as it may share its decoder with the BARs. */
static int read_decoded(struct shared *shared)
{
	cleanup_fd int fd = open_attribute(shared, "rom");
	ssize_t got;

	if (fd < 0)
		return fd;
	if (write(fd, "1", 1) != 1)
		return -errno;
	got = lseek(fd, 0, SEEK_SET) < 0 ? -errno
					 : read_rom_bytes(fd, shared->data, sizeof(shared->data));
	/* The kernel takes it for a 0 only with a newline. */
	if (pwrite(fd, "0\n", 2, 0) != 2 && got >= 0)
		got = -errno;
	if (got >= 0)
		shared->size = got;
	return got < 0 ? (int)got : 0;
}

/* A device answers for its ROM only while it does for its memory BARs. The kernel does not see to it. */
static int read_with_memory(struct shared *shared)
{
	cleanup_fd int config = open_attribute(shared, "config");
	uint8_t before, during;
	int code;

	if (config < 0 || pread(config, &before, 1, PCI_COMMAND) != 1 ||
		before & PCI_COMMAND_MEMORY)
		return read_decoded(shared);
	during = before | PCI_COMMAND_MEMORY;
	if (pwrite(config, &during, 1, PCI_COMMAND) != 1)
		return -errno;
	code = read_decoded(shared);
	if (pwrite(config, &before, 1, PCI_COMMAND) != 1 && code == 0)
		code = -errno;
	return code;
}

static bool is_asleep(const struct shared *shared)
{
	char state[16];

	return host_read(shared->host, state, sizeof(state), DEVICES "%s/power_state",
		       shared->name) > 0 &&
	       host_power_is_low(state);
}

static int read_awake(struct shared *shared)
{
	for (int i = 0; i < WAKE_TRIES && is_asleep(shared); i++)
		usleep(WAKE_WAIT_US);
	return is_asleep(shared) ? -EAGAIN : read_with_memory(shared);
}

/* Nor does the kernel wake the device for this, and vfio-pci lets one sleep that nobody uses. */
static int wake_and_read(const void *argument)
{
	struct shared *shared = (void *)argument;
	char path[PATH_MAX], control[16];
	int code = host_path(shared->host, path, DEVICES "%s/power/control", shared->name), again;

	if (code)
		return code;
	host_read(shared->host, control, sizeof(control), DEVICES "%s/power/control", shared->name);
	if (strcmp(control, "auto"))
		return read_awake(shared);
	code = fd_write_file(path, "on");
	if (code)
		return code;
	code = read_awake(shared);
	again = fd_write_file(path, "auto");
	return code ? code : again;
}

static int check_rom(const struct host *host, const char *name, struct error *err)
{
	char path[PATH_MAX];

	if (host_path(host, path, DEVICES "%s/rom", name) == 0 && access(path, F_OK) == 0)
		return 0;
	error_set(err, -ENOENT, name, "it has no option ROM");
	error_hint(err,
		"graphics in the processor have theirs in the firmware; a ROM file of the maker may do");
	return -ENOENT;
}

static int check_unused(
	const struct host *host, const struct bdf *bdf, const char *name, struct error *err)
{
	struct host_device now, *device = &now; /* it may have changed before it was locked */
	char text[160];

	if (host_device_read(host, bdf, device, err))
		return err->code;
	if (!host_driver_is_viable(device->driver)) {
		error_set(
			err, -EBUSY, name, "it is in use by the host's driver %s", device->driver);
		error_hint(err,
			"'penstock bind %s' takes it from that, and 'penstock release %s' gives it "
			"back",
			name, name);
		return -EBUSY;
	}
	if (!host_driver_is_vfio(device->driver) ||
		!host_processes_using_vfio(host, device, text, sizeof(text)))
		return 0;
	error_set(err, -EBUSY, name, "it is in use: %s", text);
	error_hint(err, "read its ROM when that has ended");
	return -EBUSY;
}

static int explain_rom(int code, const struct host *host, const char *name, struct error *err)
{
	if (code == -ETIMEDOUT) {
		error_set(err, code, name, "gave up after %u seconds of reading its option ROM",
			host->limit_ms / 1000);
		error_hint(err, "'dmesg | tail' may tell why; the device may need a reset");
		return code;
	}
	if (code == -EAGAIN) {
		error_set(err, code, name,
			"it sleeps and does not wake up, so its option ROM cannot be read");
		error_hint(err,
			"'penstock doctor %s' may tell why; so that vfio-pci leaves it awake: 'echo "
			"options vfio-pci disable_idle_d3=1 >/etc/modprobe.d/vfio-d3.conf', and reboot",
			name);
		return code;
	}
	error_sys(err, code, name, "cannot read its option ROM");
	if (code == -EACCES || code == -EPERM)
		error_hint(err, "run this as root, as with sudo");
	else
		error_hint(err,
			"'dmesg | grep %s' tells what the kernel saw instead of a ROM; a card that "
			"started the boot display may show its ROM only after 'penstock bind %s' and "
			"'penstock reset %s', or never: look for a ROM file of its maker",
			name, name, name);
	return code;
}

static int read_locked(const struct host *host, const char *name, int lock, struct shared *shared,
	uint8_t **data, size_t *size, struct error *err)
{
	struct guard guard = {
		.host = host,
		.object = name,
		.doing = "its option ROM to be read",
		.locks = &lock,
		.lock_count = 1,
	};
	int code = guard_call(&guard, wake_and_read, shared);

	if (code)
		return explain_rom(code, host, name, err);
	*data = malloc(shared->size ? shared->size : 1);
	if (!*data)
		return explain_rom(-ENOMEM, host, name, err);
	memcpy(*data, shared->data, shared->size);
	*size = shared->size;
	return 0;
}

int rom_read_device(const struct host *host, const struct host_device *device, uint8_t **data,
	size_t *size, struct error *err)
{
	cleanup_fd int lock = host_journal_lock(host, &device->bdf, err);
	struct shared *shared;
	char name[BDF_TEXT];
	int code;

	bdf_format(&device->bdf, name);
	if (lock < 0)
		return lock;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared == MAP_FAILED)
		return explain_rom(-errno, host, name, err);
	shared->host = host;
	shared->name = name;
	code = check_rom(host, name, err);
	if (code == 0)
		code = check_unused(host, &device->bdf, name, err);
	if (code == 0)
		code = read_locked(host, name, lock, shared, data, size, err);
	munmap(shared, sizeof(*shared));
	return code;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/rom.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "host/rom/fit.h"
#include "host/rom/read.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static int what_runs(const struct broker_config *config, bool bios)
{
	if (!config->firmware)
		return ROM_RUNS_NONE;
	return bios ? ROM_TYPE_LEGACY : ROM_TYPE_UEFI;
}

/* In whole pages, which a guest can be shown, and of a size that a BAR can have; what is behind reads as ones. */
static int keep_rom(struct passthrough_rom *rom, const char *path, const uint8_t *data, size_t size,
	struct error *err)
{
	uint64_t room = 4 * KIB;
	void *bytes;

	while (room < size)
		room *= 2;
	bytes = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bytes == MAP_FAILED)
		return error_sys(err, -errno, path, "no memory for the option ROM");
	memset(bytes, 0xff, room);
	memcpy(bytes, data, size);
	mprotect(bytes, room, PROT_READ);
	*rom = (struct passthrough_rom){ .bytes = bytes, .size = room };
	return 0;
}

static int open_rom(struct passthrough_rom *rom, const struct host *host, const struct bdf *bdf,
	const char *path, int runs, struct error *err)
{
	cleanup_free uint8_t *data = NULL;
	struct host_device device;
	struct rom parsed;
	size_t size;

	if (host_device_read(host, bdf, &device, err) || rom_read_file(path, &data, &size, err))
		return err->code;
	rom_parse(&parsed, data, size, &device);
	if (rom_fit_file(path, &parsed, &device, runs, err))
		return err->code;
	return keep_rom(rom, path, data, size, err);
}

int broker_roms_open(struct passthrough_rom roms[static MACHINE_DEVICES_MAX],
	const struct host *host, const struct broker_config *config, bool bios, struct error *err)
{
	for (unsigned i = 0; i < config->device_count; i++) {
		const char *which = config->roms[i];

		roms[i].hidden = which && strcmp(which, BROKER_ROM_OFF) == 0;
		if (which && !roms[i].hidden &&
			open_rom(&roms[i], host, &config->devices[i], which,
				what_runs(config, bios), err))
			return err->code;
	}
	return 0;
}

void broker_roms_close(struct passthrough_rom roms[static MACHINE_DEVICES_MAX])
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		if (roms[i].bytes)
			munmap((void *)roms[i].bytes, roms[i].size);
}

/* Why firmware finds nothing, into why; false: it does, or we may not look. */
static bool lacks_rom(
	const struct host *host, const struct host_device *device, int runs, struct error *why)
{
	cleanup_free uint8_t *data = NULL;
	char name[BDF_TEXT];
	const char *lack;
	struct rom parsed;
	size_t size;

	if (rom_read_device(host, device, &data, &size, why))
		return why->code != -EACCES && why->code != -EPERM;
	rom_parse(&parsed, data, size, device);
	lack = rom_fit_own(&parsed, runs);
	if (lack)
		error_set(why, -ENOENT, bdf_format(&device->bdf, name), "its option ROM: %s", lack);
	return lack;
}

void broker_roms_tell(const struct host *host, const struct broker_config *config, bool bios)
{
	for (unsigned i = 0; config->firmware && i < config->device_count; i++) {
		struct error why = { 0 };
		struct host_device device;
		char name[BDF_TEXT];

		if (config->roms[i] || host_device_read(host, &config->devices[i], &device, &why) ||
			!host_device_is_display(&device) ||
			!lacks_rom(host, &device, what_runs(config, bios), &why))
			continue;
		log_warning(
			"%s: %s; firmware draws nothing on this card%s; next: --device %s,rom=FILE "
			"with the ROM of this very card, of its maker or by 'penstock rom dump' while "
			"another card is the host's boot display",
			bdf_format(&device.bdf, name), why.what,
			device.boot_display
				? ", which was the host's boot display, and such a one often "
				  "shows its ROM to nobody after that"
				: "",
			name);
	}
}

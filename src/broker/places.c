/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/places.h"

#include "base/fd.h"
#include "base/size.h"
#include "host/device/bars.h"
#include "kvm/cpuid.h"
#include "machine/topology.h"

#include <errno.h>

static void describe_rom_bar(const struct host *host, const struct bdf *bdf,
	const struct passthrough_rom *rom, struct pci_bar *bar)
{
	uint64_t size = rom->bytes ? rom->size : host_device_rom_size(host, bdf);

	if (size && !rom->hidden)
		*bar = (struct pci_bar){ .kind = PCI_BAR_MEM32, .size = max_u64(size, 4 * KIB) };
}

static void describe_device(const struct host *host, const struct bdf *bdf,
	const struct passthrough_rom *rom, struct topology_device *device)
{
	struct host_bar bars[HOST_BARS];

	*device = (struct topology_device){
		.bdf = *bdf,
		.endpoint = host_device_has_link(host, bdf),
	};
	host_device_read_bars(host, bdf, bars);
	for (unsigned i = 0; i < HOST_BARS; i++)
		if (bars[i].size)
			device->bars[i] = (struct pci_bar){
				.kind = bars[i].kind == HOST_BAR_IO      ? PCI_BAR_IO
					: bars[i].kind == HOST_BAR_MEM64 ? PCI_BAR_MEM64
									 : PCI_BAR_MEM32,
				.prefetchable = bars[i].prefetchable,
				.size = bars[i].size,
			};
	describe_rom_bar(host, bdf, rom, &device->bars[PCI_ROM]);
}

/* The machine does the same, once it has the devices; until then their BARs are what sysfs says. */
int broker_places_check(const struct broker_config *config, const struct passthrough_rom *roms,
	int kvm_fd, struct error *err)
{
	cleanup_free struct topology *topology = calloc(1, sizeof(*topology));
	struct host host;

	if (!topology)
		return error_sys(err, -ENOMEM, NULL, "cannot look for the devices' places");
	if (host_init(&host, NULL, NULL, err) || topology_windows(kvm_physical_bits(kvm_fd), 0,
							 config->firmware, &topology->windows, err))
		return err->code;
	topology->firmware = config->firmware;
	topology->device_count = config->device_count;
	topology->virtio_count = config->net_count + config->disk_count + config->share_count +
				 (config->cloud_init.user_data != NULL) + (config->vsock_cid != 0) +
				 config->vdpa_count;
	topology->display = config->vnc.wanted;
	for (unsigned i = 0; i < config->device_count; i++)
		describe_device(&host, &config->devices[i], &roms[i], &topology->devices[i]);
	return topology_plan(topology, config->ports, err);
}

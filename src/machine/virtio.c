/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/virtio.h"

_Static_assert(VIRTIO_REGIONS_MAX >= MEMORY_REGIONS_MAX, "back ends map all of guest RAM");

int machine_virtio_attach(struct machine_virtio *virtio, const struct machine_config *config,
	const struct memory *memory, struct machine_pci *pci, const struct topology *topology,
	struct loop *loop, struct error *err)
{
	uint64_t offset = 0;
	int code;

	for (unsigned i = 0; i < memory->count; i++) {
		virtio->ram.regions[i] = (struct virtio_region){
			memory->regions[i].gpa,
			memory->regions[i].size,
			memory->regions[i].hva,
			offset,
		};
		offset += memory->regions[i].size;
	}
	virtio->ram.count = memory->count;
	virtio->ram.fd = memory->fd;
	for (unsigned i = 0; i < config->virtio_count; i++) {
		virtio->table[i] = virtio_new(&config->virtio[i], pci->vm, &virtio->ram,
			&pci->root.bus, topology->virtio_devfns[i], err);
		if (!virtio->table[i])
			return err->code;
		virtio->count = i + 1;
		code = virtio_watch(virtio->table[i], loop);
		if (code)
			return error_sys(err, code, config->virtio[i].name,
				"cannot be watched for its back end's end");
	}
	return 0;
}

void machine_virtio_resize(struct machine_virtio *virtio, unsigned number, uint64_t size)
{
	if (number < virtio->count)
		virtio_resize(virtio->table[number], size);
}

void machine_virtio_close(struct machine_virtio *virtio)
{
	for (unsigned i = 0; i < virtio->count; i++)
		virtio_free(virtio->table[i]);
}

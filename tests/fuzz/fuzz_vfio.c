/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel whose answers are the input's: what VFIO tells of a device, its regions with their
 * capability chains and its interrupts, and which addresses the IOMMU takes. One call fails, be it an
 * ioctl, an mmap or an eventfd; whatever it was, all must be given back at the end.
 */
#include "guest.h"

#include "base/fd.h"
#include "base/size.h"
#include "kernel.h"
#include "machine/layout.h"
#include "machine/memory.h"
#include "vfio/device.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/mman.h>

#define ACCESSES_MAX 60

enum { RANGES, PLACED, OPENED, CHAINS, ATTACHED, WATCHED, FAILED, VECTORS };

struct fuzz_goal fuzz_goals[] = {
	[RANGES] = { "ranges of the IOMMU's", 10, 0 },
	[PLACED] = { "placed RAM", 20, 0 },
	[OPENED] = { "devices opened", 20, 0 },
	[CHAINS] = { "capability chains", 40, 0 },
	[ATTACHED] = { "devices attached", 50, 0 },
	[WATCHED] = { "devices watched", 100, 0 },
	[FAILED] = { "calls that failed", 20, 0 },
	[VECTORS] = { "vectors enabled", 200, 0 },
	{ 0 },
};

static bool contains(const struct vfio_iommu *iommu, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < iommu->range_count; i++)
		if (first >= iommu->ranges[i].first && last <= iommu->ranges[i].last)
			return true;
	return false;
}

static void check_memory(const struct memory *memory, const struct vfio_iommu *iommu)
{
	uint64_t end = 0, sum = 0;

	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		fuzz_check(region->size && region->gpa >= end && region->gpa % (2 * MIB) == 0);
		end = region->gpa + region->size;
		fuzz_check(end <= LAYOUT_LOW_RAM_END || region->gpa >= LAYOUT_HIGH_RAM);
		fuzz_check(contains(iommu, region->gpa, end - 1));
		sum += region->size;
	}
	fuzz_check(sum == memory->size && memory->regions[0].gpa == 0);
}

static void map_memory(struct vfio_iommu *iommu, struct fuzz_input *input)
{
	uint64_t size = (fuzz_number(input, 2) + 1) * 2 * MIB;
	struct memory memory;
	struct error err = { 0 };

	if (memory_place(&memory, size, MEMORY_PAGE, iommu->ranges, iommu->range_count, &err)) {
		fuzz_check(err.code && err.what[0]);
		return;
	}
	check_memory(&memory, iommu);
	fuzz_goals[PLACED].count++;
	for (unsigned i = 0; i < memory.count; i++) {
		const struct memory_region *region = &memory.regions[i];

		passthrough_map_memory(iommu, region->gpa, region->size, (void *)4096, &err);
	}
}

static void never(void *opaque)
{
	(void)opaque;
	fuzz_check(false);
}

static void add_device(
	struct guest *guest, struct vfio_iommu *iommu, enum vfio_iommu_kind kind, struct loop *loop)
{
	struct passthrough *device = &guest->devices[guest->count];
	const struct vfio_source source = { { .bus = guest->count },
		kind == VFIO_IOMMU_IOMMUFD ? kernel_open_device()
					   : memfd_create("group", MFD_CLOEXEC) };
	const struct passthrough_events events = { never, never, NULL };
	unsigned attached = guest->attached;
	struct error err = { 0 };

	if (vfio_device_open(&device->vfio, iommu, &source, &err)) {
		vfio_device_close(&device->vfio);
		*device = (struct passthrough){ 0 };
		return;
	}
	fuzz_goals[OPENED].count++;
	guest_attach(guest);
	if (guest->attached > attached && passthrough_watch(device, loop, &events) == 0)
		fuzz_goals[WATCHED].count++;
}

static int opening(void *vm, int fd)
{
	return kvm_add_vfio_file(vm, fd);
}

static void closed(void *vm, int fd)
{
	kvm_remove_vfio_file(vm, fd);
}

static void run(struct guest *guest, struct vfio_iommu *iommu, enum vfio_iommu_kind kind,
	struct fuzz_input *input)
{
	struct error err = { 0 };
	struct loop *loop = loop_new(&err);

	for (unsigned i = 0; i < GUEST_DEVICES && loop; i++)
		add_device(guest, iommu, kind, loop);
	if (iommu->ops->read_ranges(iommu, &err) == 0) {
		fuzz_goals[RANGES].count += iommu->range_count;
		map_memory(iommu, input);
	}
	for (unsigned i = 0; i < ACCESSES_MAX && input->size; i++)
		guest_access(guest, input);
	fuzz_goals[ATTACHED].count += guest->attached;
	loop_free(loop);
}

void fuzz_one(struct fuzz_input *input)
{
	static const int codes[] = { EINVAL, ENOMEM, EBUSY, EPERM, ENODEV, ENOSPC, EIO, EMFILE };
	unsigned before = fuzz_descriptors();
	enum vfio_iommu_kind kind;
	struct vfio_iommu *iommu;
	struct error err = { 0 };
	struct guest guest;

	kernel_reset(input);
	kernel.fail_in = fuzz_byte(input);
	kernel.fail_code = codes[fuzz_byte(input) % ARRAY_SIZE(codes)];
	kernel.vectors = fuzz_byte(input);
	kind = fuzz_byte(input) & 1 ? VFIO_IOMMU_IOMMUFD : VFIO_IOMMU_TYPE1;
	if (guest_open(&guest)) {
		const struct vfio_file_events files = { opening, closed, guest.vm };

		iommu = vfio_iommu_open(kind, 1002, &files, &err);
		fuzz_check(iommu || err.code);
		if (iommu)
			run(&guest, iommu, kind, input);
		guest_close(&guest);
		if (iommu)
			iommu->ops->close(iommu);
	}
	kernel_check_idle();
	fuzz_check(fuzz_descriptors() == before);
	fuzz_goals[CHAINS].count += kernel.chains;
	fuzz_goals[FAILED].count += kernel.failed;
	fuzz_goals[VECTORS].count += kernel.enabled;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

/*
 * Configuration space. It starts as a copy of the device's; the guest sees of it what is listed
 * here, and the rest reads 0. Bytes marked "direct" are the device's own at each access (the kernel's
 * vfio-pci still filters them); all others are answered from the copy, without a system call.
 */

/* Command bits that the guest owns and the device must have, too; decoding stays on at the device. */
#define COMMAND_FORWARDED (PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR)
#define COMMAND_WRITABLE  (COMMAND_FORWARDED | PCI_COMMAND_INTX_DISABLE)

#define CAPS_MAX 48 /* more than fit; ends a chain that loops */

static void set_direct(struct passthrough *device, unsigned offset, unsigned size)
{
	for (unsigned i = offset; i < offset + size && i < PCI_CONFIG_SIZE; i++)
		device->direct[i / 8] |= 1U << i % 8;
}

static bool is_direct(const struct passthrough *device, unsigned offset)
{
	return offset < PCI_CONFIG_SIZE && device->direct[offset / 8] >> offset % 8 & 1;
}

static bool all_direct(const struct passthrough *device, unsigned offset, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		if (!is_direct(device, offset + i))
			return false;
	return true;
}

uint32_t passthrough_config_read(struct pci_device *pci, unsigned offset, unsigned size)
{
	struct passthrough *device = (struct passthrough *)pci;
	struct vfio_device *vfio = &device->vfio;
	uint32_t value = pci_device_config_read(pci, offset, size);

	if (size > 1 && offset % size == 0 && all_direct(device, offset, size))
		return vfio_region_read(vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset, size);
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte;

		if (!is_direct(device, offset + i))
			continue;
		byte = vfio_region_read(vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset + i, 1);
		value = (value & ~(0xffU << 8 * i)) | (uint32_t)byte << 8 * i;
	}
	return value;
}

static void write_direct(struct passthrough *device, unsigned offset, unsigned size, uint32_t value)
{
	struct vfio_device *vfio = &device->vfio;

	if (offset % size == 0 && all_direct(device, offset, size)) {
		vfio_region_write(vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset, size, value);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		if (is_direct(device, offset + i))
			vfio_region_write(vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset + i, 1,
				value >> 8 * i & 0xff);
}

/*
 * The device's own command register has decoding always on: BARs appear and vanish in the guest by
 * memory slots, which is cheaper than to have the kernel tear down our mappings of them.
 */
static void forward_command(struct passthrough *device)
{
	uint16_t decode = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		enum pci_bar_kind kind = device->pci.bars[i].kind;

		if (kind == PCI_BAR_IO)
			decode |= PCI_COMMAND_IO;
		else if (kind != PCI_BAR_NONE)
			decode |= PCI_COMMAND_MEMORY;
	}
	vfio_region_write(&device->vfio, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 2,
		(pci_get16(&device->pci, PCI_COMMAND) & COMMAND_FORWARDED) | decode);
}

/*
 * Outside of D0 a device answers no access to its BARs, and VFIO would turn one through our mapping
 * into a fault of ours: the BARs vanish for as long.
 */
static void follow_power_state(struct passthrough *device)
{
	uint16_t control = vfio_region_read(
		&device->vfio, VFIO_PCI_CONFIG_REGION_INDEX, device->pm + PCI_PM_CTRL, 2);

	pci_device_set_asleep(&device->pci, control & PCI_PM_CTRL_STATE_MASK);
}

void passthrough_config_write(
	struct pci_device *pci, unsigned offset, unsigned size, uint32_t value)
{
	struct passthrough *device = (struct passthrough *)pci;
	uint16_t before = pci_get16(pci, PCI_COMMAND), after;
	bool power = device->pm && offset < device->pm + PCI_PM_CTRL + 2 &&
		     offset + size > device->pm + PCI_PM_CTRL;

	/* Away before the device can fall asleep: another vCPU may be using them. */
	if (power)
		pci_device_set_asleep(pci, true);
	pci_device_config_write(pci, offset, size, value);
	write_direct(device, offset, size, value);
	if (power)
		follow_power_state(device);
	after = pci_get16(pci, PCI_COMMAND);
	if ((before ^ after) & COMMAND_FORWARDED)
		forward_command(device);
	if ((before ^ after) & PCI_COMMAND_INTX_DISABLE ||
		msi_touched(&device->msi, offset, size) ||
		msix_touched(&device->msix, offset, size))
		passthrough_interrupts_update(device);
}

/* Bytes from an offset to the next capability in space, which need not be the next of the list. */
static unsigned room_at(const uint8_t *original, unsigned at)
{
	unsigned next = 256, other = original[PCI_CAPABILITY_LIST] & ~3U;

	for (unsigned i = 0; i < CAPS_MAX && other >= PCI_STD_HEADER_SIZEOF; i++) {
		if (other > at && other < next)
			next = other;
		other = original[other + 1] & ~3U;
	}
	return next - at;
}

/* Devices in a root complex may leave out what follows the device's or the link's registers. */
static unsigned express_size(const uint8_t *original, unsigned at)
{
	unsigned room = room_at(original, at);

	if ((original[at + PCI_EXP_FLAGS] & PCI_EXP_FLAGS_VERS) > 1 &&
		room >= PCI_CAP_EXP_ENDPOINT_SIZEOF_V2)
		return PCI_CAP_EXP_ENDPOINT_SIZEOF_V2;
	return room < PCI_EXP_LNKCAP ? 0 : min_u64(room, PCI_CAP_EXP_ENDPOINT_SIZEOF_V1);
}

/* Bytes of the capability at an offset; 0: the guest must not see it. */
static unsigned capability_size(const uint8_t *original, unsigned at)
{
	uint16_t flags;

	switch (original[at]) {
	case PCI_CAP_ID_PM:
	case PCI_CAP_ID_VPD:
		return 8;
	case PCI_CAP_ID_EXP:
		return express_size(original, at);
	case PCI_CAP_ID_MSIX:
		return PCI_CAP_MSIX_SIZEOF;
	case PCI_CAP_ID_MSI:
		flags = original[at + PCI_MSI_FLAGS] | original[at + PCI_MSI_FLAGS + 1] << 8;
		return 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) +
		       (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
	case PCI_CAP_ID_VNDR:
		return max_u64(original[at + 2], 3);
	default:
		return 0;
	}
}

/*
 * On the guest's root bus a device has no link and no port above it: it is shown as an endpoint
 * integrated in the root complex, whose capability has neither (PCI Express Base, 7.5.3.2).
 */
static void show_express(
	struct passthrough *device, unsigned at, unsigned size, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	uint16_t flags = pci_get16(pci, at + PCI_EXP_FLAGS);
	unsigned type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;

	if (type == PCI_EXP_TYPE_ENDPOINT || type == PCI_EXP_TYPE_LEG_END)
		flags = (flags & ~PCI_EXP_FLAGS_TYPE) | PCI_EXP_TYPE_RC_END << 4;
	memset(&pci->config[at + PCI_EXP_LNKCAP], 0, size - PCI_EXP_LNKCAP);
	pci_set16(pci, at + PCI_EXP_FLAGS, flags & ~(PCI_EXP_FLAGS_SLOT | PCI_EXP_FLAGS_IRQ));
	set_direct(device, at + PCI_EXP_DEVCTL, 4);
	if (size < PCI_CAP_EXP_ENDPOINT_SIZEOF_V2)
		return;
	memcpy(&pci->config[at + PCI_EXP_DEVCAP2], &original[at + PCI_EXP_DEVCAP2], 4);
	set_direct(device, at + PCI_EXP_DEVCTL2, 2);
}

static int show_capability(
	struct passthrough *device, unsigned at, unsigned size, const uint8_t *original)
{
	switch (original[at]) {
	case PCI_CAP_ID_PM:
		device->pm = at;
		set_direct(device, at + PCI_PM_CTRL, 4);
		return 0;
	case PCI_CAP_ID_VPD:
		set_direct(device, at + 2, 6);
		return 0;
	case PCI_CAP_ID_EXP:
		show_express(device, at, size, original);
		return 0;
	case PCI_CAP_ID_MSI: /* of each kind the first alone, as for systems */
		if (device->msi.cap || !device->vfio.irqs[VFIO_PCI_MSI_IRQ_INDEX].count)
			return -EINVAL;
		return msi_init(&device->msi, &device->pci, at);
	case PCI_CAP_ID_MSIX:
		if (device->msix.cap || !device->vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count)
			return -EINVAL;
		return msix_init(&device->msix, &device->pci, at);
	default: /* vendor-specific */
		set_direct(device, at + 2, size - 2);
		return 0;
	}
}

/* Copy the capabilities that the guest may have into a list of their own. */
static void show_capabilities(struct passthrough *device, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	unsigned link = PCI_CAPABILITY_LIST;
	unsigned at = original[PCI_CAPABILITY_LIST] & ~3U;
	uint8_t seen[256 / 8] = { 0 };

	if (!(original[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return;
	for (unsigned i = 0; i < CAPS_MAX && at >= PCI_STD_HEADER_SIZEOF; i++) {
		unsigned size = capability_size(original, at);

		if (seen[at / 8] >> at % 8 & 1)
			return;
		seen[at / 8] |= 1U << at % 8;
		if (size && at + size <= 256) {
			memcpy(&pci->config[at], &original[at], size);
			pci->config[at + 1] = 0;
			if (show_capability(device, at, size, original) == 0) {
				pci->config[link] = at;
				link = at + 1;
			}
		}
		at = original[at + 1] & ~3U;
	}
}

/*
 * Extended capabilities: a serial number, and what vendors define. All others belong to the link,
 * to the port above or to the host (AER, ACS, ATS, SR-IOV, resizable BARs).
 */
static void show_extended(struct passthrough *device, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	unsigned at = PCI_CFG_SPACE_SIZE, link = PCI_CFG_SPACE_SIZE;

	for (unsigned i = 0; i < PCI_CONFIG_SIZE / 8; i++) {
		uint32_t head, size = 0;

		memcpy(&head, &original[at], 4);
		if (PCI_EXT_CAP_ID(head) == PCI_EXT_CAP_ID_DSN)
			size = 12;
		if (PCI_EXT_CAP_ID(head) == PCI_EXT_CAP_ID_VNDR)
			size = original[at + 6] >> 4 | (uint32_t)original[at + 7] << 4;
		if (head && head != UINT32_MAX && size >= 8 && at + size <= PCI_CONFIG_SIZE) {
			memcpy(&pci->config[at], &original[at], size);
			pci_set32(pci, at, head & 0xfffff);
			if (link != at)
				pci_set32(pci, link, (pci_get32(pci, link) & 0xfffff) | at << 20);
			if (PCI_EXT_CAP_ID(head) == PCI_EXT_CAP_ID_VNDR)
				set_direct(device, at + 8, size - 8);
			link = at;
			pci->config_size = PCI_CONFIG_SIZE;
		}
		if (PCI_EXT_CAP_NEXT(head) <= at || head == UINT32_MAX ||
			PCI_EXT_CAP_NEXT(head) > PCI_CONFIG_SIZE - 8)
			return;
		at = PCI_EXT_CAP_NEXT(head);
	}
}

static void show_header(struct passthrough *device, const uint8_t *original, bool multifunction)
{
	struct pci_device *pci = &device->pci;

	memcpy(&pci->config[PCI_VENDOR_ID], &original[PCI_VENDOR_ID], 4);
	memcpy(&pci->config[PCI_CLASS_REVISION], &original[PCI_CLASS_REVISION], 4);
	memcpy(&pci->config[PCI_SUBSYSTEM_VENDOR_ID], &original[PCI_SUBSYSTEM_VENDOR_ID], 4);
	pci->config[PCI_STATUS] = original[PCI_STATUS] & PCI_STATUS_CAP_LIST;
	pci->config[PCI_HEADER_TYPE] = multifunction ? 0x80 : 0;
	pci->config[PCI_INTERRUPT_PIN] = device->vfio.irqs[VFIO_PCI_INTX_IRQ_INDEX].count
						 ? min_u64(original[PCI_INTERRUPT_PIN], 4)
						 : 0;
	pci->config[PCI_MIN_GNT] = original[PCI_MIN_GNT];
	pci->config[PCI_MAX_LAT] = original[PCI_MAX_LAT];
	pci->writable[PCI_LATENCY_TIMER] = 0xff;
	pci->writable[PCI_COMMAND] |= COMMAND_WRITABLE & 0xff;
	pci->writable[PCI_COMMAND + 1] |= COMMAND_WRITABLE >> 8;
	/* Live: bit 3 tells a driver with a shared line whether the interrupt is this device's. */
	set_direct(device, PCI_STATUS, 2);
}

/*
 * Registers before the first capability are the device's own business, and its driver's. Behind it
 * nothing tells where a hidden capability ends, so only what is shown can be reached there.
 */
static void show_private(struct passthrough *device, const uint8_t *original)
{
	unsigned at = original[PCI_CAPABILITY_LIST] & ~3U;
	unsigned first = 256;

	if (!(original[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		at = 0;
	for (unsigned i = 0; i < CAPS_MAX && at >= PCI_STD_HEADER_SIZEOF; i++) {
		first = min_u64(first, at);
		at = original[at + 1] & ~3U;
	}
	set_direct(device, PCI_STD_HEADER_SIZEOF, first - PCI_STD_HEADER_SIZEOF);
}

static int init_bar(
	struct passthrough *device, unsigned i, const uint8_t *original, struct error *err)
{
	const struct vfio_region *region = &device->vfio.regions[i];
	uint32_t type = original[PCI_BASE_ADDRESS_0 + 4 * i];
	enum pci_bar_kind kind = PCI_BAR_MEM32;

	if (!region->size)
		return 0;
	if (type & PCI_BASE_ADDRESS_SPACE_IO)
		kind = PCI_BAR_IO;
	else if (type & PCI_BASE_ADDRESS_MEM_TYPE_64)
		kind = PCI_BAR_MEM64;
	if (region->size & (region->size - 1) || (kind == PCI_BAR_MEM64 && i == PCI_BARS - 1) ||
		(kind != PCI_BAR_MEM64 && region->size > 2 * GIB))
		return error_set(err, -EINVAL, device->vfio.name,
			"BAR %u has a size that no BAR can have: %#llx", i,
			(unsigned long long)region->size);
	/* No less than a page, so that no other BAR can get into the page that it is mapped by. */
	pci_device_set_bar(&device->pci, i, kind,
		kind != PCI_BAR_IO && type & PCI_BASE_ADDRESS_MEM_PREFETCH,
		kind == PCI_BAR_IO ? region->size : max_u64(region->size, 4 * KIB));
	return 0;
}

int passthrough_config_init(struct passthrough *device, bool multifunction, struct error *err)
{
	uint8_t original[PCI_CONFIG_SIZE + 8] = { 0 };
	const struct vfio_region *region = &device->vfio.regions[VFIO_PCI_CONFIG_REGION_INDEX];
	uint64_t size = min_u64(region->size, PCI_CONFIG_SIZE);

	for (unsigned at = 0; at + 4 <= size; at += 4) {
		uint32_t value =
			vfio_region_read(&device->vfio, VFIO_PCI_CONFIG_REGION_INDEX, at, 4);

		memcpy(&original[at], &value, 4);
	}
	if (original[PCI_VENDOR_ID] == 0xff && original[PCI_VENDOR_ID + 1] == 0xff) {
		error_set(err, -ENODEV, device->vfio.name,
			"does not answer: its configuration space reads ff");
		error_hint(err,
			"it did not come back from a reset or from D3; 'penstock doctor %s' shows "
			"what may bring it back",
			device->vfio.name);
		return -ENODEV;
	}
	if (original[PCI_HEADER_TYPE] & 0x7f)
		return error_set(err, -EINVAL, device->vfio.name, "is a bridge, not a device");
	show_header(device, original, multifunction);
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (init_bar(device, i, original, err))
			return err->code;
	show_private(device, original);
	show_capabilities(device, original);
	if (size == PCI_CONFIG_SIZE)
		show_extended(device, original);
	forward_command(device);
	return 0;
}

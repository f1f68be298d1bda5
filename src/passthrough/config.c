/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/log.h"
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

#define CLASS_VGA 0x0300

/* Where capabilities start, in the order of their list; no more than fit into the extended space. */
struct capabilities {
	uint16_t at[(PCI_CONFIG_SIZE - PCI_CFG_SPACE_SIZE) / 4];
	unsigned count;
};

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
	struct passthrough *device = container_of(pci, struct passthrough, pci);
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
void passthrough_forward_command(struct passthrough *device)
{
	uint16_t command = pci_get16(&device->pci, PCI_COMMAND) & COMMAND_FORWARDED;

	if (!device->has_handler)
		command |= PCI_COMMAND_INTX_DISABLE;
	for (unsigned i = 0; i < PCI_DECODES; i++) {
		enum pci_bar_kind kind = device->pci.bars[i].kind;

		if (kind == PCI_BAR_IO)
			command |= PCI_COMMAND_IO;
		else if (kind != PCI_BAR_NONE)
			command |= PCI_COMMAND_MEMORY;
	}
	vfio_region_write(&device->vfio, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 2, command);
}

/*
 * Outside of D0 a device answers no access to its BARs, and VFIO would turn one through our mapping
 * into a fault of ours. The slots go before the device can fall asleep, for another vCPU may be using
 * them; its accesses wait for the lock until it is known whether the device did.
 */
static void write_power_state(
	struct passthrough *device, unsigned offset, unsigned size, uint32_t value)
{
	unsigned control = device->pm + PCI_PM_CTRL;

	if (value >> 8 * (control - offset) & PCI_PM_CTRL_STATE_MASK)
		pci_device_set_asleep(&device->pci, true);
	write_direct(device, offset, size, value);
	value = vfio_region_read(&device->vfio, VFIO_PCI_CONFIG_REGION_INDEX, control, 2);
	pci_device_set_asleep(&device->pci, value & PCI_PM_CTRL_STATE_MASK);
}

static bool resets_function(
	const struct passthrough *device, unsigned offset, unsigned size, uint32_t value)
{
	unsigned at = device->express + PCI_EXP_DEVCTL + 1; /* the byte that the bit is in */

	return device->express && offset <= at && offset + size > at &&
	       value >> 8 * (at - offset) & PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

/*
 * Meanwhile the device answers as little as one that sleeps, and the kernel takes what iommufd has mapped of
 * it from the IOMMU, for good: it has to be mapped anew.
 */
static void write_function_reset(
	struct passthrough *device, unsigned offset, unsigned size, uint32_t value)
{
	bool asleep = device->pci.asleep;

	pci_device_set_asleep(&device->pci, true);
	write_direct(device, offset, size, value);
	pci_device_set_asleep(&device->pci, asleep);
}

/* Until it has Bus Master a device does no DMA; VFIO has cleared the bit when it opened the device. */
static bool gives_bus_master(unsigned offset, unsigned size, uint32_t value)
{
	return offset <= PCI_COMMAND && offset + size > PCI_COMMAND &&
	       value >> 8 * (PCI_COMMAND - offset) & PCI_COMMAND_MASTER;
}

void passthrough_config_write(
	struct pci_device *pci, unsigned offset, unsigned size, uint32_t value)
{
	struct passthrough *device = container_of(pci, struct passthrough, pci);
	uint16_t before = pci_get16(pci, PCI_COMMAND), after;
	unsigned control = device->pm + PCI_PM_CTRL;

	if (gives_bus_master(offset, size, value) && device->ready &&
		!device->ready(device->ready_opaque))
		return;
	pci_device_config_write(pci, offset, size, value);
	if (device->pm && offset <= control && offset + size > control)
		write_power_state(device, offset, size, value);
	else if (resets_function(device, offset, size, value))
		write_function_reset(device, offset, size, value);
	else
		write_direct(device, offset, size, value);
	after = pci_get16(pci, PCI_COMMAND);
	if ((before ^ after) & COMMAND_FORWARDED)
		passthrough_forward_command(device);
	if ((before ^ after) & PCI_COMMAND_INTX_DISABLE ||
		msi_touched(&device->msi, offset, size) ||
		msix_touched(&device->msix, offset, size))
		passthrough_interrupts_update(device);
}

/* False: the list holds it already, so it loops and ends here. */
static bool add_capability(struct capabilities *list, unsigned at)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->at[i] == at)
			return false;
	list->at[list->count++] = at;
	return true;
}

static void list_capabilities(struct capabilities *list, const uint8_t *original)
{
	unsigned at = original[PCI_CAPABILITY_LIST] & ~3U;

	list->count = 0;
	if (!(original[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return;
	while (at >= PCI_STD_HEADER_SIZEOF && add_capability(list, at))
		at = original[at + 1] & ~3U;
}

static uint16_t get16(const uint8_t *original, unsigned at)
{
	return original[at] | original[at + 1] << 8;
}

static uint32_t get32(const uint8_t *original, unsigned at)
{
	return get16(original, at) | (uint32_t)get16(original, at + 2) << 16;
}

static void list_extended(struct capabilities *list, const uint8_t *original)
{
	unsigned at = PCI_CFG_SPACE_SIZE;

	list->count = 0;
	while (at >= PCI_CFG_SPACE_SIZE && add_capability(list, at))
		at = PCI_EXT_CAP_NEXT(get32(original, at));
}

/* Bytes from an offset to the next capability in space, which need not be the next of the list. */
static unsigned room_at(const struct capabilities *list, unsigned at, unsigned end)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->at[i] > at)
			end = min_u64(end, list->at[i]);
	return end - at;
}

#define LINK_V1_SIZE PCI_CAP_EXP_ENDPOINT_SIZEOF_V1
#define LINK_V2_SIZE (PCI_EXP_LNKSTA2 + 2)

/*
 * A device without a link, or with one that the guest does not see, has no more of the capability than what
 * comes before the link's registers, or than version 2 of one in a root complex.
 */
static unsigned express_size(const uint8_t *original, unsigned at, unsigned room)
{
	bool version_2 = (original[at + PCI_EXP_FLAGS] & PCI_EXP_FLAGS_VERS) > 1;

	if (version_2 && room >= LINK_V2_SIZE)
		return LINK_V2_SIZE;
	if (version_2 && room >= PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2)
		return PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2;
	if (room >= LINK_V1_SIZE)
		return LINK_V1_SIZE;
	return room < PCI_EXP_LNKCAP ? 0 : PCI_EXP_LNKCAP;
}

/* Bytes of the capability at an offset, no more than there is room; 0: the guest must not see it. */
static unsigned capability_size(const uint8_t *original, unsigned at, unsigned room)
{
	unsigned size = 0;
	uint16_t flags;

	switch (original[at]) {
	case PCI_CAP_ID_PM:
	case PCI_CAP_ID_VPD:
		size = 8;
		break;
	case PCI_CAP_ID_EXP:
		return express_size(original, at, room);
	case PCI_CAP_ID_MSIX:
		size = PCI_CAP_MSIX_SIZEOF;
		break;
	case PCI_CAP_ID_MSI:
		flags = get16(original, at + PCI_MSI_FLAGS);
		size = 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) +
		       (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
		break;
	case PCI_CAP_ID_VNDR:
		return min_u64(max_u64(original[at + 2], 3), room);
	}
	return size <= room ? size : 0;
}

static unsigned extended_size(const uint8_t *original, unsigned at, unsigned room)
{
	unsigned size = 0;

	switch (PCI_EXT_CAP_ID(get32(original, at))) {
	case PCI_EXT_CAP_ID_DSN:
		size = 12;
		break;
	case PCI_EXT_CAP_ID_VNDR:
		size = min_u64(original[at + 6] >> 4 | original[at + 7] << 4, room);
		if (size < 8)
			return 0;
	}
	return size <= room ? size : 0;
}

static unsigned express_type(const uint8_t *original, unsigned at)
{
	return (get16(original, at + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_TYPE) >> 4;
}

static bool has_link(const uint8_t *original, unsigned at)
{
	unsigned type = express_type(original, at);

	return type == PCI_EXP_TYPE_ENDPOINT || type == PCI_EXP_TYPE_LEG_END;
}

/*
 * Behind a port the guest sees the device's own link, as it is now. How it saves power is the host's to
 * decide, with its own port.
 */
static void show_link(
	struct passthrough *device, unsigned at, unsigned size, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	uint32_t capable = get32(original, at + PCI_EXP_LNKCAP);

	if (size < LINK_V1_SIZE)
		return;
	pci_set32(pci, at + PCI_EXP_LNKCAP,
		capable & ~(uint32_t)(PCI_EXP_LNKCAP_ASPMS | PCI_EXP_LNKCAP_CLKPM));
	set_direct(device, at + PCI_EXP_LNKSTA, 2);
	if (size < LINK_V2_SIZE)
		return;
	memcpy(&pci->config[at + PCI_EXP_LNKCAP2], &original[at + PCI_EXP_LNKCAP2], 4);
	set_direct(device, at + PCI_EXP_LNKSTA2, 2);
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

	memset(&pci->config[at + PCI_EXP_LNKCAP], 0, size - PCI_EXP_LNKCAP);
	if (has_link(original, at) && device->pci.bus->parent)
		show_link(device, at, size, original);
	else if (has_link(original, at))
		flags = (flags & ~PCI_EXP_FLAGS_TYPE) | PCI_EXP_TYPE_RC_END << 4;
	pci_set16(pci, at + PCI_EXP_FLAGS, flags & ~(PCI_EXP_FLAGS_SLOT | PCI_EXP_FLAGS_IRQ));
	set_direct(device, at + PCI_EXP_DEVCTL, 4);
	if (size < PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2)
		return;
	memcpy(&pci->config[at + PCI_EXP_DEVCAP2], &original[at + PCI_EXP_DEVCAP2], 4);
	set_direct(device, at + PCI_EXP_DEVCTL2, 2);
}

static int show_capability(
	struct passthrough *device, unsigned at, unsigned size, const uint8_t *original)
{
	switch (original[at]) {
	case PCI_CAP_ID_PM: /* of each kind with a state the first alone, as for systems */
		if (device->pm)
			return -EINVAL;
		device->pm = at;
		set_direct(device, at + PCI_PM_CTRL, 4);
		return 0;
	case PCI_CAP_ID_VPD:
		set_direct(device, at + 2, 6);
		return 0;
	case PCI_CAP_ID_EXP:
		device->express = at;
		show_express(device, at, size, original);
		return 0;
	case PCI_CAP_ID_MSI:
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
static void show_capabilities(
	struct passthrough *device, const struct capabilities *list, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	unsigned link = PCI_CAPABILITY_LIST;

	for (unsigned i = 0; i < list->count; i++) {
		unsigned at = list->at[i];
		unsigned size =
			capability_size(original, at, room_at(list, at, PCI_CFG_SPACE_SIZE));

		if (!size)
			continue;
		memcpy(&pci->config[at], &original[at], size);
		pci->config[at + 1] = 0;
		if (show_capability(device, at, size, original))
			continue;
		pci->config[link] = at;
		link = at + 1;
	}
}

/*
 * Extended capabilities: a serial number, and what vendors define. All others belong to the link,
 * to the port above or to the host (AER, ACS, ATS, SR-IOV, resizable BARs).
 */
static void show_extended(struct passthrough *device, const uint8_t *original)
{
	struct pci_device *pci = &device->pci;
	unsigned link = PCI_CFG_SPACE_SIZE;
	struct capabilities list;

	list_extended(&list, original);
	for (unsigned i = 0; i < list.count; i++) {
		unsigned at = list.at[i];
		unsigned size = extended_size(original, at, room_at(&list, at, PCI_CONFIG_SIZE));
		uint32_t head = get32(original, at);

		if (!size)
			continue;
		memcpy(&pci->config[at], &original[at], size);
		pci_set32(pci, at, head & 0xfffff);
		if (link != at)
			pci_set32(pci, link, (pci_get32(pci, link) & 0xfffff) | at << 20);
		if (PCI_EXT_CAP_ID(head) == PCI_EXT_CAP_ID_VNDR)
			set_direct(device, at + 8, size - 8);
		link = at;
		pci->config_size = PCI_CONFIG_SIZE;
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
static void show_private(struct passthrough *device, const struct capabilities *list)
{
	unsigned at = PCI_STD_HEADER_SIZEOF - 1; /* one may start right behind the header */

	set_direct(device, at + 1, room_at(list, at, PCI_CFG_SPACE_SIZE) - 1);
}

static int describe_bar(const struct vfio_device *vfio, unsigned i, const uint8_t *original,
	struct pci_bar *bar, struct error *err)
{
	const struct vfio_region *region = &vfio->regions[i];
	uint32_t type = original[PCI_BASE_ADDRESS_0 + 4 * i];

	*bar = (struct pci_bar){ 0 };
	if (!region->size)
		return 0;
	bar->kind = PCI_BAR_MEM32;
	if (type & PCI_BASE_ADDRESS_SPACE_IO)
		bar->kind = PCI_BAR_IO;
	else if (type & PCI_BASE_ADDRESS_MEM_TYPE_64)
		bar->kind = PCI_BAR_MEM64;
	if (region->size & (region->size - 1) ||
		(bar->kind == PCI_BAR_MEM64 && i == PCI_BARS - 1) ||
		(bar->kind != PCI_BAR_MEM64 && region->size > 2 * GIB))
		return error_set(err, -EINVAL, vfio->name,
			"BAR %u has a size that no BAR can have: %#llx", i,
			(unsigned long long)region->size);
	bar->prefetchable = bar->kind != PCI_BAR_IO && type & PCI_BASE_ADDRESS_MEM_PREFETCH;
	/* No less than a page, so that no other BAR can get into the page that it is mapped by. */
	bar->size = bar->kind == PCI_BAR_IO ? region->size : max_u64(region->size, 4 * KIB);
	return 0;
}

static const struct quirk_entry *find_quirk(
	const struct passthrough *device, const uint8_t *original, enum quirk what)
{
	return device->plain
		       ? NULL
		       : quirk_find(what, get16(original, PCI_VENDOR_ID),
				 get16(original, PCI_DEVICE_ID), get16(original, PCI_CLASS_DEVICE));
}

/* What the user would look for otherwise. */
static bool use_quirk(const struct passthrough *device, const uint8_t *original, enum quirk what)
{
	const struct quirk_entry *quirk = find_quirk(device, original, what);

	if (quirk)
		log_info("%s: a quirk of %s: %s (%s); quirks=off goes without", device->vfio.name,
			quirk->devices, quirk->reason, quirk->source);
	return quirk;
}

static int describe_rom(const struct passthrough *device, const uint8_t *original,
	struct pci_bar *bar, struct error *err)
{
	const struct passthrough_rom *rom = &device->rom;
	uint64_t size = device->vfio.regions[VFIO_PCI_ROM_REGION_INDEX].size;

	*bar = (struct pci_bar){ 0 };
	if (rom->bytes)
		size = rom->size;
	else if (find_quirk(device, original, QUIRK_NO_ROM))
		size = 0;
	if (!size || rom->hidden)
		return 0;
	if (size & (size - 1) || size > PASSTHROUGH_ROM_MAX) {
		error_set(err, -EINVAL, device->vfio.name,
			"its option ROM has a size that none can have: %#llx",
			(unsigned long long)size);
		error_hint(err, "--device %s,rom=off goes without", device->vfio.name);
		return -EINVAL;
	}
	*bar = (struct pci_bar){ .kind = PCI_BAR_MEM32, .size = max_u64(size, 4 * KIB) };
	return 0;
}

/* All of them. What a device has at the upper half of a 64-bit BAR is no BAR, whatever it says. */
static int describe_all_bars(const struct passthrough *device, const uint8_t *original,
	struct pci_bar bars[static PCI_RANGES], struct error *err)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (describe_bar(&device->vfio, i, original, &bars[i], err))
			return err->code;
		if (i && bars[i - 1].kind == PCI_BAR_MEM64)
			bars[i] = (struct pci_bar){ 0 };
	}
	return describe_rom(device, original, &bars[PCI_ROM], err);
}

/* A BIOS draws by these. The kernel gives them of a VGA card alone. */
static void show_vga(struct passthrough *device, const uint8_t *original)
{
	if (device->vfio.regions[VFIO_PCI_VGA_REGION_INDEX].size) {
		pci_device_set_vga(&device->pci);
		device->at_3c3 = device->pci.bars[QUIRK_PORTS_BAR].kind == PCI_BAR_IO &&
				 use_quirk(device, original, QUIRK_PORTS_AT_3C3);
	} else if (get16(original, PCI_CLASS_DEVICE) == CLASS_VGA) {
		log_warning(
			"%s: the host's kernel gives nobody a VGA card's ports and memory at A0000, and "
			"its BIOS draws nothing without; next: load vfio_pci with disable_vga=0, on a "
			"kernel that has CONFIG_VFIO_PCI_VGA",
			device->vfio.name);
	}
}

/*
 * The device's own configuration space, as far as it has one: by one system call, for a device that comes while
 * the guest runs is copied with the vCPUs held. What cannot be read is ff, as on a bus.
 */
static int read_original(
	struct vfio_device *vfio, uint8_t *original, uint64_t size, struct error *err)
{
	size = min_u64(size, vfio->regions[VFIO_PCI_CONFIG_REGION_INDEX].size);
	memset(original, 0xff, size);
	vfio_region_copy(vfio, VFIO_PCI_CONFIG_REGION_INDEX, original, size);
	if (original[PCI_VENDOR_ID] == 0xff && original[PCI_VENDOR_ID + 1] == 0xff) {
		error_set(err, -ENODEV, vfio->name,
			"does not answer: its configuration space reads ff");
		error_hint(err,
			"it did not come back from a reset or from D3; 'penstock doctor %s' shows "
			"what may bring it back",
			vfio->name);
		return -ENODEV;
	}
	if (original[PCI_HEADER_TYPE] & 0x7f)
		return error_set(err, -EINVAL, vfio->name, "is a bridge, not a device");
	return 0;
}

/* Offset of the PCI Express capability; 0: there is none. */
static unsigned find_express(const uint8_t *original)
{
	struct capabilities list;

	list_capabilities(&list, original);
	for (unsigned i = 0; i < list.count; i++)
		if (original[list.at[i]] == PCI_CAP_ID_EXP)
			return list.at[i];
	return 0;
}

/* A virtual function's link is the physical one's, and its status reads 0. */
static struct pci_link read_link(const uint8_t *original, unsigned at)
{
	uint16_t link = get16(original, at + PCI_EXP_LNKSTA);

	if (!(link & PCI_EXP_LNKSTA_CLS) || !(link & PCI_EXP_LNKSTA_NLW))
		link = get16(original, at + PCI_EXP_LNKCAP); /* the same fields: what it can be */
	return (struct pci_link){
		.speed = min_u64(max_u64(link & PCI_EXP_LNKSTA_CLS, 1), 6),
		.width = max_u64((link & PCI_EXP_LNKSTA_NLW) >> 4, 1),
		.payload = original[at + PCI_EXP_DEVCTL] >> 5,
	};
}

int passthrough_describe(
	struct passthrough *device, struct passthrough_traits *traits, struct error *err)
{
	uint8_t original[PCI_CFG_SPACE_SIZE + 8] = { 0 };
	unsigned at;

	*traits = (struct passthrough_traits){ .link = { .speed = 1, .width = 1 } };
	if (read_original(&device->vfio, original, PCI_CFG_SPACE_SIZE, err))
		return err->code;
	if (describe_all_bars(device, original, traits->bars, err))
		return err->code;
	at = find_express(original);
	if (!at || at + LINK_V1_SIZE > PCI_CFG_SPACE_SIZE || !has_link(original, at))
		return 0;
	traits->endpoint = true;
	traits->link = read_link(original, at);
	return 0;
}

int passthrough_config_init(
	struct passthrough *device, const struct passthrough_place *place, struct error *err)
{
	uint8_t original[PCI_CONFIG_SIZE + 8] = { 0 };
	const struct vfio_region *region = &device->vfio.regions[VFIO_PCI_CONFIG_REGION_INDEX];
	struct capabilities list;
	struct pci_bar bars[PCI_RANGES];

	device->pci.bus = place->bus;
	if (read_original(&device->vfio, original, PCI_CONFIG_SIZE, err))
		return err->code;
	show_header(device, original, place->multifunction);
	if (describe_all_bars(device, original, bars, err))
		return err->code;
	for (unsigned i = 0; i < PCI_RANGES; i++)
		if (bars[i].kind != PCI_BAR_NONE)
			pci_device_set_bar(
				&device->pci, i, bars[i].kind, bars[i].prefetchable, bars[i].size);
	if (device->vga)
		show_vga(device, original);
	if (!device->rom.bytes)
		use_quirk(device, original, QUIRK_NO_ROM);
	list_capabilities(&list, original);
	show_private(device, &list);
	show_capabilities(device, &list, original);
	if (region->size >= PCI_CONFIG_SIZE)
		show_extended(device, original);
	passthrough_forward_command(device);
	return 0;
}

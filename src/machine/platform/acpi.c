/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/acpi.h"

#include "base/size.h"
#include "machine/layout.h"
#include "machine/platform/aml.h"
#include "machine/platform/events.h"
#include "machine/platform/i8042.h"
#include "machine/platform/lpc.h"
#include "machine/platform/panic.h"
#include "machine/platform/power.h"
#include "machine/platform/rtc.h"
#include "machine/platform/serial.h"
#include "machine/platform/tpm.h"
#include "pci/bridge.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define OEM_ID "PENSTK"

/* _OSC (ACPI 6.4, 6.2.11.3; PCI Firmware 3.3, 4.5.1): bytes of its three double words. */
#define OSC_STATUS  0
#define OSC_MASKED  0x10
#define OSC_CONTROL 8
#define OSC_PME     0x04

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct generic_address {
	uint8_t space; /* 1: I/O ports */
	uint8_t bits;
	uint8_t bit_offset;
	uint8_t access;
	uint64_t address;
} __attribute__((packed));

/* 5.2.9. Named as in the specification. */
struct fadt {
	struct header header;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk;
	uint32_t pm2_cnt_blk, pm_tmr_blk, gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	uint8_t gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct generic_address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct generic_address x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct generic_address x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
	struct generic_address sleep_control_reg, sleep_status_reg;
	uint64_t hypervisor_id;
} __attribute__((packed));

#define FADT_WBINVD      (1U << 0)
#define FADT_PROC_C1     (1U << 2)
#define FADT_BUTTONS     (3U << 4) /* none is a fixed feature: power and sleep */
#define FADT_NO_RTC_WAKE (1U << 6)
#define FADT_RESET_REG   (1U << 10)
#define FADT_HW_REDUCED  (1U << 20)
#define BOOT_LEGACY_DEVS (1U << 0) /* there are devices on an ISA bus: the serial port */
#define BOOT_8042        (1U << 1)
#define BOOT_NO_VGA      (1U << 2)
#define BOOT_NO_ASPM     (1U << 4)

#define WAET_PM_TIMER_GOOD (1U << 1)

/* 5.2.10: without a checksum. */
struct facs {
	char signature[4];
	uint32_t length;
	uint8_t unused[24];
	uint8_t version;
	uint8_t reserved[31];
} __attribute__((packed));

_Static_assert(sizeof(struct facs) == 64, "a FACS");

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct madt_local_apic {
	uint8_t type, length, processor, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

struct madt_nmi {
	uint8_t type, length, processor;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct srat_cpu {
	uint8_t type, length, domain_low, apic_id;
	uint32_t flags;
	uint8_t sapic_eid, domain_high[3];
	uint32_t clock_domain;
} __attribute__((packed));

struct srat_memory {
	uint8_t type, length;
	uint32_t domain;
	uint16_t reserved0;
	uint64_t base, size;
	uint32_t reserved1, flags;
	uint64_t reserved2;
} __attribute__((packed));

struct mcfg {
	uint64_t reserved0;
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved1;
} __attribute__((packed));

/* TCG ACPI Specification 1.4, 7: the control area, and that writing its start register is all. */
struct tpm2 {
	uint16_t platform_class; /* 0: a client */
	uint16_t reserved;
	uint64_t control_area;
	uint32_t start_method;
	uint8_t parameters[12];
	uint32_t log_size; /* both are left out where there is no log */
	uint64_t log;
} __attribute__((packed));

#define TPM2_START_CRB 7

/* Tables go one behind the other; out.bytes is what the guest reads at gpa, or a file of firmware's. */
struct builder {
	struct aml out;
	uint64_t gpa;
	uint16_t pm_base;         /* 0: the platform is hardware-reduced */
	struct acpi_links *links; /* NULL: they are where they stay */
};

static uint8_t checksum(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	uint8_t sum = 0;

	while (size--)
		sum += *at++;
	return -sum;
}

static void align_table(struct builder *b)
{
	static const uint8_t zeros[64];

	aml_bytes(&b->out, zeros, align_up(b->out.size, 64) - b->out.size);
}

/* Returns the table's offset. */
static size_t open_table(struct builder *b, const char *signature, uint8_t revision)
{
	struct header header = {
		.revision = revision,
		.oem_id = OEM_ID,
		.oem_table_id = "PENSTOCK",
		.oem_revision = 1,
		.creator_id = "PENS",
		.creator_revision = 1,
	};
	size_t start;

	memcpy(header.signature, signature, 4);
	align_table(b);
	start = b->out.size;
	aml_bytes(&b->out, &header, sizeof(header));
	return start;
}

/* Fill in length and checksum; returns the table's GPA. */
static uint64_t close_table(struct builder *b, size_t start)
{
	struct header *header = (struct header *)(b->out.bytes + start);

	if (b->out.overflow)
		return 0;
	header->length = b->out.size - start;
	if (b->links)
		b->links->tables[b->links->table_count++] =
			(struct acpi_table){ start, header->length };
	else
		header->checksum = checksum(header, header->length);
	return b->gpa + start;
}

/* So many bytes here are the GPA of a table. */
static void note_pointer(struct builder *b, size_t at, uint8_t size)
{
	if (b->links)
		b->links->pointers[b->links->pointer_count++] = (struct acpi_pointer){ at, size };
}

/* _PRT: pin INTA to INTD of each device on bus 0 to its GSI (6.2.13). */
static void add_routing(struct aml *aml)
{
	size_t table;

	aml_name(aml, "_PRT");
	table = aml_open_package(aml, 32 * 4);
	for (unsigned device = 0; device < 32; device++)
		for (unsigned pin = 1; pin <= 4; pin++) {
			size_t entry = aml_open_package(aml, 4);

			aml_integer(aml, (uint64_t)device << 16 | 0xffff);
			aml_integer(aml, pin - 1);
			aml_integer(aml, 0);
			aml_integer(aml, layout_pci_gsi(device, pin));
			aml_close(aml, entry);
		}
	aml_close(aml, table);
}

/*
 * _OSC: the system may have whatever it asks for (6.2.11), since no firmware competes with it, but for power
 * management events: no port of ours sends one, and being ready for them costs a guest four writes a port.
 */
static void add_osc(struct aml *aml)
{
	size_t method = aml_open_method(aml, "_OSC", 4), wanted;

	aml_load_byte(aml, 3, OSC_CONTROL);
	wanted = aml_open_if(aml, OSC_PME);
	aml_and_byte(aml, 3, OSC_CONTROL, (uint8_t)~OSC_PME);
	aml_or_byte(aml, 3, OSC_STATUS, OSC_MASKED);
	aml_close(aml, wanted);
	aml_return_argument(aml, 3);
	aml_close(aml, method);
}

/* What is in a port's slot: the system is asked to eject it, and does (6.3.3). */
static void add_card(struct aml *aml, const struct pci_bridge *port)
{
	unsigned slot = port->device.devfn >> 3;
	size_t device, inside, method;
	char name[5];

	snprintf(name, sizeof(name), "SL%02X", slot);
	device = aml_open_device(aml, name);
	aml_name_integer(aml, "_ADR", slot << 16);
	inside = aml_open_device(aml, "CARD");
	aml_name_integer(aml, "_ADR", 0);
	method = aml_open_method(aml, "_EJ0", 1);
	aml_store(aml, "EVNT", 1U << slot);
	aml_close(aml, method);
	aml_close(aml, inside);
	aml_close(aml, device);
}

/* Below 4 GiB: the window of the root bus, without an ECAM that firmware has put into it. */
static void add_low_windows(struct aml *aml, const struct pci_root *pci)
{
	const struct pci_window *window = &pci->bus.windows.mem32;
	uint64_t end = window->base + window->size;
	uint64_t hole = min_u64(max_u64(pci->ecam, window->base), end);
	uint64_t behind = min_u64(max_u64(pci->ecam + pci->ecam_size, window->base), end);

	if (hole > window->base)
		aml_window(aml, AML_MEMORY, 32, window->base, hole - window->base);
	if (behind < end)
		aml_window(aml, AML_MEMORY, 32, behind, end - behind);
}

static void add_host_bridge(struct aml *aml, const struct pci_root *pci)
{
	const struct pci_windows *windows = &pci->bus.windows;
	size_t device = aml_open_device(aml, "PCI0");
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0A08");
	aml_name_eisaid(aml, "_CID", "PNP0A03");
	aml_name_integer(aml, "_UID", 0);
	aml_name_integer(aml, "_SEG", 0);
	aml_name_integer(aml, "_BBN", 0);
	crs = aml_open_template(aml, "_CRS");
	aml_window(aml, AML_BUS, 16, 0, pci->buses);
	/* The ports below are the ISA bridge's: Linux finds PMBASE's, and looks for a window that they are in. */
	if (pci->has_ports) {
		aml_window(aml, AML_IO, 16, 0, 0xcf8);
		aml_io(aml, 0xcf8, 8);
	}
	aml_window(aml, AML_IO, 16, windows->io.base, windows->io.size);
	add_low_windows(aml, pci);
	/* Not marked prefetchable: a 64-bit BAR that is not would then have to move below 4 GiB. */
	aml_window(aml, AML_MEMORY, 64, windows->mem64.base, windows->mem64.size);
	aml_close_template(aml, crs);
	add_routing(aml);
	add_osc(aml);
	for (const struct pci_bridge *port = pci->bus.bridges; port; port = port->next)
		add_card(aml, port);
	aml_close(aml, device);
}

/* What the PCI bridge must not hand out: ECAM and the platform's ports. */
static void add_motherboard(struct aml *aml, const struct pci_root *pci)
{
	size_t device = aml_open_device(aml, "MBRD");
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0C02");
	aml_name_integer(aml, "_UID", 0);
	crs = aml_open_template(aml, "_CRS");
	if (pci->ecam + pci->ecam_size <= LAYOUT_4G)
		aml_fixed_memory(aml, pci->ecam, pci->ecam_size);
	aml_io(aml, POWER_SLEEP_PORT, POWER_PORTS);
	aml_io(aml, EVENTS_PORT, EVENTS_PORTS);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

static void add_serial(struct aml *aml)
{
	size_t device = aml_open_device(aml, "COM1");
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0501");
	aml_name_integer(aml, "_UID", 0);
	crs = aml_open_template(aml, "_CRS");
	aml_io(aml, SERIAL_PORT, SERIAL_PORTS);
	aml_interrupt(aml, LAYOUT_GSI_SERIAL);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

/* Without an interrupt, for it has no alarm; Linux would look for one. */
static void add_rtc(struct aml *aml)
{
	size_t device = aml_open_device(aml, "RTC_");
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0B00");
	crs = aml_open_template(aml, "_CRS");
	aml_io(aml, RTC_PORT, RTC_PORTS);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

/* With the mouse, whose ports they are, too. */
static void add_keyboard(struct aml *aml)
{
	size_t device = aml_open_device(aml, "KBD_");
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0303");
	crs = aml_open_template(aml, "_CRS");
	aml_io(aml, I8042_DATA, 1);
	aml_io(aml, I8042_COMMAND, 1);
	aml_interrupt(aml, LAYOUT_GSI_KEYBOARD);
	aml_close_template(aml, crs);
	aml_close(aml, device);
	device = aml_open_device(aml, "MOU_");
	aml_name_eisaid(aml, "_HID", "PNP0F13");
	crs = aml_open_template(aml, "_CRS");
	aml_interrupt(aml, LAYOUT_GSI_MOUSE);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

static void add_panic(struct aml *aml)
{
	size_t device = aml_open_device(aml, "PEVT");
	struct aml_template crs;

	aml_name_string(aml, "_HID", "QEMU0001");
	crs = aml_open_template(aml, "_CRS");
	aml_io(aml, PANIC_PORT, 1);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

static void add_tpm(struct aml *aml)
{
	size_t device = aml_open_device(aml, "TPM_");
	struct aml_template crs;

	aml_name_string(aml, "_HID", "MSFT0101");
	crs = aml_open_template(aml, "_CRS");
	aml_fixed_memory(aml, TPM_BASE, TPM_SIZE);
	aml_close_template(aml, crs);
	aml_close(aml, device);
}

static void add_notification(struct aml *aml, uint32_t event, const char *object, uint8_t value)
{
	size_t happened = aml_open_if(aml, event);

	aml_notify(aml, object, value);
	aml_close(aml, happened);
}

/* The power button, and the generic event device that speaks for it and for the slots (5.6.9). */
static void add_events(struct aml *aml, const struct pci_root *pci)
{
	size_t device = aml_open_device(aml, "PWRB"), method;
	struct aml_template crs;

	aml_name_eisaid(aml, "_HID", "PNP0C0C");
	aml_close(aml, device);
	device = aml_open_device(aml, "GED_");
	aml_name_string(aml, "_HID", "ACPI0013");
	crs = aml_open_template(aml, "_CRS");
	aml_interrupt(aml, LAYOUT_GSI_EVENTS);
	aml_close_template(aml, crs);
	method = aml_open_method(aml, "_EVT", 1);
	aml_load(aml, "EVNT");
	add_notification(aml, EVENTS_BUTTON, "PWRB", 0x80);
	for (const struct pci_bridge *port = pci->bus.bridges; port; port = port->next) {
		unsigned slot = port->device.devfn >> 3;
		char card[32];

		/* An absolute path of four names. */
		snprintf(card, sizeof(card), "\\\x2f\x04_SB_PCI0SL%02XCARD", slot);
		add_notification(aml, 1U << slot, card, 3 /* eject request: 5.6.6 */);
	}
	aml_close(aml, method);
	aml_close(aml, device);
}

static uint64_t add_dsdt(struct builder *b, const struct acpi_machine *machine)
{
	size_t start = open_table(b, "DSDT", 2), scope, sleep;
	const struct pci_root *pci = machine->pci;
	struct aml *aml = &b->out;

	scope = aml_open_scope(aml, "\\_SB_");
	aml_port(aml, "EVRG", "EVNT", EVENTS_PORT);
	add_host_bridge(aml, pci);
	add_motherboard(aml, pci);
	add_serial(aml);
	add_rtc(aml);
	add_panic(aml);
	if (machine->keyboard)
		add_keyboard(aml);
	if (machine->tpm)
		add_tpm(aml);
	add_events(aml, pci);
	aml_close(aml, scope);
	aml_name(aml, "\\_S5_");
	sleep = aml_open_package(aml, 4);
	for (unsigned i = 0; i < 4; i++)
		aml_integer(aml, i < 2 ? POWER_SLEEP_TYPE_OFF : 0);
	aml_close(aml, sleep);
	return close_table(b, start);
}

static struct generic_address port(uint16_t address)
{
	return (struct generic_address){ .space = 1, .bits = 8, .access = 1, .address = address };
}

/* The firmware's and the system's common memory, of which nobody needs anything; without it there is no such platform. */
static uint64_t add_facs(struct builder *b)
{
	const struct facs facs = { .signature = "FACS", .length = sizeof(facs), .version = 2 };

	align_table(b);
	aml_bytes(&b->out, &facs, sizeof(facs));
	return b->gpa + b->out.size - sizeof(facs);
}

/* In place of the sleep registers (4.8.3.1 to 4.8.3.3), and the pointers of ACPI 1.0. */
static void set_fixed_hardware(struct fadt *fadt, uint16_t pm_base, uint64_t facs)
{
	fadt->firmware_ctrl = facs;
	fadt->dsdt = fadt->x_dsdt;
	fadt->flags = (fadt->flags & ~FADT_HW_REDUCED) | FADT_NO_RTC_WAKE;
	fadt->sci_int = LAYOUT_GSI_SCI;
	fadt->pm1a_evt_blk = pm_base + LPC_PM1_EVENTS;
	fadt->pm1_evt_len = 4;
	fadt->pm1a_cnt_blk = pm_base + LPC_PM1_CONTROL;
	fadt->pm1_cnt_len = 2;
	fadt->pm_tmr_blk = pm_base + LPC_PM_TIMER;
	fadt->pm_tmr_len = 4;
	fadt->sleep_control_reg = fadt->sleep_status_reg = (struct generic_address){ 0 };
}

static uint64_t add_fadt(struct builder *b, uint64_t dsdt, const struct acpi_machine *machine)
{
	uint64_t facs = b->pm_base ? add_facs(b) : 0;
	size_t start = open_table(b, "FACP", 6);
	struct fadt fadt = {
		.p_lvl2_lat = 0xfff, /* no C2, no C3 */
		.p_lvl3_lat = 0xfff,
		.century = RTC_CENTURY,
		/* Who starts without firmware has no VGA; else it may be a passed card's. */
		.iapc_boot_arch = BOOT_LEGACY_DEVS | (machine->keyboard ? BOOT_8042 : 0) |
				  (b->links ? 0 : BOOT_NO_VGA) | BOOT_NO_ASPM,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_BUTTONS | FADT_RESET_REG |
			 FADT_HW_REDUCED,
		.reset_reg = port(POWER_RESET_PORT),
		.reset_value = POWER_RESET_VALUE,
		.minor_version = 4,
		.x_dsdt = dsdt,
		.sleep_control_reg = port(POWER_SLEEP_PORT),
		.sleep_status_reg = port(POWER_SLEEP_PORT + 1),
	};

	if (!machine->cpus->hidden)
		memcpy(&fadt.hypervisor_id, "PENSTOCK", 8);
	note_pointer(b, start + offsetof(struct fadt, x_dsdt), 8);
	if (b->pm_base) {
		set_fixed_hardware(&fadt, b->pm_base, facs);
		note_pointer(b, start + offsetof(struct fadt, firmware_ctrl), 4);
		note_pointer(b, start + offsetof(struct fadt, dsdt), 4);
	}
	aml_bytes(&b->out, &fadt.header + 1, sizeof(fadt) - sizeof(fadt.header));
	return close_table(b, start);
}

static uint64_t add_madt(struct builder *b, const struct kvm_cpus *cpus)
{
	size_t start = open_table(b, "APIC", 5);
	struct madt_ioapic ioapic = { 1, sizeof(ioapic), 0, 0, LAYOUT_IOAPIC, 0 };
	/* The 8254's IRQ 0 is wired to pin 2. */
	struct madt_override timer = { 2, sizeof(timer), 0, 0, 2, 0 };
	struct madt_nmi nmi = { 4, sizeof(nmi), 0xff, 0, 1 };
	uint32_t head[2] = { LAYOUT_LOCAL_APIC, 1 /* there are 8259s as well */ };

	aml_bytes(&b->out, head, sizeof(head));
	for (unsigned i = 0; i < cpus->count; i++) {
		struct madt_local_apic cpu = { 0, sizeof(cpu), i, kvm_cpus_apic_id(cpus, i), 1 };

		aml_bytes(&b->out, &cpu, sizeof(cpu));
	}
	aml_bytes(&b->out, &ioapic, sizeof(ioapic));
	aml_bytes(&b->out, &timer, sizeof(timer));
	aml_bytes(&b->out, &nmi, sizeof(nmi));
	return close_table(b, start);
}

/*
 * One node with all CPUs and all RAM (5.2.16). Linux on an AMD CPU that finds no such table looks for
 * the processors' own at 32 PCI slots.
 */
static uint64_t add_srat(
	struct builder *b, const struct memory *memory, const struct kvm_cpus *cpus)
{
	size_t start = open_table(b, "SRAT", 3);
	const uint32_t head[3] = { 1 };

	aml_bytes(&b->out, head, sizeof(head));
	for (unsigned i = 0; i < cpus->count; i++) {
		struct srat_cpu cpu = {
			.length = sizeof(cpu),
			.apic_id = kvm_cpus_apic_id(cpus, i),
			.flags = 1,
		};

		aml_bytes(&b->out, &cpu, sizeof(cpu));
	}
	for (unsigned i = 0; i < memory->count; i++) {
		struct srat_memory region = {
			.type = 1,
			.length = sizeof(region),
			.base = memory->regions[i].gpa,
			.size = memory->regions[i].size,
			.flags = 1,
		};

		aml_bytes(&b->out, &region, sizeof(region));
	}
	return close_table(b, start);
}

static uint64_t add_mcfg(struct builder *b, const struct pci_root *pci)
{
	size_t start = open_table(b, "MCFG", 1);
	struct mcfg mcfg = { .base = pci->ecam, .last_bus = pci->buses - 1 };

	aml_bytes(&b->out, &mcfg, sizeof(mcfg));
	return close_table(b, start);
}

static uint64_t add_tpm2(struct builder *b, bool log)
{
	size_t start = open_table(b, "TPM2", 4);
	struct tpm2 tpm2 = {
		.control_area = TPM_BASE + TPM_CONTROL,
		.start_method = TPM2_START_CRB,
		.log_size = ACPI_TPM_LOG_SIZE,
	};

	if (log)
		b->links->tpm_log = b->out.size + offsetof(struct tpm2, log);
	aml_bytes(&b->out, &tpm2, log ? sizeof(tpm2) : offsetof(struct tpm2, log_size));
	return close_table(b, start);
}

/* Microsoft's Windows ACPI Emulated Devices Table, 1.0: one read of the timer is enough, where Windows takes three. */
static uint64_t add_waet(struct builder *b)
{
	size_t start = open_table(b, "WAET", 1);
	const uint32_t flags = WAET_PM_TIMER_GOOD;

	aml_bytes(&b->out, &flags, sizeof(flags));
	return close_table(b, start);
}

/* RSDT or XSDT: one pointer of so many bytes behind the other. */
static uint64_t add_root(struct builder *b, const char *signature, uint8_t size,
	const uint64_t *tables, unsigned count)
{
	size_t start = open_table(b, signature, 1);

	for (unsigned i = 0; i < count; i++) {
		note_pointer(b, b->out.size, size);
		aml_bytes(&b->out, &tables[i], size);
	}
	return close_table(b, start);
}

static uint64_t add_rsdp(struct builder *b, uint32_t rsdt, uint64_t xsdt)
{
	struct rsdp rsdp = {
		.signature = "RSD PTR ",
		.oem_id = OEM_ID,
		.revision = 2,
		.rsdt = rsdt,
		.length = sizeof(rsdp),
		.xsdt = xsdt,
	};

	if (!b->links) {
		rsdp.checksum = checksum(&rsdp, ACPI_RSDP_FIRST);
		rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	}
	align_table(b);
	aml_bytes(&b->out, &rsdp, sizeof(rsdp));
	return b->gpa + b->out.size - sizeof(rsdp);
}

/* Returns the GPA of the RSDP, which is the last. */
static uint64_t add_tables(struct builder *b, const struct acpi_machine *machine)
{
	const struct kvm_cpus *cpus = machine->cpus;
	uint64_t tables[6], rsdt = 0;
	unsigned count = 0;

	tables[count++] = add_fadt(b, add_dsdt(b, machine), machine);
	tables[count++] = add_madt(b, cpus);
	tables[count++] = add_mcfg(b, machine->pci);
	tables[count++] = add_srat(b, machine->memory, cpus);
	if (machine->tpm)
		tables[count++] = add_tpm2(b, b->links && machine->tpm_log);
	if (b->pm_base) {
		tables[count++] = add_waet(b);
		rsdt = add_root(b, "RSDT", 4, tables, count);
		b->links->has_rsdt = true;
	}
	return add_rsdp(b, rsdt, add_root(b, "XSDT", 8, tables, count));
}

int acpi_write(const struct acpi_machine *machine, uint64_t *rsdp, struct error *err)
{
	struct builder b = {
		.out = {
			.bytes = memory_at(machine->memory, LAYOUT_ACPI, LAYOUT_ACPI_SIZE),
			.room = LAYOUT_ACPI_SIZE,
		},
		.gpa = LAYOUT_ACPI,
	};

	if (!b.out.bytes)
		return error_set(err, -ENOSPC, NULL, "no room for the ACPI tables in guest RAM");
	*rsdp = add_tables(&b, machine);
	if (b.out.overflow)
		return error_set(err, -ENOSPC, NULL, "the ACPI tables are too long");
	return 0;
}

bool acpi_write_unplaced(
	uint8_t *bytes, size_t room, const struct acpi_machine *machine, struct acpi_links *links)
{
	struct builder b = {
		.out = { .bytes = bytes, .room = room },
		.pm_base = machine->pm_base,
		.links = links,
	};

	*links = (struct acpi_links){ 0 };
	links->rsdp = add_tables(&b, machine);
	return !b.out.overflow;
}

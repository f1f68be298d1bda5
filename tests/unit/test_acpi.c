/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "machine/layout.h"
#include "machine/platform/acpi.h"
#include "machine/platform/acpi_loader.h"
#include "machine/platform/aml.h"
#include "machine/platform/power.h"
#include "machine/platform/rtc.h"
#include "pci/port.h"
#include "test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSES 3

/* The tables, read by the offsets of ACPI 6.4 as a system would. */
struct fixture {
	struct memory memory;
	struct space mmio, pio;
	struct pci_root pci;
	struct pci_port port; /* in slot 2 */
	bool tpm, tpm_log, keyboard;
	uint64_t rsdp;
	char directory[32]; /* for files of a test; empty: none */
};

static int setup(void **state)
{
	static const struct pci_windows windows = {
		.io = { LAYOUT_IO_BASE, LAYOUT_IO_SIZE, LAYOUT_IO_BASE },
		.mem32 = { LAYOUT_MEM32_BASE, LAYOUT_MEM32_SIZE, LAYOUT_MEM32_BASE },
		.mem64 = { 1ULL << 45, 1ULL << 45, 1ULL << 45 },
	};
	static struct fixture fixture;
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	pci_root_init(
		&fixture.pci, &fixture.mmio, &fixture.pio, LAYOUT_ECAM, BUSES, &windows, &err);
	fixture.pci.has_ports = true;
	pci_port_init(&fixture.port, 1, 1, &windows);
	pci_bridge_add(&fixture.pci.bus, &fixture.port.bridge, 2 << 3, &err);
	memory_place(&fixture.memory, 16 * MIB, MEMORY_PAGE, NULL, 0, &err);
	memory_map(&fixture.memory, memory_file(fixture.memory.size, 0), MEMORY_HUGE, &err);
	*state = &fixture;
	return err.code;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->directory[0])
		nftw(fixture->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	memory_free(&fixture->memory);
	pci_port_destroy(&fixture->port);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	return 0;
}

static struct acpi_machine machine_of(const struct fixture *fixture, const struct kvm_cpus *cpus)
{
	return (struct acpi_machine){
		.memory = &fixture->memory,
		.pci = &fixture->pci,
		.cpus = cpus,
		.tpm = fixture->tpm,
		.tpm_log = fixture->tpm_log,
		.keyboard = fixture->keyboard,
	};
}

static void write_tables_of(struct fixture *fixture, const struct kvm_cpus *cpus)
{
	struct acpi_machine machine = machine_of(fixture, cpus);
	struct error err = { 0 };

	assert_int_equal(acpi_write(&machine, &fixture->rsdp, &err), 0);
}

static void write_tables(struct fixture *fixture, unsigned cpus)
{
	write_tables_of(fixture, &KVM_CPUS(cpus));
}

static uint64_t field(const uint8_t *table, unsigned offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, table + offset, size);
	return value;
}

static void assert_checksum(const uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += bytes[i];
	assert_int_equal(sum, 0);
}

static const uint8_t *at(struct fixture *fixture, uint64_t gpa, uint64_t size)
{
	const uint8_t *found = memory_at(&fixture->memory, gpa, size);

	/* Where the memory map says that no RAM is to be used. */
	assert_true(gpa >= LAYOUT_ACPI && gpa + size <= LAYOUT_1M);
	assert_non_null(found);
	return found;
}

/* A table with its signature, length and checksum looked at. */
static const uint8_t *table_at(struct fixture *fixture, uint64_t gpa, const char *signature)
{
	const uint8_t *table = at(fixture, gpa, 36);
	uint32_t length = field(table, 4, 4);

	assert_memory_equal(table, signature, 4);
	assert_true(length >= 36);
	assert_checksum(at(fixture, gpa, length), length);
	return table;
}

static const uint8_t *root(struct fixture *fixture)
{
	const uint8_t *rsdp = at(fixture, fixture->rsdp, 36);

	return table_at(fixture, field(rsdp, 24, 8), "XSDT");
}

/* The table with this signature that the root names. */
static const uint8_t *find(struct fixture *fixture, const char *signature)
{
	const uint8_t *xsdt = root(fixture);

	for (unsigned i = 36; i < field(xsdt, 4, 4); i += 8) {
		uint64_t gpa = field(xsdt, i, 8);

		if (memcmp(at(fixture, gpa, 4), signature, 4) == 0)
			return table_at(fixture, gpa, signature);
	}
	fail_msg("there is no %s", signature);
	return NULL;
}

static void the_root_is_where_a_system_looks(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *rsdp;

	write_tables(fixture, 1);
	rsdp = at(fixture, fixture->rsdp, 36);
	assert_int_equal(fixture->rsdp % 16, 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_checksum(rsdp, 20);
	assert_checksum(rsdp, 36);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(field(rsdp, 20, 4), 36);
	root(fixture);
}

static void the_platform_is_hardware_reduced(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *fadt;

	write_tables(fixture, 1);
	fadt = find(fixture, "FACP");
	assert_int_equal(field(fadt, 4, 4), 276);
	/* No PM1 registers, no PM timer. */
	for (unsigned offset = 56; offset < 88; offset += 4)
		assert_int_equal(field(fadt, offset, 4), 0);
	assert_int_equal(fadt[108], RTC_CENTURY);
	/* No C2, no C3. */
	assert_int_equal(field(fadt, 96, 4), 0xfff0fff);
	/* Legacy devices, no VGA, no ASPM; WBINVD works, and so does C1. */
	assert_int_equal(field(fadt, 109, 2), 1 << 0 | 1 << 2 | 1 << 4);
	assert_int_equal(field(fadt, 112, 4) & 0xf, 1 << 0 | 1 << 2);
	/* Neither button is fixed hardware (bits 4 and 5), there is a reset register (10). */
	assert_int_equal(
		field(fadt, 112, 4) & (3 << 4 | 1 << 10 | 1 << 20), 3 << 4 | 1 << 10 | 1 << 20);
	/* The reset register: one byte at port CF9, 6. */
	assert_int_equal(field(fadt, 116, 4), 0x01000801);
	assert_int_equal(field(fadt, 120, 8), POWER_RESET_PORT);
	assert_int_equal(fadt[128], POWER_RESET_VALUE);
	/* Sleep control and status: a byte each. */
	assert_int_equal(field(fadt, 244, 4), 0x01000801);
	assert_int_equal(field(fadt, 248, 8), POWER_SLEEP_PORT);
	assert_int_equal(field(fadt, 260, 8), POWER_SLEEP_PORT + 1);
	table_at(fixture, field(fadt, 140, 8), "DSDT");
}

/* Each structure of the MADT: how many of a type, and the last of them. */
static unsigned count_of(const uint8_t *madt, uint8_t type, const uint8_t **last)
{
	unsigned end = field(madt, 4, 4), count = 0, i;

	for (i = 44; i < end; i += madt[i + 1]) {
		assert_true(madt[i + 1] >= 2);
		if (madt[i] != type)
			continue;
		*last = madt + i;
		count++;
	}
	assert_int_equal(i, end);
	return count;
}

static void every_cpu_is_listed(void **state)
{
	static const unsigned counts[] = { 1, 2, 64 };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		const uint8_t *madt, *last;

		write_tables(fixture, counts[i]);
		madt = find(fixture, "APIC");
		assert_int_equal(field(madt, 36, 4), LAYOUT_LOCAL_APIC);
		assert_int_equal(field(madt, 40, 4), 1); /* 8259s */
		assert_int_equal(count_of(madt, 0, &last), counts[i]);
		assert_int_equal(last[2], counts[i] - 1); /* as the DSDT would number it */
		assert_int_equal(last[3], counts[i] - 1); /* APIC ID */
		assert_int_equal(last[4], 1);             /* enabled */
		assert_int_equal(count_of(madt, 1, &last), 1);
		assert_int_equal(field(last, 4, 4), LAYOUT_IOAPIC);
		assert_int_equal(field(last, 8, 4), 0);
		assert_int_equal(count_of(madt, 2, &last), 1);
		assert_int_equal(last[3], 0); /* the timer's line is pin 2 */
		assert_int_equal(field(last, 4, 4), 2);
		/* NMIs arrive at LINT1 of all. */
		assert_int_equal(count_of(madt, 4, &last), 1);
		assert_int_equal(last[2], 0xff);
		assert_int_equal(field(last, 3, 2), 0);
		assert_int_equal(last[5], 1);
	}
}

static void ecam_is_told(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *mcfg;

	write_tables(fixture, 1);
	mcfg = find(fixture, "MCFG");
	assert_int_equal(field(mcfg, 4, 4), 60);
	assert_int_equal(field(mcfg, 44, 8), LAYOUT_ECAM);
	assert_int_equal(field(mcfg, 52, 2), 0);
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], BUSES - 1);
}

static void all_memory_and_cpus_are_one_node(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *srat;

	write_tables(fixture, 2);
	srat = find(fixture, "SRAT");
	assert_int_equal(field(srat, 4, 4), 48 + 2 * 16 + 40);
	assert_int_equal(field(srat, 36, 4), 1); /* 5.2.16: reserved to be 1 */
	assert_int_equal(field(srat, 48 + 16, 2), 16 << 8 | 0);
	assert_int_equal(srat[48 + 16 + 3], 1); /* the second CPU's APIC ID */
	assert_int_equal(field(srat, 48 + 4, 4), 1);
	assert_int_equal(field(srat, 48 + 16 + 4, 4), 1);
	assert_int_equal(field(srat, 48 + 32 + 28, 4), 1); /* each of them enabled */
	assert_int_equal(field(srat, 48 + 32, 2), 40 << 8 | 1);
	assert_int_equal(field(srat, 48 + 32 + 8, 8), 0);
	assert_int_equal(field(srat, 48 + 32 + 16, 8), 16 * MIB);
}

/* 5.2.9: the hypervisor's vendor, at 268 of the FADT. */
static void a_hypervisor_that_hides_is_not_named(void **state)
{
	struct fixture *fixture = *state;
	struct kvm_cpus cpus = KVM_CPUS(1);

	write_tables_of(fixture, &cpus);
	assert_memory_equal(find(fixture, "FACP") + 268, "PENSTOCK", 8);
	cpus.hidden = true;
	write_tables_of(fixture, &cpus);
	assert_int_equal(field(find(fixture, "FACP"), 268, 8), 0);
}

/* Of three cores with two threads each, IDs have a bit for the thread and two for the core. */
static void ids_are_those_of_the_topology(void **state)
{
	const struct kvm_cpus cpus = { .count = 12, .cores = 3, .threads = 2 };
	struct fixture *fixture = *state;
	const uint8_t *madt, *srat;

	write_tables_of(fixture, &cpus);
	madt = find(fixture, "APIC");
	srat = find(fixture, "SRAT");
	for (unsigned i = 0; i < 12; i++) {
		unsigned id = i / 6 << 3 | i % 6;

		assert_int_equal(madt[44 + 8 * i + 2], i);
		assert_int_equal(madt[44 + 8 * i + 3], id);
		assert_int_equal(srat[48 + 16 * i + 3], id);
	}
}

/* TCG ACPI Specification 1.4, 7; and the addresses that Linux looks for in _CRS. */
static void a_tpm_is_told_of_where_there_is_one(void **state)
{
	static const uint8_t memory[] = { 0x86, 9, 0, 1, 0, 0, 0xd4, 0xfe, 0, 0x10, 0, 0 };
	struct fixture *fixture = *state;
	const uint8_t *tpm2, *dsdt;

	write_tables(fixture, 1);
	dsdt = table_at(fixture, field(find(fixture, "FACP"), 140, 8), "DSDT");
	assert_null(memmem(dsdt, field(dsdt, 4, 4), "MSFT0101", 8));
	fixture->tpm = true;
	write_tables(fixture, 1);
	tpm2 = find(fixture, "TPM2");
	assert_int_equal(field(tpm2, 4, 4), 64);
	assert_int_equal(field(tpm2, 36, 2), 0);
	assert_int_equal(field(tpm2, 40, 8), 0xfed40040);
	assert_int_equal(field(tpm2, 48, 4), 7);
	dsdt = table_at(fixture, field(find(fixture, "FACP"), 140, 8), "DSDT");
	assert_non_null(memmem(dsdt, field(dsdt, 4, 4), "MSFT0101", 8));
	assert_non_null(memmem(dsdt, field(dsdt, 4, 4), memory, sizeof(memory)));
}

/* PNP0303 and PNP0F13 as EISA IDs (19.3.4), and the bit of 5.2.9.3 without which Linux looks for no 8042. */
static void a_keyboard_is_told_of_where_there_is_one(void **state)
{
	static const uint8_t keyboard[] = { 0x41, 0xd0, 0x03, 0x03 },
			     mouse[] = { 0x41, 0xd0, 0x0f, 0x13 };
	struct fixture *fixture = *state;
	const uint8_t *dsdt;

	for (unsigned i = 0; i < 2; i++) {
		fixture->keyboard = i;
		write_tables(fixture, 1);
		dsdt = table_at(fixture, field(find(fixture, "FACP"), 140, 8), "DSDT");
		assert_int_equal(field(find(fixture, "FACP"), 109, 2) >> 1 & 1, i);
		assert_int_equal(!!memmem(dsdt, field(dsdt, 4, 4), keyboard, 4), i);
		assert_int_equal(!!memmem(dsdt, field(dsdt, 4, 4), mouse, 4), i);
	}
}

static void tables_without_room_are_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_machine machine = machine_of(fixture, &KVM_CPUS(1));
	const uint64_t end = LAYOUT_ACPI + LAYOUT_ACPI_SIZE;
	struct error err = { 0 };

	fixture->memory.regions[0].size = LAYOUT_ACPI + LAYOUT_ACPI_SIZE - 1;
	assert_int_equal(acpi_write(&machine, &fixture->rsdp, &err), -ENOSPC);
	fixture->memory.regions[0].size = 16 * MIB;
	/* As many CPUs as no machine has: the tables must not run out of their room. */
	memset(&err, 0, sizeof(err));
	memset(memory_at(&fixture->memory, end, 4096), 0x5a, 4096);
	machine.cpus = &KVM_CPUS(100000);
	assert_int_equal(acpi_write(&machine, &fixture->rsdp, &err), -ENOSPC);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(*(uint8_t *)memory_at(&fixture->memory, end + i, 1), 0x5a);
}

/* Firmware's part: what it has loaded of each file, and where that is in guest RAM. */
#define RSDP_AT (LAYOUT_ACPI + 0xf000)
#define LOG_AT  0x800000ULL

static uint64_t file_at(const uint8_t *name)
{
	if (strcmp((const char *)name, ACPI_LOADER_RSDP) == 0)
		return RSDP_AT;
	if (strcmp((const char *)name, ACPI_LOADER_LOG) == 0)
		return LOG_AT;
	assert_string_equal(name, ACPI_LOADER_TABLES);
	return LAYOUT_ACPI;
}

static void obey(struct fixture *fixture, const uint8_t *command)
{
	uint32_t kind = field(command, 0, 4);
	const uint8_t *first = command + 4;
	uint8_t *to, sum = 0;

	if (kind == 1) {
		/* A power of two; the RSDP where a BIOS has it. */
		assert_int_equal(field(first, 56, 4), file_at(first) == RSDP_AT ? 16 : 64);
		assert_int_equal(first[60], file_at(first) == RSDP_AT ? 2 : 1);
	} else if (kind == 2) {
		uint64_t value = file_at(first + 56);

		assert_true(first[116] == 8 || first[116] == 4);
		to = memory_at(&fixture->memory, file_at(first) + field(first, 112, 4), first[116]);
		value += field(to, 0, first[116]);
		memcpy(to, &value, first[116]);
	} else if (kind == 3) {
		const uint8_t *from =
			at(fixture, file_at(first) + field(first, 60, 4), field(first, 64, 4));

		to = memory_at(&fixture->memory, file_at(first) + field(first, 56, 4), 1);
		assert_int_equal(*to, 0);
		for (unsigned i = 0; i < field(first, 64, 4); i++)
			sum -= from[i];
		*to = sum;
	} else {
		assert_int_equal(kind, 0);
	}
}

/* As firmware does it, from files that know no address. */
static void load_tables_for(struct fixture *fixture, uint16_t pm_base)
{
	static uint8_t bytes[0xf000];
	struct acpi_loader_command script[ACPI_LOADER_COMMANDS];
	struct acpi_machine machine = machine_of(fixture, &KVM_CPUS(2));
	struct acpi_links links;

	machine.pm_base = pm_base;
	memset(bytes, 0, sizeof(bytes));
	assert_true(acpi_write_unplaced(bytes, sizeof(bytes), &machine, &links));
	acpi_loader_write(script, &links);
	memcpy(memory_at(&fixture->memory, LAYOUT_ACPI, sizeof(bytes)), bytes, sizeof(bytes));
	memcpy(memory_at(&fixture->memory, RSDP_AT, ACPI_RSDP_SIZE), bytes + links.rsdp,
		ACPI_RSDP_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(script); i++)
		obey(fixture, script[i].bytes);
	fixture->rsdp = RSDP_AT;
}

static void load_tables(struct fixture *fixture)
{
	load_tables_for(fixture, 0);
}

static void firmware_finds_a_place_for_the_tables(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *rsdp, *fadt;

	load_tables(fixture);
	rsdp = at(fixture, RSDP_AT, 36);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_checksum(rsdp, 20);
	assert_checksum(rsdp, 36);
	fadt = find(fixture, "FACP");
	table_at(fixture, field(fadt, 140, 8), "DSDT");
	assert_int_equal(field(fadt, 109, 2) & 4, 0); /* there may be a VGA */
	assert_int_equal(field(find(fixture, "APIC"), 4, 4), 36 + 8 + 2 * 8 + 12 + 10 + 6);
	find(fixture, "MCFG");
	find(fixture, "SRAT");
}

/* A BIOS starts a TPM only where it has a log for it; a kernel that is started directly has none to read. */
static void a_bios_is_given_a_log_for_the_tpm(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *tpm2;

	fixture->tpm = fixture->tpm_log = true;
	load_tables_for(fixture, 0x600);
	tpm2 = find(fixture, "TPM2");
	assert_int_equal(field(tpm2, 4, 4), 76);
	assert_int_equal(field(tpm2, 64, 4), 0x10000);
	assert_int_equal(field(tpm2, 68, 8), LOG_AT);
	fixture->tpm_log = false;
	load_tables_for(fixture, 0x600);
	assert_int_equal(field(find(fixture, "TPM2"), 4, 4), 64);
	fixture->tpm_log = true;
	write_tables(fixture, 1);
	assert_int_equal(field(find(fixture, "TPM2"), 4, 4), 64);
}

static void tables_for_firmware_need_room_too(void **state)
{
	struct fixture *fixture = *state;
	uint8_t bytes[1024];
	struct acpi_machine machine = machine_of(fixture, &KVM_CPUS(2));
	struct acpi_links links;

	machine.pm_base = 0x600;
	for (unsigned room = 0; room < sizeof(bytes); room++)
		assert_false(acpi_write_unplaced(bytes, room, &machine, &links));
}

/* A BIOS leaves 8259s and 8254 at work, which a system only takes over where the platform is not reduced. */
static void behind_a_bios_the_hardware_is_told_of(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *fadt, *facs, *rsdt;

	load_tables_for(fixture, 0x600);
	fadt = find(fixture, "FACP");
	/* Old loaders know 32-bit addresses alone. */
	rsdt = table_at(fixture, field(at(fixture, RSDP_AT, 36), 16, 4), "RSDT");
	assert_checksum(at(fixture, RSDP_AT, 20), 20);
	assert_checksum(at(fixture, RSDP_AT, 36), 36);
	assert_int_equal(field(rsdt, 4, 4), 36 + 5 * 4);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(field(rsdt, 36 + 4 * i, 4), field(root(fixture), 36 + 8 * i, 8));
	assert_int_equal(field(fadt, 40, 4), field(fadt, 140, 8));
	assert_int_equal(field(fadt, 112, 4) & 1 << 20, 0);
	/* Neither button is fixed hardware, and the clock wakes nobody. */
	assert_int_equal(field(fadt, 112, 4) & (7 << 4 | 1 << 10), 7 << 4 | 1 << 10);
	assert_int_equal(field(fadt, 46, 2), LAYOUT_GSI_SCI);
	assert_int_equal(field(fadt, 48, 4), 0); /* always ACPI's */
	assert_int_equal(field(fadt, 56, 4), 0x600);
	assert_int_equal(field(fadt, 64, 4), 0x604);
	assert_int_equal(field(fadt, 76, 4), 0x608);
	assert_int_equal(field(fadt, 88, 4), 0x04000204);
	for (unsigned offset = 244; offset < 268; offset += 4)
		assert_int_equal(field(fadt, offset, 4), 0);
	table_at(fixture, field(fadt, 140, 8), "DSDT");
	facs = at(fixture, field(fadt, 36, 4), 64);
	assert_int_equal(field(fadt, 36, 4) % 64, 0);
	assert_int_equal(field(fadt, 132, 8), 0); /* one address of it is enough */
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(field(facs, 4, 4), 64);
	assert_int_equal(facs[32], 2);
	/* Microsoft's WAET 1.0: the timer is read once. */
	assert_int_equal(field(find(fixture, "WAET"), 4, 4), 40);
	assert_int_equal(field(find(fixture, "WAET"), 36, 4), 2);
}

/* The compiler of ACPI's own project reads it back. */

static int run(const struct fixture *fixture, const char *command)
{
	cleanup_free char *line = NULL;

	assert_true(asprintf(&line, "cd %s && %s >log 2>&1 </dev/null", fixture->directory,
			    command) > 0);
	return system(line);
}

static void write_dsdt(struct fixture *fixture)
{
	const uint8_t *fadt = find(fixture, "FACP");
	const uint8_t *dsdt = table_at(fixture, field(fadt, 140, 8), "DSDT");
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/dsdt.aml", fixture->directory);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(dsdt, field(dsdt, 4, 4), 1, file), 1);
	fclose(file);
}

static void save_dsdt(struct fixture *fixture)
{
	strcpy(fixture->directory, "/tmp/penstock-acpi-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	write_dsdt(fixture);
}

/* Without white space and comments. */
static void squeeze(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++)
		if (strncmp(from, "//", 2) == 0)
			from += strcspn(from, "\n") - 1;
		else if (strncmp(from, "/*", 2) == 0 && strstr(from, "*/"))
			from = strstr(from, "*/") + 1;
		else if (!strchr(" \n\r\t", *from))
			*to++ = *from;
	*to = '\0';
}

/* Each pin of each slot, as disassembled (6.2.13): all functions, the pin from 0, no link, the GSI. */
static void assert_routing(const char *text)
{
	static const char *const pins[] = { "Zero", "One", "0x02", "0x03" };
	const char *at = strstr(text, "Name(_PRT,Package(0x80){");

	assert_non_null(at);
	at = strchr(at, '{') + 1;
	for (unsigned i = 0; i < 32 * 4; i++) {
		char expected[64];
		int length = snprintf(expected, sizeof(expected),
			i < 4 ? "Package(0x04){0x%04X,%s,Zero,0x%02X}"
			      : "Package(0x04){0x%08X,%s,Zero,0x%02X}",
			i / 4 << 16 | 0xffff, pins[i % 4], layout_pci_gsi(i / 4, i % 4 + 1));

		if (strncmp(at, expected, length))
			fail_msg("route %u is no %s: %.40s", i, expected, at);
		at += length + 1; /* a comma, or the end */
	}
}

static void the_dsdt_disassembles_and_compiles(void **state)
{
	/* Squeezed. */
	static const char *const lines[] = {
		"Scope(\\_SB){OperationRegion(",
		"Device(PCI0){",
		"Name(_HID,EisaId(\"PNP0A08\"))",
		"Name(_CID,EisaId(\"PNP0A03\"))",
		"Name(_UID,Zero)Name(_SEG,Zero)Name(_BBN,Zero)",
		"Method(_OSC,4,NotSerialized){Local0=DerefOf(Arg3[0x08])If((Local0&0x04)){"
		"Arg3[0x08]=(DerefOf(Arg3[0x08])&0xFB)"
		"Arg3[Zero]=(DerefOf(Arg3[Zero])|0x10)}Return(Arg3)}",
		/* What is in slot 2, behind its port. */
		"Device(SL02){Name(_ADR,0x00020000)Device(CARD){Name(_ADR,Zero)"
		"Method(_EJ0,1,NotSerialized){EVNT=0x04}}}}",
		"OperationRegion(EVRG,SystemIO,0x0684,0x04)"
		"Field(EVRG,DWordAcc,NoLock,Preserve){EVNT,32}",
		/* The windows: granularity, minimum, maximum, translation, length. */
		"WordBusNumber(ResourceProducer,MinFixed,MaxFixed,PosDecode,"
		"0x0000,0x0000,0x0002,0x0000,0x0003,,,)",
		"PosDecode,EntireRange,0x0000,0x0000,0x0CF7,0x0000,0x0CF8,",
		"PosDecode,EntireRange,0x0000,0x6000,0xFFFF,0x0000,0xA000,",
		"ReadWrite,0x00000000,0x80000000,0xDFFFFFFF,0x00000000,0x60000000,",
		"ReadWrite,0x0000000000000000,0x0000200000000000,0x00003FFFFFFFFFFF,"
		"0x0000000000000000,0x0000200000000000,",
		/* Ports: minimum, maximum, alignment, length. */
		"IO(Decode16,0x0CF8,0x0CF8,0x01,0x08,)",
		"Device(MBRD){Name(_HID,EisaId(\"PNP0C02\"))Name(_UID,Zero)Name(_CRS,"
		"ResourceTemplate(){Memory32Fixed(ReadWrite,0xE0000000,0x00300000,)"
		"IO(Decode16,0x0680,0x0680,0x01,0x02,)IO(Decode16,0x0684,0x0684,0x01,0x04,)})}",
		"Device(COM1){Name(_HID,EisaId(\"PNP0501\"))Name(_UID,Zero)Name(_CRS,"
		"ResourceTemplate(){IO(Decode16,0x03F8,0x03F8,0x01,0x08,)"
		"Interrupt(ResourceConsumer,Edge,ActiveHigh,Exclusive,,,){0x00000004,}})}",
		"Name(_HID,EisaId(\"PNP0B00\"))Name(_CRS,ResourceTemplate(){"
		"IO(Decode16,0x0070,0x0070,0x01,0x02,)})}",
		"Device(PEVT){Name(_HID,\"QEMU0001\")Name(_CRS,ResourceTemplate(){"
		"IO(Decode16,0x0505,0x0505,0x01,0x01,)})}",
		"Device(PWRB){Name(_HID,EisaId(\"PNP0C0C\"))}",
		"Name(_HID,\"ACPI0013\")Name(_CRS,ResourceTemplate(){"
		"Interrupt(ResourceConsumer,Edge,ActiveHigh,Exclusive,,,){0x00000009,}})"
		"Method(_EVT,1,NotSerialized){Local0=EVNT"
		"If((Local0&One)){Notify(PWRB,0x80)}"
		"If((Local0&0x04)){Notify(\\_SB.PCI0.SL02.CARD,0x03)}}}",
		"Name(\\_S5,Package(0x04){0x05,0x05,Zero,Zero})",
	};
	struct fixture *fixture = *state;
	static char text[64 * KIB];
	char path[64];

	if (system("iasl -v >/dev/null 2>&1")) {
		test_skip("iasl (package acpica-tools) is not installed");
	}
	write_tables(fixture, 2);
	save_dsdt(fixture);
	assert_int_equal(run(fixture, "iasl -d dsdt.aml"), 0);
	snprintf(path, sizeof(path), "%s/dsdt.dsl", fixture->directory);
	assert_true(fd_read_file(path, text, sizeof(text)) > 0);
	squeeze(text);
	assert_routing(text);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (!strstr(text, lines[i]))
			fail_msg("the disassembled DSDT lacks: %s", lines[i]);
	assert_int_equal(run(fixture, "iasl -p again dsdt.dsl"), 0);
	assert_int_equal(
		run(fixture, "{ iasl -p again dsdt.dsl | grep '0 Errors, 0 Warnings'; }"), 0);
}

/*
 * ACPI's own interpreter evaluates it: every predefined name, what resources there are, _OSC as a system asks
 * (6.2.11.3), and the events, of which a port that reads 05 has the power button's and the one of slot 2.
 */
static void the_methods_are_evaluated(void **state)
{
	static const char command[] =
		"acpiexec -r -fv 5 -b 'evaluate \\_SB.GED._EVT 9;namespace;resources;test predefined;"
		"evaluate \\_SB.PCI0._OSC (5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66)"
		" 1 3 (00 00 00 00 1F 00 00 00 1F 00 00 00)' dsdt.aml";
	static const char *const results[] = {
		"0000: 10 00 00 00 1F 00 00 00 1B 00 00 00", /* all but power management events */
		"Notify on [PWRB]",
		"Notify on [CARD]",
		"Evaluated ",
		"CARD._EJ0         returned AE_OK",
		"Namespace node count",
	};
	static const char *const complaints[] = { "Error", "Exception", "Warning", "ismatch" };
	struct fixture *fixture = *state;
	static char text[256 * KIB];
	char path[64];

	if (system("acpiexec -v >/dev/null 2>&1")) {
		test_skip("acpiexec (package acpica-tools) is not installed");
	}
	write_tables(fixture, 2);
	save_dsdt(fixture);
	assert_int_equal(run(fixture, command), 0);
	snprintf(path, sizeof(path), "%s/log", fixture->directory);
	assert_true(fd_read_file(path, text, sizeof(text)) > 0);
	for (size_t i = 0; i < ARRAY_SIZE(complaints); i++)
		if (strstr(text, complaints[i]))
			fail_msg("%.400s", strstr(text, complaints[i]));
	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		if (!strstr(text, results[i]))
			fail_msg("the interpreter does not say: %s", results[i]);
}

/* Where firmware puts ECAM there is no window, and what is left of it on both sides is two. */
static void the_windows_leave_ecam_out(void **state)
{
	static const struct {
		uint64_t ecam;
		const char *windows[2];
	} cases[] = {
		{ 0xb0000000, { "0x00000000,0x80000000,0xAFFFFFFF,0x00000000,0x30000000,",
				      "0x00000000,0xC0000000,0xFBFFFFFF,0x00000000,0x3C000000," } },
		{ 0x80000000, { "0x00000000,0x90000000,0xFBFFFFFF,0x00000000,0x6C000000,",
				      "Memory32Fixed(ReadWrite,0x80000000,0x10000000,)" } },
		{ 0x1000000000,
			{ "0x00000000,0x80000000,0xFBFFFFFF,0x00000000,0x7C000000,", "PCI0" } },
	};
	struct fixture *fixture = *state;
	static char text[64 * KIB];
	char path[64];

	if (system("iasl -v >/dev/null 2>&1")) {
		test_skip("iasl (package acpica-tools) is not installed");
	}
	fixture->pci.bus.windows.mem32.size = LAYOUT_CHIPS - LAYOUT_MEM32_BASE;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(pci_root_place_ecam(&fixture->pci, cases[i].ecam, 256));
		load_tables(fixture);
		assert_int_equal(field(find(fixture, "MCFG"), 44, 8), cases[i].ecam);
		if (i == 0)
			save_dsdt(fixture);
		write_dsdt(fixture);
		assert_int_equal(run(fixture, "iasl -d dsdt.aml"), 0);
		snprintf(path, sizeof(path), "%s/dsdt.dsl", fixture->directory);
		assert_true(fd_read_file(path, text, sizeof(text)) > 0);
		squeeze(text);
		assert_non_null(strstr(text, cases[i].windows[0]));
		assert_non_null(strstr(text, cases[i].windows[1]));
	}
}

/* ACPI's own compiler has nothing to say about it. */
static void the_hardware_is_told_of_as_it_should_be(void **state)
{
	struct fixture *fixture = *state;
	static char text[4 * KIB];
	const uint8_t *fadt;
	char path[64];
	FILE *file;

	if (system("iasl -v >/dev/null 2>&1"))
		test_skip("iasl (package acpica-tools) is not installed");
	strcpy(fixture->directory, "/tmp/penstock-acpi-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	load_tables_for(fixture, 0x600);
	fadt = find(fixture, "FACP");
	snprintf(path, sizeof(path), "%s/facp.aml", fixture->directory);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(fadt, field(fadt, 4, 4), 1, file), 1);
	fclose(file);
	assert_int_equal(run(fixture, "iasl -d facp.aml"), 0);
	assert_int_equal(run(fixture, "iasl facp.dsl"), 0);
	snprintf(path, sizeof(path), "%s/log", fixture->directory);
	assert_true(fd_read_file(path, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "0 Errors, 0 Warnings, 0 Remarks"));
}

/* AML: against bytes that the specification gives (ACPI 6.4, chapter 20). */

#define assert_aml(aml, bytes) assert_bytes(aml, (const uint8_t *)(bytes), sizeof(bytes) - 1)

static void assert_bytes(struct aml *aml, const uint8_t *bytes, size_t size)
{
	assert_false(aml->overflow);
	assert_int_equal(aml->size, size);
	assert_memory_equal(aml->bytes, bytes, size);
	aml->size = 0;
}

TEST(integers_are_as_short_as_they_can_be)
{
	uint8_t buffer[64];
	struct aml aml = { .bytes = buffer, .room = sizeof(buffer) };

	aml_integer(&aml, 0);
	assert_aml(&aml, "\x00");
	aml_integer(&aml, 1);
	assert_aml(&aml, "\x01");
	aml_integer(&aml, 2);
	assert_aml(&aml, "\x0a\x02");
	aml_integer(&aml, 0xff);
	assert_aml(&aml, "\x0a\xff");
	aml_integer(&aml, 0x100);
	assert_aml(&aml, "\x0b\x00\x01");
	aml_integer(&aml, 0xffff);
	assert_aml(&aml, "\x0b\xff\xff");
	aml_integer(&aml, 0x10000);
	assert_aml(&aml, "\x0c\x00\x00\x01\x00");
	aml_integer(&aml, 0xffffffff);
	assert_aml(&aml, "\x0c\xff\xff\xff\xff");
	aml_integer(&aml, 0x123456789);
	assert_aml(&aml, "\x0e\x89\x67\x45\x23\x01\x00\x00\x00");
}

TEST(names_come_before_what_they_name)
{
	uint8_t buffer[64];
	struct aml aml = { .bytes = buffer, .room = sizeof(buffer) };

	aml_name_integer(&aml, "_UID", 5);
	assert_aml(&aml, "\x08_UID\x0a\x05");
	aml_name_eisaid(&aml, "_HID", "PNP0A03");
	assert_aml(&aml, "\x08_HID\x0c\x41\xd0\x0a\x03");
	aml_name_eisaid(&aml, "_HID", "PNP0501");
	assert_aml(&aml, "\x08_HID\x0c\x41\xd0\x05\x01");
	aml_return_argument(&aml, 3);
	assert_aml(&aml, "\xa4\x6b");
}

/* Lengths count themselves: three bytes here, so 0x80 and a nibble, then two bytes. */
TEST(packages_know_their_length)
{
	static uint8_t buffer[5000];
	struct aml aml = { .bytes = buffer, .room = sizeof(buffer) };
	size_t outer, inner;

	outer = aml_open_package(&aml, 2);
	aml_integer(&aml, 1);
	inner = aml_open_package(&aml, 0);
	aml_close(&aml, inner);
	aml_close(&aml, outer);
	assert_aml(&aml, "\x12\x8a\x00\x00\x02\x01\x12\x84\x00\x00\x00");
	outer = aml_open_device(&aml, "COM1");
	aml_close(&aml, outer);
	assert_aml(&aml, "\x5b\x82\x87\x00\x00"
			 "COM1");
	outer = aml_open_scope(&aml, "\\_SB_");
	aml_close(&aml, outer);
	assert_aml(&aml, "\x10\x88\x00\x00\\_SB_");
	outer = aml_open_method(&aml, "_OSC", 4);
	aml_close(&aml, outer);
	assert_aml(&aml, "\x14\x88\x00\x00_OSC\x04");
	outer = aml_open_package(&aml, 0);
	for (unsigned i = 0; i < 0x1230 - 4; i++)
		aml_integer(&aml, 0);
	aml_close(&aml, outer);
	assert_memory_equal(buffer, "\x12\x80\x23\x01", 4);
}

TEST(resources_are_in_a_buffer)
{
	uint8_t buffer[512];
	struct aml aml = { .bytes = buffer, .room = sizeof(buffer) };
	struct aml_template crs = aml_open_template(&aml, "_CRS");

	aml_io(&aml, 0x3f8, 8);
	aml_interrupt(&aml, 4);
	aml_close_template(&aml, crs);
	assert_aml(&aml, "\x08_CRS\x11\x89\x01\x00\x0b\x13\x00"
			 "\x47\x01\xf8\x03\xf8\x03\x01\x08"
			 "\x89\x06\x00\x03\x01\x04\x00\x00\x00"
			 "\x79\x00");
	crs = aml_open_template(&aml, "_CRS");
	for (unsigned i = 0; i < 33; i++)
		aml_io(&aml, 0x3f8, 8);
	aml_close_template(&aml, crs);
	assert_memory_equal(buffer, "\x08_CRS\x11\x80\x11\x00\x0b\x0a\x01", 12);
	aml.size = 0;
	aml_fixed_memory(&aml, 0xe0000000, 0x100000);
	assert_aml(&aml, "\x86\x09\x00\x01\x00\x00\x00\xe0\x00\x00\x10\x00");
}

TEST(windows_have_three_widths)
{
	uint8_t buffer[128];
	struct aml aml = { .bytes = buffer, .room = sizeof(buffer) };

	aml_window(&aml, AML_BUS, 16, 0, 256);
	assert_aml(&aml, "\x88\x0d\x00\x02\x0c\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x01");
	aml_window(&aml, AML_IO, 16, 0x6000, 0xa000);
	assert_aml(&aml, "\x88\x0d\x00\x01\x0c\x03\x00\x00\x00\x60\xff\xff\x00\x00\x00\xa0");
	aml_window(&aml, AML_MEMORY, 32, 0x80000000, 0x60000000);
	assert_aml(&aml, "\x87\x17\x00\x00\x0c\x01\x00\x00\x00\x00\x00\x00\x00\x80"
			 "\xff\xff\xff\xdf\x00\x00\x00\x00\x00\x00\x00\x60");
	aml_window(&aml, AML_MEMORY, 64, 1ULL << 45, 1ULL << 45);
	assert_aml(&aml, "\x8a\x2b\x00\x00\x0c\x01"
			 "\x00\x00\x00\x00\x00\x00\x00\x00"
			 "\x00\x00\x00\x00\x00\x20\x00\x00"
			 "\xff\xff\xff\xff\xff\x3f\x00\x00"
			 "\x00\x00\x00\x00\x00\x00\x00\x00"
			 "\x00\x00\x00\x00\x00\x20\x00\x00");
}

/* At each length of the buffer: nothing is written behind it, and the overflow is told. */
TEST(a_full_buffer_drops_the_rest)
{
	uint8_t buffer[64];

	for (size_t room = 0; room < sizeof(buffer); room++) {
		struct aml aml = { .bytes = buffer, .room = room };
		struct aml_template crs;
		size_t device;

		memset(buffer, 0x5a, sizeof(buffer));
		device = aml_open_device(&aml, "COM1");
		aml_name_eisaid(&aml, "_HID", "PNP0501");
		crs = aml_open_template(&aml, "_CRS");
		aml_io(&aml, 0x3f8, 8);
		aml_interrupt(&aml, 4);
		aml_close_template(&aml, crs);
		aml_close(&aml, device);
		assert_int_equal(aml.overflow, room < 50);
		assert_true(aml.size <= room);
		for (size_t i = room; i < sizeof(buffer); i++)
			assert_int_equal(buffer[i], 0x5a);
	}
}

#define ACPI_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ACPI_TEST(the_root_is_where_a_system_looks),
		ACPI_TEST(the_platform_is_hardware_reduced),
		ACPI_TEST(every_cpu_is_listed),
		ACPI_TEST(ecam_is_told),
		ACPI_TEST(all_memory_and_cpus_are_one_node),
		ACPI_TEST(a_hypervisor_that_hides_is_not_named),
		ACPI_TEST(ids_are_those_of_the_topology),
		ACPI_TEST(a_tpm_is_told_of_where_there_is_one),
		ACPI_TEST(a_keyboard_is_told_of_where_there_is_one),
		ACPI_TEST(a_bios_is_given_a_log_for_the_tpm),
		ACPI_TEST(tables_without_room_are_an_error),
		ACPI_TEST(firmware_finds_a_place_for_the_tables),
		ACPI_TEST(tables_for_firmware_need_room_too),
		ACPI_TEST(behind_a_bios_the_hardware_is_told_of),
		ACPI_TEST(the_hardware_is_told_of_as_it_should_be),
		ACPI_TEST(the_dsdt_disassembles_and_compiles),
		ACPI_TEST(the_methods_are_evaluated),
		ACPI_TEST(the_windows_leave_ecam_out),
		cmocka_unit_test(integers_are_as_short_as_they_can_be),
		cmocka_unit_test(names_come_before_what_they_name),
		cmocka_unit_test(packages_know_their_length),
		cmocka_unit_test(resources_are_in_a_buffer),
		cmocka_unit_test(windows_have_three_widths),
		cmocka_unit_test(a_full_buffer_drops_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

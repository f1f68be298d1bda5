/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/lpc.h"

#include "base/clock.h"
#include "base/container.h"
#include "machine/layout.h"
#include "machine/platform/power.h"
#include "pci/space.h"

#include <linux/pci_regs.h>

#define VENDOR_INTEL     0x8086
#define DEVICE_ICH9      0x2918
#define CLASS_ISA_BRIDGE 0x0601

/* Configuration space (13.1). */
#define COMMAND_DECODES  (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
#define PMBASE           0x40
#define PMBASE_ADDRESS   0xff80
#define ACPI_CNTL        0x44
#define ACPI_CNTL_ENABLE 0x80
#define PIRQ_A           0x60
#define PIRQ_E           0x68
#define RCBA             0xf0
#define RCBA_WRITABLE    0xffffc001

/* At PMBASE, beside those of lpc.h. */
#define PM_PORTS        128
#define PM1_EN          0x02
#define PM1_ACPI        1U /* SCI_EN: power management is a system's, by ACPI */
#define PM1_SLEEP       (1U << 13)
#define PM1_TYPE(value) ((value) >> 10 & 7)
#define PM1_TYPE_OFF    0 /* as firmware has it in a virtual machine */
#define PM1_TMR_BITS    0xffffffU
#define PM1_TMR_HZ      3579545
#define SMI_EN          0x30
#define SMI_EN_APMC     0x20
#define SECOND          1000000000ULL

/* Port 92 (13.7.4). */
#define FAST_PORT  0x92
#define FAST_RESET 1
#define FAST_A20   2 /* address bit 20 is never masked */

static uint32_t pm_timer(void)
{
	uint64_t now = clock_ns();

	return (now / SECOND * PM1_TMR_HZ + now % SECOND * PM1_TMR_HZ / SECOND) & PM1_TMR_BITS;
}

/*
 * PM1's enable bits hold what is written, for a system sees by that which events there are; none comes. A BIOS that
 * finds APMC_EN set takes system management mode, which the machine has not, for something that is in use.
 */
static uint64_t pm_read(void *opaque, uint64_t offset, unsigned size)
{
	struct lpc *lpc = opaque;
	uint64_t pm1 = (uint64_t)PM1_ACPI << 8 * LPC_PM1_CONTROL |
		       (uint64_t)__atomic_load_n(&lpc->pm1_enable, __ATOMIC_RELAXED) << 8 * PM1_EN;

	(void)size;
	if (offset < LPC_PM_TIMER)
		return pm1 >> 8 * offset;
	if (offset < LPC_PM_TIMER + 4)
		return pm_timer() >> 8 * (offset - LPC_PM_TIMER);
	return offset == SMI_EN ? SMI_EN_APMC : 0;
}

static bool is_off(uint16_t control)
{
	unsigned type = PM1_TYPE(control);

	return control & PM1_SLEEP && (type == PM1_TYPE_OFF || type == POWER_SLEEP_TYPE_OFF);
}

static void pm_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct lpc *lpc = opaque;

	if (offset == LPC_PM1_CONTROL && size >= 2 && is_off(value))
		lpc->off(lpc->opaque);
	if (offset == PM1_EN && size == 2)
		__atomic_store_n(&lpc->pm1_enable, value, __ATOMIC_RELAXED);
}

static const struct space_ops pm_ops = { pm_read, pm_write };

static uint64_t fast_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return FAST_A20;
}

static void fast_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct lpc *lpc = opaque;

	(void)offset, (void)size;
	if (value & FAST_RESET)
		lpc->reset(lpc->opaque);
}

static const struct space_ops fast_ops = { fast_read, fast_write };

/* Its lock is held. Where something else is, there are no such ports. */
static void place_pm(struct lpc *lpc)
{
	uint16_t base = pci_get16(&lpc->device, PMBASE) & PMBASE_ADDRESS;
	bool wanted = base && lpc->device.config[ACPI_CNTL] & ACPI_CNTL_ENABLE;

	if (lpc->is_decoded && (!wanted || base != lpc->pm_base)) {
		space_remove(lpc->pio, lpc->pm_base);
		lpc->is_decoded = false;
	}
	if (!wanted || lpc->is_decoded)
		return;
	lpc->is_decoded = space_add(lpc->pio, base, PM_PORTS, &pm_ops, lpc) == 0;
	lpc->pm_base = base;
}

static void lpc_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	pci_device_config_write(device, offset, size, value);
	place_pm(container_of(device, struct lpc, device));
}

static const struct pci_device_ops lpc_ops = { .config_write = lpc_config_write };

int lpc_init(struct lpc *lpc, struct pci_bus *bus, struct space *pio, struct error *err)
{
	struct pci_device *device = &lpc->device;
	int code = pci_device_init(device, &lpc_ops);

	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's ISA bridge");
	lpc->pio = pio;
	pci_set16(device, PCI_VENDOR_ID, VENDOR_INTEL);
	pci_set16(device, PCI_DEVICE_ID, DEVICE_ICH9);
	pci_set16(device, PCI_CLASS_DEVICE, CLASS_ISA_BRIDGE);
	/* It decodes at all times; UEFI takes it for one that does if these bits can be written. */
	pci_set16(device, PCI_COMMAND, COMMAND_DECODES);
	pci_set_writable(device, PCI_COMMAND, 2, COMMAND_DECODES);
	device->config[PMBASE] = 1; /* I/O ports */
	pci_set_writable(device, PMBASE, 2, PMBASE_ADDRESS);
	pci_set_writable(device, ACPI_CNTL, 1, ACPI_CNTL_ENABLE);
	/* Where no interrupt controller gets what it says, firmware has a place to say it. */
	pci_set_writable(device, PIRQ_A, 4, UINT32_MAX);
	pci_set_writable(device, PIRQ_E, 4, UINT32_MAX);
	pci_set_writable(device, RCBA, 4, RCBA_WRITABLE);
	code = space_add(pio, FAST_PORT, 1, &fast_ops, lpc);
	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's ISA bridge");
	return pci_bus_add(bus, device, LAYOUT_ISA_SLOT << 3, err);
}

uint16_t lpc_pm_base(struct lpc *lpc)
{
	uint16_t base;

	pthread_mutex_lock(&lpc->device.lock);
	base = lpc->is_decoded ? lpc->pm_base : 0;
	pthread_mutex_unlock(&lpc->device.lock);
	return base;
}

void lpc_destroy(struct lpc *lpc)
{
	pci_device_destroy(&lpc->device);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/port.h"

#include "base/container.h"
#include "pci/root.h"

#include <linux/pci_regs.h>

#define VENDOR 0x1b36 /* Red Hat: the root port that QEMU's guests know */
#define DEVICE 0x000c

#define MSI_AT     0x40
#define EXPRESS_AT 0x60
#define ACS_AT     0x100

#define SLOT_CONTROL_WRITABLE                                                                      \
	(PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PFDE | PCI_EXP_SLTCTL_MRLSCE | PCI_EXP_SLTCTL_PDCE | \
		PCI_EXP_SLTCTL_CCIE | PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_AIC |                   \
		PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_DLLSCE)
/* Cleared by writing ones. */
#define SLOT_EVENTS (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC)
#define ACS_CAPABLE (PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF)

static struct pci_port *port_of(struct pci_device *device)
{
	return container_of(device, struct pci_port, bridge.device);
}

static uint16_t express16(const struct pci_port *port, unsigned offset)
{
	return pci_get16(&port->bridge.device, EXPRESS_AT + offset);
}

static void set_express16(struct pci_port *port, unsigned offset, uint16_t value)
{
	pci_set16(&port->bridge.device, EXPRESS_AT + offset, value);
}

/* An MSI goes out whenever "some enabled event is shown" becomes true (6.7.3.4). */
static void signal_events(struct pci_port *port)
{
	struct pci_device *device = &port->bridge.device;
	uint16_t control = express16(port, PCI_EXP_SLTCTL);
	uint16_t events = express16(port, PCI_EXP_SLTSTA) & SLOT_EVENTS;
	uint16_t enabled = control & (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC);
	bool asserted;

	if (control & PCI_EXP_SLTCTL_DLLSCE)
		enabled |= PCI_EXP_SLTSTA_DLLSC;
	asserted = control & PCI_EXP_SLTCTL_HPIE && events & enabled;
	if (asserted && !port->asserted && msi_enabled(&port->msi, device))
		device->bus->root->ops->signal(
			device->bus->root->opaque, msi_message(&port->msi, device, 0));
	port->asserted = asserted;
}

static void show_event(struct pci_port *port, uint16_t events)
{
	set_express16(port, PCI_EXP_SLTSTA, express16(port, PCI_EXP_SLTSTA) | events);
	signal_events(port);
}

static bool is_occupied(const struct pci_port *port)
{
	return express16(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS;
}

static bool is_powered(const struct pci_port *port)
{
	return !(express16(port, PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PCC);
}

/* The link is up where there is a device with power. True: that has changed. */
static bool update_link(struct pci_port *port)
{
	uint16_t status = express16(port, PCI_EXP_LNKSTA), before = status;
	bool up = is_occupied(port) && is_powered(port);

	status = up ? status | PCI_EXP_LNKSTA_DLLLA : status & ~PCI_EXP_LNKSTA_DLLLA;
	set_express16(port, PCI_EXP_LNKSTA, status);
	port->bridge.down = !up;
	pci_bridge_update(&port->bridge);
	return status != before;
}

/* Both ends of a link have one speed, width and size of packets; the port shows the device's. */
static void set_link(struct pci_port *port, const struct pci_link *link)
{
	struct pci_device *device = &port->bridge.device;
	uint32_t capable = PCI_EXP_LNKCAP_DLLLARC | pci_port_slot(port) << 24;
	uint16_t control = express16(port, PCI_EXP_DEVCTL) & ~PCI_EXP_DEVCTL_PAYLOAD;

	pci_set32(device, EXPRESS_AT + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | link->payload);
	set_express16(port, PCI_EXP_DEVCTL, control | link->payload << 5);
	pci_set32(device, EXPRESS_AT + PCI_EXP_LNKCAP,
		capable | (uint32_t)link->width << 4 | link->speed);
	set_express16(port, PCI_EXP_LNKSTA,
		(express16(port, PCI_EXP_LNKSTA) & PCI_EXP_LNKSTA_DLLLA) | link->width << 4 |
			link->speed);
	/* Supported speeds, bits 7:1, and the target. */
	pci_set32(device, EXPRESS_AT + PCI_EXP_LNKCAP2, ((1U << link->speed) - 1) << 1);
	set_express16(port, PCI_EXP_LNKCTL2, link->speed);
}

static void make_express(struct pci_port *port, unsigned slot)
{
	static const struct pci_link slowest = { 1, 1, 0 };
	struct pci_device *device = &port->bridge.device;

	device->config[EXPRESS_AT] = PCI_CAP_ID_EXP;
	set_express16(port, PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ROOT_PORT << 4 | PCI_EXP_FLAGS_SLOT);
	pci_set_writable(device, EXPRESS_AT + PCI_EXP_DEVCTL, 2, 0x00ef);
	pci_set_writable(device, EXPRESS_AT + PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_CCC);
	pci_set32(device, EXPRESS_AT + PCI_EXP_SLTCAP,
		PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_HPC |
			PCI_EXP_SLTCAP_NCCS | slot << 19);
	set_express16(port, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
	pci_set_writable(device, EXPRESS_AT + PCI_EXP_SLTCTL, 2, SLOT_CONTROL_WRITABLE);
	pci_set_writable(device, EXPRESS_AT + PCI_EXP_RTCTL, 2, 0x000f);
	set_link(port, &slowest);
}

static void make_acs(struct pci_device *device)
{
	pci_set32(device, ACS_AT, PCI_EXT_CAP_ID_ACS | 1 << 16);
	pci_set16(device, ACS_AT + PCI_ACS_CAP, ACS_CAPABLE);
	pci_set_writable(device, ACS_AT + PCI_ACS_CTRL, 2, ACS_CAPABLE);
}

static void write_slot_control(struct pci_port *port, uint16_t before)
{
	bool on = is_powered(port);

	if ((before ^ express16(port, PCI_EXP_SLTCTL)) & PCI_EXP_SLTCTL_PCC) {
		if (port->power)
			port->power(port->opaque, port, on);
		if (update_link(port))
			show_event(port, PCI_EXP_SLTSTA_DLLSC);
	}
	signal_events(port);
}

static void port_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	struct pci_port *port = port_of(device);
	uint16_t control = express16(port, PCI_EXP_SLTCTL), clear = 0;

	for (unsigned i = 0; i < size; i++)
		if (offset + i - (EXPRESS_AT + PCI_EXP_SLTSTA) < 2)
			clear |= (value >> 8 * i & 0xff)
				 << 8 * (offset + i - (EXPRESS_AT + PCI_EXP_SLTSTA));
	pci_bridge_config_write(device, offset, size, value);
	set_express16(
		port, PCI_EXP_SLTSTA, express16(port, PCI_EXP_SLTSTA) & ~(clear & SLOT_EVENTS));
	write_slot_control(port, control);
}

static const struct pci_device_ops port_ops = { .config_write = port_config_write };

int pci_port_init(
	struct pci_port *port, unsigned slot, uint8_t number, const struct pci_windows *windows)
{
	struct pci_device *device = &port->bridge.device;
	int code;

	*port = (struct pci_port){ 0 };
	code = pci_bridge_init(&port->bridge, &port_ops, number, windows);
	if (code)
		return code;
	port->bridge.down = true;
	pci_set16(device, PCI_VENDOR_ID, VENDOR);
	pci_set16(device, PCI_DEVICE_ID, DEVICE);
	/* As firmware leaves a port; decoding stays off, for sizing BARs would switch it off and on. */
	pci_set16(device, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	pci_set16(device, PCI_STATUS, PCI_STATUS_CAP_LIST);
	device->config[PCI_CAPABILITY_LIST] = MSI_AT;
	device->config[MSI_AT] = PCI_CAP_ID_MSI;
	device->config[MSI_AT + 1] = EXPRESS_AT;
	device->config_size = PCI_CONFIG_SIZE;
	make_express(port, slot);
	make_acs(device);
	return msi_init(&port->msi, device, MSI_AT);
}

void pci_port_destroy(struct pci_port *port)
{
	pci_bridge_destroy(&port->bridge);
}

unsigned pci_port_slot(const struct pci_port *port)
{
	return pci_get32(&port->bridge.device, EXPRESS_AT + PCI_EXP_SLTCAP) >> 19;
}

void pci_port_occupy(struct pci_port *port, const struct pci_link *link)
{
	set_link(port, link);
	set_express16(port, PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS);
	set_express16(port, PCI_EXP_SLTCTL, 0);
	update_link(port);
}

static void settle_port(struct pci_port *port)
{
	pthread_mutex_unlock(&port->bridge.device.lock);
	pci_bus_settle(&port->bridge.device.bus->root->bus);
}

/*
 * With the button, for a system that has one may listen to it alone (Linux does); it then wants to
 * wait for a second thought, and the presence tells it that there is none.
 */
static void show_presence(struct pci_port *port)
{
	if (is_occupied(port))
		return;
	set_express16(port, PCI_EXP_SLTSTA, express16(port, PCI_EXP_SLTSTA) | PCI_EXP_SLTSTA_PDS);
	show_event(port, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP |
				 (update_link(port) ? PCI_EXP_SLTSTA_DLLSC : 0));
}

void pci_port_announce(struct pci_port *port)
{
	pthread_mutex_lock(&port->bridge.device.lock);
	show_presence(port);
	settle_port(port);
}

void pci_port_plug(struct pci_port *port, const struct pci_link *link)
{
	pthread_mutex_lock(&port->bridge.device.lock);
	set_link(port, link);
	show_presence(port);
	settle_port(port);
}

void pci_port_unplug(struct pci_port *port)
{
	pthread_mutex_lock(&port->bridge.device.lock);
	set_express16(port, PCI_EXP_SLTSTA, express16(port, PCI_EXP_SLTSTA) & ~PCI_EXP_SLTSTA_PDS);
	show_event(port, PCI_EXP_SLTSTA_PDC | (update_link(port) ? PCI_EXP_SLTSTA_DLLSC : 0));
	settle_port(port);
}

void pci_port_press_button(struct pci_port *port)
{
	pthread_mutex_lock(&port->bridge.device.lock);
	show_event(port, PCI_EXP_SLTSTA_ABP);
	pthread_mutex_unlock(&port->bridge.device.lock);
}

bool pci_port_is_powered(struct pci_port *port)
{
	bool powered;

	pthread_mutex_lock(&port->bridge.device.lock);
	powered = is_powered(port);
	pthread_mutex_unlock(&port->bridge.device.lock);
	return powered;
}

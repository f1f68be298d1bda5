/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/doctor.h"

#include "base/size.h"
#include "host/doctor/checks.h"

#include <errno.h>
#include <stdlib.h>

static const struct {
	const char *id;
	const char *title;
	void (*host)(struct doctor *doctor);
	void (*device)(struct doctor *doctor, const struct inventory_device *device);
} checks[] = {
	{ "iommu", "the IOMMU is on", doctor_check_iommu, NULL },
	{ "kvm", "KVM is there", doctor_check_kvm, NULL },
	{ "group", "IOMMU groups can be had whole", doctor_check_groups, doctor_check_group },
	{ "interrupt-remapping", "interrupts are remapped", doctor_check_interrupts, NULL },
	{ "reserved-memory", "no memory is reserved by the firmware", NULL, doctor_check_reserved },
	{ "identity", "the right devices go to vfio-pci", doctor_check_initramfs,
		doctor_check_identity },
	{ "framebuffer", "no firmware frame buffer holds a BAR", NULL, doctor_check_framebuffer },
	{ "boot-display", "the host keeps its display", NULL, doctor_check_display },
	{ "in-use", "the host does not use the device", NULL, doctor_check_use },
	{ "reset", "the device can be reset", NULL, doctor_check_reset },
	{ "power", "the device is awake", NULL, doctor_check_power },
	{ "memory-lock", "guest memory may be locked", doctor_check_memory_lock, NULL },
	{ "rom", "the option ROM is sound", NULL, doctor_check_rom },
	{ "address-space", "the BARs have addresses", NULL, doctor_check_addresses },
	{ "vfio-nodes", "VFIO's files can be opened", NULL, doctor_check_nodes },
	{ "sr-iov", "virtual functions have addresses", NULL, doctor_check_sriov },
};

const char *doctor_check_id(size_t i)
{
	return i < ARRAY_SIZE(checks) ? checks[i].id : NULL;
}

static void check_devices(
	struct doctor *doctor, void (*check)(struct doctor *, const struct inventory_device *))
{
	for (size_t i = 0; i < doctor->device_count; i++)
		check(doctor, doctor_find(doctor, &doctor->devices[i]));
	for (size_t i = 0; !doctor->device_count && i < doctor->inventory.count; i++)
		if (!inventory_is_platform(&doctor->inventory.devices[i]))
			check(doctor, &doctor->inventory.devices[i]);
}

/* A check that found nothing to tell is well. */
static void run_check(struct doctor *doctor, size_t i)
{
	size_t before = doctor->count;

	if (checks[i].host)
		checks[i].host(doctor);
	if (checks[i].device)
		check_devices(doctor, checks[i].device);
	if (doctor->count == before)
		doctor_add(doctor, FINDING_OK, NULL, "%s", checks[i].title);
	for (size_t j = before; j < doctor->count; j++)
		doctor->findings[j].check = checks[i].id;
}

static int check_devices_exist(const struct doctor *doctor, struct error *err)
{
	for (size_t i = 0; i < doctor->device_count; i++) {
		struct host_device device;

		if (!doctor_find(doctor, &doctor->devices[i]) &&
			host_device_read(doctor->host, &doctor->devices[i], &device, err))
			return err->code;
	}
	return 0;
}

int doctor_run(struct doctor *doctor, const struct host *host, const struct bdf *devices,
	size_t count, struct error *err)
{
	*doctor = (struct doctor){ .host = host, .devices = devices, .device_count = count };
	if (inventory_read(host, &doctor->inventory, err) || check_devices_exist(doctor, err))
		return err->code;
	kernel_log_open(&doctor->log, host);
	for (size_t i = 0; i < ARRAY_SIZE(checks) && !doctor->out_of_memory; i++)
		run_check(doctor, i);
	doctor_read_facts(doctor);
	return doctor->out_of_memory ? error_sys(err, -ENOMEM, NULL, "cannot check the host") : 0;
}

void doctor_free(struct doctor *doctor)
{
	inventory_free(&doctor->inventory);
	kernel_log_close(&doctor->log);
	free(doctor->findings);
}

bool doctor_can_pass(const struct doctor *doctor, const struct bdf *device)
{
	for (size_t i = 0; i < doctor->count; i++) {
		const struct finding *finding = &doctor->findings[i];

		if (finding->status == FINDING_PROBLEM &&
			(!finding->has_device || bdf_equal(&finding->device, device)))
			return false;
	}
	return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/doctor/finding.h"

/* The checks, each of which adds what it has found. doctor.c has their order. */

/* Of the host as a whole: host.c. */
void doctor_check_groups(struct doctor *doctor);
void doctor_check_iommu(struct doctor *doctor);
void doctor_check_kvm(struct doctor *doctor);
void doctor_check_interrupts(struct doctor *doctor);
void doctor_check_memory_lock(struct doctor *doctor);
void doctor_check_initramfs(struct doctor *doctor);
void doctor_read_facts(struct doctor *doctor);

/* Of one device: group.c identity.c display.c use.c reset.c address.c. */
void doctor_check_group(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_reserved(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_identity(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_framebuffer(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_display(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_use(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_reset(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_power(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_rom(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_addresses(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_nodes(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_sriov(struct doctor *doctor, const struct inventory_device *device);

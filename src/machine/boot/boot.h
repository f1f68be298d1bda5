/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/vcpu.h"
#include "machine/boot/files.h"
#include "machine/memory.h"
#include "machine/pci.h"
#include "machine/platform/smbios.h"

/*
 * Who runs first: a Linux kernel, which is put into guest RAM with all that firmware would have prepared, or
 * firmware, which finds the machine as it is after power-on. Both get the same machine.
 */

struct boot_machine {
	const char *name;
	const struct smbios_config *smbios;
	struct kvm_vm *vm;
	struct memory *memory;
	struct space *mmio, *pio;
	struct machine_pci *pci;
	const struct kvm_cpus *cpus;
	bool tpm;      /* there is one */
	bool keyboard; /* and a mouse */
	/* What firmware may ask for; called on a vCPU's thread. */
	void (*off)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

struct boot;

/* Make ready what runs first. The files and the machine outlive it; NULL where err says why. */
struct boot *boot_load(
	const struct boot_files *files, const struct boot_machine *machine, struct error *err);
/* Registers for the first vCPU; the others wait for it. */
int boot_enter(const struct boot *boot, struct kvm_vcpu *vcpu, struct error *err);
/* The guest does not run any more. */
void boot_free(struct boot *boot);

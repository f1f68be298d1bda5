/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"

/*
 * Interrupt lines as KVM would see them: the linker hands us what is meant for ioctl(2)
 * (-Wl,--wrap=ioctl).
 */
extern bool irq_line[KVM_IOAPIC_PINS];
extern unsigned irq_calls;                  /* for all lines */
extern unsigned irq_rises[KVM_IOAPIC_PINS]; /* how often each went from low to high */
extern void (*irq_rising)(void); /* called when a line is high, by who has raised it; NULL */

/* Lines down; a VM for those who want to raise them. */
void irq_lines_reset(struct kvm_vm *vm);

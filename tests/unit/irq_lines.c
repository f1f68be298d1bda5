/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "irq_lines.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define VM_FD 12345

bool irq_line[KVM_IOAPIC_PINS];
unsigned irq_calls;
unsigned irq_rises[KVM_IOAPIC_PINS];
void (*irq_rising)(void);

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct kvm_irq_level *level;
	va_list args;

	va_start(args, request);
	level = va_arg(args, void *);
	va_end(args);
	if (fd != VM_FD || request != KVM_IRQ_LINE || level->irq >= KVM_IOAPIC_PINS) {
		errno = ENOTTY;
		return -1;
	}
	irq_calls++;
	irq_rises[level->irq] += level->level && !irq_line[level->irq];
	__atomic_store_n(&irq_line[level->irq], level->level, __ATOMIC_RELAXED);
	if (level->level && irq_rising)
		irq_rising();
	return 0;
}

void irq_lines_reset(struct kvm_vm *vm)
{
	*vm = (struct kvm_vm){ .fd = VM_FD, .kvm_fd = -1, .vfio_fd = -1 };
	irq_calls = 0;
	irq_rising = NULL;
	memset(irq_line, 0, sizeof(irq_line));
	memset(irq_rises, 0, sizeof(irq_rises));
}

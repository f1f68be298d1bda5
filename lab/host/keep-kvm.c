// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Holds a virtual machine that never runs, as long as the host does.
 *
 * With its first machine KVM patches the kernel's scheduler, and back with the end of the last
 * one. QEMU's emulator with one thread a CPU now and then runs into a half-made patch on the other
 * CPU (an "Oops: int3" in __schedule): some machines in a hundred would bring down the whole host.
 * While there is a machine with a local APIC, nothing is patched any more.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int machine = ioctl(kvm, KVM_CREATE_VM, 0);

	if (machine < 0 || ioctl(machine, KVM_CREATE_IRQCHIP, 0) < 0 ||
		ioctl(machine, KVM_CREATE_VCPU, 0) < 0) {
		perror("keep-kvm");
		return 1;
	}
	daemon(0, 0);
	for (;;)
		pause();
}

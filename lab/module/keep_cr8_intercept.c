// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Has KVM intercept each write to CR8 by a guest, so that the emulator never gets to see one.
 *
 * QEMU's emulator aborts with an assertion about its big lock where a guest lowers CR8 itself while KVM waits
 * for an interrupt window. Linux hardly ever writes CR8; UEFI firmware does at the end of each interrupt. KVM
 * intercepts these writes only while an interrupt waits whose priority, the third argument here, the guest's
 * is not below. No priority is below 0, so with that one it does so always.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static int set_priority(struct kprobe *probe, struct pt_regs *registers)
{
	registers->dx = 0;
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "svm_update_cr8_intercept",
	.pre_handler = set_priority,
};

static int __init begin(void)
{
	return register_kprobe(&probe);
}

static void __exit end(void)
{
	unregister_kprobe(&probe);
}

module_init(begin);
module_exit(end);
MODULE_SOFTDEP("pre: kvm_amd");
MODULE_DESCRIPTION("Keeps KVM intercepting guests' writes to CR8");
MODULE_LICENSE("GPL");

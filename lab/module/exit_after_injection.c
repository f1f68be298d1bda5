// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Has a guest leave at once where KVM has injected an interrupt.
 *
 * QEMU's emulator delivers such an interrupt as a part of VMRUN, and its number stays behind as that of an exception
 * that is due (helper_vmrun). The guest's next exit does away with it. If the CPU is kicked before that for
 * something that is no interrupt, as when an address space has changed, it is delivered once more, whatever the
 * guest's interrupt flag says, and the guest's kernel waits for a lock that it holds itself. KVM can be asked for
 * an exit by an interrupt of the host, which is pending when the guest begins: so no kick comes first.
 */
#include <linux/bitmap.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>

#define THREADS      65536
#define EXIT_AT_ONCE 1UL /* true, before Linux 6.17; KVM_RUN_FORCE_IMMEDIATE_EXIT since */

/* Of the threads that run a vCPU. Two that share a bit only cost each other an exit. */
static DECLARE_BITMAP(injected, THREADS);

static int note_injection(struct kprobe *probe, struct pt_regs *registers)
{
	set_bit(current->pid % THREADS, injected);
	return 0;
}

static int ask_for_exit(struct kprobe *probe, struct pt_regs *registers)
{
	if (test_and_clear_bit(current->pid % THREADS, injected))
		registers->si |= EXIT_AT_ONCE;
	return 0;
}

static struct kprobe injection = {
	.symbol_name = "svm_inject_irq",
	.pre_handler = note_injection,
};

static struct kprobe run = {
	.symbol_name = "svm_vcpu_run",
	.pre_handler = ask_for_exit,
};

static struct kprobe *probes[] = { &injection, &run };

static int __init begin(void)
{
	return register_kprobes(probes, ARRAY_SIZE(probes));
}

static void __exit end(void)
{
	unregister_kprobes(probes, ARRAY_SIZE(probes));
}

module_init(begin);
module_exit(end);
MODULE_SOFTDEP("pre: kvm_amd");
MODULE_DESCRIPTION("Has KVM's guests leave after an injected interrupt");
MODULE_LICENSE("GPL");

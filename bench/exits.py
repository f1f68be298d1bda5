# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM exits by kind."""

from collections import Counter

from trace import Counting

# The kinds that the tables tell apart, in their order.
KINDS = ("port I/O", "MMIO", "page fault", "CPUID", "MSR", "timer MSR", "interrupt window", "HLT",
         "other")
# The host's own interrupts grow with time alone: no machine is answerable for them.
HOST = "host interrupt"
# Nor for those of the lab's module for firmware, as KVM itself intercepts next to none (lab/module).
CR8 = "write of CR8"

# KVM's exit reasons are the processor's own numbers: SVM's EXITCODE, VMX's basic exit reason.
VMX, SVM = 1, 2
REASONS = {
    (SVM, 0x18): CR8, (SVM, 0x60): HOST, (SVM, 0x61): HOST, (SVM, 0x64): "interrupt window", (SVM, 0x72): "CPUID",
    (SVM, 0x78): "HLT", (SVM, 0x7b): "port I/O", (SVM, 0x7c): "MSR", (SVM, 0x400): "page fault",
    (VMX, 0): HOST, (VMX, 1): HOST, (VMX, 52): HOST, (VMX, 7): "interrupt window",
    (VMX, 10): "CPUID", (VMX, 12): "HLT", (VMX, 30): "port I/O", (VMX, 31): "MSR",
    (VMX, 32): "MSR", (VMX, 48): "page fault", (VMX, 49): "page fault",
}

# The guest's reprogramming of its own timer: the TSC deadline, the x2APIC's initial count.
TIMER_MSRS = (0x6e0, 0x838)

# A read that user space answers is seen twice, as a question (0) and when it is answered (1).
MMIO_DONE = (1, 2)

FIELDS = {"kvm/kvm_exit": "isa,exit_reason", "kvm/kvm_msr": "ecx", "kvm/kvm_mmio": "type"}
DETAILED_FIELDS = {
    "kvm/kvm_exit": "isa,exit_reason,guest_rip",
    "kvm/kvm_msr": "ecx,write",
    "kvm/kvm_mmio": "type,gpa",
    "kvm/kvm_pio": "port,rw,val",
    "kvm/kvm_cpuid": "function",
    "kvm/kvm_page_fault": "fault_address",
}


class Exits(Counting):
    def __init__(self, fields=FIELDS):
        super().__init__(fields)

    def kinds(self):
        counts = Counter()
        for (isa, reason, *_), count in self.counts("kvm/kvm_exit").items():
            counts[REASONS.get((isa, reason), "other")] += count
        timer = self._sum("kvm/kvm_msr", TIMER_MSRS)
        mmio = self._sum("kvm/kvm_mmio", MMIO_DONE)
        # Both arrive as something else: an MSR's write, a fault at an address without memory.
        counts.update({"timer MSR": timer, "MSR": -timer, "MMIO": mmio, "page fault": -mmio})
        return dict(counts)

    def _sum(self, event, wanted):
        return sum(count for (first, *_), count in self.counts(event).items() if first in wanted)


def own(kinds):
    """All exits that are the machine's doing."""
    return sum(count for kind, count in kinds.items() if kind not in (HOST, CR8))

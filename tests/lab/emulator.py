"""What brings down an emulated host and is known to be the emulator's fault. Everything else that does
is a failure of the test that ran."""

import re
from typing import NamedTuple

import kernel_log


class Signature(NamedTuple):
    pattern: re.Pattern
    reason: str


# In the host's kernel log, after the test began.
CONSOLE = (
    Signature(re.compile(r"int3: 0000 \[#1\]"),
              "a CPU ran into a breakpoint that the kernel's text patching on another CPU had already "
              "taken back: the emulator went on with code that it had translated before"),
    Signature(re.compile(r"rcu: .*Possible timer handling issue on cpu"),
              "a CPU got no timer interrupts any more, as the kernel's own stall report says"),
    Signature(re.compile(r"rcu:\s+(\d+)-\S+ \(\d ticks this GP\).*?NMI backtrace for cpu \1\n"
                         r"(?:(?!Call Trace).)*?RIP: 0033:", re.DOTALL),
              "a CPU got no timer interrupts any more in the midst of a program, where nothing can hold "
              "them up"),
    Signature(re.compile(r"rcu:\s+(\d+)-\S+ .*?NMI backtrace for cpu \1\n"
                         r"(?:(?!Call Trace).)*?RIP: 0010:svm_vcpu_run\+", re.DOTALL),
              "a CPU stayed in a guest, which any interrupt of the host's would have ended: it got none"),
)
# In what QEMU says itself.
QEMU = (
    Signature(re.compile(r"tcg_handle_interrupt: assertion failed|cpu_interrupt: .*assert",
                         re.IGNORECASE),
              "QEMU's assertion on its big lock, when a guest writes CR8 while KVM waits for an "
              "interrupt window"),
    Signature(re.compile(r"^Triple fault", re.MULTILINE),
              "a CPU of the host's came to a triple fault, and its kernel to no word: not one page of its "
              "handlers was where the emulator looked, as when a CPU goes on with a guest's page tables"),
)
# Where one of these stands beside a signature, it is not the emulator's alone.
DAMNING = re.compile(r"\b(BUG:|WARNING:|general protection|blocked for more than \d+ seconds|"
                     r"Bad page|list_(add|del) corruption|kernel BUG)")
OOPS = re.compile(r"\bOops\b(?!: int3)")

# A stall behind a lock that VFIO, KVM or the IOMMU driver takes is theirs, or ours.
TRACE = re.compile(r"Call Trace:(.*?)(?:</TASK>|\Z)", re.DOTALL)
LOCK = re.compile(r"\b(\w*mutex_lock\w*|_raw_\w*lock\w*|native_queued_spin_lock_slowpath|rwsem_\w+|"
                  r"down_(read|write)\w*|synchronize_s?rcu\w*)\+")
THEIRS = re.compile(r"\b(vfio|kvm|svm|iommu|intel_iommu|dmar|qi|domain)_\w+\+")


def behind_a_lock_of_theirs(log):
    return any(LOCK.search(trace) and THEIRS.search(trace) for trace in TRACE.findall(log))


def since(log, test):
    """The log from where the test began, and whether it may cause DMA faults."""
    mark = log.rfind(f"lab: begin {test}") if test else -1
    begin = log[mark:] if mark >= 0 else log
    return begin, "DMA faults are expected" in begin.splitlines()[0] if begin else False

# Of what QEMU says of the CPUs' interrupt controllers ("info lapic"), CPU after CPU, sample after sample.
LAPIC = re.compile(r"^dumping local APIC state for CPU (\d+).*?^ISR\s+(.*?)$", re.MULTILINE | re.DOTALL)


def lost_interrupts(lapics):
    """Vectors that a CPU has in service in every sample, seconds apart. A kernel ends that state within
    moments. So it does not know of this interrupt: the emulator has lost it between controller and CPU, and
    whatever is not more urgent waits for good."""
    samples = {}
    for cpu, vectors in LAPIC.findall(lapics):
        samples.setdefault(int(cpu), []).append(set(re.findall(r"\d+", vectors)))
    held = {cpu: set.intersection(*found) for cpu, found in samples.items() if len(found) > 1}
    lost = {cpu: sorted(map(int, vectors)) for cpu, vectors in held.items() if vectors}
    return "; ".join(f"CPU {cpu} has vector {vectors[-1]} in service, and does not know it: the emulator has "
                     f"lost this interrupt" for cpu, vectors in sorted(lost.items()))


def verdict(console, qemu, test=None, lapics=""):
    """Why the host's death is the emulator's fault, or None. The last is of a host that has not died."""
    log, faults = since(console, test)
    if DAMNING.search(log) or OOPS.search(log) or not faults and kernel_log.FAULT.search(log):
        return None
    if behind_a_lock_of_theirs(log):
        return None
    for signatures, text in ((CONSOLE, log), (QEMU, qemu)):
        for one in signatures:
            if one.pattern.search(text):
                return one.reason
    return lost_interrupts(lapics) or None

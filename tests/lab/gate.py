"""The gate itself: what hangs is ended and explained, and what a test leaves behind is seen."""

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import harness
import hang
import kernel_log
import remains
import runner
from harness import EDU, KERNEL, NVME_A, Machine, Penstock, check, test
from journal import succeed

KVM_CREATE_VM = 0xae01
SYSLOG_ACTION_SIZE_BUFFER = 10


def blocked():
    """As a write to sysfs may: the kernel, not the process, decides when it ends."""
    read, _ = os.pipe()
    os.read(read, 1)


@test()
def a_hang_is_ended_and_explained():
    word, text = runner.in_child(blocked, 2)
    check(word == "FAIL" and "no end within 2 s" in text, f"{word}: {text}")
    for part in ("S (sleeping)", "wchan", "syscall", "pipe_read", "blocked tasks", "virtio0-", " in 2 s",
                 "ISR", "IRR", "lab: begin a-hang-is-ended-and-explained"):
        check(part in text, f"no {part} in:\n{text}")
    check(runner.in_child(lambda: os.kill(os.getpid(), 9), 10)[0] == "FAIL", "a killed test passed")
    check(runner.in_child(lambda: check(False, "on purpose"), 10) == ("FAIL", "on purpose"),
          "a failure is not told")
    began = time.monotonic()
    try:
        harness.command(["sleep", "100"], 1)
    except harness.Failure as failure:
        check("hrtimer_nanosleep" in str(failure), f"the report does not say where it waits: {failure}")
        check(time.monotonic() - began < 30, "the command was not ended")
        return
    raise harness.Failure("a command without an end has come to one")


@test(only=Penstock)
def a_guest_that_stands_still_is_explained():
    """Held by a signal, which is nobody's fault: no blame on the emulator."""
    with Machine("wait", devices=[NVME_A]) as machine:
        machine.expect("WAITING")
        held = machine.descendants()[-1]
        os.kill(held, signal.SIGSTOP)
        report = hang.Report(machine.process.pid)
        os.kill(held, signal.SIGCONT)
        machine.process.terminate()
        machine.wait()
        check(report.emulator is None, f"the emulator gets the blame: {report.emulator}")
        for part in ("penstock-vm", "T (stopped)", "counters that moved", "guests' timers"):
            check(part in report.text, f"no '{part}' in:\n{report.text}")


# Writes "X" and a line's end to the serial port, switches interrupts off, and jumps to where it is.
SPINNING = bytes.fromhex("66baf803 b058 ee b00a ee fa ebfe")
ENTRY_64, SECTOR, SETUP_SECTORS = 0x200, 512, 0x1f1     # Linux/x86 boot protocol


@test(only=Penstock)
def a_guest_that_spins_is_not_waited_for():
    """As one does when the emulator has delivered an interrupt twice: there is no other way to see it."""
    before = remains.records()

    def forgotten():
        """Those that were killed may take a moment to end."""
        harness.command(["penstock", "release", "--stale"])
        return remains.records() <= before

    kernel = bytearray(Path(KERNEL).read_bytes())
    entry = (kernel[SETUP_SECTORS] + 1) * SECTOR + ENTRY_64
    kernel[entry:entry + len(SPINNING)] = SPINNING
    with tempfile.NamedTemporaryFile() as file:
        file.write(kernel)
        file.flush()
        with Machine(kernel=file.name) as machine:
            machine.expect("X")
            report = hang.Report(machine.process.pid)
            machine.process.terminate()
            machine.wait()
        check(report.emulator, "the report does not tell")
        check("left its guest" in report.text, f"nothing of where the guest is:\n{report.text}")
        hang.SPIN_SECONDS = 5           # before whoever runs this test sees it
        word, said = runner.in_child(lambda: harness.run_guest("wait", kernel=file.name), 100)
    harness.wait_until(forgotten, harness.QUICK_SECONDS, "what was killed is not forgotten")
    check(word == "STUCK", f"{word}: {said}")


@test(only=Penstock)
def a_cpu_that_has_strayed_is_told_of():
    """By what was seen of one: a guest's CPU in the host's code behind VMRUN."""
    moved = {"preemption_other": 50, "req_event": 62824, "insn_emulation": 63261, "exits": 63194, "pf_guest": 63384}
    symbols = Path("/proc/kallsyms").read_text()
    start = int(re.search(r"^([0-9a-f]+) . __svm_vcpu_run\b", symbols, re.MULTILINE)[1], 16)
    check(hang.only_faults(moved, 2), "a guest that does nothing but fault is not seen")
    check(not hang.only_faults({**moved, "pf_guest": 30000}, 2), "a guest that works is taken for one that faults")
    for distance, is_there in ((0xa0, True), (0x2000, False), (-0x10, False)):
        place = f"   thread 521 left its guest 21225 times for npf at {start + distance:#x}"
        check(hang.strayed(place, symbols) is is_there, f"{distance:#x} from VMRUN's function: {not is_there}")


@contextlib.contextmanager
def seen(*texts):
    """What is done in here, and not undone, shows in what is looked at after a test."""
    inner = harness.Test("inner", "default", None, 0, False, None)
    before, log = remains.Remains(), kernel_log.KernelLog()
    with contextlib.ExitStack() as undo:
        yield undo
        try:
            runner.aftermath(inner, before, log, patience=1)
        except harness.Failure as failure:
            for text in texts:
                check(text in str(failure), f"'{text}' is not told of: {failure}")
            return
    raise harness.Failure(f"nothing was seen of {texts}")


@test(only=Penstock)
def what_is_left_behind_is_seen():
    with seen("sleep 1000") as undo:
        process = undo.enter_context(subprocess.Popen(["sleep", "1000"]))
        undo.callback(process.kill)
    with seen(EDU, "vfio-pci", f"devices/{EDU}") as undo:
        succeed("bind", EDU)
        undo.callback(succeed, "release", EDU)
    with seen("/dev/vfio/vfio") as undo:
        undo.enter_context(open("/dev/vfio/vfio", "rb"))
    with seen("left behind (locks)") as undo:
        lock = undo.enter_context(open(next(remains.LOCKS.iterdir())))
        fcntl.flock(lock, fcntl.LOCK_EX)
    with seen("machine") as undo:
        kvm = os.open("/dev/kvm", os.O_RDWR)
        undo.callback(os.close, kvm)
        undo.callback(os.close, fcntl.ioctl(kvm, KVM_CREATE_VM, 0))


@test()
def a_log_that_wraps_is_seen():
    """Not here: this host's log has room for a whole run."""
    log = kernel_log.KernelLog()
    kernel_log.mark("one line")
    check(log.lines() == ["lab: one line"], f"the log has {log.lines()}")
    log.close()
    size = ctypes.CDLL(None).klogctl(SYSLOG_ACTION_SIZE_BUFFER, None, 0)
    check(size >= 16 << 20, f"the log holds {size} bytes")

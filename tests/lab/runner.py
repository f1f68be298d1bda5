"""Runs one test after the other, each in a process of its own, so that nothing that a test waits for
holds up the next one; and looks at the host afterwards."""

import json
import os
import select
import sys
import time
import traceback

import hang
import harness
import kernel_log
import remains

REPAIR_SECONDS = 60


class HostUnusable(Exception):
    """The next test cannot be run on this host."""


def in_child(function, seconds):
    """The function's outcome: a word, and what there is to say."""
    sys.stdout.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        with open(theirs, "w") as stream:
            json.dump(outcome(function), stream)
        sys.stdout.flush()
        os._exit(0)
    os.close(theirs)
    deadline, spin = time.monotonic() + seconds, hang.Spin(pid)
    with open(ours) as stream:
        while not select.select([stream], [], [], 1)[0]:
            reason = spin.seen()
            if reason:
                hang.kill_all(pid)
                return "STUCK", reason
            if time.monotonic() > deadline:
                return give_up(pid, seconds)
        said = stream.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(said)) if said else ("FAIL", "its process died")


def outcome(function):
    try:
        said = function()
    except harness.Skip as reason:
        return "skip", str(reason)
    except hang.EmulatorStuck as reason:
        return "STUCK", str(reason)
    except harness.Failure as reason:
        return "FAIL", str(reason)
    except BaseException:
        return "FAIL", traceback.format_exc()
    return "ok", said or ""


def give_up(pid, seconds):
    """The test's process is killed; it may be one that no signal reaches."""
    try:
        why = hang.explain(pid)
        found = "FAIL", f"no end within {seconds} s;\n{why}"
    except hang.EmulatorStuck as reason:
        found = "STUCK", str(reason)
    hang.kill_all(pid)
    deadline = time.monotonic() + harness.QUICK_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


class Runner:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def run(self, test):
        print(f"RUN {test.name}", flush=True)
        kernel_log.mark(f"begin {test.name}{' (DMA faults are expected)' if test.faults else ''}")
        before, log = remains.Remains(), kernel_log.KernelLog()
        began = time.monotonic()
        word, text = self._outcome(test)
        if word == "ok":
            word, text = in_child(lambda: aftermath(test, before, log), REPAIR_SECONDS)
        if word == "ok" and text:
            print(f"LOST {test.name}: {text}", flush=True)
            text = ""
        seconds = f" ({time.monotonic() - began:.1f} s)" if word == "ok" else ""
        print(f"{word} {test.name}{seconds}{': ' + text if text else ''}", flush=True)
        kernel_log.mark(f"end {test.name}")
        log.close()
        self.passed += word == "ok"
        self.skipped += word == "skip"
        self.failed += word == "FAIL"
        if word == "STUCK":
            raise HostUnusable("the emulator has stopped a guest")
        if word == "FAIL":
            repair(before)

    @staticmethod
    def _outcome(test):
        if test.only and not issubclass(harness.vmm, test.only):
            return "skip", f"only for {test.only.name}"
        return in_child(test.function, test.limit)

    def summary(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def aftermath(test, before, log, patience=harness.QUICK_SECONDS):
    """Whatever a test did: the host is as it was, and its kernel has no complaint. Returns what judge()
    says."""
    deadline = time.monotonic() + patience
    while (left := remains.Remains().since(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    harness.check(not left, "afterwards:\n" + "\n".join(left))
    try:
        lines = log.lines()
    except kernel_log.Lost as reason:
        raise harness.Failure(str(reason)) from None
    return judge(test, lines)


def judge(test, lines):
    """Of what the host's kernel logged. The host's own driver has its device alone, and we no part in its
    interrupts: that one did not come is the emulator's fault, and told. Where a second did not come
    either, it is no chance: they do not arrive."""
    bad = [line for line in lines if kernel_log.COMPLAINT.search(line)
           or not test.faults and kernel_log.FAULT.search(line)]
    harness.check(not bad, "the host's kernel complains:\n" + "\n".join(bad[:10]))
    lost = [line for line in lines if kernel_log.LOST_INTERRUPT.search(line)]
    harness.check(len(lost) < 2, "interrupts of the host do not arrive:\n" + "\n".join(lost[:10]))
    return "".join(lost)


def repair(before):
    """After a failure the next test begins as this one did, or on a host that is started anew."""
    for pid in set(hang.user_processes()) - set(before.processes):
        hang.kill(pid)
    word, text = in_child(lambda: set_back(before), REPAIR_SECONDS)
    if word != "ok":
        raise HostUnusable(f"the host cannot be set back: {text}")


def set_back(before):
    harness.wait_until(lambda: not remains.vfio_users() - before.vfio_users, harness.QUICK_SECONDS,
                       "a VFIO device is still in use")
    for path in remains.records() - before.records:
        os.unlink(path)
    for bdf, (name, override) in before.drivers.items():
        if remains.drivers().get(bdf) != (name, override):
            harness.rebind(bdf, override)
            print(f"   (set {bdf} back to {name})", flush=True)
    left = remains.Remains().since(before)
    harness.check(not left, "\n".join(left))

#!/usr/bin/env python3
"""Starts one guest again and again, with load beside it, and looks closely at the first that hangs:
lab/run --timeout 0 -- tests/lab/repeat.py [--starts N]

The guest is the one of nic-and-test-devices: two vCPUs, e1000e, edu and pci-testdev; its tests end
with a power-off. Where it does not get that far, or its machine does not end afterwards, the report
says for each thread what it is doing, and for the host whether time still passes in it.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import harness                                                  # noqa: E402
from harness import E1000E, EDU, TESTDEV, Failure, Machine      # noqa: E402
from passthrough import bulk_peer                               # noqa: E402

TESTS = ("net", "edu", "testdev")
POWERED_OFF = "reboot: Power down"
GUEST_SECONDS, END_SECONDS = 240, 60
PAUSE = 5


class Hang(Exception):
    pass


def read(path):
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


def of_thread(task):
    """State, and where it waits; the counters tell on a second look whether it moves."""
    status = dict(line.split(":", 1) for line in read(task / "status").splitlines() if ":" in line)
    line = (f"{task.parent.parent.name}/{task.name} {read(task / 'comm')}:"
             f" {status.get('State', '?').strip()},"
             f" switches {status.get('voluntary_ctxt_switches', '?').strip()}"
             f"+{status.get('nonvoluntary_ctxt_switches', '?').strip()},"
             f" wchan {read(task / 'wchan')}, syscall {read(task / 'syscall')},"
             f" ticks {' '.join(read(task / 'stat').rpartition(')')[2].split()[11:13])}")
    return "\n".join([line, *("    " + line for line in read(task / "stack").splitlines())])


def of_processes(pids):
    for pid in pids:
        for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
            print(of_thread(task))


def of_guest():
    """Moving counters tell a guest that runs, or waits for a timer, from one that stands still."""
    for machine in Path("/sys/kernel/debug/kvm").glob("[0-9]*-*"):
        counts = (f"{name} {read(machine / name)}" for name in
                  ("exits", "halt_exits", "halt_wakeup", "irq_exits", "irq_injections", "io_exits"))
        print(f"KVM {machine.name}:", *counts)


def of_host():
    interrupts = re.findall(r"^ *(?:LOC|RES|CAL):.*", read(Path("/proc/interrupts")), re.MULTILINE)
    print("the host's interrupts:", *interrupts, sep="\n")


def report(machine):
    pids = [machine.process.pid, *machine.descendants()]
    of_guest()
    of_processes(pids)
    of_host()
    time.sleep(PAUSE)
    print(f"--- {PAUSE} s later")
    of_guest()
    of_processes(pids)
    of_host()
    before = len(harness.kernel_log().splitlines())
    Path("/proc/sysrq-trigger").write_text("w")
    time.sleep(1)
    print("--- the host's kernel log, with its blocked tasks:")
    print(*harness.kernel_log().splitlines()[max(before - 20, 0):], sep="\n")
    print("---", machine.last_words(), flush=True)


def life_of_a_guest():
    """Seconds to the power-off, and from there to the machine's end."""
    began = time.monotonic()
    with bulk_peer(), Machine(",".join(TESTS), cpus=2, devices=[E1000E, EDU, TESTDEV]) as machine:
        try:
            machine.expect(POWERED_OFF, GUEST_SECONDS)
        except Failure as failure:
            if machine.process.poll() is not None:
                raise
            report(machine)
            raise Hang("the guest has not powered off") from failure
        powered_off = time.monotonic()
        try:
            machine.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            report(machine)
            raise Hang("the machine has not ended") from None
        ended = time.monotonic()
        machine.succeed(*TESTS)
    return powered_off - began, ended - powered_off


@contextlib.contextmanager
def load(loops):
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=100, help="of the guest (100)")
    parser.add_argument("--load", type=int, default=2, help="busy loops beside it (2)")
    parser.add_argument("--vmm", choices=harness.VMM, default="penstock")
    options = parser.parse_args()
    harness.vmm = harness.VMM[options.vmm]
    hung = failed = ended = 0
    slowest = 0
    with load(options.load):
        for number in range(1, options.starts + 1):
            try:
                guest, end = life_of_a_guest()
                ended += 1
                slowest = max(slowest, end)
                print(f"start {number}: powered off after {guest:.1f} s, ended {end:.1f} s later",
                      flush=True)
            except Hang as hang:
                hung += 1
                print(f"start {number}: HUNG: {hang}", flush=True)
            except Failure as failure:
                failed += 1
                print(f"start {number}: FAILED: {failure}", flush=True)
    print(f"{ended} ended, {hung} hung, {failed} failed of {options.starts} starts;"
          f" the slowest end took {slowest:.1f} s")
    return 1 if hung or failed else 0


if __name__ == "__main__":
    sys.exit(main())

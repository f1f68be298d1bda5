#!/usr/bin/env python3
"""Starts one guest again and again, with load beside it, and looks closely at each that hangs:
lab/run --timeout 0 -- tests/lab/repeat.py [--starts N]

The guest is the one of nic-and-test-devices: two vCPUs, e1000e, edu and pci-testdev; its tests end
with a power-off. Where it does not get that far, or its machine does not end afterwards, there is a
report of what each thread waits for, and of whether each of the host's CPUs still has a clock.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True

import hang                                                     # noqa: E402
import harness                                                  # noqa: E402
from harness import E1000E, EDU, TESTDEV, Failure, Machine      # noqa: E402
from passthrough import bulk_peer                               # noqa: E402

TESTS = ("net", "edu", "testdev")
POWERED_OFF = "reboot: Power down"
GUEST_SECONDS, END_SECONDS, CLOCK_SECONDS = 240, 60, 10


def life_of_a_guest():
    """Seconds to the power-off, and from there to the machine's end."""
    began = time.monotonic()
    with bulk_peer(), Machine(",".join(TESTS), cpus=2, devices=[E1000E, EDU, TESTDEV]) as machine:
        machine.expect(POWERED_OFF, GUEST_SECONDS)
        powered_off = time.monotonic()
        machine.wait(END_SECONDS)
        ended = time.monotonic()
        machine.succeed(*TESTS)
    return powered_off - began, ended - powered_off


def timer_interrupts():
    """By CPU. An idle CPU has few, but one that has none can wake nobody any more."""
    line = re.search(r"^ *LOC:(.*?)[A-Z]", Path("/proc/interrupts").read_text(), re.MULTILINE)
    return [int(count) for count in line[1].split()]


def clocks():
    before = timer_interrupts()
    time.sleep(CLOCK_SECONDS)
    return [now - then for now, then in zip(timer_interrupts(), before)]


@contextlib.contextmanager
def load(loops):
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in busy:
            harness.end(process)


def start(number):
    """How it ended, in a word."""
    try:
        guest, end = life_of_a_guest()
    except (Failure, hang.EmulatorStuck) as reason:
        word = "the emulator's" if isinstance(reason, hang.EmulatorStuck) else "failed"
        print(f"start {number}: {word}: {reason}\n"
              f"timer interrupts of each CPU in {CLOCK_SECONDS} s: {clocks()}", flush=True)
        return word
    print(f"start {number}: powered off after {guest:.1f} s, ended {end:.1f} s later", flush=True)
    return "ended"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=100, help="of the guest (100)")
    parser.add_argument("--load", type=int, default=2, help="busy loops beside it (2)")
    parser.add_argument("--vmm", choices=harness.VMM, default="penstock")
    options = parser.parse_args()
    harness.vmm = harness.VMM[options.vmm]
    with load(options.load):
        words = Counter(start(number) for number in range(1, options.starts + 1))
    print(", ".join(f"{count} {word}" for word, count in words.items()), f"of {options.starts} starts")
    return 0 if words["ended"] == options.starts else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs the lab's tests, inside the emulated host: lab/run [--host KIND] -- tests/lab/run.py [NAME...]

Each kind of host, a file of lab/hosts, has tests of its own. tests/lab/suite.py starts the hosts and
this program in them, and starts a host anew where the emulator has brought it down.

Each test is told when it begins ("RUN NAME") and when it has ended ("ok", "FAIL" or "skip NAME"); exit
code 3: this host can run no more tests.
"""

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import harness                      # noqa: E402
import bad_input                    # noqa: E402,F401
import bios                         # noqa: E402,F401
import cloud                        # noqa: E402,F401
import control                      # noqa: E402,F401
import cpus                         # noqa: E402,F401
import crash                        # noqa: E402,F401
import desktop                      # noqa: E402,F401
import disks                        # noqa: E402,F401
import display                      # noqa: E402,F401
import examples                     # noqa: E402,F401
import firmware                     # noqa: E402,F401
import gate                         # noqa: E402,F401
import host_commands                # noqa: E402,F401
import hotplug                      # noqa: E402,F401
import installed                    # noqa: E402,F401
import journal                      # noqa: E402,F401
import kvm                          # noqa: E402,F401
import lifecycle                    # noqa: E402,F401
import netboot                      # noqa: E402,F401
import passthrough                  # noqa: E402,F401
import pci_tree                     # noqa: E402,F401
import qmp_client                   # noqa: E402,F401
import ram                          # noqa: E402,F401
import service                      # noqa: E402,F401
import sriov                        # noqa: E402,F401
import tpm                          # noqa: E402,F401
import vdpa                         # noqa: E402,F401
import virtio                       # noqa: E402,F401
import vnc                          # noqa: E402,F401
import wishes                       # noqa: E402,F401
from runner import HostUnusable, Runner         # noqa: E402

UNUSABLE = 3


def kind_of_host():
    """What lab/run has put on the kernel's command line."""
    words = Path("/proc/cmdline").read_text().split()
    return next((word.partition("=")[2] for word in words if word.startswith("lab.host=")), "default")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmm", choices=harness.VMM,
                        help="what runs the guests: qemu shows that the tests themselves are right")
    parser.add_argument("--host", default=kind_of_host(), metavar="KIND",
                        help="the kind of host, for --list elsewhere than on it")
    parser.add_argument("--short", action="store_true",
                        help="no long tests, and of another host's that this one runs again only the most telling")
    parser.add_argument("--list", action="store_true", help="only list the tests")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tests to run; may be globs")
    options = parser.parse_args()
    again = harness.AGAIN.get(options.host, harness.NOTHING)
    harness.vmm = harness.VMM[options.vmm or again.vmm]
    harness.on_this_host = again.more
    chosen = harness.selected(options.host, options.names, options.short)
    if options.list:
        print(*(one.name for one in chosen), sep="\n")
        return 0
    runner = Runner()
    try:
        for one in chosen:
            runner.run(one)
    except HostUnusable as reason:
        print(f"run.py: {reason}", flush=True)
        return UNUSABLE
    print(runner.summary())
    return 1 if runner.failed or not (runner.passed or runner.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())

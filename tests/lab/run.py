#!/usr/bin/env python3
"""Runs the lab's tests, inside the emulated host: lab/run -- tests/lab/run.py [NAME...]

The host itself tells which kind it is; each kind has its tests:
    default         what lab/run starts
    sriov           lab/run --devices sriov
    no-intremap     lab/run --kernel-args intremap=off
    no-iommu        lab/run --kernel-args intel_iommu=off
"""

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import harness                      # noqa: E402
import bad_input                    # noqa: E402,F401
import host_commands                # noqa: E402,F401
import journal                      # noqa: E402,F401
import lifecycle                    # noqa: E402,F401
import passthrough                  # noqa: E402,F401
import sriov                        # noqa: E402,F401


def kind_of_host():
    words = Path("/proc/cmdline").read_text().split()
    for word, kind in (("intremap=off", "no-intremap"), ("intel_iommu=off", "no-iommu")):
        if word in words:
            return kind
    if (harness.device(sriov.PF) / "sriov_totalvfs").exists():
        return "sriov"
    return "default"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmm", choices=harness.VMM, default="penstock",
                        help="what runs the guests: qemu shows that the tests themselves are right")
    parser.add_argument("--list", action="store_true", help="only list the tests")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tests to run; may be globs")
    options = parser.parse_args()
    harness.vmm = harness.VMM[options.vmm]
    chosen = harness.selected(kind_of_host(), options.names)
    if options.list:
        print(*(name for name, *_ in chosen), sep="\n")
        return 0
    results = harness.Results()
    for name, _, only, function in chosen:
        results.run(name, only, function)
    print(results.summary())
    return 1 if results.failed or not (results.passed or results.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())

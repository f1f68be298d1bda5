"""The programs of tests/kvm, tiny guests on the real KVM, where nothing of them may be skipped."""

from pathlib import Path

import harness
from harness import check

SKIP = 77       # Meson's and Automake's exit code for it


def run(program):
    done = harness.command([program], 240, env={"PENSTOCK": "/penstock/build/penstock",
                                                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    said = done.stdout + done.stderr
    check(done.returncode != SKIP and "SKIPPED" not in said, f"something was skipped:\n{said}")
    check(done.returncode == 0, f"exit code {done.returncode}:\n{said[-4000:]}")


def tests_of(build):
    """One test a program."""
    for path in sorted(Path(build).glob("tests/kvm_*")):
        if path.is_file():
            name = path.name.replace("_", "-")
            harness.tests.append(harness.Test(name, "default", harness.Penstock, 300, False,
                                              lambda path=path: run(path)))


tests_of(Path(__file__).resolve().parents[2] / "build")

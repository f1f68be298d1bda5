"""The programs of tests/kvm, tiny guests on the real KVM, where nothing of them may be skipped."""

from pathlib import Path

import harness
from harness import check

CHECKOUT = Path(__file__).resolve().parents[2]
SKIP = 77       # Meson's and Automake's exit code for it


def run(*words):
    """A program of tests, of which none may be skipped."""
    done = harness.command(words, 240, env={"PENSTOCK": "/penstock/build/penstock",
                                                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    said = done.stdout + done.stderr
    check(done.returncode != SKIP and "SKIPPED" not in said, f"something was skipped:\n{said}")
    check(done.returncode == 0, f"exit code {done.returncode}:\n{said[-4000:]}")


def add_tests():
    """One test a program. By their sources: outside of the emulated host it may be any build that is tested."""
    for path in sorted((CHECKOUT / "tests/kvm").glob("test_*.c")):
        name = path.stem.removeprefix("test_")
        program = CHECKOUT / f"build/tests/kvm_{name}"
        harness.tests.append(harness.Test(f"kvm-{name}", "default", harness.Penstock, 300, False,
                                          lambda program=program: run(program)))


add_tests()

"""The journal: whatever kills penstock, and wherever, the devices come back."""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import harness
from harness import (EDU, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME, QUICK_SECONDS, Machine, Penstock,
                     check, command, driver, override, refused, test)

RUN = Path("/run/penstock")

KILLER = Path("/penstock/build/tests/libkill_before.so")


def penstock(*words, stop_at=None):
    """With stop_at, the process kills itself before its step of this number: see kill_before.c."""
    killer = ["env", f"LD_PRELOAD={KILLER}", f"KILL_BEFORE={stop_at}"] if stop_at else []
    return command([*killer, "penstock", *words])


def succeed(*words):
    done = penstock(*words)
    check(done.returncode == 0, f"penstock {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return done.stderr


def changed(before):
    return {bdf: now for bdf, now in harness.state().items() if now != before[bdf]}


def steps_of(prepare, words, expected_end):
    """Kills the command before its first, second, ... step until it comes to its end; each time what
    is stale is released, and every device must be as it was before."""
    before = harness.state()
    for step in range(1, 500):
        prepare()
        done = penstock(*words, stop_at=step)
        if done.returncode != -signal.SIGKILL:
            check(done.returncode == expected_end,
                  f"{words}: exit code {done.returncode}: {done.stderr}")
            return step - 1
        wait_for_machines()
        succeed("release", "--stale")
        left = changed(before)
        if words[0] == "release" and all(now == ("vfio-pci", "vfio-pci") for now in left.values()):
            succeed(*words)         # those whose turn had not come are bound as they were
            left = changed(before)
        check(not left, f"killed before step {step} of {' '.join(words)}, and then "
                        f"release --stale leaves {left}")
        check(not list(RUN.glob("devices/*")), f"records are left after step {step}")
    raise harness.Failure(f"{words}: no end after 500 steps")


def wait_for_machines():
    """A machine sees its broker's death, and goes."""
    harness.wait_until(lambda: not machines(), QUICK_SECONDS, "a machine outlives its broker")


def machines():
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            found += [comm] if comm.read_text().strip() == "penstock-vm" else []
    return found


@test(only=Penstock)
def sigkill_at_each_step_of_bind():
    counts = []
    for devices in ([NVME_A], [NVME_A, EDU], [PAIR_NVME]):      # the last has a companion
        counts.append(steps_of(lambda: None, ["bind", *devices], 0))
        succeed("release", *devices)
    print(f"   bind: {counts} steps")
    check(min(counts) >= 5, "that cannot be all of its steps")


@test(only=Penstock)
def sigkill_at_each_step_of_release():
    counts = []
    for devices in ([NVME_A], [NVME_A, EDU], [PAIR_NVME]):
        counts.append(steps_of(lambda: succeed("bind", *devices), ["release", *devices], 0))
    print(f"   release: {counts} steps")
    check(min(counts) >= 4, "that cannot be all of its steps")


@test(only=Penstock)
def sigkill_at_each_step_of_run():
    """With a kernel that is none, which is found out when the devices are bound."""
    with tempfile.NamedTemporaryFile(suffix="-kernel") as kernel:
        kernel.write(b"This is no kernel.\n" * 1000)
        kernel.flush()
        words = Penstock.command(kernel=kernel.name, devices=[NVME_A, PAIR_NIC], name="stopped")
        count = steps_of(lambda: None, words[1:], 1)
    print(f"   run: {count} steps")
    check(count >= 12, "that cannot be all of its steps")


# --- two at once ----------------------------------------------------------------------------------

@test(only=Penstock)
def two_at_once():
    """One has the device, the other says who has it. Again and again, as there is a race to lose."""
    for _ in range(8):
        both = [subprocess.Popen(["penstock", "bind", NVME_A], stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
        said = [one.communicate(timeout=QUICK_SECONDS)[1] for one in both]
        check(0 in [one.returncode for one in both], f"neither has bound it: {said}")
        check(driver(NVME_A) == "vfio-pci", f"it is at {driver(NVME_A)}: {said}")
        for one, words in zip(both, said):
            check(one.returncode == 0 or "held by" in words, words)
        both = [subprocess.Popen(["penstock", "release", NVME_A], stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
        said = [one.communicate(timeout=QUICK_SECONDS)[1] for one in both]
        check(0 in [one.returncode for one in both], f"neither has released it: {said}")
        check((driver(NVME_A), override(NVME_A)) == ("nvme", None), f"{said}")


@test(only=Penstock)
def a_machine_has_its_device_alone():
    with Machine("wait", devices=[NVME_A], name="first") as machine:
        machine.expect("WAITING")
        refused(["penstock", "bind", NVME_A], 1, NVME_A, "first")
        refused(["penstock", "release", NVME_A], 1, NVME_A, "first")
        refused(["penstock", "reset", NVME_A], 1, NVME_A)
        refused(Penstock.command(devices=[NVME_A]), 1, NVME_A, "first")
        succeed("release", "--stale")
        check(driver(NVME_A) == "vfio-pci", "release --stale took the device of a living machine")
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)


# --- a journal that cannot be kept, or read -------------------------------------------------------

@contextlib.contextmanager
def mounted_run(options):
    RUN.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", RUN], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", RUN], check=True)


@test(only=Penstock)
def run_is_full_or_read_only():
    """Nothing is touched that cannot be put on record; what is on record can be given back."""
    with mounted_run("ro,mode=755"):
        refused(["penstock", "bind", NVME_A], 1, "read-only")
        refused(Penstock.command(devices=[NVME_A]), 1, "read-only")
    with mounted_run("size=16k,mode=755"):
        succeed("bind", NVME_B)
        with open(RUN / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)
        refused(["penstock", "bind", NVME_A], 1, "full|no space")
        refused(Penstock.command(devices=[NVME_A]), 1, "full|no space")
        check(driver(NVME_A) == "nvme", "a device without a record was taken")
        succeed("release", NVME_B)
        check(driver(NVME_B) == "nvme", "a full file system keeps a device from its driver")


@test(only=Penstock)
def a_driver_that_is_gone():
    """While a device was away its driver was replaced by another one: that has it then."""
    succeed("bind", NVME_A)
    record = RUN / "devices" / NVME_A
    record.write_text(record.read_text().replace("driver nvme", "driver gone"))
    said = succeed("release", NVME_A)
    check(driver(NVME_A) == "nvme" and "no driver gone" in said, f"at {driver(NVME_A)}: {said}")


@test(only=Penstock)
def a_damaged_record():
    """Cut, empty, or not a record at all: told, and the device is given back when asked for."""
    for damage in (lambda text: text[:len(text) // 2], lambda _: b"", lambda _: os.urandom(4096),
                   lambda _: b"\0" * 100000):
        succeed("bind", NVME_A)
        record = RUN / "devices" / NVME_A
        record.write_bytes(damage(record.read_bytes()))
        refused(["penstock", "release", "--stale"], 1, str(record), "damaged")
        refused(["penstock", "bind", NVME_A], 1, NVME_A)
        succeed("release", NVME_A)
        check((driver(NVME_A), override(NVME_A)) == ("nvme", None), "it did not come back")

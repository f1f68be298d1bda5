"""Devices come and go while the guest runs."""

import contextlib
import os
from pathlib import Path

from harness import (BOOT_SECONDS, E1000E, EDU, Failure, NVME_A, NVME_B, QUICK_SECONDS,
                     RUN_SECONDS, Machine, Penstock, check, command, driver, refused, test, wait_until)

NAME = "hotplug"
# 200 of a disk, and 20 of the others, are the long form: PENSTOCK_CYCLES=200.
CYCLES = int(os.environ.get("PENSTOCK_CYCLES", "5"))
LABELS = {NVME_A: "nvme-a", NVME_B: "nvme-b", E1000E: "52:54:00:00:00:02"}


@contextlib.contextmanager
def running(devices, **options):
    with Machine("hotplug", name=NAME, devices=devices, **options) as machine:
        machine.expect("HOTPLUG-READY", BOOT_SECONDS)
        yield machine
        machine.type("enough\n")
        machine.succeed("hotplug")
        check("BAD" not in machine.output, machine.last_words())


def attach(*words):
    done = command(["penstock", "attach", NAME, *words], RUN_SECONDS)
    check(done.returncode == 0, f"attach {words}: exit code {done.returncode}: {done.stderr}")


def detach(*words):
    done = command(["penstock", "detach", NAME, *words], RUN_SECONDS)
    check(done.returncode == 0, f"detach {words}: exit code {done.returncode}: {done.stderr}")


def expect_times(machine, line, count):
    try:
        wait_until(lambda: machine.output.splitlines().count(line) == count, RUN_SECONDS,
                   f"'{line}' not {count} times")
    except Failure as failure:
        raise Failure(f"{failure}; {machine.last_words()}") from None


def resources(machine):
    """What the machine's processes hold: descriptors, threads, mappings, KiB of memory that are theirs alone."""
    counts = {"descriptors": 0, "threads": 0, "mappings": 0, "memory": 0}
    for pid in [machine.process.pid, *machine.descendants()]:
        process = Path(f"/proc/{pid}")
        counts["descriptors"] += len(list((process / "fd").iterdir()))
        counts["threads"] += len(list((process / "task").iterdir()))
        counts["mappings"] += len((process / "maps").read_text().splitlines())
        counts["memory"] += sum(int(line.split()[1]) for line in (process / "smaps_rollup").read_text().splitlines()
                                if line.startswith(("Private_Dirty:", "Private_Clean:")))
    return counts


def cycle(machine, device, cycles):
    """Attaches and detaches so many times; in the end all is held as after the first time."""
    for number in range(cycles):
        attach(device)
        expect_times(machine, f"HERE {LABELS[device]}", number + 1)
        check(driver(device) == "vfio-pci", f"{device} is at {driver(device)}")
        detach(device)
        expect_times(machine, f"GONE {LABELS[device]}", number + 1)
        wait_until(lambda: driver(device) not in ("vfio-pci", None), QUICK_SECONDS,
                   f"{device} does not come back to its driver")
        if number == 0:
            first = resources(machine)
    last = resources(machine)
    print(f"   after 1: {first}\n   after {cycles}: {last}", flush=True)
    for kind in ("descriptors", "threads", "mappings"):
        check(last[kind] <= first[kind], f"{kind} grow from {first[kind]} to {last[kind]}")
    check(last["memory"] <= first["memory"] + 512, f"memory grows from {first['memory']} to {last['memory']} KiB")


@test(only=Penstock, limit=3600)
def a_disk_comes_and_goes_under_the_io_of_another():
    with running([NVME_A], cpus=2) as machine:
        cycle(machine, NVME_B, CYCLES)


@test(only=Penstock, limit=1200)
def a_nic_comes_and_goes():
    with running([NVME_A]) as machine:
        cycle(machine, E1000E, max(2, CYCLES // 10))


@test(only=Penstock)
def the_first_device_comes_later():
    """To a machine that was started without any."""
    with running([]) as machine:
        cycle(machine, NVME_B, 2)


@test(only=Penstock)
def what_is_pulled_by_force_harms_its_driver_alone():
    with running([NVME_A, NVME_B], cpus=2) as machine:
        expect_times(machine, "HERE nvme-b", 1)
        detach(NVME_B, "--force")
        expect_times(machine, "GONE nvme-b", 1)
        wait_until(lambda: driver(NVME_B) == "nvme", QUICK_SECONDS, "it is not back")


@test(only=Penstock)
def what_cannot_be_attached_is_refused():
    with running([NVME_A, EDU], more=["--ports", "1"]) as machine:
        refused(["penstock", "attach", NAME, "0000:1f:00.0"], 1, "0000:1f:00.0")
        attach(NVME_B)
        expect_times(machine, "HERE nvme-b", 1)
        refused(["penstock", "attach", NAME, NVME_B], 1, NVME_B)
        refused(["penstock", "attach", NAME, E1000E], 1, "no empty PCI port", "--ports")
        check(driver(E1000E) == "e1000e", "what was refused is not back at its driver")
        refused(["penstock", "detach", NAME, EDU], 1, "root bus", "--force")
        refused(["penstock", "detach", NAME, E1000E], 1, E1000E)

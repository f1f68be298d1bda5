"""Devices come and go while the guest runs."""

import contextlib
import os
import re
import time
from pathlib import Path

from harness import (BOOT_SECONDS, E1000E, EDU, Failure, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME,
                     QUICK_SECONDS, RUN_SECONDS, Machine, Penstock, check, command, driver, refused, test,
                     wait_until)
from journal import succeed
from sriov import IGB, IGB_VF, MAC, PF, network_vfs

NAME = "hotplug"
PAIR = "0000:05:00"
# Functions that come and go together, with what the guest knows each by.
DISK, NIC = {NVME_B: "nvme-b"}, {E1000E: "52:54:00:00:00:02"}
BOTH = {PAIR_NVME: "nvme-pair", PAIR_NIC: "52:54:00:00:00:03"}
PF_NIC, VF_NIC = {IGB: "52:54:00:00:00:03"}, {IGB_VF: MAC}
# How often the short form does it; PENSTOCK_CYCLES is the long one's (see lab/README.md).
FEW = 2
CYCLES = int(os.environ.get("PENSTOCK_CYCLES", FEW))
LIMIT = 300 + 60 * CYCLES


@contextlib.contextmanager
def running(devices, stay=None, cmdline="", **options):
    """A guest with these devices, of which it keeps the disk of this name busy."""
    with Machine("hotplug", cmdline=f"{cmdline} stay={stay}" if stay else cmdline, name=NAME,
                 devices=devices, **options) as machine:
        machine.expect("HOTPLUG-READY", BOOT_SECONDS)
        try:
            yield machine
        except Failure as failure:
            machine.type("enough\n")
            try:
                machine.wait(QUICK_SECONDS)
            except Failure as late:
                raise Failure(f"{failure}\nThen it {late}") from None
            raise Failure(f"{failure}\nThe guest's end:\n{machine.output[-4000:]}") from None
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
    """What the machine's processes hold: descriptors, threads, mappings, KiB locked, KiB that are theirs alone."""
    counts = {"descriptors": 0, "threads": 0, "mappings": 0, "locked": 0, "memory": 0}
    for pid in [machine.process.pid, *machine.descendants()]:
        process = Path(f"/proc/{pid}")
        counts["descriptors"] += len(list((process / "fd").iterdir()))
        counts["threads"] += len(list((process / "task").iterdir()))
        counts["mappings"] += len((process / "maps").read_text().splitlines())
        counts["locked"] += int((process / "status").read_text().split("VmLck:")[1].split()[0])
        counts["memory"] += sum(int(line.split()[1]) for line in (process / "smaps_rollup").read_text().splitlines()
                                if line.startswith(("Private_Dirty:", "Private_Clean:")))
    return counts


def cycle(machine, functions, count, address=None):
    """Attaches and detaches so many times, used by the guest in between; in the end all is held as after the first."""
    address = address or next(iter(functions))
    drivers = [driver(device) for device in functions]
    for number in range(1, count + 1):
        attach(address)
        for device, label in functions.items():
            expect_times(machine, f"HERE {label}", number)
            check(driver(device) == "vfio-pci", f"{device} is at {driver(device)}")
        detach(address)
        check([driver(device) for device in functions] == drivers, f"{address} is not back at {drivers}")
        for label in functions.values():
            expect_times(machine, f"GONE {label}", number)
        if number == 1:
            first = resources(machine)
        if number % 10 == 0:
            print(f"   after {number} of {count}: {resources(machine)}", flush=True)
    last = resources(machine)
    print(f"   after 1: {first}\n   after {count}: {last}", flush=True)
    for kind in ("descriptors", "threads", "mappings", "locked"):
        check(last[kind] <= first[kind], f"{kind} grow from {first[kind]} to {last[kind]}")
    check(last["memory"] <= first["memory"] + 512, f"memory grows from {first['memory']} to {last['memory']} KiB")


@test(only=Penstock, limit=LIMIT)
def a_disk_comes_and_goes_under_the_io_of_another():
    with running([NVME_A], stay="nvme-a", cpus=2) as machine:
        cycle(machine, DISK, CYCLES)


@test(only=Penstock, limit=LIMIT)
def a_nic_comes_and_goes():
    with running([NVME_A], stay="nvme-a") as machine:
        cycle(machine, NIC, CYCLES)


def places(machine, label):
    """Where the guest has seen it: slot, function, and its header type."""
    return re.findall(rf"^AT {label} (\S+)\.(\d) (\S+)$", machine.output, re.MULTILINE)


@test(only=Penstock, limit=LIMIT)
def functions_of_a_slot_come_and_go_together():
    """Both of the pair, by the address of their slot; and by that of one of them when they go."""
    with running([NVME_A], stay="nvme-a") as machine:
        cycle(machine, BOTH, CYCLES, address=PAIR)
        for disk, nic in zip(*(places(machine, label) for label in BOTH.values()), strict=True):
            check(disk[0] == nic[0] and disk[1:] == ("0", "80") and nic[1] == "1",
                  f"the guest sees them at {disk} and {nic}")
        attach(PAIR)
        for label in BOTH.values():
            expect_times(machine, f"HERE {label}", CYCLES + 1)
        refused(["penstock", "attach", NAME, PAIR], 1, "the machine has it already")
        detach(PAIR_NIC)
        check((driver(PAIR_NVME), driver(PAIR_NIC)) == ("nvme", "e1000"), "one has stayed")
        refused(["penstock", "detach", NAME, PAIR], 1, "not found")


@test(host="sriov", only=Penstock, limit=LIMIT)
def a_pf_comes_and_goes():
    with running([PF], stay="nvme-pf") as machine:
        cycle(machine, PF_NIC, CYCLES)


@test(host="sriov", only=Penstock, limit=LIMIT)
def a_vf_comes_and_goes():
    with network_vfs(1):
        succeed("vf", "set", "--mac", MAC, IGB_VF)
        with running([PF], stay="nvme-pf") as machine:
            cycle(machine, VF_NIC, CYCLES)


@test(only=Penstock)
def the_first_device_comes_later():
    """To a machine that was started without any, on a host where nothing uses VFIO so far."""
    command(["modprobe", "-r", "vfio-pci", "vfio_iommu_type1", "vfio"])
    with running([]) as machine:
        cycle(machine, DISK, FEW)


def expect_after(machine, condition, word):
    """The guest's shell says the word once the condition holds."""
    machine.type(f'until {condition}; do sleep 0.2; done; echo {word[:2]}""{word[2:]}\n')
    machine.expect(word)


@test(only=Penstock)
def a_device_without_a_link_comes_and_goes():
    """A conventional one, behind an empty port: Linux looks at the port's link first."""
    with Machine(name=NAME, memory="256M") as machine:
        machine.expect("USERSPACE-UP", BOOT_SECONDS)
        attach(EDU)
        expect_after(machine, "lspci -n | grep 1234:11e8", "CAME")
        detach(EDU)
        expect_after(machine, "! lspci -n | grep 1234:11e8", "WENT")
        machine.type("poweroff -f\n")
        check(machine.wait() == 0, machine.last_words())


# Linux's driver of a slot waits five seconds after its button.
BUTTON_SECONDS = 5


def seconds_to_detach(machine):
    attach(NVME_B)
    expect_times(machine, "HERE nvme-b", 1)
    start = time.monotonic()
    detach(NVME_B)
    expect_times(machine, "GONE nvme-b", 1)
    return time.monotonic() - start


@test(only=Penstock)
def the_guest_ejects_what_it_is_asked_for():
    with running([NVME_A], cmdline="loglevel=7") as machine:
        seconds = seconds_to_detach(machine)
        check(seconds < BUTTON_SECONDS, f"detaching takes {seconds:.1f} s: {machine.last_words()}")


@test(only=Penstock)
def a_guest_that_cannot_eject_knows_the_button():
    with running([NVME_A], cmdline="loglevel=7 acpiphp.disable=1") as machine:
        seconds_to_detach(machine)
        check("Button press: will power off" in machine.output, machine.last_words())


@test(only=Penstock)
def what_is_pulled_by_force_harms_its_driver_alone():
    with running([NVME_A, NVME_B], stay="nvme-a", cpus=2) as machine:
        expect_times(machine, "HERE nvme-b", 1)
        detach(NVME_B, "--force")
        expect_times(machine, "GONE nvme-b", 1)
        wait_until(lambda: driver(NVME_B) == "nvme", QUICK_SECONDS, "it is not back")


@test(only=Penstock)
def what_cannot_be_attached_is_refused():
    with running([NVME_A, EDU], stay="nvme-a", more=["--ports", "1"]) as machine:
        refused(["penstock", "attach", NAME, "0000:1f:00.0"], 1, "0000:1f:00.0")
        attach(PAIR_NVME)
        expect_times(machine, "HERE nvme-pair", 1)
        refused(["penstock", "attach", NAME, PAIR_NVME], 1, PAIR_NVME, "has it already")
        refused(["penstock", "attach", NAME, PAIR_NIC], 1, "IOMMU group", f"attach {PAIR}$")
        refused(["penstock", "attach", NAME, E1000E], 1, "no empty PCI port", "--ports")
        check(driver(E1000E) == "e1000e", "what was refused is not back at its driver")
        refused(["penstock", "detach", NAME, EDU], 1, "root bus", "--force")
        refused(["penstock", "detach", NAME, E1000E], 1, E1000E)

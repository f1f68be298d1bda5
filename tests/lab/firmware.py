"""Firmware runs first: Debian's OVMF, unmodified."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from cpus import IDENTITY, check_identity
from harness import E1000E, NVME_A, NVME_B, Machine, Penstock, check, test, wait_until
from journal import succeed, wait_for_machines
from lifecycle import machine_process

SHELL_SECONDS = START_SECONDS = BOOT_SECONDS = 200
MARKS = 20


@contextlib.contextmanager
def firmware(image="uefi"):
    """Options with which it runs, on an emulator that survives it (lab/module), and where its variables are."""
    subprocess.run(["modprobe", "keep_cr8_intercept"], check=True)
    with tempfile.TemporaryDirectory() as directory:
        nvram = Path(directory, "vars.fd")
        yield ["--firmware", image, "--nvram", nvram], nvram
    # modprobe -r would want KVM to go, too
    subprocess.run(["rmmod", "keep_cr8_intercept"], check=True)


@contextlib.contextmanager
def shell(options, devices=()):
    with Machine(kernel=None, initrd=None, devices=devices, more=options) as machine:
        machine.expect("any other key", SHELL_SECONDS)      # or it waits for five seconds
        machine.type(" ")
        machine.expect("Shell>", SHELL_SECONDS)
        yield machine


def plain(text):
    """Without what moves a terminal's cursor."""
    return re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]", "", text)


@test(only=Penstock, limit=400)
def uefi_tells_of_a_disk_without_a_boot_loader():
    """And then it has only its shell."""
    with firmware() as (options, _):
        with shell(options, [NVME_B]) as machine:
            check(re.search('failed to load Boot.* "UEFI .*lab-nvme-b.*: Not Found', machine.output),
                  machine.last_words())
            machine.type("reset -s\r")
            check(machine.wait() == 0, machine.last_words())


@test(only=Penstock, limit=590, long=True)
def uefi_runs_a_cards_rom():
    """iPXE's driver is in the network card's own, and firmware boots by that; without the ROM it does not."""
    with firmware() as (options, _):
        with Machine(kernel=None, initrd=None, devices=[E1000E], more=options) as machine:
            machine.expect(">>Start PXE over IPv4", BOOT_SECONDS)
            machine.process.terminate()
            check(machine.wait() == 128 + signal.SIGTERM, machine.last_words())
        with shell(options, [f"{E1000E},rom=off"]) as machine:
            check("PXE" not in machine.output, machine.last_words())
            machine.type("reset -s\r")
            check(machine.wait() == 0, machine.last_words())


def count_marks(machine):
    """Of the variables that were made one after the other, none is missing before the last."""
    machine.type("set\recho all-told\r")
    machine.expect("all-told", SHELL_SECONDS)       # what is typed comes back in pieces
    found = {int(number) for number in re.findall(r"mark(\d+) = kept", plain(machine.output))}
    check(found == set(range(len(found))), f"variables are missing: there are {sorted(found)}")
    return len(found)


def kill_while_it_writes(machine, nvram, first, victim):
    """Returns how many variables had been made by then, at least."""
    def typed():
        return max(map(int, re.findall(r"set mark(\d+) kept", plain(machine.output))), default=first)

    for number in range(first, first + MARKS):
        machine.type(f"set mark{number} kept\r")
    wait_until(lambda: typed() > first + 2, SHELL_SECONDS, "the shell does not make variables")
    before, deadline = nvram.stat().st_mtime_ns, time.monotonic() + SHELL_SECONDS
    while nvram.stat().st_mtime_ns == before:       # no pause, for a variable takes milliseconds
        check(time.monotonic() < deadline, "no variable is written")
    os.kill(victim, signal.SIGKILL)
    machine.wait()
    wait_for_machines()
    succeed("release", "--stale")       # a broker that was killed has left its name
    return typed()


@test(only=Penstock, limit=590, long=True)
def variables_outlive_a_kill():
    """It comes while one is written; those before it are there at the next start."""
    with firmware() as (options, nvram):
        made = 0
        for victim in ("machine", "broker", None):
            with shell(options) as machine:
                there = count_marks(machine) if made else 0
                check(there >= made, f"{there} variables are left of {made}")
                if victim:
                    pid = machine.process.pid if victim == "broker" else machine_process(machine)
                    made = kill_while_it_writes(machine, nvram, there, pid)
                else:
                    machine.type("reset -s\r")
                    check(machine.wait() == 0, machine.last_words())


@test(only=Penstock, limit=500)
def uefi_starts_a_kernel_with_a_device():
    """The kernel comes through fw_cfg, the disk is passed, the firmware measures, and the variables last."""
    seen = []
    with firmware() as (options, nvram):
        with Machine("nvme,identity,tpm", cmdline="stamp=uefi nvme.count=1 tpm.pcrs=used", devices=[NVME_A],
                     more=[*options, *IDENTITY, "--tpm"]) as machine:
            machine.expect("USERSPACE-UP", 2 * START_SECONDS)      # it hashes what it starts
            machine.succeed("nvme", "identity", "tpm")
            check_identity(machine.output)
        seen.append(hashlib.sha256(nvram.read_bytes()).digest())
        template = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
        check(hashlib.sha256(template).digest() not in seen, "nothing was written to the variables")
        check(nvram.stat().st_size == len(template), "the variables have another size")


@test(only=Penstock, limit=590, long=True)
def a_hidden_hypervisor_leaves_a_clock():
    """Linux finds none whose clock it knows, and measures its CPUs' by ACPI's timer."""
    for detect, more in (("none", []), ("other", ["--hyperv-vendor", "penstock"])):
        with firmware() as (options, _):
            with Machine("hypervisor,linux-sees,cpus,nvme", cpus=2, devices=[NVME_A],
                         cmdline=f"stamp={detect} nvme.count=1 cpus.count=2 sees=nothing hypervisor.kvm=none "
                                 f"hypervisor.detect={detect}", more=[*options, "--hide-hypervisor", *more]) as machine:
                machine.expect("USERSPACE-UP", START_SECONDS)
                machine.succeed("hypervisor", "linux-sees", "cpus", "nvme")
                check(re.search("linux-sees: nothing; clocks .*acpi_pm", machine.output), machine.last_words())

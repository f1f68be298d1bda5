# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed system, which the distribution's UEFI firmware starts from a passed disk: what it takes until its boot
loader has the word, and until somebody is logged in."""

import shutil
import subprocess
import time
from pathlib import Path

import guests
import harness
from exits import Exits
from memory import Group, beside_guest

DISK = "0000:01:00.0"           # of lab/devices/firmware.conf
MEMORY_MIB = 1024
IMAGES = Path("/usr/share/OVMF")
VARIABLES = Path("/run/bench-variables.fd")
STAGES = {"boot loader": "GNU GRUB", "login": "root@installed"}
BOOT_SECONDS = 600


class Q35(guests.Q35):
    @classmethod
    def command(cls, cmdline, devices):
        shutil.copyfile(IMAGES / "OVMF_VARS_4M.fd", VARIABLES)
        flash = (f"readonly=on,file={IMAGES / 'OVMF_CODE_4M.fd'}", f"file={VARIABLES}")
        return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", *cls.machine, "-nodefaults",
                "-no-user-config", "-display", "none", "-serial", "stdio", "-m", str(MEMORY_MIB),
                *(word for one in flash for word in ("-drive", f"if=pflash,format=raw,{one}")),
                *(word for bdf in devices for word in ("-device", f"vfio-pci,host={bdf}"))]


class Penstock(guests.Penstock):
    @staticmethod
    def command(cmdline, devices):
        return ["penstock", "run", "--firmware", "uefi", "--memory", f"{MEMORY_MIB}M", "--serial", "stdio",
                *(word for bdf in devices for word in ("--device", bdf))]


PEERS = (Q35, Penstock)


def prepare():
    """Firmware does not live long in the lab without."""
    subprocess.run(["modprobe", "keep_cr8_intercept"], check=True)


class Guest(harness.Machine):
    def __init__(self, peer, **options):
        harness.vmm = peer
        super().__init__(devices=(DISK,), **options)

    def reach(self, stage):
        self.expect(STAGES[stage], BOOT_SECONDS)


def exits(peer):
    """By stage, from the start on."""
    with Exits() as counting, Guest(peer) as guest:
        found = {}
        for stage in STAGES:
            guest.reach(stage)
            found[stage] = counting.kinds()
        return found


def seconds(peer):
    with Guest(peer) as guest:
        began = time.monotonic()
        found = {}
        for stage in STAGES:
            guest.reach(stage)
            found[stage] = time.monotonic() - began
        return found


def memory(peer):
    """When somebody is logged in."""
    with Group() as group, Guest(peer, before=group.before) as guest:
        guest.reach("login")
        pids = [guest.process.pid, *guest.descendants()]
        return {**beside_guest(pids, MEMORY_MIB * 1024), **group.kib()}

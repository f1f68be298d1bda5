# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines that are compared: the same guest, with the same devices, under each VMM; and the host
itself, without one."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/lab"))

import harness                      # noqa: E402

DISK, NIC = harness.NVME_A, harness.E1000E
MEMORY_MIB = 512
BOOT_SECONDS = 240
FIRST_LINE = "ignore_loglevel earlyprintk=ttyS0"


class Q35(harness.Qemu):
    name = "QEMU q35"
    machine = ["-machine", "q35"]

    @classmethod
    def command(cls, cmdline, devices, initrd=harness.INITRD, memory=MEMORY_MIB, more=()):
        return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", *cls.machine,
                "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
                "-m", str(memory), "-kernel", harness.KERNEL, "-initrd", initrd,
                "-append", cmdline,
                *(word for bdf in devices for word in ("-device", f"vfio-pci,host={bdf}")), *more]


class Q35Native(Q35):
    """Its hotplug as hardware has it, which is Penstock's, too, instead of ACPI's."""

    name = "QEMU q35, native hotplug"
    machine = [*Q35.machine, "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]


class Microvm(Q35):
    name = "QEMU microvm"
    # What its documentation advises for a short start, with the smallest firmware.
    machine = ["-machine", "microvm,pcie=on,rtc=on,pit=off,pic=off,x-option-roms=off",
               "-bios", "qboot.rom"]


class Penstock(harness.Penstock):
    name = "Penstock"
    # Penstock binds devices itself. Here it finds them bound, as its peers do.
    binding = harness.Qemu.binding

    @staticmethod
    def command(cmdline, devices, initrd=harness.INITRD, memory=MEMORY_MIB, more=()):
        return harness.Penstock.command(cmdline=cmdline, devices=devices, initrd=initrd,
                                        memory=f"{memory}M", more=more)


PEERS = (Q35, Microvm, Penstock)


class Commands:
    """What a guest and the host have in common: a shell, and devices at their drivers."""

    def connect(self):
        """The NIC reaches the peer."""
        name = self.sh(f"ls {self.nic}/net").strip()
        self.sh(f"ip address add 10.99.0.10/24 dev {name}; ip link set {name} up; "
                f"until ping -c 1 -W 1 10.99.0.1; do sleep 0.1; done")


class Guest(harness.Machine, Commands):
    """A running guest: one vCPU, one NVMe disk, a shell on the serial line."""

    disk = "/dev/nvme0n1"
    nic = "/sys/bus/pci/drivers/e1000e/0*"

    def __init__(self, peer, cmdline="", devices=(DISK,), **options):
        harness.vmm = peer
        self._commands = 0
        super().__init__(cmdline=cmdline, devices=devices, **options)

    def wait_for_first_line(self):
        """Of the kernel, with FIRST_LINE on its command line."""
        self.expect("Linux version", BOOT_SECONDS)

    def wait_for_user_space(self):
        self.expect("USERSPACE-UP", BOOT_SECONDS)

    def open_shell(self):
        """Without echo and line editing: each byte on the serial line costs exits."""
        self.expect("# ", BOOT_SECONDS)
        self.type("stty -echo; exec sh -c 'while read -r line; do eval \"$line\"; done'\n")
        self.sh("true")
        self.sh(f"while [ ! -b {self.disk} ]; do sleep 0.1; done")

    def sh(self, command):
        """Runs a command in the guest; returns what it printed."""
        self._commands += 1
        start = len(self.output)
        self.type(f"{command}; echo '<'{self._commands}'>'\n")
        mark = f"<{self._commands}>\n"
        self.expect(mark)
        return self.output[start:self.output.index(mark, start)]

    def power_off(self):
        self.type("poweroff -f\n")
        return self.wait()

    def pids(self):
        return [self.process.pid, *self.descendants()]


class Native(Commands):
    """The host itself, with the guest's programs. The NIC is in a network of its own, so that its
    traffic takes the cable and not the way through the kernel."""

    name = "native"
    nic = f"/sys/bus/pci/devices/{NIC}"

    def __enter__(self):
        self.disk = harness.block_device(DISK)
        self._programs = tempfile.TemporaryDirectory()
        for name in ("bulk", "reads"):
            os.symlink("/lab/guest/programs", Path(self._programs.name, name))
        interface = harness.network_device(NIC)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "link", "set", interface, "netns", self.name], check=True)
        return self

    def __exit__(self, *_):
        # With it the NIC comes back.
        subprocess.run(["ip", "netns", "delete", self.name], check=True)
        self._programs.cleanup()

    def open_shell(self):
        pass

    def sh(self, command):
        words = ["ip", "netns", "exec", self.name, "sh", "-c", command]
        path = f"{self._programs.name}:{os.environ['PATH']}"
        return subprocess.run(words, env={**os.environ, "PATH": path}, check=True,
                              stdout=subprocess.PIPE, text=True).stdout

    def power_off(self):
        pass

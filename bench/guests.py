# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines that are compared: the same guest, with the same disk, under each VMM."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/lab"))

import harness                      # noqa: E402

DISK = harness.NVME_A
MEMORY_MIB = 512
BOOT_SECONDS = 240


class Q35(harness.Qemu):
    name = "QEMU q35"
    machine = ["-machine", "q35"]

    @classmethod
    def command(cls, cmdline, devices, initrd=harness.INITRD):
        return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", *cls.machine,
                "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
                "-m", str(MEMORY_MIB), "-kernel", harness.KERNEL, "-initrd", initrd,
                "-append", cmdline,
                *(word for bdf in devices for word in ("-device", f"vfio-pci,host={bdf}"))]


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
    def command(cmdline, devices, initrd=harness.INITRD):
        return harness.Penstock.command(cmdline=cmdline, devices=devices, initrd=initrd,
                                        memory=f"{MEMORY_MIB}M")


PEERS = (Q35, Microvm, Penstock)


class Guest(harness.Machine):
    """A running guest: one vCPU, one NVMe disk, a shell on the serial line."""

    def __init__(self, peer, cmdline="", **options):
        harness.vmm = peer
        self._commands = 0
        super().__init__(cmdline=cmdline, devices=[DISK], **options)

    def wait_for_user_space(self):
        self.expect("USERSPACE-UP", BOOT_SECONDS)

    def open_shell(self):
        """Without echo and line editing: each byte on the serial line costs exits."""
        self.expect("# ", BOOT_SECONDS)
        self.type("stty -echo; exec sh -c 'while read -r line; do eval \"$line\"; done'\n")
        self.sh("true")
        self.sh("while [ ! -b /dev/nvme0n1 ]; do sleep 0.1; done")

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

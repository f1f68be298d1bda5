"""The emulated host as a QEMU process: its command line, its channels, its end."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

from lablib import picture
from lablib.initrd import Archive
from lablib.process import dying_with_parent
from lablib.report import LabError

# The split interrupt controller is what interrupt remapping needs; an AMD processor because the
# emulator knows SVM but not VMX; caching mode is what VFIO in the host needs of the IOMMU. Slots are
# PCIe's own, as ports whose slots are ACPI's do not say that their link is up after a reset. The local APIC
# is reached by MSRs (x2APIC): in its page of memory, writes get lost when devices' BARs come and go meanwhile.
HARDWARE = """
    -machine q35,kernel-irqchip=split,sata=off -accel tcg,thread=multi,tb-size=1024
    -cpu EPYC-Rome,+svm,+npt,+x2apic
    -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48,eim=on
    -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
    -nodefaults -no-user-config -display none -no-reboot
"""
# A host that hangs ends itself, so that it is soon started anew, and tells its whole log before that,
# which has room for a whole run. A disk's driver that waits in vain for an interrupt looks for itself after
# so many seconds, rather than after 60, when the tests, and penstock, have given up. Whether the
# timer's interrupts come in time at the start tells nothing where others have the CPUs.
KERNEL_ARGUMENTS = ("console=ttyS0 quiet no_timer_check panic=-1 panic_print=0x20 "
                    "sysctl.kernel.panic_on_rcu_stall=1 nvme_core.admin_timeout=20 nvme_core.io_timeout=20 "
                    "sysctl.kernel.hung_task_timeout_secs=60 log_buf_len=16M "
                    "intel_iommu=on iommu=nopt mitigations=off")


def emulator(root):
    """The QEMU of the emulated host's root, with the libraries from there: the same everywhere."""
    tree = root / "tree/usr"
    libraries = tree / "lib/x86_64-linux-gnu"
    return [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries,
            tree / "bin/qemu-system-x86_64", "-L", tree / "share/qemu", "-L", tree / "share/seabios"]


MONITOR_SECONDS, SAMPLES = 5, 3
CHANNELS = ("stdout", "stderr", "control", "monitor")

# What the host inside may ask of QEMU's monitor outside.
MONITOR_COMMANDS = ("device_add", "device_del", "info", "mouse_button", "mouse_move",
                    "pcie_aer_inject_error", "screendump", "sendkey")


class Machine:
    """A running emulated host. Each channel is our end of a socket to a port inside."""

    def __init__(self, directory, images, options):
        self.directory = directory
        self.options = options
        self.channels = {}
        self._theirs = []
        arguments = self._arguments(images)
        with open(directory / "qemu.log", "w") as log:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=dying_with_parent(),
                pass_fds=[end.fileno() for end in self._theirs])
        for end in self._theirs:
            end.close()
        self._qmp_stream = self.channels["qmp"].makefile("rw")
        self._qmp_ready = False

    def _arguments(self, images):
        options = self.options
        return [*emulator(images.root), *shlex.split(HARDWARE),
                *(["-bios", "OVMF.fd"] if options.uefi else []),
                # A host that resets itself without a word of its kernel's: was it a triple fault?
                "-d", "cpu_reset", "-D", str(self.directory / "cpu.log"),
                "-name", "penstock-lab", "-smp", str(options.cpus), "-m", options.memory,
                "-kernel", str(images.host / "vmlinuz"), "-initrd", self._initrd(images),
                "-append", " ".join([KERNEL_ARGUMENTS, f"lab.host={options.host}",
                                     *options.kernel_args]),
                "-chardev", f"file,id=console,path={_escape(self.directory / 'console.log')}",
                "-serial", "chardev:console",
                "-drive", f"if=none,id=root,format=raw,readonly=on,"
                          f"file={_escape(images.root / 'root.squashfs')}",
                "-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=02.0",
                *self._ports(), *self._shares(images), *options.devices]

    def _initrd(self, images):
        """The host's initramfs and, after it, one with what belongs to this run."""
        archive = Archive()
        archive.file("lab/job", self._job(), 0o755)
        if self.options.tty:
            size = os.get_terminal_size()
            archive.file("lab/tty", f"rows {size.lines} columns {size.columns}\n")
        if self.options.build:
            archive.file("lab/has-build", "")
        path = self.directory / "initrd"
        path.write_bytes((images.host / "initrd").read_bytes() + archive.bytes())
        return str(path)

    def _job(self):
        term = os.environ.get("TERM", "linux")
        return (f"#!/bin/sh\nexport PATH=/penstock/build:$PATH TERM={shlex.quote(term)}\n"
                f"exec {shlex.join(self.options.command)}\n")

    def _ports(self):
        arguments = ["-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=03.0"]
        if self.options.tty:
            arguments += [*self._channel("tty"), "-device", "virtconsole,bus=ports.0,chardev=tty"]
        for name in CHANNELS:
            arguments += [*self._channel(name), "-device",
                          f"virtserialport,bus=ports.0,chardev={name},name=lab.{name}"]
        return [*arguments, *self._channel("qmp"), "-mon", "chardev=qmp,mode=control"]

    def _channel(self, name):
        ours, theirs = socket.socketpair()
        self.channels[name] = ours
        self._theirs.append(theirs)
        return "-chardev", f"socket,id={name},fd={theirs.fileno()}"

    def _shares(self, images):
        options = self.options
        shares = {"penstock": (options.checkout, "on"), "guest": (images.guest, "on"),
                  "out": (options.out, "off")}
        if options.build:
            shares["build"] = (options.build, "on")
        arguments = []
        for slot, (tag, (path, readonly)) in enumerate(shares.items()):
            arguments += [
                "-fsdev", f"local,id={tag},path={_escape(path)},readonly={readonly},"
                          f"security_model=none,multidevs=remap",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0,addr=05.{slot},"
                           f"multifunction=on"]
        return arguments

    def monitor(self, line):
        """Runs one line for QEMU's monitor that came from inside; returns the reply."""
        words = line.split()
        if words[:1] == ["picture"] and len(words) == 3:
            return self._picture(*words[1:])
        if not words or words[0] not in MONITOR_COMMANDS:
            return f"error: only picture {' '.join(MONITOR_COMMANDS)} are let through\n"
        if words[0] == "screendump" and len(words) > 1:
            words[1] = str(self.options.out / Path(words[1]).name)
        return self._qmp("human-monitor-command", {"command-line": " ".join(words)})

    def _picture(self, name, device):
        """What a display device shows goes into /out; returns what is written on it."""
        taken = self.directory / "picture"
        said = self._qmp("human-monitor-command", {"command-line": f"screendump {taken} {device}"})
        if said:
            return f"error: {said}"
        try:
            shown = picture.load(taken)
            (self.options.out / Path(name).name).write_bytes(shown.png())
            lines = shown.text().splitlines()
        except (LabError, OSError, ValueError, subprocess.CalledProcessError) as error:
            return f"error: {error}\n"
        return "".join(f"{line}\n" for line in lines if line.strip(" ."))

    def _qmp(self, command, arguments=None):
        if not self._qmp_ready:
            self._qmp_stream.readline()     # the greeting
            self._qmp_ready = True
            self._qmp("qmp_capabilities")
        self._qmp_stream.write(json.dumps({"execute": command, "arguments": arguments or {}}))
        self._qmp_stream.flush()
        for line in self._qmp_stream:
            reply = json.loads(line)
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                return f"error: {reply['error']['desc']}\n"
        raise LabError("the lab's machine is gone")

    def note_interrupts(self):
        """What the CPUs' interrupt controllers hold, several times: of a host that has hung."""
        text = ""
        with contextlib.suppress(OSError, ValueError, LabError):
            self.channels["qmp"].settimeout(MONITOR_SECONDS)
            for _ in range(SAMPLES):
                for cpu in range(self.options.cpus):
                    text += self._qmp("human-monitor-command", {"command-line": f"info lapic {cpu}"})
                time.sleep(1)
        (self.directory / "lapic.log").write_text(text.replace("\r", ""))

    def end(self):
        """Nothing in it is worth an orderly end: all that stays is in /out, written through."""
        self.process.kill()
        self.process.wait()
        for channel in self.channels.values():
            channel.close()


def _escape(path):
    return str(path).replace(",", ",,")

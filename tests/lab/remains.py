"""What a test may leave on the host: nothing."""

import contextlib
import os
import re
from pathlib import Path

import hang

DEVICES = Path("/sys/bus/pci/devices")
RUN = Path("/run/penstock")
LOCKS = RUN / "locks"       # its files stay; that nobody holds one is what counts
USED = RUN / "used"         # tells of machines that have ended
MESSAGES = RUN / "messages" # theirs


def driver(bdf):
    link = DEVICES / bdf / "driver"
    return os.path.basename(os.readlink(link)) if link.exists() else None


def override(bdf):
    """driver_override, None when it is not set."""
    value = (DEVICES / bdf / "driver_override").read_text().strip()
    return None if value == "(null)" else value


def drivers():
    """Driver and override of every device; a virtual one may go meanwhile."""
    found = {}
    for path in DEVICES.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = driver(path.name), override(path.name)
    return found


def records():
    """Files of ours: records of devices, names of machines, notes of binds under way."""
    return {str(path) for path in RUN.rglob("*") if not path.is_dir() and
            not {LOCKS, USED, MESSAGES} & set(path.parents)}


def held_locks():
    inodes = {path.stat().st_ino: str(path) for path in RUN.rglob("*")}
    held = re.findall(r"^\d+: \S+ .*? \S+:\S+:(\d+) ", hang.read("/proc/locks", ""), re.MULTILINE)
    return {inodes[int(inode)] for inode in held if int(inode) in inodes}


def vfio_users():
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(("/dev/vfio/", "/dev/iommu")) or "vfio" in target.partition("anon_inode:")[2]:
            found.add(f"process {link.parts[2]} has {target}")
    return found


def machines():
    return {path.name for path in Path("/sys/kernel/debug/kvm").glob("[0-9]*-*")}


class Remains:
    """The host as it is now."""

    def __init__(self):
        self.drivers = drivers()
        self.processes = hang.user_processes()
        self.records, self.locks = records(), held_locks()
        self.vfio_users, self.machines = vfio_users(), machines()

    def since(self, before):
        """What differs from how the host was, one line each."""
        lines = []
        for bdf in sorted(set(before.drivers) | set(self.drivers)):
            then, now = before.drivers.get(bdf, "gone"), self.drivers.get(bdf, "gone")
            if then != now:
                lines.append(f"{bdf} has driver and override {now}, not {then}")
        for what in ("records", "locks", "vfio_users", "machines"):
            for one in sorted(getattr(self, what) - getattr(before, what)):
                lines.append(f"left behind ({what.replace('_', ' ')}): {one}")
        for pid in sorted(set(self.processes) - set(before.processes) - {os.getpid()}):
            lines.append(f"left behind: process {pid}, {self.processes[pid]}")
        return lines

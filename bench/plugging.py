# SPDX-License-Identifier: GPL-2.0-or-later
"""Seconds until a disk that the host uses is the guest's, and until the host has it back."""

import contextlib
import os
import tempfile
import time

from guests import DISK, Guest, Penstock, harness    # finds what the lab's tests are written with
from control import Monitor

PLUGGED, TIMES = harness.NVME_B, 3
NODE = "/dev/nvme1n1"       # in the guest, beside the disk that it starts with
NAME = "plugging"
# Linux looks at a slot again a second after it has switched its power off.
PAUSE_SECONDS = 2


class ByPenstock:
    options = {"more": ["--name", NAME]}

    def run(self, command):
        done = harness.command(["penstock", command, NAME, PLUGGED], harness.RUN_SECONDS)
        harness.check(done.returncode == 0, f"{command}: {done.stderr}")

    def attach(self):
        self.run("attach")

    def detach(self):
        self.run("detach")

    def close(self):
        pass


class ByQemu:
    """What a user of QEMU does: bind, device_add, device_del, bind."""

    def __init__(self):
        self._path = os.path.join(tempfile.gettempdir(), "plugging.qmp")
        self.options = {"more": ["-device", "pcie-root-port,id=plugs,chassis=1,slot=1",
                                 "-qmp", f"unix:{self._path},server=on,wait=off"]}
        self._monitor = None

    def attach(self):
        if not self._monitor:
            self._monitor = Monitor(self._path)
        harness.rebind(PLUGGED, "vfio-pci")
        self._monitor.run("device_add", driver="vfio-pci", host=PLUGGED, bus="plugs", id="plugged")

    def detach(self):
        self._monitor.run("device_del", id="plugged")
        while self._monitor.expect("DEVICE_DELETED")["data"].get("device") != "plugged":
            continue
        harness.rebind(PLUGGED, None)

    def close(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def seconds_of(function):
    began = time.monotonic()
    function()
    return time.monotonic() - began


def seconds(peer):
    by = ByPenstock() if peer is Penstock else ByQemu()
    found = {"attach": [], "detach": []}
    with contextlib.closing(by), Guest(peer, devices=[DISK], **by.options) as guest:
        guest.open_shell()

        def attach():
            by.attach()
            guest.sh(f"while [ ! -b {NODE} ]; do sleep 0.02; done")

        def detach():
            by.detach()
            harness.wait_until(lambda: harness.driver(PLUGGED) == "nvme", harness.QUICK_SECONDS,
                               f"{PLUGGED} does not come back")

        for _ in range(TIMES):
            found["attach"].append(seconds_of(attach))
            found["detach"].append(seconds_of(detach))
            guest.sh(f"while [ -b {NODE} ]; do sleep 0.02; done")
            time.sleep(PAUSE_SECONDS)
        guest.power_off()
    return found

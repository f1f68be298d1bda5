# SPDX-License-Identifier: GPL-2.0-or-later
"""Milliseconds of CPU time that it takes to make a guest's RAM present and to map it for DMA: a program that
does nothing else, and Penstock before its guest starts (--prealloc)."""

import os
import subprocess
import time
from pathlib import Path

from guests import DISK, Guest, Penstock, harness    # finds what the lab's tests are written with
from control import Monitor

NAME = "filling"
# As a machine does other things, too, it is the difference that counts.
SIZES_MIB = (512, 4608)


def bare(memory):
    with harness.Qemu.binding([DISK]):
        done = subprocess.run(["/penstock/build/tests/populate", str(memory), harness.group(DISK)],
                              capture_output=True, text=True, check=True)
        return float(done.stdout)


def cpu_ms(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) * 1000 / os.sysconf("SC_CLK_TCK")


def of_penstock(memory):
    path = f"/run/penstock/{NAME}.sock"
    with Guest(Penstock, memory=memory, more=["--name", NAME, "--prealloc"]) as guest:
        harness.wait_until(lambda: os.path.exists(path), harness.QUICK_SECONDS, "no socket")
        monitor = Monitor(path)
        while monitor.run("query-status")["status"] != "running":
            time.sleep(0.02)
        found = cpu_ms(guest.descendants()[-1])
        monitor.close()
        guest.process.terminate()
        guest.wait()
        return found


def milliseconds(peer, clear):
    """clear makes so much memory alike, see bench/measure."""
    found = []
    for memory in SIZES_MIB:
        clear(memory)
        found.append(of_penstock(memory) if peer is Penstock else bare(memory))
    return found[1] - found[0]

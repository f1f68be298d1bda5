"""Devices by vDPA: what the second kernel simulates, a disk in its memory and a card that hears itself, and VDUSE's."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from bad_input import FAILURE
from disks import DAEMON, MIB
from harness import (QUICK_SECONDS, USER, Machine, Penstock, as_user, check, refused, run_guest, sectors, test,
                     wait_until)
from lablib.scenario import SECTOR

MAC = "52:54:00:98:00:01"


@contextlib.contextmanager
def management(name, of, *more):
    """A device of what makes them, and its node."""
    subprocess.run(["vdpa", "dev", "add", "name", name, "mgmtdev", of, *more], check=True)
    try:
        node = next(Path("/sys/bus/vdpa/devices", name).glob("vhost-vdpa-*"))
        wait_until(lambda: Path("/dev", node.name).exists(), QUICK_SECONDS, f"no node of {name}")
        yield f"/dev/{node.name}"
    finally:
        subprocess.run(["vdpa", "dev", "del", name], check=True)


def simulated(name, kind, *more):
    for module in (f"vdpa_sim_{kind}", "vhost_vdpa"):
        subprocess.run(["modprobe", module], check=True)
    return management(name, f"vdpasim_{kind}", *more)


@test(host="iommufd", only=Penstock, long=True)
def a_guest_has_a_disk_and_a_card_by_vdpa():
    """From one life to the next: the disk keeps what is written, and both are reset in between."""
    with simulated("disk", "blk") as disk, simulated("card", "net", "mac", MAC) as card:
        output = run_guest("vdpa", cmdline=f"net.mac={MAC}", more=["--vdpa", disk, "--vdpa", card])
    check("this is the first start" in output and "this is the second start" in output, output[-2000:])
    check(output.count("packets came back") == 2, output[-2000:])


@test(host="iommufd", only=Penstock, long=True)
def a_vdpa_device_is_one_machines_alone():
    """And a user's, who has been let in; its end gives it free."""
    kernel = Penstock.command
    refused(kernel(more=["--vdpa", "/dev/vhost-vdpa-77"]), FAILURE, "no such vDPA device", "vdpa dev add",
            "modprobe vhost_vdpa")
    refused(kernel(more=["--vdpa", "/dev/zero"]), FAILURE, "no node of vhost-vdpa's")
    with simulated("disk", "blk") as disk:
        refused([*as_user(1 << 30), *kernel(more=["--vdpa", disk])], FAILURE, f"chown .USER {disk}")
        os.chown(disk, USER, 0)
        refused([*as_user(64 << 20), *kernel(more=["--vdpa", disk])], FAILURE, "memory-lock limit")
        with Machine("wait", before=as_user(1 << 30), more=["--vdpa", disk]) as machine:
            machine.expect("WAITING")
            refused(kernel(more=["--vdpa", disk]), FAILURE, disk, "is in use")
            machine.process.terminate()
            machine.wait()
        os.close(os.open(disk, os.O_RDWR))


@contextlib.contextmanager
def vduse(image, name):
    """A disk that a process serves by VDUSE, as Debian's kernels have it; its node."""
    for module in ("vduse", "vhost_vdpa"):
        subprocess.run(["modprobe", module], check=True)
    daemon = subprocess.Popen([DAEMON, "--blockdev", f"driver=file,node-name=file,filename={image},discard=unmap",
                               "--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap", "--export",
                               f"type=vduse-blk,id=export,node-name=disk,name={name},writable=on"])
    try:
        wait_until(lambda: Path("/dev/vduse", name).exists() or daemon.poll() is not None, QUICK_SECONDS,
                   f"no VDUSE device of {DAEMON}")
        with management(name, "vduse") as node:
            yield node
    finally:
        daemon.terminate()
        daemon.wait(QUICK_SECONDS)


@test(only=Penstock, long=True)
def a_guest_has_a_processes_disk_by_vdpa():
    """Debian's kernel: what the host has put there is read, what the guest has written the host finds."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory, "disk.raw")
        image.write_bytes(sectors("image", 0, 4 * MIB // SECTOR))
        os.truncate(image, 32 * MIB)
        with vduse(image, "vduse0") as node:
            run_guest("blk", cpus=2, more=["--vdpa", node])
        data = image.read_bytes()
    check(data[8 * MIB:12 * MIB] == sectors("guest", 8 * MIB // SECTOR, 4 * MIB // SECTOR), "the guest's is not there")
    check(data[12 * MIB:16 * MIB] == bytes(4 * MIB), "what was discarded is there")

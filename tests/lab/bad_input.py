"""What cannot be done is refused: one clear error, the right exit code, and nothing touched."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import harness
from harness import (E1000E, KERNEL, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME, Penstock, block_device,
                     check, group, network_device, rebind, refused, run_guest, sectors, test)
from passthrough import bulk_peer

FAILURE, USAGE = 1, 2
run = Penstock.command


def every(*cases):
    """All cases, so that one failure does not hide the others."""
    failures = []
    for arguments in cases:
        try:
            refused(*arguments)
        except harness.Failure as failure:
            failures.append(str(failure))
    check(not failures, "\n".join(failures))


@test(only=Penstock)
def usage():
    every((["penstock", "frobnicate"], USAGE, "frobnicate"),
          (["penstock", "run"], USAGE, "kernel"),
          (["penstock", "run", "--frobnicate"], USAGE, "frobnicate"),
          (["penstock", "run", "--kernel"], USAGE, "kernel"),
          (run(cpus="none"), USAGE, "none"),
          (run(memory="12Q"), USAGE, "12Q"),
          (run(serial="carrier-pigeon"), USAGE, "carrier-pigeon"),
          (run(devices=["01:zebra"]), USAGE, "01:zebra"))
    for words in (["penstock", "--help"], ["penstock", "run", "--help"]):
        done = harness.command(words)
        check(done.returncode == 0 and "--" in done.stdout, f"{words}: no help: {done.stderr}")


@test(only=Penstock)
def kernels_and_initrds():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        kernel = Path(KERNEL).read_bytes()
        (directory / "short").write_bytes(kernel[:300])
        (directory / "truncated").write_bytes(kernel[:1 << 20])
        (directory / "text").write_text("This is no kernel.\n" * 1000)
        (directory / "empty").touch()
        with open(directory / "huge", "wb") as huge:
            huge.truncate(300 << 20)
        every((run(kernel="/nowhere/vmlinuz"), FAILURE, "/nowhere/vmlinuz", "no such file"),
              (run(kernel=directory), FAILURE, name),
              *((run(kernel=directory / bad, devices=[NVME_A]), FAILURE, f"{name}/{bad}")
                for bad in ("short", "truncated", "text", "empty")),
              (run(initrd="/nowhere/initrd"), FAILURE, "/nowhere/initrd", "no such file"),
              (run(initrd=directory / "huge", memory="256M", devices=[NVME_A]), FAILURE,
               f"{name}/huge"))


@test(only=Penstock)
def memory_and_cpus():
    every((run(memory="0"), USAGE, "memory"),
          (run(memory="4T"), FAILURE, "memory"),
          (run(cpus=0), USAGE, "cpu"),
          (run(cpus=65), USAGE, "cpu"),
          (run(cpus=100000), USAGE, "cpu"))


@test(only=Penstock)
def addresses():
    every((run(devices=["0000:7f:00.0"]), FAILURE, "0000:7f:00.0"),
          (run(devices=["zebra"]), FAILURE, "zebra"),
          (run(devices=["1b36:0010"]), FAILURE, "1b36:0010"),      # three have this ID
          (run(devices=["0000:01:00.9"]), USAGE, "0000:01:00.9"),
          (run(devices=[NVME_A, NVME_A]), USAGE, NVME_A),
          (run(devices=["0000:00:10.0"]), FAILURE, "0000:00:10.0"))


# --- devices that the host is using ---------------------------------------------------------------

@contextlib.contextmanager
def scratch_area(path):
    """The first MiB of a disk, whose content is put back."""
    yield
    with open(path, "r+b") as disk:
        disk.write(sectors("nvme-b", 0, (8 << 20) // harness.SECTOR))
        os.fsync(disk.fileno())


def do(*words):
    subprocess.run(words, check=True, capture_output=True)


@test(only=Penstock)
def mounted_disk():
    path = block_device(NVME_B)
    with scratch_area(path):
        do("mkfs.ext4", "-q", path, "4M")
        do("mount", path, "/mnt")
        try:
            refused(run(devices=[NVME_B]), FAILURE, NVME_B, "mount")
        finally:
            do("umount", "/mnt")


@test(only=Penstock)
def swap_disk():
    path = block_device(NVME_B)
    with scratch_area(path):
        do("mkswap", path)
        do("swapon", path)
        try:
            refused(run(devices=[NVME_B]), FAILURE, NVME_B, "swap")
        finally:
            do("swapoff", path)


@contextlib.contextmanager
def default_route(bdf):
    nic = network_device(bdf)
    do("ip", "link", "set", nic, "up")
    do("ip", "address", "add", "10.98.0.1/24", "dev", nic)
    do("ip", "route", "add", "default", "via", "10.98.0.2")
    try:
        yield
    finally:
        # a forced machine has taken the interface away, and its routes with it
        subprocess.run(["ip", "route", "del", "default"], capture_output=True)
        subprocess.run(["ip", "address", "flush", "dev", nic], capture_output=True)
        subprocess.run(["ip", "link", "set", nic, "down"], capture_output=True)


@test(only=Penstock)
def default_route_and_force():
    with default_route(E1000E):
        refused(run(devices=[E1000E]), FAILURE, E1000E, "route")
        with bulk_peer() as seen:
            run_guest("net", devices=[E1000E], more=["--force"])
        check(seen == [True], "the guest does not have the NIC that it was to have by force")
    check(harness.driver(E1000E) == "e1000e", f"it is at {harness.driver(E1000E)} afterwards")


@test(only=Penstock)
def companion_in_use():
    """The group of the pair cannot be had whole while the host needs the other function."""
    with default_route(PAIR_NIC):
        refused(run(devices=[PAIR_NVME]), FAILURE, PAIR_NIC, "route")


@test(only=Penstock)
def group_held_by_another():
    """Half-way through the start: what was bound is given back, what was at vfio-pci stays."""
    do("modprobe", "vfio-pci")
    rebind(NVME_B, "vfio-pci")
    try:
        with open(f"/dev/vfio/{group(NVME_B)}", "r+b", buffering=0):
            refused(run(devices=[NVME_A, NVME_B]), FAILURE, NVME_B)
        check(harness.driver(NVME_B) == "vfio-pci" and harness.override(NVME_B) == "vfio-pci",
              "a device that was at vfio-pci before did not stay there")
    finally:
        rebind(NVME_B, None)


# --- a host that lacks something ------------------------------------------------------------------

@contextlib.contextmanager
def hidden(path):
    path = Path(path)
    aside = path.with_name(path.name + ".hidden")
    shutil.move(path, aside)
    try:
        yield
    finally:
        shutil.move(aside, path)


@test(only=Penstock)
def no_kvm():
    with hidden("/dev/kvm"):
        refused(run(devices=[NVME_A]), FAILURE, "/dev/kvm")


@test(only=Penstock)
def no_vfio_module():
    subprocess.run(["modprobe", "-r", "vfio-pci"], check=True)
    with hidden(f"/usr/lib/modules/{os.uname().release}/kernel/drivers/vfio/pci/vfio-pci.ko"):
        refused(run(devices=[NVME_A]), FAILURE, "vfio-pci")


@test(only=Penstock)
def memory_lock_limit():
    """As for a service without CAP_IPC_LOCK and CAP_SYS_RESOURCE."""
    limit = ["prlimit", f"--memlock={64 << 10}:{64 << 10}"]
    weak = ["setpriv", "--bounding-set=-ipc_lock,-sys_resource",
            "--inh-caps=-ipc_lock,-sys_resource"]
    refused([*limit, *weak, *run(devices=[NVME_A])], FAILURE, "lock")


@test(host="no-intremap", only=Penstock)
def no_interrupt_remapping():
    refused(run(devices=[NVME_A]), FAILURE, NVME_A, "interrupt remapping")


@test(host="no-iommu", only=Penstock)
def no_iommu_group():
    refused(run(devices=[NVME_A]), FAILURE, NVME_A, "iommu")

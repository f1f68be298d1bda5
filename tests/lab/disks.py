"""Disks in images, which qemu-storage-daemon serves."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import kvm
from bad_input import FAILURE
from harness import (BOOT_SECONDS, NVME_A, NVME_B, RUN_SECONDS, Machine, Penstock, block_device, check, command, refused,
                     sectors, test)
from lablib.scenario import SECTOR

MIB = 1 << 20
DAEMON = "qemu-storage-daemon"


def make_image(directory):
    """A qcow2 image that is empty, on a raw one of root's that begins with what the guest looks for."""
    base, image = Path(directory, "base.raw"), Path(directory, "disk.qcow2")
    base.write_bytes(sectors("image", 0, 4 * MIB // SECTOR))
    os.truncate(base, 32 * MIB)
    os.chmod(base, 0o600)
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.name, image)
    os.chmod(image, 0o600)
    return image


def qemu_img(*words):
    return subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.PIPE).stdout


def find_daemon(machine):
    found = [pid for pid in machine.descendants() if Path(f"/proc/{pid}/comm").read_text().startswith(DAEMON[:15])]
    check(len(found) == 1, f"{DAEMON} is {found}")
    return found[0]


def check_confined(pid):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    check(int(status["Uid"].split()[0]) >= 0x70000000 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
          and int(status["CapEff"], 16) == 1 << 1, f"{DAEMON} is not confined: {status}")


def check_shown(name, image, pid):
    done = command(["penstock", "status", "--json", name])
    shown = [(one["serves"], one["pid"], one["file"]) for one in json.loads(done.stdout)["machine"]["backends"]]
    check(shown == [("disk0", pid, str(image))], f"'penstock status' shows {shown}")


def check_image(image, stamp):
    """What the guest has written is there, what it has discarded takes no room, and the image is sound."""
    raw = image.with_suffix(".raw")
    check(json.loads(qemu_img("check", "--output=json", image)).get("leaks", 0) == 0, "the image leaks")
    taken = image.stat().st_blocks * 512
    check(4 * MIB < taken < 6 * MIB, f"{image} takes {taken} bytes: discarding has not reached it")
    qemu_img("convert", "-O", "raw", image, raw)
    data = raw.read_bytes()
    check(data[:4 * MIB] == sectors("image", 0, 4 * MIB // SECTOR), "what was there has changed")
    check(data[8 * MIB:12 * MIB] == sectors(stamp, 8 * MIB // SECTOR, 4 * MIB // SECTOR), "the guest's is not there")
    check(data[12 * MIB:32 * MIB] == bytes(20 * MIB), "what was discarded is there")
    check(data[32 * MIB:] == sectors("more", 32 * MIB // SECTOR, MIB // SECTOR) + bytes(15 * MIB),
          "what the guest has written where the disk has grown is not there")


def change(*words):
    done = command(["penstock", "disk", *words])
    check(done.returncode == 0, f"penstock disk {words}: {done.stderr}")


@test(only=Penstock)
def a_disk_in_an_image():
    """Beside a passed disk: read, written, flushed, discarded; it grows, and has snapshots, meanwhile. Its daemon is confined, and ends with the machine."""
    with tempfile.TemporaryDirectory() as name:
        image = make_image(name)
        with Machine(devices=[NVME_A], cpus=2, name="served", more=["--disk", image]) as machine:
            machine.expect("# ", BOOT_SECONDS)
            daemon = find_daemon(machine)
            check_confined(daemon)
            check_shown("served", image, daemon)
            refused(Penstock.command(more=["--disk", image]), FAILURE, "disk.qcow2", "another program has this disk")
            for words in (["revert", image, "one"], ["convert", image, Path(name, "copy.img")]):
                refused(["penstock", "disk", *words], FAILURE, "disk.qcow2", "has it in use", "penstock stop")
            change("snapshot", image, "one")
            machine.type("blk && echo 'it wor''ks'\n")
            machine.expect("it works", RUN_SECONDS)
            change("resize", image, "+16M")
            machine.type(f"until [ $(cat /sys/block/vda/size) = {48 * MIB // 512} ]; do sleep 0.1; done; "
                         "disk stamp /dev/vda more 32M 1M && echo 'it gro''ws'\n")
            machine.expect("it grows", RUN_SECONDS)
            # Only one that is there can be deleted.
            change("snapshot", "--delete", image, "one")
            machine.type("poweroff -f\n")
            machine.succeed()
            check(not Path(f"/proc/{daemon}").exists(), f"{DAEMON} outlives the machine")
        check("2 queues" in machine.output, "the disk has not a queue for each CPU")
        check_image(image, "guest")


@test(only=Penstock)
def a_block_device_past_the_page_cache():
    """A disk of the host's, by the kernel's older asynchronous I/O. What is written is what was there."""
    with Machine(more=["--disk", f"{block_device(NVME_B)},cache=none,format=raw"]) as machine:
        machine.expect("# ", BOOT_SECONDS)
        daemon = find_daemon(machine)
        check_confined(daemon)
        check("/[aio]" in Path(f"/proc/{daemon}/maps").read_text(), f"{DAEMON} has no asynchronous I/O")
        machine.type("disk verify /dev/vda nvme-b 0 4M && disk stamp /dev/vda nvme-b 4M 4M && "
                     "disk verify /dev/vda nvme-b 0 8M && reads /dev/vda 32 500 && poweroff -f\n")
        machine.succeed()


def check_has_ring(pid):
    open_files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    words = Path(f"/proc/{pid}/cmdline").read_text()
    check("anon_inode:[io_uring]" in open_files and words.count("aio=io_uring") == 2,
          f"{DAEMON} has no ring: {open_files}, {words}")


@test(host="iommufd", only=Penstock)
def a_disk_by_a_ring_that_is_confined():
    """As the second kernel confines one, which serves all that a disk is asked for, and is refused the rest."""
    with tempfile.TemporaryDirectory() as name:
        image = make_image(name)
        with Machine(more=["--disk", image]) as machine:
            machine.expect("# ", BOOT_SECONDS)
            check_confined(find_daemon(machine))
            check_has_ring(find_daemon(machine))
            machine.type("blk && poweroff -f\n")
            machine.succeed()
    kvm.run("/penstock/build/tests/test_sandbox", "a_program*")

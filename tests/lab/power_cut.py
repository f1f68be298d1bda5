#!/usr/bin/env python3
"""Tests that what a guest has flushed to its disk is there after the host's power was cut.

Unlike the lab's other tests it runs outside of the emulated host, which it kills: a guest writes records to an image
on the host's NVMe disk, flushes each, and says so. The host, started anew on that disk, must find each record that
was told of. With ',cache=unsafe', which ignores flushes, it must not: so the test can fail.
"""

import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from harness import Failure, check      # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[2]
DEVICES = """
-device pcie-root-port,id=port1,bus=pcie.0,addr=10.0,chassis=1
-drive if=none,id=nvme-a,format=raw,cache=unsafe,file={}
-device nvme,bus=port1,drive=nvme-a,serial=lab-nvme-a
"""
RECORDS, RECORD_SIZE = 100, 4096
START_SECONDS, RECORDS_SECONDS = 600, 300
MOUNT = "modprobe -a nvme ext4 && until [ -b /dev/nvme0n1 ]; do sleep 0.1; done && mount /dev/nvme0n1 /mnt"
WRITE = """{mount} && penstock disk create {image} 64M && sync && exec penstock run --kernel /lab/guest/vmlinuz \
--initrd /lab/guest/initrd --memory 256M --cmdline 'console=ttyS0 quiet panic=-1 test=commits' --disk {image}{more}"""
READ = "{mount} && penstock disk convert {image} /out/found.img"


class Host:
    """The emulated host, whose NVMe disk lasts."""

    def __init__(self, directory):
        self._directory = directory
        disk = directory / "disk"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", disk, "512M"], check=True, stdout=subprocess.DEVNULL)
        (directory / "devices.conf").write_text(DEVICES.format(disk))

    def start(self, script):
        return subprocess.Popen(
            [CHECKOUT / "lab/run", "--devices", self._directory / "devices.conf", "--out", self._directory / "out",
             "--", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")

    @staticmethod
    def cut_power(run):
        """Of a host that runs: its emulator is all the machine there is."""
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        emulators = [child for child in children if b"nvme-a" in Path(f"/proc/{child}/cmdline").read_bytes()]
        check(len(emulators) == 1, f"the host is not one of {children}")
        subprocess.run(["kill", "-KILL", *emulators], check=True)


def write_until_cut(host, image, more):
    """The records that the guest has told of."""
    run = host.start(WRITE.format(mount=MOUNT, image=image, more=more))
    told, said, deadline = 0, "", time.monotonic() + START_SECONDS
    for line in run.stdout:
        said = (said + line)[-4000:]
        if found := re.search(r"COMMITTED (\d+)", line):
            if not told:
                deadline = time.monotonic() + RECORDS_SECONDS
            told = int(found[1]) + 1
            if told == RECORDS:
                host.cut_power(run)
        check(time.monotonic() < deadline, f"after {told} records: {said}")
    run.wait()
    check(told >= RECORDS, f"after {told} records it has ended: {said}")
    return told


def count_found(host, image, directory):
    """How many of the first are there; none of an image that cannot be read."""
    run = host.start(READ.format(mount=MOUNT, image=image))
    said, _ = run.communicate(timeout=START_SECONDS)
    if run.returncode:
        print(f"   the host's words: {said}", flush=True)
        return 0
    found = (directory / "out/found.img").read_bytes()
    count = 0
    while found[count * RECORD_SIZE:].startswith(b"record %08d\n" % count):
        count += 1
    return count


def survives(kind, more):
    """The records that were told of, and those of them that are found."""
    image = f"/mnt/disk.{kind}"
    with tempfile.TemporaryDirectory() as name:
        host = Host(Path(name))
        told = write_until_cut(host, shlex.quote(image), more)
        found = count_found(host, shlex.quote(image), Path(name))
    print(f"   {kind}{more}: {told} records were flushed, {found} of them and later ones are there", flush=True)
    return told, found


def main():
    failed = 0
    for kind, more in (("qcow2", ""), ("img", ",format=raw"), ("qcow2", ",cache=none"), ("qcow2", ",cache=unsafe")):
        try:
            told, found = survives(kind, more)
            check((found < told) == ("unsafe" in more), f"{found} of {told} records are there")
            print(f"ok {kind}{more}", flush=True)
        except Failure as failure:
            failed += 1
            print(f"FAIL {kind}{more}: {failure}", flush=True)
    print(f"{4 - failed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Tests binding at boot: `penstock boot-config` on a Debian host that boots from its own initramfs.

Unlike the lab's other tests it runs outside of the emulated host, as it boots that several times:
with nothing done; after `boot-config --write` for one of two identical NVMe disks, with penstock.bind=off
and without; and after `boot-config --undo`. What a boot loader would do is done here: kernel,
initramfs and /etc/kernel/cmdline are taken from the host's disk.
"""

import argparse
import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[2] / "lab"))

from harness import Failure, check                          # noqa: E402
from lablib import cache, image, images, machine, scenario  # noqa: E402
from lablib.process import dying_with_parent                # noqa: E402
from lablib.report import LabError, say, step               # noqa: E402

NAMED, OTHER = "0000:01:00.0", "0000:02:00.0"
DEVICES = """
-device pcie-root-port,id=port1,bus=pcie.0,addr=10.0,chassis=1
-drive if=none,id=nvme-a,format=raw,cache=unsafe,file={disk:nvme-a:16M}
-device nvme,bus=port1,drive=nvme-a,serial=lab-nvme-a
-device pcie-root-port,id=port2,bus=pcie.0,addr=11.0,chassis=2
-drive if=none,id=nvme-b,format=raw,cache=unsafe,file={disk:nvme-b:16M}
-device nvme,bus=port2,drive=nvme-b,serial=lab-nvme-b
"""
BOOT_SECONDS = 900

PACKAGES = {"initramfs-tools": ["initramfs-tools"],
            "dracut": ["dracut", "systemd"]}

# A root with one kernel, the program that makes its initramfs, and a first initramfs. nvme is in it,
# as it is wherever the root is on such a disk; little else is, so that it is soon made.
CUSTOMIZE = r"""#!/bin/sh
set -e
cd "$1"
chroot . sh -c "find /usr/lib/modules -name '*.ko.xz' -exec busybox unxz {} +"
find usr/lib/modules -name '*.ko' -exec strip --strip-debug {} +
version=$(ls usr/lib/modules)
chroot . depmod "$version"
mkdir -p lab etc/kernel etc/dracut.conf.d
echo root=/dev/vda rw console=ttyS0 init=/lab/init fsck.mode=skip panic=-1 > etc/kernel/cmdline
cat > etc/dracut.conf.d/lab.conf << END
hostonly=yes
compress=cat
add_drivers+=" virtio_pci virtio_blk ext4 nvme "
END
if [ -e usr/sbin/mkinitramfs ]; then
	printf 'MODULES=list\nCOMPRESS=gzip\n' > etc/initramfs-tools/conf.d/lab
	printf 'virtio_pci\nvirtio_blk\next4\nnvme\n' > etc/initramfs-tools/modules
	rm -r etc/dracut.conf.d
	chroot . update-initramfs -c -k "$version"
else
	chroot . dracut --force --no-hostonly --kver "$version"
fi
"""

# The host's init: drivers as on any host, then a step of the test, its words on a second serial port.
INIT = r"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
mount -o remount,rw /
cat /sys/bus/pci/devices/*/modalias | xargs modprobe -abq
sh -u /lab/job > /dev/ttyS1 2>&1
echo "exit $?" > /dev/ttyS1
sync
mount -o remount,ro /
echo o > /proc/sysrq-trigger
sleep 60
"""

JOB = r"""
boot_files() {
	for place in /etc /usr/lib/dracut /usr/share/initramfs-tools; do
		find "$place" -printf '%p %y %m %l\n' | sort
		find "$place" -type f -exec sha256sum {} + | sort
	done 2> /dev/null
}

# What the command tells to run next is what is run.
run_next() {
	sed -n '/^Run next/,$ s/^  //p' /lab/said > /lab/next
	cat /lab/said
	sh -ex /lab/next || echo "next failed"
}

for step in $(cat /proc/cmdline); do
	case $step in
	lab.step=write)
		boot_files > /lab/before
		penstock boot-config 01:00.0 --write > /lab/said || echo "write failed"
		run_next
		;;
	lab.step=undo)
		penstock boot-config --undo > /lab/said || echo "undo failed"
		boot_files > /lab/after
		diff /lab/before /lab/after || echo "undo left a difference"
		run_next
		;;
	esac
done
# Drivers probe in threads of their own.
for try in 1 2 3 4 5; do
	for bdf in 0000:01:00.0 0000:02:00.0; do
		[ -e "/sys/bus/pci/devices/$bdf/driver" ] || sleep 1
	done
done
for bdf in 0000:01:00.0 0000:02:00.0; do
	driver=$(readlink "/sys/bus/pci/devices/$bdf/driver")
	echo "at $bdf ${driver##*/} $(cat "/sys/bus/pci/devices/$bdf/driver_override")"
done
ls /sys/kernel/iommu_groups | sed 's/^/group /'
ls -t /boot/init* | sed 's/^/initrd /'
dmesg | sed 's/^/kernel /'
"""


def make_root(program):
    def make(directory):
        libraries = [line for line in (image.SOURCES / "packages").read_text().splitlines()
                     if line.startswith("lib")]
        packages = ["linux-image-amd64", "udev", "kmod", "util-linux", "busybox-static", "libmnl0",
                    *PACKAGES[program], *libraries]
        hook = directory / "customize"
        hook.write_text(CUSTOMIZE)
        hook.chmod(0o755)
        step(f"early: Debian {image.SUITE} with {program}, by mmdebstrap")
        image.mmdebstrap(directory / "root.tar", packages, hook,
                         # dracut's package cannot be installed without its own
                         "--dpkgopt=path-include=/etc/kernel/postinst.d/dracut")
        make_disk(directory)
    return make


def make_disk(directory):
    """A disk with the root, without being root: an image of ext4 made from a directory."""
    tree = directory / "tree"
    with tarfile.open(directory / "root.tar") as archive:
        for member in archive:
            if not member.isdev():
                archive.extract(member, tree, set_attrs=not member.issym())
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, directory / "root.disk", "3G"],
                   check=True)
    shutil.rmtree(tree)
    (directory / "root.tar").unlink()


def debugfs(disk, request, write=False):
    done = subprocess.run(["debugfs", *(["-w"] if write else []), "-R", request, disk],
                          capture_output=True, text=True, errors="replace", check=True)
    return done.stdout


class Host:
    """The emulated host, whose disk lasts from boot to boot."""

    def __init__(self, root, penstock, directory):
        self.directory = directory
        self.emulator = machine.emulator(images.ensure().root)
        self.disk = directory / "root"
        subprocess.run(["cp", "--sparse=always", root / "root.disk", self.disk], check=True)
        for name, text in (("init", INIT), ("job", JOB)):
            (directory / name).write_text(text)
            self.put(directory / name, f"/lab/{name}")
        self.put(penstock, "/usr/bin/penstock")
        self.initrd = None
        conf = directory / "devices.conf"
        conf.write_text(DEVICES)
        self.devices = scenario.options(conf, directory)

    def put(self, source, path):
        debugfs(self.disk, f"write {source} {path}", write=True)
        debugfs(self.disk, f"sif {path} mode 0100755", write=True)

    def dump(self, path, name):
        """A file of the host's disk, as a boot loader would read it."""
        target = self.directory / name
        debugfs(self.disk, f"dump {path} {target}")
        check(target.exists() and target.stat().st_size, f"the host's disk has no {path}")
        return target

    def find(self, prefix):
        names = re.findall(rf"\b({prefix}\S*)", debugfs(self.disk, "ls /boot"))
        check(names, f"the host's disk has no /boot/{prefix}*")
        return f"/boot/{names[0]}"

    def boot(self, *words):
        """Boots to the end of the job; returns its lines by their first words."""
        cmdline = self.dump("/etc/kernel/cmdline", "cmdline").read_text().strip()
        logs = [self.directory / "console.log", self.directory / "job.log"]
        for log in logs:
            log.unlink(missing_ok=True)
        arguments = [*self.emulator, *shlex.split(machine.HARDWARE), "-smp", "1", "-m", "2G",
                     "-kernel", self.dump(self.find("vmlinuz-"), "vmlinuz"),
                     "-initrd", self.dump(self.initrd or self.find("init"), "initrd"),
                     "-append", " ".join([cmdline, *words]),
                     *(word for log in logs for word in ("-serial", f"file:{log}")),
                     "-drive", f"if=none,id=root,format=raw,cache=unsafe,file={self.disk}",
                     "-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=02.0", *self.devices]
        try:
            with open(self.directory / "qemu.log", "a") as log:
                subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               timeout=BOOT_SECONDS, check=True, preexec_fn=dying_with_parent())
        except subprocess.TimeoutExpired:
            raise Failure(f"no end within {BOOT_SECONDS} s; the console ends with:\n"
                          + "\n".join(logs[0].read_text(errors="replace").splitlines()[-15:]))
        return self._read(logs[1].read_text(errors="replace").replace("\r", ""))

    def _read(self, text):
        said = {"at": {}, "kernel": [], "group": [], "initrd": [], "other": []}
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "at":
                said["at"][rest.split()[0]] = rest.split()[1:]
            else:
                said.get(word, said["other"]).append(rest if word in said else line)
        check("exit 0" in said["other"], "the job did not come to its end:\n" + text[-1500:])
        failed = [line for line in said["other"] if "failed" in line or "difference" in line]
        check(not failed, "\n".join(said["other"][-40:]))
        self.initrd = said["initrd"][0]
        return said


def moment(log, pattern):
    """When the kernel's log has it first, in seconds since the boot; None: never."""
    for line in log:
        if re.search(pattern, line):
            return float(re.search(r"\[ *([0-9.]+)\]", line).group(1))
    return None


def expect(said, named, other):
    check(said["at"] == {NAMED: named, OTHER: other}, f"drivers and overrides are {said['at']}")


def expect_bound(said):
    expect(said, ["vfio-pci", "vfio-pci"], ["nvme", "(null)"])
    check(said["group"], "the host has no IOMMU groups")
    log = said["kernel"]
    check(moment(log, rf"nvme.*{NAMED}") is None, f"the nvme driver has had {NAMED}")
    bound = moment(log, rf"penstock: {NAMED}: is at vfio-pci")
    loaded = moment(log, rf"nvme.*{OTHER}")
    check(bound is not None, "the hook did not say that it has bound the device")
    check(loaded is not None and bound < loaded,
          f"vfio-pci has {NAMED} at {bound} s, and nvme {OTHER} at {loaded} s")


def root_of(program):
    """Made where it is missing."""
    key = cache.digest(*PACKAGES[program], CUSTOMIZE, *image.inputs())
    return cache.get("early", key, make_root(program))


def run(program, penstock, directory, short):
    host = Host(root_of(program), penstock, directory)
    at_nvme = ["nvme", "(null)"]
    step(f"{program}: first boot, with nothing done; then --write")
    expect(host.boot("lab.step=write"), at_nvme, at_nvme)
    if program in short:
        step(f"{program}: second boot, with the new initramfs; --undo is left out, as is penstock.bind=off")
        expect_bound(host.boot())
        return
    step(f"{program}: second boot, with the new initramfs and penstock.bind=off")
    said = host.boot("penstock.bind=off")
    expect(said, at_nvme, at_nvme)
    check(moment(said["kernel"], "penstock: binds nothing") is not None, "the hook did not run")
    step(f"{program}: third boot, without that word; then --undo")
    expect_bound(host.boot("lab.step=undo"))
    step(f"{program}: last boot")
    said = host.boot()
    expect(said, at_nvme, at_nvme)
    check(moment(said["kernel"], "penstock: ") is None, "the initramfs still has the hook")


def test(program, penstock, short):
    """Says how it went; returns whether it passed."""
    directory = Path(tempfile.mkdtemp(prefix="penstock-early-boot-"))
    began = time.monotonic()
    try:
        run(program, penstock, directory, short)
    except Exception as reason:
        if not isinstance(reason, (Failure, LabError)):
            reason = traceback.format_exc()
        print(f"FAIL early-boot-{program}: {reason}", flush=True)
        say(f"logs: {directory}")
        for path in [directory / "root", *directory.glob("*.disk")]:
            path.unlink(missing_ok=True)
        return False
    print(f"ok early-boot-{program} ({time.monotonic() - began:.1f} s)", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, metavar="DIR", help="the build to test (build)",
                        default=Path(__file__).resolve().parents[2] / "build")
    parser.add_argument("--short", action="append", metavar="PROGRAM", default=[], choices=PACKAGES,
                        help="of this one only the way there, not the way back")
    parser.add_argument("--prepare", action="store_true", help="only make what is to boot, and the lab's own images")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM",
                        help="what makes the initramfs: " + " or ".join(PACKAGES) + " (both)")
    options = parser.parse_args()
    unknown = set(options.programs) - set(PACKAGES)
    if unknown:
        parser.error(f"not known: {' '.join(unknown)}")
    image.check_tools()
    programs = options.programs or list(PACKAGES)
    if options.prepare:
        images.ensure()
        for program in programs:
            root_of(program)
        return 0
    # Each host has one CPU, and its initramfs is made by one process: two keep two CPUs busy.
    with ThreadPoolExecutor(len(programs)) as pool:
        passed = sum(pool.map(lambda program: test(program, options.build / "penstock", options.short),
                              programs))
    failed = len(programs) - passed
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)

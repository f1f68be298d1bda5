"""Machines as services of a real systemd: that of the installed disk (lab/installed), in a container of the host's."""

import contextlib
import re
import subprocess
import tempfile
import time
from pathlib import Path

import hang
from harness import (BOOT_SECONDS, INITRD, KERNEL, NVME_B, SOONER, Penstock, block_device, check, command, driver,
                     test, wait_until)
from installed import INSTALLED

BUILD, GROUP = Path("/penstock/build"), Path("/sys/fs/cgroup/system")
UNIT, RUN_SECONDS = "penstock@vm", 400
# The installed system's files lie below the host's, so that what both have is the host's: libraries, the kernel's
# modules. udev stays out, for the devices are the host's.
CONTAINER = r"""
mount -t overlay -o "lowerdir=/:$1/installed,upperdir=$1/upper,workdir=$1/work" root "$1/root"
cd "$1/root"
for directory in /dev /penstock /lab/guest; do mount --rbind "$directory" ".$directory"; done
mount -t proc proc proc
mount -t sysfs sys sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs run run
mount -t tmpfs tmp tmp
for unit in udevd.service udevd-control.socket udevd-kernel.socket udev-trigger.service modules-load.service \
	sysctl.service tmpfiles-setup-dev.service tmpfiles-setup-dev-early.service; do
	ln -sf /dev/null "etc/systemd/system/systemd-$unit"
done
: > etc/fstab
: > etc/machine-id
mkdir -p etc/penstock ".${2%/*}" usr/lib/systemd/system
ln -s /penstock/build/penstock ".$2"
cp "/penstock/build/penstock@.service.system" "usr/lib/systemd/system/penstock@.service"
pivot_root . mnt
exec chroot . sh -c 'umount -l /mnt
	exec env -i container=lab /sbin/init --unit=basic.target --log-target=null --show-status=no'
"""


class System:
    """A systemd that runs, whose first process has this number."""

    def __init__(self, pid):
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--pid", "--cgroup"]
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *words, seconds=RUN_SECONDS):
        return command([*self._enter, *words], seconds)

    def succeed(self, *words):
        done = self.run(*words)
        check(done.returncode == 0, lambda: f"{words}: exit code {done.returncode}: {done.stderr}\n{self.explain()}")
        return done.stdout

    def explain(self):
        return self.run("systemctl", "status", "--no-pager", UNIT).stdout + \
            self.run("journalctl", "--no-pager", "-n", "40").stdout

    def show(self, name, unit=UNIT):
        return self.succeed("systemctl", "show", "--property", name, "--value", unit).strip()

    def describe(self, name, **keys):
        """The machine's file."""
        text = "".join(f"{key}: {value}\n" for key, value in keys.items())
        (self.root / f"etc/penstock/{name}.yaml").write_text(text)


def end_container(process):
    (GROUP / "cgroup.kill").write_text("1")
    process.wait()
    wait_until(lambda: "populated 0" in (GROUP / "cgroup.events").read_text(), RUN_SECONDS,
               "the container does not end")
    for path in sorted(GROUP.rglob("*/"), reverse=True):
        path.rmdir()
    GROUP.rmdir()


def below(directory, name):
    path = Path(directory, name)
    path.mkdir()
    return path


@contextlib.contextmanager
def mounted(partition, where):
    subprocess.run(["mount", "-o", "ro", partition, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@contextlib.contextmanager
def systemd():
    disk = block_device(INSTALLED)
    program = re.search(r"^ExecStart=(\S+)", (BUILD / "penstock@.service.system").read_text(), re.M)[1]
    with tempfile.TemporaryDirectory() as directory, mounted(f"{disk}p3", below(directory, "installed")):
        for name in ("upper", "work", "root"):
            below(directory, name)
        GROUP.mkdir()
        words = (f"echo $$ > {GROUP}/cgroup.procs\n"
                 'exec unshare --mount --pid --cgroup --fork --kill-child sh -ec "$@"')
        process = subprocess.Popen(["sh", "-ec", words, "sh", CONTAINER, "sh", directory, program],
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_until(lambda: hang.descendants(process.pid), RUN_SECONDS, "no first process")
            system = System(hang.descendants(process.pid)[0])
            wait_until(lambda: system.run("systemctl", "is-active", "basic.target").returncode == 0, RUN_SECONDS,
                       "systemd does not come up")
            print("   systemd is up", flush=True)
            yield system
        finally:
            end_container(process)


def console_of(system):
    path = system.root / "var/console"
    return path.read_text(errors="replace") if path.exists() else ""


def start(system, tests):
    """Returns when its guest runs, as the unit says so."""
    cmdline = f"console=ttyS0 quiet panic=-1 {SOONER} test={tests}"
    (system.root / "var/console").unlink(missing_ok=True)
    system.describe("vm", kernel=KERNEL, initrd=INITRD, cmdline=cmdline, memory="256M", device=NVME_B,
                    serial="file:/var/console")
    system.succeed("systemctl", "start", UNIT)
    check(driver(NVME_B) == "vfio-pci", "it is not started yet, as its device is not bound")


def stop(system):
    """What the stop took. The device is the host's then."""
    began = time.monotonic()
    system.succeed("systemctl", "stop", UNIT)
    check(driver(NVME_B) == "nvme", "its driver has it not back")
    check((system.show("ActiveState"), system.show("Result")) == ("inactive", "success"), system.explain)
    return time.monotonic() - began


def starts_anew(system, kill):
    """What fails does, and has its device again."""
    before = int(system.show("NRestarts"))
    main = system.show("MainPID")
    kill()
    wait_until(lambda: int(system.show("NRestarts")) > before and system.show("ActiveState") == "active", RUN_SECONDS,
               "it is not started anew")
    check(system.show("MainPID") != main and driver(NVME_B) == "vfio-pci", system.explain)


@test(host="firmware", only=Penstock, limit=2400, long=True)
def a_service_of_a_real_systemd():
    """It says when its guest runs, ends by the power button, is started anew when it fails, and a stop has a limit."""
    with systemd() as system:
        start(system, "power-button")
        wait_until(lambda: "POWER-BUTTON-READY" in console_of(system), BOOT_SECONDS, "no guest")
        print(f"   a guest that heeds its power button is stopped after {stop(system):.1f} s", flush=True)
        check("TEST-RESULT power-button ok" in console_of(system), "the guest has not ended by its button")

        start(system, "wait")
        starts_anew(system, lambda: system.succeed("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT))
        print("   a broker that was killed is started anew", flush=True)
        said = system.succeed("journalctl", "--no-pager", f"PENSTOCK_DEVICE={NVME_B}")
        check("vfio-pci" in said, f"the journal has of the device: {said}")
        took = stop(system)
        print(f"   a guest that does not is stopped after {took:.1f} s", flush=True)
        check(took > 50, "it was not given its time")

        system.describe("wrong", kernel=KERNEL, memory="no size")
        done = system.run("systemctl", "start", "penstock@wrong")
        check(done.returncode != 0 and system.show("NRestarts", "penstock@wrong") == "0" and
              system.show("ExecMainStatus", "penstock@wrong") == "2", f"a wrong file: {done}")
        check("memory" in system.succeed("journalctl", "--no-pager", "-u", "penstock@wrong"), "it is not said what is")

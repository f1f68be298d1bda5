"""What the lab's tests are written with: the host's devices, virtual machines, results."""

import contextlib
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from lablib.scenario import SECTOR, sector      # noqa: E402

# The devices of lab/devices/default.conf
NVME_A, NVME_B = "0000:01:00.0", "0000:02:00.0"
E1000E, XHCI = "0000:03:00.0", "0000:04:00.0"
PAIR_NVME, PAIR_NIC = "0000:05:00.0", "0000:05:00.1"
EDU, TESTDEV = "0000:00:08.0", "0000:00:09.0"
DEVICES = (NVME_A, NVME_B, E1000E, XHCI, PAIR_NVME, PAIR_NIC, EDU, TESTDEV)
DISK_NAMES = {NVME_A: "nvme-a", NVME_B: "nvme-b", PAIR_NVME: "nvme-pair"}

KERNEL, INITRD = "/lab/guest/vmlinuz", "/lab/guest/initrd"

# Emulated machines take their time, and more of it where others compile beside them.
BOOT_SECONDS, RUN_SECONDS, QUICK_SECONDS = 90, 120, 20


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def wait_until(condition, seconds, message):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{message} within {seconds} s")
        time.sleep(0.1)


# --- the host's devices ---------------------------------------------------------------------------

def device(bdf):
    return Path("/sys/bus/pci/devices") / bdf


def driver(bdf):
    link = device(bdf) / "driver"
    return os.path.basename(os.readlink(link)) if link.exists() else None


def override(bdf):
    """driver_override, None when it is not set."""
    value = (device(bdf) / "driver_override").read_text().strip()
    return None if value == "(null)" else value


def state():
    return {bdf: (driver(bdf), override(bdf)) for bdf in DEVICES if device(bdf).exists()}


def group(bdf):
    return os.path.basename(os.readlink(device(bdf) / "iommu_group"))


def rebind(bdf, name):
    """By hand, to the driver `name`; None is whichever matches."""
    (device(bdf) / "driver_override").write_text((name or "") + "\n")
    if (device(bdf) / "driver").exists():
        (device(bdf) / "driver/unbind").write_text(bdf)
    Path("/sys/bus/pci/drivers_probe").write_text(bdf)


def block_device(bdf):
    """The namespace of an NVMe controller that is back at the host's driver."""
    found = []

    def look():
        found[:] = device(bdf).glob("nvme/nvme*/nvme*n1")
        return found and Path("/dev", found[0].name).is_block_device()

    wait_until(look, QUICK_SECONDS, f"no block device of {bdf}")
    return f"/dev/{found[0].name}"


def network_device(bdf):
    wait_until(lambda: list(device(bdf).glob("net/*")), QUICK_SECONDS, f"no interface of {bdf}")
    return next(device(bdf).glob("net/*")).name


def sectors(name, first, count):
    return b"".join(sector(name, first + number) for number in range(count))


def verify_stamp(bdf, stamp):
    """What guests write with the test `nvme` is on the disk, as the host reads it now."""
    path, first, count = block_device(bdf), (8 << 20) // SECTOR, (4 << 20) // SECTOR
    with open(path, "rb") as disk:
        disk.seek(first * SECTOR)
        data = disk.read(count * SECTOR)
    check(data == sectors(f"{stamp}-{DISK_NAMES[bdf]}", first, count),
          f"{path} does not hold what the guest wrote; it begins with {data[:60]}")


def kernel_log():
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


# --- virtual machines -----------------------------------------------------------------------------

class Penstock:
    """The commands of the product."""

    name = "penstock"

    @staticmethod
    def command(kernel=KERNEL, initrd=INITRD, cmdline="", memory="512M", cpus=1, devices=(),
                serial="stdio", reboot=True, name=None, more=()):
        words = ["penstock", "run"]
        for option, value in (("--kernel", kernel), ("--initrd", initrd), ("--cmdline", cmdline),
                              ("--memory", memory), ("--cpus", cpus), ("--serial", serial),
                              ("--name", name)):
            words += [option, str(value)] if value is not None else []
        for bdf in devices:
            words += ["--device", bdf]
        return [*words, *([] if reboot else ["--no-reboot"]), *more]

    @staticmethod
    @contextlib.contextmanager
    def binding(_devices):
        yield


class Qemu:
    """Another VMM for the same guests: shows that a test is right, and what is peculiar to us."""

    name = "qemu"

    @staticmethod
    def command(kernel=KERNEL, initrd=INITRD, cmdline="", memory="512M", cpus=1, devices=(),
                serial="stdio", reboot=True, name=None, more=()):
        if more or name:
            raise Skip("this is about penstock's own options")
        return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-machine", "q35",
                "-nodefaults", "-nographic", "-m", memory, "-smp", str(cpus), "-serial", serial,
                "-kernel", kernel, "-initrd", initrd, "-append", cmdline,
                *([] if reboot else ["-no-reboot"]),
                *(word for bdf in devices for word in ("-device", f"vfio-pci,host={bdf},rombar=0"))]

    @staticmethod
    @contextlib.contextmanager
    def binding(devices):
        subprocess.run(["modprobe", "vfio-pci"], check=True)
        group_wise = [other.name for bdf in devices
                      for other in (device(bdf) / "iommu_group/devices").iterdir()]
        for bdf in set(group_wise):
            rebind(bdf, "vfio-pci")
        try:
            yield
        finally:
            for bdf in set(group_wise):
                rebind(bdf, None)


VMM = {"penstock": Penstock, "qemu": Qemu}
vmm = Penstock


class Machine:
    """A running VMM with a guest: `with Machine(...) as machine`."""

    def __init__(self, test=None, cmdline="", inherited=(), **options):
        self._inherited = inherited      # descriptors that it is started with
        words = ["console=ttyS0 quiet panic=-1", f"test={test}" if test else "", cmdline]
        self._command = vmm.command(cmdline=" ".join(filter(None, words)), **options)
        self._binding = vmm.binding(options.get("devices", ()))
        self.output = ""
        self._changed = threading.Condition()

    def __enter__(self):
        self._binding.__enter__()
        self._errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self._errors, bufsize=0,
                                        start_new_session=True, pass_fds=self._inherited)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        for pid in [*self.descendants(), self.process.pid]:
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        self.process.wait()
        self._reader.join(5)
        self._binding.__exit__(None, None, None)

    def _read(self):
        for data in iter(lambda: self.process.stdout.read(4096), b""):
            with self._changed:
                self.output += data.decode(errors="replace").replace("\r", "")
                self._changed.notify_all()

    def expect(self, text, seconds=RUN_SECONDS):
        """Waits for text on the guest's console."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: text in self.output or self.process.poll() is not None, seconds)
        check(arrived and text in self.output, f"no '{text}' on the console; {self.last_words()}")

    def type(self, text):
        self.process.stdin.write(text.encode())

    def wait(self, seconds=RUN_SECONDS):
        """Waits for the end; returns the exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"still runs after {seconds} s; {self.last_words()}") from None
        self._reader.join(5)
        return code

    def errors(self):
        self._errors.seek(0)
        return self._errors.read()

    def last_words(self):
        lines = [line for line in self.output.splitlines() if line.strip()][-8:]
        return "\n".join(["the console ends with:", *lines, "stderr:", self.errors().strip()])

    def descendants(self):
        """The machine process and its like."""
        found, queue = [], [self.process.pid]
        while queue:
            for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    pids = [int(pid) for pid in task.read_text().split()]
                    found += pids
                    queue += pids
        return found

    def exits(self):
        """KVM's statistics of this machine, while it runs."""
        numbers = {}
        for directory in Path("/sys/kernel/debug/kvm").glob("[0-9]*-*"):
            for file in directory.iterdir():
                if file.is_file():
                    numbers[file.name] = numbers.get(file.name, 0) + int(file.read_text())
        return numbers

    def succeed(self, *tests):
        """To the guest's own end: each of its tests was ok, and the power-off is exit code 0."""
        code = self.wait()
        for test in tests:
            check(f"TEST-RESULT {test} ok" in self.output, f"{test}: {self.last_words()}")
        check(code == 0, f"exit code {code} after the guest's power-off; {self.last_words()}")


def run_guest(tests, **options):
    """A whole life of a guest: start, its tests, power-off."""
    with Machine(tests, **options) as machine:
        machine.succeed(*tests.split(","))
    return machine.output


def refused(command, code, *texts):
    """The command fails at once, with this exit code, and says why on stderr."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=QUICK_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: no end within {QUICK_SECONDS} s") from None
    said = done.stderr.strip()
    check(done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}, "
                                   f"not {code}; stderr: {said or 'nothing'}")
    for text in texts:
        check(re.search(text, said, re.IGNORECASE),
              f"{' '.join(command)}: stderr does not tell of '{text}': {said or 'nothing'}")


# --- tests ----------------------------------------------------------------------------------------

tests = []


def test(host="default", only=None):
    """Marks a test for a kind of host (see run.py), and possibly for one VMM only."""
    def mark(function):
        name = function.__name__.replace("_", "-")
        tests.append((name, host, only, function))
        return function
    return mark


class Results:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def run(self, name, only, function):
        before, log = state(), len(kernel_log().splitlines())
        began = time.monotonic()
        try:
            if only and only is not vmm:
                raise Skip(f"only for {only.name}")
            function()
            self._aftermath(before, log)
            self.passed += 1
            result = f"ok {name} ({time.monotonic() - began:.1f} s)"
        except Skip as reason:
            self.skipped += 1
            result = f"skip {name}: {reason}"
        except Exception as reason:
            self.failed += 1
            if not isinstance(reason, Failure):
                reason = traceback.format_exc()
            result = f"FAIL {name}: {reason}"
            self._repair(before)
        print(result, flush=True)

    @staticmethod
    def _aftermath(before, log):
        """Whatever a test did: each device is as it was, and the host's kernel has no complaint."""
        deadline = time.monotonic() + QUICK_SECONDS
        while state() != before and time.monotonic() < deadline:
            time.sleep(0.1)
        for bdf, now in state().items():
            check(now == before[bdf], f"{bdf} has driver and override {now}, not {before[bdf]}")
        bad = [line for line in kernel_log().splitlines()[log:]
               if re.search(r"\b(BUG|WARNING|Oops|general protection)\b", line)]
        check(not bad, "the host's kernel complains:\n" + "\n".join(bad[:5]))

    @staticmethod
    def _repair(before):
        """After a failure the next test begins as this one did."""
        for bdf, (name, _) in before.items():
            with contextlib.suppress(OSError):
                if (driver(bdf), override(bdf)) != before[bdf]:
                    rebind(bdf, before[bdf][1])
                    print(f"   (set {bdf} back to {name})")

    def summary(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def selected(host, patterns):
    return [entry for entry in tests if entry[1] == host and
            (not patterns or any(fnmatch.fnmatch(entry[0], pattern) for pattern in patterns))]

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
import typing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

import hang                                     # noqa: E402
import kernel_log as kmsg                       # noqa: E402
import remains                                  # noqa: E402
from lablib.scenario import SECTOR, sector      # noqa: E402

# The devices of lab/devices/default.conf
NVME_A, NVME_B = "0000:01:00.0", "0000:02:00.0"
E1000E, XHCI = "0000:03:00.0", "0000:04:00.0"
PAIR_NVME, PAIR_NIC = "0000:05:00.0", "0000:05:00.1"
EDU, TESTDEV, IVSHMEM = "0000:00:08.0", "0000:00:09.0", "0000:00:0a.0"
DEVICES = (NVME_A, NVME_B, E1000E, XHCI, PAIR_NVME, PAIR_NIC, EDU, TESTDEV, IVSHMEM)
DISK_NAMES = {NVME_A: "nvme-a", NVME_B: "nvme-b", PAIR_NVME: "nvme-pair"}

KERNEL, INITRD = "/lab/guest/vmlinuz", "/lab/guest/initrd"
# What a guest's kernel does for itself takes 0.9 of the 5 s that it needs to its init in the lab: the tests of
# its ciphers, and a look at each page for one that is both writable and executable.
SOONER = "cryptomgr.notests rodata=off"

# Emulated machines take their time, and more of it where others compile beside them.
BOOT_SECONDS, RUN_SECONDS, QUICK_SECONDS = 90, 120, 20


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, message):
    """message may be a function, where it costs something."""
    if not condition:
        raise Failure(message() if callable(message) else message)


def wait_until(condition, seconds, message):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{message} within {seconds} s")
        time.sleep(0.1)


# --- the host's devices ---------------------------------------------------------------------------

driver, override, state = remains.driver, remains.override, remains.drivers


def device(bdf):
    return remains.DEVICES / bdf


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
    return kmsg.whole()


# --- virtual machines -----------------------------------------------------------------------------

class Penstock:
    """The commands of the product."""

    name = "penstock"

    @staticmethod
    def command(kernel=KERNEL, initrd=INITRD, cmdline="", memory="512M", cpus=1, devices=(),
                serial="stdio", reboot=True, name=None, more=()):
        words = ["penstock", "run", *on_this_host]
        for option, value in (("--kernel", kernel), ("--initrd", initrd),
                              ("--cmdline", cmdline if kernel else None), ("--memory", memory),
                              ("--cpus", cpus), ("--serial", serial), ("--name", name)):
            words += [option, str(value)] if value is not None else []
        for bdf in devices:
            words += ["--device", bdf]
        return [*words, *([] if reboot else ["--on-reboot", "stop"]), *more]

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


USER, USERS_DIRECTORY = 1, Path("/tmp/user")


def as_user(limit, directory=USERS_DIRECTORY):
    """What starts a program as a user without any privilege, who may lock so many bytes. None for a directory: as
    after su, or in a service."""
    USERS_DIRECTORY.mkdir(exist_ok=True)
    os.chown(USERS_DIRECTORY, USER, 0)
    os.chmod("/dev/kvm", 0o666)
    return ["prlimit", f"--memlock={limit}:{limit}", "setpriv", f"--reuid={USER}", f"--regid={USER}",
            "--clear-groups", "env",
            f"XDG_RUNTIME_DIR={directory}" if directory else "--unset=XDG_RUNTIME_DIR"]


class UsersPenstock(Penstock):
    """The same by a user without root, who was given the devices and may lock as much memory as a
    guest of this size needs."""

    margin = 64 << 20

    @classmethod
    def command(cls, memory="512M", **options):
        limit = (int(memory.rstrip("M")) << 20) + cls.margin
        return [*as_user(limit), *Penstock.command(memory=memory, **options)]

    @staticmethod
    @contextlib.contextmanager
    def binding(devices):
        for words in (["bind", "--user", str(USER)], ["release"]):
            done = command(["penstock", *words, *devices]) if devices else None
            check(not done or done.returncode == 0, f"{words}: {done and done.stderr}")
            if words[0] == "bind":
                yield


VMM = {"penstock": Penstock, "user": UsersPenstock, "qemu": Qemu}
vmm = Penstock
# What this kind of host gives `penstock run` beside a test's own options: see AGAIN.
on_this_host = []


# KVM's internal error 3, which Linux has since 6.14.
DELIVERY_ERROR = "KVM cannot go on (suberror 3)"
DELIVERY_REASON = ("KVM took an access to a device for one in the midst of an event's delivery: QEMU leaves the type "
                   "of what it has delivered in the exit's EXITINTINFO, without the bit that makes it valid")


class Machine:
    """A running VMM with a guest: `with Machine(...) as machine`."""

    def __init__(self, test=None, cmdline="", inherited=(), before=(), **options):
        self._inherited = inherited      # descriptors that it is started with
        words = [f"console=ttyS0 quiet panic=-1 {SOONER}", f"test={test}" if test else "", cmdline]
        # before: what execs it
        self._command = [*before, *vmm.command(cmdline=" ".join(filter(None, words)), **options)]
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

    def __exit__(self, kind, *_):
        end(self.process)
        self._reader.join(5)
        self._binding.__exit__(None, None, None)
        check(kind or self.process.poll() is not None,
              f"{self.process.pid} does not end though killed;\n{self.last_words()}")

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
        check(arrived, lambda: f"no '{text}' within {seconds} s; {self.last_words()}\n"
                               f"{hang.explain(self.process.pid)}")
        check(text in self.output, f"no '{text}' on the console; {self.last_words()}")

    def type(self, text):
        self.process.stdin.write(text.encode())

    def wait(self, seconds=RUN_SECONDS):
        """Waits for the end; returns the exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"still runs after {seconds} s; {self.last_words()}\n"
                          f"{hang.explain(self.process.pid)}") from None
        self._reader.join(5)
        return code

    def errors(self):
        self._errors.seek(0)
        return self._errors.read()

    def last_words(self):
        if DELIVERY_ERROR in self.errors():
            raise hang.EmulatorStuck(f"{DELIVERY_REASON}; {self.errors()}")
        lines = [line for line in self.output.splitlines() if line.strip()][-8:]
        return "\n".join(["the console ends with:", *lines, "stderr:", self.errors().strip()])

    def descendants(self):
        """The machine process and its like."""
        return hang.descendants(self.process.pid)

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


def end(process):
    """Kills it and all that it has started, and waits a while."""
    if process.poll() is None:
        hang.kill_all(process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(QUICK_SECONDS)


def command(words, seconds=60, **options):
    """Runs a command to its end, which must come in time; its output is text."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", **options) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            why = hang.explain(process.pid)
            end(process)
            raise Failure(f"{' '.join(map(str, words))}: no end within {seconds} s;\n{why}") from None
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def refused(words, code, *texts):
    """The command fails at once, with this exit code, and says why on stderr."""
    done = command(list(map(str, words)), QUICK_SECONDS)
    said = done.stderr.strip()
    check(done.returncode == code, f"{' '.join(done.args)}: exit code {done.returncode}, "
                                   f"not {code}; stderr: {said or 'nothing'}")
    for text in texts:
        check(re.search(text, said, re.IGNORECASE),
              f"{' '.join(done.args)}: stderr does not tell of '{text}': {said or 'nothing'}")


# --- tests ----------------------------------------------------------------------------------------

class Test(typing.NamedTuple):
    name: str
    host: str           # the kind of host that it runs on: a file of lab/hosts
    only: type          # the VMM that it is about, or None
    limit: int          # seconds; what hangs for longer is a failure
    faults: bool        # it makes devices do DMA that the IOMMU refuses
    function: typing.Callable
    long: bool = False  # it takes minutes, and runs where it, its host or its kernel is asked for


tests = []


def test(host="default", only=None, limit=300, long=False, faults=False):
    """Marks a test: see Test."""
    def mark(function):
        name = function.__name__.replace("_", "-")
        check(all(one.name != name for one in tests), f"there are two tests {name}")
        tests.append(Test(name, host, only, limit, faults, function, long))
        return function
    return mark


class Again(typing.NamedTuple):
    host: str           # whose tests are run once more
    files: tuple        # those of these files
    more: list          # with these options of `penstock run`
    short: tuple        # those of them that nobody has to ask for
    vmm: str = "penstock"


# Kinds of host that run tests of another one, beside what they have of their own. Short is where the way
# to the IOMMU shows: what is mapped and what is not, and devices that are wanted back.
AGAIN = {
    "iommufd": Again("default", ("passthrough", "lifecycle", "wishes", "gate", "kvm", "ram"),
                     ["--iommu", "iommufd"],
                     ("two-disks-two-cpus", "nic-and-test-devices", "pair-in-one-group",
                      "dma-outside-of-guest-memory", "dma-to-another-device",
                      "the-host-wants-a-device-back")),
    "iommufd-sriov": Again("sriov", ("sriov",), ["--iommu", "iommufd"],
                           ("virtual-function-of-a-network-card",)),
    "type1": Again("default", ("passthrough",), ["--iommu", "type1"],
                   ("two-disks-two-cpus", "dma-outside-of-guest-memory", "dma-to-another-device")),
    "user": Again("default", ("passthrough", "lifecycle"), [],
                  ("two-disks-two-cpus", "nic-and-test-devices", "confinement-and-second-start"), "user"),
}
NOTHING = Again(None, (), [], ())


def selected(host, patterns, short=False):
    again = AGAIN.get(host, NOTHING)
    return [one for one in tests
            if (one.host == host and not (short and one.long) or
                one.host == again.host and one.function.__module__ in again.files and
                (one.name in again.short or not short)) and
            (not patterns or any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns))]

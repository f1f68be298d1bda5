"""A start that does not wait for RAM: whatever happens while that is made present and mapped, the guest's
devices meet nothing else, and the host is left as it was."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

import harness
from harness import (BOOT_SECONDS, EDU, NVME_A, QUICK_SECONDS, RUN_SECONDS, Machine, Penstock, as_user, check,
                     driver, refused, test, wait_until)
from journal import succeed, wait_for_machines

# From 4 GiB on lies what does not fit below 2 GiB.
MEMORY, MEMORY_END = "4G", 6 << 30
WAITS = "the guest waits for its memory"
GROUPS = Path("/sys/fs/cgroup")
HOG = Path("/dev/shm/hog")

# ptrace(2), and where x86-64 has a system call's number and third argument in what it tells.
SEIZE, INTERRUPT, GETREGS, SYSCALL, DETACH = 0x4206, 0x4207, 12, 24, 17
TRACE_SYSTEM_CALLS, ALL_THREADS = 1, 0x40000000
NUMBER, SECOND, THIRD = 15, 13, 12

MADVISE, POPULATE_WRITE = 28, 23
IOCTL, MAPS = 16, (0x3b71, 0x3b85)      # VFIO_IOMMU_MAP_DMA, IOMMU_IOAS_MAP


def populates(registers):
    return registers[NUMBER] == MADVISE and registers[THIRD] == POPULATE_WRITE


def maps(registers):
    return registers[NUMBER] == IOCTL and registers[SECOND] & 0xffffffff in MAPS


class Fill:
    """The thread that fills the guest's RAM, of which a host with two CPUs has one, held by ptrace(2) from its
    first pieces on."""

    _ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    _ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    _ptrace.restype = ctypes.c_long

    def __init__(self, machine):
        self._machine = machine

    def __enter__(self):
        self.pid = self.thread = None
        wait_until(self._find, QUICK_SECONDS, "no thread fills the guest's memory")
        return self

    def __exit__(self, *_):
        if self.thread:
            self.release()

    def _call(self, request, thread, data=0):
        if self._ptrace(request, thread, None, data) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def _registers(self, thread):
        registers = (ctypes.c_ulong * 27)()
        self._call(GETREGS, thread, ctypes.addressof(registers))
        return registers

    def _find(self):
        for pid in self._machine.descendants():
            for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
                # the main thread makes present what the kernel is loaded to
                with contextlib.suppress(OSError):
                    if int(task.name) != pid and (task / "comm").read_text() == "penstock-vm\n" and \
                            self._hold(int(task.name)):
                        self.pid = pid
        return self.thread

    def _hold(self, thread):
        self._call(SEIZE, thread, TRACE_SYSTEM_CALLS)
        self._call(INTERRUPT, thread)
        os.waitpid(thread, ALL_THREADS)
        if populates(self._registers(thread)):
            self.thread = thread
            return True
        self._call(DETACH, thread)
        return False

    def stop_before(self, wanted):
        """Its next such call."""
        for _ in range(10000):
            self._call(SYSCALL, self.thread)
            _, status = os.waitpid(self.thread, ALL_THREADS)
            check(os.WIFSTOPPED(status), f"the thread has ended: {status:#x}")
            if wanted(self._registers(self.thread)):
                return
        raise harness.Failure("the thread does not come so far")

    def release(self):
        thread, self.thread = self.thread, None
        try:
            self._call(DETACH, thread)
        except OSError:
            os.waitpid(thread, ALL_THREADS)     # it was killed, and its process ends when we have seen it


def check_end(machine, victim, what):
    """One of its processes has been killed. The devices come back: from the broker, or by hand."""
    if victim == "machine":
        code = machine.wait(QUICK_SECONDS)
        check(code == 1 and "killed by signal 9" in machine.errors(), f"{what}: exit code {code}; {machine.last_words()}")
    elif victim == "broker":
        machine.wait(QUICK_SECONDS)
        wait_for_machines()
        succeed("release", "--stale")
    else:
        code = machine.wait(QUICK_SECONDS)
        check(code == 128 + signal.SIGTERM, f"{what}: exit code {code}; {machine.last_words()}")
    check(driver(NVME_A) == "nvme" and driver(EDU) is None,
          f"{what}: the devices are at {driver(NVME_A)} and {driver(EDU)}")


def end_by(victim, machine, fill):
    pid, how = {"machine": (fill.pid, signal.SIGKILL), "broker": (machine.process.pid, signal.SIGKILL),
                "signal": (machine.process.pid, signal.SIGTERM)}[victim]
    os.kill(pid, how)


@test(only=Penstock, limit=600)
def ends_while_ram_is_filled():
    """In the midst of a piece that is made present, and of a GiB that is mapped for DMA."""
    for stage in (populates, maps):
        for victim in ("machine", "broker", "signal"):
            with Machine("wait", memory=MEMORY, devices=[NVME_A, EDU]) as machine, Fill(machine) as fill:
                fill.stop_before(stage)
                fill.release()
                end_by(victim, machine, fill)
                check_end(machine, victim, f"{victim} while it {stage.__name__}")


@test(only=Penstock, limit=600)
def ends_while_the_guest_waits_for_ram():
    """The disk's driver sets Bus Master."""
    for victim in ("machine", "broker", "signal"):
        with Machine("wait", memory=MEMORY, devices=[NVME_A, EDU]) as machine, Fill(machine) as fill:
            fill.stop_before(populates)
            wait_until(lambda: WAITS in machine.errors(), BOOT_SECONDS, "no guest waits for its memory")
            check("WAITING" not in machine.output, "the guest's driver has not waited")
            end_by(victim, machine, fill)
            if victim == "signal":
                time.sleep(0.5)
            fill.release()
            check_end(machine, victim, f"{victim} while the guest waits")


@test(only=Penstock)
def dma_the_moment_it_may():
    """Into the last pages of RAM, which nobody has touched. While a part is missing nothing moves, for longer than
    any watchdog of the guest's has patience."""
    words = f"memmap=16M${MEMORY_END - (16 << 20):#x} ram.end={MEMORY_END:#x}"
    with Machine("edu-early", cmdline=words, memory=MEMORY, cpus=2, devices=[EDU]) as machine, Fill(machine) as fill:
        fill.stop_before(populates)
        machine.expect("EDU-EARLY-READY", BOOT_SECONDS)
        wait_until(lambda: WAITS in machine.errors(), RUN_SECONDS, "the guest does not wait")
        time.sleep(25)
        check("EDU-EARLY-MASTER" not in machine.output, "Bus Master was set while RAM was missing")
        fill.release()
        machine.succeed("edu-early")
    for word in ("lockup", "stall", "hung"):
        check(word not in machine.output, f"the guest has noticed: {machine.last_words()}")


# --- memory that is not to be had ------------------------------------------------------------------

@contextlib.contextmanager
def control_group(limit):
    """What starts a program in it, with so many MiB."""
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    place = GROUPS / "vms"
    place.mkdir()
    (place / "memory.max").write_text(str(limit << 20))
    try:
        yield ["sh", "-c", f'echo $$ >{place}/cgroup.procs && exec "$@"', "sh"]
    finally:
        HOG.unlink(missing_ok=True)
        wait_until(lambda: "populated 0" in (place / "cgroup.events").read_text(), QUICK_SECONDS,
                   "somebody is left in the group")
        place.rmdir()


@test(only=Penstock)
def too_small_a_control_group_is_found_before_the_start():
    with control_group(256) as inside:
        command = Penstock.command(memory="512M", devices=[NVME_A])
        refused([*inside, *command], 1, "528 MiB of memory are needed", r"control group /vms may have 256 MiB")
        check(driver(NVME_A) == "nvme", f"the disk is at {driver(NVME_A)}")


@test(only=Penstock)
def memory_that_runs_out_in_the_midst_ends_the_guest():
    """Others in the group had some of it: with a device it ends as it is filled, else as the guest touches it."""
    for tests, devices in (("wait", [NVME_A]), ("mem", [])):
        with control_group(600) as inside:
            done = harness.command([*inside, "dd", "if=/dev/zero", f"of={HOG}", "bs=1M", "count=350"])
            check(done.returncode == 0, done.stderr)
            with Machine(tests, cmdline="mem.size=512", before=inside, memory="512M", devices=devices) as machine:
                code = machine.wait(BOOT_SECONDS)
                said = machine.errors()
            check(code == 1, f"exit code {code}; {machine.last_words()}")
            check("the memory of the control group /vms ran out, 600 MiB in all" in said and "next: " in said,
                  machine.last_words())
        check(driver(NVME_A) == "nvme", f"the disk is at {driver(NVME_A)}")


@test(only=Penstock)
def the_broker_outlives_memory_that_runs_out():
    """Somebody whom the kernel may not end takes what a machine had, in a group that dies as one: of that the
    kernel ends all whom it may."""
    with control_group(600) as inside:
        (GROUPS / "vms/memory.oom.group").write_text("1")
        with Machine("wait", before=inside, memory="512M", devices=[NVME_A]) as machine:
            machine.expect("WAITING", BOOT_SECONDS)
            done = harness.command([*inside, "choom", "-n", "-1000", "--", "fallocate", "-l", "600M", HOG])
            check("Cannot allocate memory" in done.stderr, f"there was memory for all: {done.stderr}")
            code = machine.wait(BOOT_SECONDS)
            check(code == 1, f"exit code {code}; {machine.last_words()}")
            check("the memory of the control group /vms ran out, 600 MiB in all" in machine.errors()
                  and "memory.oom.group" not in machine.errors(), machine.last_words())
        check(driver(NVME_A) == "nvme", f"the disk is at {driver(NVME_A)}")


@test(only=Penstock)
def a_user_has_huge_pages():
    """Without a privilege, and without a device for which all would be made present."""
    with Machine("wait", before=as_user(0), memory="512M", devices=[]) as machine:
        machine.expect("WAITING", BOOT_SECONDS)
        lines = Path(f"/proc/{machine.descendants()[-1]}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        print(f"   {sizes}", flush=True)
        check(sizes["ShmemPmdMapped"] > sizes["Rss"] * 3 // 4, f"they are not huge: {sizes}")
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)


@test(only=Penstock)
def a_memory_lock_limit_is_found_before_the_start():
    """Of a user's. iommufd counts all that the user's machines lock: there the second one ends, and says why."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod("/dev/iommu", 0o666)
    succeed("bind", "--user", "daemon", EDU, NVME_A)

    refused([*as_user(575 << 20), *Penstock.command(memory="512M", devices=[EDU])], 1, "memory-lock limit is 575 MiB",
            "576 MiB are needed")
    with Machine("wait", before=as_user(576 << 20), memory="512M", devices=[NVME_A]) as first:
        first.expect("WAITING", BOOT_SECONDS)
        with Machine("edu", before=as_user(576 << 20), memory="512M", devices=[EDU]) as second:
            code = second.wait()
            if "iommufd" in harness.on_this_host:
                check(code == 1 and "counts a user's guests together" in second.errors(), second.last_words())
            else:
                check(code == 0 and "TEST-RESULT edu ok" in second.output, second.last_words())
        first.process.terminate()
        first.wait(QUICK_SECONDS)
    succeed("release", EDU, NVME_A)

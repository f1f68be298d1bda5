"""Why does this process not end? What its threads and the host's blocked tasks wait for, and whether
the emulator is the cause."""

import collections
import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import emulator
import kernel_log

STACK_LINES, BLOCKED_LINES, LOG_LINES, PLACES, EVENT_LINES = 12, 60, 25, 8, 24
SAMPLE_SECONDS, LAPIC_SAMPLES = 2, 3
TRACED = "kvm_exit", "kvm_page_fault", "kvm_emulate_insn", "kvm_inj_exception", "kvm_inj_virq"
EXIT = re.compile(r"-(\d+) .*kvm_exit: .*?reason (\S+).*? rip (0x[0-9a-f]+)")
# A timer that is this late has been forgotten: the emulator is slow, but not by so much.
LATE_SECONDS = 5
# A guest whose timer goes makes as many exits of its own as the host's ticks cause, or sleeps. Only a kernel that
# unpacks itself has no timer yet.
SPIN_SECONDS, SPIN_RATE, SPIN_RATIO = 20, 50, 8
SPINS = ("a guest's CPU only runs in a loop with its interrupts off, which the host's own interrupts alone leave: as "
         "its source has it, QEMU delivers an interrupt that KVM injects once more, whatever the guest's interrupt "
         "flag says, if it is kicked for something else before the next exit; in a handler that holds a lock "
         "the kernel then waits for itself")
# What a guest's CPU that cannot fetch its next instruction makes, over and over.
FAULT_RATE, FAULT_SHARE = 2000, 0.9
VMRUN_CODE = 1024       # bytes of __svm_vcpu_run and its like
STRAYED = ("a guest's CPU is where the host's goes on after VMRUN: the emulator has left the guest and put down the "
           "host's instruction pointer as the guest's")


def read(path, otherwise="?"):
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return otherwise


def descendants(pid):
    found, queue = [], [pid]
    while queue:
        for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            children = [int(child) for child in read(task, "").split()]
            found += children
            queue += children
    return found


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(pid):
    """With all that it has started."""
    for one in [*descendants(pid), pid]:
        kill(one)


def thread(task):
    """A thread's state, wait channel, system call and kernel stack."""
    status = dict(line.split(":\t", 1) for line in read(task / "status").splitlines() if ":\t" in line)
    stack = read(task / "stack").splitlines()[:STACK_LINES]
    return "\n".join([f"   thread {task.name} ({status.get('Name', '?')}): {status.get('State', '?')}, "
                      f"wchan {read(task / 'wchan')}, syscall {read(task / 'syscall')}",
                      *("      " + line for line in stack)])


def process(pid):
    cmdline = read(f"/proc/{pid}/cmdline").replace("\0", " ")[:200]
    return "\n".join([f"  process {pid}: {cmdline or read(f'/proc/{pid}/comm')}",
                      *(thread(task) for task in sorted(Path(f"/proc/{pid}/task").glob("*")))])


def blocked_tasks():
    """Those of the whole host that wait and cannot be interrupted, with their stacks."""
    log = kernel_log.KernelLog()
    with contextlib.suppress(OSError, kernel_log.Lost):
        Path("/proc/sysrq-trigger").write_text("w")
        time.sleep(0.5)
        return [f"   {line}" for line in log.lines()[:BLOCKED_LINES]]
    return ["   cannot be read"]


def log_end():
    """What drivers have said of late, before our own question of what is blocked."""
    with contextlib.suppress(OSError, kernel_log.Lost):
        return [f"   {line}" for line in kernel_log.whole()[-LOG_LINES:]]
    return ["   cannot be read"]


def interrupts():
    """Those of devices: how many came, by a name that tells the device."""
    found = {}
    for line in read("/proc/interrupts", "").splitlines()[1:]:
        number, *words = line.split()
        counts = [int(word) for word in itertools.takewhile(str.isdigit, words)]
        if number[:-1].isdigit():
            found[f"{number} {' '.join(words[len(counts):])}"] = counts
    return found


def arrivals(before):
    """A line for each interrupt line of a device; one that a driver waits for comes no more."""
    return [f"   {name}: {now}, of these {sum(now) - sum(before.get(name, [0]))} in {SAMPLE_SECONDS} s"
            for name, now in interrupts().items() if any(now)]


def lapics():
    """What the emulator says of the CPUs' interrupt controllers, several times."""
    said = []
    for _ in range(LAPIC_SAMPLES):
        for cpu in range(os.cpu_count()):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(["/lab/monitor", "info", "lapic", str(cpu)], capture_output=True,
                                      text=True, timeout=5, check=False)
                said.append(done.stdout)
        time.sleep(1)
    return "".join(said)


def exits():
    """KVM's counters, summed up for each machine that there is."""
    return {directory.name: {file.name: int(read(file, "0") or 0) for file in directory.iterdir()
                             if file.is_file() and read(file, "").isdigit()}
            for directory in Path("/sys/kernel/debug/kvm").glob("[0-9]*-*")}


@contextlib.contextmanager
def traced_exits():
    """Within it KVM traces the guests' exits, with what it does of them; afterwards the list that it gives has the
    most frequent, and the last ones."""
    tracing, found = Path("/sys/kernel/tracing"), []
    switches = [tracing / "events/kvm" / event / "enable" for event in TRACED]
    with contextlib.suppress(OSError):
        (tracing / "trace").write_text("")
        for switch in switches:
            switch.write_text("1")
    yield found
    with contextlib.suppress(OSError):
        for switch in switches:
            switch.write_text("0")
    lines = read(tracing / "trace", "").splitlines()
    exits = EXIT.findall("\n".join(lines))
    found += [f"   thread {thread} left its guest {count} times for {reason} at {rip}"
              for (thread, reason, rip), count in collections.Counter(exits).most_common(PLACES)]
    found += [f"   {line.strip()}" for line in lines[-EVENT_LINES:]]


def spins(moved, seconds):
    """Whether a machine whose counters moved so is in a loop that takes no interrupt."""
    irq = moved.get("irq_exits", 0)
    return irq > SPIN_RATE * seconds and (moved.get("exits", 0) - irq) * SPIN_RATIO < irq


def only_faults(moved, seconds):
    """Whether a machine whose counters moved so does nothing but fault at what it is to run."""
    exits = moved.get("exits", 0)
    return exits > FAULT_RATE * seconds and moved.get("pf_guest", 0) > FAULT_SHARE * exits


def strayed(places, symbols):
    """Whether by the traced exits a guest's CPU is in the host's code around VMRUN; symbols: /proc/kallsyms."""
    found = re.search(r"^([0-9a-f]+) . __svm_vcpu_run\b", symbols, re.MULTILINE)
    start = int(found[1], 16) if found else 0
    return start > 0 and any(start <= int(rip, 16) < start + VMRUN_CODE
                             for rip in re.findall(r"left its guest \d+ times for \S+ at (0x[0-9a-f]+)", places))


def has_strayed(places):
    return strayed("\n".join(places), read("/proc/kallsyms", ""))


class Spin:
    """Asked now and then, tells why the guest of a process, or of its children, does not go on, once it has been so
    for long: the emulator's fault."""

    def __init__(self, pid):
        self.pid, self.then, self.before, self.since, self.faults = pid, time.monotonic(), {}, None, None

    def seen(self):
        now = time.monotonic()
        counters = {name: sum(int(read(file, "0")) for pid in descendants(self.pid)
                              for file in Path("/sys/kernel/debug/kvm").glob(f"{pid}-*/{name}"))
                    for name in ("exits", "irq_exits", "pf_guest")}
        moved = {name: value - self.before.get(name, value) for name, value in counters.items()}
        self.since = (self.since or self.then) if spins(moved, now - self.then) else None
        self.faults = (self.faults or self.then) if only_faults(moved, now - self.then) else None
        self.then, self.before = now, counters
        if self.since is not None and now - self.since > SPIN_SECONDS:
            return SPINS
        if self.faults is None or now - self.faults < SPIN_SECONDS:
            return None
        self.faults = now
        with traced_exits() as places:
            time.sleep(1)
        return STRAYED if has_strayed(places) else None


def late_timer():
    """By how many seconds the latest of the guests' timers, of those that wait, has been missed."""
    late = 0.0
    text = read("/proc/timer_list", "")
    for left in re.findall(r"apic_timer_fn.*\n.*\[in (-?\d+) to", text):
        late = max(late, -int(left) / 1e9)
    return late


def guests(pids):
    """What the machines of these processes do: lines to read, and what shows the emulator's hand."""
    before = exits()
    with traced_exits() as places:
        time.sleep(SAMPLE_SECONDS)
    lines, still, loops = [], False, False
    for name, now in exits().items():
        moved = {key: value - before.get(name, {}).get(key, 0) for key, value in now.items()}
        changed = {key: by for key, by in moved.items() if by}
        lines.append(f"   machine {name}: counters that moved in {SAMPLE_SECONDS} s: {changed or 'none'}")
        if int(name.partition("-")[0]) in pids:
            still |= not changed.get("exits")
            loops |= spins(changed, SAMPLE_SECONDS)
    lines += places
    late = late_timer()
    lines.append(f"   the latest of the guests' timers is late by {late:.1f} s")
    halted = any("kvm_vcpu_halt" in read(task / "stack") or "kvm_vcpu_block" in read(task / "stack")
                 for pid in pids for task in Path(f"/proc/{pid}/task").glob("*"))
    if still and halted and late > LATE_SECONDS:
        return lines, (f"a vCPU is in HLT, no counter moves, and the host's kernel has not run a timer "
                       f"that was due {late:.1f} s ago: the emulator has lost its interrupt")
    if has_strayed(places):
        return lines, STRAYED
    return lines, SPINS if loops else None


class Report:
    def __init__(self, pid):
        pids = [pid, *descendants(pid)]
        log, before = log_end(), interrupts()
        lines, self.emulator = guests(pids)
        controllers = lapics()
        self.emulator = self.emulator or emulator.lost_interrupts(controllers) or None
        self.text = "\n".join([" what it waits for:", *(process(one) for one in pids),
                               "  the guests:", *lines, "  devices' interrupts:", *arrivals(before),
                               *(f"   {line}" for line in controllers.splitlines()
                                 if line.startswith(("dumping", "ISR", "IRR"))),
                               "  the host's kernel log ends with:", *log,
                               "  blocked tasks:", *blocked_tasks()])


class EmulatorStuck(Exception):
    """The emulated host can do no more, by a fault that is known to be the emulator's."""



def explain(pid):
    """What is found out about a process that does not end, or does not go on."""
    report = Report(pid)
    if report.emulator:
        raise EmulatorStuck(f"{report.emulator}\n{report.text}")
    return report.text


def user_processes():
    """All that are not the kernel's own, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        cmdline = read(path / "cmdline", "")
        if cmdline:
            found[int(path.name)] = cmdline.replace("\0", " ").strip()
    return found

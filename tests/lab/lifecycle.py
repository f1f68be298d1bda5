"""Machines start again, end in every way, and their devices come back each time."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import harness
from harness import (BOOT_SECONDS, EDU, NVME_A, QUICK_SECONDS, Machine, Penstock, check, driver,
                     refused, test, wait_until)


@test()
def reboot():
    """A restart of the guest is a restart of the guest, devices included."""
    with Machine("reboot", devices=[NVME_A]) as machine:
        machine.succeed("reboot")
    check("this is the second start" in machine.output, "the guest did not start again")


@test()
def on_reboot_stop():
    """The machine ends instead; the console is a file here."""
    path = "/tmp/serial"
    with Machine("reboot", devices=[NVME_A], reboot=False, serial=f"file:{path}") as machine:
        code = machine.wait()
    output = Path(path).read_text(errors="replace")
    check(code == 0 and "this is the first start" in output, f"exit code {code}; {output[-300:]}")
    check("second start" not in output, "the guest started again")
    # leaves the disk without the mark
    with Machine("reboot", devices=[NVME_A]) as machine:
        machine.succeed("reboot")


@test(only=Penstock)
def console_on_a_pty():
    with Machine("console", serial="pty") as machine:
        # it must not become this process' own terminal
        file = os.open(find_pty(machine), os.O_RDWR | os.O_NOCTTY)
        with open(file, "r+b", buffering=0) as console:
            read_until(console, b"CONSOLE-READY")
            console.write(b"hello\n")
            read_until(console, b"CONSOLE-GOT hello")
        check(machine.wait() == 0, machine.last_words())


def find_pty(machine):
    """Penstock tells the path; on which of its streams is its own affair."""
    found = []

    def look():
        words = (machine.output + machine.errors()).split()
        found[:] = [word.strip(".,:;'\"") for word in words if "/dev/pts/" in word]
        return found

    wait_until(look, QUICK_SECONDS, "no /dev/pts path told")
    return found[0]


def read_until(console, text, seconds=BOOT_SECONDS):
    seen = bytearray()

    def read():
        with contextlib.suppress(OSError):
            while text not in seen:
                seen.extend(console.read(256))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(seconds)
    check(text in seen, f"no {text} on the pty, but {bytes(seen[-200:])}")


@contextlib.contextmanager
def busy_machine(**options):
    """A machine whose guest keeps its disk busy."""
    options.setdefault("devices", [NVME_A])
    with Machine("wait", **options) as machine:
        machine.expect("WAITING", BOOT_SECONDS)
        yield machine


def machine_process(machine):
    children = machine.descendants()
    check(children, "the broker has no child")
    return children[-1]


@test(only=Penstock)
def confinement_and_second_start():
    """The machine process is confined; a running machine's name and devices are taken."""
    with open("/etc/hostname", "rb") as secret, \
            busy_machine(name="taken", inherited=[secret.fileno()]) as machine:
        process = Path(f"/proc/{machine_process(machine)}")
        opened = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        check(secret.name not in opened, f"the machine process inherits {secret.name}")
        status = (process / "status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        check(fields["NoNewPrivs"] == "1", "the machine process may gain privileges")
        check(fields["Seccomp"] == "2", "the machine process has no seccomp filter")
        check(int(fields["CapEff"], 16) == 0 and int(fields["CapPrm"], 16) == 0,
              f"the machine process has capabilities: {fields['CapEff']}")
        check("0" not in fields["Uid"].split(), "the machine process runs as root")
        refused(harness.vmm.command(name="taken"), 1, "taken")
        refused(harness.vmm.command(name="other", devices=[NVME_A]), 1, NVME_A)
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)


def check_ended_by(machine, number):
    """By its signal, as the exit code says; QEMU sees its own to be a success."""
    code = machine.wait(QUICK_SECONDS)
    check(code == 128 + number or harness.vmm is harness.Qemu,
          f"exit code {code} after {signal.Signals(number).name}")


@test()
def sigterm():
    with busy_machine() as machine:
        machine.process.terminate()
        check_ended_by(machine, signal.SIGTERM)


@test()
def ctrl_c():
    """A terminal sends SIGINT to all processes of the foreground, not to the broker only."""
    with busy_machine(devices=[NVME_A, EDU]) as machine:
        os.killpg(machine.process.pid, signal.SIGINT)
        check_ended_by(machine, signal.SIGINT)


@test(only=Penstock)
def power_button():
    """SIGPWR presses it: the guest sees an ACPI event. A SIGHUP that the caller ignores (nohup) is
    ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Machine("power-button") as machine:
        signal.signal(signal.SIGHUP, before)
        machine.expect("POWER-BUTTON-READY")
        machine.process.send_signal(signal.SIGHUP)
        machine.process.send_signal(signal.SIGPWR)
        machine.succeed("power-button")


@test(only=Penstock)
def signals_during_start():
    """Wherever in its start a signal finds it, the devices come back."""
    for tenths in (0, 1, 2, 4, 7, 11, 16):
        with Machine("wait", devices=[NVME_A, EDU]) as machine:
            time.sleep(tenths / 10)
            machine.process.terminate()
            machine.wait(QUICK_SECONDS)
        check(driver(NVME_A) == "nvme" and driver(EDU) is None,
              f"SIGTERM after {tenths / 10} s leaves the devices at "
              f"{driver(NVME_A)} and {driver(EDU)}")


@test(only=Penstock)
def sigkill_of_the_machine():
    with busy_machine() as machine:
        os.kill(machine_process(machine), signal.SIGKILL)
        code = machine.wait(QUICK_SECONDS)
        check(code == 1, f"exit code {code} after the machine process was killed")


@test(only=Penstock)
def sigkill_of_the_broker():
    """The machine goes with it, and `release --stale` gives back what it had."""
    with busy_machine(devices=[NVME_A, EDU]) as machine:
        children = machine.descendants()
        os.kill(machine.process.pid, signal.SIGKILL)
        machine.wait(QUICK_SECONDS)
        wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children),
                   QUICK_SECONDS, "the machine process outlives its broker")
        check(driver(NVME_A) == "vfio-pci", "the devices came back without anybody's doing")
        done = harness.command(["penstock", "release", "--stale"], QUICK_SECONDS)
        check(done.returncode == 0, f"release --stale: exit code {done.returncode}: {done.stderr}")


@test(only=Penstock)
def kernel_and_initrd_are_closed():
    """The machine process has no use of them any more when the guest runs."""
    with busy_machine(devices=[]) as machine:
        process = Path(f"/proc/{machine_process(machine)}")
        opened = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)
    check(opened, "the machine process has nothing open")
    for path in (harness.KERNEL, harness.INITRD):
        check(path not in opened, f"the machine process has {path} open")

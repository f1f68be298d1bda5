"""Machines are reached while they run: the monitor's socket, and the commands that use it."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import time
from pathlib import Path

import hang
from harness import (BOOT_SECONDS, E1000E, INITRD, KERNEL, NVME_A, QUICK_SECONDS, RUN_SECONDS, Machine, Penstock, check, command,
                     driver, end, refused, test, wait_until)

NAME = "controlled"
SOCKET = f"/run/penstock/{NAME}.sock"


class Monitor:
    """A client of one's own."""

    def __init__(self, path=SOCKET):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(RUN_SECONDS)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rw", newline="\n")
        self.events = []
        check("QMP" in self._receive(), "no greeting")
        self.run("qmp_capabilities")

    def close(self):
        self._socket.close()

    def _receive(self):
        line = self._lines.readline()
        check(line, "the monitor has closed the connection")
        return json.loads(line)

    def answer(self, name, **arguments):
        self._lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._lines.flush()
        while "event" in (message := self._receive()):
            self.events.append(message)
        return message

    def run(self, name, **arguments):
        message = self.answer(name, **arguments)
        check("return" in message, f"{name}: {message}")
        return message["return"]

    def expect(self, event):
        for seen in self.events:
            if seen["event"] == event:
                self.events.remove(seen)
                return seen
        while (message := self._receive()).get("event") != event:
            self.events.append(message)
        return message


@contextlib.contextmanager
def controlled(test_name, **options):
    with Machine(test_name, name=NAME, **options) as machine:
        wait_until(lambda: os.path.exists(SOCKET), QUICK_SECONDS, "no socket")
        monitor = Monitor()
        yield machine, monitor
        monitor.close()


@test(only=Penstock)
def monitor_stop_and_cont():
    """50 times under I/O, the disk's and the vCPUs': nothing is lost, and no watchdog barks."""
    with controlled("pause", devices=[NVME_A], cpus=2) as (machine, monitor):
        machine.expect("PAUSE-READY", BOOT_SECONDS)
        for number in range(50):
            monitor.run("stop")
            monitor.expect("STOP")
            check(monitor.run("query-status") == {"status": "paused", "running": False}, "it is not paused")
            time.sleep(8 if number == 25 else 0.05)
            monitor.run("cont")
            monitor.expect("RESUME")
            time.sleep(0.2)
        machine.type("enough\n")
        machine.succeed("pause")
        shutdown = monitor.expect("SHUTDOWN")
        check(shutdown["data"] == {"guest": True, "reason": "guest-shutdown"}, f"{shutdown}")


@test(only=Penstock)
def monitor_queries():
    with controlled("wait", devices=[NVME_A], cpus=2) as (machine, monitor):
        machine.expect("WAITING", BOOT_SECONDS)
        threads = {int(task.name) for child in machine.descendants()
                   for task in Path(f"/proc/{child}/task").iterdir()}
        cpus = monitor.run("query-cpus-fast")
        check([cpu["cpu-index"] for cpu in cpus] == [0, 1], f"{cpus}")
        check({cpu["thread-id"] for cpu in cpus} <= threads, f"{cpus} are not of {threads}")
        root, = monitor.run("query-pci")
        functions = [function for port in root["devices"] if "pci_bridge" in port
                     for function in port["pci_bridge"]["devices"]]
        disks = [function for function in functions if function["qdev_id"] == NVME_A]
        check(len(disks) == 1, f"{functions}")
        disk = disks[0]
        check(disk["class_info"]["class"] == 0x0108 and disk["bus"] != 0, f"{disk}")
        port = next(port for port in root["devices"] if disk in port.get("pci_bridge", {}).get("devices", ()))
        check(port["pci_bridge"]["bus"]["secondary"] == disk["bus"], f"{port}")
        region = disk["regions"][0]
        check(region["bar"] == 0 and region["address"] and region["size"] >= 16384, f"{disk}")
        check(monitor.answer("device_del", id="none")["error"]["class"] in
              ("DeviceNotFound", "CommandNotFound"), "a device that is none goes")
        # Two at once, and one that is in the midst of a word and goes.
        other, rude = Monitor(), socket.socket(socket.AF_UNIX)
        rude.connect(SOCKET)
        rude.sendall(b'{"execute":"qmp_capa')
        other.run("stop")
        monitor.expect("STOP")
        rude.close()
        monitor.run("cont")
        other.expect("RESUME")
        check(os.stat(SOCKET).st_mode & 0o777 == 0o600, "others may connect")
        other.run("quit")
        check(monitor.expect("SHUTDOWN")["data"]["reason"] == "host-qmp-quit", "another reason")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())
    check(not os.path.exists(SOCKET), "the socket stays")


@test(only=Penstock)
def monitor_powerdown():
    with controlled("power-button") as (machine, monitor):
        machine.expect("POWER-BUTTON-READY")
        monitor.run("system_powerdown")
        monitor.expect("POWERDOWN")
        machine.succeed("power-button")
        monitor.expect("SHUTDOWN")


@test(only=Penstock)
def monitor_reset():
    """The guest starts anew, devices included; the connection stays."""
    with controlled("wait", devices=[NVME_A]) as (machine, monitor):
        machine.expect("WAITING", BOOT_SECONDS)
        monitor.run("system_reset")
        check(monitor.expect("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"},
              "another reason")
        wait_until(lambda: machine.output.count("WAITING") == 2, BOOT_SECONDS, "no second start")
        monitor.run("quit")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())


def listed():
    done = command(["penstock", "list", "--json"])
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)["machines"]


@contextlib.contextmanager
def described(**keys):
    """A file that describes a machine, in which a path is seen from where the file is."""
    path = Path(f"/etc/penstock/{NAME}.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    try:
        yield path
    finally:
        command(["penstock", "stop", "--force", NAME])
        path.unlink()


@test(only=Penstock)
def start_and_stop_by_name():
    """In the background; by its power button; when the command returns, the devices are back."""
    console = Path("/tmp/by-name")
    with described(kernel=KERNEL, initrd=INITRD, cmdline="console=ttyS0 quiet panic=-1 test=power-button",
                   device=NVME_A, serial="file:../../tmp/by-name", name="another") as path:
        machine = {"name": NAME, "pid": None, "status": "off", "file": str(path), "devices": [],
                   "backends": []}
        check(listed() == [machine], f"{listed()}")
        done = command(["penstock", "start", NAME], BOOT_SECONDS)
        check(done.returncode == 0 and "nvme -> vfio-pci" in done.stderr, f"{done}")
        wait_until(lambda: "POWER-BUTTON-READY" in console.read_text(errors="replace"), BOOT_SECONDS, "no guest")
        pid = listed()[0]["pid"]
        check(os.getsid(pid) == pid, "it has not left our session")
        check(listed() == [{**machine, "pid": pid, "status": "running", "devices": [NVME_A]}], f"{listed()}")
        check(f"{NAME} " in command(["penstock", "list"]).stdout, "it is not listed")
        check(command(["penstock", "status", NAME]).returncode == 0, "it has no status")
        messages = Path("/run/penstock/messages", NAME)
        said = messages.read_text()
        refused(["penstock", "start", NAME], 1, "a machine of this name is running")
        check("vfio-pci" in said and messages.read_text() == said, f"its messages were {said}")
        check(os.listdir(messages.parent) == [NAME], f"messages are kept in {os.listdir(messages.parent)}")
        monitor = Monitor()
        done = command(["penstock", "stop", NAME], RUN_SECONDS)
        check(done.returncode == 0 and not done.stderr, f"exit code {done.returncode}: {done.stderr}")
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        monitor.expect("SHUTDOWN")
        monitor.close()
        check("TEST-RESULT power-button ok" in console.read_text(errors="replace"), "the guest has not ended by its button")
        check(command(["penstock", "status", NAME]).returncode == 3, "it is not off")
        check(listed() == [machine], f"{listed()}")
    console.unlink()
    check(listed() == [], f"{listed()}")
    refused(["penstock", "stop", NAME], 1, "no machine of this name", "penstock list")


@test(only=Penstock)
def stop_by_force():
    with controlled("wait", devices=[E1000E, NVME_A]) as (machine, _):
        machine.expect("WAITING", BOOT_SECONDS)
        done = command(["penstock", "stop", "--force", NAME], RUN_SECONDS)
        check(done.returncode == 0, done.stderr)
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())


class Console:
    """`penstock console` between pipes."""

    def __init__(self):
        self.process = subprocess.Popen(["penstock", "console", NAME], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def _more(self, deadline):
        left = max(0, deadline - time.monotonic())
        check(select.select([self.process.stdout], [], [], left)[0], lambda: f"nothing comes after {self.seen[-300:]}")
        more = self.process.stdout.read(4096)
        self.seen += more
        return more

    def expect(self, text, seconds):
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            # The client's stderr ends when the client does: not to be read before.
            check(self._more(deadline), lambda: f"the console ends: {self.seen[-300:]} {self.process.stderr.read()}")

    def expect_end(self):
        deadline = time.monotonic() + QUICK_SECONDS
        while self._more(deadline):
            pass
        check(self.process.wait(QUICK_SECONDS) == 0, "the console fails")


def leave_terminal(leave, status):
    """A console on a terminal is left, and the terminal is as it was."""
    keys, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with subprocess.Popen(["penstock", "console", NAME], stdin=terminal, stdout=terminal,
                          stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: termios.tcgetattr(terminal) != before, QUICK_SECONDS, "the terminal is not raw")
            leave(process, keys)
            found = process.wait(QUICK_SECONDS)
        finally:
            end(process)
    check(found == status, f"exit code {found}, not {status}")
    check(termios.tcgetattr(terminal) == before, "the terminal stays raw")
    os.close(keys)
    os.close(terminal)


@test(only=Penstock)
def console_of_a_running_machine():
    """By one user at a time, who may go and come; it ends with the machine."""
    with Machine("console", serial="pty", name=NAME) as machine:
        wait_until(lambda: os.path.exists(SOCKET), QUICK_SECONDS, "no socket")
        with Console() as first:
            first.expect(b"CONSOLE-READY", BOOT_SECONDS)
            refused(["penstock", "console", NAME], 1, "somebody has this console open")
            first.process.kill()
            first.process.wait(QUICK_SECONDS)
        leave_terminal(lambda _, keys: os.write(keys, b"\1x"), 0)
        leave_terminal(lambda process, _: process.terminate(), 128 + signal.SIGTERM)
        with Console() as last:
            last.process.stdin.write(b"hello\n")
            last.expect(b"CONSOLE-GOT hello", QUICK_SECONDS)
            last.expect(b"TEST-RESULT console ok", RUN_SECONDS)
            last.expect_end()
        check(machine.wait() == 0, machine.last_words)
    with controlled("wait", devices=[]) as (machine, _):
        refused(["penstock", "console", NAME], 1, "no pseudo-terminal, but goes to stdio", "--serial pty")
        machine.process.terminate()
        machine.wait(QUICK_SECONDS)


@test(only=Penstock)
def console_that_nobody_reads():
    """The guest goes on, and who comes late sees what it prints from then on."""
    noise = 64 << 10        # more than pseudo-terminal and buffer hold, 28 KiB
    with Machine("console", f"console.noise={noise}", serial="pty", name=NAME) as machine:
        wait_until(lambda: any(counts.get("io_exits", 0) > noise for counts in hang.exits().values()),
                   RUN_SECONDS, "the guest does not print all it has")
        with Console() as late:
            late.expect(b"CONSOLE-READY", BOOT_SECONDS)
            check(late.seen.count(b"#") < noise, "all has been kept: this shows nothing")
            late.process.stdin.write(b"late\n")
            late.expect(b"CONSOLE-GOT late", QUICK_SECONDS)
            late.expect_end()
        check(machine.wait() == 0, machine.last_words)


@test(only=Penstock)
def attach_and_detach():
    """A disk comes while the guest runs, is used, and goes; so it does by a name of the client's."""
    with controlled("wait", devices=[E1000E]) as (machine, monitor):
        machine.expect("WAITING", BOOT_SECONDS)
        for _ in range(3):
            done = command(["penstock", "attach", NAME, NVME_A], RUN_SECONDS)
            check(done.returncode == 0, f"{done.stderr}{machine.last_words()}")
            check(driver(NVME_A) == "vfio-pci", "it has not left its driver")
            check(listed()[0]["devices"] == [NVME_A, E1000E], f"{listed()}")
            refused(["penstock", "attach", NAME, NVME_A], 1, "the machine has it already")
            time.sleep(3)       # the guest's driver takes it
            done = command(["penstock", "detach", NAME, NVME_A], RUN_SECONDS)
            check(done.returncode == 0, f"{done.stderr}{machine.last_words()}")
            check(driver(NVME_A) == "nvme", "its driver has it not back")
        monitor.run("device_add", driver="vfio-pci", host=NVME_A, id="disk7")
        done = command(["penstock", "detach", "--force", NAME, NVME_A], QUICK_SECONDS)
        check(done.returncode == 0, f"{done.stderr}{machine.last_words()}")
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        monitor.run("device_add", driver="vfio-pci", host=NVME_A, id="disk7")
        monitor.run("device_del", id="disk7", force=True)
        for _ in range(2):
            while monitor.expect("DEVICE_DELETED")["data"]["device"] != "disk7":
                pass
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        check(monitor.answer("device_del", id="disk7")["error"]["class"] == "DeviceNotFound", "another class")
        refused(["penstock", "detach", NAME, NVME_A], 1, "not found")
        refused(["penstock", "attach", NAME, "0000:77:00.0"], 1, "0000:77:00.0")
        monitor.run("quit")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())


@test(only=Penstock)
def attach_that_fails_changes_nothing():
    """No port is empty: the device is at its driver again when the command returns."""
    with controlled("wait", more=["--ports", "0"], devices=[E1000E]) as (machine, monitor):
        machine.expect("WAITING", BOOT_SECONDS)
        refused(["penstock", "attach", NAME, NVME_A], 1, "no empty PCI port", "--ports")
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        monitor.run("quit")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())

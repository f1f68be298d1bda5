"""The host wants devices back while a guest has them, and devices report errors."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import harness
from control import Monitor
from harness import (E1000E, EDU, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME, QUICK_SECONDS, Machine, Penstock,
                     check, command, device, driver, override, test, wait_until)
from hotplug import NAME, attach, expect_times, running
from journal import succeed
from sriov import IGB, IGB_VF, MAC, network_vfs

RECORDS = Path("/run/penstock/devices")
E1000E_MAC, PAIR_MAC = "52:54:00:00:00:02", "52:54:00:00:00:03"


@contextlib.contextmanager
def monitored(devices, **options):
    with running(devices, **options) as machine:
        monitor = Monitor(f"/run/penstock/{NAME}.sock")
        yield machine, monitor
        monitor.close()


@contextlib.contextmanager
def writing(path, text):
    """What waits for the device's last user meanwhile, and succeeds in the end."""
    with subprocess.Popen(["sh", "-c", f"echo {text} > {path}"], stderr=subprocess.PIPE, text=True) as shell:
        try:
            yield
            _, said = shell.communicate(timeout=QUICK_SECONDS)
        finally:
            shell.kill()
        check(shell.returncode == 0, f"{path}: {said}")


def unbinding(bdf):
    return writing(device(bdf) / "driver/unbind", bdf)


def heard(monitor, event, bdf, action):
    data = monitor.expect(f"__org.penstock_DEVICE_{event}")["data"]
    check(data == {"device": bdf, "host": bdf, "action": action}, f"{data}")


def deleted(monitor, bdf):
    data = monitor.expect("DEVICE_DELETED")["data"]
    check(data["device"] == bdf, f"{data} is not of {bdf}")


def is_left_alone(bdf):
    """It is with nobody, so that whoever has taken it can go on with it."""
    check((driver(bdf), override(bdf)) == (None, None), f"{bdf}: {driver(bdf)}, {override(bdf)}")
    check(not (RECORDS / bdf).exists(), f"the journal still has {bdf}")


def probe(bdf):
    Path("/sys/bus/pci/drivers_probe").write_text(bdf)


@test(only=Penstock)
def the_host_wants_a_device_back():
    """It is unbound, and removed: the guest lets go of it, and goes on with what it has."""
    with monitored([NVME_A, NVME_B], stay="nvme-a") as (machine, monitor):
        expect_times(machine, "HERE nvme-b", 1)
        with unbinding(NVME_B):
            heard(monitor, "WANTED", NVME_B, "ask")
            deleted(monitor, NVME_B)
        expect_times(machine, "GONE nvme-b", 1)
        is_left_alone(NVME_B)
        probe(NVME_B)
        check(driver(NVME_B) == "nvme", f"{NVME_B} is at {driver(NVME_B)}")
        attach(NVME_B)
        expect_times(machine, "HERE nvme-b", 2)
        with writing(device(NVME_B) / "remove", 1):
            heard(monitor, "WANTED", NVME_B, "ask")
            deleted(monitor, NVME_B)
        expect_times(machine, "GONE nvme-b", 2)
        check(not device(NVME_B).exists() and not (RECORDS / NVME_B).exists(), "it is still there")
        # The kernel takes the driver first: the broker may look when the device has lost only that.
        wait_until(lambda: len(re.findall(f"{NVME_B}: (is gone|taken)", machine.errors())) == 2, QUICK_SECONDS,
                   "the broker does not say that it is gone")
        Path("/sys/bus/pci/rescan").write_text("1")
        wait_until(lambda: driver(NVME_B) == "nvme", QUICK_SECONDS, "it does not come back")


@test(only=Penstock)
def the_host_wants_one_function_back():
    """The other one of the slot goes with it, but to its own driver."""
    with monitored([PAIR_NVME, PAIR_NIC]) as (machine, monitor):
        expect_times(machine, f"HERE {PAIR_MAC}", 1)
        with unbinding(PAIR_NIC):
            heard(monitor, "WANTED", PAIR_NIC, "ask")
            deleted(monitor, PAIR_NVME)
            deleted(monitor, PAIR_NIC)
        expect_times(machine, f"GONE {PAIR_MAC}", 1)
        is_left_alone(PAIR_NIC)
        check(driver(PAIR_NVME) == "nvme", f"{PAIR_NVME} is at {driver(PAIR_NVME)}")
        probe(PAIR_NIC)


@test(only=Penstock)
def a_guest_that_does_not_let_go_loses_it():
    """It knows nothing of hotplug, or cannot be asked as the device is on the root bus."""
    with monitored([NVME_A, NVME_B, EDU], stay="nvme-a",
                   cmdline="pcie_ports=compat acpiphp.disable=1") as (machine, monitor):
        expect_times(machine, "HERE nvme-b", 1)
        with unbinding(EDU):
            heard(monitor, "WANTED", EDU, "detach")
            deleted(monitor, EDU)
        is_left_alone(EDU)
        with unbinding(NVME_B):
            heard(monitor, "WANTED", NVME_B, "ask")
            heard(monitor, "WANTED", NVME_B, "detach")
            deleted(monitor, NVME_B)
        is_left_alone(NVME_B)
        probe(NVME_B)


@test(only=Penstock)
def what_the_host_takes_as_a_machine_dies_is_left_alone():
    """The machine hears of it no more, and says nothing."""
    with Machine("wait", devices=[NVME_A, NVME_B]) as machine:
        machine.expect("WAITING")
        held = machine.descendants()[-1]
        os.kill(held, signal.SIGSTOP)
        with unbinding(NVME_B):
            wait_until(lambda: driver(NVME_B) is None, QUICK_SECONDS, "it is not taken")
            os.kill(held, signal.SIGKILL)
        code = machine.wait(QUICK_SECONDS)
        check(code == 1 and "killed by signal 9" in machine.errors(), f"exit code {code}; {machine.last_words()}")
        check(f"{NVME_B}: taken from vfio-pci" in machine.errors(), machine.last_words())
    is_left_alone(NVME_B)
    check(driver(NVME_A) == "nvme", f"{NVME_A} is at {driver(NVME_A)}")
    probe(NVME_B)


@test(only=Penstock)
def a_guest_that_is_held_loses_what_the_host_wants():
    with monitored([NVME_A, NVME_B], stay="nvme-a") as (machine, monitor):
        expect_times(machine, "HERE nvme-b", 1)
        monitor.run("stop")
        with unbinding(NVME_B):
            heard(monitor, "WANTED", NVME_B, "ask")
            heard(monitor, "WANTED", NVME_B, "detach")
            deleted(monitor, NVME_B)
        is_left_alone(NVME_B)
        check(monitor.run("query-status")["status"] == "paused", "it goes on by itself")
        monitor.run("cont")
        expect_times(machine, "GONE nvme-b", 1)
        probe(NVME_B)


@test(host="sriov", only=Penstock)
def a_vf_goes_while_its_guest_runs():
    with network_vfs(2):
        succeed("vf", "set", "--mac", MAC, IGB_VF)
        with monitored([IGB_VF]) as (machine, monitor):
            expect_times(machine, f"HERE {MAC}", 1)
            with writing(device(IGB) / "sriov_numvfs", 0):
                heard(monitor, "WANTED", IGB_VF, "ask")
                deleted(monitor, IGB_VF)
            expect_times(machine, f"GONE {MAC}", 1)
            check(not device(IGB_VF).exists() and not (RECORDS / IGB_VF).exists(), "it is still there")
            check(driver(IGB) == "igb", f"{IGB} is at {driver(IGB)}")


def report_error():
    """An uncorrectable one. The emulated NIC reports none of its own; the port above it does, and the kernel tells
    all drivers below."""
    done = command(["/lab/monitor", "pcie_aer_inject_error", "port3", "COMP_TIME"])
    check(done.returncode == 0, f"no error is injected: {done.stderr}")


@test(only=Penstock)
def a_device_reports_an_error():
    """The guest goes on, and clients hear of it, but not each time."""
    with monitored([E1000E]) as (machine, monitor):
        expect_times(machine, f"HERE {E1000E_MAC}", 1)
        for _ in range(3):
            report_error()
        heard(monitor, "ERROR", E1000E, "report")
        check(monitor.run("query-status")["running"], "it does not run")
        check(not monitor.events, f"{monitor.events}")
        check(machine.errors().count("uncorrectable error") == 1, machine.last_words())
        check("GONE" not in machine.output, machine.last_words())


@test(only=Penstock)
def a_device_that_reports_an_error_is_detached():
    with monitored([NVME_A, E1000E], stay="nvme-a",
                   more=["--on-device-error", "detach"]) as (machine, monitor):
        expect_times(machine, f"HERE {E1000E_MAC}", 1)
        report_error()
        heard(monitor, "ERROR", E1000E, "detach")
        deleted(monitor, E1000E)
        expect_times(machine, f"GONE {E1000E_MAC}", 1)
        check(driver(E1000E) == "e1000e", f"{E1000E} is at {driver(E1000E)}")


@test(only=Penstock)
def a_device_that_reports_an_error_is_the_end():
    options = {"devices": [E1000E], "more": ["--on-device-error", "stop"], "name": NAME}
    with harness.Machine("wait", **options) as machine:
        machine.expect("WAITING", harness.BOOT_SECONDS)
        monitor = Monitor(f"/run/penstock/{NAME}.sock")
        report_error()
        heard(monitor, "ERROR", E1000E, "stop")
        check(monitor.expect("SHUTDOWN")["data"]["reason"] == "host-error", "another reason")
        code = machine.wait(QUICK_SECONDS)
        check(code == 1, f"exit code {code}; {machine.last_words()}")
        check(f"{E1000E}: it reports an uncorrectable error" in machine.errors(), machine.last_words())
        monitor.close()
    check(driver(E1000E) == "e1000e", f"the device is at {driver(E1000E)}")

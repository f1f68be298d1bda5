"""A guest crashes, or reboots, and its machine does as it was told to: --on-crash, --on-reboot."""

import json
import time
from pathlib import Path

from control import NAME, controlled, listed
from harness import BOOT_SECONDS, NVME_A, QUICK_SECONDS, Penstock, check, driver, test, wait_until


def ready(machine, start=1):
    wait_until(lambda: machine.output.count("CRASH-READY") == start, BOOT_SECONDS, f"no start number {start}")
    check("nobody to tell" not in machine.output, "the guest's kernel has no driver for pvpanic")


def cpu_ticks(machine):
    """How long the machine's process has run."""
    fields = Path(f"/proc/{machine.descendants()[-1]}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def check_held(monitor, status):
    check(monitor.run("query-status") == {"status": status, "running": False}, f"it is not {status}")
    check(listed()[0]["status"] == status, f"{listed()}")


def check_needs_reset(monitor):
    refusal = monitor.answer("cont").get("error", {})
    check("Resetting the Virtual Machine is required" in refusal.get("desc", ""), f"cont: {refusal}")


@test(only=Penstock)
def crash_and_reboot_pause():
    """Held for a panic, let go on to the reboot that follows it, held for that; then for a triple fault."""
    with controlled("crash", devices=[NVME_A], cpus=2,
                    more=["--on-crash", "pause", "--on-reboot", "pause"]) as (machine, monitor):
        ready(machine)
        machine.type("panic\n")
        check(monitor.expect("GUEST_CRASHLOADED")["data"] == {"action": "run"}, "another action")
        check(monitor.expect("GUEST_PANICKED")["data"] == {"action": "pause"}, "another action")
        monitor.expect("STOP")
        check_held(monitor, "guest-panicked")
        machine.expect("sysrq triggered crash", QUICK_SECONDS)
        check("is held; next: 'system_reset'" in machine.errors(), machine.last_words())
        ticks = cpu_ticks(machine)
        time.sleep(2)
        check(cpu_ticks(machine) - ticks < 20, "its vCPUs run")
        monitor.run("cont")
        monitor.expect("RESUME")
        monitor.expect("STOP")
        check_held(monitor, "shutdown")
        check_needs_reset(monitor)
        monitor.run("system_reset")
        monitor.expect("RESET")
        ready(machine, 2)
        machine.type("triple\n")
        monitor.expect("GUEST_PANICKED")
        monitor.expect("STOP")
        check_held(monitor, "guest-panicked")
        check_needs_reset(monitor)
        # A device leaves a guest that stands still, by force alone.
        monitor.run("device_del", id=NVME_A, force=True)
        monitor.expect("DEVICE_DELETED")
        check(driver(NVME_A) == "nvme", "its driver has it not back")
        monitor.run("quit")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())


@test(only=Penstock)
def crash_reset():
    """What happens without an option: a triple fault and a panic are each a new start."""
    with controlled("crash", devices=[NVME_A]) as (machine, monitor):
        for number, how in enumerate(("triple", "panic"), 1):
            ready(machine, number)
            machine.type(f"{how}\n")
            check(monitor.expect("GUEST_PANICKED")["data"] == {"action": "run"}, "another action")
            check(monitor.expect("RESET")["data"] == {"guest": True, "reason": "guest-panic"}, "another reason")
        wait_until(lambda: "running" in json.dumps(monitor.run("query-status")), QUICK_SECONDS, "no third start")
        monitor.run("quit")
        check(machine.wait(QUICK_SECONDS) == 0, machine.last_words())
        check("Kernel panic - not syncing" in machine.output, "the panic is not on the console")
        check("has crashed (triple fault)" in machine.errors(), machine.last_words())


@test(only=Penstock)
def crash_stop():
    with controlled("crash", devices=[NVME_A], more=["--on-crash", "stop"]) as (machine, monitor):
        ready(machine)
        machine.type("panic\n")
        check(monitor.expect("GUEST_PANICKED")["data"] == {"action": "poweroff"}, "another action")
        check(monitor.expect("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-panic"}, "another reason")
        check(machine.wait(QUICK_SECONDS) == 1, machine.last_words())
        check(f"{NAME}: the guest has crashed (its kernel panics)" in machine.errors(), machine.last_words())

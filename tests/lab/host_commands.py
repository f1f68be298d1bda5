"""The commands that make a host ready, on the real kernel's devices, while these are in use."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

import bad_input
import harness
from harness import (DEVICES, E1000E, EDU, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME,
                     XHCI, Penstock, as_user, block_device, check, driver, group, network_device, refused,
                     test)
from journal import penstock, succeed


@contextlib.contextmanager
def busy(*words):
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@test(only=Penstock)
def bind_and_release_all():
    """Every device, while another disk and network card work: to vfio-pci and back, twice."""
    with busy("sh", "-c", "while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct; done"), \
            busy("ping", "-q", "-i", "0.2", "127.0.0.1"):
        for _ in range(2):
            for bdf in DEVICES:
                before = harness.state()
                succeed("bind", bdf)
                check(driver(bdf) == "vfio-pci", f"{bdf} is at {driver(bdf)} after bind")
                succeed("release", bdf)
                check(harness.state() == before, f"{bdf}: {harness.state()[bdf]} after release")


@test(only=Penstock)
def bind_takes_whole_groups():
    before = harness.state()
    done = penstock("bind", "--dry-run", "--group", PAIR_NVME)
    check(done.returncode == 0 and PAIR_NIC in done.stdout and group(PAIR_NVME) in done.stdout,
          f"--group does not name the companion: {done.stdout}{done.stderr}")
    check(harness.state() == before, "--dry-run has changed something")
    succeed("bind", PAIR_NVME)
    check(driver(PAIR_NIC) == "vfio-pci", "the companion was left at its driver")
    done = penstock("release", "--all", "--dry-run")
    check(driver(PAIR_NVME) == "vfio-pci" and PAIR_NVME in done.stderr, done.stderr)
    succeed("release", PAIR_NVME)
    check(harness.state() == before, "the companion did not go back")


@test(only=Penstock)
def bind_refuses_what_the_host_uses():
    path = block_device(NVME_B)
    with bad_input.scratch_area(path):
        subprocess.run(["mkfs.ext4", "-q", path, "4M"], check=True, capture_output=True)
        subprocess.run(["mount", path, "/mnt"], check=True)
        try:
            refused(["penstock", "bind", NVME_B], 1, NVME_B, "mounted at /mnt")
            refused(["penstock", "bind", NVME_A, NVME_B], 1, "mounted at /mnt")
            check(driver(NVME_A) == "nvme", "the other one was taken")
            check("mounted at /mnt" in penstock("ls", NVME_B).stdout, "ls does not tell of it")
            found = penstock("doctor", NVME_B)
            check(found.returncode == 1 and "mounted at /mnt" in found.stdout, found.stdout)
        finally:
            subprocess.run(["umount", "/mnt"], check=True)
    with bad_input.default_route(E1000E):
        refused(["penstock", "bind", E1000E], 1, E1000E, "default route")
        refused(["penstock", "bind", PAIR_NIC, E1000E], 1, "default route")


@test(only=Penstock)
def bind_refuses_a_nic_in_another_namespace():
    """A container's: named after ip-netns(8), and one that only a process has."""
    nic, before = network_device(E1000E), harness.state()

    def is_refused(*texts):
        refused(["penstock", "bind", E1000E], 1, E1000E, nic, *texts)
        refused(Penstock.command(devices=[E1000E]), 1, E1000E, *texts)
        check(nic in penstock("ls", E1000E).stdout, "ls does not tell of it")
        user = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"]
        said = harness.command([*user, "penstock", "doctor", E1000E]).stdout
        check("in another network namespace" in " ".join(said.split()), said)

    def there(*words):
        subprocess.run(["ip", *words], check=True)

    there("netns", "add", "blue")
    try:
        there("link", "set", nic, "netns", "blue")
        is_refused("network namespace 'blue'", f"ip -n blue link set {nic} netns 1")
        there("-n", "blue", "link", "set", nic, "netns", "1")
    finally:
        there("netns", "delete", "blue")
    with busy("unshare", "--net", "sleep", "1000") as process:
        own = os.readlink("/proc/self/ns/net")
        harness.wait_until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, 5, "no unshare")
        there("link", "set", nic, "netns", str(process.pid))
        is_refused(f"of sleep .pid {process.pid}", f"nsenter -t {process.pid} -n")
    # with its namespace it comes back
    harness.wait_until(lambda: (harness.device(E1000E) / "net" / nic).exists(), 20, f"no {nic}")
    succeed("bind", E1000E)
    succeed("release", E1000E)
    check(harness.state() == before, "something is left")


@test(only=Penstock)
def bind_refuses_a_disk_under_a_loop_device():
    path, before = block_device(NVME_A), harness.state()
    subprocess.run(["modprobe", "loop"], check=True)
    loop = subprocess.run(["losetup", "--find", "--show", path], check=True, capture_output=True,
                          text=True).stdout.strip()
    try:
        refused(["penstock", "bind", NVME_A], 1, NVME_A, f"part of {Path(loop).name}", "losetup -d")
        refused(Penstock.command(devices=[NVME_A]), 1, NVME_A, Path(loop).name)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
    succeed("bind", NVME_A)
    succeed("release", NVME_A)
    check(harness.state() == before, "something is left")


@test(only=Penstock)
def bind_refuses_a_disk_that_is_open():
    """Another machine monitor, say, has it for its guest; and udev, for a moment, does not count."""
    path, before = block_device(NVME_A), harness.state()
    with open(path, "rb"):
        refused(["penstock", "bind", NVME_A], 1, NVME_A, f"pid {os.getpid()}.* has {path} open")
        found = penstock("doctor", NVME_A)
        words = " ".join(found.stdout.split())
        check(found.returncode == 1 and f"has {path} open" in words, found.stdout)
    check(harness.state() == before, "it was changed")
    shell = f"exec 3<{path}; echo open; sleep 0.3"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE) as udev:
        udev.stdout.readline()
        succeed("bind", NVME_A)
    succeed("release", NVME_A)


@test(only=Penstock)
def bind_takes_what_is_at_work_by_force():
    """A disk and a network card in the midst of transfers: the driver gives them up, and has them back."""
    before = harness.state()
    path, interface = block_device(NVME_A), network_device(E1000E)
    flood = (f"import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); "
             f"s.bind(('{interface}', 0))\nwhile True: s.send(b'\\xff' * 6 + bytes(1000))")
    work = {
        NVME_A: ("sh", "-c", f"while dd if={path} of=/dev/null bs=1M iflag=direct; do :; done"),
        E1000E: ("python3", "-c", flood),
    }
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    for bdf, words in work.items():
        with busy(*words):
            time.sleep(1)
            succeed("bind", "--force", bdf)
            check(driver(bdf) == "vfio-pci", f"{bdf} is at {driver(bdf)}")
        succeed("release", bdf)
    subprocess.run(["ip", "link", "set", network_device(E1000E), "down"], check=True)
    check(harness.state() == before, "something is left")


@test(only=Penstock)
def names_and_addresses():
    before = harness.state()
    name = Path(block_device(NVME_A)).name
    for text in (name, f"/dev/{name}", NVME_A[5:], f"pci_{NVME_A.replace(':', '_').replace('.', '_')}",
                 f"/sys/bus/pci/devices/{NVME_A}", network_device(E1000E)):
        bdf = E1000E if text == network_device(E1000E) else NVME_A
        succeed("bind", text)
        check(driver(bdf) == "vfio-pci", f"{text} did not mean {bdf}")
        succeed("release", bdf)
    check(harness.state() == before, "something is left")


@test(only=Penstock)
def ls_and_doctor_as_json():
    listed = json.loads(penstock("ls", "--json").stdout)
    found = {device["address"]: device for device in listed["devices"]}
    check(set(DEVICES) <= set(found), f"ls has no {set(DEVICES) - set(found)}")
    check(found[NVME_A]["same_id_as"] == NVME_B and found[NVME_A]["driver"] == "nvme",
          f"{found[NVME_A]}")
    check(found[PAIR_NVME]["group"] == found[PAIR_NIC]["group"], "the pair shares a group")
    done = penstock("doctor", "--json", XHCI)
    said = json.loads(done.stdout)
    check(done.returncode == 0 and said["devices"][0]["can_pass"],
          f"{[one for one in said['findings'] if one['status'] == 'problem']}")
    statuses = {one["check"]: one["status"] for one in said["findings"]}
    for name in ("iommu", "kvm", "interrupt-remapping"):
        check(statuses[name] == "ok", f"{name} is {statuses[name]}")


@test(only=Penstock)
def resets():
    """By the device's own ways, by the bus of its own, by one that it shares, and by none."""
    before = harness.state()
    refused(["penstock", "reset", NVME_A], 1, NVME_A, "driver nvme", "penstock bind")
    succeed("bind", NVME_A, E1000E, XHCI, EDU, PAIR_NVME)
    for bdf, method in ((NVME_A, "flr"), (E1000E, "pm"), (XHCI, "bus")):
        done = penstock("reset", bdf)
        check(done.returncode == 0 and f"{bdf}: reset by {method}; it has come back" in done.stdout,
              f"{done.stdout}{done.stderr}")
    done = penstock("reset", EDU)
    fresh = re.search(r"for a fresh start: (.*)", done.stderr)
    check(done.returncode == 1 and EDU in done.stderr and fresh, f"{done.stdout}{done.stderr}")
    subprocess.run(["sh", "-c", fresh.group(1)], check=True, capture_output=True)
    check(driver(EDU) == "vfio-pci", f"found anew, {EDU} is at {driver(EDU)}")
    refused(["penstock", "reset", "--method", "flr", E1000E], 1, E1000E, "pm")
    shared = ["penstock", "reset", "--json", "--method", "bus", PAIR_NVME]
    done = subprocess.run(shared, capture_output=True, text=True)
    said = json.loads(done.stdout)["devices"][0]
    check(done.returncode == 0 and said["used"] == "bus" and said["bus_reset"] == [PAIR_NVME, PAIR_NIC],
          f"{said}; {done.stderr}")
    (harness.device(PAIR_NIC) / "driver/unbind").write_text(PAIR_NIC)
    (harness.device(PAIR_NIC) / "driver_override").write_text("\n")
    Path("/sys/bus/pci/drivers_probe").write_text(PAIR_NIC)
    check(driver(PAIR_NIC) == "e1000", f"{PAIR_NIC} is at {driver(PAIR_NIC)}")
    refused(shared, 1, PAIR_NVME, PAIR_NIC, "e1000")
    succeed("release", "--all")
    check(harness.state() == before, "something is left")


@test(only=Penstock)
def option_roms():
    file, before = "/tmp/e1000e.rom", harness.state()
    refused(["penstock", "rom", "dump", E1000E, file], 1, E1000E, "driver e1000e", "penstock bind")
    refused(["penstock", "rom", "dump", NVME_A, file], 1, NVME_A, "no option ROM")
    succeed("bind", E1000E)
    power = (harness.device(E1000E) / "power/control").read_text()
    command = (harness.device(E1000E) / "config").read_bytes()[4:6]
    done = penstock("rom", "dump", E1000E, file)
    check(done.returncode == 0 and "UEFI for x86-64" in done.stdout, f"{done.stdout}{done.stderr}")
    known, dumped = (Path(path).read_bytes() for path in ("/usr/share/qemu/efi-e1000e.rom", file))
    # QEMU writes the device's ID into the first image, and mends its checksum.
    different = [at for at, (a, b) in enumerate(zip(known, dumped)) if a != b]
    check(len(dumped) >= len(known) // 2 and len(different) < 8, f"it differs at {different[:20]}")
    check((harness.device(E1000E) / "power/control").read_text() == power and
          (harness.device(E1000E) / "config").read_bytes()[4:6] == command, "it was left changed")
    done = penstock("rom", "check", file, E1000E)
    check(done.returncode == 0, f"{done.stdout}{done.stderr}")
    done = penstock("rom", "check", file, NVME_A)
    check(done.returncode == 1 and "problem" in done.stdout, f"{done.stdout}{done.stderr}")
    succeed("release", E1000E)
    check(harness.state() == before, "something is left")


@test(host="no-iommu", only=Penstock)
def doctor_without_iommu():
    done = penstock("doctor")
    check(done.returncode == 1 and "intel_iommu=off" in done.stdout, done.stdout)


@test(host="no-intremap", only=Penstock)
def doctor_without_interrupt_remapping():
    done = penstock("doctor", "--json")
    found = [one for one in json.loads(done.stdout)["findings"]
             if one["check"] == "interrupt-remapping"]
    check(done.returncode == 1 and found[0]["status"] == "problem" and
          "intremap=off" in found[0]["fix"], f"{found}")


@test(only=Penstock)
def a_user_may_have_a_device():
    """bind --user: machines without root, as far as the user's memory-lock limit goes."""
    succeed("bind", "--user", "daemon", EDU)
    node = Path("/dev/vfio") / group(EDU)
    check(node.stat().st_uid == harness.USER, f"{node} belongs to {node.stat().st_uid}")
    command = Penstock.command(cmdline="console=ttyS0 quiet panic=-1 test=cpus", devices=[EDU])
    refused([*as_user(1 << 20), *command], 1, "memory-lock limit")
    for limit, can in ((8 << 20, False), ("unlimited", True)):
        done = harness.command([*as_user(limit), "penstock", "doctor", "--json", EDU])
        said = json.loads(done.stdout)["devices"][0]
        check((done.returncode == 0, said["can_pass"]) == (can, can),
              f"with {limit}: exit code {done.returncode}, {said}")
    for directory in (harness.USERS_DIRECTORY, None):
        done = harness.command([*as_user("unlimited", directory), *command], harness.RUN_SECONDS)
        check(done.returncode == 0 and "TEST-RESULT cpus ok" in done.stdout,
              f"exit code {done.returncode}: {done.stdout[-500:]}{done.stderr}")
    check(driver(EDU) == "vfio-pci", "the user's machine has taken it from vfio-pci")
    succeed("release", EDU)
    check(not node.exists() or node.stat().st_uid == 0, "the node still belongs to the user")

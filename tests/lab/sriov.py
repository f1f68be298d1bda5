"""Virtual functions: made, given to a guest, used by its driver there, and gone again."""

import contextlib
import fcntl
import json
import re
import signal
import struct
import subprocess
from pathlib import Path

import harness
from harness import (Machine, Penstock, check, device, driver, refused, run_guest, sectors, test, wait_until)
from journal import penstock, succeed
from passthrough import bulk_peer

PF, VF, NIC = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"
IGB, IGB_VF = "0000:03:00.0", "0000:03:10.0"
MAC = "52:54:00:12:34:56"

# NVMe Base 2.0, 5.33: Virtualization Management
ADMIN_COMMAND, VIRTUALIZATION_MANAGEMENT = 0xc0484e41, 0x1c
QUEUES, INTERRUPTS = 0, 1
PRIMARY_ALLOCATE, SECONDARY_OFFLINE, SECONDARY_ASSIGN, SECONDARY_ONLINE = 1, 7, 8, 9


def manage(path, controller, action, resource=0, count=0):
    """What `nvme virt-mgmt` does."""
    command = struct.pack("<BBHIIIQQIIIIIIIIII", VIRTUALIZATION_MANAGEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                          controller << 16 | resource << 8 | action, count, 0, 0, 0, 0, 0, 0)
    with open(path, "rb") as node:
        status = fcntl.ioctl(node, ADMIN_COMMAND, bytearray(command))
    check(status == 0, f"virtualization management, action {action} on {controller}: status {status:#x}")


def controller_of(bdf):
    wait_until(lambda: list(device(bdf).glob("nvme/nvme*/state")), harness.QUICK_SECONDS,
               f"no controller at {bdf}")
    return next(device(bdf).glob("nvme/nvme*"))


def free_resources():
    """The primary controller gives up its flexible queues and interrupts, for the secondary ones."""
    controller = controller_of(PF)
    for resource in (QUEUES, INTERRUPTS):
        manage(f"/dev/{controller.name}", 0, PRIMARY_ALLOCATE, resource, 0)
    (controller / "reset_controller").write_text("1")
    wait_until(lambda: (controller / "state").read_text().strip() == "live",
               harness.QUICK_SECONDS, "the controller does not come back from its reset")


def put_online(number):
    path = f"/dev/{controller_of(PF).name}"
    manage(path, number, SECONDARY_ASSIGN, INTERRUPTS, 1)
    manage(path, number, SECONDARY_ASSIGN, QUEUES, 2)
    manage(path, number, SECONDARY_ONLINE)


@test(host="sriov", only=Penstock)
def virtual_function_in_a_guest():
    refused(["penstock", "vf", "create", NIC, "1"], 1, NIC, "SR-IOV|virtual function")
    refused(["penstock", "vf", "create", PF, "5"], 1, PF, "4")
    free_resources()
    made = json.loads(penstock("vf", "create", "--bind", "--json", PF, "2").stdout)
    check([vf["address"] for vf in made["vfs"]] == [VF, "0000:01:00.2"], f"{made}")
    check(driver(VF) == "vfio-pci" and driver(PF) == "nvme", f"{driver(VF)}, {driver(PF)}")
    check("2 of 4 VFs" in penstock("ls", PF).stdout, penstock("ls", PF).stdout)
    put_online(1)
    run_guest("nvme", cmdline="stamp=vf nvme.count=1", devices=[VF])
    check(driver(VF) == "vfio-pci", "bind's VF was not left at vfio-pci")
    succeed("vf", "destroy", PF)
    check(not device(VF).exists(), "the VF is still there")
    check(not list(Path("/run/penstock/devices").glob("*")), "the journal still has it")
    # What the guest wrote through the VF is on the disk that the PF shows.
    first, count = (8 << 20) // harness.SECTOR, (4 << 20) // harness.SECTOR
    with open("/dev/nvme0n1", "rb") as disk:       # of a subsystem with several controllers
        disk.seek(first * harness.SECTOR)
        data = disk.read(count * harness.SECTOR)
    check(data == sectors("vf-nvme-pf", first, count), f"the disk begins with {data[:60]}")


def vf_of(interface, number):
    """What the kernel tells of a VF."""
    done = subprocess.run(["ip", "-json", "link", "show", interface], check=True, capture_output=True)
    return json.loads(done.stdout)[0]["vfinfo_list"][number]


@test(host="sriov", only=Penstock)
def virtual_function_of_a_network_card():
    """Made, set by the host, and a guest has it with these settings: the address, and the traffic."""
    interface = harness.network_device(IGB)
    succeed("vf", "create", IGB, "2")
    before = vf_of(interface, 0)
    done = penstock("vf", "set", "--mac", MAC, "--vlan", "5", "--trust", "on", "--dry-run", IGB_VF)
    check(done.returncode == 0 and vf_of(interface, 0) == before, "--dry-run has set something")
    done = penstock("vf", "set", "--mac", MAC, "--vlan", "5", "--trust", "on", IGB_VF)
    check(f"ip link set {interface} up" in done.stderr, "nothing tells that its card is down")
    found = vf_of(interface, 0)
    check((found["address"], found["vlan_list"][0]["vlan"], found["trust"]) == (MAC, 5, True),
          f"{found}")
    succeed("vf", "set", "--vlan", "0", "--trust", "off", IGB_VF)
    found = vf_of(interface, 0)
    check((found["address"], found["trust"]) == (MAC, False) and not any(found["vlan_list"]),
          f"{found}")
    check(vf_of(interface, 1)["address"] != MAC, "the other VF was set as well")
    refused(["penstock", "vf", "set", "--mac", MAC, IGB], 1, IGB, "no virtual function")
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    with bulk_peer() as seen:
        output = run_guest("net", devices=[IGB_VF])
    check(MAC in output, f"the guest's card does not have {MAC}")
    check(seen == [True], "the host did not receive what the guest sent")
    subprocess.run(["ip", "link", "set", interface, "down"], check=True)
    succeed("vf", "destroy", IGB)
    check(not device(IGB_VF).exists() and driver(IGB) == "igb", "the VF is still there")


@contextlib.contextmanager
def bridged_tap():
    """A tap in one Ethernet with the NIC that stays with the host."""
    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    subprocess.run(["modprobe", "vhost_net"], check=True)
    ip("tuntap", "add", "vmtap", "mode", "tap")
    ip("link", "add", "vmbr", "type", "bridge")
    try:
        for port in ("vmtap", "peer"):
            ip("link", "set", port, "master", "vmbr", "up")
        ip("address", "flush", "dev", "peer")
        ip("address", "add", "10.99.0.1/24", "dev", "vmbr")
        ip("link", "set", "vmbr", "up")
        yield "vmtap"
    finally:
        ip("link", "del", "vmbr")
        ip("tuntap", "del", "vmtap", "mode", "tap")
        ip("address", "add", "10.99.0.1/24", "dev", "peer")


@test(host="sriov", only=Penstock, long=True, limit=900)
def a_tap_stands_by_for_a_virtual_function():
    """The guest's net_failover takes both as one card, sends by the VF, goes on by the tap when that is taken away, and by
    the VF when it is given back."""
    interface = harness.network_device(IGB)
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    succeed("vf", "create", IGB, "1")
    refused(Penstock.command(devices=[IGB_VF], more=["--net", f"tap=nowhere,failover-for={NIC}"]), 2, NIC, "no --device")
    succeed("vf", "set", "--mac", MAC, IGB_VF)
    name = "failover"
    with bridged_tap() as tap:
        more = ["--name", name, "--net", f"tap={tap},mac={MAC},failover-for={IGB_VF}"]
        with Machine("failover", devices=[IGB_VF], more=more) as machine:
            machine.expect("FAILOVER-BOTH", 300)
            succeed("detach", name, IGB_VF)
            machine.expect("FAILOVER-ONE", 300)
            succeed("attach", name, IGB_VF)
            machine.succeed("failover")
        check(MAC in machine.output, f"the guest's card does not have {MAC}")
    sent = [{driver: int(count) for driver, count in re.findall(r"HAS (\w+) (\d+)", text)}
            for text in machine.output.split("FAILOVER-")[:3]]
    print(f"   sent by each: {sent}", flush=True)
    both, one, again = sent
    check(both["igbvf"] >= 10 > both["virtio_net"], f"with both there went {both}")
    check(list(one) == ["virtio_net"] and one["virtio_net"] >= 10, f"with one there went {one}")
    check(again["igbvf"] >= 10, f"with both again there went {again}, after {one}")
    subprocess.run(["ip", "link", "set", interface, "down"], check=True)
    succeed("vf", "destroy", IGB)


def no_vfs(bdf):
    """None is left of a create that was killed, nor is it in the way of the next one."""
    made, probe = ((device(bdf) / f"sriov_{name}").read_text().strip()
                   for name in ("numvfs", "drivers_autoprobe"))
    check((made, probe) == ("0", "1"), f"{bdf}: {made} VFs, sriov_drivers_autoprobe is {probe}")


@test(host="sriov", only=Penstock)
def sigkill_at_each_step_of_vf_create():
    """None is left, but where the end of it was in the journal: then all stay."""
    count, bound = 0, 0
    while True:
        done = penstock("vf", "create", "--bind", IGB, "2", stop_at=count + 1)
        if done.returncode == 0:
            break
        check(done.returncode == -signal.SIGKILL, f"exit code {done.returncode}: {done.stderr}")
        count += 1
        succeed("release", "--stale")
        if device(IGB_VF).exists():
            bound += 1
            check(driver(IGB_VF) == "vfio-pci", f"after step {count} {IGB_VF} is at {driver(IGB_VF)}")
            succeed("vf", "destroy", IGB)
        no_vfs(IGB)
        check(not list(Path("/run/penstock/devices").glob("[0-9]*")), f"records after step {count}")
    succeed("vf", "destroy", IGB)
    no_vfs(IGB)
    print(f"   vf create: {count} steps, bound after {count - bound}")
    # After the end of the bind only the record of the PF goes.
    check(count >= 20 and 1 <= bound <= 5, "that cannot be so")


@test(host="sriov", only=Penstock)
def a_pf_with_vfs_stays():
    succeed("vf", "create", PF, "1")
    refused(["penstock", "bind", PF], 1, PF, "virtual function|VF")
    refused(Penstock.command(devices=[PF]), 1, PF)
    succeed("vf", "destroy", PF)
    succeed("bind", PF)
    succeed("release", PF)
    check(driver(PF) == "nvme", f"{PF} is at {driver(PF)}")


@contextlib.contextmanager
def network_vfs(count):
    """So many of the card that the host goes on using: its interface."""
    interface = harness.network_device(IGB)
    subprocess.run(["modprobe", "igbvf"], check=True)
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    succeed("vf", "create", IGB, str(count))
    try:
        yield interface
    finally:
        succeed("vf", "destroy", IGB)
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)


PF_ADDRESS, GUEST_ADDRESSES = "10.98.0.1", ["10.98.0.11", "10.98.0.12", "10.98.0.13"]


@contextlib.contextmanager
def pings_over(interface):
    """
    While this lasts the host pings the guests over the PF, and they answer before, meanwhile and afterwards. Not each
    ping: a ring that is full of what the guests send drops what comes.
    """
    def all_answer(when):
        for address in GUEST_ADDRESSES:
            words = ["ping", "-c", "1", "-W", "1", "-I", interface, address]
            wait_until(lambda: harness.command(words).returncode == 0, harness.QUICK_SECONDS,
                       f"{address} does not answer {when}")

    all_answer("at the beginning")
    pings = [subprocess.Popen(["ping", "-i", "0.5", "-I", interface, address], stdout=subprocess.PIPE, text=True)
             for address in GUEST_ADDRESSES]
    try:
        yield
    finally:
        for ping in pings:
            ping.send_signal(signal.SIGINT)
        said = [ping.communicate(timeout=harness.QUICK_SECONDS)[0] for ping in pings]
    for text in said:
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", text).groups())
        print(f"   {received} of {sent} pings over the PF are answered", flush=True)
        check(received >= 5, text)
    all_answer("at the end")


@test(host="sriov", only=Penstock, limit=600)
def three_vfs_in_three_machines():
    """At once: each guest sends to the others and to the host, which goes on using the PF."""
    with network_vfs(3) as interface, contextlib.ExitStack() as stack:
        subprocess.run(["ip", "address", "add", f"{PF_ADDRESS}/24", "dev", interface], check=True)
        stack.callback(subprocess.run, ["ip", "address", "flush", "dev", interface], check=True)
        machines = []
        for number in range(3):
            vf = f"0000:03:10.{2 * number}"
            succeed("vf", "set", "--mac", f"52:54:00:12:34:5{number + 1}", vf)
            machines.append(stack.enter_context(
                Machine("neighbours", cmdline=f"me={number + 1}", name=f"vf{number + 1}", memory="256M",
                        devices=[vf])))
        for machine in machines:
            machine.expect("NEIGHBOURS-READY", 2 * harness.BOOT_SECONDS)
        with bulk_peer(address=PF_ADDRESS) as seen, pings_over(interface):
            for machine in machines:
                machine.type("begin\n")
            for machine in machines:
                machine.expect("NEIGHBOURS-MET")
        check(seen == [True] * 3, f"what the host received from the guests is {seen}")
        for machine in machines:
            machine.type("enough\n")
        for machine in machines:
            machine.succeed("neighbours")

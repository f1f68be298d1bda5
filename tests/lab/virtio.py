"""Devices that the kernel serves: a network card at a tap, and a vsock."""

import contextlib
import socket
import subprocess
from pathlib import Path

from bad_input import FAILURE
from harness import NVME_A, Machine, Penstock, check, refused, run_guest, test
from passthrough import bulk_peer

TAP, HOST_ADDRESS = "vmtap", "10.97.0.1"
MAC, CID = "52:54:00:97:00:01", "7"
NET, VSOCK = ["--net", f"tap={TAP},mac={MAC}"], ["--vsock", CID]


@contextlib.contextmanager
def tap():
    """A tap of the host's, with its address."""
    subprocess.run(["modprobe", "vhost_net"], check=True)
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", TAP], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "tuntap", "del", TAP, "mode", "tap"], check=True)


def vsock_server():
    subprocess.run(["modprobe", "vhost_vsock"], check=True)
    server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    server.bind((socket.VMADDR_CID_ANY, 7777))
    server.listen()
    return server


@test(only=Penstock)
def a_guest_at_a_tap_and_a_vsock():
    """Both at once, beside a passed disk, and again after a reboot of the guest."""
    with tap(), bulk_peer(address=HOST_ADDRESS) as by_net, bulk_peer(4 << 20, server=vsock_server()) as by_vsock:
        output = run_guest("net,vsock,reboot", cmdline=f"net.peer={HOST_ADDRESS}", cpus=2, devices=[NVME_A],
                           more=[*NET, *VSOCK])
    check(output.count(MAC) == 2, f"the guest's card does not have {MAC}")
    check((by_net, by_vsock) == ([True] * 2, [True] * 2), f"the host has received {by_net} by the tap, {by_vsock} by "
                                                          f"the vsock")


@test(only=Penstock)
def what_virtio_needs_is_looked_at_first():
    kernel = Penstock.command
    refused(kernel(more=["--net", "tap=nowhere"]), FAILURE, "nowhere", "no network interface", "ip tuntap add nowhere")
    refused(kernel(more=["--net", "tap=lo"]), FAILURE, "lo", "is no tap")
    subprocess.run(["modprobe", "vhost_vsock"], check=True)
    with tap(), Machine("wait", more=[*NET, *VSOCK]) as machine:
        machine.expect("WAITING")
        refused(kernel(more=NET), FAILURE, TAP, "another program")
        refused(kernel(more=VSOCK), FAILURE, "vsock", f"another VM has the CID {CID}")
        machine.process.terminate()
        machine.wait()
        check(Path(f"/sys/class/net/{TAP}").exists(), "the tap is gone with the machine")

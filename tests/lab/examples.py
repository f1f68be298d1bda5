"""The machines of docs/examples start, with devices of this host in the places of theirs."""

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path

from firmware import START_SECONDS, firmware
from harness import EDU, NVME_A, TESTDEV, XHCI, Machine, Penstock, check, network_device, test
from journal import succeed
from passthrough import bulk_peer
from sriov import IGB, IGB_VF, MAC, PF

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"


@contextlib.contextmanager
def example(name, places):
    """Its file, with what is in the place of each of its addresses and of each line that asks for more CPUs than there
    are."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    for theirs, ours in places.items():
        check(re.search(theirs, text, re.M), f"{name}.yaml has no {theirs}")
    # At once: what is put there is not looked at again.
    text = re.sub("|".join(f"({theirs})" for theirs in places),
                  lambda found: list(places.values())[found.lastindex - 1], text, flags=re.M)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"{name}.yaml")
        path.write_text(text)
        yield path


def starts(tests, path, more=(), seconds=START_SECONDS, **options):
    with Machine(tests, memory=None, cpus=None, more=[str(path), "--memory", "512M", *more], **options) as machine:
        machine.expect("USERSPACE-UP", seconds)
        machine.succeed(*tests.split(","))


@test(only=Penstock, long=True)
def the_example_of_a_kernel_starts():
    with example("kernel", {NVME_A: NVME_A}) as path:
        starts("nvme", path, cmdline="stamp=kernel nvme.count=1")


@test(only=Penstock, limit=590, long=True)
def the_example_of_a_desktop_starts():
    """This host's card of that kind is on another one's, so two devices without a driver are in its place."""
    places = {"0000:2f:00.0$|0000:2f:00.0(?= +#)": EDU, r"(?<=- )0000:2f:00\.1$": TESTDEV, "0000:34:00.3": XHCI,
              "0000:23:00.0": NVME_A, "^cpus: .*": "cpus: 2,cores=1,threads=2"}
    with firmware() as (options, _), example("desktop", places) as path:
        starts("nvme,edu", path, more=options[2:], seconds=2 * START_SECONDS, cmdline="stamp=desktop nvme.count=1")


@test(host="sriov", only=Penstock, limit=590, long=True)
def the_example_of_a_server_starts():
    interface = network_device(IGB)
    subprocess.run(["modprobe", "igbvf"], check=True)
    succeed("vf", "create", IGB, "1")
    succeed("vf", "set", "--mac", MAC, IGB_VF)
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    places = {"(?<=- )0000:01:10.0": IGB_VF, "(?<=- )0000:03:00.0": PF, "^cpus: .*": "cpus: 1,pin=1"}
    try:
        with firmware() as (options, _), example("server", places) as path, bulk_peer():
            starts("net,nvme", path, more=options[2:], seconds=2 * START_SECONDS, cmdline="stamp=server nvme.count=1")
    finally:
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        succeed("vf", "destroy", IGB)

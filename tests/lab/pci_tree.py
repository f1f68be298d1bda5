"""The guest's PCI is a tree: root ports with devices behind them, as their drivers and lspci see it."""

import re
import time

from harness import (E1000E, EDU, NVME_A, PAIR_NIC, PAIR_NVME, Machine, Penstock, check, device, run_guest,
                     test)

# lab/devices/sriov.conf
LARGE, SMALL = "0000:00:08.0", "0000:00:09.0"

FUNCTION = re.compile(r"tree: function (\S+) 0x(\S+) 0x(\S+) above (\S+) type (\S+) "
                      r"speed (\S*) width (\S*)")


class Tree:
    def __init__(self, output):
        self.output = output
        self.functions = {}
        for name, vendor, number, above, kind, speed, width in FUNCTION.findall(output):
            self.functions[f"{vendor}:{number}"] = (name, above, kind, speed, width)
        self.slots = dict(re.findall(r"tree: slot (\S+) address (\S+) power", output))
        self.powered = re.findall(r"tree: slot (\S+) address \S+ power 1", output)
        self.ports = dict(re.findall(r"tree: port (\S+) slot (\d+)", output))

    def find(self, bdf):
        """A passed device, by its ids."""
        ids = ((device(bdf) / name).read_text().strip().removeprefix("0x")
               for name in ("vendor", "device"))
        found = self.functions.get(":".join(ids))
        check(found, f"{bdf} is not in the guest:\n{self.output}")
        return found


def tree(devices, ports=None):
    more = [] if ports is None else ["--ports", str(ports)]
    return Tree(run_guest("tree", devices=devices, more=more))


def link(bdf):
    return ((device(bdf) / "current_link_speed").read_text().split()[0],
            (device(bdf) / "current_link_width").read_text().strip())


@test(only=Penstock)
def each_endpoint_has_a_port():
    """With its link and a slot number; conventional devices are on the root bus, functions together."""
    seen = tree([NVME_A, EDU, E1000E, PAIR_NVME, PAIR_NIC])
    ports = set()
    for bdf in (NVME_A, E1000E, PAIR_NVME):
        name, port, kind, *shown = seen.find(bdf)
        check(kind == "Endpoint", f"{bdf} is shown as '{kind}'")
        check(tuple(shown) == link(bdf), f"{bdf} shows the link {shown}, it has {link(bdf)}")
        check(port in seen.ports, f"{bdf} is behind {port}, which has no slot: {seen.ports}")
        number = seen.ports[port]
        check(seen.slots.get(number) == name.split(".")[0],
              f"slot {number} is not where {bdf} is ({name}): {seen.slots}")
        ports.add(port)
    check(len(ports) == 3, f"three endpoints share ports: {ports}")
    nic, disk = seen.find(PAIR_NIC), seen.find(PAIR_NVME)
    check(nic[0][:-1] == disk[0][:-1] and (disk[0][-1], nic[0][-1]) == ("0", "1"),
          f"the pair is not one slot: {disk}, {nic}")
    check(seen.find(EDU)[1] == "pci0000:00", f"edu is not on the root bus: {seen.find(EDU)}")
    check(len(seen.slots) == 5, f"not three slots and two empty ones: {seen.slots}")
    check(len(seen.powered) == 3, f"powered: {seen.powered}")


@test(only=Penstock)
def as_many_empty_ports_as_wanted():
    for ports in (0, 5):
        seen = tree([NVME_A], ports)
        check(len(seen.ports) == 1 + ports, f"--ports {ports}: the guest has {seen.ports}")
        check(len(seen.slots) == 1 + ports, f"--ports {ports}: the guest has {seen.slots}")
        check(seen.powered == [seen.ports[seen.find(NVME_A)[1]]],
              f"--ports {ports}: powered: {seen.powered}")


@test(only=Penstock)
def thirty_one_ports():
    seen = tree([], 31)
    check(sorted(map(int, seen.slots)) == list(range(1, 32)), f"the guest has {seen.slots}")


@test(host="sriov", only=Penstock)
def a_large_bar_takes_no_longer():
    """64 GiB beside 1 GiB: as many mappings, as many page faults, as long (within the lab's noise)."""
    costs = {}
    with Machine("large-bar", devices=[SMALL, LARGE]) as machine:
        for size in (1, 64):
            times = []
            for step in ("begin", "are decoded", "are reached"):
                machine.expect(f"large-bar: {size << 10} MiB {step}")
                times.append(time.monotonic())
            costs[size] = times[1] - times[0], times[2] - times[1]
        machine.succeed("large-bar")
    print(f"large BARs, GiB: (s to decode, s to reach 65 pages): {costs}")
    for which, what in enumerate(("decode", "reach")):
        small, large = costs[1][which], costs[64][which]
        check(large < 4 * small + 0.5, f"to {what} 64 GiB takes {large} s, 1 GiB {small} s")

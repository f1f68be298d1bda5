# SPDX-License-Identifier: GPL-2.0-or-later
"""The same work in the host itself and in guests: reads of the disk, a transfer over the NIC."""

import re
import time

import guests                       # noqa: F401 (it knows where the lab's tests are)
from passthrough import bulk_peer

READS = {1: 4096, 32: 32768}        # by queue depth
BULK_MIB = 32
REPEATS = 3
CLOCK_ERROR = 0.02


def read_command(machine, depth, count):
    return f"reads {machine.disk} {depth} {count:>5}"


def bulk_command(kib):
    return f"bulk 10.99.0.1 7777 {kib:>5}K"


def peer():
    return bulk_peer(BULK_MIB << 20)


def seconds(text):
    """Of a program that says what took it how long."""
    return [float(value) for value in re.findall(r"in ([0-9.]+) s\b", text)]


def uptime(machine):
    return float(machine.sh("cat /proc/uptime").split()[0])


def per_second(machine):
    """Reads, and MiB sent and received. The machine's own clock takes the time, so the host's clock
    is held beside it."""
    with peer() as seen:
        machine.open_shell()
        machine.connect()
        began = uptime(machine), time.monotonic()
        found = {f"reads at depth {depth}":
                 [count / seconds(machine.sh(read_command(machine, depth, count)))[0]
                  for _ in range(REPEATS)] for depth, count in READS.items()}
        transfers = [seconds(machine.sh(bulk_command(BULK_MIB << 10))) for _ in range(REPEATS)]
        clock = (uptime(machine) - began[0]) / (time.monotonic() - began[1])
        machine.power_off()
    if seen != [True] * REPEATS:
        raise RuntimeError("the peer did not receive what was sent")
    if abs(clock - 1) > CLOCK_ERROR:
        raise RuntimeError(f"a second of the host is {clock:.3f} s of the machine's clock")
    for at, what in enumerate(("MiB sent", "MiB received")):
        found[what] = [BULK_MIB / transfer[at] for transfer in transfers]
    return found


def difference(counting, machine, less, more, units):
    """A command that does next to nothing costs the same but for the work."""

    def of_command(command):
        counting.restart()
        machine.sh(command)
        counting.pause()
        return counting.kinds()

    less, more = of_command(less), of_command(more)
    return {kind: (more.get(kind, 0) - less.get(kind, 0)) / units
            for kind in less.keys() | more.keys()}


def exits_of_reads(counting, machine, depth):
    """KVM exits by kind, for a read, several times."""
    count = READS[depth]
    return [difference(counting, machine, read_command(machine, depth, 0), read_command(machine, depth, count), count)
            for _ in range(REPEATS)]


def exits(counting, machine):
    """KVM exits by kind: for a read, for a MiB that is sent and one that is received."""
    found = {f"reads at depth {depth}": exits_of_reads(counting, machine, depth) for depth in READS}
    with peer():
        machine.connect()
        found["MiB both ways"] = [
            difference(counting, machine, bulk_command(1 << 10), bulk_command(BULK_MIB << 10), BULK_MIB - 1)
            for _ in range(REPEATS)]
    return found

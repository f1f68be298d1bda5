# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes bench/RESULTS.md of what bench/measure has found."""

from collections import namedtuple
from statistics import median

from exits import HOST, KINDS, own

PEERS = ("QEMU q35", "QEMU microvm", "Penstock")
US, REFERENCE = "Penstock", "QEMU q35"
NATIVE, GUESTS = "native", ("QEMU q35", "Penstock")
NATIVE_HOTPLUG = "QEMU q35, native hotplug"
STAGES = ("boot loader", "login")
WORK = ("reads at depth 1", "reads at depth 32", "MiB sent", "MiB received")
# The guest's reprogramming of its own timer, and that timer's interrupts, grow with time alone, as HOST does.
TIMER, WINDOW = "timer MSR", "interrupt window"
SMALL, LARGE = "512", "4096"    # MiB, of which starts to the first line are compared
DEVICES = ("1", "4", "8")
NOTHING = "–"
# Kinds of memory: file is what programs and libraries have on disk, and others may map, too.
MAPPED, OWN = ("anonymous", "file"), ("anonymous", "page tables", "kernel")

Aim = namedtuple("Aim", "what limit form value why")


def middle(rounds):
    """The median of each kind. A difference of two counts may fall below nothing by a few."""
    kinds = {kind for found in rounds for kind in found}
    return {kind: max(median(found.get(kind, 0) for found in rounds), 0) for kind in kinds}


def largest(kinds, form="{:,.0f}"):
    """For a missed aim: what it is made of."""
    order = sorted((kind for kind in kinds if kind != HOST), key=kinds.get, reverse=True)
    return "; ".join(f"{kind} {form.format(kinds[kind])}" for kind in order if kinds[kind] > 0.005)


def without_timer(kinds):
    return own(kinds) - kinds.get(TIMER, 0)


def without_time(kinds):
    """Where two starts are compared, neither may have more for having taken longer."""
    return without_timer(kinds) - kinds.get(WINDOW, 0)


def all_kinds_of_memory(machine):
    return ", ".join(f"{kib:,} KiB {kind}" for kind, kib in machine["memory"].items())


def growth(by_count):
    """What each device more costs beyond DEVICES[1], by what it costs up to there: at most 1 is flat or falling."""
    few, some, many = (by_count[count] for count in DEVICES)
    first, count = some - few, int(DEVICES[1]) - int(DEVICES[0])
    then, more = many - some, int(DEVICES[2]) - int(DEVICES[1])
    # Where they cost next to nothing, it is chance.
    least = few / 100
    return max(then / more, least) / max(first / count, least)


class Results:
    def __init__(self, raw):
        self.versions, self.again = raw["versions"], raw.get("again", [])
        self.machines = {peer: dict(raw["machines"][peer]) for peer in PEERS}
        self.speed = {name: raw["machines"][name]["speed"] for name in (NATIVE, *GUESTS)}
        self.plugging = {name: raw["machines"][name]["plugging"] for name in (*GUESTS, NATIVE_HOTPLUG)}
        self.bare_fill = raw["machines"][NATIVE]["fill"]
        for machine in self.machines.values():
            machine["kinds"] = middle(machine["start"])
            machine["work"] = {what: middle(found) for what, found in machine["work"].items()}
            machine["read"] = machine["work"]["reads at depth 1"]

    def time_ratios(self, machine):
        return [mine / reference for mine, reference in
                zip(machine["seconds"], self.machines[REFERENCE]["seconds"])]

    def time_ratio(self, machine):
        return median(self.time_ratios(machine))

    def plugging_ratios(self, rounds, what):
        return [median(mine[what]) / median(reference[what])
                for mine, reference in zip(rounds, self.plugging[REFERENCE])]

    def fill_ratio(self, machine):
        return median(mine / bare for mine, bare in zip(machine["fill"], self.bare_fill))

    @staticmethod
    def first_line_ratio(machine):
        return median(found[LARGE] / found[SMALL] for found in machine["first line"])

    @staticmethod
    def seconds_by_devices(machine):
        """Of a start with one: medians."""
        return {count: median(found[count] / found[DEVICES[0]] for found in machine["seconds by devices"])
                for count in DEVICES}

    @staticmethod
    def exits_by_devices(machine):
        return {count: median(without_time(found[count]) for found in machine["exits by devices"])
                for count in DEVICES}

    @staticmethod
    def exits_of_a_port(machine):
        (few, less), (many, more) = sorted(machine["ports"].items(), key=lambda item: int(item[0]))
        return (without_time(more) - without_time(less)) / (int(many) - int(few))

    def firmware_exits(self, machine, stage):
        return middle([found[stage] for found in machine["firmware exits"]])

    def firmware_exit_ratio(self, machine, stage):
        return (without_timer(self.firmware_exits(machine, stage)) /
                without_timer(self.firmware_exits(self.machines[REFERENCE], stage)))

    def firmware_time_ratios(self, machine, stage):
        return [mine[stage] / reference[stage]
                for mine, reference in zip(machine["firmware seconds"], self.machines[REFERENCE]["firmware seconds"])]

    @staticmethod
    def firmware_memory(machine):
        return median(sum(found[kind] for kind in MAPPED) for found in machine["firmware memory"]) / 1024

    def rates(self, name, what):
        """How much of it a second, round by round."""
        return [median(found[what]) for found in self.speed[name]]

    def shares(self, name, what):
        """Of what the host itself does in the same round."""
        return [mine / native for mine, native in
                zip(self.rates(name, what), self.rates(NATIVE, what))]

    def missed(self):
        """The aims that are, and what there is to say."""
        us = self.machines[US]
        return {aim.what: f"{aim.form.format(aim.value(us))}, aim {aim.form.format(aim.limit)}: "
                          f"{aim.why(us)}"
                for aim in self.aims() if aim.value(us) > aim.limit}

    def aims(self):
        """The aims of this project, and for each why it is missed where it is."""
        return (
            Aim("KVM exits, start to user space, besides the host's interrupts and the guest's timer", 1500,
                "{:,.0f}", lambda m: without_timer(m["kinds"]), lambda m: largest(m["kinds"])),
            Aim("of them second-level page faults", 100, "{:,.0f}",
                lambda m: m["kinds"].get("page fault", 0),
                lambda m: "guest RAM is not in huge pages or not faulted in ahead"),
            Aim("time from start to user space, QEMU q35 = 1", 0.6, "{:.2f}", self.time_ratio,
                lambda m: "most of it is the guest's own work, which is the same under each VMM: "
                          "see below"),
            Aim("KVM exits for each empty port", 40, "{:.0f}", self.exits_of_a_port,
                lambda m: "Linux looks at each, and sets it up"),
            Aim("KVM exits for a device more, from 4 to 8, as from 1 to 4 = 1", 1.1, "{:.2f}",
                lambda m: growth(self.exits_by_devices(m)), lambda m: "see below"),
            Aim("time to the first line, 512 MiB = 1, 4 GiB", 1.1, "{:.2f}", self.first_line_ratio,
                lambda m: "a start waits for RAM"),
            Aim("time to the first line for a device more, from 4 to 8, as from 1 to 4 = 1", 1.1, "{:.2f}",
                lambda m: growth(self.seconds_by_devices(m)), lambda m: "see below"),
            Aim("time to attach a disk, QEMU q35 = 1", 0.7, "{:.2f}",
                lambda m: median(self.plugging_ratios(m["plugging"], "attach")), lambda m: "see below"),
            Aim("time to detach it, QEMU q35 = 1", 0.7, "{:.2f}",
                lambda m: median(self.plugging_ratios(m["plugging"], "detach")), lambda m: "see below"),
            Aim("CPU time to make RAM present and map it, a bare program = 1", 1.05, "{:.2f}",
                self.fill_ratio, lambda m: "the threads that fill it are in each other's way"),
            Aim("memory beside guest RAM that the processes map, MiB", 2.7, "{:.1f}",
                lambda m: sum(m["memory"][kind] for kind in MAPPED) / 1024, all_kinds_of_memory),
            Aim("memory beside guest RAM that is theirs alone, the kernel's for them included, MiB", 2.7, "{:.1f}",
                lambda m: sum(m["memory"][kind] for kind in OWN) / 1024, all_kinds_of_memory),
            Aim("KVM exits for a read of 4 KiB, host's interrupts included", 2.2, "{:.2f}",
                lambda m: sum(m["read"].values()), lambda m: largest(m["read"], "{:.2f}")),
            Aim("of them MMIO or port I/O", 0, "{:.2f}",
                lambda m: round(m["read"].get("MMIO", 0) + m["read"].get("port I/O", 0), 2),
                lambda m: largest(m["read"], "{:.2f}")),
            Aim("time from start to an installed system's login, by UEFI, QEMU q35 = 1", 0.7, "{:.2f}",
                lambda m: median(self.firmware_time_ratios(m, "login")), lambda m: "see below"),
            Aim("KVM exits for that, QEMU q35 = 1", 0.5, "{:.2f}",
                lambda m: self.firmware_exit_ratio(m, "login"),
                lambda m: largest(self.firmware_exits(m, "login"))),
            Aim("memory beside guest RAM that the processes then map, MiB", 4, "{:.1f}", self.firmware_memory,
                lambda m: "see below"),
        )


def shown(aim, machine):
    """Not every machine is measured for each."""
    try:
        return aim.form.format(aim.value(machine))
    except KeyError:
        return NOTHING


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def aims(results):
    missed = results.missed()
    rows = [[aim.what, *(shown(aim, results.machines[peer]) for peer in PEERS),
             "at most " + aim.form.format(aim.limit), "missed" if aim.what in missed else "met"]
            for aim in results.aims()]
    lines = table(["", *PEERS, "aim", ""], rows)
    if missed:
        lines += ["", "Missed:", "", *(f"- **{what}**: {why}." for what, why in missed.items())]
    return lines


def kinds(results, form, of):
    machines = [of(results.machines[peer]) for peer in PEERS]
    rows = [[kind, *(form.format(machine.get(kind, 0)) for machine in machines)] for kind in KINDS]
    rows.append(["**in all**", *(form.format(own(machine)) for machine in machines)])
    rows.append(["the host's interrupts",
                 *(form.format(machine.get(HOST, 0)) for machine in machines)])
    return table(["", *PEERS], rows)


def vectors(results):
    rows = []
    for peer in PEERS:
        for count, requests in results.machines[peer]["vectors"].items():
            rows.append([peer, count, *requests.values(), sum(requests.values())])
    return table(["", "vectors", *(f"`{name}`" for name in requests), "in all"], rows)


def memory(results):
    machines = [results.machines[peer]["memory"] for peer in PEERS]
    rows = [[kind, *(f"{machine[kind]:,}" for machine in machines)] for kind in machines[0]]
    return table(["KiB", *PEERS], rows)


def plugging(results):
    rows = []
    for name, rounds in results.plugging.items():
        ratios = [results.plugging_ratios(rounds, what) for what in ("attach", "detach")]
        rows.append([name, *(f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})" for found in ratios)])
    return table(["", "attach", "detach"], rows)


def by_devices(results):
    rows = []
    for peer in GUESTS:
        machine = results.machines[peer]
        exits, seconds = results.exits_by_devices(machine), results.seconds_by_devices(machine)
        rows += [[peer, count, f"{exits[count]:,.0f}", f"{seconds[count]:.2f}"] for count in DEVICES]
    return table(["", "devices", "KVM exits to user space", "time to the first line"], rows)


def spread(results):
    rows = [[peer, f"{results.time_ratio(results.machines[peer]):.2f}",
             *(f"{ratio:.2f}" for ratio in results.time_ratios(results.machines[peer]))]
            for peer in PEERS]
    count = len(results.machines[REFERENCE]["seconds"])
    return table(["", "median", *(f"round {i + 1}" for i in range(count))], rows)


def shares(results):
    rows = []
    for what in WORK:
        cells = [f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
                 for found in (results.shares(name, what) for name in GUESTS)]
        rows.append([what, f"{median(results.rates(NATIVE, what)):,.0f}", *cells])
    return table(["", "native, a second", *GUESTS], rows)


def by_firmware(results):
    """To the boot loader, and to the login."""
    machines = [results.machines[peer] for peer in GUESTS]
    stages = [(machine, stage) for stage in STAGES for machine in machines]
    exits = [results.firmware_exits(*one) for one in stages]
    times = [results.firmware_time_ratios(*one) for one in stages]
    rows = [["time, QEMU q35 = 1", *(f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})" for found in times)],
            *([kind, *(f"{found.get(kind, 0):,.0f}" for found in exits)] for kind in KINDS),
            ["**exits in all**", *(f"{own(found):,.0f}" for found in exits)]]
    return table(["", *(f"{peer}, {stage}" for stage in STAGES for peer in GUESTS)], rows)


def again(results):
    if results.again:
        yield f"{len(results.again)} numbers were taken again, as a guest stood still or did not answer:"
        yield from ("", *(f"- {reason}" for reason in results.again), "")


def page(results):
    return "\n".join([
        "# Results", "",
        "Made by `bench/run` of commit {commit} on {date}, on {processor}; [README.md](README.md) "
        "says how each number is taken. Linux {Linux} in the host and in the guest, QEMU {QEMU}; the "
        "host is the lab's emulated machine.".format(**results.versions), "",
        *aims(results), "",
        *again(results),
        "## KVM exits from start to user space", "",
        f"Medians of {len(results.machines[US]['start'])} starts. The guest reprograms its timer "
        "250 times a second (`timer MSR`), so these grow with the time that the emulator takes, as "
        "the host's interrupts do.", "",
        *kinds(results, "{:,.0f}", lambda machine: machine["kinds"]), "",
        "## By the number of devices", "",
        "Disks that are alike. Exits are without the host's interrupts, the guest's timer and interrupt "
        "windows; the time is that of a start with one.", "",
        *by_devices(results), "",
        "## A disk that comes and goes", "",
        "From the host's driver until the guest can read it, and back, relative to QEMU q35; with the lowest "
        "and the highest of a round. A Linux guest that is asked by native hotplug's button waits five "
        "seconds, in which whoever has pressed it may think better of it; by ACPI's, as on the q35, it does "
        "not.", "",
        *plugging(results), "",
        "## An installed system, started by UEFI", "",
        "Debian's OVMF, with GRUB and Debian on a passed disk, until GRUB has the word and until somebody is logged in.",
        "", *by_firmware(results), "",
        "## Memory beside guest RAM", "",
        *memory(results), "",
        "## KVM exits for a read of 4 KiB at queue depth 1", "",
        *kinds(results, "{:.2f}", lambda machine: machine["read"]), "",
        "## KVM exits for a read of 4 KiB at queue depth 32", "",
        *kinds(results, "{:.3f}", lambda machine: machine["work"]["reads at depth 32"]), "",
        "## KVM exits for a MiB over the network and back", "",
        *kinds(results, "{:.1f}", lambda machine: machine["work"]["MiB both ways"]), "",
        "## The same work in the host itself and in a guest", "",
        "Medians of {} rounds, and the lowest and the highest of a round: how much a guest gets done "
        "in the time in which the host gets 1 done.".format(len(results.speed[NATIVE])), "",
        *shares(results), "",
        "## ioctls to set up MSI-X vectors", "",
        "Calls of these four kinds from the first write of the capability to the last vector's "
        "unmasking.", "",
        *vectors(results), "",
        "## Time from start to user space, relative to QEMU q35", "",
        *spread(results), ""])

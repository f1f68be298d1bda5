# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes bench/RESULTS.md of what bench/measure has found."""

from collections import namedtuple
from statistics import median

from exits import HOST, KINDS, own

PEERS = ("QEMU q35", "QEMU microvm", "Penstock")
US, REFERENCE = "Penstock", "QEMU q35"
NATIVE, GUESTS = "native", ("QEMU q35", "Penstock")
WORK = ("reads at depth 1", "reads at depth 32", "MiB sent", "MiB received")

Aim = namedtuple("Aim", "what limit form value why")


def middle(rounds):
    """The median of each kind. A difference of two counts may fall below nothing by a few."""
    kinds = {kind for found in rounds for kind in found}
    return {kind: max(median(found.get(kind, 0) for found in rounds), 0) for kind in kinds}


def largest(kinds, form="{:,.0f}"):
    """For a missed aim: what it is made of."""
    order = sorted((kind for kind in kinds if kind != HOST), key=kinds.get, reverse=True)
    return "; ".join(f"{kind} {form.format(kinds[kind])}" for kind in order if kinds[kind] > 0.005)


class Results:
    def __init__(self, raw):
        self.versions = raw["versions"]
        self.machines = {peer: dict(raw["machines"][peer]) for peer in PEERS}
        self.speed = {name: raw["machines"][name]["speed"] for name in (NATIVE, *GUESTS)}
        for machine in self.machines.values():
            machine["kinds"] = middle(machine["start"])
            machine["work"] = {what: middle(found) for what, found in machine["work"].items()}
            machine["read"] = machine["work"]["reads at depth 1"]

    def time_ratios(self, machine):
        return [mine / reference for mine, reference in
                zip(machine["seconds"], self.machines[REFERENCE]["seconds"])]

    def time_ratio(self, machine):
        return median(self.time_ratios(machine))

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
            Aim("KVM exits, start to user space, besides the host's interrupts", 3000, "{:,.0f}",
                lambda m: own(m["kinds"]), lambda m: largest(m["kinds"])),
            Aim("of them second-level page faults", 100, "{:,.0f}",
                lambda m: m["kinds"].get("page fault", 0),
                lambda m: "guest RAM is not in huge pages or not faulted in ahead"),
            Aim("time from start to user space, QEMU q35 = 1", 0.6, "{:.2f}", self.time_ratio,
                lambda m: "most of it is the guest's own work, which is the same under each VMM: "
                          "see below"),
            Aim("memory beside guest RAM, MiB", 3, "{:.1f}",
                lambda m: sum(m["memory"].values()) / 1024,
                lambda m: "{anonymous:,} KiB are anonymous, {file:,} KiB are pages of the program "
                          "and its libraries".format(**m["memory"])),
            Aim("KVM exits for a read of 4 KiB, host's interrupts included", 2.2, "{:.2f}",
                lambda m: sum(m["read"].values()), lambda m: largest(m["read"], "{:.2f}")),
            Aim("of them MMIO or port I/O", 0, "{:.2f}",
                lambda m: round(m["read"].get("MMIO", 0) + m["read"].get("port I/O", 0), 2),
                lambda m: largest(m["read"], "{:.2f}")),
        )


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def aims(results):
    missed = results.missed()
    rows = [[aim.what, *(aim.form.format(aim.value(results.machines[peer])) for peer in PEERS),
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


def page(results):
    return "\n".join([
        "# Results", "",
        "Made by `bench/run` of commit {commit} on {date}, on {processor}; [README.md](README.md) "
        "says how each number is taken. Linux {Linux} in the host and in the guest, QEMU {QEMU}; the "
        "host is the lab's emulated machine.".format(**results.versions), "",
        *aims(results), "",
        "## KVM exits from start to user space", "",
        f"Medians of {len(results.machines[US]['start'])} starts. The guest reprograms its timer "
        "250 times a second (`timer MSR`), so these grow with the time that the emulator takes, as "
        "the host's interrupts do.", "",
        *kinds(results, "{:,.0f}", lambda machine: machine["kinds"]), "",
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

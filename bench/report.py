# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes bench/RESULTS.md of what bench/measure has found."""

from collections import namedtuple
from statistics import median

from exits import HOST, KINDS, own

PEERS = ("QEMU q35", "QEMU microvm", "Penstock")
US, REFERENCE = "Penstock", "QEMU q35"

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
        self.machines = raw["machines"]
        for machine in self.machines.values():
            machine["kinds"] = middle(machine["start"])
            machine["read"] = middle(machine["reads"])
            machine["time"] = median(machine["seconds"])

    def time_ratio(self, machine):
        return machine["time"] / self.machines[REFERENCE]["time"]

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
            Aim("KVM exits for a read of 4 KiB, host's interrupts included", 2.2, "{:.2f}", lambda m: sum(m["read"].values()),
                lambda m: largest(m["read"], "{:.2f}")),
            Aim("of them MMIO or port I/O", 0, "{:.2f}",
                lambda m: round(m["read"].get("MMIO", 0) + m["read"].get("port I/O", 0), 2),
                lambda m: largest(m["read"], "{:.2f}")),
        )


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def aims(results):
    rows, missed = [], []
    for aim in results.aims():
        values = [aim.value(results.machines[peer]) for peer in PEERS]
        met = values[-1] <= aim.limit
        limit = aim.form.format(aim.limit)
        rows.append([aim.what, *map(aim.form.format, values), f"at most {limit}",
                     "met" if met else "missed"])
        if not met:
            missed.append(f"- **{aim.what}**: {aim.form.format(values[-1])}, aim {limit}: "
                          f"{aim.why(results.machines[US])}.")
    lines = table(["", *PEERS, "aim", ""], rows)
    if missed:
        lines += ["", "Missed:", "", *missed]
    return lines


def kinds(results, key, form):
    machines = [results.machines[peer][key] for peer in PEERS]
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
    ratios = []
    for peer in PEERS:
        machine = results.machines[peer]
        rounds = zip(machine["seconds"], results.machines[REFERENCE]["seconds"])
        ratios.append([peer, f"{results.time_ratio(machine):.2f}",
                       *(f"{mine / reference:.2f}" for mine, reference in rounds)])
    count = len(results.machines[REFERENCE]["seconds"])
    return table(["", "medians", *(f"round {i + 1}" for i in range(count))], ratios)


def page(raw):
    results = Results(raw)
    return "\n".join([
        "# Results", "",
        "Made by `bench/run`; [README.md](README.md) says how each number is taken. Linux "
        "{Linux} in the host and in the guest, QEMU {QEMU}; the host is the lab's emulated "
        "machine.".format(**results.versions), "",
        *aims(results), "",
        "## KVM exits from start to user space", "",
        f"Medians of {len(results.machines[US]['start'])} starts. The guest reprograms its timer "
        "250 times a second (`timer MSR`), so these grow with the time that the emulator takes, as "
        "the host's interrupts do.", "",
        *kinds(results, "kinds", "{:,.0f}"), "",
        "## KVM exits for a read of 4 KiB at queue depth 1", "",
        *kinds(results, "read", "{:.2f}"), "",
        "## ioctls to set up MSI-X vectors", "",
        "Calls of these four kinds from the first write of the capability to the last vector's "
        "unmasking.", "",
        *vectors(results), "",
        "## Time from start to user space, relative to QEMU q35", "",
        *spread(results), ""])

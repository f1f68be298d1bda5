# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured, each in an emulated host of its own."""

ONCE = ("running", "work", "ports")
# A round is all of one turn. With these devices of the host's.
ROUNDS = {"start": "default", "seconds": "default", "first line": "default", "plugging": "default", "fill": "default",
          "speed": "default", "exits by devices": "disks", "seconds by devices": "disks",
          "firmware exits": "firmware", "firmware seconds": "firmware", "firmware memory": "firmware"}


def parts(rounds):
    """Their names, bench/measure's words for them, and the host's devices."""
    for what in ONCE:
        yield what, (what,), "default"
    for turn in range(rounds):
        for what, devices in ROUNDS.items():
            yield f"{what} {turn}", (what, str(turn)), devices

# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts what the kernel's tracepoints see, in the kernel, by histogram triggers.

They count for the whole host, so only one machine may run meanwhile; and each event then takes a
little longer, so times are measured without.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path

EVENTS = Path("/sys/kernel/tracing/events")
ENTRY = re.compile(r"\{ (.*?) *\} hitcount: +(\d+)")


def as_on_hardware():
    """Without the module that works round the emulator (lab/module): it costs each interrupt an exit, and its end another.
    Now and then a guest then stands still."""
    subprocess.run(["rmmod", "exit_after_injection"], stderr=subprocess.DEVNULL, check=False)


class Counting:
    """Counts from the start of a with-block, or restart(), until pause(). `keys`: fields by event.

    Start it before a machine. The kernel patches its code to switch a tracepoint on, and the lab's
    emulator may trip over that in code which another CPU is running: an "Oops: int3".
    """

    def __init__(self, keys):
        self._triggers = {event: f"hist:keys={fields}:size=8192" for event, fields in keys.items()}

    def __enter__(self):
        # Else the first trigger would patch the scheduler, to record the names of tasks.
        (EVENTS.parent / "options/record-cmd").write_text("0")
        self._write_all("", "")
        return self

    def __exit__(self, *_):
        self._write_all("!", "")

    def restart(self):
        self._write_all("", ":clear")
        self._write_all("", ":cont")

    def pause(self):
        self._write_all("", ":pause")

    def _write_all(self, before, after):
        for event, trigger in self._triggers.items():
            # Appended: opening the file to truncate it would remove the triggers that there are.
            with open(EVENTS / event / "trigger", "a") as file:
                file.write(before + trigger + after)

    @staticmethod
    def counts(event):
        """By the values of the fields, a tuple of integers each."""
        counts = Counter()
        for fields, count in ENTRY.findall((EVENTS / event / "hist").read_text()):
            values = (field.split(":")[1] for field in fields.split(","))
            counts[tuple(int(value, 0) for value in values)] += int(count)
        return counts

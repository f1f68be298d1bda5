"""The host's kernel log, by /dev/kmsg: nothing that is overwritten before it is read goes unseen."""

import errno
import os
import re

# What the kernel says of its own state, whatever a test does.
COMPLAINT = re.compile(r"\b(BUG|WARNING|Oops|general protection|Kernel panic)\b|"
                       r"blocked for more than \d+ seconds|detected stall")
# The IOMMU driver: a device has reached for what is not its guest's.
FAULT = re.compile(r"DMAR: .*\bfault\b")
# A driver that has waited in vain looks itself, and finds that the device has long been done.
LOST_INTERRUPT = re.compile(r"nvme\d+: I/O .*timeout, completion polled")

LINE_MAX = 8192


class Lost(Exception):
    """Lines were overwritten before they were read."""


class KernelLog:
    """What the kernel logs from now on, or from the host's start on."""

    def __init__(self, from_start=False):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._lines = []
        if not from_start:
            os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self):
        while True:
            try:
                record = os.read(self._fd, LINE_MAX)
            except BlockingIOError:
                return self._lines
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise Lost("the kernel's log has wrapped: lines are lost") from None
                raise
            text = record.decode(errors="replace").partition(";")[2]
            self._lines.append(text.splitlines()[0] if text else "")

    def close(self):
        os.close(self._fd)


def whole():
    log = KernelLog(from_start=True)
    try:
        return log.lines()
    finally:
        log.close()


def mark(text):
    """A line of ours, so that the console tells which test was under way."""
    with open("/dev/kmsg", "w") as kmsg:
        kmsg.write(f"lab: {text}\n")

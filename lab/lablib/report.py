"""Progress and errors, on stderr."""

import sys
import time

START = time.monotonic()


class LabError(Exception):
    """Something the person in front of the lab should read; no traceback."""


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def step(text):
    print(f"lab: [{time.monotonic() - START:5.1f}s] {text}", file=sys.stderr, flush=True)

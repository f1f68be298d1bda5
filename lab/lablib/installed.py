"""A disk with an installed Debian, which a guest boots by its firmware."""

import os
import shlex
import subprocess
from pathlib import Path

from lablib import cache, image
from lablib.report import step

SOURCES = Path(__file__).resolve().parent.parent / "installed"


def disk():
    """Its path; it is built where it is missing, or out of date."""
    key = cache.digest(image.SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES,
                       image.SOURCES / "dpkg.cfg", Path(__file__))
    return cache.get("installed", key, make) / "disk"


def make(directory):
    image.check_tools()
    step("installed: a disk with Debian, by mmdebstrap: some 130 MB of packages")
    image.mmdebstrap("-", image.packages(SOURCES), SOURCES / "customize", "--format=null",
                     f"--customize-hook=copy-out /disk {shlex.quote(str(directory))}")
    subprocess.run(["fallocate", "--dig-holes", directory / "disk"], check=True)

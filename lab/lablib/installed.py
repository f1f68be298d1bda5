"""Disks with an installed Debian, which a guest boots by its firmware."""

import os
import shlex
import subprocess
from pathlib import Path

from lablib import cache, image
from lablib.report import step

SOURCES = Path(__file__).resolve().parent.parent / "installed"
DESKTOP = SOURCES.parent / "desktop"

# A desktop has sound. What draws by a graphics processor, and how LLVM compiles for it, is never used.
DESKTOP_FILES = ("path-include=/usr/lib/modules/*/kernel/sound/core/*",
                 "path-include=/usr/lib/modules/*/kernel/sound/hda/*",
                 "path-include=/usr/lib/modules/*/kernel/sound/pci/hda/*",
                 "path-include=/usr/lib/modules/*/kernel/sound/soundcore.ko.xz",
                 "path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*",
                 "path-exclude=/usr/lib/x86_64-linux-gnu/libgallium*")


def disk(name):
    """The path of "installed", or of "desktop", which is the same with more in it; built where it is missing, or out
    of date."""
    more = [DESKTOP] if name == "desktop" else []
    key = cache.digest(image.SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES, *more,
                       image.SOURCES / "dpkg.cfg", Path(__file__))
    return cache.get(name, key, lambda directory: make(directory, *more)) / "disk"


def make(directory, desktop=None):
    image.check_tools()
    step(f"installed: a disk with Debian, by mmdebstrap: some {200 if desktop else 130} MB of packages")
    included, options = image.packages(SOURCES), []
    if desktop:
        included += image.packages(desktop)
        options = [*(f"--dpkgopt={line}" for line in DESKTOP_FILES),
                   f"--essential-hook=copy-in {shlex.quote(str(desktop))}/tree /root"]
    image.mmdebstrap("-", included, SOURCES / "customize", *options, "--format=null",
                     f"--customize-hook=copy-out /disk {shlex.quote(str(directory))}")
    subprocess.run(["fallocate", "--dig-holes", directory / "disk"], check=True)

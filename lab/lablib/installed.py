"""Disks with an installed Debian, which a guest boots by its firmware."""

import os
import shlex
import subprocess
from pathlib import Path

from lablib import cache, image
from lablib.report import step

SOURCES = Path(__file__).resolve().parent.parent / "installed"

# A desktop has sound. What draws by a graphics processor, and how LLVM compiles for it, is never used. cloud-init's seed
# is an ISO image.
FILES = {"desktop": ("path-include=/usr/lib/modules/*/kernel/sound/core/*",
                     "path-include=/usr/lib/modules/*/kernel/sound/hda/*",
                     "path-include=/usr/lib/modules/*/kernel/sound/pci/hda/*",
                     "path-include=/usr/lib/modules/*/kernel/sound/soundcore.ko.xz",
                     "path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*",
                     "path-exclude=/usr/lib/x86_64-linux-gnu/libgallium*"),
         "cloud": ("path-include=/usr/lib/modules/*/kernel/fs/isofs/*",)}
MEGABYTES = {"installed": 130, "desktop": 200, "cloud": 150}


def disk(name):
    """The path of "installed", or of "desktop" or "cloud", which are the same with more in it (lab/NAME); built where it
    is missing, or out of date."""
    more = [SOURCES.parent / name] if name in FILES else []
    key = cache.digest(image.SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES, *more,
                       image.SOURCES / "dpkg.cfg", Path(__file__))
    return cache.get(name, key, lambda directory: make(directory, name, *more)) / "disk"


def make(directory, name, more=None):
    image.check_tools()
    step(f"{name}: a disk with Debian, by mmdebstrap: some {MEGABYTES[name]} MB of packages")
    included, options = image.packages(SOURCES), []
    if more:
        included += image.packages(more)
        options = [*(f"--dpkgopt={line}" for line in FILES[name]),
                   f"--essential-hook=copy-in {shlex.quote(str(more))}/tree /root"]
    image.mmdebstrap("-", included, SOURCES / "customize", *options, "--format=null",
                     f"--customize-hook=copy-out /disk {shlex.quote(str(directory))}")
    subprocess.run(["fallocate", "--dig-holes", directory / "disk"], check=True)

"""The second kernel: Debian's newest source, compiled with what Debian's own kernels leave out."""

import os
import shlex
from pathlib import Path

from lablib import image
from lablib.report import step

SOURCES = Path(__file__).resolve().parent.parent / "kernel"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def inputs():
    return [image.SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES, Path(__file__)]


def make(directory):
    """directory/tree is like a Debian root with this kernel alone."""
    image.check_tools()
    mirror = os.environ.get("PENSTOCK_LAB_MIRROR") or "http://deb.debian.org/debian"
    backports = f"deb [signed-by={KEYRING}] {mirror} {image.SUITE}-backports main"
    step("kernel: compiling takes some 10 minutes on two CPUs; 300 MB of packages come first")
    image.mmdebstrap("-", image.packages(SOURCES), SOURCES / "build", "--format=null",
                     f"--setup-hook=echo {shlex.quote(backports)} "
                     '> "$1/etc/apt/sources.list.d/backports.list"',
                     f"--customize-hook=copy-out /tree {shlex.quote(str(directory))}")

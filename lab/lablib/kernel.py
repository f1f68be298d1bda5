"""The second kernel: Debian's newest source, compiled with what Debian's own kernels leave out."""

import os
import shlex
from pathlib import Path

from lablib import image
from lablib.report import step

SOURCES = Path(__file__).resolve().parent.parent / "kernel"


def inputs():
    return [image.SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES, image.MODULE, Path(__file__)]


def make(directory):
    """directory/tree is like a Debian root with this kernel alone."""
    image.check_tools()
    step("kernel: compiling takes some 10 minutes on two CPUs; 300 MB of packages come first")
    image.mmdebstrap("-", image.packages(SOURCES), SOURCES / "build", "--format=null",
                     *image.with_backports("src:linux"),
                     f"--customize-hook=copy-out /tree {shlex.quote(str(directory))}")

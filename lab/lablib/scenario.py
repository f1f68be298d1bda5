"""Kinds of host and device mixes: files of options, and the scratch disks that these name."""

import re
import shlex
from pathlib import Path

from lablib import installed
from lablib.report import LabError

SECTOR = 512
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
INSTALLED = re.compile(r"\{(%s)\}" % "|".join(installed.MEGABYTES))
DISK = re.compile(r"\{disk:([a-z0-9-]+):(\d+)([KMG])\}")


def find(name, directory):
    """A file by path, or by its name in lab/hosts or lab/devices."""
    for path in (Path(name), directory / name, directory / f"{name}.conf"):
        if path.is_file():
            return path
    known = " ".join(sorted(path.stem for path in directory.glob("*.conf")))
    raise LabError(f"no file {name}; in {directory} there are: {known}")


def words(path):
    """The options of a file, one a line."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        option = shlex.split(line, comments=True)
        if option and not option[0].startswith("-"):
            raise LabError(f"{path}:{number}: not an option: {line}")
        found += option
    return found


def options(path, run_directory, out=None):
    """QEMU's arguments for a device mix; its disks are made in run_directory."""
    return [_filled_in(word, run_directory, out) for word in words(path)]


def _filled_in(word, run_directory, out):
    word = word.replace("{run}", str(run_directory)).replace("{out}", str(out))
    word = INSTALLED.sub(lambda match: str(installed.disk(match[1])), word)
    return DISK.sub(lambda match: _disk(match, run_directory), word)


def _disk(match, run_directory):
    name, count, unit = match.groups()
    path = run_directory / f"{name}.disk"
    with open(path, "wb") as disk:
        for number in range(int(count) * UNITS[unit] // SECTOR):
            disk.write(sector(name, number))
    return str(path)


def sector(name, number):
    """What a scratch disk holds at first: text that tells where it belongs."""
    return f"penstock-lab {name} sector {number:010d}\n".encode().ljust(SECTOR, b".")

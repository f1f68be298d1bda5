"""Device mixes: files of QEMU options, and the scratch disks that they name."""

import re
import shlex
from pathlib import Path

from lablib.report import LabError

SECTOR = 512
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
DISK = re.compile(r"\{disk:([a-z0-9-]+):(\d+)([KMG])\}")


def find(name, directory):
    """A scenario by path, or by name in lab/devices."""
    for path in (Path(name), directory / name, directory / f"{name}.conf"):
        if path.is_file():
            return path
    known = " ".join(sorted(path.stem for path in directory.glob("*.conf")))
    raise LabError(f"no device file {name}; in {directory} there are: {known}")


def options(path, run_directory):
    """QEMU's arguments for a scenario; its disks are made in run_directory."""
    arguments = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = shlex.split(line, comments=True)
        if words and not words[0].startswith("-"):
            raise LabError(f"{path}:{number}: not a QEMU option: {line}")
        arguments += [_filled_in(word, run_directory) for word in words]
    return arguments


def _filled_in(word, run_directory):
    word = word.replace("{run}", str(run_directory))
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

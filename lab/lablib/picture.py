"""Pictures of a display device of the emulated machine: as PNG for people, and what is written on them."""

import os
import shutil
import struct
import subprocess
import zlib
from typing import NamedTuple

from lablib.report import LabError

MAGNIFIED = 3           # small letters, for a program that expects scanned pages


class Picture(NamedTuple):
    width: int
    height: int
    pixels: bytes       # red, green, blue

    def png(self):
        """By the PNG specification, chapters 5 and 11: colour type 2, no filter in any row."""
        line = 3 * self.width
        rows = b"".join(b"\0" + self.pixels[start:start + line] for start in range(0, len(self.pixels), line))
        header = struct.pack(">2I5B", self.width, self.height, 8, 2, 0, 0, 0)
        return (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) +
                _chunk(b"IEND", b""))

    def text(self):
        if not shutil.which("tesseract"):
            raise LabError("tesseract is not installed, which reads what a picture shows: `scripts/setup desktop`")
        done = subprocess.run(["tesseract", "-", "-", "--psm", "6", "--dpi", "200"], input=self.page(), check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env={**os.environ, "OMP_THREAD_LIMIT": "1"})
        return done.stdout.decode()

    def page(self):
        """Large and dark on light, in shades of grey, of which one colour tells enough."""
        grey = self.pixels[1::3]
        if sum(grey) < len(grey) * 128:
            grey = grey.translate(bytes(range(255, -1, -1)))
        rows = []
        for start in range(0, len(grey), self.width):
            wide = bytearray(MAGNIFIED * self.width)
            for shift in range(MAGNIFIED):
                wide[shift::MAGNIFIED] = grey[start:start + self.width]
            rows += [wide] * MAGNIFIED
        return b"P5 %d %d 255\n" % (MAGNIFIED * self.width, MAGNIFIED * self.height) + b"".join(rows)


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def load(path):
    """A picture as QEMU's screendump leaves it: PPM, eight bits a colour."""
    data = path.read_bytes()
    width, height = map(int, data.split(maxsplit=3)[1:3])
    return Picture(width, height, data[-3 * width * height:])

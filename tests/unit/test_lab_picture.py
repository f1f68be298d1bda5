#!/usr/bin/env python3
"""Pictures of a display device, as the lab takes them."""

import struct
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[2] / "lab"))

from lablib import picture      # noqa: E402

PIXELS = b"\n 0 0 \xff" + bytes(11)     # 3 by 2; they begin like more of the header


def taken():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"P6\n3 2\n255\n" + PIXELS)
        file.flush()
        return picture.load(Path(file.name))


class Picture(unittest.TestCase):
    def test_a_picture_is_as_qemu_wrote_it(self):
        self.assertEqual(taken(), (3, 2, PIXELS))

    def test_a_png_has_the_same_pixels(self):
        data, chunks = taken().png()[8:], {}
        while data:
            size, kind = struct.unpack(">I4s", data[:8])
            body, check = data[8:8 + size], data[8 + size:12 + size]
            self.assertEqual(zlib.crc32(kind + body), struct.unpack(">I", check)[0])
            chunks[kind], data = body, data[12 + size:]
        self.assertEqual(chunks[b"IHDR"], struct.pack(">2I5B", 3, 2, 8, 2, 0, 0, 0))
        self.assertEqual(zlib.decompress(chunks[b"IDAT"]), b"\0" + PIXELS[:9] + b"\0" + PIXELS[9:])

    def test_a_page_to_read_is_large_and_light(self):
        header, page = taken().page().split(b"\n", 1)
        self.assertEqual(header, b"P5 9 6 255")
        self.assertEqual(page[:9], bytes(255 - shade for shade in PIXELS[1:9:3] for _ in range(3)))
        self.assertEqual(page[:9], page[18:27])
        self.assertEqual(len(page), 54)


if __name__ == "__main__":
    unittest.main()

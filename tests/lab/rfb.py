"""A client of VNC (RFC 6143), and a PNG's pixels: as much of both as tests need."""

import contextlib
import socket
import struct
import zlib

RAW, DESKTOP_SIZE = 0, -223


class Viewer:
    """A connection to a server that wants no password; pixels are as little-endian words 00RRGGBB."""

    def __init__(self, address, seconds=20):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        self._socket.connect(address)
        self._read(12)
        self._socket.sendall(b"RFB 003.008\n")
        self._read(self._read(1)[0])
        self._socket.sendall(b"\1")
        self._read(4)
        self._socket.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self._read(4))
        self._read(16)
        self.name = self._read(*struct.unpack(">I", self._read(4))).decode()
        self._resize()
        self._socket.sendall(struct.pack(">BxH2i", 2, 2, RAW, DESKTOP_SIZE))
        # 32 bits with 24 of them, little-endian, three times 255, red on top
        self._socket.sendall(struct.pack(">B3x4B3H3B3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self._ask(incremental=0)

    def _read(self, size):
        data = bytearray()
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError("the server of VNC has closed the connection")
            data += more
        return bytes(data)

    def _resize(self):
        self.rows = [bytearray(4 * self.width) for _ in range(self.height)]

    def _ask(self, incremental=1):
        self._socket.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def _take_rectangle(self):
        x, y, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
        if encoding == DESKTOP_SIZE:
            self.width, self.height = width, height
            self._resize()
            return
        for row in range(y, y + height):
            self.rows[row][4 * x:4 * (x + width)] = self._read(4 * width)

    def look(self):
        """Waits for what is new."""
        while self._read(1) != b"\0":
            pass                                # a bell
        for _ in range(struct.unpack(">xH", self._read(3))[0]):
            self._take_rectangle()
        self._ask()

    def pixel(self, x, y):
        return struct.unpack_from("<I", self.rows[y], 4 * x)[0] & 0xffffff

    def press(self, keysym):
        for down in (1, 0):
            self._socket.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def close(self):
        self._socket.close()


@contextlib.contextmanager
def viewer(address, seconds=20):
    one = Viewer(address, seconds)
    try:
        yield one
    finally:
        one.close()


def read_png(path):
    """Width, height, and a function that gives a pixel, of a PNG without filters."""
    with open(path, "rb") as file:
        data = file.read()
    at, chunks = 8, {}
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        if struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(kind + body):
            raise ValueError(f"{path}: the chunk {kind} is damaged")
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    pixels = zlib.decompress(chunks[b"IDAT"])
    return width, height, lambda x, y: int.from_bytes(pixels[y * (3 * width + 1) + 1 + 3 * x:][:3], "big")

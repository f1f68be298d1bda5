"""Guests start over the network, from this host: an address by DHCP, the first file by TFTP, the rest by HTTP."""

import contextlib
import functools
import http.server
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from firmware import SHELL_SECONDS, firmware, shell
from harness import E1000E, INITRD, KERNEL, RUN_SECONDS, Machine, Penstock, check, test
from passthrough import bulk_peer

ADDRESS = "10.99.0.1"       # of the NIC that stays: lab/host/init
READ, DATA, ACKNOWLEDGE, ERROR, OPTIONS = 1, 3, 4, 5, 6        # RFC 1350, RFC 2347
BLOCK = 512
RESEND_SECONDS, TRIES = 2, 20

# UEFI 2.10, 3.3 and 3.1.3: a boot entry is attributes, the path's length, a name, the path and what the program is given.
UEFI_VARIABLES = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
ACTIVE = 1
# UEFI 2.10, 10.3: the root bridge, the first port, the card behind it, its address, and IPv4 by DHCP.
PATH = (bytes.fromhex("02010c00d041030a00000000" "010106000001" "010106000000") +
        bytes.fromhex("030b2500525400000002") + bytes(26) + b"\x01" +
        bytes.fromhex("030c1b00") + bytes(23) + bytes.fromhex("7fff0400"))

DHCP = """start 10.99.0.100
end 10.99.0.119
interface peer
siaddr {address}
boot_file {first}
option subnet 255.255.255.0
option lease 3600
lease_file {directory}/leases
pidfile {directory}/pid
"""


def _acknowledged(connection, packet, number):
    """Whether the other end has taken this packet, and wants the next one."""
    for _ in range(TRIES):
        connection.send(packet)
        with contextlib.suppress(TimeoutError):
            while True:
                kind, acknowledged = struct.unpack_from("!HH", connection.recv(BLOCK))
                if kind == ERROR:
                    return False
                if (kind, acknowledged) == (ACKNOWLEDGE, number):
                    return True
    return False


def _transfer(peer, data, options):
    """Options are the other end's wishes; of the size of a block (RFC 2348), and to know that of the file (RFC 2349)."""
    size = min(int(options.get("blksize", BLOCK)), 1468)
    agreed = {"blksize": str(size)} if "blksize" in options else {}
    if "tsize" in options:
        agreed["tsize"] = str(len(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind((ADDRESS, 0))
        connection.connect(peer)
        connection.settimeout(RESEND_SECONDS)
        words = "".join(f"{name}\0{value}\0" for name, value in agreed.items())
        if agreed and not _acknowledged(connection, struct.pack("!H", OPTIONS) + words.encode(), 0):
            return
        for number in range(len(data) // size + 1):
            block = struct.pack("!HH", DATA, (number + 1) % 0x10000) + data[number * size:(number + 1) * size]
            if not _acknowledged(connection, block, (number + 1) % 0x10000):
                return


def _serve_tftp(listener, directory, asked):
    while True:
        try:
            packet, peer = listener.recvfrom(1500)
        except OSError:
            return      # closed
        words = packet[2:].decode(errors="replace").split("\0")
        path = Path(directory, Path(words[0]).name)
        if struct.unpack_from("!H", packet)[0] != READ or not path.is_file():
            listener.sendto(struct.pack("!HH", ERROR, 1) + b"no such file\0", peer)
            continue
        asked.append(f"tftp {path.name}")
        options = dict(zip(map(str.lower, words[2::2]), words[3::2]))
        threading.Thread(target=_transfer, args=(peer, path.read_bytes(), options), daemon=True).start()


class _Http(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments, asked, **options):
        self._asked = asked
        super().__init__(*arguments, **options)

    def log_message(self, text, *words):
        if self.command == "GET":
            self._asked.append(f"http {Path(self.path).name}")


@contextlib.contextmanager
def boot_server(first, files):
    """Serves these, each a name and what is in it; who comes is told of the first one. Gives what has been asked for."""
    asked = []
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        for name, data in files.items():
            Path(directory, name).write_bytes(data)
        Path(directory, "leases").touch()
        settings = Path(directory, "udhcpd.conf")
        settings.write_text(DHCP.format(address=ADDRESS, first=first, directory=directory))
        listener.bind((ADDRESS, 69))
        threading.Thread(target=_serve_tftp, args=(listener, directory, asked), daemon=True).start()
        pages = http.server.ThreadingHTTPServer((ADDRESS, 80), functools.partial(_Http, asked=asked, directory=directory))
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        dhcp = subprocess.Popen(["busybox", "udhcpd", "-f", settings], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield asked
        finally:
            dhcp.kill()
            dhcp.wait()
            pages.shutdown()
            pages.server_close()


@test(only=Penstock, limit=590, long=True)
def a_cards_rom_starts_a_kernel_over_the_network():
    """iPXE is in the ROM of a passed card, and a BIOS runs it: it gets a script from this host, kernel and initramfs."""
    script = f"""#!ipxe
kernel http://{ADDRESS}/vmlinuz console=ttyS0 quiet panic=-1 test=net
initrd http://{ADDRESS}/initrd
boot
"""
    files = {"boot.ipxe": script.encode(), "vmlinuz": Path(KERNEL).read_bytes(), "initrd": Path(INITRD).read_bytes()}
    with boot_server("boot.ipxe", files) as asked, bulk_peer():
        with Machine(kernel=None, initrd=None, devices=[E1000E], more=["--firmware", "bios"]) as machine:
            machine.expect("iPXE", RUN_SECONDS)
            machine.expect("USERSPACE-UP", 3 * RUN_SECONDS)
            machine.succeed("net")
    # TFTP's first packet is sent once more where the answer is late.
    check(list(dict.fromkeys(asked)) == ["tftp boot.ipxe", "http vmlinuz", "http initrd"], f"asked for {asked}")


def boot_entry(cmdline):
    name = "network\0".encode("utf-16le")
    return struct.pack("<IH", ACTIVE, len(PATH)) + name + PATH + f"{cmdline}\0".encode("utf-16le")


@test(only=Penstock, limit=590, long=True)
def uefi_starts_a_kernel_over_the_network():
    """By the driver in the ROM of a passed card. It has no root to mount, says so, and reboots."""
    cmdline = "console=ttyS0 panic=-1 over.the.network"
    with firmware() as (options, _):
        with shell(options) as machine:
            for name, data in (("Boot0099", boot_entry(cmdline)), ("BootOrder", b"\x99\0")):
                machine.type(f"setvar {name} -guid {UEFI_VARIABLES} -bs -rt -nv =H{data.hex()}\r")
            machine.type("reset -s\r")
            check(machine.wait(SHELL_SECONDS) == 0, machine.last_words())
        with boot_server("vmlinuz", {"vmlinuz": Path(KERNEL).read_bytes()}) as asked:
            with Machine(kernel=None, initrd=None, devices=[E1000E], reboot=False, more=options) as machine:
                machine.expect("NBP file downloaded successfully", 3 * RUN_SECONDS)
                print("   the kernel is there", flush=True)
                machine.expect(f"Command line: {cmdline}", 2 * RUN_SECONDS)
                check(machine.wait(2 * RUN_SECONDS) == 0, machine.last_words())
                check("Unable to mount root fs" in machine.output, machine.last_words())
    check(set(asked) == {"tftp vmlinuz"}, f"asked for {asked}")

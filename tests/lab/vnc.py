"""A display that is shown by VNC, and a keyboard."""

import os
import signal
import tempfile
import time
from pathlib import Path

from firmware import SHELL_SECONDS, firmware
from harness import Machine, Penstock, check, command, test
from rfb import read_png, viewer

# So few pixels that they fit into a socket: nobody waits for a viewer that waits for the guest.
NAME, WIDTH, HEIGHT = "shown", 304, 64
LAST = WIDTH - 1, HEIGHT - 1
PLACES = [(0, 0), (WIDTH - 1, 0), (280, 40), (0, HEIGHT - 1), LAST]


def drawn(x, y):
    """What the guest's test `display` has put there."""
    return (x & 0xff) << 16 | (y & 0xff) << 8 | x >> 8 << 4 | y >> 8


def see_what_is_drawn(pixel, where):
    wrong = [(x, y) for x, y in PLACES if pixel(x, y) != drawn(x, y)]
    check(not wrong, f"{where} does not have what the guest has drawn at {wrong}")


def status(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def is_confined(machine):
    pid, = (one for one in machine.descendants()
            if os.readlink(f"/proc/{one}/exe").endswith("penstock-display"))
    told = status(pid)
    check(told["CapEff"].strip("0") == "" and told["Seccomp"] == "2" and "\t0" not in "\t" + told["Uid"],
          f"penstock-display is not confined: {told}")


@test(only=Penstock)
def a_display_is_seen_and_typed_at():
    with Machine("display", name=NAME, more=["--display", "vnc"]) as machine, \
            tempfile.TemporaryDirectory() as directory:
        machine.expect("DISPLAY-READY")
        with viewer(f"/run/penstock/{NAME}.vnc") as seen:
            while (seen.width, seen.height) != (WIDTH, HEIGHT) or seen.pixel(*LAST) != drawn(*LAST):
                seen.look()
            see_what_is_drawn(seen.pixel, "a viewer")
            is_confined(machine)
            picture = f"{directory}/picture.png"
            done = command(["penstock", "screenshot", NAME, picture])
            check(done.returncode == 0, done.stderr)
            width, height, pixel = read_png(picture)
            check((width, height) == (WIDTH, HEIGHT), f"the picture has {width} x {height} pixels")
            see_what_is_drawn(pixel, "the picture")
            machine.expect("KEYBOARD-READY")
            for count, key in enumerate("penstock", 1):
                seen.press(ord(key))
                machine.expect(f"KEY {count}\n")
        machine.succeed("display")
    check(not Path(f"/run/penstock/{NAME}.vnc").exists(), "the socket outlives the machine")


def look_until(seen, condition, seconds, message):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{message} within {seconds} s")
        seen.look()


def type_keys(seen, text):
    """A key at a time, and each is seen on the picture."""
    for key in text:
        before = b"".join(seen.rows)
        seen.press(ord(key))
        look_until(seen, lambda: b"".join(seen.rows) != before, SHELL_SECONDS, f"'{key}' changes nothing")


@test(only=Penstock, limit=590, long=True)
def bios_is_seen():
    """It draws by SeaVGABIOS in the card's ROM. Without a disk it has no ear for keys."""
    with Machine(kernel=None, initrd=None, name=NAME, more=["--firmware", "bios", "--display", "vnc"]) as machine:
        machine.expect("No bootable device", SHELL_SECONDS)
        with viewer(f"/run/penstock/{NAME}.vnc", SHELL_SECONDS) as seen:
            look_until(seen, lambda: any(map(any, seen.rows)), SHELL_SECONDS, "there is no picture")
        machine.process.terminate()
        check(machine.wait() == 128 + signal.SIGTERM, machine.last_words())


@test(only=Penstock, limit=590, long=True)
def uefi_is_seen_and_typed_at():
    """Its shell is in the picture, and what a viewer types there ends the machine."""
    with firmware() as (options, _), \
            Machine(kernel=None, initrd=None, name=NAME, more=[*options, "--display", "vnc"]) as machine:
        machine.expect("any other key", SHELL_SECONDS)
        machine.type(" ")
        machine.expect("Shell>", SHELL_SECONDS)
        with viewer(f"/run/penstock/{NAME}.vnc", SHELL_SECONDS) as seen:
            look_until(seen, lambda: any(map(any, seen.rows)), SHELL_SECONDS, "there is no picture")
            check(seen.width >= 640 and seen.height >= 480, f"it has {seen.width} x {seen.height} pixels")
            done = command(["penstock", "screenshot", NAME, "/out/shell.png"])
            check(done.returncode == 0, done.stderr)
            type_keys(seen, "reset -s")
            seen.press(0xff0d)
            check(machine.wait() == 0, machine.last_words())

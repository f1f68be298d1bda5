"""A display that is shown by VNC, and a keyboard."""

import os
import tempfile
from pathlib import Path

from harness import Machine, Penstock, check, command, test
from rfb import read_png, viewer

NAME, WIDTH, HEIGHT = "shown", 320, 240
PLACES = [(0, 0), (319, 0), (300, 200), (0, 239), (319, 239)]


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
            while (seen.width, seen.height) != (WIDTH, HEIGHT) or seen.pixel(319, 239) != drawn(319, 239):
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

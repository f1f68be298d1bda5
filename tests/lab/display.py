"""Graphics cards: what the host has on their screens goes before they do, and comes back."""

import os
from pathlib import Path

from harness import QUICK_SECONDS, Machine, Penstock, check, command, device, driver, refused, test, wait_until
from journal import RUN, steps_of, succeed

CARD = "0000:00:08.0"           # of the host `display`, its boot display
BARE = "0000:01:00.0"           # of the host `bare-display`, whose kernel has no driver for it
FRAMEBUFFER = Path("/sys/bus/platform/devices/efi-framebuffer.0")
BIND = ["bind", "--force", CARD]


def console_is_on():
    """Is the console on frame buffers bound? There is none while there is no frame buffer."""
    return any("frame buffer" in (console / "name").read_text() and (console / "bind").read_text() == "1\n"
               for console in Path("/sys/class/vtconsole").iterdir())


def check_on_card(card=CARD):
    wait_until(lambda: list(device(card).glob("graphics/fb*")) or list(device(card).glob("efi-*/graphics/fb*")),
               QUICK_SECONDS, f"no frame buffer on the card, at {driver(card)}")
    wait_until(console_is_on, QUICK_SECONDS, "the host's console is not on the card")


def picture():
    """What is on the card's output."""
    done = command(["/lab/monitor", "screendump", "now.ppm", "card"])
    check(done.returncode == 0, done.stderr)
    return Path("/out/now.ppm").read_bytes()


def write_on_console():
    """Returns the picture of it."""
    Path("/dev/tty1").write_text("\033[2J\033[H\033[?25l")
    empty = picture()
    Path("/dev/tty1").write_text("This is the host's console.\n")
    wait_until(lambda: picture() != empty, QUICK_SECONDS, "the console does not draw on the card")
    return picture()


def check_leaves_and_comes_back(card, bind, words):
    """With its picture, as the console draws it anew."""
    check_on_card(card)
    shown = write_on_console()
    for _ in range(2):
        said = succeed(*bind)
        check("the host's console leaves it" in said and words in said, said)
        check(driver(card) == "vfio-pci" and not console_is_on(), f"it is at {driver(card)}")
        check("console\n" in (RUN / "devices" / card).read_text(), "the journal does not tell of the console")
        succeed("release", card)
        check_on_card(card)
        wait_until(lambda: picture() == shown, QUICK_SECONDS, "the console's picture does not come back")


def check_kept_by(node, card):
    """A display server would be one that has it open."""
    with open(node, "rb"):
        refused(["penstock", "bind", card], 1, card, rf"python3 \(pid {os.getpid()}\) has {node} open")


def check_kills(card, bind):
    def bind_anew():
        check_on_card(card)
        succeed(*bind)

    counts = [steps_of(lambda: check_on_card(card), bind, 0)]
    succeed("release", card)
    counts.append(steps_of(bind_anew, ["release", card], 0))
    check_on_card(card)
    print(f"   bind, release: {counts} steps")


@test(host="display", only=Penstock, long=True)
def the_console_leaves_and_comes_back():
    check_on_card()
    refused(["penstock", "bind", CARD], 1, CARD, "the boot display")
    check_kept_by("/dev/fb0", CARD)
    check_kept_by("/dev/dri/card0", CARD)
    check_leaves_and_comes_back(CARD, BIND, "bochs-drm -> vfio-pci")


@test(host="display", only=Penstock, limit=900, long=True)
def sigkill_at_each_step_of_the_console():
    check_kills(CARD, BIND)


@test(host="bare-display", only=Penstock, long=True)
def the_firmwares_frame_buffer_leaves_and_comes_back():
    check_kept_by("/dev/fb0", BARE)
    check_leaves_and_comes_back(BARE, ["bind", BARE], "the firmware's frame buffer leaves it (efi-framebuffer.0)")
    check((FRAMEBUFFER / "driver").exists(), "the frame buffer has no driver")


@test(host="bare-display", only=Penstock, limit=900, long=True)
def sigkill_at_each_step_of_the_firmwares_frame_buffer():
    check_kills(BARE, ["bind", BARE])


def three_starts(card, more=()):
    """Returns what is said at each."""
    said = []
    for name in ("first", "second", "third"):
        with Machine("cpus", cmdline="cpus.count=1", devices=[card], name=name, more=more) as machine:
            machine.succeed("cpus")
            said.append(machine.errors())
    return said


@test(host="display", only=Penstock, long=True)
def a_card_that_cannot_be_reset_starts_again():
    """The second start is told whose leavings its guest gets. The console is there afterwards."""
    first, *later = three_starts(CARD, ["--force"])
    check("cannot be reset" not in first, first)
    for said, before in zip(later, ("first", "second")):
        check(f"{CARD}: it cannot be reset, so this guest finds it as that of '{before}' has left it" in said, said)
    check_on_card()
    write_on_console()


@test(host="bare-display", only=Penstock, long=True)
def a_card_that_is_reset_starts_again():
    check(not any("cannot be reset" in said for said in three_starts(BARE)), "it is said not to be reset")
    check_on_card(BARE)

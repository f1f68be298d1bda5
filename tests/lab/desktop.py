"""A desktop: firmware, boot loader, system and session draw on a passed card, and listen to a passed keyboard."""

import array
import contextlib
import re
import time
from pathlib import Path

from firmware import firmware
from harness import Failure, Machine, Penstock, check, command, driver, test
from installed import PROMPT, System

# Of lab/devices/desktop.conf
CARD, SOUND, DISK, USB, OTHER_CARD = ("0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0")
QEMU_NAMES = {CARD: "card", OTHER_CARD: "other"}
OUT = Path("/out")

# The tests' runner wants to hear something within ten minutes.
STAGE_SECONDS = 590
KEYS = {" ": "spc", "\n": "ret", "-": "minus", "/": "slash", ".": "dot"}
HOSTS_WORDS = "The host has this screen"

# What QEMU writes: two channels of 16 bits behind the header. A tone crosses zero twice in each period.
WAV_HEADER, RATE, WINDOWS_A_SECOND = 44, 44100, 10
TONE_HZ, LOUD = 1000, 1000


def monitor(*words):
    """Of the emulator outside: see lab/host/monitor."""
    done = command(["/lab/monitor", *words], 120)
    check(done.returncode == 0, f"{words}: {done.stderr}")
    return done.stdout


class Screen:
    """What a card shows. A picture of each stage stays in /out."""

    def __init__(self, card, name):
        self._device, self._name = QEMU_NAMES[card], name

    def expect(self, stage, pattern, act=None):
        """Waits until it shows this. A blank in the pattern is any number of them, as the reader may see. What it shows
        instead is given to act() when it stands still: a key may come too early, or be lost where nobody takes it."""
        wanted, began, last = re.compile(pattern.replace(" ", r"\s*"), re.IGNORECASE), time.monotonic(), None
        while not wanted.search(text := monitor("picture", f"{self._name}-{stage}.png", self._device)):
            if time.monotonic() > began + STAGE_SECONDS:
                raise Failure(f"no '{pattern}' on the screen within {STAGE_SECONDS} s; it shows:\n{text}")
            if act and text == last:
                act(text)
            last = text
            time.sleep(1)
        print(f"   {self._name}: {stage} after {time.monotonic() - began:.0f} s", flush=True)


def press(*keys):
    for key in keys:
        monitor("sendkey", key)
        time.sleep(0.3)


def type_in(text):
    press(*(KEYS.get(letter, letter) for letter in text))


def seconds_of_tone():
    samples = array.array("h")
    data = (OUT / "sound.wav").read_bytes()[WAV_HEADER:]
    samples.frombytes(data[:len(data) // 4 * 4])
    left, size, found = samples[::2], RATE // WINDOWS_A_SECOND, 0
    for start in range(0, len(left) - size, size):
        window = left[start:start + size]
        crossings = sum((one < 0) != (next_one < 0) for one, next_one in zip(window, window[1:]))
        found += max(window) > LOUD and abs(crossings - 2 * TONE_HZ / WINDOWS_A_SECOND) <= 4
    return found / WINDOWS_A_SECOND


@contextlib.contextmanager
def desktop(card, *more):
    """Its system is on the serial line, too."""
    with firmware() as (options, _):
        with Machine(kernel=None, initrd=None, memory="1024M", devices=[card, DISK, USB, *more],
                     more=[*options, "--force"]) as machine:
            yield machine


def boot_loader_listens(screen):
    """Until it shows its prompt."""
    screen.expect("grub", "GNU GRUB")
    screen.expect("grub-line", "grub>", lambda _: press("c"))


def firmware_listens(screen):
    """The boot loader is told to go back to the firmware's menu, and that goes on where a key leaves it."""
    screen.expect("firmware", "boot manager", lambda text: "grub>" in text and type_in("fwsetup\n"))
    screen.expect("firmware-key", "take you to the device", lambda _: press("down"))
    screen.expect("grub-again", "GNU GRUB", lambda text: "Boot Manager" in text and press("esc"))


def system_starts(screen):
    screen.expect("console", "root@installed",
                  lambda text: press("esc" if "grub>" in text else "ret") if "GNU GRUB" in text else None)


def console_listens(screen):
    screen.expect("console-key", r"uname\s+Linux\s", lambda _: type_in("uname\n"))


@test(host="desktop", only=Penstock, limit=3600, long=True)
def a_desktop_on_a_passed_card():
    """The card is the host's screen, before and afterwards."""
    screen, before = Screen(CARD, "desktop"), driver(CARD)
    Path("/dev/tty1").write_text(f"\n{HOSTS_WORDS}\n")
    screen.expect("host", HOSTS_WORDS)
    with desktop(CARD, SOUND) as machine:
        boot_loader_listens(screen)
        firmware_listens(screen)
        system_starts(screen)
        machine.expect(PROMPT, STAGE_SECONDS)
        console_listens(screen)
        type_in("session\n")
        screen.expect("session", r"Terminal.*\s+root@installed")
        screen.expect("session-key", r"1234.1111", lambda _: type_in("lspci -nn\n"))
        check(not seconds_of_tone(), "there is a tone before it is played")
        system = System(machine)
        system.run(f"speaker-test -r {RATE} -c 2 -t sine -f {TONE_HZ} -l 1", STAGE_SECONDS)
        heard = seconds_of_tone()
        check(heard > 1, f"of the tone {heard} s were played")
        system.power_off()
    check(driver(CARD) == before, f"the card is at {driver(CARD)}")
    screen.expect("host-again", HOSTS_WORDS)


@test(host="desktop", only=Penstock, limit=3600, long=True)
def a_desktop_on_a_card_without_vga():
    screen = Screen(OTHER_CARD, "other")
    with desktop(OTHER_CARD) as machine:
        boot_loader_listens(screen)
        system_starts(screen)
        console_listens(screen)
        machine.expect(PROMPT, STAGE_SECONDS)
        System(machine).power_off()

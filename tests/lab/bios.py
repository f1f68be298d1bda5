"""SeaBIOS runs first, as Debian ships it."""

import contextlib
import re
import signal

from harness import NVME_B, Machine, Penstock, check, test, wait_until
from installed import BIOS, TEST_SECONDS, check_kernel_log, installed_system
from text_mode import read_text

# Of lab/devices/firmware.conf
SATA, CARD, CARD_NAME = "0000:00:08.0", "0000:00:09.0", "ati"
VGA_BIOS = "/usr/share/seabios/vgabios-ati.bin"
WORDS_SECONDS, GRUB_SECONDS = 120, 200


@contextlib.contextmanager
def bios(*devices):
    """Ended from outside: one that finds nothing to start begins anew every minute."""
    with Machine(kernel=None, initrd=None, devices=devices, more=BIOS) as machine:
        machine.expect("SeaBIOS (version", WORDS_SECONDS)
        yield machine
        machine.process.terminate()
        check(machine.wait() == 128 + signal.SIGTERM, machine.last_words())


@test(only=Penstock, long=True)
def bios_tells_of_a_disk_without_a_boot_loader():
    with bios(NVME_B) as machine:
        machine.expect("not a bootable disk", WORDS_SECONDS)
        machine.expect("No bootable device", WORDS_SECONDS)


@test(host="firmware", only=Penstock, long=True)
def bios_starts_the_first_disk_that_is_given():
    """Behind AHCI, too: GRUB's menu is read from the disk."""
    with bios(SATA, NVME_B) as machine:
        machine.expect("GNU GRUB", GRUB_SECONDS)
        machine.expect("Debian", GRUB_SECONDS)
    with bios(NVME_B, SATA) as machine:
        machine.expect("not a bootable disk", WORDS_SECONDS)


@test(host="firmware", only=Penstock, limit=590, long=True)
def bios_draws_on_a_card():
    """By the VGA BIOS in the card's ROM, at the addresses that a VGA card has."""
    check(not read_text(CARD_NAME, VGA_BIOS).strip(), "there is text before anybody has drawn")
    with bios(f"{CARD},rom={VGA_BIOS}", NVME_B) as machine:
        machine.expect("No bootable device", WORDS_SECONDS)
        wait_until(lambda: "No bootable device" in read_text(CARD_NAME, VGA_BIOS), WORDS_SECONDS, "the card shows nothing")
        shown = read_text(CARD_NAME, VGA_BIOS)
        check("SeaBIOS (version" in shown, f"the card shows\n{shown}")


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def bios_starts_an_installed_system():
    """It measures the disk's boot loader, and the system finds the log of that."""
    with installed_system([*BIOS, "--tpm"], SATA) as system:
        system.run("test ! -e /sys/firmware/efi")
        check_kernel_log(system)
        boot_loader = system.run("cat /sys/class/tpm/tpm0/pcr-sha256/4")
        check(re.search(r"^[0-9A-F]{64}", boot_loader, re.MULTILINE) and not re.search("0{64}", boot_loader),
              f"nothing is measured: {boot_loader}")
        system.run("grep -aq 'Spec ID Event03' /sys/kernel/security/tpm0/binary_bios_measurements")
        system.power_off()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def bios_starts_an_installed_system_from_nvme():
    with installed_system(BIOS) as system:
        check_kernel_log(system)
        system.power_off()

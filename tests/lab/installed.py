"""Firmware starts an installed Debian from its own disk (lab/installed)."""

import contextlib
import re
import shutil
import tempfile
import time
from pathlib import Path

from firmware import firmware
from harness import Machine, Penstock, check, test

# Of lab/devices/firmware.conf
INSTALLED = "0000:01:00.0"
BIOS = ["--firmware", "bios"]
PROMPT = "root@installed:~# "
# Long ones hold while other machines are emulated beside this one; the suite wants to hear something within ten minutes.
GRUB_SECONDS, LOGIN_SECONDS, COMMAND_SECONDS, END_SECONDS = 200, 580, 120, 240
TEST_SECONDS = 2400


class System:
    """A machine whose installed system root is logged in to."""

    def __init__(self, machine):
        self.machine = machine
        self._commands = 0

    def run(self, command, seconds=COMMAND_SECONDS):
        """What it says, once it has ended well."""
        self._commands += 1
        before = len(self.machine.output)
        # What is typed comes back, so it must not be what is waited for.
        self.machine.type(f"{command}; echo status=$? end-'{self._commands}'\n")
        self.machine.expect(f"end-{self._commands}", seconds)
        said = self.machine.output[before:]
        check(f"status=0 end-{self._commands}" in said, f"{command}: {said}")
        return said

    def power_off(self):
        self.machine.type("systemctl poweroff\n")
        code = self.machine.wait(END_SECONDS)
        check(code == 0, f"exit code {code} after the guest's power-off; {self.machine.last_words()}")


@contextlib.contextmanager
def boot_loader(options, disk=INSTALLED):
    devices = [disk] if disk else []
    with Machine(kernel=None, initrd=None, devices=devices, more=options) as machine:
        machine.expect("GNU GRUB", GRUB_SECONDS)
        yield machine


@contextlib.contextmanager
def installed_system(options, disk=INSTALLED):
    """Its own boot loader, kernel, initramfs and systemd, to a login."""
    with boot_loader(options, disk) as machine:
        began = time.monotonic()
        print("   the boot loader is there", flush=True)
        machine.expect(PROMPT, LOGIN_SECONDS)
        print(f"   root is logged in after {time.monotonic() - began:.0f} s", flush=True)
        yield System(machine)


def boot_current(listing):
    """The label of the entry that the system was started by, of what efibootmgr says."""
    number = re.search(r"^BootCurrent: (\w+)$", listing, re.MULTILINE)
    check(number, f"no BootCurrent in {listing}")
    return re.search(rf"^Boot{number[1]}\* ([^\t]*)", listing, re.MULTILINE)[1]


def check_kernel_log(system):
    """What its kernel finds wrong with ACPI, PCI and TPM. amd_pstate says of each machine, QEMU's as well, that has a
    CPU of Zen 2 that it misses _CPC."""
    said = system.run("dmesg --level=emerg,alert,crit,err,warn")
    complaints = [line for line in said.splitlines()
                  if re.search(r"^\[.*(ACPI|AML|PCI|acpi|pci|tpm)", line) and "amd_pstate" not in line]
    check(not complaints, "the guest's kernel complains:\n" + "\n".join(complaints))


def served_disk():
    """The same disk, not passed but served from the host's: the options for it."""
    node, = Path(f"/sys/bus/pci/devices/{INSTALLED}/nvme").glob("nvme*/nvme*n1")
    return ["--disk", f"/dev/{node.name},format=raw"]


@test(host="firmware", only=Penstock, limit=300)
def uefi_starts_the_boot_loader_of_a_disk():
    """What comes then is for the long tests."""
    with firmware() as (options, _):
        with boot_loader(options) as machine:
            machine.expect("Booting `Debian'")
            machine.process.terminate()
            machine.wait()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def uefi_starts_an_installed_system():
    """The second time by the boot entry that the system itself has made."""
    with firmware() as (options, _):
        with installed_system(options) as system:
            check_kernel_log(system)
            check(boot_current(system.run("efibootmgr")) != "lab", "the entry is there before it is made")
            system.run(r"efibootmgr --quiet --create --disk /dev/nvme0n1 --part 2 --label lab "
                       r"--loader '\EFI\debian\shimx64.efi'")
            system.power_off()
        with installed_system(options) as system:
            started_by = boot_current(system.run("efibootmgr"))
            check(started_by == "lab", f"started by the entry '{started_by}'")
            system.power_off()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def uefi_of_the_release_before_checks_its_signatures():
    """Its plain image has Secure Boot, which that of the lab's own release leaves out. No descriptor names it, so its
    variables begin as a copy of those with keys."""
    with firmware("/usr/share/OVMF-bookworm/OVMF_CODE_4M.fd") as (options, nvram):
        shutil.copyfile("/usr/share/OVMF-bookworm/OVMF_VARS_4M.ms.fd", nvram)
        with installed_system(options) as system:
            check_kernel_log(system)
            check("Secure boot enabled" in system.run("dmesg"), "Secure Boot is off")
            system.power_off()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def uefi_starts_an_installed_system_that_sees_no_hypervisor():
    """It has ACPI's fixed hardware instead, by which it powers off."""
    with firmware() as (options, _):
        with installed_system([*options, "--hide-hypervisor"]) as system:
            check_kernel_log(system)
            said = system.run("! grep -w hypervisor /proc/cpuinfo && "
                              "cat /sys/devices/system/clocksource/clocksource0/available_clocksource")
            check("acpi_pm" in said, said)
            system.power_off()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def uefi_starts_an_installed_system_from_a_served_disk():
    with firmware() as (options, _):
        with installed_system([*options, *served_disk()], disk=None) as system:
            check_kernel_log(system)
            check("/dev/vda3" in system.run("findmnt -n -o SOURCE /"), "the root is elsewhere")
            system.power_off()


@test(host="firmware", only=Penstock, limit=TEST_SECONDS, long=True)
def bios_starts_an_installed_system_from_a_served_disk():
    """With the disk that cloud-init would look for, though this one has no cloud-init."""
    with tempfile.TemporaryDirectory() as directory:
        user_data = Path(directory, "user-data")
        user_data.write_text("#cloud-config\nmarked: true\n")
        with installed_system([*BIOS, *served_disk(), "--cloud-init", user_data, "--name", "vm1"], disk=None) as system:
            check("/dev/vda3" in system.run("findmnt -n -o SOURCE /"), "the root is elsewhere")
            said = system.run("grep -a -e marked: -e local-hostname: /dev/disk/by-label/cidata")
            check("marked: true" in said and "local-hostname: vm1" in said, said)
            system.power_off()

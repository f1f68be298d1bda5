"""Firmware runs first: Debian's OVMF, unmodified."""

import contextlib
import hashlib
import subprocess
import tempfile
from pathlib import Path

from harness import NVME_A, Machine, Penstock, check, test

SHELL_SECONDS = START_SECONDS = 200


@contextlib.contextmanager
def firmware():
    """Options with which it runs, on an emulator that survives it (lab/module), and where its variables are."""
    subprocess.run(["modprobe", "keep_cr8_intercept"], check=True)
    with tempfile.TemporaryDirectory() as directory:
        nvram = Path(directory, "vars.fd")
        yield ["--firmware", "uefi", "--nvram", nvram], nvram
    # modprobe -r would want KVM to go, too
    subprocess.run(["rmmod", "keep_cr8_intercept"], check=True)


@test(only=Penstock, limit=400)
def uefi_reaches_its_shell():
    with firmware() as (options, _):
        with Machine(kernel=None, initrd=None, more=options) as machine:
            machine.expect("UEFI Interactive Shell", SHELL_SECONDS)
            machine.expect("Shell>", SHELL_SECONDS)
            machine.type("reset -s\r")
            check(machine.wait() == 0, machine.last_words())


@test(only=Penstock, limit=400)
def uefi_starts_a_kernel_with_a_device():
    """The kernel comes through fw_cfg, the disk is passed, and the variables last."""
    seen = []
    with firmware() as (options, nvram):
        with Machine("nvme", cmdline="stamp=uefi nvme.count=1", devices=[NVME_A], more=options) as machine:
            machine.expect("USERSPACE-UP", START_SECONDS)
            machine.succeed("nvme")
        seen.append(hashlib.sha256(nvram.read_bytes()).digest())
        template = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
        check(hashlib.sha256(template).digest() not in seen, "nothing was written to the variables")
        check(nvram.stat().st_size == len(template), "the variables have another size")

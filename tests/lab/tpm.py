"""A TPM, which swtpm serves."""

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

from bad_input import FAILURE
from harness import BOOT_SECONDS, KERNEL, NVME_A, QUICK_SECONDS, Machine, Penstock, check, refused, run_guest, test, wait_until

STATE = "tpm2-00.permall"


def find_swtpm(machine):
    found = [pid for pid in machine.descendants() if Path(f"/proc/{pid}/comm").read_text() == "swtpm\n"]
    check(len(found) == 1, f"swtpm is {found}")
    return found[0]


def resets(output):
    """How often the TPM has been switched on, as the guest has read it last."""
    return int(re.findall(r"tpm: reset (\d+)", output)[-1])


def check_confined(pid):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    check(int(status["Uid"].split()[0]) >= 0x70000000 and int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
          and status["Seccomp"] == "2", f"swtpm is not confined: {status}")


@test(only=Penstock, limit=600)
def a_tpm_keeps_its_state():
    """From one start to the next; the death of swtpm is the end of the TPM, and not of the guest."""
    with tempfile.TemporaryDirectory() as name:
        nvram = Path(name, "vars.fd")
        options = {"cmdline": "tpm.pcrs=unused", "more": ["--tpm", "--nvram", nvram]}
        # as a directory of root's may be: nobody else is let into it
        os.chmod(name, 0o700)
        with Machine(**options) as machine:
            machine.expect("# ", 2 * BOOT_SECONDS)
            machine.type("tpm && echo 'it wor''ks'\n")
            machine.expect("it works")
            refused(Penstock.command(more=options["more"]), FAILURE, "vars.fd.tpm", "in use by another machine")
            swtpm = find_swtpm(machine)
            check_confined(swtpm)
            os.kill(swtpm, signal.SIGKILL)
            wait_until(lambda: "swtpm has ended" in machine.errors(), QUICK_SECONDS, "nobody says that swtpm has ended")
            machine.type("tpm || echo 'it fa''ils'\n")
            machine.expect("it fails")
            machine.type("poweroff -f\n")
            machine.succeed()
        state = Path(f"{nvram}.tpm", STATE)
        check(state.stat().st_uid == 0 and state.stat().st_mode & 0o77 == 0, f"anybody's state: {state.stat()}")
        again = run_guest("tpm", **options)
        check(resets(again) == resets(machine.output) + 1, f"another TPM: {resets(machine.output)}, {resets(again)}")
        check(state.stat().st_uid == 0, f"the state is not given back: {state.stat()}")
        state.write_bytes(b"This is no state.\n" * 100)
        refused(Penstock.command(more=options["more"]), FAILURE, "vars.fd.tpm", "cannot work with this state")
    refused(["env", "PATH=/nowhere", shutil.which("penstock"), "run", "--kernel", KERNEL, "--tpm"], FAILURE,
            "install the package swtpm")


@test(only=Penstock)
def a_tpm_outlives_a_reboot():
    """Its state has no name, and ends with the machine."""
    output = run_guest("tpm,reboot", cmdline="tpm.pcrs=unused", devices=[NVME_A], more=["--tpm"])
    found = [int(one) for one in re.findall(r"tpm: reset (\d+)", output)]
    check(found == [found[0], found[0] + 1], f"after a reboot it is another TPM: {found}")

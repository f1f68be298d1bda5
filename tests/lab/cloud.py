"""A cloud image (lab/cloud): cloud-init makes a machine of it, by what its seed says, and ssh gets in."""

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path

from examples import example
from firmware import firmware
from harness import NVME_B, Machine, Penstock, block_device, check, command, test
from installed import END_SECONDS
from journal import succeed

# Of lab/devices/cloud.conf
IMAGE = "0000:01:00.0"
PORT, NAME = 2222, "web"
# The tests' runner wants to hear something within ten minutes.
CONNECT_SECONDS, STAGE_SECONDS = 30, 590
USER_DATA = """#cloud-config
ssh_authorized_keys:
  - {key}
ssh_genkeytypes: [ed25519]
"""


class Ssh:
    """Of the host, with a key of its own. What it has learned of the guest's key it keeps."""

    def __init__(self, directory):
        self._known, self._key = directory / "known", directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self._key], check=True)
        self.public = self._key.with_suffix(".pub").read_text().strip()

    def try_to(self, words):
        options = ("BatchMode=yes", "StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={self._known}",
                   f"ConnectTimeout={CONNECT_SECONDS}")
        return command(["ssh", "-p", str(PORT), "-i", str(self._key), *(f"-o{option}" for option in options),
                        "debian@127.0.0.1", words], STAGE_SECONDS)

    def run(self, words):
        done = self.try_to(words)
        check(done.returncode == 0, f"{words}: exit code {done.returncode}, {done.stdout} {done.stderr}")
        return done.stdout

    def wait(self):
        """Until it is let in. passt takes a connection before the guest does."""
        deadline = time.monotonic() + STAGE_SECONDS
        while (done := self.try_to("true")).returncode:
            check(time.monotonic() < deadline, f"no login: {done.stderr}")
            time.sleep(2)


def make_disk(directory):
    """As the example says, of the image that the host has on a disk."""
    image, disk = directory / "image.qcow2", directory / "web.qcow2"
    succeed("disk", "convert", block_device(IMAGE), str(image))
    succeed("disk", "clone", str(image), str(disk))
    succeed("disk", "resize", str(disk), "20G")
    return disk


@contextlib.contextmanager
def cloud_machine():
    with tempfile.TemporaryDirectory() as directory, firmware() as (_, nvram):
        directory = Path(directory)
        ssh, disk, user_data = Ssh(directory), make_disk(directory), directory / "user-data"
        user_data.write_text(USER_DATA.format(key=ssh.public))
        print("   the disk is there", flush=True)
        places = {"/var/lib/penstock/web.fd": str(nvram), "/var/lib/penstock/web.qcow2": str(disk),
                  "/var/lib/penstock/user-data": str(user_data)}
        with example("cloud-image", places) as path, \
                Machine(kernel=None, initrd=None, memory=None, cpus=None, name=NAME, devices=[NVME_B],
                        more=[str(path)]) as machine:
            yield machine, ssh


@test(host="cloud", only=Penstock, limit=3000, long=True)
def the_example_of_a_cloud_image_starts():
    """UEFI, GRUB, Linux, cloud-init; and a disk is passed. What its seed says is what there is: name, user, key."""
    with cloud_machine() as (machine, ssh):
        began = time.monotonic()

        def told(what):
            print(f"   {what} after {time.monotonic() - began:.0f} s", flush=True)

        machine.expect("GNU GRUB", STAGE_SECONDS)
        told("the boot loader is there")
        machine.expect(f"{NAME} login:", STAGE_SECONDS)
        told("the serial console asks for a login")
        ssh.wait()
        told("ssh is let in")
        check("status: done" in ssh.run("cloud-init status --wait"), "cloud-init is not content")
        told("cloud-init is done")
        check(ssh.run("hostname").strip() == NAME, "the guest has another name")
        size = int(ssh.run("df --output=size -BG / | tail -1").strip().rstrip("G"))
        check(size >= 18, f"the root file system has not grown with its disk: {size} GB")
        check("penstock-lab nvme-b sector 0000000000" in ssh.run("sudo head -c 64 /dev/nvme0n1"), "the disk is another")
        ssh.try_to("sudo systemctl poweroff")
        code = machine.wait(END_SECONDS)
        check(code == 0, f"exit code {code} after the guest's power-off; {machine.last_words()}")

"""The emulated host's root file system: Debian, by mmdebstrap, in a squashfs."""

import os
import shlex
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

from lablib.process import dying_with_parent
from lablib.report import LabError, step

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = Path(__file__).resolve().parent.parent / "root"
MODULE = SOURCES.parent / "module"

# With QEMU 10 a CPU loses its timer, or waits for the IOMMU for good, while devices come and go: README.md.
NEWER = "src:qemu src:seabios"

# What the initramfs images are packed from, so that they can be repacked without the squashfs; and
# QEMU, which is the benchmarks' peer in the emulated host, and emulates that host as well.
PIECES = ("boot/vmlinuz-", "usr/lib/modules/", "usr/bin/busybox", "usr/bin/lspci",
          "usr/share/misc/pci.ids", "usr/lib/x86_64-linux-gnu/", "usr/lib64/",
          "usr/bin/qemu-system-x86_64", "usr/share/qemu/", "usr/share/seabios/",
          "usr/share/ovmf/")

TOOLS = {"mmdebstrap": "mmdebstrap", "tar2sqfs": "squashfs-tools-ng",
         "gcc": "gcc libc6-dev", "strip": "binutils", "zstd": "zstd"}


def check_tools():
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise LabError(f"the lab needs programs that are not installed. As root:\n"
                       f"    apt-get install --no-install-recommends {' '.join(missing)}")


def inputs():
    return [SUITE, os.environ.get("PENSTOCK_LAB_MIRROR", ""), SOURCES, MODULE, Path(__file__)]


def make(directory):
    check_tools()
    tar = directory / "root.tar"
    _debootstrap(tar)
    step("root: packing the squashfs")
    with open(tar) as stream:
        subprocess.run(["tar2sqfs", "--quiet", "--no-xattr", "--compressor", "lz4",
                        directory / "root.squashfs"], stdin=stream, check=True)
    step("root: taking out the kernel, modules and programs of the initramfs images")
    _extract_pieces(tar, directory / "tree")
    tar.unlink()


def _mode():
    """mmdebstrap as root, or in a user namespace where the host lets us have one."""
    if os.geteuid() == 0:
        return "root"
    if shutil.which("newuidmap") and subprocess.run(
            ["unshare", "--map-root-user", "--map-auto", "true"],
            stderr=subprocess.DEVNULL).returncode == 0:
        return "unshare"
    raise LabError(
        "making the lab's root file system without being root needs user namespaces:\n"
        "    the package uidmap; a line for you in /etc/subuid and in /etc/subgid;\n"
        "    and `sysctl kernel.unprivileged_userns_clone=1` where that is 0.\n"
        "Or run lab/build once as root, with PENSTOCK_LAB_CACHE set to where you can read it.")


def _debootstrap(tar):
    step(f"root: Debian {SUITE} by mmdebstrap: some 130 MB of packages")
    mmdebstrap(tar, packages(SOURCES), SOURCES / "customize", *with_backports(NEWER))


def with_backports(packages):
    """Options for mmdebstrap with which these packages (as apt names them for a pin) are the newest."""
    mirror = os.environ.get("PENSTOCK_LAB_MIRROR") or "http://deb.debian.org/debian"
    files = {"sources.list.d/backports.list": f"deb [signed-by={KEYRING}] {mirror} {BACKPORTS} main",
             "preferences.d/backports": f"Package: {packages}\nPin: release n={BACKPORTS}\nPin-Priority: 900"}
    return [f'--setup-hook=printf "%b\\n" {shlex.quote(text)} > "$1/etc/apt/{name}"'
            for name, text in files.items()]


def packages(directory):
    lines = (directory / "packages").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def mmdebstrap(tar, included, customize, *options):
    """A Debian root with these packages, changed by a program that gets its directory, as a tar."""
    mode = _mode()
    command = ["mmdebstrap", f"--mode={mode}", "--variant=essential", "--format=tar",
               "--include=" + ",".join(included), f"--dpkgopt={SOURCES}/dpkg.cfg",
               '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Retries "3"',
               f"--customize-hook={customize}", *options, SUITE, str(tar)]
    mirror = os.environ.get("PENSTOCK_LAB_MIRROR")
    if mirror:
        command.append(mirror)
    if mode == "root":
        command = [*_private_mounts(), *command]
    log = _run_showing_stages(command)
    if log:
        raise LabError("mmdebstrap failed; its last lines:\n" + "".join(log[-20:]))


def _private_mounts():
    """mmdebstrap puts /proc, /sys and /dev/shm of this machine into the root that it makes. Where
    it is killed they must vanish with it: whoever then removes its directory would empty them."""
    prefix = ["unshare", "--mount", "--propagation", "private"]
    possible = subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode == 0
    return prefix if possible else []


def _run_showing_stages(command):
    """Runs mmdebstrap; shows its stages. Returns its output if it failed."""
    log = []
    # What is in /tmp may be in memory, which has no room for it.
    environment = {"TMPDIR": "/var/tmp", **os.environ}
    # A session of its own: mmdebstrap, when it is told to end, tells its whole process group.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
                          start_new_session=True, preexec_fn=dying_with_parent(signal.SIGTERM)) as process:
        try:
            for line in process.stdout:
                log.append(line)
                if line.startswith("I: ") and line.rstrip().endswith("..."):
                    step("mmdebstrap: " + line[3:].rstrip(".\n"))
        except BaseException:
            process.terminate()
            raise
    return log if process.returncode else None


def _extract_pieces(tar, tree):
    with tarfile.open(tar) as archive:
        for member in archive:
            member.name = member.name.removeprefix("./")
            if member.name.startswith(PIECES) and (member.isfile() or member.issym()):
                member.mode |= 0o644
                archive.extract(member, tree)

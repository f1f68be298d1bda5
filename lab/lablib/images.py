"""What the lab boots: the host's root and initramfs, the guest's kernel and initramfs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from lablib import cache, image, initrd, kernel
from lablib.report import step

LAB = Path(__file__).resolve().parent.parent
CHECKOUT = LAB.parent
GUEST_TESTS = CHECKOUT / "tests" / "lab" / "guest"

# What the emulated host can boot. Guests have Debian's own kernel always.
KERNELS = ("debian", "newest")

# Found by the host's initramfs before there is a root to load modules from.
HOST_MODULES = ("virtio_blk", "squashfs", "overlay", "9pnet_virtio", "9p")

# The drivers of what tests pass through, and of virtio. evdev and hid_generic have no alias that
# a PCI device leads to; uio_pci_generic binds to what has no driver, for tests.
GUEST_MODULES = ("nvme", "e1000e", "e1000", "igb", "igbvf", "xhci_pci", "usb_storage", "sd_mod",
                 "usbhid", "hid_generic", "evdev", "button", "uio_pci_generic", "virtio_blk", "virtio_net",
                 "virtiofs", "vmw_vsock_virtio_transport", "pvpanic_mmio")

# See tests/lab/guest/main.c
GUEST_PROGRAMS = ("bulk", "disk", "display", "edu", "edu-early", "edu-isolation", "edu-peer", "hypervisor", "keyboard",
                  "large-bar", "pci-abuse", "reads", "testdev", "touch-memory", "tpm")

LSPCI_LIBRARIES = ("ld-linux-x86-64.so.2", "libc.so.6", "libcap.so.2", "libcrypto.so.3",
                   "libkmod.so.2", "libpci.so.3", "libudev.so.1", "libz.so.1", "libzstd.so.1")
PCI_VENDORS = ("1af4 ", "1b36 ", "8086 ", "C ")


class Images(NamedTuple):
    root: Path          # root.squashfs, and tree/ with the pieces for initramfs images
    host: Path          # vmlinuz and initrd of the emulated host
    guest: Path         # vmlinuz and initrd of guests, programs


def has_kernel(name):
    """Whether it takes no more than seconds to have this kernel."""
    return name == "debian" or cache.has("kernel", _kernel_key())


def _kernel_key():
    return cache.digest(*kernel.inputs())


def ensure(kernel_name="debian"):
    """All images, built where they are missing or out of date."""
    root_key = cache.digest(*image.inputs())
    root = cache.get("root", root_key, image.make)
    own, own_key = root, root_key
    if kernel_name == "newest":
        own_key = _kernel_key()
        own = cache.get("kernel", own_key, kernel.make)
    host_key = cache.digest(root_key, own_key, LAB / "host", *_packers())
    host = cache.get("host", host_key, lambda directory: _make_host(root, own, directory))
    guest_key = cache.digest(root_key, LAB / "guest", GUEST_TESTS, *_packers())
    guest = cache.get("guest", guest_key, lambda directory: _make_guest(root, directory))
    return Images(root, host, guest)


def _packers():
    return Path(__file__), Path(initrd.__file__)


def _copy_kernel(tree, directory):
    found, = (tree / "boot").glob("vmlinuz-*")
    shutil.copyfile(found, directory / "vmlinuz")


def _make_host(root, own, directory):
    """`own` is what the host's kernel is taken from: the root, or a kernel of its own."""
    step("host: packing the initramfs")
    tree = root / "tree"
    modules = initrd.Modules(own / "tree")
    archive = initrd.Archive()
    archive.console()
    archive.directory("dev", "proc", "sys", "root", "lower", "upper")
    _add_busybox(archive, tree)
    archive.copy("init", LAB / "host/initramfs-init", 0o755)
    for name in ("init", "monitor"):
        archive.copy(f"lab/{name}", LAB / "host" / name, 0o755)
    archive.file("lab/keep-kvm", _compiled(directory, [LAB / "host/keep-kvm.c"]), 0o755)
    order = modules.ordered(HOST_MODULES)
    for path in order:
        archive.copy("modules/" + os.path.basename(path), modules.directory / path)
    archive.file("modules/order", "".join(f"{os.path.basename(path)}\n" for path in order))
    if own != root:
        archive.tree(f"modules/{modules.version}", modules.directory)
    (directory / "initrd").write_bytes(archive.bytes())
    _copy_kernel(own / "tree", directory)


def _make_guest(root, directory):
    step("guest: packing the initramfs")
    tree = root / "tree"
    archive = initrd.Archive()
    archive.console()
    archive.directory("dev", "proc", "sys", "tmp", "mnt")
    _add_busybox(archive, tree)
    archive.copy("init", LAB / "guest/init", 0o755)
    archive.copy("bin/argument", LAB / "guest/argument", 0o755)
    _add_modules(archive, initrd.Modules(tree))
    _add_lspci(archive, tree)
    _add_tests(archive, directory)
    (directory / "initrd").write_bytes(_compressed(archive.bytes()))
    _copy_kernel(tree, directory)


def _add_busybox(archive, tree):
    busybox = tree / "usr/bin/busybox"
    archive.copy("bin/busybox", busybox, 0o755)
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for name in applets.stdout.split():
        if name != "busybox":
            archive.link(f"bin/{name}", "busybox")


def _add_modules(archive, modules):
    paths = modules.ordered(GUEST_MODULES)
    base = f"lib/modules/{modules.version}/"
    for path in paths:
        archive.copy(base + path, modules.directory / path)
    archive.file(base + "modules.dep", modules.dependencies(paths))
    archive.file(base + "modules.alias", modules.aliases(paths))


def _add_lspci(archive, tree):
    """lspci as Debian has it, with the libraries that it is linked against."""
    archive.copy("bin/lspci", tree / "usr/bin/lspci", 0o755)
    for name in LSPCI_LIBRARIES:
        archive.copy(f"lib/{name}", (tree / "usr/lib/x86_64-linux-gnu" / name).resolve(), 0o755)
    archive.link("lib64", "lib")
    archive.file("usr/share/misc/pci.ids", _pci_ids(tree / "usr/share/misc/pci.ids"))


def _pci_ids(path):
    """The names of the lab's vendors and of the classes, out of the long list."""
    kept, keep = [], False
    for line in path.read_text().splitlines(keepends=True):
        if line[0] not in "#\n\t":
            keep = line.startswith(PCI_VENDORS)
        if keep:
            kept.append(line)
    return "".join(kept)


def _add_tests(archive, directory):
    """Scripts as they are; the C programs as one static program that looks at its name."""
    program = _compiled(directory, sorted(GUEST_TESTS.glob("*.c")))
    archive.file("tests/programs", program, 0o755)
    # For the host, too: what it and its guests do the same way can be compared.
    (directory / "programs").write_bytes(program)
    (directory / "programs").chmod(0o755)
    for name in GUEST_PROGRAMS:
        archive.link(f"tests/{name}", "programs")
    for path in sorted(GUEST_TESTS.iterdir()):
        if not path.suffix:
            archive.copy(f"tests/{path.name}", path, 0o755)


def _compiled(directory, sources):
    """A static program: the root file system's C library need not be that of this machine."""
    program = directory / "program"
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static",
                    "-s", "-o", program, *sources], check=True)
    data = program.read_bytes()
    program.unlink()
    return data


def _compressed(data):
    """An emulated machine in an emulated machine: copying costs more than decompressing."""
    return subprocess.run(["zstd", "-12", "--quiet", "--stdout"], input=data, check=True,
                          stdout=subprocess.PIPE).stdout

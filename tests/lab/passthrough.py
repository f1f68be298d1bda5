"""Each kind of device works in a guest by its stock driver, and is whole afterwards."""

import contextlib
import ctypes
import hashlib
import mmap
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import harness
from harness import (E1000E, EDU, IVSHMEM, NVME_A, NVME_B, PAIR_NIC, PAIR_NVME, TESTDEV, XHCI, Machine,
                     Penstock, UsersPenstock, check, run_guest, test, verify_stamp)


@test()
def small_guest():
    """256 MiB, one CPU, one disk; and typing at the console."""
    with Machine("console,mem,cpus,nvme", cmdline="stamp=small cpus.count=1 mem.size=256",
                 memory="256M", cpus=1, devices=[NVME_A]) as machine:
        machine.expect("CONSOLE-READY")
        machine.type("hello\n")
        machine.succeed("console", "mem", "cpus", "nvme")
    check("CONSOLE-GOT hello" in machine.output, f"typed input got lost; {machine.last_words()}")
    verify_stamp(NVME_A, "small")


@test()
def two_disks_two_cpus():
    run_guest("nvme,cpus,mem", cmdline="stamp=two nvme.count=2 cpus.count=2 mem.size=512",
              memory="512M", cpus=2, devices=[NVME_A, NVME_B])
    verify_stamp(NVME_A, "two")
    verify_stamp(NVME_B, "two")


@test()
def big_guest():
    """More than 4 GiB, four CPUs: DMA above the 32-bit hole, MSI to each CPU."""
    output = run_guest("cpus,edu,nvme,mem", cmdline="stamp=big cpus.count=4 mem.size=4608",
                       memory="4608M", cpus=4, devices=[NVME_A, EDU])
    address = int(output.split("DMA pages from address ")[1].split()[0], 16)
    check(address >= 4 << 30, f"edu's DMA was at {address:#x}, below 4 GiB")
    verify_stamp(NVME_A, "big")


@test()
def hugepages():
    pool = Path("/proc/sys/vm/nr_hugepages")
    pool.write_text("256")
    try:
        # the device by another of its names, which is gone once it is bound for a user
        name = NVME_A if harness.vmm is UsersPenstock else harness.block_device(NVME_A)
        with Machine("wait", memory="256M", devices=[name], more=["--hugepages"]) as machine:
            machine.expect("WAITING")
            free = int(Path("/proc/meminfo").read_text().split("HugePages_Free:")[1].split()[0])
            check(free <= 128, f"{free} of 256 huge pages are free while 256 MiB run on them")
            machine.process.terminate()
            machine.wait()
    finally:
        pool.write_text("0")


@contextlib.contextmanager
def bulk_peer(limit=8 << 20, address="10.99.0.1", server=None):
    """The other end of a bulk transfer: takes what comes, sends as much, and verifies what came. Over TCP, or by a
    socket that listens."""
    seen, data = [], harness.sectors("bulk", 0, limit // harness.SECTOR)
    done = threading.Event()

    def serve():
        while not done.is_set():
            with contextlib.suppress(OSError):      # nobody has come in time, or who came has gone
                link, _ = server.accept()
                with link:
                    link.settimeout(None)
                    came = b"".join(iter(lambda: link.recv(1 << 20), b""))
                    good = data[:len(came)]
                    link.sendall(good)
                    seen.append(bool(came) and came == good)

    with server or socket.create_server((address, 7777)) as server:
        server.settimeout(0.5)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield seen
        done.set()
        thread.join()


@test()
def nic_and_test_devices():
    """e1000e, and the two devices that have no driver: edu and pci-testdev."""
    with bulk_peer() as seen:
        run_guest("net,edu,testdev", cpus=2, devices=[E1000E, EDU, TESTDEV])
    check(seen == [True], "the host did not receive what the guest sent")


@test()
def usb_controller():
    """The USB disk is read and written, and keys that are pressed outside arrive."""
    with Machine("usb", devices=[XHCI]) as machine:
        machine.expect("KEYBOARD-READY")
        for key in "penstock":
            subprocess.run(["/lab/monitor", "sendkey", key], check=True)
            time.sleep(0.3)
        machine.succeed("usb")


@test()
def pair_in_one_group():
    with bulk_peer() as seen:
        run_guest("multi", cmdline="stamp=pair", devices=[PAIR_NVME, PAIR_NIC])
    check(seen == [True], "the host did not receive what the guest sent")
    verify_stamp(PAIR_NVME, "pair")


@test()
def config_space_and_bars_abused():
    abuse = "mild" if harness.vmm is harness.Qemu else "hard"
    output = run_guest("pciinfo", cmdline=f"stamp=abused abuse={abuse}", devices=[NVME_A])
    check("Non-Volatile memory controller" in output, "lspci in the guest does not list the disk")
    verify_stamp(NVME_A, "abused")


@test(only=Penstock)
def a_guest_sees_option_roms():
    """One network card's own, as the emulator has it, and for the other's a file."""
    own, other = (Path("/usr/share/qemu", f"efi-{name}.rom").read_bytes() for name in ("e1000e", "e1000"))
    other = bytearray(other)
    other[64 << 10] ^= 1
    with tempfile.NamedTemporaryFile() as file:
        file.write(other)
        file.flush()
        output = run_guest("rom", devices=[E1000E, PAIR_NVME, f"{PAIR_NIC},rom={file.name}"])
    for ids, rom in (("0x8086 0x10d3", own), ("0x8086 0x100e", other)):
        found = re.search(f"rom: {ids} ([0-9]+) ([0-9a-f]+)", output)
        check(found, f"the guest does not find the ROM of {ids}: {output}")
        seen = bytes(rom).ljust(int(found[1]), b"\xff")[:int(found[1])]
        check(len(seen) > 64 << 10 and hashlib.sha256(seen).hexdigest() == found[2],
              f"the ROM of {ids} is another: {found[0]}")


# --- isolation ------------------------------------------------------------------------------------

SECRET = b"penstock-lab secret "


def locked_page():
    """A page of ours that stays where it is, and its physical address."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write((SECRET * 256)[:mmap.PAGESIZE])
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.mlock(ctypes.c_void_p(address), mmap.PAGESIZE) == 0, "mlock failed")
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // mmap.PAGESIZE * 8)
        entry = int.from_bytes(pagemap.read(8), "little")
    return page, (entry & ((1 << 55) - 1)) * mmap.PAGESIZE


def memory_bar(bdf):
    return int((harness.device(bdf) / "resource").read_text().split()[0], 16)


@test(faults=True)
def dma_outside_of_guest_memory():
    """DMA to the host's memory and to another device's BAR changes and tells nothing."""
    page, physical = locked_page()
    bar = memory_bar(NVME_B)
    check(physical >= 512 << 20, f"the host's page at {physical:#x} could be the guest's own")
    faults = kernel_faults()
    run_guest("edu-isolation", cmdline=f"target={physical:#x},{bar:#x}", devices=[EDU])
    check(page[:] == (SECRET * 256)[:mmap.PAGESIZE], "the guest's DMA changed the host's memory")
    verify_first_sectors(NVME_B)
    new = kernel_faults()[len(faults):]
    for address in (physical, bar):
        check(any(f"{address:#x}" in line for line in new),
              f"the host's IOMMU driver logged no fault at {address:#x}; new faults: {new}")


@test(faults=True)
def dma_to_another_device():
    """DMA to and from the BAR of another passed device, as long as the guest has it decoded."""
    faults = kernel_faults()
    output = run_guest("edu-peer", devices=[EDU, IVSHMEM])
    bar = int(output.split("KiB at ")[1].split()[0], 16)
    new = kernel_faults()[len(faults):]
    check(any(f"{bar:#x}" in line for line in new),
          f"the host's IOMMU driver logged no fault at {bar:#x}; new faults: {new}")


def kernel_faults():
    return [line for line in harness.kernel_log()
            if "DMAR:" in line and "fault addr" in line]


def verify_first_sectors(bdf):
    """Past the page cache: the controller still answers."""
    path = harness.block_device(bdf)
    data = subprocess.run(["dd", f"if={path}", "bs=4096", "count=16", "iflag=direct", "status=none"],
                          capture_output=True, check=True).stdout
    check(data == harness.sectors(harness.DISK_NAMES[bdf], 0, len(data) // harness.SECTOR),
          f"{path} does not read as it should")

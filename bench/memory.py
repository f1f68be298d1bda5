# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of a VMM's processes beside the guest's RAM: the distinct physical pages that they map."""

from array import array
from pathlib import Path

PAGE = 4096
# An entry of /proc/PID/pagemap.
PRESENT, OF_FILE, FRAME = 1 << 63, 1 << 61, (1 << 55) - 1
# A device's registers and the kernel's own pages are nobody's memory.
NOT_MEMORY = ("vfio", "[vvar", "[vdso]", "[vsyscall]")


def entries(pid):
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, access, _, _, _, *name = line.split()
            if any(word in " ".join(name) for word in NOT_MEMORY):
                continue
            shared_file = access.endswith("s") and name[-1:] == ["(deleted)"]
            start, end = (int(bound, 16) // PAGE for bound in bounds.split("-"))
            pagemap.seek(start * 8)
            for entry in array("Q", pagemap.read((end - start) * 8)):
                yield entry, shared_file


def beside_guest(pids, guest_kib):
    """KiB of anonymous and of file-backed memory.

    A page counts once, however many of the processes share it. The device has all of the guest's RAM pinned,
    so that is there as a whole: in a file without a name, or else anonymous.
    """
    frames, ram = {}, set()
    for pid in pids:
        for entry, shared_file in entries(pid):
            if entry & PRESENT:
                frames[entry & FRAME] = entry & OF_FILE
                if shared_file:
                    ram.add(entry & FRAME)
    if len(ram) * PAGE // 1024 >= guest_kib:
        frames = {frame: flag for frame, flag in frames.items() if frame not in ram}
        guest_kib = 0
    of_file = sum(1 for flag in frames.values() if flag) * PAGE // 1024
    return {"anonymous": len(frames) * PAGE // 1024 - of_file - guest_kib, "file": of_file}

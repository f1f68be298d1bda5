# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of a VMM's processes beside the guest's RAM: the distinct physical pages that they map, and what the
kernel has for them: page tables of theirs and of the guest's, stacks of threads, its own records."""

import contextlib
from array import array
from pathlib import Path

PAGE = 4096
GROUPS = Path("/sys/fs/cgroup")
# An entry of /proc/PID/pagemap.
PRESENT, OF_FILE, FRAME = 1 << 63, 1 << 61, (1 << 55) - 1
# A device's registers and the kernel's own pages are nobody's memory.
NOT_MEMORY = ("vfio", "[vvar", "[vdso]", "[vsyscall]")


class Group:
    """A control group, in which the kernel counts what it has for a VMM."""

    def __init__(self):
        self._path = GROUPS / "measured"
        self.before = ["sh", "-c", f'echo $$ >{self._path}/cgroup.procs && exec "$@"', "sh"]

    def __enter__(self):
        (GROUPS / "cgroup.subtree_control").write_text("+memory")
        self._path.mkdir()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):      # a process that has not ended is told of elsewhere
            self._path.rmdir()

    def kib(self):
        """Of the kernel's memory, page tables in it."""
        fields = dict(line.split() for line in (self._path / "memory.stat").read_text().splitlines())
        tables = int(fields["pagetables"]) + int(fields.get("sec_pagetables", 0))
        return {"page tables": tables // 1024, "kernel": (int(fields["kernel"]) - tables) // 1024}


def entries(pid):
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, access, _, _, _, *name = line.split()
            if any(word in " ".join(name) for word in NOT_MEMORY):
                continue
            is_ram = access.endswith("s") and name[-1:] == ["(deleted)"]
            start, end = (int(bound, 16) // PAGE for bound in bounds.split("-"))
            pagemap.seek(start * 8)
            for entry in array("Q", pagemap.read((end - start) * 8)):
                yield entry, is_ram


def beside_guest(pids, guest_kib):
    """KiB of anonymous and of file-backed memory.

    A page counts once, however many of the processes share it. The guest's RAM is in a file without a name,
    or else anonymous; then the device has all of it pinned, so it is there as a whole.
    """
    frames, ram = {}, set()
    for pid in pids:
        for entry, is_ram in entries(pid):
            if entry & PRESENT and is_ram:
                ram.add(entry & FRAME)
            elif entry & PRESENT:
                frames[entry & FRAME] = entry & OF_FILE
    of_file = sum(1 for frame, flag in frames.items() if flag and frame not in ram) * PAGE // 1024
    anonymous = sum(1 for flag in frames.values() if not flag) * PAGE // 1024
    return {"anonymous": anonymous - (0 if ram else guest_kib), "file": of_file}

"""Initramfs images, written directly as cpio archives: no root, no device nodes on disk."""

import os
import stat
from pathlib import Path


class Archive:
    """A cpio archive of the `newc` kind, in memory."""

    def __init__(self):
        self._parts = []
        self._made = set()

    def add(self, name, mode, data=b"", device=(0, 0)):
        """Any entry; its parent directories come before it, as the kernel wants them."""
        name = name.strip("/")
        if name in self._made:
            return
        parent = os.path.dirname(name)
        if parent:
            self.add(parent, stat.S_IFDIR | 0o755)
        self._made.add(name)
        self._entry(name, mode, data, device)

    def _entry(self, name, mode, data, device):
        # inode, mode, uid, gid, nlink, mtime, size, dev, rdev, length of the name, checksum
        fields = (len(self._made), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._parts.append(_padded(head + name.encode() + b"\0") + _padded(data))

    def directory(self, *names):
        for name in names:
            self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.add(name, stat.S_IFREG | mode, data if isinstance(data, bytes) else data.encode())

    def copy(self, name, path, mode=None):
        path = Path(path)
        self.file(name, path.read_bytes(), mode or (0o755 if os.access(path, os.X_OK) else 0o644))

    def tree(self, name, directory):
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self.copy(f"{name}/{path.relative_to(directory)}", path)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def console(self):
        """init's standard streams: the kernel opens this node before anything is mounted."""
        self.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def bytes(self):
        self._entry("TRAILER!!!", 0, b"", (0, 0))
        return b"".join(self._parts)


def _padded(data):
    return data + b"\0" * (-len(data) % 4)


def _module(path):
    return Path(path).stem.replace("-", "_")


class Modules:
    """The kernel modules of an unpacked tree, with what they depend on."""

    def __init__(self, tree):
        self.directory, = (tree / "usr/lib/modules").iterdir()
        self.version = self.directory.name
        self._needs = {}
        for line in (self.directory / "modules.dep").read_text().splitlines():
            path, needs = line.split(":")
            self._needs[path] = needs.split()
        builtin = (self.directory / "modules.builtin").read_text().splitlines()
        self._builtin = {_module(path) for path in builtin}

    def ordered(self, names):
        """Paths of the modules and their dependencies, each after what it depends on."""
        by_name = {_module(path): path for path in self._needs}
        order = []
        for name in names:
            if name in self._builtin:
                continue
            if name not in by_name:
                raise KeyError(f"the lab's kernel {self.version} has no module {name}")
            path = by_name[name]
            # modules.dep lists the deepest dependency last
            order += reversed([path] + self._needs[path])
        return list(dict.fromkeys(order))

    def dependencies(self, paths):
        return "".join(f"{path}: {' '.join(self._needs[path])}\n" for path in paths)

    def aliases(self, paths):
        names = {_module(path) for path in paths}
        lines = (self.directory / "modules.alias").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if line.split()[-1] in names)

"""The cache: each thing built is a directory named after a hash of what it is made from.

A build happens in a temporary directory that is renamed when it is complete, so a directory with
the right name is always whole, and checkouts with different inputs share one cache in peace. Two
builds of one kind wait for each other; nothing else waits for the kernel, which takes minutes.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from lablib.report import say, step

KINDS = ("root", "kernel", "host", "guest", "early", "installed", "desktop", "cloud")
UNUSED_DAYS = 3


def location():
    explicit = os.environ.get("PENSTOCK_LAB_CACHE")
    if explicit:
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "penstock-lab"


def digest(*inputs):
    """A hash of strings, files and whole directories."""
    total = hashlib.sha256()
    for item in inputs:
        if not isinstance(item, Path):
            total.update(b"text\0" + str(item).encode())
            continue
        for path in sorted(item.rglob("*")) if item.is_dir() else [item]:
            if path.is_file() and "__pycache__" not in path.parts:
                mode = path.stat().st_mode & 0o111
                total.update(f"file\0{path.name}\0{mode}\0".encode() + path.read_bytes())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def _locked(root, kind):
    with open(root / f"{kind}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{kind}: waiting for another build to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tidy(root, kind):
    """Called under the lock: what is half built has no builder any more."""
    for path in root.glob(f"building-{kind}-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{kind}-*"):
        if path.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)


def clear():
    root = location()
    root.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        with _locked(root, kind):
            for path in root.glob(f"{kind}-*"):
                shutil.rmtree(path, ignore_errors=True)


def has(kind, key):
    return (location() / f"{kind}-{key}").exists()


def get(kind, key, make):
    """The directory of `kind` for `key`, built by make(directory) unless it is there."""
    root = location()
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{kind}-{key}"
    if not path.exists():
        with _locked(root, kind):
            if not path.exists():
                _build(root, path, kind, make)
    os.utime(path)
    return path


def _build(root, path, kind, make):
    _tidy(root, kind)
    directory = Path(tempfile.mkdtemp(prefix=f"building-{kind}-", dir=root))
    directory.chmod(0o755)
    began = time.monotonic()
    try:
        make(directory)
        os.rename(directory, path)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    step(f"{kind}: built in {time.monotonic() - began:.1f} s")

"""The cache: each thing built is a directory named after a hash of what it is made from.

A build happens in a temporary directory that is renamed when it is complete, so a directory with
the right name is always whole, and checkouts with different inputs share one cache in peace.
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

KINDS = ("root", "host", "guest")
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
def _locked(root):
    with open(root / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tidy(root):
    """Called under the lock: what is half built has no builder any more."""
    for path in root.glob("half-built-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in _built(root):
        if path.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)


def _built(root):
    return [path for kind in KINDS for path in root.glob(f"{kind}-*")]


def clear():
    root = location()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        for path in _built(root):
            shutil.rmtree(path, ignore_errors=True)


def get(kind, key, make):
    """The directory of `kind` for `key`, built by make(directory) unless it is there."""
    root = location()
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{kind}-{key}"
    if not path.exists():
        with _locked(root):
            if not path.exists():
                _build(root, path, kind, make)
    os.utime(path)
    return path


def _build(root, path, kind, make):
    _tidy(root)
    directory = Path(tempfile.mkdtemp(prefix="half-built-", dir=root))
    directory.chmod(0o755)
    began = time.monotonic()
    try:
        make(directory)
        os.rename(directory, path)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    step(f"{kind}: built in {time.monotonic() - began:.1f} s")

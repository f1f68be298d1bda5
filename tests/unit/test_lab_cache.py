#!/usr/bin/env python3
"""What the lab's cache hands out is whole, made once, and what takes minutes holds up nothing else."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
LAB = Path(__file__).resolve().parents[2] / "lab"
sys.path.append(str(LAB))

from lablib import cache            # noqa: E402

# Makes "kernel-key": tells that it has begun, and ends when it may.
SLOW = """
import sys, time
from pathlib import Path
from lablib import cache

def make(directory):
    (directory / "begun").touch()
    with open(Path("{root}", "makers"), "a") as makers:
        makers.write("one\\n")
    while not Path("{root}", "go").exists():
        time.sleep(0.01)

print(cache.get("kernel", "key", make))
"""


class Cache(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        before = dict(os.environ)
        self.addCleanup(os.environ.update, before)
        os.environ["PENSTOCK_LAB_CACHE"] = directory.name

    def slow(self):
        process = subprocess.Popen([sys.executable, "-c", SLOW.format(root=self.root)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "PYTHONPATH": str(LAB)})
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def begun(self):
        deadline = time.monotonic() + 20
        while not list(self.root.glob("building-*/begun")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_two_builds_at_once_are_one(self):
        first = self.slow()
        self.begun()
        second = self.slow()
        self.assertIn("waiting", second.stderr.readline())
        (self.root / "go").touch()
        self.assertEqual(first.communicate()[0], second.communicate()[0])
        self.assertEqual((self.root / "makers").read_text(), "one\n")

    def test_another_kind_does_not_wait(self):
        slow = self.slow()
        self.begun()
        self.assertTrue(cache.get("guest", "key", lambda directory: None).is_dir())
        self.assertIsNone(slow.poll())
        self.assertFalse(cache.has("kernel", "key"))
        (self.root / "go").touch()
        slow.communicate()
        self.assertTrue(cache.has("kernel", "key"))

    def test_what_fails_or_is_killed_leaves_nothing(self):
        with self.assertRaises(ZeroDivisionError):
            cache.get("kernel", "key", lambda directory: 1 // 0)
        self.assertFalse(list(self.root.glob("*kernel-*")))
        killed = self.slow()
        self.begun()
        killed.kill()
        killed.communicate()
        self.assertFalse(cache.has("kernel", "key"))
        made = cache.get("kernel", "key", lambda directory: (directory / "whole").touch())
        self.assertEqual([path.name for path in made.iterdir()], ["whole"])
        self.assertEqual(list(self.root.glob("*kernel-*")), [made])

    def test_what_nobody_uses_goes(self):
        old, used, new = (self.root / f"kernel-{name}" for name in ("old", "used", "new"))
        for path in (old, used):
            path.mkdir()
            os.utime(path, (0, 0))
        cache.get("kernel", "used", None)
        cache.get("kernel", "new", lambda directory: None)
        self.assertEqual({path for path in (old, used, new) if path.exists()}, {used, new})
        cache.clear()
        self.assertFalse(list(self.root.glob("kernel-*")))


if __name__ == "__main__":
    sys.exit(unittest.main())

#!/usr/bin/env python3
"""What debian/ says is what the sources need and tell: test_package.py. That the package can be built, installed
and purged is seen by tests/package/run."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def field(name):
    """The packages that a field of debian/control has, without versions."""
    text = re.search(rf"^{name}:(.*(?:\n .*)*)", (ROOT / "debian/control").read_text(), re.M)[1]
    return {re.sub(r"[ (].*", "", word.strip()) for word in re.split(r"[,|]", text) if word.strip()}


class Package(unittest.TestCase):
    def test_it_names_each_package_that_the_sources_ask_for(self):
        named, known = set(), field("Depends") | field("Recommends") | field("Suggests")
        for path in (ROOT / "src").glob("**/*.c"):
            text = path.read_text()
            for packages in re.findall(r'broker_backend_find\([^;]*"([a-z0-9 -]+)",\s*err\)', text):
                named |= set(packages.split())
            named |= set(re.findall(r"apt install (?:--\w+ )*([a-z0-9-]+)", text))
        self.assertGreaterEqual(named, {"ovmf", "passt", "qemu-utils", "seabios", "swtpm", "virtiofsd"})
        self.assertFalse(named - known, "name them in debian/control: Recommends or Suggests")

    def test_it_is_built_with_what_scripts_packages_has(self):
        listed = re.search(r"^build: (.*)", (ROOT / "scripts/packages").read_text(), re.M)[1].split()
        tools = {"gcc", "libc6-dev", "ninja-build"}      # which build-essential and meson bring
        self.assertEqual(field("Build-Depends") - {"debhelper-compat"}, set(listed) - tools)

    def test_its_version_is_that_of_the_sources(self):
        version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
        self.assertRegex((ROOT / "debian/changelog").read_text(), rf"^penstock \({re.escape(version)}\) ")


if __name__ == "__main__":
    unittest.main()

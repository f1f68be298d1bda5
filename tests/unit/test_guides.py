#!/usr/bin/env python3
"""What docs/ tells users to type is there: test_guides.py PENSTOCK UNPACK

Each command line of Penstock's in docs/*.md and README.md is read: its options exist, and those of run are
taken by config. A guide that begins with "<!-- host: NAME -->" has the addresses of a recorded host; what reports or has a
dry run is run on it, but for resets, which want the device free."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PENSTOCK, UNPACK = sys.argv.pop(1), sys.argv.pop(1)
ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# These name what guides are to have; the others tell of how Penstock is made.
GUIDES = {"first-guest", "graphics-card", "virtual-function", "disks", "networks", "vdpa", "without-root",
          "windows", "troubleshooting"}
REPORTS = {"ls", "doctor"}
DRY_RUN = {"bind", "release"}


def penstock(*words, root=None):
    environment = {**os.environ, **({"PENSTOCK_ROOT": root} if root else {})}
    done = subprocess.run([PENSTOCK, *words], capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stdout + done.stderr


def commands(text):
    """The words of each line of Penstock's in an indented block; a \\ at the end joins lines."""
    for line in re.sub(r" \\\n +", " ", text).splitlines():
        if found := re.match(r"(?:    |      )(?:# |\$ )?penstock (.*)", line):
            if not re.search(r"\[|\.\.\.| {3,}\S|\b[A-Z]{4,}\b(?!=)", found[1]):      # as a synopsis has them
                yield shlex.split(found[1], comments=True)


def spoken(text):
    """Options named within the text, in backquotes."""
    return re.findall(r"`(--[a-z-]+)", text)


class Guides(unittest.TestCase):
    def setUp(self):
        self.helps = {}

    def help(self, command):
        if command not in self.helps:
            code, text = penstock(command, "--help")
            self.assertEqual(code, 0, command)
            self.helps[command] = set(re.findall(r"--[a-z-]+", text))
        return self.helps[command]

    def on_host(self, words, root):
        command = words[0]
        words = ["daemon" if word == "alice" else word for word in words]
        if command in DRY_RUN or words[:2] in (["vf", "create"], ["vf", "destroy"], ["vf", "set"]) or \
                {"--write", "--undo"} & set(words):
            words = [*words, "--dry-run"]
        elif command not in REPORTS | {"boot-config"}:
            return
        code, text = penstock(*words, root=root)
        self.assertIn(code, (0, 1) if command == "doctor" else (0,), f"{words}: {text}")

    def check_command(self, words, root):
        command, rest = words[0], words[1:]
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        self.assertLessEqual(options - {"--help"}, self.help("run" if command == "new" else command), words)
        if command in ("run", "new"):
            rest = rest if command == "run" else rest[1:]
            if rest and not rest[0].endswith(".yaml") and rest != ["--help"]:
                code, text = penstock("config", "--from-args", *rest)
                self.assertEqual(code, 0, f"{words}: {text}")
        elif root:
            self.on_host(words, root)

    def test_each_command_can_be_typed(self):
        count = 0
        for page in PAGES:
            text = page.read_text()
            found = re.match(r"<!-- host: (\S+) -->", text)
            root = found and subprocess.run([UNPACK, found[1]], check=True, capture_output=True,
                                            text=True).stdout.strip()
            try:
                for words in commands(text):
                    with self.subTest(page=page.name):
                        self.check_command(words, root)
                    count += 1
            finally:
                if root:
                    shutil.rmtree(root)
        self.assertGreater(count, 40)

    def test_there_is_a_guide_for_each_topic(self):
        for name in GUIDES:
            text = (ROOT / "docs" / f"{name}.md").read_text()
            self.assertTrue(list(commands(text)), f"{name}.md has no command")
            self.assertIn(f"docs/{name}.md", (ROOT / "README.md").read_text())

    def test_options_in_the_text_exist(self):
        code, text = penstock("--help")
        self.assertEqual(code, 0)
        known = {"--version", "--help"}
        for command in re.findall(r"^  ([a-z-]+) ", text, re.M):
            known |= self.help(command)
        for name in sorted(GUIDES):
            unknown = set(spoken((ROOT / "docs" / f"{name}.md").read_text())) - known
            self.assertFalse(unknown, f"{name}.md")

    def test_descriptions_are_right(self):
        for page in PAGES:
            for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.M | re.S):
                with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                    file.write(block)
                    file.flush()
                    self.assertEqual(penstock("config", "--check", file.name), (0, ""), page.name)

    def test_each_check_of_the_doctor_has_its_place(self):
        text = (ROOT / "docs/troubleshooting.md").read_text()
        source = (ROOT / "src/host/doctor/doctor.c").read_text()
        self.assertEqual(sorted(re.findall(r"^### (\S+)$", text, re.M)),
                         sorted(re.findall(r'^\t\{ "([a-z-]+)", "', source, re.M)))

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
                path, _, part = link.partition("#")
                if "://" in link:
                    continue
                there = page.parent / path if path else page
                self.assertTrue(there.exists(), f"{page.name}: {link}")
                if part and there.suffix == ".md":
                    heads = [re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
                             for head in re.findall(r"^#+ (.*)$", there.read_text(), re.M)]
                    self.assertIn(part, heads, f"{page.name}: {link}")


if __name__ == "__main__":
    unittest.main()

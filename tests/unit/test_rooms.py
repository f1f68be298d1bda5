#!/usr/bin/env python3
"""A file includes headers of its own room, of base, and of the rooms that its room uses; and no two files
define one name for all to use: of these the linker would take one from a library, without a word.

test_rooms.py SRC ROOM=USED,USED ...: the table of meson.build, where a room can only use those above its
line, so that no circle can be written down.
"""

import re
import sys
from pathlib import Path

SRC = Path(sys.argv[1])
USES = {room: set(uses.split(",")) for room, uses in (word.split("=") for word in sys.argv[2:])}


def room_of(path):
    """The innermost room that a path relative to src/ is in; a file beside the rooms is its own."""
    inside = [room for room in USES if path.startswith(room + "/") or path == room + ".c"]
    return max(inside, key=len, default=None)


def public_functions(text):
    """Names that a C file defines for others, each at the beginning of a line."""
    for found in re.finditer(r"^(?:([a-z][^\n=;{}()]*?[ *]))?(\w+)\([^;{}]*\)\n\{", text, re.MULTILINE):
        before = text[:found.start()].rstrip("\n").rpartition("\n")[2]
        if "static" not in (found[1] or before).split():
            yield found[2]


def check_names():
    """Functions that are defined for all in more than one file; of programs there are two. Their number."""
    defined = {}
    for file in sorted(SRC.rglob("*.c")):
        for name in public_functions(file.read_text()):
            defined.setdefault(name, []).append(file.relative_to(SRC).as_posix())
    twice = {name: files for name, files in defined.items() if len(files) > 1 and name != "main"}
    for name, files in twice.items():
        print(f"{name}() is defined by {' and '.join(files)}")
    return len(twice)


def main():
    failures = check_names()
    seen = set()
    for file in sorted(SRC.rglob("*.[ch]")):
        path = file.relative_to(SRC).as_posix()
        room = room_of(path)
        if not room:
            print(f"{path} is in no room of meson.build")
            failures += 1
            continue
        seen.add(room)
        for line, text in enumerate(file.read_text().splitlines(), 1):
            include = re.match(r'\s*#\s*include\s*"([^"]+)"', text)
            used = include and room_of(include[1])
            if include and used not in {room, "base"} | USES[room]:
                print(f"src/{path}:{line}: {room} may not use {used or 'it'}: {include[1]}")
                failures += 1
    for room in USES.keys() - seen:
        print(f"meson.build's room {room} has no files")
        failures += 1
    return failures != 0


sys.exit(main())

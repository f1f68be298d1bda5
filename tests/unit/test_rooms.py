#!/usr/bin/env python3
"""A file includes headers of its own room, of base, and of the rooms that its room uses.

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


def main():
    failures = 0
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

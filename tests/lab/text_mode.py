"""What a VGA card shows in text mode, read from a picture of its output by the font of its BIOS."""

from pathlib import Path

from harness import check, command

OUT = Path("/out")
ROWS, COLUMNS = 25, 80
GLYPH_ROWS, GLYPH_COLUMNS = 16, 8
CAPITAL_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")


def glyphs(bios):
    """The characters by their rows of pixels."""
    data = Path(bios).read_bytes()
    start = data.index(CAPITAL_A) - ord("A") * GLYPH_ROWS
    return {data[start + code * GLYPH_ROWS:start + (code + 1) * GLYPH_ROWS]: chr(code) for code in range(0x20, 0x7f)}


def take_picture(name):
    """The lines of pixels, each the bytes of red, green and blue, of a display device of the emulator's."""
    done = command(["/lab/monitor", "screendump", "screen.ppm", name], 120)
    check(done.returncode == 0, f"no picture of {name}: {done.stderr}")
    data = (OUT / "screen.ppm").read_bytes()
    width, height = map(int, data.split(maxsplit=3)[1:3])
    pixels = data[-3 * width * height:]
    return [pixels[start:start + 3 * width] for start in range(0, len(pixels), 3 * width)]


def read_text(name, bios):
    """Line by line; what is no text is blank."""
    lines, known = take_picture(name), glyphs(bios)
    if len(lines) != ROWS * GLYPH_ROWS:
        return ""
    step = len(lines[0]) // COLUMNS      # a glyph may have a ninth column

    def character(row, column):
        cell = []
        for line in lines[row * GLYPH_ROWS:(row + 1) * GLYPH_ROWS]:
            bits = (any(line[at:at + 3]) for at in range(column * step, column * step + 3 * GLYPH_COLUMNS, 3))
            cell.append(sum(bit << 7 - place for place, bit in enumerate(bits)))
        return known.get(bytes(cell), " ")

    return "\n".join("".join(character(row, column) for column in range(COLUMNS)).rstrip() for row in range(ROWS))

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A display: the registers of its card and of the i8042, as a guest uses them, what a user does meanwhile, and the
 * mode that a machine in a guest's hands tells the process which shows it.
 */
#include "fuzz.h"

#include "display/keys.h"
#include "display/picture.h"
#include "kvm/vm.h"
#include "machine/layout.h"
#include "machine/platform/bochs.h"
#include "machine/platform/i8042.h"
#include "pci/root.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#define STEPS_MAX  400
#define READS_MAX  64 /* of what both devices and the controller can hold */
#define LOOKS_MAX  8  /* at a picture, an input */
#define PIXELS_MAX (256 * KIB)
#define FULL       0x01
#define MOUSE      0x20
#define REGISTERS  2 /* the BAR */

enum { READ, KEYS, MODES, LIES, RESETS };

struct fuzz_goal fuzz_goals[] = {
	[READ] = { "bytes read from the i8042", 2, 0 },
	[KEYS] = { "keysyms that are keys", 20, 0 },
	[MODES] = { "modes set by registers", 50, 0 },
	[LIES] = { "modes of a machine that lies", 20, 0 },
	[RESETS] = { "resets", 200, 0 },
	{ 0 },
};

static bool lines[KVM_IOAPIC_PINS];

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct kvm_irq_level *level;
	va_list args;

	(void)fd;
	va_start(args, request);
	level = va_arg(args, void *);
	va_end(args);
	fuzz_check(request == KVM_IRQ_LINE && level->irq < KVM_IOAPIC_PINS);
	lines[level->irq] = level->level;
	return 0;
}

struct pc {
	struct kvm_vm vm;
	struct space mmio, pio;
	struct pci_root root;
	struct bochs card;
	struct i8042 i8042;
	struct picture picture;
	uint8_t *file;
	unsigned looks;
};

static void on_reset(void *opaque)
{
	(void)opaque;
	fuzz_goals[RESETS].count++;
}

static struct display_shared *shared(struct pc *pc)
{
	return (struct display_shared *)(pc->file + DISPLAY_MEMORY);
}

static uint8_t read_byte(struct pc *pc)
{
	if (pc->i8042.status & FULL)
		fuzz_goals[READ].count++;
	return space_read(&pc->pio, I8042_DATA, 1);
}

static void check_lines(struct pc *pc)
{
	bool full = pc->i8042.status & FULL, mouse = pc->i8042.status & MOUSE;

	fuzz_check(lines[LAYOUT_GSI_KEYBOARD] == (full && !mouse && pc->i8042.control & 1));
	fuzz_check(lines[LAYOUT_GSI_MOUSE] == (full && mouse && pc->i8042.control & 2));
	fuzz_check(full || !mouse);
}

static void check_mode(struct pc *pc)
{
	fuzz_check(!(shared(pc)->sequence & 1) && display_mode_is_sound(&shared(pc)->mode));
	if (shared(pc)->mode.width)
		fuzz_goals[MODES].count++;
}

static void on_changed(void *opaque, int left, int top, int right, int bottom)
{
	const struct picture *picture = opaque;

	fuzz_check(left >= 0 && left < right && (unsigned)right <= picture->width);
	fuzz_check(top >= 0 && top < bottom && (unsigned)bottom <= picture->height);
}

static void look(struct pc *pc)
{
	const struct picture *picture = &pc->picture;
	struct display_mode next = display_mode_look(shared(pc));
	uint32_t pixel = 0;

	if ((uint64_t)next.width * next.height > PIXELS_MAX || pc->looks++ >= LOOKS_MAX)
		return;
	picture_fit(&pc->picture);
	picture_update(&pc->picture, on_changed, &pc->picture);
	fuzz_check(display_mode_is_sound(&picture->mode));
	if (picture->mode.width)
		memcpy(&pixel,
			pc->file + picture->mode.offset +
				(picture->height - 1ULL) * picture->mode.stride +
				(picture->width - 1ULL) * sizeof(pixel),
			sizeof(pixel));
	fuzz_check(picture->pixels[(size_t)picture->width * picture->height - 1] == pixel);
	fuzz_check(!picture_update(&pc->picture, on_changed, &pc->picture));
}

static void set_register(struct pc *pc, struct fuzz_input *input)
{
	unsigned i = fuzz_byte(input) % 12;

	pc->card.pci.ops->bar_write(
		&pc->card.pci, REGISTERS, 0x500 + 2 * i, 2, fuzz_number(input, 2));
	check_mode(pc);
}

static void access_register(struct pc *pc, struct fuzz_input *input)
{
	unsigned size = 1 << fuzz_byte(input) % 4;
	uint64_t offset = fuzz_number(input, 2) % (BOCHS_REGISTERS_SIZE - size + 1);

	pc->card.pci.ops->bar_read(&pc->card.pci, REGISTERS, offset, size);
	pc->card.pci.ops->bar_write(&pc->card.pci, REGISTERS, offset, size, fuzz_number(input, 8));
	check_mode(pc);
}

/* Then nothing more comes of that machine. */
static void lie(struct pc *pc, struct fuzz_input *input)
{
	struct display_shared lie;

	fuzz_bytes(input, &lie, sizeof(lie));
	memcpy(shared(pc), &lie, sizeof(lie));
	fuzz_goals[LIES].count++;
	look(pc);
	memset(shared(pc), 0, sizeof(lie));
}

static void press(struct pc *pc, struct fuzz_input *input)
{
	uint8_t code = keys_find(fuzz_number(input, 2)), bits = fuzz_byte(input);

	if (code)
		fuzz_goals[KEYS].count++;
	else
		code = fuzz_byte(input);
	i8042_key(&pc->i8042, code & 0x7f, code & DISPLAY_KEY_EXTENDED, bits & 1);
}

static void move(struct pc *pc, struct fuzz_input *input)
{
	int32_t to[3];

	fuzz_bytes(input, to, sizeof(to));
	i8042_move(&pc->i8042, to[0], to[1], to[2], fuzz_byte(input));
}

static void step(struct pc *pc, struct fuzz_input *input)
{
	switch (fuzz_byte(input) % 10) { /* as tests/fuzz/seeds has them */
	case 0:
		read_byte(pc);
		break;
	case 1:
		space_read(&pc->pio, I8042_COMMAND, 1);
		break;
	case 2:
		space_write(&pc->pio, I8042_DATA, 1, fuzz_byte(input));
		break;
	case 3:
		space_write(&pc->pio, I8042_COMMAND, 1, fuzz_byte(input));
		break;
	case 4:
		press(pc, input);
		break;
	case 5:
		move(pc, input);
		break;
	case 6:
		set_register(pc, input);
		break;
	case 7:
		access_register(pc, input);
		break;
	case 8:
		lie(pc, input);
		break;
	default:
		look(pc);
	}
	check_lines(pc);
}

/* A mouse that is far away says so in many packets. */
static void check_end(struct pc *pc)
{
	pc->i8042.mouse.right = pc->i8042.mouse.down = pc->i8042.mouse.wheel = 0;
	for (unsigned i = 0; pc->i8042.status & FULL; i++) {
		fuzz_check(i < READS_MAX);
		read_byte(pc);
		check_lines(pc);
	}
}

void fuzz_one(struct fuzz_input *input)
{
	static const struct pci_windows windows = {
		.mem32 = { LAYOUT_MEM32_BASE, LAYOUT_MEM32_SIZE, LAYOUT_MEM32_BASE },
	};
	static struct pc pc;
	struct error err = { 0 };

	memset(&pc, 0, sizeof(pc));
	memset(lines, 0, sizeof(lines));
	space_init(&pc.mmio);
	space_init(&pc.pio);
	pc.file = mmap(NULL, DISPLAY_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	pc.i8042 = (struct i8042){ .vm = &pc.vm, .reset = on_reset };
	pc.card.vm = &pc.vm;
	pc.card.memory = pc.file;
	fuzz_check(pc.file != MAP_FAILED && picture_init(&pc.picture, pc.file) == 0);
	fuzz_check(i8042_init(&pc.i8042, &pc.pio) == 0);
	fuzz_check(pci_root_init(&pc.root, &pc.mmio, &pc.pio, 0, 0, &windows, &err) == 0);
	fuzz_check(bochs_init(&pc.card, &pc.root.bus, 8, &err) == 0);
	memset(pc.file, 0x5a, 4 * KIB);
	memset(pc.file + DISPLAY_MEMORY - 4 * KIB, 0xa5, 4 * KIB);
	for (unsigned i = 0; i < STEPS_MAX && input->size; i++)
		step(&pc, input);
	check_end(&pc);
	bochs_destroy(&pc.card);
	picture_destroy(&pc.picture);
	pci_root_destroy(&pc.root);
	space_destroy(&pc.pio);
	space_destroy(&pc.mmio);
	munmap(pc.file, DISPLAY_FILE_SIZE);
}

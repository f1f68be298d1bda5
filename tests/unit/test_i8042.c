/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "irq_lines.h"
#include "machine/layout.h"
#include "machine/platform/i8042.h"
#include "test.h"

#include <string.h>

#define FULL     0x01
#define UNLOCKED 0x10
#define MOUSE    0x20
#define NOTHING  (-1)

struct fixture {
	struct kvm_vm vm;
	struct space pio;
	struct i8042 i8042;
	unsigned resets;
};

static void on_reset(void *opaque)
{
	((struct fixture *)opaque)->resets++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	irq_lines_reset(&fixture.vm);
	space_init(&fixture.pio);
	fixture.i8042.vm = &fixture.vm;
	fixture.i8042.reset = on_reset;
	fixture.i8042.opaque = &fixture;
	*state = &fixture;
	return i8042_init(&fixture.i8042, &fixture.pio);
}

static int teardown(void **state)
{
	space_destroy(&((struct fixture *)*state)->pio);
	return 0;
}

static uint8_t status(struct fixture *fixture)
{
	return space_read(&fixture->pio, I8042_COMMAND, 1);
}

/* The next byte, of the keyboard or the controller, or of the mouse; or NOTHING. */
static int next(struct fixture *fixture, bool mouse)
{
	uint8_t now = status(fixture);

	if (!(now & FULL) || !(now & MOUSE) != !mouse)
		return NOTHING;
	return (int)space_read(&fixture->pio, I8042_DATA, 1);
}

static void command(struct fixture *fixture, uint8_t byte)
{
	space_write(&fixture->pio, I8042_COMMAND, 1, byte);
}

static void write_byte(struct fixture *fixture, uint8_t byte)
{
	space_write(&fixture->pio, I8042_DATA, 1, byte);
}

static uint8_t read_control(struct fixture *fixture)
{
	command(fixture, 0x20);
	return next(fixture, false);
}

static void write_control(struct fixture *fixture, uint8_t byte)
{
	command(fixture, 0x60);
	write_byte(fixture, byte);
}

#define expect(fixture, mouse, ...)                                             \
	do {                                                                    \
		static const uint8_t bytes_[] = { __VA_ARGS__ };                \
		for (size_t i_ = 0; i_ < sizeof(bytes_); i_++)                  \
			assert_int_equal(next((fixture), (mouse)), bytes_[i_]); \
		assert_false(status(fixture) & FULL);                           \
	} while (0)

static void to_keyboard(struct fixture *fixture, uint8_t byte)
{
	write_byte(fixture, byte);
}

static void to_mouse(struct fixture *fixture, uint8_t byte)
{
	command(fixture, 0xd4);
	write_byte(fixture, byte);
}

/* In the order of Linux's i8042.c: i8042_controller_check() to i8042_setup_kbd(). */
static void linux_finds_it(void **state)
{
	struct fixture *fixture = *state;
	unsigned rises = irq_rises[LAYOUT_GSI_MOUSE];
	uint8_t control;

	assert_int_equal(status(fixture) & (FULL | UNLOCKED), UNLOCKED);
	command(fixture, 0xaa);
	assert_int_equal(next(fixture, false), 0x55);
	control = read_control(fixture);
	assert_int_equal(read_control(fixture), control);
	assert_true(control & 0x40); /* translates */
	write_control(fixture, (control | 0x10) & ~0x01);
	/* i8042_check_aux(): what is sent round comes back as the mouse's */
	command(fixture, 0xd3);
	write_byte(fixture, 0x5a);
	expect(fixture, true, 0x5a);
	command(fixture, 0xa7);
	assert_true(read_control(fixture) & 0x20);
	command(fixture, 0xa8);
	assert_false(read_control(fixture) & 0x20);
	/* its interrupt */
	write_control(fixture, (control | 0x12) & ~0x21);
	command(fixture, 0xd3);
	write_byte(fixture, 0xa5);
	assert_int_equal(irq_rises[LAYOUT_GSI_MOUSE], rises + 1);
	assert_int_equal(irq_line[LAYOUT_GSI_MOUSE], true);
	expect(fixture, true, 0xa5);
	assert_int_equal(irq_line[LAYOUT_GSI_MOUSE], false);
	/* no multiplexer: it would change the last one */
	for (const char *byte = "\xf0\x56\xa4"; *byte; byte++) {
		command(fixture, 0xd3);
		write_byte(fixture, *byte);
		assert_int_equal(next(fixture, true), (uint8_t)*byte);
	}
	write_control(fixture, (control | 0x01) & ~0x10);
	assert_int_equal(read_control(fixture) & 0x11, 0x01);
	assert_int_equal(fixture->resets, 0);
}

/* atkbd_probe() and atkbd_activate(), with the controller's translation. */
static void linux_finds_the_keyboard(void **state)
{
	struct fixture *fixture = *state;

	to_keyboard(fixture, 0xff);
	expect(fixture, false, 0xfa, 0xaa);
	to_keyboard(fixture, 0xf2);
	expect(fixture, false, 0xfa, 0xab, 0x41);
	to_keyboard(fixture, 0xed);
	expect(fixture, false, 0xfa);
	to_keyboard(fixture, 0x02);
	expect(fixture, false, 0xfa);
	to_keyboard(fixture, 0xf4);
	expect(fixture, false, 0xfa);
	to_keyboard(fixture, 0xee);
	expect(fixture, false, 0xee);
	to_keyboard(fixture, 0x77);
	expect(fixture, false, 0xfe);
}

static void keys_are_of_set_1_by_translation(void **state)
{
	struct fixture *fixture = *state;

	i8042_key(&fixture->i8042, 0x1e, false, true);
	assert_true(irq_line[LAYOUT_GSI_KEYBOARD]);
	i8042_key(&fixture->i8042, 0x1e, false, false);
	expect(fixture, false, 0x1e, 0x9e);
	assert_int_equal(irq_rises[LAYOUT_GSI_KEYBOARD], 2);
	assert_false(irq_line[LAYOUT_GSI_KEYBOARD]);
	i8042_key(&fixture->i8042, 0x4b, true, true);
	i8042_key(&fixture->i8042, 0x4b, true, false);
	expect(fixture, false, 0xe0, 0x4b, 0xe0, 0xcb);
	i8042_key(&fixture->i8042, 0x41, false, true); /* F7, the only one beyond 7f in set 2 */
	expect(fixture, false, 0x41);
	/* and of set 2 without */
	write_control(fixture, read_control(fixture) & ~0x40);
	i8042_key(&fixture->i8042, 0x1e, false, false);
	expect(fixture, false, 0xf0, 0x1c);
	i8042_key(&fixture->i8042, 0x41, false, true);
	expect(fixture, false, 0x83);
	i8042_key(&fixture->i8042, 0x4b, true, false);
	expect(fixture, false, 0xe0, 0xf0, 0x6b);
}

/* Linux gives up a controller that has still something after as many reads. */
static void what_nobody_reads_is_at_most_16_bytes(void **state)
{
	struct fixture *fixture = *state;
	unsigned reads = 0;

	for (unsigned i = 0; i < 1000; i++) {
		i8042_key(&fixture->i8042, 0x10 + i % 10, i % 3 == 0, i % 2);
		i8042_move(&fixture->i8042, 1, 1, 1, i % 8);
	}
	while (status(fixture) & FULL) {
		space_read(&fixture->pio, I8042_DATA, 1);
		reads++;
	}
	assert_in_range(reads, 1, 16);
}

static void a_keyboard_that_is_off_keeps_its_keys(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0xad);
	i8042_key(&fixture->i8042, 0x1e, false, true);
	assert_false(status(fixture) & FULL);
	command(fixture, 0xae);
	expect(fixture, false, 0x1e);
	to_keyboard(fixture, 0xf5);
	expect(fixture, false, 0xfa);
	i8042_key(&fixture->i8042, 0x1e, false, true);
	assert_false(status(fixture) & FULL);
}

/* psmouse: reset, identify, and the knock for a wheel; then it streams. */
static void a_mouse_with_a_wheel(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t knock[] = { 0xf3, 200, 0xf3, 100, 0xf3, 80 };

	write_control(fixture, (read_control(fixture) | 0x02) & ~0x20);
	i8042_move(&fixture->i8042, 5, 5, 0, 1); /* to nobody */
	to_mouse(fixture, 0xff);
	expect(fixture, true, 0xfa, 0xaa, 0x00);
	to_mouse(fixture, 0xf2);
	expect(fixture, true, 0xfa, 0x00);
	for (size_t i = 0; i < sizeof(knock); i++) {
		to_mouse(fixture, knock[i]);
		expect(fixture, true, 0xfa);
	}
	to_mouse(fixture, 0xf2);
	expect(fixture, true, 0xfa, 0x03);
	to_mouse(fixture, 0xe8);
	expect(fixture, true, 0xfa);
	to_mouse(fixture, 3);
	expect(fixture, true, 0xfa);
	to_mouse(fixture, 0xf4);
	expect(fixture, true, 0xfa);
	to_mouse(fixture, 0xe9);
	expect(fixture, true, 0xfa, 0x24, 3, 80); /* the button was never let go; it streams */
	i8042_move(&fixture->i8042, 3, 4, 0, 0);
	expect(fixture, true, 0x28, 3, 0xfc, 0);
	i8042_move(&fixture->i8042, -2, -1, -1, 2);
	expect(fixture, true, 0x1a, 0xfe, 1, 0xff);
	/* far, in steps of what a packet can tell */
	i8042_move(&fixture->i8042, 300, 0, 0, 2);
	expect(fixture, true, 0x0a, 255, 0, 0, 0x0a, 45, 0, 0);
}

static void a_click_is_not_lost(void **state)
{
	struct fixture *fixture = *state;

	write_control(fixture, (read_control(fixture) | 0x02) & ~0x20);
	to_mouse(fixture, 0xf4);
	expect(fixture, true, 0xfa);
	i8042_move(&fixture->i8042, 1, 0, 0, 0);
	i8042_move(&fixture->i8042, 1, 0, 0, 1);
	i8042_move(&fixture->i8042, 1, 0, 0, 0);
	expect(fixture, true, 0x08, 1, 0, 0x09, 1, 0, 0x08, 1, 0);
}

static void it_resets(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0xfe);
	assert_int_equal(fixture->resets, 1);
	command(fixture, 0xff);
	assert_int_equal(fixture->resets, 1);
	command(fixture, 0xd1);
	write_byte(fixture, 0x02);
	assert_int_equal(fixture->resets, 2);
	write_byte(fixture, 0x02); /* to the keyboard, that is */
	assert_int_equal(fixture->resets, 2);
}

static void small_questions(void **state)
{
	static const uint8_t answers[][2] = { { 0xa9, 0 }, { 0xab, 0 }, { 0xc0, 0x80 },
		{ 0xd0, 3 } };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(answers) / 2; i++) {
		command(fixture, answers[i][0]);
		assert_int_equal(next(fixture, false), answers[i][1]);
	}
}

int main(void)
{
#define I8042_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		I8042_TEST(linux_finds_it),
		I8042_TEST(linux_finds_the_keyboard),
		I8042_TEST(keys_are_of_set_1_by_translation),
		I8042_TEST(what_nobody_reads_is_at_most_16_bytes),
		I8042_TEST(a_keyboard_that_is_off_keeps_its_keys),
		I8042_TEST(a_mouse_with_a_wheel),
		I8042_TEST(a_click_is_not_lost),
		I8042_TEST(it_resets),
		I8042_TEST(small_questions),
	};

	return test_run(tests);
}

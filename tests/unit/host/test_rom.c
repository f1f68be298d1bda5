/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/rom/fit.h"
#include "host/rom/read.h"
#include "host/rom/rom.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UNIT 512
#define PCIR 0x1c

static const struct host_device card = {
	.vendor = 0x10de, .device = 0x2504, .class_code = 0x030000
};

static void put(uint8_t *at, uint32_t value, int count)
{
	for (; count--; value >>= 8)
		*at++ = value;
}

/* An image of as many units, sound in every respect. */
static void make_image(uint8_t *image, unsigned units, uint8_t type, bool last)
{
	uint8_t sum = 0;

	memset(image, 0, units * UNIT);
	put(image, 0xaa55, 2);
	put(image + 2, units, type == ROM_TYPE_UEFI ? 2 : 1);
	if (type == ROM_TYPE_UEFI) {
		put(image + 4, 0x0ef1, 4);
		put(image + 0x0a, 0x8664, 2);
		put(image + 0x16, 0x40, 2);
	}
	put(image + 0x18, PCIR, 2);
	memcpy(image + PCIR, "PCIR", 4);
	put(image + PCIR + 0x04, card.vendor, 2);
	put(image + PCIR + 0x06, card.device, 2);
	put(image + PCIR + 0x0a, 0x1c, 2);
	image[PCIR + 0x0c] = 3;
	put(image + PCIR + 0x0d, card.class_code, 3);
	put(image + PCIR + 0x10, units, 2);
	image[PCIR + 0x14] = type;
	image[PCIR + 0x15] = last ? 0x80 : 0;
	for (unsigned i = 0; i < units * UNIT; i++)
		sum += image[i];
	image[units * UNIT - 1] = type == ROM_TYPE_LEGACY ? -sum : 0;
}

struct sample {
	uint8_t data[3 * UNIT]; /* two units of legacy, one of UEFI */
};

static struct sample make_sample(void)
{
	struct sample sample;

	make_image(sample.data, 2, ROM_TYPE_LEGACY, false);
	make_image(sample.data + 2 * UNIT, 1, ROM_TYPE_UEFI, true);
	return sample;
}

/* Correct the first image's sum after a change, so that only that shows. */
static void mend_sum(struct sample *sample)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 2 * UNIT - 1; i++)
		sum += sample->data[i];
	sample->data[2 * UNIT - 1] = -sum;
}

static struct rom parse(const struct sample *sample)
{
	struct rom rom;

	rom_parse(&rom, sample->data, sizeof(sample->data), &card);
	return rom;
}

static void a_sound_one(void **state)
{
	struct sample sample = make_sample();
	struct rom rom = parse(&sample);

	(void)state;
	assert_true(rom_is_good(&rom));
	assert_int_equal(rom.count, 2);
	assert_int_equal(rom.used, sizeof(sample.data));
	assert_int_equal(rom.images[0].type, ROM_TYPE_LEGACY);
	assert_int_equal(rom.images[0].length, 2 * UNIT);
	assert_int_equal(rom.images[0].vendor, 0x10de);
	assert_int_equal(rom.images[0].device, 0x2504);
	assert_int_equal(rom.images[0].class_code, 0x030000);
	assert_int_equal(rom.images[1].type, ROM_TYPE_UEFI);
	assert_int_equal(rom.images[1].offset, 2 * UNIT);
	assert_int_equal(rom.images[1].efi_machine, 0x8664);
	assert_true(rom_has(&rom, ROM_TYPE_UEFI));
	assert_false(rom_has(&rom, ROM_TYPE_PA_RISC));
}

static void what_follows_the_last_image_does_not_count(void **state)
{
	uint8_t data[4 * UNIT];
	struct rom rom;

	(void)state;
	make_image(data, 1, ROM_TYPE_LEGACY, true);
	memset(data + UNIT, 0x55, 3 * UNIT);
	rom_parse(&rom, data, sizeof(data), NULL);
	assert_true(rom_is_good(&rom));
	assert_int_equal(rom.used, UNIT);
}

static void assert_problem(const struct sample *sample, unsigned image, unsigned problems)
{
	struct rom rom = parse(sample);

	assert_true(rom.count > image);
	assert_int_equal(rom.images[image].problems, problems);
	assert_false(rom_is_good(&rom));
}

static void problems_of_a_legacy_image(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	sample.data[100] ^= 1;
	assert_problem(&sample, 0, ROM_PROBLEM_CHECKSUM);
	sample = make_sample();
	sample.data[2] = 0;
	assert_problem(&sample, 0, ROM_PROBLEM_INIT_SIZE);
	sample.data[2] = 3; /* inside the ROM, but not inside the image */
	assert_problem(&sample, 0, ROM_PROBLEM_INIT_SIZE);
}

static void problems_of_a_uefi_image(void **state)
{
	struct sample sample = make_sample();
	uint8_t *image = sample.data + 2 * UNIT;

	(void)state;
	image[4] = 0;
	assert_problem(&sample, 1, ROM_PROBLEM_NO_EFI);
	sample = make_sample();
	put(image + 0x16, UNIT, 2); /* the program behind the end */
	assert_problem(&sample, 1, ROM_PROBLEM_NO_EFI);
	put(image + 0x16, 0x10, 2); /* and in the header */
	assert_problem(&sample, 1, ROM_PROBLEM_NO_EFI);
	sample = make_sample();
	put(image + 2, 2, 2);
	assert_problem(&sample, 1, ROM_PROBLEM_INIT_SIZE);
}

static void another_devices(void **state)
{
	struct sample sample = make_sample();
	uint8_t *pcir = sample.data + PCIR;

	(void)state;
	put(pcir + 4, 0x1002, 2);
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_VENDOR);
	sample = make_sample();
	put(pcir + 6, 0x2505, 2);
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_DEVICE);
	sample = make_sample();
	pcir[0x0d + 2] = 0x02;
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_CLASS);
}

static void a_list_of_more_devices(void **state)
{
	struct sample sample = make_sample();
	uint8_t *pcir = sample.data + PCIR;
	struct rom rom;

	(void)state;
	put(pcir + 6, 0x2505, 2);
	put(pcir + 8, 0x20, 2);
	put(pcir + 0x20, 0x2506, 2);
	put(pcir + 0x22, 0x2504, 2);
	mend_sum(&sample);
	rom = parse(&sample);
	assert_true(rom_is_good(&rom));
	/* Revision 0 has other things at that place. */
	pcir[0x0c] = 0;
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_DEVICE);
	/* A list that runs to the end of the ROM, and one that begins behind it. */
	sample = make_sample();
	put(pcir + 6, 0x2505, 2);
	put(pcir + 8, sizeof(sample.data) - PCIR - 1, 2);
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_DEVICE);
	put(pcir + 8, 0xffff, 2);
	mend_sum(&sample);
	assert_problem(&sample, 0, ROM_PROBLEM_DEVICE);
}

static void assert_broken(const uint8_t *data, size_t size, const char *why)
{
	struct rom rom;

	rom_parse(&rom, data, size, NULL);
	assert_false(rom_is_good(&rom));
	if (!strstr(rom.broken, why))
		fail_msg("'%s', not '%s'", rom.broken, why);
}

static void chains_that_break(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	assert_broken(NULL, 0, "is empty");
	assert_broken((const uint8_t *)"\xff", 1, "but with ff 00");
	assert_broken((const uint8_t *)"\xff\xff\xff\xff", 4,
		"does not begin with 55 aa, but with ff ff");
	sample.data[PCIR] = 'X';
	assert_broken(sample.data, UNIT, "no PCI data structure");
	sample = make_sample();
	put(sample.data + 0x18, 0xfff0, 2);
	assert_broken(sample.data, UNIT, "no PCI data structure");
	sample = make_sample();
	assert_broken(sample.data, 2 * UNIT, "no image at byte 1024, though");
	put(sample.data + PCIR + 0x10, 0, 2);
	assert_broken(sample.data, sizeof(sample.data), "has no length");
}

static void a_cut_one(void **state)
{
	struct sample sample = make_sample();
	struct rom rom;

	(void)state;
	rom_parse(&rom, sample.data, sizeof(sample.data) - 1, &card);
	assert_int_equal(rom.images[0].problems, 0);
	assert_int_equal(rom.images[1].problems, ROM_PROBLEM_CUT);
	assert_int_equal(rom.used, sizeof(sample.data) - 1);
	rom_parse(&rom, sample.data, UNIT + 1, &card);
	assert_int_equal(rom.images[0].problems, ROM_PROBLEM_CUT);
}

/* In memory of its exact size, so that AddressSanitizer sees a read behind the end. */
static void cut_at_every_byte(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	/* The list of devices is the last thing in the ROM, without an end. */
	put(sample.data + PCIR + 6, 0x2505, 2);
	put(sample.data + PCIR + 8, 0x20, 2);
	memset(sample.data + PCIR + 0x20, 0x11, UNIT);
	for (size_t size = 1; size < sizeof(sample.data); size++) {
		uint8_t *data = malloc(size);
		struct rom rom;

		assert_non_null(data);
		memcpy(data, sample.data, size);
		rom_parse(&rom, data, size, &card);
		free(data);
		assert_false(rom_is_good(&rom));
		assert_true(rom.used <= size);
	}
}

static void a_header_in_front_is_found(void **state)
{
	struct sample sample = make_sample();
	uint8_t data[0x600 + sizeof(sample.data)];
	struct rom rom;

	(void)state;
	memset(data, 'N', sizeof(data));
	memcpy(data + 0x600, sample.data, sizeof(sample.data));
	rom_parse(&rom, data, sizeof(data), NULL);
	assert_false(rom_is_good(&rom));
	assert_int_equal(rom.shift, 0x600);
}

static void too_many_images(void **state)
{
	static uint8_t data[(ROM_IMAGES_MAX + 1) * UNIT];

	(void)state;
	for (int i = 0; i <= ROM_IMAGES_MAX; i++)
		make_image(data + i * UNIT, 1, ROM_TYPE_LEGACY, false);
	assert_broken(data, sizeof(data), "more than 16 images");
}

static void files(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char path[128];
	uint8_t *data;
	size_t size;
	FILE *stream;

	fixture_file(fixture, "/a.rom", "0123");
	snprintf(path, sizeof(path), "%s/a.rom", fixture->tree);
	assert_int_equal(rom_read_file(path, &data, &size, &err), 0);
	assert_int_equal(size, 4);
	assert_memory_equal(data, "0123", 4);
	free(data);
	stream = fopen(path, "w");
	assert_non_null(stream);
	fseek(stream, ROM_SIZE_MAX, SEEK_SET);
	fputc(0, stream);
	fclose(stream);
	assert_int_equal(rom_read_file(path, &data, &size, &err), -EFBIG);
	err = (struct error){ 0 };
	assert_int_equal(rom_read_file("/nowhere/x.rom", &data, &size, &err), -ENOENT);
	assert_string_equal(err.object, "/nowhere/x.rom");
	/* One that nobody writes to would be waited for. */
	err = (struct error){ 0 };
	snprintf(path, sizeof(path), "%s/pipe.rom", fixture->tree);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(rom_read_file(path, &data, &size, &err), -EINVAL);
	assert_non_null(strstr(err.what, "from a regular file only"));
}

static void a_device_without_one(void **state)
{
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };
	uint8_t *data;
	size_t size;

	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:02.0", "0x030000", NULL, 1);
	assert_int_equal(
		host_device_read(&fixture->host, &(struct bdf){ 0, 0, 2, 0 }, &device, &err), 0);
	assert_int_equal(rom_read_device(&fixture->host, &device, &data, &size, &err), -ENOENT);
	assert_string_equal(err.what, "it has no option ROM");
}

#define CARD "/sys/devices/pci0000:00/0000:01:00.0"

static int read_card(struct fixture *fixture, uint8_t **data, size_t *size, struct error *err)
{
	struct host_device device;

	*err = (struct error){ 0 };
	assert_int_equal(
		host_device_read(&fixture->host, &(struct bdf){ 0, 1, 0, 0 }, &device, err), 0);
	return rom_read_device(&fixture->host, &device, data, size, err);
}

/* As vfio-pci leaves one that nobody uses, but for the power state. */
static void make_sleepy_card(struct fixture *fixture, const char *state)
{
	fixture_device(fixture, CARD, "0x030000", "vfio-pci", 1);
	fixture_file(fixture, CARD "/rom", "0123456789");
	fixture_file(fixture, CARD "/config", "abcd\004");
	fixture_file(fixture, CARD "/power/control", "auto\n");
	fixture_file(fixture, CARD "/power_state", state);
}

static void assert_left_as_it_was(struct fixture *fixture)
{
	char text[16];

	host_read(&fixture->host, text, sizeof(text), CARD "/power/control");
	assert_string_equal(text, "auto");
	assert_true(host_read(&fixture->host, text, sizeof(text), CARD "/config") > 0);
	assert_memory_equal(text, "abcd?", 5);
}

static void watch(int fd, struct fixture *fixture, const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s" CARD "/%s", fixture->tree, file);
	assert_true(inotify_add_watch(fd, path, IN_MODIFY) > 0);
}

/* What has been written, in order: 1 is the first that is watched. */
static void assert_written(int fd, const char *wanted)
{
	struct inotify_event events[16];
	char order[17] = "";
	ssize_t got = read(fd, events, sizeof(events));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(events[0]); i++)
		order[i] = '0' + events[i].wd;
	assert_string_equal(order, wanted);
}

static void a_sleeping_device_is_woken_for_it(void **state)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	struct fixture *fixture = *state;
	struct error err;
	uint8_t *data;
	size_t size;

	make_sleepy_card(fixture, "D0\n");
	watch(fd, fixture, "power/control");
	watch(fd, fixture, "config");
	watch(fd, fixture, "rom");
	assert_int_equal(read_card(fixture, &data, &size, &err), 0);
	assert_int_equal(size, 10);
	assert_memory_equal(data + 1, "123456789", 9);
	free(data);
	/* Woken, memory, the ROM on and off, and all of it back. */
	assert_written(fd, "12321");
	close(fd);
	assert_left_as_it_was(fixture);
}

static void a_device_that_does_not_wake_is_told(void **state)
{
	struct fixture *fixture = *state;
	char text[16];
	struct error err;
	uint8_t *data;
	size_t size;

	make_sleepy_card(fixture, "D3cold\n");
	assert_int_equal(read_card(fixture, &data, &size, &err), -EAGAIN);
	assert_non_null(strstr(err.what, "does not wake up"));
	assert_left_as_it_was(fixture);
	assert_int_equal(host_read(&fixture->host, text, sizeof(text), CARD "/rom"), 10);
	assert_string_equal(text, "0123456789");
}

static void a_device_that_a_host_driver_has_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct error err;
	uint8_t *data;
	size_t size;

	fixture_device(fixture, CARD, "0x030000", "amdgpu", 1);
	fixture_file(fixture, CARD "/rom", "0123456789");
	assert_int_equal(read_card(fixture, &data, &size, &err), -EBUSY);
	assert_string_equal(err.what, "it is in use by the host's driver amdgpu");
	assert_non_null(strstr(err.hint, "penstock bind 0000:01:00.0"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* What a guest may be shown. */

static void assert_fits(const struct sample *sample, size_t size, int runs, const char *words)
{
	struct error err = { 0 };
	struct rom rom;
	int code;

	rom_parse(&rom, sample->data, size, &card);
	code = rom_fit_file("a.rom", &rom, &card, runs, &err);
	assert_int_equal(code, words ? -EINVAL : 0);
	if (!words)
		return;
	assert_string_equal(err.object, "a.rom");
	if (!strstr(err.what, words))
		fail_msg("'%s' is not in: %s", words, err.what);
	assert_non_null(strstr(err.hint, "rom check"));
}

static void assert_fits_all(const struct sample *sample, const char *words)
{
	assert_fits(sample, sizeof(sample->data), ROM_RUNS_NONE, words);
	assert_fits(sample, sizeof(sample->data), ROM_TYPE_UEFI, words);
	assert_fits(sample, sizeof(sample->data), ROM_TYPE_LEGACY, words);
}

static void what_runs_has_to_be_there_and_sound(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	assert_fits_all(&sample, NULL);
	sample.data[100] ^= 1; /* of the legacy image the sum */
	assert_fits(&sample, sizeof(sample.data), ROM_RUNS_NONE, NULL);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_UEFI, NULL);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_LEGACY, "checksum");
	sample = make_sample();
	put(sample.data + 2 * UNIT + 4, 0, 4);
	assert_fits(&sample, sizeof(sample.data), ROM_RUNS_NONE, NULL);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_UEFI, "no EFI header");
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_LEGACY, NULL);
	sample = make_sample();
	put(sample.data + 2 * UNIT + 0x0a, 0xaa64, 2);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_UEFI, "no UEFI image for x86-64");
	make_image(sample.data, 3, ROM_TYPE_LEGACY, true);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_UEFI, "no UEFI image for x86-64");
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_LEGACY, NULL);
	make_image(sample.data, 3, ROM_TYPE_UEFI, true);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_UEFI, NULL);
	assert_fits(&sample, sizeof(sample.data), ROM_TYPE_LEGACY, "no image for a BIOS");
	assert_fits(&sample, sizeof(sample.data), ROM_RUNS_NONE, NULL);
}

static void what_is_no_rom_or_cut_fits_nothing(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	for (int runs = ROM_RUNS_NONE; runs <= ROM_TYPE_UEFI; runs += 4) {
		assert_fits(&sample, 0, runs, "empty");
		assert_fits(&sample, 3 * UNIT - 1, runs, "ends before");
		assert_fits(&sample, 2 * UNIT, runs, "no image at byte 1024");
	}
	sample.data[0] = 0;
	assert_fits_all(&sample, "only at byte 1024");
	memset(sample.data, 0, sizeof(sample.data));
	assert_fits_all(&sample, "55 aa");
}

static void a_rom_is_for_its_vendors_devices(void **state)
{
	struct sample sample = make_sample();

	(void)state;
	put(sample.data + PCIR + 6, 0x1111, 2);
	mend_sum(&sample);
	assert_fits_all(&sample, NULL);
	put(sample.data + PCIR + 4, 0x1002, 2);
	mend_sum(&sample);
	assert_fits_all(&sample, "another vendor");
}

static void of_its_own_a_device_has_what_it_has(void **state)
{
	struct sample sample = make_sample();
	struct rom rom = parse(&sample);

	(void)state;
	assert_null(rom_fit_own(&rom, ROM_TYPE_UEFI));
	assert_null(rom_fit_own(&rom, ROM_TYPE_LEGACY));
	make_image(sample.data, 3, ROM_TYPE_LEGACY, true);
	rom = parse(&sample);
	assert_non_null(rom_fit_own(&rom, ROM_TYPE_UEFI));
	assert_null(rom_fit_own(&rom, ROM_RUNS_NONE));
	memset(sample.data, 0xff, sizeof(sample.data));
	rom = parse(&sample);
	assert_non_null(strstr(rom_fit_own(&rom, ROM_TYPE_UEFI), "ff ff"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sound_one),
		TEST(what_follows_the_last_image_does_not_count),
		TEST(problems_of_a_legacy_image),
		TEST(problems_of_a_uefi_image),
		TEST(another_devices),
		TEST(a_list_of_more_devices),
		TEST(chains_that_break),
		TEST(a_cut_one),
		TEST(cut_at_every_byte),
		TEST(a_header_in_front_is_found),
		TEST(too_many_images),
		TEST(files),
		TEST(a_device_without_one),
		TEST(a_sleeping_device_is_woken_for_it),
		TEST(a_device_that_does_not_wake_is_told),
		TEST(a_device_that_a_host_driver_has_is_left_alone),
		cmocka_unit_test(what_runs_has_to_be_there_and_sound),
		cmocka_unit_test(what_is_no_rom_or_cut_fits_nothing),
		cmocka_unit_test(a_rom_is_for_its_vendors_devices),
		cmocka_unit_test(of_its_own_a_device_has_what_it_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

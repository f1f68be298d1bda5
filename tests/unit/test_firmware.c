/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "broker/firmware.h"
#include "broker/nvram.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A host with Debian's three descriptors, and images that are what their heads say. */

#define CODE      (64 * KIB)
#define VARIABLES (16 * KIB)

static char root[64];
static char plain[128], secure[128], template[128], nvram[128];
static struct broker_firmware firmware;
static struct error err;

static void path_of(char path[static 128], const char *name)
{
	snprintf(path, 128, "%s/%s", root, name);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void write_descriptor(const char *name, const char *code, const char *feature)
{
	char text[2048], path[256];

	snprintf(path, sizeof(path), "%s%s", root, name);
	snprintf(text, sizeof(text),
		"{ \"interface-types\": [ \"uefi\" ], \"mapping\": { \"device\": \"flash\","
		" \"executable\": { \"filename\": \"%s\", \"format\": \"raw\" },"
		" \"nvram-template\": { \"filename\": \"%s\", \"format\": \"raw\" } },"
		" \"targets\": [ { \"architecture\": \"x86_64\","
		" \"machines\": [ \"pc-i440fx-*\", \"pc-q35-*\" ] } ],"
		" \"features\": [ \"acpi-s3\", \"%s\" ], \"tags\": [] }",
		code, template, feature);
	write_file(path, text, strlen(text));
}

/* The head of a firmware volume with a variable store, as OVMF's templates have it. */
static void make_variables(uint8_t *bytes, uint64_t size)
{
	static const uint8_t type[] = { 0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85,
		0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50 };
	static const uint8_t store[] = { 0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80,
		0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92, 0xb8, 0x1f, 0, 0, 0x5a, 0xfe };
	uint16_t sum = 0;

	memset(bytes, 0xff, size);
	memset(bytes, 0, 72);
	memcpy(bytes + 16, type, sizeof(type));
	memcpy(bytes + 32, &size, 8);
	memcpy(bytes + 40, "_FVH", 4);
	bytes[48] = 72;
	for (unsigned i = 0; i < 72; i += 2)
		sum += bytes[i] | bytes[i + 1] << 8;
	sum = -sum;
	memcpy(bytes + 50, &sum, 2);
	memcpy(bytes + 72, store, sizeof(store));
	memset(bytes + 72 + sizeof(store), 0, 28 - sizeof(store));
}

static uint8_t *variables(void)
{
	static uint8_t bytes[VARIABLES];

	make_variables(bytes, sizeof(bytes));
	return bytes;
}

static void write_code(const char *path, size_t size)
{
	uint8_t *bytes = calloc(1, size + 64);

	memcpy(bytes + 40, "_FVH", 4);
	write_file(path, bytes, size);
	free(bytes);
}

/* As it ends: a jump to F000:E05B, and a date. */
static void write_bios(const char *path, size_t size)
{
	static const uint8_t start[] = { 0xea, 0x5b, 0xe0, 0x00, 0xf0 };
	uint8_t *bytes = calloc(1, size);

	memcpy(bytes + size - 16, start, sizeof(start));
	write_file(path, bytes, size);
	free(bytes);
}

static void describe_bios(const char *name, const char *code)
{
	char text[1024], path[256];

	snprintf(path, sizeof(path), "%s%s", root, name);
	snprintf(text, sizeof(text),
		"{ \"interface-types\": [ \"bios\" ], \"mapping\": { \"device\": \"memory\","
		" \"filename\": \"%s\" }, \"targets\": [ { \"architecture\": \"x86_64\","
		" \"machines\": [ \"pc-q35-*\" ] } ], \"features\": [], \"tags\": [] }",
		code);
	write_file(path, text, strlen(text));
}

static void make_directory(const char *name)
{
	char path[128];

	path_of(path, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state)
{
	static const char *const directories[] = { "etc", "etc/qemu", "etc/qemu/firmware", "usr",
		"usr/share", "usr/share/qemu", "usr/share/qemu/firmware" };

	(void)state;
	strcpy(root, "/tmp/firmware-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		make_directory(directories[i]);
	path_of(plain, "CODE.fd");
	path_of(secure, "CODE.secboot.fd");
	path_of(template, "VARS.fd");
	path_of(nvram, "nvram");
	write_code(plain, CODE);
	write_code(secure, CODE);
	write_file(template, variables(), VARIABLES);
	write_descriptor("/usr/share/qemu/firmware/50-secure.json", secure, "requires-smm");
	write_descriptor("/usr/share/qemu/firmware/60-plain.json", plain, "verbose-dynamic");
	return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

static void close_all(void)
{
	if (firmware.code_fd >= 0)
		close(firmware.code_fd);
	if (firmware.nvram_fd >= 0)
		close(firmware.nvram_fd);
	firmware.code_fd = firmware.nvram_fd = -1;
}

static int teardown(void **state)
{
	(void)state;
	close_all();
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int open_it(const char *which, const char *variables)
{
	firmware = (struct broker_firmware){ .code_fd = -1, .nvram_fd = -1 };
	err = (struct error){ 0 };
	return broker_firmware_open(&firmware, root, which, variables, &err);
}

static void assert_opens(const char *which, const char *code)
{
	if (open_it(which, NULL))
		fail_msg("'%s': %s", err.object, err.what);
	assert_string_equal(firmware.code, code);
	assert_true(fcntl(firmware.code_fd, F_GETFD) & FD_CLOEXEC);
	close_all();
}

static void refuse(const char *which, const char *variables, const char *object, const char *what)
{
	assert_true(open_it(which, variables) < 0);
	assert_string_equal(err.object, object);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	assert_true(err.hint[0]);
	close_all();
}

static void the_first_that_runs_here_is_taken(void **state)
{
	char other[128], path[256];

	(void)state;
	assert_opens("uefi", plain);
	/* The administrator's comes earlier by its name, and hides one by the same name. */
	path_of(other, "OTHER.fd");
	write_code(other, CODE);
	write_descriptor("/etc/qemu/firmware/10-own.json", other, "");
	assert_opens("uefi", other);
	snprintf(path, sizeof(path), "%s/etc/qemu/firmware/10-own.json", root);
	unlink(path);
	snprintf(path, sizeof(path), "%s/etc/qemu/firmware/60-plain.json", root);
	write_file(path, "", 0);
	refuse("uefi", NULL, "", "no UEFI firmware that runs here");
}

static void descriptors_that_do_not_fit_are_passed_over(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "7", "null", "{ \"mapping\": 3 }",
		"{ \"interface-types\": [ \"bios\" ], \"mapping\": { \"device\": \"memory\" } }",
		"{ \"interface-types\": [ 1, null ], \"targets\": [ 3, { \"machines\": {} } ] }",
		"{ \"mapping\": { \"device\": \"flash\", \"mode\": \"combined\" } }",
		"{ \"mapping\": { \"device\": \"flash\", \"executable\": { \"filename\": 7 } } }" };
	char path[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		snprintf(path, sizeof(path), "%s/usr/share/qemu/firmware/00-%zu.json", root, i);
		write_file(path, texts[i], strlen(texts[i]));
	}
	assert_opens("uefi", plain);
}

static void assert_bios(const char *which, const char *code)
{
	assert_opens(which, code);
	assert_true(firmware.bios);
}

static void a_bios_is_found(void **state)
{
	char own[128], seabios[256];

	(void)state;
	refuse("bios", NULL, "", "there is no BIOS");
	assert_non_null(strstr(err.hint, "apt install seabios"));
	/* Debian describes none. */
	make_directory("usr/share/seabios");
	snprintf(seabios, sizeof(seabios), "%s/usr/share/seabios/bios-256k.bin", root);
	write_bios(seabios, 256 * KIB);
	assert_bios("bios", seabios);
	path_of(own, "OWN.bin");
	write_bios(own, 128 * KIB);
	describe_bios("/etc/qemu/firmware/10-own.json", own);
	assert_bios("bios", own);
	assert_bios(seabios, seabios);
	/* It is none of UEFI's, which come behind it. */
	assert_opens("uefi", plain);
	assert_false(firmware.bios);
}

static void what_is_no_bios_is_refused(void **state)
{
	char path[128];

	(void)state;
	path_of(path, "OWN.bin");
	describe_bios("/etc/qemu/firmware/10-own.json", path);
	refuse("bios", NULL, path, "cannot open the firmware");
	write_bios(path, 128 * KIB - 1);
	refuse("bios", NULL, path, "multiple of 4 KiB");
	write_bios(path, 124 * KIB);
	refuse("bios", NULL, path, "multiple of 64 KiB");
	write_bios(path, 32 * MIB);
	refuse("bios", NULL, path, "multiple of 4 KiB");
	write_bios(path, 128 * KIB);
	assert_int_equal(truncate(path, 64 * KIB), 0);
	refuse("bios", NULL, path, "nor does it end as a BIOS");
	write_code(path, CODE);
	refuse("bios", NULL, path, "it is UEFI's");
	write_bios(plain, 128 * KIB);
	refuse("uefi", NULL, plain, "it is a BIOS");
}

static void a_bios_has_no_variables(void **state)
{
	char path[128];

	(void)state;
	path_of(path, "OWN.bin");
	write_bios(path, 128 * KIB);
	assert_int_equal(open_it(path, NULL), 0);
	assert_int_equal(firmware.nvram_fd, -1);
	close_all();
	refuse(path, nvram, path, "has no variables");
	assert_int_equal(access(nvram, F_OK), -1);
}

static void an_image_that_needs_smm_is_refused(void **state)
{
	char link[128], copy[128];

	(void)state;
	refuse(secure, NULL, secure, "system management mode");
	assert_non_null(strstr(err.hint, plain));
	path_of(link, "LINK.fd");
	assert_int_equal(symlink(secure, link), 0);
	refuse(link, NULL, link, "system management mode");
	/* No descriptor names it, but it has a name. */
	path_of(copy, "COPY.ms.fd");
	write_code(copy, CODE);
	refuse(copy, NULL, copy, "system management mode");
}

static void what_is_no_firmware_is_refused(void **state)
{
	char path[128];

	(void)state;
	path_of(path, "none");
	refuse(path, NULL, path, "cannot open the firmware");
	refuse(root, NULL, root, "cannot open the firmware");
	write_code(path, 0);
	refuse(path, NULL, path, "multiple of 4 KiB");
	write_code(path, CODE - 1);
	refuse(path, NULL, path, "multiple of 4 KiB");
	write_code(path, 16 * MIB + 4 * KIB);
	refuse(path, NULL, path, "multiple of 4 KiB");
	write_file(path,
		"\x7f"
		"ELF",
		4);
	assert_int_equal(truncate(path, CODE), 0);
	refuse(path, NULL, path, "firmware volume");
	refuse(template, NULL, template, "variables and no code");
}

static void assert_variables(int fd, const uint8_t *bytes)
{
	uint8_t is[VARIABLES];

	assert_int_equal(pread(fd, is, sizeof(is), 0), sizeof(is));
	assert_memory_equal(is, bytes, sizeof(is));
}

static void without_a_file_variables_are_a_copy(void **state)
{
	(void)state;
	assert_int_equal(open_it("uefi", NULL), 0);
	assert_variables(firmware.nvram_fd, variables());
	assert_int_equal(pwrite(firmware.nvram_fd, "x", 1, 0), 1);
	close_all();
	assert_int_equal(open_it("uefi", NULL), 0);
	assert_variables(firmware.nvram_fd, variables());
	/* An image without a descriptor does without. */
	close_all();
	path_of(plain, "ALONE.fd");
	write_code(plain, CODE);
	assert_int_equal(open_it(plain, NULL), 0);
	assert_int_equal(firmware.nvram_fd, -1);
}

static void a_missing_file_is_made(void **state)
{
	struct stat stat;

	(void)state;
	assert_int_equal(open_it(plain, nvram), 0);
	assert_variables(firmware.nvram_fd, variables());
	assert_int_equal(fstat(firmware.nvram_fd, &stat), 0);
	assert_int_equal(stat.st_mode & 0777, 0600);
	assert_int_equal(pwrite(firmware.nvram_fd, "kept", 4, 4096), 4);
	close_all();
	assert_int_equal(open_it(plain, nvram), 0);
	assert_int_equal(pread(firmware.nvram_fd, &stat, 4, 4096), 4);
	assert_memory_equal(&stat, "kept", 4);
}

static void a_start_that_was_killed_leaves_nothing_in_the_way(void **state)
{
	char new[256];

	(void)state;
	snprintf(new, sizeof(new), "%s.new", nvram);
	write_file(new, "half a file, or one of another size", 36);
	assert_int_equal(open_it(plain, nvram), 0);
	assert_variables(firmware.nvram_fd, variables());
	assert_int_equal(access(new, F_OK), -1);
}

static void one_machine_has_it_at_a_time(void **state)
{
	int held;

	(void)state;
	assert_int_equal(open_it(plain, nvram), 0);
	held = firmware.nvram_fd;
	close(firmware.code_fd);
	refuse(plain, nvram, nvram, "in use by another machine");
	close(held);
	assert_int_equal(open_it(plain, nvram), 0);
}

static void damage(size_t offset, uint8_t byte, const char *what)
{
	uint8_t *bytes = variables();

	bytes[offset] = byte;
	write_file(nvram, bytes, VARIABLES);
	if (!what) {
		assert_int_equal(open_it(plain, nvram), 0);
		close_all();
		return;
	}
	refuse(plain, nvram, nvram, what);
}

static void what_is_not_this_firmwares_is_refused(void **state)
{
	static uint8_t other[2 * VARIABLES];

	(void)state;
	make_variables(other, sizeof(other));
	write_file(nvram, other, sizeof(other));
	refuse(plain, nvram, nvram, "another firmware");
	write_file(nvram, other, VARIABLES);
	refuse(plain, nvram, nvram, "corrupt");
	write_file(nvram, variables(), VARIABLES - 1);
	refuse(plain, nvram, nvram, "no multiple of 4 KiB");
	write_file(nvram, "", 0);
	refuse(plain, nvram, nvram, "has 0 bytes");
	memset(other, 0, sizeof(other));
	write_file(nvram, other, VARIABLES);
	refuse(plain, nvram, nvram, "corrupt");
	damage(41, 'G', "corrupt");
	damage(32, 1, "corrupt");
	damage(72, 0, "corrupt");
	/* Variables themselves are firmware's to look at; it may have been killed while it erased. */
	damage(VARIABLES - 1, 0, NULL);
	damage(72, 0xff, NULL);
	refuse(plain, root, root, "cannot open");
	refuse(plain, "/nonexistent/nvram", "/nonexistent/nvram.new", "cannot make");
}

static void without_a_template_a_file_must_be_whole(void **state)
{
	char alone[128];

	(void)state;
	path_of(alone, "ALONE.fd");
	write_code(alone, CODE);
	refuse(alone, nvram, nvram, "is not there");
	write_file(nvram, variables(), VARIABLES);
	assert_int_equal(open_it(alone, nvram), 0);
	close_all();
	for (unsigned i = 0; i < 94; i++) {
		uint8_t *bytes = variables();

		bytes[i] ^= 0x10;
		write_file(nvram, bytes, VARIABLES);
		if (i < 88 || i >= 92) /* the store's size is not looked at */
			refuse(alone, nvram, nvram, "corrupt");
	}
}

static void a_template_may_be_missing_or_wrong(void **state)
{
	(void)state;
	write_file(template, variables(), VARIABLES - 4096);
	refuse("uefi", NULL, template, "no template");
	unlink(template);
	refuse("uefi", NULL, template, "cannot open the template");
	refuse("uefi", nvram, template, "cannot open the template");
	assert_int_equal(access(nvram, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_that_runs_here_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(
			descriptors_that_do_not_fit_are_passed_over, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_image_that_needs_smm_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_firmware_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_bios_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_bios_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_bios_has_no_variables, setup, teardown),
		cmocka_unit_test_setup_teardown(
			without_a_file_variables_are_a_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(a_missing_file_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_start_that_was_killed_leaves_nothing_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(one_machine_has_it_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_not_this_firmwares_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			without_a_template_a_file_must_be_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_template_may_be_missing_or_wrong, setup, teardown),
	};

	return test_run(tests);
}

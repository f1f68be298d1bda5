/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/bdf.h"
#include "base/cpulist.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/size.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static void assert_bdf(
	const char *text, uint32_t domain, unsigned bus, unsigned device, unsigned fn)
{
	struct bdf bdf;

	assert_int_equal(bdf_parse(text, &bdf), 0);
	assert_int_equal(bdf.domain, domain);
	assert_int_equal(bdf.bus, bus);
	assert_int_equal(bdf.device, device);
	assert_int_equal(bdf.function, fn);
}

TEST(addresses_are_parsed)
{
	assert_bdf("0000:01:00.0", 0, 1, 0, 0);
	assert_bdf("01:00.0", 0, 1, 0, 0);
	assert_bdf("ffff:ff:1f.7", 0xffff, 0xff, 0x1f, 7);
	assert_bdf("FFFF:Ab:1F.7", 0xffff, 0xab, 0x1f, 7);
	assert_bdf("10000:e1:00.0", 0x10000, 0xe1, 0, 0); /* as Linux numbers VMD's */
	assert_bdf("ffffffff:00:00.0", 0xffffffff, 0, 0, 0);
	assert_bdf("a:b.1", 0, 0xa, 0xb, 1);
}

TEST(what_is_no_address_is_refused)
{
	static const char *const bad[] = {
		"",
		":",
		".",
		"0",
		"01:00",
		"01:00.",
		"01:00.8",
		"01:00.00",
		"01:20.0",
		"01:000.0",
		"001:00.0",
		"100:00.0",
		"0000:01:00",
		"0000:01:20.0",
		"0000:01:00.8",
		"0000:100:00.0",
		"000000000:01:00.0",
		"100000000:01:00.0",
		"0000:0000:01:00.0",
		" 01:00.0",
		"01:00.0 ",
		"01:00.0\n",
		"01: 0.0",
		"-1:00.0",
		"+1:00.0",
		"0x01:00.0",
		"g1:00.0",
		"01.00.0",
		"01:00:0",
		"../01:00.0",
		"01:00.0/..",
		"\xff\xfe:00.0",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct bdf bdf;

		if (bdf_parse(bad[i], &bdf) != -EINVAL)
			fail_msg("'%s' was taken for an address", bad[i]);
	}
}

/* Names from the command line may be of any length. */
TEST(a_long_text_is_no_address)
{
	static char text[100000];
	struct bdf bdf;

	memset(text, '0', sizeof(text) - 1);
	assert_int_equal(bdf_parse(text, &bdf), -EINVAL);
	strcpy(text + sizeof(text) - 10, ":00:00.0");
	assert_int_equal(bdf_parse(text, &bdf), -EINVAL);
}

TEST(addresses_are_written_in_full)
{
	struct bdf bdf = { .domain = 0, .bus = 1, .device = 0x1f, .function = 7 };
	char text[BDF_TEXT];

	assert_string_equal(bdf_format(&bdf, text), "0000:01:1f.7");
	bdf.domain = 0x10000;
	assert_string_equal(bdf_format(&bdf, text), "10000:01:1f.7");
	bdf = (struct bdf){ UINT32_MAX, UINT8_MAX, UINT8_MAX, UINT8_MAX };
	assert_true(strlen(bdf_format(&bdf, text)) < BDF_TEXT);
}

TEST(addresses_are_equal_when_all_fields_are)
{
	struct bdf a = { 1, 2, 3, 4 }, b = a;

	assert_true(bdf_equal(&a, &b));
	b.domain++;
	assert_false(bdf_equal(&a, &b));
	b = a;
	b.bus++;
	assert_false(bdf_equal(&a, &b));
	b = a;
	b.device++;
	assert_false(bdf_equal(&a, &b));
	b = a;
	b.function++;
	assert_false(bdf_equal(&a, &b));
}

TEST(addresses_have_an_order)
{
	static const struct bdf sorted[] = { { 0, 0, 0, 0 }, { 0, 0, 0, 1 }, { 0, 0, 1, 0 },
		{ 0, 1, 0, 0 }, { 0, 255, 31, 7 }, { 1, 0, 0, 0 }, { UINT32_MAX, 0, 0, 0 } };

	for (int i = 0; i < 7; i++)
		for (int j = 0; j < 7; j++) {
			int order = bdf_compare(&sorted[i], &sorted[j]);

			assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
		}
}

static void assert_size(const char *text, uint64_t wanted)
{
	uint64_t bytes = 1;

	if (size_parse(text, &bytes) || bytes != wanted)
		fail_msg("'%s' was read as %llu", text, (unsigned long long)bytes);
}

TEST(sizes_are_parsed)
{
	assert_size("0", 0);
	assert_size("1048576", MIB);
	assert_size("512M", 512 * MIB);
	assert_size("512m", 512 * MIB);
	assert_size("512MiB", 512 * MIB);
	assert_size("512mib", 512 * MIB);
	assert_size("512MB", 512 * MIB);
	assert_size("4K", 4 * KIB);
	assert_size("4G", 4 * GIB);
	assert_size("2T", 2048 * GIB);
	assert_size("18446744073709551615", UINT64_MAX);
	assert_size("16777215T", 16777215ULL << 40);
}

TEST(what_is_no_size_is_refused)
{
	static const char *const bad[] = { "", "M", " 1", "-1", "+1", "1 M", "1X", "1Mi", "1MiBs",
		"1MM", "0x10", "1.5G", "1M ", "1iB", "1P", "\xff", "1\xff" };
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (size_parse(bad[i], &bytes) != -EINVAL)
			fail_msg("'%s' was taken for a size", bad[i]);
}

TEST(sizes_that_overflow_are_refused)
{
	static const char *const bad[] = { "18446744073709551616", "16777216T", "17179869184G",
		"99999999999999999999999999999999", "18446744073709551615K" };
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (size_parse(bad[i], &bytes) != -ERANGE)
			fail_msg("'%s' did not overflow", bad[i]);
}

TEST(sizes_are_written_for_people)
{
	char text[24];

	assert_string_equal(size_format(0, text), "0 bytes");
	assert_string_equal(size_format(1023, text), "1023 bytes");
	assert_string_equal(size_format(KIB, text), "1 KiB");
	assert_string_equal(size_format(512 * MIB, text), "512 MiB");
	assert_string_equal(size_format(2 * GIB + 512 * MIB, text), "2.5 GiB");
	assert_string_equal(size_format(3 << 20, text), "3 MiB");
	assert_string_equal(size_format(2048 * GIB, text), "2 TiB");
	assert_string_equal(size_format(UINT64_MAX, text), "16777216 TiB");
}

TEST(values_are_aligned)
{
	assert_int_equal(align_down(0x1fff, 0x1000), 0x1000);
	assert_int_equal(align_up(0x1001, 0x1000), 0x2000);
	assert_int_equal(align_up(0x1000, 0x1000), 0x1000);
	assert_int_equal(align_up(0, 0x1000), 0);
}

TEST(the_first_error_stays)
{
	struct error err = { 0 };

	assert_int_equal(error_set(&err, -ENOENT, "disk", "cannot find %s", "it"), -ENOENT);
	assert_int_equal(error_set(&err, -EIO, "other", "cleaning up failed"), -EIO);
	assert_int_equal(error_sys(&err, -EPERM, "other", "cleaning up failed"), -EPERM);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.object, "disk");
	assert_string_equal(err.what, "cannot find it");
	error_hint(&err, "look %s", "here");
	error_hint(&err, "look there");
	assert_string_equal(err.hint, "look here");
}

TEST(an_error_may_have_no_object)
{
	struct error err = { 0 };

	error_set(&err, -EIO, NULL, "it failed");
	assert_string_equal(err.object, "");
}

TEST(the_kernels_reason_is_told)
{
	struct error err = { 0 };

	error_sys(&err, -ENOENT, "x", "cannot open it");
	assert_string_equal(err.what, "cannot open it: No such file or directory");
}

/* Paths and names in messages are the user's, and as long as he likes. */
TEST(long_texts_are_cut)
{
	struct error err = { 0 };
	char text[2000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_sys(&err, -ENOENT, text, "%s", text);
	error_hint(&err, "%s", text);
	assert_int_equal(strlen(err.object), sizeof(err.object) - 1);
	assert_int_equal(strlen(err.what), sizeof(err.what) - 1);
	assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
}

/* What error_print() writes on stderr, in a buffer of 256 bytes. */
static void catch_print(const struct error *err, char *text)
{
	int fd = memfd_create("stderr", MFD_CLOEXEC);
	int saved = dup(STDERR_FILENO);
	ssize_t got;

	dup2(fd, STDERR_FILENO);
	error_print(err);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	got = pread(fd, text, 255, 0);
	text[got < 0 ? 0 : got] = '\0';
	close(saved);
	close(fd);
}

TEST(an_error_is_one_line_and_one_for_the_hint)
{
	struct error err = { 0 };
	char text[256];

	error_set(&err, -EINVAL, "01:00.0", "is busy");
	catch_print(&err, text);
	assert_string_equal(text, "penstock: 01:00.0: is busy\n");
	error_hint(&err, "wait");
	catch_print(&err, text);
	assert_string_equal(text, "penstock: 01:00.0: is busy\n  next: wait\n");
	err.object[0] = '\0';
	catch_print(&err, text);
	assert_string_equal(text, "penstock: is busy\n  next: wait\n");
}

TEST(a_taken_descriptor_is_not_closed)
{
	int taken, kept;

	{
		cleanup_fd int a = open("/dev/null", O_RDONLY);
		cleanup_fd int b = open("/dev/null", O_RDONLY);

		kept = a;
		taken = take_fd(&b);
		assert_int_equal(b, -1);
	}
	assert_int_equal(fcntl(kept, F_GETFD), -1);
	assert_int_not_equal(fcntl(taken, F_GETFD), -1);
	close(taken);
}

TEST(reading_tells_an_early_end)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	char text[8] = "";

	assert_int_equal(fd_write_all(fd, "hello", 5), 0);
	assert_int_equal(fd_pread_all(fd, text, 4, 1), 0);
	assert_string_equal(text, "ello");
	assert_int_equal(fd_pread_all(fd, text, 5, 1), -EIO);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, text, 5), 0);
	assert_int_equal(fd_read_all(fd, text, 1), -EIO);
	close(fd);
	assert_int_equal(fd_pread_all(-1, text, 1, 0), -EBADF);
	assert_int_equal(fd_read_all(-1, text, 1), -EBADF);
	assert_int_equal(fd_write_all(-1, text, 1), -EBADF);
}

TEST(a_file_is_read_into_a_string)
{
	char text[8];

	assert_int_equal(fd_read_file("/nonexistent/file", text, sizeof(text)), -ENOENT);
	assert_int_equal(fd_read_file("/proc/self/comm", text, sizeof(text)), 7);
	assert_string_equal(text, "test_ba");
	assert_int_equal(fd_read_file("/proc/self", text, sizeof(text)), -EISDIR);
	assert_int_equal(fd_read_file("/dev/zero", text, sizeof(text)), -EINVAL);
	assert_int_equal(fd_write_file("/nonexistent/file", "x"), -ENOENT);
	assert_int_equal(fd_write_file("/dev/full", "x"), -ENOSPC);
	assert_int_equal(fd_write_file("/dev/null", "x"), 0);
}

TEST(lists_of_cpus_are_parsed)
{
	static const char *const bad[] = { "", "-", "-1", "1-", "3-2", "1,,2", "1,", ",1", " 1",
		"1 ", "1:2", "0x1", "1-2-3" };
	static const uint16_t wanted[] = { 7, 2, 3, 4, 0 };
	uint16_t list[CPULIST_MAX];

	assert_int_equal(cpulist_parse("7,2-4,0", ',', list, CPULIST_MAX), ARRAY_SIZE(wanted));
	assert_memory_equal(list, wanted, sizeof(wanted));
	assert_int_equal(cpulist_parse("0-1023", ',', list, CPULIST_MAX), CPULIST_MAX);
	assert_int_equal(cpulist_parse("2-4", '+', list, 3), 3);
	assert_int_equal(cpulist_parse("2-4+9", '+', list, 3), -ERANGE);
	assert_int_equal(cpulist_parse("1024", ',', list, CPULIST_MAX), -ERANGE);
	assert_int_equal(cpulist_parse("1-99999999999999999999", ',', list, CPULIST_MAX), -ERANGE);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (cpulist_parse(bad[i], ',', list, CPULIST_MAX) != -EINVAL)
			fail_msg("'%s' is a list", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_parsed),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(a_long_text_is_no_address),
		cmocka_unit_test(addresses_are_written_in_full),
		cmocka_unit_test(addresses_are_equal_when_all_fields_are),
		cmocka_unit_test(addresses_have_an_order),
		cmocka_unit_test(sizes_are_parsed),
		cmocka_unit_test(what_is_no_size_is_refused),
		cmocka_unit_test(sizes_that_overflow_are_refused),
		cmocka_unit_test(sizes_are_written_for_people),
		cmocka_unit_test(values_are_aligned),
		cmocka_unit_test(the_first_error_stays),
		cmocka_unit_test(an_error_may_have_no_object),
		cmocka_unit_test(the_kernels_reason_is_told),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(an_error_is_one_line_and_one_for_the_hint),
		cmocka_unit_test(lists_of_cpus_are_parsed),
		cmocka_unit_test(a_taken_descriptor_is_not_closed),
		cmocka_unit_test(reading_tells_an_early_end),
		cmocka_unit_test(a_file_is_read_into_a_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

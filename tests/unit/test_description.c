/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/description.h"

#include "base/size.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct option options[] = {
	{ "kernel", required_argument, NULL, 1 },
	{ "memory", required_argument, NULL, 2 },
	{ "tpm", no_argument, NULL, 3 },
	{ "device", repeated_argument, NULL, 4 },
	{ "hyperv", no_argument, NULL, 5 },
	{ "hyperv-vendor", required_argument, NULL, 6 },
	{ "help", no_argument, NULL, 7 },
	{ 0 },
};

static const char *form(const char *name)
{
	return strcmp(name, "device") == 0   ? "--device ADDRESS[,rom=FILE]"
	       : strcmp(name, "memory") == 0 ? "--memory SIZE"
	       : strcmp(name, "tpm") == 0    ? "--tpm"
					     : "--kernel FILE";
}

static struct description description;
static struct error err;

static int teardown(void **state __attribute__((unused)))
{
	description_free(&description);
	err = (struct error){ 0 };
	return 0;
}

static int parse_size(const char *text, size_t size)
{
	return description_parse(&description, "vm.yaml", text, size, options, form, &err);
}

static int parse(const char *text)
{
	return parse_size(text, strlen(text));
}

static void add(unsigned option, const char *text)
{
	assert_int_equal(description_add(&description, &options[option], text, &err), 0);
}

/* "--memory 8G --tpm", as a command line would have it. */
static void assert_words(const char *wanted)
{
	char words[1024] = "";
	size_t used = 0;

	for (size_t i = 0; i < description.count; i++) {
		const struct description_word *word = &description.words[i];

		used += snprintf(words + used, sizeof(words) - used, "%s--%s%s%s", i ? " " : "",
			word->option->name, word->text ? " " : "", word->text ? word->text : "");
	}
	assert_string_equal(words, wanted);
}

TEST(keys_are_options)
{
	assert_int_equal(parse("# a comment\n"
			       "memory: 8G\n"
			       "kernel: '/boot/a file: it''s'\n"
			       "\n"
			       "tpm: true\n"
			       "hyperv: false\n"
			       "device:\n"
			       "  - 0000:01:00.0,rom=off\n"
			       "  - \"02:00.0\"\n"),
		0);
	assert_words("--memory 8G --kernel /boot/a file: it's --tpm --device 0000:01:00.0,rom=off "
		     "--device 02:00.0");
	assert_int_equal(description.words[0].line, 2);
	assert_int_equal(description.words[0].column, 9);
	assert_int_equal(description.words[4].line, 9);
	assert_int_equal(description.words[4].column, 5);
}

TEST(one_of_several_needs_no_list)
{
	assert_int_equal(parse("device: 01:00.0\n"), 0);
	assert_words("--device 01:00.0");
	teardown(NULL);
	assert_int_equal(parse("device: []\n"), 0);
	assert_words("");
	assert_int_equal(parse("{device: ['a,b', c], memory: 1}"), 0);
	assert_words("--device a,b --device c --memory 1");
	teardown(NULL);
	assert_int_equal(parse("\xef\xbb\xbfkernel: >-\n  /boot/one\n  line\n"), 0);
	assert_words("--kernel /boot/one line");
}

TEST(an_option_goes_before_the_files)
{
	add(1, "1G");
	add(3, "03:00.0");
	add(2, NULL);
	assert_int_equal(
		parse("memory: 8G\ntpm: true\nhyperv: true\ndevice: [01:00.0, 02:00.0]\n"), 0);
	assert_words("--hyperv --device 01:00.0 --device 02:00.0 --memory 1G --device 03:00.0 "
		     "--tpm");
}

/* Each: what is wrong, where, and what is said to do. */
TEST(what_is_wrong_is_told_with_its_place)
{
	static const struct {
		const char *text, *object, *what, *hint;
	} bad[] = {
		{ "memroy: 1G\n", "vm.yaml:1:1", "there is no key 'memroy'",
			"did you mean memory?" },
		{ "tpm: true\n\n  \nkernal: x\n", "vm.yaml:4:1", "no key 'kernal'", "kernel?" },
		{ "hyperv_vendor: x", "vm.yaml:1:1", "no key", "did you mean hyperv-vendor?" },
		{ "--memory: x", "vm.yaml:1:1", "no key", "did you mean memory?" },
		{ "Memory: x", "vm.yaml:1:1", "no key", "did you mean memory?" },
		{ "help: true", "vm.yaml:1:1", "no key 'help'", "--defaults' shows them all" },
		{ "x: 1G", "vm.yaml:1:1", "no key 'x'", "--defaults' shows them all" },
		{ "<<: {memory: 1}", "vm.yaml:1:1", "no key '<<'", "" },
		{ "memory: [1G, 2G]", "vm.yaml:1:9", "memory takes one value", "'memory: SIZE'" },
		{ "memory:\n  size: 1G", "vm.yaml:2:3", "memory takes a value, and here are keys",
			"'memory: SIZE'" },
		{ "memory:\ntpm: true", "vm.yaml:1:8", "memory has no value", "'memory: SIZE'" },
		{ "memory: ~", "vm.yaml:1:9", "memory has no value", "" },
		{ "device:\n- 1\n-\n", "vm.yaml:3:2", "device has no value", "'device: ADDRESS[" },
		{ "device:\n  - rom: off\n", "vm.yaml:2:5", "device takes a list of values",
			"a list of such, each on a line that begins with '- '" },
		{ "device: [[a]]", "vm.yaml:1:10", "device takes a list of values", "" },
		{ "tpm: yes", "vm.yaml:1:6", "tpm is true or false", "'tpm: true'" },
		{ "tpm: 1", "vm.yaml:1:6", "tpm is true or false", "" },
		{ "tpm: [true]", "vm.yaml:1:6", "tpm takes one value", "" },
		{ "memory: 1\ntpm: true\nmemory: 2", "vm.yaml:3:1",
			"memory is there twice, on line 1 first", "" },
		{ "device: a\ndevice: b", "vm.yaml:2:1", "device is there twice", "or a list" },
		{ "memory: &a 1G", "vm.yaml:1:9", "anchors and aliases", "the value itself" },
		{ "memory: *a", "vm.yaml:1:9", "anchors and aliases", "" },
		{ "&a\nmemory: 1", "vm.yaml:1:1", "anchors and aliases", "" },
		{ "device: &a [x]", "vm.yaml:1:9", "anchors and aliases", "" },
		{ "memory: !!int 1", "vm.yaml:1:9", "tags", "" },
		{ "!vm {memory: 1}", "vm.yaml:1:1", "tags", "" },
		{ "? {memory: 1}\n: 2", "vm.yaml:1:3", "a key is a word", "" },
		{ "? [memory]\n: 2", "vm.yaml:1:3", "a key is a word", "" },
		{ "", "vm.yaml:1:1", "there is nothing in it", "penstock config --defaults" },
		{ "# nothing\n", "vm.yaml:2:1", "there is nothing in it", "" },
		{ "---\n", "vm.yaml:2:1", "no key with a value", "'memory: 8G'" },
		{ "memory\n", "vm.yaml:1:1", "no key with a value", "" },
		{ "- memory: 1\n", "vm.yaml:1:1", "no key with a value", "" },
		{ "memory: 1\n---\nmemory: 2\n", "vm.yaml:2:1", "a second document", "" },
		{ "memory: 1G\n\ttpm: true\n", "vm.yaml:2:1", "this is no YAML", "never by tabs" },
		{ "memory: 1: 2\n", "vm.yaml:1:10", "this is no YAML: mapping values",
			"in quotes" },
		{ "memory: 'x\n", "vm.yaml:2:1", "this is no YAML", "" },
		{ "device: [a, b\n", "vm.yaml:2:1", "this is no YAML", "" },
		{ "memory: \xff\n", "vm.yaml:1:9", "this is no YAML: invalid leading UTF-8",
			"UTF-8" },
		{ "tpm: true\nmemory: \x07\n", "vm.yaml:2:9", "control characters", "UTF-8" },
		{ "kernel: \"a\\0b\"", "vm.yaml:1:9", "kernel has a control character",
			"one line" },
		{ "kernel: \"a\\x1bb\"", "vm.yaml:1:9", "kernel has a control character", "" },
		{ "kernel: |\n  a\n  b\n", "vm.yaml:1:9", "kernel has a control character",
			"'>-'" },
		{ "\"a\\0b\": 1", "vm.yaml:1:1", "the key has a control character", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		teardown(NULL);
		if (parse(bad[i].text) != -EINVAL || err.code != -EINVAL)
			fail_msg("taken: %s", bad[i].text);
		if (strcmp(err.object, bad[i].object) || !strstr(err.what, bad[i].what) ||
			!strstr(err.hint, bad[i].hint))
			fail_msg("%s\nis told as: %s: %s\n  next: %s", bad[i].text, err.object,
				err.what, err.hint);
		assert_int_equal(description.count, 0);
	}
}

TEST(a_byte_of_zero_is_no_end)
{
	assert_int_equal(parse_size("memory: 1G\nker\0nel: a\n", 21), -EINVAL);
	assert_string_equal(err.object, "vm.yaml:2:4");
}

/* Each level that is not there to be opened is refused before the next one. */
TEST(depth_is_of_no_use)
{
	char text[100000];

	memset(text, '[', sizeof(text));
	memcpy(text, "device: ", 8);
	assert_int_equal(parse_size(text, sizeof(text)), -EINVAL);
	assert_string_equal(err.object, "vm.yaml:1:10");
}

static void locate(size_t word, const char *object, const char *what)
{
	err = (struct error){ 0 };
	error_set(&err, -EINVAL, object, "%s", what);
	error_hint(&err, "hint");
	description_locate(&description, word == SIZE_MAX ? NULL : &description.words[word], &err);
	assert_string_equal(err.hint, "hint");
}

TEST(an_error_is_told_with_its_place)
{
	add(2, NULL);
	assert_int_equal(
		parse("memory: 1x\nhyperv: true\ndevice: 01:00.0,rom=/a\nkernel: /b\n"), 0);
	locate(0, NULL, "--memory 1x is no size --help");
	assert_string_equal(err.object, "vm.yaml:1:9");
	assert_string_equal(err.what, "memory 1x is no size help");
	locate(0, "01:00.0", "it is not there");
	assert_string_equal(err.what, "01:00.0: it is not there");
	locate(SIZE_MAX, NULL, "--hyperv-vendor is not here, but --hyperv is");
	assert_string_equal(err.object, "vm.yaml:2:9");
	locate(SIZE_MAX, "/a", "cannot open it");
	assert_string_equal(err.object, "vm.yaml:3:9");
	assert_string_equal(err.what, "/a: cannot open it");
	locate(SIZE_MAX, "/b", "cannot open it");
	assert_string_equal(err.object, "vm.yaml:4:9");
	/* About the command line, or about nothing of it. */
	locate(SIZE_MAX, NULL, "--tpm is of no use");
	assert_string_equal(err.object, "");
	assert_string_equal(err.what, "--tpm is of no use");
	locate(SIZE_MAX, "/c", "cannot open it");
	assert_string_equal(err.object, "/c");
}

static char *write_all(void)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	description_write(&description, options, to, &err);
	fclose(to);
	return text;
}

/* Longer than a line would be, if there were a limit to its width. */
static const char wide[] = "console=ttyS0 quiet root=UUID=5b7c2e10-93d4-4a6f-8e21-0c9f3d6b7a58 "
			   "rootflags=subvol=root iommu=pt";

TEST(what_is_written_is_read_as_the_same)
{
	static const char *const values[] = { "", "~", "null", "true", "no", "1G", "a: b", "a #b",
		"#a", "- a", "*a", "&a", "!a", "'a'", "\"a\"", "[a]", "{a: b}", " a ", "a,b", "%a",
		"@a", "`a`", "01:00.0", "1e3", "0x10", "?", "-", ":", "|", ">", "---", "...",
		"M\xc3\xbcnchen", "\xe2\x82\xac\xf0\x9f\x90\xa7", "a\\b\"c'd", wide };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		char *first, *second;

		teardown(NULL);
		add(3, values[i]);
		add(2, NULL);
		add(0, values[i]);
		add(3, "x");
		add(3, values[i]);
		first = write_all();
		assert_int_equal(err.code, 0);
		description_free(&description);
		if (parse(first))
			fail_msg("%s\n%s: %s", first, err.object, err.what);
		assert_int_equal(description.count, 5);
		assert_string_equal(description.words[0].text, values[i]);
		assert_ptr_equal(description.words[0].option, &options[0]);
		assert_ptr_equal(description.words[1].option, &options[2]);
		assert_null(description.words[1].text);
		assert_string_equal(description.words[2].text, values[i]);
		assert_string_equal(description.words[3].text, "x");
		assert_string_equal(description.words[4].text, values[i]);
		second = write_all();
		assert_string_equal(first, second);
		free(first);
		free(second);
	}
}

TEST(the_last_of_one_is_written)
{
	char *text;

	add(1, "1G");
	add(1, "2G");
	text = write_all();
	assert_string_equal(text, "memory: 2G\n");
	free(text);
}

TEST(what_a_file_cannot_say_is_not_written)
{
	static const char *const bad[] = { "a\nb", "a\tb", "\x7f", "\xff", "\xc3" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		teardown(NULL);
		add(0, bad[i]);
		free(write_all());
		if (!err.code)
			fail_msg("written: %zu", i);
	}
}

static int read_file(const char *path)
{
	return description_read(&description, path, options, form, &err);
}

/* Root's are root's, or those of who became root. */
TEST(root_reads_no_file_of_somebody_else)
{
	char path[] = "/tmp/penstock-vm-XXXXXX";
	int fd = mkstemp(path);

	if (geteuid() != 0)
		skip();
	assert_int_equal(write(fd, "memory: 1G\n", 11), 11);
	assert_int_equal(fchown(fd, 12345, 0), 0);
	assert_int_equal(read_file(path), -EPERM);
	assert_non_null(strstr(err.hint, "chown root"));
	err = (struct error){ 0 };
	setenv("SUDO_UID", "1234", 1);
	assert_int_equal(read_file(path), -EPERM);
	err = (struct error){ 0 };
	setenv("SUDO_UID", "12345", 1);
	assert_int_equal(read_file(path), 0);
	unsetenv("SUDO_UID");
	close(fd);
	unlink(path);
}

TEST(only_a_regular_file_of_fair_size_is_read)
{
	char path[] = "/tmp/penstock-vm-XXXXXX";
	int fd = mkstemp(path);

	assert_int_equal(write(fd, "memory: 1G\n", 11), 11);
	assert_int_equal(read_file(path), 0);
	assert_words("--memory 1G");
	assert_int_equal(fchmod(fd, 0620), 0);
	assert_int_equal(read_file(path), geteuid() == 0 ? -EPERM : 0);
	assert_true(geteuid() != 0 || strstr(err.hint, "chmod go-w"));
	err = (struct error){ 0 };
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(ftruncate(fd, DESCRIPTION_SIZE_MAX + 1), 0);
	assert_int_equal(read_file(path), -EFBIG);
	err = (struct error){ 0 };
	close(fd);
	unlink(path);
	assert_int_equal(read_file(path), -ENOENT);
	assert_string_equal(err.object, path);
	err = (struct error){ 0 };
	assert_int_equal(read_file("/dev/zero"), -EINVAL);
	assert_non_null(strstr(err.what, "regular"));
	err = (struct error){ 0 };
	assert_int_equal(read_file("/tmp"), -EISDIR);
	err = (struct error){ 0 };
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(read_file(path), -EINVAL);
	unlink(path);
}

#define DESCRIPTION_TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DESCRIPTION_TEST(keys_are_options),
		DESCRIPTION_TEST(one_of_several_needs_no_list),
		DESCRIPTION_TEST(an_option_goes_before_the_files),
		DESCRIPTION_TEST(what_is_wrong_is_told_with_its_place),
		DESCRIPTION_TEST(a_byte_of_zero_is_no_end),
		DESCRIPTION_TEST(depth_is_of_no_use),
		DESCRIPTION_TEST(an_error_is_told_with_its_place),
		DESCRIPTION_TEST(what_is_written_is_read_as_the_same),
		DESCRIPTION_TEST(the_last_of_one_is_written),
		DESCRIPTION_TEST(what_a_file_cannot_say_is_not_written),
		DESCRIPTION_TEST(root_reads_no_file_of_somebody_else),
		DESCRIPTION_TEST(only_a_regular_file_of_fair_size_is_read),
	};

	return test_run(tests);
}

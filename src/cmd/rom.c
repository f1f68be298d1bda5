/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/rom/rom.h"
#include "base/fd.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "host/device/address.h"
#include "host/rom/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: penstock rom dump [--json] ADDRESS FILE\n"
	"       penstock rom check [--json] FILE [ADDRESS]\n"
	"Read a device's option ROM into a file, or look whether a file is a sound one: which images it\n"
	"holds (legacy BIOS, UEFI), and what is wrong with them. With an address, also whether it is\n"
	"for that device. 'dump' checks what it has read, too. It does not disturb a driver of the host:\n"
	"'penstock bind' the device first.\n"
	"\n"
	"      --json  the result as JSON; docs/json.md describes it\n"
	"      --help  show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done and nothing is wrong, 1 failed or something is wrong, 2 wrong usage.\n";

/* What is reported on. */
struct subject {
	const char *file;
	uint8_t *data;
	size_t size;
	bool has_device;
	struct host_device device;
	struct rom rom;
};

static void print_problems(const struct rom_image *image)
{
	for (unsigned i = 0; i < ROM_PROBLEMS; i++)
		if (image->problems & 1u << i)
			printf("    problem: %s\n", rom_problem_text(1u << i));
}

static void print_image(const struct rom_image *image)
{
	const char *type = rom_type_name(image->type), *machine = "";

	if (image->type == ROM_TYPE_UEFI)
		machine = image->efi_machine == 0x8664   ? " for x86-64"
			  : image->efi_machine == 0x014c ? " for x86, 32 bits"
			  : image->efi_machine == 0xaa64 ? " for AArch64"
							 : " for another processor";
	if (type)
		printf("  %s%s", type, machine);
	else
		printf("  type %u, which no specification has,", image->type);
	printf(" at %zu, %zu bytes: %04x:%04x, class %06x\n", image->offset, image->length,
		image->vendor, image->device, image->class_code);
	print_problems(image);
}

static void print_rom(const struct subject *subject)
{
	const struct rom *rom = &subject->rom;

	printf("%s: %zu bytes, %u image%s\n", subject->file, subject->size, rom->count,
		rom->count == 1 ? "" : "s");
	for (unsigned i = 0; i < rom->count; i++)
		print_image(&rom->images[i]);
	if (rom->broken[0])
		printf("  problem: %s\n", rom->broken);
	fflush(stdout);
}

/* What follows for a guest, and what to do. */
static void advise(const struct subject *subject)
{
	const struct rom *rom = &subject->rom;

	if (rom->shift)
		log_info("cut off what is in front: tail -c +%zu '%s' > new.rom", rom->shift + 1,
			subject->file);
	if (rom->count && subject->has_device && host_device_is_display(&subject->device) &&
		!rom_has(rom, ROM_TYPE_UEFI))
		log_warning(
			"it has no UEFI image: a guest with UEFI firmware shows nothing on this "
			"card before its own driver starts");
}

static json_object *hex(uint32_t value, int digits)
{
	char text[16];

	snprintf(text, sizeof(text), "%0*x", digits, value);
	return json_object_new_string(text);
}

static json_object *describe_image(const struct rom_image *image)
{
	json_object *object = json_object_new_object(), *problems = json_object_new_array();
	const char *type = rom_type_name(image->type);

	for (unsigned i = 0; i < ROM_PROBLEMS; i++)
		if (image->problems & 1u << i)
			json_object_array_add(
				problems, json_object_new_string(rom_problem_text(1u << i)));
	json_object_object_add(object, "offset", json_object_new_int64(image->offset));
	json_object_object_add(object, "length", json_object_new_int64(image->length));
	output_add_text(object, "type", type ? type : "");
	json_object_object_add(object, "type_code", json_object_new_int(image->type));
	json_object_object_add(object, "vendor", hex(image->vendor, 4));
	json_object_object_add(object, "device", hex(image->device, 4));
	json_object_object_add(object, "class", hex(image->class_code, 6));
	json_object_object_add(object, "revision", hex(image->revision, 4));
	json_object_object_add(object, "machine",
		image->type == ROM_TYPE_UEFI ? hex(image->efi_machine, 4) : NULL);
	json_object_object_add(object, "problems", problems);
	return object;
}

static void print_rom_json(const struct subject *subject)
{
	json_object *object = output_new(), *images = json_object_new_array();
	const struct rom *rom = &subject->rom;

	for (unsigned i = 0; i < rom->count; i++)
		json_object_array_add(images, describe_image(&rom->images[i]));
	output_add_text(object, "file", subject->file);
	json_object_object_add(object, "size", json_object_new_int64(subject->size));
	json_object_object_add(object, "good", json_object_new_boolean(rom_is_good(rom)));
	output_add_text(object, "broken", rom->broken);
	json_object_object_add(object, "images", images);
	output_json(object);
}

static int report_rom(struct subject *subject, bool json)
{
	rom_parse(&subject->rom, subject->data, subject->size,
		subject->has_device ? &subject->device : NULL);
	(json ? print_rom_json : print_rom)(subject);
	advise(subject);
	return rom_is_good(&subject->rom) ? 0 : 1;
}

static int write_rom(const char *path, const uint8_t *data, size_t size, struct error *err)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int code = fd < 0 ? -errno : fd_write_all(fd, data, size);

	return code ? error_sys(err, code, path, "cannot write the option ROM") : 0;
}

static int find_rom_device(
	const struct host *host, const char *address, struct subject *subject, struct error *err)
{
	struct bdf bdf;
	int code = host_address_find_one(host, address, &bdf, err);

	if (code)
		return code;
	subject->has_device = true;
	return host_device_read(host, &bdf, &subject->device, err);
}

static int dump_device(
	const struct host *host, char **words, struct subject *subject, struct error *err)
{
	int code = find_rom_device(host, words[0], subject, err);

	subject->file = words[1];
	if (code == 0)
		code = rom_read_device(host, &subject->device, &subject->data, &subject->size, err);
	return code ? code : write_rom(subject->file, subject->data, subject->size, err);
}

static int check_file(const struct host *host, char **words, int count, struct subject *subject,
	struct error *err)
{
	int code = count > 1 ? find_rom_device(host, words[1], subject, err) : 0;

	subject->file = words[0];
	return code ? code : rom_read_file(subject->file, &subject->data, &subject->size, err);
}

static int run_rom(char **words, int count, bool json)
{
	struct subject subject = { 0 };
	struct error err = { 0 };
	struct host host;
	int status, code = host_init(&host, NULL, NULL, &err);

	if (code == 0)
		code = strcmp(words[0], "dump") == 0
			       ? dump_device(&host, words + 1, &subject, &err)
			       : check_file(&host, words + 1, count - 1, &subject, &err);
	if (code)
		error_print(&err);
	if (code == 0)
		status = report_rom(&subject, json);
	else
		status = code == -EINVAL && !subject.has_device ? EXIT_USAGE : 1;
	free(subject.data);
	return status;
}

int cmd_rom(int argc, char **argv)
{
	bool json = false, good;
	int status = output_parse_options(argc, argv, "rom", usage, &json), count;

	if (status >= 0)
		return status;
	argv += optind;
	count = argc - optind;
	good = (count == 3 && strcmp(argv[0], "dump") == 0) ||
	       ((count == 2 || count == 3) && strcmp(argv[0], "check") == 0);
	if (good)
		return run_rom(argv, count, json);
	return cmd_wrong_usage("rom", "give 'dump ADDRESS FILE' or 'check FILE [ADDRESS]'");
}

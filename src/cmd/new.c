/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/firmware.h"
#include "broker/image_work.h"
#include "cmd/cmd.h"
#include "cmd/disk_option.h"
#include "cmd/named.h"
#include "cmd/run.h"
#include "host/doctor/doctor.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
	"Usage: penstock new NAME [OPTIONS OF RUN]\n"
	"Write a file that describes a machine, for 'penstock start NAME': of a user in\n"
	"~/.config/penstock ($XDG_CONFIG_HOME), of root in /etc/penstock. Without options it asks at a\n"
	"terminal, and shows which devices of this host could be passed and what that would cost it;\n"
	"it makes the machine's disk, and starts it, where that is wanted. It tells what is to be done\n"
	"to the host first, and changes nothing of it.\n"
	"\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

/* What is to be made beside the description: paths, "" for none. */
struct new_files {
	char variables[PATH_MAX]; /* UEFI's, which the first start makes: its directory */
	char disk[PATH_MAX];
	uint64_t disk_size;
};

/* What the questions are about. */
struct interview {
	const struct host *host;
	const char *name;
	struct inventory inventory;
	size_t *offered; /* of them, by their numbers */
	size_t count;
	struct description *description;
	struct new_files *files;
};

static int add_answer(
	struct interview *interview, const char *name, const char *text, struct error *err)
{
	const struct option *option = run_options;

	while (strcmp(option->name, name))
		option++;
	return description_add(interview->description, option, text, err);
}

/* A line of the user's, without blanks around it; preset where it is empty. False at the end of the input. */
static bool ask_line(const char *question, const char *preset, char *answer, size_t size)
{
	char *start = answer;

	printf("%s [%s]: ", question, preset[0] ? preset : "none");
	fflush(stdout);
	if (!fgets(answer, size, stdin))
		return false;
	answer[strcspn(answer, "\n")] = '\0';
	while (isspace((unsigned char)*start))
		start++;
	memmove(answer, start, strlen(start) + 1);
	for (size_t length = strlen(answer); length && isspace((unsigned char)answer[length - 1]);
		length--)
		answer[length - 1] = '\0';
	if (!answer[0])
		snprintf(answer, size, "%s", preset);
	return true;
}

/* The others of its group that somebody could miss. */
static unsigned count_companions(
	const struct interview *interview, const struct inventory_device *device)
{
	unsigned count = 0;

	for (size_t i = 0; i < interview->inventory.count; i++) {
		const struct inventory_device *other = &interview->inventory.devices[i];

		count += other != device && other->device.group == device->device.group &&
			 !host_device_is_bridge(&other->device);
	}
	return count;
}

static void print_offer(
	const struct interview *interview, size_t number, const struct inventory_device *device)
{
	unsigned companions = count_companions(interview, device);
	char name[BDF_TEXT];

	printf("%4zu  %s  %s\n      %.70s\n", number, bdf_format(&device->device.bdf, name),
		device->class_name[0] ? device->class_name : "unknown class",
		device->device_name[0] ? device->device_name : "unknown device");
	printf("      the host loses it%s%s", device->device.driver[0] ? " from " : "",
		device->device.driver);
	if (companions)
		printf(", and %u more of its group", companions);
	if (device->device.boot_display)
		printf("; it is the boot display");
	if (device->device.numa_node >= 0)
		printf("; NUMA node %d", device->device.numa_node);
	putchar('\n');
}

/* Those that a guest can have, and why not of others that somebody may look for. */
static int offer_devices(struct interview *interview, struct error *err)
{
	interview->offered = calloc(interview->inventory.count + 1, sizeof(*interview->offered));
	if (!interview->offered)
		return error_sys(err, -ENOMEM, NULL, "cannot list the devices");
	puts("Devices of this host that can be passed:");
	for (size_t i = 0; i < interview->inventory.count; i++) {
		const struct inventory_device *device = &interview->inventory.devices[i];
		struct error stays = { 0 };
		char name[BDF_TEXT];

		if (inventory_is_platform(device) ||
			host_device_check_bridge(&device->device, &stays))
			continue;
		if (!device->used && !device->holder[0] && device->device.group >= 0) {
			interview->offered[interview->count++] = i;
			print_offer(interview, interview->count, device);
			continue;
		}
		printf("      %s  not now: %s\n", bdf_format(&device->device.bdf, name),
			device->used        ? device->use.reason
			: device->holder[0] ? device->holder
					    : "it is in no IOMMU group");
	}
	if (!interview->count)
		puts("      none; 'penstock doctor' tells why");
	return 0;
}

static int add_wanted_devices(struct interview *interview, char *words, struct error *err)
{
	char *save;

	for (char *word = strtok_r(words, " ,", &save); word; word = strtok_r(NULL, " ,", &save)) {
		char *end, name[BDF_TEXT];
		unsigned long number = strtoul(word, &end, 10);

		if (!*end && number >= 1 && number <= interview->count)
			word = bdf_format(
				&interview->inventory.devices[interview->offered[number - 1]]
					 .device.bdf,
				name);
		if (add_answer(interview, "device", word, err))
			return err->code;
	}
	return 0;
}

/* What a machine keeps is not of its description: of root's in /var/lib, of a user's in ~/.local/share. */
static int find_state(const struct interview *interview, const char *ending,
	char path[static PATH_MAX], struct error *err)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	bool given = data && data[0] == '/';
	int code = 0;

	if (geteuid() == 0)
		code = host_path(
			interview->host, path, "/var/lib/penstock/%s.%s", interview->name, ending);
	else if (given || (home && home[0] == '/'))
		snprintf(path, PATH_MAX, "%s%s/penstock/%s.%s", given ? data : home,
			given ? "" : "/.local/share", interview->name, ending);
	else
		code = -ENOENT;
	return code ? error_sys(err, code, interview->name, "there is no place for its state") : 0;
}

static int make_directories_of(const char *file, struct error *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", file);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return error_sys(err, -errno, path, "cannot make the directory");
		*slash = '/';
	}
	return 0;
}

static int ask_what_runs(struct interview *interview, struct error *err)
{
	char answer[1024];

	if (!ask_line("Firmware uefi or bios, or the file of a Linux kernel", "uefi", answer,
		    sizeof(answer)))
		return -ECANCELED;
	if (!strchr(answer, '/') && strcmp(answer, "uefi"))
		return add_answer(interview, "firmware", answer, err);
	if (strcmp(answer, "uefi") == 0) {
		if (find_state(interview, "fd", interview->files->variables, err) ||
			add_answer(interview, "firmware", answer, err))
			return err->code;
		return add_answer(interview, "nvram", interview->files->variables, err);
	}
	if (add_answer(interview, "kernel", answer, err))
		return err->code;
	if (!ask_line("Its initial RAM disk", "", answer, sizeof(answer)))
		return -ECANCELED;
	if (answer[0] && add_answer(interview, "initrd", answer, err))
		return err->code;
	if (!ask_line("Its command line", "console=ttyS0", answer, sizeof(answer)))
		return -ECANCELED;
	return add_answer(interview, "cmdline", answer, err);
}

static int ask_size(struct interview *interview, struct error *err)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	char answer[256], preset[16];

	if (!ask_line("Memory", "2G", answer, sizeof(answer)))
		return -ECANCELED;
	if (add_answer(interview, "memory", answer, err))
		return err->code;
	snprintf(preset, sizeof(preset), "%ld", online < 1 ? 1 : online > 4 ? 4 : online);
	if (!ask_line("CPUs", preset, answer, sizeof(answer)))
		return -ECANCELED;
	return add_answer(interview, "cpus", answer, err);
}

static int add_disk_answer(struct interview *interview, const char *answer, struct error *err)
{
	struct new_files *files = interview->files;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.*s", (int)strcspn(answer, ","), answer);
	if (access(path, F_OK) == 0)
		return add_answer(interview, "disk", answer, err);
	if (!isdigit((unsigned char)answer[0]))
		return error_sys(err, -errno, path, "this disk is not there");
	if (cmd_disk_size_parse(answer, &files->disk_size, err) ||
		find_state(interview, "qcow2", files->disk, err))
		return err->code;
	return add_answer(interview, "disk", files->disk, err);
}

/* What a guest without a card of its own shows, and is installed by, is on a display of ours. */
static int ask_what_it_meets(struct interview *interview, struct error *err)
{
	char answer[PATH_MAX];

	if (!ask_line("Disk: a size makes one, a file is one that is there", "", answer,
		    sizeof(answer)))
		return -ECANCELED;
	if (answer[0] && add_disk_answer(interview, answer, err))
		return err->code;
	if (!ask_line("Network: user, bridge=NAME or tap=NAME", "", answer, sizeof(answer)))
		return -ECANCELED;
	if (answer[0] && add_answer(interview, "net", answer, err))
		return err->code;
	if (!ask_line("Display: vnc", "", answer, sizeof(answer)))
		return -ECANCELED;
	return answer[0] ? add_answer(interview, "display", answer, err) : 0;
}

/* 0 or a negative errno; -ECANCELED without an error where the input ends. */
static int ask_all(struct interview *interview, struct error *err)
{
	char answer[1024];
	int code;

	if (inventory_read(interview->host, &interview->inventory, err) ||
		offer_devices(interview, err))
		return err->code;
	if (!ask_line(
		    "Which, by number or address, with blanks between", "", answer, sizeof(answer)))
		return -ECANCELED;
	code = add_wanted_devices(interview, answer, err);
	if (!code)
		code = ask_size(interview, err);
	if (!code)
		code = ask_what_runs(interview, err);
	return code ? code : ask_what_it_meets(interview, err);
}

static int interview_user(const struct host *host, const char *name,
	struct description *description, struct new_files *files, struct error *err)
{
	struct interview interview = {
		.host = host,
		.name = name,
		.description = description,
		.files = files,
	};
	int code = ask_all(&interview, err);

	free(interview.offered);
	inventory_free(&interview.inventory);
	if (code == -ECANCELED)
		return error_set(err, code, name, "left without an answer, nothing is written");
	return code;
}

/* Where values of options have paths: behind these words, of which "" is their beginning. */
static const struct place {
	const char *option, *behind;
} places[] = {
	{ "kernel", "" },
	{ "initrd", "" },
	{ "firmware", "" },
	{ "nvram", "" },
	{ "disk", "" },
	{ "share", "" },
	{ "vdpa", "" },
	{ "cloud-init", "" },
	{ "cloud-init", ",meta-data=" },
	{ "device", ",rom=" },
	{ "serial", "file:" },
	{ "display", "unix:" },
	{ "monitor", "unix:" },
};

/* What stands there for no file. */
static bool is_word(const char *option, const char *text)
{
	size_t length = strcspn(text, ",");

	if (strcmp(option, "device") == 0)
		return length == strlen("off") && strncmp(text, "off", length) == 0;
	return strcmp(option, "firmware") == 0 &&
	       (strcmp(text, BROKER_FIRMWARE_UEFI) == 0 || strcmp(text, BROKER_FIRMWARE_BIOS) == 0);
}

/* The relative path there, or NULL. */
static const char *find_relative(const struct description_word *word, const struct place *place)
{
	const char *at;

	if (strcmp(word->option->name, place->option))
		return NULL;
	at = strstr(word->text, place->behind);
	at = at ? at + strlen(place->behind) : "";
	return *at && *at != '/' && !is_word(place->option, at) ? at : NULL;
}

static int complete_path(
	struct description_word *word, const struct place *place, struct error *err)
{
	const char *relative = find_relative(word, place);
	char directory[PATH_MAX];
	char *text;

	if (!relative)
		return 0;
	if (!getcwd(directory, sizeof(directory)))
		return error_sys(err, -errno, relative, "cannot tell where this is");
	if (asprintf(&text, "%.*s%s/%s", (int)(relative - word->text), word->text, directory,
		    relative) < 0)
		return error_sys(err, -ENOMEM, relative, "cannot tell where this is");
	free(word->text);
	free(word->taken);
	word->text = text;
	word->taken = strdup(text);
	return word->taken ? 0 : error_sys(err, -ENOMEM, relative, "cannot tell where this is");
}

/* The description is elsewhere, and a relative path in it begins there. */
static int complete_paths(struct description *description, struct error *err)
{
	for (size_t i = 0; i < description->count; i++)
		for (size_t j = 0; j < ARRAY_SIZE(places); j++)
			if (complete_path(&description->words[i], &places[j], err))
				return err->code;
	return 0;
}

/* Whole, or not at all; another one's of this name stays. */
static int write_new(const char *path, const struct description *description, struct error *err)
{
	FILE *to;
	int fd;

	if (make_directories_of(path, err))
		return err->code;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_sys(err, -errno, path, "cannot make it");
	to = fdopen(fd, "w");
	if (!to) {
		close(fd);
		error_sys(err, -ENOMEM, path, "cannot write it");
	} else {
		description_write(description, run_options, to, err);
		if (fclose(to))
			error_sys(err, -errno, path, "cannot write it");
	}
	if (err->code)
		unlink(path);
	return err->code;
}

/* What stands in the way of the devices, and what mends it. False: nothing that is known. */
static bool tell_what_comes_first(const struct host *host, const struct broker_config *config)
{
	struct doctor doctor = { 0 };
	struct error err = { 0 };
	bool told = false, listed = false;

	if (!config->device_count)
		return false;
	if (doctor_run(&doctor, host, config->devices, config->device_count, &err)) {
		error_print(&err);
		told = true;
	}
	for (size_t i = 0; i < doctor.count; i++) {
		const struct finding *finding = &doctor.findings[i];
		char name[BDF_TEXT] = "the host";

		if (finding->status != FINDING_PROBLEM)
			continue;
		if (!listed)
			puts("Before it can start:");
		listed = told = true;
		if (finding->has_device)
			bdf_format(&finding->device, name);
		printf("  %s: %s\n", name, finding->what);
		if (finding->fix[0])
			printf("    next: %s\n", finding->fix);
	}
	doctor_free(&doctor);
	return told;
}

static int make_disk(const struct new_files *files, struct error *err)
{
	const struct broker_disk_config disk = { .path = files->disk,
		.format = BROKER_FORMAT_QCOW2 };
	char size[24];

	if (make_directories_of(files->disk, err) ||
		broker_image_create(&disk, files->disk_size, err))
		return err->code;
	printf("%s is its disk, %s, which takes room as it is written.\n", files->disk,
		size_format(files->disk_size, size));
	return 0;
}

/* All of it, or nothing. */
static int make_files(const struct new_files *files, const char *path,
	const struct description *description, struct error *err)
{
	if ((files->variables[0] && make_directories_of(files->variables, err)) ||
		(files->disk[0] && make_disk(files, err)))
		return err->code;
	if (write_new(path, description, err) && files->disk[0])
		unlink(files->disk);
	return err->code;
}

static int write_and_tell(const struct host *host, const char *name, const char *path,
	const struct new_files *files, struct description *description, bool *ready,
	struct error *err)
{
	struct broker_config config;

	if (complete_paths(description, err) || run_understand(description, &config, err) ||
		make_files(files, path, description, err))
		return err->code;
	printf("%s describes %s.\n", path, name);
	*ready = !tell_what_comes_first(host, &config);
	printf("Start it by: penstock start %s\n", name);
	return 0;
}

/* Its exit code. */
static int offer_start(char *name)
{
	char answer[16];

	if (!ask_line("Start it now, yes or no", "no", answer, sizeof(answer)) ||
		(strcmp(answer, "yes") && strcmp(answer, "y")))
		return 0;
	optind = 0; /* getopt(3) has seen our own words */
	return cmd_start(2, (char *[]){ "start", name, NULL });
}

static int find_place(
	const struct host *host, const char *name, char path[static PATH_MAX], struct error *err)
{
	struct error none = { 0 };

	if (named_find(host, name, path, &none) == 0) {
		error_set(err, -EEXIST, path, "it describes a machine of this name already");
		error_hint(err,
			"'penstock run %.300s' takes it as it is; remove it, or take another name",
			path);
		return err->code;
	}
	if (none.code != -ENOENT) {
		*err = none;
		return err->code;
	}
	return named_place(host, name, path, err);
}

/* argv: the name, and run's options. *asked: they were none, and the user has answered all. *ready: it can start. */
static int make_description(
	int argc, char **argv, const char *name, bool *asked, bool *ready, struct error *err)
{
	struct description description = { 0 };
	struct new_files files = { 0 };
	char path[PATH_MAX];
	struct host host;
	int code;

	if (host_init(&host, NULL, NULL, err) || find_place(&host, name, path, err))
		return err->code;
	code = run_collect(argc, argv, &description, err);
	*asked = !code && !description.count && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (*asked)
		code = interview_user(&host, name, &description, &files, err);
	if (!code)
		code = write_and_tell(&host, name, path, &files, &description, ready, err);
	description_free(&description);
	return code > 0 ? 0 : code;
}

int cmd_new(int argc, char **argv)
{
	char *name = argc > 1 ? argv[1] : "";
	bool asked = false, ready = false;
	struct error err = { 0 };
	int code;

	if (strcmp(name, "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (name[0] == '-' || !name[0])
		return cmd_wrong_usage("new", "begin with the name of the machine");
	argv[1] = argv[0]; /* getopt(3) begins its messages with it */
	code = make_description(argc - 1, argv + 1, name, &asked, &ready, &err);
	if (err.code)
		error_print(&err);
	if (code == 0 && asked && ready)
		return offer_start(name);
	return code == -EINVAL ? EXIT_USAGE : code < 0;
}

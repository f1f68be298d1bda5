/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "base/text.h"
#include "broker/image_work.h"
#include "broker/qmp.h"
#include "cmd/cmd.h"
#include "cmd/disk_option.h"
#include "cmd/machine.h"
#include "cmd/named.h"
#include "cmd/output.h"
#include "control/member.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"Usage: penstock disk create FILE SIZE\n"
	"       penstock disk info [--json] FILE\n"
	"       penstock disk clone FILE NEW\n"
	"       penstock disk convert FILE NEW\n"
	"       penstock disk resize [--shrink] FILE SIZE|+SIZE\n"
	"       penstock disk snapshot [--delete] FILE NAME\n"
	"       penstock disk revert FILE NAME\n"
	"       penstock disk list [--json] FILE\n"
	"Make images of disks for --disk of 'penstock run', and change them. While a machine has one in use,\n"
	"it can be made larger, which the guest sees at once, and have snapshots, each of what a power cut\n"
	"would have left; nothing else.\n"
	"A FILE.qcow2 is a qcow2 image, any other a raw disk; FILE,format=raw and FILE,format=qcow2 say\n"
	"otherwise. A file that is there is never overwritten.\n"
	"\n"
	"create makes a disk without data, which takes room as that is written. clone makes an image in no\n"
	"time, by keeping what differs from FILE; that must not change any more, so it is write-protected.\n"
	"convert copies what is in FILE, and in what it is based on. snapshot keeps the state of a qcow2\n"
	"image in it, revert goes back to one, and list shows them.\n"
	"\n"
	"      --shrink  make it smaller; what is beyond SIZE is lost\n"
	"      --delete  delete this snapshot; the disk stays as it is\n"
	"      --json    the result as JSON; docs/json.md describes it\n"
	"      --help    show this text\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

#define NAME_SHOWN 4096
#define GUEST_DISK_MS \
	((BROKER_QMP_LIMIT_S + 10) * 1000) /* for the machine, which gives a disk's daemon less */

enum { OPTION_SHRINK = 256, OPTION_DELETE, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
	{ "shrink", no_argument, NULL, OPTION_SHRINK },
	{ "delete", no_argument, NULL, OPTION_DELETE },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct disk_task {
	struct host host;
	struct broker_image image; /* of the first word */
	struct broker_disk_config config;
	char *second; /* the word after it */
	struct named_user user;
	bool used, shrink, deletes, json;
};

/* FILE[,format=raw|qcow2] */
static int parse_file(char *text, struct broker_disk_config *config, struct error *err)
{
	char *format = text;

	*config = (struct broker_disk_config){ .path = strsep(&format, ",") };
	if (!text[0])
		return error_set(err, -EINVAL, NULL, "a file's name cannot be empty");
	if (!format)
		return 0;
	if (strcmp(format, "format=raw") == 0)
		config->format = BROKER_FORMAT_RAW;
	else if (strcmp(format, "format=qcow2") == 0)
		config->format = BROKER_FORMAT_QCOW2;
	else
		error_set(err, -EINVAL, text,
			"behind a file there may be ',format=raw' or ',format=qcow2' alone");
	return err->code;
}

/* What machines that run have open of it, be it as the base of another. */
static void look_for_users(struct disk_task *task)
{
	const struct broker_layer *layer = &task->image.layers[0];

	task->used =
		named_find_user(&task->host, layer->dev, layer->ino, layer->is_block, &task->user);
}

static int open_image(struct disk_task *task, bool writes, struct error *err)
{
	task->config.readonly = !writes;
	if (broker_image_open(&task->image, &task->config, &task->host, err) == 0)
		look_for_users(task);
	return err->code;
}

/* Of a disk that is being written to, a copy would be of no moment that there ever was. */
static int check_rest(struct disk_task *task, bool writes, struct error *err)
{
	if (!task->used || (!writes && !task->user.writes))
		return 0;
	error_set(err, -EBUSY, task->config.path, "the machine '%s' (pid %d) has it in use",
		task->user.name, task->user.pid);
	error_hint(err, "not while it runs: penstock stop %s", task->user.name);
	return err->code;
}

/* First to read: who uses it is told before who has protected it. */
static int reopen_to_change(struct disk_task *task, struct error *err)
{
	if (check_rest(task, true, err))
		return err->code;
	broker_image_close(&task->image);
	return open_image(task, true, err) ? err->code : broker_image_lock(&task->image, err);
}

static int open_to_change(struct disk_task *task, struct error *err)
{
	return open_image(task, false, err) ? err->code : reopen_to_change(task, err);
}

/* A disk that a guest has: its machine is asked */

static bool is_a_guests(const struct disk_task *task)
{
	return task->used && task->user.writes;
}

/* What the machine calls it, by which of its programs has it open. */
static int find_disk_name(struct control_client *client, const struct broker_layer *layer,
	char name[static 32], struct error *err)
{
	json_object *list = control_client_run(
		client, "__org.penstock_query-backends", NULL, MACHINE_ANSWER_MS, err);
	bool is_list = json_object_is_type(list, json_type_array), writes = false;

	for (size_t i = 0; is_list && i < json_object_array_length(list) && !writes; i++) {
		json_object *backend = json_object_array_get_idx(list, i);

		named_has_open(member_number(backend, "pid"), layer->dev, layer->ino,
			layer->is_block, &writes);
		snprintf(name, 32, "%s", member_text(backend, "serves", ""));
	}
	json_object_put(list);
	if (writes || err->code)
		return err->code;
	error_set(err, -ENODEV, layer->path, "nobody serves it to the guest of '%s' any more",
		client->name);
	error_hint(err, "penstock status %s", client->name);
	return err->code;
}

/* The name goes to the arguments, which are taken. */
static int ask_machine(struct disk_task *task, const char *command, const char *key,
	json_object *arguments, struct error *err)
{
	struct control_client client;
	struct host host;
	char name[32];

	if (cmd_machine_connect(&client, &host, task->user.name, err) ||
		find_disk_name(&client, &task->image.layers[0], name, err)) {
		json_object_put(arguments);
	} else {
		json_object_object_add(arguments, key, json_object_new_string(name));
		json_object_put(
			control_client_run(&client, command, arguments, GUEST_DISK_MS, err));
	}
	control_client_close(&client);
	return err->code;
}

static int create_disk(struct disk_task *task, struct error *err)
{
	uint64_t size;

	if (cmd_disk_size_parse(task->second, &size, err))
		return err->code;
	return broker_image_create(&task->config, size, err);
}

static int clone_disk(struct disk_task *task, struct error *err)
{
	struct broker_disk_config clone;
	bool protected = false;

	if (parse_file(task->second, &clone, err) || open_image(task, false, err) ||
		check_rest(task, false, err) ||
		broker_image_clone(&task->image, &clone, &task->host, &protected, err))
		return err->code;
	printf("%s is based on %s, which must neither change nor go%s\n", clone.path,
		task->config.path, protected ? ": it is write-protected now" : "");
	return 0;
}

static int convert_disk(struct disk_task *task, struct error *err)
{
	struct broker_disk_config copy;

	if (parse_file(task->second, &copy, err) || open_image(task, false, err) ||
		check_rest(task, false, err))
		return err->code;
	return broker_image_convert(&task->image, &copy, isatty(STDERR_FILENO), err);
}

static int resize_disk(struct disk_task *task, struct error *err)
{
	bool more = task->second[0] == '+';
	json_object *arguments;
	uint64_t size, now = 0;

	if (cmd_disk_size_parse(task->second + more, &size, err) || open_image(task, false, err))
		return err->code;
	if (more)
		now = task->image.layers[0].size;
	if (now > INT64_MAX - 4 * KIB - size)
		return error_set(err, -EFBIG, task->config.path, "it cannot be so large");
	if (!is_a_guests(task) || task->shrink)
		return reopen_to_change(task, err)
			       ? err->code
			       : broker_image_resize(&task->image, now + size, task->shrink, err);
	arguments = json_object_new_object();
	json_object_object_add(arguments, "size", json_object_new_int64(now + size));
	return ask_machine(task, "block_resize", "node-name", arguments, err);
}

static int check_snapshot_name(const char *name, struct error *err)
{
	for (const char *at = name; *at; at++)
		if (!isalnum((unsigned char)*at) && !strchr("._-", *at))
			name = "";
	if (isalnum((unsigned char)name[0]) && strlen(name) < 64)
		return 0;
	error_set(err, -EINVAL, NULL, "this cannot be the name of a snapshot");
	error_hint(
		err, "use 1 to 63 letters, digits, '.', '_' and '-', with a letter or digit first");
	return err->code;
}

/* Of a disk that a guest has. */
static int change_guests_snapshot(struct disk_task *task, struct error *err)
{
	json_object *arguments;

	if (broker_image_expect_snapshot(&task->image, task->second, task->deletes, err))
		return err->code;
	arguments = json_object_new_object();
	json_object_object_add(arguments, "name", json_object_new_string(task->second));
	if (ask_machine(task,
		    task->deletes ? "blockdev-snapshot-delete-internal-sync"
				  : "blockdev-snapshot-internal-sync",
		    "device", arguments, err) == 0 &&
		!task->deletes)
		printf("%s: the guest runs, so '%s' is what a power cut would have left\n",
			task->config.path, task->second);
	return err->code;
}

static int change_snapshot_of_disk(struct disk_task *task, struct error *err)
{
	if ((!task->deletes && check_snapshot_name(task->second, err)) ||
		open_image(task, false, err))
		return err->code;
	if (is_a_guests(task))
		return change_guests_snapshot(task, err);
	if (reopen_to_change(task, err))
		return err->code;
	return (task->deletes ? broker_image_delete_snapshot : broker_image_snapshot)(
		&task->image, task->second, err);
}

static int revert_disk(struct disk_task *task, struct error *err)
{
	if (open_to_change(task, err))
		return err->code;
	return broker_image_revert(&task->image, task->second, err);
}

/* What is told of one */

static const char *word_of_format(enum broker_format format)
{
	return format == BROKER_FORMAT_QCOW2 ? "qcow2" : "raw";
}

static json_object *list_snapshots(struct disk_task *task, struct error *err)
{
	const struct broker_layer *layer = &task->image.layers[0];
	json_object *list = json_object_new_array(), *info, *found;

	if (layer->format != BROKER_FORMAT_QCOW2)
		return list;
	info = broker_image_ask(layer, layer->format, err);
	found = json_object_object_get(info, "snapshots");
	for (size_t i = 0; found && i < json_object_array_length(found); i++) {
		json_object *from = json_object_array_get_idx(found, i),
			    *snapshot = json_object_new_object();
		time_t taken = json_object_get_int64(json_object_object_get(from, "date-sec"));
		char date[32] = "";
		struct tm parts;

		if (gmtime_r(&taken, &parts))
			strftime(date, sizeof(date), "%FT%TZ", &parts);
		output_add_text(snapshot, "name", member_text(from, "name", ""));
		output_add_text(snapshot, "taken", date);
		json_object_array_add(list, snapshot);
	}
	json_object_put(info);
	return list;
}

static json_object *list_bases(const struct broker_image *image)
{
	json_object *list = json_object_new_array();

	for (unsigned i = 1; i < image->count; i++) {
		json_object *base = json_object_new_object();

		output_add_text(base, "file", image->layers[i].path);
		output_add_text(base, "format", word_of_format(image->layers[i].format));
		json_object_array_add(list, base);
	}
	return list;
}

static json_object *describe_user(const struct disk_task *task)
{
	json_object *user = json_object_new_object();

	output_add_text(user, "name", task->user.name);
	json_object_object_add(user, "pid", json_object_new_int(task->user.pid));
	json_object_object_add(user, "writes", json_object_new_boolean(task->user.writes));
	return user;
}

static uint64_t allocated_of(const struct broker_layer *layer)
{
	struct stat stat;

	return layer->is_block || fstat(layer->fd, &stat) < 0 ? layer->size
							      : (uint64_t)stat.st_blocks * 512;
}

/* Names in it are others', and whatever they wanted. */
static void print_snapshots(json_object *list)
{
	char name[NAME_SHOWN];

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *snapshot = json_object_array_get_idx(list, i);

		text_format(name, sizeof(name), "%s", member_text(snapshot, "name", ""));
		printf("%-32s %s\n", name, member_text(snapshot, "taken", ""));
	}
}

static void print_info(const struct disk_task *task, json_object *snapshots)
{
	const struct broker_layer *layers = task->image.layers;
	char bytes[24], taken[24], name[NAME_SHOWN];

	printf("file      %s\n", layers[0].path);
	printf("format    %s\n", word_of_format(layers[0].format));
	printf("size      %s, of which the file takes %s\n", size_format(layers[0].size, bytes),
		size_format(allocated_of(&layers[0]), taken));
	for (unsigned i = 1; i < task->image.count; i++) {
		text_format(name, sizeof(name), "%s", layers[i].path);
		printf("based on  %s (%s)\n", name, word_of_format(layers[i].format));
	}
	for (size_t i = 0; i < json_object_array_length(snapshots); i++) {
		text_format(name, sizeof(name), "%s",
			member_text(json_object_array_get_idx(snapshots, i), "name", ""));
		printf("snapshot  %s\n", name);
	}
	if (task->used)
		printf("used by   the machine '%s' (pid %d)\n", task->user.name, task->user.pid);
}

static void print_info_json(const struct disk_task *task, json_object *snapshots)
{
	const struct broker_layer *layer = &task->image.layers[0];
	json_object *object = output_new();

	output_add_text(object, "file", layer->path);
	output_add_text(object, "format", word_of_format(layer->format));
	json_object_object_add(object, "size", json_object_new_int64(layer->size));
	json_object_object_add(object, "allocated", json_object_new_int64(allocated_of(layer)));
	json_object_object_add(object, "based_on", list_bases(&task->image));
	json_object_object_add(object, "snapshots", json_object_get(snapshots));
	json_object_object_add(object, "used_by", task->used ? describe_user(task) : NULL);
	output_json(object);
}

static int tell_of_disk(struct disk_task *task, struct error *err)
{
	json_object *snapshots;

	if (open_image(task, false, err))
		return err->code;
	snapshots = list_snapshots(task, err);
	if (!err->code)
		(task->json ? print_info_json : print_info)(task, snapshots);
	json_object_put(snapshots);
	return err->code;
}

static int tell_of_snapshots(struct disk_task *task, struct error *err)
{
	json_object *snapshots, *object;

	if (open_image(task, false, err))
		return err->code;
	snapshots = list_snapshots(task, err);
	if (!err->code && task->json) {
		object = output_new();
		json_object_object_add(object, "snapshots", json_object_get(snapshots));
		output_json(object);
	} else if (!err->code) {
		print_snapshots(snapshots);
	}
	json_object_put(snapshots);
	return err->code;
}

static const struct disk_verb {
	const char *name;
	int (*act)(struct disk_task *task, struct error *err);
	const char *second; /* what it wants besides a file; NULL: nothing */
	bool reports;
} verbs[] = {
	{ "create", create_disk, "a size", false },
	{ "info", tell_of_disk, NULL, true },
	{ "clone", clone_disk, "the clone's name", false },
	{ "convert", convert_disk, "the copy's name", false },
	{ "resize", resize_disk, "a size", false },
	{ "snapshot", change_snapshot_of_disk, "the snapshot's name", false },
	{ "revert", revert_disk, "the snapshot's name", false },
	{ "list", tell_of_snapshots, NULL, true },
};

static int check_disk_words(
	const struct disk_task *task, int count, char **words, const struct disk_verb **found)
{
	*found = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(verbs) && count; i++)
		if (strcmp(words[0], verbs[i].name) == 0)
			*found = &verbs[i];
	if (!*found)
		return cmd_wrong_usage("disk",
			"give one of create, info, clone, convert, resize, snapshot, revert and list");
	if (count != ((*found)->second ? 3 : 2))
		return cmd_wrong_usage("disk", "%s wants a file%s%s", words[0],
			(*found)->second ? " and " : "", (*found)->second ? (*found)->second : "");
	if (task->json && !(*found)->reports)
		return cmd_wrong_usage("disk", "--json goes with info and list");
	if (task->shrink && (*found)->act != resize_disk)
		return cmd_wrong_usage("disk", "--shrink goes with resize");
	if (task->deletes && (*found)->act != change_snapshot_of_disk)
		return cmd_wrong_usage("disk", "--delete goes with snapshot");
	return -1;
}

static int run_verb(struct disk_task *task, const struct disk_verb *verb, char **words)
{
	struct error err = { 0 };

	task->second = words[2];
	if (host_init(&task->host, NULL, NULL, &err) == 0 &&
		parse_file(words[1], &task->config, &err) == 0)
		verb->act(task, &err);
	broker_image_close(&task->image);
	if (!err.code)
		return 0;
	error_print(&err);
	return 1;
}

int cmd_disk(int argc, char **argv)
{
	struct disk_task task = { .image.at_work = true };
	const struct disk_verb *verb;
	int option, status;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(usage, stdout);
			return 0;
		}
		if (option != OPTION_SHRINK && option != OPTION_DELETE && option != OPTION_JSON)
			return cmd_wrong_usage("disk", NULL);
		task.shrink |= option == OPTION_SHRINK;
		task.deletes |= option == OPTION_DELETE;
		task.json |= option == OPTION_JSON;
	}
	status = check_disk_words(&task, argc - optind, argv + optind, &verb);
	return status < 0 ? run_verb(&task, verb, argv + optind) : status;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/disk_option.h"

#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool find_word(const char *const *words, size_t count, const char *text, unsigned *place)
{
	for (*place = 0; *place < count; ++*place)
		if (words[*place] && strcmp(words[*place], text) == 0)
			return true;
	return false;
}

static int parse_format(const char *text, struct broker_disk_config *disk, struct error *err)
{
	static const char *const words[] = {
		[BROKER_FORMAT_RAW] = "raw",
		[BROKER_FORMAT_QCOW2] = "qcow2",
	};

	if (find_word(words, ARRAY_SIZE(words), text, &disk->format))
		return 0;
	return error_set(err, -EINVAL, NULL, "--disk %s: format=%s is neither raw nor qcow2",
		disk->path, text);
}

static int parse_cache(const char *text, struct broker_disk_config *disk, struct error *err)
{
	static const char *const words[] = {
		[BROKER_CACHE_WRITEBACK] = "writeback",
		[BROKER_CACHE_NONE] = "none",
		[BROKER_CACHE_UNSAFE] = "unsafe",
	};

	if (find_word(words, ARRAY_SIZE(words), text, &disk->cache))
		return 0;
	return error_set(err, -EINVAL, NULL,
		"--disk %s: cache=%s is none of writeback, none and unsafe", disk->path, text);
}

static int parse_queues(const char *text, struct broker_disk_config *disk, struct error *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)text[0]) || *end || !value || value > VIRTIO_QUEUES_MAX)
		return error_set(err, -EINVAL, NULL,
			"--disk %s: queues=%s is no number from 1 to %d", disk->path, text,
			VIRTIO_QUEUES_MAX);
	disk->queues = value;
	return 0;
}

int cmd_disk_parse(char *text, struct broker_disk_config *disk, struct error *err)
{
	char *rest = text, *word;

	disk->path = strsep(&rest, ",");
	if (!disk->path[0])
		return error_set(err, -EINVAL, NULL, "--disk needs a file or a block device");
	while (!err->code && (word = strsep(&rest, ","))) {
		if (strncmp(word, "format=", 7) == 0)
			parse_format(word + 7, disk, err);
		else if (strncmp(word, "cache=", 6) == 0)
			parse_cache(word + 6, disk, err);
		else if (strncmp(word, "queues=", 7) == 0)
			parse_queues(word + 7, disk, err);
		else if (strcmp(word, "readonly") == 0)
			disk->readonly = true;
		else
			error_set(err, -EINVAL, NULL,
				"--disk %s: '%s' is none of format=, readonly, cache= and queues=",
				disk->path, word);
	}
	return err->code;
}

int cmd_cloud_init_parse(char *text, struct broker_cloud_init *init, struct error *err)
{
	static const char key[] = "meta-data=";
	char *rest = text;

	init->user_data = strsep(&rest, ",");
	init->meta_data = NULL;
	if (!init->user_data[0])
		return error_set(err, -EINVAL, NULL, "--cloud-init needs a file with user data");
	if (rest && (strncmp(rest, key, strlen(key)) || !rest[strlen(key)]))
		return error_set(err, -EINVAL, NULL, "--cloud-init %s: '%s' is not meta-data=FILE",
			init->user_data, rest);
	if (rest)
		init->meta_data = rest + strlen(key);
	return 0;
}

int cmd_disk_size_parse(const char *text, uint64_t *size, struct error *err)
{
	/* Beyond this there is no file. */
	if (size_parse(text, size) == 0 && *size && *size <= INT64_MAX - 4 * KIB)
		return 0;
	return error_set(err, -EINVAL, NULL, "%s is no size of a disk, such as 20G", text);
}

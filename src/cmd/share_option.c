/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/share_option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int set_tag(
	const char *text, size_t length, struct broker_share_config *share, struct error *err)
{
	if (!length || length > VIRTIO_TAG_SIZE) {
		error_set(err, -EINVAL, NULL,
			"--share %s: the tag '%.*s' has %zu bytes, not 1 to %d", share->path,
			(int)length, text, length, VIRTIO_TAG_SIZE);
		return err->code;
	}
	snprintf(share->tag, sizeof(share->tag), "%.*s", (int)length, text);
	return 0;
}

/* The last part of the path, where that has a name. */
static int derive_tag(struct broker_share_config *share, struct error *err)
{
	size_t end = strlen(share->path), start;

	while (end && share->path[end - 1] == '/')
		end--;
	for (start = end; start && share->path[start - 1] != '/';)
		start--;
	if (end == start || strncmp(share->path + start, "..", end - start) == 0)
		return error_set(err, -EINVAL, NULL,
			"--share %s: this path ends in no name for the guest to find it by; give it "
			"one with tag=NAME",
			share->path);
	return set_tag(share->path + start, end - start, share, err);
}

static int check_tag(const struct broker_config *config, const struct broker_share_config *share,
	struct error *err)
{
	for (unsigned i = 0; i < config->share_count; i++)
		if (strcmp(config->shares[i].tag, share->tag) == 0)
			return error_set(err, -EINVAL, NULL,
				"--share %s: %s has the tag '%s' already; give it another with "
				"tag=NAME",
				share->path, config->shares[i].path, share->tag);
	return 0;
}

int cmd_share_parse(char *text, struct broker_config *config, struct error *err)
{
	struct broker_share_config share = { .path = text };
	char *rest = text, *word;

	if (config->share_count == BROKER_SHARES_MAX)
		return error_set(
			err, -EINVAL, NULL, "more than %d shared directories", BROKER_SHARES_MAX);
	strsep(&rest, ",");
	if (!share.path[0])
		return error_set(err, -EINVAL, NULL, "--share needs a directory");
	while (!err->code && (word = strsep(&rest, ","))) {
		if (strncmp(word, "tag=", 4) == 0)
			set_tag(word + 4, strlen(word + 4), &share, err);
		else if (strcmp(word, "readonly") == 0)
			share.readonly = true;
		else
			error_set(err, -EINVAL, NULL,
				"--share %s: '%s' is neither tag=NAME nor readonly", share.path,
				word);
	}
	if (err->code || (!share.tag[0] && derive_tag(&share, err)) ||
		check_tag(config, &share, err))
		return err->code;
	config->shares[config->share_count++] = share;
	return 0;
}

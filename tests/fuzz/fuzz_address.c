/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user may type: PCI addresses in all their forms, and sizes. */
#include "tree.h"

#include "base/fd.h"
#include "base/size.h"
#include "host/device/address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX  300
#define WORDS_MAX 8

enum { ADDRESSES, NAMES, LISTS, REFUSED, SIZES };

struct fuzz_goal fuzz_goals[] = {
	[ADDRESSES] = { "addresses", 5000, 0 },
	[NAMES] = { "other names of devices", 10000, 0 },
	[LISTS] = { "lists of devices", 10000, 0 },
	[REFUSED] = { "names refused", 20, 0 },
	[SIZES] = { "sizes", 1000, 0 },
	{ 0 },
};

static void check_bdf(const struct bdf *bdf)
{
	char text[BDF_TEXT];
	struct bdf again;

	fuzz_check(bdf->device < 32 && bdf->function < 8);
	fuzz_check(bdf_format(bdf, text) == text && strlen(text) < BDF_TEXT);
	fuzz_check(bdf_parse(text, &again) == 0 && bdf_equal(bdf, &again));
}

static void find(const struct host *host, const char *text)
{
	struct bdf found[HOST_ADDRESS_MAX], one;
	struct error err = { 0 };
	int count = host_address_find(host, text, found, &err);
	bool plain = bdf_parse(text, &one) == 0;

	if (count < 0) {
		fuzz_check(!plain && count == err.code && err.what[0] && err.hint[0]);
		fuzz_goals[REFUSED].count++;
		return;
	}
	fuzz_check(count >= 1 && count <= HOST_ADDRESS_MAX);
	for (int i = 0; i < count; i++)
		check_bdf(&found[i]);
	if (plain)
		fuzz_check(count == 1 && bdf_equal(&found[0], &one));
	fuzz_goals[plain ? ADDRESSES : NAMES].count++;
	count = host_address_find_one(host, text, &one, &err);
	fuzz_check(count == -ENOTUNIQ || (count == 0 && bdf_equal(&found[0], &one)));
}

static void find_all(const struct host *host, char *text)
{
	char *words[WORDS_MAX], *save;
	struct bdf *devices;
	struct error err = { 0 };
	size_t count = 0;
	ssize_t found;

	for (char *word = strtok_r(text, " ", &save); word && count < WORDS_MAX;
		word = strtok_r(NULL, " ", &save))
		words[count++] = word;
	if (!count)
		return;
	found = host_address_find_all(host, words, count, &devices, &err);
	fuzz_check(found > 0 ? devices != NULL : found == err.code && found < 0 && !devices);
	for (ssize_t i = 0; i < found; i++)
		for (ssize_t j = 0; j < i; j++)
			fuzz_check(!bdf_equal(&devices[i], &devices[j]));
	fuzz_goals[LISTS].count += found > 1;
	free(devices);
}

static void parse_size(const char *text)
{
	uint64_t bytes, again;
	char shown[24];

	if (size_parse(text, &bytes))
		return;
	fuzz_check(strlen(size_format(bytes, shown)) < sizeof(shown));
	/* The last digit decides nothing about a larger unit: a number alone is itself. */
	if (!text[strspn(text, "0123456789")])
		fuzz_check(bytes == strtoull(text, NULL, 10));
	else
		fuzz_check(size_parse("1", &again) == 0 && bytes % 1024 == 0);
	fuzz_goals[SIZES].count++;
}

void fuzz_one(struct fuzz_input *input)
{
	static struct host host;
	struct error err = { 0 };
	char text[TEXT_MAX + 1] = "";
	size_t size = min_u64(input->size, TEXT_MAX);

	if (!tree_root[0]) {
		tree_make();
		fuzz_check(host_init(&host, tree_root, NULL, &err) == 0);
	}
	fuzz_bytes(input, text, size);
	parse_size(text);
	find(&host, text);
	find_all(&host, text);
}

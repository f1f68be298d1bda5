/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

#include <json-c/json.h>

/*
 * A disk's image, opened: the file or block device, and below it the files that it is based on. Its format is asked of
 * qemu-img, which is confined to the one file that it reads; what a header names is opened here.
 */

#define IMAGE_LAYERS_MAX 32
#define IMAGE_SECTOR     512
#define IMAGE_MEMORY_MAX \
	(4 * GIB) /* of qemu-img's address space, of which each of its threads takes some 130 MiB */

struct broker_layer {
	char *path;
	int fd;                    /* the top one's may be written to */
	enum broker_format format; /* RAW or QCOW2 */
	uint64_t size;             /* of the disk that it is, when it was opened: whole sectors */
	bool is_block;
	dev_t dev;
	ino_t ino;
};

struct broker_image {
	struct broker_layer layers[IMAGE_LAYERS_MAX]; /* the disk's own comes first */
	unsigned count;
	bool at_work; /* "penstock disk" has it, and hints are for that: no machine is to be served */
};

/* Its size as it is now, of a raw disk. 0 or a negative errno. */
int broker_layer_find_size(struct broker_layer *layer, struct error *err);

/* Of a block device, which nothing here makes larger: -EINVAL with err filled in, about object. */
int broker_layer_refuse_size(
	const struct broker_layer *layer, const char *object, struct error *err);

/* image starts out as zeros; broker_image_close() after an error, too. */
int broker_image_open(struct broker_image *image, const struct broker_disk_config *config,
	const struct host *host, struct error *err);
void broker_image_close(struct broker_image *image);

/*
 * For as long as it is open, from one life of the machine to the next: no other machine has it, nor does any of QEMU's
 * programs; but all may read what nobody writes to.
 */
int broker_image_lock(const struct broker_image *image, struct error *err);

/* What qemu-img tells of a file, the caller's; of a format that is not said by its guess. NULL with err filled in. */
json_object *broker_image_ask(
	const struct broker_layer *layer, enum broker_format format, struct error *err);

/* What a file of this name is by its name, where the format is not said. */
enum broker_format broker_image_format(const struct broker_disk_config *config);

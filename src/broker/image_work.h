/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/image.h"

/*
 * What "penstock disk" does to images, by qemu-img, which is confined to the files of one: those opened here, and told
 * each with its format. A new file appears when it is whole, and never in the place of another.
 */

#define IMAGE_WORK_USER "penstock disk"

int broker_image_create(const struct broker_disk_config *config, uint64_t size, struct error *err);

/*
 * An image that is based on this one, which is not written to any more: where that can be had by its permissions, it
 * is write-protected, and protected tells that it has become so.
 */
int broker_image_clone(const struct broker_image *image, const struct broker_disk_config *clone,
	const struct host *host, bool *protected, struct error *err);

/* All of it, with what it is based on, in a new file. progress: what is done is shown on stderr. */
int broker_image_convert(const struct broker_image *image, const struct broker_disk_config *copy,
	bool progress, struct error *err);

/* An image with snapshots has one of this name, or none: else an error. */
int broker_image_expect_snapshot(
	const struct broker_image *image, const char *name, bool is_there, struct error *err);

/* Of an image that is open for writing, and locked: */

int broker_image_resize(
	const struct broker_image *image, uint64_t size, bool shrink, struct error *err);
int broker_image_snapshot(const struct broker_image *image, const char *name, struct error *err);
int broker_image_delete_snapshot(
	const struct broker_image *image, const char *name, struct error *err);
int broker_image_revert(const struct broker_image *image, const char *name, struct error *err);

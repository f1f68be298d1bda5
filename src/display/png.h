/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "display/picture.h"

/* Write a picture as a PNG. 0; -ENODATA: nothing is shown; another negative errno. */
int png_write(const struct picture *picture, int fd);

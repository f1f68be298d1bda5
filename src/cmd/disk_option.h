/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/* The value of --disk: "FILE[,KEY[=VALUE]]...". 0 or -EINVAL. The path is a part of text, which is changed. */
int cmd_disk_parse(char *text, struct broker_disk_config *disk, struct error *err);

/* The same for that of --cloud-init: "FILE[,meta-data=FILE]". */
int cmd_cloud_init_parse(char *text, struct broker_cloud_init *init, struct error *err);

/* Of a disk that is to be made, in bytes. 0 or -EINVAL. */
int cmd_disk_size_parse(const char *text, uint64_t *size, struct error *err);

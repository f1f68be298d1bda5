/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/* The value of --disk: "FILE[,KEY[=VALUE]]...". 0 or -EINVAL. The path is a part of text, which is changed. */
int cmd_disk_parse(char *text, struct broker_disk_config *disk, struct error *err);

/* The same for that of --cloud-init: "FILE[,meta-data=FILE]". */
int cmd_cloud_init_parse(char *text, struct broker_cloud_init *init, struct error *err);

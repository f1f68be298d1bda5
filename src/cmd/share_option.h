/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/*
 * The value of --share: "DIRECTORY[,tag=NAME][,readonly]", one more of config's. 0 or -EINVAL. The path is a part of text,
 * which is changed.
 */
int cmd_share_parse(char *text, struct broker_config *config, struct error *err);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/*
 * What --cloud-init gives the guest: a disk with the files that cloud-init's NoCloud source looks for, an ISO 9660 file
 * system labelled "cidata" that xorriso makes, confined to those files.
 */

#define BROKER_SEED "the seed of --cloud-init"

/* A descriptor of a file without a name, to be read. Or a negative errno. */
int broker_seed_make(const struct broker_config *config, struct error *err);

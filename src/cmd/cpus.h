/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"

/* The value of --cpus: "N[,sockets=N][,cores=N][,threads=N][,pin=LIST]". 0 or -EINVAL. */
int cmd_cpus_parse(const char *text, struct kvm_cpus *cpus, struct error *err);

/* The value of --hyperv-vendor: up to 12 characters. 0 or -EINVAL. */
int cmd_cpus_parse_vendor(const char *text, struct kvm_cpus *cpus, struct error *err);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"

#include <linux/kvm.h>

/* Features of a CPU, by the names that Linux prints in /proc/cpuinfo. */

/* "host[,+NAME][,-NAME]...": the host's CPU, with these and without those. 0 or -EINVAL. */
int kvm_features_parse(const char *text, struct kvm_cpus *cpus, struct error *err);

/* Take what is not wanted out of a CPUID, and what of leaf 0xd is of that. */
void kvm_features_remove(struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus);

/* A feature that is needed, and that this CPUID has not; NULL: it has all. */
const char *kvm_features_lacking(const struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus);

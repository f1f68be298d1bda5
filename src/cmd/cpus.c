/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cpus.h"

#include "base/cpulist.h"
#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct wanted {
	const char *text; /* all of it, for messages */
	unsigned sockets; /* 0: not said */
	const char *pin;  /* NULL: not said */
};

static int parse_count(const char *text, unsigned *number)
{
	char rest;

	return text && text[0] >= '0' && text[0] <= '9' &&
			       sscanf(text, "%3u%c", number, &rest) == 1 && *number >= 1 &&
			       *number <= KVM_CPUS_MAX
		       ? 0
		       : -EINVAL;
}

static int parse_key(char *word, struct wanted *wanted, struct kvm_cpus *cpus, struct error *err)
{
	char *value = strchr(word, '=');
	unsigned *number = NULL;

	if (value)
		*value++ = '\0';
	if (strcmp(word, "pin") == 0) {
		wanted->pin = value ? value : "";
		return 0;
	}
	if (strcmp(word, "sockets") == 0)
		number = &wanted->sockets;
	else if (strcmp(word, "cores") == 0)
		number = &cpus->cores;
	else if (strcmp(word, "threads") == 0)
		number = &cpus->threads;
	if (!number)
		return error_set(err, -EINVAL, NULL,
			"--cpus %s: '%s' is none of sockets=N, cores=N, threads=N and pin=LIST",
			wanted->text, word);
	if (parse_count(value, number))
		return error_set(err, -EINVAL, NULL, "--cpus %s: %s is not a number from 1 to %u",
			wanted->text, word, KVM_CPUS_MAX);
	return 0;
}

/* What is not said: no threads, then one socket, then as many cores as it takes. */
static int complete(const struct wanted *wanted, struct kvm_cpus *cpus, struct error *err)
{
	unsigned sockets = wanted->sockets;

	if (!cpus->threads)
		cpus->threads = 1;
	if (!sockets)
		sockets = cpus->cores ? cpus->count / (cpus->cores * cpus->threads) : 1;
	if (!sockets)
		sockets = 1;
	if (!cpus->cores)
		cpus->cores = cpus->count / (sockets * cpus->threads);
	if (cpus->cores && sockets * cpus->cores * cpus->threads == cpus->count)
		return 0;
	return error_set(err, -EINVAL, NULL,
		"--cpus %s: %u socket%s of %u core%s of %u thread%s do not make %u CPU%s",
		wanted->text, sockets, sockets == 1 ? "" : "s", cpus->cores,
		cpus->cores == 1 ? "" : "s", cpus->threads, cpus->threads == 1 ? "" : "s",
		cpus->count, cpus->count == 1 ? "" : "s");
}

static int parse_pins(const struct wanted *wanted, struct kvm_cpus *cpus, struct error *err)
{
	uint16_t list[CPULIST_MAX];
	int count;

	if (!wanted->pin)
		return 0;
	count = cpulist_parse(wanted->pin, '+', list, CPULIST_MAX);
	if (count < 0)
		return error_set(err, -EINVAL, NULL,
			"--cpus %s: '%s' is no list of the host's CPUs, such as 2-5 or 2-3+6",
			wanted->text, wanted->pin);
	if ((unsigned)count != cpus->count)
		return error_set(err, -EINVAL, NULL,
			"--cpus %s: pin names %d CPU%s of the host for %u of the guest",
			wanted->text, count, count == 1 ? "" : "s", cpus->count);
	for (int i = 0; i < count; i++)
		for (int j = 0; j < i; j++)
			if (list[i] == list[j])
				return error_set(err, -EINVAL, NULL,
					"--cpus %s: pin names CPU %u twice", wanted->text, list[i]);
	cpus->pinned = true;
	memcpy(cpus->pins, list, count * sizeof(list[0]));
	return 0;
}

int cmd_cpus_parse(const char *text, struct kvm_cpus *cpus, struct error *err)
{
	cleanup_free char *copy = strdup(text);
	struct wanted wanted = { .text = text };
	char *rest = copy, *word = strsep(&rest, ",");

	cpus->count = cpus->cores = cpus->threads = 0;
	cpus->pinned = false;
	if (!copy || parse_count(word, &cpus->count)) {
		error_set(err, -EINVAL, NULL, "--cpus %s is not a number from 1 to %u", text,
			KVM_CPUS_MAX);
		return err->code;
	}
	while ((word = strsep(&rest, ",")))
		if (parse_key(word, &wanted, cpus, err))
			return err->code;
	if (complete(&wanted, cpus, err) == 0)
		parse_pins(&wanted, cpus, err);
	return err->code;
}

int cmd_cpus_parse_vendor(const char *text, struct kvm_cpus *cpus, struct error *err)
{
	size_t length = strlen(text);
	bool printable = true;

	for (size_t i = 0; i < length; i++)
		printable = printable && text[i] >= ' ' && text[i] <= '~';
	if (!printable || length < 1 || length > sizeof(cpus->hyperv_vendor))
		return error_set(err, -EINVAL, NULL,
			"--hyperv-vendor takes 1 to %zu characters of ASCII",
			sizeof(cpus->hyperv_vendor));
	memset(cpus->hyperv_vendor, 0, sizeof(cpus->hyperv_vendor));
	memcpy(cpus->hyperv_vendor, text, length);
	cpus->hyperv = true;
	return 0;
}

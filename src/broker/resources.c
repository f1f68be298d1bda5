/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/resources.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "broker/oom.h"
#include "host/system/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* What the kernel and our own mappings need beside guest RAM. */
#define MEMLOCK_MARGIN (64 * MIB)
/* What of that a control group has to give, besides RAM. */
#define CGROUP_MARGIN (16 * MIB)

static int open_kvm(struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (error_sys(err, -errno, "/dev/kvm", "cannot be opened") == -EACCES)
		error_hint(err,
			"add yourself to the group kvm: usermod -aG kvm $USER, then log in anew");
	else
		error_hint(err,
			"load the module (modprobe kvm_intel or kvm_amd); if that fails, switch "
			"virtualisation (VT-x or SVM) on in the firmware; in a VM, nested virtualisation");
	return err->code;
}

static int open_input(const char *path, const char *what, struct error *err)
{
	/* Not to wait for a writer where it is a pipe. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;

	if (fd < 0) {
		error_sys(err, -errno, path, "cannot open the %s", what);
		error_hint(err, "ls -l %s shows what is there", path);
		return err->code;
	}
	if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode))
		return fd;
	close(fd);
	return error_set(err, -EINVAL, path, "the %s must be a regular file", what);
}

static int refuse_kernel(const char *kernel, struct error *err)
{
	error_set(err, -EINVAL, kernel,
		"a BIOS starts what is on a disk, and no kernel from a file of the host's");
	error_hint(
		err, "leave out --firmware, and the kernel runs at once; or take --firmware uefi");
	return err->code;
}

int broker_files_open(
	struct broker_files *files, const struct broker_config *config, struct error *err)
{
	if (config->firmware &&
		broker_firmware_open(&files->firmware, "", config->firmware, config->nvram, err))
		return err->code;
	if (files->firmware.bios && config->kernel)
		return refuse_kernel(config->kernel, err);
	if (config->kernel)
		files->kernel = open_input(config->kernel, "kernel", err);
	if (files->kernel >= 0 && config->initrd)
		files->initrd = open_input(config->initrd, "initrd", err);
	if (!err->code && config->tpm)
		broker_tpm_open(&files->tpm, config->nvram, config->firmware, err);
	if (!err->code)
		files->kvm = open_kvm(err);
	return err->code;
}

void broker_files_close(struct broker_files *files)
{
	const int all[] = { files->kvm, files->kernel, files->initrd, files->firmware.code_fd,
		files->firmware.nvram_fd };

	broker_tpm_close(&files->tpm);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] >= 0)
			close(all[i]);
}

/* A line of /proc/meminfo as it stands there; 0 where it is missing. */
static uint64_t meminfo(const char *meminfo, const char *key)
{
	const char *line = strstr(meminfo, key);
	unsigned long long value;

	return line && sscanf(line + strlen(key), ": %llu", &value) == 1 ? value : 0;
}

static long count_hugepages(const struct host *host, const char *pool, const char *which)
{
	return host_read_number(host, 0, "%s/%s_hugepages", pool, which);
}

static int check_hugepages(
	const struct broker_config *config, const struct host *host, struct error *err)
{
	uint64_t page = config->hugepages;
	long needed = config->memory / page, usable;
	char pool[64], size[24];

	snprintf(pool, sizeof(pool), "/sys/kernel/mm/hugepages/hugepages-%llukB",
		(unsigned long long)(page / KIB));
	size_format(page, size);
	if (config->memory % page)
		return error_set(err, -EINVAL, NULL,
			"with huge pages of %s the memory must be a multiple of that", size);
	if (page > 2 * MIB && !host_exists(host, pool)) {
		error_set(err, -ENOTSUP, NULL, "this host has no huge pages of %s", size);
		error_hint(err, "hugepages=2M takes those of 2 MiB");
		return err->code;
	}
	usable = count_hugepages(host, pool, "free") - count_hugepages(host, pool, "resv");
	if (usable >= needed)
		return 0;
	error_set(err, -ENOMEM, NULL,
		"the host has %ld huge pages of %s that nobody uses, the guest needs %ld", usable,
		size, needed);
	needed += count_hugepages(host, pool, "nr") - usable;
	if (page > 2 * MIB)
		error_hint(err,
			"echo %ld >%s/nr_hugepages; where its memory is in pieces it gets fewer, and all "
			"of them with 'hugepagesz=1G hugepages=%ld' on its kernel's command line",
			needed, pool, needed);
	else
		error_hint(err, "echo %ld >%s/nr_hugepages", needed, pool);
	return err->code;
}

/* What does DMA has all of RAM pinned. */
static bool pins_memory(const struct broker_config *config)
{
	return config->device_count || config->vdpa_count;
}

/* With devices all of it will be pinned, so it must be free; else it need only exist. */
static int check_free(const struct broker_config *config, const char *text, struct error *err)
{
	bool all = pins_memory(config) || config->prealloc;
	uint64_t available = KIB * (all ? meminfo(text, "MemAvailable")
					: meminfo(text, "MemTotal") + meminfo(text, "SwapTotal"));
	char wanted[24], there[24];

	if (config->memory <= available)
		return 0;
	error_set(err, -ENOMEM, NULL, "the guest is to have %s of memory, the host has %s%s",
		size_format(config->memory, wanted), size_format(available, there),
		all ? " available" : "");
	error_hint(err, "give it less with --memory%s",
		all ? ", or end what uses the host's memory" : "");
	return err->code;
}

/*
 * A control group gives no more than its limit, whatever the host has. RAM that need not be present may
 * be in the swap.
 */
static int check_cgroup(const struct broker_config *config, const struct host *host,
	const char *text, struct error *err)
{
	bool all = pins_memory(config) || config->prealloc;
	uint64_t needed = config->memory + (all ? CGROUP_MARGIN : 0);
	uint64_t swap = all ? 0 : KIB * meminfo(text, "SwapTotal");
	char least[24], there[24];
	struct host_cgroup group;

	if (!host_cgroup_least(host, &group) || needed <= swap || needed - swap <= group.bytes)
		return 0;
	error_set(err, -ENOMEM, NULL,
		"%s of memory are needed with the guest's, but the control group %s may have %s (%s)",
		size_format(needed, least), group.name, size_format(group.bytes, there),
		group.limit);
	error_hint(err,
		"give that group more (MemoryMax= and MemoryHigh= of a service), or the guest less "
		"with --memory");
	return err->code;
}

/* The machine inherits the limits; it has no privilege to lock more. */
static int raise_memlock(const struct broker_config *config, struct error *err)
{
	/* The kernel counts what is pinned for vDPA once for each, and not with what is for all of VFIO. */
	uint64_t times = max_u64(config->vdpa_count + (config->device_count != 0), 1);
	uint64_t needed = times * config->memory + MEMLOCK_MARGIN;
	struct rlimit limit, wanted = { RLIM_INFINITY, RLIM_INFINITY };
	char is[24], least[24];

	if (setrlimit(RLIMIT_MEMLOCK, &wanted) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return 0;
	wanted = (struct rlimit){ limit.rlim_max, limit.rlim_max };
	if (limit.rlim_max >= needed && setrlimit(RLIMIT_MEMLOCK, &wanted) == 0)
		return 0;
	error_set(err, -ENOMEM, NULL,
		"the memory-lock limit is %s, and passing a device through pins the guest's memory: "
		"%s are needed",
		size_format(limit.rlim_max, is), size_format(needed, least));
	error_hint(err,
		"raise it (ulimit -l, memlock in /etc/security/limits.conf, LimitMEMLOCK= of "
		"a service), or run as root");
	return err->code;
}

/* As a service with OOMPolicy=kill: nobody of it is left to give the devices back. */
static void warn_of_common_end(const struct broker_config *config, const struct host *host)
{
	struct host_cgroup group;

	if (broker_oom_is_protected() || !config->device_count ||
		!host_cgroup_dies_as_one(host, &group))
		return;
	log_warning(
		"%s: where memory runs out the kernel kills all of the control group %s "
		"(memory.oom.group), penstock with the machine, and its devices stay at vfio-pci; next: set "
		"OOMPolicy=stop for that service, or 'echo 0 >/sys/fs/cgroup%s/memory.oom.group'; after "
		"such an end 'penstock release --stale' gives the devices back",
		config->name, group.name, strcmp(group.name, "/") ? group.name : "");
}

int broker_check_memory(
	const struct broker_config *config, const struct host *host, struct error *err)
{
	char text[8192];

	if (fd_read_file("/proc/meminfo", text, sizeof(text)) < 0)
		text[0] = '\0';
	if (config->hugepages
			? check_hugepages(config, host, err)
			: check_free(config, text, err) || check_cgroup(config, host, text, err))
		return err->code;
	warn_of_common_end(config, host);
	if (pins_memory(config))
		return raise_memlock(config, err);
	/* For devices to come. */
	if (config->ports)
		raise_memlock(config, &(struct error){ 0 });
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/cpus.h"

#include "base/cpulist.h"
#include "kvm/cpuid.h"
#include "kvm/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/ioctl.h>

static int run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

static bool is_online(const char *online, unsigned cpu)
{
	uint16_t list[CPULIST_MAX];
	int count = cpulist_parse(online, ',', list, CPULIST_MAX);

	for (int i = 0; i < count; i++)
		if (list[i] == cpu)
			return true;
	return false;
}

/* By going there: control groups and what else keeps a CPU for others is asked by that. */
static int check_pin(const struct host *host, unsigned cpu, struct error *err)
{
	int code = run_on(cpu);
	char online[256];

	if (!code)
		return 0;
	if (host_read(host, online, sizeof(online), "/sys/devices/system/cpu/online") > 0 &&
		!is_online(online, cpu)) {
		error_set(err, code, NULL, "vCPUs cannot be pinned to CPU %u: the host has %s", cpu,
			online);
		error_hint(err, "pin=LIST of --cpus names CPUs of the host; lscpu shows them");
		return err->code;
	}
	error_set(err, code, NULL,
		"vCPUs cannot be pinned to CPU %u: the host keeps it for others, by the cpuset of a "
		"control group",
		cpu);
	error_hint(err, "start it in a group that has this CPU (AllowedCPUs= of a service); "
			"Cpus_allowed_list of /proc/self/status shows those of yours");
	return err->code;
}

static int check_pins(const struct host *host, const struct kvm_cpus *cpus, struct error *err)
{
	cpu_set_t before;

	if (!cpus->pinned)
		return 0;
	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		return error_sys(err, -errno, NULL, "cannot tell which CPUs may be had");
	for (unsigned i = 0; i < cpus->count && !err->code; i++)
		check_pin(host, cpus->pins[i], err);
	sched_setaffinity(0, sizeof(before), &before);
	return err->code;
}

int broker_cpus_check(
	const struct broker_config *config, const struct host *host, int kvm_fd, struct error *err)
{
	int most = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (most > 0 && config->cpus.count > (unsigned)most)
		return error_set(err, -EINVAL, NULL,
			"%u vCPUs are too many: this host's KVM takes %d", config->cpus.count,
			most);
	if ((config->cpus.dedicated && kvm_dedicate_check(kvm_fd, err)) ||
		kvm_cpuid_check(kvm_fd, &config->cpus, err))
		return err->code;
	return check_pins(host, &config->cpus, err);
}

void broker_cpus_leave(const struct broker_config *config)
{
	const struct kvm_cpus *cpus = &config->cpus;
	cpu_set_t set;

	if (!cpus->pinned || sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	for (unsigned i = 0; i < cpus->count; i++)
		CPU_CLR(cpus->pins[i], &set);
	/* Where they are all there are, we stay among them. */
	if (CPU_COUNT(&set))
		sched_setaffinity(0, sizeof(set), &set);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/cgroup.h"

#include "base/size.h"

#include <stdlib.h>
#include <string.h>

#define CGROUPS "/sys/fs/cgroup"

/* Beyond memory.max the kernel kills; beyond memory.high it lets the process hardly go on. */
static const char *const limits[] = { "memory.max", "memory.high" };

/* False: this process is in no group of version 2, or in one that is not to be seen from here. */
static bool read_own(const struct host *host, struct host_cgroup *group)
{
	FILE *file = host_open(host, "/proc/self/cgroup");
	char line[sizeof(group->name)];
	bool found = false;

	*group = (struct host_cgroup){ 0 };
	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::/", 4) == 0 && !strstr(line, "/..");
	}
	if (file)
		fclose(file);
	if (found)
		snprintf(group->name, sizeof(group->name), "%s", line + strlen("0::"));
	return found;
}

/* To the one above. False: there is none. */
static bool go_up(struct host_cgroup *group)
{
	char *slash = strrchr(group->name, '/');

	if (strcmp(group->name, "/") == 0)
		return false;
	slash[slash == group->name] = '\0';
	return true;
}

static void read_limit(const struct host *host, struct host_cgroup *group)
{
	group->limit = NULL;
	group->bytes = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		/* "max" is no number. */
		long bytes = host_read_number(host, -1, CGROUPS "%s/%s", group->name, limits[i]);

		if (bytes < 0 || (uint64_t)bytes >= group->bytes)
			continue;
		group->limit = limits[i];
		group->bytes = bytes;
	}
}

bool host_cgroup_least(const struct host *host, struct host_cgroup *least)
{
	struct host_cgroup group;
	bool found = false;

	if (!read_own(host, &group))
		return false;
	do {
		read_limit(host, &group);
		if (!group.limit || (found && group.bytes >= least->bytes))
			continue;
		*least = group;
		found = true;
	} while (go_up(&group));
	return found;
}

/* A count of memory.events or memory.events.local; -1 where there is none. */
static long read_event(const struct host *host, const struct host_cgroup *group, const char *file,
	const char *event)
{
	FILE *stream = host_open(host, CGROUPS "%s/%s", group->name, file);
	char line[64], name[32];
	long count = -1, value;

	while (stream && fgets(line, sizeof(line), stream))
		if (sscanf(line, "%31s %ld", name, &value) == 2 && strcmp(name, event) == 0)
			count = value;
	if (stream)
		fclose(stream);
	return count;
}

void host_cgroup_count(const struct host *host, struct host_cgroup_counts *counts)
{
	struct host_cgroup group;
	unsigned level = 0;

	*counts = (struct host_cgroup_counts){ .kills = -1 };
	if (!read_own(host, &group))
		return;
	strcpy(counts->name, group.name);
	do {
		/* A group whose memory is not counted by itself has no such file: its parent counts. */
		if (counts->kills < 0)
			counts->kills = read_event(host, &group, "memory.events", "oom_kill");
		counts->ooms[level] = read_event(host, &group, "memory.events.local", "oom");
	} while (++level < HOST_CGROUP_LEVELS && go_up(&group));
}

static bool has_grown(long before, long now)
{
	return now > 0 && now > before;
}

bool host_cgroup_has_killed(const struct host *host, const struct host_cgroup_counts *before)
{
	struct host_cgroup_counts now;

	host_cgroup_count(host, &now);
	return strcmp(now.name, before->name) == 0 && has_grown(before->kills, now.kills);
}

bool host_cgroup_exhausted(
	const struct host *host, const struct host_cgroup_counts *before, struct host_cgroup *group)
{
	struct host_cgroup_counts now;
	unsigned level = 0;

	host_cgroup_count(host, &now);
	if (!now.name[0] || strcmp(now.name, before->name))
		return false;
	strcpy(group->name, now.name);
	do
		if (has_grown(before->ooms[level], now.ooms[level])) {
			read_limit(host, group);
			return true;
		}
	while (++level < HOST_CGROUP_LEVELS && go_up(group));
	return false;
}

bool host_cgroup_dies_as_one(const struct host *host, struct host_cgroup *group)
{
	if (!read_own(host, group))
		return false;
	do
		if (host_read_number(host, 0, CGROUPS "%s/memory.oom.group", group->name) > 0)
			return true;
	while (go_up(group));
	return false;
}

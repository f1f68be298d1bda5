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

long host_cgroup_kills(const struct host *host)
{
	struct host_cgroup group;
	long count;

	if (!read_own(host, &group))
		return 0;
	/* A group whose memory is not counted by itself has no such file: its parent counts. */
	do
		count = read_event(host, &group, "memory.events", "oom_kill");
	while (count < 0 && go_up(&group));
	return count < 0 ? 0 : count;
}

bool host_cgroup_exhausted(const struct host *host, struct host_cgroup *group)
{
	if (!read_own(host, group))
		return false;
	do
		if (read_event(host, group, "memory.events.local", "oom") > 0) {
			read_limit(host, group);
			return true;
		}
	while (go_up(group));
	return false;
}

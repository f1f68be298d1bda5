/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/reset/reset.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/device/processes.h"
#include "host/device/vfs.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"
#include "host/reset/bus.h"
#include "host/reset/way.h"
#include "host/system/guard.h"
#include "host/use/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEVICES     "/sys/bus/pci/devices/"
#define BUS         "bus"
#define UNNAMED     "default" /* kernels before 5.15 reset, but do not tell how */
#define CONFIG_SIZE 64
#define CONFIG_BARS 0x10
#define BARS_SIZE   (6 * 4)
#define BACK_TRIES  20 /* the kernel has waited for it already, up to a minute */
#define BACK_US     100000

/* What could be done. */

static void read_methods(const struct host *host, const char *name, struct host_reset *reset)
{
	char text[256], path[PATH_MAX], *word, *save;

	if (host_read(host, text, sizeof(text), DEVICES "%s/reset_method", name) < 0) {
		if (host_path(host, path, DEVICES "%s/reset", name) == 0 && access(path, F_OK) == 0)
			strcpy(reset->methods[reset->method_count++], UNNAMED);
		return;
	}
	for (word = strtok_r(text, " ", &save); word && reset->method_count < RESET_METHODS_MAX;
		word = strtok_r(NULL, " ", &save))
		if (strlen(word) < RESET_METHOD_NAME)
			strcpy(reset->methods[reset->method_count++], word);
}

/* The directory of the bridge that the device is behind, "" where it is on a root bus. */
static void find_bridge(const struct host *host, const struct bdf *bdf, char path[static PATH_MAX])
{
	struct bdf bridge;
	char *slash;

	if (host_device_path(host, bdf, path) || !(slash = strrchr(path, '/'))) {
		path[0] = '\0';
		return;
	}
	*slash = '\0';
	slash = strrchr(path, '/');
	if (!slash || bdf_parse(slash + 1, &bridge))
		path[0] = '\0';
}

/* More than anyone could own are as good as none: there is no bus reset then. */
static void read_hits(const struct host *host, struct host_reset *reset)
{
	char bridge[PATH_MAX], path[PATH_MAX];
	const struct dirent *entry;
	DIR *directory;

	find_bridge(host, &reset->device.bdf, bridge);
	if (!bridge[0] || host_path(host, path, DEVICES) || !(directory = opendir(path)))
		return;
	while ((entry = readdir(directory))) {
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf) ||
			!host_is_below(host, bridge, DEVICES "%s", entry->d_name))
			continue;
		if (reset->hit_count == HOST_GROUP_MAX) {
			reset->hit_count = 0;
			break;
		}
		reset->hits[reset->hit_count++] = bdf;
	}
	closedir(directory);
	qsort(reset->hits, reset->hit_count, sizeof(reset->hits[0]), bdf_compare);
}

int host_reset_read(
	const struct host *host, const struct bdf *bdf, struct host_reset *reset, struct error *err)
{
	char name[BDF_TEXT];
	int code;

	*reset = (struct host_reset){ 0 };
	code = host_device_read(host, bdf, &reset->device, err);
	if (code)
		return code;
	read_methods(host, bdf_format(bdf, name), reset);
	read_hits(host, reset);
	return 0;
}

bool host_reset_is_sure(const struct host *host, const struct host_reset *reset)
{
	char driver[HOST_NAME];

	if (reset->method_count)
		return true;
	for (unsigned i = 0; i < reset->hit_count; i++)
		if (host_device_driver(host, &reset->hits[i], driver) ||
			!host_driver_is_vfio(driver))
			return false;
	return reset->hit_count > 0;
}

/* Whether it may be done. */

static int check_reset_driver(const struct host_device *device, const char *name, struct error *err)
{
	if (host_device_check_bridge(device, err))
		return err->code;
	if (host_driver_is_viable(device->driver))
		return 0;
	error_set(err, -EBUSY, name, "it is at the host's driver %s", device->driver);
	error_hint(
		err, "'penstock bind %s' first, and afterwards 'penstock release %s'", name, name);
	return -EBUSY;
}

/* That nobody but us has it; locks keep it so. */
static int check_ours(const struct host *host, const struct bdf *bdf, struct error *err)
{
	struct error ignored = { 0 };
	struct host_device device;
	struct host_record record;
	char name[BDF_TEXT], text[160];

	if (host_device_read(host, bdf, &device, err))
		return err->code;
	bdf_format(bdf, name);
	if (host_journal_read(host, bdf, &record, &ignored) == 0 &&
		host_holder_is_alive(&record.holder))
		return host_holder_refuse(&record.holder, bdf, err);
	if (check_reset_driver(&device, name, err))
		return err->code;
	if (host_driver_is_vfio(device.driver) &&
		host_processes_using_vfio(host, &device, text, sizeof(text))) {
		error_set(err, -EBUSY, name, "it is in use: %s", text);
		error_hint(err, "stop that program first");
		return -EBUSY;
	}
	return host_use_check_vfs(host, bdf, err);
}

static void list_hits(const struct host_reset *reset, char *text, size_t size)
{
	char name[BDF_TEXT];
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < reset->hit_count && used < size; i++)
		used += snprintf(text + used, size - used, "%s%s", i ? " " : "",
			bdf_format(&reset->hits[i], name));
}

static int check_hit(const struct host *host, const struct host_reset *reset, const struct bdf *bdf,
	struct error *err)
{
	char name[BDF_TEXT], hits[144];
	struct error why = { 0 };
	struct host_device device;

	if (check_ours(host, bdf, &why) == 0 && host_device_read(host, bdf, &device, &why) == 0 &&
		reset->hit_count > 1 && !host_driver_is_vfio(device.driver)) {
		error_set(&why, -EBUSY, bdf_format(bdf, name), "it is not at vfio-pci");
		error_hint(&why, "'penstock bind %s' first", name);
	}
	if (!why.code)
		return 0;
	list_hits(reset, hits, sizeof(hits));
	error_set(err, why.code, bdf_format(&reset->device.bdf, name),
		"a bus reset hits %s, but %s is not free: %s", hits, why.object, why.what);
	error_hint(err, "%s", why.hint);
	return why.code;
}

static int check_hits(const struct host *host, const struct host_reset *reset, struct error *err)
{
	for (unsigned i = 0; i < reset->hit_count; i++) {
		int code = check_hit(host, reset, &reset->hits[i], err);

		if (code)
			return code;
	}
	return 0;
}

/* Configuration space, before and after. */

/* All ones, as from no device at all, where it cannot be read. */
static void read_config(
	const struct host *host, const struct bdf *bdf, uint8_t config[static CONFIG_SIZE])
{
	char path[PATH_MAX], name[BDF_TEXT], bytes[CONFIG_SIZE + 1];

	memset(config, 0xff, CONFIG_SIZE);
	if (host_path(host, path, DEVICES "%s/config", bdf_format(bdf, name)) == 0 &&
		fd_read_file(path, bytes, sizeof(bytes)) == CONFIG_SIZE)
		memcpy(config, bytes, CONFIG_SIZE);
}

static bool is_virtual(const struct host *host, const struct bdf *bdf)
{
	struct bdf pf;
	unsigned number;

	return host_vfs_parent(host, bdf, &pf, &number) == 0;
}

static bool device_answers(const struct host *host, const struct host_device *device,
	const uint8_t config[static CONFIG_SIZE])
{
	for (int i = 0; i < CONFIG_SIZE; i++) {
		if (config[i] == 0xff)
			continue;
		/* The IDs of a VF are all ones by the standard (SR-IOV 1.1, 3.4.1). */
		return is_virtual(host, &device->bdf) ||
		       ((config[0] | config[1] << 8) == device->vendor &&
			       (config[2] | config[3] << 8) == device->device);
	}
	return false;
}

static int check_back(const struct host *host, struct host_reset *reset, const struct bdf *bdf,
	const uint8_t before[static CONFIG_SIZE], struct error *err)
{
	struct host_device device;
	uint8_t after[CONFIG_SIZE];
	char name[BDF_TEXT];
	int code = host_device_read(host, bdf, &device, err);

	if (code)
		return code;
	bdf_format(bdf, name);
	read_config(host, bdf, after);
	for (int i = 0; i < BACK_TRIES && !device_answers(host, &device, after); i++) {
		usleep(BACK_US);
		read_config(host, bdf, after);
	}
	if (!device_answers(host, &device, after)) {
		reset->lost = device;
		return error_set(err, -ENODEV, name,
			"it has not come back after the reset: its configuration space reads "
			"%02x%02x:%02x%02x",
			after[1], after[0], after[3], after[2]);
	}
	if (!device_answers(host, &device, before) ||
		memcmp(before + CONFIG_BARS, after + CONFIG_BARS, BARS_SIZE) == 0)
		return 0;
	reset->lost = device;
	return error_set(err, -ENODEV, name,
		"it has come back from the reset without the addresses of its BARs");
}

/* Doing it. */

/* Tried by a child, so that also a killed penstock leaves reset_method as it was. */
struct attempt {
	char reset[PATH_MAX];
	char method[PATH_MAX]; /* "": it cannot be chosen, or there is nothing to choose */
	char previous[256];
	char methods[RESET_METHODS_MAX][RESET_METHOD_NAME];
	unsigned count;
};

/* -ENOTTY is how a method says that it does not work here. Not chosen: also for want of it. */
static int try_one(const struct attempt *attempt, const char *method)
{
	int code = attempt->method[0] ? fd_write_file(attempt->method, method) : 0;

	if (code)
		return code == -EINVAL ? -ENOTTY : code;
	return fd_write_file(attempt->reset, "1");
}

/* The index of the method that worked, or a negative errno. */
static int try_all(const void *argument)
{
	const struct attempt *attempt = argument;
	int code = -ENOTTY, used = 0;

	for (unsigned i = 0; i < attempt->count && code == -ENOTTY; i++) {
		code = try_one(attempt, attempt->methods[i]);
		used = i;
	}
	if (attempt->method[0] && fd_write_file(attempt->method, attempt->previous))
		fd_write_file(attempt->method, "default");
	return code ? code : used;
}

static bool is_bus(const char *method)
{
	return strcmp(method, BUS) == 0;
}

/*
 * The kernel's own methods, without a bus reset that is VFIO's to do. One is chosen through
 * reset_method only where the kernel's own list could use another one: writing the list back can
 * fail, when it has a method that the kernel has since found useless.
 */
static int plan_attempt(const struct host *host, const struct host_reset *reset, const char *wanted,
	struct attempt *attempt)
{
	char name[BDF_TEXT];

	*attempt = (struct attempt){ 0 };
	for (unsigned i = 0; i < reset->method_count; i++)
		if ((!wanted || strcmp(wanted, reset->methods[i]) == 0) &&
			!(is_bus(reset->methods[i]) && reset->hit_count > 1))
			strcpy(attempt->methods[attempt->count++], reset->methods[i]);
	bdf_format(&reset->device.bdf, name);
	if ((attempt->count > 1 || (wanted && reset->method_count > 1)) &&
		(host_path(host, attempt->method, DEVICES "%s/reset_method", name) ||
			host_read(host, attempt->previous, sizeof(attempt->previous),
				DEVICES "%s/reset_method", name) < 0))
		return -ENOENT;
	return host_path(host, attempt->reset, DEVICES "%s/reset", name);
}

static int explain_reset(
	const struct host *host, int code, bool bus, const char *name, struct error *err)
{
	if (code == -ETIMEDOUT) {
		error_set(err, code, name, "gave up after %u seconds of waiting for its reset",
			host->limit_ms / 1000);
		error_hint(err, "'dmesg | tail' may tell what the kernel waits for");
		return code;
	}
	if (code == -ENOTTY)
		error_set(err, code, name, "%s",
			bus ? "the reset of its bus does not work"
			    : "no reset that was tried works");
	else
		error_sys(err, code, name, "the kernel could not reset it");
	if (code == -EACCES || code == -EPERM)
		error_hint(err, "run this as root, as with sudo");
	else
		error_hint(
			err, "'dmesg | tail' may tell why"); /* of the device, or of a port above */
	return code;
}

static int reset_function(const struct host *host, struct host_reset *reset,
	const struct attempt *attempt, const struct host_locks *locks)
{
	char name[BDF_TEXT];
	struct guard guard = {
		.host = host,
		.object = bdf_format(&reset->device.bdf, name),
		.doing = "its reset",
		.locks = locks->fds,
		.lock_count = locks->count,
	};
	int used;

	used = guard_call(&guard, try_all, attempt);
	if (used < 0)
		return used;
	strcpy(reset->used, attempt->methods[used]);
	return 0;
}

static void add_group(struct reset_bus *bus, int group)
{
	for (unsigned i = 0; i < bus->group_count; i++)
		if (bus->groups[i] == group)
			return;
	bus->groups[bus->group_count++] = group;
}

static int reset_bus(
	const struct host *host, struct host_reset *reset, const struct host_locks *locks)
{
	struct reset_bus bus = { 0 };
	struct guard guard = {
		.host = host,
		.object = bus.device,
		.doing = "the reset of its bus",
		.locks = locks->fds,
		.lock_count = locks->count,
	};
	struct error ignored = { 0 };
	int code;

	bdf_format(&reset->device.bdf, bus.device);
	add_group(&bus, reset->device.group);
	for (unsigned i = 0; i < reset->hit_count; i++) {
		struct host_device hit;

		code = host_device_read(host, &reset->hits[i], &hit, &ignored);
		if (code)
			return code; /* gone since it was looked at */
		add_group(&bus, hit.group);
	}
	code = guard_call(&guard, reset_bus_run, &bus);
	if (code == 0)
		strcpy(reset->used, BUS);
	return code;
}

/* Those that the reset can hit: all of the bus when it comes to that, else the device alone. */
struct targets {
	struct bdf devices[HOST_GROUP_MAX];
	uint8_t before[HOST_GROUP_MAX][CONFIG_SIZE];
	unsigned count;
	struct host_locks locks;
};

static int lock_targets(const struct host *host, const struct host_reset *reset, bool bus,
	struct targets *targets, struct error *err)
{
	targets->count = bus ? reset->hit_count : 1;
	memcpy(targets->devices, bus ? reset->hits : &reset->device.bdf,
		targets->count * sizeof(targets->devices[0]));
	if (host_journal_lock_all(host, targets->devices, targets->count, &targets->locks, err))
		return err->code;
	for (unsigned i = 0; i < targets->count; i++)
		read_config(host, &targets->devices[i], targets->before[i]);
	return 0;
}

static int check_targets(const struct host *host, struct host_reset *reset,
	const struct targets *targets, struct error *err)
{
	for (unsigned i = 0; i < targets->count; i++) {
		int code = check_back(host, reset, &targets->devices[i], targets->before[i], err);

		if (code)
			return code;
	}
	return 0;
}

/* What has come of a reset that has ended with code. */
static int judge_reset(const struct host *host, struct host_reset *reset,
	const struct targets *targets, int code, bool bus, struct error *err)
{
	/* A reset that fails can be what kills the device, which is the worse news. */
	int lost = code == -ETIMEDOUT ? 0 : check_targets(host, reset, targets, err);
	char name[BDF_TEXT];

	if (lost || code == 0)
		return lost;
	return explain_reset(host, code, bus, bdf_format(&reset->device.bdf, name), err);
}

static int run_locked(const struct host *host, struct host_reset *reset,
	const struct attempt *attempt, bool bus, struct error *err)
{
	cleanup_free struct targets *targets = malloc(sizeof(*targets));
	char name[BDF_TEXT];
	int code;

	bdf_format(&reset->device.bdf, name);
	if (!targets)
		return error_sys(err, -ENOMEM, name, "cannot reset it");
	if (lock_targets(host, reset, bus, targets, err))
		return err->code;
	/* Again, as somebody could have taken one in between. */
	code = bus ? check_hits(host, reset, err) : check_ours(host, &reset->device.bdf, err);
	if (code == 0) {
		code = bus ? reset_bus(host, reset, &targets->locks)
			   : reset_function(host, reset, attempt, &targets->locks);
		code = judge_reset(host, reset, targets, code, bus, err);
	}
	host_journal_unlock(&targets->locks);
	return code;
}

static int refuse_method(const struct host_reset *reset, const char *method, struct error *err)
{
	char name[BDF_TEXT], list[RESET_METHODS_MAX * RESET_METHOD_NAME] = "";
	char rescan[RESET_WAY_COMMAND];
	bool bus = false;

	for (unsigned i = 0; i < reset->method_count; i++) {
		sprintf(list + strlen(list), "%s%s", i ? " " : "", reset->methods[i]);
		bus |= is_bus(reset->methods[i]);
	}
	bdf_format(&reset->device.bdf, name);
	if (method) {
		error_set(err, -EINVAL, name, "it has no reset method '%s'", method);
		error_hint(err, "it has: %s%s", list[0] ? list : "none",
			!bus && reset->hit_count > 1 ? " bus" : "");
		return -EINVAL;
	}
	error_set(err, -EOPNOTSUPP, name, "neither it nor the kernel has a way to reset it");
	reset_way_rescan(&reset->device, rescan);
	error_hint(err, "a guest finds it as the one before has left it; for a fresh start: %s",
		rescan);
	return -EOPNOTSUPP;
}

static void tell_reset_plan(const struct host_reset *reset, const struct attempt *attempt, bool bus)
{
	char name[BDF_TEXT], list[RESET_METHODS_MAX * (RESET_METHOD_NAME + 2)] = "";

	for (unsigned i = 0; i < attempt->count; i++)
		sprintf(list + strlen(list), "%s%s", i ? ", " : "", attempt->methods[i]);
	bdf_format(&reset->device.bdf, name);
	if (bus)
		log_info("%s: would be reset with its bus, %u devices", name, reset->hit_count);
	else
		log_info("%s: would be reset by %s%s", name, list,
			attempt->count > 1 ? ", the first that works" : "");
}

int host_reset_run(const struct host *host, struct host_reset *reset, const char *method,
	bool dry_run, struct error *err)
{
	struct attempt attempt;
	char name[BDF_TEXT];
	int code = plan_attempt(host, reset, method, &attempt);
	bool can_bus = reset->hit_count > 1 && (!method || is_bus(method)), bus;

	bdf_format(&reset->device.bdf, name);
	if (code)
		return error_sys(err, code, name, "cannot tell its reset methods");
	if (!attempt.count && !can_bus)
		return refuse_method(reset, method, err);
	bus = !attempt.count;
	code = bus ? check_hits(host, reset, err) : check_ours(host, &reset->device.bdf, err);
	if (code)
		return code;
	if (dry_run) {
		tell_reset_plan(reset, &attempt, bus);
		return 0;
	}
	code = run_locked(host, reset, &attempt, bus, err);
	/* The device alone cannot be reset: the bus is left, when it is ours. */
	if (code != -ENOTTY || bus || !can_bus || check_hits(host, reset, &(struct error){ 0 }))
		return code;
	*err = (struct error){ 0 };
	return run_locked(host, reset, &attempt, true, err);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/change.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/processes.h"
#include "host/system/guard.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define DEVICES "/sys/bus/pci/devices/"
#define PCI_BUS "/sys/bus/pci/"

#define APPEAR_TRIES   20 /* for a probe that the kernel deferred */
#define APPEAR_WAIT_US 50000

void change_init(
	struct change *change, const struct host *host, const struct host_device *device, int lock)
{
	*change = (struct change){ .host = host, .device = device, .lock = lock };
	bdf_format(&device->bdf, change->name);
}

/* Write text to the file, telling the user that doing is what is waited for. 0 or a negative errno. */
static int change_write(
	const struct change *change, const char *path, const char *text, const char *doing)
{
	struct guard guard = {
		.host = change->host,
		.object = change->name,
		.doing = doing,
		.locks = &change->lock,
		.lock_count = 1,
	};

	return guard_write(&guard, path, text);
}

/* Whatever has become of the device: the kernel hangs on it, or this is not ours to do. */
static bool is_final(int code)
{
	return code == -ETIMEDOUT || code == -EACCES || code == -EPERM;
}

static int explain_final(const struct change *change, int code, const char *path, const char *doing,
	struct error *err)
{
	char holder[160];

	if (code != -ETIMEDOUT) {
		error_sys(err, code, change->name, "cannot write %s", path);
		error_hint(err, "run this as root, as with sudo");
		return code;
	}
	host_processes_using(change->host, change->device, holder, sizeof(holder));
	error_set(err, code, change->name, "gave up after %u seconds of waiting for %s%s%s",
		change->host->limit_ms / 1000, doing, holder[0] ? "; " : "", holder);
	error_hint(err,
		"%s; when the kernel has finished, 'penstock release %s' puts the device in order",
		holder[0] ? "end that process"
			  : "'dmesg | tail' may tell what the driver waits for",
		change->name);
	return code;
}

static int explain_override(const struct change *change, int code, const char *path,
	const char *driver, const char *doing, struct error *err)
{
	if (is_final(code))
		return explain_final(change, code, path, doing, err);
	error_sys(err, code, change->name, "cannot set driver_override to '%s'", driver);
	error_hint(err, "'dmesg | grep %s' may tell why", change->name);
	return code;
}

int change_override(const struct change *change, const char *driver, struct error *err)
{
	static const char doing[] = "its driver_override to be set";
	char path[PATH_MAX], now[HOST_NAME];
	int code = host_path(change->host, path, DEVICES "%s/driver_override", change->name);

	if (code)
		return error_sys(err, code, change->name, "cannot set driver_override");
	if (host_read(change->host, now, sizeof(now), DEVICES "%s/driver_override", change->name) >
			0 &&
		strcmp(now, "(null)") == 0)
		now[0] = '\0';
	if (strcmp(now, driver) == 0)
		return 0;
	code = change_write(change, path, driver[0] ? driver : "\n", doing);
	return code ? explain_override(change, code, path, driver, doing, err) : 0;
}

struct withdrawal {
	const char *path, *ours, *text;
};

/*
 * sysfs cannot compare and write in one step. In one child nothing is between the two but the calls; and the read is
 * one that waits, as the write is.
 */
static int withdraw_in_child(const void *argument)
{
	const struct withdrawal *withdrawal = argument;
	char now[2 * HOST_NAME];
	ssize_t size = fd_read_file(withdrawal->path, now, sizeof(now));

	if (size < 0)
		return size;
	now[strcspn(now, "\n")] = '\0';
	return strcmp(now, withdrawal->ours) ? 0
					     : fd_write_file(withdrawal->path, withdrawal->text);
}

int change_withdraw_override(
	const struct change *change, const char *ours, const char *driver, struct error *err)
{
	static const char doing[] = "it to be taken";
	char path[PATH_MAX];
	const struct withdrawal withdrawal = { path, ours, driver[0] ? driver : "\n" };
	const struct guard guard = {
		.host = change->host,
		.object = change->name,
		.doing = doing,
		.locks = &change->lock,
		.lock_count = 1,
	};
	int code = host_path(change->host, path, DEVICES "%s/driver_override", change->name);

	if (!code)
		code = guard_call(&guard, withdraw_in_child, &withdrawal);
	return code ? explain_override(change, code, path, driver, doing, err) : 0;
}

int change_unbind(const struct change *change, struct error *err)
{
	char path[PATH_MAX], driver[HOST_NAME], now[HOST_NAME], doing[HOST_NAME + 32];
	int code = host_device_driver(change->host, &change->device->bdf, driver);

	if (code == 0 && !driver[0])
		return 0;
	if (code ||
		(code = host_path(change->host, path, DEVICES "%s/driver/unbind", change->name)))
		return error_sys(err, code, change->name, "cannot take it from its driver");
	text_format(doing, sizeof(doing), "driver %s to let go of it", driver);
	code = change_write(change, path, change->name, doing);
	if (is_final(code))
		return explain_final(change, code, path, doing, err);
	/* The driver may have gone by itself in between. */
	if (host_device_driver(change->host, &change->device->bdf, now) == 0 && !now[0])
		return 0;
	code = code ? code : -EBUSY;
	error_sys(err, code, change->name, "cannot take it from its driver %s", driver);
	error_hint(err, "'dmesg | grep %s' may tell why", change->name);
	return code;
}

static void wait_for_driver(const struct change *change)
{
	char driver[HOST_NAME];

	for (int i = 0; i < APPEAR_TRIES; i++) {
		if (host_device_driver(change->host, &change->device->bdf, driver) || driver[0])
			return;
		usleep(APPEAR_WAIT_US);
	}
}

/* A driver that refuses the device makes the write fail too; the caller looks at the outcome. */
static int offer_device(const struct change *change, const char *path, struct error *err)
{
	static const char doing[] = "a driver to take it";
	int code = change_write(change, path, change->name, doing);

	if (is_final(code))
		return explain_final(change, code, path, doing, err);
	if (code == 0)
		wait_for_driver(change);
	return 0;
}

int change_probe(const struct change *change, struct error *err)
{
	char path[PATH_MAX];
	int code = host_path(change->host, path, PCI_BUS "drivers_probe");

	return code ? error_sys(err, code, change->name, "cannot offer it to drivers")
		    : offer_device(change, path, err);
}

int change_bind(const struct change *change, const char *driver, struct error *err)
{
	char path[PATH_MAX];
	int code = host_path(change->host, path, PCI_BUS "drivers/%s/bind", driver);

	return code ? error_sys(err, code, change->name, "cannot offer it to %s", driver)
		    : offer_device(change, path, err);
}

int change_console(const struct change *change, const char *console, bool bind, struct error *err)
{
	const char *doing =
		bind ? "the host's console to come back" : "the host's console to leave it";
	char path[PATH_MAX];
	int code = host_path(change->host, path, "/sys/class/vtconsole/%s/bind", console);

	if (!code)
		code = change_write(change, path, bind ? "1" : "0", doing);
	if (is_final(code))
		return explain_final(change, code, path, doing, err);
	return code ? error_sys(err, code, change->name, "cannot move the host's console") : 0;
}

int change_framebuffer(const struct change *change, const char *driver, const char *framebuffer,
	bool bind, struct error *err)
{
	static const char doing[] = "the firmware's frame buffer to change its driver";
	char path[PATH_MAX];
	int code = host_path(change->host, path, "/sys/bus/platform/drivers/%s/%s", driver,
		bind ? "bind" : "unbind");

	if (!code)
		code = change_write(change, path, framebuffer, doing);
	if (is_final(code))
		return explain_final(change, code, path, doing, err);
	return code ? error_sys(err, code, change->name,
			      "the firmware's frame buffer %s does not change its driver",
			      framebuffer)
		    : 0;
}

/*
 * Modules, by the program that the kernel itself loads them with. libkmod would say more of a failure,
 * and cost each broker 2 MiB for as long as its machine runs.
 */
static int modprobe(const char *option, const char *alias)
{
	char *const arguments[] = { "modprobe", (char *)option, "--", (char *)alias, NULL };
	pid_t pid;
	int status;

	if (posix_spawn(&pid, "/sbin/modprobe", NULL, NULL, arguments, environ))
		return -EOPNOTSUPP;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status ? -EPERM : 0;
}

/* In the child, as it probes devices. */
static int load_in_child(const void *alias)
{
	int code = modprobe("--quiet", alias);

	return code == -EPERM && modprobe("--dry-run", alias) ? -ENOENT : code;
}

int change_load_module(const struct host *host, const char *alias)
{
	char doing[96];
	struct guard guard = { .host = host, .object = "kernel", .doing = doing };

	if (!host_is_live(host))
		return -ENOENT;
	text_format(doing, sizeof(doing), "module %s to load", alias);
	return guard_call(&guard, load_in_child, alias);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/broker.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/size.h"
#include "broker/cpus.h"
#include "broker/life.h"
#include "broker/numa.h"
#include "broker/oom.h"
#include "broker/places.h"
#include "broker/rom.h"
#include "broker/signals.h"
#include "host/journal/names.h"
#include "host/system/guard.h"
#include "host/system/kernel_log.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Resets that soon after the guest's start: the first ones are let pass, then it is slowed down. */
#define QUICK_MS       10000
#define QUICK_FREE     4
#define QUICK_MAX      10
#define QUICK_PAUSE_MS 1000

/* Descriptors for the eventfds of every vector; raised while there is one thread and a small table. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			log_warning("cannot have more open files: %s", strerror(errno));
	}
}

static int make_loop(struct broker *broker, struct error *err)
{
	int code;

	broker->loop = loop_new(err);
	broker->signal_fd = broker->loop ? broker_signals_catch(err) : -1;
	if (broker->signal_fd < 0)
		return err->code;
	code = loop_add(broker->loop, broker->signal_fd, EPOLLIN, broker_on_signal, broker);
	return code ? error_sys(err, code, NULL, "cannot catch signals") : 0;
}

/* Does the kernel say that it has killed this process to have memory back? */
static bool is_named(const struct broker *broker, pid_t pid)
{
	struct kernel_log log;
	char words[48], line[8];
	bool found;

	snprintf(words, sizeof(words), "ut of memory: Killed process %d (", pid);
	kernel_log_open(&log, &broker->host);
	found = kernel_log_find(&log, words, NULL, line, sizeof(line));
	kernel_log_close(&log);
	return found;
}

/*
 * By the kernel, to have memory back; or by somebody, after the kernel has killed another process of the group. Its log
 * tells, where we may read that, and it has the process by the number that we have.
 */
static int killed_for_memory(const struct broker *broker, pid_t pid, struct error *err)
{
	bool named = is_named(broker, pid);
	const char *name = broker->config->name,
		   *deed = named ? "the kernel has killed the machine's process"
				 : "the machine's process was killed, perhaps by the kernel",
		   *look = named ? "" : "'dmesg' tells if that was the kernel; then ";
	struct host_cgroup group;
	char limit[24];

	if (!host_cgroup_exhausted(&broker->host, &broker->memory_before, &group)) {
		error_set(err, -ENOMEM, name, "%s: the host's memory ran out", deed);
		error_hint(
			err, "%sgive the guest less with --memory, or end what else uses it", look);
		return 1;
	}
	error_set(err, -ENOMEM, name, "%s: the memory of the control group %s ran out, %s in all",
		deed, group.name,
		group.limit ? size_format(group.bytes, limit) : "which has no limit now");
	error_hint(err,
		"%sgive that group more (MemoryMax= of a service), end what else is in it, or give "
		"the guest less with --memory",
		look);
	return 1;
}

static int killed(const struct broker *broker, pid_t pid, int signal, struct error *err)
{
	if (signal == SIGKILL && host_cgroup_has_killed(&broker->host, &broker->memory_before))
		return killed_for_memory(broker, pid, err);
	error_set(err, -EIO, broker->config->name,
		"the machine's process was killed by signal %d (%s)", signal, strsignal(signal));
	if (signal == SIGSYS)
		error_hint(err,
			"it made a system call that its sandbox forbids: a bug in Penstock, "
			"or a break-out attempt; the kernel's log names the call");
	else if (signal == SIGKILL)
		error_hint(err,
			"the kernel does that when the memory of the host or of a control group runs out, "
			"and its log says so (dmesg)");
	else if (signal == SIGBUS)
		error_hint(err,
			"memory of the host is damaged, or ran out; the kernel's log tells (dmesg)");
	return 1;
}

static bool starts_again(const struct broker *broker, int how)
{
	const struct broker_config *config = broker->config;

	if (broker->quit)
		return false;
	if (how == MACHINE_RESET)
		return broker->reset_by_host || config->on_reboot == BROKER_POLICY_RESET;
	return broker_crash_text(how) && config->on_crash == BROKER_POLICY_RESET;
}

static int crashed(const struct broker *broker, int how, struct error *err)
{
	error_set(err, -EIO, broker->config->name, "the guest %s", broker_crash_text(how));
	error_hint(err, "its console may tell why; --on-crash pause keeps it for a look, "
			"--on-crash reset starts it anew");
	return 1;
}

/* The exit code of a machine that has ended so. *again: it is to be started anew. */
static int judge(
	const struct broker *broker, const struct broker_life *life, bool *again, struct error *err)
{
	int status = life->status;
	int how;

	if (broker->stopped_by)
		return 128 + broker->stopped_by;
	if (WIFSIGNALED(status))
		return killed(broker, life->pid, WTERMSIG(status), err);
	how = WEXITSTATUS(status);
	*again = starts_again(broker, how);
	if (broker_crash_text(how) && !*again)
		return crashed(broker, how, err);
	return how == MACHINE_OFF || how == MACHINE_RESET || how == MACHINE_QUIT ? 0 : 1;
}

/* In the words of QMP's ShutdownCause. */
static const char *find_cause(const struct broker *broker, int status, bool *by_guest)
{
	int how = WIFEXITED(status) ? WEXITSTATUS(status) : MACHINE_FAILED;

	*by_guest = false;
	if (broker->stopped_by)
		return "host-signal";
	if (broker->quit)
		return "host-qmp-quit";
	if (how == MACHINE_RESET && broker->reset_by_host)
		return "host-qmp-system-reset";
	*by_guest = how == MACHINE_OFF || how == MACHINE_RESET || broker_crash_text(how);
	return how == MACHINE_OFF       ? "guest-shutdown"
	       : how == MACHINE_RESET   ? "guest-reset"
	       : how == MACHINE_QUIT    ? "host-ui"
	       : broker_crash_text(how) ? "guest-panic"
					: "host-error";
}

static void tell_end(struct broker *broker, int status, bool again)
{
	bool by_guest;
	const char *cause = find_cause(broker, status, &by_guest);

	if (WIFEXITED(status) && broker_crash_text(WEXITSTATUS(status)))
		broker_tell_panic(broker, "GUEST_PANICKED", again ? "run" : "poweroff");
	broker_tell_end(broker, again ? "RESET" : "SHUTDOWN", by_guest, cause);
	broker->reset_by_host = false;
}

static void pause_between(struct broker *broker)
{
	uint64_t end = guard_now() + QUICK_PAUSE_MS, now;

	while (!broker_is_to_end(broker) && (now = guard_now()) < end)
		loop_step(broker->loop, end - now);
}

/* A guest that resets as soon as it has started will most likely do nothing else. */
static int brake(struct broker *broker, int status, unsigned quick, struct error *err)
{
	const char *name = broker->config->name, *crash = broker_crash_text(WEXITSTATUS(status)),
		   *deed = crash ? crash : "reboots";

	if (quick < QUICK_FREE) {
		log_info("%s: the guest %s", name, deed);
		return 0;
	}
	if (quick < QUICK_MAX) {
		log_info("%s: the guest %s; %u times in a row that was within %u seconds of its "
			 "start, so it waits a second",
			name, deed, quick, QUICK_MS / 1000);
		pause_between(broker);
		return 0;
	}
	error_set(err, -ELOOP, name,
		"the guest has reset %u times in a row, each within %u seconds of its start", quick,
		QUICK_MS / 1000);
	error_hint(err,
		"its console may tell why; --on-reboot pause and --on-crash pause keep it for a look");
	return err->code;
}

static int live(struct broker *broker, struct error *err)
{
	unsigned quick = 0; /* resets soon after the start, in a row */
	struct broker_life life;
	bool again;
	int code;

	do {
		again = false;
		loop_step(broker->loop, 0);
		if (broker_is_to_end(broker))
			return broker->stopped_by ? 128 + broker->stopped_by : 0;
		host_cgroup_count(&broker->host, &broker->memory_before);
		if (broker_life(broker, &life, err))
			return 1;
		code = judge(broker, &life, &again, err);
		tell_end(broker, life.status, again);
		broker_devices_end(broker);
		quick = life.ran_ms < QUICK_MS ? quick + 1 : 0;
		if (again && brake(broker, life.status, quick, err))
			return 1;
	} while (again);
	return code;
}

/* Take the devices, live, and give them back. */
static int with_devices(struct broker *broker, struct error *err)
{
	struct error release = { 0 };
	int code;

	if (broker_devices_take(broker, err))
		return 1;
	broker_roms_tell(&broker->host, broker->config, broker->files.firmware.bios);
	code = live(broker, err);
	broker->over = true;
	notify_tell(broker->notify_fd, "STOPPING=1");
	if (broker_devices_release(broker, &release)) {
		if (err->code)
			error_print(&release);
		else
			*err = release;
		code = 1;
	}
	return code;
}

static int with_display(struct broker *broker, struct error *err)
{
	struct broker_display *display = &broker->display;
	int code = 1;

	display->loop = broker->loop;
	display->taken = broker_take_picture;
	display->opaque = broker;
	if (broker_display_start(display, broker->config, &broker->host, err) == 0)
		code = with_devices(broker, err);
	broker_display_close(display);
	return code;
}

/* Clients see their connection end when the devices are back. */
static int with_monitor(struct broker *broker, struct error *err)
{
	const struct broker_config *config = broker->config;
	char path[PATH_MAX];
	int code = 1;

	snprintf(path, sizeof(path), "%s/%s.sock", broker->host.run, config->name);
	broker->monitor = monitor_new(broker->loop, broker_commands, broker, err);
	if (broker->monitor && monitor_listen(broker->monitor, path, err) == 0 &&
		(!config->monitor || monitor_listen(broker->monitor, config->monitor, err) == 0))
		code = with_display(broker, err);
	monitor_free(broker->monitor);
	return code;
}

static int with_name(struct broker *broker, struct error *err)
{
	struct host *host = &broker->host;
	int code;

	if (host_name_claim(host, broker->config->name, err))
		return 1;
	code = with_monitor(broker, err);
	host_name_release(host, broker->config->name);
	return code;
}

int broker_run(const struct broker_config *config, struct error *err)
{
	/* Large, and most of it is for devices that a machine has not: cleared by hand it would all be there. */
	cleanup_free struct broker *broker = calloc(1, sizeof(*broker));
	int code = 1;

	if (!broker) {
		error_sys(err, -ENOMEM, NULL, "cannot start");
		return 1;
	}
	broker->config = config;
	broker->files = (struct broker_files)BROKER_FILES_NONE;
	broker->console.config = (struct console_config){ .in = -1, .out = -1 };
	broker->console.slave = -1;
	broker->display = (struct broker_display)BROKER_DISPLAY_NONE;
	broker->signal_fd = -1;
	broker->notify_fd = notify_open();
	raise_file_limit();
	broker_oom_protect();
	if (host_init(&broker->host, NULL, NULL, err) == 0 &&
		broker_files_open(&broker->files, config, err) == 0 &&
		broker_cpus_check(config, &broker->host, broker->files.kvm, err) == 0 &&
		broker_roms_open(broker->roms, &broker->host, config, broker->files.firmware.bios,
			err) == 0 &&
		broker_places_check(config, broker->roms, broker->files.kvm, err) == 0 &&
		broker_check_memory(config, &broker->host, err) == 0 &&
		broker_virtio_open(&broker->virtio, config, &broker->host, err) == 0 &&
		broker_display_open(&broker->display, config, &broker->files.firmware, err) == 0 &&
		broker_console_open(&broker->console, config, err) == 0 &&
		make_loop(broker, err) == 0) {
		broker_cpus_leave(config);
		broker_numa_settle(&broker->host, config);
		/* For the first life, before there is anything that an error would have to undo. */
		if (broker_tpm_start(&broker->files.tpm, err) == 0 &&
			broker_virtio_start(&broker->virtio, err) == 0)
			code = with_name(broker, err);
		broker_virtio_end(&broker->virtio);
		broker_tpm_end(&broker->files.tpm, broker->loop);
	}
	broker_display_close(&broker->display);
	broker_console_close(&broker->console);
	broker_virtio_close(&broker->virtio);
	broker_files_close(&broker->files);
	broker_roms_close(broker->roms);
	loop_free(broker->loop);
	if (broker->signal_fd >= 0)
		close(broker->signal_fd);
	if (broker->notify_fd >= 0)
		close(broker->notify_fd);
	return code;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/life.h"

#include "base/fd.h"
#include "base/journald.h"
#include "base/log.h"
#include "base/mapped.h"
#include "base/notify.h"
#include "base/size.h"
#include "broker/oom.h"
#include "broker/ram.h"
#include "broker/reset.h"
#include "broker/signals.h"
#include "broker/vfio.h"
#include "host/system/guard.h"
#include "machine/message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define END_MS        5000 /* for a machine to begin to end when it is told to */
#define TICK_MS       250
#define BACKGROUND_MS 500 /* how often a terminal is asked whether it is ours again */
#define NAMED_MAX     4

/* The start */

/*
 * The machine keeps the descriptors that it is made of and stderr: none of the broker's, and none that
 * our caller has left open, which whoever breaks out of the guest would have.
 */
static int close_the_rest(const struct machine_config *machine, struct error *err)
{
	int keep[14 + MACHINE_DEVICES_MAX + 3 * MACHINE_VIRTIO_MAX] = {
		machine->boot.firmware_fd,
		machine->boot.nvram_fd,
		machine->boot.kernel_fd,
		machine->boot.initrd_fd,
		machine->console.in,
		machine->console.out,
		machine->kvm_fd,
		machine->iommu_fd,
		machine->control_fd,
		machine->memory_fd,
		machine->tpm.fd,
		machine->tpm.cancel_fd,
		machine->display.memory_fd,
		machine->display.event_fd,
	};
	size_t count = 14;
	int code, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	for (unsigned i = 0; i < machine->device_count; i++)
		keep[count++] = machine->devices[i].fd;
	for (unsigned i = 0; i < machine->virtio_count; i++) {
		keep[count++] = machine->virtio[i].user_fd;
		keep[count++] = machine->virtio[i].vhost_fd;
		keep[count++] = machine->virtio[i].tap_fd;
	}
	code = fd_close_except(keep, count);
	return code ? error_sys(err, code, NULL, "cannot close what the machine is not to have")
		    : 0;
}

static _Noreturn void run_machine(struct broker *broker, const struct broker_vfio *vfio,
	const struct broker_ram *ram, int control)
{
	const struct broker_config *config = broker->config;
	const struct broker_files *files = &broker->files;
	struct machine_config machine = {
		.name = config->name,
		.smbios = config->smbios,
		.boot = {
			.firmware_fd = files->firmware.code_fd,
			.firmware_name = files->firmware.code,
			.bios = files->firmware.bios,
			.nvram_fd = files->firmware.nvram_fd,
			.nvram_name = files->firmware.nvram,
			.kernel_fd = files->kernel,
			.kernel_name = config->kernel,
			.initrd_fd = files->initrd,
			.initrd_name = config->initrd,
			.cmdline = config->cmdline,
		},
		.memory = config->memory,
		.memory_fd = ram->fd,
		.memory_kind = ram->kind,
		.memory_page = ram->page,
		.prealloc = config->prealloc,
		.cpus = config->cpus,
		.rtc_local = config->rtc_local,
		.console = broker->console.config,
		.tpm = files->tpm.machine,
		.display = broker->display.machine,
		.kvm_fd = broker->files.kvm,
		.iommu = vfio->kind,
		.iommu_fd = vfio->iommu,
		.device_count = vfio->count,
		.virtio_count = broker->virtio.count,
		.ports = config->ports,
		.hold_at_reboot = config->on_reboot == BROKER_POLICY_PAUSE,
		.hold_at_crash = config->on_crash == BROKER_POLICY_PAUSE,
		.on_device_error = config->on_device_error,
		.control_fd = control,
	};
	struct error err = { 0 };
	enum machine_end how;

	prctl(PR_SET_NAME, "penstock-vm");
	/* Ctrl-C reaches the whole process group; it is the broker's to act on. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	broker_oom_unprotect();
	journald_leave();
	broker_signals_unblock(); /* a vCPU is stopped by one */
	memcpy(machine.devices, vfio->sources, sizeof(machine.devices));
	memcpy(machine.virtio, broker->virtio.devices, sizeof(machine.virtio));
	for (unsigned i = 0; i < machine.device_count; i++) {
		machine.roms[i] = broker->devices[i].rom;
		machine.plain[i] = broker->devices[i].plain;
	}
	how = close_the_rest(&machine, &err) ? MACHINE_FAILED : machine_run(&machine, &err);
	if (how == MACHINE_FAILED)
		error_print(&err);
	_exit(how);
}

static int start_machine(struct broker *broker, int *control, pid_t *pid, struct error *err)
{
	struct broker_ram ram = { .fd = -1 };
	struct broker_config config = *broker->config; /* with the devices that there are now */
	struct broker_vfio vfio;
	int pair[2];

	config.device_count = broker_devices_begin(broker, config.devices);
	if (broker_vfio_open(&vfio, &broker->host, &config, err) ||
		broker_ram_open(&ram, broker->config, err) ||
		broker_virtio_begin(&broker->virtio, err))
		goto out;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
		fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
		error_sys(err, -errno, NULL, "cannot talk to the machine");
		goto out;
	}
	broker->iommu = vfio.kind;
	*pid = fork();
	if (*pid == 0)
		run_machine(broker, &vfio, &ram, pair[1]);
	*control = pair[0];
	if (*pid < 0) {
		error_sys(err, -errno, NULL, "cannot start the machine's process");
		close(pair[0]);
	}
	close(pair[1]);
out:
	/* From here on only the machine has them, so that they close with it. */
	broker_vfio_close(&vfio);
	broker_virtio_handed(&broker->virtio);
	if (ram.fd >= 0)
		close(ram.fd);
	return err->code;
}

/* The end */

enum phase {
	STARTING, /* devices open; the guest does not run yet */
	RUNNING,
	TOLD,   /* to end */
	ENDING, /* it says so, or has closed its end of the control socket */
	KILLED,
};

struct watch {
	struct broker *broker;
	pid_t pid;
	int control; /* -1 once the machine has closed its end */
	enum phase phase;
	uint64_t since, told; /* when the phase began, and the user was told of it */
	uint64_t guest_since; /* 0: it has not started */
	bool crash_loaded;    /* clients have been told */
	uint64_t open;        /* a bit a device that the machine has not closed yet */
};

static void enter(struct watch *watch, enum phase phase)
{
	watch->phase = phase;
	watch->since = watch->told = guard_now();
	if (phase != RUNNING) {
		broker_console_leave(&watch->broker->console);
		return;
	}
	watch->guest_since = watch->since;
	notify_tell(watch->broker->notify_fd, "READY=1");
	mapped_let_go();
	broker_console_enter(&watch->broker->console);
}

static int next_signal(const struct broker *broker)
{
	struct signalfd_siginfo info;

	return read(broker->signal_fd, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo
									    : 0;
}

static void tell_to_end(struct watch *watch)
{
	if (!watch || watch->phase >= TOLD)
		return;
	shutdown(watch->control, SHUT_WR);
	enter(watch, TOLD);
}

void broker_quit(struct broker *broker)
{
	broker->quit = true;
	tell_to_end(broker->watch);
}

bool broker_is_to_end(const struct broker *broker)
{
	return broker->quit || broker->stopped_by;
}

int broker_life_send(struct broker *broker, const struct message *message)
{
	const struct watch *watch = broker->watch;

	if (!watch || watch->phase >= TOLD)
		return -ENOTCONN;
	return message_send(watch->control, message);
}

bool broker_life_runs(const struct broker *broker)
{
	return broker->watch && broker->watch->phase == RUNNING;
}

const char *broker_crash_text(uint32_t end)
{
	return end == MACHINE_PANICKED       ? "has crashed (its kernel panics)"
	       : end == MACHINE_TRIPLE_FAULT ? "has crashed (triple fault)"
					     : NULL;
}

const char *broker_life_state(const struct broker *broker)
{
	const struct watch *watch = broker->watch;

	if (broker->over || (watch && watch->phase >= TOLD))
		return "shutdown";
	if (!watch || watch->phase == STARTING)
		return "prelaunch";
	if (!broker->paused)
		return "running";
	return broker->held_for == MACHINE_OFF     ? "paused"
	       : broker->held_for == MACHINE_RESET ? "shutdown"
						   : "guest-panicked";
}

static void take_signal(struct broker *broker, int signal)
{
	struct watch *watch = broker->watch;

	switch (signal) {
	case SIGCHLD:
		break;
	case SIGPWR:
		broker_life_send(broker, &(struct message){ .type = MESSAGE_PRESS_BUTTON });
		break;
	case SIGCONT:
		if (watch && watch->phase == RUNNING)
			broker_console_resume(&broker->console);
		break;
	default:
		broker->stopped_by = signal;
		tell_to_end(watch);
	}
}

void broker_on_signal(void *opaque, uint32_t events)
{
	struct broker *broker = opaque;
	int signal;

	(void)events;
	while ((signal = next_signal(broker)))
		take_signal(broker, signal);
}

/* Once, whatever a machine says that is in a guest's hands. */
static void take_crash_loaded(struct watch *watch)
{
	struct broker *broker = watch->broker;

	if (watch->crash_loaded || watch->phase != RUNNING)
		return;
	watch->crash_loaded = true;
	log_info("%s: the guest's kernel has panicked; another one, loaded for that, takes over",
		broker->config->name);
	broker_tell_panic(broker, "GUEST_CRASHLOADED", "run");
}

static void note_closed(struct watch *watch, unsigned number)
{
	const struct broker_device *device = &watch->broker->devices[number];

	if (watch->open >> number & 1 && broker_device_is_in(device))
		broker_reset_mute(&watch->broker->host, &device->bdf);
	watch->open &= ~(1ULL << number);
}

/* The other end may be in a guest's hands: what it sends means no more than it says. */
static void take_message(struct watch *watch, const struct message *message)
{
	switch (message->type) {
	case MESSAGE_READY:
		if (watch->phase != STARTING)
			break;
		enter(watch, RUNNING);
		broker_devices_seen(watch->broker);
		break;
	case MESSAGE_ENDING:
		if (watch->phase < ENDING)
			enter(watch, ENDING);
		break;
	case MESSAGE_HELD:
		if (watch->phase == RUNNING)
			broker_take_held(watch->broker, message->end);
		break;
	case MESSAGE_CRASH_LOADED:
		take_crash_loaded(watch);
		break;
	case MESSAGE_CLOSED:
		if (message->device < MACHINE_DEVICES_MAX)
			note_closed(watch, message->device);
		/* At the machine's end they stay ours for its next life, or all go. */
		if (watch->phase == RUNNING)
			broker_devices_closed(watch->broker, message->device);
		break;
	case MESSAGE_WANTED:
	case MESSAGE_FAILED:
		broker_devices_take_event(watch->broker, message);
		break;
	default:
		broker_take_answer(watch->broker, message);
	}
}

static void stop_listening(struct watch *watch)
{
	if (watch->control < 0)
		return;
	loop_remove(watch->broker->loop, watch->control);
	close(take_fd(&watch->control));
}

static void on_message(void *opaque, uint32_t events)
{
	struct watch *watch = opaque;
	struct message message;
	int got = message_receive(watch->control, &message);

	(void)events;
	if (got == 1) {
		take_message(watch, &message);
	} else if (got != -EAGAIN && got != -EBADMSG) {
		/* Its process is about to be gone; but the kernel may still have to close its devices. */
		stop_listening(watch);
		if (watch->phase < ENDING)
			enter(watch, ENDING);
	}
}

/* Its process is gone; what it has said last may tell whose its devices are now. */
static void hear_last_words(struct watch *watch)
{
	struct message message;
	int got = watch->control < 0 ? 0 : 1;

	while (got == 1 || got == -EBADMSG) {
		got = message_receive(watch->control, &message);
		if (got == 1)
			take_message(watch, &message);
	}
}

/* The devices that the machine still has, "" where there are none. */
static void name_devices(const struct watch *watch, char *text, size_t size)
{
	const struct broker_device *devices = watch->broker->devices;
	unsigned named = 0, more = 0;
	size_t used = 0;
	char name[BDF_TEXT];

	text[0] = '\0';
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
		if (!broker_device_is_in(&devices[i]) || !(watch->open >> i & 1))
			continue;
		if (named++ >= NAMED_MAX)
			more++;
		else
			used += snprintf(text + used, size - used, "%s%s", used ? ", " : "",
				bdf_format(&devices[i].bdf, name));
	}
	if (more)
		snprintf(text + used, size - used, " and %u more", more);
}

static void say_what_is_awaited(const struct watch *watch, char *text, size_t size)
{
	char devices[NAMED_MAX * BDF_TEXT + 32];

	name_devices(watch, devices, sizeof(devices));
	if (watch->phase == KILLED)
		snprintf(text, size, "the kernel to end the machine's process%s%s",
			devices[0] ? ", which has " : "", devices);
	else
		snprintf(text, size, "the machine to %s%s", devices[0] ? "close " : "end", devices);
}

static int give_up(const struct watch *watch, const char *awaited, struct error *err)
{
	const struct broker *broker = watch->broker;

	error_set(err, -ETIMEDOUT, broker->config->name,
		"gave up after %u seconds of waiting for %s", broker->host.limit_ms / 1000,
		awaited);
	error_hint(err,
		"'dmesg | tail' may tell what the kernel waits for; once process %d has ended, "
		"'penstock release --stale' gives back what it had",
		watch->pid);
	return err->code;
}

static void kill_machine(struct watch *watch)
{
	log_warning("%s: it has not ended within %u seconds, and is killed",
		watch->broker->config->name, (unsigned)((guard_now() - watch->since) / 1000));
	kill(watch->pid, SIGKILL);
	enter(watch, KILLED);
}

/* Whoever is to end has a time for it. 0, or -ETIMEDOUT when there is nothing left to be done. */
static int check_time(struct watch *watch, struct error *err)
{
	const struct host *host = &watch->broker->host;
	unsigned limit = watch->phase == TOLD ? END_MS : host->limit_ms;
	char awaited[256];
	struct guard guard = { host, watch->broker->config->name, awaited, NULL, 0 };

	if (watch->phase < TOLD)
		return 0;
	say_what_is_awaited(watch, awaited, sizeof(awaited));
	if (guard_now() - watch->since < limit)
		guard_progress(&guard, watch->since, &watch->told);
	else if (watch->phase != KILLED)
		kill_machine(watch);
	else
		return give_up(watch, awaited, err);
	return 0;
}

static void await_news(struct watch *watch)
{
	struct broker *broker = watch->broker;
	bool in_background =
		watch->phase == RUNNING && broker_console_in_background(&broker->console);

	loop_step(broker->loop, watch->phase >= TOLD ? TICK_MS
				: in_background      ? BACKGROUND_MS
						     : -1);
	if (watch->phase == RUNNING && in_background)
		broker_console_enter(&broker->console);
}

static int wait_for_end(struct watch *watch, int *status, struct error *err)
{
	for (;;) {
		pid_t ended = waitpid(watch->pid, status, WNOHANG);

		if (ended == watch->pid)
			return 0;
		if (ended < 0 && errno != EINTR)
			return error_sys(err, -errno, watch->broker->config->name,
				"cannot wait for the machine's process");
		if (check_time(watch, err))
			return err->code;
		await_news(watch);
	}
}

int broker_life(struct broker *broker, struct broker_life *life, struct error *err)
{
	struct watch watch = { .broker = broker, .control = -1, .open = UINT64_MAX };

	*life = (struct broker_life){ 0 };
	if (broker_tpm_start(&broker->files.tpm, err) ||
		broker_virtio_start(&broker->virtio, err) ||
		start_machine(broker, &watch.control, &watch.pid, err)) {
		broker_virtio_end(&broker->virtio);
		broker_tpm_end(&broker->files.tpm, broker->loop);
		return err->code;
	}
	broker_tpm_handed_over(&broker->files.tpm, broker->loop);
	broker_virtio_watch(&broker->virtio, broker->loop);
	broker->watch = &watch;
	if (loop_add(broker->loop, watch.control, EPOLLIN, on_message, &watch)) {
		error_set(err, -ENOMEM, broker->config->name, "cannot listen to the machine");
		kill_machine(&watch);
	}
	life->pid = watch.pid;
	if (wait_for_end(&watch, &life->status, err) == 0) {
		hear_last_words(&watch);
		for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
			note_closed(&watch, i);
	}
	if (watch.guest_since)
		life->ran_ms = guard_now() - watch.guest_since;
	stop_listening(&watch);
	/* If it has not said so itself: the loop goes on while disks are written out. */
	enter(&watch, ENDING);
	broker_virtio_end(&broker->virtio);
	broker_tpm_end(&broker->files.tpm, broker->loop);
	broker->watch = NULL;
	broker_fail_requests(broker);
	return err->code;
}

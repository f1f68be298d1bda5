/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/broker.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "broker/resources.h"
#include "broker/serial.h"
#include "host/bind.h"
#include "host/guard.h"
#include "host/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define END_MS 5000 /* for a machine to end when it is told to, before it is killed */

struct broker {
	const struct broker_config *config;
	struct broker_files files;
	struct broker_console console;
	sigset_t signals; /* that arrive at signal_fd instead of a handler */
	int signal_fd;
	int stopped_by; /* the signal that asked for the end; 0 */
};

/* Descriptors for the eventfds of every vector; raised while there is one thread and a small table. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int catch_signals(struct broker *broker, struct error *err)
{
	static const int always[] = { SIGTERM, SIGPWR, SIGCHLD };
	/* As nohup does, or a shell for what runs in the background. */
	static const int unless_ignored[] = { SIGINT, SIGHUP, SIGQUIT };
	struct sigaction before;

	sigemptyset(&broker->signals);
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		sigaddset(&broker->signals, always[i]);
	for (size_t i = 0; i < ARRAY_SIZE(unless_ignored); i++)
		if (sigaction(unless_ignored[i], NULL, &before) == 0 &&
			before.sa_handler != SIG_IGN)
			sigaddset(&broker->signals, unless_ignored[i]);
	sigprocmask(SIG_BLOCK, &broker->signals, NULL);
	broker->signal_fd = signalfd(-1, &broker->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
	/* Put into the background, it must not be stopped on its way to give devices back. */
	signal(SIGTTOU, SIG_IGN);
	/* Whoever started us may ignore it, and the kernel would then reap the machine itself. */
	signal(SIGCHLD, SIG_DFL);
	return broker->signal_fd < 0 ? error_sys(err, -errno, NULL, "cannot catch signals") : 0;
}

/*
 * The machine keeps the descriptors that it is made of and stderr: none of the broker's, and none that
 * our caller has left open, which whoever breaks out of the guest would have.
 */
static int close_the_rest(const struct machine_config *machine, struct error *err)
{
	int keep[7 + MACHINE_DEVICES_MAX] = {
		machine->kernel_fd,
		machine->initrd_fd,
		machine->console.in,
		machine->console.out,
		machine->kvm_fd,
		machine->container_fd,
		machine->control_fd,
	};
	size_t count = 7;
	int code, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	for (unsigned i = 0; i < machine->device_count; i++)
		keep[count++] = machine->devices[i].group_fd;
	code = fd_close_except(keep, count);
	return code ? error_sys(err, code, NULL, "cannot close what the machine is not to have")
		    : 0;
}

static _Noreturn void run_machine(
	struct broker *broker, const struct broker_vfio *vfio, int control)
{
	const struct broker_config *config = broker->config;
	struct machine_config machine = {
		.name = config->name,
		.kernel_fd = broker->files.kernel,
		.kernel_name = config->kernel,
		.initrd_fd = broker->files.initrd,
		.initrd_name = config->initrd,
		.cmdline = config->cmdline,
		.memory = config->memory,
		.backing = config->backing,
		.cpus = config->cpus,
		.console = broker->console.config,
		.kvm_fd = broker->files.kvm,
		.container_fd = vfio->container,
		.device_count = config->device_count,
		.control_fd = control,
	};
	struct error err = { 0 };
	enum machine_end how;
	sigset_t none; /* not what our caller had blocked: a vCPU is stopped by a signal */

	prctl(PR_SET_NAME, "penstock-vm");
	/* Ctrl-C reaches the whole process group; it is the broker's to act on. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (unsigned i = 0; i < config->device_count; i++)
		machine.devices[i] = (struct machine_device){ config->devices[i], vfio->groups[i] };
	how = close_the_rest(&machine, &err) ? MACHINE_FAILED : machine_run(&machine, &err);
	if (how == MACHINE_FAILED)
		error_print(&err);
	_exit(how);
}

static int start_machine(struct broker *broker, int *control, pid_t *pid, struct error *err)
{
	struct broker_vfio vfio;
	int pair[2];

	if (broker_vfio_open(&vfio, broker->config, err))
		goto out;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		error_sys(err, -errno, NULL, "cannot talk to the machine");
		goto out;
	}
	*pid = fork();
	if (*pid == 0)
		run_machine(broker, &vfio, pair[1]);
	*control = pair[0];
	if (*pid < 0) {
		error_sys(err, -errno, NULL, "cannot start the machine's process");
		close(pair[0]);
	}
	close(pair[1]);
out:
	/* From here on only the machine has them, so that they close with it. */
	broker_vfio_close(&vfio);
	return err->code;
}

/* Handle what has arrived. True when the machine is to end. */
static bool take_signals(struct broker *broker, int control)
{
	const char button = MACHINE_PRESS_BUTTON;
	struct signalfd_siginfo info;

	while (read(broker->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGPWR && control >= 0)
			send(control, &button, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGPWR)
			broker->stopped_by = info.ssi_signo;
	}
	return broker->stopped_by;
}

/* Wait for the machine's end; a signal makes it end. Returns its wait status. */
static int wait_for_machine(struct broker *broker, int control, pid_t pid)
{
	struct pollfd signals = { .fd = broker->signal_fd, .events = POLLIN };
	uint64_t deadline = 0;
	bool ending = false;
	int status, wait;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended == pid)
			break;
		if (ended < 0 && errno != EINTR) {
			status = MACHINE_FAILED << 8;
			break;
		}
		wait = ending ? (int)(deadline - min_u64(guard_now(), deadline)) : -1;
		if (poll(&signals, 1, wait) == 0) {
			kill(pid, SIGKILL);
			deadline = guard_now() + END_MS;
		}
		if (!take_signals(broker, ending ? -1 : control) || ending)
			continue;
		ending = true;
		deadline = guard_now() + END_MS;
		close(control);
	}
	if (!ending)
		close(control);
	return status;
}

static int killed(const struct broker *broker, int signal, struct error *err)
{
	error_set(err, -EIO, broker->config->name,
		"the machine's process was killed by signal %d (%s)", signal, strsignal(signal));
	if (signal == SIGSYS)
		error_hint(err,
			"it made a system call that its sandbox forbids: a bug in Penstock, "
			"or a break-out attempt; the kernel's log names the call");
	return 1;
}

/* One life of the machine, from start to end. *again: the guest has asked for a reboot. */
static int live_once(struct broker *broker, bool *again, struct error *err)
{
	int control = -1, status, how;
	pid_t pid = -1;

	*again = false;
	if (take_signals(broker, -1))
		return 128 + broker->stopped_by;
	if (start_machine(broker, &control, &pid, err))
		return 1;
	broker_console_enter(&broker->console);
	status = wait_for_machine(broker, control, pid);
	broker_console_leave(&broker->console);
	if (broker->stopped_by)
		return 128 + broker->stopped_by;
	if (WIFSIGNALED(status))
		return killed(broker, WTERMSIG(status), err);
	how = WEXITSTATUS(status);
	*again = how == MACHINE_RESET && !broker->config->no_reboot;
	return how == MACHINE_OFF || how == MACHINE_RESET || how == MACHINE_QUIT ? 0 : 1;
}

static int live(struct broker *broker, struct error *err)
{
	bool again;
	int code;

	do {
		code = live_once(broker, &again, err);
		if (again)
			log_info("%s: the guest reboots", broker->config->name);
	} while (again);
	return code;
}

/* Take the devices, live, and give them back. */
static int with_devices(struct broker *broker, const struct host *host, struct error *err)
{
	const struct broker_config *config = broker->config;
	struct bind_options options = { .owner = config->name, .force = config->force };
	struct error release = { 0 };
	int code;

	if (config->device_count &&
		host_bind(host, config->devices, config->device_count, &options, err))
		return 1;
	code = live(broker, err);
	if (config->device_count && host_release_owned(host, NULL, &release)) {
		if (err->code)
			error_print(&release);
		else
			*err = release;
		code = 1;
	}
	return code;
}

static int with_name(struct broker *broker, struct error *err)
{
	struct host host;
	int code;

	if (host_init(&host, NULL, NULL, err) || host_claim_name(&host, broker->config->name, err))
		return 1;
	code = with_devices(broker, &host, err);
	host_release_name(&host, broker->config->name);
	return code;
}

int broker_run(const struct broker_config *config, struct error *err)
{
	struct broker broker = {
		.config = config,
		.files = { -1, -1, -1 },
		.console = { .config = { .in = -1, .out = -1 }, .slave = -1 },
		.signal_fd = -1,
	};
	int code = 1;

	raise_file_limit();
	if (broker_files_open(&broker.files, config, err) == 0 &&
		broker_check_cpus(config, broker.files.kvm, err) == 0 &&
		broker_check_memory(config, err) == 0 &&
		broker_console_open(&broker.console, config, err) == 0 &&
		catch_signals(&broker, err) == 0)
		code = with_name(&broker, err);
	broker_console_close(&broker.console);
	broker_files_close(&broker.files);
	if (broker.signal_fd >= 0)
		close(broker.signal_fd);
	return code;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/signals.h"

#include "base/size.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

int broker_signals_catch(struct error *err)
{
	static const int always[] = { SIGTERM, SIGPWR, SIGCHLD, SIGCONT };
	/* As nohup does, or a shell for what runs in the background. */
	static const int unless_ignored[] = { SIGINT, SIGHUP, SIGQUIT };
	struct sigaction before;
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		sigaddset(&signals, always[i]);
	for (size_t i = 0; i < ARRAY_SIZE(unless_ignored); i++)
		if (sigaction(unless_ignored[i], NULL, &before) == 0 &&
			before.sa_handler != SIG_IGN)
			sigaddset(&signals, unless_ignored[i]);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_sys(err, -errno, NULL, "cannot catch signals");
	signal(SIGPIPE, SIG_IGN);
	/*
	 * In the background neither output nor a key must stop it, nor the machine, which has this
	 * from us: the guest would stand still while its devices go on.
	 */
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	/* Whoever started us may ignore it, and the kernel would then reap the machine itself. */
	signal(SIGCHLD, SIG_DFL);
	return fd;
}

void broker_signals_unblock(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

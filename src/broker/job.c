/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/job.h"

#include "base/fd.h"
#include "broker/life.h"
#include "host/journal/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static _Noreturn void run_job(struct broker *broker, const struct broker_job_subject *subject,
	broker_job_work work, int result_fd, pid_t parent)
{
	struct error err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Nor what others wait to see closed: the sockets of clients, of the machine, of swtpm. */
	if (getppid() != parent || fd_close_except(&result_fd, 1))
		_exit(1);
	host_holder_act_for(parent);
	work(broker, subject, &err);
	_exit(fd_write_all(result_fd, &err, sizeof(err)) ? 1 : 0);
}

static void on_result(void *opaque, uint32_t events)
{
	struct broker *broker = opaque;
	struct broker_job job = broker->job;
	struct error err = { 0 };

	(void)events;
	if (fd_read_all(job.result_fd, &err, sizeof(err))) {
		err = (struct error){ 0 };
		error_set(&err, -ECHILD, broker->config->name,
			"the process that changes a device's driver was killed");
		error_hint(&err, "the kernel's log may tell why (dmesg)");
	}
	loop_remove(broker->loop, job.result_fd);
	close(job.result_fd);
	while (waitpid(job.pid, NULL, 0) < 0 && errno == EINTR)
		;
	broker->job = (struct broker_job){ 0 };
	if (job.result)
		*job.result = err;
	else
		job.done(broker, &job.subject, &err);
}

static int start_child(struct broker *broker, broker_job_work work)
{
	struct broker_job *job = &broker->job;
	pid_t parent = getpid();
	int ends[2], code = 0;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	job->result_fd = ends[0];
	code = loop_add(broker->loop, ends[0], EPOLLIN, on_result, broker);
	job->pid = code ? 0 : fork();
	if (job->pid == 0 && !code)
		run_job(broker, &job->subject, work, ends[1], parent);
	if (job->pid < 0)
		code = -errno;
	close(ends[1]);
	if (!code)
		return 0;
	loop_remove(broker->loop, ends[0]);
	close(ends[0]);
	return code;
}

bool broker_job_is_busy(const struct broker *broker)
{
	return broker->job.pid;
}

static void start_job(struct broker *broker, struct broker_job job, broker_job_work work)
{
	struct error err = { 0 };

	broker->job = job;
	if (start_child(broker, work) == 0)
		return;
	broker->job = (struct broker_job){ 0 };
	work(broker, &job.subject, &err);
	if (job.result)
		*job.result = err;
	else
		job.done(broker, &job.subject, &err);
}

void broker_job_start(struct broker *broker, const struct broker_job_subject *subject,
	broker_job_work work, broker_job_done done)
{
	start_job(broker, (struct broker_job){ .subject = *subject, .done = done }, work);
}

static void wait_for_job(struct broker *broker)
{
	while (broker_job_is_busy(broker))
		loop_step(broker->loop, -1);
}

int broker_job_call(struct broker *broker, broker_job_work work, struct error *err)
{
	wait_for_job(broker);
	start_job(broker, (struct broker_job){ .result = err }, work);
	wait_for_job(broker);
	return err->code;
}

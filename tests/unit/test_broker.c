/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/broker.h"
#include "broker/resources.h"
#include "broker/rom.h"
#include "broker/vfio.h"
#include "control/socket.h"
#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/system/guard.h"
#include "machine/message.h"
#include "terminal.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#define HAS_ASAN 1
#elif defined(__has_feature)
#define HAS_ASAN __has_feature(address_sanitizer)
#else
#define HAS_ASAN 0
#endif
#if HAS_ASAN
#include <sanitizer/allocator_interface.h>
#endif

/*
 * The broker with a machine that does whatever the test wants of it: machine_run(), in the process
 * that the broker has made for it, calls a function of the test (-Wl,--wrap). So do the calls that
 * need a host with KVM, VFIO and devices. All else is real: processes, signals, terminals.
 */

#define WAIT_MS 20000
#define EARLY   20

enum machine_end __wrap_machine_run(const struct machine_config *config, struct error *err);
int __real_host_init(struct host *host, const char *root, const char *run, struct error *err);
int __wrap_host_init(struct host *host, const char *root, const char *run, struct error *err);
int __wrap_host_bind(const struct host *host, const struct bdf *devices, size_t count,
	const struct bind_options *options, struct error *err);
int __wrap_host_release_owned(const struct host *host, const struct bdf *only, struct error *err);
bool __wrap_host_release_is_taken(const struct host *host, const struct bdf *bdf);
int __wrap_host_release_unless_taken(
	const struct host *host, const struct bdf *bdf, struct error *err);
int __real_message_send(int socket, const struct message *message);
int __wrap_message_send(int socket, const struct message *message);
int __wrap_broker_check_memory(
	const struct broker_config *config, const struct host *host, struct error *err);
void __wrap_broker_oom_protect(void);
int __wrap_broker_vfio_open(struct broker_vfio *vfio, const struct host *host,
	const struct broker_config *config, struct error *err);
int __wrap_broker_vfio_open_more(struct broker_vfio *vfio, const struct host *host,
	enum vfio_iommu_kind kind, const struct bdf *devices, unsigned count, struct error *err);
uint64_t __real_guard_now(void);
uint64_t __wrap_guard_now(void);
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal);

typedef enum machine_end (*machine)(const struct machine_config *config, struct error *err);

/* The broker's process has a copy; what the machine and it do is counted for all to see. */
static struct {
	machine run;
	unsigned limit_ms, progress_ms; /* 0: as they are */
	unsigned haste;                 /* times faster than the clock */
	bool cannot_kill;
	const char *no_bind;         /* why devices cannot be had */
	bool slow_bind, slow_return; /* they wait until the test lets them go on */
	unsigned no_attach;          /* this message of the kind does not get through; 0 */
	const char *local_events;    /* of the group whose memory runs out */
	const char *log;             /* what the kernel says of it, for a number; NULL */
	int leak;    /* a descriptor that the broker has and the machine is not to have */
	int in, out; /* its standard streams */
} test;

static struct {
	unsigned lives, binds, attaches;
	unsigned returns, releases; /* of devices, and of all that is left then */
	unsigned taken;             /* the bus of a device that somebody takes; 0 */
	uint64_t disk_size;         /* that a machine was told of */
	unsigned wishes;            /* of devices that were taken as they were opened */
	unsigned standing;          /* processes that have come to where they wait */
	unsigned may_go_on;         /* by the test */
	pid_t worker;               /* the last of them */
	size_t heap[2]; /* what the broker uses when it has bound EARLY devices, and now */
	pid_t machine;
	unsigned ready; /* by the test: the machine may say so */
	unsigned presses, quits;
	unsigned key_count;
	uint8_t keys[256]; /* what the machine gets from its console */
} * seen;

enum machine_end __wrap_machine_run(const struct machine_config *config, struct error *err)
{
	seen->lives++;
	seen->machine = getpid();
	return test.run(config, err);
}

int __wrap_host_init(struct host *host, const char *root, const char *run, struct error *err)
{
	int code = __real_host_init(host, root, run, err);

	if (test.limit_ms)
		host->limit_ms = test.limit_ms;
	if (test.progress_ms)
		host->progress_ms = test.progress_ms;
	return code;
}

static size_t heap_in_use(void)
{
#if HAS_ASAN
	return __sanitizer_get_current_allocated_bytes();
#else
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#endif
}

/* As behind a driver that does not let go. */
static void stand_still(void)
{
	seen->worker = getpid();
	__atomic_add_fetch(&seen->standing, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&seen->may_go_on, __ATOMIC_ACQUIRE))
		usleep(1000);
}

int __wrap_host_bind(const struct host *host, const struct bdf *devices, size_t count,
	const struct bind_options *options, struct error *err)
{
	(void)host, (void)devices, (void)options;
	if (test.slow_bind)
		stand_still();
	if (test.no_bind)
		return error_set(err, -EBUSY, NULL, "%s", test.no_bind);
	seen->binds += count;
	seen->heap[seen->binds > EARLY] = heap_in_use();
	return 0;
}

int __wrap_host_release_owned(const struct host *host, const struct bdf *only, struct error *err)
{
	(void)host, (void)only, (void)err;
	seen->releases++;
	return 0;
}

int __wrap_host_release_unless_taken(
	const struct host *host, const struct bdf *bdf, struct error *err)
{
	(void)host, (void)bdf, (void)err;
	if (test.slow_return)
		stand_still();
	seen->returns++;
	return 0;
}

bool __wrap_host_release_is_taken(const struct host *host, const struct bdf *bdf)
{
	(void)host;
	return seen->taken && bdf->bus == seen->taken;
}

int __wrap_message_send(int socket, const struct message *message)
{
	if (message->type == MESSAGE_ATTACH && test.no_attach == ++seen->attaches)
		return -EAGAIN;
	return __real_message_send(socket, message);
}

int __wrap_broker_check_memory(
	const struct broker_config *config, const struct host *host, struct error *err)
{
	(void)config, (void)host, (void)err;
	return 0;
}

void __wrap_broker_oom_protect(void)
{
}

int __wrap_broker_vfio_open(struct broker_vfio *vfio, const struct host *host,
	const struct broker_config *config, struct error *err)
{
	(void)host, (void)err;
	*vfio = (struct broker_vfio){ .iommu = -1, .count = config->device_count };
	for (unsigned i = 0; i < vfio->count; i++)
		vfio->sources[i] = (struct vfio_source){ config->devices[i], -1 };
	return 0;
}

int __wrap_broker_vfio_open_more(struct broker_vfio *vfio, const struct host *host,
	enum vfio_iommu_kind kind, const struct bdf *devices, unsigned count, struct error *err)
{
	(void)host, (void)err;
	*vfio = (struct broker_vfio){ .kind = kind, .iommu = -1, .count = count };
	for (unsigned i = 0; i < count; i++)
		vfio->sources[i] = (struct vfio_source){ devices[i],
			__real_open64("/dev/null", O_RDWR | O_CLOEXEC) };
	return 0;
}

uint64_t __wrap_guard_now(void)
{
	return __real_guard_now() * (test.haste ? test.haste : 1);
}

int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	return __real_open64(strcmp(path, "/dev/kvm") ? path : "/dev/null", flags, mode);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;

	(void)fd;
	if (request == KVM_GET_SUPPORTED_CPUID) {
		va_start(args, request);
		va_arg(args, struct kvm_cpuid2 *)->nent = 0;
		va_end(args);
		return 0;
	}
	assert_int_equal(request, KVM_CHECK_EXTENSION);
	return 16;
}

int __wrap_kill(pid_t pid, int signal)
{
	return test.cannot_kill ? 0 : __real_kill(pid, signal);
}

/* A broker in a process of its own */

static char root[] = "/tmp/penstock-broker-XXXXXX";
static char kernel[64];

static struct broker_config config;

static int run_broker(void *opaque)
{
	struct error err = { 0 };
	int code = broker_run(&config, &err);

	(void)opaque;
	if (err.code)
		error_print(&err);
	return code;
}

struct job {
	pid_t pid;
	int errors;
};

static void start(struct job *job, machine run)
{
	test.run = run;
	job->errors = memfd_create("stderr", MFD_CLOEXEC);
	job->pid = fork();
	if (job->pid)
		return;
	dup2(job->errors, STDERR_FILENO);
	dup2(test.in, STDIN_FILENO);
	dup2(test.out, STDOUT_FILENO);
	_exit(run_broker(NULL));
}

static void take_text(int fd, char *text, size_t size)
{
	ssize_t got = pread(fd, text, size - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
}

static unsigned count_in(int errors, const char *words)
{
	static char text[65536];
	unsigned count = 0;

	take_text(errors, text, sizeof(text));
	for (const char *at = text; (at = strstr(at, words)); at += strlen(words))
		count++;
	return count;
}

static void assert_says(int errors, const char *words)
{
	char text[4096];

	take_text(errors, text, sizeof(text));
	if (!strstr(text, words))
		fail_msg("'%s' is not in: %s", words, text);
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The broker's exit code. */
static int end_of(struct job *job)
{
	int status;

	for (unsigned tries = 0; tries < WAIT_MS / 10; tries++) {
		if (waitpid(job->pid, &status, WNOHANG) == job->pid)
			return exit_code(status);
		usleep(10000);
	}
	__real_kill(job->pid, SIGKILL);
	waitpid(job->pid, &status, 0);
	fail_msg("the broker does not end");
	return -1;
}

static void wait_for(const unsigned *count, unsigned wanted)
{
	for (unsigned tries = 0; __atomic_load_n(count, __ATOMIC_RELAXED) < wanted; tries++) {
		if (tries == WAIT_MS / 10)
			fail_msg("%u of %u came", *count, wanted);
		usleep(10000);
	}
}

static void pause_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static uint64_t now_ms(void)
{
	return __real_guard_now();
}

static int group_setup(void **state)
{
	(void)state;
	/* Not as nohup or a shell's background leave them, which the broker would respect. */
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	if (!mkdtemp(root))
		return -1;
	setenv("PENSTOCK_ROOT", root, 1);
	snprintf(kernel, sizeof(kernel), "%s/run", root);
	mkdir(kernel, 0700);
	snprintf(kernel, sizeof(kernel), "%s/kernel", root);
	close(open(kernel, O_WRONLY | O_CREAT, 0600));
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return seen == MAP_FAILED ? -1 : 0;
}

static int group_teardown(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static int setup(void **state)
{
	(void)state;
	memset(&test, 0, sizeof(test));
	test.out = 1;
	memset(seen, 0, sizeof(*seen));
	config = (struct broker_config){
		.name = "test",
		.kernel = kernel,
		.cmdline = "",
		.memory = 2 * MIB,
		.cpus = KVM_CPUS(1),
		.serial = BROKER_SERIAL_NONE,
	};
	return 0;
}

/* Machines */

/* In the machine's process, which no failed assertion would end. */
static void must(bool condition, const char *what)
{
	struct error err = { 0 };

	if (condition)
		return;
	error_set(&err, -EINVAL, "machine", "this does not hold: %s", what);
	error_print(&err);
	_exit(MACHINE_FAILED);
}

#define must(condition) must(condition, #condition)

static void tell(const struct machine_config *machine, enum message_type type)
{
	must(message_send(machine->control_fd, &(struct message){ .type = type }) == 0);
}

/* Until the broker wants its end, or sends a message; false at the end. */
static bool listen_to_broker(const struct machine_config *machine, struct message *message)
{
	return message_receive(machine->control_fd, message) == 1;
}

static enum machine_end be_good(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message))
		seen->presses += message.type == MESSAGE_PRESS_BUTTON;
	tell(machine, MESSAGE_ENDING);
	return MACHINE_QUIT;
}

static enum machine_end power_off(const struct machine_config *machine, struct error *err)
{
	(void)err;
	tell(machine, MESSAGE_READY);
	tell(machine, MESSAGE_ENDING);
	return MACHINE_OFF;
}

static enum machine_end fail_to_run(const struct machine_config *machine, struct error *err)
{
	(void)machine;
	error_set(err, -EIO, "vCPU 0", "it fails");
	return MACHINE_FAILED;
}

static enum machine_end crash(const struct machine_config *machine, struct error *err)
{
	(void)machine, (void)err;
	signal(SIGSYS, SIG_DFL); /* cmocka has a handler */
	__real_kill(getpid(), SIGSYS);
	return MACHINE_OFF;
}

/* Whatever it is told. */
static enum machine_end hang(const struct machine_config *machine, struct error *err)
{
	(void)err;
	tell(machine, MESSAGE_READY);
	while (pause() < 0)
		continue;
	return MACHINE_OFF;
}

/* On its way to the end by itself; of four devices one is closed. */
static enum machine_end hang_at_the_end(const struct machine_config *machine, struct error *err)
{
	tell(machine, MESSAGE_READY);
	tell(machine, MESSAGE_ENDING);
	must(message_send(machine->control_fd,
		     &(struct message){ .type = MESSAGE_CLOSED, .device = 1 }) == 0);
	return hang(machine, err);
}

/* It ends when it is told to, but its devices take longer than it is given for that. */
static enum machine_end end_slowly(const struct machine_config *machine, struct error *err)
{
	const struct message ending = { .type = MESSAGE_ENDING };
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message))
		continue;
	/* Whether or not the broker still listens. */
	if (message_send(machine->control_fd, &ending))
		seen->quits++;
	pause_ms(1000);
	return MACHINE_QUIT;
}

static enum machine_end reset(const struct machine_config *machine, struct error *err)
{
	(void)err;
	tell(machine, MESSAGE_READY);
	tell(machine, MESSAGE_ENDING);
	return MACHINE_RESET;
}

static enum machine_end reset_later(const struct machine_config *machine, struct error *err)
{
	tell(machine, MESSAGE_READY);
	pause_ms(50);
	tell(machine, MESSAGE_ENDING);
	return seen->lives == 12 ? power_off(machine, err) : MACHINE_RESET;
}

static enum machine_end crash_twice(const struct machine_config *machine, struct error *err)
{
	(void)err;
	must(!machine->hold_at_crash);
	tell(machine, MESSAGE_READY);
	return seen->lives == 1   ? MACHINE_PANICKED
	       : seen->lives == 2 ? MACHINE_TRIPLE_FAULT
				  : MACHINE_OFF;
}

static enum machine_end crash_when_pressed(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	return listen_to_broker(machine, &message) ? MACHINE_TRIPLE_FAULT : MACHINE_QUIT;
}

/* When the button is pressed, it does the next of some deeds; and it does as a client asks. */
static enum machine_end be_held(const struct machine_config *machine, struct error *err)
{
	static const enum machine_end deeds[] = { MACHINE_FAILED, MACHINE_PANICKED,
		MACHINE_TRIPLE_FAULT };
	unsigned next = 0;
	struct message message;

	(void)err;
	must(machine->hold_at_crash && machine->hold_at_reboot);
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		struct message held = { .type = MESSAGE_HELD, .end = deeds[next % 3] },
			       reply = { .type = MESSAGE_REPLY, .id = message.id };

		if (message.type == MESSAGE_RESET)
			return MACHINE_RESET;
		if (seen->lives == 2)
			held.end = MACHINE_RESET;
		if (message.type == MESSAGE_PRESS_BUTTON && next++ == 0)
			for (unsigned i = 0; i < 100; i++)
				tell(machine, MESSAGE_CRASH_LOADED);
		must(message_send(machine->control_fd,
			     message.type == MESSAGE_PRESS_BUTTON ? &held : &reply) == 0);
		/* Another vCPU, at the same time. */
		if (held.end == MACHINE_PANICKED)
			must(message_send(
				     machine->control_fd, &(struct message){ .type = MESSAGE_HELD,
								  .end = MACHINE_RESET }) == 0);
	}
	return MACHINE_QUIT;
}

/* Whatever reaches it from outside, in words that are not known. */
static enum machine_end babble(const struct machine_config *machine, struct error *err)
{
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t words[256] = { i % 256, i, i * 2654435761U };

		/* A sound one of them would mean what it says; an empty one is an end. */
		if (words[0] != MESSAGE_ENDING)
			must(write(machine->control_fd, words, 1 + i % sizeof(words)) > 0);
	}
	return be_good(machine, err);
}

/* A bridge to bus 5 and what is there, and a bridge on bus 6 to which nothing leads and that is behind itself. */
static void tell_bridges(const struct machine_config *machine, struct message part)
{
	static const struct {
		uint8_t bus, slot, secondary;
	} functions[] = { { 0, 2, 5 }, { 5, 3, 0 }, { 6, 4, 6 } };

	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++) {
		part.function = (struct message_function){ .number = -1 };
		part.function.bus = functions[i].bus;
		part.function.devfn = functions[i].slot << 3;
		part.function.bridge.is = functions[i].secondary != 0;
		part.function.bridge.secondary = functions[i].secondary;
		must(message_send(machine->control_fd, &part) == 0);
	}
}

/* It does as it is asked by a client of the monitor. */
static enum machine_end obey(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		struct message part = { .type = MESSAGE_CPU, .id = message.id },
			       reply = { .type = MESSAGE_REPLY, .id = message.id };

		if (message.type == MESSAGE_RESET) {
			tell(machine, MESSAGE_ENDING);
			return seen->lives == 2 ? MACHINE_OFF : MACHINE_RESET;
		}
		if (message.type == MESSAGE_PRESS_BUTTON)
			continue;
		if (message.type == MESSAGE_RESIZED) {
			must(machine->virtio[message.resized.number].type == VIRTIO_BLK);
			__atomic_store_n(&seen->disk_size, message.resized.size, __ATOMIC_RELAXED);
			continue;
		}
		part.cpu.thread = 4711;
		if (message.type == MESSAGE_QUERY_CPUS)
			must(message_send(machine->control_fd, &part) == 0);
		/* A CPU is no part of this, nor is an answer that nobody has asked for. */
		if (message.type == MESSAGE_QUERY_PCI) {
			must(message_send(machine->control_fd, &part) == 0);
			reply.id += 1000;
			must(message_send(machine->control_fd, &reply) == 0);
			reply.id -= 1000;
			part = (struct message){ .type = MESSAGE_FUNCTION, .id = message.id };
			part.function.vendor = 0x8086;
			part.function.number = 30000;
			must(message_send(machine->control_fd, &part) == 0);
			tell_bridges(machine, part);
		}
		must(message_send(machine->control_fd, &reply) == 0);
	}
	tell(machine, MESSAGE_ENDING);
	return MACHINE_QUIT;
}

/*
 * It takes the first device, and no other, and closes what it is to; and says of others that they are closed,
 * which means nothing.
 */
static enum machine_end take_one(const struct machine_config *machine, struct error *err)
{
	unsigned attached = 0;
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		struct message reply = { .type = MESSAGE_REPLY, .id = message.id },
			       closed = { .type = MESSAGE_CLOSED, .device = 60 },
			       part = { .type = MESSAGE_FUNCTION, .id = message.id };

		if (message.type == MESSAGE_QUERY_PCI)
			must(message_send(machine->control_fd, &part) == 0);
		if (message.type == MESSAGE_ATTACH) {
			must(fcntl(message.fds[0], F_GETFD) >= 0 && message.attach.functions == 1);
			close(message.fds[0]);
			closed.device = message.attach.device;
			if (attached++)
				error_set(&reply.error, -ENOSPC, NULL, "no port");
		} else if (message.type == MESSAGE_DETACH) {
			must(message.detach.device == 0);
			closed.device = 0;
		}
		must(message_send(machine->control_fd, &reply) == 0);
		if (message.type == MESSAGE_DETACH || reply.error.code)
			must(message_send(machine->control_fd, &closed) == 0);
	}
	return MACHINE_QUIT;
}

static enum machine_end take_all(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		if (message.type == MESSAGE_TAKEN) {
			must(message.device == seen->wishes++);
			continue;
		}
		const struct message reply = { .type = MESSAGE_REPLY, .id = message.id },
				     closed = { .type = MESSAGE_CLOSED, .device = 0 };

		if (message.type == MESSAGE_ATTACH)
			close(message.fds[0]);
		must(message_send(machine->control_fd, &reply) == 0);
		if (message.type == MESSAGE_DETACH)
			must(message_send(machine->control_fd, &closed) == 0);
	}
	return MACHINE_QUIT;
}

/* Of two functions the second never comes. The first is not given back before it is closed here. */
static enum machine_end take_half(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		struct message reply = { .type = MESSAGE_REPLY, .id = message.id },
			       closed = { .type = MESSAGE_CLOSED, .device = message.attach.device };

		must(message.type == MESSAGE_ATTACH && message.attach.functions == 2);
		close(message.fds[0]);
		wait_for(&seen->returns, 1);
		pause_ms(50);
		must(seen->returns == 1);
		error_set(&reply.error, -ETIMEDOUT, NULL, "half of it");
		must(message_send(machine->control_fd, &reply) == 0);
		must(message_send(machine->control_fd, &closed) == 0);
	}
	return MACHINE_QUIT;
}

/* The first of two devices is taken from it in the midst of its first end; the second is without a ROM. */
static enum machine_end lose_one(const struct machine_config *machine, struct error *err)
{
	must(machine->device_count == (seen->lives == 1 ? 2 : 1));
	must(machine->devices[0].bdf.bus == (seen->lives == 1 ? 7 : 8));
	must(machine->roms[0].hidden == (seen->lives == 2));
	must(machine->roms[1].hidden == (seen->lives == 1));
	if (seen->lives == 2)
		return be_good(machine, err);
	tell(machine, MESSAGE_READY);
	while (!__atomic_load_n(&seen->ready, __ATOMIC_RELAXED))
		usleep(10000);
	tell(machine, MESSAGE_ENDING);
	seen->taken = 7;
	return MACHINE_RESET;
}

static void tell_event(const struct machine_config *machine, enum message_type type,
	unsigned device, unsigned action)
{
	const struct message event = { .type = type, .event = { device, action } };

	must(message_send(machine->control_fd, &event) == 0);
}

/*
 * Of two devices of one slot the host wants the first back in the first life, and the third one in the second,
 * which ends before that is closed, and before one is that was pulled as it failed. Then they fail. What makes no sense is between all that.
 */
static enum machine_end have_events(const struct machine_config *machine, struct error *err)
{
	struct message message, closed = { .type = MESSAGE_CLOSED };

	(void)err;
	must(machine->device_count == (seen->lives == 1 ? 5 : seen->lives == 2 ? 3 : 1));
	must(machine->on_device_error == MACHINE_DETACH);
	tell(machine, MESSAGE_READY);
	wait_for(&seen->ready, seen->lives);
	tell_event(machine, MESSAGE_WANTED, 60, MACHINE_DETACH);
	tell_event(machine, MESSAGE_WANTED, UINT32_MAX, MACHINE_ASK);
	tell_event(machine, MESSAGE_WANTED, 0, MACHINE_STOP);
	tell_event(machine, MESSAGE_FAILED, 0, MACHINE_ASK);
	tell_event(machine, MESSAGE_FAILED, 0, UINT32_MAX);
	if (seen->lives == 1) {
		tell_event(machine, MESSAGE_WANTED, 0, MACHINE_ASK);
		for (closed.device = 0; closed.device < 3; closed.device++)
			must(message_send(machine->control_fd, &closed) == 0);
		wait_for(&seen->ready, 2);
	} else if (seen->lives == 2) {
		tell_event(machine, MESSAGE_WANTED, 0, MACHINE_ASK);
		tell_event(machine, MESSAGE_FAILED, 2, MACHINE_DETACH);
	} else {
		for (unsigned i = 0; i < 1000; i++)
			tell_event(machine, MESSAGE_FAILED, 0, MACHINE_REPORT);
	}
	if (seen->lives < 3)
		return MACHINE_RESET;
	while (listen_to_broker(machine, &message))
		continue;
	return MACHINE_QUIT;
}

/* It cannot, and says so as somebody would who wants to reach the user's terminal. */
static enum machine_end refuse_all(const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	while (listen_to_broker(machine, &message)) {
		struct message reply = { .type = MESSAGE_REPLY, .id = message.id };

		error_set(&reply.error, -EIO, "\033[2Jvcpu", "it \xff fails");
		memset(reply.error.hint, 'x', sizeof(reply.error.hint));
		must(message_send(machine->control_fd, &reply) == 0);
	}
	return MACHINE_QUIT;
}

static enum machine_end end_without_an_answer(
	const struct machine_config *machine, struct error *err)
{
	struct message message;

	(void)err;
	tell(machine, MESSAGE_READY);
	listen_to_broker(machine, &message);
	return MACHINE_OFF;
}

/* The end, and what the broker makes of it */

static void assert_machine_is_gone(void)
{
	assert_int_equal(__real_kill(seen->machine, 0), -1);
	assert_int_equal(errno, ESRCH);
}

TEST(the_exit_code_says_how_it_ended)
{
	struct job job;

	start(&job, power_off);
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->lives, 1);
	assert_int_equal(count_in(job.errors, "penstock"), 0);
	start(&job, fail_to_run);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "penstock: vCPU 0: it fails");
	start(&job, crash);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "penstock: test: the machine's process was killed by signal 31");
	assert_says(job.errors, "sandbox");
}

TEST(devices_come_back_however_it_ends)
{
	static const machine machines[] = { power_off, fail_to_run, crash };
	struct job job;

	config.device_count = 2;
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		memset(seen, 0, sizeof(*seen));
		start(&job, machines[i]);
		end_of(&job);
		assert_int_equal(seen->binds, 2);
		assert_int_equal(seen->returns, 2);
		assert_int_equal(seen->releases, 1);
	}
	memset(seen, 0, sizeof(*seen));
	test.no_bind = "they are in use";
	start(&job, power_off);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "they are in use");
	assert_int_equal(seen->lives + seen->releases, 0);
}

TEST(a_name_is_one_machines)
{
	struct job first, second;

	start(&first, be_good);
	wait_for(&seen->lives, 1);
	start(&second, power_off);
	assert_int_equal(end_of(&second), 1);
	assert_says(second.errors, "a machine of this name is running");
	__real_kill(first.pid, SIGTERM);
	assert_int_equal(end_of(&first), 128 + SIGTERM);
	start(&second, power_off);
	assert_int_equal(end_of(&second), 0);
}

TEST(signals_end_it)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	struct job job;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		memset(seen, 0, sizeof(*seen));
		start(&job, be_good);
		wait_for(&seen->lives, 1);
		__real_kill(job.pid, signals[i]);
		assert_int_equal(end_of(&job), 128 + signals[i]);
		assert_machine_is_gone();
	}
}

TEST(what_the_caller_ignores_is_ignored)
{
	struct job job;

	signal(SIGHUP, SIG_IGN);
	start(&job, be_good);
	signal(SIGHUP, SIG_DFL);
	wait_for(&seen->lives, 1);
	__real_kill(job.pid, SIGHUP);
	pause_ms(100);
	__real_kill(job.pid, SIGINT);
	assert_int_equal(end_of(&job), 128 + SIGINT);
}

TEST(sigpwr_presses_the_button)
{
	struct job job;

	start(&job, be_good);
	wait_for(&seen->lives, 1);
	__real_kill(job.pid, SIGPWR);
	wait_for(&seen->presses, 1);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	assert_int_equal(seen->presses, 1);
}

static enum machine_end look_around(const struct machine_config *machine, struct error *err)
{
	char text[4096];

	(void)err;
	must(fcntl(test.leak, F_GETFD) == -1);
	must(fcntl(machine->boot.kernel_fd, F_GETFD) >= 0);
	must(fcntl(machine->kvm_fd, F_GETFD) >= 0);
	must(machine->boot.initrd_fd == -1 && machine->iommu_fd == -1);
	must(fd_read_file("/proc/self/status", text, sizeof(text)) > 0);
	must(strstr(text, "SigBlk:\t0000000000000000\n"));
	must(read(STDIN_FILENO, text, 1) == 0);
	return MACHINE_OFF;
}

TEST(the_machine_has_what_it_needs_and_nothing_else)
{
	struct job job;

	test.leak = open("/dev/null", O_RDONLY);
	start(&job, look_around);
	if (end_of(&job))
		assert_says(job.errors, "nothing that is amiss");
	close(test.leak);
}

/* Ends that take long */

TEST(a_machine_that_hangs_is_killed)
{
	uint64_t before;
	struct job job;

	config.device_count = 1;
	start(&job, hang);
	wait_for(&seen->lives, 1);
	pause_ms(50);
	before = now_ms();
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	assert_true(now_ms() - before >= 4000);
	assert_true(now_ms() - before < 10000);
	assert_says(job.errors, "test: it has not ended within 5 seconds, and is killed");
	assert_machine_is_gone();
	assert_int_equal(seen->releases, 1);
}

TEST(an_end_that_takes_long_is_told_and_has_a_limit)
{
	struct job job;

	config.device_count = 4;
	for (unsigned i = 0; i < 4; i++)
		config.devices[i] = (struct bdf){ .bus = i + 1 };
	test.limit_ms = 2000;
	test.progress_ms = 500;
	start(&job, hang_at_the_end);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "penstock: test: still waiting for the machine to close "
				"0000:01:00.0, 0000:03:00.0, 0000:04:00.0 (");
	assert_says(job.errors, "test: it has not ended within 2 seconds, and is killed");
	assert_says(job.errors, "killed by signal 9");
	assert_says(job.errors, "when the memory of the host or of a control group runs out");
	assert_machine_is_gone();
	assert_int_equal(seen->releases, 1);
}

#define GROUP "/sys/fs/cgroup/vms"

static void write_below_root(const char *path, const char *text)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* Option ROMs */

#define ROM_DEVICE "/sys/bus/pci/devices/0000:07:00.0"
#define ROM_BYTES  5120

static void make_rom_device(void)
{
	static const char *const files[][2] = { { "vendor", "0x8086\n" }, { "device", "0x10d3\n" },
		{ "class", "0x020000\n" }, { "resource", "" } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[128];

		snprintf(path, sizeof(path), ROM_DEVICE "/%s", files[i][0]);
		write_below_root(path, files[i][1]);
	}
}

/* A legacy image for it, whose sum nobody looks at where nothing runs it. */
static void make_rom_file(char path[static 64], uint16_t vendor, size_t size)
{
	static const uint8_t pcir[] = "PCIR";
	uint8_t bytes[ROM_BYTES] = { 0x55, 0xaa,
		1, [0x18] = 0x1c, [0x20] = vendor, [0x21] = vendor >> 8, [0x22] = 0xd3,
		[0x23] = 0x10, [0x26] = 0x18, [0x2b] = 2, [0x2c] = ROM_BYTES / 512, [0x31] = 0x80 };
	int fd;

	memcpy(bytes + 0x1c, pcir, 4);
	snprintf(path, 64, "%s/card.rom", root);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

/* As much as a BAR can have, and none of it to be written. */
static enum machine_end look_at_rom(const struct machine_config *machine, struct error *err)
{
	const struct passthrough_rom *rom = &machine->roms[0];
	const uint8_t *bytes = rom->bytes;

	(void)err;
	must(machine->device_count == 1 && !rom->hidden && bytes);
	must(rom->size == 8192 && (uintptr_t)bytes % 4096 == 0);
	must(bytes[0] == 0x55 && bytes[1] == 0xaa && !memcmp(bytes + 0x1c, "PCIR", 4));
	must(bytes[ROM_BYTES - 1] == 0 && bytes[ROM_BYTES] == 0xff && bytes[rom->size - 1] == 0xff);
	return MACHINE_OFF;
}

TEST(a_rom_file_is_checked_before_a_device_is_touched)
{
	static const struct {
		uint16_t vendor;
		size_t size;
		const char *words;
	} files[] = {
		{ 0x8086, ROM_BYTES, NULL },
		{ 0x8087, ROM_BYTES, "another vendor" },
		{ 0x8086, ROM_BYTES - 1, "ends before" },
		{ 0x8086, 0, "it is empty" },
	};
	char path[64];

	make_rom_device();
	config.device_count = 1;
	config.devices[0] = (struct bdf){ .bus = 7 };
	config.roms[0] = path;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct job job;

		seen->binds = seen->lives = 0;
		make_rom_file(path, files[i].vendor, files[i].size);
		start(&job, look_at_rom);
		assert_int_equal(end_of(&job), files[i].words ? 1 : 0);
		assert_int_equal(seen->binds, files[i].words ? 0 : 1);
		assert_int_equal(seen->lives, files[i].words ? 0 : 1);
		if (files[i].words)
			assert_says(job.errors, files[i].words);
	}
	unlink(path);
}

/* What broker_roms_tell() writes of the device. */
static void tell_rom(const struct host *host, char *text, size_t size)
{
	int errors = memfd_create("stderr", MFD_CLOEXEC), before = dup(STDERR_FILENO);

	dup2(errors, STDERR_FILENO);
	broker_roms_tell(host, &config, false);
	dup2(before, STDERR_FILENO);
	close(before);
	take_text(errors, text, size);
	close(errors);
}

TEST(a_rom_file_has_to_suit_the_firmware)
{
	static const char *const words[] = { "no UEFI image", "its checksum is wrong" };
	struct passthrough_rom roms[MACHINE_DEVICES_MAX] = { 0 };
	struct error ignored = { 0 };
	struct host host;
	char path[64];

	make_rom_device();
	make_rom_file(path, 0x8086, ROM_BYTES);
	assert_int_equal(host_init(&host, NULL, NULL, &ignored), 0);
	config.device_count = 1;
	config.devices[0] = (struct bdf){ .bus = 7 };
	config.roms[0] = path;
	config.firmware = "a file";
	for (int bios = 0; bios < 2; bios++) {
		struct error err = { 0 };

		assert_int_equal(broker_roms_open(roms, &host, &config, bios, &err), -EINVAL);
		assert_non_null(strstr(err.what, words[bios]));
	}
	unlink(path);
}

TEST(a_card_without_a_rom_for_the_firmware_is_told)
{
	struct error err = { 0 };
	struct host host;
	char text[2048];

	make_rom_device();
	config.device_count = 1;
	config.devices[0] = (struct bdf){ .bus = 7 };
	assert_int_equal(host_init(&host, NULL, NULL, &err), 0);
	config.firmware = "uefi";
	tell_rom(&host, text, sizeof(text));
	assert_string_equal(text, ""); /* of a network card firmware expects nothing */
	write_below_root(ROM_DEVICE "/class", "0x030000\n");
	tell_rom(&host, text, sizeof(text));
	assert_non_null(strstr(text, "0000:07:00.0: it has no option ROM"));
	assert_non_null(strstr(text, "rom=FILE"));
	assert_null(strstr(text, "boot display,"));
	write_below_root(ROM_DEVICE "/boot_vga", "1\n");
	tell_rom(&host, text, sizeof(text));
	assert_non_null(strstr(text, "which was the host's boot display"));
	config.roms[0] = "off";
	tell_rom(&host, text, sizeof(text));
	assert_string_equal(text, "");
	config.roms[0] = config.firmware = NULL;
	tell_rom(&host, text, sizeof(text));
	assert_string_equal(text, "");
}

/* As the kernel does where the group's memory runs out. */
static enum machine_end run_out_of_memory(const struct machine_config *machine, struct error *err)
{
	char line[128] = "";

	(void)machine, (void)err;
	write_below_root(GROUP "/memory.events", "max 7\noom 2\noom_kill 4\n");
	write_below_root(GROUP "/memory.events.local", test.local_events);
	if (test.log)
		snprintf(line, sizeof(line), test.log, getpid());
	write_below_root("/dmesg", line);
	raise(SIGKILL);
	return MACHINE_FAILED;
}

TEST(a_machine_that_is_killed_for_memory_says_whose)
{
	struct job job;

	write_below_root("/proc/self/cgroup", "0::/vms\n");
	write_below_root(GROUP "/memory.max", "1073741824\n");
	write_below_root(GROUP "/memory.events", "max 7\noom 1\noom_kill 3\n");
	write_below_root(GROUP "/memory.events.local", "max 7\noom 1\noom_kill 3\n");
	test.local_events = "max 8\noom 2\noom_kill 4\n";
	test.log = "[ 1.5] Memory cgroup out of memory: Killed process %d (penstock-vm) total-vm\n";
	start(&job, run_out_of_memory);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "penstock: test: the kernel has killed the machine's process: the "
				"memory of the control group /vms ran out, 1 GiB in all");
	assert_says(job.errors, "next: give that group more (MemoryMax= of a service)");
	/* Of another process of the group the kernel says that, or we may not read what it says. */
	write_below_root(GROUP "/memory.events", "oom_kill 3\n");
	write_below_root(GROUP "/memory.events.local", "oom 1\n");
	test.log = "Memory cgroup out of memory: Killed process %d1 (dd) total-vm\n";
	start(&job, run_out_of_memory);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "the machine's process was killed, perhaps by the kernel: the "
				"memory of the control group /vms ran out, 1 GiB in all");
	assert_says(job.errors, "next: 'dmesg' tells if that was the kernel; then give that");
	/* It was not the group's, which has some left; that ran out before the machine came. */
	write_below_root(GROUP "/memory.events", "oom_kill 3\n");
	start(&job, run_out_of_memory);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "perhaps by the kernel: the host's memory ran out");
	/* Somebody else's doing, as the count of earlier ones has not grown. */
	start(&job, run_out_of_memory);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "the machine's process was killed by signal 9");
}

TEST(a_machine_that_is_on_its_way_out_gets_more_time)
{
	struct job job;

	test.haste = 10;
	start(&job, end_slowly);
	wait_for(&seen->lives, 1);
	pause_ms(50);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	assert_int_equal(count_in(job.errors, "killed"), 0);
	assert_int_equal(seen->quits, 0);
}

/* As where the kernel waits for a device: no signal ends that. */
TEST(a_machine_that_cannot_be_killed_is_given_up)
{
	struct job job;

	config.device_count = 1;
	config.devices[0] = (struct bdf){ .bus = 1 };
	test.limit_ms = 1000;
	test.progress_ms = 300;
	test.cannot_kill = true;
	start(&job, hang_at_the_end);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "still waiting for the kernel to end the machine's process, which "
				"has 0000:01:00.0 (");
	assert_says(job.errors, "penstock: test: gave up after 1 seconds of waiting for the kernel "
				"to end the machine's process");
	assert_says(job.errors, "next: 'dmesg | tail'");
	assert_int_equal(seen->releases, 1);
	__real_kill(seen->machine, SIGKILL);
}

TEST(words_that_are_not_known_mean_nothing)
{
	struct job job;

	start(&job, babble);
	wait_for(&seen->lives, 1);
	pause_ms(200);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
}

/* Resets */

TEST(a_reset_is_another_life)
{
	struct job job;

	test.haste = 300; /* 50 ms are more than ten seconds */
	config.device_count = 1;
	start(&job, reset_later);
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->lives, 12);
	assert_int_equal(count_in(job.errors, "penstock: test: the guest reboots\n"), 11);
	assert_int_equal(seen->binds, 1);
	assert_int_equal(seen->releases, 1);
}

TEST(a_reset_is_the_end_where_that_is_wanted)
{
	struct job job;

	config.on_reboot = BROKER_POLICY_STOP;
	start(&job, reset);
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->lives, 1);
}

TEST(a_crash_is_another_life)
{
	struct job job;

	config.on_reboot = BROKER_POLICY_STOP;
	start(&job, crash_twice);
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->lives, 3);
	assert_int_equal(count_in(job.errors, "the guest has crashed (its kernel panics)\n"), 1);
	assert_says(job.errors, "penstock: test: the guest has crashed (triple fault)\n");
}

TEST(a_crash_is_the_end_where_that_is_wanted)
{
	struct job job;

	config.on_crash = BROKER_POLICY_STOP;
	start(&job, crash_twice);
	assert_int_equal(end_of(&job), 1);
	assert_int_equal(seen->lives, 1);
	assert_says(job.errors, "penstock: test: the guest has crashed (its kernel panics)");
	assert_says(job.errors, "next: its console");
}

TEST(a_guest_that_does_nothing_but_reset_is_slowed_down_and_given_up)
{
	uint64_t before = now_ms();
	struct job job;

	start(&job, reset);
	assert_int_equal(end_of(&job), 1);
	assert_int_equal(seen->lives, 10);
	assert_true(now_ms() - before >= 6000);
	assert_int_equal(count_in(job.errors, "penstock: test: the guest reboots\n"), 3);
	assert_says(job.errors, "the guest reboots; 4 times in a row that was within 10 seconds");
	assert_says(job.errors, "penstock: test: the guest has reset 10 times in a row, each "
				"within 10 seconds of its start");
	assert_says(job.errors, "next: ");
}

TEST(a_signal_ends_the_wait_between_resets)
{
	struct job job;
	uint64_t before;

	start(&job, reset);
	wait_for(&seen->lives, 5);
	pause_ms(200);
	before = now_ms();
	__real_kill(job.pid, SIGINT);
	assert_int_equal(end_of(&job), 128 + SIGINT);
	assert_true(now_ms() - before < 700);
	assert_true(seen->lives <= 6);
}

/* The monitor */

static void open_monitor(int *client)
{
	char path[PATH_MAX];
	int tries = 0;

	snprintf(path, sizeof(path), "%s/run/penstock/test.sock", root);
	while ((*client = control_connect(path)) < 0) {
		assert_true(tries++ < WAIT_MS / 10);
		pause_ms(10);
	}
}

/* Lines up to one with these words, which is returned; NULL where the broker is gone before. */
static const char *hear(int client, const char *words)
{
	static char line[65536];
	size_t used = 0;

	while (read(client, line + used, 1) == 1) {
		if (line[used++] != '\n')
			continue;
		line[used] = '\0';
		if (strstr(line, words))
			return line;
		used = 0;
	}
	return NULL;
}

static void say(int client, const char *command)
{
	assert_int_equal(write(client, command, strlen(command)), strlen(command));
}

static void ask(int client, const char *command, const char *answer)
{
	say(client, command);
	if (!hear(client, answer))
		fail_msg("no %s after %s", answer, command);
}

static int start_with_client(struct job *job, machine run)
{
	int client;

	start(job, run);
	wait_for(&seen->lives, 1);
	open_monitor(&client);
	ask(client, "{\"execute\":\"qmp_capabilities\"}", "return");
	return client;
}

TEST(clients_hold_the_guest_and_let_it_go_on)
{
	struct job job;
	int client = start_with_client(&job, obey), other;
	const char *line;

	open_monitor(&other);
	ask(other, "{\"execute\":\"qmp_capabilities\"}", "return");
	say(client, "{\"execute\":\"stop\"}");
	assert_non_null(hear(client, "\"STOP\""));
	assert_non_null(hear(client, "return"));
	assert_non_null(hear(other, "\"STOP\""));
	ask(other, "{\"execute\":\"query-status\"}", "\"paused\",\"running\":false");
	ask(other, "{\"execute\":\"cont\"}", "\"RESUME\"");
	assert_non_null(hear(other, "return"));
	ask(client, "{\"execute\":\"query-status\"}", "\"running\",\"running\":true");
	ask(client, "{\"execute\":\"query-cpus-fast\"}", "\"thread-id\":4711");
	/* 32902 is 8086; what the machine said of CPUs meanwhile is not in the list. */
	say(client, "{\"execute\":\"query-pci\"}");
	line = hear(client, "\"vendor\":32902");
	assert_non_null(line);
	/* What is behind the bridge, and what is nowhere; nothing is behind itself. */
	assert_non_null(strstr(line, "[{\"bus\":0,"));
	assert_non_null(strstr(line, "\"devices\":[{\"bus\":5,\"slot\":3"));
	assert_non_null(strstr(line, "]},{\"bus\":6,\"devices\":[{\"bus\":6,\"slot\":4"));
	ask(client, "{\"execute\":\"system_powerdown\"}", "POWERDOWN");
	ask(client, "{\"execute\":\"quit\"}", "return");
	assert_non_null(hear(client, "\"SHUTDOWN\",\"data\":{\"guest\":false,"
				     "\"reason\":\"host-qmp-quit\"}"));
	assert_non_null(hear(other, "\"SHUTDOWN\""));
	assert_null(hear(client, "{"));
	assert_int_equal(end_of(&job), 0);
	close(client);
	close(other);
}

TEST(a_reset_by_a_client_is_another_life)
{
	struct job job;
	int client = start_with_client(&job, obey);

	ask(client, "{\"execute\":\"system_reset\"}", "return");
	assert_non_null(hear(client, "\"RESET\",\"data\":{\"guest\":false"));
	wait_for(&seen->lives, 2);
	ask(client, "{\"execute\":\"query-status\"}", "status");
	ask(client, "{\"execute\":\"system_reset\"}", "return");
	assert_non_null(hear(client, "\"SHUTDOWN\",\"data\":{\"guest\":true"));
	assert_int_equal(end_of(&job), 0);
	close(client);
}

#define STATUS "{\"execute\":\"query-status\"}"
#define PRESS  "{\"execute\":\"system_powerdown\"}"
#define CONT   "{\"execute\":\"cont\"}"

static void await_status(int client, const char *status)
{
	do
		say(client, STATUS);
	while (!strstr(hear(client, "status"), status));
}

TEST(clients_look_at_a_guest_that_is_held_for_what_it_has_done)
{
	struct job job;
	const char *line;
	int client;

	config.on_reboot = config.on_crash = BROKER_POLICY_PAUSE;
	client = start_with_client(&job, be_held);
	/* A kernel that takes over is told of once, and nothing is held for what is no such deed. */
	ask(client, PRESS, "\"GUEST_CRASHLOADED\",\"data\":{\"action\":\"run\"}");
	ask(client, STATUS, "\"running\",\"running\":true");
	say(client, PRESS);
	line = hear(client, "\"GUEST_");
	assert_non_null(strstr(line, "\"GUEST_PANICKED\",\"data\":{\"action\":\"pause\"}"));
	assert_non_null(hear(client, "\"STOP\""));
	ask(client, STATUS, "\"guest-panicked\",\"running\":false");
	ask(client, "{\"execute\":\"stop\"}", "return");
	ask(client, STATUS, "\"guest-panicked\"");
	ask(client, CONT, "\"RESUME\"");
	ask(client, STATUS, "\"running\"");
	ask(client, PRESS, "\"STOP\"");
	ask(client, STATUS, "\"guest-panicked\"");
	ask(client, CONT, "Resetting the Virtual Machine is required");
	ask(client, "{\"execute\":\"system_reset\"}", "\"RESET\",\"data\":{\"guest\":false");
	wait_for(&seen->lives, 2);
	await_status(client, "\"running\",\"running\":true");
	ask(client, PRESS, "\"STOP\"");
	ask(client, STATUS, "\"shutdown\",\"running\":false");
	ask(client, CONT, "Resetting the Virtual Machine is required");
	ask(client, "{\"execute\":\"quit\"}", "host-qmp-quit");
	assert_int_equal(end_of(&job), 0);
	assert_says(job.errors, "the guest has crashed (triple fault), and is held; next: ");
	assert_says(job.errors, "the guest wants to reboot, and is held; next: ");
	close(client);
}

TEST(clients_are_told_of_a_crash_that_nobody_holds)
{
	struct job job;
	int client = start_with_client(&job, crash_when_pressed);

	ask(client, PRESS, "\"GUEST_PANICKED\",\"data\":{\"action\":\"run\"}");
	assert_non_null(
		hear(client, "\"RESET\",\"data\":{\"guest\":true,\"reason\":\"guest-panic\""));
	ask(client, "{\"execute\":\"quit\"}", "return");
	assert_int_equal(end_of(&job), 0);
	close(client);
	config.on_crash = BROKER_POLICY_STOP;
	client = start_with_client(&job, crash_when_pressed);
	ask(client, PRESS, "\"GUEST_PANICKED\",\"data\":{\"action\":\"poweroff\"}");
	assert_non_null(
		hear(client, "\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-panic\""));
	assert_int_equal(end_of(&job), 1);
	close(client);
}

TEST(what_a_machine_says_reaches_no_terminal)
{
	struct job job;
	int client = start_with_client(&job, refuse_all);
	const char *line;

	say(client, "{\"execute\":\"stop\"}");
	line = hear(client, "error");
	assert_non_null(strstr(line, "\"desc\":\"?[2Jvcpu: it ? fails; next: xxx"));
	ask(client, "{\"execute\":\"query-status\"}", "\"running\":true");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

#define BACKENDS "{\"execute\":\"__org.penstock_query-backends\"}"

/* Of the disk that the test has given the machine. */
static pid_t pid_of_daemon(int client)
{
	const char *line;

	say(client, BACKENDS);
	line = hear(client, "\"serves\":\"disk0\"");
	assert_non_null(line);
	assert_non_null(strstr(line, "/qemu-storage-daemon\","));
	assert_non_null(strstr(line, "\"mac\":null,\"address\":null,\"end\":null"));
	return strtol(strstr(line, "\"pid\":") + strlen("\"pid\":"), NULL, 10);
}

static int start_with_disk(struct job *job, char *image)
{
	int fd = mkostemp(image, O_CLOEXEC);

	assert_int_equal(ftruncate(fd, MIB), 0);
	fchmod(fd, 0666);
	close(fd);
	config.disks[0] = (struct broker_disk_config){ image, .format = BROKER_FORMAT_RAW };
	config.disk_count = 1;
	return start_with_client(job, obey);
}

TEST(clients_are_told_who_serves_the_machine)
{
	char image[] = "/tmp/penstock-image-XXXXXX";
	struct job job;
	int client = start_with_disk(&job, image);
	const char *line;
	pid_t pid = pid_of_daemon(client);

	assert_true(pid > 1);
	__real_kill(pid, SIGKILL);
	do {
		say(client, BACKENDS);
		line = hear(client, "return");
		assert_non_null(strstr(line, image));
	} while (!strstr(line, "\"pid\":null"));
	assert_non_null(strstr(line, "\"end\":\"killed by signal 9\""));
	/* In the next life it is another. */
	ask(client, "{\"execute\":\"system_reset\"}", "return");
	wait_for(&seen->lives, 2);
	assert_int_not_equal(pid_of_daemon(client), pid);
	ask(client, "{\"execute\":\"quit\"}", "return");
	assert_int_equal(end_of(&job), 0);
	assert_says(job.errors, "disk0: qemu-storage-daemon (process ");
	close(client);
	unlink(image);
}

#define RESIZE(rest) "{\"execute\":\"block_resize\",\"arguments\":{" rest "}}"

static uint64_t size_of(const char *path)
{
	struct stat file;

	assert_int_equal(stat(path, &file), 0);
	return file.st_size;
}

TEST(clients_give_a_disk_more_room)
{
	char image[] = "/tmp/penstock-image-XXXXXX";
	struct job job;
	int client = start_with_disk(&job, image);

	ask(client, RESIZE("\"node-name\":\"disk0\",\"size\":2097000"), "{\"return\":{}}");
	assert_int_equal(size_of(image), 2 * MIB);
	/* Which is answered after that. */
	ask(client, "{\"execute\":\"query-cpus-fast\"}", "4711");
	assert_int_equal(__atomic_load_n(&seen->disk_size, __ATOMIC_RELAXED), 2 * MIB);
	/* Nothing that is in it goes. */
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":1048576"),
		"disk0: it has 2 MiB, and does not become as small as 1 MiB");
	/* What cannot be is refused by the daemon, and changes nothing. */
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":9223372036854700000"),
		"\"desc\":\"disk0: ");
	assert_int_equal(size_of(image), 2 * MIB);
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":3145728"), "{\"return\":{}}");
	assert_int_equal(size_of(image), 3 * MIB);
	/* Nor what somebody else has made more, which a guest has seen that has started anew since. */
	assert_int_equal(truncate(image, 8 * MIB), 0);
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":4194304"), "disk0: it has 8 MiB");
	assert_int_equal(size_of(image), 8 * MIB);
	ask(client, RESIZE("\"device\":\"disk1\",\"size\":1"), "Cannot find device='disk1'");
	ask(client, RESIZE("\"size\":1"), "but not both");
	ask(client, RESIZE("\"device\":\"disk0\",\"node-name\":\"disk0\",\"size\":1"),
		"but not both");
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":-1"), "expects a size");
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":9223372036854775807"), "expects a size");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
	unlink(image);
}

#define SNAPSHOT(what, rest)                                                                       \
	"{\"execute\":\"blockdev-snapshot-" what "internal-sync\",\"arguments\":{\"device\":" rest \
	"}}"

static void expect_snapshots(const char *image, const char *names)
{
	char command[256];

	snprintf(command, sizeof(command),
		"test \"$(qemu-img snapshot -U -l %s | awk 'NR > 2 { print $2 }' | tr '\\n' ' ')\" = '%s'",
		image, names);
	if (system(command))
		fail_msg("%s", command);
}

TEST(clients_take_snapshots_of_a_disk)
{
	char image[] = "/tmp/penstock-image-XXXXXX", command[96];
	struct job job;
	int client = mkostemp(image, O_CLOEXEC);

	close(client);
	snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 1M", image);
	assert_int_equal(system(command), 0);
	chmod(image, 0666);
	config.disks[0] = (struct broker_disk_config){ image, .format = BROKER_FORMAT_QCOW2 };
	config.disk_count = 1;
	client = start_with_client(&job, obey);
	ask(client, SNAPSHOT("", "\"disk0\",\"name\":\"one\""), "{\"return\":{}}");
	ask(client, SNAPSHOT("", "\"disk0\",\"name\":\"two\""), "{\"return\":{}}");
	ask(client, SNAPSHOT("", "\"disk0\",\"name\":\"one\""),
		"disk0: Snapshot with name 'one' already");
	expect_snapshots(image, "one two ");
	ask(client, SNAPSHOT("delete-", "\"disk0\",\"name\":\"one\""), "{\"return\":{}}");
	ask(client, SNAPSHOT("delete-", "\"disk0\",\"name\":\"one\""), "disk0: ");
	expect_snapshots(image, "two ");
	ask(client, SNAPSHOT("delete-", "\"disk7\",\"name\":\"one\""),
		"Cannot find device='disk7'");
	/* One that fails does not make the broker think that the disk is as it was before it grew. */
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":2097152"), "{\"return\":{}}");
	ask(client, SNAPSHOT("", "\"disk0\",\"name\":\"two\""), "already");
	ask(client, RESIZE("\"device\":\"disk0\",\"size\":1048576"), "disk0: it has 2 MiB");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
	unlink(image);
}

/* Each hears that it has; nobody else waits for it. */
TEST(a_daemon_that_hangs_holds_its_own_clients_alone)
{
	char image[] = "/tmp/penstock-image-XXXXXX";
	struct job job;
	int client = start_with_disk(&job, image), other;
	pid_t pid = pid_of_daemon(client);

	open_monitor(&other);
	ask(other, "{\"execute\":\"qmp_capabilities\"}", "return");
	__real_kill(pid, SIGSTOP);
	say(client, RESIZE("\"device\":\"disk0\",\"size\":2097152"));
	/* One that is heard later is answered later. */
	ask(other, STATUS, "\"running\"");
	ask(other, RESIZE("\"device\":\"disk0\",\"size\":2097152"), "is busy with something else");
	ask(other, STATUS, "\"running\"");
	__real_kill(pid, SIGKILL);
	assert_non_null(hear(client, "disk0: qemu-storage-daemon has ended"));
	ask(other, RESIZE("\"device\":\"disk0\",\"size\":2097152"), "does not answer any more");
	ask(other, "{\"execute\":\"quit\"}", "return");
	assert_int_equal(end_of(&job), 0);
	close(client);
	close(other);
	unlink(image);
}

/* As one that has much to write out. */
TEST(a_broker_hears_clients_while_a_disk_ends)
{
	char image[] = "/tmp/penstock-image-XXXXXX";
	struct job job;
	int client = start_with_disk(&job, image);
	uint64_t before = now_ms();
	pid_t pid = pid_of_daemon(client);

	__real_kill(pid, SIGSTOP);
	ask(client, "{\"execute\":\"quit\"}", "return");
	while (__real_kill(seen->machine, 0) == 0)
		pause_ms(10);
	ask(client, STATUS, "\"shutdown\"");
	assert_true(now_ms() - before < 20000);
	__real_kill(pid, SIGCONT);
	assert_int_equal(end_of(&job), 0);
	close(client);
	unlink(image);
}

TEST(a_command_ends_with_the_machine)
{
	struct job job;
	int client = start_with_client(&job, end_without_an_answer);

	ask(client, "{\"execute\":\"stop\"}", "the machine has ended before it answered");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

#define ATTACH(rest) \
	"{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"vfio-pci\",\"host\":" rest "}}"
#define DETACH(rest) "{\"execute\":\"device_del\",\"arguments\":{\"id\":" rest "}}"

/* Taken, and given back when the machine has closed it; a failed one before the client is told. */
TEST(clients_attach_and_detach_devices)
{
	struct job job;
	int client = start_with_client(&job, take_one);

	ask(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""), "return");
	assert_int_equal(seen->binds, 1);
	assert_int_equal(seen->returns, 0);
	ask(client, ATTACH("\"0000:07:00.0\""), "the machine has it already");
	ask(client, ATTACH("\"0000:08:00.0\",\"id\":\"one\""), "a device with this id");
	ask(client, ATTACH("\"0000:08:00.0\",\"id\":\"a\\u001b\""), "identifier");
	ask(client, ATTACH("\"0000:08:00.0\",\"id\":\"0000:09:00.0\""), "as an id this is another");
	assert_int_equal(seen->binds, 1);
	ask(client, ATTACH("\"0000:08:00.0\""), "no port");
	assert_int_equal(seen->binds, 2);
	assert_int_equal(seen->returns, 1);
	ask(client, "{\"execute\":\"query-pci\"}", "\"qdev_id\":\"one\",\"host\":\"0000:07:00.0\"");
	ask(client, DETACH("\"two\""), "DeviceNotFound");
	ask(client, DETACH("\"0000:08:00.0\""), "DeviceNotFound");
	ask(client, DETACH("\"0000:07:00.0\""), "return");
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"one\""));
	assert_int_equal(seen->returns, 2);
	ask(client, DETACH("\"one\""), "DeviceNotFound");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

TEST(devices_that_come_and_go_leave_nothing_behind)
{
	struct job job;
	int client = start_with_client(&job, take_all);

	for (unsigned i = 0; i < 500; i++) {
		ask(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""), "return");
		say(client, DETACH("\"one\""));
		assert_non_null(hear(client, "DEVICE_DELETED"));
	}
	assert_int_equal(seen->returns, 500);
	/* Less than a list's smallest member a cycle. */
	assert_in_range(seen->heap[1], 1, seen->heap[0] + 4096);
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

/* Those of functions are made of it. */
TEST(no_two_devices_have_one_id)
{
	struct job job;
	int client = start_with_client(&job, take_one);

	write_below_root("/sys/bus/pci/devices/0000:08:00.0/vendor", "0x8086\n");
	write_below_root("/sys/bus/pci/devices/0000:08:00.1/vendor", "0x8086\n");
	ask(client, ATTACH("\"0000:07:00.0\",\"id\":\"a.1\""), "return");
	ask(client, ATTACH("\"0000:08:00\",\"id\":\"a\""), "there is a device with this id");
	assert_int_equal(seen->binds, 1);
	ask(client, DETACH("\"0000:08:00.0\""), "DeviceNotFound");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

/* All of them are back before the client is told. */
TEST(half_a_device_is_none)
{
	struct job job;
	int client;

	test.no_attach = 2;
	client = start_with_client(&job, take_half);
	write_below_root("/sys/bus/pci/devices/0000:07:00.0/vendor", "0x8086\n");
	write_below_root("/sys/bus/pci/devices/0000:07:00.1/vendor", "0x8086\n");
	ask(client, ATTACH("\"0000:07:00\""), "half of it");
	assert_int_equal(seen->binds, 2);
	assert_int_equal(seen->returns, 2);
	ask(client, DETACH("\"0000:07:00.0\""), "DeviceNotFound");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

TEST(clients_are_served_while_a_device_is_bound)
{
	static const struct bdf device = { .bus = 9 };
	struct job job;
	int client, other;

	config.devices[0] = device;
	config.device_count = 1;
	test.slow_bind = true;
	start(&job, take_all);
	wait_for(&seen->standing, 1);
	open_monitor(&client);
	ask(client, "{\"execute\":\"qmp_capabilities\"}", "return");
	ask(client, STATUS, "\"prelaunch\"");
	seen->may_go_on = 1;
	wait_for(&seen->lives, 1);
	await_status(client, "\"running\"");
	seen->may_go_on = 0;
	open_monitor(&other);
	ask(other, "{\"execute\":\"qmp_capabilities\"}", "return");
	say(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""));
	wait_for(&seen->standing, 2);
	ask(other, STATUS, "\"running\"");
	ask(other, ATTACH("\"0000:07:00.0\""), "the machine has it already");
	ask(other, DETACH("\"one\""), "still on its way to the machine");
	seen->may_go_on = 1;
	assert_non_null(hear(client, "return"));
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
	close(other);
}

TEST(clients_are_served_while_a_device_goes_back)
{
	struct job job;
	int client;

	test.slow_return = true;
	client = start_with_client(&job, take_all);
	await_status(client, "\"running\"");
	ask(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""), "return");
	ask(client, DETACH("\"one\""), "return");
	wait_for(&seen->standing, 1);
	ask(client, STATUS, "\"running\"");
	ask(client, DETACH("\"one\""), "on its way back");
	ask(client, ATTACH("\"0000:07:00.0\""), "on its way back");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	ask(client, STATUS, "\"shutdown\"");
	seen->may_go_on = 1;
	assert_int_equal(end_of(&job), 0);
	close(client);
}

/* Its next life begins without it, and it goes back. */
TEST(a_machine_does_not_wait_for_what_is_being_bound)
{
	struct job job;
	int client, other;

	test.slow_bind = true;
	client = start_with_client(&job, obey);
	await_status(client, "\"running\"");
	open_monitor(&other);
	ask(other, "{\"execute\":\"qmp_capabilities\"}", "return");
	say(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""));
	wait_for(&seen->standing, 1);
	ask(other, "{\"execute\":\"system_reset\"}", "\"RESET\"");
	assert_non_null(hear(client, "the machine has ended before it answered"));
	wait_for(&seen->lives, 2);
	await_status(client, "\"running\"");
	seen->may_go_on = 1;
	wait_for(&seen->returns, 1);
	assert_int_equal(seen->attaches, 0);
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->returns, 1);
	close(client);
	close(other);
}

TEST(a_device_goes_back_when_who_binds_it_is_killed)
{
	struct job job;
	int client;

	test.slow_bind = true;
	client = start_with_client(&job, take_all);
	await_status(client, "\"running\"");
	say(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""));
	wait_for(&seen->standing, 1);
	__real_kill(seen->worker, SIGKILL);
	assert_non_null(hear(client, "was killed"));
	assert_int_equal(seen->returns, 1);
	ask(client, DETACH("\"one\""), "DeviceNotFound");
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

/* From the start on, or later: somebody unbinds them as the machine opens them. */
TEST(a_machine_is_told_of_what_was_taken_as_it_was_opened)
{
	static const struct bdf device = { .bus = 7 };
	struct job job;
	int client;

	config.devices[0] = device;
	config.device_count = 1;
	seen->taken = 7;
	client = start_with_client(&job, take_all);
	wait_for(&seen->wishes, 1);
	ask(client, ATTACH("\"0000:08:00.0\""), "return");
	seen->taken = 9;
	ask(client, ATTACH("\"0000:0a:00.0\""), "return");
	seen->wishes = 3;
	ask(client, ATTACH("\"0000:09:00.0\""), "return");
	wait_for(&seen->wishes, 4);
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	close(client);
}

/* What it has changed is stale as the broker's own changes are: nobody goes on after it. */
TEST(who_binds_a_device_dies_with_the_broker)
{
	struct job job;
	int client, status;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test.slow_bind = true;
	client = start_with_client(&job, take_all);
	await_status(client, "\"running\"");
	say(client, ATTACH("\"0000:07:00.0\",\"id\":\"one\""));
	wait_for(&seen->standing, 1);
	__real_kill(job.pid, SIGKILL);
	assert_int_equal(end_of(&job), 128 + SIGKILL);
	assert_int_equal(waitpid(seen->worker, &status, 0), seen->worker);
	assert_int_equal(exit_code(status), 128 + SIGKILL);
	waitpid(seen->machine, &status, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	close(client);
}

TEST(what_the_host_takes_at_the_end_of_a_life_sees_no_other)
{
	static const struct bdf devices[] = { { .bus = 7 }, { .bus = 8 } };
	struct job job;
	int client;

	memcpy(config.devices, devices, sizeof(devices));
	config.device_count = ARRAY_SIZE(devices);
	config.roms[1] = "off";
	client = start_with_client(&job, lose_one);
	seen->ready = 1;
	assert_non_null(hear(client, "\"RESET\""));
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"0000:07:00.0\""));
	wait_for(&seen->lives, 2);
	assert_int_equal(seen->returns, 1);
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(seen->returns, 2);
	close(client);
}

/* One that the host wants sees no next life; an error is told once in a while. */
TEST(clients_hear_of_what_befalls_devices)
{
	static const struct bdf devices[] = { { .bus = 7 }, { .bus = 7, .function = 1 },
		{ .bus = 8 }, { .bus = 9 }, { .bus = 10 } };
	struct job job;
	int client;

	memcpy(config.devices, devices, sizeof(devices));
	config.device_count = ARRAY_SIZE(devices);
	config.on_device_error = MACHINE_DETACH;
	client = start_with_client(&job, have_events);
	seen->ready = 1;
	assert_non_null(hear(client, "\"__org.penstock_DEVICE_WANTED\",\"data\":{\"device\":"
				     "\"0000:07:00.0\",\"host\":\"0000:07:00.0\","
				     "\"action\":\"ask\"}"));
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"0000:07:00.0\""));
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"0000:07:00.1\""));
	assert_int_equal(seen->returns, 2);
	seen->ready = 2;
	assert_non_null(hear(client, "\"RESET\""));
	assert_non_null(hear(client, "\"device\":\"0000:08:00.0\",\"host\""));
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"0000:08:00.0\""));
	assert_non_null(hear(client, "\"DEVICE_DELETED\",\"data\":{\"device\":\"0000:0a:00.0\""));
	seen->ready = 3;
	assert_non_null(hear(client, "\"__org.penstock_DEVICE_ERROR\",\"data\":{\"device\":"
				     "\"0000:09:00.0\",\"host\":\"0000:09:00.0\","
				     "\"action\":\"report\"}"));
	assert_int_equal(seen->returns, 4);
	say(client, "{\"execute\":\"quit\"}");
	assert_null(strstr(hear(client, "{"), "_ERROR"));
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(count_in(job.errors, "uncorrectable error"), 2);
	assert_says(job.errors, "0000:07:00.0: the host wants it back: the guest is asked");
	close(client);
}

/* One that reads nothing is told of by quit alone, and gets the time that a signal gives it. */
TEST(a_client_ends_a_machine_that_hangs)
{
	struct job job;
	int client = start_with_client(&job, hang);

	say(client, "{\"execute\":\"stop\"}");
	close(client);
	open_monitor(&client);
	ask(client, "{\"execute\":\"qmp_capabilities\"}", "return");
	ask(client, "{\"execute\":\"quit\"}", "return");
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "test: it has not ended within 5 seconds, and is killed");
	close(client);
}

TEST(a_monitor_has_a_second_socket_where_it_is_told_to)
{
	char path[PATH_MAX], first[PATH_MAX];
	struct job job;
	int client, second;

	snprintf(path, sizeof(path), "%s/elsewhere", root);
	snprintf(first, sizeof(first), "%s/run/penstock/test.sock", root);
	config.monitor = path;
	client = start_with_client(&job, obey);
	second = control_connect(path);
	assert_true(second >= 0);
	assert_non_null(hear(second, "QMP"));
	ask(client, "{\"execute\":\"quit\"}", "SHUTDOWN");
	assert_int_equal(end_of(&job), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(first, F_OK), -1);
	close(client);
	close(second);
	config.monitor = root;
	start(&job, obey);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "there is a file that is no socket");
}

/* Terminals */

static bool receive(void *opaque, uint8_t byte)
{
	(void)opaque;
	if (seen->key_count < sizeof(seen->keys))
		seen->keys[seen->key_count] = byte;
	__atomic_add_fetch(&seen->key_count, 1, __ATOMIC_RELEASE);
	return true;
}

static void no_room(void *opaque)
{
	(void)opaque;
}

static void quit(void *opaque)
{
	(void)opaque;
	__atomic_add_fetch(&seen->quits, 1, __ATOMIC_RELAXED);
}

static struct console console;

static void press(void *opaque)
{
	(void)opaque;
	for (const char *at = "button\n"; *at; at++)
		console_put(&console, *at);
	__atomic_add_fetch(&seen->presses, 1, __ATOMIC_RELAXED);
}

/* With a real console, when the test lets it be ready. */
static enum machine_end serve_console(const struct machine_config *machine, struct error *err)
{
	static const struct console_ops ops = { receive, no_room, quit, press, NULL };
	struct pollfd control = { .fd = machine->control_fd, .events = POLLIN };
	int told = 0;

	while (!told && !__atomic_load_n(&seen->ready, __ATOMIC_RELAXED))
		told = poll(&control, 1, 10);
	if (told)
		return MACHINE_QUIT;
	must(console_init(&console, &machine->console, &ops, err) == 0);
	for (const char *at = "one\ntwo\n"; *at; at++)
		console_put(&console, *at);
	must(console_start(&console, err) == 0);
	tell(machine, MESSAGE_READY);
	while (!__atomic_load_n(&seen->quits, __ATOMIC_RELAXED) && poll(&control, 1, 10) == 0)
		continue;
	tell(machine, MESSAGE_ENDING);
	console_destroy(&console);
	return MACHINE_QUIT;
}

static void open_terminal(struct terminal *terminal, bool foreground)
{
	test.run = serve_console;
	config.serial = BROKER_SERIAL_STDIO;
	terminal_open(terminal, foreground, run_broker, NULL);
	wait_for(&seen->lives, 1);
}

static void assert_same(const struct termios *a, const struct termios *b)
{
	assert_int_equal(a->c_iflag, b->c_iflag);
	assert_int_equal(a->c_oflag, b->c_oflag);
	assert_int_equal(a->c_lflag, b->c_lflag);
	assert_int_equal(a->c_cflag, b->c_cflag);
}

/* All keys are the guest's from when it can read them, Ctrl-A is ours, and then all is as it was. */
TEST(a_terminal_is_raw_while_the_guest_reads_it)
{
	struct terminal terminal;
	struct termios before, now;

	open_terminal(&terminal, true);
	before = terminal_settings(&terminal);
	assert_true(before.c_lflag & ICANON);
	seen->ready = 1;
	terminal_wait_raw(&terminal, true);
	terminal_expect(&terminal, "one\r\ntwo\r\n");
	assert_says(terminal.errors, "Ctrl-A x ends the machine");
	terminal_type(&terminal, "\x03\x1a\r\x01\x01");
	wait_for(&seen->key_count, 4);
	assert_memory_equal(seen->keys, "\x03\x1a\r\x01", 4);
	terminal_type(&terminal, "\x01p");
	wait_for(&seen->presses, 1);
	terminal_expect(&terminal, "button\r\n");
	terminal_type(&terminal, "\x01x");
	assert_int_equal(terminal_close(&terminal), 0);
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
	assert_int_equal(seen->key_count, 4);
}

/* While devices open, which may take long. */
TEST(ctrl_c_works_until_the_guest_reads)
{
	struct terminal terminal;

	open_terminal(&terminal, true);
	pause_ms(100);
	terminal_type(&terminal, "\x03");
	assert_int_equal(terminal_close(&terminal), 128 + SIGINT);
	assert_machine_is_gone();
}

/* Whatever ends it. */
TEST(a_terminal_is_put_back_after_a_signal)
{
	struct terminal terminal;
	struct termios before, now;

	open_terminal(&terminal, true);
	before = terminal_settings(&terminal);
	seen->ready = 1;
	terminal_wait_raw(&terminal, true);
	__real_kill(terminal.job, SIGTERM);
	assert_int_equal(terminal_close(&terminal), 128 + SIGTERM);
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
}

/* A key must not stop the machine, whose devices would go on. It is the shell's, and so is the mode. */
TEST(in_the_background_keys_are_left_alone)
{
	struct terminal terminal;
	struct termios before, now;
	char line[64];

	open_terminal(&terminal, false);
	seen->ready = 1;
	before = terminal_settings(&terminal);
	terminal_type(&terminal, "key\n");
	pause_ms(700);
	terminal_read_line(&terminal, line, sizeof(line));
	assert_string_equal(line, "key\n");
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
	/* It runs: in the foreground the terminal is its own, and goes back with the next change. */
	terminal_foreground(&terminal, true);
	terminal_wait_raw(&terminal, true);
	terminal_type(&terminal, "z");
	wait_for(&seen->key_count, 1);
	assert_int_equal(seen->keys[0], 'z');
	assert_int_equal(tcsetattr(terminal.master, TCSANOW, &before), 0);
	terminal_foreground(&terminal, false);
	terminal_type(&terminal, "key\n");
	pause_ms(700);
	terminal_read_line(&terminal, line, sizeof(line));
	assert_string_equal(line, "key\n");
	before.c_lflag &= ~ECHO;
	assert_int_equal(tcsetattr(terminal.master, TCSANOW, &before), 0);
	__real_kill(terminal.job, SIGTERM);
	assert_int_equal(terminal_close(&terminal), 128 + SIGTERM);
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
	assert_int_equal(seen->key_count, 1);
}

/* As after Ctrl-Z of a wrapper, or kill -STOP: the shell has used the terminal meanwhile. */
TEST(a_job_that_goes_on_takes_the_terminal_again)
{
	struct terminal terminal;
	struct termios before, now;

	open_terminal(&terminal, true);
	seen->ready = 1;
	before = terminal_settings(&terminal);
	terminal_wait_raw(&terminal, true);
	__real_kill(terminal.job, SIGSTOP);
	terminal_foreground(&terminal, false);
	assert_int_equal(tcsetattr(terminal.master, TCSANOW, &before), 0);
	terminal_foreground(&terminal, true);
	__real_kill(terminal.job, SIGCONT);
	terminal_wait_raw(&terminal, true);
	/* And once more, into the background. */
	__real_kill(terminal.job, SIGSTOP);
	terminal_foreground(&terminal, false);
	assert_int_equal(tcsetattr(terminal.master, TCSANOW, &before), 0);
	__real_kill(terminal.job, SIGCONT);
	pause_ms(100);
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
	terminal_foreground(&terminal, true);
	terminal_wait_raw(&terminal, true);
	terminal_type(&terminal, "\x01x");
	assert_int_equal(terminal_close(&terminal), 0);
	now = terminal_settings(&terminal);
	assert_same(&before, &now);
}

/* The serial line's other ends */

TEST(a_serial_file_holds_the_output)
{
	char path[PATH_MAX], text[64];
	struct job job;

	snprintf(path, sizeof(path), "%s/serial", root);
	config.serial = BROKER_SERIAL_FILE;
	config.serial_path = path;
	seen->ready = 1;
	start(&job, serve_console);
	wait_for(&seen->lives, 1);
	pause_ms(100);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	assert_int_equal(fd_read_file(path, text, sizeof(text)), 8);
	assert_string_equal(text, "one\ntwo\n");
}

/* The open() of a pipe would wait for a reader, and that of a serial line for a carrier. */
TEST(a_serial_pipe_is_not_waited_for)
{
	char path[PATH_MAX], text[64];
	struct job job;
	int reader;

	snprintf(path, sizeof(path), "%s/pipe", root);
	assert_int_equal(mkfifo(path, 0600), 0);
	config.serial = BROKER_SERIAL_FILE;
	config.serial_path = path;
	start(&job, serve_console);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "pipe: cannot be written");
	assert_says(job.errors, "next: nobody reads this pipe");
	assert_int_equal(seen->lives, 0);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	seen->ready = 1;
	start(&job, serve_console);
	wait_for(&seen->lives, 1);
	for (unsigned tries = 0; read(reader, text, sizeof(text)) != 8; tries++) {
		assert_true(tries < WAIT_MS / 10);
		pause_ms(10);
	}
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	close(reader);
	unlink(path);
}

TEST(a_serial_file_that_cannot_be_is_refused)
{
	struct job job;

	config.serial = BROKER_SERIAL_FILE;
	config.serial_path = "/nonexistent/serial";
	start(&job, power_off);
	assert_int_equal(end_of(&job), 1);
	assert_says(job.errors, "/nonexistent/serial: cannot be written: No such file");
}

/* As a serial line with flow control whose other end has said to wait. */
TEST(a_stopped_terminal_holds_up_nothing)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	char name[64];
	struct job job;

	assert_int_equal(grantpt(master) + unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY);
	assert_int_equal(tcflow(slave, TCOOFF), 0);
	config.serial = BROKER_SERIAL_FILE;
	config.serial_path = name;
	seen->ready = 1;
	start(&job, serve_console);
	wait_for(&seen->lives, 1);
	pause_ms(100);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	assert_int_equal(count_in(job.errors, "killed"), 0);
	close(slave);
	close(master);
}

static void find_path(int errors, char *path)
{
	char text[4096], *at;

	for (unsigned tries = 0; tries < WAIT_MS / 10; tries++) {
		take_text(errors, text, sizeof(text));
		at = strstr(text, "the guest's serial line is ");
		if (at && sscanf(at + 27, "%63s", path) == 1)
			return;
		pause_ms(10);
	}
	fail_msg("no path told: %s", text);
}

TEST(a_serial_pty_is_told_and_passes_bytes_as_they_are)
{
	char path[64], text[64] = "";
	struct job job;
	int fd;

	config.serial = BROKER_SERIAL_PTY;
	start(&job, serve_console);
	find_path(job.errors, path);
	fd = open(path, O_RDWR | O_NOCTTY);
	assert_true(fd >= 0);
	seen->ready = 1;
	for (size_t got = 0; got < 8;) {
		ssize_t more = read(fd, text + got, sizeof(text) - 1 - got);

		assert_true(more > 0);
		got += more;
	}
	assert_string_equal(text, "one\ntwo\n");
	/* No terminal of ours: Ctrl-A is a byte like others, as are all. */
	assert_int_equal(write(fd, "\x01x\x03\r", 4), 4);
	wait_for(&seen->key_count, 4);
	assert_memory_equal(seen->keys, "\x01x\x03\r", 4);
	close(fd);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
}

/* Their flags are other users', too. */
TEST(standard_streams_keep_their_flags)
{
	int in[2], out[2], flags_in, flags_out;
	char text[64] = "";
	struct job job;

	assert_int_equal(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC), 0);
	flags_in = fcntl(in[0], F_GETFL);
	flags_out = fcntl(out[1], F_GETFL);
	config.serial = BROKER_SERIAL_STDIO;
	seen->ready = 1;
	test.in = in[0];
	test.out = out[1];
	start(&job, serve_console);
	assert_int_equal(write(in[1], "abc", 3), 3);
	wait_for(&seen->key_count, 3);
	assert_int_equal(read(out[0], text, sizeof(text)), 8);
	assert_int_equal(fcntl(in[0], F_GETFL), flags_in);
	assert_int_equal(fcntl(out[1], F_GETFL), flags_out);
	__real_kill(job.pid, SIGTERM);
	assert_int_equal(end_of(&job), 128 + SIGTERM);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

#define BROKER_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BROKER_TEST(the_exit_code_says_how_it_ended),
		BROKER_TEST(devices_come_back_however_it_ends),
		BROKER_TEST(a_name_is_one_machines),
		BROKER_TEST(signals_end_it),
		BROKER_TEST(what_the_caller_ignores_is_ignored),
		BROKER_TEST(sigpwr_presses_the_button),
		BROKER_TEST(the_machine_has_what_it_needs_and_nothing_else),
		BROKER_TEST(a_machine_that_hangs_is_killed),
		BROKER_TEST(an_end_that_takes_long_is_told_and_has_a_limit),
		BROKER_TEST(a_machine_that_is_killed_for_memory_says_whose),
		BROKER_TEST(a_rom_file_is_checked_before_a_device_is_touched),
		BROKER_TEST(a_rom_file_has_to_suit_the_firmware),
		BROKER_TEST(a_card_without_a_rom_for_the_firmware_is_told),
		BROKER_TEST(a_machine_that_is_on_its_way_out_gets_more_time),
		BROKER_TEST(a_machine_that_cannot_be_killed_is_given_up),
		BROKER_TEST(words_that_are_not_known_mean_nothing),
		BROKER_TEST(a_reset_is_another_life),
		BROKER_TEST(a_reset_is_the_end_where_that_is_wanted),
		BROKER_TEST(a_crash_is_another_life),
		BROKER_TEST(a_crash_is_the_end_where_that_is_wanted),
		BROKER_TEST(a_guest_that_does_nothing_but_reset_is_slowed_down_and_given_up),
		BROKER_TEST(a_signal_ends_the_wait_between_resets),
		BROKER_TEST(clients_hold_the_guest_and_let_it_go_on),
		BROKER_TEST(a_reset_by_a_client_is_another_life),
		BROKER_TEST(clients_look_at_a_guest_that_is_held_for_what_it_has_done),
		BROKER_TEST(clients_are_told_of_a_crash_that_nobody_holds),
		BROKER_TEST(what_a_machine_says_reaches_no_terminal),
		BROKER_TEST(clients_attach_and_detach_devices),
		BROKER_TEST(clients_are_served_while_a_device_is_bound),
		BROKER_TEST(clients_are_served_while_a_device_goes_back),
		BROKER_TEST(a_machine_does_not_wait_for_what_is_being_bound),
		BROKER_TEST(a_device_goes_back_when_who_binds_it_is_killed),
		BROKER_TEST(who_binds_a_device_dies_with_the_broker),
		BROKER_TEST(a_machine_is_told_of_what_was_taken_as_it_was_opened),
		BROKER_TEST(devices_that_come_and_go_leave_nothing_behind),
		BROKER_TEST(no_two_devices_have_one_id),
		BROKER_TEST(half_a_device_is_none),
		BROKER_TEST(what_the_host_takes_at_the_end_of_a_life_sees_no_other),
		BROKER_TEST(clients_hear_of_what_befalls_devices),
		BROKER_TEST(clients_are_told_who_serves_the_machine),
		BROKER_TEST(clients_give_a_disk_more_room),
		BROKER_TEST(clients_take_snapshots_of_a_disk),
		BROKER_TEST(a_daemon_that_hangs_holds_its_own_clients_alone),
		BROKER_TEST(a_broker_hears_clients_while_a_disk_ends),
		BROKER_TEST(a_command_ends_with_the_machine),
		BROKER_TEST(a_client_ends_a_machine_that_hangs),
		BROKER_TEST(a_monitor_has_a_second_socket_where_it_is_told_to),
		BROKER_TEST(a_terminal_is_raw_while_the_guest_reads_it),
		BROKER_TEST(ctrl_c_works_until_the_guest_reads),
		BROKER_TEST(a_terminal_is_put_back_after_a_signal),
		BROKER_TEST(in_the_background_keys_are_left_alone),
		BROKER_TEST(a_job_that_goes_on_takes_the_terminal_again),
		BROKER_TEST(a_serial_file_holds_the_output),
		BROKER_TEST(a_serial_pipe_is_not_waited_for),
		BROKER_TEST(a_serial_file_that_cannot_be_is_refused),
		BROKER_TEST(a_stopped_terminal_holds_up_nothing),
		BROKER_TEST(a_serial_pty_is_told_and_passes_bytes_as_they_are),
		BROKER_TEST(standard_streams_keep_their_flags),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

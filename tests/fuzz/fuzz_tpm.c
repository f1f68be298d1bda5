/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TPM's registers between a guest and swtpm. The input is the guest's accesses to them, and what swtpm says, when
 * it says nothing, and when it goes.
 */
#include "fuzz.h"

#include "machine/platform/tpm.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEPS_MAX 300
#define HEAD      10U
#define START     0x4c
#define STATUS    0x44

enum { ACCESSES, COMMANDS, RESPONSES, CANCELS, LIES, DEATHS, FAILURES };

struct fuzz_goal fuzz_goals[] = {
	[ACCESSES] = { "accesses", 2, 0 },
	[COMMANDS] = { "commands that have reached swtpm", 20, 0 },
	[RESPONSES] = { "responses that have reached the guest", 50, 0 },
	[CANCELS] = { "commands given up", 200, 0 },
	[LIES] = { "bytes of swtpm's that are no response", 20, 0 },
	[DEATHS] = { "ends of swtpm", 20, 0 },
	[FAILURES] = { "TPMs that fail", 20, 0 },
	{ 0 },
};

struct pc {
	struct space mmio;
	struct loop *loop;
	struct tpm tpm;
	struct tpm_config config;
	int swtpm;         /* -1: it has gone */
	unsigned commands; /* that swtpm has seen and not answered */
	bool lied;         /* so that a response may be another one */
};

/* Each end of a swtpm is worth a line, but not here. */
void __wrap_log_warning(const char *format, ...);
void __wrap_log_warning(const char *format, ...)
{
	(void)format;
}

static uint64_t get(struct pc *pc, unsigned offset, unsigned size)
{
	return space_read(&pc->mmio, TPM_BASE + offset, size);
}

static void set(struct pc *pc, unsigned offset, unsigned size, uint64_t value)
{
	space_write(&pc->mmio, TPM_BASE + offset, size, value);
}

/* One that a driver would write, mostly. */
static void send_command(struct pc *pc, struct fuzz_input *input, uint8_t how)
{
	uint32_t size = how & 4 ? fuzz_number(input, 4) : HEAD + fuzz_byte(input);

	set(pc, 0x08, 4, 1);
	set(pc, 0x40, 4, 1);
	set(pc, TPM_BUFFER, 2, htobe16(0x8001));
	set(pc, TPM_BUFFER + 2, 4, htobe32(size));
	set(pc, START, 4, 1);
}

/*
 * As swtpm sees it: commands come one at a time, each as long as it says. A lie that lay ready may have answered one that
 * this side has only now read.
 */
static void hear(struct pc *pc)
{
	uint8_t command[TPM_BUFFER_SIZE + 1];
	ssize_t got = pc->swtpm < 0 ? -1 : read(pc->swtpm, command, sizeof(command));
	uint32_t size;

	if (got <= 0)
		return;
	fuzz_check(got >= HEAD && got <= TPM_BUFFER_SIZE);
	memcpy(&size, command + 2, sizeof(size));
	fuzz_check(be32toh(size) == got);
	fuzz_check(++pc->commands == 1 || pc->lied);
	fuzz_goals[COMMANDS].count++;
}

static void say(struct pc *pc, const void *bytes, size_t size)
{
	if (pc->swtpm >= 0)
		fuzz_check(write(pc->swtpm, bytes, size) == (ssize_t)size);
}

static void answer(struct pc *pc, struct fuzz_input *input)
{
	uint8_t response[HEAD + 255] = { 0x80, 1 };
	uint32_t size = HEAD + fuzz_byte(input);
	uint32_t wire = htobe32(size);

	if (!pc->commands || pc->swtpm < 0)
		return;
	memcpy(response + 2, &wire, sizeof(wire));
	memset(response + HEAD, fuzz_byte(input), size - HEAD);
	pc->commands = 0;
	/* In two pieces. */
	say(pc, response, 7);
	loop_step(pc->loop, 0);
	say(pc, response + 7, size - 7);
	for (unsigned i = 0; i < 4; i++)
		loop_step(pc->loop, 0);
	if (pc->lied)
		return;
	fuzz_check(!get(pc, START, 4) && !pc->tpm.failed);
	for (unsigned i = 0; i < size; i++)
		fuzz_check(get(pc, TPM_BUFFER + i, 1) == response[i]);
	fuzz_goals[RESPONSES].count++;
}

static void lie(struct pc *pc, struct fuzz_input *input)
{
	uint8_t bytes[32];
	size_t size = 1 + fuzz_byte(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, size);
	say(pc, bytes, size);
	pc->commands = 0;
	pc->lied = true;
	fuzz_goals[LIES].count++;
}

static void go(struct pc *pc)
{
	if (pc->swtpm < 0)
		return;
	close(pc->swtpm);
	pc->swtpm = -1;
	fuzz_goals[DEATHS].count++;
}

static void access_any(struct pc *pc, struct fuzz_input *input, uint8_t how)
{
	static const uint16_t registers[] = { 0x00, 0x08, 0x0c, 0x30, 0x40, 0x44, 0x48, 0x4c, 0x5c,
		0x68, 0x80, 0x82, 0x7c, 0xff8 };
	unsigned size = 1U << (how >> 3 & 3);
	uint64_t offset =
		how & 2 ? fuzz_number(input, 2) % (TPM_SIZE - 7) : registers[fuzz_byte(input) % 14];

	if (how & 1)
		set(pc, offset, size, fuzz_number(input, size));
	else
		get(pc, offset, size);
}

static void step(struct pc *pc, struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);
	eventfd_t cancels;

	fuzz_goals[ACCESSES].count++;
	if (how < 0x80)
		access_any(pc, input, how);
	else if (how < 0xc0)
		send_command(pc, input, how);
	else if (how < 0xe8)
		answer(pc, input);
	else if (how < 0xf8)
		lie(pc, input);
	else if (how < 0xfc)
		loop_step(pc->loop, 0);
	else
		go(pc);
	if (!pc->tpm.failed)
		hear(pc);
	if (eventfd_read(pc->config.cancel_fd, &cancels) == 0)
		fuzz_goals[CANCELS].count++;
	/* Who fails is not busy, and says so. */
	fuzz_check(get(pc, START, 4) == pc->tpm.busy);
	fuzz_check(!pc->tpm.failed || (!pc->tpm.busy && get(pc, STATUS, 4) & 1));
}

void fuzz_one(struct fuzz_input *input)
{
	static struct pc pc;
	unsigned before = fuzz_descriptors();
	struct error err = { 0 };
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	memset(&pc, 0, sizeof(pc));
	space_init(&pc.mmio);
	pc.loop = loop_new(&err);
	fuzz_check(pc.loop && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	pc.config = (struct tpm_config){ pair[0], eventfd(0, EFD_NONBLOCK) };
	pc.swtpm = pair[1];
	fuzz_check(tpm_init(&pc.tpm, "fuzz", &pc.config, &pc.mmio, pc.loop) == 0);
	for (unsigned i = 0; i < STEPS_MAX && input->size; i++)
		step(&pc, input);
	fuzz_goals[FAILURES].count += pc.tpm.failed;
	tpm_destroy(&pc.tpm);
	loop_free(pc.loop);
	space_destroy(&pc.mmio);
	close(pc.config.fd);
	close(pc.config.cancel_fd);
	if (pc.swtpm >= 0)
		close(pc.swtpm);
	fuzz_check(fuzz_descriptors() == before);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/tpm.h"

#include "base/log.h"
#include "base/size.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Registers, and their bits (6.5.3.1 on). */
enum {
	LOC_STATE = 0x00,
	LOC_CTRL = 0x08,
	LOC_STS = 0x0c,
	INTERFACE_ID = 0x30,
	CTRL_REQ = 0x40,
	CTRL_STS = 0x44,
	CTRL_CANCEL = 0x48,
	CTRL_START = 0x4c,
	CMD_SIZE = 0x58,
	CMD_ADDRESS = 0x5c,
	RSP_SIZE = 0x64,
	RSP_ADDRESS = 0x68,
};

#define STATE_ESTABLISHED 1U /* no dynamic launch has been */
#define STATE_ASSIGNED    2U
#define STATE_VALID       0x80U

#define LOC_REQUEST    1U
#define LOC_RELINQUISH 2U

#define STS_GRANTED 1U

#define REQ_READY 1U
#define REQ_IDLE  2U

#define CTRL_FAILED 1U
#define CTRL_IDLE   2U

/* CRB is the interface, of version 1, and the only one; 64 bytes at once. */
#define ID_CRB    (1U | 1U << 4 | 3U << 11 | 1U << 14)
#define ID_VENDOR 0x1014U /* IBM's, whose swtpm is */

/* A response's head, and a command's: TPM 2.0 part 1, 18.1; numbers are big-endian. */
#define HEAD            10
#define HEAD_SIZE       2
#define TAG_NO_SESSIONS 0x8001
#define RC_FAILURE      0x101
#define RC_COMMAND_SIZE 0x142

static uint32_t get(const struct tpm *tpm, unsigned offset)
{
	uint32_t value;

	memcpy(&value, tpm->page + offset, sizeof(value));
	return value;
}

static void set(struct tpm *tpm, unsigned offset, uint32_t value)
{
	memcpy(tpm->page + offset, &value, sizeof(value));
}

static uint32_t size_of(const uint8_t *head)
{
	uint32_t size;

	memcpy(&size, head + HEAD_SIZE, sizeof(size));
	return be32toh(size);
}

static void end_command(struct tpm *tpm)
{
	tpm->busy = false;
	set(tpm, CTRL_START, 0);
}

/* In the TPM's place. */
static void respond(struct tpm *tpm, uint32_t code)
{
	struct {
		uint16_t tag;
		uint32_t size, code;
	} __attribute__((packed))
	response = { htobe16(TAG_NO_SESSIONS), htobe32(HEAD), htobe32(code) };

	memcpy(tpm->page + TPM_BUFFER, &response, sizeof(response));
	end_command(tpm);
}

static void fail_for_good(struct tpm *tpm, const char *why)
{
	if (tpm->failed)
		return;
	tpm->failed = true;
	log_warning("%s: swtpm %s: the guest's TPM fails until the machine starts anew", tpm->name,
		why);
	set(tpm, CTRL_STS, get(tpm, CTRL_STS) | CTRL_FAILED);
	if (tpm->busy)
		respond(tpm, RC_FAILURE);
}

/* What there is of it. 1: all; 0: more is to come. */
static int receive_response(struct tpm *tpm)
{
	size_t wanted = tpm->got < HEAD ? HEAD : size_of(tpm->response);
	ssize_t got = read(tpm->config.fd, tpm->response + tpm->got, wanted - tpm->got);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return -EPIPE;
	tpm->got += got;
	if (tpm->got < HEAD)
		return 0;
	wanted = size_of(tpm->response);
	if (wanted < HEAD || wanted > sizeof(tpm->response))
		return -EBADMSG;
	return tpm->got == wanted;
}

/* On the loop's thread. */
static void on_response(void *opaque, uint32_t events)
{
	struct tpm *tpm = opaque;
	uint8_t more;
	int code;

	(void)events;
	pthread_mutex_lock(&tpm->lock);
	if (tpm->busy)
		code = receive_response(tpm);
	else
		code = read(tpm->config.fd, &more, 1) > 0 ? -EBADMSG : -EPIPE;
	if (code < 0) {
		fail_for_good(tpm, code == -EPIPE ? "has ended" : "says what is no response");
		loop_remove(tpm->loop, tpm->config.fd);
	} else if (code) {
		memcpy(tpm->page + TPM_BUFFER, tpm->response, tpm->got);
		end_command(tpm);
	}
	pthread_mutex_unlock(&tpm->lock);
}

/*
 * Responses before have been heard to their ends, so that a socket has room for all of it. A TPM that is idle would not
 * have to hear of it (6.5.3.5); but SeaBIOS never asks for the state before it starts a command, as no other that is
 * emulated minds.
 */
static void start(struct tpm *tpm)
{
	const uint8_t *command = tpm->page + TPM_BUFFER;
	uint32_t size = size_of(command);

	if (tpm->busy || get(tpm, LOC_STS) != STS_GRANTED)
		return;
	set(tpm, CTRL_STS, get(tpm, CTRL_STS) & ~CTRL_IDLE);
	if (tpm->failed || size < HEAD || size > TPM_BUFFER_SIZE) {
		respond(tpm, tpm->failed ? RC_FAILURE : RC_COMMAND_SIZE);
		return;
	}
	tpm->got = 0;
	tpm->busy = true;
	tpm->cancelled = false;
	set(tpm, CTRL_START, 1);
	if (write(tpm->config.fd, command, size) != (ssize_t)size)
		fail_for_good(tpm, "does not take a command");
}

/* The response says whether it was in time. */
static void cancel(struct tpm *tpm)
{
	if (!tpm->busy || tpm->cancelled)
		return;
	tpm->cancelled = true;
	eventfd_write(tpm->config.cancel_fd, 1);
}

static void write_locality(struct tpm *tpm, uint32_t value)
{
	if (value & LOC_REQUEST) {
		set(tpm, LOC_STATE, STATE_ESTABLISHED | STATE_ASSIGNED | STATE_VALID);
		set(tpm, LOC_STS, STS_GRANTED);
	} else if (value & LOC_RELINQUISH) {
		set(tpm, LOC_STATE, STATE_ESTABLISHED | STATE_VALID);
		set(tpm, LOC_STS, 0);
	}
}

/* Done at once, so that it reads 0. */
static void write_request(struct tpm *tpm, uint32_t value)
{
	uint32_t failed = get(tpm, CTRL_STS) & CTRL_FAILED;

	if (value & REQ_READY)
		set(tpm, CTRL_STS, failed);
	else if (value & REQ_IDLE && !tpm->busy)
		set(tpm, CTRL_STS, failed | CTRL_IDLE);
}

static void write_control(struct tpm *tpm, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case LOC_CTRL:
		write_locality(tpm, value);
		break;
	case CTRL_REQ:
		write_request(tpm, value);
		break;
	case CTRL_CANCEL:
		set(tpm, CTRL_CANCEL, value & 1);
		if (value & 1)
			cancel(tpm);
		break;
	case CTRL_START:
		if (value & 1)
			start(tpm);
		break;
	}
}

static uint64_t tpm_read(void *opaque, uint64_t offset, unsigned size)
{
	struct tpm *tpm = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&tpm->lock);
	memcpy(&value, tpm->page + offset, size);
	pthread_mutex_unlock(&tpm->lock);
	return value;
}

static void tpm_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct tpm *tpm = opaque;

	pthread_mutex_lock(&tpm->lock);
	if (offset < TPM_BUFFER)
		write_control(tpm, offset, value);
	else if (!tpm->busy)
		memcpy(tpm->page + offset, &value, size);
	pthread_mutex_unlock(&tpm->lock);
}

static const struct space_ops tpm_ops = { tpm_read, tpm_write };

int tpm_init(struct tpm *tpm, const char *name, const struct tpm_config *config, struct space *mmio,
	struct loop *loop)
{
	int code;

	*tpm = (struct tpm){ .name = name, .config = *config, .loop = loop };
	pthread_mutex_init(&tpm->lock, NULL);
	set(tpm, LOC_STATE, STATE_ESTABLISHED | STATE_VALID);
	set(tpm, INTERFACE_ID, ID_CRB);
	set(tpm, INTERFACE_ID + 4, ID_VENDOR);
	set(tpm, CTRL_STS, CTRL_IDLE);
	set(tpm, CMD_SIZE, TPM_BUFFER_SIZE);
	set(tpm, CMD_ADDRESS, TPM_BASE + TPM_BUFFER);
	set(tpm, RSP_SIZE, TPM_BUFFER_SIZE);
	set(tpm, RSP_ADDRESS, TPM_BASE + TPM_BUFFER);
	code = space_add(mmio, TPM_BASE, TPM_SIZE, &tpm_ops, tpm);
	return code ? code : loop_add(loop, config->fd, EPOLLIN, on_response, tpm);
}

void tpm_destroy(struct tpm *tpm)
{
	loop_remove(tpm->loop, tpm->config.fd);
	pthread_mutex_destroy(&tpm->lock);
}

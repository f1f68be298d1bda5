/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "pci/space.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * A TPM 2.0 with the command response buffer interface (TCG PC Client Platform TPM Profile 1.05, 6.5.3) at locality 0.
 * The TPM itself is swtpm, at the other end of a socket, and may die, lie or never answer: the guest then has a TPM
 * that fails, or that is busy for good. Nothing waits for it.
 */

#define TPM_BASE    0xfed40000ULL
#define TPM_SIZE    0x1000
#define TPM_CONTROL 0x40 /* where the control area is, which ACPI tells */
#define TPM_BUFFER  0x80 /* of commands, and then of their responses */

#define TPM_BUFFER_SIZE (TPM_SIZE - TPM_BUFFER)

struct tpm_config {
	int fd; /* a stream of commands and responses, which does not block; -1: there is no TPM */
	int cancel_fd; /* an eventfd, which does not block either: the command is to be given up */
};

struct tpm {
	const char *name; /* of the machine, for messages */
	struct tpm_config config;
	struct loop *loop;
	pthread_mutex_t lock;              /* for what follows */
	uint8_t page[TPM_SIZE];            /* registers and buffer, as the guest reads them */
	uint8_t response[TPM_BUFFER_SIZE]; /* as far as it has come */
	size_t got;
	bool busy;      /* a command is under way */
	bool cancelled; /* and is to be given up */
	bool failed;    /* swtpm has nothing more to say */
};

/* Its registers are in mmio, and the loop hears its responses. The descriptors stay the caller's. */
int tpm_init(struct tpm *tpm, const char *name, const struct tpm_config *config, struct space *mmio,
	struct loop *loop);
void tpm_destroy(struct tpm *tpm);

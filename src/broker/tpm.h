/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "broker/backend.h"
#include "machine/platform/tpm.h"

#include <limits.h>
#include <sys/types.h>

/*
 * swtpm, the TPM of a machine: one process for each of its lives. It is confined, has its state, and two sockets: by
 * one it is controlled from here, the other one's end the machine gets.
 */

struct broker_tpm {
	struct broker_backend backend;
	char path[PATH_MAX]; /* of its state's directory; "": that lasts as long as the broker */
	int state;           /* this directory, locked, or a memfd; -1: there is no TPM */
	bool is_new;         /* there is nothing in it yet */
	bool has_firmware;   /* which does what a TPM wants first */
	int control;
	struct tpm_config machine; /* for the machine's process */
};

#define BROKER_TPM_NONE                                                                            \
	{                                                                                          \
		.backend = BROKER_BACKEND_NONE, .state = -1, .control = -1, .machine = { -1, -1 }, \
	}

/*
 * Find the program, and open the state: a directory next to the file nvram, named after it, which is made where it is
 * not there; NULL: state without a name. tpm starts out as BROKER_TPM_NONE.
 */
int broker_tpm_open(
	struct broker_tpm *tpm, const char *nvram, bool has_firmware, struct error *err);
/* Has ended before. */
void broker_tpm_close(struct broker_tpm *tpm);

/* For the next life of the machine. Nothing where there is no TPM, or where it runs. */
int broker_tpm_start(struct broker_tpm *tpm, struct error *err);
/* The machine's process has its descriptors. */
void broker_tpm_handed_over(struct broker_tpm *tpm, struct loop *loop);
/* That process has ended. */
void broker_tpm_end(struct broker_tpm *tpm, struct loop *loop);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/journal/entry.h"
#include "host/journal/holder.h"

/* What the journal keeps of a device. */

/* What the host had on a graphics card, beside its driver, and is to have there again: see host/binding/screen.h. */
struct host_screen {
	bool console;                /* the text console */
	char framebuffer[HOST_NAME]; /* the firmware's frame buffer, a platform device; "": none */
	char driver[HOST_NAME];      /* of that */
};

struct host_record {
	struct bdf bdf;
	char driver[HOST_NAME];   /* the driver to give it back to, "": none */
	char override[HOST_NAME]; /* the driver_override to leave it with, "": not set */
	struct host_holder holder;
	bool persist; /* bound by "penstock bind": it stays so when its holder ends, if that was done */
	bool companion; /* bound only because another device of its group was */
	bool bound;     /* vfio-pci has it, and nobody here is changing that */
	bool makes_vfs; /* a PF: unless the bind comes to its end, its VFs are to go */
	struct host_screen screen;
	uid_t user; /* "bind --user": has the node of its group; 0: nobody but root */
};

/*
 * Records as text. Strict: one spelling only, and "end" shows that nothing is missing. False where text,
 * which is overwritten, is none.
 */
bool record_parse(char *text, struct host_record *record);
void record_format(const struct host_record *record, char text[static JOURNAL_ENTRY_SIZE]);

/* The same for who has a name. */
bool record_parse_name(char *text, struct host_holder *holder);
void record_format_name(const struct host_holder *holder, char text[static JOURNAL_ENTRY_SIZE]);

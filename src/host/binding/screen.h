/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/binding/change.h"
#include "host/journal/record.h"

/*
 * What of the host is on a graphics card's screen, besides its driver: the text console, and the firmware's frame
 * buffer. Both leave the card before its driver does, as a driver may hang that is to go while the console
 * draws by it; and they come back after it, in the reverse order.
 */

/* What there is of it, to be noted in the journal before it is moved. Of other devices nothing. */
void screen_find(
	const struct host *host, const struct host_device *device, struct host_screen *screen);

/* Move it off the card. */
int screen_leave(const struct change *change, const struct host_screen *screen, struct error *err);

/* The card is at vfio-pci: warn where the firmware's frame buffer is not to come back. */
void screen_tell_dropped(const struct change *change, const struct host_screen *screen);

/* Put it back, as far as that has not been done: the card is at its driver again. */
int screen_return(const struct change *change, const struct host_screen *screen, struct error *err);

/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Takes the program's and its libraries' code and constants out of the process: what is needed again comes back at
 * the first touch, a fault for some sixteen pages that are still in the page cache, and what only a start needs does
 * not. Any thread, at any time.
 */
void mapped_let_go(void);

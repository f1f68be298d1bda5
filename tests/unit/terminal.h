/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

/*
 * A terminal with a session of its own, as a shell has it: a job runs on it, in the foreground or in
 * the background. The test is at the other end, where the keys and the screen are.
 */
struct terminal {
	int master;
	int errors; /* a file with the job's standard error */
	pid_t shell;
	int commands; /* to the shell */
	int answers;  /* from it */
	pid_t job;
};

/* run(opaque) is the job's exit code. */
void terminal_open(
	struct terminal *terminal, bool foreground, int (*run)(void *opaque), void *opaque);

/* Put the job into the foreground, or the shell. */
void terminal_foreground(struct terminal *terminal, bool job);

/* A line that was typed, as the shell reads it. */
void terminal_read_line(struct terminal *terminal, char *line, size_t size);

void terminal_type(struct terminal *terminal, const char *keys);
/* Wait until text is on the screen. */
void terminal_expect(struct terminal *terminal, const char *text);
/* Wait until keys are handed to programs one by one, or by lines. */
void terminal_wait_raw(struct terminal *terminal, bool raw);
struct termios terminal_settings(const struct terminal *terminal);

/* Wait for the job's end: its exit code, or 128 + N where signal N ended it; -1: it was stopped. */
int terminal_close(struct terminal *terminal);

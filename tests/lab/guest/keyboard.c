// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * keyboard: waits for a USB keyboard, says KEYBOARD-READY, and succeeds when the keys
 * p e n s t o c k were pressed on it in this order. Each is told.
 */
#include "lab.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WAIT_SECONDS 120

static const uint16_t wanted[] = { KEY_P, KEY_E, KEY_N, KEY_S, KEY_T, KEY_O, KEY_C, KEY_K };
#define WANTED (sizeof(wanted) / sizeof(wanted[0]))

/* An input device on this bus that has a letter key; -1 if there is none. */
static int open_keyboard(uint16_t bus)
{
	DIR *directory = opendir("/dev/input");
	struct dirent *entry;
	int file = -1;

	while (directory && file < 0 && (entry = readdir(directory))) {
		unsigned char keys[KEY_MAX / 8 + 1] = { 0 };
		struct input_id id = { 0 };

		if (strncmp(entry->d_name, "event", 5))
			continue;
		file = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			continue;
		ioctl(file, EVIOCGID, &id);
		ioctl(file, EVIOCGBIT(EV_KEY, sizeof(keys)), keys);
		if (id.bustype != bus || !(keys[KEY_P / 8] & 1 << KEY_P % 8)) {
			close(file);
			file = -1;
		}
	}
	if (directory)
		closedir(directory);
	return file;
}

void await_keys(uint16_t bus)
{
	double limit = seconds() + WAIT_SECONDS;
	size_t seen = 0;
	int file;

	while ((file = open_keyboard(bus)) < 0) {
		if (seconds() > limit)
			fail("no keyboard on bus %u", bus);
		sleep_ms(100);
	}
	printf("KEYBOARD-READY\n");
	while (seen < WANTED) {
		struct pollfd wait = { .fd = file, .events = POLLIN };
		struct input_event event;

		if (poll(&wait, 1, (int)((limit - seconds()) * 1000)) <= 0)
			fail("%zu of %zu keys within %d s", seen, WANTED, WAIT_SECONDS);
		if (read(file, &event, sizeof(event)) != sizeof(event))
			fail_errno("reading the keyboard");
		if (event.type != EV_KEY || event.value != 1)
			continue;
		if (event.code != wanted[seen])
			fail("key %zu has code %u, not %u", seen + 1, event.code, wanted[seen]);
		printf("KEY %zu\n", ++seen);
	}
	printf("keyboard: all %zu keys came\n", WANTED);
}

int keyboard_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	await_keys(BUS_USB);
	return 0;
}

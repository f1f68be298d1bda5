/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/display.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>

/* What a key or the mouse has done; whatever else has come means nothing. */
static void take_event(struct machine_display *display, const struct display_event *event)
{
	uint32_t code = event->type == DISPLAY_KEY ? event->key.code : 0;

	if (event->type == DISPLAY_KEY)
		i8042_key(
			&display->i8042, code & 0x7f, code & DISPLAY_KEY_EXTENDED, event->key.down);
	if (event->type == DISPLAY_POINTER)
		i8042_move(&display->i8042, event->pointer.right, event->pointer.down,
			event->pointer.wheel, event->pointer.buttons);
}

/* One at a time: whoever sends too many delays nothing else. */
static void on_event(void *opaque, uint32_t events)
{
	struct machine_display *display = opaque;
	struct display_event event;
	ssize_t got = read(display->event_fd, &event, sizeof(event));

	(void)events;
	if (got == sizeof(event))
		take_event(display, &event);
	if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
		loop_remove(display->loop, take_fd(&display->event_fd));
}

#define SOCKET_EVENTS 1024 /* more than a socket holds */

/* From a former life of the machine; whoever sends them all the time does not keep it. */
static void drop_events(int fd)
{
	struct display_event event;

	for (unsigned i = 0; i < SOCKET_EVENTS && read(fd, &event, sizeof(event)) > 0; i++)
		;
}

int machine_display_attach(struct machine_display *display, const struct display_config *config,
	struct machine_pci *pci, struct space *pio, uint8_t devfn, struct loop *loop,
	struct error *err)
{
	int code;

	if (config->memory_fd < 0)
		return 0;
	display->memory = mmap(
		NULL, DISPLAY_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, config->memory_fd, 0);
	if (display->memory == MAP_FAILED) {
		display->memory = NULL;
		return error_sys(err, -errno, NULL, "cannot map the memory of the guest's display");
	}
	close(config->memory_fd);
	display->card.vm = display->i8042.vm = pci->vm;
	display->card.memory = display->memory;
	display->card.rom = config->rom;
	code = i8042_init(&display->i8042, pio);
	drop_events(config->event_fd);
	if (!code)
		code = loop_add(loop, config->event_fd, EPOLLIN, on_event, display);
	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's keyboard");
	display->loop = loop;
	display->event_fd = config->event_fd;
	return bochs_init(&display->card, &pci->root.bus, devfn, err);
}

void machine_display_close(struct machine_display *display)
{
	if (!display->memory)
		return;
	bochs_destroy(&display->card);
	munmap(display->memory, DISPLAY_FILE_SIZE);
}

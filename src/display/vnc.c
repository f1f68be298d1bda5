/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "display/vnc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "display/keys.h"
#include "display/picture.h"
#include "display/png.h"

#include <errno.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <string.h>
#include <sys/socket.h>

#define CLIENTS_MAX    8
#define PATIENCE_MS    10000 /* with a client in the midst of what it sends or is sent */
#define FRAME_MS       33
#define FRAME_QUIET_MS 100 /* when nothing has changed lately: */
#define LATELY         30  /* frames */
#define BUTTON_LEFT    1
#define BUTTON_MIDDLE  2
#define BUTTON_RIGHT   4
#define WHEEL_UP       8
#define WHEEL_DOWN     16

struct vnc {
	const struct vnc_config *config;
	rfbScreenInfoPtr screen;
	struct picture picture;
	unsigned clients;
	unsigned quiet;        /* frames in which nothing has changed */
	int x, y;              /* of the pointer, as it was last; -1: it was nowhere */
	int buttons;           /* the same, as VNC has them */
	uint8_t down[256 / 8]; /* keys, by their code */
};

/* What clients do */

/* Where the machine does not take it, it is lost, as keys are that nobody reads. */
static void send_event(const struct vnc *vnc, const struct display_event *event)
{
	(void)!write(vnc->config->event_fd, event, sizeof(*event));
}

static void press_key(struct vnc *vnc, uint8_t code, bool down)
{
	uint8_t *byte = &vnc->down[code / 8], bit = 1 << code % 8;

	*byte = down ? *byte | bit : *byte & ~bit;
	send_event(vnc, &(struct display_event){ .type = DISPLAY_KEY, .key = { code, down } });
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	uint8_t code = keys_find(keysym);

	if (code)
		press_key(client->screen->screenData, code, down);
}

static uint32_t mouse_buttons(int buttons)
{
	return (buttons & BUTTON_LEFT ? 1 : 0) | (buttons & BUTTON_RIGHT ? 2 : 0) |
	       (buttons & BUTTON_MIDDLE ? 4 : 0);
}

/* The wheel is two buttons that are let go at once; each press is a step. */
static int find_wheel(int before, int now)
{
	int pressed = now & ~before;

	return (pressed & WHEEL_DOWN ? 1 : 0) - (pressed & WHEEL_UP ? 1 : 0);
}

static void move_pointer(struct vnc *vnc, int x, int y, int buttons)
{
	struct display_event event = {
		.type = DISPLAY_POINTER,
		.pointer = {
			.right = vnc->x < 0 ? 0 : x - vnc->x,
			.down = vnc->x < 0 ? 0 : y - vnc->y,
			.wheel = find_wheel(vnc->buttons, buttons),
			.buttons = mouse_buttons(buttons),
		},
	};

	send_event(vnc, &event);
	vnc->x = x;
	vnc->y = y;
	vnc->buttons = buttons;
}

static void on_pointer(int buttons, int x, int y, rfbClientPtr client)
{
	move_pointer(client->screen->screenData, x, y, buttons);
}

/* What it had pressed is let go, that nothing goes on for ever. */
static void on_gone(rfbClientPtr client)
{
	struct vnc *vnc = client->screen->screenData;

	vnc->clients--;
	for (unsigned code = 0; code < 256; code++)
		if (vnc->down[code / 8] >> code % 8 & 1)
			press_key(vnc, code, false);
	if (vnc->buttons)
		move_pointer(vnc, vnc->x, vnc->y, 0);
	vnc->x = -1;
}

static enum rfbNewClientAction on_vnc_client(rfbClientPtr client)
{
	struct vnc *vnc = client->screen->screenData;

	client->clientGoneHook = on_gone;
	vnc->clients++;
	vnc->quiet = 0;
	return vnc->clients > CLIENTS_MAX ? RFB_CLIENT_REFUSE : RFB_CLIENT_ACCEPT;
}

/*
 * In place of libvncserver's own, which looks whether a client speaks WebSockets: none does. Any page in a browser could
 * else reach a port of this host, and libgcrypt, which it takes for that, opens files.
 */
rfbBool webSocketsCheck(rfbClientPtr client)
{
	(void)client;
	return TRUE;
}

/* The picture */

/* As display_mode.h has pixels, whatever libvncserver takes for granted. */
static void set_format(rfbScreenInfoPtr screen)
{
	screen->serverFormat.redShift = 16;
	screen->serverFormat.greenShift = 8;
	screen->serverFormat.blueShift = 0;
	screen->serverFormat.depth = 24;
	screen->serverFormat.trueColour = 1;
}

static void show_new_size(struct vnc *vnc)
{
	rfbClientIteratorPtr clients;
	rfbClientPtr client;

	rfbNewFramebuffer(vnc->screen, (char *)vnc->picture.pixels, vnc->picture.width,
		vnc->picture.height, 8, 3, sizeof(*vnc->picture.pixels));
	set_format(vnc->screen);
	clients = rfbGetClientIterator(vnc->screen);
	while ((client = rfbClientIteratorNext(clients)))
		vnc->screen->setTranslateFunction(client);
	rfbReleaseClientIterator(clients);
	vnc->x = -1;
}

static void on_changed(void *opaque, int left, int top, int right, int bottom)
{
	struct vnc *vnc = opaque;

	rfbMarkRectAsModified(vnc->screen, left, top, right, bottom);
}

static void look(struct vnc *vnc)
{
	bool is_new = picture_fit(&vnc->picture) == 1;

	if (is_new)
		show_new_size(vnc);
	if (picture_update(&vnc->picture, on_changed, vnc) || is_new)
		vnc->quiet = 0;
	else
		vnc->quiet++;
}

static void accept_client(struct vnc *vnc)
{
	int fd = accept4(vnc->config->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	/* It has the size that there is now, as some cannot do with another later. */
	look(vnc);
	/* libvncserver owns it, and closes it where it cannot use it. */
	rfbNewClient(vnc->screen, fd);
}

/* The broker's requests */

/* The file that comes along; -1: there is none. */
static int take_file(struct msghdr *header)
{
	struct cmsghdr *at = CMSG_FIRSTHDR(header);
	int fd;

	if (!at || at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS ||
		at->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(at), sizeof(fd));
	return fd;
}

static void answer_broker(const struct vnc *vnc, uint32_t id, int code)
{
	const struct display_answer answer = { id, code };

	(void)!write(vnc->config->control_fd, &answer, sizeof(answer));
}

/* False: the broker is gone. */
static bool serve_broker(struct vnc *vnc)
{
	struct display_request request;
	struct iovec bytes = { &request, sizeof(request) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr header = {
		.msg_iov = &bytes,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = recvmsg(vnc->config->control_fd, &header, MSG_CMSG_CLOEXEC);
	cleanup_fd int file = got > 0 ? take_file(&header) : -1;

	if (got <= 0)
		return got < 0 && errno == EINTR;
	if (got != sizeof(request) || file < 0)
		return true;
	look(vnc);
	answer_broker(vnc, request.id, png_write(&vnc->picture, file));
	return true;
}

/* The server */

static int make_screen(struct vnc *vnc)
{
	struct picture *picture = &vnc->picture;
	rfbScreenInfoPtr screen;

	rfbLogEnable(FALSE); /* what clients make it say is nobody's concern */
	vnc->screen = screen = rfbGetScreen(
		NULL, NULL, picture->width, picture->height, 8, 3, sizeof(*picture->pixels));
	if (!screen)
		return -ENOMEM;
	set_format(screen);
	screen->screenData = vnc;
	screen->desktopName = vnc->config->name;
	screen->frameBuffer = (char *)picture->pixels;
	screen->port = screen->ipv6port = 0; /* our socket listens */
	screen->autoPort = FALSE;
	screen->alwaysShared = TRUE;
	screen->cursor = NULL; /* the guest draws its own */
	screen->deferUpdateTime = 0;
	screen->maxClientWait = PATIENCE_MS;
	screen->permitFileTransfer = FALSE;
	screen->kbdAddEvent = on_key;
	screen->ptrAddEvent = on_pointer;
	screen->newClientHook = on_vnc_client;
	rfbInitServer(screen);
	return 0;
}

static unsigned frame_ms(const struct vnc *vnc)
{
	return vnc->quiet < LATELY ? FRAME_MS : FRAME_QUIET_MS;
}

/* Sleep until there is something to do; false: the broker is gone. */
static bool await_work(struct vnc *vnc)
{
	struct pollfd fds[2 + CLIENTS_MAX + 1] = {
		{ vnc->config->control_fd, POLLIN, 0 },
		{ vnc->config->listen_fd, POLLIN, 0 },
	};
	rfbClientIteratorPtr clients = rfbGetClientIterator(vnc->screen);
	rfbClientPtr client;
	nfds_t count = 2;

	while ((client = rfbClientIteratorNext(clients)) && count < ARRAY_SIZE(fds))
		fds[count++] = (struct pollfd){ client->sock, POLLIN, 0 };
	rfbReleaseClientIterator(clients);
	if (poll(fds, count, vnc->clients ? (int)frame_ms(vnc) : -1) < 0)
		return errno == EINTR;
	if (fds[1].revents)
		accept_client(vnc);
	return !fds[0].revents || serve_broker(vnc);
}

int vnc_serve(const struct vnc_config *config)
{
	struct vnc vnc = { .config = config, .x = -1 };
	int64_t looked = 0;
	int code = picture_init(&vnc.picture, config->memory);

	if (!code)
		code = make_screen(&vnc);
	if (!code)
		answer_broker(&vnc, 0, 0);
	while (!code && await_work(&vnc)) {
		/* What clients send comes at any time, the picture at its own pace. */
		if (vnc.clients && clock_ms() - looked >= frame_ms(&vnc)) {
			looked = clock_ms();
			look(&vnc);
		}
		rfbProcessEvents(vnc.screen, 0);
	}
	if (vnc.screen)
		rfbScreenCleanup(vnc.screen);
	picture_destroy(&vnc.picture);
	return code;
}

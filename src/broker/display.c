/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/display.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#define PROGRAM     "penstock-display"
#define VGA_BIOS    "vgabios-bochs-display.bin"
#define BACKLOG     8
#define STARTS_MAX  10 /* in an hour */
#define HOUR_MS     3600000
#define PICTURE_S   30 /* for a picture, whatever clients do */
#define PICTURE_MAX (64 * MIB)
#define START_MS    10000 /* it takes some 30 */
#define END_MS      2000  /* to end by itself, unless a client has it busy */

/* What it needs */

static bool is_program(struct broker_backend *backend, const char *directory, int length)
{
	return snprintf(backend->program, sizeof(backend->program), "%.*s/" PROGRAM, length,
		       directory) < (int)sizeof(backend->program) &&
	       access(backend->program, X_OK) == 0;
}

/* Beside this program, as it is built, or where it is installed. */
static int find_display_program(struct broker_backend *backend, struct error *err)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
	const char *slash = length > 0 ? memrchr(self, '/', length) : NULL;

	if ((slash && is_program(backend, self, slash - self)) ||
		is_program(backend, PENSTOCK_LIBEXEC, strlen(PENSTOCK_LIBEXEC)))
		return broker_backend_use(backend, PROGRAM, err);
	error_set(err, -ENOENT, NULL,
		"--display needs the program " PROGRAM ", which is not installed");
	error_hint(err, "it is a part of Penstock: build and install it with libvncserver-dev");
	return err->code;
}

/* None of those who have it can change its size under the others. */
static int make_display_memory(struct broker_display *display, struct error *err)
{
	int fd = memfd_create("display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char path[32];

	display->machine.memory_fd = fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || ftruncate(fd, DISPLAY_FILE_SIZE) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
		(display->shown_fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return error_sys(
			err, -errno, NULL, "cannot make the memory of the guest's display");
	return 0;
}

static int make_event_socket(struct broker_display *display, struct error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_sys(err, -errno, NULL, "cannot connect the guest's keyboard");
	/* One way alone: nothing that the machine sent, descriptors least of all, would ever be read. */
	shutdown(pair[1], SHUT_RD);
	display->machine.event_fd = pair[0];
	display->event_fd = pair[1];
	return 0;
}

/* Of this host alone: what VNC sends, each on the way could read. */
static int listen_at_port(struct broker_display *display, unsigned port, struct error *err)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int on = 1;

	snprintf(display->address, sizeof(display->address), "127.0.0.1:%u", port);
	display->port_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (display->port_fd >= 0 &&
		setsockopt(display->port_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(display->port_fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
		listen(display->port_fd, BACKLOG) == 0)
		return 0;
	if (error_sys(err, -errno, display->address, "cannot listen for VNC") == -EADDRINUSE)
		error_hint(err, "choose another port; 'ss -ltnp' shows whose it is");
	return err->code;
}

static void free_vga_bios(struct broker_display *display)
{
	if (display->machine.rom)
		munmap((void *)display->machine.rom, DISPLAY_ROM);
	display->machine.rom = NULL;
}

/* A BIOS draws by a ROM in the card; what is behind it reads as ones. */
static int read_vga_bios(struct broker_display *display, const char *path)
{
	cleanup_fd int fd = fd_open_regular(path);
	ssize_t size;
	void *rom;

	if (fd < 0)
		return fd;
	rom = mmap(NULL, DISPLAY_ROM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rom == MAP_FAILED)
		return -errno;
	memset(rom, 0xff, DISPLAY_ROM);
	size = pread(fd, rom, DISPLAY_ROM, 0);
	mprotect(rom, DISPLAY_ROM, PROT_READ);
	display->machine.rom = rom;
	return size <= 0 || memcmp(rom, "\x55\xaa", 2) ? -ENOEXEC : 0;
}

/* Beside the BIOS, whose it is. Without it there is a display all the same, for the system. */
static void find_vga_bios(struct broker_display *display, const struct broker_firmware *firmware)
{
	const char *slash = strrchr(firmware->code, '/');
	char path[PATH_MAX];
	int code, length = slash ? slash - firmware->code + 1 : 0;

	if (!firmware->bios)
		return;
	snprintf(path, sizeof(path), "%.*s" VGA_BIOS, length, firmware->code);
	code = read_vga_bios(display, path);
	if (!code)
		return;
	log_warning("the BIOS shows nothing on the display: %s, its driver, cannot be used: %s",
		path, strerror(-code));
	free_vga_bios(display);
}

int broker_display_open(struct broker_display *display, const struct broker_config *config,
	const struct broker_firmware *firmware, struct error *err)
{
	if (!config->vnc.wanted)
		return 0;
	snprintf(display->backend.label, sizeof(display->backend.label), "display");
	if (find_display_program(&display->backend, err) || make_display_memory(display, err) ||
		make_event_socket(display, err))
		return err->code;
	find_vga_bios(display, firmware);
	return config->vnc.port ? listen_at_port(display, config->vnc.port, err) : 0;
}

static int listen_at_path(struct broker_display *display, const struct broker_config *config,
	const struct host *host, struct error *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s.vnc", host->run, config->name);
	if (config->vnc.path)
		snprintf(path, sizeof(path), "%s", config->vnc.path);
	snprintf(display->address, sizeof(display->address), "unix:%s", path);
	return control_listen(&display->socket, path, err);
}

/* The process */

static void on_display_gone(void *opaque);

static int start_display(struct broker_display *display, int control, struct error *err)
{
	int listen_fd = display->port_fd >= 0 ? display->port_fd : display->socket.fd;
	const int fds[] = { listen_fd, display->event_fd, control, display->shown_fd };
	char texts[ARRAY_SIZE(fds)][16], name[HOST_NAME];
	char *const argv[] = { PROGRAM, name, texts[0], texts[1], texts[2], texts[3], NULL };

	snprintf(name, sizeof(name), "%s", display->name);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		snprintf(texts[i], sizeof(texts[i]), "%d", fds[i]);
	display->backend.ended = on_display_gone;
	display->backend.opaque = display;
	return broker_backend_start(&display->backend,
		&(struct broker_backend_start){
			.argv = argv,
			.fds = fds,
			.fd_count = ARRAY_SIZE(fds),
			.sandbox.directory = -1,
		},
		err);
}

static void on_display_message(void *opaque, uint32_t events);

static void let_go(struct broker_display *display)
{
	loop_remove(display->loop, display->control);
	close(take_fd(&display->control));
}

static void count_start(struct broker_display *display)
{
	uint64_t now = guard_now();

	if (!display->starts || now - display->starts_since >= HOUR_MS) {
		display->starts = 0;
		display->starts_since = now;
	}
	display->starts++;
}

static int spawn_display(struct broker_display *display, struct error *err)
{
	int pair[2], code;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(err, -errno, NULL, "cannot talk to " PROGRAM);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	display->control = pair[0];
	count_start(display);
	code = loop_add(display->loop, pair[0], EPOLLIN, on_display_message, display);
	if (!code && start_display(display, pair[1], err) == 0)
		code = broker_backend_watch(&display->backend, display->loop);
	if (code)
		error_sys(err, code, NULL, "cannot watch " PROGRAM);
	close(pair[1]);
	if (err->code) {
		let_go(display);
		broker_backend_end(&display->backend, 0, END_MS);
	}
	return err->code;
}

/* Pictures */

static void forget_picture(struct broker_picture *picture, bool keep_file)
{
	if (picture->file >= 0) {
		if (!keep_file)
			unlink(picture->file_path);
		close(picture->file);
	}
	if (picture->bytes >= 0)
		close(picture->bytes);
	free(picture->file_path);
	free(picture->path);
}

static int copy_picture(const struct broker_picture *picture)
{
	char bytes[16 * KIB];
	uint64_t at = 0;
	ssize_t got;
	int code = 0;

	while (!code && at < PICTURE_MAX &&
		(got = pread(picture->bytes, bytes, sizeof(bytes), at)) > 0) {
		code = fd_write_all(picture->file, bytes, got);
		at += got;
	}
	return code ? code : at ? 0 : -EIO;
}

/* What is not whole leaves no trace, and what was there stays. */
static void end_picture(struct broker_display *display, struct broker_picture *picture, int code)
{
	struct broker_picture ended = *picture;

	*picture = (struct broker_picture){ 0 };
	if (!code)
		code = copy_picture(&ended);
	if (!code && rename(ended.file_path, ended.path) < 0)
		code = -errno;
	forget_picture(&ended, !code);
	display->taken(display->opaque, ended.id, code);
}

static struct broker_picture *find_picture(struct broker_display *display, uint32_t id)
{
	for (unsigned i = 0; i < BROKER_PICTURES_MAX; i++)
		if (display->pictures[i].id == id)
			return &display->pictures[i];
	return NULL;
}

static bool waits_for_pictures(const struct broker_display *display)
{
	for (unsigned i = 0; i < BROKER_PICTURES_MAX; i++)
		if (display->pictures[i].id)
			return true;
	return false;
}

static void set_patience(const struct broker_display *display)
{
	const struct itimerspec limit = { .it_value.tv_sec = PICTURE_S };

	timerfd_settime(display->patience, 0, &limit, NULL);
}

/* Some client has it busy for good. */
static void on_no_patience(void *opaque, uint32_t events)
{
	struct broker_display *display = opaque;
	uint64_t count;

	(void)events;
	(void)!read(display->patience, &count, sizeof(count));
	if (waits_for_pictures(display) && display->backend.pid > 0)
		kill(display->backend.pid, SIGKILL);
}

static void fail_pictures(struct broker_display *display)
{
	for (unsigned i = 0; i < BROKER_PICTURES_MAX; i++)
		if (display->pictures[i].id)
			end_picture(display, &display->pictures[i], -EPIPE);
}

static void on_display_gone(void *opaque)
{
	struct broker_display *display = opaque;
	bool again = display->starts < STARTS_MAX;
	struct error err = { 0 };

	if (display->control >= 0)
		let_go(display);
	log_warning("%s: %s", display->name,
		again ? "VNC's clients have to connect anew"
		      : "there is no display any more: it has ended too often");
	fail_pictures(display);
	if (again && spawn_display(display, &err))
		error_print(&err);
}

/* It answers for what it was asked, and no other. */
static void take_picture_answer(struct broker_display *display, const struct display_answer *answer)
{
	struct broker_picture *picture = answer->id ? find_picture(display, answer->id) : NULL;

	if (!picture)
		return;
	end_picture(display, picture,
		answer->code > 0 || answer->code < -4095 ? -EBADMSG : answer->code);
	if (waits_for_pictures(display))
		set_patience(display);
}

static void on_display_message(void *opaque, uint32_t events)
{
	struct broker_display *display = opaque;
	struct display_answer answer;
	ssize_t got = read(display->control, &answer, sizeof(answer));

	(void)events;
	if (got == sizeof(answer))
		take_picture_answer(display, &answer);
	if (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)))
		return;
	/* It closes its socket at its end, which is still to come: on_display_gone(). */
	let_go(display);
	if (display->backend.pid > 0)
		kill(display->backend.pid, SIGKILL);
}

static int await_ready(struct broker_display *display, struct error *err)
{
	struct pollfd wait = { display->control, POLLIN, 0 };
	struct display_answer answer;
	char said[128];

	if (poll(&wait, 1, START_MS) <= 0)
		return error_set(err, -ETIMEDOUT, display->name,
			PROGRAM " has not started within %u seconds", START_MS / 1000);
	if (read(display->control, &answer, sizeof(answer)) > 0)
		return 0;
	broker_backend_read_log(&display->backend, said, sizeof(said));
	error_set(err, -EIO, display->backend.program, "has ended as soon as it was started%s%s",
		said[0] ? ": " : "", said);
	error_hint(err,
		"'ldd %s' tells whether a library is missing: libvncserver.so.1 is in Debian's "
		"libvncserver1",
		display->backend.program);
	return err->code;
}

int broker_display_start(struct broker_display *display, const struct broker_config *config,
	const struct host *host, struct error *err)
{
	if (!config->vnc.wanted)
		return 0;
	display->name = config->name;
	display->patience = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (display->patience < 0 ||
		loop_add(display->loop, display->patience, EPOLLIN, on_no_patience, display))
		return error_sys(err, -ENOMEM, NULL, "cannot keep the display's time");
	if ((display->port_fd < 0 && listen_at_path(display, config, host, err)) ||
		spawn_display(display, err) || await_ready(display, err))
		return err->code;
	log_info("%s: its display is shown by VNC at %s", config->name, display->address);
	return 0;
}

void broker_display_close(struct broker_display *display)
{
	int *const fds[] = { &display->port_fd, &display->shown_fd, &display->event_fd,
		&display->machine.memory_fd, &display->machine.event_fd };

	if (display->control >= 0)
		let_go(display);
	broker_backend_end(&display->backend, 0, END_MS);
	broker_backend_close(&display->backend);
	fail_pictures(display);
	if (display->patience >= 0) {
		loop_remove(display->loop, display->patience);
		close(take_fd(&display->patience));
	}
	free_vga_bios(display);
	control_close(&display->socket);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
}

static int open_picture_file(struct broker_picture *picture, const char *path, struct error *err)
{
	struct stat stat;

	if (lstat(path, &stat) == 0 && !S_ISREG(stat.st_mode))
		return error_set(err, -EINVAL, path, "cannot be written: it is no regular file");
	picture->path = strdup(path);
	if (!picture->path ||
		asprintf(&picture->file_path, "%s.%d-%u", path, getpid(), picture->id) < 0) {
		picture->file_path = NULL;
		return error_sys(err, -ENOMEM, path, "cannot be written");
	}
	picture->file = open(
		picture->file_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	return picture->file < 0 ? error_sys(err, -errno, path, "cannot be written") : 0;
}

static int send_file(const struct broker_display *display, uint32_t id, int file)
{
	struct display_request request = { id };
	const struct iovec bytes = { &request, sizeof(request) };

	return fd_send(display->control, &bytes, 1, &file, 1, 0) < 0 ? -errno : 0;
}

int broker_display_take(
	struct broker_display *display, uint32_t id, const char *path, struct error *err)
{
	struct broker_picture *place = find_picture(display, 0),
			      picture = { id, -1, -1, NULL, NULL };
	int code;

	if (display->machine.memory_fd < 0) {
		error_set(err, -ENODEV, NULL, "this machine has no display");
		error_hint(err, "'penstock run --display vnc' gives it one");
		return err->code;
	}
	if (display->control < 0 || !place)
		return error_set(err, -EAGAIN, NULL, "the display cannot take a picture now");
	if (open_picture_file(&picture, path, err) == 0) {
		picture.bytes = memfd_create("picture", MFD_CLOEXEC);
		code = picture.bytes < 0 ? -errno : send_file(display, id, picture.bytes);
		if (code)
			error_sys(err, code, NULL, "cannot ask the display for a picture");
	}
	if (err->code) {
		forget_picture(&picture, false);
		return err->code;
	}
	if (!waits_for_pictures(display))
		set_patience(display);
	*place = picture;
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/disk.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "base/text.h"
#include "virtio/virtio.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DAEMON    "qemu-storage-daemon"
#define ANSWER_MS 10000 /* for it to open the image and answer; it takes some 100 */
#define END_MS    30000 /* to write out what it has not written yet */

static int find_daemon(
	struct broker_disk *disk, const char *label, const char *option, struct error *err)
{
	snprintf(disk->backend.label, sizeof(disk->backend.label), "%s", label);
	/* In the first by Debian 13, in the second by Debian 12. */
	return broker_backend_find(
		&disk->backend, DAEMON, option, "qemu-utils qemu-system-common", err);
}

/* The kernel's older asynchronous I/O does not wait where there is neither a file system nor a page cache to wait for. */
static enum broker_disk_way way_without_ring(const struct broker_disk *disk)
{
	return disk->config->cache == BROKER_CACHE_NONE && disk->image.layers[0].is_block
		       ? BROKER_DISK_AIO
		       : BROKER_DISK_THREADS;
}

static enum broker_disk_way best_way(const struct broker_disk *disk)
{
	return sandbox_confines_rings() ? BROKER_DISK_RING : way_without_ring(disk);
}

int broker_disk_open(struct broker_disk *disk, const char *label,
	const struct broker_disk_config *config, unsigned cpus, const struct host *host,
	struct error *err)
{
	disk->config = config;
	disk->queues = config->queues ? config->queues : min_u64(cpus, VIRTIO_QUEUES_MAX);
	if (find_daemon(disk, label, "--disk", err))
		return err->code;
	if (broker_image_open(&disk->image, config, host, err) ||
		broker_image_lock(&disk->image, err))
		return err->code;
	disk->size = disk->image.layers[0].size;
	disk->way = best_way(disk);
	if (config->format == BROKER_FORMAT_ANY &&
		disk->image.layers[0].format == BROKER_FORMAT_RAW)
		log_info("%s: taken as a raw disk; ',format=raw' says so for good", config->path);
	return 0;
}

int broker_disk_take(
	struct broker_disk *disk, const char *label, const char *what, int fd, struct error *err)
{
	static const struct broker_disk_config config = {
		.path = "a file without a name",
		.format = BROKER_FORMAT_RAW,
		.readonly = true,
		.queues = 1,
	};

	disk->config = &config;
	disk->queues = config.queues;
	disk->image.layers[0] = (struct broker_layer){
		.path = strdup(what),
		.fd = fd,
		.format = BROKER_FORMAT_RAW,
	};
	disk->image.count = 1;
	disk->way = best_way(disk);
	return find_daemon(disk, label, what, err);
}

void broker_disk_close(struct broker_disk *disk)
{
	broker_image_close(&disk->image);
	broker_backend_close(&disk->backend);
}

/* The start */

#define VALUE_SIZE 256

struct arguments {
	char *argv[2 + 4 * IMAGE_LAYERS_MAX + 7];
	unsigned count;
	char text[2 * IMAGE_LAYERS_MAX + 3][VALUE_SIZE];
	unsigned texts;
};

/* Room for the value of an option. */
static char *add_daemon_option(struct arguments *arguments, char *option)
{
	char *text = arguments->text[arguments->texts++];

	arguments->argv[arguments->count++] = option;
	arguments->argv[arguments->count++] = text;
	return text;
}

/* The lowest is told that there is none below: its header, which may name another one by now, is not asked. */
static void add_format(struct arguments *arguments, const struct broker_disk *disk, unsigned i)
{
	const struct broker_layer *layer = &disk->image.layers[i];
	bool is_qcow2 = layer->format == BROKER_FORMAT_QCOW2;
	char backing[48] = "";

	if (i + 1 < disk->image.count)
		snprintf(backing, sizeof(backing), ",\"backing\":\"disk%u\"", i + 1);
	else if (is_qcow2)
		snprintf(backing, sizeof(backing), ",\"backing\":null");
	snprintf(add_daemon_option(arguments, "--blockdev"), VALUE_SIZE,
		"{\"driver\":\"%s\",\"node-name\":\"disk%u\",\"file\":\"file%u\","
		"\"read-only\":%s,\"auto-read-only\":false,\"discard\":\"unmap\","
		"\"cache\":{\"direct\":%s,\"no-flush\":%s}%s}",
		is_qcow2 ? "qcow2" : "raw", i, i, i || disk->config->readonly ? "true" : "false",
		disk->config->cache == BROKER_CACHE_NONE ? "true" : "false",
		disk->config->cache == BROKER_CACHE_UNSAFE ? "true" : "false", backing);
}

static const char *aio_of_layer(const struct broker_disk *disk, unsigned i)
{
	if (disk->way == BROKER_DISK_RING)
		return ",aio=io_uring";
	return disk->way == BROKER_DISK_AIO && i == 0 ? ",aio=native" : "";
}

/*
 * From the lowest layer up, each by the descriptor that it inherits, with our lock, and with a format: it guesses
 * nothing.
 */
static void add_layers(struct arguments *arguments, const struct broker_disk *disk)
{
	static const char *const caches[] = {
		[BROKER_CACHE_WRITEBACK] = "cache.direct=off,cache.no-flush=off",
		[BROKER_CACHE_NONE] = "cache.direct=on,cache.no-flush=off",
		[BROKER_CACHE_UNSAFE] = "cache.direct=off,cache.no-flush=on",
	};
	const char *cache = caches[disk->config->cache];

	for (unsigned i = disk->image.count; i-- > 0;) {
		const struct broker_layer *layer = &disk->image.layers[i];
		const char *access = i || disk->config->readonly ? "on" : "off";

		snprintf(add_daemon_option(arguments, "--blockdev"), VALUE_SIZE,
			"driver=%s,node-name=file%u,filename=/proc/self/fd/%d,locking=off,"
			"read-only=%s,auto-read-only=off,discard=unmap,%s%s",
			layer->is_block ? "host_device" : "file", i, layer->fd, access, cache,
			aio_of_layer(disk, i));
		add_format(arguments, disk, i);
	}
}

static int start_daemon(struct broker_disk *disk, int listening, int monitor, struct error *err)
{
	cleanup_free struct arguments *arguments = calloc(1, sizeof(*arguments));
	struct sandbox_file files[IMAGE_LAYERS_MAX];
	int fds[IMAGE_LAYERS_MAX + 2];
	unsigned count = disk->image.count;

	if (!arguments)
		return error_set(err, -ENOMEM, NULL, "cannot start " DAEMON);
	arguments->argv[arguments->count++] = DAEMON;
	snprintf(add_daemon_option(arguments, "--chardev"), VALUE_SIZE, "socket,id=monitor,fd=%d",
		monitor);
	snprintf(add_daemon_option(arguments, "--monitor"), VALUE_SIZE, "monitor");
	add_layers(arguments, disk);
	snprintf(add_daemon_option(arguments, "--export"), VALUE_SIZE,
		"type=vhost-user-blk,id=export,node-name=disk0,addr.type=fd,addr.str=%d,writable=%s,"
		"num-queues=%u",
		listening, disk->config->readonly ? "off" : "on", disk->queues);
	for (unsigned i = 0; i < count; i++) {
		fds[i] = disk->image.layers[i].fd;
		files[i] = (struct sandbox_file){ fds[i], i == 0 && !disk->config->readonly };
	}
	fds[count] = listening;
	fds[count + 1] = monitor;
	return broker_backend_start(&disk->backend,
		&(struct broker_backend_start){
			.argv = arguments->argv,
			.fds = fds,
			.fd_count = count + 2,
			.death_signal = SIGTERM,
			.sandbox = {
				.directory = -1,
				.files = files,
				.file_count = count,
				.has_ring = disk->way == BROKER_DISK_RING,
			},
		},
		err);
}

/* What it says is "qemu-storage-daemon: --blockdev driver=...: reason". */
static int explain_end(const struct broker_disk *disk, struct error *err)
{
	const char *path = disk->config->path, *reason;
	char said[512];

	broker_backend_read_log(&disk->backend, said, sizeof(said));
	reason = strstr(said, ": --") ? strstr(strstr(said, ": --") + 2, ": ") : NULL;
	reason = reason ? reason + 2 : said;
	error_set(err, -EIO, path, DAEMON " has ended as soon as it was started%s%s",
		said[0] ? ": " : "", reason);
	error_hint(err, "'qemu-img check %s' tells if the image is damaged", path);
	return err->code;
}

/* It answers when all is open. */
static int await_answer(struct broker_disk *disk, struct error *err)
{
	int code = broker_backend_await(disk->machine_fd, ANSWER_MS);

	if (!code)
		return 0;
	if (code == -EPIPE)
		return explain_end(disk, err);
	error_set(err, code, disk->config->path, DAEMON " has not answered within %u seconds",
		ANSWER_MS / 1000);
	error_hint(err, "the disk that this is on may hang: 'dmesg | tail' may tell");
	return err->code;
}

static int start_and_await(struct broker_disk *disk, struct error *err)
{
	cleanup_fd int listening = -1, monitor = -1;

	if (broker_backend_make_sockets(&listening, &disk->machine_fd, err) == 0 &&
		broker_qmp_open(&disk->qmp, &monitor, err) == 0 &&
		start_daemon(disk, listening, monitor, err) == 0) {
		/* Where it ends, the connections do, too. */
		close(take_fd(&listening));
		close(take_fd(&monitor));
		await_answer(disk, err);
	}
	if (err->code)
		broker_disk_end(disk);
	return err->code;
}

int broker_disk_start(struct broker_disk *disk, struct error *err)
{
	if (disk->backend.pid)
		return 0;
	/*
	 * A ring may be forbidden for the whole host (kernel.io_uring_disabled), or be nothing that the daemon was built
	 * for; of the older way all may be in use that there is (fs.aio-max-nr).
	 */
	while (start_and_await(disk, err) == -EIO && disk->way != BROKER_DISK_THREADS) {
		bool had_ring = disk->way == BROKER_DISK_RING;

		disk->way = had_ring ? way_without_ring(disk) : BROKER_DISK_THREADS;
		log_info("%s: without %s: %s", disk->config->path,
			had_ring ? "io_uring" : "the kernel's asynchronous I/O, by threads",
			err->what);
		*err = (struct error){ 0 };
	}
	return err->code;
}

/* While it runs, and the end */

void broker_disk_handed_over(struct broker_disk *disk, struct loop *loop)
{
	broker_backend_handed_over(&disk->backend, &disk->machine_fd, loop);
}

/* In the object's place what the monitor calls the disk: that is what who asked has called it. */
static void on_order_done(void *opaque, const struct error *why)
{
	struct broker_disk *disk = opaque;
	struct error told = { 0 };

	if (why->code == -EIO) {
		disk->size = disk->size_before;
		error_set(&told, -EIO, disk->backend.label, "%s", why->what);
	} else if (why->code) {
		error_set(&told, why->code, disk->backend.label, DAEMON " %s%s", why->what,
			why->code == -ETIMEDOUT ? ", and may yet do it" : "");
	}
	text_make_printable(told.what);
	disk->order.done(disk->order.opaque, disk, disk->order.request, &told);
}

static int order_daemon(struct broker_disk *disk, const char *command, json_object *arguments,
	const struct broker_disk_order *order, struct loop *loop, struct error *err)
{
	struct error why = { 0 };

	if (broker_qmp_ask(&disk->qmp, loop, command, arguments, on_order_done, disk, &why))
		return error_set(err, why.code, disk->backend.label, DAEMON " %s", why.what);
	disk->order = *order;
	disk->size_before = disk->size;
	return 0;
}

static int check_writable(const struct broker_disk *disk, struct error *err)
{
	if (!disk->config->readonly)
		return 0;
	return error_set(err, -EROFS, disk->backend.label, "the machine has it to read alone");
}

/* Of a raw disk somebody else may have made more since, of which the guest has heard when it started anew. */
static int look_at_size(struct broker_disk *disk, struct error *err)
{
	struct broker_layer *layer = &disk->image.layers[0];

	if (layer->format == BROKER_FORMAT_RAW && broker_layer_find_size(layer, err) == 0)
		disk->size = max_u64(disk->size, layer->size);
	return err->code;
}

int broker_disk_resize(struct broker_disk *disk, uint64_t size,
	const struct broker_disk_order *order, struct loop *loop, struct error *err)
{
	json_object *arguments;
	char is[24], wanted[24];

	size = align_up(size, IMAGE_SECTOR);
	if (check_writable(disk, err) || look_at_size(disk, err))
		return err->code;
	if (disk->image.layers[0].is_block && size > disk->image.layers[0].size)
		return broker_layer_refuse_size(&disk->image.layers[0], disk->backend.label, err);
	if (size < disk->size) {
		error_set(err, -EINVAL, disk->backend.label,
			"it has %s, and does not become as small as %s while the guest has it",
			size_format(disk->size, is), size_format(size, wanted));
		error_hint(err,
			"make the guest's file systems and partitions smaller, stop the machine, "
			"then: penstock disk resize --shrink");
		return err->code;
	}
	arguments = json_object_new_object();
	json_object_object_add(arguments, "node-name", json_object_new_string("disk0"));
	json_object_object_add(arguments, "size", json_object_new_int64(size));
	if (order_daemon(disk, "block_resize", arguments, order, loop, err))
		return err->code;
	disk->size = size;
	return 0;
}

int broker_disk_snapshot(struct broker_disk *disk, const char *name, bool make,
	const struct broker_disk_order *order, struct loop *loop, struct error *err)
{
	json_object *arguments;

	if (check_writable(disk, err))
		return err->code;
	arguments = json_object_new_object();
	json_object_object_add(arguments, "device", json_object_new_string("disk0"));
	json_object_object_add(arguments, "name", json_object_new_string(name));
	return order_daemon(disk,
		make ? "blockdev-snapshot-internal-sync" : "blockdev-snapshot-delete-internal-sync",
		arguments, order, loop, err);
}

void broker_disk_ask_to_end(struct broker_disk *disk)
{
	broker_qmp_close(&disk->qmp);
	if (disk->machine_fd >= 0)
		close(take_fd(&disk->machine_fd));
	broker_backend_ask_to_end(&disk->backend, SIGTERM);
}

void broker_disk_end(struct broker_disk *disk)
{
	broker_disk_ask_to_end(disk);
	broker_backend_end(&disk->backend, 0, END_MS);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/image.h"

#include "base/fd.h"
#include "base/size.h"
#include "broker/backend.h"
#include "control/member.h"
#include "host/use/use.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <linux/fs.h>

#define ANSWER_MS  10000     /* for qemu-img to tell what an image is */
#define ANSWER_MAX (4 * MIB) /* bytes of that */

static const char *const format_names[] = {
	[BROKER_FORMAT_ANY] = "",
	[BROKER_FORMAT_RAW] = "raw",
	[BROKER_FORMAT_QCOW2] = "qcow2",
};

/* In a command to type: a header's name is its writer's choice, and a shell may take it for more than a name. */
static const char *name_to_type(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "._/+,:@-";

	return path[0] != '-' && path[strspn(path, plain)] == '\0' ? path : "IMAGE";
}

/* One file */

static int refuse_open(const struct broker_image *image, const char *path, bool writable,
	const char *base, int code, struct error *err)
{
	if (base) {
		error_sys(err, code, base, "it is based on %s, which cannot be opened", path);
		error_hint(err,
			"put that file back, or tell the image where it is: qemu-img rebase -u -F "
			"FORMAT -b FILE %s",
			name_to_type(base));
	} else if (code == -ENOENT) {
		error_sys(err, code, path, "cannot open the disk");
		error_hint(err, "make one: penstock disk create %s 20G", path);
	} else if (code == -EISDIR) {
		error_set(err, code, path, "this is a directory, and no disk");
	} else {
		error_sys(err, code, path, "cannot open the disk%s",
			writable ? " to write to it" : "");
		if (code == -EACCES || code == -EROFS)
			error_hint(err, "ls -l %s shows whose it is%s", path,
				writable && !image->at_work ? "; ',readonly' needs less" : "");
	}
	return code;
}

/* By O_PATH: nothing has been done to a device that is none. */
static int look_at_layer(struct broker_layer *layer, struct error *err)
{
	struct stat stat;

	if (fstat(layer->fd, &stat) < 0)
		return error_sys(err, -errno, layer->path, "cannot be looked at");
	if (S_ISDIR(stat.st_mode))
		return error_set(err, -EISDIR, layer->path, "this is a directory, and no disk");
	layer->is_block = S_ISBLK(stat.st_mode);
	layer->dev = layer->is_block ? stat.st_rdev : stat.st_dev;
	layer->ino = layer->is_block ? 0 : stat.st_ino;
	return layer->is_block || S_ISREG(stat.st_mode)
		       ? 0
		       : error_set(err, -EINVAL, layer->path,
				 "this is neither a file nor a block device");
}

static size_t directory_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 - path : 0;
}

/* By its name; and whoever owns the image can have made that name one for a file of others, by a link. */
static bool is_beside(const struct broker_layer *layer, const struct broker_layer *top)
{
	size_t length = directory_length(top->path);
	struct stat named, base, image;

	return directory_length(layer->path) == length &&
	       strncmp(layer->path, top->path, length) == 0 && lstat(layer->path, &named) == 0 &&
	       fstat(layer->fd, &base) == 0 && named.st_dev == base.st_dev &&
	       named.st_ino == base.st_ino && fstat(top->fd, &image) == 0 &&
	       base.st_uid == image.st_uid;
}

/*
 * An image comes from somewhere, or has been written to by its daemon, and root can open whatever its header names: as
 * root's it is what anybody may read, or what is beside the image and of the same owner.
 */
static int check_base(const struct broker_image *image, struct error *err)
{
	const struct broker_layer *top = &image->layers[0],
				  *layer = &image->layers[image->count - 1];
	struct stat stat;

	if (layer->is_block)
		return error_set(err, -EINVAL, layer[-1].path,
			"it is based on %s, and a header leads to no block device", layer->path);
	if (geteuid() != 0 || is_beside(layer, top) || fstat(layer->fd, &stat) < 0 ||
		stat.st_mode & S_IROTH)
		return 0;
	error_set(err, -EPERM, layer[-1].path,
		"it is based on %s, which not everybody may read, and which is not beside it, "
		"of the same owner",
		layer->path);
	error_hint(err, "if that is as it should be, chmod o+r lets everybody read that file");
	return err->code;
}

/* The same file, whatever its path leads to by now. Or a negative errno. */
static int reopen(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return again < 0 ? -errno : again;
}

static int open_in_place(struct broker_layer *layer, bool writable)
{
	int fd = reopen(layer->fd, writable ? O_RDWR : O_RDONLY);

	if (fd < 0)
		return fd;
	close(layer->fd);
	layer->fd = fd;
	return 0;
}

int broker_layer_find_size(struct broker_layer *layer, struct error *err)
{
	struct stat stat;

	if (!layer->is_block && fstat(layer->fd, &stat) == 0)
		layer->size = align_up(stat.st_size, IMAGE_SECTOR);
	else if (ioctl(layer->fd, BLKGETSIZE64, &layer->size) < 0)
		return error_sys(err, -errno, layer->path, "does not tell its size");
	return layer->size ? 0 : error_set(err, -EINVAL, layer->path, "is empty");
}

int broker_layer_refuse_size(
	const struct broker_layer *layer, const char *object, struct error *err)
{
	error_set(err, -EINVAL, object, "a block device is as large as it was made");
	error_hint(err, "a logical volume: lvextend -L SIZE %s", name_to_type(layer->path));
	return err->code;
}

/* Nothing of the host's must use it as well; and no process comes to, as long as it is open so. */
static int claim_block(const struct broker_image *image, struct broker_layer *layer,
	const struct host *host, struct error *err)
{
	struct host_use use = { 0 };
	int fd;

	if (host_use_find_block(host, layer->dev, &use)) {
		error_set(err, -EBUSY, layer->path, "the host uses it: %s", use.reason);
		error_hint(err, "%s", use.hint);
		return err->code;
	}
	fd = reopen(layer->fd, O_RDWR | O_EXCL);
	if (fd == -EBUSY) {
		error_set(err, -EBUSY, layer->path, "another program has it for itself alone");
		error_hint(err, "'lsblk %s' shows what builds on it", layer->path);
		return err->code;
	}
	if (fd < 0)
		return refuse_open(image, layer->path, true, NULL, fd, err);
	close(layer->fd);
	layer->fd = fd;
	return 0;
}

/* Root could, and what is protected so is what others are based on. */
static int check_protection(
	const struct broker_image *image, const struct broker_layer *layer, struct error *err)
{
	struct stat stat;

	if (layer->is_block || fstat(layer->fd, &stat) < 0 || stat.st_mode & 0222)
		return 0;
	error_set(
		err, -EACCES, layer->path, "it is write-protected, as what clones are based on is");
	error_hint(err,
		"clone it: penstock disk clone %s NEW.qcow2;%s or, if nothing is based on it: chmod "
		"u+w %s",
		layer->path, image->at_work ? "" : " or take it ',readonly';", layer->path);
	return err->code;
}

static int open_layer(struct broker_image *image, const char *path, bool writable,
	const struct host *host, struct error *err)
{
	struct broker_layer *layer = &image->layers[image->count];
	const char *base = image->count ? layer[-1].path : NULL;
	int code;

	if (image->count == IMAGE_LAYERS_MAX)
		return error_set(err, -ELOOP, image->layers[0].path,
			"is based on more than %d files", IMAGE_LAYERS_MAX - 1);
	*layer = (struct broker_layer){ .path = strdup(path) };
	layer->fd = open(path, O_PATH | O_CLOEXEC);
	if (layer->fd < 0 || !layer->path) {
		refuse_open(image, path, writable, base, -errno, err);
		free(layer->path);
		return err->code;
	}
	image->count++;
	if (look_at_layer(layer, err) || (base && check_base(image, err)) ||
		(writable && check_protection(image, layer, err)))
		return err->code;
	code = open_in_place(layer, writable);
	if (code)
		return refuse_open(image, path, writable, base, code, err);
	if (broker_layer_find_size(layer, err))
		return err->code;
	for (unsigned i = 0; i + 1 < image->count; i++)
		if (image->layers[i].dev == layer->dev && image->layers[i].ino == layer->ino)
			return error_set(
				err, -ELOOP, base, "it is based on %s, and so on itself", path);
	return layer->is_block && writable ? claim_block(image, layer, host, err) : 0;
}

/* What qemu-img says of it */

static int run_qemu_img(const struct broker_layer *layer, enum broker_format format, int out,
	char said[static 128], struct error *err)
{
	struct broker_backend qemu_img = BROKER_BACKEND_NONE;
	struct sandbox_file file = { layer->fd, false };
	const char *probed = format == BROKER_FORMAT_ANY ? NULL : "-f";
	char path[32];
	char *argv[] = { "qemu-img", "info", "-U", "--output=json", path, (char *)probed,
		(char *)format_names[format], NULL };

	snprintf(path, sizeof(path), "/proc/self/fd/%d", layer->fd);
	if (broker_backend_find(&qemu_img, "qemu-img", "a disk's image", "qemu-utils", err) == 0 &&
		broker_backend_start(&qemu_img,
			&(struct broker_backend_start){
				.argv = argv,
				.fds = &layer->fd,
				.fd_count = 1,
				.out = out,
				.sandbox = { .directory = -1, .files = &file, .file_count = 1 },
				.file_max = ANSWER_MAX,
				.memory_max = IMAGE_MEMORY_MAX,
			},
			err) == 0)
		broker_backend_end(&qemu_img, 0, ANSWER_MS);
	if (!err->code)
		broker_backend_read_log(&qemu_img, said, 128);
	broker_backend_close(&qemu_img);
	return err->code;
}

/* After "qemu-img: Could not open '/proc/self/fd/9': " */
static const char *reason_of(const char *said)
{
	const char *after = strstr(said, "': ");

	return after ? after + 3 : said[0] ? said : "qemu-img tells nothing";
}

json_object *broker_image_ask(
	const struct broker_layer *layer, enum broker_format format, struct error *err)
{
	cleanup_fd int out = memfd_create("qemu-img", MFD_CLOEXEC);
	cleanup_free char *answer = calloc(1, ANSWER_MAX + 1);
	json_object *info = NULL;
	char said[128] = "";

	if (out < 0 || !answer) {
		error_set(err, -ENOMEM, layer->path, "cannot be looked at");
		return NULL;
	}
	if (run_qemu_img(layer, format, out, said, err))
		return NULL;
	if (pread(out, answer, ANSWER_MAX, 0) > 0)
		info = json_tokener_parse(answer);
	if (info && json_object_is_type(info, json_type_object))
		return info;
	json_object_put(info);
	error_set(err, -EINVAL, layer->path, "this is no %s image: %s",
		format == BROKER_FORMAT_ANY ? "good" : format_names[format], reason_of(said));
	error_hint(err, "'qemu-img check %s' may tell more; put a backup in its place",
		name_to_type(layer->path));
	return NULL;
}

static bool ends_in(const char *path, const char *end)
{
	size_t length = strlen(path), end_length = strlen(end);

	return length > end_length && strcmp(path + length - end_length, end) == 0;
}

enum broker_format broker_image_format(const struct broker_disk_config *config)
{
	if (config->format != BROKER_FORMAT_ANY)
		return config->format;
	return ends_in(config->path, ".qcow2") ? BROKER_FORMAT_QCOW2 : BROKER_FORMAT_RAW;
}

/*
 * Whoever writes a raw disk, a guest, can make it look like any format, whose header then names files of the host's.
 * So a format that was not said is taken where name and bytes agree.
 */
static int settle_format(struct broker_layer *layer, const char *found, struct error *err)
{
	bool named_qcow2 = ends_in(layer->path, ".qcow2");

	if (strcmp(found, "raw") == 0 && !named_qcow2) {
		layer->format = BROKER_FORMAT_RAW;
		return 0;
	}
	if (strcmp(found, "qcow2") == 0 && named_qcow2 && !layer->is_block) {
		layer->format = BROKER_FORMAT_QCOW2;
		return 0;
	}
	if (strcmp(found, "qcow2") == 0) {
		error_set(err, -EINVAL, layer->path,
			"it begins as a qcow2 image does, and its name does not end in .qcow2");
		error_hint(err,
			"say which it is: ',format=qcow2' if you have made it so; ',format=raw' if "
			"a guest may have written that");
	} else if (strcmp(found, "raw") == 0) {
		error_set(err, -EINVAL, layer->path, "this is no qcow2 image, as its name says");
		error_hint(
			err, "put a backup in its place; ',format=raw' takes its bytes as a disk");
	} else {
		error_set(err, -EINVAL, layer->path, "it is a %.20s image, which is not served",
			found);
		error_hint(err, "convert it: qemu-img convert -O qcow2 %s NEW.qcow2", layer->path);
	}
	return err->code;
}

static int check_qcow2(const struct broker_layer *layer, json_object *info, struct error *err)
{
	json_object *data =
		json_object_object_get(json_object_object_get(info, "format-specific"), "data");

	if (json_object_get_boolean(json_object_object_get(data, "corrupt"))) {
		error_set(err, -EUCLEAN, layer->path, "the image is marked as corrupt");
		error_hint(err, "make a copy, then repair it: qemu-img check -r all %s",
			name_to_type(layer->path));
	} else if (json_object_object_get(data, "data-file")) {
		error_set(err, -EINVAL, layer->path,
			"its data is in another file, which is not served");
		error_hint(err, "convert it: qemu-img convert -O qcow2 %s NEW.qcow2",
			name_to_type(layer->path));
	} else if (json_object_get_boolean(json_object_object_get(info, "encrypted"))) {
		error_set(err, -EINVAL, layer->path, "it is encrypted, which is not served");
		error_hint(err, "let the guest encrypt what it keeps there");
	}
	return err->code;
}

/* Below */

static int next_path(const struct broker_layer *layer, const char *name, char path[static PATH_MAX],
	struct error *err)
{
	const char *slash = strrchr(layer->path, '/');
	size_t before = name[0] == '/' || !slash ? 0 : slash + 1 - layer->path;

	if (name[strcspn(name, ":/")] == ':') {
		error_set(
			err, -EINVAL, layer->path, "it is based on %.60s, which is no file", name);
		return err->code;
	}
	if (snprintf(path, PATH_MAX, "%.*s%s", (int)before, layer->path, name) >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, layer->path, "it is based on a name too long");
	return 0;
}

/* 1: there is another layer, whose name and format are as this one's header says. */
static int find_next(const struct broker_layer *layer, json_object *info,
	char path[static PATH_MAX], enum broker_format *format, struct error *err)
{
	const char *name = member_text(info, "backing-filename", "");
	const char *said = member_text(info, "backing-filename-format", "");

	if (!name[0])
		return 0;
	if (next_path(layer, name, path, err))
		return err->code;
	*format = strcmp(said, "raw") == 0     ? BROKER_FORMAT_RAW
		  : strcmp(said, "qcow2") == 0 ? BROKER_FORMAT_QCOW2
					       : BROKER_FORMAT_ANY;
	if (*format != BROKER_FORMAT_ANY)
		return 1;
	error_set(err, -EINVAL, layer->path, "it does not say of which format %.200s is%s", path,
		said[0] ? " that is served" : "");
	error_hint(
		err, "tell it: qemu-img rebase -u -F FORMAT -b FILE %s", name_to_type(layer->path));
	return err->code;
}

/* 1: there is another one below. */
static int look_into(struct broker_layer *layer, enum broker_format *format,
	char next[static PATH_MAX], struct error *err)
{
	json_object *info;
	int more = 0;

	layer->format = *format;
	if (*format == BROKER_FORMAT_RAW)
		return 0;
	info = broker_image_ask(layer, *format, err);
	if (!info)
		return err->code;
	if (*format == BROKER_FORMAT_ANY)
		settle_format(layer, member_text(info, "format", ""), err);
	if (!err->code && layer->format == BROKER_FORMAT_QCOW2 &&
		check_qcow2(layer, info, err) == 0) {
		layer->size = member_number(info, "virtual-size");
		more = find_next(layer, info, next, format, err);
	}
	json_object_put(info);
	return err->code ? err->code : more;
}

int broker_image_open(struct broker_image *image, const struct broker_disk_config *config,
	const struct host *host, struct error *err)
{
	enum broker_format format = config->format;
	bool writable = !config->readonly;
	char path[PATH_MAX];
	int more = 1;

	snprintf(path, sizeof(path), "%s", config->path);
	while (more > 0) {
		if (open_layer(image, path, writable, host, err))
			return err->code;
		more = look_into(&image->layers[image->count - 1], &format, path, err);
		writable = false;
	}
	return err->code;
}

/* Locks */

static int refuse_in_use(
	const struct broker_image *image, const struct broker_layer *layer, struct error *err)
{
	const char *name = name_to_type(layer->path);

	error_set(err, -EBUSY, layer->path, "another program has this disk in use");
	if (image->at_work)
		error_hint(err, "'fuser -v %s' shows which", name);
	else
		error_hint(err,
			"each machine needs a disk of its own: penstock disk clone %s NEW.qcow2, "
			"while none runs; or let all have it ',readonly'",
			name);
	return err->code;
}

/*
 * QEMU's programs lock a byte for each thing that they do with an image, and one for each that they let nobody else do
 * (block/file-posix.c), and look whether anybody has the other one of these. All are read locks.
 */
enum { DOES = 100, FORBIDS = 200 };
enum { READ, WRITE, RESIZE = 3 };

static int lock_byte(const struct broker_layer *layer, off_t byte)
{
	struct flock lock = { .l_type = F_RDLCK, .l_start = byte, .l_len = 1 };

	return fcntl(layer->fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static bool is_locked_by_others(const struct broker_layer *layer, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = byte, .l_len = 1 };

	return fcntl(layer->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/*
 * The locks are of this open file, which the daemon has as well: they last until it has written all, even where the
 * broker is killed. It locks nothing itself, and would leave a raw disk to every other writer, as qemu-img would. Where
 * a file system has no locks, nothing is refused.
 */
static int lock_layer(const struct broker_image *image, const struct broker_layer *layer,
	bool writable, struct error *err)
{
	static const off_t deeds[] = { READ, WRITE, RESIZE };
	int code = 0;

	for (size_t i = 0; i < ARRAY_SIZE(deeds) && !code; i++) {
		if (deeds[i] == READ || writable)
			code = lock_byte(layer, DOES + deeds[i]);
		if (deeds[i] != READ && !code)
			code = lock_byte(layer, FORBIDS + deeds[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(deeds) && !code; i++)
		if (((deeds[i] == READ || writable) &&
			    is_locked_by_others(layer, FORBIDS + deeds[i])) ||
			(deeds[i] != READ && is_locked_by_others(layer, DOES + deeds[i])))
			return refuse_in_use(image, layer, err);
	return code == -EAGAIN || code == -EACCES ? refuse_in_use(image, layer, err) : 0;
}

int broker_image_lock(const struct broker_image *image, struct error *err)
{
	for (unsigned i = 0; i < image->count && !err->code; i++) {
		const struct broker_layer *layer = &image->layers[i];
		int mode = fcntl(layer->fd, F_GETFL) & O_ACCMODE;

		/* A clone may have been made of it since it was opened. */
		if (lock_layer(image, layer, mode == O_RDWR, err) == 0 && mode == O_RDWR)
			check_protection(image, layer, err);
	}
	return err->code;
}

void broker_image_close(struct broker_image *image)
{
	for (unsigned i = 0; i < image->count; i++) {
		free(image->layers[i].path);
		close(image->layers[i].fd);
	}
	image->count = 0;
}

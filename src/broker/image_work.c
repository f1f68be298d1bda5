/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/image_work.h"

#include "base/fd.h"
#include "base/size.h"
#include "broker/backend.h"
#include "control/member.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WORDS_MAX 12
#define NEW_MODE  0600 /* what a guest has on its disk is its user's */

/* qemu-img, with the files of an image */

struct image_work {
	const struct broker_image *image; /* NULL: none */
	bool writes;                      /* to the image */
	int target;                       /* a new file; -1: none */
	const char *object, *doing;       /* of what is said where it fails */
	bool progress;
};

/* Each layer by its descriptor, with our lock, and with its format: nothing is guessed, no name in a header is followed. */
static json_object *describe_layer(const struct broker_image *image, unsigned i)
{
	const struct broker_layer *layer = &image->layers[i];
	json_object *node = json_object_new_object(), *file = json_object_new_object();
	bool is_qcow2 = layer->format == BROKER_FORMAT_QCOW2;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", layer->fd);
	json_object_object_add(
		file, "driver", json_object_new_string(layer->is_block ? "host_device" : "file"));
	json_object_object_add(file, "filename", json_object_new_string(path));
	json_object_object_add(file, "locking", json_object_new_string("off"));
	json_object_object_add(node, "driver", json_object_new_string(is_qcow2 ? "qcow2" : "raw"));
	json_object_object_add(node, "file", file);
	if (is_qcow2)
		json_object_object_add(node, "backing",
			i + 1 < image->count ? describe_layer(image, i + 1) : NULL);
	return node;
}

/* As qemu-img takes it in place of a file's name; the caller's. */
static char *name_image(const struct broker_image *image)
{
	json_object *node = describe_layer(image, 0);
	char *name = NULL;

	if (asprintf(&name, "json:%s",
		    json_object_to_json_string_ext(node, JSON_C_TO_STRING_PLAIN)) < 0)
		name = NULL;
	json_object_put(node);
	return name;
}

/* After "qemu-img: Could not open '...': " or "qemu-img: /proc/self/fd/9: ". */
static const char *skip_prefix(const char *said)
{
	static const char start[] = "qemu-img: ", file[] = "/proc/self/fd/";
	const char *quoted = strstr(said, "': ");

	if (quoted)
		return quoted + 3;
	if (strncmp(said, start, strlen(start)) == 0)
		said += strlen(start);
	if (strncmp(said, file, strlen(file)) == 0 && strstr(said, ": "))
		said = strstr(said, ": ") + 2;
	return said;
}

static int explain_failure(
	const struct image_work *work, const struct broker_backend *qemu_img, struct error *err)
{
	char said[1024];

	broker_backend_read_log(qemu_img, said, sizeof(said));
	if (WIFSIGNALED(qemu_img->status)) {
		error_set(err, -EIO, work->object, "%s: qemu-img was killed by signal %d",
			work->doing, WTERMSIG(qemu_img->status));
	} else {
		error_set(err, -EIO, work->object, "%s: %s", work->doing,
			said[0] ? skip_prefix(said) : "qemu-img does not say why");
		if (strstr(said, "No space left"))
			error_hint(err, "'df -h' shows where there is room");
	}
	return err->code;
}

static int run_work(const struct image_work *work, char *const *words, struct error *err)
{
	struct broker_backend qemu_img = BROKER_BACKEND_NONE;
	struct sandbox_file files[IMAGE_LAYERS_MAX + 1];
	int fds[IMAGE_LAYERS_MAX + 1];
	unsigned count = 0;

	for (unsigned i = 0; work->image && i < work->image->count; i++)
		files[count++] =
			(struct sandbox_file){ work->image->layers[i].fd, i == 0 && work->writes };
	if (work->target >= 0)
		files[count++] = (struct sandbox_file){ work->target, true };
	for (unsigned i = 0; i < count; i++)
		fds[i] = files[i].fd;
	if (broker_backend_find(&qemu_img, "qemu-img", IMAGE_WORK_USER, "qemu-utils", err) == 0 &&
		broker_backend_start(&qemu_img,
			&(struct broker_backend_start){
				.argv = words,
				.fds = fds,
				.fd_count = count,
				.out = work->progress ? STDERR_FILENO : 0,
				.sandbox = { .directory = -1, .files = files, .file_count = count },
				.memory_max = IMAGE_MEMORY_MAX,
			},
			err) == 0) {
		broker_backend_end(&qemu_img, 0, UINT_MAX); /* as long as it takes */
		if (qemu_img.status)
			explain_failure(work, &qemu_img, err);
	}
	broker_backend_close(&qemu_img);
	return err->code;
}

/* New files */

struct new_file {
	const char *path;
	int fd;
	bool has_name; /* the one that it is to have */
	char hidden
		[PATH_MAX]; /* which it has until then, where its file system makes none without a name; "" */
	char name[32]; /* for qemu-img */
};

static int refuse_existing(const char *path, struct error *err)
{
	error_set(err, -EEXIST, path, "there is such a file already, which is not overwritten");
	error_hint(err, "choose another name");
	return err->code;
}

static void name_directory(const char *path, char directory[static PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(directory, PATH_MAX, "%.*s", slash ? (int)(slash + 1 - path) : 1,
		slash ? path : ".");
}

/*
 * Without a name, so that nothing is left of it where this is killed. NFS, FAT and FUSE make none such: there it has a
 * hidden one, which is left then; half an image never has the name that was asked for.
 */
static int open_new_image(struct new_file *file)
{
	char directory[PATH_MAX];

	name_directory(file->path, directory);
	file->fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, NEW_MODE);
	if (file->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return file->fd;
	if (snprintf(file->hidden, PATH_MAX, "%s/.penstock-XXXXXX", directory) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	file->fd = mkostemp(file->hidden, O_CLOEXEC);
	return file->fd;
}

static int begin_file(struct new_file *file, const char *path, struct error *err)
{
	struct stat stat;

	*file = (struct new_file){ .path = path, .fd = -1 };
	if (lstat(path, &stat) == 0)
		return refuse_existing(path, err);
	if (open_new_image(file) < 0)
		return error_sys(err, -errno, path, "cannot be made");
	snprintf(file->name, sizeof(file->name), "/proc/self/fd/%d", file->fd);
	return 0;
}

/* Never in the place of another. Not all file systems know of links. */
static int give_name(const struct new_file *file)
{
	if (linkat(AT_FDCWD, file->name, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno == EEXIST || !file->hidden[0])
		return -1;
	return renameat2(AT_FDCWD, file->hidden, AT_FDCWD, file->path, RENAME_NOREPLACE);
}

static int name_file(struct new_file *file, struct error *err)
{
	if (fsync(file->fd) < 0)
		return error_sys(err, -errno, file->path, "cannot be written");
	file->has_name = give_name(file) == 0;
	if (file->has_name)
		return 0;
	return errno == EEXIST ? refuse_existing(file->path, err)
			       : error_sys(err, -errno, file->path, "cannot be made");
}

/* Somebody may have put another one in its place. */
static void remove_name(const struct new_file *file, const char *path)
{
	struct stat named, ours;

	if (lstat(path, &named) == 0 && fstat(file->fd, &ours) == 0 &&
		named.st_dev == ours.st_dev && named.st_ino == ours.st_ino)
		unlink(path);
}

/* It gets its name where there has been no error, else it is gone. */
static int end_file(struct new_file *file, struct error *err)
{
	if (file->fd < 0)
		return err->code;
	if (!err->code && !file->has_name)
		name_file(file, err);
	if (file->hidden[0])
		remove_name(file, file->hidden);
	if (err->code && file->has_name)
		remove_name(file, file->path);
	close(take_fd(&file->fd));
	return err->code;
}

static char *format_word(enum broker_format format)
{
	return format == BROKER_FORMAT_QCOW2 ? "qcow2" : "raw";
}

static int make_image(const struct new_file *file, char *const *words, struct error *err)
{
	return run_work(
		&(struct image_work){
			.target = file->fd,
			.object = file->path,
			.doing = "cannot be made",
		},
		words, err);
}

int broker_image_create(const struct broker_disk_config *config, uint64_t size, struct error *err)
{
	struct new_file file;
	char bytes[32];

	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)align_up(size, IMAGE_SECTOR));
	if (begin_file(&file, config->path, err) == 0)
		make_image(&file,
			(char *[]){ "qemu-img", "create", "-q", "-f",
				format_word(broker_image_format(config)), file.name, bytes, NULL },
			err);
	return end_file(&file, err);
}

/* What is based on others */

/*
 * How the clone's header tells where its base is: by its name alone where they are in one directory, which can be moved
 * then. With a colon qemu-img would take it for a protocol.
 */
static int name_base(
	const char *base, const char *clone, char name[static PATH_MAX], struct error *err)
{
	char directory[PATH_MAX], of_base[PATH_MAX], of_clone[PATH_MAX];
	const char *slash = strrchr(base, '/'), *last = slash ? slash + 1 : base;

	name_directory(clone, directory);
	if (!realpath(directory, of_clone))
		return error_sys(err, -errno, clone, "cannot be made");
	name_directory(base, directory);
	if (realpath(directory, of_base) && strcmp(of_base, of_clone) == 0 && !strchr(last, ':'))
		snprintf(name, PATH_MAX, "%s", last);
	else if (!realpath(base, name))
		return error_sys(err, -errno, base, "cannot be found");
	return 0;
}

/* As it would be looked at when a machine starts. */
static int check_clone(
	const struct broker_disk_config *clone, const struct host *host, struct error *err)
{
	const struct broker_disk_config config = {
		.path = clone->path,
		.format = BROKER_FORMAT_QCOW2,
		.readonly = true,
	};
	struct broker_image image = { .at_work = true };

	broker_image_open(&image, &config, host, err);
	broker_image_close(&image);
	return err->code;
}

static bool protect_base(const struct broker_layer *layer)
{
	struct stat stat;

	return fstat(layer->fd, &stat) == 0 && stat.st_mode & 0222 &&
	       fchmod(layer->fd, stat.st_mode & 07555) == 0;
}

static int check_cloning(
	const struct broker_layer *base, const struct broker_disk_config *clone, struct error *err)
{
	if (base->is_block) {
		error_set(err, -EINVAL, base->path,
			"a clone is based on a file, and this is a block device");
		error_hint(err, "copy it: penstock disk convert %s %s", base->path, clone->path);
	} else if (clone->format == BROKER_FORMAT_RAW) {
		error_set(err, -EINVAL, clone->path, "a clone is a qcow2 image, and never raw");
		error_hint(err, "copy it: penstock disk convert %s %s", base->path, clone->path);
	} else if (broker_image_format(clone) != BROKER_FORMAT_QCOW2) {
		error_set(err, -EINVAL, clone->path,
			"a clone is a qcow2 image, and its name should end in .qcow2");
		error_hint(err, "or say that it is one each time: %s,format=qcow2", clone->path);
	}
	return err->code;
}

int broker_image_clone(const struct broker_image *image, const struct broker_disk_config *clone,
	const struct host *host, bool *protected, struct error *err)
{
	const struct broker_layer *base = &image->layers[0];
	char name[PATH_MAX], bytes[32];
	struct new_file file;

	/* Who writes to it would write to all its clones. */
	if (check_cloning(base, clone, err) || broker_image_lock(image, err) ||
		name_base(base->path, clone->path, name, err))
		return err->code;
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)base->size);
	if (begin_file(&file, clone->path, err) == 0 &&
		make_image(&file,
			(char *[]){ "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F",
				format_word(base->format), "-b", name, file.name, bytes, NULL },
			err) == 0 &&
		name_file(&file, err) == 0)
		check_clone(clone, host, err);
	if (end_file(&file, err) == 0)
		*protected = protect_base(base);
	return err->code;
}

int broker_image_convert(const struct broker_image *image, const struct broker_disk_config *copy,
	bool progress, struct error *err)
{
	cleanup_free char *source = name_image(image);
	struct new_file file;

	if (!source)
		return error_set(err, -ENOMEM, copy->path, "cannot be made");
	/* Of what is written to meanwhile it would be a copy of no moment that there ever was. */
	if (broker_image_lock(image, err))
		return err->code;
	if (begin_file(&file, copy->path, err) == 0)
		run_work(
			&(struct image_work){
				.image = image,
				.target = file.fd,
				.object = copy->path,
				.doing = "the copy fails",
				.progress = progress,
			},
			(char *[]){ "qemu-img", "convert", progress ? "-p" : "-q", "-O",
				format_word(broker_image_format(copy)), source, file.name, NULL },
			err);
	return end_file(&file, err);
}

/* What changes an image */

/* Not to be ended in the midst of it, by a key or a lost terminal. */
static int work_in_place(const struct image_work *work, char *const *words, struct error *err)
{
	static const int ends[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };
	sighandler_t before[ARRAY_SIZE(ends)];

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		before[i] = signal(ends[i], SIG_IGN);
	run_work(work, words, err);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		signal(ends[i], before[i]);
	return err->code;
}

static int change_image(const struct broker_image *image, const char *doing, char *const *words,
	char *const *last, struct error *err)
{
	cleanup_free char *source = name_image(image);
	char *argv[WORDS_MAX] = { "qemu-img" };
	unsigned count = 1;

	if (!source)
		return error_set(err, -ENOMEM, image->layers[0].path, "%s", doing);
	while (*words)
		argv[count++] = *words++;
	argv[count++] = source;
	while (*last)
		argv[count++] = *last++;
	return work_in_place(
		&(struct image_work){
			.image = image,
			.writes = true,
			.target = -1,
			.object = image->layers[0].path,
			.doing = doing,
		},
		argv, err);
}

int broker_image_resize(
	const struct broker_image *image, uint64_t size, bool shrink, struct error *err)
{
	const struct broker_layer *layer = &image->layers[0];
	char bytes[32], is[24], wanted[24];

	if (layer->is_block)
		return broker_layer_refuse_size(layer, layer->path, err);
	size = align_up(size, IMAGE_SECTOR);
	if (size < layer->size && !shrink) {
		error_set(err, -EINVAL, layer->path,
			"it has %s, and what is beyond %s would be lost",
			size_format(layer->size, is), size_format(size, wanted));
		error_hint(err,
			"have the guest make its file systems and partitions smaller first, then "
			"say --shrink");
		return err->code;
	}
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)size);
	return change_image(image, "it keeps its size",
		size < layer->size ? (char *[]){ "resize", "-q", "--shrink", NULL }
				   : (char *[]){ "resize", "-q", NULL },
		(char *[]){ bytes, NULL }, err);
}

static int check_snapshots(const struct broker_layer *layer, struct error *err)
{
	if (layer->format == BROKER_FORMAT_QCOW2)
		return 0;
	error_set(
		err, -EINVAL, layer->path, "snapshots are kept in a qcow2 image, and this is raw");
	error_hint(err, "make it one: penstock disk convert %s NEW.qcow2", layer->path);
	return err->code;
}

/* The number of a snapshot, which qemu-img prefers to a name that looks like one. False: there is none. */
static bool find_snapshot(
	const struct broker_layer *layer, const char *name, char id[static 32], struct error *err)
{
	json_object *info = broker_image_ask(layer, layer->format, err),
		    *list = json_object_object_get(info, "snapshots");
	bool found = false;

	for (size_t i = 0; list && i < json_object_array_length(list) && !found; i++) {
		json_object *snapshot = json_object_array_get_idx(list, i);

		found = strcmp(member_text(snapshot, "name", ""), name) == 0;
		if (found)
			snprintf(id, 32, "%s", member_text(snapshot, "id", ""));
	}
	json_object_put(info);
	return found;
}

/* There is to be one of this name, or none. */
static int expect_snapshot(const struct broker_layer *layer, const char *name, bool is_there,
	char id[static 32], struct error *err)
{
	bool found;

	if (check_snapshots(layer, err))
		return err->code;
	found = find_snapshot(layer, name, id, err);
	if (err->code || found == is_there)
		return err->code;
	if (found)
		return error_set(err, -EEXIST, layer->path, "it has a snapshot '%s' already", name);
	error_set(err, -ENOENT, layer->path, "it has no snapshot '%s'", name);
	error_hint(err, "penstock disk list %s", layer->path);
	return err->code;
}

int broker_image_expect_snapshot(
	const struct broker_image *image, const char *name, bool is_there, struct error *err)
{
	char id[32];

	return expect_snapshot(&image->layers[0], name, is_there, id, err);
}

int broker_image_snapshot(const struct broker_image *image, const char *name, struct error *err)
{
	if (broker_image_expect_snapshot(image, name, false, err))
		return err->code;
	return change_image(image, "no snapshot is taken",
		(char *[]){ "snapshot", "-q", "-c", (char *)name, NULL }, (char *[]){ NULL }, err);
}

int broker_image_delete_snapshot(
	const struct broker_image *image, const char *name, struct error *err)
{
	if (broker_image_expect_snapshot(image, name, true, err))
		return err->code;
	return change_image(image, "the snapshot is not deleted",
		(char *[]){ "snapshot", "-q", "-d", (char *)name, NULL }, (char *[]){ NULL }, err);
}

int broker_image_revert(const struct broker_image *image, const char *name, struct error *err)
{
	char id[32];

	if (expect_snapshot(&image->layers[0], name, true, id, err))
		return err->code;
	return change_image(image, "it is as it was",
		(char *[]){ "snapshot", "-q", "-a", id, NULL }, (char *[]){ NULL }, err);
}

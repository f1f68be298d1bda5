/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/seed.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/size.h"
#include "broker/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX  (16 * MIB) /* of what users write, which is some KiB */
#define SEED_MAX  (64 * MIB)
#define ANSWER_MS 30000 /* for xorriso, which takes some 20 */

#define USER_DATA "user-data"
#define META_DATA "meta-data"

/* xorriso wants files with names, which are here for as long as it works, and nobody else's to read. */
struct seed_files {
	char path[sizeof("/tmp/penstock-seed-XXXXXX")];
	int directory;
};

static int begin_files(struct seed_files *files, struct error *err)
{
	*files = (struct seed_files){ .path = "/tmp/penstock-seed-XXXXXX", .directory = -1 };
	if (!mkdtemp(files->path)) {
		files->path[0] = '\0';
		return error_sys(err, -errno, "/tmp", BROKER_SEED " cannot be made");
	}
	files->directory = open(files->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return files->directory < 0
		       ? error_sys(err, -errno, files->path, BROKER_SEED " cannot be made")
		       : 0;
}

static void end_files(struct seed_files *files)
{
	if (files->directory >= 0) {
		unlinkat(files->directory, USER_DATA, 0);
		unlinkat(files->directory, META_DATA, 0);
		close(take_fd(&files->directory));
	}
	if (files->path[0])
		rmdir(files->path);
}

static int make_file(const struct seed_files *files, const char *name, struct error *err)
{
	int fd = openat(files->directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? error_sys(err, -errno, files->path, BROKER_SEED " cannot be made") : fd;
}

/* What cloud-init takes for something else it leaves alone, and says so only in a log of the guest's. */
static int check_user_data(int fd, const char *path, struct error *err)
{
	static const char *const starts[] = { "#", "Content-Type:", "MIME-Version:", "\x1f\x8b" };
	char text[16] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		return error_sys(err, -errno, path, "cannot read it");
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (strncasecmp(text, starts[i], strlen(starts[i])) == 0)
			return 0;
	error_set(err, -EINVAL, path, "cloud-init would not take this for user data");
	error_hint(
		err, "its first line is to be '#cloud-config', or that of a script, '#!/bin/sh'");
	return err->code;
}

static int open_seed_source(const char *path, off_t *size, struct error *err)
{
	cleanup_fd int fd = fd_open_regular(path);
	struct stat stat;

	if (fd == -EINVAL)
		return error_set(err, fd, path, "it is no regular file");
	if (fd < 0)
		return error_sys(err, fd, path, "cannot open it");
	if (fstat(fd, &stat) < 0 || stat.st_size > (off_t)FILE_MAX)
		return error_set(err, -EFBIG, path, "it is too large for cloud-init");
	*size = stat.st_size;
	return take_fd(&fd);
}

static int copy_source(const struct seed_files *files, const char *name, const char *path,
	bool is_user_data, struct error *err)
{
	off_t size = 0;
	cleanup_fd int fd = open_seed_source(path, &size, err), copy = -1;
	ssize_t more = 1;

	if (fd < 0 || (is_user_data && check_user_data(fd, path, err)))
		return err->code;
	copy = make_file(files, name, err);
	for (off_t done = 0; copy >= 0 && more > 0 && done < size; done += more)
		more = sendfile(copy, fd, NULL, size - done);
	return more < 0 ? error_sys(err, -errno, path, "cannot be copied") : err->code;
}

/* cloud-init does most of its work once for each instance, so this is the same at each start. */
static int write_meta_data(
	const struct seed_files *files, const struct broker_config *config, struct error *err)
{
	const char *name = config->cloud_init.name;
	cleanup_fd int fd = make_file(files, META_DATA, err);

	if (fd < 0)
		return err->code;
	if (name)
		dprintf(fd, "instance-id: \"penstock-%s\"\nlocal-hostname: \"%s\"\n", name, name);
	else
		dprintf(fd, "instance-id: penstock-%016llx\n",
			(unsigned long long)hash_text(
				0, config->disk_count ? config->disks[0].path : config->name));
	if (lseek(fd, 0, SEEK_CUR) <= 0)
		error_set(err, -EIO, files->path, BROKER_SEED " cannot be made");
	return err->code;
}

/* It says who it is first. */
static void explain_xorriso(const struct broker_backend *xorriso, struct error *err)
{
	static const char mark[] = "FAILURE : ";
	char said[2048] = "", *why;

	if (pread(xorriso->log, said, sizeof(said) - 1, 0) < 0)
		said[0] = '\0';
	why = strstr(said, mark);
	if (why)
		why[strcspn(why, "\n")] = '\0';
	error_set(err, -EIO, NULL, BROKER_SEED " cannot be made: %.150s",
		why ? why + strlen(mark) : "xorriso does not say why");
}

/* They are then as much its own as they were root's. */
static void give_files(void *opaque, uid_t uid)
{
	const struct seed_files *files = opaque;

	if (fchownat(files->directory, USER_DATA, uid, uid, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchownat(files->directory, META_DATA, uid, uid, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchown(files->directory, uid, uid) < 0)
		dprintf(STDERR_FILENO, "FAILURE : its files cannot be given to it\n");
}

static int run_xorriso(struct seed_files *files, int out, struct error *err)
{
	struct broker_backend xorriso = BROKER_BACKEND_NONE;
	char user_data[64], meta_data[64];

	snprintf(user_data, sizeof(user_data), USER_DATA "=%s/" USER_DATA, files->path);
	snprintf(meta_data, sizeof(meta_data), META_DATA "=%s/" META_DATA, files->path);
	if (broker_backend_find(&xorriso, "xorriso", "--cloud-init", "xorriso", err) == 0 &&
		broker_backend_start(&xorriso,
			&(struct broker_backend_start){
				.argv = (char *[]){ "xorriso", "-as", "mkisofs", "-quiet",
					"-graft-points", "-V", "cidata", "-J", "-r", "-o", "-",
					user_data, meta_data, NULL },
				.fds = &files->directory,
				.fd_count = 1,
				.out = out,
				.sandbox = { .directory = files->directory },
				.file_max = SEED_MAX,
				.prepare = give_files,
				.opaque = files,
			},
			err) == 0) {
		broker_backend_end(&xorriso, 0, ANSWER_MS);
		if (xorriso.status)
			explain_xorriso(&xorriso, err);
	}
	broker_backend_close(&xorriso);
	return err->code;
}

/* Its primary volume descriptor (ECMA-119, 8.4). */
static int check_seed(int fd, struct error *err)
{
	char label[6] = "";

	if (pread(fd, label, sizeof(label), 16 * 2048 + 40) == sizeof(label) &&
		memcmp(label, "cidata", sizeof(label)) == 0)
		return 0;
	return error_set(err, -EIO, NULL, BROKER_SEED " cannot be made: xorriso has written none");
}

static int open_nameless(struct error *err)
{
	FILE *file = tmpfile();
	int fd = file ? fcntl(fileno(file), F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;

	/* Its daemon may be of another uid, and others have no way to it. */
	if (fd < 0 || fchmod(fd, 0644) < 0)
		error_sys(err, -errno, "/tmp", BROKER_SEED " cannot be made");
	if (file)
		fclose(file);
	return fd;
}

int broker_seed_make(const struct broker_config *config, struct error *err)
{
	const struct broker_cloud_init *init = &config->cloud_init;
	cleanup_fd int seed = -1;
	struct seed_files files;

	if (begin_files(&files, err) == 0 &&
		copy_source(&files, USER_DATA, init->user_data, true, err) == 0) {
		if (init->meta_data)
			copy_source(&files, META_DATA, init->meta_data, false, err);
		else
			write_meta_data(&files, config, err);
	}
	if (!err->code)
		seed = open_nameless(err);
	if (!err->code && run_xorriso(&files, seed, err) == 0)
		check_seed(seed, err);
	end_files(&files);
	return err->code ? err->code : take_fd(&seed);
}

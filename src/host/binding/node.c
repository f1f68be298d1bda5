/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/node.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

int host_node_find_user(const char *name, uid_t *user, struct error *err)
{
	const struct passwd *entry = getpwnam(name);
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(name, &end, 10);
	if (!entry && (errno || end == name || *end || number >= (uid_t)-1)) {
		error_set(err, -ENOENT, name, "the host has no user of this name");
		error_hint(err, "'getent passwd' lists those that there are");
		return -ENOENT;
	}
	*user = entry ? entry->pw_uid : number;
	if (*user)
		return 0;
	error_set(err, -EINVAL, name, "root has the nodes of all groups already");
	error_hint(err, "leave out --user");
	return -EINVAL;
}

/* The owner alone changes: group and mode can have been set by a rule of udev. */
static int change_owner(const struct host *host, const char *node, uid_t user, struct error *err)
{
	char path[PATH_MAX];
	int code = host_path(host, path, "%s", node);

	if (code == 0 && fchownat(AT_FDCWD, path, user, -1, AT_SYMLINK_NOFOLLOW) < 0)
		code = -errno;
	if (code == 0)
		return 0;
	error_sys(err, code, path, "cannot give the node to user %u", user);
	if (code == -EPERM || code == -EACCES)
		error_hint(err, "run this as root, as with sudo");
	return code;
}

/* One that was at vfio-pci before penstock came gets a record now, and stays there on release. */
static int record_user(
	const struct host *host, const struct host_device *device, uid_t user, struct error *err)
{
	struct host_record record;
	int code = host_journal_read(host, &device->bdf, &record, err);

	if (code == -ENOENT) {
		record = (struct host_record){ .bdf = device->bdf, .persist = true };
		strcpy(record.driver, device->driver);
		strcpy(record.override, device->override);
		strcpy(record.holder.name, "bind");
	} else if (code) {
		return code;
	}
	record.user = user;
	return host_journal_write(host, &record, err);
}

/* With a device's own node iommufd can be used, whose node is shared by all, and is root's at first. */
static void tell_of_iommufd(const struct host *host, uid_t user)
{
	char path[PATH_MAX];
	struct stat node;

	if (host_path(host, path, "/dev/iommu") || stat(path, &node) < 0 || node.st_uid == user ||
		(node.st_mode & (S_IROTH | S_IWOTH)) == (S_IROTH | S_IWOTH))
		return;
	log_info("for iommufd the user needs /dev/iommu, too, which gives no device by itself: "
		 "'chmod 0666 /dev/iommu'; without it, machines use type 1");
}

static int give_one(const struct host *host, const struct bdf *bdf, uid_t user, struct error *err)
{
	cleanup_fd int lock = host_journal_lock(host, bdf, err);
	char name[BDF_TEXT], group[HOST_NAME], own[HOST_NAME];
	struct host_device device;
	bool has_own;

	if (lock < 0 || host_device_read(host, bdf, &device, err) ||
		record_user(host, &device, user, err))
		return err->code;
	text_format(group, sizeof(group), "/dev/vfio/%d", device.group);
	has_own = host_device_vfio_node(host, bdf, own) == 0;
	if (change_owner(host, group, user, err) || (has_own && change_owner(host, own, user, err)))
		return err->code;
	log_info("%s: user %u may open %s%s%s", bdf_format(bdf, name), user, group,
		has_own ? " and " : "", has_own ? own : "");
	if (has_own)
		tell_of_iommufd(host, user);
	return 0;
}

int host_node_give(const struct host *host, const struct bdf *devices, size_t count, uid_t user,
	struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int code = give_one(host, &devices[i], user, err);

		if (code == 0)
			continue;
		error_hint(err, "the devices stay at vfio-pci until 'penstock release'");
		return code;
	}
	return 0;
}

static bool is_kept(const struct host *host, int group, const struct bdf *bdf)
{
	struct bdf members[HOST_GROUP_MAX];
	struct error ignored = { 0 };
	struct host_record record;
	int count = host_group_devices(host, group, members, &ignored);

	for (int i = 0; i < count; i++)
		if (!bdf_equal(&members[i], bdf) &&
			host_journal_read(host, &members[i], &record, &ignored) == 0 && record.user)
			return true;
	return false;
}

static int take_back(const struct host *host, const char *node, struct error *err)
{
	return host_exists(host, node) ? change_owner(host, node, 0, err) : 0;
}

int host_node_take_back(const struct host *host, const struct bdf *bdf, struct error *err)
{
	struct error ignored = { 0 };
	struct host_device device;
	char node[HOST_NAME];
	int code = 0;

	if (host_device_vfio_node(host, bdf, node) == 0)
		code = take_back(host, node, err);
	if (code || host_device_read(host, bdf, &device, &ignored) || device.group < 0 ||
		is_kept(host, device.group, bdf))
		return code;
	text_format(node, sizeof(node), "/dev/vfio/%d", device.group);
	return take_back(host, node, err);
}

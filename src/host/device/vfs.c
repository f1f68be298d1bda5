/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/vfs.h"

#include <errno.h>
#include <stdlib.h>

#define DEVICES "/sys/bus/pci/devices/"
#define VFS_MAX 65535 /* NumVFs has 16 bits */

long host_vfs_count(const struct host *host, const struct bdf *pf)
{
	char name[BDF_TEXT];

	return host_read_number(host, 0, DEVICES "%s/sriov_numvfs", bdf_format(pf, name));
}

ssize_t host_vfs_list(
	const struct host *host, const struct bdf *pf, struct bdf **vfs, struct error *err)
{
	long wanted = host_vfs_count(host, pf);
	char name[BDF_TEXT], link[HOST_NAME];
	struct bdf *list;
	ssize_t count = 0;

	*vfs = NULL;
	if (wanted <= 0 || wanted > VFS_MAX)
		return 0;
	list = calloc(wanted, sizeof(*list));
	if (!list)
		return error_sys(err, -ENOMEM, bdf_format(pf, name), "cannot list its VFs");
	bdf_format(pf, name);
	for (long i = 0; i < wanted; i++)
		if (host_read_link(host, link, sizeof(link), DEVICES "%s/virtfn%ld", name, i) ==
				0 &&
			bdf_parse(link, &list[count]) == 0)
			count++;
	*vfs = list;
	return count;
}

int host_vfs_parent(const struct host *host, const struct bdf *vf, struct bdf *pf, unsigned *number)
{
	char name[BDF_TEXT], parent[HOST_NAME], link[HOST_NAME];
	struct bdf found;
	long count;

	if (host_read_link(
		    host, parent, sizeof(parent), DEVICES "%s/physfn", bdf_format(vf, name)) ||
		bdf_parse(parent, pf))
		return -ENOENT;
	count = host_vfs_count(host, pf);
	for (long i = 0; i < count && i < VFS_MAX; i++) {
		if (host_read_link(host, link, sizeof(link), DEVICES "%s/virtfn%ld", parent, i) ||
			bdf_parse(link, &found) || !bdf_equal(&found, vf))
			continue;
		*number = i;
		return 0;
	}
	return -ENOENT;
}

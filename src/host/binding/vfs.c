/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/vfs.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/binding/bind.h"
#include "host/device/vfs.h"
#include "host/journal/binds.h"
#include "host/journal/lock.h"
#include "host/sriov/vf.h"

#include <errno.h>

static int bind_vfs(const struct host *host, const struct bdf *pf, struct error *err)
{
	static const struct bind_options options = { .owner = "bind", .persist = true };
	cleanup_free struct bdf *vfs = NULL;
	ssize_t count = host_vfs_list(host, pf, &vfs, err);

	return count < 0 ? (int)count : host_bind(host, vfs, count, &options, err);
}

static int keep_vfs(const struct host *host, const struct bdf *pf, struct error *err)
{
	cleanup_fd int lock = host_journal_lock(host, pf, err);

	return lock < 0 ? lock : host_vf_keep(host, pf, err);
}

static int make_and_bind(const struct host *host, const struct host_device *device, unsigned count,
	struct error *err)
{
	const struct bdf *pf = &device->bdf;
	struct error why = { 0 };
	int code = host_binds_begin(host, err);

	if (code)
		return code;
	code = host_vf_make_unbound(host, device, count, err);
	if (code == 0)
		code = bind_vfs(host, pf, err);
	if (code == 0)
		return keep_vfs(host, pf, err);
	/* Where the kernel hangs on them, waiting for it once more helps nobody. */
	if (code != -ETIMEDOUT && host_vf_destroy(host, pf, false, &why))
		error_print(&why);
	host_binds_forget(host);
	return code;
}

int host_bind_new_vfs(const struct host *host, const struct bdf *pf, unsigned count, bool dry_run,
	struct error *err)
{
	struct host_device device;
	char name[BDF_TEXT];
	int code = host_vf_check(host, pf, count, &device, err);

	if (code == 0 && dry_run)
		log_info("%s: would have %u VFs, all at vfio-pci", bdf_format(pf, name), count);
	return code || dry_run ? code : make_and_bind(host, &device, count, err);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/named.h"

#include "base/fd.h"
#include "base/text.h"
#include "cmd/machine.h"
#include "cmd/output.h"
#include "control/member.h"
#include "host/journal/journal.h"
#include "host/journal/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SILENT_MS  2000 /* one that does not answer must not keep others from being listed */
#define PLACES_MAX 2
#define ENDING     ".yaml"

/* Where files that describe a machine are, the first one first. Their number. */
static unsigned find_places(const struct host *host, char places[static PLACES_MAX][PATH_MAX])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	bool given = config && config[0] == '/';
	unsigned count = 0;

	if (geteuid() != 0 && (given || (home && home[0] == '/')))
		snprintf(places[count++], PATH_MAX, "%s%s/penstock", given ? config : home,
			given ? "" : "/.config");
	if (host_path(host, places[count], "/etc/penstock") == 0)
		count++;
	return count;
}

int named_find(
	const struct host *host, const char *name, char path[static PATH_MAX], struct error *err)
{
	char places[PLACES_MAX][PATH_MAX];
	unsigned count = find_places(host, places);

	path[0] = '\0';
	if (host_name_check(name, err))
		return err->code;
	for (unsigned i = 0; i < count; i++) {
		int used = snprintf(path, PATH_MAX, "%s/%s" ENDING, places[i], name);

		if (used < PATH_MAX && access(path, F_OK) == 0)
			return 0;
	}
	path[0] = '\0';
	error_set(err, -ENOENT, name, "no file describes a machine of this name");
	error_hint(err, "write %.200s/%s" ENDING ", as 'penstock new' does", count ? places[0] : "",
		name);
	return err->code;
}

int named_place(
	const struct host *host, const char *name, char path[static PATH_MAX], struct error *err)
{
	char places[PLACES_MAX][PATH_MAX];
	unsigned count = find_places(host, places);

	if (!count || snprintf(path, PATH_MAX, "%s/%s" ENDING, places[0], name) >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, name, "there is no place for its file");
	return 0;
}

void named_messages(const struct host *host, const char *name, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/messages/%s", host->run, name);
}

/* "" where there is none. */
static void read_status(struct control_client *client, char *status, size_t size)
{
	struct error ignored = { 0 };
	json_object *result = control_client_run(client, "query-status", NULL, SILENT_MS, &ignored);

	snprintf(status, size, "%s", member_text(result, "status", ""));
	json_object_put(result);
}

/* The programs that serve it; an array in any case. */
static json_object *read_backends(struct control_client *client)
{
	struct error ignored = { 0 };
	json_object *result = control_client_run(
		client, "__org.penstock_query-backends", NULL, SILENT_MS, &ignored);

	if (json_object_is_type(result, json_type_array))
		return result;
	json_object_put(result);
	return json_object_new_array();
}

/* The devices that a process holds. */
static json_object *list_devices(const struct host *host, pid_t pid)
{
	cleanup_free struct bdf *devices = NULL;
	json_object *list = json_object_new_array();
	struct error ignored = { 0 };
	ssize_t count = host_journal_list(host, &devices, &ignored);

	if (count > 0)
		qsort(devices, count, sizeof(*devices), bdf_compare);
	for (ssize_t i = 0; i < count; i++) {
		struct host_record record;
		char name[BDF_TEXT];

		if (host_journal_read(host, &devices[i], &record, &ignored) == 0 &&
			record.holder.pid == pid)
			json_object_array_add(
				list, json_object_new_string(bdf_format(&devices[i], name)));
	}
	return list;
}

static json_object *new_machine(const struct host *host, const char *name, pid_t pid,
	const char *status, json_object *backends)
{
	json_object *machine = json_object_new_object();
	struct error ignored = { 0 };
	char file[PATH_MAX] = "";

	named_find(host, name, file, &ignored);
	output_add_text(machine, "name", name);
	json_object_object_add(machine, "pid", pid ? json_object_new_int(pid) : NULL);
	output_add_text(machine, "status", status);
	output_add_text(machine, "file", file);
	json_object_object_add(
		machine, "devices", pid ? list_devices(host, pid) : json_object_new_array());
	json_object_object_add(machine, "backends", backends ? backends : json_object_new_array());
	return machine;
}

/* NULL: nobody listens there any more. */
static json_object *describe_running(const struct host *host, const char *name)
{
	char path[sizeof(host->run) + NAME_MAX + 2], status[64] = "";
	struct error ignored = { 0 };
	struct control_client client;
	json_object *machine = NULL, *backends = NULL;
	pid_t pid;
	int code;

	snprintf(path, sizeof(path), "%s/%s" MACHINE_SOCKET, host->run, name);
	code = control_client_open(&client, path, name, SILENT_MS, &ignored);
	if (code != -ENOENT) {
		if (!code)
			read_status(&client, status, sizeof(status));
		if (status[0])
			backends = read_backends(&client);
		pid = client.fd < 0 ? 0 : control_client_peer(&client);
		machine = new_machine(host, name, pid, status, backends);
	}
	control_client_close(&client);
	return machine;
}

json_object *named_machine(const struct host *host, const char *name)
{
	json_object *machine = describe_running(host, name);
	struct error ignored = { 0 };
	char path[PATH_MAX];

	if (!machine && named_find(host, name, path, &ignored) == 0)
		machine = new_machine(host, name, 0, NAMED_OFF, NULL);
	return machine;
}

void named_tell_backend(json_object *backend, char *text, size_t size)
{
	const char *program = member_text(backend, "program", "-"), *slash = strrchr(program, '/'),
		   *what = member_text(backend, "file",
			   member_text(backend, "mac", member_text(backend, "address", "")));

	text_format(text, size, "%s%s%s", slash ? slash + 1 : program, what[0] ? " " : "", what);
}

/* Entries of a directory that end so, without that, as names of machines. */
static void add_names(const char *directory, const char *ending, json_object *names)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		size_t length = strlen(entry->d_name), end = strlen(ending);
		struct error ignored = { 0 };

		if (length <= end || strcmp(entry->d_name + length - end, ending))
			continue;
		entry->d_name[length - end] = '\0';
		if (host_name_check(entry->d_name, &ignored) == 0)
			json_object_object_add(names, entry->d_name, NULL);
	}
	if (entries)
		closedir(entries);
}

static int compare_names(const void *a, const void *b)
{
	json_object *const *x = a, *const *y = b;

	return strcmp(member_text(*x, "name", ""), member_text(*y, "name", ""));
}

json_object *named_machines(const struct host *host)
{
	json_object *names = json_object_new_object(), *list = json_object_new_array();
	char places[PLACES_MAX][PATH_MAX];
	unsigned count = find_places(host, places);

	add_names(host->run, MACHINE_SOCKET, names);
	for (unsigned i = 0; i < count; i++)
		add_names(places[i], ENDING, names);
	json_object_object_foreach(names, name, value)
	{
		json_object *machine = named_machine(host, name);

		(void)value;
		if (machine)
			json_object_array_add(list, machine);
	}
	json_object_put(names);
	json_object_array_sort(list, compare_names);
	return list;
}

bool named_has_open(pid_t pid, dev_t dev, ino_t ino, bool is_block, bool *writes)
{
	char path[sizeof("/proc//fd") + 12];
	const struct dirent *entry;
	bool found = false;
	DIR *directory;

	*writes = false;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	directory = opendir(path);
	while (directory && (entry = readdir(directory))) {
		struct stat file, link;

		if (fstatat(dirfd(directory), entry->d_name, &file, 0) < 0 ||
			fstatat(dirfd(directory), entry->d_name, &link, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (is_block ? !S_ISBLK(file.st_mode) || file.st_rdev != dev
			     : file.st_dev != dev || file.st_ino != ino)
			continue;
		found = true;
		*writes |= (link.st_mode & S_IWUSR) != 0;
	}
	if (directory)
		closedir(directory);
	return found;
}

bool named_find_user(
	const struct host *host, dev_t dev, ino_t ino, bool is_block, struct named_user *user)
{
	json_object *names = json_object_new_object();
	bool found = false, writes;

	*user = (struct named_user){ 0 };
	add_names(host->run, MACHINE_SOCKET, names);
	json_object_object_foreach(names, name, value)
	{
		struct host_holder owner;

		(void)value;
		if (user->writes || !host_name_owner(host, name, &owner) ||
			!named_has_open(owner.pid, dev, ino, is_block, &writes))
			continue;
		found = true;
		snprintf(user->name, sizeof(user->name), "%s", name);
		user->pid = owner.pid;
		user->writes = writes;
	}
	json_object_put(names);
	return found;
}

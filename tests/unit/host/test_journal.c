/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "base/text.h"
#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/inventory/inventory.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"
#include "host/journal/names.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RECORD "/run/devices/0000:01:00.0"

static const struct bdf card = { 0, 1, 0, 0 };

static struct host_record make_record(void)
{
	struct host_record record = { .bdf = card, .driver = "nvme", .companion = true };
	struct error err = { 0 };

	assert_int_equal(host_holder_self("demo", &record.holder, &err), 0);
	return record;
}

static void a_record_comes_back(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record(), again;
	struct error err = { 0 };
	struct bdf *devices;

	assert_int_equal(host_journal_list(&fixture->host, &devices, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &again, &err), -ENOENT);
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &again, &err), 0);
	assert_true(bdf_equal(&again.bdf, &card));
	assert_string_equal(again.driver, "nvme");
	assert_string_equal(again.override, "");
	assert_string_equal(again.holder.name, "demo");
	assert_true(host_holder_is_self(&again.holder));
	assert_true(host_holder_is_alive(&again.holder));
	assert_true(again.companion);
	assert_false(again.persist);
	assert_int_equal(host_journal_list(&fixture->host, &devices, &err), 1);
	assert_true(bdf_equal(&devices[0], &card));
	free(devices);
	assert_int_equal(host_journal_remove(&fixture->host, &card, &err), 0);
	assert_int_equal(host_journal_remove(&fixture->host, &card, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &again, &err), -ENOENT);
	assert_int_equal(err.code, 0);
}

static void a_record_keeps_what_is_seldom_there(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record(), again;
	struct error err = { 0 };

	record.user = 1000;
	record.makes_vfs = true;
	record.bound = true;
	record.persist = true;
	record.screen = (struct host_screen){ true, "simple-framebuffer.0", "simple-framebuffer" };
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &again, &err), 0);
	assert_int_equal(again.user, 1000);
	assert_true(again.makes_vfs && again.persist && again.bound);
	assert_true(again.screen.console);
	assert_string_equal(again.screen.framebuffer, "simple-framebuffer.0");
	assert_string_equal(again.screen.driver, "simple-framebuffer");
}

static void modes_do_not_depend_on_umask(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record();
	struct error err = { 0 };
	struct stat stat_;
	mode_t mask = umask(0077);

	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	umask(mask);
	assert_int_equal(stat(fixture->host.run, &stat_), 0);
	assert_int_equal(stat_.st_mode & 07777, 0755);
}

static void assert_damaged(struct fixture *fixture, const char *text)
{
	struct host_record record;
	struct error err = { 0 };

	fixture_file(fixture, RECORD, text);
	if (host_journal_read(&fixture->host, &card, &record, &err) != -EBADMSG)
		fail_msg("was taken: %s", text);
	assert_non_null(strstr(err.object, RECORD));
	assert_non_null(strstr(err.hint, "penstock release 0000:01:00.0"));
}

static void damaged_records_are_seen(void **state)
{
	static const char sound[] =
		"penstock device 1\naddress 0000:01:00.0\ndriver nvme\n"
		"override \nholder 12 34\nname demo\npersist no\ncompanion no\nend\n";
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };
	char text[sizeof(sound) + 16];

	fixture_file(fixture, RECORD, sound);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	for (size_t length = 0; length < strlen(sound); length++) {
		snprintf(text, sizeof(text), "%.*s", (int)length, sound);
		assert_damaged(fixture, text);
	}
	snprintf(text, sizeof(text), "%s\n", sound);
	assert_damaged(fixture, text);
	assert_damaged(fixture,
		"penstock device 1\naddress 0000:02:00.0\ndriver nvme\n"
		"override \nholder 12 34\nname demo\npersist no\ncompanion no\nend\n");
	assert_damaged(fixture,
		"penstock device 1\naddress 0000:01:00.0\ndriver ../../evil\n"
		"override \nholder 12 34\nname demo\npersist no\ncompanion no\nend\n");
	assert_damaged(fixture,
		"penstock device 1\naddress 0000:01:00.0\ndriver nvme\n"
		"override \nholder -1 34\nname demo\npersist no\ncompanion no\nend\n");
	assert_damaged(fixture,
		"penstock device 1\naddress 0000:01:00.0\ndriver nvme\n"
		"override \nholder 12 034\nname demo\npersist no\ncompanion no\nend\n");
	assert_damaged(fixture,
		"penstock device 1\naddress 0000:01:00.0\ndriver nvme\n"
		"override \nholder 12 34\nname demo\npersist maybe\ncompanion no\nend\n");
	assert_damaged(fixture, "\xff\xfe\x01garbage");
}

static void huge_and_strange_records_are_seen(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };
	char huge[5000], path[128];

	memset(huge, 'a', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	assert_damaged(fixture, huge);
	snprintf(path, sizeof(path), "%s" RECORD, fixture->tree);
	assert_int_equal(remove(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -EBADMSG);
	assert_int_equal(remove(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -EBADMSG);
}

static void odd_names_of_drivers(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record(), again;
	struct error err = { 0 };

	strcpy(record.driver, "a driver, with spaces");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &again, &err), 0);
	assert_string_equal(again.driver, record.driver);
	strcpy(record.driver, "two\nlines");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), -EINVAL);
}

static void symbolic_links_are_not_followed(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record();
	struct error err = { 0 };
	char run[300], target[300];

	snprintf(run, sizeof(run), "%s/run", fixture->tree);
	snprintf(target, sizeof(target), "%s/elsewhere", fixture->tree);
	assert_int_equal(mkdir(target, 0755), 0);
	assert_int_equal(symlink("elsewhere", run), 0);
	assert_true(host_journal_write(&fixture->host, &record, &err) < 0);
	assert_true(err.hint[0]);
	assert_int_equal(rmdir(target), 0);
}

static void a_journal_that_others_may_write_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record();
	struct error err = { 0 };

	assert_int_equal(mkdir(fixture->host.run, 0755), 0);
	assert_int_equal(chmod(fixture->host.run, 0777), 0);
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), -EPERM);
	assert_non_null(strstr(err.what, "others may change it"));
	assert_non_null(strstr(err.hint, "chmod go-w "));
	assert_non_null(strstr(err.hint, fixture->host.run));
}

/* Nor one that somebody else has made, however closed it is to others. */
static void a_journal_of_another_user_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record();
	struct error err = { 0 };

	assert_int_equal(mkdir(fixture->host.run, 0755), 0);
	if (chown(fixture->host.run, 54321, -1))
		skip();
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), -EPERM);
	assert_non_null(strstr(err.what, "others may change it"));
	assert_non_null(strstr(err.hint, "it must belong to root"));
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -EPERM);
}

static void the_inventory_knows_roots_journal_too(void **state)
{
	struct fixture *fixture = *state;
	struct host roots = fixture->host;
	struct host_record record = { .bdf = card, .driver = "nvme", .persist = true };
	struct inventory inventory;
	struct error err = { 0 };

	fixture_device(fixture, "/sys/devices/pci0000:00/0000:01:00.0", "0x010802", NULL, 1);
	fixture_file(fixture, "/run/penstock/devices/none", "");
	text_format(roots.run, sizeof(roots.run), "%s/run/penstock", fixture->tree);
	assert_int_equal(host_journal_write(&roots, &record, &err), 0);
	assert_int_equal(inventory_read(&fixture->host, &inventory, &err), 0);
	assert_int_equal(inventory.count, 1);
	assert_string_equal(inventory.devices[0].holder, "penstock bind");
	assert_string_equal(inventory.devices[0].journal, roots.run);
	inventory_free(&inventory);
}

static void only_the_living_hold(void **state)
{
	struct host_holder holder;
	pid_t child = fixture_start_other(&holder);

	(void)state;
	assert_true(host_holder_is_alive(&holder));
	assert_false(host_holder_is_self(&holder));
	holder.start++; /* another process has got its id */
	assert_false(host_holder_is_alive(&holder));
	holder.start--;
	kill(child, SIGKILL);
	assert_int_equal(waitid(P_PID, child, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	assert_false(host_holder_is_alive(&holder)); /* a zombie */
	fixture_end_other(child);
	assert_false(host_holder_is_alive(&holder));
	assert_false(host_holder_is_alive(&(struct host_holder){ .name = "bind" }));
}

/* As with too many open files, or where /proc shows only one's own processes. */
static void who_cannot_be_looked_at_may_live(void **state)
{
	struct rlimit limit, none;
	struct host_holder holder;
	pid_t child = fixture_start_other(&holder);
	bool alive;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ 0, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	alive = host_holder_is_alive(&holder);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fixture_end_other(child);
	assert_true(alive);
	assert_false(host_holder_is_alive(&holder));
}

#define NOT_ALLOWED 2

/* As a user to whom /proc shows no process but his own. */
static int ask_as_another_user(const struct host_holder *holder)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("proc", "/proc", "proc", 0, "hidepid=2") || setgroups(0, NULL) ||
		setgid(65534) || setuid(65534))
		return NOT_ALLOWED;
	return host_holder_is_alive(holder) ? 0 : 1;
}

static void who_is_hidden_may_live(void **state)
{
	struct host_holder holder;
	pid_t other = fixture_start_other(&holder), child;
	int status;

	(void)state;
	child = fork();
	if (child == 0)
		_exit(ask_as_another_user(&holder));
	assert_int_equal(waitpid(child, &status, 0), child);
	fixture_end_other(other);
	if (WEXITSTATUS(status) == NOT_ALLOWED)
		skip();
	assert_int_equal(status, 0);
}

#define USER 54321

/* With file systems of one's own in place of what the host has there. */
static bool become_user(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/run", "tmpfs", 0, "mode=755") == 0 &&
	       mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777") == 0 &&
	       mkdir("/run/his", 0700) == 0 && chown("/run/his", USER, 0) == 0 &&
	       mkdir("/run/roots", 0755) == 0 && mkdir("/run/user", 0755) == 0 &&
	       mkdir("/tmp/penstock-54321", 0755) == 0 && setgroups(0, NULL) == 0 &&
	       setgid(USER) == 0 && seteuid(USER) == 0;
}

static const char *find_run(const char *runtime)
{
	static struct host host;
	static struct error err;

	err = (struct error){ 0 };
	unsetenv("PENSTOCK_ROOT");
	if (runtime)
		setenv("XDG_RUNTIME_DIR", runtime, 1);
	else
		unsetenv("XDG_RUNTIME_DIR");
	if (host_init(&host, NULL, NULL, &err))
		return "";
	return host_name_claim(&host, "demo", &err) == 0 ? host.run : err.hint;
}

static bool is_at(const char *runtime, const char *wanted)
{
	const char *found = find_run(runtime);

	if (strcmp(found, wanted) == 0)
		return true;
	fprintf(stderr, "not in %s: %s\n", wanted, found);
	return false;
}

static int look_for_journal(void)
{
	if (!become_user())
		return NOT_ALLOWED;
	/* Somebody else has made it. */
	if (!strstr(find_run(NULL), "XDG_RUNTIME_DIR") || seteuid(0) ||
		rmdir("/tmp/penstock-54321") || seteuid(USER))
		return 1;
	if (!is_at("/run/his", "/run/his/penstock") || !is_at(NULL, "/tmp/penstock-54321") ||
		!is_at("/run/roots", "/tmp/penstock-54321") ||
		!is_at("nowhere", "/tmp/penstock-54321"))
		return 1;
	if (seteuid(0) || mkdir("/run/user/54321", 0700) || chown("/run/user/54321", USER, 0) ||
		seteuid(USER))
		return 1;
	return is_at(NULL, "/run/user/54321/penstock") && is_at("/run/his", "/run/his/penstock")
		       ? 0
		       : 1;
}

/* Also after su(1), which leaves root's XDG_RUNTIME_DIR, and in a service, which has none. */
static void every_user_has_a_place_for_his_journal(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(look_for_journal());
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == NOT_ALLOWED)
		skip();
	assert_int_equal(status, 0);
}

static void a_held_device_is_refused_with_its_holder(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = make_record();
	struct error err = { 0 };
	pid_t child = fixture_start_other(&record.holder);
	int lock;

	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_journal_lock(&fixture->host, &card, &err), -EBUSY);
	assert_non_null(strstr(err.what, "penstock 'other' (pid "));
	fixture_end_other(child);
	err = (struct error){ 0 };
	lock = host_journal_lock(&fixture->host, &card, &err);
	assert_true(lock >= 0);
	close(lock);
}

static void a_change_under_way_is_waited_for(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	int lock = host_journal_lock(&fixture->host, &card, &err);

	assert_true(lock >= 0);
	fixture->host.limit_ms = 200;
	assert_int_equal(host_journal_lock(&fixture->host, &card, &err), -ETIMEDOUT);
	close(lock);
	err = (struct error){ 0 };
	lock = host_journal_lock(&fixture->host, &card, &err);
	assert_true(lock >= 0);
	close(lock);
}

/* Whatever order they are named in, so that two processes do not wait for each other. */
static void several_are_locked_in_the_order_of_addresses(void **state)
{
	static const struct bdf named[] = { { 0, 3, 0, 0 }, { 0, 2, 0, 0 } };
	struct fixture *fixture = *state;
	struct host_locks locks;
	struct error err = { 0 };
	int second = host_journal_lock(&fixture->host, &named[1], &err), third;
	pid_t child;

	assert_true(second >= 0);
	child = fork();
	if (child == 0) {
		close(second);
		_exit(host_journal_lock_all(&fixture->host, named, 2, &locks, &err) ? 1 : 0);
	}
	usleep(200000);
	fixture->host.limit_ms = 2000;
	third = host_journal_lock(&fixture->host, &named[0], &err);
	assert_true(third >= 0);
	close(third);
	close(second);
	assert_int_equal(waitpid(child, &third, 0), child);
	assert_int_equal(third, 0);
}

static void all_are_locked_or_none(void **state)
{
	static const struct bdf devices[] = { { 0, 2, 0, 0 }, { 0, 3, 0, 0 } };
	struct fixture *fixture = *state;
	struct host_locks locks;
	struct error err = { 0 };
	int lock = host_journal_lock(&fixture->host, &devices[1], &err);

	fixture->host.limit_ms = 100;
	assert_int_equal(
		host_journal_lock_all(&fixture->host, devices, 2, &locks, &err), -ETIMEDOUT);
	assert_string_equal(err.object, "0000:03:00.0");
	assert_int_equal(locks.count, 0);
	close(lock);
	err = (struct error){ 0 };
	assert_int_equal(host_journal_lock_all(&fixture->host, devices, 2, &locks, &err), 0);
	for (int i = 0; i < 2; i++) {
		err = (struct error){ 0 };
		assert_int_equal(host_journal_lock(&fixture->host, &devices[i], &err), -ETIMEDOUT);
	}
	host_journal_unlock(&locks);
	lock = host_journal_lock(&fixture->host, &devices[1], &err);
	assert_true(lock >= 0);
	close(lock);
}

static void names_belong_to_the_living(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	int status;
	pid_t child;

	assert_int_equal(host_name_claim(&fixture->host, "demo", &err), 0);
	child = fork();
	if (child == 0) {
		host_name_release(&fixture->host, "demo"); /* not its to give up */
		_exit(host_name_claim(&fixture->host, "demo", &err) == -EEXIST ? 0 : 1);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	host_name_release(&fixture->host, "demo");
	child = fork();
	if (child == 0)
		_exit(host_name_claim(&fixture->host, "demo", &err) == 0 ? 0 : 1);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	/* Which has ended without giving it up. */
	assert_int_equal(host_name_claim(&fixture->host, "demo", &err), 0);
	fixture_file(fixture, "/run/names/demo", "garbage");
	assert_int_equal(host_name_claim(&fixture->host, "demo", &err), 0);
}

static void names_of_the_dead_are_forgotten(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char path[PATH_MAX];
	pid_t child;

	assert_int_equal(host_name_claim(&fixture->host, "living", &err), 0);
	child = fork();
	if (child == 0)
		_exit(host_name_claim(&fixture->host, "dead", &err) ? 1 : 0);
	waitpid(child, NULL, 0);
	snprintf(path, sizeof(path), "%s/run/names/dead", fixture->tree);
	assert_int_equal(access(path, F_OK), 0);
	host_names_forget(&fixture->host);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/run/names/living", fixture->tree);
	assert_int_equal(access(path, F_OK), 0);
}

static bool is_there(struct fixture *fixture, const char *path)
{
	char full[128];

	snprintf(full, sizeof(full), "%s%s", fixture->tree, path);
	return access(full, F_OK) == 0;
}

/* Of processes that were killed while they wrote; but not of one that writes now. */
static void half_written_files_go(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	int lock = host_journal_lock(&fixture->host, &card, &err);

	fixture_file(fixture, "/run/devices/.0000:01:00.0.new", "penstock dev");
	fixture_file(fixture, "/run/devices/.0000:02:00.0.new", "");
	fixture_file(fixture, "/run/devices/.mine", "");
	fixture_file(fixture, "/run/names/.demo.new", "penstock");
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_true(is_there(fixture, "/run/devices/.0000:01:00.0.new"));
	assert_true(is_there(fixture, "/run/devices/.mine"));
	assert_false(is_there(fixture, "/run/devices/.0000:02:00.0.new"));
	assert_false(is_there(fixture, "/run/names/.demo.new"));
	close(lock);
	assert_int_equal(host_release_stale(&fixture->host, true, &err), 0);
	assert_true(is_there(fixture, "/run/devices/.0000:01:00.0.new"));
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_false(is_there(fixture, "/run/devices/.0000:01:00.0.new"));
}

static void bad_names_are_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", ".a", "-a", "a/b", "a b", "a\n",
		"\xc3\xa4", "0123456789012345678901234567890123456789012345678901234567890123" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = { 0 };

		assert_int_equal(host_name_claim(&fixture->host, bad[i], &err), -EINVAL);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_record_comes_back),
		TEST(a_record_keeps_what_is_seldom_there),
		TEST(modes_do_not_depend_on_umask),
		TEST(damaged_records_are_seen),
		TEST(huge_and_strange_records_are_seen),
		TEST(odd_names_of_drivers),
		TEST(symbolic_links_are_not_followed),
		TEST(a_journal_that_others_may_write_is_refused),
		TEST(a_journal_of_another_user_is_refused),
		TEST(the_inventory_knows_roots_journal_too),
		TEST(only_the_living_hold),
		TEST(who_cannot_be_looked_at_may_live),
		TEST(who_is_hidden_may_live),
		TEST(every_user_has_a_place_for_his_journal),
		TEST(a_held_device_is_refused_with_its_holder),
		TEST(a_change_under_way_is_waited_for),
		TEST(several_are_locked_in_the_order_of_addresses),
		TEST(all_are_locked_or_none),
		TEST(names_belong_to_the_living),
		TEST(names_of_the_dead_are_forgotten),
		TEST(half_written_files_go),
		TEST(bad_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

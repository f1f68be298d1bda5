/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/binding/bind.h"
#include "host/binding/node.h"
#include "host/binding/release.h"
#include "host/journal/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define SOUND PORT "/0000:01:00.1"
#define USER  12345

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf sound = { 0, 1, 0, 1 };

static void make_card(struct fixture *fixture)
{
	fixture_device(fixture, CARD, "0x030000", "vfio-pci", 13);
	fixture_device(fixture, SOUND, "0x040300", "vfio-pci", 13);
	fixture_file(fixture, "/dev/vfio/13", "");
}

/* Since Linux 6.6. */
static void make_own_nodes(struct fixture *fixture)
{
	fixture_file(fixture, CARD "/vfio-dev/vfio4/dev", "511:4\n");
	fixture_file(fixture, SOUND "/vfio-dev/vfio5/dev", "511:5\n");
	fixture_file(fixture, "/dev/vfio/devices/vfio4", "");
	fixture_file(fixture, "/dev/vfio/devices/vfio5", "");
}

static uid_t owner_of(struct fixture *fixture, const char *node)
{
	struct stat stat_;
	char path[128];

	snprintf(path, sizeof(path), "%s/dev/vfio/%s", fixture->tree, node);
	assert_int_equal(stat(path, &stat_), 0);
	return stat_.st_uid;
}

static uid_t owner(struct fixture *fixture)
{
	return owner_of(fixture, "13");
}

static void users(void **state)
{
	struct error err = { 0 };
	uid_t user;

	(void)state;
	assert_int_equal(host_node_find_user("nobody", &user, &err), 0);
	assert_int_equal(user, 65534);
	assert_int_equal(host_node_find_user("12345", &user, &err), 0);
	assert_int_equal(user, 12345);
	assert_int_equal(host_node_find_user("root", &user, &err), -EINVAL);
	err = (struct error){ 0 };
	assert_int_equal(host_node_find_user("no-such-user", &user, &err), -ENOENT);
	assert_int_equal(host_node_find_user("", &user, &err), -ENOENT);
	assert_int_equal(host_node_find_user("-1", &user, &err), -ENOENT);
	assert_int_equal(host_node_find_user("4294967295", &user, &err), -ENOENT);
}

static void given_and_taken_back(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	if (geteuid())
		skip();
	make_card(fixture);
	assert_int_equal(host_node_give(&fixture->host, &card, 1, USER, &err), 0);
	assert_int_equal(owner(fixture), USER);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_int_equal(record.user, USER);
	assert_true(record.persist);
	/* It was at vfio-pci before penstock came, so that is where it stays. */
	assert_string_equal(record.driver, "vfio-pci");
	assert_int_equal(host_release(&fixture->host, &card, false, &err), 0);
	assert_int_equal(owner(fixture), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

static void kept_while_another_of_the_group_has_it(void **state)
{
	const struct bdf both[] = { { 0, 1, 0, 0 }, { 0, 1, 0, 1 } };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	if (geteuid())
		skip();
	make_card(fixture);
	assert_int_equal(host_node_give(&fixture->host, both, 2, USER, &err), 0);
	assert_int_equal(host_release(&fixture->host, &card, false, &err), 0);
	assert_int_equal(owner(fixture), USER);
	assert_int_equal(host_release(&fixture->host, &sound, false, &err), 0);
	assert_int_equal(owner(fixture), 0);
}

static void each_has_its_own_node_too(void **state)
{
	const struct bdf both[] = { { 0, 1, 0, 0 }, { 0, 1, 0, 1 } };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	if (geteuid())
		skip();
	make_card(fixture);
	make_own_nodes(fixture);
	assert_int_equal(host_node_give(&fixture->host, &card, 1, USER, &err), 0);
	assert_int_equal(owner_of(fixture, "devices/vfio4"), USER);
	assert_int_equal(owner_of(fixture, "devices/vfio5"), 0);
	assert_int_equal(host_node_give(&fixture->host, both, 2, USER, &err), 0);
	assert_int_equal(owner_of(fixture, "devices/vfio5"), USER);
	/* The group's is kept, its own is not. */
	assert_int_equal(host_release(&fixture->host, &card, false, &err), 0);
	assert_int_equal(owner(fixture), USER);
	assert_int_equal(owner_of(fixture, "devices/vfio4"), 0);
	assert_int_equal(owner_of(fixture, "devices/vfio5"), USER);
	assert_int_equal(host_release(&fixture->host, &sound, false, &err), 0);
	assert_int_equal(owner(fixture), 0);
	assert_int_equal(owner_of(fixture, "devices/vfio5"), 0);
}

static void a_node_that_is_gone_is_no_error(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = card, .driver = "vfio-pci", .user = USER };
	struct error err = { 0 };

	fixture_device(fixture, CARD, "0x030000", "vfio-pci", 13);
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_release(&fixture->host, &card, false, &err), 0);
}

static void no_node_to_give(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture_device(fixture, CARD, "0x030000", "vfio-pci", 13);
	assert_int_equal(host_node_give(&fixture->host, &card, 1, USER, &err), -ENOENT);
	assert_non_null(strstr(err.object, "/dev/vfio/13"));
	assert_non_null(strstr(err.hint, "penstock release"));
}

static void a_record_is_strict_about_the_user(void **state)
{
	static const char *const users[] = { "user 0\n", "user -1\n", "user 1 \n", "user 01\n",
		"user 99999999999\n", "user\n", "user 1\nuser 1\n" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		struct host_record record;
		struct error err = { 0 };
		char text[256];

		snprintf(text, sizeof(text),
			"penstock device 1\naddress 0000:01:00.0\ndriver nvme\noverride \n"
			"holder 0 0\nname bind\npersist yes\ncompanion no\n%send\n",
			users[i]);
		fixture_file(fixture, "/run/devices/0000:01:00.0", text);
		if (host_journal_read(&fixture->host, &card, &record, &err) != -EBADMSG)
			fail_msg("'%s' is taken", users[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(users),
		TEST(given_and_taken_back),
		TEST(kept_while_another_of_the_group_has_it),
		TEST(each_has_its_own_node_too),
		TEST(a_node_that_is_gone_is_no_error),
		TEST(no_node_to_give),
		TEST(a_record_is_strict_about_the_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

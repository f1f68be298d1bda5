/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/notify.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Say so from another process; its id. */
static pid_t tell(const char *state)
{
	pid_t pid = fork();

	if (pid == 0) {
		notify_tell(notify_open(), state);
		_exit(getenv("NOTIFY_SOCKET") != NULL);
	}
	return pid;
}

static void assert_ended(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

TEST(what_a_child_says_arrives)
{
	static const struct {
		const char *state;
		bool ready;
	} said[] = {
		{ "READY=1", true },
		{ "STATUS=x\nREADY=1\nMAINPID=1", true },
		{ "READY=10", false },
		{ "STATUS=READY=1", false },
		{ "STOPPING=1", false },
	};

	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		int fd = notify_pair();

		assert_true(fd >= 0);
		assert_false(notify_was_told(fd, "READY=1"));
		assert_ended(tell(said[i].state));
		assert_int_equal(notify_was_told(fd, "READY=1"), said[i].ready);
		assert_false(notify_was_told(fd, "READY=1"));
		close(notify_open());
		close(fd);
	}
}

/* Whoever could send to it could fill it, and what the child says would be lost. */
TEST(nobody_else_can_send)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);
	int fd = notify_pair();

	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	assert_int_equal(size, sizeof(address.sun_family));
	close(notify_open());
	close(fd);
}

/* As systemd's is. */
TEST(a_path_is_an_address_too)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char directory[] = "/tmp/penstock-notify-XXXXXX", text[16] = "";
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	assert_ended(tell("READY=1"));
	assert_int_equal(recv(fd, text, sizeof(text), 0), 7);
	assert_string_equal(text, "READY=1");
	unlink(address.sun_path);
	rmdir(directory);
	close(fd);
}

TEST(nobody_need_be_there)
{
	static const char *const bad[] = { "", "@", "/", "relative", "/nonexistent/socket",
		"@penstock-nobody", "vsock:2:1" };
	char wide[200];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("NOTIFY_SOCKET", bad[i], 1);
		assert_int_equal(notify_open(), -1);
		assert_null(getenv("NOTIFY_SOCKET"));
	}
	memset(wide, '/', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	setenv("NOTIFY_SOCKET", wide, 1);
	assert_int_equal(notify_open(), -1);
	assert_int_equal(notify_open(), -1);
	notify_tell(-1, "READY=1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_child_says_arrives),
		cmocka_unit_test(nobody_else_can_send),
		cmocka_unit_test(a_path_is_an_address_too),
		cmocka_unit_test(nobody_need_be_there),
	};

	return test_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/passt.h"
#include "fake_program.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* passt is this program under another name, and PASST says how it is. */

#define TAKEN "Failed to bind port 2222 (Address already in use) for option '-t 127.0.0.1/2222:22'"

static const struct broker_net net = {
	.forwards = { { false, "127.0.0.1", 2222, 22 }, { true, "10.0.0.1", 53, 5353 } },
	.forward_count = 2,
};

static char directory[] = "/tmp/penstock-passt-XXXXXX";
static struct broker_passt passt;
static struct error err;

static int answer(int fd)
{
	const uint32_t reply[] = { 1, 5, 8, 0, 1 };
	char request[64];

	while (recv(fd, request, sizeof(request), 0) > 0)
		send(fd, reply, sizeof(reply), MSG_NOSIGNAL);
	return 0;
}

static int be_passt(int argc, char **argv)
{
	const char *how = getenv("PASST");
	FILE *file;

	if (strcmp(argv[1], "--help") == 0) {
		puts(strcmp(how, "old") ? "  --vhost-user		Enable it" : "  --fd FD");
		return 0;
	}
	file = fopen("words", "w");
	for (int i = 0; i < argc; i++)
		fprintf(file, "%s ", argv[i]);
	fclose(file);
	if (strcmp(how, "good") == 0)
		for (int i = 1; i + 1 < argc; i++)
			if (strcmp(argv[i], "--fd") == 0)
				return answer(atoi(argv[i + 1]));
	fputs("Couldn't get any nameserver address\n", stderr);
	fputs(strcmp(how, "taken") ? "No room\n" : TAKEN "\n", stderr);
	return 1;
}

static int setup(void **state)
{
	(void)state;
	fake_program_make(directory, "passt");
	assert_int_equal(chdir(directory), 0);
	passt = (struct broker_passt)BROKER_PASST_NONE;
	err = (struct error){ 0 };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	broker_passt_end(&passt);
	broker_passt_close(&passt);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	fake_program_remove(directory);
	return 0;
}

static int open_and_start(const char *how)
{
	setenv("PASST", how, 1);
	if (broker_passt_open(&passt, "net0", &net, &err) == 0)
		broker_passt_start(&passt, &err);
	return err.code;
}

TEST(one_that_serves_is_told_what_to_forward)
{
	char words[1024], ids[64];
	struct loop *loop = loop_new(&err);

	assert_int_equal(open_and_start("good"), 0);
	assert_true(fd_read_file("words", words, sizeof(words)) > 0);
	assert_non_null(strstr(words, "passt --vhost-user --foreground --quiet "));
	assert_non_null(strstr(words, "--address 10.0.2.15 "));
	assert_non_null(strstr(words, "--no-map-gw "));
	assert_non_null(
		strstr(words, "--tcp-ports 127.0.0.1/2222:22 --udp-ports 10.0.0.1/53:5353 "));
	/* Of root's it has a uid of its own. */
	snprintf(ids, sizeof(ids), "--runas %u:%u ", 0x70000000U + passt.backend.pid,
		0x70000000U + passt.backend.pid);
	assert_int_equal(strstr(words, ids) != NULL, geteuid() == 0);
	/* For the next life it is another. */
	broker_passt_handed_over(&passt, loop);
	assert_int_equal(passt.machine_fd, -1);
	broker_passt_end(&passt);
	assert_int_equal(passt.backend.pid, 0);
	assert_int_equal(broker_passt_start(&passt, &err), 0);
	loop_free(loop);
}

TEST(one_that_is_missing_is_named)
{
	setenv("PATH", "/nonexistent", 1);
	assert_int_not_equal(open_and_start("good"), 0);
	assert_non_null(strstr(err.what, "--net user needs passt, which is not installed"));
	assert_non_null(strstr(err.hint, "apt install passt"));
}

TEST(one_that_is_too_old_is_told)
{
	assert_int_equal(open_and_start("old"), -ENOTSUP);
	assert_non_null(strstr(err.object, "/passt"));
	assert_non_null(strstr(err.what, "this version"));
	assert_non_null(strstr(err.hint, "Debian 13"));
}

TEST(a_port_that_is_taken_is_told)
{
	assert_int_equal(open_and_start("taken"), -EADDRINUSE);
	assert_string_equal(err.object, "net0");
	assert_non_null(strstr(err.what, "port 2222"));
	assert_int_equal(passt.backend.pid, 0);
	assert_int_equal(passt.machine_fd, -1);
}

TEST(one_that_ends_at_once_says_why)
{
	assert_int_equal(open_and_start("bad"), -EIO);
	assert_non_null(strstr(err.what, "has ended as soon as it was started: No room"));
	assert_int_equal(passt.backend.pid, 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(one_that_serves_is_told_what_to_forward),
		test(one_that_is_missing_is_named),
		test(one_that_is_too_old_is_told),
		test(a_port_that_is_taken_is_told),
		test(one_that_ends_at_once_says_why),
	};

	if (strcmp(argv[0], "passt") == 0)
		return be_passt(argc, argv);
	return test_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "control/monitor.h"
#include "control/socket.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Clients of the monitor, good ones and others, over real sockets; one loop serves them. */

static struct loop *loop;
static struct monitor *monitor;
static struct error err;
static uint32_t held; /* a request that is not answered yet */
static unsigned runs;

static void greet(void *opaque, uint32_t request, json_object *arguments)
{
	(void)opaque;
	runs++;
	monitor_reply(monitor, request, json_object_get(json_object_object_get(arguments, "name")));
}

static void hold(void *opaque, uint32_t request, json_object *arguments)
{
	(void)opaque, (void)arguments;
	held = request;
}

static void fail_it(void *opaque, uint32_t request, json_object *arguments)
{
	struct error why = { 0 };

	(void)opaque, (void)arguments;
	error_set(&why, -ENODEV, "0000:01:00.0", "it is gone");
	error_hint(&why, "look for it");
	monitor_fail(monitor, request, MONITOR_DEVICE_NOT_FOUND, &why);
}

static const struct monitor_argument greet_arguments[] = {
	{ "name", json_type_string, true },
	{ "loud", json_type_boolean, false },
	{ 0 },
};

static const struct monitor_command commands[] = {
	{ "greet", greet_arguments, greet },
	{ "hold", NULL, hold },
	{ "fail", NULL, fail_it },
	{ 0 },
};

static int setup(void **state)
{
	(void)state;
	err = (struct error){ 0 };
	held = runs = 0;
	loop = loop_new(&err);
	monitor = monitor_new(loop, commands, NULL, &err);
	return monitor ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	monitor_free(monitor);
	loop_free(loop);
	return 0;
}

static void serve(void)
{
	for (unsigned i = 0; i < 6; i++)
		loop_step(loop, 1);
}

static int connect_client(void)
{
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(monitor_add_client(monitor, pair[0]), 0);
	return pair[1];
}

static void say(int client, const char *text)
{
	assert_int_equal(send(client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	serve();
}

/* All that has come; "" where there is nothing, NULL at the end. */
static const char *hear(int client)
{
	static char text[MONITOR_UNREAD_MAX + 1];
	ssize_t got;

	serve();
	got = recv(client, text, sizeof(text) - 1, 0);
	text[got > 0 ? got : 0] = '\0';
	return got == 0 || (got < 0 && errno != EAGAIN) ? NULL : text;
}

static void assert_hears(int client, const char *wanted)
{
	const char *text = hear(client);

	assert_non_null(text);
	if (!strstr(text, wanted))
		fail_msg("'%s' is not in: %s", wanted, text);
}

static int negotiated_client(void)
{
	int client = connect_client();

	assert_hears(client, "{\"QMP\":{\"version\":{\"qemu\":{\"major\":9");
	say(client, "{\"execute\":\"qmp_capabilities\"}\n");
	assert_string_equal(hear(client), "{\"return\":{}}\r\n");
	return client;
}

static void assert_answer(int client, const char *question, const char *answer)
{
	say(client, question);
	assert_hears(client, answer);
}

TEST(capabilities_are_negotiated_first_and_once)
{
	int client = connect_client();

	hear(client);
	assert_answer(client, "{'execute':'query-version'}", "Expecting capabilities negotiation");
	assert_answer(client, "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
		"GenericError");
	assert_answer(client, "{'execute':'qmp_capabilities','arguments':{'enable':[]}}",
		"{\"return\":{}}");
	assert_answer(client, "{'execute':'qmp_capabilities'}", "CommandNotFound");
	assert_answer(client, "{'execute':'query-version'}", "penstock-" PENSTOCK_VERSION);
	assert_answer(client, "{'execute':'query-commands'}", "{\"name\":\"hold\"}");
	close(client);
}

TEST(a_command_is_answered_with_its_id)
{
	int client = negotiated_client();

	assert_answer(client,
		"{\"execute\":\"greet\",\"arguments\":{\"name\":\"x\"},\"id\":[1,null]}",
		"{\"return\":\"x\",\"id\":[1,null]}\r\n");
	assert_answer(client, "{\"execute\":\"greet\",\"id\":null}", "missing\"},\"id\":null}");
	assert_answer(client, "{\"id\":5,\"execute\":\"fail\"}",
		"{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"0000:01:00.0: it is gone; "
		"next: look for it\"},\"id\":5}");
	close(client);
}

TEST(what_is_no_command_is_refused_with_a_reason)
{
	static const char *const wrong[][2] = {
		{ "[1]", "must be a JSON object" },
		{ "null\n", "must be a JSON object" },
		{ "\"a\"", "must be a JSON object" },
		{ "{}", "lacks member 'execute'" },
		{ "{\"execute\":7}", "must be a string" },
		{ "{\"execute\":\"nothing\"}", "The command nothing has not been found" },
		{ "{\"execute\":\"hold\",\"arguments\":3}", "must be an object" },
		{ "{\"execute\":\"hold\",\"arguments\":{\"a\":1}}", "Parameter 'a' is unexpected" },
		{ "{\"execute\":\"greet\",\"arguments\":{\"name\":1}}", "expected: string" },
		{ "{\"execute\":\"greet\",\"arguments\":{\"name\":\"\",\"loud\":1}}", "'loud'" },
		{ "{\"exec-oob\":\"hold\"}", "'exec-oob' is unexpected" },
		{ "}\n", "JSON parse error" },
		{ "{\"execute\" \"hold\"} {\n", "JSON parse error" },
		{ "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "JSON parse error" },
	};
	int client = negotiated_client();

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_answer(client, wrong[i][0], wrong[i][1]);
		/* And the next is understood. */
		assert_answer(client, "{\"execute\":\"greet\",\"arguments\":{\"name\":\"y\"}}",
			"{\"return\":\"y\"}");
	}
	close(client);
}

/* Cut anywhere, or several at once: it is JSON that counts, not lines. */
TEST(commands_may_come_in_pieces_or_together)
{
	const char *question = "{\"execute\":\"greet\",\"arguments\":{\"name\":\"\xc3\xbc\"}}";
	int client = negotiated_client();

	for (size_t cut = 1; cut < strlen(question); cut++) {
		assert_int_equal(send(client, question, cut, 0), cut);
		assert_string_equal(hear(client), "");
		say(client, question + cut);
		assert_string_equal(hear(client), "{\"return\":\"\xc3\xbc\"}\r\n");
	}
	say(client, "{\"execute\":\"greet\",\"arguments\":{\"name\":\"a\"}}"
		    "{\"execute\":\"greet\",\"arguments\":{\"name\":\"b\"}}\n\n"
		    "{\"execute\":\"greet\",\"arguments\":{\"name\":\"c\"}}");
	assert_string_equal(
		hear(client), "{\"return\":\"a\"}\r\n{\"return\":\"b\"}\r\n{\"return\":\"c\"}\r\n");
	close(client);
}

/* In the order in which they came, whatever takes long; other clients do not wait for it. */
TEST(a_command_waits_for_the_one_before_it)
{
	int client = negotiated_client(), other = negotiated_client();

	say(client, "{\"execute\":\"hold\",\"id\":1}"
		    "{\"execute\":\"greet\",\"arguments\":{\"name\":\"after\"},\"id\":2}");
	assert_string_equal(hear(client), "");
	assert_int_equal(runs, 0);
	assert_answer(other, "{\"execute\":\"greet\",\"arguments\":{\"name\":\"other\"}}", "other");
	monitor_reply(monitor, held, NULL);
	assert_string_equal(
		hear(client), "{\"return\":{},\"id\":1}\r\n{\"return\":\"after\",\"id\":2}\r\n");
	/* Answered once is answered. */
	monitor_reply(monitor, held, NULL);
	assert_string_equal(hear(client), "");
	close(client);
	close(other);
}

TEST(an_answer_to_a_client_that_has_gone_is_dropped)
{
	int client = negotiated_client(), other;

	say(client, "{\"execute\":\"hold\"}");
	close(client);
	serve();
	other = negotiated_client();
	monitor_reply(monitor, held, json_object_new_string("not yours"));
	assert_string_equal(hear(other), "");
	close(other);
}

/* As "echo ... | nc -U" does. */
TEST(a_client_that_has_sent_its_last_gets_all_answers)
{
	int client = negotiated_client();

	say(client, "{\"execute\":\"hold\"}{\"execute\":\"greet\",\"arguments\":{\"name\":\"z\"}}");
	shutdown(client, SHUT_WR);
	assert_string_equal(hear(client), "");
	monitor_reply(monitor, held, NULL);
	assert_string_equal(hear(client), "{\"return\":{}}\r\n{\"return\":\"z\"}\r\n");
	assert_null(hear(client));
	close(client);
}

TEST(a_command_counts_though_its_client_goes_at_once)
{
	int client = negotiated_client();

	assert_int_equal(send(client, "{\"execute\":\"hold\"}", 18, 0), 18);
	close(client);
	serve();
	assert_true(held);
}

TEST(events_go_to_all_who_have_negotiated)
{
	int first = negotiated_client(), second = negotiated_client(), raw = connect_client();

	hear(raw);
	monitor_event(monitor, "STOP", NULL);
	assert_hears(first, "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":");
	assert_hears(second, "\"microseconds\":");
	assert_string_equal(hear(raw), "");
	monitor_event(monitor, "RESET", json_object_new_object());
	assert_hears(first, "{\"event\":\"RESET\",\"data\":{},\"timestamp\"");
	close(first);
	close(second);
	close(raw);
}

/* It is dropped, and the others have lost nothing. */
TEST(a_client_that_does_not_read_harms_itself_only)
{
	int lazy = negotiated_client(), good = negotiated_client();
	unsigned heard = 0;

	for (unsigned i = 0; i < 20000; i++) {
		monitor_event(monitor, "STOP", NULL);
		if (i % 100 == 99)
			for (const char *at = hear(good); (at = strstr(at, "STOP")); at++)
				heard++;
	}
	assert_int_equal(heard, 20000);
	while (hear(lazy))
		continue;
	close(lazy);
	assert_answer(good, "{\"execute\":\"greet\",\"arguments\":{\"name\":\"x\"}}", "x");
	close(good);
}

/* It asks and asks and reads nothing: its next commands wait, and it gets all answers in the end. */
TEST(a_client_that_asks_without_reading_is_made_to_wait)
{
	const char *question = "{\"execute\":\"query-commands\"}\n";
	int client = negotiated_client();
	unsigned asked = 0, heard = 0;
	const char *text;

	while (send(client, question, strlen(question), 0) == (ssize_t)strlen(question)) {
		asked++;
		loop_step(loop, 0);
	}
	assert_true(asked > 1000);
	while ((text = hear(client)) && text[0])
		for (; (text = strstr(text, "return")); text++)
			heard++;
	assert_non_null(text);
	assert_in_range(heard, asked - 1, asked);
	close(client);
}

TEST(an_object_without_end_is_not_kept)
{
	static char much[MONITOR_OBJECT_MAX];
	int client = negotiated_client();
	bool gone = false;

	memset(much, '"', 1);
	memset(much + 1, 'a', sizeof(much) - 1);
	for (unsigned i = 0; i < 4 && !gone; i++)
		for (size_t at = 0; at < sizeof(much) && !gone; at += 4096) {
			gone = send(client, much + at + (i > 0 && !at), 4095, MSG_NOSIGNAL) < 0;
			serve();
		}
	assert_null(hear(client));
	close(client);
}

TEST(there_are_so_many_clients_and_no_more)
{
	int clients[MONITOR_CLIENTS_MAX], pair[2];

	for (unsigned i = 0; i < MONITOR_CLIENTS_MAX; i++)
		clients[i] = negotiated_client();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(monitor_add_client(monitor, pair[0]), -EBUSY);
	assert_null(hear(pair[1]));
	close(pair[1]);
	/* Each that goes makes room for one. */
	close(clients[3]);
	serve();
	clients[3] = negotiated_client();
	for (unsigned i = 0; i < MONITOR_CLIENTS_MAX; i++)
		close(clients[i]);
}

/* Sockets */

static char directory[160];

static void make_directory(void)
{
	snprintf(directory, sizeof(directory), "/tmp/penstock-monitor-XXXXXX");
	assert_non_null(mkdtemp(directory));
}

TEST(only_its_owner_may_use_a_socket)
{
	char path[200];
	struct stat stat_;
	int client;

	make_directory();
	snprintf(path, sizeof(path), "%s/m.sock", directory);
	assert_int_equal(monitor_listen(monitor, path, &err), 0);
	assert_int_equal(stat(path, &stat_), 0);
	assert_int_equal(stat_.st_mode & 07777, 0600);
	client = control_connect(path);
	assert_true(client >= 0);
	assert_int_equal(control_peer(client), getpid());
	serve();
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_hears(client, "QMP");
	close(client);
	monitor_free(monitor);
	monitor = NULL;
	assert_int_equal(access(path, F_OK), -1);
	rmdir(directory);
}

/* What a killed machine has left is replaced; a living one's is not, nor is a file. */
TEST(a_stale_socket_is_replaced_and_a_living_one_is_not)
{
	struct control_socket first, second;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[200];
	int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	make_directory();
	snprintf(path, sizeof(path), "%s/m.sock", directory);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	assert_int_equal(control_listen(&first, path, &err), 0);
	assert_int_equal(control_listen(&second, path, &err), -EADDRINUSE);
	assert_true(err.hint[0]);
	control_close(&second);
	assert_int_equal(access(path, F_OK), 0);
	/* Another one's in its place is left alone. */
	unlink(path);
	err = (struct error){ 0 };
	assert_int_equal(control_listen(&second, path, &err), 0);
	control_close(&first);
	assert_int_equal(access(path, F_OK), 0);
	control_close(&second);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(control_listen(&first, path, &err), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	rmdir(directory);
}

TEST(a_path_may_be_longer_than_an_address)
{
	char deep[400], path[600];
	struct control_socket listener;
	int client;

	make_directory();
	snprintf(deep, sizeof(deep), "%s/%0120d", directory, 0);
	assert_int_equal(mkdir(deep, 0700), 0);
	snprintf(path, sizeof(path), "%s/m.sock", deep);
	assert_int_equal(control_listen(&listener, path, &err), 0);
	client = control_connect(path);
	assert_true(client >= 0);
	close(client);
	control_close(&listener);
	assert_int_equal(rmdir(deep) + rmdir(directory), 0);
}

#define MONITOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MONITOR_TEST(capabilities_are_negotiated_first_and_once),
		MONITOR_TEST(a_command_is_answered_with_its_id),
		MONITOR_TEST(what_is_no_command_is_refused_with_a_reason),
		MONITOR_TEST(commands_may_come_in_pieces_or_together),
		MONITOR_TEST(a_command_waits_for_the_one_before_it),
		MONITOR_TEST(an_answer_to_a_client_that_has_gone_is_dropped),
		MONITOR_TEST(a_client_that_has_sent_its_last_gets_all_answers),
		MONITOR_TEST(a_command_counts_though_its_client_goes_at_once),
		MONITOR_TEST(events_go_to_all_who_have_negotiated),
		MONITOR_TEST(a_client_that_does_not_read_harms_itself_only),
		MONITOR_TEST(a_client_that_asks_without_reading_is_made_to_wait),
		MONITOR_TEST(an_object_without_end_is_not_kept),
		MONITOR_TEST(there_are_so_many_clients_and_no_more),
		MONITOR_TEST(only_its_owner_may_use_a_socket),
		MONITOR_TEST(a_stale_socket_is_replaced_and_a_living_one_is_not),
		MONITOR_TEST(a_path_may_be_longer_than_an_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/message.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Messages over a real pair of sockets, and what is none. */

static int pair[2];

static int setup(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
}

static int teardown(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A datagram of any form, with so many descriptors. */
static void send_raw(const void *bytes, size_t size, unsigned fd_count)
{
	struct iovec iov = { (void *)bytes, size };
	char space[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count) {
		struct cmsghdr *control = (struct cmsghdr *)space;

		header.msg_control = space;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control->cmsg_level = SOL_SOCKET;
		control->cmsg_type = SCM_RIGHTS;
		control->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		for (unsigned i = 0; i < fd_count; i++)
			memcpy(CMSG_DATA(control) + i * sizeof(int), &pair[0], sizeof(int));
	}
	assert_int_equal(sendmsg(pair[0], &header, 0), size);
}

TEST(a_message_arrives_as_it_was_sent)
{
	const struct message sent = { .type = MESSAGE_CLOSED, .id = 7, .device = 61 },
			     event = { .type = MESSAGE_FAILED, .event = { 3, 2 } };
	struct message got;

	assert_int_equal(message_receive(pair[1], &got), -EAGAIN);
	assert_int_equal(message_send(pair[0], &sent), 0);
	assert_int_equal(message_send(pair[0], &(struct message){ .type = MESSAGE_READY }), 0);
	assert_int_equal(message_receive(pair[1], &got), 1);
	assert_int_equal(got.type, MESSAGE_CLOSED);
	assert_int_equal(got.id, 7);
	assert_int_equal(got.device, 61);
	assert_int_equal(message_receive(pair[1], &got), 1);
	assert_int_equal(got.type, MESSAGE_READY);
	assert_int_equal(message_send(pair[0], &event), 0);
	assert_int_equal(message_receive(pair[1], &got), 1);
	assert_int_equal(got.event.device, 3);
	assert_int_equal(got.event.action, 2);
	shutdown(pair[0], SHUT_WR);
	assert_int_equal(message_receive(pair[1], &got), 0);
}

/* Of every length but the right one, and of every type but those that there are. */
TEST(what_is_no_message_is_told_apart)
{
	const uint32_t ready[2] = { MESSAGE_READY }, closed[3] = { MESSAGE_CLOSED, 0, 5 };
	char bytes[2 * sizeof(struct message)] = { 0 };
	struct message got;

	for (size_t size = 1; size < sizeof(bytes); size++) {
		memcpy(bytes, ready, sizeof(ready));
		send_raw(bytes, size, 0);
		assert_int_equal(
			message_receive(pair[1], &got), size == sizeof(ready) ? 1 : -EBADMSG);
		memcpy(bytes, closed, sizeof(closed));
		send_raw(bytes, size, 0);
		assert_int_equal(
			message_receive(pair[1], &got), size == sizeof(closed) ? 1 : -EBADMSG);
	}
	for (uint32_t type = 1000; type < 1100; type++) {
		send_raw(&type, sizeof(type), 0);
		assert_int_equal(message_receive(pair[1], &got), -EBADMSG);
		memcpy(bytes, &type, sizeof(type));
		send_raw(bytes, sizeof(ready), 0);
		assert_int_equal(message_receive(pair[1], &got), -EBADMSG);
	}
	assert_int_equal(message_send(pair[0], &(struct message){ .type = 1000 }), -EINVAL);
}

/* They would fill the receiver's table. */
TEST(descriptors_that_do_not_belong_there_are_closed)
{
	const uint32_t ready[2] = { MESSAGE_READY };
	unsigned before = descriptors();
	struct message got;

	for (unsigned count = 1; count <= 8; count++) {
		send_raw(ready, sizeof(ready), count);
		assert_int_equal(message_receive(pair[1], &got), -EBADMSG);
		assert_int_equal(descriptors(), before);
	}
}

#define MESSAGE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESSAGE_TEST(a_message_arrives_as_it_was_sent),
		MESSAGE_TEST(what_is_no_message_is_told_apart),
		MESSAGE_TEST(descriptors_that_do_not_belong_there_are_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

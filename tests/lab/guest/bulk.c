// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bulk ADDRESS|vsock PORT LENGTH: sends so much over TCP, or to the host by a vsock, receives as much, and verifies
 * each byte
 *
 * What takes time beside the transfer is done before and after it.
 */
#include "lab.h"

#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(const char *host, uint16_t port)
{
	struct sockaddr_vm vsock = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool by_vsock = strcmp(host, "vsock") == 0;
	struct timeval limit = { .tv_sec = 20 };
	int link = socket(by_vsock ? AF_VSOCK : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!by_vsock && inet_pton(AF_INET, host, &tcp.sin_addr) != 1)
		fail("not an address: %s", host);
	setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(link, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(link, by_vsock ? (struct sockaddr *)&vsock : (struct sockaddr *)&tcp,
		    by_vsock ? sizeof(vsock) : sizeof(tcp)))
		fail_errno("connecting to %s port %u", host, port);
	return link;
}

static void send_all(int link, const char *data, uint64_t length)
{
	for (uint64_t sent = 0; sent < length;) {
		ssize_t n = write(link, data + sent, length - sent);

		if (n <= 0)
			fail_errno("sending after %llu bytes", (unsigned long long)sent);
		sent += (size_t)n;
	}
	shutdown(link, SHUT_WR);
}

static void receive_all(int link, char *data, uint64_t length)
{
	char more;

	for (uint64_t got = 0; got < length;) {
		ssize_t n = recv(link, data + got, length - got, 0);

		if (n <= 0)
			fail_errno("receiving after %llu bytes", (unsigned long long)got);
		got += (size_t)n;
	}
	if (recv(link, &more, 1, 0) != 0)
		fail("more came than was to come");
}

static char *memory(uint64_t length)
{
	char *data = malloc(length);

	if (!data)
		fail_errno("%llu bytes of memory", (unsigned long long)length);
	memset(data, 0, length);
	return data;
}

int bulk_main(int argc, char **argv)
{
	double start, turned, end;
	uint64_t length;
	char *data, *got;
	int link;

	if (argc != 4)
		fail("usage: bulk ADDRESS|vsock PORT LENGTH");
	length = number(argv[3]);
	if (!length || length % SECTOR)
		fail("the length must be a multiple of %u", SECTOR);
	data = memory(length);
	got = memory(length);
	make_sectors(data, "bulk", 0, (unsigned int)(length / SECTOR));
	link = connect_to(argv[1], (uint16_t)number(argv[2]));
	start = seconds();
	send_all(link, data, length);
	/* The other end answers when it has everything. */
	recv(link, got, 1, MSG_PEEK);
	turned = seconds();
	receive_all(link, got, length);
	end = seconds();
	for (uint64_t at = 0; at < length; at += SECTOR) {
		if (memcmp(data + at, got + at, SECTOR))
			fail("wrong data within %u bytes after %llu", SECTOR,
				(unsigned long long)at);
	}
	printf("bulk: %llu KiB sent in %.4f s and received in %.4f s\n",
		(unsigned long long)length >> 10, turned - start, end - turned);
	close(link);
	return 0;
}

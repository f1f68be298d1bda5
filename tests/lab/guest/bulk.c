// SPDX-License-Identifier: GPL-2.0-or-later
/* bulk ADDRESS PORT LENGTH: sends so much over TCP, receives as much, and verifies each byte. */
#include "lab.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (64u << 10)

static int connect_to(const char *host, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval limit = { .tv_sec = 20 };
	int link = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		fail("not an address: %s", host);
	setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(link, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(link, (struct sockaddr *)&address, sizeof(address)))
		fail_errno("connecting to %s port %u", host, port);
	return link;
}

static void send_all(int link, char *data, uint64_t length)
{
	for (uint64_t done = 0; done < length; done += CHUNK) {
		make_sectors(data, "bulk", done / SECTOR, CHUNK / SECTOR);
		for (size_t sent = 0; sent < CHUNK;) {
			ssize_t n = write(link, data + sent, CHUNK - sent);

			if (n <= 0)
				fail_errno("sending after %llu bytes",
					(unsigned long long)done + sent);
			sent += (size_t)n;
		}
	}
	shutdown(link, SHUT_WR);
}

static void receive_all(int link, char *data, char *wanted, uint64_t length)
{
	for (uint64_t done = 0; done < length; done += CHUNK) {
		if (recv(link, data, CHUNK, MSG_WAITALL) != CHUNK)
			fail_errno("receiving after %llu bytes", (unsigned long long)done);
		make_sectors(wanted, "bulk", done / SECTOR, CHUNK / SECTOR);
		if (memcmp(data, wanted, CHUNK))
			fail("wrong data within %u bytes after %llu", CHUNK,
				(unsigned long long)done);
	}
	if (recv(link, data, 1, 0) != 0)
		fail("more came than was to come");
}

int bulk_main(int argc, char **argv)
{
	char *data = malloc(CHUNK), *wanted = malloc(CHUNK);
	double start = seconds(), turned;
	uint64_t length;
	int link;

	if (argc != 4 || !data || !wanted)
		fail("usage: bulk ADDRESS PORT LENGTH");
	length = number(argv[3]);
	if (length % CHUNK)
		fail("the length must be a multiple of %u", CHUNK);
	link = connect_to(argv[1], (uint16_t)number(argv[2]));
	send_all(link, data, length);
	turned = seconds();
	receive_all(link, data, wanted, length);
	printf("bulk: %llu KiB sent in %.2f s and received in %.2f s\n",
		(unsigned long long)length >> 10, turned - start, seconds() - turned);
	close(link);
	return 0;
}

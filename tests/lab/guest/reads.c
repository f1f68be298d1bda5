// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * reads DEVICE DEPTH COUNT [SIZE [write]]: reads so many blocks of 4 KiB, or of SIZE, at random places, DEPTH of them
 * at a time; or writes them
 *
 * Past the page cache, by the kernel's asynchronous I/O: the host and its guests run this alike.
 */
#include "lab.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX 256

struct reads {
	aio_context_t context;
	int file;
	uint64_t size;   /* of a block */
	uint64_t blocks; /* of the device */
	uint64_t left;   /* to be asked for */
	uint64_t random;
	struct iocb requests[DEPTH_MAX];
};

static void ask(struct reads *reads, struct iocb **requests, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		reads->random = reads->random * 6364136223846793005u + 1442695040888963407u;
		requests[i]->aio_offset =
			(int64_t)((reads->random >> 33) % reads->blocks * reads->size);
	}
	for (unsigned int asked = 0; asked < count;) {
		long n = syscall(
			SYS_io_submit, reads->context, (long)(count - asked), requests + asked);

		if (n <= 0)
			fail_errno("asking for %u blocks", count - asked);
		asked += (unsigned int)n;
	}
	reads->left -= count;
}

/* Returns how many have come; as many are asked for, as long as there are some left. */
static unsigned int take(struct reads *reads, unsigned int in_flight)
{
	struct io_event events[DEPTH_MAX];
	struct iocb *next[DEPTH_MAX];
	unsigned int wanted = 0;
	long n = syscall(SYS_io_getevents, reads->context, 1L, (long)in_flight, events, NULL);

	if (n <= 0)
		fail_errno("waiting for one of %u blocks", in_flight);
	for (long i = 0; i < n; i++) {
		if (events[i].res != (int64_t)reads->size)
			fail("a block ended with %lld", (long long)events[i].res);
		if (wanted < reads->left)
			next[wanted++] = (struct iocb *)(uintptr_t)events[i].obj;
	}
	ask(reads, next, wanted);
	return (unsigned int)n - wanted;
}

static void open_device(struct reads *reads, const char *device, bool writes)
{
	uint64_t size;

	reads->file = open(device, (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (reads->file < 0 || ioctl(reads->file, BLKGETSIZE64, &size))
		fail_errno("%s", device);
	reads->blocks = size / reads->size;
}

int reads_main(int argc, char **argv)
{
	static struct reads reads;
	struct iocb *first[DEPTH_MAX];
	unsigned int depth, in_flight;
	uint64_t count;
	double start;
	bool writes = argc == 6 && strcmp(argv[5], "write") == 0;

	if (argc < 4 || argc > (writes ? 6 : 5))
		fail("usage: reads DEVICE DEPTH COUNT [SIZE [write]]");
	depth = (unsigned int)number(argv[2]);
	count = number(argv[3]);
	if (depth < 1 || depth > DEPTH_MAX)
		fail("the depth is 1 to %u", DEPTH_MAX);
	reads.size = argc > 4 ? number(argv[4]) : PAGE;
	open_device(&reads, argv[1], writes);
	if (syscall(SYS_io_setup, (long)depth, &reads.context))
		fail_errno("asynchronous I/O");
	for (unsigned int i = 0; i < depth; i++) {
		first[i] = &reads.requests[i];
		*first[i] = (struct iocb){
			.aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)reads.file,
			.aio_buf = (uintptr_t)dma_pages(reads.size / PAGE),
			.aio_nbytes = reads.size,
		};
	}
	reads.left = count;
	start = seconds();
	in_flight = count < depth ? (unsigned int)count : depth;
	ask(&reads, first, in_flight);
	while (in_flight)
		in_flight -= take(&reads, in_flight);
	printf("reads: %llu at depth %u in %.4f s\n", (unsigned long long)count, depth,
		seconds() - start);
	return 0;
}

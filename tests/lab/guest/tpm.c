// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The TPM by its own commands (TPM 2.0 part 3): how often it was switched on in its life, and the SHA-256 PCRs 0 to 7.
 * tpm.pcrs=used: each of them has been extended; tpm.pcrs=unused: none.
 */
#include "lab.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEAD       10
#define DIGEST     32
#define READ_CLOCK 0x181
#define PCR_READ   0x17e
#define SHA256     0x0b

static uint32_t number_at(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return be32toh(value);
}

/* A command without sessions; the response has so many bytes behind its head. */
static void ask(
	uint32_t code, const uint8_t *parameters, size_t size, uint8_t *response, size_t wanted)
{
	uint8_t bytes[4096] = { 0x80, 0x01, 0, 0, 0, HEAD + size, 0, 0, code >> 8, code };
	int fd = open("/dev/tpm0", O_RDWR);
	ssize_t got;

	if (fd < 0)
		fail_errno("/dev/tpm0");
	memcpy(bytes + HEAD, parameters, size);
	if (write(fd, bytes, HEAD + size) != (ssize_t)(HEAD + size))
		fail_errno("command %#x", code);
	got = read(fd, bytes, sizeof(bytes));
	if (got < 0)
		fail_errno("response to %#x", code);
	close(fd);
	if (got < HEAD || number_at(bytes + 6))
		fail("command %#x: %zd bytes, code %#x", code, got, number_at(bytes + 6));
	if (got < (ssize_t)(HEAD + wanted))
		fail("command %#x: %zd bytes", code, got);
	memcpy(response, bytes + HEAD, wanted);
}

static bool is_used(unsigned int pcr)
{
	const uint8_t selection[] = { 0, 0, 0, 1, 0, SHA256, 3, 1 << pcr, 0, 0 };
	uint8_t response[4 + sizeof(selection) + 6 + DIGEST], zeros[DIGEST] = { 0 };
	const uint8_t *digest = response + 4 + sizeof(selection) + 6;

	ask(PCR_READ, selection, sizeof(selection), response, sizeof(response));
	if (number_at(digest - 6) != 1)
		fail("PCR %u: %u digests", pcr, number_at(digest - 6));
	printf("tpm: PCR %u ", pcr);
	for (unsigned int i = 0; i < DIGEST; i++)
		printf("%02x", digest[i]);
	printf("\n");
	return memcmp(digest, zeros, DIGEST) != 0;
}

int tpm_main(int argc, char **argv)
{
	uint8_t clock[8 + 8 + 4];
	unsigned int used = 0;
	char wanted[16];

	(void)argc, (void)argv;
	ask(READ_CLOCK, NULL, 0, clock, sizeof(clock));
	printf("tpm: reset %u\n", number_at(clock + 16));
	for (unsigned int pcr = 0; pcr < 8; pcr++)
		used += is_used(pcr);
	if (argument("tpm.pcrs", wanted, sizeof(wanted)) &&
		used != (strcmp(wanted, "used") ? 0 : 8))
		fail("%u of the first 8 PCRs have been extended", used);
	return 0;
}

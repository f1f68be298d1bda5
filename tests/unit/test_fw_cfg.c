/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/platform/fw_cfg.h"
#include "test.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SELECTOR (FW_CFG_PORT)
#define DATA     (FW_CFG_PORT + 1)
#define DMA      (FW_CFG_PORT + 4)
#define RAM      (16 * MIB)
#define COMMAND  0x1000 /* where the guest has its transfers */
#define BUFFER   0x2000

#define ERROR  1
#define READ   2
#define SKIP   4
#define SELECT 8
#define WRITE  16

struct fixture {
	struct memory memory;
	struct space pio;
	struct fw_cfg fw_cfg;
	unsigned refreshed;
	char text[16];
};

static void refresh(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->refreshed++;
	fixture->text[0]++;
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.pio);
	memory_place(&fixture.memory, RAM, MEMORY_PAGE, NULL, 0, &err);
	memory_map(&fixture.memory, memory_file(RAM, 0), MEMORY_HUGE, &err);
	strcpy(fixture.text, "0 files");
	assert_int_equal(fw_cfg_init(&fixture.fw_cfg, &fixture.pio, &fixture.memory), 0);
	fw_cfg_add_number(&fixture.fw_cfg, FW_CFG_CPUS, 0x1234, 2);
	fw_cfg_add_file(&fixture.fw_cfg, "etc/first", "abc", 3, NULL, NULL);
	fw_cfg_add_file(&fixture.fw_cfg, "etc/second", fixture.text, 7, refresh, &fixture);
	*state = &fixture;
	return err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	memory_free(&fixture->memory);
	space_destroy(&fixture->pio);
	return 0;
}

static void choose(struct fixture *fixture, uint16_t key)
{
	space_write(&fixture->pio, SELECTOR, 2, key);
}

static void read_bytes(struct fixture *fixture, void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)bytes)[i] = space_read(&fixture->pio, DATA, 1);
}

static void assert_item(struct fixture *fixture, uint16_t key, const void *bytes, size_t size)
{
	uint8_t got[256];

	choose(fixture, key);
	read_bytes(fixture, got, size + 2);
	assert_memory_equal(got, bytes, size);
	assert_memory_equal(got + size, "\0\0", 2); /* behind its end */
}

/* Returns what control has become. */
static uint32_t transfer(
	struct fixture *fixture, uint32_t control, uint32_t length, uint64_t address)
{
	uint32_t command[4] = { htobe32(control), htobe32(length), htobe32(address >> 32),
		htobe32(address) };
	uint32_t *at = memory_at(&fixture->memory, COMMAND, sizeof(command));

	memcpy(at, command, sizeof(command));
	space_write(&fixture->pio, DMA, 4, 0);
	space_write(&fixture->pio, DMA + 4, 4, htobe32(COMMAND));
	return be32toh(*at);
}

static void *buffer(struct fixture *fixture)
{
	return memory_at(&fixture->memory, BUFFER, 4096);
}

static void it_says_what_it_is(void **state)
{
	struct fixture *fixture = *state;

	assert_item(fixture, 0, "QEMU", 4);
	assert_item(fixture, 1, "\x03\0\0\0", 4);
	assert_item(fixture, FW_CFG_CPUS, "\x34\x12", 2);
	assert_int_equal(be32toh((uint32_t)space_read(&fixture->pio, DMA, 4)), 0x51454d55);
	assert_int_equal(be32toh((uint32_t)space_read(&fixture->pio, DMA + 4, 4)), 0x20434647);
}

static void the_directory_leads_to_the_files(void **state)
{
	struct fixture *fixture = *state;
	struct {
		uint32_t count;
		struct fw_cfg_file files[2];
	} __attribute__((packed)) directory;

	choose(fixture, 0x19);
	read_bytes(fixture, &directory, sizeof(directory));
	assert_int_equal(be32toh(directory.count), 2);
	assert_string_equal(directory.files[0].name, "etc/first");
	assert_string_equal(directory.files[1].name, "etc/second");
	assert_int_equal(be32toh(directory.files[0].size), 3);
	assert_item(fixture, be16toh(directory.files[0].key), "abc", 3);
	assert_item(fixture, be16toh(directory.files[1].key), "1 files", 7);
	assert_item(fixture, be16toh(directory.files[1].key), "2 files", 7);
	assert_int_equal(fixture->refreshed, 2);
}

static void an_unknown_item_is_empty(void **state)
{
	struct fixture *fixture = *state;

	assert_item(fixture, 0x7777, "", 0);
	assert_item(fixture, 0xc005, "", 0); /* for writing, of the architecture */
	/* Not in words. */
	choose(fixture, 0);
	space_write(&fixture->pio, SELECTOR, 1, 5);
	assert_int_equal((uint16_t)space_read(&fixture->pio, DATA, 2), 0xffff);
	assert_int_equal((uint8_t)space_read(&fixture->pio, DATA, 1), 'Q');
}

static void dma_reads_into_ram(void **state)
{
	struct fixture *fixture = *state;

	memset(buffer(fixture), 0xee, 4096);
	assert_int_equal(transfer(fixture, SELECT | READ | 0x20 << 16, 2, BUFFER), 0);
	assert_memory_equal(buffer(fixture), "ab\xee", 3);
	assert_int_equal(transfer(fixture, READ, 4, BUFFER), 0);
	assert_memory_equal(buffer(fixture), "c\0\0\0\xee", 5);
	assert_int_equal(transfer(fixture, SELECT | SKIP | 0x20 << 16, 1, 0), 0);
	assert_int_equal(transfer(fixture, READ, 1, BUFFER), 0);
	assert_memory_equal(buffer(fixture), "b\0", 2);
	/* Beyond all that a position can count. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(transfer(fixture, SKIP, UINT32_MAX, 0), 0);
	assert_int_equal(transfer(fixture, READ, 1, BUFFER), 0);
	assert_memory_equal(buffer(fixture), "\0\0", 2);
}

static void dma_reaches_ram_alone(void **state)
{
	static const uint64_t places[] = { RAM - 1, RAM, 0xffffffff, UINT64_MAX, UINT64_MAX - 1 };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		assert_int_equal(
			transfer(fixture, SELECT | READ | 0x20 << 16, 2, places[i]), ERROR);
	assert_int_equal(transfer(fixture, SELECT | READ, UINT32_MAX, 0), ERROR);
	assert_int_equal(transfer(fixture, SELECT | READ, 0, UINT64_MAX), 0);
	/* Nothing can be written. */
	assert_int_equal(transfer(fixture, SELECT | WRITE | 0x20 << 16, 2, BUFFER), ERROR);
	/* A command that is nowhere. */
	space_write(&fixture->pio, DMA, 4, htobe32(1));
	space_write(&fixture->pio, DMA + 4, 4, 0);
	space_write(&fixture->pio, DMA + 4, 4, htobe32(RAM - 8));
	space_write(&fixture->pio, DMA + 4, 2, 0);
	/* The upper half is for one time. */
	transfer(fixture, SELECT | READ | 0x20 << 16, 2, BUFFER);
	memset(buffer(fixture), 0xee, 2);
	space_write(&fixture->pio, DMA, 4, htobe32(1));
	space_write(&fixture->pio, DMA + 4, 4, htobe32(COMMAND));
	assert_memory_equal(buffer(fixture), "\xee\xee", 2);
	*(uint32_t *)memory_at(&fixture->memory, COMMAND, 4) = htobe32(SELECT | READ | 0x20 << 16);
	space_write(&fixture->pio, DMA + 4, 4, htobe32(COMMAND));
	assert_memory_equal(buffer(fixture), "ab", 2);
}

static void an_item_may_be_a_part_of_a_file(void **state)
{
	struct fixture *fixture = *state;
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, "setupkernel", 11, 0), 11);
	fw_cfg_add_fd(&fixture->fw_cfg, FW_CFG_KERNEL, fd, 5, 6);
	assert_item(fixture, FW_CFG_KERNEL, "kernel", 6);
	assert_int_equal(transfer(fixture, SELECT | READ | FW_CFG_KERNEL << 16, 7, BUFFER), 0);
	assert_memory_equal(buffer(fixture), "kernel\0", 7);
	/* Somebody has cut it short. */
	assert_int_equal(ftruncate(fd, 8), 0);
	assert_int_equal(transfer(fixture, SELECT | READ | FW_CFG_KERNEL << 16, 6, BUFFER), ERROR);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_says_what_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(the_directory_leads_to_the_files, setup, teardown),
		cmocka_unit_test_setup_teardown(an_unknown_item_is_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(dma_reads_into_ram, setup, teardown),
		cmocka_unit_test_setup_teardown(dma_reaches_ram_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(an_item_may_be_a_part_of_a_file, setup, teardown),
	};

	return test_run(tests);
}

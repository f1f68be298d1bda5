/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/platform/tpm.h"
#include "test.h"

#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Registers by their offsets, and bits, as the specification has them (6.5.3). */
#define LOC_STATE 0x00
#define LOC_CTRL  0x08
#define LOC_STS   0x0c
#define REQUEST   0x40
#define STATUS    0x44
#define CANCEL    0x48
#define START     0x4c

#define FAILED 1
#define IDLE   2

struct fixture {
	struct space mmio;
	struct loop *loop;
	struct tpm tpm;
	struct tpm_config config;
	int swtpm; /* its end; -1: it is gone */
};

static const uint8_t command[] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0 };
static const uint8_t success[] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0 };
static const uint8_t failure[] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01 };

static int setup(void **state)
{
	static struct fixture fixture;
	struct error err = { 0 };
	int pair[2];

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	fixture.loop = loop_new(&err);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	fixture.config = (struct tpm_config){ pair[0], eventfd(0, EFD_NONBLOCK) };
	fixture.swtpm = pair[1];
	*state = &fixture;
	return tpm_init(&fixture.tpm, "test", &fixture.config, &fixture.mmio, fixture.loop);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tpm_destroy(&fixture->tpm);
	loop_free(fixture->loop);
	space_destroy(&fixture->mmio);
	close(fixture->config.fd);
	close(fixture->config.cancel_fd);
	if (fixture->swtpm >= 0)
		close(fixture->swtpm);
	return 0;
}

static uint32_t get(struct fixture *fixture, unsigned offset)
{
	return space_read(&fixture->mmio, TPM_BASE + offset, 4);
}

static void set(struct fixture *fixture, unsigned offset, uint32_t value)
{
	space_write(&fixture->mmio, TPM_BASE + offset, 4, value);
}

/* Byte by byte, as UEFI does. */
static void put(struct fixture *fixture, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		space_write(
			&fixture->mmio, TPM_BASE + TPM_BUFFER + i, 1, ((const uint8_t *)bytes)[i]);
}

static void assert_response(struct fixture *fixture, const uint8_t *wanted, size_t size)
{
	assert_int_equal(get(fixture, START), 0);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(
			space_read(&fixture->mmio, TPM_BASE + TPM_BUFFER + i, 1), wanted[i]);
}

/* As far as a driver comes with a TPM that works. */
static void begin(struct fixture *fixture)
{
	uint8_t seen[64];

	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	put(fixture, command, sizeof(command));
	set(fixture, START, 1);
	assert_int_equal(get(fixture, START), 1);
	assert_int_equal(read(fixture->swtpm, seen, sizeof(seen)), sizeof(command));
	assert_memory_equal(seen, command, sizeof(command));
}

static void say(struct fixture *fixture, const void *bytes, size_t size)
{
	assert_int_equal(write(fixture->swtpm, bytes, size), size);
	loop_step(fixture->loop, 0);
	loop_step(fixture->loop, 0);
}

static void end_swtpm(struct fixture *fixture)
{
	close(fixture->swtpm);
	fixture->swtpm = -1;
	loop_step(fixture->loop, 0);
}

/* What drivers look at: Linux's tpm_crb, UEFI's Tpm2DeviceLib. */
static void it_says_what_it_is(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, LOC_STATE), 0x81);
	assert_int_equal(get(fixture, 0x30) & 0xff, 0x11); /* CRB, version 1 */
	assert_int_equal(get(fixture, 0x30) >> 13 & 3, 2); /* it has no other interface */
	assert_int_equal(get(fixture, 0x58), TPM_BUFFER_SIZE);
	assert_int_equal(get(fixture, 0x5c), TPM_BASE + TPM_BUFFER);
	assert_int_equal(get(fixture, 0x60), 0);
	assert_int_equal(get(fixture, 0x64), TPM_BUFFER_SIZE);
	assert_int_equal(get(fixture, 0x68), TPM_BASE + TPM_BUFFER);
	assert_int_equal(get(fixture, STATUS), IDLE);
	/* And stays so. */
	for (unsigned offset = 0; offset < TPM_BUFFER; offset += 4)
		if (offset != LOC_CTRL && offset != REQUEST && offset != CANCEL)
			set(fixture, offset, 0xa5a5a5a5);
	assert_int_equal(get(fixture, LOC_STATE), 0x81);
	assert_int_equal(get(fixture, 0x5c), TPM_BASE + TPM_BUFFER);
	assert_int_equal(get(fixture, STATUS), IDLE);
	assert_int_equal(get(fixture, START), 0);
}

static void a_locality_is_asked_for(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, LOC_CTRL, 1);
	assert_int_equal(get(fixture, LOC_STATE), 0x83);
	assert_int_equal(get(fixture, LOC_STS), 1);
	set(fixture, LOC_CTRL, 2);
	assert_int_equal(get(fixture, LOC_STATE), 0x81);
	assert_int_equal(get(fixture, LOC_STS), 0);
	set(fixture, REQUEST, 1);
	assert_int_equal(get(fixture, REQUEST), 0);
	assert_int_equal(get(fixture, STATUS), 0);
	set(fixture, REQUEST, 2);
	assert_int_equal(get(fixture, STATUS), IDLE);
}

static void a_command_is_answered(void **state)
{
	struct fixture *fixture = *state;
	uint8_t more[16];

	begin(fixture);
	/* Nothing but its response changes the buffer meanwhile. */
	put(fixture, "xxxx", 4);
	assert_int_equal(space_read(&fixture->mmio, TPM_BASE + TPM_BUFFER, 1), command[0]);
	set(fixture, START, 1);
	set(fixture, REQUEST, 2);
	assert_int_equal(get(fixture, STATUS), 0);
	assert_int_equal(read(fixture->swtpm, more, sizeof(more)), -1);
	say(fixture, success, 3);
	say(fixture, success + 3, 6);
	assert_int_equal(get(fixture, START), 1);
	say(fixture, success + 9, 1);
	assert_response(fixture, success, sizeof(success));
	assert_int_equal(get(fixture, STATUS), 0);
	/* And the next. */
	begin(fixture);
	say(fixture, success, sizeof(success));
	assert_response(fixture, success, sizeof(success));
}

static void the_longest_fits(void **state)
{
	struct fixture *fixture = *state;
	uint8_t longest[TPM_BUFFER_SIZE], seen[TPM_BUFFER_SIZE + 1];

	memset(longest, 0x5a, sizeof(longest));
	memcpy(longest,
		(const uint8_t[]){ 0x80, 1, 0, 0, TPM_BUFFER_SIZE >> 8, TPM_BUFFER_SIZE & 0xff },
		6);
	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	put(fixture, longest, sizeof(longest));
	set(fixture, START, 1);
	assert_int_equal(read(fixture->swtpm, seen, sizeof(seen)), sizeof(longest));
	assert_memory_equal(seen, longest, sizeof(longest));
	say(fixture, longest, sizeof(longest));
	assert_response(fixture, longest, sizeof(longest));
}

static void a_command_of_no_size_goes_nowhere(void **state)
{
	static const uint32_t bad[] = { 0, 9, TPM_BUFFER_SIZE + 1, 0x80000000, UINT32_MAX };
	static const uint8_t refused[] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42 };
	struct fixture *fixture = *state;
	uint8_t seen[16];

	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t size = htobe32(bad[i]);

		put(fixture, command, sizeof(command));
		space_write(&fixture->mmio, TPM_BASE + TPM_BUFFER + 2, 4, size);
		set(fixture, START, 1);
		assert_response(fixture, refused, sizeof(refused));
		assert_int_equal(get(fixture, STATUS), 0);
	}
	assert_int_equal(read(fixture->swtpm, seen, sizeof(seen)), -1);
}

static void a_command_needs_a_locality(void **state)
{
	struct fixture *fixture = *state;
	uint8_t seen[16];

	put(fixture, command, sizeof(command));
	set(fixture, REQUEST, 1);
	set(fixture, START, 1);
	assert_int_equal(get(fixture, START), 0);
	assert_int_equal(read(fixture->swtpm, seen, sizeof(seen)), -1);
}

/* As SeaBIOS does, which never asks for the state before. */
static void a_command_ends_idleness(void **state)
{
	struct fixture *fixture = *state;
	uint8_t seen[16];

	put(fixture, command, sizeof(command));
	set(fixture, LOC_CTRL, 1);
	assert_int_equal(get(fixture, STATUS), IDLE);
	set(fixture, START, 1);
	assert_int_equal(get(fixture, START), 1);
	assert_int_equal(get(fixture, STATUS), 0);
	assert_int_equal(read(fixture->swtpm, seen, sizeof(seen)), sizeof(command));
}

static void a_command_is_cancelled_once(void **state)
{
	struct fixture *fixture = *state;
	eventfd_t count;

	set(fixture, CANCEL, 1); /* there is none */
	set(fixture, CANCEL, 0);
	assert_int_equal(eventfd_read(fixture->config.cancel_fd, &count), -1);
	for (unsigned i = 0; i < 2; i++) {
		begin(fixture);
		for (unsigned j = 0; j < 100; j++)
			set(fixture, CANCEL, 1);
		assert_int_equal(get(fixture, CANCEL), 1);
		set(fixture, CANCEL, 0);
		assert_int_equal(eventfd_read(fixture->config.cancel_fd, &count), 0);
		assert_int_equal(count, 1);
		assert_int_equal(get(fixture, START), 1);
		say(fixture, success, sizeof(success));
		assert_response(fixture, success, sizeof(success));
	}
}

/* From then on every command fails, at once. */
static void assert_failed(struct fixture *fixture)
{
	assert_response(fixture, failure, sizeof(failure));
	assert_int_equal(get(fixture, STATUS) & FAILED, FAILED);
	set(fixture, REQUEST, 2);
	set(fixture, REQUEST, 1);
	assert_int_equal(get(fixture, STATUS), FAILED);
	put(fixture, command, sizeof(command));
	set(fixture, START, 1);
	assert_response(fixture, failure, sizeof(failure));
	loop_step(fixture->loop, 0);
}

static void a_swtpm_that_dies_fails(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture);
	end_swtpm(fixture);
	assert_failed(fixture);
}

static void a_swtpm_that_dies_in_the_midst_fails(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture);
	say(fixture, success, 5);
	end_swtpm(fixture);
	assert_failed(fixture);
}

static void a_swtpm_that_has_died_before_fails(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	end_swtpm(fixture);
	put(fixture, command, sizeof(command));
	set(fixture, START, 1);
	assert_failed(fixture);
}

/* Its end has not been heard of yet. */
static void a_command_that_cannot_be_sent_fails(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	put(fixture, command, sizeof(command));
	close(fixture->swtpm);
	fixture->swtpm = -1;
	set(fixture, START, 1);
	assert_failed(fixture);
}

static void a_swtpm_that_lies_fails(void **state)
{
	static const uint32_t bad[] = { 0, 9, TPM_BUFFER_SIZE + 1, 0x80000000, UINT32_MAX };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t lie[64] = { 0x80, 1, bad[i] >> 24, bad[i] >> 16, bad[i] >> 8, bad[i] };

		begin(fixture);
		say(fixture, lie, sizeof(lie));
		assert_failed(fixture);
		teardown(state);
		setup(state);
	}
	/* Nobody has asked. */
	set(fixture, LOC_CTRL, 1);
	set(fixture, REQUEST, 1);
	say(fixture, success, sizeof(success));
	put(fixture, command, sizeof(command));
	set(fixture, START, 1);
	assert_failed(fixture);
}

/* Not one of these waits for it. */
static void a_swtpm_that_never_answers_holds_nobody(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture);
	for (unsigned i = 0; i < 1000; i++) {
		set(fixture, START, 1);
		set(fixture, CANCEL, 1);
		set(fixture, CANCEL, 0);
		put(fixture, command, sizeof(command));
		loop_step(fixture->loop, 0);
	}
	assert_int_equal(get(fixture, START), 1);
	assert_int_equal(get(fixture, STATUS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_says_what_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_locality_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_is_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(the_longest_fits, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_of_no_size_goes_nowhere, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_needs_a_locality, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_ends_idleness, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_is_cancelled_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_swtpm_that_dies_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_swtpm_that_dies_in_the_midst_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_swtpm_that_has_died_before_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_command_that_cannot_be_sent_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(a_swtpm_that_lies_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_swtpm_that_never_answers_holds_nobody, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return test_run(tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/failover.h"
#include "host/fixture.h"
#include "test.h"

#include <errno.h>
#include <string.h>

#define NVME "/sys/devices/pci0000:00/0000:01:00.0"
#define NIC  "/sys/devices/pci0000:00/0000:02:00.0"
#define PF   "/sys/devices/pci0000:00/0000:03:00.0"
#define VF   "/sys/devices/pci0000:00/0000:03:10.0"

static const uint8_t mac[VIRTIO_MAC_SIZE] = { 0x52, 0x54, 0, 1, 2, 3 };

static int setup_cards(void **state)
{
	struct fixture *fixture;
	int code = fixture_setup(state);

	fixture = *state;
	fixture_device(fixture, NVME, "0x010802", "nvme", 1);
	fixture_device(fixture, NIC, "0x020000", "e1000e", 2);
	fixture_device(fixture, PF, "0x020000", "igb", 3);
	fixture_device(fixture, VF, "0x020000", "igbvf", 4);
	fixture_link(fixture, VF "/physfn", PF);
	fixture_link(fixture, PF "/virtfn0", VF);
	fixture_file(fixture, PF "/sriov_numvfs", "1\n");
	return code;
}

static void give_interface(struct fixture *fixture, const char *device, const char *interface,
	const char *address, const char *type)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/net/%s", device, interface);
	fixture_interface(fixture, path);
	snprintf(path, sizeof(path), "%s/net/%s/address", device, interface);
	fixture_file(fixture, path, address);
	snprintf(path, sizeof(path), "%s/net/%s/addr_assign_type", device, interface);
	fixture_file(fixture, path, type);
}

static struct broker_net standby_of(const char *device)
{
	struct broker_net net = { .tap = "vm0", .is_standby = true };

	assert_int_equal(bdf_parse(strrchr(device, '/') + 1, &net.primary), 0);
	return net;
}

static void assert_refused(
	struct fixture *fixture, const char *device, const char *words, const char *hint)
{
	struct broker_net net = standby_of(device);
	uint8_t found[VIRTIO_MAC_SIZE];
	struct error err = { 0 };

	assert_true(broker_failover_settle(&fixture->host, &net, found, &err) < 0);
	if (strcmp(err.object, strrchr(device, '/') + 1) || !strstr(err.what, words) ||
		!strstr(err.hint, hint))
		fail_msg("%s: %s; %s", err.object, err.what, err.hint);
}

TEST(it_has_the_address_of_the_passed_card)
{
	struct fixture *fixture = *state;
	uint8_t found[VIRTIO_MAC_SIZE] = { 0 };
	struct error err = { 0 };
	struct broker_net net = standby_of(VF);

	give_interface(fixture, VF, "eth1", "52:54:00:01:02:03\n", "0\n");
	assert_int_equal(broker_failover_settle(&fixture->host, &net, found, &err), 0);
	assert_memory_equal(found, mac, sizeof(mac));
}

TEST(an_address_that_was_said_is_taken)
{
	struct fixture *fixture = *state;
	uint8_t found[VIRTIO_MAC_SIZE] = { 2 };
	struct broker_net net = standby_of(NIC);
	struct error err = { 0 };

	net.has_mac = true;
	assert_int_equal(broker_failover_settle(&fixture->host, &net, found, &err), 0);
	assert_int_equal(found[0], 2);
}

/* A driver in the guest would make up another one, or read the card's. */
TEST(an_address_that_does_not_stay_is_refused)
{
	struct fixture *fixture = *state;

	assert_refused(fixture, VF, "the host's driver of it shows none",
		"penstock vf set --mac ADDRESS 0000:03:10.0' (ip link set PF vf 0 mac ADDRESS)");
	give_interface(fixture, VF, "eth1", "52:54:00:01:02:03\n", "1\n");
	assert_refused(fixture, VF, "it has none of its own", "and say the same with mac=ADDRESS");
	give_interface(fixture, NIC, "eth0", "52:54:00:01:02:03\n", "3\n");
	assert_refused(
		fixture, NIC, "it has none of its own", "say the one that it keeps, with mac=");
}

TEST(an_address_that_is_none_is_refused)
{
	struct fixture *fixture = *state;

	give_interface(fixture, VF, "eth1", "00:00:00:00:00:00\n", "0\n");
	assert_refused(fixture, VF, "it has none of its own", "mac=ADDRESS");
	give_interface(fixture, NIC, "ib0", "80:00:02:08:fe:80:00:00\n", "0\n");
	assert_refused(fixture, NIC, "it has none of its own", "mac=ADDRESS");
}

TEST(what_is_no_card_is_refused)
{
	struct fixture *fixture = *state;

	assert_refused(fixture, NVME, "network cards, and this is none", "");
	assert_refused(fixture, "/0000:09:00.0", "no such", "");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup_cards, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(it_has_the_address_of_the_passed_card),
		test(an_address_that_was_said_is_taken),
		test(an_address_that_does_not_stay_is_refused),
		test(an_address_that_is_none_is_refused),
		test(what_is_no_card_is_refused),
	};

	return test_run(tests);
}

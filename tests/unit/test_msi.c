/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "pci/msi.h"
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#define CAP 0x50

struct fixture {
	struct pci_device device;
	struct msi msi;
	struct msix msix;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	pci_device_init(&fixture.device, NULL);
	fixture.device.bars[1] = (struct pci_bar){ .kind = PCI_BAR_MEM32, .size = 64 * KIB };
	fixture.device.bars[2] = (struct pci_bar){ .kind = PCI_BAR_IO, .size = 64 * KIB };
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	msix_destroy(&fixture->msix);
	pci_device_destroy(&fixture->device);
	return 0;
}

static void set(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	pci_device_config_write(&fixture->device, offset, size, value);
}

static uint32_t get(struct fixture *fixture, unsigned offset, unsigned size)
{
	return pci_device_config_read(&fixture->device, offset, size);
}

/* MSI */

static int make_msi(struct fixture *fixture, unsigned cap, uint16_t flags)
{
	memset(&fixture->device.config[cap], 0xfc, min_u64(24, 256 - cap));
	fixture->device.config[cap] = PCI_CAP_ID_MSI;
	fixture->device.config[cap + 1] = 0;
	pci_set16(&fixture->device, cap + PCI_MSI_FLAGS, flags);
	return msi_init(&fixture->msi, &fixture->device, cap);
}

static void msi_of_32_bits(void **state)
{
	struct fixture *fixture = *state;
	struct msi_message message;

	assert_int_equal(make_msi(fixture, CAP, PCI_MSI_FLAGS_ENABLE), 0);
	assert_int_equal(fixture->msi.vectors, 1);
	/* What lies behind it is not its own. */
	set(fixture, CAP + 10, 4, 0);
	assert_int_equal(get(fixture, CAP + 10, 4), 0xfcfcfcfc);
	/* What the guest owns starts at 0, whatever the device held. */
	assert_false(msi_enabled(&fixture->msi, &fixture->device));
	assert_int_equal(get(fixture, CAP + PCI_MSI_ADDRESS_LO, 4), 0);
	assert_int_equal(get(fixture, CAP + PCI_MSI_DATA_32, 2), 0);
	set(fixture, CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee01007);
	set(fixture, CAP + PCI_MSI_DATA_32, 4, 0xabcd4041);
	set(fixture, CAP + PCI_MSI_FLAGS, 2, 0xffff);
	assert_int_equal(
		get(fixture, CAP + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	assert_true(msi_enabled(&fixture->msi, &fixture->device));
	assert_int_equal(msi_enabled_vectors(&fixture->msi, &fixture->device), 1);
	message = msi_message(&fixture->msi, &fixture->device, 0);
	assert_int_equal(message.address, 0xfee01004);
	assert_int_equal(message.data, 0x4041);
	assert_false(msi_masked(&fixture->msi, &fixture->device, 0));
}

static void msi_of_64_bits_with_masks(void **state)
{
	struct fixture *fixture = *state;
	uint16_t flags = PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1; /* 8 vectors */
	struct msi_message message;

	assert_int_equal(make_msi(fixture, CAP, flags), 0);
	assert_int_equal(fixture->msi.vectors, 8);
	assert_int_equal(get(fixture, CAP + PCI_MSI_MASK_64, 4), 0xfcfcfc00);
	assert_int_equal(get(fixture, CAP + PCI_MSI_PENDING_64, 4), 0);
	set(fixture, CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	set(fixture, CAP + PCI_MSI_ADDRESS_HI, 4, 0x12345678);
	set(fixture, CAP + PCI_MSI_DATA_64, 2, 0x40ff);
	set(fixture, CAP + PCI_MSI_MASK_64, 4, 0xffffffa5);
	set(fixture, CAP + PCI_MSI_PENDING_64, 4, UINT32_MAX);
	assert_int_equal(get(fixture, CAP + PCI_MSI_MASK_64, 4), 0xfcfcfca5);
	assert_int_equal(get(fixture, CAP + PCI_MSI_PENDING_64, 4), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(msi_masked(&fixture->msi, &fixture->device, i), 0xa5 >> i & 1);
	set(fixture, CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);
	assert_int_equal(msi_enabled_vectors(&fixture->msi, &fixture->device), 4);
	message = msi_message(&fixture->msi, &fixture->device, 2);
	assert_true(message.address == 0x12345678fee00000);
	assert_int_equal(message.data, 0x40fe); /* two low bits are the vector's */
}

/* A guest must not get more vectors than the device has by asking for them. */
static void msi_enables_no_more_than_there_are(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(make_msi(fixture, CAP, 1 << 1), 0);
	for (unsigned i = 0; i < 8; i++) {
		set(fixture, CAP + PCI_MSI_FLAGS, 2, i << 4);
		assert_int_equal(msi_enabled_vectors(&fixture->msi, &fixture->device), i ? 2 : 1);
	}
	assert_int_equal(make_msi(fixture, CAP, 5 << 1 | PCI_MSI_FLAGS_MASKBIT), 0);
	assert_int_equal(fixture->msi.vectors, MSI_VECTORS_MAX);
	assert_int_equal(get(fixture, CAP + PCI_MSI_MASK_32, 4), 0);
	set(fixture, CAP + PCI_MSI_MASK_32, 4, UINT32_MAX);
	assert_true(msi_masked(&fixture->msi, &fixture->device, 31));
	set(fixture, CAP + PCI_MSI_FLAGS, 2, 7 << 4);
	assert_int_equal(msi_enabled_vectors(&fixture->msi, &fixture->device), 32);
}

static void hostile_msi_is_refused(void **state)
{
	struct fixture *fixture = *state;
	const uint16_t both = PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT;

	assert_int_equal(make_msi(fixture, CAP, 6 << 1), -EINVAL); /* 64 vectors */
	assert_int_equal(fixture->msi.cap, 0);
	assert_int_equal(make_msi(fixture, CAP, 7 << 1), -EINVAL);
	/* Over the end of the space: 10, 14, 20 and 24 bytes. */
	assert_int_equal(make_msi(fixture, 0xf8, 0), -EINVAL);
	assert_int_equal(make_msi(fixture, 0xfc, 0), -EINVAL);
	assert_int_equal(make_msi(fixture, 0xf4, PCI_MSI_FLAGS_64BIT), -EINVAL);
	assert_int_equal(make_msi(fixture, 0xf0, PCI_MSI_FLAGS_MASKBIT), -EINVAL);
	assert_int_equal(make_msi(fixture, 0xec, both), -EINVAL);
	assert_false(msi_enabled(&fixture->msi, &fixture->device));
	assert_false(msi_touched(&fixture->msi, 0, 256));
	assert_int_equal(make_msi(fixture, 0xf4, 0), 0);
	assert_int_equal(make_msi(fixture, 0xf0, PCI_MSI_FLAGS_64BIT), 0);
	assert_int_equal(make_msi(fixture, 0xe8, both), 0);
}

static void an_access_touches_msi(void **state)
{
	struct fixture *fixture = *state;

	make_msi(fixture, CAP, PCI_MSI_FLAGS_64BIT);
	assert_false(msi_touched(&fixture->msi, CAP - 4, 4));
	assert_true(msi_touched(&fixture->msi, CAP - 1, 2));
	assert_true(msi_touched(&fixture->msi, CAP + 13, 1));
	assert_false(msi_touched(&fixture->msi, CAP + 14, 4));
	make_msi(fixture, CAP, 0);
	assert_true(msi_touched(&fixture->msi, CAP + 9, 1));
	assert_false(msi_touched(&fixture->msi, CAP + 10, 1));
	make_msi(fixture, CAP, PCI_MSI_FLAGS_MASKBIT);
	assert_true(msi_touched(&fixture->msi, CAP + 19, 1));
	assert_false(msi_touched(&fixture->msi, CAP + 20, 1));
}

/* MSI-X */

static int make_msix(struct fixture *fixture, unsigned vectors, uint32_t table, uint32_t pba)
{
	msix_destroy(&fixture->msix);
	pci_set16(&fixture->device, CAP, PCI_CAP_ID_MSIX);
	pci_set16(&fixture->device, CAP + PCI_MSIX_FLAGS, 0xc000 | (vectors - 1));
	pci_set32(&fixture->device, CAP + PCI_MSIX_TABLE, table);
	pci_set32(&fixture->device, CAP + PCI_MSIX_PBA, pba);
	return msix_init(&fixture->msix, &fixture->device, CAP);
}

static void msix_starts_masked_and_off(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(make_msix(fixture, 65, 0x1001, 0x8001), 0);
	assert_int_equal(fixture->msix.vectors, 65);
	assert_int_equal(fixture->msix.table_bar, 1);
	assert_int_equal(fixture->msix.table_offset, 0x1000);
	assert_int_equal(fixture->msix.pba_offset, 0x8000);
	assert_int_equal(msix_table_size(&fixture->msix), 65 * 16);
	assert_int_equal(msix_pba_size(&fixture->msix), 16);
	assert_false(msix_enabled(&fixture->msix, &fixture->device));
	for (unsigned i = 0; i < 65; i++)
		assert_true(msix_masked(&fixture->msix, &fixture->device, i));
	/* The guest writes the two control bits alone. */
	set(fixture, CAP + PCI_MSIX_FLAGS, 2, 0xffff);
	assert_int_equal(get(fixture, CAP + PCI_MSIX_FLAGS, 2), 0xc000 | 64);
	set(fixture, CAP + PCI_MSIX_TABLE, 4, 0);
	assert_int_equal(get(fixture, CAP + PCI_MSIX_TABLE, 4), 0x1001);
	assert_true(msix_enabled(&fixture->msix, &fixture->device));
}

static void msix_is_masked_by_vector_and_as_a_whole(void **state)
{
	struct fixture *fixture = *state;

	make_msix(fixture, 2, 0x1001, 0x8001);
	msix_table_write(&fixture->msix, 16 + 12, 4, 0);
	assert_true(msix_masked(&fixture->msix, &fixture->device, 0));
	assert_false(msix_masked(&fixture->msix, &fixture->device, 1));
	set(fixture, CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_MASKALL);
	assert_true(msix_masked(&fixture->msix, &fixture->device, 1));
	set(fixture, CAP + PCI_MSIX_FLAGS, 2, 0);
	assert_false(msix_masked(&fixture->msix, &fixture->device, 1));
	msix_table_write(&fixture->msix, 16 + 12, 4, 1);
	assert_true(msix_masked(&fixture->msix, &fixture->device, 1));
}

static void a_table_entry_is_a_message(void **state)
{
	struct fixture *fixture = *state;
	struct msi_message message;

	make_msix(fixture, 4, 0x1001, 0x8001);
	msix_table_write(&fixture->msix, 3 * 16, 8, 0x12345678fee01003);
	msix_table_write(&fixture->msix, 3 * 16 + 8, 8, 0xfffffffe00004041);
	message = msix_message(&fixture->msix, 3);
	assert_true(message.address == 0x12345678fee01000);
	assert_int_equal(message.data, 0x4041);
	assert_int_equal(msix_table_read(&fixture->msix, 3 * 16 + 12, 4), 0);
	message = msix_message(&fixture->msix, 2);
	assert_int_equal(message.address, 0);
}

/* Against a plain array, with the reserved bits cleared: 1:0 of an address, 31:1 of the control. */
static void the_table_takes_every_size_and_alignment(void **state)
{
	struct fixture *fixture = *state;
	uint8_t model[4 * 16] = { 0 };

	make_msix(fixture, 4, 0x1001, 0x8001);
	for (unsigned i = 0; i < 4; i++)
		model[16 * i + 12] = 1;
	for (unsigned size = 1; size <= 8; size *= 2)
		for (unsigned at = 0; at + size <= sizeof(model); at++) {
			uint64_t value = 0xf7e6d5c4b3a29187 * (at + size), wanted = 0;

			msix_table_write(&fixture->msix, at, size, value);
			for (unsigned i = 0; i < size; i++)
				model[at + i] = value >> 8 * i;
			for (unsigned i = 0; i < 4; i++) {
				model[16 * i] &= ~3;
				model[16 * i + 12] &= 1;
				memset(&model[16 * i + 13], 0, 3);
			}
			assert_memory_equal(fixture->msix.table, model, sizeof(model));
			for (unsigned i = 0; i < size; i++)
				wanted |= (uint64_t)model[at + i] << 8 * i;
			assert_true(msix_table_read(&fixture->msix, at, size) == wanted);
		}
}

static void hostile_msix_is_refused(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(make_msix(fixture, 1, 0x1000, 0x8001), -EINVAL); /* BAR 0: none */
	assert_int_equal(fixture->msix.cap, 0);
	assert_int_equal(make_msix(fixture, 1, 0x1002, 0x8001), -EINVAL); /* ports */
	assert_int_equal(make_msix(fixture, 1, 0x1006, 0x8001), -EINVAL); /* no such BAR */
	assert_int_equal(make_msix(fixture, 1, 0x1007, 0x8001), -EINVAL);
	assert_int_equal(make_msix(fixture, 1, 0x10001, 0x8001), -EINVAL); /* behind the end */
	assert_int_equal(make_msix(fixture, 2, 0xfff1, 0x8001), -EINVAL);  /* over the end */
	assert_int_equal(make_msix(fixture, 1, 0xfffffff9, 0x8001), -EINVAL);
	assert_int_equal(make_msix(fixture, 2048, 0x8009, 0x1001), -EINVAL);
	assert_int_equal(make_msix(fixture, 1, 0x1001, 0x8000), -EINVAL);
	assert_int_equal(make_msix(fixture, 1, 0x1001, 0x10001), -EINVAL);
	assert_int_equal(make_msix(fixture, 65, 0x1001, 0xfff9), -EINVAL);
	assert_false(msix_enabled(&fixture->msix, &fixture->device));
	assert_false(msix_touched(&fixture->msix, 0, 256));
	assert_int_equal(make_msix(fixture, 1, 0xfff1, 0xfff9), 0);
	assert_int_equal(make_msix(fixture, 2048, 0x8001, 0x1), 0);
	assert_int_equal(msix_pba_size(&fixture->msix), 256);
	msix_table_write(&fixture->msix, 2047 * 16 + 8, 8, UINT64_MAX);
	assert_int_equal(msix_message(&fixture->msix, 2047).data, UINT32_MAX);
}

static void an_access_touches_msix(void **state)
{
	struct fixture *fixture = *state;

	make_msix(fixture, 1, 0x1001, 0x8001);
	assert_false(msix_touched(&fixture->msix, CAP - 4, 4));
	assert_true(msix_touched(&fixture->msix, CAP - 1, 2));
	assert_true(msix_touched(&fixture->msix, CAP + 11, 1));
	assert_false(msix_touched(&fixture->msix, CAP + 12, 4));
}

#define MSI_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MSI_TEST(msi_of_32_bits),
		MSI_TEST(msi_of_64_bits_with_masks),
		MSI_TEST(msi_enables_no_more_than_there_are),
		MSI_TEST(hostile_msi_is_refused),
		MSI_TEST(an_access_touches_msi),
		MSI_TEST(msix_starts_masked_and_off),
		MSI_TEST(msix_is_masked_by_vector_and_as_a_whole),
		MSI_TEST(a_table_entry_is_a_message),
		MSI_TEST(the_table_takes_every_size_and_alignment),
		MSI_TEST(hostile_msix_is_refused),
		MSI_TEST(an_access_touches_msix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

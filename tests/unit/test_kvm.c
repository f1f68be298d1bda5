/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kvm.h"
#include "kvm/cpuid.h"
#include "kvm/vcpu.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

/* What the room asks of KVM, and what it does where KVM cannot; with a real one: tests/kvm. */

static struct kvm_vm *vm;
static struct error err;

static int setup(void **state)
{
	(void)state;
	fake_kvm_reset();
	err = (struct error){ 0 };
	vm = kvm_vm_new(FAKE_KVM_FD, &err);
	return vm ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	kvm_vm_free(vm);
	return 0;
}

static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A VM that cannot be: what is told, and that nothing is left of it. */

static void assert_no_vm(int code, const char *words)
{
	unsigned before = descriptors();

	err = (struct error){ 0 };
	assert_null(kvm_vm_new(FAKE_KVM_FD, &err));
	assert_int_equal(err.code, code);
	assert_string_equal(err.object, "/dev/kvm");
	if (!strstr(err.what, words))
		fail_msg("'%s' is not in '%s'", words, err.what);
	assert_int_equal(descriptors(), before);
}

TEST(a_capability_that_lacks_is_named)
{
	static const struct {
		int cap;
		const char *words;
	} needed[] = {
		{ KVM_CAP_USER_MEMORY, "memory slots" },
		{ KVM_CAP_IRQCHIP, "interrupt controllers" },
		{ KVM_CAP_PIT2, "timer" },
		{ KVM_CAP_IRQFD, "irqfd" },
		{ KVM_CAP_IRQFD_RESAMPLE, "irqfd with resampling" },
		{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
		{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
		{ KVM_CAP_EXT_CPUID, "CPUID" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		fake_kvm.lacking = needed[i].cap;
		assert_no_vm(-ENOTSUP, needed[i].words);
	}
}

TEST(another_version_of_the_interface_is_told)
{
	fake_kvm.version = 13;
	assert_no_vm(-ENOTSUP, "version 13");
}

TEST(a_vm_that_cannot_be_made_is_told)
{
	fake_kvm.failing = KVM_CREATE_VM;
	fake_kvm.code = EBUSY;
	assert_no_vm(-EBUSY, "cannot make a VM");
	assert_true(err.hint[0]);
}

TEST(a_vm_that_cannot_be_set_up_is_told)
{
	static const unsigned long steps[] = { KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR,
		KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2, KVM_SET_GSI_ROUTING };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		fake_kvm.failing = steps[i];
		fake_kvm.code = ENOMEM;
		assert_no_vm(-ENOMEM, "interrupt controllers");
	}
}

/* The pages for real mode: four, below the local APICs, with the map below the segment. */
TEST(a_vm_has_room_for_real_mode)
{
	assert_int_equal(fake_kvm.identity_map % 4096, 0);
	assert_int_equal(fake_kvm.tss, fake_kvm.identity_map + 4096);
	assert_true(fake_kvm.identity_map >= 0xfec01000);
	assert_true(fake_kvm.tss + 3 * 4096 <= 0xfee00000 + 0x200000UL);
}

/* Without this quirk a BAR that goes does not take all second-level entries along. */
TEST(a_quirk_is_switched_off_where_it_can_be)
{
	assert_int_equal(fake_kvm.enabled.cap, KVM_CAP_DISABLE_QUIRKS2);
	assert_int_equal(fake_kvm.enabled.args[0], 1 << 7);
	kvm_vm_free(vm);
	fake_kvm_reset();
	fake_kvm.quirks = ~(1 << 7);
	vm = kvm_vm_new(FAKE_KVM_FD, &err);
	assert_non_null(vm);
	assert_int_equal(fake_kvm_calls(KVM_ENABLE_CAP), 0);
	kvm_vm_free(vm);
	fake_kvm_reset();
	fake_kvm.quirks = -1; /* a kernel that does not know the question */
	vm = kvm_vm_new(FAKE_KVM_FD, &err);
	assert_non_null(vm);
	assert_int_equal(fake_kvm_calls(KVM_ENABLE_CAP), 0);
}

TEST(a_kernel_may_be_unable_to_fill_tables)
{
	assert_true(vm->can_prefault);
	kvm_vm_free(vm);
	fake_kvm.lacking = 236; /* KVM_CAP_PRE_FAULT_MEMORY */
	vm = kvm_vm_new(FAKE_KVM_FD, &err);
	assert_false(vm->can_prefault);
}

/* HLT 2, PAUSE 4, and MWAIT 1 where it can be; C-states 8 are not ours to give. */
TEST(idle_instructions_are_left_to_the_guest)
{
	assert_false(fake_kvm.enabled_caps[KVM_CAP_X86_DISABLE_EXITS]);
	assert_int_equal(kvm_dedicate_check(FAKE_KVM_FD, &err), 0);
	assert_int_equal(kvm_vm_dedicate(vm, &err), 0);
	assert_int_equal(fake_kvm.enabled.cap, KVM_CAP_X86_DISABLE_EXITS);
	assert_int_equal(fake_kvm.enabled.args[0], 7);
	fake_kvm.exits = 6;
	assert_int_equal(kvm_dedicate_check(FAKE_KVM_FD, &err), 0);
	assert_int_equal(kvm_vm_dedicate(vm, &err), 0);
	assert_int_equal(fake_kvm.enabled.args[0], 6);
	fake_kvm.failing = KVM_ENABLE_CAP;
	fake_kvm.code = EINVAL;
	assert_int_equal(kvm_vm_dedicate(vm, &err), -EINVAL);
}

TEST(a_kvm_that_leaves_nothing_to_guests_is_told)
{
	static const int few[] = { 4, 5, 0, -1 };

	for (size_t i = 0; i < ARRAY_SIZE(few); i++) {
		err = (struct error){ 0 };
		fake_kvm.exits = few[i];
		assert_int_equal(kvm_dedicate_check(FAKE_KVM_FD, &err), -ENOTSUP);
		assert_non_null(strstr(err.what, "HLT and PAUSE"));
	}
}

/* Slots */

TEST(slots_get_numbers_of_their_own)
{
	static uint8_t memory[3 * 4096] __attribute__((aligned(4096)));

	assert_int_equal(kvm_slot_map(vm, 0x1000, 8192, memory, KVM_MEM_READONLY), 0);
	assert_int_equal(fake_kvm.slot.slot, 0);
	assert_int_equal(fake_kvm.slot.guest_phys_addr, 0x1000);
	assert_int_equal(fake_kvm.slot.memory_size, 8192);
	assert_int_equal(fake_kvm.slot.userspace_addr, (uintptr_t)memory);
	assert_int_equal(fake_kvm.slot.flags, KVM_MEM_READONLY);
	assert_int_equal(kvm_slot_map(vm, 0x5000, 4096, memory + 4096, 0), 1);
	assert_int_equal(fake_kvm.slot.flags, 0);
	kvm_slot_unmap(vm, 0);
	assert_int_equal(fake_kvm.slot.slot, 0);
	assert_int_equal(fake_kvm.slot.memory_size, 0);
	assert_int_equal(kvm_slot_map(vm, 0x1000, 4096, memory, 0), 0);
	assert_int_equal(kvm_slot_map(vm, 0x8000, 4096, memory, 0), 2);
}

TEST(a_slot_that_kvm_refuses_is_free_again)
{
	static uint8_t memory[4096] __attribute__((aligned(4096)));

	fake_kvm.failing = KVM_SET_USER_MEMORY_REGION;
	fake_kvm.code = EEXIST;
	assert_int_equal(kvm_slot_map(vm, 0, 4096, memory, 0), -EEXIST);
	fake_kvm.failing = 0;
	assert_int_equal(kvm_slot_map(vm, 0, 4096, memory, 0), 0);
}

TEST(slots_run_out)
{
	static uint8_t memory[4096] __attribute__((aligned(4096)));

	for (int i = 0; i < KVM_SLOTS_MAX; i++)
		assert_int_equal(kvm_slot_map(vm, i * 4096, 4096, memory, 0), i);
	assert_int_equal(kvm_slot_map(vm, 1 << 30, 4096, memory, 0), -ENOSPC);
	kvm_slot_unmap(vm, 700);
	assert_int_equal(kvm_slot_map(vm, 1 << 30, 4096, memory, 0), 700);
}

/* Interrupts */

static unsigned count_routes(uint32_t gsi, uint32_t type, uint32_t chip, uint32_t pin)
{
	unsigned count = 0;

	for (unsigned i = 0; i < fake_kvm.route_count; i++) {
		const struct kvm_irq_routing_entry *route = &fake_kvm.routes[i];

		count += route->gsi == gsi && route->type == type && !route->flags &&
			 (type == KVM_IRQ_ROUTING_MSI ||
				 (route->u.irqchip.irqchip == chip && route->u.irqchip.pin == pin));
	}
	return count;
}

/* Intel's 8259 and 82093 as a PC wires them: the timer at pin 2 of the IOAPIC, no line at the cascade. */
TEST(the_lines_are_those_of_a_pc)
{
	const uint32_t type = KVM_IRQ_ROUTING_IRQCHIP;

	for (unsigned gsi = 0; gsi < 24; gsi++) {
		unsigned pic = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;

		assert_int_equal(
			count_routes(gsi, type, KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2), gsi != 2);
		assert_int_equal(count_routes(gsi, type, pic, gsi % 8), gsi < 16 && gsi != 2);
	}
	assert_int_equal(fake_kvm.route_count, 23 + 15);
}

static const struct kvm_irq_routing_entry *find_msi(unsigned gsi)
{
	for (unsigned i = 0; i < fake_kvm.route_count; i++)
		if (fake_kvm.routes[i].gsi == gsi && fake_kvm.routes[i].type == KVM_IRQ_ROUTING_MSI)
			return &fake_kvm.routes[i];
	return NULL;
}

static void assert_msi(unsigned gsi, uint64_t address, uint32_t data)
{
	const struct kvm_irq_routing_entry *route = find_msi(gsi);

	assert_non_null(route);
	assert_int_equal(count_routes(gsi, KVM_IRQ_ROUTING_MSI, 0, 0), 1);
	assert_int_equal(route->u.msi.address_lo, (uint32_t)address);
	assert_int_equal(route->u.msi.address_hi, address >> 32);
	assert_int_equal(route->u.msi.data, data);
}

TEST(a_route_is_set_changed_and_freed)
{
	unsigned commits = fake_kvm_calls(KVM_SET_GSI_ROUTING);
	int a = kvm_gsi_alloc(vm), b = kvm_gsi_alloc(vm), c = kvm_gsi_alloc(vm);

	assert_int_equal(a, KVM_IOAPIC_PINS);
	assert_int_equal(b, KVM_IOAPIC_PINS + 1);
	kvm_route_msi(vm, a, 0x100fee00000, 1);
	kvm_route_msi(vm, b, 0xfee01000, 2);
	kvm_route_msi(vm, c, 0xfee02000, 3);
	kvm_route_msi(vm, b, 0xfee01004, 22);
	assert_int_equal(fake_kvm_calls(KVM_SET_GSI_ROUTING), commits);
	assert_int_equal(kvm_routes_commit(vm), 0);
	assert_int_equal(fake_kvm_calls(KVM_SET_GSI_ROUTING), commits + 1);
	assert_int_equal(fake_kvm.route_count, 38 + 3);
	assert_msi(a, 0x100fee00000, 1);
	assert_msi(b, 0xfee01004, 22);
	assert_msi(c, 0xfee02000, 3);
	/* Those that stay are as before, and so are the PC's lines. */
	kvm_gsi_free(vm, a);
	assert_int_equal(kvm_routes_commit(vm), 0);
	assert_int_equal(fake_kvm.route_count, 38 + 2);
	assert_null(find_msi(a));
	assert_msi(b, 0xfee01004, 22);
	assert_msi(c, 0xfee02000, 3);
	for (unsigned gsi = 16; gsi < 24; gsi++)
		assert_int_equal(
			count_routes(gsi, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, gsi), 1);
	/* The number goes to the next; one without a route may be freed. */
	assert_int_equal(kvm_gsi_alloc(vm), a);
	kvm_gsi_free(vm, a);
	assert_int_equal(kvm_routes_commit(vm), 0);
	assert_int_equal(fake_kvm.route_count, 38 + 2);
}

/* KVM takes 4096 routes; the lines of the PC are some of them. */
TEST(gsis_run_out_before_routes_do)
{
	int gsi, count = 0, last = 0;

	while ((gsi = kvm_gsi_alloc(vm)) >= 0) {
		kvm_route_msi(vm, gsi, 0xfee00000, gsi);
		last = gsi;
		count++;
	}
	assert_int_equal(gsi, -ENOSPC);
	assert_true(count > 4000);
	assert_true(last < 4096);
	assert_int_equal(kvm_routes_commit(vm), 0);
	assert_int_equal(fake_kvm.route_count, 38 + count);
	assert_true(fake_kvm.route_count <= 4096);
	kvm_gsi_free(vm, 2000);
	assert_int_equal(kvm_gsi_alloc(vm), 2000);
	assert_int_equal(kvm_gsi_alloc(vm), -ENOSPC);
}

TEST(routes_that_kvm_refuses_are_told)
{
	fake_kvm.failing = KVM_SET_GSI_ROUTING;
	fake_kvm.code = EINVAL;
	assert_int_equal(kvm_routes_commit(vm), -EINVAL);
}

TEST(an_irqfd_is_attached_and_detached)
{
	assert_int_equal(kvm_irqfd_attach(vm, 30, 5, -1), 0);
	assert_int_equal(fake_kvm.irqfd.fd, 5);
	assert_int_equal(fake_kvm.irqfd.gsi, 30);
	assert_int_equal(fake_kvm.irqfd.flags, 0);
	assert_int_equal(kvm_irqfd_attach(vm, 16, 6, 0), 0);
	assert_int_equal(fake_kvm.irqfd.flags, KVM_IRQFD_FLAG_RESAMPLE);
	assert_int_equal(fake_kvm.irqfd.resamplefd, 0);
	kvm_irqfd_detach(vm, 30, 5);
	assert_int_equal(fake_kvm.irqfd.fd, 5);
	assert_int_equal(fake_kvm.irqfd.gsi, 30);
	assert_int_equal(fake_kvm.irqfd.flags, KVM_IRQFD_FLAG_DEASSIGN);
	fake_kvm.failing = KVM_IRQFD;
	fake_kvm.code = EBUSY;
	assert_int_equal(kvm_irqfd_attach(vm, 30, 5, -1), -EBUSY);
}

TEST(a_line_has_a_level)
{
	kvm_irq_line(vm, 9, true);
	assert_int_equal(fake_kvm.line.irq, 9);
	assert_int_equal(fake_kvm.line.level, 1);
	kvm_irq_line(vm, 9, false);
	assert_int_equal(fake_kvm.line.level, 0);
}

TEST(a_message_has_an_address_of_64_bits)
{
	kvm_signal_msi(vm, 0x1fee01000, 0x4021);
	assert_int_equal(fake_kvm.msi.address_lo, 0xfee01000);
	assert_int_equal(fake_kvm.msi.address_hi, 0x1);
	assert_int_equal(fake_kvm.msi.data, 0x4021);
	assert_int_equal(fake_kvm.msi.flags, 0);
}

TEST(kvm_is_told_of_vfio_files)
{
	unsigned before = descriptors();

	assert_int_equal(kvm_add_vfio_file(vm, 17), 0);
	assert_int_equal(fake_kvm.vfio_file, 17);
	assert_int_equal(fake_kvm.vfio_change, KVM_DEV_VFIO_GROUP_ADD);
	assert_int_equal(kvm_add_vfio_file(vm, 18), 0);
	assert_int_equal(fake_kvm.vfio_file, 18);
	assert_int_equal(fake_kvm_calls(KVM_CREATE_DEVICE), 1);
	assert_int_equal(descriptors(), before + 1);
	kvm_remove_vfio_file(vm, 17);
	assert_int_equal(fake_kvm.vfio_file, 17);
	assert_int_equal(fake_kvm.vfio_change, KVM_DEV_VFIO_GROUP_DEL);
	fake_kvm.failing = KVM_SET_DEVICE_ATTR;
	fake_kvm.code = ENOENT;
	assert_int_equal(kvm_add_vfio_file(vm, 19), -ENOENT);
	kvm_vm_free(vm);
	assert_int_equal(descriptors(), before - 1);
	vm = kvm_vm_new(FAKE_KVM_FD, &err);
	fake_kvm.failing = KVM_CREATE_DEVICE;
	fake_kvm.code = ENODEV;
	assert_int_equal(kvm_add_vfio_file(vm, 17), -ENODEV);
}

/* vCPUs */

static void assert_no_vcpu(unsigned long failing, const char *words)
{
	unsigned before = descriptors();
	struct kvm_vcpu vcpu;
	int code;

	err = (struct error){ 0 };
	fake_kvm.failing = failing;
	fake_kvm.code = EINVAL;
	code = kvm_vcpu_open(&vcpu, vm, &KVM_CPUS(4), 3, &err);
	assert_true(code < 0);
	assert_int_equal(err.code, code);
	assert_string_equal(err.object, "vCPU 3");
	if (!strstr(err.what, words))
		fail_msg("'%s' is not in '%s'", words, err.what);
	kvm_vcpu_close(&vcpu);
	assert_int_equal(descriptors(), before);
}

TEST(a_vcpu_that_cannot_be_made_is_told)
{
	assert_no_vcpu(KVM_CREATE_VCPU, "cannot be made");
	assert_no_vcpu(KVM_GET_SUPPORTED_CPUID, "CPUID");
	assert_no_vcpu(KVM_SET_CPUID2, "CPUID");
	assert_no_vcpu(KVM_SET_MSRS, "MTRRs");
	vm->vcpu_mmap_size = 0;
	assert_no_vcpu(0, "shared page");
}

/* What the guest's kernel would miss or pay for: see the comments at each. */
TEST(a_vcpu_is_set_up_as_firmware_would)
{
	struct kvm_vcpu vcpu;

	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &KVM_CPUS(2), 1, &err), 0);
	assert_int_equal(fake_kvm.banks, 1);
	assert_int_equal(fake_kvm.msr_count, 2);
	assert_int_equal(fake_kvm.msrs[0].index, 0x1a0); /* IA32_MISC_ENABLE: fast strings */
	assert_int_equal(fake_kvm.msrs[0].data, 1);
	assert_int_equal(fake_kvm.msrs[1].index, 0x2ff); /* IA32_MTRR_DEF_TYPE: on, write-back */
	assert_int_equal(fake_kvm.msrs[1].data, 0x806);
	assert_int_equal(vcpu.index, 1);
	assert_int_equal(vcpu.run->immediate_exit, 0);
	kvm_vcpu_kick(&vcpu);
	assert_int_equal(vcpu.run->immediate_exit, 1);
	assert_int_equal(kvm_vcpu_run(&vcpu), -EINTR);
	kvm_vcpu_close(&vcpu);
}

/* KVM's ID of a vCPU is its local APIC's: of 3 cores with 2 threads, the second socket begins at 8. */
TEST(a_vcpu_has_the_id_of_its_place)
{
	const struct kvm_cpus cpus = { .count = 12, .cores = 3, .threads = 2 };
	struct kvm_vcpu vcpu;

	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &cpus, 7, &err), 0);
	assert_int_equal(fake_kvm.vcpu, 9);
	assert_int_equal(vcpu.index, 7);
	kvm_vcpu_close(&vcpu);
}

TEST(enlightenments_are_switched_on)
{
	struct kvm_cpus cpus = KVM_CPUS(1);
	struct kvm_vcpu vcpu;

	fake_kvm.supported_count = 0;
	fake_kvm.hyperv_count = 1;
	fake_kvm.hyperv[0] = (struct kvm_cpuid_entry2){ .function = 0x40000003, .eax = 1 << 5 };
	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &cpus, 0, &err), 0);
	assert_false(fake_kvm.enabled_caps[KVM_CAP_HYPERV_SYNIC2]);
	kvm_vcpu_close(&vcpu);
	cpus.hyperv = true;
	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &cpus, 0, &err), 0);
	assert_true(fake_kvm.enabled_caps[KVM_CAP_HYPERV_SYNIC2]);
	assert_true(fake_kvm.enabled_caps[KVM_CAP_HYPERV_ENFORCE_CPUID]);
	assert_int_equal(fake_kvm.enabled.args[0], 1);
	kvm_vcpu_close(&vcpu);
	fake_kvm.failing = KVM_ENABLE_CAP;
	fake_kvm.code = EINVAL;
	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &cpus, 0, &err), -EINVAL);
	assert_non_null(strstr(err.what, "Hyper-V"));
	kvm_vcpu_close(&vcpu);
}

/* Intel SDM volume 3, 9.8.5: what IA-32e mode needs; boot protocol: selectors 10 and 18, flat. */
TEST(a_vcpu_enters_long_mode)
{
	const struct kvm_sregs *sregs = &fake_kvm.sregs;
	struct kvm_vcpu vcpu;

	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &KVM_CPUS(1), 0, &err), 0);
	assert_int_equal(kvm_vcpu_enter_long_mode(&vcpu, 0x9000, 0x500, 0x100200, 0x7000, &err), 0);
	assert_int_equal(fake_kvm.regs.rip, 0x100200);
	assert_int_equal(fake_kvm.regs.rsi, 0x7000);
	assert_int_equal(fake_kvm.regs.rflags, 2);
	assert_int_equal(sregs->cr0, 0x80000011);
	assert_int_equal(sregs->cr3, 0x9000);
	assert_int_equal(sregs->cr4, 0x20);
	assert_int_equal(sregs->efer, 0x500);
	assert_int_equal(sregs->gdt.base, 0x500);
	assert_int_equal(sregs->gdt.limit, 31);
	assert_int_equal(sregs->cs.selector, 0x10);
	assert_int_equal(sregs->cs.l, 1);
	assert_int_equal(sregs->cs.db, 0);
	assert_int_equal(sregs->cs.type, 11);
	assert_int_equal(sregs->ss.selector, 0x18);
	assert_int_equal(sregs->ss.l, 0);
	assert_int_equal(sregs->ss.db, 1);
	assert_int_equal(sregs->ds.type, 3);
	assert_memory_equal(&sregs->es, &sregs->ds, sizeof(sregs->ds));
	assert_memory_equal(&sregs->fs, &sregs->ds, sizeof(sregs->ds));
	assert_memory_equal(&sregs->gs, &sregs->ds, sizeof(sregs->ds));
	kvm_vcpu_close(&vcpu);
}

/* The table says the same as the segments that the CPU starts with. */
TEST(the_table_holds_those_segments)
{
	for (unsigned i = 2; i < 4; i++) {
		uint64_t entry = kvm_vcpu_gdt[i];

		assert_int_equal(entry & 0xffff, 0xffff);             /* limit */
		assert_int_equal(entry >> 48 & 0xf, 0xf);             /* its top */
		assert_int_equal(entry >> 16 & 0xffffff, 0);          /* base */
		assert_int_equal(entry >> 40 & 0xf, i == 2 ? 11 : 3); /* type */
		assert_int_equal(entry >> 44 & 0xf, 9);               /* present, code or data */
		assert_int_equal(entry >> 52 & 0xf, i == 2 ? 10 : 12);
	}
	assert_int_equal(kvm_vcpu_gdt[0], 0);
}

TEST(registers_that_cannot_be_set_are_told)
{
	static const unsigned long steps[] = { KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_REGS };
	struct kvm_vcpu vcpu;

	assert_int_equal(kvm_vcpu_open(&vcpu, vm, &KVM_CPUS(1), 0, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		err = (struct error){ 0 };
		fake_kvm.failing = steps[i];
		fake_kvm.code = EINVAL;
		assert_int_equal(kvm_vcpu_enter_long_mode(&vcpu, 0, 0, 0, 0, &err), -EINVAL);
		assert_non_null(strstr(err.what, i ? "cannot set" : "cannot read"));
	}
	kvm_vcpu_close(&vcpu);
}

/* CPUID */

static void support(
	uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	fake_kvm.supported[fake_kvm.supported_count++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

#define VENDOR(text) ((text)[0] | (text)[1] << 8 | (text)[2] << 16 | (uint32_t)(text)[3] << 24)

/* As a host with many threads has it. */
static void support_cpu(const char *vendor)
{
	fake_kvm.supported_count = 0;
	support(0, 0, 0x20, VENDOR(vendor), 0, 0);
	support(1, 0, 0x12345, 0x7f400800, 0x7fffffff, 0xffffffff);
	support(4, 0, 0xfc1fc121, 1, 2, 3); /* level 1, data, shared by all */
	support(4, 3, 0xfc1fc163, 1, 2, 3); /* level 3 */
	support(4, 4, 0, 0, 0, 0);          /* no more */
	support(0xb, 0, 1, 2, 0x100, 77);
	support(0xb, 1, 7, 128, 0x201, 77);
	support(0x1f, 0, 1, 2, 0x100, 77);
	support(0x80000001, 0, 9, 9, 2, 9);
	support(0x80000008, 0, 0x3030, 9, 0x707f, 9);
	support(0x8000001d, 0, 0xfc1fc121, 1, 2, 3);
	support(0x8000001d, 3, 0xfc1fc163, 1, 2, 3);
	support(0x8000001d, 4, 0, 0, 0, 0);
	support(0x8000001e, 0, 77, 0x177, 0x777, 9);
	support(0x80000026, 0, 1, 2, 3, 77);
}

static void set_cpuid(const char *vendor, unsigned id, unsigned count)
{
	support_cpu(vendor);
	assert_int_equal(kvm_cpuid_set(FAKE_KVM_FD, -1, &KVM_CPUS(count), id), 0);
}

static void assert_leaf(
	uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	const struct kvm_cpuid_entry2 *entry = fake_kvm_leaf(function, index);

	assert_non_null(entry);
	assert_int_equal(entry->eax, eax);
	assert_int_equal(entry->ebx, ebx);
	assert_int_equal(entry->ecx, ecx);
	assert_int_equal(entry->edx, edx);
}

/* SDM volume 2, CPUID: leaf 1 tells APIC ID and logical processors, leaf 4 who shares a cache. */
TEST(an_intel_cpu_has_one_socket_of_cores)
{
	set_cpuid("Genu", 5, 6);
	assert_leaf(1, 0, 0x12345, 0x05080800, 0xffffffff, 0xffffffff);
	assert_leaf(4, 0, 0x1c000121, 1, 2, 3);
	assert_leaf(4, 3, 0x1c014163, 1, 2, 3);
	assert_leaf(4, 4, 0, 0, 0, 0);
	assert_leaf(0xb, 0, 0, 1, 0x100, 5);
	assert_leaf(0xb, 1, 3, 6, 0x201, 5);
	assert_int_equal(fake_kvm_leaf(0xb, 1)->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	assert_null(fake_kvm_leaf(0x1f, 0));
	assert_null(fake_kvm_leaf(0x80000026, 0));
	/* AMD's leaves are left as they are. */
	assert_leaf(0x80000001, 0, 9, 9, 2, 9);
	assert_leaf(0x8000001e, 0, 77, 0x177, 0x777, 9);
}

TEST(one_cpu_is_no_multi_processor)
{
	set_cpuid("Genu", 0, 1);
	assert_leaf(1, 0, 0x12345, 0x00010800, 0xffffffff, 0xefffffff);
	assert_leaf(4, 3, 0x00000163, 1, 2, 3);
	assert_leaf(0xb, 1, 0, 1, 0x201, 0);
}

/* APM volume 3, appendix E.4: cores in 80000008, caches as leaf 4 in 8000001D, topology in 8000001E. */
TEST(an_amd_cpu_has_one_socket_of_cores)
{
	static const char *const vendors[] = { "Auth", "Hygo" };

	for (size_t i = 0; i < ARRAY_SIZE(vendors); i++) {
		set_cpuid(vendors[i], 2, 4);
		assert_leaf(0x80000001, 0, 9, 9, 2, 9);
		assert_leaf(0x80000008, 0, 0x3030, 9, 0x2003, 9);
		assert_leaf(0x8000001d, 0, 0xfc000121, 1, 2, 3);
		assert_leaf(0x8000001d, 3, 0xfc00c163, 1, 2, 3);
		assert_leaf(0x8000001d, 4, 0, 0, 0, 0);
		assert_leaf(0x8000001e, 0, 2, 2, 0, 9);
		assert_null(fake_kvm_leaf(0x80000026, 0));
	}
	set_cpuid("Auth", 0, 1);
	assert_leaf(0x80000001, 0, 9, 9, 0, 9);
	assert_leaf(0x80000008, 0, 0x3030, 9, 0x0000, 9);
}

TEST(the_deadline_timer_is_told_where_kvm_has_it)
{
	fake_kvm.lacking = KVM_CAP_TSC_DEADLINE_TIMER;
	set_cpuid("Genu", 0, 1);
	assert_int_equal(fake_kvm_leaf(1, 0)->ecx, 0xfeffffff);
}

TEST(a_topology_is_not_made_up)
{
	fake_kvm.supported_count = 0;
	support(0, 0, 1, VENDOR("Genu"), 0, 0);
	assert_int_equal(kvm_cpuid_set(FAKE_KVM_FD, -1, &KVM_CPUS(2), 0), 0);
	assert_null(fake_kvm_leaf(0xb, 0));
	assert_int_equal(fake_kvm.cpuid_count, 1);
}

/* The room that is offered leaves some for the topology. */
TEST(many_leaves_fit_or_are_refused)
{
	unsigned count = ARRAY_SIZE(fake_kvm.supported);

	support_cpu("Genu");
	while (fake_kvm.supported_count < count)
		support(0x40000000, fake_kvm.supported_count, 1, 2, 3, 4);
	for (; fake_kvm.supported_count > count - 12; fake_kvm.supported_count--) {
		int code = kvm_cpuid_set(FAKE_KVM_FD, -1, &KVM_CPUS(1), 0);

		assert_int_equal(code, fake_kvm.supported_count > count - 8 ? -E2BIG : 0);
		if (code == 0)
			assert_non_null(fake_kvm_leaf(0xb, 1));
	}
}

TEST(a_cpuid_that_kvm_refuses_is_told)
{
	fake_kvm.failing = KVM_SET_CPUID2;
	fake_kvm.code = E2BIG;
	assert_int_equal(kvm_cpuid_set(FAKE_KVM_FD, -1, &KVM_CPUS(1), 0), -E2BIG);
	fake_kvm.failing = KVM_GET_SUPPORTED_CPUID;
	fake_kvm.code = EPERM;
	assert_int_equal(kvm_cpuid_set(FAKE_KVM_FD, -1, &KVM_CPUS(1), 0), -EPERM);
}

TEST(address_bits_are_the_narrower_ones)
{
	fake_kvm.supported_count = 0;
	assert_int_equal(kvm_physical_bits(FAKE_KVM_FD), 36);
	support(0x80000008, 0, 0x3027, 0, 0, 0);
	assert_int_equal(kvm_physical_bits(FAKE_KVM_FD), 39);
	fake_kvm.supported[0].eax = 0x303934;
	assert_int_equal(kvm_physical_bits(FAKE_KVM_FD), 48);
	fake_kvm.failing = KVM_GET_SUPPORTED_CPUID;
	assert_int_equal(kvm_physical_bits(FAKE_KVM_FD), 36);
}

#define KVM_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(a_capability_that_lacks_is_named),
		KVM_TEST(another_version_of_the_interface_is_told),
		KVM_TEST(a_vm_that_cannot_be_made_is_told),
		KVM_TEST(a_vm_that_cannot_be_set_up_is_told),
		KVM_TEST(a_vm_has_room_for_real_mode),
		KVM_TEST(a_quirk_is_switched_off_where_it_can_be),
		KVM_TEST(a_kernel_may_be_unable_to_fill_tables),
		KVM_TEST(idle_instructions_are_left_to_the_guest),
		KVM_TEST(a_kvm_that_leaves_nothing_to_guests_is_told),
		KVM_TEST(slots_get_numbers_of_their_own),
		KVM_TEST(a_slot_that_kvm_refuses_is_free_again),
		KVM_TEST(slots_run_out),
		KVM_TEST(the_lines_are_those_of_a_pc),
		KVM_TEST(a_route_is_set_changed_and_freed),
		KVM_TEST(gsis_run_out_before_routes_do),
		KVM_TEST(routes_that_kvm_refuses_are_told),
		KVM_TEST(an_irqfd_is_attached_and_detached),
		KVM_TEST(a_line_has_a_level),
		KVM_TEST(a_message_has_an_address_of_64_bits),
		KVM_TEST(kvm_is_told_of_vfio_files),
		KVM_TEST(a_vcpu_that_cannot_be_made_is_told),
		KVM_TEST(a_vcpu_is_set_up_as_firmware_would),
		KVM_TEST(a_vcpu_has_the_id_of_its_place),
		KVM_TEST(enlightenments_are_switched_on),
		KVM_TEST(a_vcpu_enters_long_mode),
		KVM_TEST(the_table_holds_those_segments),
		KVM_TEST(registers_that_cannot_be_set_are_told),
		KVM_TEST(an_intel_cpu_has_one_socket_of_cores),
		KVM_TEST(one_cpu_is_no_multi_processor),
		KVM_TEST(an_amd_cpu_has_one_socket_of_cores),
		KVM_TEST(the_deadline_timer_is_told_where_kvm_has_it),
		KVM_TEST(a_topology_is_not_made_up),
		KVM_TEST(many_leaves_fit_or_are_refused),
		KVM_TEST(a_cpuid_that_kvm_refuses_is_told),
		KVM_TEST(address_bits_are_the_narrower_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_kvm.h"

#include "base/size.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define VCPUS_MAX 64

#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#endif
#define PRE_FAULT_NR 0xd5

struct fake_kvm fake_kvm;

static struct {
	int fd;
	struct kvm_run *run;
} vcpus[VCPUS_MAX];

int __wrap_ioctl(int fd, unsigned long request, ...);

void fake_kvm_reset(void)
{
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		if (vcpus[i].run)
			munmap(vcpus[i].run, FAKE_KVM_RUN);
	memset(vcpus, 0, sizeof(vcpus));
	memset(&fake_kvm, 0, sizeof(fake_kvm));
	fake_kvm.lacking = -1;
	fake_kvm.version = KVM_API_VERSION;
	fake_kvm.quirks = INT_MAX;
	fake_kvm.exits = 15;
	fake_kvm.mmap_size = FAKE_KVM_RUN;
	fake_kvm.vfio_file = -1;
}

static int create_vcpu(unsigned id)
{
	int fd = memfd_create("vcpu", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, FAKE_KVM_RUN) < 0)
		return -errno;
	fake_kvm.vcpu = id;
	vcpus[id].fd = fd;
	vcpus[id].run = mmap(NULL, FAKE_KVM_RUN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return vcpus[id].run == MAP_FAILED ? -errno : fd;
}

static int run_vcpu(int fd)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	unsigned id = 0;

	while (vcpus[id].fd != fd)
		id++;
	if (fake_kvm.run)
		return fake_kvm.run(id, vcpus[id].run);
	while (!__atomic_load_n(&vcpus[id].run->immediate_exit, __ATOMIC_ACQUIRE))
		if (nanosleep(&moment, NULL) < 0)
			break;
	return -EINTR;
}

static int get_supported(struct kvm_cpuid2 *cpuid)
{
	if (cpuid->nent < fake_kvm.supported_count)
		return -E2BIG;
	cpuid->nent = fake_kvm.supported_count;
	memcpy(cpuid->entries, fake_kvm.supported, cpuid->nent * sizeof(fake_kvm.supported[0]));
	return 0;
}

static int get_hyperv(struct kvm_cpuid2 *cpuid)
{
	if (cpuid->nent < fake_kvm.hyperv_count)
		return -E2BIG;
	cpuid->nent = fake_kvm.hyperv_count;
	memcpy(cpuid->entries, fake_kvm.hyperv, cpuid->nent * sizeof(fake_kvm.hyperv[0]));
	return 0;
}

static int enable_cap(const struct kvm_enable_cap *enable)
{
	fake_kvm.enabled = *enable;
	if (enable->cap < ARRAY_SIZE(fake_kvm.enabled_caps))
		fake_kvm.enabled_caps[enable->cap] = true;
	return 0;
}

static int set_cpuid(const struct kvm_cpuid2 *cpuid)
{
	if (cpuid->nent > ARRAY_SIZE(fake_kvm.cpuid))
		return -E2BIG;
	fake_kvm.cpuid_count = cpuid->nent;
	memcpy(fake_kvm.cpuid, cpuid->entries, cpuid->nent * sizeof(fake_kvm.cpuid[0]));
	return 0;
}

static int set_routing(const struct kvm_irq_routing *routing)
{
	if (routing->nr > ARRAY_SIZE(fake_kvm.routes))
		return -EINVAL;
	fake_kvm.route_count = routing->nr;
	memcpy(fake_kvm.routes, routing->entries, routing->nr * sizeof(fake_kvm.routes[0]));
	return 0;
}

static int set_msrs(const struct kvm_msrs *msrs)
{
	for (unsigned i = 0; i < msrs->nmsrs && fake_kvm.msr_count < ARRAY_SIZE(fake_kvm.msrs); i++)
		fake_kvm.msrs[fake_kvm.msr_count++] = msrs->entries[i];
	return msrs->nmsrs;
}

static int check_extension(int cap)
{
	if (cap == fake_kvm.lacking)
		return 0;
	return cap == KVM_CAP_DISABLE_QUIRKS2     ? fake_kvm.quirks
	       : cap == KVM_CAP_X86_DISABLE_EXITS ? fake_kvm.exits
						  : 1;
}

static int prefault(struct fake_kvm_range *range)
{
	if (fake_kvm.prefault)
		return fake_kvm.prefault(range);
	range->gpa += range->size;
	range->size = 0;
	return 0;
}

static int set_vfio_file(const struct kvm_device_attr *attr)
{
	if (attr->group != KVM_DEV_VFIO_GROUP)
		return -ENXIO;
	fake_kvm.vfio_file = *(int *)(uintptr_t)attr->addr;
	fake_kvm.vfio_change = attr->attr;
	return 0;
}

static int answer(int fd, unsigned long request, void *argument)
{
	if (_IOC_TYPE(request) == KVMIO && _IOC_NR(request) == PRE_FAULT_NR)
		return prefault(argument);
	switch (request) {
	case KVM_GET_API_VERSION:
		return fake_kvm.version;
	case KVM_CHECK_EXTENSION:
		return check_extension((intptr_t)argument);
	case KVM_GET_VCPU_MMAP_SIZE:
		return fake_kvm.mmap_size;
	case KVM_GET_SUPPORTED_CPUID:
		return get_supported(argument);
	case KVM_GET_SUPPORTED_HV_CPUID:
		return get_hyperv(argument);
	case KVM_CREATE_VM:
		return eventfd(0, EFD_CLOEXEC);
	case KVM_CREATE_VCPU:
		return create_vcpu((uintptr_t)argument);
	case KVM_CREATE_DEVICE:
		((struct kvm_create_device *)argument)->fd = eventfd(0, EFD_CLOEXEC);
		return 0;
	case KVM_RUN:
		return run_vcpu(fd);
	case KVM_SET_CPUID2:
		return set_cpuid(argument);
	case KVM_SET_MSRS:
		return set_msrs(argument);
	case KVM_SET_GSI_ROUTING:
		return set_routing(argument);
	case KVM_SET_USER_MEMORY_REGION:
		fake_kvm.slot = *(struct kvm_userspace_memory_region *)argument;
		fake_kvm.slots[fake_kvm.slot.slot % ARRAY_SIZE(fake_kvm.slots)] = fake_kvm.slot;
		return 0;
	case KVM_IRQFD:
		fake_kvm.irqfd = *(struct kvm_irqfd *)argument;
		return 0;
	case KVM_IRQ_LINE:
		fake_kvm.line = *(struct kvm_irq_level *)argument;
		return 0;
	case KVM_SIGNAL_MSI:
		fake_kvm.msi = *(struct kvm_msi *)argument;
		return 0;
	case KVM_GET_SREGS:
		*(struct kvm_sregs *)argument = (struct kvm_sregs){ 0 };
		return 0;
	case KVM_SET_SREGS:
		fake_kvm.sregs = *(struct kvm_sregs *)argument;
		return 0;
	case KVM_SET_REGS:
		fake_kvm.regs = *(struct kvm_regs *)argument;
		return 0;
	case KVM_SET_DEVICE_ATTR:
		return set_vfio_file(argument);
	case KVM_ENABLE_CAP:
		return enable_cap(argument);
	case KVM_X86_SETUP_MCE:
		fake_kvm.banks = *(uint64_t *)argument;
		return 0;
	case KVM_SET_IDENTITY_MAP_ADDR:
		fake_kvm.identity_map = *(uint64_t *)argument;
		return 0;
	case KVM_SET_TSS_ADDR:
		fake_kvm.tss = (uintptr_t)argument;
		return 0;
	case KVM_CREATE_IRQCHIP:
	case KVM_CREATE_PIT2:
	case KVM_KVMCLOCK_CTRL:
		return 0;
	default:
		return -ENOTTY;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list args;
	int code;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	/* vCPUs ask from many threads at once. */
	__atomic_fetch_add(&fake_kvm.calls[_IOC_NR(request)], 1, __ATOMIC_RELAXED);
	code = request == fake_kvm.failing ? -fake_kvm.code : answer(fd, request, argument);
	if (code >= 0)
		return code;
	errno = -code;
	return -1;
}

const struct kvm_cpuid_entry2 *fake_kvm_leaf(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < fake_kvm.cpuid_count; i++)
		if (fake_kvm.cpuid[i].function == function && fake_kvm.cpuid[i].index == index) {
			if (found)
				abort();
			found = &fake_kvm.cpuid[i];
		}
	return found;
}

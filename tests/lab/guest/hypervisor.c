// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What programs in the guest take the machine for, by CPUID as systemd-detect-virt looks at it, is
 * hypervisor.detect=none|kvm|microsoft|other; KVM's own leaves are at hypervisor.kvm=ADDRESS, or none;
 * hypervisor.vendor=ID is the first hypervisor's.
 */
#include "lab.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#define FIRST 0x40000000u
#define LAST  0x40010000u
#define STEP  0x100u

#define HYPERV_FEATURES 0xa7fu /* of leaf 3, EAX: what Windows is to have */
#define HYPERV_ADVICE   0xe2cu /* of leaf 4, EAX */

static bool has_hypervisor(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	return ecx >> 31;
}

static void signature(unsigned int leaf, char text[static 13])
{
	unsigned int eax, registers[3];

	__cpuid(leaf, eax, registers[0], registers[1], registers[2]);
	memcpy(text, registers, 12);
	text[12] = '\0';
}

static const char *detect(void)
{
	char text[13];

	if (!has_hypervisor())
		return "none";
	signature(FIRST, text);
	if (strcmp(text, "KVMKVMKVM") == 0 || strcmp(text, "Linux KVM Hv") == 0)
		return "kvm";
	return strcmp(text, "Microsoft Hv") == 0 ? "microsoft" : "other";
}

/* As Linux looks for it, whatever leaf 1 says. */
static void find_kvm(char *where, size_t size)
{
	char text[13];

	snprintf(where, size, "none");
	for (unsigned int leaf = FIRST; leaf < LAST; leaf += STEP) {
		signature(leaf, text);
		if (strcmp(text, "KVMKVMKVM") == 0)
			snprintf(where, size, "%#x", leaf);
	}
}

static void check_hyperv(void)
{
	unsigned int eax, ebx, ecx, edx, advice;

	__cpuid(FIRST + 1, eax, ebx, ecx, edx);
	if (memcmp(&eax, "Hv#1", 4))
		fail("the interface is %#x", eax);
	__cpuid(FIRST + 4, advice, ebx, ecx, edx);
	__cpuid(FIRST + 3, eax, ebx, ecx, edx);
	printf("hypervisor: Hyper-V's features %#x %#x, advice %#x\n", eax, edx, advice);
	if (eax != HYPERV_FEATURES || (advice & HYPERV_ADVICE) != HYPERV_ADVICE)
		fail("not all enlightenments are there");
}

static void compare(const char *name, const char *found)
{
	char wanted[64];

	if (argument(name, wanted, sizeof(wanted)) && strcmp(found, wanted))
		fail("%s: %s, not %s", name, found, wanted);
}

int hypervisor_main(int argc, char **argv)
{
	char kvm[16], vendor[13];
	const char *found = detect();

	(void)argc, (void)argv;
	find_kvm(kvm, sizeof(kvm));
	signature(FIRST, vendor);
	printf("hypervisor: %s, KVM at %s\n", found, kvm);
	compare("hypervisor.detect", found);
	compare("hypervisor.kvm", kvm);
	compare("hypervisor.vendor", vendor);
	if (strcmp(found, "microsoft") == 0 || strcmp(found, "other") == 0)
		check_hyperv();
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/features.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define REGISTER(name) offsetof(struct kvm_cpuid_entry2, name)

/* A register of feature bits: what Linux calls each, where it prints it. */
static const struct word {
	uint32_t function, index;
	size_t reg;
	const char *names[32];
} words[] = {
	/* clang-format off */
	{ 1, 0, REGISTER(edx), {
		"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce",
		"cx8", "apic", NULL, "sep", "mtrr", "pge", "mca", "cmov",
		"pat", "pse36", "pn", "clflush", NULL, "dts", "acpi", "mmx",
		"fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe" } },
	{ 1, 0, REGISTER(ecx), {
		"pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est",
		"tm2", "ssse3", "cid", "sdbg", "fma", "cx16", "xtpr", "pdcm",
		NULL, "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
		"tsc_deadline_timer", "aes", "xsave", NULL, "avx", "f16c", "rdrand", "hypervisor" } },
	{ 6, 0, REGISTER(eax), {
		"dtherm", "ida", "arat", NULL, "pln", NULL, "pts", "hwp" } },
	{ 7, 0, REGISTER(ebx), {
		"fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", NULL, "smep",
		"bmi2", "erms", "invpcid", "rtm", "cqm", NULL, "mpx", "rdt_a",
		"avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", NULL, "clflushopt",
		"clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl" } },
	{ 7, 0, REGISTER(ecx), {
		NULL, "avx512vbmi", "umip", "pku", NULL, "waitpkg", "avx512_vbmi2", NULL,
		"gfni", "vaes", "vpclmulqdq", "avx512_vnni",
		"avx512_bitalg", "tme", "avx512_vpopcntdq", NULL,
		"la57", NULL, NULL, NULL, NULL, NULL, "rdpid", NULL,
		"bus_lock_detect", "cldemote", NULL, "movdiri", "movdir64b", "enqcmd", "sgx_lc", NULL } },
	{ 7, 0, REGISTER(edx), {
		NULL, NULL, "avx512_4vnniw", "avx512_4fmaps", "fsrm", NULL, NULL, NULL,
		"avx512_vp2intersect", NULL, "md_clear", NULL, NULL, NULL, "serialize", NULL,
		"tsxldtrk", NULL, "pconfig", "arch_lbr", "ibt", NULL, "amx_bf16", "avx512_fp16",
		"amx_tile", "amx_int8", NULL, NULL, "flush_l1d", "arch_capabilities", NULL, NULL } },
	{ 7, 1, REGISTER(eax), {
		[4] = "avx_vnni", [5] = "avx512_bf16", [26] = "lam" } },
	{ 0xd, 1, REGISTER(eax), {
		"xsaveopt", "xsavec", "xgetbv1", "xsaves" } },
	{ 0x80000001, 0, REGISTER(edx), {
		[11] = "syscall", [19] = "mp", [20] = "nx", [22] = "mmxext", [25] = "fxsr_opt",
		[26] = "pdpe1gb", [27] = "rdtscp", [29] = "lm", [30] = "3dnowext", [31] = "3dnow" } },
	{ 0x80000001, 0, REGISTER(ecx), {
		"lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse",
		"3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", NULL, "lwp",
		"fma4", "tce", NULL, "nodeid_msr", NULL, "tbm", "topoext", "perfctr_core",
		"perfctr_nb", NULL, "bpext", "ptsc", "perfctr_llc", "mwaitx", NULL, NULL } },
	{ 0x80000007, 0, REGISTER(edx), {
		[8] = "nonstop_tsc" } },
	{ 0x80000008, 0, REGISTER(ebx), {
		[0] = "clzero", [1] = "irperf", [2] = "xsaveerptr", [4] = "rdpru", [9] = "wbnoinvd" } },
	{ 0x8000000a, 0, REGISTER(edx), {
		"npt", "lbrv", "svm_lock", "nrip_save", "tsc_scale", "vmcb_clean", "flushbyasid", "decodeassists",
		NULL, NULL, "pausefilter", NULL, "pfthreshold", "avic", NULL, "v_vmsave_vmload",
		"vgif", NULL, "x2avic", NULL, "v_spec_ctrl", NULL, NULL, NULL,
		NULL, "vnmi" } },
	/* clang-format on */
};

_Static_assert(ARRAY_SIZE(words) == KVM_FEATURE_WORDS, "a bit for each feature");

/* What makes no sense without another one: it goes with that. Each is below what it needs. */
static const struct {
	const char *name, *needs;
} dependencies[] = {
	{ "avx", "xsave" },
	{ "xsaveopt", "xsave" },
	{ "xsavec", "xsave" },
	{ "xgetbv1", "xsave" },
	{ "xsaves", "xsavec" },
	{ "mpx", "xsave" },
	{ "pku", "xsave" },
	{ "amx_tile", "xsave" },
	{ "amx_bf16", "amx_tile" },
	{ "amx_int8", "amx_tile" },
	{ "fma", "avx" },
	{ "fma4", "avx" },
	{ "f16c", "avx" },
	{ "xop", "avx" },
	{ "vaes", "avx" },
	{ "vpclmulqdq", "avx" },
	{ "avx2", "avx" },
	{ "avx_vnni", "avx2" },
	{ "avx512f", "avx2" },
	{ "avx512dq", "avx512f" },
	{ "avx512ifma", "avx512f" },
	{ "avx512pf", "avx512f" },
	{ "avx512er", "avx512f" },
	{ "avx512cd", "avx512f" },
	{ "avx512bw", "avx512f" },
	{ "avx512vl", "avx512f" },
	{ "avx512vbmi", "avx512f" },
	{ "avx512_vbmi2", "avx512f" },
	{ "avx512_vnni", "avx512f" },
	{ "avx512_bitalg", "avx512f" },
	{ "avx512_vpopcntdq", "avx512f" },
	{ "avx512_4vnniw", "avx512f" },
	{ "avx512_4fmaps", "avx512f" },
	{ "avx512_vp2intersect", "avx512f" },
	{ "avx512_bf16", "avx512f" },
	{ "avx512_fp16", "avx512bw" },
};

/* Parts of the extended state, XCR0's bits in leaf 0xd, which come with a feature. */
static const struct {
	const char *name;
	uint32_t parts;
} states[] = {
	{ "avx", 1U << 2 },
	{ "mpx", 3U << 3 },
	{ "avx512f", 7U << 5 },
	{ "pku", 1U << 9 },
	{ "amx_tile", 3U << 17 },
};

/* What a system of 64 bits, and how it is started, takes for granted. */
static const char *const granted[] = { "fpu", "tsc", "msr", "pae", "cx8", "apic", "cmov", "mmx",
	"fxsr", "sse", "sse2", "syscall", "lm" };

/* False: nothing is called that. */
static bool find_feature(const char *name, unsigned *word, uint32_t *bit)
{
	for (*word = 0; *word < ARRAY_SIZE(words); ++*word)
		for (unsigned i = 0; i < 32; i++)
			if (words[*word].names[i] && strcmp(words[*word].names[i], name) == 0) {
				*bit = 1U << i;
				return true;
			}
	return false;
}

static bool has_feature(const uint32_t *set, const char *name)
{
	unsigned word;
	uint32_t bit;

	return find_feature(name, &word, &bit) && set[word] & bit;
}

static void remove_dependent(uint32_t *removed)
{
	unsigned word;
	uint32_t bit;

	for (size_t i = 0; i < ARRAY_SIZE(dependencies); i++)
		if (has_feature(removed, dependencies[i].needs) &&
			find_feature(dependencies[i].name, &word, &bit))
			removed[word] |= bit;
}

static const char *first_name(unsigned word, uint32_t bits)
{
	return words[word].names[__builtin_ctz(bits)];
}

static int parse_change(
	const char *text, const char *change, struct kvm_cpus *cpus, struct error *err)
{
	const char *name = change + 1;
	unsigned word;
	uint32_t bit;

	if (change[0] != '+' && change[0] != '-')
		return error_set(
			err, -EINVAL, NULL, "--cpu %s: '%s' is not +NAME or -NAME", text, change);
	if (!find_feature(name, &word, &bit))
		return error_set(err, -EINVAL, NULL,
			"--cpu %s: '%s' is none of the features that Linux prints in /proc/cpuinfo",
			text, name);
	if (change[0] == '+') {
		cpus->needed[word] |= bit;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(granted); i++)
		if (strcmp(granted[i], name) == 0)
			return error_set(err, -EINVAL, NULL, "--cpu %s: no guest can do without %s",
				text, name);
	cpus->removed[word] |= bit;
	return 0;
}

int kvm_features_parse(const char *text, struct kvm_cpus *cpus, struct error *err)
{
	cleanup_free char *copy = strdup(text);
	char *rest = copy, *word = strsep(&rest, ",");

	memset(cpus->needed, 0, sizeof(cpus->needed));
	memset(cpus->removed, 0, sizeof(cpus->removed));
	if (!copy || strcmp(word, "host"))
		return error_set(err, -EINVAL, NULL,
			"--cpu %s: a guest's CPU is the host's: host[,+NAME][,-NAME]...", text);
	while ((word = strsep(&rest, ",")))
		if (parse_change(text, word, cpus, err))
			return err->code;
	remove_dependent(cpus->removed);
	for (unsigned i = 0; i < KVM_FEATURE_WORDS; i++)
		if (cpus->needed[i] & cpus->removed[i])
			return error_set(err, -EINVAL, NULL, "--cpu %s: %s goes with what is to go",
				text, first_name(i, cpus->needed[i] & cpus->removed[i]));
	return 0;
}

static uint32_t *find_register(const struct kvm_cpuid2 *cpuid, const struct word *word)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == word->function &&
			cpuid->entries[i].index == word->index)
			return (uint32_t *)((char *)&cpuid->entries[i] + word->reg);
	return NULL;
}

/* Leaf 0xd, index 0, ECX: bytes of all parts that there are; KVM itself keeps EBX, of those in use. */
static void set_state_size(struct kvm_cpuid2 *cpuid)
{
	uint32_t size = 576; /* legacy region and header */

	for (unsigned i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *part = &cpuid->entries[i];

		/* Bit 0 of ECX: a supervisor's, which has no place of its own. */
		if (part->function == 0xd && part->index >= 2 && !(part->ecx & 1))
			size = max_u64(size, part->eax + part->ebx);
	}
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0xd && cpuid->entries[i].index == 0)
			cpuid->entries[i].ecx = size;
}

/* Whether what is left of the leaf is without this entry. */
static bool without_state(struct kvm_cpuid_entry2 *entry, uint32_t gone, bool xsave, bool xsaves)
{
	if (entry->function != 0xd)
		return false;
	if (entry->index == 0)
		entry->eax &= ~gone;
	if (entry->index == 1 && xsaves)
		entry->ebx = entry->ecx = entry->edx = 0;
	return xsave || (entry->index >= 2 && entry->index < 32 &&
				(gone >> entry->index & 1 || (xsaves && entry->ecx & 1)));
}

static void remove_state(struct kvm_cpuid2 *cpuid, const uint32_t *removed)
{
	bool xsave = has_feature(removed, "xsave"), xsaves = has_feature(removed, "xsaves");
	unsigned kept = 0;
	uint32_t gone = 0;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (has_feature(removed, states[i].name))
			gone |= states[i].parts;
	if (!gone && !xsave && !xsaves)
		return;
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (!without_state(&cpuid->entries[i], gone, xsave, xsaves))
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
	set_state_size(cpuid);
}

void kvm_features_remove(struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus)
{
	for (unsigned i = 0; i < KVM_FEATURE_WORDS; i++) {
		uint32_t *bits = find_register(cpuid, &words[i]);

		if (bits)
			*bits &= ~cpus->removed[i];
	}
	remove_state(cpuid, cpus->removed);
}

const char *kvm_features_lacking(const struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus)
{
	for (unsigned i = 0; i < KVM_FEATURE_WORDS; i++) {
		const uint32_t *bits = find_register(cpuid, &words[i]);
		uint32_t lacking = cpus->needed[i] & ~(bits ? *bits : 0);

		if (lacking)
			return first_name(i, lacking);
	}
	return NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "boot_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Words of a command line. */

static void words_are_added_and_removed(void **state)
{
	static const struct {
		enum boot_edit edit;
		const char *text, *expected, *back; /* back NULL: it is text again */
	} cases[] = {
		{ BOOT_CMDLINE, "quiet\n", "quiet a=1 b\n", NULL },
		{ BOOT_CMDLINE, "quiet", "quiet a=1 b", NULL },
		{ BOOT_CMDLINE, "", "a=1 b", NULL },
		{ BOOT_CMDLINE, "# x\n\nroot=/dev/sda  \n# y\n",
			"# x\n\nroot=/dev/sda a=1 b  \n# y\n", NULL },
		{ BOOT_CMDLINE, "aa=1 a=12 b quiet\n", "aa=1 a=12 b quiet a=1\n",
			"aa=1 a=12 b quiet\n" },
		{ BOOT_GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"a=1 b\"\n", NULL },
		{ BOOT_GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=''", "GRUB_CMDLINE_LINUX_DEFAULT='a=1 b'",
			NULL },
		{ BOOT_GRUB, "  export GRUB_CMDLINE_LINUX_DEFAULT='x'  # y\n",
			"  export GRUB_CMDLINE_LINUX_DEFAULT='x a=1 b'  # y\n", NULL },
		{ BOOT_GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=quiet\nX=1\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet a=1 b\"\nX=1\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nX=1\n" },
		{ BOOT_GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"a=1 b\"\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n" },
		{ BOOT_GRUB, "#GRUB_CMDLINE_LINUX_DEFAULT=\"q\"\nGRUB_CMDLINE_LINUX=\"r\"",
			"#GRUB_CMDLINE_LINUX_DEFAULT=\"q\"\nGRUB_CMDLINE_LINUX=\"r\"\n"
			"GRUB_CMDLINE_LINUX_DEFAULT=\"a=1 b\"\n",
			"#GRUB_CMDLINE_LINUX_DEFAULT=\"q\"\nGRUB_CMDLINE_LINUX=\"r\"\n"
			"GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n" },
		{ BOOT_ENTRY, "title A\nlinux /a\noptions\troot=/dev/a  rw\ninitrd /b",
			"title A\nlinux /a\noptions\troot=/dev/a  rw a=1 b\ninitrd /b", NULL },
		{ BOOT_ENTRY, "linux /a\r\noptions x \r\noptions y\r\n",
			"linux /a\r\noptions x a=1 b \r\noptions y\r\n", NULL },
		{ BOOT_ENTRY, "linux /a", "linux /a\noptions a=1 b\n", "linux /a\noptions \n" },
		{ BOOT_GRUB,
			"GRUB_CMDLINE_LINUX_DEFAULT=\"1\"\nGRUB_CMDLINE_LINUX_DEFAULT+=\" \\\"2 $x\"\n",
			"GRUB_CMDLINE_LINUX_DEFAULT=\"1\"\nGRUB_CMDLINE_LINUX_DEFAULT+=\" \\\"2 $x "
			"a=1 b\"\n",
			NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *with, *without, added[BOOT_WORDS];

		assert_int_equal(
			boot_words_add(cases[i].edit, cases[i].text, "a=1 b", &with, added), 0);
		assert_string_equal(with, cases[i].expected);
		assert_int_equal(boot_words_remove(cases[i].edit, with, added, &without), 0);
		assert_string_equal(without, cases[i].back ? cases[i].back : cases[i].text);
		free(with);
		free(without);
	}
}

static void what_is_not_understood_is_not_edited(void **state)
{
	static const char *const texts[] = {
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\n",
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"'splash'\n",
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\" ; x\n",
		"GRUB_CMDLINE_LINUX_DEFAULT=$(cat /proc/cmdline)\n",
		"GRUB_CMDLINE_LINUX_DEFAULT=\"a \\\n b\"\n",
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"#x\n",
	};
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, boot_programs[0]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *result, added[BOOT_WORDS];

		if (boot_words_add(BOOT_GRUB, texts[i], "a", &result, added) != -EINVAL)
			fail_msg("edited: %s", texts[i]);
		fixture_file(fixture, GRUB, texts[i]);
		assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
		assert_true(boot_host_has_note(
			&plan, "add by hand to GRUB_CMDLINE_LINUX_DEFAULT in " GRUB));
		boot_plan_free(&plan);
		boot_host_write_card(fixture);
		assert_string_equal(boot_host_content(fixture, GRUB), texts[i]);
	}
}

static void a_word_of_the_user_stays(void **state)
{
	static const char text[] = "GRUB_CMDLINE_LINUX_DEFAULT=\"intel_iommu=on quiet\"\n";
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, GRUB, text);
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, GRUB), text);
	fixture_file(fixture, GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=\"intel_iommu=on\"\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	boot_host_assert_contains(fixture, GRUB, "intel_iommu=on");
}

/* Boot loaders. */

static void assert_next(const struct fixture *fixture, const char *command, const char *back)
{
	struct boot_plan plan;
	struct error err = { 0 };

	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	if (!boot_list_has(&plan.next, command) || !boot_list_has(&plan.undo, back))
		fail_msg("next: %s", plan.next.items[plan.next.count - 1]);
	boot_plan_free(&plan);
}

static void grub_with_snippets(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, "/usr/sbin/grub-mkconfig",
		"for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n");
	fixture_file(fixture, "/usr/sbin/update-grub", "");
	assert_next(fixture, "update-grub", "update-grub");
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, GRUB), boot_grub);
	boot_host_assert_contains(fixture, "/etc/default/grub.d/penstock.cfg",
		"\nGRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on\"\n");
}

static void grub_without_snippets(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[1]);
	fixture_file(fixture, "/usr/sbin/grub-mkconfig", "#!/bin/sh\n. /etc/default/grub\n");
	assert_next(fixture, "grub-mkconfig -o /boot/grub/grub.cfg",
		"grub-mkconfig -o /boot/grub/grub.cfg");
	fixture_file(fixture, "/boot/grub2/grub.cfg", "");
	assert_next(fixture, "grub2-mkconfig -o /boot/grub2/grub.cfg",
		"grub2-mkconfig -o /boot/grub2/grub.cfg");
	boot_host_write_card(fixture);
	boot_host_assert_contains(fixture, GRUB, "splash intel_iommu=on\"");
}

static void grubby(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[1]);
	fixture_file(fixture, "/usr/sbin/grubby", "");
	assert_next(fixture, "grubby --update-kernel=ALL --args='intel_iommu=on'",
		"grubby --update-kernel=ALL --remove-args='intel_iommu=on'");
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, GRUB), boot_grub);
}

static void systemd_boot(void **state)
{
	static const char info[] = "\6\0\0\0s\0y\0s\0t\0e\0m\0d\0-\0b\0o\0o\0t\0 \0";
	struct fixture *fixture = *state;
	char path[PATH_MAX];
	FILE *file;

	boot_host_make(fixture, boot_programs[1]);
	fixture_file(fixture, "/etc/kernel/cmdline", "root=/dev/sda1 quiet\n");
	/* With GRUB's files there as well, the boot loader itself decides. */
	assert_next(fixture, "grub-mkconfig -o /boot/grub/grub.cfg",
		"grub-mkconfig -o /boot/grub/grub.cfg");
	fixture_file(fixture,
		"/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "");
	snprintf(path, sizeof(path),
		"%s/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
		fixture->tree);
	file = fopen(path, "w");
	assert_non_null(file);
	fwrite(info, 1, sizeof(info), file);
	fclose(file);
	fixture_file(fixture, "/usr/bin/kernel-install", "");
	assert_next(fixture, "kernel-install add 6.12.0-test /usr/lib/modules/6.12.0-test/vmlinuz",
		"kernel-install add 6.12.0-test /usr/lib/modules/6.12.0-test/vmlinuz");
	fixture_file(fixture, "/boot/vmlinuz-6.12.0-test", "");
	assert_next(fixture, "kernel-install add 6.12.0-test /boot/vmlinuz-6.12.0-test",
		"kernel-install add 6.12.0-test /boot/vmlinuz-6.12.0-test");
	fixture_file(fixture, "/etc/kernel/proxmox-boot-uuids", "");
	assert_next(fixture, "proxmox-boot-tool refresh", "proxmox-boot-tool refresh");
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, "/etc/kernel/cmdline"),
		"root=/dev/sda1 quiet intel_iommu=on\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_string_equal(
		boot_host_content(fixture, "/etc/kernel/cmdline"), "root=/dev/sda1 quiet\n");
}

static void systemd_boot_by_entries(void **state)
{
	static const char linux_entry[] = "title Arch\nlinux /vmlinuz\noptions root=/dev/sda1 rw\n",
			  shell[] = "title Shell\nefi /shellx64.efi\noptions -nomap\n";
	struct fixture *fixture = *state;
	char path[PATH_MAX];

	boot_host_make(fixture, boot_programs[2]);
	snprintf(path, sizeof(path), "%s" GRUB, fixture->tree);
	assert_int_equal(unlink(path), 0);
	fixture_file(fixture, "/boot/loader/entries/arch.conf", linux_entry);
	fixture_file(fixture, "/boot/loader/entries/shell.conf", shell);
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, "/boot/loader/entries/arch.conf"),
		"title Arch\nlinux /vmlinuz\noptions root=/dev/sda1 rw intel_iommu=on\n");
	assert_string_equal(boot_host_content(fixture, "/boot/loader/entries/shell.conf"), shell);
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_string_equal(
		boot_host_content(fixture, "/boot/loader/entries/arch.conf"), linux_entry);
}

static void an_unknown_boot_loader_is_left_to_the_user(void **state)
{
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };
	char path[PATH_MAX];

	boot_host_make(fixture, boot_programs[2]);
	snprintf(path, sizeof(path), "%s" GRUB, fixture->tree);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_true(boot_host_has_note(&plan, "add by hand to the kernel's command line"));
	assert_true(boot_host_has_note(&plan, ": intel_iommu=on"));
	boot_plan_free(&plan);
}

static void no_words_no_boot_loader(void **state)
{
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, "/sys/kernel/iommu_groups/1/type", "DMA\n");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_string_equal(plan.words, "");
	assert_int_equal(plan.next.count, 1);
	assert_true(boot_host_has_note(&plan, "needs no change"));
	boot_plan_free(&plan);
}

/* Displays. */

static void assert_words(struct fixture *fixture, const char *class_code, const char *release,
	const char *words, const char *note)
{
	struct boot_plan plan;
	struct error err = { 0 };

	fixture_file(fixture, CARD "/class", class_code);
	fixture_file(fixture, "/proc/sys/kernel/osrelease", release);
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_string_equal(plan.words, words);
	if (!boot_host_has_note(&plan, note))
		fail_msg("no note of '%s'", note);
	boot_plan_free(&plan);
}

static void frame_buffer_of_the_boot_display(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, "/sys/kernel/iommu_groups/1/type", "DMA\n");
	assert_words(fixture, "0x030000\n", "6.12.0-test\n", "", "neither video=efifb:off nor");
	assert_words(fixture, "0x030000\n", "6.0.0\n", "", "neither video=efifb:off nor");
	assert_words(fixture, "0x030000\n", "5.19.17\n", "initcall_blacklist=sysfb_init",
		"only since Linux 6.0");
	assert_words(fixture, "0x038000\n", "6.12.0-test\n", "initcall_blacklist=sysfb_init",
		"VGA controllers only");
	assert_words(fixture, "0x030000\n", "$(reboot)\n", "initcall_blacklist=sysfb_init",
		"only since Linux 6.0");
	fixture_file(fixture, CARD "/boot_vga", "0\n");
	assert_words(fixture, "0x038000\n", "6.12.0-test\n", "", "needs no change");
}

static void xorg(void **state)
{
	static const char path[] = "/etc/X11/xorg.conf.d/10-penstock.conf";
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, boot_programs[0]);
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_true(boot_host_has_note(&plan, "for Xorg, 0000:32:00.0 is: BusID \"PCI:50:0:0\""));
	boot_plan_free(&plan);
	fixture_file(fixture, "/usr/bin/Xorg", "");
	boot_host_write_card(fixture);
	boot_host_assert_contains(fixture, path, "\tBusID \"PCI:50:0:0\"\n");
	boot_host_assert_contains(fixture, path, "\tDriver \"modesetting\"\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	fixture_file(fixture, "/etc/X11/xorg.conf", "");
	boot_host_write_card(fixture);
	assert_false(boot_host_has(fixture, path));
}

/* Which devices. */

static void the_group_comes_along(void **state)
{
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	fixture_device(fixture, CARD, "0x030000", "amdgpu", 13);
	fixture_device(fixture, SOUND, "0x040300", "vfio-pci", 13);
	fixture_device(fixture, OTHER, "0x030000", "amdgpu", 14);
	fixture_file(fixture, boot_programs[0], "");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_int_equal(plan.device_count, 2);
	assert_true(bdf_equal(&plan.devices[1].device.bdf, &boot_sound));
	assert_true(plan.devices[1].companion);
	/* All of the fixture's devices have the same ID. */
	assert_true(boot_host_has_note(
		&plan, "0000:32:00.0 has the same vendor and device as 0000:2f:00.0"));
	boot_plan_free(&plan);
}

static void a_function_of_the_card_is_told(void **state)
{
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(*state, boot_programs[0]);
	assert_int_equal(boot_host_plan(*state, &boot_card, 1, &plan, &err), 0);
	assert_true(boot_host_has_note(&plan, "0000:2f:00.1 is a function of the same card"));
	boot_plan_free(&plan);
	assert_int_equal(boot_host_plan(*state, (struct bdf[]){ boot_card, boot_sound, boot_card },
				 3, &plan, &err),
		0);
	assert_int_equal(plan.device_count, 2);
	assert_false(boot_host_has_note(&plan, "0000:2f:00.1 is a function"));
	boot_plan_free(&plan);
}

static void devices_that_are_refused(void **state)
{
	static const struct bdf nothing = { 0, 9, 0, 0 };
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, boot_programs[0]);
	assert_int_equal(boot_host_plan(fixture, &nothing, 1, &plan, &err), -ENODEV);
	boot_plan_free(&plan);
	err = (struct error){ 0 };
	assert_int_equal(boot_host_plan(fixture, &boot_port, 1, &plan, &err), -EINVAL);
	boot_plan_free(&plan);
	err = (struct error){ 0 };
	fixture_disk(fixture, OTHER "/nvme/nvme0/nvme0n1", "259:0\n");
	fixture_file(fixture, "/proc/self/mountinfo", "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n");
	assert_int_equal(boot_host_plan(fixture, &boot_other, 1, &plan, &err), -EBUSY);
	assert_non_null(strstr(err.what, "would boot without it"));
	boot_plan_free(&plan);
	err = (struct error){ 0 };
	assert_int_equal(boot_make_plan(&plan, &fixture->host, &boot_other, 1, true, &err), 0);
	boot_plan_free(&plan);
}

static void programs_that_make_an_initramfs(void **state)
{
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, NULL);
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), -ENOENT);
	boot_plan_free(&plan);
	err = (struct error){ 0 };
	fixture_file(fixture, boot_programs[0], "");
	fixture_file(fixture, boot_programs[1], "");
	assert_next(fixture, "update-initramfs -u -k all", "update-initramfs -u -k all");
	fixture_file(fixture, "/etc/kernel/postinst.d/dracut", "");
	assert_next(fixture, "dracut --force --regenerate-all", "dracut --force --regenerate-all");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_true(boot_host_has_note(&plan, "both dracut and initramfs-tools are installed"));
	boot_plan_free(&plan);
}

static void a_preset_that_hides_the_hook_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct boot_plan plan;
	struct error err = { 0 };

	boot_host_make(fixture, boot_programs[2]);
	fixture_file(fixture, "/etc/mkinitcpio.d/a.preset", "#ALL_config='/etc/x'\n");
	fixture_file(fixture, "/etc/mkinitcpio.d/b.old", "ALL_config='/etc/x'\n");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_false(boot_host_has_note(&plan, "_config"));
	boot_plan_free(&plan);
	fixture_file(fixture, "/etc/mkinitcpio.d/a.preset", "#x\ndefault_config='/etc/x'\n");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_true(boot_host_has_note(&plan, "/etc/mkinitcpio.d/a.preset names a configuration"));
	boot_plan_free(&plan);
}

/* The hook itself, run by sh on a tree. */

static void replace_all(char *text, size_t size, const char *what, const char *by)
{
	for (char *at = text; (at = strstr(at, what)); at += strlen(by)) {
		assert_true(strlen(text) + strlen(by) < size);
		memmove(at + strlen(by), at + strlen(what), strlen(at + strlen(what)) + 1);
		memcpy(at, by, strlen(by));
	}
}

/* With "modprobe" told in the log too, and the kernel's and the host's files in the tree. */
static void run_hook(struct fixture *fixture, const char *path)
{
	static const char *const roots[] = { " /sys/", "=/sys/", "\"/sys/", "/proc/", "/dev/" };
	char command[PATH_MAX], script[65536 + 128];

	snprintf(script, sizeof(script), "modprobe() { echo \"modprobe $1\" > /dev/kmsg; }\n%s",
		boot_host_content(fixture, path));
	for (int i = 0; i < 5; i++) {
		const char *slash = strchr(roots[i], '/');
		char by[128];

		snprintf(by, sizeof(by), "%.*s%s%s", (int)(slash - roots[i]), roots[i],
			fixture->tree, slash);
		replace_all(script, sizeof(script), roots[i], by);
	}
	replace_all(script, sizeof(script), "> \"", ">> \"");
	replace_all(script, sizeof(script), "/kmsg", "/log");
	replace_all(script, sizeof(script), "> /tmp", ">> /tmp");
	fixture_file(fixture, "/script", script);
	snprintf(command, sizeof(command), "sh -eu %s/script", fixture->tree);
	assert_int_equal(system(command), 0);
}

static void prepare_hook(struct fixture *fixture)
{
	boot_host_make(fixture, boot_programs[1]);
	fixture_file(fixture, "/proc/cmdline", "root=/dev/sda1 quiet\n");
	fixture_file(fixture, "/dev/log", "");
	fixture_file(fixture, "/sys/bus/pci/drivers_probe", "");
	fixture_file(fixture, CARD "/driver_override", "");
	fixture_file(fixture, "/sys/bus/pci/drivers/amdgpu/unbind", "");
	boot_host_write_card(fixture);
}

#define HOOK "/usr/lib/dracut/modules.d/90penstock/penstock.sh"

static void the_hook_binds(void **state)
{
	struct fixture *fixture = *state;

	prepare_hook(fixture);
	fixture_file(fixture, "/sys/bus/pci/drivers/vfio-pci/0000:2f:00.0", "");
	run_hook(fixture, HOOK);
	assert_string_equal(boot_host_content(fixture, CARD "/driver_override"), "vfio-pci\n");
	assert_string_equal(
		boot_host_content(fixture, "/sys/bus/pci/drivers/amdgpu/unbind"), "0000:2f:00.0\n");
	assert_string_equal(
		boot_host_content(fixture, "/sys/bus/pci/drivers_probe"), "0000:2f:00.0\n");
	assert_string_equal(boot_host_content(fixture, OTHER "/driver_override"), "(null)\n");
	assert_string_equal(boot_host_content(fixture, "/dev/log"),
		"modprobe vfio-pci\npenstock: 0000:2f:00.0: is at vfio-pci\n");
}

static void the_hook_leaves_another_device(void **state)
{
	struct fixture *fixture = *state;

	prepare_hook(fixture);
	fixture_file(fixture, CARD "/device", "0x73ff\n");
	run_hook(fixture, HOOK);
	assert_string_equal(boot_host_content(fixture, CARD "/driver_override"), "");
	assert_string_equal(boot_host_content(fixture, "/sys/bus/pci/drivers_probe"), "");
	boot_host_assert_contains(fixture, "/dev/log",
		"0000:2f:00.0: is another device now, 0x1002 0x73ff, and stays with the host\n");
}

static void the_hook_can_be_switched_off(void **state)
{
	struct fixture *fixture = *state;

	prepare_hook(fixture);
	fixture_file(fixture, "/proc/cmdline", "quiet penstock.bind=off\n");
	run_hook(fixture, HOOK);
	assert_string_equal(boot_host_content(fixture, CARD "/driver_override"), "");
	boot_host_assert_contains(fixture, "/dev/log", "penstock: binds nothing");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(words_are_added_and_removed),
		TEST(what_is_not_understood_is_not_edited),
		TEST(a_word_of_the_user_stays),
		TEST(grub_with_snippets),
		TEST(grub_without_snippets),
		TEST(grubby),
		TEST(systemd_boot),
		TEST(systemd_boot_by_entries),
		TEST(an_unknown_boot_loader_is_left_to_the_user),
		TEST(no_words_no_boot_loader),
		TEST(frame_buffer_of_the_boot_display),
		TEST(xorg),
		TEST(the_group_comes_along),
		TEST(a_function_of_the_card_is_told),
		TEST(devices_that_are_refused),
		TEST(programs_that_make_an_initramfs),
		TEST(a_preset_that_hides_the_hook_is_told),
		TEST(the_hook_binds),
		TEST(the_hook_leaves_another_device),
		TEST(the_hook_can_be_switched_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

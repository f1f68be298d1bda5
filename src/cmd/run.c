/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/run.h"
#include "base/fd.h"
#include "base/size.h"
#include "broker/broker.h"
#include "broker/rom.h"
#include "cmd/cmd.h"
#include "cmd/cpus.h"
#include "cmd/disk_option.h"
#include "cmd/display.h"
#include "cmd/net.h"
#include "cmd/share_option.h"
#include "cmd/smbios.h"
#include "host/device/address.h"
#include "kvm/features.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: penstock run --kernel FILE [OPTIONS]\n"
	"       penstock run --firmware FILE|uefi|bios [OPTIONS]\n"
	"       penstock run VM.yaml [OPTIONS]\n"
	"\n"
	"Run a virtual machine. Each device is taken from its driver, given to the guest, and\n"
	"given back when the machine ends, whichever way it ends.\n"
	"\n"
	"Each option is a key of a file of the same name, and an option of the command line goes before\n"
	"the file's; one that may be repeated adds to them. 'penstock config --help' tells more.\n"
	"\n"
	"  --kernel FILE      Linux kernel of the guest, a bzImage such as /boot/vmlinuz-*\n"
	"  --initrd FILE      its initial RAM disk\n"
	"  --cmdline TEXT     its command line\n"
	"  --firmware FILE    firmware that runs first, such as /usr/share/OVMF/OVMF_CODE_4M.fd, and\n"
	"                     starts a kernel from a disk, or that of --kernel; uefi takes the\n"
	"                     distribution's, and bios its SeaBIOS, which starts a disk alone\n"
	"  --nvram FILE       where UEFI's variables are kept; made where it is not there. Without, they\n"
	"                     last until the machine ends\n"
	"  --tpm              a TPM 2.0, served by swtpm; with --nvram FILE its state is kept in the\n"
	"                     directory FILE.tpm, with and without firmware; else until the machine ends\n"
	"  --memory SIZE[,hugepages=2M|1G]  guest RAM, such as 512M or 8G (default 512M); hugepages= takes\n"
	"                     it from the host's pool of such pages\n"
	"  --cpus N[,KEY=VALUE]...  number of virtual CPUs, 1 to 64 (default 1), in one socket of so\n"
	"                     many cores, or as the keys sockets, cores and threads (of a core) say;\n"
	"                     pin=LIST has each run on a CPU of the host's, as 2-5 or 2-3+6, and\n"
	"                     everything else of the machine on others\n"
	"  --dedicated        with pin: the guest's idle CPUs do not give those of the host back, which\n"
	"                     spares the exits for it\n"
	"  --cpu host[,+NAME][,-NAME]...  the guest's CPU is the host's: + is a feature that it must\n"
	"                     have, - one that is left out, by their names in /proc/cpuinfo\n"
	"  --hyperv           the enlightenments that Hyper-V gives its guests, for Windows\n"
	"  --hyperv-vendor ID  the same, with up to 12 characters in place of \"Microsoft Hv\"\n"
	"  --hide-hypervisor  nothing in the guest's CPUID tells of KVM, for drivers that refuse to work\n"
	"                     in its guests; nor, without --hyperv, of a hypervisor, for which the guest\n"
	"                     needs --firmware\n"
	"  --rtc WHAT         the guest's real-time clock at its start: utc (default), or local, which is\n"
	"                     the host's time zone, as Windows wants it\n"
	"  --smbios type=N,FIELD=VALUE[,FIELD=VALUE]...  what the guest is told of the machine, by N:\n"
	"                     0 (BIOS) vendor, version, date; 1 (system) manufacturer, product,\n"
	"                     version, serial, uuid, sku, family; 2 (board) manufacturer, product,\n"
	"                     version, serial, asset, location; 3 (chassis) manufacturer, version,\n"
	"                     serial, asset, sku; 11 (OEM strings) value; may be repeated. A comma in\n"
	"                     a value is written twice. Without uuid it follows from the name\n"
	"  --device ADDRESS[,quirks=off][,rom=FILE|off]  PCI device to pass through, such as 0000:01:00.0;\n"
	"                     may be repeated. Devices that share its IOMMU group are taken along, for\n"
	"                     safety. Its option ROM is its own, or FILE, or with off there is none; with\n"
	"                     quirks=off what is known of single devices makes no difference\n"
	"  --disk FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|unsafe][,queues=N]\n"
	"                     a disk (virtio), which is in a file or a block device; may be repeated.\n"
	"                     A FILE.qcow2 is taken as such an image, any other as a raw disk\n"
	"  --cloud-init FILE[,meta-data=FILE]  one more disk, to be read, on which cloud-init in the guest\n"
	"                     finds this user data; without meta-data, that of the machine's name, or\n"
	"                     else of its first disk (xorriso)\n"
	"  --net tap=NAME|bridge=NAME[,failover-for=ADDRESS]|user[,hostfwd=FORWARD]...[,mac=ADDRESS]\n"
	"                     a network card (virtio) at a tap or a bridge of the host's, or on a network\n"
	"                     of its own, from which the guest reaches what the host does (passt);\n"
	"                     may be repeated. At a bridge a tap is made for it, without root by\n"
	"                     qemu-bridge-helper, where that is set-uid and allows the bridge.\n"
	"                     FORWARD is tcp:[ADDRESS:]PORT-:GUESTPORT, or udp:, a port of the host's that\n"
	"                     leads to the guest's; without ADDRESS only the host itself reaches it. With\n"
	"                     failover-for= a guest with Linux takes it as one with that --device, a card of\n"
	"                     the same MAC address, and goes on by it while the device is detached\n"
	"  --share DIR[,tag=NAME][,readonly]\n"
	"                     a directory of the host's (virtio), which the guest mounts (virtiofsd): as\n"
	"                     mount -t virtiofs NAME /mnt, where NAME is the directory's without tag=;\n"
	"                     may be repeated. The guest has root's rights in it, or those of the user who\n"
	"                     has started the machine, and sees nothing else of the host's\n"
	"  --vsock CID        a socket device (virtio), by which host and guest reach each other with no\n"
	"                     network: the guest is CID, a number from 3 on that no other VM has\n"
	"  --vdpa NODE        a device of the host's vDPA, such as /dev/vhost-vdpa-0, be it a card's or made\n"
	"                     by software; may be repeated. The guest has it as a virtio device of the\n"
	"                     same type\n"
	"  --display vnc[=unix:PATH|=127.0.0.1:PORT]  a display card, keyboard and mouse, which VNC's clients\n"
	"                     reach by the socket /run/penstock/NAME.vnc, a user's in their own run\n"
	"                     directory; by that of another path; or by a port, which is open to each\n"
	"                     user of this host\n"
	"  --iommu WHICH      the kernel's interface to the IOMMU: iommufd, type1, or auto, which\n"
	"                     takes iommufd where the kernel and all devices have it (default)\n"
	"  --ports N          empty PCI Express ports, for devices to be attached while the guest\n"
	"                     runs (default 2)\n"
	"  --serial WHERE     the guest's serial console: stdio, file:PATH, pty or none\n"
	"                     (default stdio; on a terminal Ctrl-A x ends the machine and\n"
	"                     Ctrl-A p presses its power button)\n"
	"  --name NAME        the machine's name, for messages, the journal and the commands\n"
	"                     that reach a running machine (default vm-PID, or the file's)\n"
	"  --monitor unix:PATH  one more socket for clients of QMP, besides that of its name\n"
	"  --hugepages        the same as hugepages=2M of --memory\n"
	"  --prealloc         start the guest when all of its RAM is there, not while it is being\n"
	"                     made present\n"
	"  --on-device-error WHAT  when a device reports an uncorrectable error: report it to clients\n"
	"                     of the monitor and in the log (default), detach the device, or stop\n"
	"  --on-reboot WHAT   when the guest reboots: reset, which starts it anew (default); pause,\n"
	"                     for a look from the monitor; or stop, which ends the machine\n"
	"  --on-crash WHAT    the same when it crashes: in a triple fault, or as its kernel says\n"
	"                     by its driver for pvpanic (default reset)\n"
	"  --force            take devices although the host uses them\n"
	"  --help             show this\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Signals: SIGINT and SIGTERM end the machine, SIGPWR presses its power button.\n"
	"\n"
	"Exit status: 0 the guest powered off, or was left by Ctrl-A x; 1 failure, or the end by\n"
	"--on-crash; 2 usage;\n"
	"128 + N ended by signal N.\n";

enum {
	OPT_KERNEL = 256,
	OPT_FIRMWARE,
	OPT_NVRAM,
	OPT_TPM,
	OPT_INITRD,
	OPT_CMDLINE,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_DEDICATED,
	OPT_CPU,
	OPT_HYPERV,
	OPT_HYPERV_VENDOR,
	OPT_HIDE_HYPERVISOR,
	OPT_RTC,
	OPT_SMBIOS,
	OPT_DEVICE,
	OPT_DISK,
	OPT_CLOUD_INIT,
	OPT_NET,
	OPT_SHARE,
	OPT_VSOCK,
	OPT_VDPA,
	OPT_DISPLAY,
	OPT_IOMMU,
	OPT_PORTS,
	OPT_SERIAL,
	OPT_NAME,
	OPT_MONITOR,
	OPT_HUGEPAGES,
	OPT_PREALLOC,
	OPT_ON_DEVICE_ERROR,
	OPT_ON_REBOOT,
	OPT_ON_CRASH,
	OPT_FORCE,
	OPT_HELP,
};

const struct option run_options[] = {
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "firmware", required_argument, NULL, OPT_FIRMWARE },
	{ "nvram", required_argument, NULL, OPT_NVRAM },
	{ "tpm", no_argument, NULL, OPT_TPM },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "cmdline", required_argument, NULL, OPT_CMDLINE },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "dedicated", no_argument, NULL, OPT_DEDICATED },
	{ "cpu", required_argument, NULL, OPT_CPU },
	{ "hyperv", no_argument, NULL, OPT_HYPERV },
	{ "hyperv-vendor", required_argument, NULL, OPT_HYPERV_VENDOR },
	{ "hide-hypervisor", no_argument, NULL, OPT_HIDE_HYPERVISOR },
	{ "rtc", required_argument, NULL, OPT_RTC },
	{ "smbios", repeated_argument, NULL, OPT_SMBIOS },
	{ "device", repeated_argument, NULL, OPT_DEVICE },
	{ "disk", repeated_argument, NULL, OPT_DISK },
	{ "cloud-init", required_argument, NULL, OPT_CLOUD_INIT },
	{ "net", repeated_argument, NULL, OPT_NET },
	{ "share", repeated_argument, NULL, OPT_SHARE },
	{ "vsock", required_argument, NULL, OPT_VSOCK },
	{ "vdpa", repeated_argument, NULL, OPT_VDPA },
	{ "display", required_argument, NULL, OPT_DISPLAY },
	{ "iommu", required_argument, NULL, OPT_IOMMU },
	{ "ports", required_argument, NULL, OPT_PORTS },
	{ "serial", required_argument, NULL, OPT_SERIAL },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "monitor", required_argument, NULL, OPT_MONITOR },
	{ "hugepages", no_argument, NULL, OPT_HUGEPAGES },
	{ "prealloc", no_argument, NULL, OPT_PREALLOC },
	{ "on-device-error", required_argument, NULL, OPT_ON_DEVICE_ERROR },
	{ "on-reboot", required_argument, NULL, OPT_ON_REBOOT },
	{ "on-crash", required_argument, NULL, OPT_ON_CRASH },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

/* What is so without an option. */
static const char *const defaults[][2] = {
	{ "memory", "512M" },
	{ "cpus", "1" },
	{ "rtc", "utc" },
	{ "iommu", "auto" },
	{ "ports", "2" },
	{ "serial", "stdio" },
	{ "on-device-error", "report" },
	{ "on-reboot", "reset" },
	{ "on-crash", "reset" },
};

/* Some 20 KiB that nobody needs who does not ask for them: not on the stack. */
static struct smbios_config smbios;

#define MEMORY_LEAST (2 * MIB)

static int usage(struct error *err)
{
	error_hint(err, "penstock run --help");
	return -EINVAL;
}

static int parse_memory(const char *text, struct broker_config *config, struct error *err)
{
	cleanup_free char *copy = strdup(text);
	char *pages = copy, *size = strsep(&pages, ",");

	if (!copy)
		return error_sys(err, -ENOMEM, NULL, "cannot read --memory");
	if (size_parse(size, &config->memory) || config->memory < MEMORY_LEAST ||
		config->memory % (4 * KIB)) {
		error_set(err, -EINVAL, NULL,
			"--memory %s is no size for a guest: 2M or more, in multiples of 4K", size);
		return usage(err);
	}
	if (!pages)
		return 0;
	if (strcmp(pages, "hugepages=2M") == 0)
		config->hugepages = 2 * MIB;
	else if (strcmp(pages, "hugepages=1G") == 0)
		config->hugepages = GIB;
	else
		error_set(err, -EINVAL, NULL,
			"--memory %s: '%s' is neither hugepages=2M nor hugepages=1G", text, pages);
	return err->code ? usage(err) : 0;
}

static int parse_number(const char *option, const char *text, unsigned least, unsigned most,
	unsigned *number, struct error *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)text[0]) || *end || value < least || value > most) {
		error_set(err, -EINVAL, NULL, "--%s %s is not a number from %u to %u", option, text,
			least, most);
		return usage(err);
	}
	*number = value;
	return 0;
}

/* What stands behind the comma. */
struct device_options {
	const char *rom;
	bool plain;
};

static int add_run_device(const char *text, const struct bdf *bdf,
	const struct device_options *options, struct broker_config *config, struct error *err)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (bdf_equal(bdf, &config->devices[i])) {
			error_set(err, -EINVAL, NULL, "--device %s is given twice", text);
			return usage(err);
		}
	if (config->device_count == MACHINE_DEVICES_MAX)
		return error_set(err, -EINVAL, NULL, "more than %d devices", MACHINE_DEVICES_MAX);
	config->roms[config->device_count] = options->rom;
	config->plain[config->device_count] = options->plain;
	config->devices[config->device_count++] = *bdf;
	return 0;
}

#define NO_QUIRKS "quirks=off"

/* ADDRESS[,quirks=off][,rom=FILE]; the comma ends text, and a file's name may have more of them. */
static int parse_device_options(char *text, struct device_options *options, struct error *err)
{
	size_t length = strlen(NO_QUIRKS);
	char *comma = strchr(text, ',');

	*options = (struct device_options){ 0 };
	if (!comma)
		return 0;
	*comma = '\0';
	if (strncmp(comma + 1, NO_QUIRKS, length) == 0 && strchr(",", comma[1 + length])) {
		options->plain = true;
		comma += 1 + length;
		if (!*comma)
			return 0;
	}
	if (strncmp(comma + 1, "rom=", 4) || !comma[5]) {
		error_set(err, -EINVAL, NULL,
			"--device %s: '%s' is none of " NO_QUIRKS
			", rom=FILE and rom=" BROKER_ROM_OFF,
			text, comma + 1);
		return usage(err);
	}
	options->rom = comma + 5;
	return 0;
}

/* Of the functions of one device the first one is the card, the others its sound and what else. */
static struct device_options options_of(const struct device_options *options, int i)
{
	bool all = !options->rom || strcmp(options->rom, BROKER_ROM_OFF) == 0;

	return (struct device_options){ i == 0 || all ? options->rom : NULL, options->plain };
}

static int parse_device(char *text, struct broker_config *config, struct error *err)
{
	struct bdf devices[HOST_ADDRESS_MAX];
	struct error no_address = { 0 };
	struct device_options options;
	struct host host;
	int count;

	if (host_init(&host, NULL, NULL, err) || parse_device_options(text, &options, err))
		return err->code;
	count = host_address_find(&host, text, devices, &no_address);
	if (count == -EINVAL) {
		error_set(err, -EINVAL, NULL, "--device %s is no PCI address", text);
		error_hint(err,
			"an address looks like 0000:01:00.0 or 01:00.0; 'penstock ls' lists them");
	} else if (count < 0) {
		*err = no_address;
	}
	for (int i = 0; i < count; i++) {
		struct device_options own = options_of(&options, i);

		if (add_run_device(text, &devices[i], &own, config, err))
			return err->code;
	}
	return err->code;
}

/* One of three words; its place is what it means. */
static int parse_word(const char *option, const char *const words[static 3], const char *text,
	unsigned *meaning, struct error *err)
{
	for (*meaning = 0; *meaning < 3; ++*meaning)
		if (strcmp(text, words[*meaning]) == 0)
			return 0;
	error_set(err, -EINVAL, NULL, "--%s %s is none of %s, %s and %s", option, text, words[0],
		words[1], words[2]);
	return usage(err);
}

static int parse_iommu(const char *text, struct broker_config *config, struct error *err)
{
	static const char *const words[] = {
		[BROKER_IOMMU_AUTO] = "auto",
		[BROKER_IOMMU_IOMMUFD] = "iommufd",
		[BROKER_IOMMU_TYPE1] = "type1",
	};

	return parse_word("iommu", words, text, &config->iommu, err);
}

static int parse_policy(
	const char *option, const char *text, enum broker_policy *policy, struct error *err)
{
	static const char *const words[] = {
		[BROKER_POLICY_RESET] = "reset",
		[BROKER_POLICY_PAUSE] = "pause",
		[BROKER_POLICY_STOP] = "stop",
	};

	return parse_word(option, words, text, policy, err);
}

static int parse_on_device_error(const char *text, struct broker_config *config, struct error *err)
{
	static const char *const words[] = {
		[MACHINE_REPORT] = "report",
		[MACHINE_DETACH] = "detach",
		[MACHINE_STOP] = "stop",
	};

	return parse_word("on-device-error", words, text, &config->on_device_error, err);
}

static int parse_serial(const char *text, struct broker_config *config, struct error *err)
{
	if (strcmp(text, "stdio") == 0) {
		config->serial = BROKER_SERIAL_STDIO;
	} else if (strcmp(text, "pty") == 0) {
		config->serial = BROKER_SERIAL_PTY;
	} else if (strcmp(text, "none") == 0) {
		config->serial = BROKER_SERIAL_NONE;
	} else if (strncmp(text, "file:", 5) == 0 && text[5]) {
		config->serial = BROKER_SERIAL_FILE;
		config->serial_path = text + 5;
	} else {
		error_set(err, -EINVAL, NULL,
			"--serial %s is none of stdio, file:PATH, pty and none", text);
		return usage(err);
	}
	return 0;
}

static int parse_rtc(const char *text, struct broker_config *config, struct error *err)
{
	config->rtc_local = strcmp(text, "local") == 0;
	if (config->rtc_local || strcmp(text, "utc") == 0)
		return 0;
	error_set(err, -EINVAL, NULL, "--rtc %s is neither utc nor local", text);
	return usage(err);
}

static int parse_monitor(const char *text, struct broker_config *config, struct error *err)
{
	if (strncmp(text, "unix:", 5) || !text[5]) {
		error_set(err, -EINVAL, NULL, "--monitor %s is not unix:PATH", text);
		return usage(err);
	}
	config->monitor = text + 5;
	return 0;
}

static int add_net(struct broker_config *config, struct error *err)
{
	if (config->net_count == BROKER_NETS_MAX)
		return error_set(err, -EINVAL, NULL, "more than %d network cards", BROKER_NETS_MAX);
	return cmd_net_parse(optarg, &config->nets[config->net_count++], err) ? usage(err) : 0;
}

static int add_disk(struct broker_config *config, struct error *err)
{
	if (config->disk_count == BROKER_DISKS_MAX)
		return error_set(err, -EINVAL, NULL, "more than %d disks", BROKER_DISKS_MAX);
	return cmd_disk_parse(optarg, &config->disks[config->disk_count++], err) ? usage(err) : 0;
}

static int add_vdpa(struct broker_config *config, struct error *err)
{
	if (config->vdpa_count == BROKER_VDPAS_MAX)
		return error_set(err, -EINVAL, NULL, "more than %d vDPA devices", BROKER_VDPAS_MAX);
	for (unsigned i = 0; i < config->vdpa_count; i++)
		if (strcmp(config->vdpas[i], optarg) == 0) {
			error_set(err, -EINVAL, NULL, "--vdpa %s is given twice", optarg);
			return usage(err);
		}
	config->vdpas[config->vdpa_count++] = optarg;
	return 0;
}

static int parse_run_option(int option, struct broker_config *config, struct error *err)
{
	switch (option) {
	case OPT_KERNEL:
		config->kernel = optarg;
		return 0;
	case OPT_FIRMWARE:
		config->firmware = optarg;
		return 0;
	case OPT_NVRAM:
		config->nvram = optarg;
		return 0;
	case OPT_TPM:
		config->tpm = true;
		return 0;
	case OPT_INITRD:
		config->initrd = optarg;
		return 0;
	case OPT_CMDLINE:
		config->cmdline = optarg;
		return 0;
	case OPT_MEMORY:
		return parse_memory(optarg, config, err);
	case OPT_CPUS:
		return cmd_cpus_parse(optarg, &config->cpus, err) ? usage(err) : 0;
	case OPT_DEDICATED:
		config->cpus.dedicated = true;
		return 0;
	case OPT_CPU:
		return kvm_features_parse(optarg, &config->cpus, err) ? usage(err) : 0;
	case OPT_HYPERV:
		config->cpus.hyperv = true;
		return 0;
	case OPT_HYPERV_VENDOR:
		return cmd_cpus_parse_vendor(optarg, &config->cpus, err) ? usage(err) : 0;
	case OPT_HIDE_HYPERVISOR:
		config->cpus.hidden = true;
		return 0;
	case OPT_RTC:
		return parse_rtc(optarg, config, err);
	case OPT_SMBIOS:
		return cmd_smbios_parse(optarg, &smbios, err) ? usage(err) : 0;
	case OPT_DEVICE:
		return parse_device(optarg, config, err);
	case OPT_DISK:
		return add_disk(config, err);
	case OPT_CLOUD_INIT:
		return cmd_cloud_init_parse(optarg, &config->cloud_init, err) ? usage(err) : 0;
	case OPT_NET:
		return add_net(config, err);
	case OPT_SHARE:
		return cmd_share_parse(optarg, config, err) ? usage(err) : 0;
	case OPT_VSOCK:
		return parse_number("vsock", optarg, 3, UINT32_MAX - 1, &config->vsock_cid, err);
	case OPT_VDPA:
		return add_vdpa(config, err);
	case OPT_DISPLAY:
		return cmd_display_parse(optarg, &config->vnc, err) ? usage(err) : 0;
	case OPT_IOMMU:
		return parse_iommu(optarg, config, err);
	case OPT_PORTS:
		return parse_number("ports", optarg, 0, MACHINE_PORTS_MAX, &config->ports, err);
	case OPT_SERIAL:
		return parse_serial(optarg, config, err);
	case OPT_NAME:
		config->name = config->cloud_init.name = optarg;
		return 0;
	case OPT_MONITOR:
		return parse_monitor(optarg, config, err);
	case OPT_HUGEPAGES:
		if (!config->hugepages)
			config->hugepages = 2 * MIB;
		return 0;
	case OPT_PREALLOC:
		config->prealloc = true;
		return 0;
	case OPT_ON_DEVICE_ERROR:
		return parse_on_device_error(optarg, config, err);
	case OPT_ON_REBOOT:
		return parse_policy("on-reboot", optarg, &config->on_reboot, err);
	case OPT_ON_CRASH:
		return parse_policy("on-crash", optarg, &config->on_crash, err);
	case OPT_FORCE:
		config->force = true;
		return 0;
	default:
		return -EINVAL;
	}
}

/* What runs first, and what goes with it. */
static int check_first(const struct broker_config *config, struct error *err)
{
	if (!config->kernel && !config->firmware)
		error_set(err, -EINVAL, NULL, "--kernel FILE is missing, or --firmware FILE");
	else if (config->nvram && !config->firmware && !config->tpm)
		error_set(err, -EINVAL, NULL, "--nvram is of no use without --firmware or --tpm");
	else if (!config->kernel && (config->initrd || config->cmdline[0]))
		error_set(err, -EINVAL, NULL, "--%s is of no use without --kernel",
			config->initrd ? "initrd" : "cmdline");
	return err->code ? usage(err) : 0;
}

/* Each by itself can be right, and yet not with the others. */
static int check_together(const struct broker_config *config, struct error *err)
{
	if (kvm_cpus_lack_clock(&config->cpus) && !config->firmware) {
		error_set(err, -EINVAL, NULL,
			"--hide-hypervisor needs --firmware, or --hyperv without --hyperv-vendor: Linux "
			"measures its TSC by a clock that only firmware's machine has, or takes "
			"the clock of \"" KVM_HYPERV_VENDOR "\"");
		return usage(err);
	}
	if (config->cpus.dedicated && !config->cpus.pinned) {
		error_set(err, -EINVAL, NULL,
			"--dedicated needs --cpus N,pin=LIST: a CPU that is not given back must be the "
			"guest's alone");
		return usage(err);
	}
	if (config->cloud_init.user_data && config->disk_count == BROKER_DISKS_MAX)
		return error_set(err, -EINVAL, NULL,
			"--cloud-init is one disk more than the %d that a machine can have",
			BROKER_DISKS_MAX);
	if (cmd_net_check(config, err))
		return usage(err);
	return check_first(config, err);
}

const char *run_form(const char *option)
{
	static char form[96];
	char start[32];
	const char *at = help;
	size_t length;

	snprintf(form, sizeof(form), "--%s", option);
	length = snprintf(start, sizeof(start), "\n  --%s", option);
	while ((at = strstr(at, start)) && at[length] != ' ' && at[length] != '\n')
		at += length;
	if (!at)
		return form;
	at += strlen("\n  ");
	for (length = 0; length < sizeof(form) - 1 && at[length] != '\n'; length++) {
		if (at[length] == ' ' && at[length + 1] == ' ')
			break;
		form[length] = at[length];
	}
	form[length] = '\0';
	return form;
}

const char *run_default(const char *option)
{
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		if (strcmp(defaults[i][0], option) == 0)
			return defaults[i][1];
	return NULL;
}

/* For getopt(3), which knows of an option only that it takes a value. */
static void copy_options(struct option options[ARRAY_SIZE(run_options)])
{
	memcpy(options, run_options, sizeof(run_options));
	for (size_t i = 0; i < ARRAY_SIZE(run_options); i++)
		if (options[i].has_arg == repeated_argument)
			options[i].has_arg = required_argument;
}

int run_collect(int argc, char **argv, struct description *description, struct error *err)
{
	struct option options[ARRAY_SIZE(run_options)];
	int option, index;

	copy_options(options);
	while ((option = getopt_long(argc, argv, "h", options, &index)) != -1) {
		if (option == OPT_HELP || option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (option < OPT_KERNEL) /* getopt has said what is wrong */
			return -EINVAL;
		if (description_add(description, &run_options[index], optarg, err))
			return err->code;
	}
	if (optind == argc)
		return 0;
	if (argc - optind > 1) {
		error_set(err, -EINVAL, NULL, "'%s' is no option, and the file is '%s'",
			argv[optind + 1], argv[optind]);
		return usage(err);
	}
	return description_read(description, argv[optind], run_options, run_form, err);
}

/* A file's name is the machine's, and without one it is that of the process. */
static const char *default_name(const char *path)
{
	static char name[NAME_MAX + 1];
	const char *slash = path ? strrchr(path, '/') : NULL, *start = slash ? slash + 1 : path;
	size_t length = path ? strlen(start) : 0, end = strlen(".yaml");

	if (!path)
		snprintf(name, sizeof(name), "vm-%d", getpid());
	else if (length > end && strcmp(start + length - end, ".yaml") == 0)
		snprintf(name, sizeof(name), "%.*s", (int)(length - end), start);
	else
		snprintf(name, sizeof(name), "%s", start);
	return name;
}

static int take_defaults(struct broker_config *config, struct error *err)
{
	for (const struct option *option = run_options; option->name; option++) {
		/* None of them is cut by who parses it. */
		optarg = (char *)run_default(option->name);
		if (optarg && parse_run_option(option->val, config, err))
			return err->code;
	}
	return 0;
}

int run_understand(
	const struct description *description, struct broker_config *config, struct error *err)
{
	*config = (struct broker_config){
		.name = default_name(description->path),
		.smbios = &smbios,
		.cmdline = "",
		.cpus = KVM_CPUS(1),
	};
	if (description->path)
		config->cloud_init.name = config->name;
	if (take_defaults(config, err))
		return err->code;
	for (size_t i = 0; i < description->count; i++) {
		const struct description_word *word = &description->words[i];

		optarg = word->taken;
		if (parse_run_option(word->option->val, config, err)) {
			description_locate(description, word, err);
			return err->code;
		}
	}
	check_together(config, err);
	description_locate(description, NULL, err);
	return err->code;
}

int cmd_run(int argc, char **argv)
{
	struct description description = { 0 };
	struct broker_config config;
	struct error err = { 0 };
	int code = run_collect(argc, argv, &description, &err);

	if (!code)
		code = run_understand(&description, &config, &err);
	if (code < 0) {
		code = code == -EINVAL ? EXIT_USAGE : 1;
	} else if (code > 0) {
		code = 0;
	} else {
		code = broker_run(&config, &err);
		description_locate(&description, NULL, &err);
	}
	if (err.code)
		error_print(&err);
	description_free(&description);
	return code;
}

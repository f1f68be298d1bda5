/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/sriov/vf.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/net.h"
#include "cmd/output.h"
#include "host/binding/vfs.h"
#include "host/device/address.h"
#include "host/device/vfs.h"
#include "host/sriov/settings.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: penstock vf create [--bind] [--json] [--dry-run] ADDRESS N\n"
	"       penstock vf destroy [--dry-run] ADDRESS\n"
	"       penstock vf set [--mac MAC] [--vlan ID] [--trust on|off] [--dry-run] ADDRESS\n"
	"Make virtual functions (SR-IOV) of a device, remove them all, or set one of a network card.\n"
	"'create' prints the addresses of the VFs. For 'create' and 'destroy' ADDRESS is that of the\n"
	"physical function, for 'set' that of the VF.\n"
	"\n"
	"      --bind         give the VFs to vfio-pci, as 'penstock bind' does\n"
	"      --mac MAC      the VF's address, as 52:54:00:12:34:56\n"
	"      --vlan ID      put its traffic into a VLAN, 1 to 4094; 0: none\n"
	"      --trust on     its driver may change the address, and receive what is for others\n"
	"      --json         the result as JSON; docs/json.md describes it\n"
	"      --dry-run      check, and say what would be done, but change nothing\n"
	"      --help         show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

enum {
	OPTION_BIND = 256,
	OPTION_MAC,
	OPTION_VLAN,
	OPTION_TRUST,
	OPTION_JSON,
	OPTION_DRY_RUN,
	OPTION_HELP
};

static const struct option long_options[] = {
	{ "bind", no_argument, NULL, OPTION_BIND },
	{ "mac", required_argument, NULL, OPTION_MAC },
	{ "vlan", required_argument, NULL, OPTION_VLAN },
	{ "trust", required_argument, NULL, OPTION_TRUST },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct arguments {
	bool bind, json, dry_run;
	struct vf_settings settings;
	unsigned count;
	char *address;
};

static bool parse_mac(const char *text, struct vf_settings *settings)
{
	settings->set_mac = true;
	return cmd_mac_parse(text, settings->mac);
}

static bool parse_digits(const char *text, unsigned long most, unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	return isdigit((unsigned char)text[0]) && !*end && !errno && *number <= most;
}

static bool parse_vlan(const char *text, struct vf_settings *settings)
{
	unsigned long number;

	if (!parse_digits(text, 4094, &number))
		return false;
	settings->vlan = number;
	settings->set_vlan = true;
	return true;
}

static bool parse_trust(const char *text, struct vf_settings *settings)
{
	settings->trust = strcmp(text, "on") == 0;
	settings->set_trust = true;
	return settings->trust || strcmp(text, "off") == 0;
}

/* -1: go on. Else the exit status. */
static int parse_vf_option(struct arguments *arguments, int option)
{
	switch (option) {
	case OPTION_BIND:
		arguments->bind = true;
		return -1;
	case OPTION_MAC:
		return parse_mac(optarg, &arguments->settings)
			       ? -1
			       : cmd_wrong_usage(
					 "vf", "'%s' is no MAC address of a single card", optarg);
	case OPTION_VLAN:
		return parse_vlan(optarg, &arguments->settings)
			       ? -1
			       : cmd_wrong_usage("vf", "'%s' is no VLAN, 0 to 4094", optarg);
	case OPTION_TRUST:
		return parse_trust(optarg, &arguments->settings)
			       ? -1
			       : cmd_wrong_usage("vf", "'%s' is neither on nor off", optarg);
	case OPTION_JSON:
		arguments->json = true;
		return -1;
	case OPTION_DRY_RUN:
		arguments->dry_run = true;
		return -1;
	case OPTION_HELP:
		fputs(usage, stdout);
		return 0;
	default:
		return cmd_wrong_usage("vf", NULL);
	}
}

static json_object *describe_vf(const struct host *host, const struct bdf *bdf, unsigned number)
{
	json_object *object = json_object_new_object();
	struct error ignored = { 0 };
	struct host_device device;
	char name[BDF_TEXT];
	bool there = host_device_read(host, bdf, &device, &ignored) == 0;

	json_object_object_add(object, "number", json_object_new_int(number));
	output_add_text(object, "address", bdf_format(bdf, name));
	output_add_text(object, "driver", there ? device.driver : "");
	json_object_object_add(object, "group",
		there && device.group >= 0 ? json_object_new_int(device.group) : NULL);
	return object;
}

static void print_vfs_json(
	const struct host *host, const struct bdf *pf, const struct bdf *vfs, ssize_t count)
{
	json_object *object = output_new(), *list = json_object_new_array();
	char name[BDF_TEXT];

	for (ssize_t i = 0; i < count; i++)
		json_object_array_add(list, describe_vf(host, &vfs[i], i));
	output_add_text(object, "pf", bdf_format(pf, name));
	json_object_object_add(object, "vfs", list);
	output_json(object);
}

static int create_vfs(const struct host *host, const struct bdf *bdf,
	const struct arguments *arguments, struct error *err)
{
	cleanup_free struct bdf *vfs = NULL;
	char name[BDF_TEXT];
	ssize_t count;
	int code = (arguments->bind ? host_bind_new_vfs : host_vf_create)(
		host, bdf, arguments->count, arguments->dry_run, err);

	if (code)
		return code;
	count = host_vfs_list(host, bdf, &vfs, err);
	if (count < 0)
		return count;
	if (arguments->json)
		print_vfs_json(host, bdf, vfs, count);
	for (ssize_t i = 0; i < count && !arguments->json; i++)
		printf("%s\n", bdf_format(&vfs[i], name));
	return 0;
}

static int destroy_vfs(const struct host *host, const struct bdf *bdf,
	const struct arguments *arguments, struct error *err)
{
	return host_vf_destroy(host, bdf, arguments->dry_run, err);
}

static int set_vf(const struct host *host, const struct bdf *bdf, const struct arguments *arguments,
	struct error *err)
{
	return vf_settings_apply(host, bdf, &arguments->settings, arguments->dry_run, err);
}

typedef int (*action)(const struct host *host, const struct bdf *bdf,
	const struct arguments *arguments, struct error *err);

static int run_action(const struct arguments *arguments, action act)
{
	struct error err = { 0 };
	struct host host;
	struct bdf bdf;
	int code = host_init(&host, NULL, NULL, &err), status = 1;

	if (code == 0) {
		code = host_address_find_one(&host, arguments->address, &bdf, &err);
		status = code == -EINVAL ? EXIT_USAGE : 1;
	}
	if (code == 0)
		code = act(&host, &bdf, arguments, &err);
	if (code)
		error_print(&err);
	return code ? status : 0;
}

static int check_words(struct arguments *arguments, int count, char **words, action *act)
{
	const struct vf_settings *settings = &arguments->settings;
	bool sets = settings->set_mac || settings->set_vlan || settings->set_trust;
	const char *verb = count ? words[0] : "";
	unsigned long number;

	*act = strcmp(verb, "create") == 0    ? create_vfs
	       : strcmp(verb, "destroy") == 0 ? destroy_vfs
	       : strcmp(verb, "set") == 0     ? set_vf
					      : NULL;
	if (!*act)
		return verb[0] ? cmd_wrong_usage(
					 "vf", "'%s' is none of create, destroy and set", verb)
			       : cmd_wrong_usage("vf", "give one of create, destroy and set");
	if (count != (*act == create_vfs ? 3 : 2))
		return cmd_wrong_usage("vf", *act == create_vfs
						     ? "create wants an address and a number"
						     : "one address is wanted");
	if (*act == create_vfs && (!parse_digits(words[2], 65535, &number) || !number))
		return cmd_wrong_usage("vf", "'%s' is no number of VFs, 1 or more", words[2]);
	if (sets != (*act == set_vf))
		return cmd_wrong_usage(
			"vf", "--mac, --vlan and --trust go with set, and it needs one");
	if (*act != create_vfs && (arguments->bind || arguments->json))
		return cmd_wrong_usage("vf", "--bind and --json go with create");
	arguments->count = *act == create_vfs ? number : 0;
	arguments->address = words[1];
	return -1;
}

int cmd_vf(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int option, status = -1;
	action act;

	while (status < 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		status = parse_vf_option(&arguments, option);
	if (status < 0)
		status = check_words(&arguments, argc - optind, argv + optind, &act);
	return status < 0 ? run_action(&arguments, act) : status;
}

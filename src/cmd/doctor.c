/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/doctor.h"

#include "base/fd.h"
#include "base/size.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "host/device/address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: penstock doctor [--json] [ADDRESS]...\n"
	"Find out what keeps devices of this host from being passed to virtual machines, and what mends\n"
	"it here. Changes nothing. Of each check it says whether it is ok, a warning, a problem, or\n"
	"unknown, as where the kernel's log may not be read; then what was seen, and what to do next.\n"
	"\n"
	"With an ADDRESS, whether that device can be passed now, and if not, what it takes.\n"
	"\n"
	"      --json   as JSON; docs/json.md describes it\n"
	"      --help   show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 nothing stands in the way, 1 something does, or failed, 2 wrong usage.\n";

static const struct {
	const char *name;
	enum output_color color;
} statuses[] = {
	[FINDING_OK] = { "ok", GREEN },
	[FINDING_UNKNOWN] = { "unknown", YELLOW },
	[FINDING_WARNING] = { "warning", YELLOW },
	[FINDING_PROBLEM] = { "problem", RED },
};

#define STATUS_WIDTH 9 /* of the column */
#define INDENT       STATUS_WIDTH

/* For people. */

/* Up to the next blank outside of quotes: a command is one word, so that it can be copied. */
static int word_size(const char *text)
{
	const char *at = text;

	while (*at && *at != ' ') {
		const char *end =
			*at == '\'' && (at == text || at[-1] == '(') ? strchr(at + 1, '\'') : NULL;

		at = (end ? end : at) + 1;
	}
	return at - text;
}

/* Words from column on; further lines begin at INDENT. */
static void print_words(const char *text, unsigned column)
{
	bool first = true;

	while (*text) {
		int size = word_size(text);

		if (!first && column + 1 + size > OUTPUT_COLUMNS) {
			printf("\n%*s", INDENT, "");
			column = INDENT;
		} else if (!first) {
			putchar(' ');
			column++;
		}
		printf("%.*s", size, text);
		column += size;
		first = false;
		text += size + (text[size] == ' ');
	}
	putchar('\n');
}

static void print_remark(const char *mark, const char *text)
{
	if (!text[0])
		return;
	printf("%*s%s ", INDENT, "", mark);
	print_words(text, INDENT + strlen(mark) + 1);
}

static void print_finding(const struct finding *finding, bool color)
{
	const char *status = statuses[finding->status].name;
	char text[2 * FINDING_TEXT], name[BDF_TEXT];

	printf(color ? "\033[%dm%-*s\033[0m" : "%.0d%-*s",
		color ? (int)statuses[finding->status].color : 0, STATUS_WIDTH, status);
	if (finding->has_device)
		snprintf(text, sizeof(text), "%s: %s: %s", finding->check,
			bdf_format(&finding->device, name), finding->what);
	else
		snprintf(text, sizeof(text), "%s: %s", finding->check, finding->what);
	print_words(text, STATUS_WIDTH);
	if (finding->status == FINDING_OK)
		return;
	print_remark("seen:", finding->evidence);
	print_remark("next:", finding->fix);
}

static void print_fact(const struct doctor_fact *fact)
{
	char text[FINDING_TEXT];

	if (fact->value < 0)
		return;
	printf("%-*s", STATUS_WIDTH, "fact");
	snprintf(
		text, sizeof(text), "%s: %s: %s", fact->id, fact->what, fact->value ? "yes" : "no");
	print_words(text, STATUS_WIDTH);
}

static bool stands_in_the_way(const struct finding *finding, const struct bdf *device)
{
	return finding->status == FINDING_PROBLEM &&
	       (!finding->has_device || bdf_equal(&finding->device, device));
}

/* No step makes a guest have a bridge or a part of the board; why says which of them it is. */
static bool stays_with_host(
	const struct doctor *doctor, const struct bdf *device, struct error *why)
{
	return host_device_check_bridge(&doctor_find(doctor, device)->device, why);
}

static void print_verdict(const struct doctor *doctor, const struct bdf *device)
{
	const struct inventory_device *found = doctor_find(doctor, device);
	char name[BDF_TEXT], number[16];
	struct error stays = { 0 };
	unsigned step = 0;

	bdf_format(device, name);
	putchar('\n');
	if (stays_with_host(doctor, device, &stays)) {
		printf("%s cannot be passed: %s\n", name, stays.what);
		return;
	}
	if (doctor_can_pass(doctor, device)) {
		printf("%s can be passed now: penstock run --device %s ...\n", name, name);
		if (found->device.driver[0] && !host_driver_is_vfio(found->device.driver))
			printf("%*sit is taken from %s, with its group, and given back afterwards\n",
				INDENT, "", found->device.driver);
		return;
	}
	printf("%s cannot be passed now. It takes, in this order:\n", name);
	for (size_t i = 0; i < doctor->count; i++) {
		const struct finding *finding = &doctor->findings[i];

		if (!stands_in_the_way(finding, device))
			continue;
		snprintf(number, sizeof(number), "%u.", ++step);
		print_remark(number, finding->fix[0] ? finding->fix : finding->what);
	}
	snprintf(number, sizeof(number), "%u.", step + 1);
	printf("%*s%s penstock doctor %s\n", INDENT, "", number, name);
}

static void print_doctor_text(const struct doctor *doctor)
{
	bool color = output_wants_color();

	for (size_t i = 0; i < doctor->count; i++)
		print_finding(&doctor->findings[i], color);
	for (size_t i = 0; i < DOCTOR_FACTS; i++)
		print_fact(&doctor->facts[i]);
	for (size_t i = 0; i < doctor->device_count; i++)
		print_verdict(doctor, &doctor->devices[i]);
}

/* JSON: docs/json.md. */

static json_object *json_of_finding(const struct finding *finding)
{
	json_object *object = json_object_new_object();
	char name[BDF_TEXT];

	output_add_text(object, "check", finding->check);
	output_add_text(object, "status", statuses[finding->status].name);
	output_add_text(
		object, "device", finding->has_device ? bdf_format(&finding->device, name) : "");
	output_add_text(object, "what", finding->what);
	output_add_text(object, "evidence", finding->evidence);
	output_add_text(object, "fix", finding->fix);
	return object;
}

static json_object *json_of_fact(const struct doctor_fact *fact)
{
	json_object *object = json_object_new_object();

	output_add_text(object, "fact", fact->id);
	output_add_text(object, "what", fact->what);
	json_object_object_add(
		object, "value", fact->value < 0 ? NULL : json_object_new_boolean(fact->value));
	output_add_text(object, "evidence", fact->evidence);
	return object;
}

static json_object *json_of_verdict(const struct doctor *doctor, const struct bdf *device)
{
	json_object *object = json_object_new_object(), *steps = json_object_new_array();
	bool stays = stays_with_host(doctor, device, &(struct error){ 0 });
	char name[BDF_TEXT];

	output_add_text(object, "address", bdf_format(device, name));
	json_object_object_add(
		object, "can_pass", json_object_new_boolean(doctor_can_pass(doctor, device)));
	for (size_t i = 0; !stays && i < doctor->count; i++)
		if (stands_in_the_way(&doctor->findings[i], device) && doctor->findings[i].fix[0])
			json_object_array_add(
				steps, json_object_new_string(doctor->findings[i].fix));
	json_object_object_add(object, "steps", steps);
	return object;
}

static void print_doctor_json(const struct doctor *doctor)
{
	json_object *root = output_new(), *findings = json_object_new_array();
	json_object *facts = json_object_new_array(), *devices = json_object_new_array();

	for (size_t i = 0; i < doctor->count; i++)
		json_object_array_add(findings, json_of_finding(&doctor->findings[i]));
	for (size_t i = 0; i < DOCTOR_FACTS; i++)
		json_object_array_add(facts, json_of_fact(&doctor->facts[i]));
	for (size_t i = 0; i < doctor->device_count; i++)
		json_object_array_add(devices, json_of_verdict(doctor, &doctor->devices[i]));
	json_object_object_add(root, "findings", findings);
	json_object_object_add(root, "facts", facts);
	json_object_object_add(root, "devices", devices);
	output_json(root);
}

static bool any_problem(const struct doctor *doctor)
{
	for (size_t i = 0; i < doctor->count; i++)
		if (doctor->findings[i].status == FINDING_PROBLEM)
			return true;
	return false;
}

static int run_checks(bool json, char *const *words, int count)
{
	cleanup_free struct bdf *devices = NULL;
	struct doctor doctor = { 0 };
	struct error err = { 0 };
	struct host host;
	ssize_t found = 0;
	int status = 1;

	if (host_init(&host, NULL, NULL, &err) == 0 && count)
		found = host_address_find_all(&host, words, count, &devices, &err);
	if (found == -EINVAL)
		status = EXIT_USAGE;
	if (!err.code && doctor_run(&doctor, &host, devices, found, &err) == 0) {
		(json ? print_doctor_json : print_doctor_text)(&doctor);
		status = any_problem(&doctor);
	}
	if (err.code)
		error_print(&err);
	doctor_free(&doctor);
	return status;
}

int cmd_doctor(int argc, char **argv)
{
	bool json = false;
	int status = output_parse_options(argc, argv, "doctor", usage, &json);

	if (status >= 0)
		return status;
	return run_checks(json, argv + optind, argc - optind);
}

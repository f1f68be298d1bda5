/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/devices.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "broker/life.h"
#include "broker/reset.h"
#include "broker/vfio.h"
#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/device/address.h"
#include "host/journal/holder.h"
#include "host/journal/journal.h"
#include "host/system/guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TELL_EVERY_MS 10000 /* clients and the log of an event, at most */

bool broker_device_is_in(const struct broker_device *device)
{
	return device->state >= BROKER_DEVICE_COMING && device->state <= BROKER_DEVICE_LEAVING;
}

/* Both in a job: the kernel may take its time for what the second looks at, too. */
static void bind_and_tell(struct broker *broker, const struct bdf *devices, unsigned count,
	bool force, struct error *err)
{
	const char *name = broker->config->name;
	const struct bind_options options = { .owner = name, .force = force };

	if (host_bind(&broker->host, devices, count, &options, err))
		return;
	for (unsigned i = 0; i < count; i++)
		broker_reset_tell(&broker->host, &devices[i], name);
}

static void take_configured(
	struct broker *broker, const struct broker_job_subject *subject, struct error *err)
{
	const struct broker_config *config = broker->config;

	(void)subject;
	bind_and_tell(broker, config->devices, config->device_count, config->force, err);
}

int broker_devices_take(struct broker *broker, struct error *err)
{
	const struct broker_config *config = broker->config;

	if (config->device_count && broker_job_call(broker, take_configured, err))
		return err->code;
	for (unsigned i = 0; i < config->device_count; i++) {
		struct broker_device *device = &broker->devices[i];

		device->state = BROKER_DEVICE_THERE;
		device->bdf = config->devices[i];
		device->rom = broker->roms[i];
		device->plain = broker->config->plain[i];
		bdf_format(&device->bdf, device->id);
	}
	return 0;
}

/* Those in the machine are the first: it counts them so. */
unsigned broker_devices_begin(struct broker *broker, struct bdf devices[static MACHINE_DEVICES_MAX])
{
	struct broker_device others[ARRAY_SIZE(broker->devices)];
	unsigned count = 0, other_count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		struct broker_device device = broker->devices[i];

		broker->devices[i].state = BROKER_DEVICE_NONE;
		if (broker_device_is_in(&device)) {
			device.state = BROKER_DEVICE_THERE;
			device.request = 0;
			devices[count] = device.bdf;
			broker->devices[count++] = device;
		} else if (device.state != BROKER_DEVICE_NONE) {
			others[other_count++] = device;
		}
	}
	memcpy(&broker->devices[count], others, other_count * sizeof(*others));
	return count;
}

int broker_devices_find(const struct broker *broker, const char *id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		const struct broker_device *device = &broker->devices[i];
		char name[BDF_TEXT];

		if (device->state != BROKER_DEVICE_NONE &&
			(strcmp(device->id, id) == 0 ||
				strcmp(bdf_format(&device->bdf, name), id) == 0))
			return i;
	}
	return -1;
}

bool broker_devices_pending(const struct broker *broker, uint32_t request)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++)
		if (broker->devices[i].state != BROKER_DEVICE_NONE &&
			broker->devices[i].request == request)
			return true;
	return false;
}

static void start_next(struct broker *broker);

/* Taking */

/* A device of the machine's, or one on its way there, that is in this group; NULL. */
static const struct bdf *find_in_group(const struct broker *broker, int group)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++)
		if (broker->devices[i].state != BROKER_DEVICE_NONE &&
			broker->devices[i].state != BROKER_DEVICE_RETURNING && group >= 0 &&
			host_device_group(&broker->host, &broker->devices[i].bdf) == group)
			return &broker->devices[i].bdf;
	return NULL;
}

/* VFIO has a group opened once, and the machine has this one open already. */
static int refuse_open_group(const struct broker *broker, const struct bdf *bdf, struct error *err)
{
	const struct bdf *other = NULL;
	char name[BDF_TEXT], others[BDF_TEXT];

	if (broker->iommu == VFIO_IOMMU_TYPE1)
		other = find_in_group(broker, host_device_group(&broker->host, bdf));
	if (!other)
		return 0;
	error_set(err, -EBUSY, bdf_format(bdf, name), "%s of its IOMMU group is in the machine",
		bdf_format(other, others));
	error_hint(err, "functions of one device come at once: detach %s, and attach %.*s", others,
		(int)strcspn(name, "."), name);
	return err->code;
}

/* The id that a client has given, or its address for one. Nothing that is found by an id may be two devices. */
static int name_device(const struct broker *broker, struct broker_device *device, const char *id,
	unsigned count, struct error *err)
{
	struct bdf address;

	bdf_format(&device->bdf, device->id);
	if (id && count == 1)
		snprintf(device->id, sizeof(device->id), "%s", id);
	else if (id)
		snprintf(device->id, sizeof(device->id), "%.50s.%u", id, device->bdf.function);
	if (broker_devices_find(broker, device->id) >= 0)
		return error_set(err, -EEXIST, device->id, "there is a device with this id");
	if (bdf_parse(device->id, &address) == 0 && !bdf_equal(&address, &device->bdf))
		return error_set(err, -EINVAL, device->id, "as an id this is another device's");
	return 0;
}

/* Numbers for them, until they are back. */
static int take_in(struct broker *broker, uint32_t request, const struct bdf *devices,
	unsigned count, const char *id, bool force, struct error *err)
{
	struct broker_device coming[HOST_ADDRESS_MAX];
	unsigned numbers[HOST_ADDRESS_MAX], found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices) && found < count; i++)
		if (broker->devices[i].state == BROKER_DEVICE_NONE)
			numbers[found++] = i;
	if (found < count)
		return error_set(err, -ENOSPC, NULL, "a machine has %d devices at most",
			MACHINE_DEVICES_MAX);
	for (unsigned i = 0; i < count; i++) {
		coming[i] = (struct broker_device){
			.state = BROKER_DEVICE_BINDING,
			.bdf = devices[i],
			.request = request,
			.force = force,
		};
		if (name_device(broker, &coming[i], id, count, err))
			return err->code;
	}
	for (unsigned i = 0; i < count; i++)
		broker->devices[numbers[i]] = coming[i];
	return 0;
}

/* How many of them the machine has got; err says why not all. */
static unsigned hand_over(struct broker *broker, uint32_t request, const unsigned *numbers,
	unsigned count, struct error *err)
{
	struct broker_vfio vfio;
	struct bdf devices[HOST_ADDRESS_MAX] = { 0 };
	unsigned sent = 0;

	for (unsigned i = 0; i < count; i++)
		devices[i] = broker->devices[numbers[i]].bdf;
	broker_vfio_open_more(&vfio, &broker->host, broker->iommu, devices, count, err);
	for (unsigned i = 0; i < count && !err->code; i++) {
		struct message message = {
			.type = MESSAGE_ATTACH,
			.id = request,
			.attach = { numbers[i], count, devices[i] },
			.fds = { vfio.sources[i].fd },
		};
		int code = broker_life_send(broker, &message);

		sent += !code;
		if (code)
			error_set(err, code, broker->config->name, "the machine does not answer");
	}
	/* From here on only the machine has them, so that they close with it. */
	broker_vfio_close(&vfio);
	return sent;
}

/* What shares a group with none of the machine's devices any more. */
static bool is_still_needed(const struct broker *broker, const struct host_record *record)
{
	int group = host_device_group(&broker->host, &record->bdf);

	return !record->companion || !host_holder_is_self(&record->holder) || group < 0 ||
	       find_in_group(broker, group);
}

static void give_companions_back(struct broker *broker)
{
	cleanup_free struct bdf *held = NULL;
	struct error why = { 0 };
	ssize_t count = host_journal_list(&broker->host, &held, &why);

	for (ssize_t i = 0; i < count; i++) {
		struct host_record record;

		if (host_journal_read(&broker->host, &held[i], &record, &why) == 0 &&
			!is_still_needed(broker, &record))
			host_release_owned(&broker->host, &held[i], &why);
	}
	if (why.code)
		error_print(&why);
}

/* Those of a request that are being bound. */
static unsigned find_binding(
	const struct broker *broker, uint32_t request, unsigned numbers[static HOST_ADDRESS_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices) && count < HOST_ADDRESS_MAX; i++)
		if (broker->devices[i].state == BROKER_DEVICE_BINDING &&
			broker->devices[i].request == request)
			numbers[count++] = i;
	return count;
}

static void bind_attached(
	struct broker *broker, const struct broker_job_subject *subject, struct error *err)
{
	unsigned numbers[HOST_ADDRESS_MAX], count = find_binding(broker, subject->request, numbers);
	struct bdf devices[HOST_ADDRESS_MAX];
	bool force = false;

	for (unsigned i = 0; i < count; i++) {
		devices[i] = broker->devices[numbers[i]].bdf;
		force = broker->devices[numbers[i]].force;
	}
	bind_and_tell(broker, devices, count, force, err);
}

static int hand_over_if_wanted(struct broker *broker, uint32_t request, const unsigned *numbers,
	unsigned count, struct error *err)
{
	if (broker_request_waits(broker, request) && broker_life_runs(broker))
		return hand_over(broker, request, numbers, count, err);
	error_set(err, -EAGAIN, NULL, "there is no guest any more that could take it");
	return 0;
}

/* What the machine has got it closes, as the others do not come, and then it answers. */
static void on_bound(
	struct broker *broker, const struct broker_job_subject *subject, const struct error *result)
{
	/* What could not be bound is back already, unless who did that was killed. */
	bool back = result->code && result->code != -ECHILD;
	unsigned numbers[HOST_ADDRESS_MAX], sent = 0,
					    count = find_binding(broker, subject->request, numbers);
	struct error why = *result;

	if (!why.code)
		sent = hand_over_if_wanted(broker, subject->request, numbers, count, &why);
	for (unsigned i = 0; i < count; i++)
		if (back)
			broker->devices[numbers[i]] = (struct broker_device){ 0 };
		else
			broker->devices[numbers[i]].state =
				i < sent ? BROKER_DEVICE_COMING : BROKER_DEVICE_RETURNING;
	if (!sent)
		broker_fail_attach(broker, subject->request, &why);
	start_next(broker);
}

int broker_devices_add(struct broker *broker, uint32_t request, const char *host, const char *id,
	bool force, struct error *err)
{
	struct bdf devices[HOST_ADDRESS_MAX] = { 0 };
	int count = host_address_find(&broker->host, host, devices, err);

	for (int i = 0; i < count; i++) {
		char name[BDF_TEXT];
		int number = broker_devices_find(broker, bdf_format(&devices[i], name));

		if (number >= 0)
			return error_set(err, -EEXIST, name, "%s",
				broker->devices[number].state == BROKER_DEVICE_RETURNING
					? "it is on its way back to the host"
					: "the machine has it already");
		if (refuse_open_group(broker, &devices[i], err))
			return err->code;
	}
	if (count < 0 || take_in(broker, request, devices, count, id, force, err))
		return err->code;
	start_next(broker);
	return 0;
}

/* Giving back */

static void return_device(
	struct broker *broker, const struct broker_job_subject *subject, struct error *err)
{
	host_release_unless_taken(&broker->host, &subject->bdf, err);
	give_companions_back(broker);
}

/* An event for one that the guest had. */
static void on_returned(
	struct broker *broker, const struct broker_job_subject *subject, const struct error *result)
{
	if (result->code)
		error_print(result);
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		const struct broker_device device = broker->devices[i];

		if (device.state != BROKER_DEVICE_RETURNING ||
			!bdf_equal(&device.bdf, &subject->bdf))
			continue;
		broker->devices[i] = (struct broker_device){ 0 };
		if (!device.request)
			broker_tell_deleted(broker, device.id);
	}
	broker_finish_attaches(broker);
	start_next(broker);
}

static const struct broker_device *find_in_state(
	const struct broker *broker, enum broker_device_state state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++)
		if (broker->devices[i].state == state)
			return &broker->devices[i];
	return NULL;
}

/* At the end all goes back at once. */
static void start_next(struct broker *broker)
{
	const struct broker_device *device;

	if (broker->over || broker_job_is_busy(broker))
		return;
	if ((device = find_in_state(broker, BROKER_DEVICE_RETURNING)))
		broker_job_start(broker, &(struct broker_job_subject){ .bdf = device->bdf },
			return_device, on_returned);
	else if ((device = find_in_state(broker, BROKER_DEVICE_BINDING)))
		broker_job_start(broker, &(struct broker_job_subject){ .request = device->request },
			bind_attached, on_bound);
}

static void tell_if_taken(struct broker *broker, unsigned number)
{
	const struct message message = { .type = MESSAGE_TAKEN, .device = number };

	if (host_release_is_taken(&broker->host, &broker->devices[number].bdf))
		broker_life_send(broker, &message);
}

void broker_devices_seen(struct broker *broker)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++)
		if (broker->devices[i].state == BROKER_DEVICE_THERE)
			tell_if_taken(broker, i);
}

void broker_devices_take_reply(struct broker *broker, uint32_t request, bool failed)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		struct broker_device *device = &broker->devices[i];

		if (device->state != BROKER_DEVICE_COMING || device->request != request)
			continue;
		device->state = failed ? BROKER_DEVICE_LEAVING : BROKER_DEVICE_THERE;
		if (failed)
			continue;
		device->request = 0;
		tell_if_taken(broker, i);
	}
}

void broker_devices_leave(struct broker *broker, unsigned number)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		struct broker_device *device = &broker->devices[i];

		if (device->state == BROKER_DEVICE_THERE &&
			bdf_same_slot(&device->bdf, &broker->devices[number].bdf))
			device->state = BROKER_DEVICE_LEAVING;
	}
}

static const struct event {
	const char *name, *why;
	const char *done[MACHINE_ACTIONS]; /* NULL: no such thing */
} events[] = {
	{
		"__org.penstock_DEVICE_WANTED",
		"the host wants it back",
		{
			[MACHINE_DETACH] = "it is pulled from the guest",
			[MACHINE_ASK] = "the guest is asked to let go of it",
		},
	},
	{
		"__org.penstock_DEVICE_ERROR",
		"it reports an uncorrectable error (AER; 'dmesg' says which)",
		{
			[MACHINE_REPORT] = "the guest goes on with it",
			[MACHINE_DETACH] = "it is pulled from the guest",
			[MACHINE_STOP] = "the machine ends",
		},
	},
};

/* A guest can make its devices fail as often as it likes. */
static bool may_tell(uint64_t *told)
{
	uint64_t now = guard_now();

	if (*told && now - *told < TELL_EVERY_MS)
		return false;
	*told = now;
	return true;
}

void broker_devices_take_event(struct broker *broker, const struct message *message)
{
	bool failed = message->type == MESSAGE_FAILED;
	const struct event *event = &events[failed];
	uint32_t number = message->event.device, action = message->event.action;
	struct broker_device *device = &broker->devices[number % ARRAY_SIZE(broker->devices)];
	char name[BDF_TEXT];

	if (number >= ARRAY_SIZE(broker->devices) || action >= MACHINE_ACTIONS ||
		!event->done[action] || !broker_device_is_in(device) ||
		device->state == BROKER_DEVICE_COMING)
		return;
	if (!failed || action == MACHINE_DETACH)
		broker_devices_leave(broker, number);
	if (!may_tell(&device->told[failed]))
		return;
	log_warning("%s: %s: %s", bdf_format(&device->bdf, name), event->why, event->done[action]);
	broker_tell_device(broker, event->name, device, action);
}

/* The host may have taken one in the midst of the end, when the machine listened to nobody any more. */
static bool is_leaving(const struct broker *broker, const struct broker_device *device)
{
	return device->state == BROKER_DEVICE_LEAVING ||
	       (broker_device_is_in(device) && host_release_is_taken(&broker->host, &device->bdf));
}

void broker_devices_end(struct broker *broker)
{
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++)
		if (is_leaving(broker, &broker->devices[i]))
			broker->devices[i].state = BROKER_DEVICE_RETURNING;
	start_next(broker);
}

/* The first error is the caller's to tell. */
static void note_error(struct error *err, const struct error *why)
{
	if (why->code && err->code)
		error_print(why);
	else if (why->code)
		*err = *why;
}

static void return_all(
	struct broker *broker, const struct broker_job_subject *subject, struct error *err)
{
	struct error why = { 0 };

	(void)subject;
	for (unsigned i = 0; i < ARRAY_SIZE(broker->devices); i++) {
		if (broker->devices[i].state == BROKER_DEVICE_NONE)
			continue;
		host_release_unless_taken(&broker->host, &broker->devices[i].bdf, &why);
		note_error(err, &why);
		why = (struct error){ 0 };
	}
	host_release_owned(&broker->host, NULL, &why);
	note_error(err, &why);
}

int broker_devices_release(struct broker *broker, struct error *err)
{
	return broker_job_call(broker, return_all, err);
}

void broker_devices_closed(struct broker *broker, unsigned number)
{
	if (number >= ARRAY_SIZE(broker->devices) ||
		broker->devices[number].state != BROKER_DEVICE_LEAVING)
		return;
	broker->devices[number].state = BROKER_DEVICE_RETURNING;
	start_next(broker);
}

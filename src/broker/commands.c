/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/commands.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "base/text.h"
#include "broker/life.h"
#include "control/member.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIST_MAX 4096 /* whatever the machine says */

static json_object *text(const char *string)
{
	return json_object_new_string(string);
}

static json_object *number(int64_t value)
{
	return json_object_new_int64(value);
}

static void add(json_object *object, const char *key, json_object *value)
{
	json_object_object_add(object, key, value);
}

static json_object *text_or_null(const char *string)
{
	return string && string[0] ? text(string) : NULL;
}

/* Requests to the machine */

static struct broker_request *find_request(struct broker *broker, uint32_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(broker->requests); i++)
		if (broker->requests[i].id == id)
			return &broker->requests[i];
	return NULL;
}

bool broker_request_waits(struct broker *broker, uint32_t request)
{
	return find_request(broker, request);
}

static void refuse_request(
	struct broker *broker, uint32_t request, const char *why, const char *next)
{
	struct error err = { 0 };

	error_set(&err, -EAGAIN, NULL, "%s", why);
	error_hint(&err, "%s", next);
	monitor_fail(broker->monitor, request, MONITOR_GENERIC, &err);
}

/* False, and the client is told, where the machine cannot be reached. */
static bool send_to_machine(struct broker *broker, uint32_t request, const struct message *message)
{
	int code = broker_life_send(broker, message);

	if (code == 0)
		return true;
	if (code == -ENOTCONN)
		refuse_request(broker, request, "there is no guest at the moment",
			"'query-status' tells when it runs");
	else
		refuse_request(broker, request, "the machine does not answer",
			"'quit' ends it; devices are given back");
	return false;
}

static void ask(struct broker *broker, uint32_t request, enum message_type type, json_object *list)
{
	const struct message message = { .type = type, .id = request };
	struct broker_request *free = find_request(broker, 0);

	if (!free)
		refuse_request(
			broker, request, "too many commands wait for the machine", "wait for them");
	if (!free || !send_to_machine(broker, request, &message)) {
		json_object_put(list);
		return;
	}
	*free = (struct broker_request){ .id = request, .type = type, .list = list };
}

static json_object *describe_region(const struct message_function *function, unsigned bar)
{
	json_object *region = json_object_new_object();
	bool io = function->bars[bar].is_io;

	add(region, "bar", number(bar));
	add(region, "type", text(io ? "io" : "memory"));
	add(region, "address", number(function->bars[bar].address));
	add(region, "size", number(function->bars[bar].size));
	if (!io) {
		add(region, "prefetch", json_object_new_boolean(function->bars[bar].prefetchable));
		add(region, "mem_type_64", json_object_new_boolean(function->bars[bar].is_64));
	}
	return region;
}

static json_object *describe_id(const struct message_function *function)
{
	json_object *id = json_object_new_object();

	add(id, "vendor", number(function->vendor));
	add(id, "device", number(function->device));
	add(id, "subsystem-vendor", number(function->subsystem_vendor));
	add(id, "subsystem", number(function->subsystem));
	return id;
}

static json_object *describe_range(const struct message_range *range)
{
	json_object *object = json_object_new_object();

	add(object, "base", number(range->base));
	add(object, "limit", number(range->limit));
	return object;
}

/* What is behind it comes to its devices when all are known: see group_by_bus(). */
static json_object *describe_bridge(const struct message_function *function)
{
	json_object *object = json_object_new_object(), *bus = json_object_new_object();

	add(bus, "number", number(function->bus));
	add(bus, "secondary", number(function->bridge.secondary));
	add(bus, "subordinate", number(function->bridge.subordinate));
	add(bus, "io_range", describe_range(&function->bridge.io));
	add(bus, "memory_range", describe_range(&function->bridge.memory));
	add(bus, "prefetchable_range", describe_range(&function->bridge.prefetchable));
	add(object, "bus", bus);
	add(object, "devices", json_object_new_array());
	return object;
}

static json_object *describe_function(
	const struct broker *broker, const struct message_function *function)
{
	json_object *object = json_object_new_object(), *class = json_object_new_object(),
		    *regions = json_object_new_array();
	const struct broker_device *passed = NULL;
	char host[BDF_TEXT];

	for (unsigned i = 0; i < ARRAY_SIZE(function->bars); i++)
		if (function->bars[i].size)
			json_object_array_add(regions, describe_region(function, i));
	if (function->number >= 0 && function->number < MACHINE_DEVICES_MAX &&
		broker->devices[function->number].state != BROKER_DEVICE_NONE)
		passed = &broker->devices[function->number];
	add(class, "class", number(function->class));
	add(object, "bus", number(function->bus));
	add(object, "slot", number(function->devfn >> 3));
	add(object, "function", number(function->devfn & 7));
	add(object, "class_info", class);
	add(object, "id", describe_id(function));
	add(object, "irq", number(function->interrupt_line));
	add(object, "irq_pin", number(function->interrupt_pin));
	add(object, "qdev_id", text(passed ? passed->id : ""));
	if (passed)
		add(object, "host", text(bdf_format(&passed->bdf, host)));
	add(object, "regions", regions);
	if (function->bridge.is)
		add(object, "pci_bridge", describe_bridge(function));
	return object;
}

static json_object *describe_cpu(const struct broker *broker, const struct message_cpu *cpu)
{
	struct kvm_cpu_place place = kvm_cpus_place(&broker->config->cpus, cpu->index);
	json_object *object = json_object_new_object(), *props = json_object_new_object();
	char path[32];

	snprintf(path, sizeof(path), "/machine/cpu[%u]", cpu->index);
	add(props, "core-id", number(place.core));
	add(props, "socket-id", number(place.socket));
	add(props, "thread-id", number(place.thread));
	add(object, "cpu-index", number(cpu->index));
	add(object, "qom-path", text(path));
	add(object, "thread-id", number(cpu->thread));
	add(object, "target", text("x86_64"));
	add(object, "props", props);
	return object;
}

/*
 * Of a bridge on the root bus, what is behind it; NULL: no such bus. None is behind another one, as the machine has
 * it, and so nothing ever comes to be behind itself, whatever it says.
 */
static json_object *devices_behind(json_object *functions, int64_t bus)
{
	for (size_t i = 0; bus && i < json_object_array_length(functions); i++) {
		json_object *function = json_object_array_get_idx(functions, i);
		json_object *bridge = json_object_object_get(function, "pci_bridge");

		if (bridge && member_number(function, "bus") == 0 &&
			member_number(json_object_object_get(bridge, "bus"), "secondary") == bus)
			return json_object_object_get(bridge, "devices");
	}
	return NULL;
}

static json_object *add_bus(json_object *buses, int64_t bus)
{
	json_object *object = json_object_new_object(), *devices = json_object_new_array();

	add(object, "bus", number(bus));
	add(object, "devices", devices);
	json_object_array_add(buses, object);
	return devices;
}

/* The root bus with what is behind its bridges, as query-pci has it; and buses that no bridge leads to. */
static json_object *group_by_bus(json_object *functions)
{
	json_object *buses = json_object_new_array(), *devices = NULL;
	int64_t last = -1;

	for (size_t i = 0; i < json_object_array_length(functions); i++) {
		json_object *function = json_object_array_get_idx(functions, i);
		int64_t bus = member_number(function, "bus");

		if (bus != last)
			devices = devices_behind(functions, bus);
		if (!devices)
			devices = add_bus(buses, bus);
		last = bus;
		json_object_array_add(devices, json_object_get(function));
	}
	json_object_put(functions);
	return buses;
}

/* An event where it is news; the reply follows. */
static void note_paused(struct broker *broker, bool paused)
{
	if (broker->paused != paused)
		monitor_event(broker->monitor, paused ? "STOP" : "RESUME", NULL);
	broker->paused = paused;
	if (!paused)
		broker->held_for = MACHINE_OFF;
}

static json_object *finish_request(struct broker *broker, struct broker_request *request)
{
	json_object *list = request->list;

	if (request->type == MESSAGE_STOP || request->type == MESSAGE_CONT)
		note_paused(broker, request->type == MESSAGE_STOP);
	return request->type == MESSAGE_QUERY_PCI ? group_by_bus(list) : list;
}

/* What a terminal would act on goes no further: the machine may be in a guest's hands. */
static struct error cleaned(const struct error *err)
{
	struct error clean = { .code = err->code };

	text_format(clean.object, sizeof(clean.object), "%s", err->object);
	text_format(clean.what, sizeof(clean.what), "%s", err->what);
	text_format(clean.hint, sizeof(clean.hint), "%s", err->hint);
	return clean;
}

/* Those of a failed attach are given back first. True: the client waits on. */
static bool take_attach_reply(
	struct broker *broker, struct broker_request *request, const struct error *err)
{
	broker_devices_take_reply(broker, request->id, err->code);
	if (!err->code || !broker->watch)
		return false;
	request->why = cleaned(err);
	return broker_devices_pending(broker, request->id);
}

static void take_reply(
	struct broker *broker, struct broker_request *request, const struct error *err)
{
	struct broker_request done = *request;

	if (request->type == MESSAGE_ATTACH && take_attach_reply(broker, request, err))
		return;
	if (request->type == MESSAGE_DETACH && !err->code)
		broker_devices_leave(broker, request->number);

	*request = (struct broker_request){ 0 };
	if (err->code) {
		const struct error clean = cleaned(err);

		json_object_put(done.list);
		monitor_fail(broker->monitor, done.id, MONITOR_GENERIC, &clean);
	} else {
		monitor_reply(broker->monitor, done.id, finish_request(broker, &done));
	}
}

void broker_take_answer(struct broker *broker, const struct message *message)
{
	struct broker_request *request = message->id ? find_request(broker, message->id) : NULL;
	json_object *item = NULL;

	if (!request)
		return;
	if (message->type == MESSAGE_REPLY) {
		take_reply(broker, request, &message->error);
		return;
	}
	if (message->type == MESSAGE_CPU && request->type == MESSAGE_QUERY_CPUS)
		item = describe_cpu(broker, &message->cpu);
	if (message->type == MESSAGE_FUNCTION && request->type == MESSAGE_QUERY_PCI)
		item = describe_function(broker, &message->function);
	if (item && json_object_array_length(request->list) < LIST_MAX)
		json_object_array_add(request->list, item);
	else
		json_object_put(item);
}

void broker_fail_attach(struct broker *broker, uint32_t request, const struct error *why)
{
	struct broker_request *waiting = find_request(broker, request);

	if (waiting)
		waiting->why = *why;
	broker_finish_attaches(broker);
}

void broker_finish_attaches(struct broker *broker)
{
	for (size_t i = 0; i < ARRAY_SIZE(broker->requests); i++) {
		struct broker_request *request = &broker->requests[i];
		struct broker_request done = *request;

		if (!done.id || done.type != MESSAGE_ATTACH || !done.why.code ||
			broker_devices_pending(broker, done.id))
			continue;
		*request = (struct broker_request){ 0 };
		monitor_fail(broker->monitor, done.id, MONITOR_GENERIC, &done.why);
	}
}

void broker_tell_device(struct broker *broker, const char *event,
	const struct broker_device *device, enum machine_action action)
{
	static const char *const actions[] = {
		[MACHINE_REPORT] = "report",
		[MACHINE_DETACH] = "detach",
		[MACHINE_STOP] = "stop",
		[MACHINE_ASK] = "ask",
	};
	json_object *data = json_object_new_object();
	char name[BDF_TEXT];

	add(data, "device", text(device->id));
	add(data, "host", text(bdf_format(&device->bdf, name)));
	add(data, "action", text(actions[action]));
	monitor_event(broker->monitor, event, data);
}

void broker_tell_deleted(struct broker *broker, const char *id)
{
	json_object *data = json_object_new_object();
	char path[BROKER_ID + 32];

	snprintf(path, sizeof(path), "/machine/peripheral/%s", id);
	add(data, "device", text(id));
	add(data, "path", text(path));
	monitor_event(broker->monitor, "DEVICE_DELETED", data);
}

void broker_fail_requests(struct broker *broker)
{
	struct error gone = { 0 };

	broker->paused = false;
	broker->held_for = MACHINE_OFF;
	error_set(&gone, -ENOTCONN, NULL, "the machine has ended before it answered");
	for (size_t i = 0; i < ARRAY_SIZE(broker->requests); i++)
		if (broker->requests[i].id)
			take_reply(broker, &broker->requests[i], &gone);
}

void broker_tell_panic(struct broker *broker, const char *event, const char *action)
{
	json_object *data = json_object_new_object();

	add(data, "action", text(action));
	monitor_event(broker->monitor, event, data);
}

void broker_take_held(struct broker *broker, uint32_t end)
{
	const char *deed = end == MACHINE_RESET ? "wants to reboot" : broker_crash_text(end);

	if (!deed || broker->paused)
		return;
	log_info(
		"%s: the guest %s, and is held; next: 'system_reset', 'cont' or 'quit' on its monitor, "
		"or 'penstock stop --force'",
		broker->config->name, deed);
	if (end != MACHINE_RESET)
		broker_tell_panic(broker, "GUEST_PANICKED", "pause");
	broker->held_for = end;
	note_paused(broker, true);
}

void broker_tell_end(struct broker *broker, const char *event, bool by_guest, const char *reason)
{
	json_object *data = json_object_new_object();

	add(data, "guest", json_object_new_boolean(by_guest));
	add(data, "reason", text(reason));
	monitor_event(broker->monitor, event, data);
}

/* Commands */

static void query_status(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	json_object *status = json_object_new_object();
	const char *state = broker_life_state(broker);

	(void)arguments;
	add(status, "status", text(state));
	add(status, "running", json_object_new_boolean(strcmp(state, "running") == 0));
	monitor_reply(broker->monitor, request, status);
}

static void query_name(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	json_object *name = json_object_new_object();

	(void)arguments;
	add(name, "name", text(broker->config->name));
	monitor_reply(broker->monitor, request, name);
}

/* As QEMU names a pseudo-terminal, which 'penstock console' opens. */
static void query_chardev(void *opaque, uint32_t request, json_object *arguments)
{
	static const char *const names[] = {
		[BROKER_SERIAL_STDIO] = "stdio",
		[BROKER_SERIAL_FILE] = "file",
		[BROKER_SERIAL_NONE] = "null",
	};
	struct broker *broker = opaque;
	json_object *list = json_object_new_array(), *serial = json_object_new_object();
	bool pty = broker->config->serial == BROKER_SERIAL_PTY;
	char name[80] = "";

	(void)arguments;
	if (pty)
		snprintf(name, sizeof(name), "pty:%s", broker->console.pty);
	add(serial, "label", text("serial0"));
	add(serial, "filename", text(pty ? name : names[broker->config->serial]));
	add(serial, "frontend-open", json_object_new_boolean(true));
	json_object_array_add(list, serial);
	monitor_reply(broker->monitor, request, list);
}

/* What it serves is known by one of the three; NULL: not by this one. */
static void add_backend(json_object *list, const struct broker_backend *backend, const char *file,
	const char *mac, const char *address)
{
	json_object *object = json_object_new_object();

	add(object, "serves", text(backend->label));
	add(object, "program", text(backend->program));
	add(object, "pid", backend->pid ? number(backend->pid) : NULL);
	add(object, "file", text_or_null(file));
	add(object, "mac", text_or_null(mac));
	add(object, "address", text_or_null(address));
	add(object, "end", text_or_null(backend->end));
	json_object_array_add(list, object);
}

static void add_virtio_backends(json_object *list, const struct broker_virtio *virtio)
{
	for (unsigned i = 0; i < virtio->disk_count; i++)
		add_backend(
			list, &virtio->disks[i].backend, virtio->disks[i].config->path, NULL, NULL);
	for (unsigned i = 0; i < virtio->net_count; i++) {
		const uint8_t *mac = virtio->devices[i].mac;
		char name[3 * VIRTIO_MAC_SIZE];

		snprintf(name, sizeof(name), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			mac[2], mac[3], mac[4], mac[5]);
		if (virtio->passts[i].net)
			add_backend(list, &virtio->passts[i].backend, NULL, name, NULL);
	}
	for (unsigned i = 0; i < virtio->share_count; i++)
		add_backend(list, &virtio->shares[i].backend, virtio->shares[i].config->path, NULL,
			NULL);
}

static void query_backends(void *opaque, uint32_t request, json_object *arguments)
{
	const struct broker *broker = opaque;
	const struct broker_tpm *tpm = &broker->files.tpm;
	json_object *list = json_object_new_array();

	(void)arguments;
	add_virtio_backends(list, &broker->virtio);
	if (broker->config->tpm)
		add_backend(list, &tpm->backend, tpm->path, NULL, NULL);
	if (broker->config->vnc.wanted)
		add_backend(list, &broker->display.backend, NULL, NULL, broker->display.address);
	monitor_reply(broker->monitor, request, list);
}

static void query_cpus(void *opaque, uint32_t request, json_object *arguments)
{
	(void)arguments;
	ask(opaque, request, MESSAGE_QUERY_CPUS, json_object_new_array());
}

static void query_pci_devices(void *opaque, uint32_t request, json_object *arguments)
{
	(void)arguments;
	ask(opaque, request, MESSAGE_QUERY_PCI, json_object_new_array());
}

static void stop(void *opaque, uint32_t request, json_object *arguments)
{
	(void)arguments;
	ask(opaque, request, MESSAGE_STOP, NULL);
}

/* Of a guest that waits for a reset there is nothing to go on with. */
static void cont(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;

	(void)arguments;
	if (broker->held_for == MACHINE_RESET || broker->held_for == MACHINE_TRIPLE_FAULT)
		refuse_request(broker, request, MACHINE_MUST_RESET, MACHINE_MUST_RESET_HINT);
	else
		ask(broker, request, MESSAGE_CONT, NULL);
}

static void system_powerdown(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;

	(void)arguments;
	if (!send_to_machine(broker, request, &(struct message){ .type = MESSAGE_PRESS_BUTTON }))
		return;
	monitor_event(broker->monitor, "POWERDOWN", NULL);
	monitor_reply(broker->monitor, request, NULL);
}

static void system_reset(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;

	(void)arguments;
	if (!send_to_machine(broker, request, &(struct message){ .type = MESSAGE_RESET }))
		return;
	broker->reset_by_host = true;
	monitor_reply(broker->monitor, request, NULL);
}

static bool flag_of(json_object *arguments, const char *name)
{
	return json_object_get_boolean(json_object_object_get(arguments, name));
}

/* It is shown to all clients. */
static bool is_id(const char *id)
{
	size_t length = strlen(id);

	return length > 0 && length < BROKER_ID &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:") ==
		       length;
}

static const struct monitor_argument device_add_arguments[] = {
	{ "driver", json_type_string, true },
	{ "host", json_type_string, true },
	{ "id", json_type_string, false },
	{ "bus", json_type_string, false },
	{ "force", json_type_boolean, false },
	{ 0 },
};

static void device_add(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	const char *driver = member_text(arguments, "driver", ""),
		   *id = member_text(arguments, "id", NULL);
	struct broker_request *free = find_request(broker, 0);
	struct error err = { 0 };

	if (strcmp(driver, "vfio-pci"))
		error_set(&err, -EINVAL, NULL, "'%s' is not a valid device model name", driver);
	else if (id && !is_id(id))
		error_set(&err, -EINVAL, NULL, "Parameter 'id' expects an identifier");
	else if (!free || !broker_life_runs(broker))
		error_set(&err, -EAGAIN, NULL, "there is no guest that could take it now");
	if (err.code == 0) {
		*free = (struct broker_request){ .id = request, .type = MESSAGE_ATTACH };
		if (broker_devices_add(broker, request, member_text(arguments, "host", ""), id,
			    flag_of(arguments, "force"), &err))
			*free = (struct broker_request){ 0 };
	}
	if (err.code)
		monitor_fail(broker->monitor, request, MONITOR_GENERIC, &err);
}

static const struct monitor_argument device_del_arguments[] = {
	{ "id", json_type_string, true },
	{ "force", json_type_boolean, false },
	{ 0 },
};

static void device_del(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	const char *id = member_text(arguments, "id", "");
	int number = broker_devices_find(broker, id);
	struct broker_request *free = find_request(broker, 0);
	struct error err = { 0 };
	struct message message = {
		.type = MESSAGE_DETACH,
		.id = request,
		.detach = { number, flag_of(arguments, "force") },
	};

	if (number < 0) {
		error_set(&err, -ENODEV, NULL, "Device '%.100s' not found", id);
		error_hint(&err, "'penstock list' shows what each machine has");
		monitor_fail(broker->monitor, request, MONITOR_DEVICE_NOT_FOUND, &err);
	} else if (!broker_device_is_in(&broker->devices[number])) {
		refuse_request(broker, request,
			broker->devices[number].state == BROKER_DEVICE_BINDING
				? "the device is still on its way to the machine"
				: "the device is on its way back to the host already",
			"'penstock list' shows what each machine has");
	} else if (!free) {
		refuse_request(
			broker, request, "too many commands wait for the machine", "wait for them");
	} else if (send_to_machine(broker, request, &message)) {
		*free = (struct broker_request){
			.id = request, .type = MESSAGE_DETACH, .number = number
		};
	}
}

static const struct monitor_argument screendump_arguments[] = {
	{ "filename", json_type_string, true },
	{ "format", json_type_string, false },
	{ 0 },
};

/* QEMU's default is a format that few programs know. */
static void screendump(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	const char *format = member_text(arguments, "format", "png");
	struct error err = { 0 };

	if (strcmp(format, "png"))
		error_set(&err, -EINVAL, NULL, "Parameter 'format' does not accept value '%.40s'",
			format);
	else
		broker_display_take(
			&broker->display, request, member_text(arguments, "filename", ""), &err);
	if (err.code)
		monitor_fail(broker->monitor, request, MONITOR_GENERIC, &err);
}

void broker_take_picture(void *opaque, uint32_t request, int code)
{
	struct broker *broker = opaque;
	struct error err = { 0 };

	if (!code) {
		monitor_reply(broker->monitor, request, NULL);
		return;
	}
	if (code == -ENODATA)
		error_set(&err, code, NULL, "the guest shows nothing on its display");
	else
		error_sys(&err, code, NULL, "cannot take a picture of the display");
	if (code == -ENODATA)
		error_hint(&err, "firmware does, and Linux with its driver bochs");
	monitor_fail(broker->monitor, request, MONITOR_GENERIC, &err);
}

/* Disks */

/* By the name that query-backends shows. */
static struct broker_disk *find_disk(struct broker *broker, const char *name)
{
	for (unsigned i = 0; i < broker->virtio.disk_count; i++)
		if (strcmp(broker->virtio.disks[i].backend.label, name) == 0)
			return &broker->virtio.disks[i];
	return NULL;
}

static void answer_for_disk(struct broker *broker, uint32_t request, const struct error *why)
{
	if (why->code)
		monitor_fail(broker->monitor, request, MONITOR_GENERIC, why);
	else
		monitor_reply(broker->monitor, request, NULL);
}

/* The daemon of Debian 12 (7.2) tells the guest nothing, and whoever else is told twice finds no difference. */
static void on_disk_resized(
	void *opaque, struct broker_disk *disk, uint32_t request, const struct error *why)
{
	struct broker *broker = opaque;
	struct broker_virtio *virtio = &broker->virtio;
	const struct message message = {
		.type = MESSAGE_RESIZED,
		.resized = { virtio->first_disk + (disk - virtio->disks), disk->size },
	};

	if (!why->code)
		(void)broker_life_send(broker, &message);
	answer_for_disk(broker, request, why);
}

static void on_snapshot_changed(
	void *opaque, struct broker_disk *disk, uint32_t request, const struct error *why)
{
	(void)disk;
	answer_for_disk(opaque, request, why);
}

static struct broker_disk *expect_disk(struct broker *broker, const char *name, struct error *err)
{
	struct broker_disk *disk = find_disk(broker, name);

	if (disk)
		return disk;
	error_set(
		err, -ENODEV, NULL, "Cannot find device='%.60s' nor node-name='%.60s'", name, name);
	error_hint(err, "'__org.penstock_query-backends' tells what disks there are");
	return NULL;
}

/* QEMU's has either name, and not both. */
static const struct monitor_argument block_resize_arguments[] = {
	{ "device", json_type_string, false },
	{ "node-name", json_type_string, false },
	{ "size", json_type_int, true },
	{ 0 },
};

static void block_resize(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;
	const struct broker_disk_order order = { request, on_disk_resized, broker };
	const char *device = member_text(arguments, "device", NULL),
		   *node = member_text(arguments, "node-name", NULL);
	int64_t size = member_number(arguments, "size");
	struct broker_disk *disk = NULL;
	struct error err = { 0 };

	if (!device == !node)
		error_set(&err, -EINVAL, NULL,
			"Either 'device' or 'node-name' must be set but not both");
	else if (size <= 0 || size > INT64_MAX - 4096)
		error_set(&err, -EINVAL, NULL, "Parameter 'size' expects a size of a disk");
	else
		disk = expect_disk(broker, device ? device : node, &err);
	if (disk)
		broker_disk_resize(disk, size, &order, broker->loop, &err);
	if (err.code)
		answer_for_disk(broker, request, &err);
}

static const struct monitor_argument snapshot_arguments[] = {
	{ "device", json_type_string, true },
	{ "name", json_type_string, true },
	{ 0 },
};

static void change_snapshot(
	struct broker *broker, uint32_t request, json_object *arguments, bool make)
{
	const struct broker_disk_order order = { request, on_snapshot_changed, broker };
	struct error err = { 0 };
	struct broker_disk *disk = expect_disk(broker, member_text(arguments, "device", ""), &err);

	if (disk)
		broker_disk_snapshot(
			disk, member_text(arguments, "name", ""), make, &order, broker->loop, &err);
	if (err.code)
		answer_for_disk(broker, request, &err);
}

static void make_snapshot(void *opaque, uint32_t request, json_object *arguments)
{
	change_snapshot(opaque, request, arguments, true);
}

static void delete_snapshot(void *opaque, uint32_t request, json_object *arguments)
{
	change_snapshot(opaque, request, arguments, false);
}

static void quit(void *opaque, uint32_t request, json_object *arguments)
{
	struct broker *broker = opaque;

	(void)arguments;
	monitor_reply(broker->monitor, request, NULL);
	broker_quit(broker);
}

const struct monitor_command broker_commands[] = {
	{ "query-status", NULL, query_status },
	{ "query-name", NULL, query_name },
	{ "query-chardev", NULL, query_chardev },
	{ "__org.penstock_query-backends", NULL, query_backends },
	{ "query-cpus-fast", NULL, query_cpus },
	{ "query-pci", NULL, query_pci_devices },
	{ "stop", NULL, stop },
	{ "cont", NULL, cont },
	{ "system_powerdown", NULL, system_powerdown },
	{ "system_reset", NULL, system_reset },
	{ "screendump", screendump_arguments, screendump },
	{ "block_resize", block_resize_arguments, block_resize },
	{ "blockdev-snapshot-internal-sync", snapshot_arguments, make_snapshot },
	{ "blockdev-snapshot-delete-internal-sync", snapshot_arguments, delete_snapshot },
	{ "quit", NULL, quit },
	{ "device_add", device_add_arguments, device_add },
	{ "device_del", device_del_arguments, device_del },
	{ 0 },
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/passt.h"

#include "base/fd.h"
#include "base/size.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MS 10000 /* for it to be ready; it takes some 20 */
#define END_MS    3000

/* The guest's network, as QEMU's user network has it; none of it is the host's. */
#define GUEST_ADDRESS "10.0.2.15"
#define NETMASK       "255.255.255.0"
#define GATEWAY       "10.0.2.2"
#define NAME_SERVER   "10.0.2.3"

#define FORWARDS_WORDS (2 * BROKER_FORWARDS_MAX)

/* What it says of itself is the only sign of what a version can do. */
static int check_version(struct broker_passt *passt, struct error *err)
{
	cleanup_free char *text = calloc(1, 64 * KIB);
	int code = broker_backend_start(&passt->backend,
		&(struct broker_backend_start){
			.argv = (char *[]){ "passt", "--help", NULL },
			.sandbox = { .directory = -1, .has_its_own = true },
			.out = passt->backend.log,
		},
		err);

	if (code)
		return code;
	broker_backend_end(&passt->backend, 0, ANSWER_MS);
	if (text && pread(passt->backend.log, text, 64 * KIB - 1, 0) > 0 &&
		strstr(text, "--vhost-user"))
		return 0;
	error_set(err, -ENOTSUP, passt->backend.program,
		"this version of passt cannot serve a card (it has no --vhost-user)");
	error_hint(err,
		"a version from 2025 on can, as in Debian 13; Debian 12's is of 2023. Or take a "
		"tap: --net tap=NAME");
	return err->code;
}

int broker_passt_open(struct broker_passt *passt, const char *label, const struct broker_net *net,
	struct error *err)
{
	snprintf(passt->backend.label, sizeof(passt->backend.label), "%s", label);
	passt->backend.says_why_last = true;
	passt->net = net;
	if (broker_backend_find(&passt->backend, "passt", "--net user", "passt", err))
		return err->code;
	return check_version(passt, err);
}

void broker_passt_close(struct broker_passt *passt)
{
	broker_backend_close(&passt->backend);
}

/* The start */

struct arguments {
	char *argv[24 + FORWARDS_WORDS];
	unsigned count;
	char fd[16], ids[32], name_server[INET_ADDRSTRLEN];
	char forwards[BROKER_FORWARDS_MAX][64];
};

static void add_argument(struct arguments *arguments, char *word)
{
	arguments->argv[arguments->count++] = word;
}

/* The host's first, which passt looks for itself only where the guest's has its address; else nobody's. */
static void find_name_server(char address[static INET_ADDRSTRLEN])
{
	FILE *file = fopen("/etc/resolv.conf", "re");
	struct in_addr number;
	char line[256], word[INET_ADDRSTRLEN];

	snprintf(address, INET_ADDRSTRLEN, "192.0.2.1"); /* RFC 5737 */
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "nameserver %15s", word) == 1 &&
			inet_pton(AF_INET, word, &number) == 1) {
			snprintf(address, INET_ADDRSTRLEN, "%s", word);
			break;
		}
	if (file)
		fclose(file);
}

/* Where the guest's own loopback is what it finds at the gateway's address, the host's would be open to it. */
static void add_network(struct arguments *arguments)
{
	char *const words[] = { "passt", "--vhost-user", "--foreground", "--quiet", "--ipv4-only",
		"--address", GUEST_ADDRESS, "--netmask", NETMASK, "--gateway", GATEWAY,
		"--no-map-gw", "--dns", NAME_SERVER, "--dns-forward", NAME_SERVER, "--dns-host",
		arguments->name_server, "--fd" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		add_argument(arguments, words[i]);
	add_argument(arguments, arguments->fd);
}

static void add_forwards(struct arguments *arguments, const struct broker_net *net)
{
	for (unsigned i = 0; i < net->forward_count; i++) {
		const struct broker_forward *forward = &net->forwards[i];
		char *text = arguments->forwards[i];

		snprintf(text, sizeof(arguments->forwards[i]), "%s/%u:%u", forward->address,
			forward->port, forward->guest_port);
		add_argument(arguments, forward->is_udp ? "--udp-ports" : "--tcp-ports");
		add_argument(arguments, text);
	}
}

/* Of root's it gives up all but a uid that nobody has. */
static void set_ids(void *opaque, uid_t uid)
{
	struct arguments *arguments = opaque;

	snprintf(arguments->ids, sizeof(arguments->ids), "%u:%u", uid, uid);
	add_argument(arguments, "--runas");
	add_argument(arguments, arguments->ids);
}

static int spawn_passt(struct broker_passt *passt, int fd, struct error *err)
{
	struct arguments arguments = { 0 };

	snprintf(arguments.fd, sizeof(arguments.fd), "%d", fd);
	find_name_server(arguments.name_server);
	add_network(&arguments);
	add_forwards(&arguments, passt->net);
	return broker_backend_start(&passt->backend,
		&(struct broker_backend_start){
			.argv = arguments.argv,
			.fds = &fd,
			.fd_count = 1,
			.sandbox = { .directory = -1, .has_its_own = true },
			.prepare = set_ids,
			.opaque = &arguments,
		},
		err);
}

static int passt_not_started(const struct broker_passt *passt, struct error *err)
{
	char said[256];

	broker_backend_read_log(&passt->backend, said, sizeof(said));
	if (strstr(said, "Address already in use")) {
		error_set(err, -EADDRINUSE, passt->backend.label, "a port is taken: %s", said);
		error_hint(err, "'ss -lntup' shows by whom; choose another in hostfwd=");
		return err->code;
	}
	error_set(err, -EIO, passt->backend.label, "passt has ended as soon as it was started%s%s",
		said[0] ? ": " : "", said);
	if (strstr(said, "Permission denied"))
		error_hint(err, "ports below 1024 are not for passt to have: take one above");
	return err->code;
}

int broker_passt_start(struct broker_passt *passt, struct error *err)
{
	int ends[2], code;

	if (passt->backend.pid)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_sys(err, -errno, passt->backend.label, "cannot make a socket");
	passt->machine_fd = ends[0];
	spawn_passt(passt, ends[1], err);
	close(ends[1]);
	code = err->code ? 0 : broker_backend_await(ends[0], ANSWER_MS);
	if (code == -ETIMEDOUT)
		error_set(err, code, passt->backend.label,
			"passt has not answered within %u seconds", ANSWER_MS / 1000);
	else if (code)
		passt_not_started(passt, err);
	if (err->code)
		broker_passt_end(passt);
	return err->code;
}

/* While it runs, and the end */

void broker_passt_handed_over(struct broker_passt *passt, struct loop *loop)
{
	broker_backend_handed_over(&passt->backend, &passt->machine_fd, loop);
}

void broker_passt_end(struct broker_passt *passt)
{
	if (passt->machine_fd >= 0)
		close(take_fd(&passt->machine_fd));
	broker_backend_end(&passt->backend, SIGTERM, END_MS);
}

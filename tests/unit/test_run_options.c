/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The command as a user meets it: the built program, named by the environment's PENSTOCK. */

#define ARGUMENTS_MAX 160
#define LIMIT_S       10 /* a command that hangs is killed */

struct outcome {
	int code; /* 128 + N where signal N ended it */
	char out[8192];
	char err[8192];
};

static void take_text(int fd, char *text, size_t size)
{
	ssize_t got = pread(fd, text, size - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
	close(fd);
}

static void become(char *const *argv, int out, int err)
{
	alarm(LIMIT_S);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

/* Run "penstock ARGUMENTS", which a NULL ends. */
static struct outcome penstock(const char *const *arguments)
{
	const char *argv[ARGUMENTS_MAX + 2] = { getenv("PENSTOCK") };
	int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC), status;
	struct outcome outcome;
	pid_t pid;

	assert_non_null(argv[0]);
	for (unsigned i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
		argv[i + 1] = arguments[i];
	pid = fork();
	if (pid == 0)
		become((char *const *)argv, out, err);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	take_text(out, outcome.out, sizeof(outcome.out));
	take_text(err, outcome.err, sizeof(outcome.err));
	return outcome;
}

#define run(...) penstock((const char *const[]){ "run", __VA_ARGS__, NULL })

static unsigned count_lines(const char *text, const char *start)
{
	unsigned count = 0;

	while (*text) {
		size_t length = strcspn(text, "\n");

		count += strncmp(text, start, strlen(start)) == 0;
		text += length + (text[length] == '\n');
	}
	return count;
}

/* One line that says what is wrong, at most one that says what to do; nothing on stdout. */
static void assert_one_error(const struct outcome *outcome, int code, const char *words)
{
	if (outcome->code != code)
		fail_msg("exit code %d, not %d: %s", outcome->code, code, outcome->err);
	if (count_lines(outcome->err, "penstock") != 1 ||
		count_lines(outcome->err, "") - count_lines(outcome->err, "  next: ") != 1)
		fail_msg("not one error: %s", outcome->err);
	if (!strstr(outcome->err, words))
		fail_msg("'%s' is not in: %s", words, outcome->err);
	assert_string_equal(outcome->out, "");
}

#define assert_usage(words, ...)                            \
	do {                                                \
		struct outcome outcome_ = run(__VA_ARGS__); \
                                                            \
		assert_one_error(&outcome_, 2, words);      \
	} while (0)

#define assert_failure(words, ...)                          \
	do {                                                \
		struct outcome outcome_ = run(__VA_ARGS__); \
                                                            \
		assert_one_error(&outcome_, 1, words);      \
	} while (0)

/* With a kernel that is there, so that nothing else is wrong. */
#define assert_bad(words, ...) assert_usage(words, "--kernel", "/dev/null", __VA_ARGS__)

TEST(help_tells_of_every_option)
{
	static const char *const options[] = { "--kernel", "--firmware", "--nvram", "--tpm",
		"--initrd", "--cmdline", "--memory", "--cpus", "--cpu", "--rtc", "--smbios",
		"--disk", "--cloud-init", "--net", "--share", "--vsock", "--vdpa", "--display",
		"--dedicated", "--hyperv", "--hyperv-vendor", "--hide-hypervisor", "--device",
		"--iommu", "--serial", "--name", "--hugepages", "--prealloc", "--on-device-error",
		"--on-reboot", "--on-crash", "--force", "--help" };
	struct outcome outcome = run("--help");

	assert_int_equal(outcome.code, 0);
	assert_string_equal(outcome.err, "");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!strstr(outcome.out, options[i]))
			fail_msg("the help does not tell of %s", options[i]);
	assert_int_equal(run("-h").code, 0);
	/* Whatever else is said. */
	assert_int_equal(run("--cpus", "1", "--help").code, 0);
}

TEST(a_kernel_is_needed)
{
	struct outcome outcome = penstock((const char *const[]){ "run", NULL });

	assert_one_error(&outcome, 2, "--kernel");
	assert_usage("--kernel", "--memory", "1G");
}

TEST(what_goes_with_firmware_must_make_sense)
{
	char odd[] = "/tmp/penstock-firmware-XXXXXX";
	int fd = mkstemp(odd);

	assert_int_equal(ftruncate(fd, 8191), 0);
	close(fd);
	assert_bad("--nvram", "--nvram", "/dev/null");
	assert_failure("regular", "--kernel", "/dev/null", "--nvram", "/dev/null", "--tpm");
	assert_usage("--initrd", "--firmware", "/dev/null", "--initrd", "/dev/null");
	assert_usage("--cmdline", "--firmware", "/dev/null", "--cmdline", "quiet");
	assert_failure("/nonexistent", "--firmware", "/nonexistent");
	assert_failure("cannot open the firmware", "--firmware", "/dev");
	assert_failure("multiple of 4 KiB", "--firmware", odd);
	unlink(odd);
}

TEST(memory_must_be_a_size)
{
	static const char *const bad[] = { "0", "", "x", "-1", "1.5G", "512Q", "1G ", "4097",
		"2049K1", "1M", "2097151", "99999999999999999999", "16777216T",
		"18446744073709551615" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--memory", "--memory", bad[i]);
	assert_bad("'hugepages=4K' is neither", "--memory", "512M,hugepages=4K");
	assert_bad("'hugepages=1G,' is neither", "--memory", "1G,hugepages=1G,");
	assert_bad("'' is neither", "--memory", "1G,");
	assert_failure("regular", "--kernel", "/dev/null", "--memory", "1G,hugepages=1G");
}

TEST(cpus_must_be_a_number)
{
	static const char *const bad[] = { "0", "65", "x", "", "-1", "1x", "1.5",
		"99999999999999999999", "-18446744073709551615", "0x" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--cpus", "--cpus", bad[i]);
}

TEST(cpus_must_make_a_topology)
{
	static const struct {
		const char *cpus, *words;
	} bad[] = {
		{ "8,sockets=1,cores=3,threads=2",
			"1 socket of 3 cores of 2 threads do not make 8" },
		{ "8,sockets=3", "3 sockets of 2 cores of 1 thread do not make 8" },
		{ "8,threads=3", "1 socket of 2 cores of 3 threads do not make 8" },
		{ "2,threads=4", "do not make 2" },
		{ "1,cores=2", "1 socket of 2 cores of 1 thread do not make 1 CPU" },
		{ "8,cores=0", "cores is not a number from 1 to 64" },
		{ "8,cores=65", "cores is not a number" },
		{ "8,cores=+4", "cores is not a number" },
		{ "8,cores=4x", "cores is not a number" },
		{ "8,cores", "cores is not a number" },
		{ "8,threads=", "threads is not a number" },
		{ "8,dies=2", "'dies' is none of" },
		{ "8,", "'' is none of" },
		{ ",cores=8", "is not a number from 1 to 64" },
		{ "4,pin=", "'' is no list" },
		{ "4,pin", "'' is no list" },
		{ "4,pin=5-2", "'5-2' is no list" },
		{ "4,pin=2:5", "'2:5' is no list" },
		{ "4,pin=1024-1027", "'1024-1027' is no list" },
		{ "4,pin=0-99999999999999999999", "is no list" },
		{ "4,pin=2-4", "pin names 3 CPUs of the host for 4" },
		{ "1,pin=0-1023", "pin names 1024 CPUs" },
		{ "2,pin=3+3", "pin names CPU 3 twice" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad(bad[i].words, "--cpus", bad[i].cpus);
	/* These do, so that the kernel, which is none, is what is wrong. */
	assert_failure("regular", "--kernel", "/dev/null", "--cpus", "8,sockets=2,threads=2");
	assert_failure("regular", "--kernel", "/dev/null", "--cpus", "8,cores=2");
	assert_failure("regular", "--kernel", "/dev/null", "--cpus", "4,pin=0-1+7+5");
	assert_failure("regular", "--kernel", "/dev/null", "--dedicated", "--cpus", "1,pin=0");
	assert_bad("--dedicated needs", "--dedicated");
	assert_bad("--dedicated needs", "--cpus", "2", "--dedicated");
}

TEST(features_must_be_known)
{
	static const struct {
		const char *cpu, *words;
	} bad[] = {
		{ "", "a guest's CPU is the host's" },
		{ "Skylake", "a guest's CPU is the host's" },
		{ "host,avx", "'avx' is not +NAME or -NAME" },
		{ "host,", "'' is not +NAME or -NAME" },
		{ "host,-", "'' is none of the features" },
		{ "host,-AVX", "'AVX' is none of the features" },
		{ "host,-ibpb", "'ibpb' is none of the features" }, /* Linux makes it up */
		{ "host,-lm", "no guest can do without lm" },
		{ "host,+avx512f,-avx", "avx512f goes with what is to go" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad(bad[i].words, "--cpu", bad[i].cpu);
	assert_failure("regular", "--kernel", "/dev/null", "--cpu", "host,+sse4_2,-avx512f,-vnmi");
}

TEST(a_clock_must_be_one_that_there_is)
{
	static const char *const bad[] = { "", "Local", "localtime", "utc " };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("neither utc nor local", "--rtc", bad[i]);
}

/* Too long by a byte for what is said first. */
#define OF_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(what_smbios_says_must_have_a_place)
{
	static const struct {
		const char *value, *words, *next;
	} bad[] = {
		{ "", "does not begin with type=N", "--help" },
		{ "manufacturer=x", "does not begin with type=N", "--help" },
		{ "type=4,version=x", "does not begin with type=N", "--help" },
		{ "type=-1,version=x", "does not begin with type=N", "--help" },
		{ "type=01x,version=x", "does not begin with type=N", "--help" },
		{ "type=1", "says nothing", "--help" },
		{ "type=1,", "'' is none of its fields: manufacturer, product", "" },
		{ "type=1,manufactuer=x", "'manufactuer' is none", "did you mean manufacturer?" },
		{ "type=1,Serail=x", "'Serail' is none", "did you mean serial?" },
		{ "type=2,vendor=x", "'vendor' is none", "vendor is a field of type=0" },
		{ "type=3,uuid=x", "'uuid' is none", "uuid is a field of type=1" },
		{ "type=1,product=", "product is empty", "" },
		{ "type=1,product", "product is empty", "" },
		{ "type=1,product=a\nb", "product has a control character", "" },
		{ "type=1,serial=a,serial=b", "serial is given twice", "" },
		{ "type=1,serial=" OF_64 OF_64 OF_64 OF_64, "serial has 256 bytes", "" },
		{ "type=0,date=2026-11-29", "date is no date", "" },
		{ "type=0,date=13/01/2026", "date is no date", "" },
		{ "type=0,date= 1/01/2026", "date is no date", "" },
		{ "type=1,uuid=x", "uuid=x is no UUID", "uuidgen" },
		{ "type=1,uuid=5b7c2e10-93d4-4a6f-8e21-0c9f3d6b7a5", "is no UUID", "uuidgen" },
		{ "type=1,uuid=5b7c2e10-93d4-4a6f-8e21-0c9f3d6b7a5g", "is no UUID", "uuidgen" },
		{ "type=1,uuid=5b7c2e1-093d4-4a6f-8e21-0c9f3d6b7a58", "is no UUID", "uuidgen" },
		{ "type=1,uuid=00000000-0000-0000-0000-000000000000", "is no UUID", "uuidgen" },
		{ "type=1,uuid=FFFFFFFF-ffff-ffff-ffff-ffffffffffff", "is no UUID", "uuidgen" },
		{ "type=11,value=1,value=2,value=3,value=4,value=5,value=6,value=7,value=8,value=9,"
		  "value=10,value=11,value=12,value=13,value=14,value=15,value=16,value=17",
			"value is one too many", "" },
	};

	static const char *const good[] = {
		"type=1,serial=a,,b,product=,,,uuid=5B7C2e10-93d4-4a6f-8e21-0c9f3d6b7a58",
		"type=3,serial=c,asset=" OF_64,
		"type=0,date=11/29/2026",
		"type=11,value=a=b,value=" OF_64 OF_64 OF_64 OF_64,
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct outcome outcome = run("--kernel", "/dev/null", "--smbios", bad[i].value);

		assert_one_error(&outcome, 2, bad[i].words);
		if (!strstr(outcome.err, bad[i].next))
			fail_msg("'%s' is not in: %s", bad[i].next, outcome.err);
	}
	assert_bad("serial is given twice", "--smbios", "type=1,serial=a", "--smbios",
		"type=1,serial=b");
	/* These are, so that the kernel, which is none, is what is wrong. */
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_failure("regular", "--kernel", "/dev/null", "--smbios", good[i]);
	assert_failure(
		"regular", "--kernel", "/dev/null", "--smbios", good[0], "--smbios", good[1]);
}

TEST(a_vendor_must_fit)
{
	static const char *const bad[] = { "", "thirteenchars", "t\xc3\xb6ll", "a\nb" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("1 to 12 characters", "--hyperv-vendor", bad[i]);
	assert_failure("regular", "--kernel", "/dev/null", "--hyperv-vendor", "twelve chars");
	assert_bad("needs --firmware", "--hyperv-vendor", "twelve chars", "--hide-hypervisor");
	assert_bad("needs --firmware", "--hide-hypervisor");
}

TEST(a_device_must_be_an_address)
{
	static const char *const bad[] = { "", "01:00.8", "01:20.0", "0000:01:00.0/",
		"0000:0000:01:00.0" };
	static const char *const unknown[] = { "nvme77n1", "ff:1f", "ffff:ffff" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--device", "--device", bad[i]);
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
		assert_failure(unknown[i], "--kernel", "/dev/null", "--device", unknown[i]);
	assert_bad("twice", "--device", "01:00.0", "--device", "0000:01:00.0");
}

TEST(a_devices_rom_is_a_file_or_off)
{
	static const char *const bad[] = { "01:00.0,", "01:00.0,rom",
		"01:00.0,rom=", "01:00.0,row=off", "01:00.0,,rom=off", "01:00.0,quirks=on",
		"01:00.0,quirks=offer", "01:00.0,quirks=off,", "01:00.0,rom,quirks=off" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("rom=FILE", "--device", bad[i]);
	assert_bad("no PCI address", "--device", ",rom=off");
	assert_bad("twice", "--device", "01:00.0,rom=off", "--device", "01:00.0");
	assert_bad("twice", "--device", "01:00.0,quirks=off", "--device", "01:00.0");
	assert_bad("twice", "--device", "01:00.0,quirks=off,rom=off", "--device", "01:00.0");
}

TEST(too_many_devices_are_refused)
{
	const char *arguments[ARGUMENTS_MAX + 1] = { "run", "--kernel", "/dev/null" };
	char text[65][16];
	struct outcome outcome;

	for (unsigned i = 0; i < 65; i++) {
		snprintf(text[i], sizeof(text[i]), "%02x:00.0", i);
		arguments[3 + 2 * i] = "--device";
		arguments[4 + 2 * i] = text[i];
	}
	outcome = penstock(arguments);
	assert_one_error(&outcome, 2, "64");
}

TEST(a_net_is_at_a_tap_or_of_its_own)
{
	static const struct {
		const char *value, *words;
	} bad[] = {
		{ "", "begins with tap=NAME, bridge=NAME or user" },
		{ "users", "begins with tap=NAME, bridge=NAME or user" },
		{ "user=", "begins with tap=NAME, bridge=NAME or user" },
		{ "user,queues=2", "'queues=2' is not mac=ADDRESS or hostfwd=FORWARD" },
		{ "user,mac=01:00:5e:00:00:01", "no address for a card" },
		{ "user,hostfwd=", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:-:", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:2222", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:2222:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=sctp:2222-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:0-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:65536-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:2222-:x", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:2222-:22x", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:+2222-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp::2222-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:1.2.3:2222-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:here:2222-:22", "such as tcp:2222-:22" },
		{ "user,hostfwd=tcp:1.2.3.4:2222:1-:22", "such as tcp:2222-:22" },
		{ "tap=lo,hostfwd=tcp:2222-:22", "is not mac=ADDRESS" },
		{ "mac=52:54:00:00:00:01", "begins with tap=NAME, bridge=NAME or user" },
		{ "tap=", "no name of an interface" },
		{ "tap=0123456789abcdef", "no name of an interface" },
		{ "tap=../lo", "no name of an interface" },
		{ "tap=..", "no name of an interface" },
		{ "tap=lo,", "'' is not mac=ADDRESS" },
		{ "tap=lo,queues=2", "'queues=2' is not mac=ADDRESS" },
		{ "tap=lo,mac=", "no address for a card" },
		{ "tap=lo,mac=52:54:00:00:00", "no address for a card" },
		{ "tap=lo,mac=52:54:00:00:00:001", "no address for a card" },
		{ "tap=lo,mac=52:54:00:00:00:0x", "no address for a card" },
		{ "tap=lo,mac=52-54-00-00-00-01", "no address for a card" },
		{ "tap=lo,failover-for=", "failover-for= is no PCI address" },
		{ "tap=lo,failover-for=01:00.8", "failover-for=01:00.8 is no PCI address" },
		{ "tap=lo,failover-for=01:00.0", "failover-for=0000:01:00.0 is no --device" },
		{ "user,failover-for=01:00.0", "is not mac=ADDRESS or hostfwd=FORWARD" },
		{ "bridge=", "no name of an interface" },
		{ "bridge=a b", "no name of an interface" },
		{ "bridge=br0,hostfwd=tcp:2222-:22", "is not mac=ADDRESS" },
		{ "bridge=br0,queues=2", "'queues=2' is not mac=ADDRESS" },
		{ "tap=lo,mac=01:00:5e:00:00:01", "no address for a card" },
		{ "tap=lo,mac=00:00:00:00:00:00", "no address for a card" },
	};
	const char *many[] = { "run", "--kernel", "/dev/null", "--net", "tap=a", "--net", "tap=a",
		"--net", "tap=a", "--net", "tap=a", "--net", "tap=a", "--net", "tap=a", "--net",
		"tap=a", "--net", "tap=a", "--net", "tap=a", NULL };
	struct outcome outcome = penstock(many);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad(bad[i].words, "--net", bad[i].value);
	assert_one_error(&outcome, 2, "more than 8 network cards");
	assert_failure("regular", "--kernel", "/dev/null", "--net", "tap=a,mac=52:54:00:aB:00:01");
	/* Whatever comes first; and one card stands by for one. */
	assert_failure("regular", "--kernel", "/dev/null", "--net", "tap=a,failover-for=01:00.0",
		"--device", "01:00.0");
	assert_usage("is given twice", "--kernel", "/dev/null", "--device", "01:00.0", "--net",
		"tap=a,failover-for=01:00.0", "--net", "tap=b,failover-for=0000:01:00.0");
	assert_failure(
		"regular", "--kernel", "/dev/null", "--net", "bridge=a,mac=52:54:00:aB:00:01");
}

TEST(a_shared_directory_has_a_tag)
{
#define TAG "123456789012345678901234567890123456"
	static const struct {
		const char *value, *words;
	} bad[] = {
		{ "", "--share needs a directory" },
		{ ",tag=a", "--share needs a directory" },
		{ "/", "this path ends in no name" },
		{ ".", "this path ends in no name" },
		{ "/tmp/..", "this path ends in no name" },
		{ "/tmp/" TAG "7//", "the tag '" TAG "7' has 37 bytes, not 1 to 36" },
		{ "/tmp,tag=" TAG "7", "has 37 bytes" },
		{ "/tmp,tag=", "the tag '' has 0 bytes" },
		{ "/tmp,", "'' is neither tag=NAME nor readonly" },
		{ "/tmp,readonly=no", "'readonly=no' is neither" },
		{ "/tmp,TAG=a", "'TAG=a' is neither" },
	};
	static const char *const good[] = { "/tmp", "tmp/", "/,tag=root", "..x", "/tmp/" TAG,
		"/tmp,tag=" TAG ",readonly" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad(bad[i].words, "--share", bad[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_failure("regular", "--kernel", "/dev/null", "--share", good[i]);
	assert_bad("/a/tmp has the tag 'tmp' already", "--share", "/a/tmp", "--share", "/b/tmp");
	assert_bad("/a has the tag 'b' already", "--share", "/a,tag=b", "--share", "/b");
	assert_bad("more than 4 shared directories", "--share", "a", "--share", "b", "--share", "c",
		"--share", "d", "--share", "e");
}

TEST(a_display_listens_on_this_host)
{
	static const char *const bad[] = { "", "sdl", "vnc=", "vnc=:1",
		"vnc=unix:", "vnc=0.0.0.0:5900", "vnc=127.0.0.1",
		"vnc=127.0.0.1:", "vnc=127.0.0.1:0", "vnc=127.0.0.1:65536", "vnc=127.0.0.1:-1",
		"vnc=localhost:5900x", "vncs" };
	static const char *const good[] = { "vnc", "vnc=unix:/tmp/a", "vnc=127.0.0.1:5900",
		"vnc=localhost:65535" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--display", "--display", bad[i]);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_failure("regular", "--kernel", "/dev/null", "--display", good[i]);
}

TEST(a_disk_is_an_image_and_what_it_is_for)
{
	static const struct {
		const char *value, *words;
	} bad[] = {
		{ "", "a file or a block device" },
		{ ",readonly", "a file or a block device" },
		{ "a,", "'' is none of format=, readonly, cache= and queues=" },
		{ "a,readonly=on", "'readonly=on' is none of" },
		{ "a,format=", "format= is neither raw nor qcow2" },
		{ "a,format=vmdk", "format=vmdk is neither raw nor qcow2" },
		{ "a,cache=writethrough", "none of writeback, none and unsafe" },
		{ "a,queues=0", "queues=0 is no number from 1 to 8" },
		{ "a,queues=9", "queues=9 is no number from 1 to 8" },
		{ "a,queues=1x", "queues=1x is no number" },
	};
	const char *many[] = { "run", "--kernel", "/dev/null", "--disk", "a", "--disk", "a",
		"--disk", "a", "--disk", "a", "--disk", "a", "--disk", "a", "--disk", "a", "--disk",
		"a", NULL };
	struct outcome outcome = penstock(many);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad(bad[i].words, "--disk", bad[i].value);
	assert_one_error(&outcome, 2, "more than 7 disks");
	assert_failure("regular", "--kernel", "/dev/null", "--disk",
		"a,format=raw,readonly,cache=none,queues=8");
}

TEST(a_cid_is_a_number)
{
	static const char *const bad[] = { "", "0", "2", "x", "4294967295", "-3" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--vsock", "--vsock", bad[i]);
	assert_failure("regular", "--kernel", "/dev/null", "--vsock", "4294967294");
}

TEST(a_vdpa_device_is_given_once)
{
	assert_bad("--vdpa /a is given twice", "--vdpa", "/a", "--vdpa", "/a");
	assert_bad("more than 4 vDPA devices", "--vdpa", "a", "--vdpa", "b", "--vdpa", "c",
		"--vdpa", "d", "--vdpa", "e");
	assert_failure("regular", "--kernel", "/dev/null", "--vdpa", "/a", "--vdpa", "/b");
}

TEST(iommu_must_be_one_that_there_is)
{
	static const char *const bad[] = { "", "iommu", "TYPE1", "auto " };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--iommu", "--iommu", bad[i]);
}

TEST(a_policy_must_be_one_that_there_is)
{
	static const char *const bad[] = { "", "Reset", "shutdown", "stop " };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_bad("--on-reboot", "--on-reboot", bad[i]);
		assert_bad("--on-crash", "--on-crash", bad[i]);
	}
}

TEST(what_is_done_on_a_devices_error_must_be_known)
{
	static const char *const bad[] = { "", "ask", "STOP", "report " };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--on-device-error", "--on-device-error", bad[i]);
}

TEST(serial_must_be_a_place)
{
	static const char *const bad[] = { "", "x", "file", "file:", "STDIO", "stdio ", "pty:1" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_bad("--serial", "--serial", bad[i]);
}

TEST(what_is_no_option_is_refused)
{
	assert_bad("--bogus", "--bogus");
	assert_bad("x", "-x");
	assert_failure("more: cannot open it", "--kernel", "/dev/null", "more");
	assert_failure("more: cannot open it", "--kernel", "/dev/null", "--prealloc", "--", "more");
	assert_bad("'most' is no option", "more", "most");
}

TEST(an_option_must_have_its_value)
{
	assert_usage("kernel", "--kernel");
	assert_bad("memory", "--memory");
	assert_bad("force", "--force=yes");
}

TEST(a_file_that_is_not_there_is_an_error)
{
	assert_failure("/nonexistent/vmlinuz", "--kernel", "/nonexistent/vmlinuz");
	assert_failure("/nonexistent/initrd", "--kernel", getenv("PENSTOCK"), "--initrd",
		"/nonexistent/initrd");
	assert_failure("regular", "--kernel", "/");
	assert_failure("regular", "--kernel", "/dev/null");
	assert_failure("regular", "--kernel", getenv("PENSTOCK"), "--initrd", "/dev/null");
}

/* Opening one waits until somebody writes to it, unless asked not to. */
TEST(a_pipe_is_no_kernel)
{
	char path[] = "/tmp/penstock-fifo-XXXXXX";

	assert_non_null(mkdtemp(path));
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	{
		struct outcome outcome = run("--kernel", path);

		unlink(path);
		assert_one_error(&outcome, 1, "regular");
	}
}

TEST(the_program_itself_tells_its_commands)
{
	struct outcome outcome = penstock((const char *const[]){ NULL });

	assert_int_equal(outcome.code, 2);
	outcome = penstock((const char *const[]){ "--help", NULL });
	assert_int_equal(outcome.code, 0);
	assert_non_null(strstr(outcome.out, "run"));
	outcome = penstock((const char *const[]){ "--version", NULL });
	assert_int_equal(outcome.code, 0);
	assert_int_equal(strncmp(outcome.out, "penstock ", 9), 0);
	outcome = penstock((const char *const[]){ "bogus", NULL });
	assert_int_equal(outcome.code, 2);
	assert_non_null(strstr(outcome.err, "bogus"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help_tells_of_every_option),
		cmocka_unit_test(a_kernel_is_needed),
		cmocka_unit_test(what_goes_with_firmware_must_make_sense),
		cmocka_unit_test(memory_must_be_a_size),
		cmocka_unit_test(cpus_must_be_a_number),
		cmocka_unit_test(cpus_must_make_a_topology),
		cmocka_unit_test(features_must_be_known),
		cmocka_unit_test(a_clock_must_be_one_that_there_is),
		cmocka_unit_test(what_smbios_says_must_have_a_place),
		cmocka_unit_test(a_vendor_must_fit),
		cmocka_unit_test(a_device_must_be_an_address),
		cmocka_unit_test(a_devices_rom_is_a_file_or_off),
		cmocka_unit_test(too_many_devices_are_refused),
		cmocka_unit_test(a_net_is_at_a_tap_or_of_its_own),
		cmocka_unit_test(a_shared_directory_has_a_tag),
		cmocka_unit_test(a_display_listens_on_this_host),
		cmocka_unit_test(a_disk_is_an_image_and_what_it_is_for),
		cmocka_unit_test(a_cid_is_a_number),
		cmocka_unit_test(a_vdpa_device_is_given_once),
		cmocka_unit_test(iommu_must_be_one_that_there_is),
		cmocka_unit_test(a_policy_must_be_one_that_there_is),
		cmocka_unit_test(what_is_done_on_a_devices_error_must_be_known),
		cmocka_unit_test(serial_must_be_a_place),
		cmocka_unit_test(what_is_no_option_is_refused),
		cmocka_unit_test(an_option_must_have_its_value),
		cmocka_unit_test(a_file_that_is_not_there_is_an_error),
		cmocka_unit_test(a_pipe_is_no_kernel),
		cmocka_unit_test(the_program_itself_tells_its_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

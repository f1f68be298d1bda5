/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/share.h"
#include "fake_program.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* virtiofsd is this program under another name, and VIRTIOFSD says how it is. */

static char directory[] = "/tmp/penstock-share-XXXXXX";
static struct broker_share_config config;
static struct broker_share share;
static struct error err;
static bool helpers; /* there is what is beside PATH */
static uid_t uid;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
uid_t __wrap_geteuid(void);
uid_t __real_geteuid(void);

int __wrap_access(const char *path, int mode)
{
	if (strncmp(path, directory, strlen(directory)) == 0)
		return __real_access(path, mode);
	errno = ENOENT;
	return helpers && strcmp(path, "/usr/libexec/virtiofsd") == 0 ? 0 : -1;
}

uid_t __wrap_geteuid(void)
{
	return uid;
}

static int serve(int listening)
{
	const uint32_t reply[] = { 1, 5, 8, 0, 1 };
	int fd = accept(listening, NULL, NULL);
	char request[64];
	FILE *file;

	/* As the real one it has a child, which is what serves, and does not end by itself. */
	if (fork()) {
		wait(NULL);
		return 0;
	}
	file = fopen("child", "w");
	fprintf(file, "%d", getpid());
	fclose(file);
	if (recv(fd, request, sizeof(request), 0) > 0)
		send(fd, reply, sizeof(reply), MSG_NOSIGNAL);
	if (strcmp(getenv("VIRTIOFSD"), "hangs") == 0)
		pause();
	while (recv(fd, request, sizeof(request), 0) > 0)
		;
	return 0;
}

static void note_inode(ino_t inode)
{
	FILE *file = fopen("inode", "w");

	fprintf(file, "%llu", (unsigned long long)inode);
	fclose(file);
}

static int be_virtiofsd(int argc, char **argv)
{
	const char *how = getenv("VIRTIOFSD");
	struct stat there;
	FILE *file;

	if (strcmp(argv[1], "--help") == 0) {
		if (strcmp(how, "qemus") == 0)
			puts("    -o source=PATH             shared directory tree");
		else if (strcmp(how, "broken") == 0)
			fputs("virtiofsd: cannot load libcap-ng.so.0\n", stderr);
		else if (strcmp(how, "old") == 0)
			puts("      --shared-dir <SHARED_DIR>");
		else
			puts("      --shared-dir <SHARED_DIR>\n      --readonly\n"
			     "          - 'squash-guest': n:1 map");
		return 0;
	}
	if (argc > 3 && strncmp(argv[3], "--shared-dir=", 13) == 0 &&
		stat(argv[3] + 13, &there) == 0)
		note_inode(there.st_ino);
	file = fopen("words", "w");
	for (int i = 0; i < argc; i++)
		fprintf(file, "%s ", argv[i]);
	fclose(file);
	if (strcmp(how, "bad") == 0) {
		fputs("[2026-11-30T03:57:32Z ERROR virtiofsd] No room\n", stderr);
		return 1;
	}
	return serve(atoi(argv[1] + strlen("--fd=")));
}

static int setup(void **state)
{
	(void)state;
	fake_program_make(directory, "virtiofsd");
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(mkdir("shared", 0700), 0);
	share = (struct broker_share)BROKER_SHARE_NONE;
	config = (struct broker_share_config){ .path = "shared/../shared/" };
	err = (struct error){ 0 };
	helpers = false;
	uid = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	broker_share_end(&share);
	broker_share_close(&share);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	fake_program_remove(directory);
	return 0;
}

static int open_and_start(const char *how)
{
	/* That of root's mounts. */
	if (!uid && __real_geteuid())
		skip();
	setenv("VIRTIOFSD", how, 1);
	if (broker_share_open(&share, "share0", &config, &err) == 0)
		broker_share_start(&share, &err);
	return err.code;
}

/* What it was started with, behind its descriptor; and the next one's is to come. */
static void assert_words(const char *format, ...)
{
	char words[1024], wanted[1024], *first;
	va_list args;

	va_start(args, format);
	vsnprintf(wanted, sizeof(wanted), format, args);
	va_end(args);
	assert_true(fd_read_file("words", words, sizeof(words)) > 0);
	first = strstr(words, " --fd=");
	assert_non_null(first);
	first = strchr(first + 1, ' ') + 1;
	words[strcspn(words, "\n")] = '\0';
	if (strcmp(first, wanted))
		fail_msg("'%s', not '%s'", first, wanted);
}

TEST(one_of_roots_serves_all_users)
{
	struct loop *loop = loop_new(&err);

	assert_int_equal(open_and_start("good"), 0);
	assert_words("--log-level=error --shared-dir=/mnt --modcaps=-mknod ");
	/* For the next life it is another. */
	broker_share_handed_over(&share, loop);
	assert_int_equal(share.machine_fd, -1);
	broker_share_end(&share);
	assert_int_equal(share.backend.pid, 0);
	config.readonly = true;
	assert_int_equal(broker_share_start(&share, &err), 0);
	assert_words("--log-level=error --shared-dir=/mnt --modcaps=-mknod --readonly ");
	broker_share_end(&share);
	loop_free(loop);
}

TEST(one_of_a_users_serves_that_user)
{
	uid = 1234;
	assert_int_equal(open_and_start("good"), 0);
	assert_words("--log-level=error --shared-dir=%s/shared "
		     "--translate-uid=squash-guest:0:1234:4294967295 "
		     "--translate-gid=squash-guest:0:%u:4294967295 ",
		directory, getegid());
}

TEST(one_that_cannot_translate_is_not_asked_to)
{
	uid = 1234;
	assert_int_equal(open_and_start("old"), 0);
	assert_words("--log-level=error --shared-dir=%s/shared ", directory);
}

TEST(that_of_qemu_serves_root_alone)
{
	assert_int_equal(open_and_start("qemus"), 0);
	assert_words("-f -olog_level=err,modcaps=-mknod -o source=/mnt ");
	broker_share_end(&share);
	broker_share_close(&share);
	uid = 1234;
	assert_int_equal(open_and_start("qemus"), -ENOTSUP);
	assert_non_null(strstr(err.what, "serves root alone"));
	assert_non_null(strstr(err.hint, "Debian 13"));
}

TEST(one_that_cannot_keep_a_guest_from_writing_is_told)
{
	config.readonly = true;
	assert_int_equal(open_and_start("old"), -ENOTSUP);
	assert_non_null(strstr(err.what, "no --readonly"));
}

/* Not the one of QEMU. */
TEST(one_that_does_not_tell_what_it_can_is_not_taken)
{
	assert_int_equal(open_and_start("broken"), -EIO);
	assert_non_null(strstr(err.object, "/virtiofsd"));
	assert_non_null(strstr(err.what, "does not tell what it can do: virtiofsd: cannot load"));
}

TEST(one_that_is_missing_is_named)
{
	setenv("PATH", "/nonexistent", 1);
	assert_int_not_equal(open_and_start("good"), 0);
	assert_non_null(strstr(err.what, "--share needs virtiofsd, which is not installed"));
	assert_non_null(strstr(err.hint, "apt install virtiofsd"));
}

TEST(one_beside_path_is_found)
{
	setenv("PATH", "/nonexistent", 1);
	helpers = true;
	assert_int_equal(
		broker_backend_find(&share.backend, "virtiofsd", "--share", "virtiofsd", &err), 0);
	assert_string_equal(share.backend.program, "/usr/libexec/virtiofsd");
}

TEST(what_cannot_be_shared_is_told)
{
	static const struct {
		const char *path, *what, *hint;
		int code;
	} bad[] = {
		{ "nothing", "cannot be shared: No such file", "mkdir -p nothing", -ENOENT },
		{ "virtiofsd", "this is no directory", "", -ENOTDIR },
		{ "/dev/null", "this is no directory", "", -ENOTDIR },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		config.path = bad[i].path;
		err = (struct error){ 0 };
		assert_int_equal(open_and_start("good"), bad[i].code);
		assert_string_equal(err.object, bad[i].path);
		assert_non_null(strstr(err.what, bad[i].what));
		assert_non_null(strstr(err.hint, bad[i].hint));
	}
}

TEST(a_directory_that_is_gone_before_the_next_life_is_told)
{
	assert_int_equal(open_and_start("good"), 0);
	broker_share_end(&share);
	assert_int_equal(rmdir("shared"), 0);
	assert_int_equal(broker_share_start(&share, &err), -ENOENT);
	assert_int_equal(share.machine_fd, -1);
}

static void assert_it_stays_the_same(void)
{
	unsigned long long inode;
	struct stat shared;
	char text[32];

	assert_int_equal(stat("shared", &shared), 0);
	assert_int_equal(open_and_start("good"), 0);
	broker_share_end(&share);
	assert_int_equal(rename("shared", "moved"), 0);
	assert_int_equal(symlink("/", "shared"), 0);
	assert_int_equal(unlink("inode"), 0);
	assert_int_equal(broker_share_start(&share, &err), 0);
	assert_true(fd_read_file("inode", text, sizeof(text)) > 0);
	assert_int_equal(sscanf(text, "%llu", &inode), 1);
	assert_int_equal(inode, shared.st_ino);
}

TEST(one_of_roots_stays_the_directory_that_it_was)
{
	assert_it_stays_the_same();
}

TEST(one_of_a_users_stays_the_directory_that_it_was)
{
	uid = 1234;
	assert_it_stays_the_same();
}

TEST(one_that_ends_at_once_says_why)
{
	assert_int_equal(open_and_start("bad"), -EIO);
	assert_non_null(strstr(err.what, "has ended as soon as it was started: No room"));
	assert_string_equal(err.hint, "");
	assert_int_equal(share.backend.pid, 0);
	assert_int_equal(share.machine_fd, -1);
	err = (struct error){ 0 };
	uid = 1234;
	assert_int_equal(broker_share_start(&share, &err), -EIO);
	assert_non_null(strstr(err.hint, "unshare --user"));
}

TEST(one_that_does_not_end_goes_with_its_child)
{
	char text[32];
	pid_t child;

	assert_int_equal(open_and_start("hangs"), 0);
	assert_true(fd_read_file("child", text, sizeof(text)) > 0);
	child = atoi(text);
	assert_int_equal(kill(child, 0), 0);
	broker_share_end(&share);
	/* Its new parent may take a while. */
	for (unsigned i = 0; i < 1000 && kill(child, 0) == 0; i++) {
		char path[32], status[512];

		snprintf(path, sizeof(path), "/proc/%d/status", child);
		if (fd_read_file(path, status, sizeof(status)) > 0 && strstr(status, "State:\tZ"))
			return;
		usleep(10000);
	}
	assert_int_not_equal(kill(child, 0), 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(one_of_roots_serves_all_users),
		test(one_of_a_users_serves_that_user),
		test(one_that_cannot_translate_is_not_asked_to),
		test(that_of_qemu_serves_root_alone),
		test(one_that_cannot_keep_a_guest_from_writing_is_told),
		test(one_that_does_not_tell_what_it_can_is_not_taken),
		test(one_that_is_missing_is_named),
		test(one_beside_path_is_found),
		test(what_cannot_be_shared_is_told),
		test(a_directory_that_is_gone_before_the_next_life_is_told),
		test(one_of_roots_stays_the_directory_that_it_was),
		test(one_of_a_users_stays_the_directory_that_it_was),
		test(one_that_ends_at_once_says_why),
		test(one_that_does_not_end_goes_with_its_child),
	};

	if (strcmp(argv[0], "virtiofsd") == 0)
		return be_virtiofsd(argc, argv);
	return test_run(tests);
}

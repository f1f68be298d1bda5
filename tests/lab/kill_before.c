/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * To be preloaded into penstock. With KILL_BEFORE=N in the environment the process is killed before the N-th call of
 * those by which it, or a child that works for it, changes anything: fork(3), for a child that writes to sysfs, and
 * what its journal is written with. The programs that they run are left alone.
 */

static pid_t process;
static unsigned long *left; /* shared with its children */

__attribute__((constructor)) static void start(void)
{
	const char *count = getenv("KILL_BEFORE");

	if (!count || strcmp(program_invocation_short_name, "penstock"))
		return;
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (left == MAP_FAILED)
		abort();
	process = getpid();
	*left = strtoul(count, NULL, 10);
}

static void *step(const char *name)
{
	if (process && *left && --*left == 0) {
		kill(process, SIGKILL);
		raise(SIGKILL); /* the child would be, too */
	}
	return dlsym(RTLD_NEXT, name);
}

/* The library's own names for its parameters are reserved ones. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

pid_t fork(void)
{
	pid_t (*next)(void) = step("fork");

	return next();
}

int mkdirat(int directory, const char *name, mode_t mode)
{
	int (*next)(int, const char *, mode_t) = step("mkdirat");

	return next(directory, name, mode);
}

int renameat(int from, const char *old, int to, const char *new)
{
	int (*next)(int, const char *, int, const char *) = step("renameat");

	return next(from, old, to, new);
}

int unlinkat(int directory, const char *name, int flags)
{
	int (*next)(int, const char *, int) = step("unlinkat");

	return next(directory, name, flags);
}

int fchownat(int directory, const char *name, uid_t user, gid_t group, int flags)
{
	int (*next)(int, const char *, uid_t, gid_t, int) = step("fchownat");

	return next(directory, name, user, group, flags);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * populate MIB GROUP: what has to be done for a guest's RAM at the least, and nothing besides. So much of
 * a tmpfs with huge pages is made present and mapped for DMA, for the devices of that IOMMU group. Prints the
 * milliseconds of CPU time.
 */

#define HUGE_PAGE (2UL << 20)
#define SPAN      (1UL << 30)

static int must(int result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static int open_file(uint64_t size)
{
	int context = must(fsopen("tmpfs", 0), "fsopen");
	char limit[24];
	int mount, file;

	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)size);
	must(fsconfig(context, FSCONFIG_SET_STRING, "huge", "within_size", 0), "huge");
	must(fsconfig(context, FSCONFIG_SET_STRING, "size", limit, 0), "size");
	must(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "tmpfs");
	mount = must(fsmount(context, 0, 0), "fsmount");
	file = must(openat(mount, ".", O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
	must(ftruncate(file, (off_t)size), "ftruncate");
	return file;
}

static char *map_file(int file, uint64_t size)
{
	char *at = mmap(NULL, size + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	at = (char *)(((uintptr_t)at + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	at = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
	if (at == MAP_FAILED)
		must(-1, "mmap");
	must(madvise(at, size, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	return at;
}

static int open_container(const char *group_path)
{
	int container = must(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
	int group = must(open(group_path, O_RDWR), group_path);

	must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "VFIO_GROUP_SET_CONTAINER");
	must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
	return container;
}

static double cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

/* Below the addresses of the host's interrupts, and above. */
static uint64_t iova_of(uint64_t offset)
{
	return offset < 2 * SPAN ? offset : offset + 2 * SPAN;
}

int main(int argc, char **argv)
{
	uint64_t size = argc == 3 ? strtoull(argv[1], NULL, 10) << 20 : 0;
	char path[64], *memory;
	int container;
	double before;

	if (!size) {
		fprintf(stderr, "usage: populate MIB GROUP\n");
		return 2;
	}
	snprintf(path, sizeof(path), "/dev/vfio/%s", argv[2]);
	container = open_container(path);
	memory = map_file(open_file(size), size);
	before = cpu_ms();
	for (uint64_t at = 0; at < size; at += SPAN) {
		struct vfio_iommu_type1_dma_map map = {
			.argsz = sizeof(map),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.vaddr = (uintptr_t)memory + at,
			.iova = iova_of(at),
			.size = size - at < SPAN ? size - at : SPAN,
		};

		must(madvise(memory + at, map.size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
		must(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");
	}
	printf("%.1f\n", cpu_ms() - before);
	return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a layer, packed or not, unpacked without root's rights in a new
 * directory. Whatever it says, a canary beside that directory stays, and
 * what was made can be removed again.
 */
#include "base/file.h"
#include "image/image_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                           \
	do {                                                                                                 \
		if (!(x)) {                                                                                  \
			fprintf(stderr, "layer_fuzz: %s\n", #x);                                             \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

static char dir[] = "/tmp/davit-layer-fuzz-XXXXXX";
static int fd_dir = -1;

static void leave(void)
{
	davit_remove_tree(dir, NULL);
}

static void open_once(void)
{
	int fd;

	REQUIRE(sodium_init() >= 0 && mkdtemp(dir));
	atexit(leave);
	fd_dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(fd_dir, "canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(fd >= 0 && davit_write_full(fd, "precious", 8) == 0);
	close(fd);
}

/* The canary, and nothing else beside the tree. */
static void check(void)
{
	struct stat st;
	struct dirent *e;
	DIR *d = fdopendir(openat(fd_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t n = 0;

	REQUIRE(d);
	while ((e = readdir(d)))
		n++;
	closedir(d);
	REQUIRE(n == 3); /* ".", ".." and the canary */
	REQUIRE(fstatat(fd_dir, "canary", &st, AT_SYMLINK_NOFOLLOW) == 0);
	REQUIRE(S_ISREG(st.st_mode) && st.st_size == 8 && st.st_nlink == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_budget budget = {
		.limits = {.bytes = 1 << 20, .entries = 1000, .ratio = 1000},
		.room = 1 << 20,
	};
	struct image_layer layer = {.what = "the input", .budget = &budget};
	struct image_stream *in = NULL;
	struct davit_error err = {0};
	int fd = memfd_create("layer", MFD_CLOEXEC), root, r;

	if (fd_dir < 0)
		open_once();
	REQUIRE(fd >= 0 && davit_write_full(fd, data, size) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	REQUIRE(mkdirat(fd_dir, "tree", 0700) == 0);
	root = openat(fd_dir, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(root >= 0 && image_stream_open(fd, &in, &err) == 0);
	r = image_unpack(&layer, in, root, &err);
	REQUIRE(r == 0 || (r == err.code && *err.message));
	REQUIRE(budget.bytes <= budget.limits.bytes && budget.entries <= budget.limits.entries + 1);
	image_stream_close(in);
	close(root);
	close(fd);
	REQUIRE(image_tree_remove(fd_dir, "tree") == 0);
	check();
	return 0;
}

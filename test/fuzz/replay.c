/* SPDX-License-Identifier: MIT
 *
 * Runs a fuzz target over files: the corpora as an ordinary test, with any
 * compiler. Arguments are files and directories (not searched deeper).
 */
#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_error err;

	if (davit_read_file(path, 16 << 20, &b, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 0;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)davit_buf_str(&b), b.len);
	return 1;
}

static int replay(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	if (!d)
		return replay_file(path);
	while ((e = readdir(d))) {
		DAVIT_AUTO_FREE char *file = davit_path_join(path, e->d_name);
		struct stat st;
		if (file && !stat(file, &st) && S_ISREG(st.st_mode))
			n += replay_file(file);
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	int n = 0;

	for (int i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%d inputs\n", n);
	return n ? 0 : 1;
}

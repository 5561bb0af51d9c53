/* SPDX-License-Identifier: MIT
 *
 * The keeper under test as a program: started, killed, and all gone after; and what it leaves
 * on the host, processes, logs and groups.
 */
#include "keeper/testing.h"

#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

void nap(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&ts, NULL);
}

bool alive(pid_t pid)
{
	char path[64];
	DAVIT_AUTO_FREE char *stat = NULL;
	const char *p;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	stat = slurp(path);
	p = stat ? strrchr(stat, ')') : NULL;
	return p && p[2] != 'Z' && p[2] != 'X';
}

char *slurp(const char *path)
{
	struct davit_buf b = DAVIT_BUF_INIT;

	if (davit_read_file(path, 64 << 20, &b, NULL) < 0) {
		davit_buf_fini(&b);
		return NULL;
	}
	return b.data ? davit_buf_take(&b) : strdup("");
}

/* Beside the test program, as the build leaves it. */
static void keeper_program(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 32);

	assert_true(n > 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/davit-keeper");
}

static int copy_program(struct client *c)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_error err;
	int fd, r;

	if (davit_read_file(c->program, 64 << 20, &b, &err) < 0)
		return -1;
	snprintf(c->program, sizeof c->program, "%s/davit-keeper", c->dir);
	fd = open(c->program, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	r = fd < 0 ? -1 : davit_write_full(fd, b.data, b.len);
	davit_closep(&fd);
	return r;
}

static void refuse_clone3(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = DAVIT_ARRAY_SIZE(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		_exit(98);
}

int client_try_keeper(struct client *c)
{
	const char *program = c->program;
	char byte;
	int p[2], status;
	bool ready;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		char fd[16];
		close(p[0]);
		close(2); /* the message of one that is refused */
		open("/dev/null", O_WRONLY);
		snprintf(fd, sizeof fd, "%d", p[1]);
		if (c->without_clone3)
			refuse_clone3();
		struct rlimit l = {c->descriptors, c->descriptors};
		if (c->descriptors && setrlimit(RLIMIT_NOFILE, &l) < 0)
			_exit(97);
		execl(program, program, c->run, "0", "--fd", fd, NULL);
		_exit(99);
	}
	close(p[1]);
	ready = read(p[0], &byte, 1) == 1;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(ready, WEXITSTATUS(status) == 0);
	return WEXITSTATUS(status);
}

void client_start_keeper(struct client *c)
{
	assert_int_equal(client_try_keeper(c), 0);
}

void client_kill_keeper(struct client *c)
{
	client_disconnect(c);
	assert_int_equal(kill(c->keeper, SIGKILL), 0);
	WAIT_FOR(!alive(c->keeper));
	assert_int_equal(waitpid(c->keeper, NULL, 0), c->keeper);
}

static int setup(void **state, size_t longer, bool copy, unsigned descriptors)
{
	struct client *c = calloc(1, sizeof *c);
	struct davit_error err;

	if (!c)
		return -1;
	snprintf(c->dir, sizeof c->dir, "/tmp/davit-keeper-XXXXXX");
	if (!mkdtemp(c->dir))
		return -1;
	snprintf(c->run, sizeof c->run, "%s/%.*s/run", c->dir, (int)longer,
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxx"
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxx");
	if (!longer)
		snprintf(c->run, sizeof c->run, "%s/run", c->dir);
	snprintf(c->log, sizeof c->log, "%s/log", c->dir);
	keeper_program(c->program, sizeof c->program);
	if (davit_mkdirs(c->run, 0700, &err) < 0 || (copy && copy_program(c) < 0))
		return -1;
	/* What the keeper leaves comes to us, whatever init does here. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -1;
	c->descriptors = descriptors;
	*state = c;
	client_start_keeper(c);
	client_connect(c);
	return 0;
}

int client_setup(void **state)
{
	return setup(state, 0, false, 0);
}

int client_setup_in(void **state, size_t n)
{
	return setup(state, n, false, 0);
}

int client_setup_few(void **state, unsigned descriptors)
{
	return setup(state, 0, false, descriptors);
}

int client_setup_copy(void **state)
{
	return setup(state, 0, true, 0);
}

int client_teardown(void **state)
{
	struct client *c = *state;
	struct keeper_header h = {0};
	struct packet p;

	if (c->fd < 0)
		client_connect(c);
	h.flags = KEEPER_FLAG_KILL;
	uint64_t tag = client_send(c, &h, KEEPER_QUIT, "", sizeof h, NULL, 0, NULL, 0);
	assert_true(client_wait(c, KEEPER_DONE, tag, NULL, PATIENCE, &p));
	WAIT_FOR(!alive(c->keeper));
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	client_disconnect(c);
	free(c->got);
	davit_remove_tree(c->dir, NULL);
	free(c);
	return 0;
}

const char *client_own_cgroup(char path[128])
{
	static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(mounts); i++) {
		char file[160];
		snprintf(path, 128, "%s/davit-keeper-test-%d", mounts[i], (int)getpid());
		if (mkdir(path, 0755) < 0)
			continue;
		snprintf(file, sizeof file, "%s/cgroup.events", path);
		if (access(file, R_OK) == 0)
			return path;
		rmdir(path);
	}
	return NULL;
}

size_t count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int is_segment(const struct dirent *e)
{
	return strlen(e->d_name) == 24 && !strcmp(e->d_name + 20, ".log");
}

char *client_raw_log(struct client *c, const char *id, uint64_t *ret_first, size_t *ret_files)
{
	struct davit_buf all = DAVIT_BUF_INIT;
	char dir[160], path[300];
	struct dirent **names;
	int n;

	snprintf(dir, sizeof dir, "%s/%s", c->log, id);
	n = scandir(dir, &names, is_segment, alphasort);
	for (int i = 0; i < n; i++) {
		uint64_t at = strtoull(names[i]->d_name, NULL, 10);
		if (i == 0 && ret_first)
			*ret_first = at;
		if (i > 0 && ret_first)
			assert_int_equal(at, *ret_first + all.len); /* one begins where the other ends */
		snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
		assert_int_equal(davit_read_file(path, 64 << 20, &all, NULL), 0);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	if (ret_files)
		*ret_files = n > 0 ? (size_t)n : 0;
	return all.data ? davit_buf_take(&all) : strdup("");
}

char *client_log(struct client *c, const char *id)
{
	DAVIT_AUTO_FREE char *raw = client_raw_log(c, id, NULL, NULL);
	struct davit_buf out = DAVIT_BUF_INIT, part[2] = {DAVIT_BUF_INIT, DAVIT_BUF_INIT};

	for (char *p = raw, *nl; *p; p = nl + 1) {
		nl = strchr(p, '\n');
		assert_non_null(nl);
		assert_true(nl - p >= 40);
		assert_true(p[29] == 'Z' && p[30] == ' ' && p[37] == ' ' && p[39] == ' ');
		int stream = !strncmp(p + 31, "stderr", 6);
		davit_buf_add(&part[stream], p + 40, (size_t)(nl - (p + 40)));
		if (p[38] == 'P')
			continue;
		davit_buf_adds(&out, stream ? "stderr " : "stdout ");
		davit_buf_add(&out, part[stream].data, part[stream].len);
		davit_buf_addc(&out, '\n');
		davit_buf_reset(&part[stream]);
	}
	for (int i = 0; i < 2; i++)
		davit_buf_fini(&part[i]);
	return out.data ? davit_buf_take(&out) : strdup("");
}

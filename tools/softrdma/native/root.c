/* The guest's file system: one process instead of twenty, each of which takes 10 ms to start in there. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper.h"

static const char *root;

static const char *in_root(const char *path) {
  static char full[PATH_MAX];
  if (snprintf(full, sizeof(full), "%s%s", root, path) >= (int)sizeof(full)) {
    errno = ENAMETOOLONG;
    die(path);
  }
  return full;
}

static void make_dir(const char *path) {
  if (mkdir(path, 0755) && errno != EEXIST) die(path);
}

/* Like mkdir -p, below the root. */
static void make_dirs(const char *path) {
  char part[PATH_MAX];
  for (size_t i = 1; i < strlen(path); i++)
    if (path[i] == '/') {
      memcpy(part, path, i);
      part[i] = 0;
      make_dir(in_root(part));
    }
  make_dir(in_root(path));
}

static void attach(const char *type, const char *path, const char *options) {
  if (mount(type, path, type, 0, options)) die(path);
}

/* ROOT DIR...: makes ROOT from the host's files, which are read-only below, with each DIR of the host's writable. */
int run_root(int argc, char **argv) {
  if (argc < 1) {
    errno = EINVAL;
    die("root ROOT DIR...");
  }
  root = argv[0];
  /* The root is the host's, read-only. /dev is the kernel's own, so that is where there is room to start from. */
  make_dir("/dev/shm");
  attach("tmpfs", "/dev/shm", "mode=1777");
  make_dir("/dev/shm/upper");
  make_dir("/dev/shm/work");
  make_dir(root);
  attach("overlay", root, "lowerdir=/,upperdir=/dev/shm/upper,workdir=/dev/shm/work");
  attach("proc", in_root("/proc"), NULL);
  attach("sysfs", in_root("/sys"), NULL);
  attach("devtmpfs", in_root("/dev"), NULL);
  make_dir(in_root("/dev/pts"));
  attach("devpts", in_root("/dev/pts"), "mode=620,ptmxmode=666");
  attach("tmpfs", in_root("/dev/shm"), "mode=1777");
  attach("tmpfs", in_root("/run"), "mode=755");
  attach("tmpfs", in_root("/tmp"), "mode=1777");
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                         {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"},
                                         {"/proc/self/fd/2", "/dev/stderr"},
                                         {"pts/ptmx", "/dev/ptmx"}};
  for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
    unlink(in_root(links[i][1]));
    if (symlink(links[i][0], in_root(links[i][1]))) die(links[i][1]);
  }
  for (int i = 1; i < argc; i++) {
    make_dirs(argv[i]);
    attach("hostfs", in_root(argv[i]), argv[i]);
  }
  make_dir(in_root("/run/lock"));
  make_dir(in_root("/run/softrdma"));
  make_dirs("/usr/local/bin");
  return 0;
}

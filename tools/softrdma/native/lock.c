/* A lock that cannot outlive its holder: flock(2), held until standard input ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "helper.h"

static void say(const char *word, int length) {
  if (write(1, word, length) != length) die("stdout");
}

int run_lock(int argc, char **argv) {
  /* While this waits for the lock it does not watch its input. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL)) die("prctl");
  int fd = argc == 1 ? open(argv[0], O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (fd < 0) die("lock FILE");
  if (flock(fd, LOCK_EX | LOCK_NB)) {
    if (errno != EWOULDBLOCK) die(argv[0]);
    say("waiting\n", 8);
    while (flock(fd, LOCK_EX))
      if (errno != EINTR) die(argv[0]);
  }
  say("locked\n", 7);
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}

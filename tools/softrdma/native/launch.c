/* Starting kernels on the host, and the cables between them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"

#define MAX_CABLES 8
/* Room for a burst of 9000-byte frames: a full socket loses frames, as a full switch would. */
#define CABLE_BUFFER (4 << 20)

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    die(path);
  }
  strcpy(address.sun_path, path);
  return address;
}

/* Hands the SIDE ends of all cables to the peer. */
static void send_cables(int peer, int cables[][2], int count, int side) {
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(int) * MAX_CABLES)];
  } control = {0};
  char byte = 0;
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control.space,
                           .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  int *ends = (int *)CMSG_DATA(header);
  for (int i = 0; i < count; i++) ends[i] = cables[i][side];
  sendmsg(peer, &message, MSG_NOSIGNAL);
}

/* What arrives at an end where no machine is goes nowhere. */
static void discard(int end) {
  char frame[65536];
  while (recv(end, frame, sizeof(frame), MSG_DONTWAIT) >= 0) {
  }
}

int run_keeper(int argc, char **argv) {
  int cables[MAX_CABLES][2];
  int count = argc == 2 ? atoi(argv[1]) : 0;
  if (count < 1 || count > MAX_CABLES) {
    errno = EINVAL;
    die("keeper SOCKET COUNT");
  }
  for (int i = 0; i < count; i++) {
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, cables[i])) die("socketpair");
    for (int side = 0; side < 2; side++) {
      int size = CABLE_BUFFER;
      /* Forcing past the host's limit needs CAP_NET_ADMIN; the limit itself will do. */
      if (setsockopt(cables[i][side], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
        setsockopt(cables[i][side], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
  }
  struct sockaddr_un address = address_of(argv[0]);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8)) die(argv[0]);
  if (write(1, "ready\n", 6) != 6) die("stdout");

  /* The machine at each side holds its connection for as long as it lives. -1: there is none. */
  int machine[2] = {-1, -1};
  for (;;) {
    struct pollfd fds[4 + 2 * MAX_CABLES] = {{.fd = 0, .events = POLLIN},
                                             {.fd = listener, .events = POLLIN},
                                             {.fd = machine[0], .events = POLLIN},
                                             {.fd = machine[1], .events = POLLIN}};
    /* Without this, the socket of a dead machine would fill, and the living one be held up instead of unheard. */
    int n = 4;
    for (int i = 0; i < count; i++)
      for (int side = 0; side < 2; side++)
        fds[n++] = (struct pollfd){.fd = machine[side] < 0 ? cables[i][side] : -1, .events = POLLIN};
    if (poll(fds, n, -1) < 0 && errno != EINTR) die("poll");
    char byte;
    if (fds[0].revents && read(0, &byte, 1) <= 0) return 0;
    for (int side = 0; side < 2; side++)
      if (fds[2 + side].revents && read(machine[side], &byte, 1) <= 0) {
        close(machine[side]);
        machine[side] = -1;
      }
    for (int i = 4; i < n; i++)
      if (fds[i].fd >= 0 && fds[i].revents) discard(fds[i].fd);
    if (fds[1].revents) {
      int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      char side;
      if (peer < 0) continue;
      if (read(peer, &side, 1) == 1 && (side == '0' || side == '1')) {
        side -= '0';
        if (machine[(int)side] >= 0) close(machine[(int)side]);
        machine[(int)side] = peer;
        for (int i = 0; i < count; i++) discard(cables[i][(int)side]);
        send_cables(peer, cables, count, side);
      } else {
        close(peer);
      }
    }
  }
}

/* Puts this side's cable ends at descriptors BASE, BASE+1, ... */
static void take_cables(const char *path, const char *side, int base) {
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(int) * MAX_CABLES)];
  } control = {0};
  char byte;
  struct iovec iov = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
  struct sockaddr_un address = address_of(path);
  /* Stays open in the kernel that this process becomes: the keeper sees by it when the kernel is gone. */
  int keeper = socket(AF_UNIX, SOCK_STREAM, 0);
  if (keeper < 0 || connect(keeper, (struct sockaddr *)&address, sizeof(address)) || write(keeper, side, 1) != 1 ||
      recvmsg(keeper, &message, MSG_CMSG_CLOEXEC) < 1)
    die("taking the cables from the keeper");
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_type != SCM_RIGHTS) {
    errno = EPROTO;
    die("the keeper gave no cables");
  }
  int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  int ends[MAX_CABLES];
  memcpy(ends, CMSG_DATA(header), count * sizeof(int));
  /* Out of the way first, so that no dup2 below closes an end that is still to be moved. */
  for (int i = 0; i < count; i++)
    if ((ends[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, base + MAX_CABLES)) < 0) die("dup");
  for (int i = 0; i < count; i++)
    if (dup2(ends[i], base + i) < 0) die("dup2");
}

/* Becomes the kernel, in a process group of its own that everything it starts is in. */
static void become(pid_t supervisor, int argc, char **argv) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  /* In case the supervisor is killed itself. */
  if (setpgid(0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL)) die("prctl");
  if (getppid() != supervisor) exit(125);
  if (argc > 4 && !strcmp(argv[0], "-k")) {
    take_cables(argv[1], argv[2], atoi(argv[3]));
    argv += 4;
    argc -= 4;
  }
  if (argc < 1) {
    errno = EINVAL;
    die("launch PROGRAM");
  }
  execv(argv[0], argv);
  die(argv[0]);
}

/*
 * Runs the kernel until it ends, or until SIGTERM or the parent's death, and sees to it that nothing of it stays. The
 * kernel's processes would die with it by themselves but for those that it was just making.
 */
int run_launch(int argc, char **argv) {
  pid_t parent = getppid(), self = getpid();
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGCHLD);
  sigprocmask(SIG_BLOCK, &wanted, NULL);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) || prctl(PR_SET_CHILD_SUBREAPER, 1)) die("prctl");
  if (getppid() != parent) return 125;
  pid_t kernel = fork();
  if (kernel < 0) die("fork");
  if (kernel == 0) become(self, argc, argv);
  /* Also here, so that it has been done by whichever comes first. */
  setpgid(kernel, kernel);
  /* The line and the log are the kernel's: they have to end when it does. */
  for (int fd = 0; fd < 4; fd++)
    if (fd != 2) close(fd);

  int status = 0, over = 0;
  while (!over) {
    if (sigwaitinfo(&wanted, NULL) == SIGTERM) kill(-kernel, SIGKILL);
    int one;
    for (pid_t pid; (pid = waitpid(-1, &one, WNOHANG)) > 0;)
      if (pid == kernel) {
        status = one;
        over = 1;
      }
  }
  do kill(-kernel, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

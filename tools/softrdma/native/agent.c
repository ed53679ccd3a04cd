/*
 * The guest's PID 1: runs commands for the host over one serial line.
 *
 * Frames both ways: u32 payload length, u8 type, u32 process id, payload; little endian (protocol.ts is the other end).
 *   host:  R run   I stdin (empty: end)   S signal   W window size   A more output is welcome   P prepare to power off
 *   guest: U up    1 stdout  2 stderr (empty: end)   X exit   E could not start   a more input is welcome   Z prepared
 *          L so many bytes were taken from the line
 * Every stream has a window of unacknowledged bytes, so that one that nobody reads cannot hold up the others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "helper.h"

#define WINDOW (256 * 1024) /* output bytes in flight per stream; OUTPUT_WINDOW in protocol.ts */
#define PIPE_BYTES (64 * 1024) /* what a pipe holds, pipe(7) */
#define QUEUE_LIMIT (64 * 1024)
#define CHUNK 16384
#define FRAME_LIMIT (16u << 20)
#define MAX_PROCESSES 256
#define HEADER 9

struct buffer {
  char *data;
  size_t start, end, capacity;
};

struct process {
  uint32_t id; /* 0: free */
  pid_t pid;   /* 0: reaped */
  int in, out[2];
  int64_t window[2];
  int in_ended, status, exited;
  struct buffer input;
};

static struct process processes[MAX_PROCESSES];
static struct buffer to_host, from_host;
static int line;

static size_t pending(const struct buffer *b) { return b->end - b->start; }

static char *reserve(struct buffer *b, size_t more) {
  if (b->start == b->end) b->start = b->end = 0;
  if (b->end + more > b->capacity && b->start) {
    memmove(b->data, b->data + b->start, pending(b));
    b->end -= b->start;
    b->start = 0;
  }
  if (b->end + more > b->capacity) {
    b->capacity = (b->end + more) * 2;
    b->data = realloc(b->data, b->capacity);
    if (!b->data) die("memory");
  }
  return b->data + b->end;
}

static void frame(char type, uint32_t id, const void *payload, uint32_t length) {
  char *p = reserve(&to_host, HEADER + length);
  memcpy(p, &length, 4);
  p[4] = type;
  memcpy(p + 5, &id, 4);
  if (length) memcpy(p + HEADER, payload, length);
  to_host.end += HEADER + length;
}

static void frame_u32(char type, uint32_t id, uint32_t value) { frame(type, id, &value, 4); }

static struct process *find(uint32_t id) {
  for (int i = 0; i < MAX_PROCESSES; i++)
    if (processes[i].id == id) return &processes[i];
  return NULL;
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void release_if_done(struct process *p) {
  if (p->pid || p->out[0] >= 0 || p->out[1] >= 0) return;
  close_fd(&p->in);
  free(p->input.data);
  memset(p, 0, sizeof(*p));
}

/* What the child could not do, sent through a pipe that closes by itself when exec succeeds. */
struct failure {
  int32_t error;
  char step[8];
};

static void child(char **argv, char **env, const char *cwd, const int fds[3], int tty, int report) {
  struct failure failure = {0};
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  setsid();
  if (tty) ioctl(fds[0], TIOCSCTTY, 0);
  for (int i = 0; i < 3; i++) dup2(fds[i], i);
  if (chdir(cwd)) {
    failure.error = errno;
    strcpy(failure.step, "chdir");
  } else {
    /* execvpe() searches the PATH of the caller's environment, so that has to be ours. */
    environ = env;
    execvp(argv[0], argv);
    failure.error = errno;
    strcpy(failure.step, "exec");
  }
  if (write(report, &failure, sizeof(failure)) < 0) _exit(126);
  _exit(127);
}

static void make_pipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC)) die("pipe");
}

/* Payload: u8 tty, u16 columns, u16 rows, then NUL-ended strings: cwd, argc, argv..., envc, env... */
static void run(uint32_t id, char *payload, uint32_t length) {
  struct process *p = find(0);
  if (!p || length < 8 || payload[length - 1]) {
    frame('E', id, "\x0b\0\0\0fork", 8);
    return;
  }
  uint16_t size[2];
  memcpy(size, payload + 1, 4);
  int tty = payload[0];
  char *s = payload + 5, *cwd = s;
  char **lists[2];
  s += strlen(s) + 1;
  for (int l = 0; l < 2; l++) {
    int count = atoi(s);
    s += strlen(s) + 1;
    lists[l] = calloc(count + 1, sizeof(char *));
    for (int i = 0; i < count && s < payload + length; i++, s += strlen(s) + 1) lists[l][i] = s;
  }

  int report[2], in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, fds[3];
  make_pipe(report);
  if (tty) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) || unlockpt(master)) die("pty");
    struct winsize window = {.ws_col = size[0], .ws_row = size[1]};
    ioctl(master, TIOCSWINSZ, &window);
    fds[0] = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    fds[1] = fds[2] = fds[0];
    out[0] = master;
    in[1] = fcntl(master, F_DUPFD_CLOEXEC, 3);
  } else {
    make_pipe(in);
    make_pipe(out);
    make_pipe(err);
    fds[0] = in[0];
    fds[1] = out[1];
    fds[2] = err[1];
  }
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) child(lists[0], lists[1], cwd, fds, tty, report[1]);
  close(report[1]);
  close(fds[0]);
  if (!tty) {
    close(fds[1]);
    close(fds[2]);
  }
  free(lists[0]);
  free(lists[1]);

  struct failure failure;
  int failed = read(report[0], &failure, sizeof(failure)) == sizeof(failure);
  close(report[0]);
  if (failed) {
    waitpid(pid, NULL, 0);
    close(in[1]);
    close(out[0]);
    if (err[0] >= 0) close(err[0]);
    char message[4 + sizeof(failure.step)];
    memcpy(message, &failure.error, 4);
    memcpy(message + 4, failure.step, sizeof(failure.step));
    frame('E', id, message, 4 + strlen(failure.step));
    return;
  }
  *p = (struct process){.id = id, .pid = pid, .in = in[1], .out = {out[0], err[0]}, .window = {WINDOW, WINDOW}};
  for (int i = 0; i < 2; i++)
    if (p->out[i] >= 0) fcntl(p->out[i], F_SETFL, O_NONBLOCK);
  fcntl(p->in, F_SETFL, O_NONBLOCK | (tty ? O_RDWR : 0));
}

static void feed(struct process *p) {
  while (p->in >= 0 && pending(&p->input)) {
    ssize_t n = write(p->in, p->input.data + p->input.start, pending(&p->input));
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      /* Nobody reads any more: swallow what is to come, so that the sender is not left waiting. */
      close_fd(&p->in);
      n = pending(&p->input);
    }
    p->input.start += n;
    frame_u32('a', p->id, n);
  }
  if (p->in_ended && !pending(&p->input)) close_fd(&p->in);
}

/* Reads what one stream of a process has, within its window; returns whether there may be more. */
static int collect(struct process *p, int stream) {
  char chunk[CHUNK];
  size_t want = p->window[stream] < CHUNK ? p->window[stream] : CHUNK;
  if (p->out[stream] < 0 || !want) return 0;
  ssize_t n = read(p->out[stream], chunk, want);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  /* The master of a terminal says EIO where a pipe says end of file. */
  if (n <= 0) {
    close_fd(&p->out[stream]);
    frame('1' + stream, p->id, NULL, 0);
    return 0;
  }
  p->window[stream] -= n;
  frame('1' + stream, p->id, chunk, n);
  return 1;
}

/* What was written before the exit is delivered before the news of the exit. */
static void finish(struct process *p) {
  for (int stream = 0; stream < 2; stream++) {
    /* A pipe's content is bounded, and an end that nobody reads of must not be kept from whoever waits for it. */
    p->window[stream] += PIPE_BYTES;
    while (collect(p, stream)) {
    }
  }
  unsigned char result[2] = {WIFSIGNALED(p->status), WIFSIGNALED(p->status) ? WTERMSIG(p->status) : WEXITSTATUS(p->status)};
  frame('X', p->id, result, 2);
  p->exited = 0;
  p->pid = 0;
  release_if_done(p);
}

static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
    for (int i = 0; i < MAX_PROCESSES; i++)
      if (processes[i].id && processes[i].pid == pid) {
        processes[i].status = status;
        processes[i].exited = 1;
      }
}

static void handle(char type, uint32_t id, char *payload, uint32_t length) {
  if (type == 'R') return run(id, payload, length);
  if (type == 'P') {
    sync();
    return frame('Z', 0, NULL, 0);
  }
  struct process *p = id ? find(id) : NULL;
  if (!p) return;
  if (type == 'I' && !length) p->in_ended = 1;
  if (type == 'I' && length) {
    memcpy(reserve(&p->input, length), payload, length);
    p->input.end += length;
  }
  if (type == 'I') feed(p);
  if (type == 'S' && length == 1 && p->pid && !p->exited) kill(-p->pid, payload[0]);
  if (type == 'W' && length == 4 && p->out[0] >= 0) {
    uint16_t size[2];
    memcpy(size, payload, 4);
    struct winsize window = {.ws_col = size[0], .ws_row = size[1]};
    ioctl(p->out[0], TIOCSWINSZ, &window);
  }
  if (type == 'A' && length == 5 && (payload[0] == 1 || payload[0] == 2)) {
    uint32_t more;
    memcpy(&more, payload + 1, 4);
    p->window[payload[0] - 1] += more;
  }
}

static void read_line(void) {
  char *p = reserve(&from_host, 65536);
  ssize_t n = read(line, p, 65536);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) die("the line to the host");
  from_host.end += n;
  frame_u32('L', 0, n);
  while (pending(&from_host) >= HEADER) {
    char *head = from_host.data + from_host.start;
    uint32_t length, id;
    memcpy(&length, head, 4);
    memcpy(&id, head + 5, 4);
    if (length > FRAME_LIMIT) {
      errno = EPROTO;
      die("frame too long");
    }
    if (pending(&from_host) < HEADER + length) return;
    handle(head[4], id, head + HEADER, length);
    from_host.start += HEADER + length;
  }
}

static void write_line(void) {
  while (pending(&to_host)) {
    ssize_t n = write(line, to_host.data + to_host.start, pending(&to_host));
    if (n < 0 && errno != EINTR) return;
    if (n > 0) to_host.start += n;
  }
}

static void enter(const char *root) {
  /* Not chroot(): a process in one may not make user namespaces. The old root goes away under the new one. */
  if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) die(root);
}

static int open_line(const char *path) {
  struct termios raw;
  int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || tcgetattr(fd, &raw)) die(path);
  cfmakeraw(&raw);
  if (tcsetattr(fd, TCSANOW, &raw)) die(path);
  return fd;
}

int run_agent(int argc, char **argv) {
  if (argc != 2) {
    errno = EINVAL;
    die("agent ROOT TTY");
  }
  enter(argv[0]);
  line = open_line(argv[1]);
  struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY}, files = {65536, 1048576};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  setrlimit(RLIMIT_NOFILE, &files);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  signal(SIGPIPE, SIG_IGN);
  int children = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
  if (children < 0) die("signalfd");
  for (int i = 0; i < MAX_PROCESSES; i++) processes[i].in = processes[i].out[0] = processes[i].out[1] = -1;
  frame('U', 0, NULL, 0);

  for (;;) {
    struct pollfd fds[2 + 3 * MAX_PROCESSES];
    struct process *owner[2 + 3 * MAX_PROCESSES];
    int n = 2, room = pending(&to_host) < QUEUE_LIMIT;
    fds[0] = (struct pollfd){.fd = line, .events = POLLIN | (pending(&to_host) ? POLLOUT : 0)};
    fds[1] = (struct pollfd){.fd = children, .events = POLLIN};
    for (struct process *p = processes; p < processes + MAX_PROCESSES; p++) {
      if (!p->id) continue;
      for (int stream = 0; stream < 2; stream++)
        if (p->out[stream] >= 0 && p->window[stream] > 0 && room) {
          fds[n] = (struct pollfd){.fd = p->out[stream], .events = POLLIN};
          owner[n++] = p;
        }
      if (p->in >= 0 && pending(&p->input)) {
        fds[n] = (struct pollfd){.fd = p->in, .events = POLLOUT};
        owner[n++] = p;
      }
    }
    if (poll(fds, n, -1) < 0 && errno != EINTR) die("poll");
    if (fds[0].revents & POLLIN) read_line();
    if (fds[1].revents) {
      struct signalfd_siginfo info;
      while (read(children, &info, sizeof(info)) > 0) {
      }
      reap();
    }
    for (int i = 2; i < n; i++) {
      struct process *p = owner[i];
      if (!fds[i].revents || !p->id) continue;
      if (fds[i].fd == p->in) feed(p);
      for (int stream = 0; stream < 2; stream++)
        if (fds[i].fd == p->out[stream] && !p->exited) collect(p, stream);
      release_if_done(p);
    }
    for (struct process *p = processes; p < processes + MAX_PROCESSES; p++)
      if (p->id && p->exited) finish(p);
    write_line();
  }
}

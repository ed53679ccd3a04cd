/*
 * softrdma-helper: the few things that neither a shell nor Node.js can do.
 *
 *   agent  ROOT TTY      inside the kernel, PID 1: enters ROOT, then runs commands for the host over TTY
 *   root   ROOT DIR...   inside the kernel: lays out the file system
 *   launch [-k SOCKET SIDE BASE] PROGRAM ARG...
 *                        on the host: runs PROGRAM on the keeper's cables; leaves nothing of it when it or the parent ends
 *   keeper SOCKET COUNT  on the host: owns COUNT cables (socket pairs) until its standard input ends
 *   lock   FILE          on the host: holds FILE's lock until its standard input ends
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper.h"

void die(const char *what) {
  fprintf(stderr, "softrdma-helper: %s: %s\n", what, strerror(errno));
  exit(125);
}

int main(int argc, char **argv) {
  const char *role = argc > 1 ? argv[1] : "";
  if (!strcmp(role, "agent")) return run_agent(argc - 2, argv + 2);
  if (!strcmp(role, "root")) return run_root(argc - 2, argv + 2);
  if (!strcmp(role, "launch")) return run_launch(argc - 2, argv + 2);
  if (!strcmp(role, "keeper")) return run_keeper(argc - 2, argv + 2);
  if (!strcmp(role, "lock")) return run_lock(argc - 2, argv + 2);
  fprintf(stderr, "usage: softrdma-helper agent|root|launch|keeper|lock ...\n");
  return 125;
}

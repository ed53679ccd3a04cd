/*
 * What a C program pays for an operation on the null device: fills a list of work requests, posts it with one call,
 * polls until all have completed. The loop of bench/null-verbs/loop.ts, in C.
 *
 *   loop LIST SIGNAL_EVERY SECONDS
 *
 * prints nanoseconds of the processor per operation.
 */
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEPTH = 256, BYTES = 64, MAX_LIST = DEPTH };

/* Time of the processor, so that other programs do not count. */
static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void to_state(struct ibv_qp *qp, enum ibv_qp_state state) {
  struct ibv_qp_attr attr = {.qp_state = state};
  if (ibv_modify_qp(qp, &attr, IBV_QP_STATE) != 0) fail("ibv_modify_qp");
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const int list = atoi(argv[1]);
  const int every = atoi(argv[2]);
  const double duration = atof(argv[3]) * 1e9;
  if (list < 1 || list > MAX_LIST || every < 1 || list % every != 0) return 2;

  struct ibv_device **devices = ibv_get_device_list(NULL);
  if (devices == NULL || devices[0] == NULL) fail("ibv_get_device_list");
  struct ibv_context *context = ibv_open_device(devices[0]);
  struct ibv_pd *pd = ibv_alloc_pd(context);
  struct ibv_comp_channel *channel = ibv_create_comp_channel(context);
  struct ibv_cq *cq = ibv_create_cq(context, DEPTH, NULL, channel, 0);
  static char memory[DEPTH * BYTES];
  struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
  struct ibv_qp_init_attr init = {
      .send_cq = cq,
      .recv_cq = cq,
      .qp_type = IBV_QPT_RC,
      .cap = {.max_send_wr = DEPTH, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
  };
  struct ibv_qp *qp = ibv_create_qp(pd, &init);
  if (qp == NULL) fail("ibv_create_qp");
  to_state(qp, IBV_QPS_RTS);

  static struct ibv_send_wr wrs[MAX_LIST];
  static struct ibv_sge sges[MAX_LIST];
  static struct ibv_wc wcs[MAX_LIST];
  uint64_t posted = 0;
  uint64_t start_count = 0;
  double start = now();
  const double first = start;
  for (;;) {
    for (int turn = 0; turn < 1000; ++turn) {
      for (int i = 0; i < list; ++i) {
        struct ibv_send_wr *wr = &wrs[i];
        const uint64_t addr = (uintptr_t)memory + (posted + (uint64_t)i) % DEPTH * BYTES;
        sges[i] = (struct ibv_sge){addr, BYTES, mr->lkey};
        wr->wr_id = posted + (uint64_t)i;
        wr->next = i + 1 < list ? wr + 1 : NULL;
        wr->sg_list = &sges[i];
        wr->num_sge = 1;
        wr->opcode = IBV_WR_RDMA_WRITE;
        wr->send_flags = (i + 1) % every == 0 ? IBV_SEND_SIGNALED : 0;
        wr->wr.rdma.remote_addr = addr;
        wr->wr.rdma.rkey = mr->rkey;
      }
      struct ibv_send_wr *bad;
      if (ibv_post_send(qp, wrs, &bad) != 0) fail("ibv_post_send");
      posted += (uint64_t)list;
      for (int left = list / every; left > 0;) {
        const int got = ibv_poll_cq(cq, list, wcs);
        if (got < 0) fail("ibv_poll_cq");
        for (int i = 0; i < got; ++i) {
          if (wcs[i].status != IBV_WC_SUCCESS || wcs[i].wr_id >= posted) return 1;
        }
        left -= got;
      }
    }
    const double time = now();
    /* The first tenth warms up. */
    if (start == first && time - first > duration / 10) {
      start = time;
      start_count = posted;
    }
    if (time - first > duration) {
      printf("%.2f\n", (time - start) / (double)(posted - start_count));
      return 0;
    }
  }
}

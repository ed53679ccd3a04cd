/*
 * Stands in for libibverbs and the device behind it, by LD_PRELOAD: one device, "null0", that completes every send
 * at once and moves nothing. What is left of a program's time is its own.
 *
 * It does what every provider of rdma-core has to do for a work request before a device comes into it: takes a lock,
 * looks for room, writes a descriptor of 64 bytes into a send queue and remembers wr_id; and for a completion: takes a
 * lock, and makes an ibv_wc of an entry of the completion queue and of the wr_id that it stands for.
 *
 * Only what a queue pair needs that is made and connected by hand is here; the rest stays libibverbs' own, which
 * finds no device. Receives are taken and never completed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Defined as functions below. */
#undef ibv_query_port
#undef ibv_reg_mr

enum { MAX_WR = 1 << 15, MAX_CQE = 1 << 20, MAX_SGE = 16, MAX_INLINE = 256 };

struct null_qp;

/* An entry of a completion queue. */
struct null_cqe {
  struct null_qp *qp;
  uint32_t index; /* of the descriptor */
  uint32_t opcode;
};

/* A work request as a device would read it. */
struct null_wqe {
  uint32_t opcode;
  uint32_t flags;
  uint32_t imm_data;
  uint32_t rkey;
  uint64_t remote_addr;
  uint32_t num_sge;
  uint32_t length;
  uint64_t addr; /* of the first SGE; further ones would follow */
  uint32_t lkey;
  uint32_t reserved[5];
};

struct null_cq {
  struct ibv_cq cq;
  pthread_spinlock_t lock;
  uint32_t head;
  uint32_t tail;
  uint32_t mask;
  int armed;
  struct null_cqe entries[];
};

/* The events of a channel are those of its queues that wait in `pending`; the eventfd makes it readable. */
struct null_channel {
  struct ibv_comp_channel channel;
  struct null_cq *pending;
};

struct null_qp {
  struct ibv_qp qp;
  struct ibv_qp_init_attr init;
  struct ibv_qp_attr attr;
  pthread_spinlock_t lock;
  uint32_t head;
  uint32_t tail;
  uint32_t mask;
  struct null_wqe *wqes;
  uint64_t *wr_ids;
};

static struct ibv_device device = {
    .node_type = IBV_NODE_CA,
    .transport_type = IBV_TRANSPORT_IB,
    .name = "null0",
    .dev_name = "uverbs-null0",
    .dev_path = "/dev/null",
};
static uint32_t next_key = 0x1000;
static uint32_t next_qpn = 0x11;

static enum ibv_wc_opcode completed_opcode(enum ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ:
      return IBV_WC_RDMA_READ;
    default:
      return IBV_WC_SEND;
  }
}

static void describe(const struct ibv_send_wr *wr, struct null_wqe *wqe) {
  uint32_t length = 0;
  for (int i = 0; i < wr->num_sge; ++i) length += wr->sg_list[i].length;
  *wqe = (struct null_wqe){
      .opcode = wr->opcode,
      .flags = wr->send_flags,
      .imm_data = wr->imm_data,
      .rkey = wr->wr.rdma.rkey,
      .remote_addr = wr->wr.rdma.remote_addr,
      .num_sge = (uint32_t)wr->num_sge,
      .length = length,
      .addr = wr->num_sge > 0 ? wr->sg_list[0].addr : 0,
      .lkey = wr->num_sge > 0 ? wr->sg_list[0].lkey : 0,
  };
}

static int wake(struct null_cq *cq) {
  struct null_channel *channel = (struct null_channel *)cq->cq.channel;
  const uint64_t one = 1;
  cq->armed = 0;
  channel->pending = cq;
  return write(channel->channel.fd, &one, sizeof one) == sizeof one ? 0 : errno;
}

static int post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
  struct null_qp *qp = (struct null_qp *)ibqp;
  struct null_cq *cq = (struct null_cq *)ibqp->send_cq;
  int rc = 0;
  pthread_spin_lock(&qp->lock);
  pthread_spin_lock(&cq->lock);
  const uint32_t before = cq->tail;
  for (; wr != NULL; wr = wr->next) {
    const int signalled = qp->init.sq_sig_all || (wr->send_flags & IBV_SEND_SIGNALED) != 0;
    if (qp->tail - qp->head > qp->mask || (signalled && cq->tail - cq->head > cq->mask)) {
      *bad = wr;
      rc = ENOMEM;
      break;
    }
    const uint32_t index = qp->tail++;
    describe(wr, &qp->wqes[index & qp->mask]);
    qp->wr_ids[index & qp->mask] = wr->wr_id;
    if (signalled) {
      cq->entries[cq->tail++ & cq->mask] = (struct null_cqe){qp, index, completed_opcode(wr->opcode)};
    }
  }
  if (cq->armed && cq->tail != before) {
    const int err = wake(cq);
    if (rc == 0) rc = err;
  }
  pthread_spin_unlock(&cq->lock);
  pthread_spin_unlock(&qp->lock);
  return rc;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad) {
  (void)qp;
  (void)wr;
  (void)bad;
  return 0;
}

static int poll_cq(struct ibv_cq *ibcq, int count, struct ibv_wc *wc) {
  struct null_cq *cq = (struct null_cq *)ibcq;
  int got = 0;
  pthread_spin_lock(&cq->lock);
  for (; got < count && cq->head != cq->tail; ++got) {
    const struct null_cqe *cqe = &cq->entries[cq->head++ & cq->mask];
    struct null_qp *qp = cqe->qp;
    wc[got].wr_id = qp->wr_ids[cqe->index & qp->mask];
    wc[got].status = IBV_WC_SUCCESS;
    wc[got].opcode = cqe->opcode;
    wc[got].vendor_err = 0;
    wc[got].wc_flags = 0;
    wc[got].qp_num = qp->qp.qp_num;
    qp->head = cqe->index + 1;
  }
  pthread_spin_unlock(&cq->lock);
  return got;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited_only) {
  (void)solicited_only;
  ((struct null_cq *)cq)->armed = 1;
  return 0;
}

struct ibv_device **ibv_get_device_list(int *count) {
  struct ibv_device **list = calloc(2, sizeof *list);
  if (list == NULL) return NULL;
  list[0] = &device;
  if (count != NULL) *count = 1;
  return list;
}

void ibv_free_device_list(struct ibv_device **list) { free(list); }

const char *ibv_get_device_name(struct ibv_device *dev) { return dev->name; }

__be64 ibv_get_device_guid(struct ibv_device *dev) {
  (void)dev;
  return 0;
}

int ibv_get_device_index(struct ibv_device *dev) {
  (void)dev;
  return 0;
}

/* No rdma_cm: the device is opened by libibverbs. */
struct ibv_context **rdma_get_devices(int *count) {
  if (count != NULL) *count = 0;
  errno = ENODEV;
  return NULL;
}

struct ibv_context *ibv_open_device(struct ibv_device *dev) {
  struct ibv_context *context = calloc(1, sizeof *context);
  if (context == NULL) return NULL;
  context->device = dev;
  context->ops.poll_cq = poll_cq;
  context->ops.req_notify_cq = req_notify_cq;
  context->ops.post_send = post_send;
  context->ops.post_recv = post_recv;
  context->cmd_fd = -1;
  context->async_fd = eventfd(0, EFD_CLOEXEC);
  context->num_comp_vectors = 1;
  pthread_mutex_init(&context->mutex, NULL);
  return context;
}

int ibv_close_device(struct ibv_context *context) {
  close(context->async_fd);
  free(context);
  return 0;
}

int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *event) {
  (void)context;
  (void)event;
  errno = EAGAIN;
  return -1;
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr) {
  (void)context;
  memset(attr, 0, sizeof *attr);
  attr->max_mr_size = UINT64_MAX;
  attr->max_qp = attr->max_cq = attr->max_mr = attr->max_pd = 1 << 16;
  attr->max_qp_wr = MAX_WR;
  attr->max_sge = attr->max_sge_rd = MAX_SGE;
  attr->max_cqe = MAX_CQE;
  attr->max_qp_rd_atom = attr->max_qp_init_rd_atom = 16;
  attr->phys_port_cnt = 1;
  return 0;
}

int ibv_query_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *compat) {
  struct ibv_port_attr *attr = (struct ibv_port_attr *)compat;
  (void)context;
  (void)port;
  memset(attr, 0, sizeof *attr);
  attr->state = IBV_PORT_ACTIVE;
  attr->max_mtu = attr->active_mtu = IBV_MTU_4096;
  attr->gid_tbl_len = 1;
  attr->pkey_tbl_len = 1;
  attr->max_msg_sz = 1u << 31;
  attr->link_layer = IBV_LINK_LAYER_ETHERNET;
  return 0;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context) {
  struct ibv_pd *pd = calloc(1, sizeof *pd);
  if (pd != NULL) pd->context = context;
  return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd) {
  free(pd);
  return 0;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access) {
  struct ibv_mr *mr = calloc(1, sizeof *mr);
  (void)iova;
  (void)access;
  if (mr == NULL) return NULL;
  mr->context = pd->context;
  mr->pd = pd;
  mr->addr = addr;
  mr->length = length;
  mr->lkey = mr->rkey = next_key++ << 8;
  return mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access) {
  return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, (unsigned int)access);
}

int ibv_dereg_mr(struct ibv_mr *mr) {
  free(mr);
  return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context) {
  struct null_channel *channel = calloc(1, sizeof *channel);
  if (channel == NULL) return NULL;
  channel->channel.context = context;
  channel->channel.fd = eventfd(0, EFD_CLOEXEC);
  return &channel->channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel) {
  close(channel->fd);
  free(channel);
  return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context,
                             struct ibv_comp_channel *channel, int comp_vector) {
  uint32_t capacity = 1;
  (void)comp_vector;
  while (capacity < (uint32_t)cqe) capacity *= 2;
  struct null_cq *cq = calloc(1, sizeof *cq + capacity * sizeof *cq->entries);
  if (cq == NULL) return NULL;
  cq->cq.context = context;
  cq->cq.channel = channel;
  cq->cq.cq_context = cq_context;
  cq->cq.cqe = (int)capacity;
  cq->mask = capacity - 1;
  pthread_spin_init(&cq->lock, PTHREAD_PROCESS_PRIVATE);
  return &cq->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq) {
  free(cq);
  return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ibchannel, struct ibv_cq **cq, void **cq_context) {
  struct null_channel *channel = (struct null_channel *)ibchannel;
  uint64_t count;
  if (read(ibchannel->fd, &count, sizeof count) != sizeof count) return -1;
  *cq = &channel->pending->cq;
  *cq_context = channel->pending->cq.cq_context;
  return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int count) {
  (void)cq;
  (void)count;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init) {
  if (init->cap.max_inline_data > MAX_INLINE || init->cap.max_send_wr > MAX_WR) {
    errno = EINVAL;
    return NULL;
  }
  uint32_t capacity = 1;
  while (capacity < init->cap.max_send_wr) capacity *= 2;
  struct null_qp *qp = calloc(1, sizeof *qp);
  struct null_wqe *wqes = aligned_alloc(64, capacity * sizeof *wqes);
  uint64_t *wr_ids = calloc(capacity, sizeof *wr_ids);
  if (qp == NULL || wqes == NULL || wr_ids == NULL) {
    free(qp);
    free(wqes);
    free(wr_ids);
    return NULL;
  }
  qp->init = *init;
  qp->qp.context = pd->context;
  qp->qp.qp_context = init->qp_context;
  qp->qp.pd = pd;
  qp->qp.send_cq = init->send_cq;
  qp->qp.recv_cq = init->recv_cq;
  qp->qp.qp_num = next_qpn++;
  qp->qp.state = IBV_QPS_RESET;
  qp->qp.qp_type = init->qp_type;
  qp->attr.port_num = 1;
  qp->mask = capacity - 1;
  qp->wqes = wqes;
  qp->wr_ids = wr_ids;
  pthread_spin_init(&qp->lock, PTHREAD_PROCESS_PRIVATE);
  return &qp->qp;
}

int ibv_destroy_qp(struct ibv_qp *ibqp) {
  struct null_qp *qp = (struct null_qp *)ibqp;
  free(qp->wqes);
  free(qp->wr_ids);
  free(qp);
  return 0;
}

int ibv_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask) {
  struct null_qp *qp = (struct null_qp *)ibqp;
  if ((mask & IBV_QP_STATE) != 0) qp->attr.qp_state = ibqp->state = attr->qp_state;
  return 0;
}

int ibv_query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init) {
  const struct null_qp *qp = (const struct null_qp *)ibqp;
  (void)mask;
  *attr = qp->attr;
  attr->cap = qp->init.cap;
  *init = qp->init;
  return 0;
}

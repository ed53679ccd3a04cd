// What SendQueue makes of every answer that a provider can give to ibv_post_send(3). No device gives most of
// them, because what would be refused is refused before: the provider here is a function.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../../../native/core/send_queue.h"

namespace {

struct Answer {
  const char* name;
  int rc;
  int error;  // errno
  int bad;    // index of the work request that bad_wr names; -1: none
};

Answer answer;

int FakePost(ibv_qp*, ibv_send_wr* wr, ibv_send_wr** bad_wr) {
  for (int i = 0; i < answer.bad; ++i) wr = wr->next;
  if (answer.bad >= 0) *bad_wr = wr;
  errno = answer.error;
  return answer.rc;
}

}  // namespace

int main() {
  constexpr uint32_t kCount = 3;
  const Answer answers[] = {
      {"success", 0, 0, -1},
      {"0 and bad_wr", 0, 0, 1},
      {"-1 with errno", -1, ENOMEM, 2},
      {"-errno", -EINVAL, 0, 0},
      {"+errno", ENOMEM, 0, 1},
      {"no bad_wr", -ENOTCONN, 0, -1},
  };
  for (const Answer& next : answers) {
    answer = next;
    ibv_context context = {};
    context.ops.post_send = FakePost;
    ibv_qp qp = {};
    qp.context = &context;
    qp.state = IBV_QPS_RTS;

    rdma::QueueLimits limits = {};
    limits.max_wr = limits.capacity = 4;
    limits.max_message = 1 << 20;
    limits.rules = &rdma::kGenericRules;
    limits.type = IBV_QPT_RC;
    std::vector<uint64_t> memory(rdma::WorkRing::Bytes(limits.capacity, 0, 0) / 8);
    const rdma::WorkRing ring = rdma::WorkRing::At(memory.data(), limits.capacity, 0);
    for (uint32_t i = 0; i < kCount; ++i) ring.slots[i].opcode = IBV_WR_SEND;

    rdma::SendQueue queue(limits, std::make_shared<rdma::KeyTable>(), nullptr);
    queue.Attach(ring);
    rdma::PostStatus status = {};
    const int err = queue.Post(&qp, 0, 0, kCount, &status);
    std::printf("%s: err %d posted %u refused %u check %u in flight %u\n", next.name, err, status.posted,
                status.wr_index, status.check, queue.pins().outstanding());
  }
  return 0;
}

#pragma once

#include "work_queue.h"

namespace rdma {

/// Checks slots, turns them into work requests of libibverbs and posts them, most with one call.
class SendQueue : public WorkQueue {
 public:
  SendQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);

  /// Posts [count] slots from sequence number [first]. Returns 0, or an errno with the rest in [status].
  int Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);

 private:
  /// By which call a work request goes.
  enum class Route : uint8_t {
    kList,      // ibv_post_send(3)
    kExtended,  // ibv_wr_post(3)
  };

  /// What a batch came to: [bad] is the index of the first work request not posted. A provider that fails
  /// without naming one leaves open what it saw of [bad] and before.
  struct Outcome {
    int rc;
    uint32_t bad;
    bool named;
  };

  // send_check.cc
  bool Ready(ibv_qp* qp, PostStatus* status) noexcept;
  bool CheckOpcode(uint32_t opcode, PostStatus* status) const noexcept;
  bool CheckFlags(const WorkRequestSlot& slot, PostStatus* status) const noexcept;
  bool CheckRemote(const WorkRequestSlot& slot, uint32_t num_sge, uint64_t length,
                   PostStatus* status) const noexcept;

  bool Prepare(uint32_t seq, uint32_t index, PostStatus* status);
  bool TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                       uint32_t* num_sge, uint64_t* length);
  void SplitAtPage(ibv_sge* sges, uint32_t* num_sge) const noexcept;
  bool FillAddress(uint32_t seq, const WorkRequestSlot& slot, ibv_send_wr* wr, PostStatus* status);
  void Fill(const WorkRequestSlot& slot, ibv_send_wr* wr) const noexcept;

  Outcome PostList(ibv_qp* qp, uint32_t begin, uint32_t end);
  Outcome PostExtended(ibv_qp* qp, uint32_t begin, uint32_t end);
  Outcome PostRoutes(ibv_qp* qp, uint32_t count);

  const uint32_t opcodes_;  // that this queue takes (opcodes.h)
  bool ready_ = false;      // has been in RTS, where the state has to be queried
  std::vector<ibv_send_wr> wrs_;
  std::vector<Route> routes_;
};

}  // namespace rdma

#pragma once

#include "memory_window.h"
#include "work_queue.h"

namespace rdma {

/// Checks slots, turns them into work requests of libibverbs and posts them, most with one call.
class SendQueue : public WorkQueue {
 public:
  /// [owner] is the queue pair, which memory windows know by it.
  SendQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys, const void* owner);

  /// Posts [count] slots from sequence number [first]. Returns 0, or an errno with the rest in [status].
  int Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);

  /// Retires [seq], which has completed, and what it implies; how many that are (PinTable::Complete).
  uint32_t Complete(uint32_t seq, bool success) {
    const uint32_t retired = pins_.Complete(seq);
    if (retired != 0 && !in_flight_.empty()) ConcludeChanges(seq, success);
    return retired;
  }
  /// Retires everything, after the queue pair has gone.
  void RetireAll();

 private:
  /// By which call a work request goes.
  enum class Route : uint8_t {
    kList,       // ibv_post_send(3)
    kExtended,   // ibv_wr_post(3)
    kBind,       // ibv_post_send(3), alone: librxe reads the window's rkey when it is called
    kBindType1,  // ibv_bind_mw(3)
  };

  /// What a work request of the batch in hand does to a window.
  struct WindowChange {
    std::shared_ptr<MemoryWindow> window;
    uint32_t index;
    uint32_t seq;
    MemoryRegion* region;  // pinned by the work request; null: it unbinds
    WindowRange range;
  };
  struct ChangeInFlight {
    std::shared_ptr<MemoryWindow> window;
    uint32_t seq;
  };
  struct WindowState {
    uint32_t rkey;
    bool bound;
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
  /// What Prepare does for most: a plain opcode with its SGE in the slot, in which nothing is wrong. False:
  /// it is none of these, and nothing has been done.
  bool PrepareCommon(uint32_t seq, uint32_t index, const WorkRequestSlot& slot);
  /// What Prepare does for all but the plain opcodes.
  bool PrepareOther(uint32_t seq, uint32_t index, const WorkRequestSlot& slot, PostStatus* status,
                    uint32_t* num_sge, uint64_t* length);
  bool TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                       uint32_t* num_sge, uint64_t* length);
  void SplitAtPage(ibv_sge* sges, uint32_t* num_sge) const noexcept;
  bool FillAddress(uint32_t seq, const WorkRequestSlot& slot, ibv_send_wr* wr, PostStatus* status);
  void Fill(const WorkRequestSlot& slot, ibv_send_wr* wr) const noexcept;

  // send_window.cc
  /// As of what has been posted, and of what precedes in the batch.
  WindowState StateOf(const MemoryWindow& window) const noexcept;
  bool PrepareBind(uint32_t seq, uint32_t index, const WorkRequestSlot& slot, ibv_send_wr* wr,
                   PostStatus* status);
  bool PrepareInvalidate(uint32_t seq, uint32_t index, const WorkRequestSlot& slot, PostStatus* status);
  int PostType1(ibv_qp* qp, ibv_send_wr* wr);
  /// Tells the windows what has been posted, up to the batch's work request [end].
  void NoteChanges(uint32_t end);
  void DropChanges();
  void ConcludeChanges(uint32_t seq, bool success);

  Outcome PostList(ibv_qp* qp, uint32_t begin, uint32_t end);
  Outcome PostExtended(ibv_qp* qp, uint32_t begin, uint32_t end);
  Outcome PostBind(ibv_qp* qp, uint32_t index);
  Outcome PostRoutes(ibv_qp* qp, uint32_t count);

  const uint32_t opcodes_;         // that this queue takes (opcodes.h)
  const uint32_t plain_;           // of these, those that have nothing to check but their SGEs
  const uint32_t common_;          // of these, those for PrepareCommon
  const uint64_t signalled_from_;  // messages of so many bytes complete, whether signalled or not
  bool ready_ = false;             // has been in RTS, where the state has to be queried
  std::vector<ibv_send_wr> wrs_;
  std::vector<Route> routes_;
  const void* const owner_;
  std::vector<WindowChange> changes_;
  size_t noted_ = 0;
  std::vector<ChangeInFlight> in_flight_;
};

}  // namespace rdma

#pragma once

#include <optional>
#include <unordered_map>

#include "completion_queue.h"
#include "memory.h"
#include "shared_recv_queue.h"
#include "xrc_domain.h"

namespace rdma {

/// What a shared receive queue is asked for.
struct SharedReceiveQueueSpec {
  uint32_t max_wr = 0;
  uint32_t max_sge = 0;
  uint32_t limit = 0;  // receives left when IBV_EVENT_SRQ_LIMIT_REACHED is raised; 0 for never
  // Of an XRC queue, else null: its domain, and where its receives complete, whichever queue pair took them.
  std::shared_ptr<XrcDomain> xrcd;
  std::shared_ptr<CompletionQueue> cq;

  const char* syscall() const { return xrcd ? "ibv_create_srq_ex" : "ibv_create_srq"; }
};

/// Receives for several queue pairs (ibv_create_srq(3)). Each completes on the receive completion queue of
/// the queue pair that took it.
///
/// A queue pair that dies may take a receive with it: which one it had taken cannot be told from those that
/// still wait, so all keep what they pin until they complete or the queue is destroyed.
class SharedReceiveQueue : public Object, public CompletionTarget {
 public:
  static std::shared_ptr<SharedReceiveQueue> Create(const std::shared_ptr<ProtectionDomain>& pd,
                                                    const SharedReceiveQueueSpec& spec);

  SharedReceiveQueue(SrqPtr srq, const std::shared_ptr<ProtectionDomain>& pd,
                     std::shared_ptr<CompletionQueue> cq, const QueueLimits& limits);
  ~SharedReceiveQueue() override;

  /// To be called once the queue has its handle: takes the room that an XRC queue needs where it completes.
  void Register();

  const SrqPtr& srq() const { return srq_; }
  /// What the peers of an XRC queue name it by (ibv_get_srq_num(3)).
  uint32_t Number() const;
  SharedRecvQueue& queue() { return queue_; }

  /// That some queue pairs on the shared queue report to one completion queue: the completion queue has room
  /// for all receives, once, and is busy while there are any.
  class Membership {
   public:
    Membership(SharedReceiveQueue* srq, std::shared_ptr<CompletionQueue> cq);
    ~Membership();
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;

   private:
    friend class SharedReceiveQueue;
    SharedReceiveQueue* srq_;
    std::shared_ptr<CompletionQueue> cq_;
  };

  /// To be held by every queue pair that takes receives from here and reports them to [cq], after the queue
  /// pair has this object. Throws Error when the completion queue has no room.
  std::shared_ptr<Membership> Join(const std::shared_ptr<CompletionQueue>& cq);
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

  int PostRecv(uint32_t count, PostStatus* status);
  bool Complete(bool receive, uint32_t name, const ibv_wc& wc, CompletionSlot* slot) override;

  /// Resizes (ibv_modify_srq(3)) to [max_wr] receives in [capacity] slots.
  void Resize(uint32_t max_wr, uint32_t capacity);
  void SetLimit(uint32_t limit);
  ibv_srq_attr Query() const;

 protected:
  void OnClose() override;

 private:
  struct Member {
    std::weak_ptr<CompletionQueue> cq;
    std::weak_ptr<Membership> membership;
  };

  void ResizeKernel(uint32_t max_wr);
  /// Tells the completion queues when the first receive goes in flight and when the last has come back.
  void NoteOutstanding(uint32_t before);

  const std::shared_ptr<Device> device_;
  SrqPtr srq_;
  SharedRecvQueue queue_;
  std::shared_ptr<CompletionQueue> cq_;     // of an XRC queue
  std::shared_ptr<Membership> membership_;  // likewise
  // Entries stay when the queue pairs have gone: completions of theirs may still be in the queue.
  std::unordered_map<CompletionQueue*, Member> members_;
};

}  // namespace rdma

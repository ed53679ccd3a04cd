#pragma once

#include "handles.h"

namespace rdma {

/// A completion and, of an extended queue, the raw device clock at which it was made.
struct Completion {
  ibv_wc wc;
  uint64_t timestamp;
};

/// Takes at most [capacity] completions off a queue that is not extended (ibv_poll_cq(3)). [completions] are
/// zeros: some providers leave fields as they are (Rule::kUnwrittenCompletion). Throws Error when the queue
/// has failed.
uint32_t ReadPlain(const CqHandle& handle, ibv_wc* completions, uint32_t capacity);

/// Takes at most [capacity] completions off the device's queue (ibv_poll_cq(3), or ibv_start_poll(3) of an
/// extended queue). [scratch] has room for as many, and is zeros, before and after. Throws Error when the
/// queue has failed.
uint32_t ReadCompletions(const CqHandle& handle, Completion* completions, ibv_wc* scratch, uint32_t capacity);

}  // namespace rdma

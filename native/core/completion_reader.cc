#include "completion_reader.h"

#include <cerrno>
#include <cstring>

#include "error.h"

namespace rdma {

namespace {

/// The completion that [cq] stands at. Of a failed one only these fields mean anything (ibv_poll_cq(3)).
Completion ReadExtended(ibv_cq_ex* cq) {
  Completion completion = {};
  ibv_wc& wc = completion.wc;
  wc.wr_id = cq->wr_id;
  wc.status = cq->status;
  wc.qp_num = ibv_wc_read_qp_num(cq);
  wc.vendor_err = ibv_wc_read_vendor_err(cq);
  completion.timestamp = ibv_wc_read_completion_ts(cq);
  if (wc.status != IBV_WC_SUCCESS) return completion;
  wc.opcode = ibv_wc_read_opcode(cq);
  wc.wc_flags = ibv_wc_read_wc_flags(cq);
  wc.byte_len = ibv_wc_read_byte_len(cq);
  if ((wc.wc_flags & IBV_WC_WITH_INV) != 0) {
    wc.invalidated_rkey = ibv_wc_read_invalidated_rkey(cq);
  } else if ((wc.wc_flags & IBV_WC_WITH_IMM) != 0) {
    wc.imm_data = ibv_wc_read_imm_data(cq);
  }
  wc.src_qp = ibv_wc_read_src_qp(cq);
  wc.slid = static_cast<uint16_t>(ibv_wc_read_slid(cq));
  wc.sl = ibv_wc_read_sl(cq);
  wc.dlid_path_bits = ibv_wc_read_dlid_path_bits(cq);
  return completion;
}

uint32_t ReadAllExtended(ibv_cq_ex* cq, Completion* completions, uint32_t capacity) {
  ibv_poll_cq_attr attr = {};
  int rc = ibv_start_poll(cq, &attr);
  if (rc == ENOENT) return 0;
  Check(rc, "ibv_start_poll");
  uint32_t got = 0;
  do {
    completions[got++] = ReadExtended(cq);
  } while (got < capacity && (rc = ibv_next_poll(cq)) == 0);
  // An error of ibv_next_poll(3) comes again with the next start; what has been read must be delivered.
  ibv_end_poll(cq);
  return got;
}

void CheckMemory(const CqHandle& handle) {
  if (handle.lost) throw Error("ibv_poll_cq", EIO, "the memory of the completion queue is lost");
}

}  // namespace

uint32_t ReadPlain(const CqHandle& handle, ibv_wc* completions, uint32_t capacity) {
  CheckMemory(handle);
  const int got = ibv_poll_cq(handle.cq, static_cast<int>(capacity), completions);
  if (got < 0) throw Error("ibv_poll_cq", NormaliseErrno(got));
  return static_cast<uint32_t>(got);
}

uint32_t ReadCompletions(const CqHandle& handle, Completion* completions, ibv_wc* scratch,
                         uint32_t capacity) {
  CheckMemory(handle);
  if (handle.extended != nullptr) return ReadAllExtended(handle.extended, completions, capacity);
  const uint32_t got = ReadPlain(handle, scratch, capacity);
  for (uint32_t i = 0; i < got; ++i) completions[i] = {scratch[i], 0};
  std::memset(scratch, 0, got * sizeof *scratch);
  return got;
}

}  // namespace rdma

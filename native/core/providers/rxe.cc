// Soft RoCE: rdma-core providers/rxe, kernel drivers/infiniband/sw/rxe.

#include "../opcodes.h"
#include "rules.h"

namespace rdma {

namespace {

uint32_t Opcodes(ibv_qp_type type) {
  const uint32_t opcodes = OpcodesOf(type);
  // The kernel has neither for UC (sw/rxe/rxe_req.c next_opcode_uc, sw/rxe/rxe_opcode.c rxe_wr_opcode_info).
  if (type == IBV_QPT_UC) return opcodes & ~(OpcodeBit(IBV_WR_SEND_WITH_INV) | OpcodeBit(IBV_WR_LOCAL_INV));
  return opcodes;
}

constexpr Quirk kQuirks[] = {
    {Rule::kModifyUnchecked, "modify-unchecked",
     "ibv_modify_qp without a state takes any attribute in any state: the library has a table of its own",
     "kernel sw/rxe/rxe_qp.c rxe_qp_from_attr, __qp_chk_state"},
    {Rule::kDrainBlocksReset, "drain-blocks-reset",
     "a queue pair in SQD whose send queue still drains refuses all but ERR: the way to RESET is by ERR",
     "kernel sw/rxe/rxe_qp.c __qp_chk_state"},
    {Rule::kNoSqe, "no-sqe",
     "a failed send moves a UC or UD queue pair to ERR, never to SQE: the state is queried after the error",
     "kernel sw/rxe/rxe_req.c rxe_requester, rxe_qp_error"},
    {Rule::kResizeUnmaps, "resize-unmaps",
     "a completion queue or shared receive queue whose new memory cannot be mapped is left without any, and "
     "its next use crashes: it is closed; a resize to the size that there is, which would not show, is left "
     "out",
     "rdma-core providers/rxe/rxe.c rxe_resize_cq, rxe_modify_srq"},
    {Rule::kExtendedPoll, "extended-poll",
     "ibv_end_poll unlocks again what ibv_next_poll has unlocked when the queue ran empty: completions are "
     "taken by ibv_poll_cq(3) only, and extended queues are refused; it has no timestamps to offer",
     "rdma-core 44 providers/rxe/rxe.c cq_next_poll, cq_end_poll"},
    {Rule::kZeroBasedUnknown, "zero-based-unknown",
     "ZERO_BASED is refused: regions get an iova of 0 instead, which is the same (ibv_reg_mr(3))",
     "kernel sw/rxe/rxe_verbs.h RXE_ACCESS_SUPPORTED_MR"},
    {Rule::kOnDemandIova, "on-demand-iova",
     "the pages of an ON_DEMAND region are looked up by iova as if it were the address of the memory: "
     "another "
     "iova is refused",
     "kernel sw/rxe/rxe_odp.c rxe_odp_map_range_and_lock"},
    {Rule::kOnDemandOffset, "on-demand-offset",
     "packets are copied to and from the first byte of an ON_DEMAND page, whatever their offset in it, with "
     "status SUCCESS: such regions are refused unless the option wholePages and an MTU of 4096 keep all "
     "packets "
     "to whole pages, and SGEs must begin with a page",
     "kernel sw/rxe/rxe_odp.c __rxe_odp_mr_copy"},
    {Rule::kRegionSize, "region-size",
     "a pinned region has 16 bytes of one kmalloc for each page, so 1 GiB is the most: the error says so",
     "kernel sw/rxe/rxe_mr.c alloc_mr_page_info"},
    {Rule::kSlowDeregister, "slow-deregister",
     "ibv_dereg_mr waits up to 50 seconds for a peer's request that uses the region: it runs on the thread "
     "pool",
     "kernel sw/rxe/rxe_pool.c __rxe_cleanup"},
    {Rule::kWindowUnbounded, "window-unbounded",
     "a memory window does not confine: the peer reaches all of the region that it is bound to, so a region "
     "of "
     "exactly the range is needed for that",
     "kernel sw/rxe/rxe_resp.c check_rkey"},
    {Rule::kWindowHoldsQueuePair, "window-holds-queue-pair",
     "ibv_destroy_qp waits for the windows of type 2 that are bound through the queue pair: they are "
     "deallocated "
     "before it",
     "kernel sw/rxe/rxe_mw.c rxe_do_bind_mw"},
    {Rule::kPostBeforeRts, "post-before-rts",
     "what is posted before RTS is refused with EINVAL but stays in the ring and is carried out later: a "
     "send before "
     "RTS is refused",
     "rdma-core providers/rxe/rxe.c rxe_post_send; kernel sw/rxe/rxe_verbs.c rxe_post_send"},
    {Rule::kExtendedOnly, "extended-only",
     "ibv_post_send takes FLUSH and ATOMIC_WRITE but sends remote address and rkey 0: they go by "
     "ibv_wr_post(3)",
     "rdma-core providers/rxe/rxe.c convert_send_wr"},
    {Rule::kListSetters, "list-setters",
     "ibv_wr_set_sge_list and ibv_wr_set_inline_data_list compute a wrong length of the message: everything "
     "that "
     "ibv_post_send takes goes by ibv_post_send",
     "rdma-core 44 providers/rxe/rxe.c wr_set_sge_list, wr_set_inline_data_list"},
    {Rule::kBindReadsWindow, "bind-reads-window",
     "BIND_MW dereferences its window and region without a check and reads the window's old rkey when it is "
     "posted: "
     "both are looked up first, and a bind is posted in a list of its own",
     "rdma-core providers/rxe/rxe.c convert_send_wr"},
    {Rule::kAddressUnchecked, "address-unchecked",
     "a UD send dereferences its address handle without a check: the handle is looked up first",
     "rdma-core providers/rxe/rxe.c convert_send_wr, init_send_wqe"},
    {Rule::kInvalidateFree, "invalidate-free",
     "an invalidation of a type 2 window that is not bound panics the kernel that has the window: LOCAL_INV "
     "takes "
     "only bound windows; what a peer sends with SEND_WITH_INV cannot be checked",
     "kernel sw/rxe/rxe_mw.c rxe_check_invalidate_mw, rxe_do_invalidate_mw"},
    {Rule::kLocalErrorsHidden, "local-errors-hidden",
     "a wrong local key or range shows as WR_FLUSH_ERR of everything queued: keys and ranges are checked "
     "before "
     "posting",
     "kernel sw/rxe/rxe_req.c flush_send_wqe"},
    {Rule::kFlushCompletesAll, "flush-completes-all",
     "unsignalled work requests complete too when they are flushed: a completion queue must have room for "
     "every "
     "work request, not only for signalled ones",
     "kernel sw/rxe/rxe_comp.c"},
    {Rule::kInvalidatedFlag, "invalidated-flag",
     "a receive that has invalidated an rkey says so with the kernel's number of the flag, which is "
     "IP_CSUM_OK in "
     "user space: it becomes WITH_INV",
     "kernel sw/rxe/rxe_resp.c do_complete"},
};

}  // namespace

constinit const ProviderRules kRxeRules("rxe", kQuirks, Opcodes, kSends | kWrites);

}  // namespace rdma

// Soft iWARP: rdma-core providers/siw, kernel drivers/infiniband/sw/siw.

#include "../opcodes.h"
#include "rules.h"

namespace rdma {

namespace {

uint32_t Opcodes(ibv_qp_type type) {
  constexpr uint32_t kTaken = OpcodeBit(IBV_WR_SEND) | OpcodeBit(IBV_WR_SEND_WITH_INV) |
                              OpcodeBit(IBV_WR_RDMA_WRITE) | OpcodeBit(IBV_WR_RDMA_READ);
  return type == IBV_QPT_RC ? kTaken : 0;
}

constexpr uint32_t kInline = OpcodeBit(IBV_WR_SEND) | OpcodeBit(IBV_WR_RDMA_WRITE);

constexpr Quirk kQuirks[] = {
    {Rule::kEmptyRecvQueue, "empty-recv-queue",
     "the receive queue is mapped also when it is empty, which fails: a queue pair without receives is "
     "created with "
     "room for one",
     "rdma-core providers/siw/siw.c siw_create_qp"},
    {Rule::kMapKey, "map-key",
     "an object whose memory happens to be mapped at offset 0x90000 of the context is taken for one that "
     "failed, without an errno: a queue of the library's own occupies that offset",
     "rdma-core providers/siw/siw.c siw_create_qp, rdma/siw-abi.h SIW_INVAL_UOBJ_KEY; kernel "
     "core/ib_core_uverbs.c rdma_user_mmap_entry_insert"},
    {Rule::kManualStates, "manual-states",
     "ibv_modify_qp to RTR answers success and does nothing, RTS is EINVAL, SQD ends the stream, nothing "
     "leads back "
     "from ERR: only rdma_cm connects an iWARP queue pair, and all but INIT to INIT, RTS to RTS and ERR is "
     "refused",
     "kernel sw/siw/siw_qp.c siw_qp_nextstate_from_idle, siw_qp_modify"},
    {Rule::kPartialQuery, "partial-query",
     "ibv_query_qp writes the state (INIT for RESET), the capabilities, the MTU, the access (always all) and "
     "the two READ "
     "limits, each in the other's place: the library puts them right and leaves out the rest",
     "kernel sw/siw/siw_verbs.c siw_query_qp"},
    {Rule::kSolicitedSilent, "solicited-silent",
     "a completion queue that waits for solicited receives only is never woken: solicitedOnly is refused",
     "kernel sw/siw/siw_qp.c siw_rqe_complete: passes no SIW_WQE_SOLICITED"},
    {Rule::kIovaIgnored, "iova-ignored",
     "a region with an iova of its own is accepted and has the addresses of its memory all the same: it is "
     "refused",
     "kernel sw/siw/siw_verbs.c siw_reg_user_mr"},
    {Rule::kAccessDropped, "access-dropped",
     "REMOTE_ATOMIC and MW_BIND are dropped without a word: they are refused, and ZERO_BASED as what it is, "
     "an iova of 0",
     "kernel sw/siw/siw_mem.c siw_mr_add_mem; sw/siw/siw.h IWARP_ACCESS_MASK"},
    {Rule::kReplyDepths, "reply-depths",
     "when a connection is established, responder_resources and initiator_depth stand in each other's place: "
     "the library puts them right",
     "kernel sw/siw/siw_cm.c siw_cm_upcall, core/cma.c cma_iw_handler"},
    {Rule::kPostAnswers, "post-answers",
     "ibv_post_send may return 0, -1 or -errno for a refused work request; what bad_wr names counts as "
     "refused, "
     "and errnos are made positive",
     "rdma-core providers/siw/siw.c siw_post_send, siw_db"},
    {Rule::kOpcodeTable, "opcode-table",
     "the opcode is an index into a table of 12 without a check, and most of its entries are refused: only "
     "SEND, "
     "SEND_WITH_INV, RDMA_WRITE and RDMA_READ reach the provider",
     "rdma-core providers/siw/siw.c map_send_opcode, push_send_wqe"},
    {Rule::kInlineOpcodes, "inline-opcodes",
     "INLINE on anything but SEND and RDMA_WRITE leaves the send queue blocked for ever: it is refused",
     "kernel sw/siw/siw_qp.c siw_activate_tx_from_sq"},
    {Rule::kReadFence, "read-fence",
     "RDMA_READ with FENCE leaves the send queue blocked for ever: it is refused",
     "kernel sw/siw/siw_qp.c siw_activate_tx_from_sq"},
    {Rule::kReadCompletesLate, "read-completes-late",
     "what follows an RDMA_READ completes before it, so only a completion of its own tells that it is done: "
     "READs "
     "are always signalled",
     "kernel sw/siw/siw_qp_tx.c siw_qp_sq_process"},
    {Rule::kZeroCopyTransmit, "zero-copy-transmit",
     "an unsignalled work request of 4096 bytes or more is given to TCP by page reference, and no later "
     "completion "
     "tells when TCP has let go of the pages: such work requests are always signalled, which makes the "
     "driver copy",
     "kernel sw/siw/siw_qp_tx.c siw_qp_prepare_tx, zcopy_tx"},
    {Rule::kSendInvRkey, "send-inv-rkey",
     "the rkey of SEND_WITH_INV is taken from wr.rdma.rkey, not from invalidate_rkey: both are set",
     "rdma-core providers/siw/siw.c push_send_wqe"},
    {Rule::kTinyStraddle, "tiny-straddle",
     "up to 32 bytes of one SGE that cross a 4096-byte page arrive damaged, with status SUCCESS, when a "
     "driver "
     "thread sends them: a SEND or RDMA_WRITE gets two SGEs, split at the page; an RDMA_READ of such a "
     "remote range "
     "is refused",
     "kernel sw/siw/siw_qp_tx.c siw_try_1seg"},
    {Rule::kEmptySge, "empty-sge",
     "an SGE of length 0 in a list panics the kernel of the sender and leaks a pinned region in a receiver: "
     "empty "
     "SGEs are dropped",
     "kernel sw/siw/siw_qp_tx.c siw_tx_hdt"},
    {Rule::kRecvNeedsSge, "recv-needs-sge", "a receive without SGEs is refused: it gets one of length 0",
     "rdma-core providers/siw/siw.c push_recv_wqe"},
    {Rule::kPostBeforeRts, "post-before-rts",
     "what is posted before the connection stands is refused with ENOTCONN but stays in the ring, and the "
     "doorbell "
     "is never rung again: a send before RTS is refused",
     "rdma-core providers/siw/siw.c siw_post_send; kernel sw/siw/siw_verbs.c siw_post_send"},
    {Rule::kStateByQuery, "state-by-query",
     "the kernel moves an iWARP queue pair to RTS and libibverbs does not see it, so its state is queried "
     "until "
     "the first send",
     "rdma-core librdmacm/cma.c ucma_init_conn_qp, ucma_modify_qp_rts: only for IB and RoCE"},
    {Rule::kNoSelfFlush, "no-self-flush",
     "after a local error only the culprit completes and the queue pair still reads RTS: the first error "
     "moves it "
     "to ERR, and what has not come back after a second is settled by destroying it",
     "kernel sw/siw/siw_qp_tx.c siw_qp_sq_process"},
    {Rule::kRepeatedFlush, "repeated-flush",
     "an RDMA_READ can be flushed twice, from the send queue and from the queue of outstanding READs: a "
     "completion "
     "of what is no longer in flight is ignored",
     "kernel sw/siw/siw_qp.c siw_sq_flush"},
    {Rule::kUnwrittenCompletion, "unwritten-completion",
     "fields of ibv_wc are left unwritten: they are zeros before every poll",
     "rdma-core providers/siw/siw.c copy_cqe"},
};

}  // namespace

constinit const ProviderRules kSiwRules("siw", kQuirks, Opcodes, kInline);

}  // namespace rdma

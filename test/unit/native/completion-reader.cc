// ReadCompletions on an extended completion queue (ibv_create_cq_ex(3)) that is a fake: no soft device has
// completion timestamps. Prints what it read; completion-reader.test.ts compares.

#include "../../../native/core/completion_reader.h"

#include <cerrno>
#include <cstdio>
#include <vector>

#include "../../../native/core/error.h"

namespace {

struct FakeCq {
  ibv_cq_ex cq = {};
  std::vector<ibv_wc> entries;
  size_t at = 0;
  int starts = 0;
  int ends = 0;
  int fail_at = -1;  // ibv_next_poll(3) fails before this entry
};

FakeCq fake;

const ibv_wc& Current() { return fake.entries[fake.at]; }

/// Fields of a failed completion that may not be read.
const ibv_wc& Good() {
  if (Current().status != IBV_WC_SUCCESS) std::printf("read a field of a failed completion\n");
  return Current();
}

void Show() {
  fake.cq.wr_id = Current().wr_id;
  fake.cq.status = Current().status;
}

void Prepare(std::vector<ibv_wc> entries) {
  fake = {};
  fake.entries = std::move(entries);
  fake.cq.start_poll = [](ibv_cq_ex*, ibv_poll_cq_attr*) {
    if (fake.fail_at == 0) return EIO;
    if (fake.at == fake.entries.size()) return ENOENT;
    ++fake.starts;
    Show();
    return 0;
  };
  fake.cq.next_poll = [](ibv_cq_ex*) {
    if (fake.at + 1 == fake.entries.size()) return ENOENT;
    if (static_cast<int>(fake.at) + 1 == fake.fail_at) return EIO;
    ++fake.at;
    Show();
    return 0;
  };
  fake.cq.end_poll = [](ibv_cq_ex*) {
    ++fake.ends;
    ++fake.at;
  };
  fake.cq.read_opcode = [](ibv_cq_ex*) { return Good().opcode; };
  fake.cq.read_vendor_err = [](ibv_cq_ex*) { return Current().vendor_err; };
  fake.cq.read_byte_len = [](ibv_cq_ex*) { return Good().byte_len; };
  fake.cq.read_imm_data = [](ibv_cq_ex*) { return Good().imm_data; };
  fake.cq.read_qp_num = [](ibv_cq_ex*) { return Current().qp_num; };
  fake.cq.read_src_qp = [](ibv_cq_ex*) { return Good().src_qp; };
  fake.cq.read_wc_flags = [](ibv_cq_ex*) { return Good().wc_flags; };
  fake.cq.read_slid = [](ibv_cq_ex*) { return uint32_t{Good().slid}; };
  fake.cq.read_sl = [](ibv_cq_ex*) { return Good().sl; };
  fake.cq.read_dlid_path_bits = [](ibv_cq_ex*) { return Good().dlid_path_bits; };
  fake.cq.read_completion_ts = [](ibv_cq_ex*) { return (uint64_t{7} << 32) + Current().wr_id; };
}

ibv_wc Entry(uint64_t wr_id, ibv_wc_status status, unsigned int flags) {
  ibv_wc wc = {};
  wc.wr_id = wr_id;
  wc.status = status;
  wc.opcode = IBV_WC_RECV;
  wc.vendor_err = 3;
  wc.byte_len = 100;
  wc.imm_data = 0x01020304;
  wc.qp_num = 17;
  wc.src_qp = 18;
  wc.wc_flags = flags;
  wc.slid = 5;
  wc.sl = 6;
  wc.dlid_path_bits = 7;
  return wc;
}

void Read(const char* what, uint32_t capacity) {
  rdma::CqHandle handle;
  handle.extended = &fake.cq;
  rdma::Completion completions[8] = {};
  ibv_wc scratch[8];
  std::printf("%s:", what);
  try {
    const uint32_t got = rdma::ReadCompletions(handle, completions, scratch, capacity);
    for (uint32_t i = 0; i < got; ++i) {
      const ibv_wc& wc = completions[i].wc;
      std::printf(" [%llu status %d opcode %d len %u imm %x qp %u src %u flags %u slid %u sl %u path %u ts %llx]",
                  static_cast<unsigned long long>(wc.wr_id), wc.status, wc.opcode, wc.byte_len,
                  wc.invalidated_rkey, wc.qp_num, wc.src_qp, wc.wc_flags, wc.slid, wc.sl, wc.dlid_path_bits,
                  static_cast<unsigned long long>(completions[i].timestamp));
    }
  } catch (const rdma::Error& error) {
    std::printf(" %s errno %d", error.syscall(), error.err());
  }
  std::printf(" starts %d ends %d left %zu\n", fake.starts, fake.ends, fake.entries.size() - fake.at);
}

}  // namespace

int main() {
  Prepare({});
  Read("empty", 8);
  Prepare({Entry(1, IBV_WC_SUCCESS, 0), Entry(2, IBV_WC_SUCCESS, IBV_WC_WITH_IMM),
           Entry(3, IBV_WC_SUCCESS, IBV_WC_WITH_INV)});
  Read("all", 8);
  Prepare({Entry(1, IBV_WC_SUCCESS, 0), Entry(2, IBV_WC_SUCCESS, 0), Entry(3, IBV_WC_SUCCESS, 0)});
  Read("first two", 2);
  Read("then one", 2);
  Read("then none", 2);
  Prepare({Entry(4, IBV_WC_WR_FLUSH_ERR, IBV_WC_WITH_IMM)});
  Read("failed", 8);
  Prepare({Entry(1, IBV_WC_SUCCESS, 0), Entry(2, IBV_WC_SUCCESS, 0)});
  fake.fail_at = 1;
  Read("broken after one", 8);
  fake.fail_at = 0;
  Read("broken", 8);
}

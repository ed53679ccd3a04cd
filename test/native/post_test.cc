#include <doctest/doctest.h>

#include <bit>
#include <cerrno>
#include <vector>

#include "core/providers/rules.h"
#include "core/send_queue.h"

namespace rdma::test {

namespace {

/// What the provider of the fake queue pair answers: [rc], after work request [bad] of the list if that is
/// not negative.
struct Answer {
  int rc = 0;
  int bad = -1;
} answer;
int posted = 0;

int FakePostSend(ibv_qp*, ibv_send_wr* wr, ibv_send_wr** bad) {
  for (int i = 0; wr != nullptr; wr = wr->next, ++i) {
    if (i == answer.bad) {
      *bad = wr;
      return answer.rc;
    }
    ++posted;
  }
  return answer.rc;
}

/// A send queue over a provider that answers as it is told to.
class Fixture {
 public:
  explicit Fixture(const ProviderRules& rules = kGenericRules)
      : queue_(Limits(rules), std::make_shared<KeyTable>(), this),
        memory_(WorkRing::Bytes(kCapacity, 2, 64)) {
    context_.ops.post_send = FakePostSend;
    qp_.context = &context_;
    qp_.qp_type = IBV_QPT_RC;
    qp_.state = IBV_QPS_RTS;
    queue_.Attach(WorkRing::At(memory_.data(), kCapacity, 2));
    answer = {};
    posted = 0;
  }

  /// Posts [count] inline SENDs.
  int Post(uint32_t count) {
    auto* slots = reinterpret_cast<WorkRequestSlot*>(memory_.data());
    const uint32_t first = queue_.pins().tail();
    for (uint32_t i = 0; i < count; ++i) {
      WorkRequestSlot& slot = slots[(first + i) & (kCapacity - 1)];
      slot = {};
      slot.opcode = IBV_WR_SEND;
      slot.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE;
      slot.inline_length = 8;
    }
    return queue_.Post(&qp_, 0, first, count, &status);
  }

  uint32_t outstanding() { return queue_.pins().outstanding(); }

  PostStatus status = {};

 private:
  static constexpr uint32_t kCapacity = 8;

  static QueueLimits Limits(const ProviderRules& rules) {
    QueueLimits limits = {};
    limits.max_wr = kCapacity - 1;
    limits.capacity = kCapacity;
    limits.max_sge = 2;
    limits.max_inline = 64;
    limits.max_message = 1 << 20;
    limits.rules = &rules;
    limits.type = IBV_QPT_RC;
    return limits;
  }

  SendQueue queue_;
  std::vector<uint8_t> memory_;
  ibv_context context_ = {};
  ibv_qp qp_ = {};
};

}  // namespace

TEST_SUITE("answers of providers to a post") {
  TEST_CASE("success puts all in flight") {
    Fixture f;
    CHECK(f.Post(3) == 0);
    CHECK(posted == 3);
    CHECK(f.outstanding() == 3);
  }

  TEST_CASE("a work request that is refused keeps it and those behind it from flying") {
    Fixture f;
    answer = {EINVAL, 1};
    CHECK(f.Post(3) == EINVAL);
    CHECK(f.status.posted == 1);
    CHECK(f.status.wr_index == 1);
    CHECK(f.status.check == static_cast<uint32_t>(PostCheck::kNone));
    CHECK(f.outstanding() == 1);
    CHECK(f.Post(2) == EINVAL);
    CHECK(f.outstanding() == 2);
  }

  TEST_CASE("libsiw's success that names a bad work request is a failure") {
    Fixture f;
    answer = {0, 2};
    CHECK(f.Post(3) == EINVAL);
    CHECK(f.status.posted == 2);
    CHECK(f.outstanding() == 2);
  }

  TEST_CASE("libsiw's negative errno is an errno") {
    Fixture f;
    answer = {-ENOMEM, 0};
    CHECK(f.Post(3) == ENOMEM);
    CHECK(f.status.posted == 0);
    CHECK(f.outstanding() == 0);
  }

  TEST_CASE("-1 stands for errno") {
    Fixture f;
    answer = {-1, 2};
    errno = ENOMEM;
    CHECK(f.Post(3) == ENOMEM);
    CHECK(f.status.posted == 2);
    CHECK(f.status.check == static_cast<uint32_t>(PostCheck::kNone));
    CHECK(f.outstanding() == 2);
  }

  TEST_CASE("a failure that names no work request leaves all of them pinned") {
    Fixture f;
    answer = {-1, -1};
    errno = EIO;
    CHECK(f.Post(3) == EIO);
    CHECK(f.status.check == static_cast<uint32_t>(PostCheck::kUnclear));
    CHECK(f.outstanding() == 3);
  }

  TEST_CASE("more than there is room for never reaches the provider") {
    Fixture f;
    CHECK(f.Post(7) == 0);
    CHECK(f.Post(1) == EINVAL);
    CHECK(f.status.check == static_cast<uint32_t>(PostCheck::kRing));
    CHECK(posted == 7);
    CHECK(f.outstanding() == 7);
  }
}

}  // namespace rdma::test

#include "core/error.h"

#include <doctest/doctest.h>

#include <cerrno>

namespace rdma::test {

TEST_SUITE("errors of C calls") {
  TEST_CASE("every convention becomes a positive errno") {
    errno = 0;
    CHECK(NormaliseErrno(0) == 0);
    CHECK(NormaliseErrno(ENOMEM) == ENOMEM);
    CHECK(NormaliseErrno(-ENOMEM) == ENOMEM);
    errno = EAGAIN;
    CHECK(NormaliseErrno(-1) == EAGAIN);
    // What errno holds is of no interest when the call says its error itself.
    CHECK(NormaliseErrno(-EINVAL) == EINVAL);
    CHECK(NormaliseErrno(0) == 0);
  }

  TEST_CASE("a failure that says nothing is still a failure") {
    errno = 0;
    CHECK(NormaliseErrno(-1) == EIO);
    CHECK_THROWS_AS(ThrowErrno("ibv_alloc_pd", {}), Error);
    CHECK_THROWS_AS(CheckPointer<int>(nullptr, "ibv_alloc_pd"), Error);
  }

  TEST_CASE("an error names the call, the reason and what was asked for") {
    try {
      Check(-EINVAL, "ibv_create_cq", "cqe 7");
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.err() == EINVAL);
      CHECK(std::string(error.syscall()) == "ibv_create_cq");
      CHECK(error.detail() == "cqe 7");
      CHECK(std::string(error.what()) == "ibv_create_cq: Invalid argument (cqe 7)");
    }
  }
}

}  // namespace rdma::test

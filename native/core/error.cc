#include "error.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace rdma {

namespace {

std::string Describe(const char* syscall, int err, const std::string& detail) {
  std::string text = std::string(syscall) + ": " + std::strerror(err);
  if (!detail.empty()) text += " (" + detail + ")";
  return text;
}

}  // namespace

Error::Error(const char* syscall, int err, const std::string& detail)
    : std::runtime_error(Describe(syscall, err, detail)), syscall_(syscall), err_(err), detail_(detail) {}

int NormaliseErrno(int rc) noexcept {
  if (rc == 0) return 0;
  if (rc > 0) return rc;
  if (rc == -1) return errno != 0 ? errno : EIO;
  return -rc;
}

void Check(int rc, const char* syscall, const std::string& detail) {
  const int err = NormaliseErrno(rc);
  if (err != 0) throw Error(syscall, err, detail);
}

void CheckSupported(int rc, const char* syscall, const std::string& absent, const std::string& detail) {
  const int err = NormaliseErrno(rc);
  if (err == EOPNOTSUPP || err == ENOSYS) throw Error(syscall, EOPNOTSUPP, absent);
  if (err != 0) throw Error(syscall, err, detail);
}

void ReportDestroy(int rc, const char* syscall) noexcept {
  const int err = NormaliseErrno(rc);
  if (err == 0) return;
  std::fprintf(stderr, "node-rdma: %s failed: %s; the object is leaked on purpose\n", syscall,
               std::strerror(err));
}

void ThrowErrno(const char* syscall, const std::string& detail) {
  throw Error(syscall, errno != 0 ? errno : EIO, detail);
}

}  // namespace rdma

#pragma once

#include <stdexcept>
#include <string>

namespace rdma {

/// What a C call or the kernel refused: the positive errno, the C function, and what was asked of it.
class Error : public std::runtime_error {
 public:
  Error(const char* syscall, int err, const std::string& detail = {});

  int err() const noexcept { return err_; }
  const char* syscall() const noexcept { return syscall_; }
  const std::string& detail() const noexcept { return detail_; }

 private:
  const char* syscall_;
  int err_;
  std::string detail_;
};

/// libibverbs returns +errno, librdmacm -1 with errno, libsiw also -errno: all become a positive errno, 0 for
/// success.
int NormaliseErrno(int rc) noexcept;

/// Throws Error when [rc] is not success.
void Check(int rc, const char* syscall, const std::string& detail = {});

/// As Check; [absent] is the detail when the device or its provider has no such thing (EOPNOTSUPP, ENOSYS).
void CheckSupported(int rc, const char* syscall, const std::string& absent, const std::string& detail);

/// Throws Error with the current errno when [pointer] is null.
template <typename T>
T* CheckPointer(T* pointer, const char* syscall, const std::string& detail = {});

/// A destroy that fails leaks its object on purpose; the failure is said once on stderr, never swallowed.
void ReportDestroy(int rc, const char* syscall) noexcept;

[[noreturn]] void ThrowErrno(const char* syscall, const std::string& detail);

template <typename T>
T* CheckPointer(T* pointer, const char* syscall, const std::string& detail) {
  if (pointer == nullptr) ThrowErrno(syscall, detail);
  return pointer;
}

}  // namespace rdma

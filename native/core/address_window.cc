#include "address_window.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "error.h"

namespace rdma {

namespace {

size_t PageBytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

void CheckPages(size_t offset, size_t length, size_t limit, const char* what) {
  const bool whole = offset % PageBytes() == 0 && length % PageBytes() == 0;
  if (whole && length > 0 && offset <= limit && length <= limit - offset) return;
  throw Error("mmap", EINVAL,
              std::to_string(length) + " bytes at " + std::to_string(offset) +
                  " are not whole pages inside the " + what + " of " + std::to_string(limit) + " bytes");
}

/// Every link that does not continue its neighbour is a mapping of its own.
constexpr const char* kTooManyMappings =
    "; with ENOMEM the process has as many mappings as it may (sysctl vm.max_map_count)";

/// Shared memory is never merged with its neighbours, so that giving it back always frees a mapping.
void* SpareMapping() {
  void* spare = mmap(nullptr, PageBytes(), PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return spare == MAP_FAILED ? nullptr : spare;
}

bool Reset(void* at, size_t length) {
  return mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
         MAP_FAILED;
}

}  // namespace

std::shared_ptr<AddressWindow> AddressWindow::Reserve(size_t length) {
  if (length == 0 || length % PageBytes() != 0) {
    throw Error("mmap", EINVAL, "a window of " + std::to_string(length) + " bytes: not whole pages");
  }
  void* addr = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addr == MAP_FAILED) ThrowErrno("mmap", "a window of " + std::to_string(length) + " bytes");
  return std::make_shared<AddressWindow>(addr, length);
}

AddressWindow::~AddressWindow() {
  munmap(addr_, length_);
  if (spare_ != nullptr) munmap(spare_, PageBytes());
}

char* AddressWindow::At(size_t offset, size_t length, const char* what) const {
  CheckPages(offset, length, length_, what);
  return static_cast<char*>(addr_) + offset;
}

void AddressWindow::Link(size_t offset, const Slab& slab, size_t slab_offset, size_t length) {
  char* at = At(offset, length, "window");
  CheckPages(slab_offset, length, slab.length(), "slab");
  if (spare_ == nullptr) spare_ = SpareMapping();
  if (spare_ == nullptr) ThrowErrno("mmap", std::string("a spare mapping") + kTooManyMappings);
  if (mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, slab.fd(),
           static_cast<off_t>(slab_offset)) == MAP_FAILED) {
    ThrowErrno("mmap", std::to_string(length) + " bytes of a slab" + kTooManyMappings);
  }
}

void AddressWindow::Unlink(size_t offset, size_t length) {
  char* at = At(offset, length, "window");
  if (Reset(at, length)) return;
  // Also what would make mappings fewer is refused when there are too many (kernel mm/mmap.c do_mmap).
  if (errno == ENOMEM && spare_ != nullptr) {
    munmap(std::exchange(spare_, nullptr), PageBytes());
    const bool done = Reset(at, length);
    const int err = errno;
    spare_ = SpareMapping();
    if (done) return;
    errno = err;
  }
  ThrowErrno("mmap", std::to_string(length) + " bytes of a window" + kTooManyMappings);
}

std::shared_ptr<AddressWindowObject> AddressWindowObject::Reserve(const std::shared_ptr<ProtectionDomain>& pd,
                                                                  size_t length) {
  auto object = std::make_shared<AddressWindowObject>(pd, AddressWindow::Reserve(length));
  pd->Adopt(object);
  return object;
}

}  // namespace rdma

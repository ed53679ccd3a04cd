#pragma once

#include "device.h"

namespace rdma {

/// A domain of extended reliable connections (ibv_open_xrcd(3)).
class XrcDomain : public Object {
 public:
  /// [fd]: the file that processes share the domain by, or -1. [oflags]: O_CREAT, O_EXCL.
  static std::shared_ptr<XrcDomain> Open(const std::shared_ptr<Device>& device, int fd, int oflags);

  explicit XrcDomain(XrcdPtr xrcd) : Object(Kind::kXrcDomain), xrcd_(std::move(xrcd)) {}

  const XrcdPtr& xrcd() const { return xrcd_; }
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { xrcd_.reset(); }

 private:
  XrcdPtr xrcd_;
};

}  // namespace rdma

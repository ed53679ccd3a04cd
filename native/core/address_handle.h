#pragma once

#include <vector>

#include "memory.h"

namespace rdma {

/// The way to a datagram's target (ibv_create_ah(3)).
class AddressHandle : public Pinnable {
 public:
  static std::shared_ptr<AddressHandle> Create(const std::shared_ptr<ProtectionDomain>& pd,
                                               const ibv_ah_attr& attr);

  AddressHandle(const std::shared_ptr<ProtectionDomain>& pd, AhPtr ah);
  ~AddressHandle() override;

  /// Makes it known to the domain's queue pairs under its handle.
  void Register() { keys_->InsertObject(handle, this); }

  ibv_ah* ah() const noexcept { return ah_.get(); }

 protected:
  void Unlist() override { keys_->RemoveObject(handle); }
  void Release() override { ah_.reset(); }

 private:
  std::shared_ptr<KeyTable> keys_;
  AhPtr ah_;
};

/// The way back to the sender of a received datagram (ibv_init_ah_from_wc(3)). [grh] is the first 40 bytes of
/// its receive buffer.
ibv_ah_attr ReplyAddress(const std::shared_ptr<ProtectionDomain>& pd, uint8_t port, ibv_wc* wc, ibv_grh* grh);

}  // namespace rdma

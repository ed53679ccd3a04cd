#pragma once

#include <functional>

namespace rdma {

/// Runs [destroy], which may block for seconds, on a thread of its own. It may run at any time, also after
/// the environment that asked for it has ended: it must not touch one.
void Reap(std::function<void()> destroy);

}  // namespace rdma

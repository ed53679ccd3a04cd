#pragma once

#include <memory>

#include "handles.h"

namespace rdma {

/// Keeps a completion queue in [context] whose memory lies where libsiw would take the offset of another
/// object's memory for the mark of a failure (Rule::kMapKey). Null when it cannot be made. One serves all who
/// ask while one of them holds it.
std::shared_ptr<void> PlugMapKey(const ContextPtr& context);

}  // namespace rdma

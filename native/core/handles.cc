#include "handles.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>

#include "error.h"

namespace rdma {

namespace {

void SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) ThrowErrno("fcntl", "O_NONBLOCK");
}

ContextPtr OpenDirect(const std::string& name) {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  // Without the kernel's ib_uverbs the list fails with ENOSYS; such a machine has no devices.
  if (list == nullptr && errno != ENOSYS) ThrowErrno("ibv_get_device_list", {});
  const std::shared_ptr<ibv_device*> guard(list, [](ibv_device** l) {
    if (l != nullptr) ibv_free_device_list(l);
  });
  std::string known;
  for (int i = 0; i < count; ++i) {
    const std::string candidate = ibv_get_device_name(list[i]);
    if (candidate == name) {
      ibv_context* context = CheckPointer(ibv_open_device(list[i]), "ibv_open_device", name);
      return {context, [](ibv_context* c) { ReportDestroy(ibv_close_device(c), "ibv_close_device"); }};
    }
    known += known.empty() ? candidate : ", " + candidate;
  }
  throw Error("ibv_open_device", ENODEV,
              "no RDMA device \"" + name + "\"; this machine has " + (known.empty() ? "none" : known));
}

/// Throws the current errno; EOPNOTSUPP says "device NAME has no [what]".
[[noreturn]] void ThrowAbsent(ibv_context* context, const char* syscall, const char* what,
                              const std::string& detail) {
  const int err = errno != 0 ? errno : EIO;
  if (err != EOPNOTSUPP && err != ENOSYS) throw Error(syscall, err, detail);
  throw Error(syscall, EOPNOTSUPP,
              "device " + std::string(ibv_get_device_name(context->device)) + " has no " + what);
}

}  // namespace

ContextPtr OpenContext(const std::string& name) {
  ibv_context** contexts = rdma_get_devices(nullptr);
  if (contexts == nullptr) return OpenDirect(name);
  // The list holds a reference to every device, and librdmacm keeps the context of a removed device open
  // while there is one. So the device that is wanted moves to a list of its own, and the others are let go
  // of.
  auto** kept = static_cast<ibv_context**>(std::calloc(2, sizeof(ibv_context*)));
  ibv_context** others = contexts;
  for (ibv_context** entry = contexts; *entry != nullptr; ++entry) {
    const bool wanted =
        kept != nullptr && kept[0] == nullptr && name == ibv_get_device_name((*entry)->device);
    (wanted ? kept[0] : *others++) = *entry;
  }
  *others = nullptr;
  rdma_free_devices(contexts);
  if (kept == nullptr || kept[0] == nullptr) {
    std::free(kept);
    return OpenDirect(name);
  }
  return {kept[0], [kept](ibv_context*) {
            ReleaseRemovedDevices();
            rdma_free_devices(kept);
          }};
}

void ReleaseRemovedDevices() {
  ibv_context** present = rdma_get_devices(nullptr);
  if (present != nullptr) rdma_free_devices(present);
}

PdPtr AllocPd(const ContextPtr& context) {
  ibv_pd* pd = CheckPointer(ibv_alloc_pd(context.get()), "ibv_alloc_pd");
  return {pd, [context](ibv_pd* p) { ReportDestroy(ibv_dealloc_pd(p), "ibv_dealloc_pd"); }};
}

PdPtr AllocParentDomain(const PdPtr& pd, const TdPtr& td) {
  ibv_parent_domain_init_attr attr = {};
  attr.pd = pd.get();
  attr.td = td.get();
  errno = 0;
  ibv_pd* parent = ibv_alloc_parent_domain(pd->context, &attr);
  if (parent == nullptr) ThrowAbsent(pd->context, "ibv_alloc_parent_domain", "parent domains", {});
  return {parent, [pd, td](ibv_pd* p) { ReportDestroy(ibv_dealloc_pd(p), "ibv_dealloc_pd"); }};
}

TdPtr AllocTd(const ContextPtr& context) {
  ibv_td_init_attr attr = {};
  errno = 0;
  ibv_td* td = ibv_alloc_td(context.get(), &attr);
  if (td == nullptr) ThrowAbsent(context.get(), "ibv_alloc_td", "thread domains", {});
  return {td, [context](ibv_td* t) { ReportDestroy(ibv_dealloc_td(t), "ibv_dealloc_td"); }};
}

DmPtr AllocDm(const ContextPtr& context, uint64_t length, uint32_t log_align) {
  ibv_alloc_dm_attr attr = {};
  attr.length = length;
  attr.log_align_req = log_align;
  errno = 0;
  ibv_dm* dm = ibv_alloc_dm(context.get(), &attr);
  if (dm == nullptr) {
    ThrowAbsent(context.get(), "ibv_alloc_dm", "memory of its own",
                std::to_string(length) + " bytes, log_align_req " + std::to_string(log_align));
  }
  return {dm, [context](ibv_dm* d) { ReportDestroy(ibv_free_dm(d), "ibv_free_dm"); }};
}

AhPtr CreateAh(const PdPtr& pd, const ibv_ah_attr& attr) {
  ibv_ah_attr copy = attr;
  errno = 0;
  ibv_ah* ah = ibv_create_ah(pd.get(), &copy);
  if (ah == nullptr) {
    const int err = errno != 0 ? errno : EIO;
    if (err == EOPNOTSUPP || err == ENOSYS) {
      throw Error(
          "ibv_create_ah", EOPNOTSUPP,
          "device " + std::string(ibv_get_device_name(pd->context->device)) + " has no address handles");
    }
    throw Error("ibv_create_ah", err,
                "port " + std::to_string(attr.port_num) + ", sgid_index " +
                    std::to_string(attr.grh.sgid_index) + ", dlid " + std::to_string(attr.dlid) +
                    (err == ENODATA ? ": the GID table has no such entry" : ""));
  }
  return {ah, [pd](ibv_ah* a) { ReportDestroy(ibv_destroy_ah(a), "ibv_destroy_ah"); }};
}

XrcdPtr OpenXrcd(const ContextPtr& context, int fd, int oflags) {
  ibv_xrcd_init_attr attr = {};
  attr.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  attr.fd = fd;
  attr.oflags = oflags;
  errno = 0;
  ibv_xrcd* xrcd = ibv_open_xrcd(context.get(), &attr);
  if (xrcd == nullptr) {
    const int err = errno != 0 ? errno : EIO;
    if (err == EOPNOTSUPP || err == ENOSYS) {
      throw Error("ibv_open_xrcd", EOPNOTSUPP,
                  "device " + std::string(ibv_get_device_name(context->device)) +
                      " has no extended reliable connections");
    }
    throw Error("ibv_open_xrcd", err, "fd " + std::to_string(fd));
  }
  return {xrcd, [context](ibv_xrcd* x) { ReportDestroy(ibv_close_xrcd(x), "ibv_close_xrcd"); }};
}

MwPtr AllocMw(const PdPtr& pd, ibv_mw_type type) {
  ibv_mw* mw = CheckPointer(ibv_alloc_mw(pd.get(), type), "ibv_alloc_mw",
                            "type " + std::to_string(static_cast<int>(type)));
  return {mw, [pd](ibv_mw* m) { ReportDestroy(ibv_dealloc_mw(m), "ibv_dealloc_mw"); }};
}

ChannelPtr CreateCompChannel(const ContextPtr& context) {
  ibv_comp_channel* channel = CheckPointer(ibv_create_comp_channel(context.get()), "ibv_create_comp_channel");
  ChannelPtr ptr(channel, [context](ibv_comp_channel* c) {
    ReportDestroy(ibv_destroy_comp_channel(c), "ibv_destroy_comp_channel");
  });
  SetNonBlocking(channel->fd);
  return ptr;
}

CqPtr CreateCq(const ContextPtr& context, int cqe, const ChannelPtr& channel, int comp_vector,
               bool timestamps) {
  auto handle = std::make_unique<CqHandle>();
  const std::string detail = "cqe " + std::to_string(cqe) + ", comp_vector " + std::to_string(comp_vector);
  if (timestamps) {
    ibv_cq_init_attr_ex attr = {};
    attr.cqe = static_cast<uint32_t>(cqe);
    attr.cq_context = handle.get();
    attr.channel = channel.get();
    attr.comp_vector = static_cast<uint32_t>(comp_vector);
    attr.wc_flags = uint64_t{IBV_WC_STANDARD_FLAGS} | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP;
    handle->extended = CheckPointer(ibv_create_cq_ex(context.get(), &attr), "ibv_create_cq_ex",
                                    detail + ", with completion timestamps");
    handle->cq = ibv_cq_ex_to_cq(handle->extended);
  } else {
    handle->cq = CheckPointer(ibv_create_cq(context.get(), cqe, handle.get(), channel.get(), comp_vector),
                              "ibv_create_cq", detail);
  }
  return {handle.release(), [context, channel](CqHandle* h) {
            if (h->unacked != 0) ibv_ack_cq_events(h->cq, h->unacked);
            ReportDestroy(ibv_destroy_cq(h->cq), "ibv_destroy_cq");
            delete h;
          }};
}

SrqPtr CreateSrq(const PdPtr& pd, const CqPtr& cq, const XrcdPtr& xrcd, ibv_srq_init_attr_ex* attr) {
  attr->comp_mask = IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_TYPE;
  attr->pd = pd.get();
  attr->srq_type = IBV_SRQT_BASIC;
  if (xrcd) {
    attr->comp_mask |= IBV_SRQ_INIT_ATTR_CQ | IBV_SRQ_INIT_ATTR_XRCD;
    attr->srq_type = IBV_SRQT_XRC;
    attr->cq = cq->cq;
    attr->xrcd = xrcd.get();
  }
  std::string detail = "max_wr " + std::to_string(attr->attr.max_wr);
  detail += ", max_sge " + std::to_string(attr->attr.max_sge);
  detail += ", srq_limit " + std::to_string(attr->attr.srq_limit);
  ibv_srq* srq = CheckPointer(ibv_create_srq_ex(pd->context, attr),
                              xrcd ? "ibv_create_srq_ex" : "ibv_create_srq", detail);
  return {srq, [pd, cq, xrcd](ibv_srq* s) { ReportDestroy(ibv_destroy_srq(s), "ibv_destroy_srq"); }};
}

EventChannelPtr CreateEventChannel() {
  rdma_event_channel* channel = CheckPointer(rdma_create_event_channel(), "rdma_create_event_channel",
                                             "is the rdma_ucm kernel module loaded?");
  EventChannelPtr ptr(channel, rdma_destroy_event_channel);
  SetNonBlocking(channel->fd);
  return ptr;
}

}  // namespace rdma

// What a device tells about itself: attributes, ports, GIDs, partition keys, and what is found out by trying.

#include <net/if.h>

#include <string_view>

#include "../core/device.h"
#include "../core/device_probe.h"
#include "args.h"

namespace binding {

namespace {

using rdma::Kind;

/// Fills an object with fields.
class Fields {
 public:
  explicit Fields(Napi::Env env) : env_(env), object_(Napi::Object::New(env)) {}

  template <typename T>
  Fields& Number(const char* name, T value) {
    object_.Set(name, Napi::Number::New(env_, static_cast<double>(value)));
    return *this;
  }
  Fields& Big(const char* name, uint64_t value) {
    object_.Set(name, Napi::BigInt::New(env_, value));
    return *this;
  }
  Fields& Set(const char* name, Napi::Value value) {
    object_.Set(name, value);
    return *this;
  }
  Napi::Object object() const { return object_; }

 private:
  Napi::Env env_;
  Napi::Object object_;
};

Napi::Object DeviceAttr(Napi::Env env, const ibv_device_attr& attr) {
  Fields fields(env);
  fields.Set("fwVer", Napi::String::New(env, attr.fw_ver))
      .Big("nodeGuid", be64toh(attr.node_guid))
      .Big("sysImageGuid", be64toh(attr.sys_image_guid))
      .Number("vendorId", attr.vendor_id)
      .Number("vendorPartId", attr.vendor_part_id)
      .Number("hwVer", attr.hw_ver)
      .Number("physPortCnt", attr.phys_port_cnt)
      .Number("deviceCapFlags", attr.device_cap_flags)
      .Number("maxMrSize", attr.max_mr_size)
      .Big("pageSizeCap", attr.page_size_cap)
      .Number("maxQp", attr.max_qp)
      .Number("maxQpWr", attr.max_qp_wr)
      .Number("maxSge", attr.max_sge)
      .Number("maxSgeRd", attr.max_sge_rd)
      .Number("maxCq", attr.max_cq)
      .Number("maxCqe", attr.max_cqe)
      .Number("maxMr", attr.max_mr)
      .Number("maxPd", attr.max_pd)
      .Number("maxQpRdAtom", attr.max_qp_rd_atom)
      .Number("maxResRdAtom", attr.max_res_rd_atom)
      .Number("maxQpInitRdAtom", attr.max_qp_init_rd_atom)
      .Number("atomicCap", attr.atomic_cap)
      .Number("maxMw", attr.max_mw)
      .Number("maxRawIpv6Qp", attr.max_raw_ipv6_qp)
      .Number("maxRawEthyQp", attr.max_raw_ethy_qp)
      .Number("maxMcastGrp", attr.max_mcast_grp)
      .Number("maxMcastQpAttach", attr.max_mcast_qp_attach)
      .Number("maxTotalMcastQpAttach", attr.max_total_mcast_qp_attach)
      .Number("maxAh", attr.max_ah)
      .Number("maxSrq", attr.max_srq)
      .Number("maxSrqWr", attr.max_srq_wr)
      .Number("maxSrqSge", attr.max_srq_sge)
      .Number("maxPkeys", attr.max_pkeys)
      .Number("localCaAckDelay", attr.local_ca_ack_delay);
  return fields.object();
}

Napi::Object DeviceAttrEx(Napi::Env env, const ibv_device_attr_ex& attr) {
  const auto& per_transport = attr.odp_caps.per_transport_caps;
  Fields odp(env);
  odp.Number("general", attr.odp_caps.general_caps)
      .Number("rc", per_transport.rc_odp_caps)
      .Number("uc", per_transport.uc_odp_caps)
      .Number("ud", per_transport.ud_odp_caps)
      .Number("xrc", attr.xrc_odp_caps);
  Fields tso(env);
  tso.Number("maxTso", attr.tso_caps.max_tso).Number("supportedQpts", attr.tso_caps.supported_qpts);
  Fields rss(env);
  rss.Number("supportedQpts", attr.rss_caps.supported_qpts)
      .Number("maxRwqIndirectionTables", attr.rss_caps.max_rwq_indirection_tables)
      .Number("maxRwqIndirectionTableSize", attr.rss_caps.max_rwq_indirection_table_size)
      .Big("rxHashFieldsMask", attr.rss_caps.rx_hash_fields_mask)
      .Number("rxHashFunction", attr.rss_caps.rx_hash_function);
  Fields pacing(env);
  pacing.Number("qpRateLimitMin", attr.packet_pacing_caps.qp_rate_limit_min)
      .Number("qpRateLimitMax", attr.packet_pacing_caps.qp_rate_limit_max)
      .Number("supportedQpts", attr.packet_pacing_caps.supported_qpts);
  Fields tag_matching(env);
  tag_matching.Number("maxRndvHdrSize", attr.tm_caps.max_rndv_hdr_size)
      .Number("maxNumTags", attr.tm_caps.max_num_tags)
      .Number("flags", attr.tm_caps.flags)
      .Number("maxOps", attr.tm_caps.max_ops)
      .Number("maxSge", attr.tm_caps.max_sge);
  Fields moderation(env);
  moderation.Number("maxCqCount", attr.cq_mod_caps.max_cq_count)
      .Number("maxCqPeriod", attr.cq_mod_caps.max_cq_period);
  Fields pci_atomic(env);
  pci_atomic.Number("fetchAdd", attr.pci_atomic_caps.fetch_add)
      .Number("swap", attr.pci_atomic_caps.swap)
      .Number("compareSwap", attr.pci_atomic_caps.compare_swap);
  Fields fields(env);
  fields.Big("deviceCapFlagsEx", attr.device_cap_flags_ex)
      .Big("completionTimestampMask", attr.completion_timestamp_mask)
      .Number("hcaCoreClock", attr.hca_core_clock)
      .Number("maxWqTypeRq", attr.max_wq_type_rq)
      .Number("rawPacketCaps", attr.raw_packet_caps)
      .Number("maxDmSize", attr.max_dm_size)
      .Number("physPortCntEx", attr.phys_port_cnt_ex)
      .Set("odpCaps", odp.object())
      .Set("tsoCaps", tso.object())
      .Set("rssCaps", rss.object())
      .Set("packetPacingCaps", pacing.object())
      .Set("tmCaps", tag_matching.object())
      .Set("cqModCaps", moderation.object())
      .Set("pciAtomicCaps", pci_atomic.object());
  return fields.object();
}

/// queryDevice(device): { name, provider, transport, attr, attrEx }
Napi::Value QueryDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  Fields fields(env);
  fields.Set("name", Napi::String::New(env, device->name()))
      .Set("provider", Napi::String::New(env, device->rules().name()))
      .Set("transport", Napi::String::New(env, TransportName(device->transport())))
      .Set("attr", DeviceAttr(env, device->attr()))
      .Set("attrEx", DeviceAttrEx(env, device->attr_ex()));
  return fields.object();
}

/// queryPort(device, port)
Napi::Value QueryPort(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const ibv_port_attr attr = device->QueryPort(static_cast<uint8_t>(U32(info, 1)));
  Fields fields(info.Env());
  fields.Number("state", attr.state)
      .Number("physState", attr.phys_state)
      .Number("maxMtu", attr.max_mtu)
      .Number("activeMtu", attr.active_mtu)
      .Number("maxMsgSz", attr.max_msg_sz)
      .Number("linkLayer", attr.link_layer)
      .Number("activeWidth", attr.active_width)
      .Number("activeSpeed", attr.active_speed)
      .Number("gidTblLen", attr.gid_tbl_len)
      .Number("pkeyTblLen", attr.pkey_tbl_len)
      .Number("portCapFlags", attr.port_cap_flags)
      .Number("portCapFlags2", attr.port_cap_flags2)
      .Number("flags", attr.flags)
      .Number("badPkeyCntr", attr.bad_pkey_cntr)
      .Number("qkeyViolCntr", attr.qkey_viol_cntr)
      .Number("lid", attr.lid)
      .Number("lmc", attr.lmc)
      .Number("smLid", attr.sm_lid)
      .Number("smSl", attr.sm_sl)
      .Number("maxVlNum", attr.max_vl_num)
      .Number("subnetTimeout", attr.subnet_timeout)
      .Number("initTypeReply", attr.init_type_reply);
  return fields.object();
}

Napi::Object DescribeGid(Napi::Env env, const ibv_gid_entry& entry) {
  char netdev[IF_NAMESIZE] = "";
  if (entry.ndev_ifindex != 0) if_indextoname(entry.ndev_ifindex, netdev);
  Fields fields(env);
  fields.Number("port", entry.port_num)
      .Number("index", entry.gid_index)
      .Set("gid", Napi::Buffer<uint8_t>::Copy(env, entry.gid.raw, sizeof entry.gid.raw))
      .Number("type", entry.gid_type)
      .Set("netdev", Napi::String::New(env, netdev));
  return fields.object();
}

/// queryGids(device): the occupied entries of all ports.
Napi::Value QueryGids(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const ibv_gid_entry& entry : Object<rdma::Device>(info, 0, Kind::kDevice)->QueryGids()) {
    list.Set(list.Length(), DescribeGid(info.Env(), entry));
  }
  return list;
}

/// queryGid(device, port, index): an entry, or undefined.
Napi::Value QueryGid(const Napi::CallbackInfo& info) {
  const auto entry = Object<rdma::Device>(info, 0, Kind::kDevice)
                         ->QueryGid(static_cast<uint8_t>(U32(info, 1)), U32(info, 2));
  return entry ? DescribeGid(info.Env(), *entry) : info.Env().Undefined();
}

/// queryPkey(device, port, index)
Napi::Value QueryPkey(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  return Napi::Number::New(info.Env(), device->QueryPkey(static_cast<uint8_t>(U32(info, 1)), U32(info, 2)));
}

/// queryRawClock(device)
Napi::Value QueryRawClock(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), Object<rdma::Device>(info, 0, Kind::kDevice)->QueryRawClock());
}

/// deviceOpcodes(device, qpType): what its provider carries out, a bit for each opcode.
Napi::Value DeviceOpcodes(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const auto type = static_cast<ibv_qp_type>(U32(info, 1));
  return Napi::Number::New(info.Env(), device->rules().opcodes(type));
}

uint32_t Probe(const rdma::ContextPtr& context, std::string_view what, ibv_qp_type type) {
  if (what == "qp") return rdma::ProbeQueuePair(context, type);
  if (what == "inline") return rdma::ProbeInline(context, type);
  if (what == "extendedQp") return rdma::ProbeExtendedQp(context);
  if (what == "flush") return rdma::ProbeFlush(context);
  if (what == "ece") return rdma::ProbeEce(context);
  if (what == "extendedCq") return rdma::ProbeExtendedCq(context, false);
  if (what == "timestamps") return rdma::ProbeExtendedCq(context, true);
  if (what == "cqResize") return rdma::ProbeCqResize(context);
  if (what == "dmaBuf") return rdma::ProbeDmaBuf(context);
  if (what == "clock") return rdma::ProbeClock(context);
  if (what == "rereg") return rdma::ProbeRereg(context);
  throw rdma::Error("probe", EINVAL, std::string(what));
}

/// probeDevice(device, what, qpType): 0 for no, else 1 or a number.
Napi::Value ProbeDevice(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const uint32_t found = Probe(device->context(), Text(info, 1), static_cast<ibv_qp_type>(U32(info, 2)));
  return Napi::Number::New(info.Env(), found);
}

}  // namespace

void RegisterDeviceQuery(Napi::Env env, Napi::Object exports) {
  Export<QueryDevice>(env, exports, "queryDevice");
  Export<QueryPort>(env, exports, "queryPort");
  Export<QueryGids>(env, exports, "queryGids");
  Export<QueryGid>(env, exports, "queryGid");
  Export<QueryPkey>(env, exports, "queryPkey");
  Export<QueryRawClock>(env, exports, "queryRawClock");
  Export<DeviceOpcodes>(env, exports, "deviceOpcodes");
  Export<ProbeDevice>(env, exports, "probeDevice");
}

}  // namespace binding

#include "qp_attr.h"

#include <arpa/inet.h>

#include <cerrno>

#include "../core/error.h"

namespace binding {

namespace {

void Set(Napi::Object& object, const char* name, double value) {
  object.Set(name, Napi::Number::New(object.Env(), value));
}

}  // namespace

uint32_t Field(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

std::string GidText(const ibv_gid& gid) {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(AF_INET6, gid.raw, text, sizeof text);
  return text;
}

ibv_gid ParseGid(const std::string& text) {
  ibv_gid gid = {};
  if (inet_pton(AF_INET6, text.c_str(), gid.raw) != 1) {
    throw rdma::Error("inet_pton", EINVAL, "\"" + text + "\" is not a GID");
  }
  return gid;
}

ibv_ah_attr ToAhAttr(const Napi::Object& from) {
  ibv_ah_attr attr = {};
  attr.dlid = static_cast<uint16_t>(Field(from, "dlid"));
  attr.sl = static_cast<uint8_t>(Field(from, "sl"));
  attr.src_path_bits = static_cast<uint8_t>(Field(from, "srcPathBits"));
  attr.static_rate = static_cast<uint8_t>(Field(from, "staticRate"));
  attr.port_num = static_cast<uint8_t>(Field(from, "port"));
  const Napi::Value grh = from.Get("grh");
  if (grh.IsObject()) {
    const auto route = grh.As<Napi::Object>();
    attr.is_global = 1;
    attr.grh.dgid = ParseGid(route.Get("dgid").ToString());
    attr.grh.flow_label = Field(route, "flowLabel");
    attr.grh.sgid_index = static_cast<uint8_t>(Field(route, "sgidIndex"));
    attr.grh.hop_limit = static_cast<uint8_t>(Field(route, "hopLimit"));
    attr.grh.traffic_class = static_cast<uint8_t>(Field(route, "trafficClass"));
  }
  return attr;
}

Napi::Object FromAhAttr(Napi::Env env, const ibv_ah_attr& attr) {
  Napi::Object result = Napi::Object::New(env);
  Set(result, "dlid", attr.dlid);
  Set(result, "sl", attr.sl);
  Set(result, "srcPathBits", attr.src_path_bits);
  Set(result, "staticRate", attr.static_rate);
  Set(result, "port", attr.port_num);
  if (attr.is_global != 0) {
    Napi::Object route = Napi::Object::New(env);
    route.Set("dgid", GidText(attr.grh.dgid));
    Set(route, "flowLabel", attr.grh.flow_label);
    Set(route, "sgidIndex", attr.grh.sgid_index);
    Set(route, "hopLimit", attr.grh.hop_limit);
    Set(route, "trafficClass", attr.grh.traffic_class);
    result.Set("grh", route);
  }
  return result;
}

ibv_qp_attr ToQpAttr(const Napi::Object& from) {
  ibv_qp_attr attr = {};
  attr.qp_state = static_cast<ibv_qp_state>(Field(from, "state"));
  attr.cur_qp_state = static_cast<ibv_qp_state>(Field(from, "curState"));
  attr.path_mtu = static_cast<ibv_mtu>(Field(from, "pathMtu"));
  attr.path_mig_state = static_cast<ibv_mig_state>(Field(from, "pathMigState"));
  attr.qkey = Field(from, "qkey");
  attr.rq_psn = Field(from, "rqPsn");
  attr.sq_psn = Field(from, "sqPsn");
  attr.dest_qp_num = Field(from, "destQpNum");
  attr.qp_access_flags = Field(from, "accessFlags");
  if (from.Get("ahAttr").IsObject()) attr.ah_attr = ToAhAttr(from.Get("ahAttr").As<Napi::Object>());
  if (from.Get("altAhAttr").IsObject()) attr.alt_ah_attr = ToAhAttr(from.Get("altAhAttr").As<Napi::Object>());
  attr.pkey_index = static_cast<uint16_t>(Field(from, "pkeyIndex"));
  attr.alt_pkey_index = static_cast<uint16_t>(Field(from, "altPkeyIndex"));
  attr.en_sqd_async_notify = static_cast<uint8_t>(Field(from, "enSqdAsyncNotify"));
  attr.max_rd_atomic = static_cast<uint8_t>(Field(from, "maxRdAtomic"));
  attr.max_dest_rd_atomic = static_cast<uint8_t>(Field(from, "maxDestRdAtomic"));
  attr.min_rnr_timer = static_cast<uint8_t>(Field(from, "minRnrTimer"));
  attr.port_num = static_cast<uint8_t>(Field(from, "port"));
  attr.timeout = static_cast<uint8_t>(Field(from, "timeout"));
  attr.retry_cnt = static_cast<uint8_t>(Field(from, "retryCnt"));
  attr.rnr_retry = static_cast<uint8_t>(Field(from, "rnrRetry"));
  attr.alt_port_num = static_cast<uint8_t>(Field(from, "altPort"));
  attr.alt_timeout = static_cast<uint8_t>(Field(from, "altTimeout"));
  attr.rate_limit = Field(from, "rateLimit");
  return attr;
}

Napi::Object FromQpAttr(Napi::Env env, const ibv_qp_attr& attr) {
  Napi::Object result = Napi::Object::New(env);
  Set(result, "state", attr.qp_state);
  Set(result, "curState", attr.cur_qp_state);
  Set(result, "pathMtu", attr.path_mtu);
  Set(result, "pathMigState", attr.path_mig_state);
  Set(result, "qkey", attr.qkey);
  Set(result, "rqPsn", attr.rq_psn);
  Set(result, "sqPsn", attr.sq_psn);
  Set(result, "destQpNum", attr.dest_qp_num);
  Set(result, "accessFlags", attr.qp_access_flags);
  result.Set("ahAttr", FromAhAttr(env, attr.ah_attr));
  result.Set("altAhAttr", FromAhAttr(env, attr.alt_ah_attr));
  Set(result, "pkeyIndex", attr.pkey_index);
  Set(result, "altPkeyIndex", attr.alt_pkey_index);
  Set(result, "enSqdAsyncNotify", attr.en_sqd_async_notify);
  Set(result, "sqDraining", attr.sq_draining);
  Set(result, "maxRdAtomic", attr.max_rd_atomic);
  Set(result, "maxDestRdAtomic", attr.max_dest_rd_atomic);
  Set(result, "minRnrTimer", attr.min_rnr_timer);
  Set(result, "port", attr.port_num);
  Set(result, "timeout", attr.timeout);
  Set(result, "retryCnt", attr.retry_cnt);
  Set(result, "rnrRetry", attr.rnr_retry);
  Set(result, "altPort", attr.alt_port_num);
  Set(result, "altTimeout", attr.alt_timeout);
  Set(result, "rateLimit", attr.rate_limit);
  Set(result, "maxSendWr", attr.cap.max_send_wr);
  Set(result, "maxRecvWr", attr.cap.max_recv_wr);
  Set(result, "maxSendSge", attr.cap.max_send_sge);
  Set(result, "maxRecvSge", attr.cap.max_recv_sge);
  Set(result, "maxInlineData", attr.cap.max_inline_data);
  return result;
}

}  // namespace binding

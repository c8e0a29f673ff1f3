// show dataplane: processes, engine, devices with their queues, what each hook decided, every drop by reason, the
// balance.
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;
using Verdicts = std::array<std::uint64_t, POSTERN_VERDICT_COUNT>;

json worker_json(const WorkerView& worker) {
  return {{"running", worker.running},
          {"pid", worker.pid},
          {"threads", worker.threads},
          {"starts", worker.starts},
          {"engine", worker.engine},
          {"io_uring", worker.io_uring},
          {"multishot_read", worker.multishot_read},
          {"wakeups", worker.wakeups},
          {"system_calls", worker.system_calls},
          {"handed", worker.handed},
          {"helped", worker.helped}};
}

json queue_json(const QueueView& queue) {
  return {{"queue", queue.queue},
          {"thread", queue.thread},
          {"rx_packets", queue.rx_packets},
          {"rx_bytes", queue.rx_bytes},
          {"tx_packets", queue.tx_packets},
          {"tx_bytes", queue.tx_bytes},
          {"tx_refused", queue.tx_refused},
          {"kernel_rx_dropped", queue.kernel_rx_dropped},
          {"kernel_rx_ring_full", queue.kernel_rx_ring_full},
          {"kernel_rx_fill_empty", queue.kernel_rx_fill_empty}};
}

json verdicts_json(const Verdicts& verdicts) {
  json out = json::object();
  for (std::size_t i = 0; i < verdicts.size(); ++i) out[std::string(verdict_texts[i].name)] = verdicts[i];
  return out;
}

json device_json(const DeviceView& device) {
  json queues = json::array();
  for (const QueueView& queue : device.queues) queues.push_back(queue_json(queue));
  return {{"name", device.name},
          {"ifindex", device.ifindex},
          {"role", device.role},
          {"admin", device.admin_up ? "up" : "down"},
          {"carrier", device.carrier},
          {"mtu", device.mtu},
          {"mac", or_null(device.mac)},
          {"xdp_mode", device.xdp_mode},
          {"zero_copy", device.zero_copy},
          {"plain_side", device.plain_side},
          {"plain_side_reason", device.plain_side_reason},
          {"queues", std::move(queues)},
          {"verdicts",
           {{"xdp_ingress", verdicts_json(device.xdp_verdicts)},
            {"tc_egress", verdicts_json(device.tc_egress_verdicts)},
            {"tc_ingress", verdicts_json(device.tc_ingress_verdicts)}}},
          {"kernel",
           {{"rx_packets", device.link_rx_packets},
            {"tx_packets", device.link_tx_packets},
            {"rx_dropped", device.link_rx_dropped},
            {"tx_dropped", device.link_tx_dropped},
            {"qdisc_drops", device.qdisc_drops}}}};
}

json drops_json(const NodeView& view) {
  json out = json::array();
  for (std::size_t i = 1; i < drop_count; ++i)  // 0 is "not a drop"
    if (view.kernel_drops[i] + view.worker_drops[i] != 0)
      out.push_back({{"reason", drop_texts[i].name},
                     {"text", drop_texts[i].text},
                     {"kernel", view.kernel_drops[i]},
                     {"worker", view.worker_drops[i]}});
  return out;
}

// maps/counters.hpp: rx + split + made = tx + merged + held + drops. The difference is what is on its way at this
// moment.
json balance_json(const NodeView& view) {
  std::uint64_t in = 0, out = 0, drops = 0;
  for (const DeviceView& device : view.devices)
    for (const QueueView& queue : device.queues) {
      in += queue.rx_packets;
      out += queue.tx_packets;
    }
  for (std::size_t i = 1; i < drop_count; ++i) drops += view.worker_drops[i];
  const WorkerView& worker = view.worker;
  const auto gained = static_cast<std::int64_t>(in + worker.split + worker.made);
  const auto gone = static_cast<std::int64_t>(out + worker.merged + worker.held + drops);
  return {{"in", in},       {"split", worker.split},      {"made", worker.made},
          {"out", out},     {"merged", worker.merged},    {"held", worker.held},
          {"drops", drops}, {"difference", gained - gone}};
}

}  // namespace

Result<json> show_dataplane(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {}));
  json devices = json::array();
  for (const DeviceView& device : view.devices) devices.push_back(device_json(device));
  return json{{"node", view.node},
              {"hostname", view.document.system.hostname.empty() ? view.node : view.document.system.hostname},
              {"state", view.state},
              {"uptime_s", view.uptime_s},
              {"generation", view.generation},
              {"kernel", view.kernel},
              {"flows", view.flows.size()},
              {"worker", worker_json(view.worker)},
              {"devices", std::move(devices)},
              {"drops", drops_json(view)},
              {"balance", balance_json(view)}};
}

}  // namespace postern::loader

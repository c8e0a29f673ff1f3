// show dataplane: a layout of our own.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string render_worker(const json& worker) {
  if (!flag(worker, "running")) return "Worker: not running\n";
  const auto starts = number(worker, "starts");
  std::string out =
      fmt::format("Worker: running, pid {}, {} thread{}, started {} time{}\n", number(worker, "pid"),
                  number(worker, "threads"), number(worker, "threads") == 1 ? "" : "s", starts, starts == 1 ? "" : "s");
  out += "  Engine: " + text(worker, "engine") + "\n";
  const char* const waiting = !flag(worker, "io_uring")        ? "poll"
                              : flag(worker, "multishot_read") ? "io_uring, multishot read"
                                                               : "io_uring";
  return out + fmt::format("  Waits by {}; {} wakeups, {} system calls\n", waiting, number(worker, "wakeups"),
                           number(worker, "system_calls"));
}

std::string render_queue(const json& q) {
  return fmt::format("  Queue {}, thread {}: in {} packets, {} bytes; out {} packets, {} bytes; refused {}\n",
                     number(q, "queue"), number(q, "thread"), number(q, "rx_packets"), number(q, "rx_bytes"),
                     number(q, "tx_packets"), number(q, "tx_bytes"), number(q, "tx_refused")) +
         fmt::format("    Kernel losses: dropped {}, receive ring full {}, fill ring empty {}\n",
                     number(q, "kernel_rx_dropped"), number(q, "kernel_rx_ring_full"),
                     number(q, "kernel_rx_fill_empty"));
}

// Hooks that never saw a packet on this device are left out.
std::string render_verdicts(const json& verdicts, const char* hook, const char* label) {
  std::string out;
  bool any = false;
  for (const auto& [name, count] : verdicts.at(hook).items()) {
    any = any || count != 0;
    out += fmt::format("{}{} {}", out.empty() ? " " : ", ", printable(name), count.get<std::uint64_t>());
  }
  return any ? fmt::format("  {}:{}\n", label, out) : "";
}

std::string render_device(const json& device) {
  const json& kernel = device.at("kernel");
  const json& verdicts = device.at("verdicts");
  std::string out = fmt::format("\n{} is {}, carrier {}; {}, ifindex {}, MTU {}", text(device, "name"),
                                text(device, "admin"), flag(device, "carrier") ? "on" : "off", text(device, "role"),
                                number(device, "ifindex"), number(device, "mtu"));
  if (const auto mac = text(device, "mac"); !mac.empty()) out += ", address " + mac;
  out += "\n";
  if (const auto mode = text(device, "xdp_mode"); !mode.empty() && mode != "none")
    out += fmt::format("  XDP {}, {}\n", mode, flag(device, "zero_copy") ? "zero copy" : "copy");
  if (const auto plain = text(device, "plain_side"); !plain.empty()) {
    const auto reason = text(device, "plain_side_reason");
    out += "  Plain side by " + plain + (reason.empty() ? "" : " (" + reason + ")") + "\n";
  }
  for (const json& queue : list(device, "queues")) out += render_queue(queue);
  out += render_verdicts(verdicts, "xdp_ingress", "XDP ingress") + render_verdicts(verdicts, "tc_egress", "TC egress") +
         render_verdicts(verdicts, "tc_ingress", "TC ingress");
  return out + fmt::format("  Link: in {}, out {} packets; dropped in {}, out {}, qdisc {}\n",
                           number(kernel, "rx_packets"), number(kernel, "tx_packets"), number(kernel, "rx_dropped"),
                           number(kernel, "tx_dropped"), number(kernel, "qdisc_drops"));
}

std::string render_drops(const json& drops) {
  if (drops.empty()) return "\nDrops: none\n";
  std::string out = fmt::format("\n{:<26} {:>12} {:>12}\n", "Drops by reason", "kernel", "worker");
  for (const json& drop : drops)
    out += fmt::format("  {:<24} {:>12} {:>12}  {}\n", text(drop, "reason"), number(drop, "kernel"),
                       number(drop, "worker"), text(drop, "text"));
  return out;
}

std::string render_balance(const json& b) {
  return fmt::format(
      "\nBalance: in {} + split {} + made {} = out {} + merged {} + held {} + drops {} (on the way: {})\n",
      number(b, "in"), number(b, "split"), number(b, "made"), number(b, "out"), number(b, "merged"), number(b, "held"),
      number(b, "drops"), b.value("difference", std::int64_t{0}));
}

}  // namespace

std::string render_dataplane(const json& data) {
  std::string out =
      fmt::format("Node {} ({}) is {}, up {}, kernel {}\nPolicy generation {}, {} flow{}\n\n", text(data, "node"),
                  text(data, "hostname"), text(data, "state"), clock(number(data, "uptime_s")), text(data, "kernel"),
                  number(data, "generation"), number(data, "flows"), number(data, "flows") == 1 ? "" : "s");
  out += render_worker(data.at("worker"));
  for (const json& device : list(data, "devices")) out += render_device(device);
  return out + render_drops(list(data, "drops")) + render_balance(data.at("balance"));
}

}  // namespace postern::cli

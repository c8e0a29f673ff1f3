// show interface tunnel N (SO-01): 27 lines, in this order.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string time_or_never(const json& object, const char* key) {
  return object.at(key).is_null() ? "never" : clock(number(object, key));
}

std::string addresses(const json& data) {
  std::string out;
  bool first = true;
  for (const json& one : list(data, "addresses")) {
    const std::string shown = address(one.get<std::string>());
    if (is_v6(shown))
      out += "  IPv6 address is " + shown + "\n";
    else
      out += (first ? "  Internet address is " : "  Secondary address ") + shown + "\n";
    first = first && is_v6(shown);
  }
  return out.empty() ? "  Internet protocol processing disabled\n" : out;
}

std::string interval(std::uint64_t seconds) {
  return seconds % 60 == 0 ? fmt::format("{} minute", seconds / 60) : fmt::format("{} second", seconds);
}

std::string head(const json& data) {
  const json& tunnel = data.at("tunnel");
  const std::string admin = text(data, "admin") == "up" ? "up" : "administratively down";
  std::string out = fmt::format("{} is {}, line protocol is {}\n  Hardware is Tunnel\n", text(data, "interface"), admin,
                                text(data, "line_protocol"));
  out += addresses(data);
  out += fmt::format("  MTU {} bytes, BW {} Kbit, DLY {} usec,\n", number(data, "mtu"), number(data, "bandwidth_kbit"),
                     number(data, "delay_usec"));
  out += fmt::format("  reliability {}/255, txload 0/255, rxload 0/255\n", number(data, "reliability"));
  out += "  Encapsulation TUNNEL, loopback not set\n  Keepalive not set\n";
  out += fmt::format("  Tunnel source {}, destination {}\n",
                     address(text(tunnel, "source", text(tunnel, "source_interface"))),
                     address(text(tunnel, "destination")));
  out += fmt::format("  Tunnel protocol/transport {}/{}, key disabled, sequencing disabled\n", text(tunnel, "protocol"),
                     text(tunnel, "transport"));
  out += fmt::format("  Tunnel TTL {}\n  Checksumming of packets disabled, fast tunneling enabled\n",
                     number(tunnel, "ttl"));
  out += fmt::format("  Tunnel transmit bandwidth {} (kbps)\n  Tunnel receive bandwidth {} (kbps)\n",
                     number(tunnel, "tx_bw_kbps"), number(tunnel, "rx_bw_kbps"));
  return out + fmt::format("  Tunnel protection via IPsec (profile \"{}\")\n", text(tunnel, "profile"));
}

std::string queues(const json& data) {
  const json& last = data.at("last");
  const json& queue = data.at("queue");
  const json &in = queue.at("in"), &out_queue = queue.at("out"), &rate = data.at("rate");
  const std::string span = interval(number(rate, "interval_s"));
  std::string out = fmt::format("  Last input {}, output {}, output hang never\n", time_or_never(last, "input"),
                                time_or_never(last, "output"));
  out += fmt::format("  Last clearing of \"show interface\" counters {}\n", time_or_never(last, "clear"));
  out +=
      fmt::format("  Input queue: {}/{}/{}/{} (size/max/drops/flushes); Total output drops: {}\n", number(in, "size"),
                  number(in, "max"), number(in, "drops"), number(in, "flushes"), number(queue, "output_drops"));
  out += fmt::format("  Queueing strategy: fifo\n  Output queue: {}/{} (size/max)\n", number(out_queue, "size"),
                     number(out_queue, "max"));
  out += fmt::format("  {} input rate {} bits/sec, {} packets/sec\n", span, number(rate, "in_bps"),
                     number(rate, "in_pps"));
  return out + fmt::format("  {} output rate {} bits/sec, {} packets/sec\n", span, number(rate, "out_bps"),
                           number(rate, "out_pps"));
}

std::string counters(const json& c) {
  return fmt::format("     {} packets input, {} bytes, 0 no buffer\n", number(c, "in_packets"), number(c, "in_bytes")) +
         "     Received 0 broadcasts, 0 runts, 0 giants, 0 throttles\n" +
         fmt::format("     {} input errors, 0 CRC, 0 frame, 0 overrun, 0 ignored, 0 abort\n", number(c, "in_errors")) +
         fmt::format("     {} packets output, {} bytes, 0 underruns\n", number(c, "out_packets"),
                     number(c, "out_bytes")) +
         fmt::format("     {} output errors, 0 collisions, 0 interface resets\n", number(c, "out_errors")) +
         "     0 output buffer failures, 0 output buffers swapped out\n";
}

}  // namespace

std::string render_interface_tunnel(const json& data) {
  return head(data) + queues(data) + counters(data.at("counters"));
}

}  // namespace postern::cli

// What is said on control.sock.
#include <algorithm>

#include <sys/socket.h>

#include "base/device_names.hpp"
#include "base/log.hpp"
#include "loader/node.hpp"
#include "loader/show.hpp"
#include "loader/view.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

Result<CaptureSide> side_of(const json& args) {
  const auto side = args.value("side", std::string("both"));
  if (side == "plain") return CaptureSide::plain;
  if (side == "cipher") return CaptureSide::cipher;
  if (side == "both") return CaptureSide::both;
  return fail("side is plain, cipher or both");
}

// What postern-ike answers by itself.
bool is_for_ike(const std::string& said) {
  return said.starts_with("show crypto ikev2") || said.starts_with("show crypto isakmp") || said == "show ike" ||
         said == "clear crypto session" || said == "crypto session connect" || said == "crypto session rekey" ||
         said == "crypto session redirect" || said == "debug crypto ikev2" || said == "no debug crypto ikev2" ||
         said == "undebug all";
}

}  // namespace

ControlReply Node::command(const std::string& said, json args) {
  spdlog::debug("command: {}", said);
  if (said == "config apply") return command_apply(std::move(args));
  if (said == "config diff") return command_diff(std::move(args));
  if (said == "config confirm") return command_confirm();
  if (said == "clear crypto sa") return command_clear(args);
  if (is_for_ike(said)) return ask_ike(said, args);
  if (said.starts_with("show crypto pki")) return ask_pki(said, args);
  if (said == "crypto pki bundle") return command_bundle(said, args);
  if (said == "capture") return command_capture(args);
  if (said == "stop" || said == "teardown") {
    ControlReply reply = ControlReply::success({{"stopping", paths_.name}});
    reply.afterwards = [this, release = said == "teardown"] {
      release_ = release;
      loop_->stop();
    };
    return reply;
  }
  return command_show(said, args);
}

// CM-23: the one SA with this destination, protocol and SPI, as `show crypto ipsec sa` prints them.
const SaSlot* Node::find_sa(const IpAddress& destination, IpProto protocol, std::uint32_t spi) const {
  for (std::uint32_t index = 0; index < memory_->capacity(); ++index) {
    const SaSlot* const slot = memory_->live(index);
    if (slot == nullptr || slot->parameters.spi != spi || slot->parameters.protocol != protocol) continue;
    const bool inbound = slot->parameters.direction == SaDirection::inbound;
    const SaEnds ends = ends_of(*slot);
    if ((inbound ? ends.local : ends.remote) == destination) return slot;
  }
  return nullptr;
}

// Its pair goes with it: half a pair is of no use to anybody.
ControlReply Node::command_clear_entry(const json& entry) {
  const auto text = [&](const char* key) { return entry.is_object() ? entry.value(key, json()) : json(); };
  const json destination = text("destination"), protocol = text("protocol"), spi = text("spi");
  const auto address = destination.is_string() ? IpAddress::parse(destination.get<std::string>())
                                               : Result<IpAddress>(fail("entry: the destination is not an address"));
  if (!address) return ControlReply::failure(address.error().message(), 2);
  if ((protocol != "esp" && protocol != "ah") || !spi.is_number_unsigned() || spi > 0xffffffffU)
    return ControlReply::failure("entry: a destination, esp or ah, and an SPI", 2);
  const SaSlot* const found = find_sa(*address, protocol == "esp" ? IpProto::esp : IpProto::ah, spi);
  if (found == nullptr) return ControlReply::failure("there is no such SA");
  if (found->installed_by.load(std::memory_order_relaxed) == SaInstaller::ike)
    return ask_ike("clear crypto sa", {{"spi", spi}});
  return command_clear({{"spi", spi}, {"peer", ends_of(*found).remote.text()}});
}

// clear crypto sa [peer A] [map NAME] [interface NAME] [spi SPI] [entry A esp SPI]
ControlReply Node::command_clear(const json& args) {
  if (args.contains("entry")) return command_clear_entry(args["entry"]);
  const auto text = [&](const char* key) {
    return args.contains(key) && args[key].is_string() ? args[key].get<std::string>() : "";
  };
  const std::string peer = text("peer"), map = text("map"), interface = text("interface");
  std::optional<IpAddress> peer_address;
  if (const auto parsed = IpAddress::parse(peer)) peer_address = *parsed;
  const auto flow_matches = [&](const PlannedSaPair& pair) {
    return std::ranges::any_of(plan_.flows, [&](const PlannedFlow& flow) {
      return flow.sa_pair == owner_of(pair) && (map.empty() || flow.map == map) &&
             (interface.empty() || is_among(interface, flow.interface));
    });
  };
  // AH and ESP of one flow go together, whichever has the SPI.
  std::set<std::string> with_spi;
  if (args.contains("spi") && args["spi"].is_number_unsigned())
    for (const PlannedSaPair& pair : plan_.sas)
      if (const auto spi = args["spi"].get<std::uint32_t>();
          pair.inbound.parameters.spi == spi || pair.outbound.parameters.spi == spi)
        with_spi.insert(owner_of(pair));
  const auto cleared = clear_sas([&](const PlannedSaPair& pair) {
    if (!peer.empty() && pair.outbound.parameters.remote != peer_address) return false;  // by name: postern-ike's
    if (args.contains("spi") && !with_spi.contains(owner_of(pair))) return false;
    return flow_matches(pair);
  });
  if (!cleared) return ControlReply::failure(cleared.error().message());
  spdlog::info("clear crypto sa: {} SA pairs made anew", *cleared);
  if (!plan_.negotiates || !ike_) return ControlReply::success({{"cleared", *cleared}});
  ControlReply reply = ask_ike("clear crypto sa", args);
  if (reply.line.value("ok", false) == true)
    reply.line["data"]["cleared"] = *cleared + reply.line["data"].value("cleared", 0U);
  return reply;
}

ControlReply Node::ask_ike(const std::string& said, const json& args) {
  if (!ike_) return ControlReply::failure("postern-ike is not running");
  auto answer = ike_->ask({{"command", said}, {"args", args}});
  if (!answer) return ControlReply::failure(answer.error().message());
  return {std::move(*answer), {}, {}};
}

ControlReply Node::command_capture(const json& args) {
  if (!worker_) return ControlReply::failure("the worker is not running");
  const auto side = side_of(args);
  if (!side) return ControlReply::failure(side.error().message(), 2);
  const auto snap = args.contains("snap_bytes") && args["snap_bytes"].is_number_unsigned()
                        ? std::clamp<std::uint64_t>(args["snap_bytes"].get<std::uint64_t>(), 64, 262144)
                        : 262144;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return ControlReply::failure(fail_errno("capture socket").error().message());
  Fd reader(ends[0]);
  const Fd writer(ends[1]);
  // SEQPACKET: the reader sees the end when the worker goes. A burst of packets waits here; what does not fit is
  // counted as lost by the worker.
  const int bytes = 8 << 20;
  ::setsockopt(writer.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  ::setsockopt(reader.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if (const auto started = worker_->link.start_capture(*side, static_cast<std::uint32_t>(snap), writer.get()); !started)
    return ControlReply::failure(started.error().message());
  json interfaces = json::array();
  for (const LinkFacts& link : facts_.links) interfaces.push_back({{"ifindex", link.ifindex}, {"name", link.name}});
  ControlReply reply = ControlReply::success({{"snap_bytes", snap}, {"interfaces", interfaces}});
  reply.descriptor = std::move(reader);
  return reply;
}

ControlReply Node::command_show(const std::string& said, const json& args) {
  NodeView seen = view();
  // Sessions and lifetimes in seconds are IKE's to tell; without its answer the rest is shown.
  if (plan_.negotiates &&
      (said == "show crypto session" || said == "show crypto ipsec sa" || said == "show crypto map"))
    if (auto reply = ask_ike("show crypto session", json::object()); reply.line.value("ok", false) == true)
      seen.ike = std::move(reply.line["data"]);
  auto shown = show(said, args, seen);
  if (!shown) return ControlReply::failure(shown.error().message());
  return ControlReply::success(std::move(*shown));
}

NodeView Node::view() {
  // Fresh: kernel-side counters of the AF_XDP sockets, link counters.
  if (worker_)
    if (const auto refreshed = worker_->link.refresh_counters(); !refreshed)
      spdlog::warn("{}", refreshed.error().message());
  std::set<std::uint32_t> devices;
  for (const LinkFacts& link : facts_.links) devices.insert(link.ifindex);
  if (const auto sampled = stats_.sample(*netlink_, devices, Clock::now()); !sampled)
    spdlog::debug("{}", sampled.error().message());
  const auto links = netlink_->links();
  return build_view({paths_.name, state_text(), started_, document_, plan_, facts_, state_, *memory_, kernel_->maps(),
                     paths_.pin_dir, bindings_, stats_, links ? *links : std::vector<Link>{},
                     worker_ ? worker_->process.id.pid : 0, worker_traits_});
}

}  // namespace postern::loader

// Commands of the operator, as posternd passes them on.
#include "base/log.hpp"
#include "ike/daemon.hpp"

namespace postern::ike {
namespace {

using nlohmann::json;

Result<std::optional<std::uint32_t>> number_of(const json& args, const char* key) {
  if (!args.contains(key)) return std::nullopt;
  if (!args[key].is_number_unsigned() || args[key].get<std::uint64_t>() > UINT32_MAX)
    return fail(std::string(key) + " is a number");
  return args[key].get<std::uint32_t>();
}

Result<std::string> text_of(const json& args, const char* key) {
  if (!args.contains(key)) return std::string();
  if (!args[key].is_string()) return fail(std::string(key) + " is a text");
  return args[key].get<std::string>();
}

Result<Manager::Filter> filter_of(const json& args) {
  Manager::Filter filter;
  POSTERN_TRY(peer, text_of(args, "peer"));
  if (!peer.empty()) {
    if (const auto address = IpAddress::parse(peer))
      filter.remote = *address;
    else
      filter.remote_name = peer;
  }
  POSTERN_TRY(interface, text_of(args, "interface"));
  POSTERN_TRY(map, text_of(args, "map"));
  POSTERN_TRY(sequence, number_of(args, "sequence"));
  POSTERN_TRY(spi, number_of(args, "spi"));
  filter.interface = std::move(interface);
  filter.map = std::move(map);
  filter.sequence = sequence;
  filter.spi = spi;
  return filter;
}

json connect(Engine& engine, const json& args, const Manager::Filter& filter, Time now) {
  if (args.empty()) return failure("say which: peer, interface, or map and sequence", 2);
  const auto count = engine.manager().connect(filter, now);
  if (count.matched == 0) return failure("no crypto map entry and no tunnel that negotiates is of that name", 1);
  return success({{"connections", count.matched}, {"started", count.done}});
}

json redirect(Engine& engine, const json& args, const Manager::Filter& filter, Time now) {
  const auto text = text_of(args, "to");
  if (!text) return failure(text.error().message(), 2);
  const auto to = GatewayIdentity::parse(*text);
  if (!to) return failure("say where to: \"to\" and the address or the name of a gateway", 2);
  const auto count = engine.manager().redirect(filter, *to, now);
  return success({{"to", to->text()}, {"matched", count.matched}, {"redirected", count.done}});
}

json set_debug(Engine& engine, bool on) {
  engine.events().set_debug(on);
  spdlog::info("debug crypto ikev2: {}", on ? "on" : "off");
  return success({{"debug", on}});
}

ShowInput input_of(const Engine& engine, const DaemonFacts& facts, Time now) {
  return {facts,
          now,
          engine.manager().policy().get(),
          engine.manager().rows(now),
          engine.manager().negotiating(),
          &engine.diagnosis(),
          engine.manager().current_peers(),
          engine.manager().names()};
}

}  // namespace

nlohmann::json command(Engine& engine, const DaemonFacts& facts, const json& request, Time now) {
  const auto& said = request["command"].get_ref<const std::string&>();
  const json args = request.value("args", json::object());
  if (!args.is_object()) return failure("args is an object", 2);
  if (said.starts_with("show "))
    if (auto shown = show(said, args, input_of(engine, facts, now))) return std::move(*shown);
  if (said == "debug crypto ikev2") return set_debug(engine, true);
  if (said == "no debug crypto ikev2" || said == "undebug all") return set_debug(engine, false);
  if (said == "goodbye") {
    engine.say_goodbye(now);
    return success(json::object());
  }
  const auto filter = filter_of(args);
  if (!filter) return failure(filter.error().message(), 2);
  if (said == "clear crypto session") return success({{"cleared", engine.manager().clear_sessions(*filter, now).done}});
  if (said == "clear crypto sa") return success({{"cleared", engine.manager().clear_children(*filter, now).done}});
  if (said == "crypto session connect") return connect(engine, args, *filter, now);
  if (said == "crypto session rekey") return success({{"rekeyed", engine.manager().rekey(*filter, now).done}});
  if (said == "crypto session redirect") return redirect(engine, args, *filter, now);
  return failure("postern-ike does not know the command \"" + said + "\"", 2);
}

}  // namespace postern::ike

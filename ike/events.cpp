#include "ike/events.hpp"

#include <array>

#include <fmt/format.h>

#include "base/log.hpp"

namespace postern::ike {
namespace {

// A bare word in key=value, or quoted.
std::string value_text(std::string_view value) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("._:/-[]").find(c) != std::string_view::npos;
  };
  if (!value.empty() && std::ranges::all_of(value, plain)) return std::string(value);
  std::string out = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02X}", byte);
    else if (c == '"' || c == '\\')
      out += {'\\', c};
    else
      out += c;
  }
  return out + '"';
}

std::string endpoint_text(const Endpoint& endpoint) {
  return endpoint.address.family() == Family::v4 ? fmt::format("{}:{}", endpoint.address.text(), endpoint.port)
                                                 : fmt::format("[{}]:{}", endpoint.address.text(), endpoint.port);
}

spdlog::level::level_enum level_of(EventKind kind) {
  switch (kind) {
    case EventKind::attempt_failed:
    case EventKind::peer_silent: return spdlog::level::warn;
    case EventKind::retransmitted:
    case EventKind::trace: return spdlog::level::debug;
    default: return spdlog::level::info;
  }
}

}  // namespace

std::string_view name_of(EventKind kind) {
  switch (kind) {
    case EventKind::ike_up: return "ike_up";
    case EventKind::ike_rekeyed: return "ike_rekeyed";
    case EventKind::ike_down: return "ike_down";
    case EventKind::child_up: return "child_up";
    case EventKind::child_rekeyed: return "child_rekeyed";
    case EventKind::child_down: return "child_down";
    case EventKind::attempt_failed: return "attempt_failed";
    case EventKind::peer_silent: return "peer_silent";
    case EventKind::nat_detected: return "nat_detected";
    case EventKind::peer_moved: return "peer_moved";
    case EventKind::we_moved: return "we_moved";
    case EventKind::redirected: return "redirected";
    case EventKind::name_resolved: return "name_resolved";
    case EventKind::message_ignored: return "message_ignored";
    case EventKind::retransmitted: return "retransmitted";
    case EventKind::trace: return "trace";
  }
  return "event";
}

std::string_view name_of(FailureKind kind) {
  switch (kind) {
    case FailureKind::no_answer: return "no_answer";
    case FailureKind::no_answer_after_float: return "no_answer_after_float";
    case FailureKind::no_common_ike_proposal: return "no_common_ike_proposal";
    case FailureKind::no_common_child_proposal: return "no_common_child_proposal";
    case FailureKind::wrong_key: return "wrong_key";
    case FailureKind::certificate: return "certificate";
    case FailureKind::credential: return "credential";
    case FailureKind::wrong_password: return "wrong_password";
    case FailureKind::unknown_user: return "unknown_user";
    case FailureKind::eap_method: return "eap_method";
    case FailureKind::wrong_identity: return "wrong_identity";
    case FailureKind::selectors: return "selectors";
    case FailureKind::pairs_required: return "pairs_required";
    case FailureKind::no_connection: return "no_connection";
    case FailureKind::invalid_syntax: return "invalid_syntax";
    case FailureKind::refused: return "refused";
    case FailureKind::install_failed: return "install_failed";
    case FailureKind::replaced: return "replaced";
    case FailureKind::unresolved: return "unresolved";
    case FailureKind::redirect_loop: return "redirect_loop";
  }
  return "failure";
}

std::string spi_text(std::uint64_t ike_spi) { return fmt::format("{:016X}", ike_spi); }

std::string line_of(const Event& event) {
  std::string out = fmt::format("event={}", name_of(event.kind));
  const auto add = [&](const char* key, std::string_view value) {
    if (!value.empty()) out += fmt::format(" {}={}", key, value_text(value));
  };
  add("connection", event.connection);
  add("child", event.child);
  add("local", endpoint_text(event.local));
  add("remote", endpoint_text(event.remote));
  add("remote_name", event.remote_name);
  if (event.spi_i != 0) add("spi_i", spi_text(event.spi_i));
  if (event.spi_r != 0) add("spi_r", spi_text(event.spi_r));
  if (event.spi_in != 0) add("spi_in", fmt::format("0x{:X}", event.spi_in));
  if (event.spi_out != 0) add("spi_out", fmt::format("0x{:X}", event.spi_out));
  add("role", event.initiator ? "initiator" : "responder");
  if (event.failure) {
    const Failure& failure = *event.failure;
    add("failure", name_of(failure.kind));
    add("offered", failure.offered);
    add("accepted", failure.accepted);
    add("differs", failure.differs);
    add("remedy", failure.remedy);
    if (failure.by_peer) add("said_by", "peer");
  }
  add("text", event.text);
  return out;
}

void EventLog::take(const Event& event, Time now) {
  auto level = level_of(event.kind);
  if (event.kind == EventKind::message_ignored && !ignored_.take(now)) {
    ++suppressed_;
    return;
  }
  if (level == spdlog::level::debug && debug_) level = spdlog::level::info;
  if (!spdlog::should_log(level)) return;
  spdlog::log(level, "{}", line_of(event));
}

}  // namespace postern::ike

#include "cli/words.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

constexpr std::array<std::string_view, 2> map_keywords = {"tag", "interface"};
constexpr std::array<std::string_view, 1> tag_keyword = {"tag"};
constexpr std::array<std::string_view, 3> sa_keywords = {"interface", "map", "peer"};
constexpr std::array<std::string_view, 5> clear_keywords = {"entry", "interface", "map", "peer", "spi"};
constexpr std::array<std::string_view, 2> session_keywords = {"interface", "peer"};
constexpr std::array<std::string_view, 1> peer_keyword = {"peer"};
constexpr std::array<std::string_view, 3> clear_session_keywords = {"interface", "map", "peer"};
constexpr std::array<std::string_view, 4> redirect_keywords = {"interface", "map", "peer", "to"};
constexpr std::array<std::string_view, 4> connect_keywords = {"interface", "map", "peer", "sequence"};

const std::array all_commands = {
    Command{"show access-lists",
            "[NAME]",
            {},
            Action::ask,
            render_access_lists,
            "access lists and what their rules matched"},
    Command{"show crypto map", "", map_keywords, Action::ask, render_crypto_map,
            "crypto map sets, their entries and interfaces"},
    Command{"show crypto dynamic-map", "", tag_keyword, Action::ask, render_crypto_dynamic_map,
            "templates for peers that are not known beforehand"},
    Command{"show crypto ipsec sa", "", sa_keywords, Action::ask, render_crypto_ipsec_sa,
            "security associations and their counters"},
    Command{"show crypto ipsec transform-set", "", tag_keyword, Action::ask, render_crypto_ipsec_transform_set,
            "transform sets, their modes, and what uses them"},
    Command{"show crypto session", "", session_keywords, Action::ask, render_crypto_session,
            "peers, their status and flows", true},
    Command{"show interface tunnel", "NUMBER", {}, Action::ask, render_interface_tunnel, "one tunnel interface"},
    Command{"show crypto ikev2 sa", "", peer_keyword, Action::ask, render_ikev2_sa, "IKEv2 SAs", true},
    Command{"show crypto ikev2 session", "", peer_keyword, Action::ask, render_ikev2_session,
            "IKEv2 SAs with their child SAs", true},
    Command{"show crypto ikev2 proposal", "[NAME]", {}, Action::ask, render_ikev2_proposals, "what IKE offers"},
    Command{"show crypto ikev2 policy", "[NAME]", {}, Action::ask, render_ikev2_policies, "which proposals, and where"},
    Command{"show crypto ikev2 profile",
            "[NAME]",
            {},
            Action::ask,
            render_ikev2_profiles,
            "who the peers are and how they prove it"},
    Command{"show crypto ikev2 diagnose", "", peer_keyword, Action::ask, render_ikev2_diagnose,
            "why attempts failed, and what to change"},
    Command{"show crypto pki certificates",
            "",
            {},
            Action::ask,
            render_pki_certificates,
            "certificates of the trustpoints"},
    Command{"show crypto pki trustpoints",
            "",
            {},
            Action::ask,
            render_pki_trustpoints,
            "whom certificates of peers are checked against, and what we sign with"},
    Command{"show crypto isakmp sa", "", {}, Action::ask, render_isakmp_sas, "IKEv1 SAs"},
    Command{"show crypto isakmp peers", "", {}, Action::ask, render_isakmp_peers, "IKEv1 peers"},
    Command{"show ike", "", {}, Action::ask, render_ike, "the IKE process"},
    Command{"show dataplane",
            "",
            {},
            Action::ask,
            render_dataplane,
            "processes, devices, queues, drops by reason, the balance"},
    Command{"clear crypto sa", "", clear_keywords, Action::ask, render_clear,
            "remove SAs; manual ones come back at once, as configured now"},
    Command{"clear crypto session", "", clear_session_keywords, Action::ask, render_clear_session,
            "end IKE SAs and what they negotiated; peers are told"},
    Command{"crypto session connect", "", connect_keywords, Action::ask, render_connect,
            "negotiate now, without waiting for traffic"},
    Command{"crypto session rekey", "", clear_session_keywords, Action::ask, render_rekey,
            "fresh keys for IKE SAs now; their child SAs go on"},
    Command{"crypto session redirect", "", redirect_keywords, Action::ask, render_redirect,
            "send peers that follow to another gateway (RFC 5685)"},
    Command{"crypto pki bundle",
            "TRUSTPOINT FILE",
            {},
            Action::pki_bundle,
            render_pki_bundle,
            "the certificates of a trustpoint as a file for its bundle_url"},
    Command{"debug crypto ikev2", "", {}, Action::ask, render_debug, "every message and retransmission in the log"},
    Command{"no debug crypto ikev2", "", {}, Action::ask, render_debug, "end debug crypto ikev2"},
    Command{"undebug all", "", {}, Action::ask, render_debug, "end all debugging"},
    Command{
        "config check", "FILE", {}, Action::config_check, nullptr, "say what is wrong with a document; needs no node"},
    Command{"config convert",
            "FILE",
            {},
            Action::config_convert,
            nullptr,
            "an IOS configuration as a document; needs no node"},
    Command{"config show", "", {}, Action::ask, render_config_show, "the document in force, keys masked"},
    Command{"config diff",
            "FILE",
            {},
            Action::config_diff,
            render_config_diff,
            "what config apply would change, and when it would count"},
    Command{"config apply",
            "FILE",
            {},
            Action::config_apply,
            render_config_apply,
            "put a document in force; any error changes nothing"},
    Command{
        "config confirm", "", {}, Action::ask, render_config_confirm, "keep what config apply --confirm put in force"},
    Command{"capture", "", {}, Action::capture, nullptr, "pcapng of the plain side, the cipher side or both"},
    Command{"stop", "", {}, Action::stop, nullptr, "end posternd; on_stop says what stays in force"},
    Command{"teardown", "", {}, Action::teardown, nullptr, "end the node and remove everything it made"},
};

std::vector<std::string_view> split(std::string_view words) {
  std::vector<std::string_view> out;
  while (!words.empty()) {
    const auto space = words.find(' ');
    out.push_back(words.substr(0, space));
    words.remove_prefix(space == std::string_view::npos ? words.size() : space + 1);
  }
  return out;
}

// What ends a node is never meant by half a word.
bool abbreviates(std::string_view given, std::string_view word) {
  if (word == "stop" || word == "teardown") return given == word;
  return !given.empty() && word.starts_with(given);
}

std::string join(const std::set<std::string_view>& words) {
  std::string out;
  for (const std::string_view word : words) out += (out.empty() ? "" : ", ") + std::string(word);
  return out;
}

struct Match {
  std::vector<const Command*> commands;
  std::size_t depth = 0;
};

std::set<std::string_view> next_words(const Match& match) {
  std::set<std::string_view> out;
  for (const Command* const command : match.commands)
    if (const auto words = split(command->words); match.depth < words.size()) out.insert(words[match.depth]);
  return out;
}

// One word further: the commands that go on with the only word that `given` abbreviates.
Result<Match> step(const Match& from, std::string_view given) {
  const auto offered = next_words(from);
  std::set<std::string_view> fitting;
  for (const std::string_view word : offered) {
    if (word == given) {
      fitting = {word};
      break;
    }
    if (abbreviates(given, word)) fitting.insert(word);
  }
  if (fitting.empty())
    return fail(fmt::format("\"{}\" is not known here; one of: {}", printable(given), join(offered)));
  if (fitting.size() > 1) return fail(fmt::format("\"{}\" is ambiguous: {}", printable(given), join(fitting)));
  Match out{{}, from.depth + 1};
  for (const Command* const command : from.commands)
    if (const auto words = split(command->words); from.depth < words.size() && words[from.depth] == *fitting.begin())
      out.commands.push_back(command);
  return out;
}

// "tun1" is "tunnel 1", "interfaces" is "interface", "show ip access-lists" is "show access-lists", and "show crypto
// map ipsec sa" is "show crypto ipsec sa" (R43-20), as IOS has them.
std::vector<std::string> normalise(std::span<const std::string> words) {
  std::vector<std::string> out(words.begin(), words.end());
  if (out.size() < 2 || !abbreviates(out[0], "show")) return out;
  if (out[1] == "interfaces") out[1] = "interface";
  if (out.size() > 2 && (out[1] == "ip" || out[1] == "ipv6") && abbreviates(out[2], "access-lists"))
    out.erase(out.begin() + 1);
  if (out.size() > 4 && abbreviates(out[1], "crypto") && abbreviates(out[2], "map") && out[3].starts_with("ip") &&
      abbreviates(out[3], "ipsec"))
    out.erase(out.begin() + 2);
  if (out.size() != 3 || !abbreviates(out[1], "interface")) return out;
  const auto digits = out[2].find_first_of("0123456789");
  if (digits == std::string::npos || digits == 0) return out;
  std::string number = out[2].substr(digits);
  out[2].resize(digits);
  std::ranges::transform(out[2], out[2].begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  out.push_back(std::move(number));
  return out;
}

std::string usage_of(const Command& command) {
  std::string out(command.words);
  if (!command.positional.empty()) out += " " + std::string(command.positional);
  for (const std::string_view keyword : command.keywords)
    out += keyword == "entry" ? " [entry ADDRESS esp|ah SPI]" : fmt::format(" [{} NAME]", keyword);
  if (command.detail) out += " [detail]";
  return out;
}

Result<void> take_positional(const Command& command, std::span<const std::string> rest, Parsed& parsed) {
  if (command.positional == "[NAME]" && rest.size() < 2) {
    if (!rest.empty()) parsed.args["name"] = rest.front();
    return {};
  }
  const bool two = command.positional == "TRUSTPOINT FILE";
  if (rest.size() != (two ? 2U : 1U)) return fail("usage: postern " + usage_of(command));
  if (two) parsed.args["trustpoint"] = rest.front();
  parsed.positional = rest.back();
  if (command.positional != "NUMBER") return {};
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(rest[0].data(), rest[0].data() + rest[0].size(), value);
  if (error != std::errc{} || end != rest[0].data() + rest[0].size())
    return fail(fmt::format("\"{}\" is not a number; usage: postern {}", printable(rest[0]), usage_of(command)));
  parsed.args["number"] = value;
  return {};
}

// SPIs in either form that `show` prints, "0x1001" or "4097"; sequence numbers; everything else is text.
Result<nlohmann::json> argument(std::string_view keyword, const std::string& text) {
  if (keyword != "spi" && keyword != "sequence") return nlohmann::json(text);
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const char* const first = text.data() + (hex ? 2 : 0);
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(first, text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != text.data() + text.size())
    return fail(fmt::format("\"{}\" is not {}", printable(text), keyword == "spi" ? "an SPI" : "a number"));
  return nlohmann::json(value);
}

// CM-23: "entry 192.0.2.2 esp 0x1001".
Result<void> take_entry(const Command& command, std::span<const std::string> rest, Parsed& parsed) {
  if (rest.size() < 3 || (rest[1] != "esp" && rest[1] != "ah")) return fail("usage: postern " + usage_of(command));
  POSTERN_TRY(spi, argument("spi", rest[2]));
  parsed.args["entry"] = {{"destination", rest[0]}, {"protocol", rest[1]}, {"spi", std::move(spi)}};
  return {};
}

Result<void> take_keywords(const Command& command, std::span<const std::string> rest, Parsed& parsed) {
  for (std::size_t i = 0; i < rest.size();) {
    if (command.detail && abbreviates(rest[i], "detail")) {
      parsed.detail = true;
      ++i;
      continue;
    }
    std::set<std::string_view> fitting;
    for (const std::string_view keyword : command.keywords)
      if (abbreviates(rest[i], keyword)) fitting.insert(keyword);
    if (fitting.size() > 1) return fail(fmt::format("\"{}\" is ambiguous: {}", printable(rest[i]), join(fitting)));
    if (fitting.empty() || i + 1 == rest.size())
      return fail(fmt::format("unexpected \"{}\"; usage: postern {}", printable(rest[i]), usage_of(command)));
    if (*fitting.begin() == "entry") {
      POSTERN_CHECK(take_entry(command, rest.subspan(i + 1), parsed));
      i += 4;
      continue;
    }
    POSTERN_TRY(value, argument(*fitting.begin(), rest[i + 1]));
    parsed.args[std::string(*fitting.begin())] = std::move(value);
    i += 2;
  }
  return {};
}

}  // namespace

std::span<const Command> commands() { return all_commands; }

Result<Parsed> parse_words(std::span<const std::string> given) {
  const auto words = normalise(given);
  Match match;
  for (const Command& command : all_commands) match.commands.push_back(&command);
  std::size_t i = 0;
  while (i < words.size() && !next_words(match).empty()) {
    POSTERN_TRY(next, step(match, words[i]));
    match = std::move(next);
    ++i;
  }
  if (!next_words(match).empty()) {
    const std::string so_far = i == 0 ? "a command is missing" : "incomplete command";
    return fail(fmt::format("{}; next one of: {}", so_far, join(next_words(match))));
  }
  Parsed parsed;
  parsed.command = match.commands.front();
  const auto rest = std::span(words).subspan(i);
  if (parsed.command->positional.empty())
    POSTERN_CHECK(take_keywords(*parsed.command, rest, parsed));
  else
    POSTERN_CHECK(take_positional(*parsed.command, rest, parsed));
  return parsed;
}

std::string command_summary() {
  std::string out = "Commands (words of show, clear and config may be cut as long as they stay unique):\n";
  constexpr std::size_t column = 42;
  for (const Command& command : all_commands) {
    std::string usage = "  " + usage_of(command);
    usage += usage.size() + 3 > column ? "\n" + std::string(column, ' ') : std::string(column - usage.size(), ' ');
    out += usage + std::string(command.help) + "\n";
  }
  return out;
}

}  // namespace postern::cli

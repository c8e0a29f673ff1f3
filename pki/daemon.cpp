#include "pki/daemon.hpp"

#include <algorithm>
#include <array>
#include <chrono>

#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"
#include "base/secret.hpp"

namespace postern::pki {
namespace {

using nlohmann::json;

json refused(const std::string& why) { return {{"ok", false}, {"error", {{"message", why}, {"code", 1}}}}; }
json done(json data = json::object()) { return {{"ok", true}, {"data", std::move(data)}}; }

std::int64_t wall_clock() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// The whole file from its start, `into` wiped by its owner. The descriptor's offset may be anywhere.
Result<std::size_t> read_whole(const Fd& file, MutableBytes into) {
  std::size_t size = 0;
  while (size < into.size()) {
    const ssize_t got = ::pread(file.get(), into.data() + size, into.size() - size, static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read");
    if (got == 0) return size;
    size += static_cast<std::size_t>(got);
  }
  return fail("too long", EFBIG);
}

Result<std::string> read_text(const Fd& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno("stat the configuration");
  if (status.st_size < 0 || status.st_size > static_cast<off_t>(max_configuration_bytes))
    return fail("the configuration is too long", EFBIG);
  std::string out(static_cast<std::size_t>(status.st_size) + 1, '\0');
  POSTERN_TRY(size, read_whole(file, std::as_writable_bytes(std::span(out))));
  out.resize(size);
  return out;
}

std::vector<std::string> texts_of(const json& list) {
  std::vector<std::string> out;
  for (const json& one : list) out.push_back(one.get<std::string>());
  return out;
}

template <class T, std::size_t N>
T word(const json& in, const std::array<const char*, N>& words) {
  const auto found = std::ranges::find(words, in.get<std::string>());
  if (found == words.end()) throw json::other_error::create(501, "unknown word", nullptr);
  return static_cast<T>(found - words.begin());
}

CertificateMap map_of(const json& in) {
  static constexpr std::array fields = {"subject-name", "issuer-name", "alt-subject-name"};
  static constexpr std::array operators = {"eq", "ne", "co", "nc"};
  CertificateMap out{in.at("name").get<std::string>(), {}};
  for (const json& rule : in.at("rules"))
    out.rules.push_back({word<MapField>(rule.at("field"), fields), word<MapOperator>(rule.at("operator"), operators),
                         rule.at("value").get<std::string>()});
  return out;
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener) {
  std::unique_ptr<Daemon> daemon(new Daemon());
  Daemon* const self = daemon.get();
  POSTERN_TRY(loop, ChildLoop::create(std::move(listener), {[self](std::string_view text, std::vector<Fd> descriptors) {
                                                              return self->answer(text, std::move(descriptors));
                                                            },
                                                            [self](int fd) {
                                                              if (fd == self->channel_.get()) self->serve_channel();
                                                            }}));
  daemon->loop_ = std::move(loop);
  return daemon;
}

std::string Daemon::answer(std::string_view text, std::vector<Fd> descriptors) {
  const auto request = json::parse(text, nullptr, false);
  json body = refused("the request is not {\"command\": ...}");
  if (request.is_object() && request.contains("command") && request["command"].is_string()) {
    body = command(request, std::move(descriptors));
    if (request.contains("id")) body["id"] = request["id"];
  }
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

json Daemon::command(const json& request, std::vector<Fd> descriptors) {
  const auto& said = request["command"].get_ref<const std::string&>();
  const bool one = descriptors.size() == 1;
  const auto outcome = [](const Result<void>& result) { return result ? done() : refused(result.error().message()); };
  if (said == "hello") return done();
  if (said == "configuration" && one) return outcome(take_configuration(descriptors.front()));
  if (said == "key" && one && request.contains("trustpoint") && request["trustpoint"].is_string())
    return outcome(take_key(request["trustpoint"].get<std::string>(), descriptors.front()));
  if (said == "commit") return commit();
  if (said == "channel" && one) {
    take_channel(std::move(descriptors.front()));
    return done();
  }
  if (said == "show crypto pki trustpoints") return done(show_trustpoints(store_, wall_clock()));
  if (said == "show crypto pki certificates") return done(show_certificates(store_, wall_clock()));
  if (said == "crypto pki bundle") {
    const json args = request.value("args", json::object());
    const json name = args.is_object() ? args.value("trustpoint", json()) : json();
    const Trustpoint* const known = name.is_string() ? store_.trustpoint(name.get<std::string>()) : nullptr;
    if (known == nullptr || known->own.empty()) return refused("the trustpoint has no certificate of its own");
    return done(bundle_file(*known));
  }
  return refused("postern-pki does not know the command \"" + said + "\"");
}

// --- configuration

// posternd made it, but a mistake of it must not end the process that holds the keys: JSON's exceptions end here.
Result<void> Daemon::take_configuration(const Fd& file) try {
  POSTERN_TRY(text, read_text(file));
  const json document = json::parse(text);
  staged_.clear();
  staged_maps_.clear();
  staged_keys_.clear();
  for (const json& one : document.at("trustpoints"))
    staged_.push_back({one.at("name").get<std::string>(), texts_of(one.at("ca_certificates")),
                       texts_of(one.at("certificates")), one.at("certificate_url").get<std::string>(),
                       one.at("bundle_url").get<std::string>()});
  for (const json& one : document.at("certificate_maps")) staged_maps_.push_back(map_of(one));
  if (staged_.size() > max_trustpoints) return fail("too many trustpoints", E2BIG);
  return {};
} catch (const json::exception& error) {
  return fail(std::string("configuration: ") + error.what());
}

Result<void> Daemon::take_key(const std::string& trustpoint, const Fd& file) {
  Secret text(max_key_file_bytes);
  const auto size = read_whole(file, text.mutable_bytes());
  auto key = size ? crypto::PrivateKey::from_pem(text.bytes().first(*size)) : std::unexpected(size.error());
  const Result<void> outcome = key ? Result<void>() : std::unexpected(key.error());
  staged_keys_.insert_or_assign(trustpoint, std::move(key));
  return outcome;
}

json Daemon::commit() {
  std::vector<Trustpoint> made;
  json problems = json::array();
  for (const TrustpointTexts& one : staged_) {
    const auto key = staged_keys_.find(one.name);
    made.push_back(make_trustpoint(one, key == staged_keys_.end() ? std::nullopt : std::optional(key->second)));
    if (!made.back().problem.empty()) problems.push_back({{"trustpoint", one.name}, {"problem", made.back().problem}});
  }
  spdlog::info("{} trustpoints, {} certificate maps", made.size(), staged_maps_.size());
  store_.set(std::move(made), std::move(staged_maps_));
  staged_.clear();
  staged_maps_.clear();
  staged_keys_.clear();
  tell_facts();
  return done({{"problems", std::move(problems)}});
}

// --- postern-ike

void Daemon::take_channel(Fd channel) {
  channel_ = std::move(channel);  // the one before ends
  tls_.clear();
  if (const auto watched = loop_->watch(channel_.get()); !watched) spdlog::error("{}", watched.error().message());
  tell_facts();
}

void Daemon::tell_facts() {
  if (!channel_) return;
  if (const auto sent = send_frame(channel_.get(), {0, Facts{store_.facts()}}); !sent)
    spdlog::warn("{}", sent.error().message());
}

void Daemon::serve_channel() {
  for (std::size_t turn = 0; turn < max_questions_a_turn; ++turn) {
    const auto frame = receive_frame(channel_.get(), buffer_);
    if (!frame) {
      spdlog::info("{}", frame.error().message());
      channel_.reset();
      return;
    }
    if (!*frame) return;
    Answer answer = Refusal{RefusalKind::malformed, {}, "no question", {}, {}};
    if (const auto* const sign = std::get_if<SignQuestion>(&(*frame)->body))
      answer = store_.answer(*sign, wall_clock());
    if (const auto* const check = std::get_if<ValidateQuestion>(&(*frame)->body))
      answer = store_.answer(*check, wall_clock());
    if (const auto* const tls = std::get_if<TlsQuestion>(&(*frame)->body))
      answer = tls_.answer(*tls, store_, wall_clock(), Clock::now());
    ++questions_;
    Frame out{(*frame)->id, {}};
    std::visit([&](auto& body) { out.body = std::move(body); }, answer);
    if (const auto sent = send_frame(channel_.get(), out); !sent) spdlog::warn("{}", sent.error().message());
  }
}

}  // namespace postern::pki

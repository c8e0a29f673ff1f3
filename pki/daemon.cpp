#include "pki/daemon.hpp"

#include <algorithm>
#include <array>
#include <chrono>

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptors.hpp"
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

Result<Fd> watch_for_end() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno("block signals");
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("signalfd");
  return fd;
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

Daemon::Daemon(Fd listener, Fd epoll, Fd signals)
    : listener_(std::move(listener)), epoll_(std::move(epoll)), signals_(std::move(signals)) {}

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener) {
  POSTERN_TRY(signals, watch_for_end());
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("epoll_create1");
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(listener), std::move(epoll), std::move(signals)));
  POSTERN_CHECK(daemon->watch(daemon->listener_.get()));
  POSTERN_CHECK(daemon->watch(daemon->signals_.get()));
  return daemon;
}

Result<void> Daemon::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll: watch");
  return {};
}

Result<void> Daemon::run() {
  while (running_) {
    std::array<epoll_event, 32> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
    for (int i = 0; i < count; ++i) dispatch(events[static_cast<std::size_t>(i)].data.fd);
  }
  return {};
}

void Daemon::dispatch(int fd) {
  if (fd == signals_.get())
    running_ = false;
  else if (fd == listener_.get())
    accept_client();
  else if (fd == channel_.get())
    serve_channel();
  else if (clients_.contains(fd))
    serve_client(fd);
}

void Daemon::accept_client() {
  Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  if ((peer.pid != ::getpid() && peer.uid != 0) || clients_.size() >= max_clients) return;
  if (const auto watched = watch(client.get()); !watched) return;
  const int fd = client.get();
  clients_.emplace(fd, std::move(client));
}

void Daemon::serve_client(int fd) {
  std::array<char, max_request_bytes> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  auto descriptors = got < 0 ? std::vector<Fd>() : take_descriptors(message);
  if (got <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    clients_.erase(fd);
    return;
  }
  const json body = answer({text.data(), static_cast<std::size_t>(got)}, std::move(descriptors));
  std::string out = body.dump(-1, ' ', false, json::error_handler_t::replace);
  if (out.size() > max_reply_bytes)
    out =
        json{{"ok", false}, {"id", body.value("id", json())}, {"error", {{"message", "too long to be shown"}}}}.dump();
  if (::send(fd, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) clients_.erase(fd);
}

json Daemon::answer(std::string_view text, std::vector<Fd> descriptors) {
  const auto request = json::parse(text, nullptr, false);
  if (!request.is_object() || !request.contains("command") || !request["command"].is_string())
    return refused("the request is not {\"command\": ...}");
  json body = command(request, std::move(descriptors));
  if (request.contains("id")) body["id"] = request["id"];
  return body;
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
    staged_.push_back(
        {one.at("name").get<std::string>(), texts_of(one.at("ca_certificates")), texts_of(one.at("certificates"))});
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
  if (const auto watched = watch(channel_.get()); !watched) spdlog::error("{}", watched.error().message());
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
    if (auto* const tls = std::get_if<TlsProgress>(&out.body)) wipe(tls->key);
  }
}

}  // namespace postern::pki

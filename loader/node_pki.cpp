// postern-pki's side of a node: started once the document has a trustpoint, configured anew with each document, and
// tied to postern-ike by a channel that posternd makes. Certificates are read here; private keys are opened and never
// read.
#include <algorithm>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"
#include "config/secret_file.hpp"
#include "loader/node.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

constexpr off_t longest_pem = 256 << 10;

Result<std::string> read_pem(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) return fail_errno("open " + path);
  if (!S_ISREG(status.st_mode) || status.st_size > longest_pem) return fail(path + " is no PEM file", EINVAL);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(file.get(), text.data(), text.size(), 0) != status.st_size) return fail_errno("read " + path);
  return text;
}

// A file that is gone by now leaves its trustpoint without it; postern-pki says what that means.
json pem_texts(const std::vector<std::string>& paths) {
  json out = json::array();
  for (const std::string& path : paths) {
    auto text = read_pem(path);
    if (!text) spdlog::error("{}", text.error().message());
    out.push_back(text ? std::move(*text) : std::string());
  }
  return out;
}

json pki_document(const config::Pki& pki) {
  json trustpoints = json::array(), maps = json::array();
  for (const config::PkiTrustpoint& one : pki.trustpoints) {
    std::vector<std::string> own = one.chain;
    if (one.certificate) own.insert(own.begin(), *one.certificate);
    trustpoints.push_back({{"name", one.name},
                           {"ca_certificates", pem_texts(one.ca_certificates)},
                           {"certificates", pem_texts(own)},
                           {"certificate_url", one.certificate_url.value_or("")},
                           {"bundle_url", one.bundle_url.value_or("")}});
  }
  for (const config::CertificateMapEntry& map : pki.maps) {
    json rules = json::array();
    for (const config::CertificateRule& rule : map.rules)
      rules.push_back({{"field", word(rule.field)}, {"operator", word(rule.op)}, {"value", rule.value}});
    maps.push_back({{"name", map.name}, {"rules", std::move(rules)}});
  }
  return {{"trustpoints", std::move(trustpoints)}, {"certificate_maps", std::move(maps)}};
}

Result<Fd> memory_file_of(const json& document) {
  const std::string text = document.dump();
  Fd file(::memfd_create("postern-pki", MFD_CLOEXEC));
  if (!file) return fail_errno("memfd_create");
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(file.get(), text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) return fail_errno("write the configuration of postern-pki");
    done += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
  }
  return file;
}

}  // namespace

// The first time, and after each change of the document.
void Node::bring_pki() {
  if (document_.pki.trustpoints.empty() && !pki_) return;
  if (!pki_)
    pki_ = std::make_unique<SideChild>(SideChild::Setup{"postern-pki", paths_.name, paths_.file("pki.sock"),
                                                        loop_.get(), &state_.pki, [this] { save_state(); },
                                                        [this] { return configure_pki(); }});
  pki_->bring();
}

Result<void> Node::configure_pki() {
  POSTERN_TRY(file, memory_file_of(pki_document(document_.pki)));
  POSTERN_CHECK(pki_->ask_for({{"command", "configuration"}}, file.get()));
  for (const config::PkiTrustpoint& one : document_.pki.trustpoints) {
    if (!one.key) continue;
    const auto key = config::open_key_file(*one.key, {});
    if (!key) {
      spdlog::error("trustpoint {}: {}", one.name, key.error().message);
      continue;
    }
    if (const auto told = pki_->ask_for({{"command", "key"}, {"trustpoint", one.name}}, key->get()); !told)
      spdlog::error("trustpoint {}: {}", one.name, told.error().message());
  }
  POSTERN_TRY(outcome, pki_->ask_for({{"command", "commit"}}));
  for (const json& problem : outcome.value("problems", json::array()))
    spdlog::error("trustpoint {}: {}", problem.value("trustpoint", std::string()),
                  problem.value("problem", std::string()));
  return {};
}

Result<Fd> Node::pki_channel_for_ike() {
  if (!pki_) return fail("broker: postern-pki does not run", EAGAIN);
  return pki_->channel();
}

ControlReply Node::ask_pki(const std::string& said, const json& args) {
  if (!pki_ || !pki_->runs())
    return ControlReply::success({{said.ends_with("certificates") ? "certificates" : "trustpoints", json::array()}});
  auto answer = pki_->ask({{"command", said}, {"args", args}});
  if (!answer) return ControlReply::failure(answer.error().message());
  return {std::move(*answer), {}, {}};
}

ControlReply Node::command_bundle(const std::string& said, const json& args) {
  const json name = args.is_object() ? args.value("trustpoint", json()) : json();
  if (!name.is_string()) return ControlReply::failure("which trustpoint?", 2);
  const auto* const known = config::find_trustpoint(document_.pki, name.get<std::string>());
  if (known == nullptr) return ControlReply::failure("there is no such trustpoint");
  if (!pki_ || !pki_->runs()) return ControlReply::failure("postern-pki does not run");
  return ask_pki(said, {{"trustpoint", known->name}});
}

}  // namespace postern::loader

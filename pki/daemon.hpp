// The loop of postern-pki: one thread over posternd's control socket and postern-ike's channel. posternd configures it
// (command "configuration" with the document of certificates and maps in a memory file, "key" with an open key file for
// each trustpoint that has one, then "commit"), gives it its end of the channel ("channel"), and asks what to show.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/child_loop.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "pki/channel.hpp"
#include "pki/store.hpp"
#include "pki/tls_table.hpp"

namespace postern::pki {

inline constexpr std::size_t max_configuration_bytes = 16U << 20, max_key_file_bytes = 16U << 10, max_trustpoints = 256,
                             max_questions_a_turn = 16;

class Daemon {
 public:
  // `listener`: a listening SOCK_SEQPACKET Unix socket. Only peers of uid 0, and ours, are heard.
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener);
  // Until SIGTERM.
  [[nodiscard]] Result<void> run() { return loop_->run(); }

 private:
  Daemon() = default;
  void serve_channel();
  [[nodiscard]] std::string answer(std::string_view text, std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json command(const nlohmann::json& request, std::vector<Fd> descriptors);
  [[nodiscard]] Result<void> take_configuration(const Fd& file);
  [[nodiscard]] Result<void> take_key(const std::string& trustpoint, const Fd& file);
  [[nodiscard]] nlohmann::json commit();
  void take_channel(Fd channel);
  void tell_facts();

  std::unique_ptr<ChildLoop> loop_;
  Fd channel_;
  std::vector<std::byte> buffer_;
  Store store_;
  TlsTable tls_;
  // What comes by and by, until "commit".
  std::vector<TrustpointTexts> staged_;
  std::vector<CertificateMap> staged_maps_;
  std::map<std::string, Result<crypto::PrivateKey>> staged_keys_;
  std::uint64_t questions_ = 0;
};

// pki/show.cpp: `show crypto pki trustpoints` and `show crypto pki certificates`; keys are named by kind and size
// alone.
[[nodiscard]] nlohmann::json show_trustpoints(const Store& store, std::int64_t now);
[[nodiscard]] nlohmann::json show_certificates(const Store& store, std::int64_t now);
// `crypto pki bundle`, in hex digits.
[[nodiscard]] nlohmann::json bundle_file(const Trustpoint& trustpoint);

// pki/sandbox.cpp: gives up root for the user postern-pki, and every system call that the loop does not need. Call
// last.
[[nodiscard]] Result<void> enter_sandbox();

}  // namespace postern::pki

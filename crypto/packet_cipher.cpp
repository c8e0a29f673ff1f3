#include "crypto/packet_cipher.hpp"

#include <string>
#include <utility>
#include <variant>

#include "base/registers.hpp"
#include "crypto/ah.hpp"
#include "crypto/ipsec_mb_engine.hpp"
#include "crypto/openssl_engine.hpp"

namespace postern::crypto {

struct EspEngine::Implementation {
  std::variant<IpsecMbEngine, OpenSslEngine> backend;
  std::string name;
};

Result<EspEngine> EspEngine::create(EngineKind kind) {
  const auto wrap = [](auto backend) {
    auto name = backend.name();
    return EspEngine(std::make_unique<Implementation>(Implementation{std::move(backend), std::move(name)}));
  };
  if (kind != EngineKind::openssl) {
    auto engine = IpsecMbEngine::create();
    if (engine) return wrap(std::move(*engine));
    if (kind == EngineKind::ipsec_mb) return std::unexpected(std::move(engine.error()));
  }
  POSTERN_TRY(engine, OpenSslEngine::create());
  return wrap(std::move(engine));
}

EspEngine::EspEngine(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}
EspEngine::EspEngine(EspEngine&&) noexcept = default;
EspEngine& EspEngine::operator=(EspEngine&&) noexcept = default;
EspEngine::~EspEngine() = default;

void EspEngine::seal(std::span<EspJob> jobs) {
  std::visit([&](auto& backend) { backend.seal(jobs); }, implementation_->backend);
  authenticate_ah(*this, jobs, &AhGroup::write_icvs);
  clear_vector_registers();
}

void EspEngine::open(std::span<EspJob> jobs) {
  std::visit([&](auto& backend) { backend.open(jobs); }, implementation_->backend);
  authenticate_ah(*this, jobs, &AhGroup::compare_icvs);
  clear_vector_registers();
}

void EspEngine::authenticate(std::span<MacJob> jobs) {
  std::visit([&](auto& backend) { backend.authenticate(jobs); }, implementation_->backend);
  clear_vector_registers();
}

std::string_view EspEngine::name() const { return implementation_->name; }

}  // namespace postern::crypto

// Stands for ipsec_mb_engine.cpp where the library does not exist (it is x86-64 only): OpenSSL does the work.
#include "crypto/ipsec_mb_engine.hpp"
#include "crypto/ipsec_mb_keys.hpp"

namespace postern::crypto {

struct IpsecMbEngine::State {};

Result<IpsecMbEngine> IpsecMbEngine::create() { return fail("built without ipsec-mb"); }
IpsecMbEngine::IpsecMbEngine(std::unique_ptr<State> state) : state_(std::move(state)) {}
IpsecMbEngine::IpsecMbEngine(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine& IpsecMbEngine::operator=(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine::~IpsecMbEngine() = default;
void IpsecMbEngine::seal(std::span<EspJob>) {}
void IpsecMbEngine::open(std::span<EspJob>) {}
void IpsecMbEngine::authenticate(std::span<MacJob>) {}
std::string IpsecMbEngine::name() const { return {}; }

void expand_for_ipsec_mb(EspKey::Expanded&) {}

}  // namespace postern::crypto

#include "crypto/tls.hpp"

#include <array>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace postern::crypto {
namespace {

constexpr long max_certificates_bytes = 48L << 10;
constexpr const char* tls_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2";  // of 1.2; all of 1.3's will do
constexpr std::string_view label_12 = "client EAP encryption", label_13 = "EXPORTER_EAP_TLS_Key_Material";
constexpr unsigned char eap_tls_type = 13;
constexpr std::size_t key_material_bytes = 128, msk_bytes = 64;

struct FreeTls {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* connection) const { SSL_free(connection); }
};

bool is_alert(unsigned long code) {
  return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET;
}

std::string tls_error() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "the handshake failed" : reason;
}

Result<Certificate> copy_of(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  if (size <= 0) return fail("a certificate that cannot be written");
  auto out = Certificate::parse(std::as_bytes(std::span(der, static_cast<std::size_t>(size))));
  OPENSSL_free(der);
  return out;
}

}  // namespace

Result<void> wake_tls() {
  const std::unique_ptr<SSL_CTX, FreeTls> context(SSL_CTX_new(TLS_method()));
  return context ? Result<void>() : fail("TLS cannot begin: " + tls_error());
}

struct TlsEnd::Inside {
  Setup setup;
  std::unique_ptr<SSL_CTX, FreeTls> context;
  std::unique_ptr<SSL, FreeTls> connection;
  BIO *in = nullptr, *out = nullptr;  // the connection's
  std::string refusal;
  bool believed = false, shaken = false, finished = false;
};

namespace {

std::string judged(const TlsEnd::Inside& inside, X509_STORE_CTX* store) {
  X509* const leaf = X509_STORE_CTX_get0_cert(store);
  const auto own = leaf == nullptr ? fail("no certificate") : copy_of(leaf);
  if (!own) return own.error().message();
  std::vector<Certificate> others;
  STACK_OF(X509)* const sent = X509_STORE_CTX_get0_untrusted(store);
  for (int i = 0; i < sk_X509_num(sent); ++i)
    if (auto one = copy_of(sk_X509_value(sent, i))) others.push_back(std::move(*one));
  return inside.setup.judge(*own, others).value_or("");
}

int on_certificate(X509_STORE_CTX* store, void* of) {
  auto& inside = *static_cast<TlsEnd::Inside*>(of);
  inside.refusal = judged(inside, store);
  inside.believed = inside.refusal.empty();
  if (inside.believed) return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
  return 0;
}

// A session of before would be gone on with without its certificate (RFC 5216 §2.1.2, RFC 9190 §5.7): none is kept,
// none is given to the peer, and none is taken from it.
void remember_nothing(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

bool set_limits(SSL_CTX* context, TlsEnd::Newest newest) {
  const int last = newest == TlsEnd::Newest::tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
  // A server without RFC 5746, as strongSwan is, will do: what an attacker could put in front of a handshake by having
  // it taken for a renegotiation is data, and EAP-TLS has none.
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_LEGACY_SERVER_CONNECT);
  remember_nothing(context);
  SSL_CTX_set_max_cert_list(context, max_certificates_bytes);
  return SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, last) == 1 && SSL_CTX_set_cipher_list(context, tls_ciphers) == 1;
}

bool set_credential(SSL_CTX* context, const TlsEnd::Setup& setup) {
  if (setup.own.empty() || SSL_CTX_use_certificate(context, setup.own.front().handle()) != 1 ||
      SSL_CTX_use_PrivateKey(context, setup.key.handle()) != 1 || SSL_CTX_check_private_key(context) != 1)
    return false;
  for (std::size_t i = 1; i < setup.own.size(); ++i)
    if (SSL_CTX_add1_chain_cert(context, setup.own[i].handle()) != 1) return false;
  for (const Certificate& one : setup.authorities)
    if (setup.server && SSL_CTX_add_client_CA(context, one.handle()) != 1) return false;
  return true;
}

}  // namespace

TlsEnd::TlsEnd(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
TlsEnd::~TlsEnd() = default;

Result<std::unique_ptr<TlsEnd>> TlsEnd::create(Setup setup) {
  auto inside = std::make_unique<Inside>(Inside{std::move(setup), nullptr, nullptr, nullptr, nullptr, {}});
  inside->context.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* const context = inside->context.get();
  if (context == nullptr || !set_limits(context, inside->setup.newest) || !set_credential(context, inside->setup))
    return fail("TLS cannot begin: " + tls_error());
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, on_certificate, inside.get());
  inside->connection.reset(SSL_new(context));
  inside->in = BIO_new(BIO_s_mem());
  inside->out = BIO_new(BIO_s_mem());
  if (!inside->connection || inside->in == nullptr || inside->out == nullptr) {
    BIO_free(inside->in);
    BIO_free(inside->out);
    return fail("TLS cannot begin: out of memory", ENOMEM);
  }
  SSL_set_bio(inside->connection.get(), inside->in, inside->out);
  if (inside->setup.server)
    SSL_set_accept_state(inside->connection.get());
  else
    SSL_set_connect_state(inside->connection.get());
  return std::unique_ptr<TlsEnd>(new TlsEnd(std::move(inside)));
}

namespace {

using State = TlsStep::State;

// RFC 9190 §2.1.1: in TLS 1.3 a server says by one byte of zero that it has taken the client's certificate and will say
// nothing more; a client is through when it has read that, and not before.
State commitment(SSL* connection, bool server) {
  if (SSL_version(connection) < TLS1_3_VERSION) return State::finished;
  std::array<unsigned char, 2> said{};
  if (server) return SSL_write(connection, said.data(), 1) == 1 ? State::finished : State::failed;
  const int got = SSL_read(connection, said.data(), said.size());
  if (got > 0) return got == 1 && said[0] == 0 ? State::finished : State::failed;
  return SSL_get_error(connection, got) == SSL_ERROR_WANT_READ ? State::more : State::failed;
}

State went_on(TlsEnd::Inside& inside) {
  SSL* const connection = inside.connection.get();
  if (inside.finished) return State::failed;  // nothing may come after
  if (!inside.shaken) {
    const int code = SSL_do_handshake(connection);
    if (code != 1) return SSL_get_error(connection, code) == SSL_ERROR_WANT_READ ? State::more : State::failed;
    inside.shaken = true;
    // Whatever TLS came to: without a certificate that was looked at in this handshake it is nothing.
    if (SSL_session_reused(connection) != 0 || !inside.believed) {
      inside.refusal = "a handshake without the peer's certificate";
      return State::failed;
    }
  }
  return commitment(connection, inside.setup.server);
}

}  // namespace

TlsStep TlsEnd::take(Bytes records) {
  TlsStep step;
  ERR_clear_error();
  if (!records.empty() &&
      BIO_write(inside_->in, records.data(), static_cast<int>(records.size())) != static_cast<int>(records.size()))
    return {State::failed, {}, "out of memory", false};
  step.state = went_on(*inside_);
  inside_->finished = step.state == State::finished;
  step.by_peer = step.state == State::failed && is_alert(ERR_peek_last_error());
  if (step.state == State::failed) step.why = inside_->refusal.empty() ? tls_error() : inside_->refusal;
  step.out.resize(static_cast<std::size_t>(BIO_ctrl_pending(inside_->out)));
  if (!step.out.empty() &&
      BIO_read(inside_->out, step.out.data(), static_cast<int>(step.out.size())) != static_cast<int>(step.out.size()))
    return {State::failed, {}, "out of memory", false};
  return step;
}

Result<Secret> TlsEnd::eap_key() const {
  SSL* const connection = inside_->connection.get();
  const bool is_13 = SSL_version(connection) >= TLS1_3_VERSION;
  const std::string_view label = is_13 ? label_13 : label_12;
  Secret material(key_material_bytes);
  if (!inside_->finished ||
      SSL_export_keying_material(connection, reinterpret_cast<unsigned char*>(material.mutable_bytes().data()),
                                 material.size(), label.data(), label.size(), &eap_tls_type, is_13 ? 1 : 0,
                                 is_13 ? 1 : 0) != 1)
    return fail("TLS gives no key");
  return Secret::copy_of(material.bytes().first(msk_bytes));
}

std::string TlsEnd::version() const { return SSL_get_version(inside_->connection.get()); }

}  // namespace postern::crypto

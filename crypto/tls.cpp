#include "crypto/tls.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace postern::crypto {
namespace {

constexpr long max_certificates_bytes = 48L << 10;
constexpr const char* tls_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:@SECLEVEL=2";

struct FreeTls {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* connection) const { SSL_free(connection); }
};

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
  bool finished = false;
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
  if (inside.refusal.empty()) return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
  return 0;
}

bool set_limits(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(context, max_certificates_bytes);
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_cipher_list(context, tls_ciphers) == 1;
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
  auto inside = std::make_unique<Inside>(Inside{std::move(setup), nullptr, nullptr, nullptr, nullptr, {}, false});
  inside->context.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* const context = inside->context.get();
  if (context == nullptr || !set_limits(context) || !set_credential(context, inside->setup))
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

TlsStep TlsEnd::take(Bytes records) {
  TlsStep step;
  ERR_clear_error();
  if (!records.empty() &&
      BIO_write(inside_->in, records.data(), static_cast<int>(records.size())) != static_cast<int>(records.size()))
    return {TlsStep::State::failed, {}, "out of memory"};
  const int code = inside_->finished ? 1 : SSL_do_handshake(inside_->connection.get());
  if (code == 1) {
    inside_->finished = true;
    step.state = TlsStep::State::finished;
  } else if (SSL_get_error(inside_->connection.get(), code) != SSL_ERROR_WANT_READ) {
    step.state = TlsStep::State::failed;
    step.why = inside_->refusal.empty() ? tls_error() : inside_->refusal;
  }
  step.out.resize(static_cast<std::size_t>(BIO_ctrl_pending(inside_->out)));
  if (!step.out.empty() &&
      BIO_read(inside_->out, step.out.data(), static_cast<int>(step.out.size())) != static_cast<int>(step.out.size()))
    return {TlsStep::State::failed, {}, "out of memory"};
  return step;
}

Result<Secret> TlsEnd::export_key(std::string_view label, std::size_t bytes) const {
  Secret out(bytes);
  if (!inside_->finished || SSL_export_keying_material(inside_->connection.get(),
                                                       reinterpret_cast<unsigned char*>(out.mutable_bytes().data()),
                                                       bytes, label.data(), label.size(), nullptr, 0, 0) != 1)
    return fail("TLS gives no key");
  return out;
}

}  // namespace postern::crypto

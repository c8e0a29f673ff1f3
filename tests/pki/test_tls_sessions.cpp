// A TLS session of before is never gone on with (RFC 5216 §2.1.2, RFC 9190 §2.1.2, §5.7): what it proved is what a
// certificate proved then. The other end is OpenSSL itself, and does everything to get one resumed.
#include <doctest/doctest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "certificates.hpp"
#include "crypto/tls.hpp"

namespace postern::crypto {
namespace {

using namespace pki::test;
using Octets = std::vector<std::byte>;

std::vector<Certificate> certificates(const char* pem) { return *Certificate::from_pem(as_bytes(pem)); }

struct Free {
  void operator()(SSL_CTX* one) const { SSL_CTX_free(one); }
  void operator()(SSL* one) const { SSL_free(one); }
  void operator()(SSL_SESSION* one) const { SSL_SESSION_free(one); }
};
template <class T>
using Held = std::unique_ptr<T, Free>;

// OpenSSL as it comes: with tickets, a cache and session ids.
struct Raw {
  Held<SSL_CTX> context;
  Held<SSL> connection;
  std::vector<Held<SSL_SESSION>> given;  // client: what the server gave it
  bool server;

  Raw(bool is_server, int version, bool with_certificate = true)
      : context(SSL_CTX_new(TLS_method())), server(is_server) {
    SSL_CTX_set_min_proto_version(context.get(), version);
    SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256");  // that of the key below
    if (with_certificate) {
      const auto own = certificates(is_server ? ecdsa256_pem : rsa_pem);
      SSL_CTX_use_certificate(context.get(), own.front().handle());
      SSL_CTX_use_PrivateKey(context.get(),
                             PrivateKey::from_pem(as_bytes(is_server ? ecdsa256_key : rsa_key))->handle());
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(context.get(), [](X509_STORE_CTX*, void*) { return 1; }, nullptr);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_BOTH);
    SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char*>("test"), 4);
    SSL_CTX_set_app_data(context.get(), this);
    SSL_CTX_sess_set_new_cb(context.get(), [](SSL* of, SSL_SESSION* session) {
      auto& self = *static_cast<Raw*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(of)));
      if (!self.server) self.given.emplace_back(session);
      return self.server ? 0 : 1;
    });
  }
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;

  void begin(SSL_SESSION* offered = nullptr) {
    // OpenSSL forgets the session of a connection that was not closed.
    if (connection) SSL_set_shutdown(connection.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    said_ = false;
    connection.reset(SSL_new(context.get()));
    SSL_set_bio(connection.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    server ? SSL_set_accept_state(connection.get()) : SSL_set_connect_state(connection.get());
    if (offered != nullptr) REQUIRE(SSL_set_session(connection.get(), offered) == 1);
  }
  Octets take(const Octets& records) {
    SSL* const at = connection.get();
    if (!records.empty()) BIO_write(SSL_get_rbio(at), records.data(), static_cast<int>(records.size()));
    if (SSL_do_handshake(at) == 1) {
      char byte = 0;
      if (server && SSL_version(at) == TLS1_3_VERSION && !said_) said_ = SSL_write(at, &byte, 1) == 1;
      SSL_read(at, &byte, 1);
    }
    ERR_clear_error();
    Octets out(BIO_ctrl_pending(SSL_get_wbio(at)));
    if (!out.empty()) BIO_read(SSL_get_wbio(at), out.data(), static_cast<int>(out.size()));
    return out;
  }
  bool reused() const { return SSL_session_reused(connection.get()) == 1; }

 private:
  bool said_ = false;
};

struct Ours {
  std::unique_ptr<TlsEnd> end;
  std::size_t looked_at = 0;
  TlsStep last;

  Ours(bool server, int version, bool believes = true) {
    end = std::move(
        *TlsEnd::create({server, certificates(server ? ecdsa256_pem : rsa_pem),
                         *PrivateKey::from_pem(as_bytes(server ? ecdsa256_key : rsa_key)), certificates(root_pem),
                         [this, believes](const Certificate&, const auto&) {
                           ++looked_at;
                           return believes ? std::nullopt : std::optional<std::string>("not this time");
                         },
                         version == TLS1_2_VERSION ? TlsEnd::Newest::tls12 : TlsEnd::Newest::tls13}));
  }
  void talk(Raw& raw) {
    Octets from_raw = raw.server ? Octets{} : raw.take({});
    for (int round = 0; round < 10; ++round) {
      last = end->take(from_raw);
      from_raw = raw.take(last.out);
      if (last.state != TlsStep::State::more) return;
    }
  }
  bool finished() const { return last.state == TlsStep::State::finished; }
};

void talk(Raw& client, Raw& server) {
  Octets from_server;
  for (int round = 0; round < 10; ++round) from_server = server.take(client.take(from_server));
}

}  // namespace

TEST_CASE("EAP-TLS: a server of ours gives nothing to come back with, and takes nothing of the kind") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    Raw client(false, version);
    client.begin();
    Ours first(true, version);
    first.talk(client);
    CHECK(first.finished());
    CHECK(first.looked_at == 1);
    for (const auto& one : client.given) CHECK(SSL_SESSION_is_resumable(one.get()) == 0);
    CHECK(SSL_SESSION_has_ticket(SSL_get_session(client.connection.get())) == 0);

    // Another server of the same certificate, which does give one: that server takes it up again, ours does not.
    Raw generous(true, version);
    generous.begin();
    client.given.clear();
    client.begin();
    talk(client, generous);
    REQUIRE_FALSE(client.given.empty());
    SSL_SESSION* const given = client.given.back().get();
    REQUIRE(SSL_SESSION_is_resumable(given) == 1);
    const Held<SSL_SESSION> copy(SSL_SESSION_dup(given));
    generous.begin();
    client.begin(given);
    talk(client, generous);
    REQUIRE(client.reused());
    for (const bool believes : {true, false}) {
      client.begin(copy.get());
      Ours again(true, version, believes);
      again.talk(client);
      CHECK_FALSE(client.reused());
      CHECK(again.looked_at == 1);
      CHECK(again.finished() == believes);
      CHECK(again.end->eap_key().has_value() == believes);
    }
  }
}

TEST_CASE(
    "EAP-TLS: a client of ours comes back with nothing, however often a server gives it tickets and session ids") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    Raw generous(true, version);
    for (const bool believes : {true, true, false}) {
      generous.begin();
      Ours one(false, version, believes);
      one.talk(generous);
      CHECK_FALSE(generous.reused());
      CHECK(one.looked_at == 1);
      CHECK((one.last.state != TlsStep::State::failed || !believes));
      if (!believes) CHECK(one.last.why == "not this time");
    }
  }
}

namespace {

SSL_SESSION* session_of_a_key(SSL* of) {
  const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01}, key[32] = {7};
  SSL_SESSION* const out = SSL_SESSION_new();
  SSL_SESSION_set1_master_key(out, key, sizeof key);
  SSL_SESSION_set_cipher(out, SSL_CIPHER_find(of, aes_128_gcm_sha256));
  SSL_SESSION_set_protocol_version(out, TLS1_3_VERSION);
  return out;
}
int offer_key(SSL* of, const EVP_MD*, const unsigned char** id, std::size_t* size, SSL_SESSION** session) {
  *id = reinterpret_cast<const unsigned char*>("x");
  *size = 1;
  *session = session_of_a_key(of);
  return 1;
}
int find_key(SSL* of, const unsigned char*, std::size_t, SSL_SESSION** session) {
  *session = session_of_a_key(of);
  return 1;
}

}  // namespace

TEST_CASE("EAP-TLS: a key that was agreed on elsewhere is no certificate either") {
  Raw client(false, TLS1_3_VERSION, false), server(true, TLS1_3_VERSION, false);
  SSL_CTX_set_psk_use_session_callback(client.context.get(), offer_key);
  SSL_CTX_set_psk_find_session_callback(server.context.get(), find_key);
  client.begin();
  server.begin();
  talk(client, server);
  REQUIRE(client.reused());  // between themselves it will do
  client.begin();
  Ours at_server(true, TLS1_3_VERSION);
  at_server.talk(client);
  CHECK(at_server.last.state == TlsStep::State::failed);
  CHECK_FALSE(at_server.end->eap_key());
  server.begin();
  Ours at_client(false, TLS1_3_VERSION);
  at_client.talk(server);
  CHECK(at_client.last.state == TlsStep::State::failed);
  CHECK_FALSE(at_client.end->eap_key());
}

}  // namespace postern::crypto

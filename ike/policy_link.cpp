#include "ike/policy_link.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "ike/policy_fields.hpp"

namespace postern::ike {
namespace {

using nlohmann::json;

constexpr std::size_t max_rows = 65536;
constexpr std::size_t max_text_bytes = 4096;

// --- to JSON

class Writer {
 public:
  explicit Writer(std::vector<Secret>& keys, std::size_t& key_bytes) : keys_(keys), key_bytes_(key_bytes) {}

  template <class T>
  void operator()(const char* name, const T& value) {
    out_[name] = encode(value);
  }
  [[nodiscard]] json take() { return std::move(out_); }

 private:
  json encode(bool value) { return value; }
  json encode(const std::string& value) { return value; }
  json encode(const IpAddress& value) { return value.text(); }
  json encode(const Prefix& value) { return value.text(); }
  json encode(const Secret& key) {
    const json place = {{"offset", key_bytes_}, {"size", key.size()}};
    key_bytes_ += key.size();
    keys_.push_back(key);
    return place;
  }
  json encode(const Octets& octets) {
    json out = json::array();
    for (const std::byte byte : octets) out.push_back(std::to_integer<unsigned>(byte));
    return out;
  }
  json encode(const IdentityMatch& rule) {
    if (const auto* const prefix = std::get_if<Prefix>(&rule)) return encode(*prefix);
    if (const auto* const identity = std::get_if<Identity>(&rule)) return encode(*identity);
    return nullptr;
  }
  json encode(const std::shared_ptr<const Connection>& connection) { return encode(*connection); }
  template <class T>
    requires(std::integral<T> || std::is_enum_v<T>)
  json encode(T value) {
    if constexpr (std::is_enum_v<T>)
      return static_cast<std::uint64_t>(value);
    else
      return value;
  }
  template <class T>
  json encode(const std::vector<T>& all) {
    json out = json::array();
    for (const T& one : all) out.push_back(encode(one));
    return out;
  }
  template <HasFields T>
  json encode(const T& object) {
    Writer inner(keys_, key_bytes_);
    fields(inner, object);
    return inner.take();
  }

  std::vector<Secret>& keys_;
  std::size_t& key_bytes_;
  json out_ = json::object();
};

// --- from JSON. The first error stays; what cannot be read keeps its default.

class Reader {
 public:
  Reader(const json& in, Bytes secrets, std::optional<Error>& error) : in_(in), secrets_(secrets), error_(error) {}

  template <class T>
  void operator()(const char* name, T& value) {
    const auto member = in_.find(name);
    if (member == in_.end()) return wrong(name, "is missing");
    decode(*member, value, name);
  }

 private:
  void wrong(const char* name, const char* what) {
    if (!error_) error_ = Error{fmt::format("policy: {} {}", name, what), EINVAL};
  }
  void decode(const json& in, bool& value, const char* name) {
    if (!in.is_boolean()) return wrong(name, "is not true or false");
    value = in.get<bool>();
  }
  void decode(const json& in, std::string& value, const char* name) {
    if (!in.is_string()) return wrong(name, "is not text");
    value = in.get<std::string>();
    if (value.size() > max_text_bytes) wrong(name, "is too long");
  }
  template <class T>
  void decode_parsed(const json& in, T& value, const char* name) {
    if (!in.is_string()) return wrong(name, "is not text");
    const auto parsed = T::parse(in.get_ref<const std::string&>());
    if (!parsed) return wrong(name, "is not an address");
    value = *parsed;
  }
  void decode(const json& in, IpAddress& value, const char* name) { decode_parsed(in, value, name); }
  void decode(const json& in, Prefix& value, const char* name) { decode_parsed(in, value, name); }
  std::uint64_t number(const json& in, std::uint64_t most, const char* name) {
    const bool natural = in.is_number_unsigned() || (in.is_number_integer() && in.get<std::int64_t>() >= 0);
    if (natural && in.get<std::uint64_t>() <= most) return in.get<std::uint64_t>();
    wrong(name, "is not a number of its range");
    return 0;
  }
  void decode(const json& in, Secret& key, const char* name) {
    if (!in.is_object() || !in.contains("offset") || !in.contains("size")) return wrong(name, "names no key");
    const std::uint64_t size = number(in["size"], max_pre_shared_key_bytes, name);
    const std::uint64_t offset = number(in["offset"], secrets_.size(), name);
    if (size > secrets_.size() - offset) return wrong(name, "lies outside the file of keys");
    key = Secret::copy_of(secrets_.subspan(offset, size));
  }
  void decode(const json& in, Octets& octets, const char* name) {
    if (!in.is_array() || in.size() > max_text_bytes) return wrong(name, "is not a list of bytes");
    octets.clear();
    for (const json& byte : in) octets.push_back(static_cast<std::byte>(number(byte, 255, name)));
  }
  void decode(const json& in, IdentityMatch& rule, const char* name) {
    if (in.is_null())
      rule = AnyIdentity{};
    else if (in.is_string())
      decode(in, rule.emplace<Prefix>(), name);
    else
      decode(in, rule.emplace<Identity>(), name);
  }
  void decode(const json& in, std::shared_ptr<const Connection>& connection, const char* name) {
    auto made = std::make_shared<Connection>();
    decode(in, *made, name);
    connection = std::move(made);
  }
  template <class T>
    requires(std::integral<T> || std::is_enum_v<T>)
  void decode(const json& in, T& value, const char* name) {
    if constexpr (std::is_enum_v<T>) {
      using Number = std::underlying_type_t<T>;
      value = static_cast<T>(number(in, std::numeric_limits<Number>::max(), name));
      if (!known(value)) wrong(name, "has an unknown value");
    } else {
      value = static_cast<T>(number(in, std::numeric_limits<T>::max(), name));
    }
  }
  template <class T>
  void decode(const json& in, std::vector<T>& all, const char* name) {
    if (!in.is_array() || in.size() > max_rows) return wrong(name, "is not a list, or too long");
    all.clear();
    for (const json& one : in) decode(one, all.emplace_back(), name);
  }
  template <HasFields T>
  void decode(const json& in, T& object, const char* name) {
    if (!in.is_object()) return wrong(name, "is not an object");
    Reader inner(in, secrets_, error_);
    fields(inner, object);
  }

  const json& in_;
  Bytes secrets_;
  std::optional<Error>& error_;
};

// --- what every policy of posternd fulfils, and sessions rely on

bool sound(const Selector& selector) { return selector.first.family() == selector.last.family(); }

bool sound(const ChildPolicy& child) {
  return !child.name.empty() && !child.local.empty() && !child.remote.empty() && !child.proposals.empty() &&
         child.proposals.size() <= 6 && child.denied_local.size() == child.denied_remote.size() &&
         std::ranges::all_of(child.local, [](const Selector& s) { return sound(s); }) &&
         std::ranges::all_of(child.remote, [](const Selector& s) { return sound(s); });
}

bool sound(const Connection& connection) {
  std::set<std::string_view> children;  // the same names at another peer are the same flows
  for (const ChildPolicy& child : connection.children)
    if (!sound(child) || !children.insert(child.name).second) return false;
  const bool signs = is_signature(connection.local_auth), verifies = is_signature(connection.remote_auth);
  const auto whole = [&](const PeerKey& key) {
    return (connection.local_auth != AuthKind::psk || !key.local_key.empty()) &&
           (connection.remote_auth != AuthKind::psk || !key.remote_key.empty()) &&
           key.ppk.id.empty() == key.ppk.key.empty();
  };
  const PeerKey own{{}, connection.local_key, connection.remote_key, connection.ppk};
  const bool known_later = connection.is_template() || (connection.is_named() && !(signs && verifies));
  const bool keys =
      known_later ? !connection.peer_keys.empty() && std::ranges::all_of(connection.peer_keys, whole) : whole(own);
  return !connection.name.empty() && connection.local.family() == connection.remote.family() &&
         !connection.proposals.empty() && !connection.children.empty() &&
         !(connection.remote_identities.empty() && (!verifies || connection.certificate_maps.empty())) && keys &&
         !(uses_eap_tls(connection) && (connection.sign_trustpoint.empty() || connection.verify_trustpoints.empty())) &&
         !(connection.local_auth == AuthKind::eap &&
           (connection.eap_peer.methods.empty() || connection.eap_peer.identity.empty())) &&
         !(connection.remote_auth == AuthKind::eap && connection.eap_server.methods.empty()) &&
         !(signs && connection.sign_trustpoint.empty()) && !(verifies && connection.verify_trustpoints.empty());
}

Result<void> check(const Policy& policy) {
  std::set<std::string_view> names;
  for (const auto& connection : policy.connections)
    if (!sound(*connection) || !names.insert(connection->name).second)
      return fail("policy: connection \"" + connection->name + "\" is not whole, or there are two", EINVAL);
  return {};
}

// --- files

struct Seals {
  int after;
};
constexpr Seals never_again{F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL};
constexpr Seals size_alone{F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL};

// One byte at least: a mapping of nothing is an error.
template <class Fill>
Result<Fd> memory_file(const char* name, std::size_t size, Seals seals, Fill fill) {
  Fd file(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno(std::string("memfd_create ") + name);
  if (::ftruncate(file.get(), static_cast<off_t>(std::max<std::size_t>(size, 1))) != 0)
    return fail_errno(std::string("size memory file ") + name);
  {
    POSTERN_TRY(mapping,
                Mapping::map(std::max<std::size_t>(size, 1), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0, name));
    fill(mapping.data());
  }
  if (::fcntl(file.get(), F_ADD_SEALS, seals.after) != 0) return fail_errno(std::string("seal memory file ") + name);
  return file;
}

// A file whose size nobody can change any more: reading the mapping cannot fault.
Result<Mapping> map_sealed(const Fd& file, int protection, std::size_t most, const char* what) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(std::string("stat ") + what);
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  const auto size = static_cast<std::size_t>(status.st_size);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || size == 0 || size > most)
    return fail(std::string(what) + " is not a memory file of posternd", EINVAL);
  return Mapping::map(size, protection, MAP_SHARED, file.get(), 0, what);
}

}  // namespace

json policy_to_json(const Policy& policy, std::vector<Secret>& keys) {
  std::size_t key_bytes = 0;
  Writer writer(keys, key_bytes);
  fields(writer, policy);
  return writer.take();
}

Result<Policy> policy_from_json(const json& document, Bytes secrets) {
  if (!document.is_object()) return fail("policy: not an object", EINVAL);
  std::optional<Error> error;
  Policy policy;
  Reader reader(document, secrets, error);
  fields(reader, policy);
  if (error) return std::unexpected(std::move(*error));
  POSTERN_CHECK(check(policy));
  return policy;
}

Result<PolicyFiles> encode_policy(const Policy& policy) {
  std::vector<Secret> keys;
  const std::string text = policy_to_json(policy, keys).dump(-1, ' ', false, json::error_handler_t::replace);
  std::size_t key_bytes = 0;
  for (const Secret& key : keys) key_bytes += key.size();
  if (text.size() > max_policy_document_bytes || key_bytes > max_policy_secret_bytes)
    return fail("policy: too large to be handed over", E2BIG);
  PolicyFiles files;
  POSTERN_TRY(document, memory_file("postern-policy", text.size(), never_again,
                                    [&](std::byte* at) { std::memcpy(at, text.data(), text.size()); }));
  POSTERN_TRY(secrets, memory_file("postern-policy-keys", key_bytes, size_alone, [&](std::byte* at) {
                for (const Secret& key : keys) at = std::ranges::copy(key.bytes(), at).out;
              }));
  files.document = std::move(document);
  files.secrets = std::move(secrets);
  return files;
}

Result<Policy> decode_policy(const PolicyFiles& files) {
  POSTERN_TRY(secrets, map_sealed(files.secrets, PROT_READ | PROT_WRITE, max_policy_secret_bytes, "the policy's keys"));
  (void)::madvise(secrets.data(), secrets.size(), MADV_DONTDUMP);
  const auto decoded = [&]() -> Result<Policy> {
    POSTERN_TRY(text, map_sealed(files.document, PROT_READ, max_policy_document_bytes, "the policy"));
    const auto* const begin = text.as<const char>();
    return policy_from_json(json::parse(begin, begin + text.size(), nullptr, false), secrets.bytes());
  }();
  wipe(secrets.bytes());
  return decoded;
}

Result<void> wipe_secrets(const Fd& secrets) {
  POSTERN_TRY(mapping, map_sealed(secrets, PROT_READ | PROT_WRITE, max_policy_secret_bytes, "the policy's keys"));
  wipe(mapping.bytes());
  return {};
}

}  // namespace postern::ike

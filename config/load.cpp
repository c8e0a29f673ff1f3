#include "config/load.hpp"

#include <algorithm>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "config/gates.hpp"
#include "config/wiped_heap.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

const std::set<std::string, std::less<>> key_places = {"session_key", "pre_shared_key", "authentication", "password"};

// TS-38: the set that a profile gets when it names none.
void add_default_set(Document& document, Report& report) {
  bool wanted = false;
  for (const IpsecProfile& profile : document.profiles)
    wanted = wanted || std::ranges::find(profile.transform_sets, "default") != profile.transform_sets.end();
  for (const CryptoMap& map : document.crypto_maps)
    for (const MapEntry& entry : map.entries)
      wanted = wanted || std::ranges::find(entry.transform_sets, "default") != entry.transform_sets.end();
  if (!wanted || find_named(document.transform_sets, "default") != nullptr) return;
  document.transform_sets.push_back(
      {"default", {"esp-aes", "esp-sha-hmac"}, {crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha1_96}, false});
  report.warning("/ipsec", "the built-in transform set default has esp-sha-hmac, which is weak and deprecated",
                 "a set of the document with esp-sha256-hmac");
}

// TS-05: order is by sequence, not by place in the document.
void sort_by_sequence(Document& document) {
  for (Acl& acl : document.acls) std::ranges::sort(acl.rules, {}, &Ace::sequence);
  for (DynamicMap& map : document.dynamic_maps) std::ranges::sort(map.entries, {}, &DynamicEntry::sequence);
  for (CryptoMap& map : document.crypto_maps) std::ranges::sort(map.entries, {}, &MapEntry::sequence);
}

Result<Loaded, Problems> through_gates(const json& document, const LoadOptions& options, Report& report) {
  check_bounds(document, "", 0, report);
  if (!report.failed()) check_schema(document, report);
  if (report.failed()) return std::unexpected(report.take());
  Loaded loaded;
  loaded.document = convert(document, options, report);
  add_default_set(loaded.document, report);
  check_meaning(loaded.document, document, report);
  const bool failed = report.failed();
  loaded.warnings = report.take();
  if (failed) return std::unexpected(std::move(loaded.warnings));
  sort_by_sequence(loaded.document);
  return loaded;
}

Problems one_problem(std::string message, std::string allowed = {}) {
  return {{"", std::move(message), std::move(allowed), Severity::error}};
}

Result<std::string, Problems> read_all(int file, const std::string& path) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(file, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(one_problem(fail_errno("read " + path).error().message()));
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > max_document_bytes)
      return std::unexpected(one_problem(path + " is too large", std::to_string(max_document_bytes) + " bytes"));
  }
  wipe(std::as_writable_bytes(std::span(buffer)));
  return text;
}

Result<Fd, Problems> open_document(const std::string& path) {
  // O_NONBLOCK: a FIFO must not hold us up before fstat() refuses it.
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return std::unexpected(one_problem(fail_errno("open " + path).error().message()));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0)
    return std::unexpected(one_problem(fail_errno("fstat " + path).error().message()));
  if (!S_ISREG(status.st_mode)) return std::unexpected(one_problem(path + " is not a regular file", "a JSON file"));
  return file;
}

bool holds_inline_key(const json& value) {
  if (!value.is_structured()) return false;
  const auto is_text = [&](const json& object, const char* key) {
    return object.is_object() && object.contains(key) && object[key].is_string();
  };
  for (const char* const key : {"cipher", "pre_shared_key", "key", "password"})
    if (is_text(value, key)) return true;
  if (value.is_object() && value.contains("pre_shared_key"))
    for (const char* const side : {"local", "remote"})
      if (is_text(value["pre_shared_key"], side)) return true;
  return std::any_of(value.begin(), value.end(), holds_inline_key);
}

void wipe_strings(json& value) {
  if (value.is_string()) {
    auto& text = value.get_ref<std::string&>();
    wipe(std::as_writable_bytes(std::span(text.data(), text.size())));
  }
  if (value.is_structured())
    for (json& member : value) wipe_strings(member);
}

}  // namespace

void wipe_keys(json& value) {
  if (!value.is_structured()) return;
  for (auto member = value.begin(); member != value.end(); ++member) {
    if (value.is_object() && key_places.contains(member.key()))
      wipe_strings(*member);
    else
      wipe_keys(*member);
  }
}

Result<Loaded, Problems> load(json document, const LoadOptions& options) {
  use_wiped_heap();
  Report report;
  auto loaded = through_gates(document, options, report);
  if (loaded && options.keep_text) {
    std::string text = document.dump();
    loaded->text = Secret::copy_of(std::as_bytes(std::span(text)));
    wipe(std::as_writable_bytes(std::span(text)));
  }
  wipe_keys(document);
  return loaded;
}

Result<Loaded, Problems> load_text(std::string_view text, const LoadOptions& options) {
  auto document = parse_json(text);
  if (!document) return std::unexpected(std::move(document.error()));
  return load(std::move(*document), options);
}

Result<json, Problems> read_json_file(const std::string& path) {
  POSTERN_TRY(file, open_document(path));
  POSTERN_TRY(text, read_all(file.get(), path));
  auto document = parse_json(text);
  wipe(std::as_writable_bytes(std::span(text.data(), text.size())));
  return document;
}

Result<Loaded, Problems> load_file(const std::string& path, const LoadOptions& options) {
  POSTERN_TRY(document, read_json_file(path));
  struct stat status{};
  const bool exposed =
      ::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0 && holds_inline_key(document);
  auto loaded = load(std::move(document), options);
  if (loaded && exposed)
    loaded->warnings.push_back(
        {"", fmt::format("{} holds keys and has mode {:04o}: others can read them", path, status.st_mode & 07777U),
         "mode 0600, or keys as {\"file\": PATH}", Severity::warning});
  return loaded;
}

}  // namespace postern::config

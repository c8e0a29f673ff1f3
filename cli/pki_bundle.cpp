#include "cli/pki_bundle.hpp"

#include <optional>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

std::unexpected<Failure> failed(std::string message) {
  return std::unexpected(Failure{Exit::failed, std::move(message), {}});
}

std::optional<std::vector<std::byte>> bytes_of_hex(const std::string& hex) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  std::vector<std::byte> out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    const int high = digit(hex[i]), low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<std::byte>(high << 4 | low));
  }
  return hex.empty() || hex.size() % 2 != 0 ? std::nullopt : std::optional(std::move(out));
}

}  // namespace

Result<void, Failure> write_bundle(const nlohmann::json& data, const std::string& file) {
  const auto bundle = bytes_of_hex(text(data, "bundle"));
  if (!bundle) return failed("the node gave no bundle");
  Fd opened;
  if (file != "-") {
    opened = Fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!opened) return failed(fail_errno("open " + printable(file)).error().message());
  }
  const int output = opened ? opened.get() : STDOUT_FILENO;
  for (Bytes rest = *bundle; !rest.empty();) {
    const ssize_t count = ::write(output, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(fail_errno("write " + printable(file)).error().message());
    rest = rest.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace postern::cli

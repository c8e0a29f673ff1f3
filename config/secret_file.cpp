#include "config/secret_file.hpp"

#include <array>
#include <cstring>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace postern::config {
namespace {

constexpr std::size_t max_key_file_bytes = 4096, max_private_key_bytes = 16384;

std::unexpected<ValueError> refuse(const std::string& path, std::string what, std::string allowed) {
  return std::unexpected(ValueError{path + " " + std::move(what), std::move(allowed)});
}

Value<Fd> open_checked(const std::string& path, const LoadOptions& options, std::size_t most = max_key_file_bytes) {
  if (path.front() != '/') return refuse(path, "is not an absolute path", "a path that begins with /");
  // O_NONBLOCK: a FIFO must not hold us up before fstat() refuses it.
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY));
  if (!file)
    return refuse(path,
                  errno == ELOOP ? "is a symbolic link" : fmt::format("cannot be opened: {}", std::strerror(errno)),
                  "a regular file that the node can read");
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return refuse(path, fmt::format("fstat: {}", std::strerror(errno)), "");
  if (!S_ISREG(status.st_mode)) return refuse(path, "is not a regular file", "a regular file");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return refuse(path, fmt::format("has mode {:04o}: group or others can get at the key", status.st_mode & 07777U),
                  "mode 0600 or 0400 (chmod 600)");
  const uid_t owner = options.secret_owner < 0 ? ::geteuid() : static_cast<uid_t>(options.secret_owner);
  if (status.st_uid != 0 && status.st_uid != owner)
    return refuse(path, fmt::format("belongs to user {}", status.st_uid), fmt::format("owner root or user {}", owner));
  if (status.st_size > static_cast<off_t>(most))
    return refuse(path, fmt::format("has {} bytes", status.st_size), fmt::format("at most {} bytes", most));
  return file;
}

// The file's text through `parse`, without what white space stands behind it.
Value<Secret> read_and_parse(const std::string& path, const LoadOptions& options, const char* wanted,
                             Value<Secret> (*parse)(std::string_view)) {
  auto file = open_checked(path, options);
  if (!file) return std::unexpected(std::move(file.error()));
  Secret text(max_key_file_bytes + 1);
  char* const buffer = reinterpret_cast<char*>(text.mutable_bytes().data());
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(file->get(), buffer + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refuse(path, fmt::format("cannot be read: {}", std::strerror(errno)), "");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  std::string_view content(buffer, size);
  content = content.substr(0, content.find_last_not_of(" \t\r\n") + 1);
  if (content.empty()) return refuse(path, "holds no key", wanted);
  auto key = parse(content);
  if (!key) return refuse(path, "holds no key: its text " + key.error().message, key.error().allowed);
  return key;
}

}  // namespace

Value<Secret> read_secret_file(const std::string& path, const LoadOptions& options) {
  return read_and_parse(path, options, "hex digits", &parse_hex);
}

Value<Fd> open_key_file(const std::string& path, const LoadOptions& options) {
  return open_checked(path, options, max_private_key_bytes);
}

Value<Secret> read_pre_shared_key_file(const std::string& path, const LoadOptions& options) {
  return read_and_parse(path, options, "text, or 0x and hex digits", &parse_pre_shared_key);
}

}  // namespace postern::config

#include "resolver/fetch.hpp"

#include <memory>

#include <curl/curl.h>

namespace postern::resolver {
namespace {

constexpr std::size_t max_header_bytes = 16U << 10;
constexpr long http_ok = 200;

// What one answer may be, and what has come of it.
struct Received {
  std::size_t most = 0, header_bytes = 0;
  std::vector<std::byte> body;
  bool too_large = false;
};

// Less than was given ends the transfer. An interim answer (1xx) has no body, a redirect's is not wanted.
std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& received = *static_cast<Received*>(user);
  if (size > received.most - received.body.size()) {
    received.too_large = true;
    return 0;
  }
  const Bytes bytes = as_bytes({data, size});
  received.body.insert(received.body.end(), bytes.begin(), bytes.end());
  return size;
}

std::size_t on_header(char*, std::size_t, std::size_t size, void* user) {
  auto& received = *static_cast<Received*>(user);
  received.header_bytes += size;
  received.too_large = received.too_large || received.header_bytes > max_header_bytes;
  return received.too_large ? 0 : size;
}

using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

bool set_up(CURL* curl, const UrlQuestion& question, const FetchPatience& patience, Received& received) {
  bool all = true;
  const auto set = [&](auto option, auto value) { all = all && curl_easy_setopt(curl, option, value) == CURLE_OK; };
  set(CURLOPT_URL, question.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROXY, "");  // not the environment's
  set(CURLOPT_NOPROXY, "*");
  set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_QUICK_EXIT, 1L);  // a name server that hangs has no more time than its question
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(patience.connect.count()));
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(patience.whole.count()));
  set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(question.max_bytes));
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, &received);
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, &received);
  return all;
}

UrlAnswer failed(std::string why) {
  std::erase_if(why, [](char c) { return c < 0x20 || c >= 0x7f; });
  why.resize(std::min(why.size(), max_detail_bytes));
  return {UrlOutcome::failed, std::move(why), {}};
}

}  // namespace

UrlAnswer fetch(const UrlQuestion& question, const FetchPatience& patience) {
  if (!is_http_url(question.url)) return failed("no URL of http:");
  const Handle curl(curl_easy_init(), curl_easy_cleanup);
  Received received;
  received.most = std::min<std::size_t>(question.max_bytes, max_body_bytes);
  if (!curl || !set_up(curl.get(), question, patience, received)) return failed("libcurl cannot be set up");
  const CURLcode code = curl_easy_perform(curl.get());
  long status = 0;
  (void)curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status >= 300)  // what it says beside that does not matter
    return {UrlOutcome::refused, "the server answers " + std::to_string(status), {}};
  if (received.too_large || code == CURLE_FILESIZE_EXCEEDED)
    return {UrlOutcome::too_large, "more than " + std::to_string(question.max_bytes) + " bytes", {}};
  if (code == CURLE_OPERATION_TIMEDOUT) return {UrlOutcome::timed_out, {}, {}};
  if (code != CURLE_OK) return failed(curl_easy_strerror(code));
  if (status != http_ok) return {UrlOutcome::refused, "the server answers " + std::to_string(status), {}};
  return {UrlOutcome::found, {}, std::move(received.body)};
}

Result<void> prepare_fetches() {
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return fail("libcurl cannot be set up");
  return {};
}

}  // namespace postern::resolver

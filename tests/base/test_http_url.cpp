// Which texts are URLs of certificates: what a reader could take for something else is none.
#include <string>

#include <doctest/doctest.h>

#include "base/http_url.hpp"

namespace postern {

TEST_CASE("URLs of certificates: http, a host, a path") {
  for (const char* const good :
       {"http://pki.example.org/", "http://pki.example.org/gw.der", "http://192.0.2.1:8080/a/b/c?serial=1",
        "http://[2001:db8::1]/gw.der", "http://[2001:db8::1]:80/gw.der", "http://h/.well-known/a", "http://h/..a",
        "http://h/a..", "http://h/%20a", "http://h//"})
    CHECK_MESSAGE(is_http_url(good), good);
  CHECK(is_http_url("http://h/" + std::string(max_url_bytes - 9, 'a')));
}

TEST_CASE("what is no URL of a certificate") {
  for (const char* const bad : {"",
                                "http://",
                                "http:///",
                                "http://h",
                                "https://h/",
                                "ftp://h/",
                                "file:///etc/shadow",
                                "HTTP://h/",
                                "http://H/",
                                "http://../",
                                "http://.h/",
                                "http://user@h/",
                                "http://user:pw@h/",
                                "http://h:/",
                                "http://h:0/",
                                "http://h:65536/",
                                "http://h:+80/",
                                "http://h:80x/",
                                "http://h:80:80/",
                                "http://h /",
                                "http://h/a b",
                                "http://h/a\n",
                                "http://h/\x7f",
                                "http://h/\xc3",
                                "http://h/a#b",
                                "http://h/a\\b",
                                "http://h/../a",
                                "http://h/a/..",
                                "http://h/a/./b",
                                "http://h/%2e%2E/a",
                                "http://h/a/.%2e?x",
                                "http://[]/",
                                "http://[g]/",
                                "http://h]/",
                                "http://h%2f/"})
    CHECK_FALSE_MESSAGE(is_http_url(bad), bad);
  CHECK_FALSE(is_http_url(std::string("http://h/\0", 10)));
  CHECK_FALSE(is_http_url("http://h/" + std::string(max_url_bytes - 8, 'a')));
}

TEST_CASE("prefixes end where a part of the path does") {
  for (const char* const good : {"http://", "http://h/", "http://h:8080/certs/"})
    CHECK_MESSAGE(is_http_prefix(good), good);
  for (const char* const bad : {"", "http:", "http://h", "http://h/certs", "https://", "http://h/?a/", "http://h/../"})
    CHECK_FALSE_MESSAGE(is_http_prefix(bad), bad);
}

}  // namespace postern

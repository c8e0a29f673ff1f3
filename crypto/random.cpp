#include "crypto/random.hpp"

#include <openssl/rand.h>

namespace postern::crypto {

Result<void> random_bytes(MutableBytes out) {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) != 1)
    return fail("OpenSSL's random generator failed");
  return {};
}

Result<void> IvPool::reserve(std::size_t count) {
  if (capacity - next_ >= count) return {};
  POSTERN_CHECK(random_bytes(bytes_));
  next_ = 0;
  return {};
}

}  // namespace postern::crypto

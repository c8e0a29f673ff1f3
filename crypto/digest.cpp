#include "crypto/digest.hpp"

#include <memory>

#include <openssl/evp.h>

namespace postern::crypto {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

template <std::size_t Size>
Result<std::array<std::byte, Size>> digest(const EVP_MD* algorithm, std::initializer_list<Bytes> parts) {
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  bool good = context && EVP_DigestInit_ex2(context.get(), algorithm, nullptr) == 1;
  for (const Bytes part : parts) good = good && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
  std::array<std::byte, Size> out{};
  if (!good || EVP_MD_get_size(algorithm) != static_cast<int>(Size) ||
      EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr) != 1)
    return fail(std::string("OpenSSL cannot compute ") + EVP_MD_get0_name(algorithm));
  return out;
}

}  // namespace

Result<std::array<std::byte, 16>> md5(std::initializer_list<Bytes> parts) { return digest<16>(EVP_md5(), parts); }
Result<std::array<std::byte, 20>> sha1(std::initializer_list<Bytes> parts) { return digest<20>(EVP_sha1(), parts); }
Result<std::array<std::byte, 32>> sha256(std::initializer_list<Bytes> parts) { return digest<32>(EVP_sha256(), parts); }

}  // namespace postern::crypto

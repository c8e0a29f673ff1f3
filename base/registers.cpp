#include "base/registers.hpp"

namespace postern {
namespace {

#define POSTERN_LOW_REGISTERS                                                                                         \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"
#define POSTERN_ZERO_HIGH(number) "vpxord %%zmm" #number ",%%zmm" #number ",%%zmm" #number "\n\t"

#if defined(__x86_64__)
__attribute__((target("avx512f"), noinline)) void clear_avx512() {
  asm volatile("vzeroall\n\t" POSTERN_ZERO_HIGH(16) POSTERN_ZERO_HIGH(17) POSTERN_ZERO_HIGH(18) POSTERN_ZERO_HIGH(19)
                   POSTERN_ZERO_HIGH(20) POSTERN_ZERO_HIGH(21) POSTERN_ZERO_HIGH(22) POSTERN_ZERO_HIGH(23)
                       POSTERN_ZERO_HIGH(24) POSTERN_ZERO_HIGH(25) POSTERN_ZERO_HIGH(26) POSTERN_ZERO_HIGH(27)
                           POSTERN_ZERO_HIGH(28) POSTERN_ZERO_HIGH(29) POSTERN_ZERO_HIGH(30) POSTERN_ZERO_HIGH(31)
               :
               :
               : POSTERN_LOW_REGISTERS, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
                 "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

__attribute__((target("avx"), noinline)) void clear_avx() { asm volatile("vzeroall" : : : POSTERN_LOW_REGISTERS); }

const bool has_avx512 = __builtin_cpu_supports("avx512f") != 0;
const bool has_avx = __builtin_cpu_supports("avx") != 0;
#endif

}  // namespace

void clear_vector_registers() {
#if defined(__x86_64__)
  if (has_avx512) return clear_avx512();
  if (has_avx) return clear_avx();
#endif
}

}  // namespace postern

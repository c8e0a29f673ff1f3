// What ciphers and copies leave in vector registers: round keys, the first of which is the AES key itself, and the last
// bytes that memcpy() moved. The kernel saves registers into core dumps and shows them to debuggers.
#pragma once

namespace postern {

// Clears every vector register that this CPU has. A few cycles; any thread.
void clear_vector_registers();

}  // namespace postern

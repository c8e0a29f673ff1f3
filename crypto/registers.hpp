// What a cipher leaves in vector registers: round keys, the first of which is the AES key itself. The kernel saves
// registers into core dumps and shows them to debuggers, so they are cleared after each batch.
#pragma once

namespace postern::crypto {

// Clears every vector register that this CPU has. A few cycles; any thread.
void clear_vector_registers();

}  // namespace postern::crypto

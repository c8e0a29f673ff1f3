// Global operator new and delete that overwrite memory when it is freed. See wiped_heap.cpp.
#pragma once

namespace postern::config {

void use_wiped_heap();

}  // namespace postern::config

#include "loader/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace postern::loader {
namespace {

// One memory file; `start` initialises its first bytes through a mapping that is gone before the seals are set.
template <class Start>
Result<Fd> create_file(const char* name, std::size_t size, Start start) {
  Fd file(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno(std::string("memfd_create ") + name);
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(std::string("size memory file ") + name);
  {
    POSTERN_TRY(mapping, Mapping::map(size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0, name));
    start(mapping);
  }
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return fail_errno(std::string("seal memory file ") + name);
  return file;
}

Result<std::size_t> checked_size(const Fd& file, std::size_t at_least, const char* what) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(std::string("stat memory file ") + what);
  const auto size = static_cast<std::size_t>(status.st_size);
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (size < at_least || seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return fail(std::string(what) + " memory file is not one that posternd made");
  return size;
}

Result<Mapping> map_checked(const Fd& file, std::size_t at_least, int protection, const char* what) {
  POSTERN_TRY(size, checked_size(file, at_least, what));
  return Mapping::map(size, protection, MAP_SHARED, file.get(), 0, what);
}

}  // namespace

Result<SharedMemory> SharedMemory::create(std::uint32_t sa_capacity) {
  POSTERN_TRY(sa_state, create_file("postern-sa-state", sa_state_bytes(sa_capacity), [&](const Mapping& at) {
                auto* const header = at.as<SaStateHeader>();
                header->magic = sa_state_magic;
                header->version = sa_state_version;
                header->capacity = sa_capacity;
                header->slot_bytes = sizeof(SaSlot);
              }));
  POSTERN_TRY(counters, create_file("postern-counters", sizeof(CounterPage), [](const Mapping& at) {
                auto* const page = at.as<CounterPage>();
                page->magic = counter_page_magic;
                page->version = counter_page_version;
              }));
  POSTERN_TRY(adjacency, create_file("postern-adjacency", sizeof(AdjacencyTable), [](const Mapping& at) {
                auto* const table = at.as<AdjacencyTable>();
                table->magic = adjacency_table_magic;
                table->rows = adjacency_rows;
              }));
  return map({std::move(sa_state), std::move(counters), std::move(adjacency)});
}

Result<SharedMemory> SharedMemory::map(MemoryFiles files) {
  POSTERN_TRY(sa_state, map_checked(files.sa_state, sa_state_bytes(1), PROT_READ, "SA state"));
  ::madvise(sa_state.data(), sa_state.size(), MADV_DONTDUMP);
  const auto& header = *sa_state.as<const SaStateHeader>();
  if (header.magic != sa_state_magic || header.version != sa_state_version || header.slot_bytes != sizeof(SaSlot) ||
      sa_state_bytes(header.capacity) > sa_state.size())
    return fail("SA state file is of another version");
  POSTERN_TRY(counters, map_checked(files.counters, sizeof(CounterPage), PROT_READ, "counter page"));
  const auto& page = *counters.as<const CounterPage>();
  if (page.magic != counter_page_magic || page.version != counter_page_version)
    return fail("counter page is of another version");
  POSTERN_TRY(adjacency,
              map_checked(files.adjacency, sizeof(AdjacencyTable), PROT_READ | PROT_WRITE, "adjacency table"));
  const auto& table = *adjacency.as<const AdjacencyTable>();
  if (table.magic != adjacency_table_magic || table.rows != adjacency_rows)
    return fail("adjacency table is of another version");
  const auto capacity = header.capacity;
  return SharedMemory(std::move(files), std::move(sa_state), std::move(counters), std::move(adjacency), capacity);
}

const SaSlot* SharedMemory::live(std::uint32_t index) const {
  if (index >= capacity_) return nullptr;
  const SaSlot& candidate = slot(index);
  return candidate.phase.load(std::memory_order_acquire) == SlotPhase::live ? &candidate : nullptr;
}

}  // namespace postern::loader

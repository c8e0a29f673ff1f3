// The three memory files of the node, as the worker maps them (worker/control.hpp: SharedFiles).
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.hpp"
#include "worker/control.hpp"

namespace postern {
namespace {

Result<Mapping> map_file(const Fd& file, std::size_t at_least, int protection, const char* what) {
  POSTERN_TRY(mapping, map_whole_file(file, protection, what));
  if (mapping.size() < at_least) return fail(std::string(what) + ": file is too small", EINVAL);
  return mapping;
}

Result<void> check_sa_state(const Mapping& file) {
  const auto& header = *file.as<const SaStateHeader>();
  if (header.magic != sa_state_magic || header.version != sa_state_version || header.slot_bytes != sizeof(SaSlot) ||
      header.capacity == 0 || header.capacity > POSTERN_MAX_SAS || sa_state_bytes(header.capacity) > file.size())
    return fail("SA state file is of another version or size", EPROTO);
  return {};
}

}  // namespace

Result<Mapping> map_whole_file(const Fd& file, int protection, const char* what) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(std::string("fstat ") + what);
  if (status.st_size <= 0) return fail(std::string(what) + ": file is empty", EINVAL);
  return Mapping::map(static_cast<std::size_t>(status.st_size), protection, MAP_SHARED, file.get(), 0, what);
}

Result<SharedFiles> SharedFiles::map(std::vector<Fd> files) {
  if (files.size() != 3) return fail("hello: three descriptors are needed", EINVAL);
  SharedFiles out;
  POSTERN_TRY(sa_state, map_file(files[0], sa_state_bytes(1), PROT_READ | PROT_WRITE, "SA state"));
  POSTERN_CHECK(check_sa_state(sa_state));
  if (::mlock2(sa_state.data(), sa_state.size(), MLOCK_ONFAULT) != 0)
    spdlog::warn("SA state is not locked in memory: {}", std::strerror(errno));
  ::madvise(sa_state.data(), sa_state.size(), MADV_DONTDUMP);
  POSTERN_TRY(counters, map_file(files[1], sizeof(CounterPage), PROT_READ | PROT_WRITE, "counter page"));
  const auto& page = *counters.as<const CounterPage>();
  if (page.magic != counter_page_magic || page.version != counter_page_version)
    return fail("counter page is of another version", EPROTO);
  POSTERN_TRY(adjacencies, map_file(files[2], sizeof(AdjacencyTable), PROT_READ, "adjacency table"));
  const auto& table = *adjacencies.as<const AdjacencyTable>();
  if (table.magic != adjacency_table_magic || table.rows != adjacency_rows)
    return fail("adjacency table is of another version", EPROTO);
  out.files_ = std::move(files);
  out.sa_state_ = std::move(sa_state);
  out.counters_ = std::move(counters);
  out.adjacencies_ = std::move(adjacencies);
  return out;
}

std::span<SaSlot> SharedFiles::slots() const {
  return {sa_slots(sa_state_.data()), sa_state_.as<const SaStateHeader>()->capacity};
}

}  // namespace postern

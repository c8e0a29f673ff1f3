#include "worker/loop_policy.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace postern {
namespace {

constexpr std::uint32_t magic = 0x504e4c51;  // "PNLQ"
constexpr std::size_t most_rows = 1U << 20;

struct FileHeader {
  std::uint32_t magic = 0;
  std::uint32_t rules = 0;
  std::uint32_t ranges = 0;
};
struct FileRule {
  std::uint32_t ifindex = 0, entry = 0, flow = 0;
  std::uint32_t source_ranges = 0, destination_ranges = 0;
  Prefix source, destination;
  std::uint8_t permit = 0, any_protocol = 0, protocol = 0, fragments = 0;
};
static_assert(std::is_trivially_copyable_v<FileRule> && std::is_trivially_copyable_v<PolicyPortRange>);

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
  const std::size_t at = out.size();
  out.resize(at + sizeof value);
  std::memcpy(out.data() + at, &value, sizeof value);
}

// Hands out the parts of a file whose size was checked.
class Parts {
 public:
  explicit Parts(Bytes file) : rest_(file) {}
  template <class T>
  T next() {
    T out;
    std::memcpy(&out, rest_.data(), sizeof out);
    rest_ = rest_.subspan(sizeof out);
    return out;
  }

 private:
  Bytes rest_;
};

}  // namespace

LoopPolicy::LoopPolicy(Rules rules) {
  static std::atomic<std::uint64_t> last_epoch{0};
  epoch_ = ++last_epoch;
  for (auto& [ifindex, list] : rules) interfaces_[ifindex].rules = std::move(list);
}

std::uint32_t LoopPolicy::flow_for(std::uint32_t ifindex, const PolicyPacket& packet, std::uint32_t made_by) const {
  const auto found = interfaces_.find(ifindex);
  if (found == interfaces_.end()) return 0;
  const PolicyRule* maker = nullptr;
  for (const PolicyRule& rule : found->second.rules)
    if (rule.permit && rule.flow == made_by) maker = &rule;
  return evaluate(found->second, packet, maker).flow;
}

std::vector<std::byte> LoopPolicy::write(const Rules& rules) {
  FileHeader header{magic, 0, 0};
  std::vector<std::byte> rows, ranges;
  for (const auto& [ifindex, list] : rules) {
    for (const PolicyRule& rule : list) {
      append(rows, FileRule{ifindex, rule.entry, rule.flow, static_cast<std::uint32_t>(rule.source_ports.size()),
                            static_cast<std::uint32_t>(rule.destination_ports.size()), rule.source, rule.destination,
                            static_cast<std::uint8_t>(rule.permit), static_cast<std::uint8_t>(!rule.protocol),
                            rule.protocol.value_or(0), static_cast<std::uint8_t>(rule.fragments)});
      ++header.rules;
      for (const auto* ports : {&rule.source_ports, &rule.destination_ports})
        for (const PolicyPortRange& range : *ports) {
          append(ranges, range);
          ++header.ranges;
        }
    }
  }
  std::vector<std::byte> out(sizeof header + rows.size() + ranges.size());
  std::memcpy(out.data(), &header, sizeof header);
  std::ranges::copy(rows, out.data() + sizeof header);
  std::ranges::copy(ranges, out.data() + sizeof header + rows.size());
  return out;
}

Result<LoopPolicy::Rules> LoopPolicy::read(Bytes file) {
  const auto bad = [] { return fail("policy file: not of this format", EPROTO); };
  if (file.size() < sizeof(FileHeader)) return bad();
  Parts parts(file);
  const auto header = parts.next<FileHeader>();
  if (header.magic != magic || header.rules > most_rows || header.ranges > most_rows) return bad();
  const std::size_t rows = header.rules * sizeof(FileRule), ports = header.ranges * sizeof(PolicyPortRange);
  if (file.size() < sizeof header + rows + ports) return bad();
  Parts ranges(file.subspan(sizeof header + rows));
  std::size_t left = header.ranges;
  Rules out;
  for (std::uint32_t i = 0; i < header.rules; ++i) {
    const auto row = parts.next<FileRule>();
    if (row.fragments > static_cast<std::uint8_t>(PolicyFragments::only)) return bad();
    PolicyRule rule;
    rule.entry = row.entry;
    rule.permit = row.permit != 0;
    rule.flow = row.flow;
    rule.source = row.source;
    rule.destination = row.destination;
    rule.fragments = static_cast<PolicyFragments>(row.fragments);
    if (row.any_protocol == 0) rule.protocol = row.protocol;
    if (std::uint64_t{row.source_ranges} + row.destination_ranges > left) return bad();
    left -= row.source_ranges + row.destination_ranges;
    for (std::uint32_t n = 0; n < row.source_ranges; ++n) rule.source_ports.push_back(ranges.next<PolicyPortRange>());
    for (std::uint32_t n = 0; n < row.destination_ranges; ++n)
      rule.destination_ports.push_back(ranges.next<PolicyPortRange>());
    out[row.ifindex].push_back(std::move(rule));
  }
  return out;
}

}  // namespace postern

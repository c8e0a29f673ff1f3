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
  std::uint32_t ifindex = 0, entry = 0, flow = 0, fragment_flow = 0;
  std::uint32_t source_ranges = 0, destination_ranges = 0;
  Prefix source, destination;
  std::uint8_t permit = 0, any_protocol = 0, protocol = 0, fragments = 0;
  std::uint8_t class_mask = 0, class_value = 0, flags_set = 0, flags_clear = 0, flags_all = 0;
  std::uint8_t reserved[3]{};
};
static_assert(std::is_trivially_copyable_v<FileRule> && std::is_trivially_copyable_v<PolicyPortRange>);

FileRule file_row_of(std::uint32_t ifindex, const PolicyRule& rule) {
  FileRule row;
  row.ifindex = ifindex;
  row.entry = rule.entry;
  row.flow = rule.flow;
  row.fragment_flow = rule.fragment_flow;
  row.source_ranges = static_cast<std::uint32_t>(rule.source_ports.size());
  row.destination_ranges = static_cast<std::uint32_t>(rule.destination_ports.size());
  row.source = rule.source;
  row.destination = rule.destination;
  row.permit = rule.permit ? 1 : 0;
  row.any_protocol = rule.protocol ? 0 : 1;
  row.protocol = rule.protocol.value_or(0);
  row.fragments = static_cast<std::uint8_t>(rule.fragments);
  row.class_mask = rule.traffic_class.mask;
  row.class_value = rule.traffic_class.value;
  row.flags_set = rule.tcp_flags.set;
  row.flags_clear = rule.tcp_flags.clear;
  row.flags_all = rule.tcp_flags.all ? 1 : 0;
  return row;
}

// Its port ranges come apart.
PolicyRule rule_of_file(const FileRule& row) {
  PolicyRule rule;
  rule.entry = row.entry;
  rule.permit = row.permit != 0;
  rule.flow = row.flow;
  rule.fragment_flow = row.fragment_flow;
  rule.source = row.source;
  rule.destination = row.destination;
  rule.fragments = static_cast<PolicyFragments>(row.fragments);
  rule.traffic_class = {row.class_mask, row.class_value};
  rule.tcp_flags = {row.flags_set, row.flags_clear, row.flags_all != 0};
  if (row.any_protocol == 0) rule.protocol = row.protocol;
  return rule;
}

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
    if (rule.permit && (rule.flow == made_by || rule.fragment_flow == made_by)) maker = &rule;
  return evaluate(found->second, packet, maker).flow;
}

std::vector<std::byte> LoopPolicy::write(const Rules& rules) {
  FileHeader header{magic, 0, 0};
  std::vector<std::byte> rows, ranges;
  for (const auto& [ifindex, list] : rules) {
    for (const PolicyRule& rule : list) {
      append(rows, file_row_of(ifindex, rule));
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
    PolicyRule rule = rule_of_file(row);
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

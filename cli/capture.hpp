// postern capture: reads the worker's records (worker/sa_channel.hpp: CaptureRecord) and writes pcapng, within bounds.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "cli/control_client.hpp"
#include "cli/pcapng.hpp"

namespace postern::cli {

struct CaptureOptions {
  std::string side = "both";
  std::uint64_t count = 0;     // packets; 0: no limit of its own
  std::uint32_t seconds = 60;  // 0: until interrupted or `count` is reached
  std::string file = "-";
};

struct CaptureResult {
  std::uint64_t packets = 0;
  std::uint64_t malformed = 0;  // records that were no records
  bool ended_by_node = false;
};

// One datagram of the worker. Error: it is no CaptureRecord followed by its bytes.
[[nodiscard]] Result<CapturedPacket> parse_record(Bytes datagram);

// Opens the output before the node is asked: a file 0600, or standard output unless that is a terminal.
[[nodiscard]] Outcome<Fd> open_output(const std::string& file);

// Copies until a bound, end of records, SIGINT or SIGTERM, or a reader that is gone. `names`: ifindex to device name.
[[nodiscard]] Outcome<CaptureResult> copy_records(int records, int output, const CaptureOptions& options,
                                                  std::string_view node, std::map<std::uint32_t, std::string> names);

}  // namespace postern::cli

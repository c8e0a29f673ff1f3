// postern capture: records in, pcapng out, read back by tshark, which shares no code with us.
#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>

#include <sys/stat.h>

#include "base/clock.hpp"
#include "cli/capture.hpp"
#include "cli/postern.hpp"
#include "tests/cli/fake_node.hpp"
#include "worker/sa_channel.hpp"

namespace postern::cli {
namespace {

std::vector<std::byte> datagram(const CaptureRecord& record, const std::string& packet) {
  std::vector<std::byte> out(sizeof record + packet.size());
  std::memcpy(out.data(), &record, sizeof record);
  std::memcpy(out.data() + sizeof record, packet.data(), packet.size());
  return out;
}

CaptureRecord record_of(const std::string& packet, std::uint32_t linktype, CaptureSide side, bool outbound) {
  return {.realtime_ns = 1700000000123456789,
          .original_bytes = static_cast<std::uint32_t>(packet.size()),
          .linktype = linktype,
          .ifindex = side == CaptureSide::cipher ? 3U : 6U,
          .side = side,
          .outbound = outbound,
          .captured_bytes = static_cast<std::uint32_t>(packet.size())};
}

// An IPv4 header with protocol 253 (experiments), and some payload.
std::string ip_packet(char mark) {
  std::string out("\x45\0\0\x18\0\1\0\0\x40\xfd\0\0\x0a\1\0\2\x0a\2\0\2", 20);
  return out + std::string(4, mark);
}

std::string ethernet(const std::string& inner) { return std::string("\2\0\0\0\0\1\2\0\0\0\0\2\x08\0", 14) + inner; }

struct Pair {
  Fd reader, writer;
  explicit Pair(int type) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    reader = Fd(ends[0]);
    writer = Fd(ends[1]);
  }
  void send(const std::vector<std::byte>& bytes) const {
    REQUIRE(::send(writer.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }
};

std::string output_of(const std::string& command) {
  std::string out;
  FILE* const pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> buffer{};
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), got);
  CHECK(::pclose(pipe) == 0);
  return out;
}

}  // namespace

TEST_CASE("records that are none are refused") {
  const std::string packet = ip_packet('x');
  const auto good = record_of(packet, 101, CaptureSide::plain, true);
  CHECK(parse_record(datagram(good, packet)).has_value());
  CHECK(!parse_record({}));
  CHECK(!parse_record(Bytes(datagram(good, packet)).first(sizeof(CaptureRecord) - 1)));
  CHECK(!parse_record(Bytes(datagram(good, packet)).first(sizeof(CaptureRecord) + 3)));
  auto bad = good;
  bad.captured_bytes += 1;
  CHECK(!parse_record(datagram(bad, packet)));
  bad = good;
  bad.original_bytes = 1;
  CHECK(!parse_record(datagram(bad, packet)));
  bad = good;
  bad.linktype = 0x10000;
  CHECK(!parse_record(datagram(bad, packet)));
}

TEST_CASE("a capture of both sides, as tshark reads it") {
  const RunDirectory directory;
  const std::string file = directory.path / "c.pcapng";
  const std::string first = ip_packet('a'), second = ethernet(ip_packet('b')), third = ip_packet('c') + "odd";
  std::ostringstream out, err;
  {
    const Pair records(SOCK_SEQPACKET);
    records.send(datagram(record_of(first, 101, CaptureSide::plain, true), first));
    records.send(datagram(record_of(second, 1, CaptureSide::cipher, false), second));
    records.send({std::byte{1}});  // no record: counted and passed over
    auto cut = record_of(third, 101, CaptureSide::plain, false);
    cut.original_bytes = 9000;
    records.send(datagram(cut, third));
    records.send(datagram(record_of(first, 101, CaptureSide::plain, true), first));
    const FakeNode node(directory, "N1", [&](const std::string& line, int connection) {
      const auto asked = nlohmann::json::parse(line);
      const bool right = asked["command"] == "capture" && asked["args"]["side"] == "both";
      FakeNode::send_with(
          connection, right ? "{\"ok\":true,\"data\":{\"interfaces\":[{\"ifindex\":3,\"name\":\"out0\"}]}}\n" : "{}\n",
          records.reader.get());
    });
    CHECK(run({"capture", "-c", "3", "-w", file}, {directory.path, ""}, out, err) == Exit::ok);
  }
  CHECK(out.str().empty());
  CHECK(err.str() == "3 packets captured\n1 records were not understood\n");
  struct stat status{};
  REQUIRE(::stat(file.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  const std::string fields =
      "-e frame.time_epoch -e frame.len -e frame.cap_len -e frame.interface_name -e frame.packet_flags_direction -e "
      "ip.src -e data.data";
  const std::string read = output_of("tshark -r " + file + " -T fields -E separator=, " + fields + " 2>/dev/null");
  CHECK(read ==
        "1700000000.123456789,24,24,ifindex 6 (plain),0x00000002,10.1.0.2,61616161\n"
        "1700000000.123456789,38,38,out0 (cipher),0x00000001,10.1.0.2,62626262\n"
        "1700000000.123456789,9000,27,ifindex 6 (plain),0x00000001,10.1.0.2,63636363\n");
}

TEST_CASE("a capture ends at its bounds, at the node's end, and without a reader") {
  const RunDirectory directory;
  const std::string packet = ip_packet('x');
  const auto output = open_output(directory.path / "c.pcapng");
  REQUIRE(output);
  CaptureOptions options;
  SUBCASE("count") {
    const Pair records(SOCK_DGRAM);
    for (int i = 0; i < 3; ++i) records.send(datagram(record_of(packet, 101, CaptureSide::plain, true), packet));
    options.count = 2;
    const auto result = copy_records(records.reader.get(), output->get(), options, "N1", {});
    REQUIRE(result);
    CHECK(result->packets == 2);
    CHECK(!result->ended_by_node);
  }
  SUBCASE("time") {
    const Pair records(SOCK_DGRAM);
    options.seconds = 1;
    const auto before = Clock::now();
    const auto result = copy_records(records.reader.get(), output->get(), options, "N1", {});
    REQUIRE(result);
    CHECK(result->packets == 0);
    CHECK(Clock::now() - before >= std::chrono::seconds(1));
  }
  SUBCASE("the node's end") {
    Pair records(SOCK_SEQPACKET);
    records.send(datagram(record_of(packet, 101, CaptureSide::plain, true), packet));
    records.writer.reset();
    const auto result = copy_records(records.reader.get(), output->get(), options, "N1", {});
    REQUIRE(result);
    CHECK(result->packets == 1);
    CHECK(result->ended_by_node);
  }
  SUBCASE("no reader") {
    const Pair records(SOCK_DGRAM);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    ::close(ends[0]);
    const Fd broken(ends[1]);
    const auto result = copy_records(records.reader.get(), broken.get(), options, "N1", {});
    REQUIRE(result);
    CHECK(result->packets == 0);
  }
}

TEST_CASE("an output that cannot be is refused before the node is asked") {
  const RunDirectory directory;
  CHECK(!open_output(directory.path / "absent" / "c.pcapng"));
  CHECK(!open_output(directory.path));
  REQUIRE(::symlink("/dev/null", (directory.path / "link").c_str()) == 0);
  CHECK(!open_output(directory.path / "link"));
  CHECK(open_output(directory.path / "c.pcapng"));
}

TEST_CASE("pcapng: interfaces are bounded") {
  PcapngWriter writer;
  CapturedPacket packet;
  packet.linktype = 101;
  for (std::uint32_t i = 0; i < PcapngWriter::max_interfaces; ++i) {
    packet.ifindex = i;
    REQUIRE(!writer.packet(packet).empty());
  }
  packet.ifindex = 99999;
  CHECK(writer.packet(packet).empty());
  packet.ifindex = 5;
  CHECK(!writer.packet(packet).empty());
}

}  // namespace postern::cli

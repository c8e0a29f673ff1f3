#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/node_paths.hpp"
#include "loader/shared_memory.hpp"
#include "loader/state_file.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

// A directory of its own, removed with the test.
struct Scratch {
  std::string path;
  Scratch() {
    char name[] = "/tmp/postern-life-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Scratch() { std::filesystem::remove_all(path); }
};

State sample() {
  State state;
  state.node = "N1";
  state.netns = "pst-N1";
  state.boot_id = "b";
  state.generation = 7;
  state.flows = {{"map M1 10 out0: 0 10.1.0.0/16", 3}};
  state.next_flow = 9;
  state.worker = {123, 456};
  state.worker_threads = 2;
  PlannedDevice device;
  device.kind = DeviceKind::tunnel;
  device.name = "Tunnel0";
  device.mac = {1, 2, 3, 4, 5, 6};
  state.worker_devices = {device};
  state.interfaces["out0"] = {5, 7, 1, 0, 1, "10+3 ip\n"};
  state.sas["M1 10 out0"] = {4, 5, {3}};
  state.made = {{"device", "Tunnel0", "", 0, 0, 0}, {"route", "Tunnel0", "10.4.0.0/16", 254, 0, 0}};
  return state;
}

}  // namespace

TEST_CASE("the state file says again what was written") {
  const Scratch scratch;
  const auto path = scratch.path + "/state.json";
  REQUIRE(write_state(path, sample()));
  const auto read = read_state(path);
  REQUIRE(read);
  REQUIRE(read->has_value());
  CHECK((*read)->to_json() == sample().to_json());
  CHECK((*read)->made == sample().made);
  CHECK((*read)->worker == sample().worker);
  CHECK((*read)->worker_devices == sample().worker_devices);
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("no state file is no error; a damaged one is") {
  const Scratch scratch;
  const auto path = scratch.path + "/state.json";
  const auto missing = read_state(path);
  REQUIRE(missing);
  CHECK(!missing->has_value());
  const auto whole = sample().to_json();
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("[1]"), whole.substr(0, whole.size() / 2),
        std::string(R"({"version": 99})"), std::string(R"({"version": 1, "node": 5})")}) {
    std::ofstream(path) << text;
    CAPTURE(text);
    CHECK(!read_state(path));
  }
}

TEST_CASE("node names become paths: what they may be") {
  for (const char* good : {"N1", "a", "edge-1.lab", "x_y", "A23456789012345678901234567890B"})
    CHECK(node_paths(good, "", ""));
  for (const char* bad :
       {"", ".", "..", "../x", "a/b", "-n", ".hidden", "a b", "a\nb", "A234567890123456789012345678901XY"})
    CHECK(!node_paths(bad, "", ""));
}

TEST_CASE("memory files: sealed, sized, and refused when they are of another make") {
  auto memory = SharedMemory::create(16);
  REQUIRE(memory);
  CHECK(memory->capacity() == 16);
  CHECK(memory->live(0) == nullptr);
  CHECK(memory->live(16) == nullptr);  // beyond the end
  const auto duplicate = [](const Fd& fd) { return Fd(::dup(fd.get())); };
  const MemoryFiles& files = memory->files();
  CHECK(::ftruncate(files.sa_state.get(), 0) != 0);
  CHECK(::ftruncate(files.counters.get(), 1 << 30) != 0);

  CHECK(SharedMemory::map({duplicate(files.sa_state), duplicate(files.counters), duplicate(files.adjacency)}));
  CHECK(!SharedMemory::map({duplicate(files.counters), duplicate(files.sa_state), duplicate(files.adjacency)}));
  CHECK(!SharedMemory::map({duplicate(files.sa_state), duplicate(files.adjacency), duplicate(files.counters)}));
  Fd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(unsealed.get(), static_cast<off_t>(sa_state_bytes(16))) == 0);
  CHECK(!SharedMemory::map({std::move(unsealed), duplicate(files.counters), duplicate(files.adjacency)}));
}

// posternd's privileged part, for one test: it starts a worker, makes what a worker needs in the namespace it runs in,
// and obeys one line of JSON at a time on standard input. Each is answered by one line: {"ok": true, ...} or {"ok":
// false, "error": ...}.
#include <algorithm>
#include <csignal>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <net/if.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/wait.h>

#include "loader/bpf_programs.hpp"
#include "loader/shared_memory.hpp"
#include "loader/xsk_setup.hpp"
#include "maps/sa_map.hpp"
#include "tests/worker_io/harness_devices.hpp"
#include "worker/sa_channel.hpp"

namespace postern::harness {
namespace {

using nlohmann::json;

constexpr std::uint32_t flow_of_tests = 7;
constexpr std::uint32_t socket_mark = POSTERN_MARK;

std::uint32_t index_of(const std::string& name) { return ::if_nametoindex(name.c_str()); }

std::array<std::uint8_t, 6> mac_of(const std::string& text) {
  std::array<unsigned, 6> parts{};
  std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4], &parts[5]);
  std::array<std::uint8_t, 6> out{};
  for (std::size_t i = 0; i < 6; ++i) out[i] = static_cast<std::uint8_t>(parts[i]);
  return out;
}

std::uint16_t put_key(const std::string& hex, std::array<std::byte, 64>& out) {
  for (std::size_t i = 0; i < hex.size() / 2; ++i)
    out[i] = static_cast<std::byte>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  return static_cast<std::uint16_t>(hex.size() / 2);
}

class Harness {
 public:
  explicit Harness(std::string pin_dir) : pin_dir_(std::move(pin_dir)) {}
  ~Harness() {
    if (worker_.pid > 0 && !ended_) {
      ::kill(worker_.pid, SIGKILL);
      ::waitpid(worker_.pid, nullptr, 0);
    }
    programs_.reset();
    (void)loader::BpfPrograms::remove_pins(pin_dir_);
  }

  Result<json> obey(const json& request) {
    const std::string what = request.at("do");
    if (what == "start") return start(request);
    if (what == "hello") return hello(request);
    if (what == "restart") {
      groups_.clear();
      return start_worker_again(request);
    }
    if (what == "xsk") return add_xsk(request);
    if (what == "device") return add_device(request);
    if (what == "interface") return set_interface(request);
    if (what == "remove") return remove(request);
    if (what == "sa") return install(request);
    if (what == "remove_sa") return answer(channel_->ask(ChannelType::remove_sa, RemoveSa{request.at("slot")}));
    if (what == "bind")
      return answer(channel_->ask(ChannelType::bind_flow, BindFlow{flow_of_tests, request.at("slot"), 0}));
    if (what == "generation")
      return answer(
          channel_->ask(ChannelType::set_generation, SetGeneration{request.at("oldest"), request.at("oldest")}));
    if (what == "adjacency") return adjacency(request);
    if (what == "counters") return counters();
    if (what == "events") return events();
    if (what == "reconnect") return reconnect();
    if (what == "disconnect") return disconnect();
    if (what == "capture") return capture(request);
    if (what == "captured") return captured();
    if (what == "shutdown") return answer(channel_->ask(ChannelType::shutdown, RemoveSa{}));
    if (what == "signal") return send_signal(request);
    if (what == "wait") return wait_for_end();
    return fail("unknown request " + what);
  }

 private:
  static Result<json> answer(const Result<Reply>& reply) {
    if (!reply) return std::unexpected(reply.error());
    return json{{"value", reply->value}, {"text", reply->text.data()}};
  }

  Result<json> start(const json& request) {
    POSTERN_CHECK(loader::raise_memlock_limit());
    POSTERN_TRY(memory, loader::SharedMemory::create(64));
    memory_.emplace(std::move(memory));
    POSTERN_TRY(programs, loader::BpfPrograms::load(pin_dir_));
    programs_.emplace(std::move(programs));
    return start_worker_again(request);
  }

  Result<json> start_worker_again(const json& request) {
    POSTERN_TRY(worker,
                start_worker(request.at("worker"), request.at("socket"), request.value("forbid_io_uring", false)));
    worker_ = worker;
    ended_ = false;
    POSTERN_TRY(socket, connect_to(worker_.socket_path));
    channel_.emplace(std::move(socket));
    return json{{"pid", worker_.pid}};
  }

  Result<json> hello(const json& request) {
    Hello body;
    body.threads = request.value("threads", 1U);
    const auto& files = memory_->files();
    const int fds[] = {files.sa_state.get(), files.counters.get(), files.adjacency.get()};
    return answer(channel_->ask(ChannelType::hello, body, fds));
  }

  loader::XskGroup& group(std::uint32_t number, Result<void>& outcome) {
    auto found = groups_.find(number);
    if (found == groups_.end()) {
      loader::XskGroupConfig config;
      config.layout.frames = 4096;
      config.layout.fill_entries = config.layout.completion_entries = config.layout.rx_entries =
          config.layout.tx_entries = 1024;
      config.layout.umem_id = number;
      auto made = loader::XskGroup::create(config);
      if (!made) outcome = std::unexpected(made.error());
      found = groups_.emplace(number, std::move(*made)).first;
    }
    return found->second;
  }

  Result<json> add_xsk(const json& request) {
    const std::string name = request.at("name");
    const std::uint32_t ifindex = index_of(name), slot = request.at("slot");
    Result<void> outcome;
    loader::XskGroup& sockets = group(request.value("group", 1U), outcome);
    POSTERN_CHECK(outcome);
    const std::uint32_t queue = request.value("queue", 0U);
    POSTERN_TRY(socket, sockets.prepare({ifindex, queue, name}));
    AddDevice body;
    body.queue = queue;
    body.thread = request.value("thread", 0U);
    body.kind = request.value("inside", false) ? DeviceKind::xsk_inside : DeviceKind::xsk_outside;
    body.ifindex = ifindex;
    body.umem = socket.layout();
    const int fds[] = {socket.fd(), sockets.umem_memfd()};
    const auto reply = channel_->ask(ChannelType::add_device, body, fds);
    if (!reply) return std::unexpected(reply.error());
    POSTERN_TRY(bound, sockets.bind(socket, programs_->maps().xsks.fd(), slot + queue));
    if (request.value("attach", true)) POSTERN_CHECK(programs_->attach_xdp(ifindex, name, config::XdpMode::native));
    return json{{"row", reply->value}, {"tx_budget", bound.tx_budget}};
  }

  Result<json> add_device(const json& request) {
    const std::string kind = request.at("kind"), name = request.value("name", "");
    AddDevice body;
    std::vector<Fd> files;
    if (kind == "tunnel" || kind == "steer") {
      POSTERN_TRY(file, open_tun({name, kind == "steer", request.value("multi_queue", false)}));
      files.push_back(std::move(file));
      body.kind = kind == "steer" ? DeviceKind::steer : DeviceKind::tunnel;
      body.flow = kind == "steer" ? 0 : flow_of_tests;
    } else if (kind == "raw_esp") {
      POSTERN_TRY(sockets, open_raw_esp());
      files = std::move(sockets);
      body.kind = DeviceKind::raw_esp;
    } else if (kind == "raw_icmp") {
      POSTERN_TRY(sockets, open_raw_icmp(socket_mark));
      files = std::move(sockets);
      body.kind = DeviceKind::raw_icmp;
    } else if (kind == "udp_encap") {
      POSTERN_TRY(sockets, open_udp(4500));
      files = std::move(sockets);
      body.kind = DeviceKind::udp_encap;
    } else if (kind == "packet_out") {
      POSTERN_TRY(file, open_packet_out(index_of(name)));
      files.push_back(std::move(file));
      body.kind = DeviceKind::packet_out;
    } else {
      return fail("unknown kind " + kind);
    }
    body.ifindex = name.empty() ? 0 : index_of(name);
    body.thread = body.queue = request.value("thread", 0U);
    name.copy(body.name.data(), body.name.size() - 1);
    std::vector<int> fds;
    for (const Fd& file : files) fds.push_back(file.get());
    return answer(channel_->ask(ChannelType::add_device, body, fds));
  }

  Result<json> remove(const json& request) {
    static const std::map<std::string, DeviceKind> kinds = {{"xsk_outside", DeviceKind::xsk_outside},
                                                            {"xsk_inside", DeviceKind::xsk_inside},
                                                            {"tunnel", DeviceKind::tunnel},
                                                            {"steer", DeviceKind::steer},
                                                            {"packet_out", DeviceKind::packet_out}};
    if (request.contains("group")) groups_.erase(request.at("group").get<std::uint32_t>());
    return answer(channel_->ask(ChannelType::remove_device,
                                RemoveDevice{index_of(request.at("name")), kinds.at(request.at("kind"))}));
  }

  Result<json> set_interface(const json& request) {
    postern_interface entry{};
    entry.flags = request.at("flags");
    entry.flow = request.value("flow", 0U);
    entry.xsk_base = request.value("slot", 0U);
    entry.queues = request.value("queues", 1U);
    if (request.contains("mac")) std::ranges::copy(mac_of(request.at("mac")), std::begin(entry.mac));
    POSTERN_CHECK(programs_->maps().interfaces.update(index_of(request.at("name")), entry));
    for (const auto& text : request.value("local", std::vector<std::string>{})) {
      POSTERN_TRY(address, IpAddress::parse(text));
      postern_local_key key{};
      std::memcpy(key.address.bytes, address.mapped().data(), 16);
      POSTERN_CHECK(programs_->maps().local_addresses.update(key, {}));
    }
    return json::object();
  }

  Result<json> install(const json& request) {
    InstallSa body;
    SaParameters& sa = body.parameters;
    sa.direction = request.at("direction") == "in" ? SaDirection::inbound : SaDirection::outbound;
    sa.spi = request.at("spi");
    sa.flow = flow_of_tests;
    sa.deliver = request.value("map", false) ? DeliverTo::map_interface : DeliverTo::tunnel;
    sa.ifindex = index_of(request.at("name"));
    POSTERN_TRY(local, IpAddress::parse(request.at("local").get<std::string>()));
    POSTERN_TRY(remote, IpAddress::parse(request.at("remote").get<std::string>()));
    sa.local = local;
    sa.remote = remote;
    sa.udp_encapsulation = request.value("udp", false);
    sa.local_port = sa.remote_port = sa.udp_encapsulation ? 4500 : 0;
    sa.path_mtu = request.value("mtu", 1500U);
    sa.transform = {crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128};
    sa.cipher_key_bytes = put_key(request.at("cipher"), sa.cipher_key);
    sa.integrity_key_bytes = put_key(request.at("auth"), sa.integrity_key);
    const auto reply = channel_->ask(ChannelType::install_sa, body);
    if (!reply) return std::unexpected(reply.error());
    if (sa.direction == SaDirection::inbound) {
      InboundSaEntry entry;
      entry.spi = Spi{sa.spi};
      entry.destination = sa.local;
      entry.slot = reply->value;
      entry.flow = sa.flow;
      entry.peer = sa.remote;
      entry.encap_port = sa.local_port;
      POSTERN_CHECK(SaMap(programs_->maps().sas).insert(entry));
    }
    return answer(reply);
  }

  Result<json> adjacency(const json& request) {
    POSTERN_TRY(address, IpAddress::parse(request.at("address").get<std::string>()));
    Adjacency value;
    value.ifindex = index_of(request.at("name"));
    value.mtu = request.value("mtu", std::uint16_t{1500});
    value.destination = mac_of(request.at("to"));
    value.source = mac_of(request.at("from"));
    value.forward = request.value("forward", false);
    if (!memory_->adjacency().put({0, address}, value)) return fail("adjacency table is full");
    return json::object();
  }

  Result<json> counters() {
    POSTERN_CHECK(channel_->ask(ChannelType::refresh_counters, RemoveSa{}));
    const CounterPage& page = memory_->counters();
    json out{{"thread_rx", json::array()},
             {"thread_helped", json::array()},
             {"starts", page.worker_starts.load()},
             {"drops", json::object()},
             {"rx", 0},
             {"tx", 0},
             {"devices", json::object()}};
    for (const char* name :
         {"split", "merged", "made", "held", "captured", "capture_lost", "system_calls", "wakeups", "handed", "helped"})
      out[name] = 0;
    for (std::uint32_t t = 0; t < page.threads.load(); ++t) {
      const std::uint64_t before = out["rx"];
      add_thread(page.thread[t], out);
      out["thread_rx"].push_back(out["rx"].get<std::uint64_t>() - before);
      out["thread_helped"].push_back(page.thread[t].helped.load());
    }
    return out;
  }

  static void add(json& out, const char* name, const Counter& counter) {
    json& sum = out[name];
    sum = (sum.is_null() ? 0 : sum.get<std::uint64_t>()) + counter.load(std::memory_order_relaxed);
  }

  static void add_thread(const ThreadCounters& thread, json& out) {
    for (std::size_t i = 0; i < drop_count; ++i)
      if (thread.drops[i].load() != 0) add(out["drops"], std::string(drop_texts[i].name).c_str(), thread.drops[i]);
    add(out, "split", thread.split);
    add(out, "merged", thread.merged);
    add(out, "made", thread.made);
    add(out, "held", thread.held);
    add(out, "captured", thread.captured);
    add(out, "capture_lost", thread.capture_lost);
    add(out, "system_calls", thread.system_calls);
    add(out, "wakeups", thread.wakeups);
    add(out, "handed", thread.handed);
    add(out, "helped", thread.helped);
    for (const DeviceCounters& row : thread.devices) {
      const std::uint64_t identity = row.identity.load();
      if (identity == 0) continue;
      add(out, "rx", row.rx_packets);
      add(out, "tx", row.tx_packets);
      json& device = out["devices"][fmt::format("{}:{}", (identity >> 56) - 1, identity & 0xffffffffU)];
      add(device, "rx", row.rx_packets);
      add(device, "tx", row.tx_packets);
      add(device, "tx_refused", row.tx_refused);
      add(device, "kernel_rx_dropped", row.kernel_rx_dropped);
      add(device, "kernel_rx_ring_full", row.kernel_rx_ring_full);
    }
  }

  Result<json> events() {
    POSTERN_TRY(messages, channel_->take_events());
    json out{{"resolve", json::array()}, {"failed", json::array()}};
    for (const ChannelMessage& message : messages) {
      if (message.header.type == ChannelType::resolve) {
        Resolve body;
        POSTERN_CHECK(message.read_into(body));
        out["resolve"].push_back({{"address", body.address.text()}, {"forward", body.forward}});
      } else {
        RemoveDevice body;
        POSTERN_CHECK(message.read_into(body));
        out["failed"].push_back({{"ifindex", body.ifindex}, {"kind", static_cast<int>(body.kind)}});
      }
    }
    return out;
  }

  Result<json> disconnect() {
    channel_.reset();
    return json::object();
  }

  // As a restarted posternd: what the worker gives must be the very files.
  Result<json> reconnect() {
    POSTERN_TRY(socket, connect_to(worker_.socket_path));
    channel_.emplace(std::move(socket));
    std::vector<Fd> files;
    const RemoveSa nothing{};
    POSTERN_TRY(reply, channel_->ask_bytes(ChannelType::get_descriptors, std::as_bytes(std::span(&nothing, 1)), {},
                                           2000, &files));
    if (files.size() != 3) return fail("get_descriptors: not three descriptors");
    loader::MemoryFiles given{std::move(files[0]), std::move(files[1]), std::move(files[2])};
    POSTERN_TRY(memory, loader::SharedMemory::map(std::move(given)));
    memory_.emplace(std::move(memory));
    return json{{"text", reply.text.data()}};
  }

  Result<json> capture(const json& request) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("socketpair");
    reader_ = Fd(ends[0]);
    const Fd writer(ends[1]);
    const std::string side = request.at("side");
    StartCapture body{side == "plain"    ? CaptureSide::plain
                      : side == "cipher" ? CaptureSide::cipher
                                         : CaptureSide::both,
                      262144};
    const int fds[] = {writer.get()};
    return answer(channel_->ask(ChannelType::start_capture, body, fds));
  }

  Result<json> captured() {
    json out{{"records", json::array()}};
    std::vector<std::byte> buffer(70000);
    for (ssize_t got; (got = ::recv(reader_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0;) {
      CaptureRecord record;
      std::memcpy(&record, buffer.data(), sizeof record);
      out["records"].push_back({{"side", static_cast<int>(record.side)},
                                {"outbound", record.outbound},
                                {"bytes", record.captured_bytes},
                                {"linktype", record.linktype},
                                {"whole", record.captured_bytes + sizeof record == static_cast<std::size_t>(got)}});
    }
    return out;
  }

  /// SIGSTOP is answered when every thread has stopped, not when it was sent.
  Result<json> send_signal(const json& request) {
    const int number = request.at("number").get<int>();
    if (::kill(worker_.pid, number) != 0) return fail_errno("kill");
    siginfo_t stopped;
    if (number == SIGSTOP && ::waitid(P_PID, static_cast<id_t>(worker_.pid), &stopped, WSTOPPED) != 0)
      return fail_errno("waitid");
    return json::object();
  }

  Result<json> wait_for_end() {
    int status = 0;
    if (::waitpid(worker_.pid, &status, 0) != worker_.pid) return fail_errno("waitpid");
    ended_ = true;
    return json{{"exit", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)}};
  }

  std::string pin_dir_;
  std::optional<loader::SharedMemory> memory_;
  std::optional<loader::BpfPrograms> programs_;
  std::map<std::uint32_t, loader::XskGroup> groups_;
  std::optional<SaChannel> channel_;
  WorkerProcess worker_;
  bool ended_ = true;
  Fd reader_;
};

int run(const char* pin_dir) {
  Harness harness(pin_dir);
  for (std::string line; std::getline(std::cin, line);) {
    json out;
    try {
      auto done = harness.obey(json::parse(line));
      out = done ? std::move(*done) : json{{"error", done.error().message()}, {"code", done.error().code}};
      out["ok"] = done.has_value();
    } catch (const std::exception& error) {
      out = {{"ok", false}, {"error", error.what()}};
    }
    std::cout << out.dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace postern::harness

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: xsk_harness PIN_DIR\n";
    return 2;
  }
  return postern::harness::run(argv[1]);
}

// The two peers of the control thread: what posternd and a client may ask, and what each is told. The control thread
// runs in a process of its own, since it cages itself.
#include <algorithm>
#include <csignal>
#include <map>
#include <string>

#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.hpp"
#include "harness.hpp"
#include "worker/control.hpp"
#include "worker/sandbox.hpp"

namespace postern::test {
namespace {

constexpr std::uint32_t slot_count = 128;

Fd memory_file(const char* name, std::size_t size) {
  Fd file(::memfd_create(name, MFD_CLOEXEC));
  REQUIRE(file);
  REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size)) == 0);
  return file;
}

struct Memory {
  Fd sa_state = memory_file("sa", sa_state_bytes(slot_count));
  Fd counters = memory_file("counters", sizeof(CounterPage));
  Fd adjacencies = memory_file("adjacencies", sizeof(AdjacencyTable));
  Memory() {
    const SaStateHeader header{sa_state_magic, sa_state_version, slot_count, sizeof(SaSlot), {}};
    REQUIRE(::pwrite(sa_state.get(), &header, sizeof header, 0) == sizeof header);
    const std::uint32_t page[] = {counter_page_magic, counter_page_version};
    REQUIRE(::pwrite(counters.get(), page, sizeof page, 0) == sizeof page);
    auto table =
        Mapping::map(sizeof(AdjacencyTable), PROT_READ | PROT_WRITE, MAP_SHARED, adjacencies.get(), 0, "table");
    REQUIRE(table);
    table->as<AdjacencyTable>()->magic = adjacency_table_magic;
    table->as<AdjacencyTable>()->rows = adjacency_rows;
  }
};

constexpr int worker_listener = 3;
constexpr const char* worker_case = "client: the worker process of the other cases";

// A process of its own: pages of keys do not survive a fork.
[[noreturn]] void become_worker(int listener) {
  ::dup2(listener, worker_listener);
  const std::string chosen = std::string("-tc=") + worker_case;
  ::execl("/proc/self/exe", "test_worker", chosen.c_str(), "-ns", nullptr);
  ::_exit(127);
}

int serve_as_worker() {
  start_log("postern-worker", "test");
  spdlog::set_level(spdlog::level::off);
  if (!open_sandbox()) return 1;
  sigset_t none;
  sigemptyset(&none);
  Control::Config config;
  config.node = "test";
  config.listener = Fd(worker_listener);
  config.signals = Fd(::signalfd(-1, &none, SFD_CLOEXEC | SFD_NONBLOCK));
  config.owner = ::getuid();
  auto control = Control::create(std::move(config));
  return control && (*control)->run() ? 0 : 1;
}

// A worker process with its listening socket in the abstract namespace.
class WorkerProcess {
 public:
  explicit WorkerProcess(const Memory& memory) {
    static int number = 0;
    address_.sun_family = AF_UNIX;
    const std::string name = "postern-test-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
    std::copy(name.begin(), name.end(), address_.sun_path + 1);
    Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0);
    REQUIRE(::listen(listener.get(), 4) == 0);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) become_worker(listener.get());
    connect();
    const int files[] = {memory.sa_state.get(), memory.counters.get(), memory.adjacencies.get()};
    const auto greeted = posternd->ask(ChannelType::hello, Hello{}, files);
    REQUIRE_MESSAGE(greeted, (greeted ? "" : greeted.error().message()));
  }
  ~WorkerProcess() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  void connect() {
    Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0);
    posternd = std::make_unique<SaChannel>(std::move(socket));
  }
  [[nodiscard]] std::unique_ptr<SaChannel> add_client() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd theirs(ends[0]);
    auto ours = std::make_unique<SaChannel>(Fd(ends[1]));
    const int fds[] = {theirs.get()};
    REQUIRE(posternd->ask_bytes(ChannelType::add_client, {}, fds, 2000));
    return ours;
  }

  std::unique_ptr<SaChannel> posternd;

 private:
  sockaddr_un address_{};
  pid_t child_ = -1;
};

SaParameters negotiated(SaDirection direction, std::uint32_t spi, std::uint32_t flow = 5) {
  SaParameters p = sa_parameters(direction);
  p.spi = spi;
  p.flow = flow;
  p.cookie = 0xc0ffee0000 + spi;
  return p;
}

Result<Reply> install(SaChannel& channel, const SaParameters& p) {
  return channel.ask(ChannelType::install_sa, InstallSa{p});
}
int code_of(const Result<Reply>& reply) { return reply ? 0 : reply.error().code; }

// The next event, waiting for it; `type` tells which it must be.
ChannelMessage next_event(SaChannel& channel, ChannelType type) {
  for (;;) {
    auto events = channel.take_events();
    REQUIRE(events);
    if (!events->empty()) {
      REQUIRE(events->size() == 1);
      REQUIRE(events->front().header.type == type);
      return std::move(events->front());
    }
    pollfd ready{channel.fd(), POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 5000) == 1);
  }
}
std::vector<ChannelMessage> next_events(SaChannel& channel, std::size_t count) {
  std::vector<ChannelMessage> out;
  while (out.size() < count) {
    pollfd ready{channel.fd(), POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 5000) == 1);
    auto events = channel.take_events();
    REQUIRE(events);
    std::ranges::move(*events, std::back_inserter(out));
  }
  REQUIRE(out.size() == count);
  return out;
}
SaRow row_of(const ChannelMessage& message) {
  SaRow row;
  REQUIRE(message.read_into(row));
  return row;
}
// Plays posternd for one inbound SA of the client.
void confirm(SaChannel& posternd, std::int32_t code) {
  const ChannelMessage event = next_event(posternd, ChannelType::sa_installed);
  REQUIRE(channel_send(posternd.fd(), ChannelType::reply, event.header.id, Reply{.code = code}));
}

TEST_CASE("client: the worker process of the other cases" * doctest::skip()) { ::_exit(serve_as_worker()); }

TEST_CASE("client: only what it is granted; the connection and the worker live on") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const ChannelType refused[] = {ChannelType::hello,           ChannelType::add_device,   ChannelType::remove_device,
                                 ChannelType::start_capture,   ChannelType::stop_capture, ChannelType::set_generation,
                                 ChannelType::get_descriptors, ChannelType::shutdown,     ChannelType::add_client,
                                 ChannelType::sa_installed,    ChannelType::sa_expected,  ChannelType::place_sa,
                                 static_cast<ChannelType>(999)};
  for (const ChannelType type : refused) CHECK(code_of(ike->ask_bytes(type, {}, {}, 2000)) == EPERM);
  CHECK(ike->ask_bytes(ChannelType::refresh_counters, {}, {}, 2000));
  CHECK(ike->list_sas()->empty());
  CHECK(worker.posternd->ask_bytes(ChannelType::refresh_counters, {}, {}, 2000));
}

TEST_CASE("client: an SA that it expects is posternd's to put into XDP's map") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  CHECK(code_of(worker.posternd->ask_bytes(ChannelType::sa_expected, {}, {}, 2000)) == EPROTO);  // not a request
  CHECK(ike->ask(ChannelType::expect_sa, ExpectSa{7, 0x2001, address("192.0.2.1"), IpProto::esp, 4500}));
  ExpectSa told;
  REQUIRE(next_event(*worker.posternd, ChannelType::sa_expected).read_into(told));
  CHECK((told.fvrf == 7 && told.spi == 0x2001 && told.protocol == IpProto::esp && told.local_port == 4500));
  CHECK(told.local == address("192.0.2.1"));
  CHECK(ike->list_sas()->empty());
}

TEST_CASE("client: installs, binds, lists and removes its own SAs, and cannot touch the others") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const auto manual = install(*worker.posternd, sa_parameters(SaDirection::outbound));
  REQUIRE(manual);
  REQUIRE(worker.posternd->ask(ChannelType::bind_flow, BindFlow{77, manual->value, 0}));
  const auto own = install(*ike, negotiated(SaDirection::outbound, 0x2001));
  REQUIRE(own);
  CHECK(code_of(ike->ask(ChannelType::remove_sa, RemoveSa{manual->value})) == EPERM);
  CHECK(code_of(ike->ask(ChannelType::bind_flow, BindFlow{78, manual->value, 0})) == EPERM);
  CHECK(code_of(ike->ask(ChannelType::bind_flow, BindFlow{77, own->value, 0})) == EPERM);
  CHECK(code_of(ike->ask(ChannelType::bind_flow, BindFlow{77, 0, 1})) == EPERM);
  CHECK(code_of(ike->ask(ChannelType::bind_flow, BindFlow{5, 99, 0})) == EINVAL);
  CHECK(ike->ask(ChannelType::bind_flow, BindFlow{5, own->value, 0}));

  const auto rows = ike->list_sas();
  REQUIRE(rows);
  REQUIRE(rows->size() == 2);
  CHECK(rows->at(0).installed_by == SaInstaller::posternd);
  const SaRow& row = rows->at(1);
  CHECK(row.slot == own->value);
  CHECK(row.spi == 0x2001);
  CHECK(row.cookie == 0xc0ffee2001);
  CHECK(row.installed_by == SaInstaller::ike);
  CHECK(row.direction == SaDirection::outbound);
  CHECK(row.bound);
  CHECK(row.flow == 5);
  CHECK(row.local == address("192.0.2.1"));
  CHECK(row.remote == address("192.0.2.2"));
  CHECK(row.sequence == 1);
  CHECK(ike->list_sas(own->value, own->value)->size() == 1);
  CHECK(ike->list_sas(own->value + 1, own->value + 1)->empty());

  const SaEnds elsewhere{address("192.0.2.1"), address("203.0.113.9"), 4500, 7000, true};
  SaEnds nowhere = elsewhere;
  nowhere.remote_port = 0;
  CHECK(code_of(ike->ask(ChannelType::move_sa, MoveSa{manual->value, elsewhere})) == EPERM);
  CHECK(code_of(ike->ask(ChannelType::move_sa, MoveSa{own->value, nowhere})) == EINVAL);
  CHECK(ike->ask(ChannelType::move_sa, MoveSa{own->value, elsewhere}));
  CHECK(ike->list_sas(own->value, own->value)->front().remote_port == 7000);
  CHECK(code_of(ike->ask(ChannelType::move_sa, MoveSa{99, elsewhere})) == ENOENT);
  CHECK(worker.posternd->ask(ChannelType::place_sa, PlaceSa{own->value, 77}));
  CHECK(ike->list_sas(own->value, own->value)->front().ifindex == 77);
  CHECK(code_of(worker.posternd->ask(ChannelType::place_sa, PlaceSa{99, 77})) == ENOENT);
  CHECK(ike->ask(ChannelType::bind_flow, BindFlow{5, 0, 1}));
  CHECK(ike->ask(ChannelType::remove_sa, RemoveSa{own->value}));
  CHECK(code_of(ike->ask(ChannelType::remove_sa, RemoveSa{own->value})) == ENOENT);
  CHECK(ike->list_sas()->size() == 1);
}

TEST_CASE("client: a listing longer than a message") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  for (std::uint32_t i = 0; i < 100; ++i) REQUIRE(install(*ike, negotiated(SaDirection::outbound, 0x3000 + i)));
  const auto rows = ike->list_sas();
  REQUIRE(rows);
  REQUIRE(rows->size() == 100);
  for (std::uint32_t i = 0; i < 100; ++i) CHECK(rows->at(i).spi == 0x3000 + i);
  CHECK(worker.posternd->list_sas()->size() == 100);
}

TEST_CASE("client: an inbound SA is answered when posternd has told XDP") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const SaParameters p = negotiated(SaDirection::inbound, 0x4001);
  const InstallSa body{p};
  REQUIRE(channel_send(ike->fd(), ChannelType::install_sa, 42, body));
  const ChannelMessage event = next_event(*worker.posternd, ChannelType::sa_installed);
  const SaRow row = row_of(event);
  CHECK(row.spi == 0x4001);
  CHECK(row.local == p.local);
  CHECK(row.direction == SaDirection::inbound);
  pollfd early{ike->fd(), POLLIN, 0};
  CHECK(::poll(&early, 1, 0) == 0);
  // Other requests are served meanwhile.
  REQUIRE(worker.posternd->ask_bytes(ChannelType::refresh_counters, {}, {}, 2000));
  CHECK(::poll(&early, 1, 0) == 0);
  REQUIRE(channel_send(worker.posternd->fd(), ChannelType::reply, event.header.id, Reply{}));
  const auto answer = channel_receive(ike->fd());
  REQUIRE(answer);
  CHECK(answer->header.id == 42);
  Reply reply;
  REQUIRE(answer->read_into(reply));
  CHECK(reply.code == 0);
  CHECK(reply.value == row.slot);

  CHECK(code_of(install(*ike, p)) == EEXIST);

  // RFC 4555: at another address of ours XDP has to know it too, and to forget the old one.
  SaEnds there = ends_of(p);
  there.local = address("192.0.2.77");
  REQUIRE(channel_send(ike->fd(), ChannelType::move_sa, 43, MoveSa{row.slot, there}));
  const auto both = next_events(*worker.posternd, 2);
  const ChannelMessage& moved = both[0];
  CHECK(moved.header.type == ChannelType::sa_installed);
  CHECK(row_of(moved).local == there.local);
  CHECK(row_of(moved).slot == row.slot);
  CHECK(both[1].header.type == ChannelType::sa_removed);
  CHECK(row_of(both[1]).local == p.local);
  CHECK(::poll(&early, 1, 0) == 0);
  REQUIRE(channel_send(worker.posternd->fd(), ChannelType::reply, moved.header.id, Reply{}));
  const auto after = channel_receive(ike->fd());
  REQUIRE(after);
  CHECK(after->header.id == 43);
  CHECK(ike->list_sas(row.slot, row.slot)->front().local == there.local);
  CHECK(ike->ask(ChannelType::remove_sa, RemoveSa{row.slot}));
  CHECK(row_of(next_event(*worker.posternd, ChannelType::sa_removed)).spi == 0x4001);
}

TEST_CASE("client: XDP refuses, posternd is away, posternd is slow") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const InstallSa body{negotiated(SaDirection::inbound, 0x4001)};
  SUBCASE("refused: the SA is gone") {
    REQUIRE(channel_send(ike->fd(), ChannelType::install_sa, 42, body));
    confirm(*worker.posternd, ENOSPC);
    const auto answer = channel_receive(ike->fd());
    REQUIRE(answer);
    Reply reply;
    REQUIRE(answer->read_into(reply));
    CHECK(reply.code == ENOSPC);
    CHECK(ike->list_sas()->empty());
  }
  SUBCASE("away: answered at once") {
    worker.posternd.reset();
    // The worker has seen the end when it answers what came behind it.
    const auto reply = ike->ask(ChannelType::install_sa, body, {}, install_patience_ms / 2);
    CHECK(reply);
  }
  SUBCASE("goes away while it is asked: answered then") {
    REQUIRE(channel_send(ike->fd(), ChannelType::install_sa, 42, body));
    (void)next_event(*worker.posternd, ChannelType::sa_installed);
    worker.posternd.reset();
    pollfd ready{ike->fd(), POLLIN, 0};
    CHECK(::poll(&ready, 1, install_patience_ms / 2) == 1);
  }
  SUBCASE("silent: answered after a while, and the late answer changes nothing") {
    const auto reply = ike->ask(ChannelType::install_sa, body, {}, 3 * install_patience_ms);
    REQUIRE(reply);
    confirm(*worker.posternd, EIO);
    REQUIRE(worker.posternd->ask_bytes(ChannelType::refresh_counters, {}, {}, 2000));
    CHECK(ike->list_sas()->size() == 1);
  }
}

TEST_CASE("client: told when posternd removes an SA of its own, and not otherwise") {
  const Memory memory;
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const auto manual = install(*worker.posternd, sa_parameters(SaDirection::outbound));
  const auto own = install(*ike, negotiated(SaDirection::outbound, 0x2001));
  REQUIRE(worker.posternd->ask(ChannelType::remove_sa, RemoveSa{manual->value}));
  REQUIRE(worker.posternd->ask(ChannelType::remove_sa, RemoveSa{own->value}));
  CHECK(row_of(next_event(*ike, ChannelType::sa_gone)).cookie == 0xc0ffee2001);
  CHECK(worker.posternd->take_events()->empty());  // outbound SAs are nothing to XDP
}

TEST_CASE("client: the next one replaces it and finds its SAs; nonsense ends a connection and nothing else") {
  const Memory memory;
  WorkerProcess worker(memory);
  auto first = worker.add_client();
  REQUIRE(install(*first, negotiated(SaDirection::outbound, 0x2001)));
  const auto second = worker.add_client();
  CHECK(code_of(first->ask_bytes(ChannelType::refresh_counters, {}, {}, 2000)) != 0);
  REQUIRE(second->list_sas()->size() == 1);
  CHECK(second->list_sas()->front().cookie == 0xc0ffee2001);
  // A body of the wrong size is refused; another version ends the connection.
  CHECK(code_of(second->ask_bytes(ChannelType::remove_sa, {}, {}, 2000)) == EPROTO);
  const ChannelHeader stranger{.version = sa_channel_version + 1, .type = ChannelType::list_sas, .id = 1};
  REQUIRE(::send(second->fd(), &stranger, sizeof stranger, 0) == sizeof stranger);
  const auto end = channel_receive(second->fd());
  REQUIRE_FALSE(end);
  CHECK(end.error().code == ECONNRESET);
  CHECK(worker.posternd->list_sas()->size() == 1);
  CHECK(code_of(worker.posternd->ask_bytes(ChannelType::add_client, {}, {}, 2000)) == EINVAL);
}

TEST_CASE("client: its SAs and bindings survive a crash of the worker and a restart of posternd") {
  const Memory memory;
  {
    WorkerProcess worker(memory);
    const auto ike = worker.add_client();
    const auto own = install(*ike, negotiated(SaDirection::outbound, 0x2001));
    REQUIRE(ike->ask(ChannelType::bind_flow, BindFlow{5, own->value, 0}));
    worker.connect();
    CHECK(worker.posternd->list_sas()->size() == 1);
    CHECK(ike->list_sas()->size() == 1);
  }
  WorkerProcess worker(memory);
  const auto ike = worker.add_client();
  const auto rows = ike->list_sas();
  REQUIRE(rows->size() == 1);
  CHECK(rows->front().cookie == 0xc0ffee2001);
  CHECK(rows->front().installed_by == SaInstaller::ike);
  CHECK(rows->front().bound);
  CHECK(ike->ask(ChannelType::remove_sa, RemoveSa{rows->front().slot}));
}

}  // namespace
}  // namespace postern::test

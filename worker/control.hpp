// The control thread of the worker: it serves the SA channels, owns the SAD's writing side, hands devices to worker
// threads and passes on what they ask for. The data plane goes on when a channel closes; the next connection takes it
// over.
//
// Who may connect: root, and the user that started the worker (SO_PEERCRED). The newest connection replaces the one
// before. The client of add_client may do what worker/sa_channel.hpp lists; control_sas.cpp holds it to that.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/fd.hpp"
#include "maps/adjacency.hpp"
#include "maps/counters.hpp"
#include "worker/sa_channel.hpp"
#include "worker/sad.hpp"
#include "worker/thread.hpp"

namespace postern {

// What Hello brings: descriptors, kept for get_descriptors, and their mappings.
class SharedFiles {
 public:
  // Order: SA state, counter page, adjacency table. Refuses files of another magic, version or size. SA state is locked
  // as it is touched and kept out of core dumps.
  [[nodiscard]] static Result<SharedFiles> map(std::vector<Fd> files);

  [[nodiscard]] std::span<SaSlot> slots() const;
  [[nodiscard]] CounterPage& counters() const { return *counters_.as<CounterPage>(); }
  [[nodiscard]] const AdjacencyTable& adjacencies() const { return *adjacencies_.as<const AdjacencyTable>(); }
  [[nodiscard]] std::array<int, 3> descriptors() const { return {files_[0].get(), files_[1].get(), files_[2].get()}; }

 private:
  SharedFiles() = default;
  std::vector<Fd> files_;
  Mapping sa_state_, counters_, adjacencies_;
};

[[nodiscard]] Result<Mapping> map_whole_file(const Fd& file, int protection, const char* what);

class Control {
 public:
  struct Config {
    std::string node;
    Fd listener;      // SOCK_SEQPACKET, listening
    Fd signals;       // signalfd of SIGTERM and SIGINT
    uid_t owner = 0;  // besides root
  };
  [[nodiscard]] static Result<std::unique_ptr<Control>> create(Config config);
  ~Control();

  // Until shutdown or SIGTERM. Packets that are held then are dropped and counted.
  [[nodiscard]] Result<void> run();

 private:
  Control(Config config, Bell bell);

  // What a request changes, and what its Reply says.
  struct Answer {
    std::uint32_t value = 0;
    std::string text;
    std::vector<int> fds;
    bool later = false;  // the Reply follows when posternd has confirmed
  };
  // An inbound SA of the client that XDP does not know yet.
  struct Unconfirmed {
    std::uint64_t event = 0;    // id of our sa_installed
    std::uint64_t request = 0;  // id of the client's install_sa
    std::uint32_t slot = 0;
    Time until;
  };

  void accept_peer();
  [[nodiscard]] Fd& socket_of(SaInstaller who) { return who == SaInstaller::posternd ? channel_ : client_; }
  void serve(SaInstaller who);
  void close_peer(SaInstaller who, const char* why);
  void reply_to(SaInstaller who, std::uint64_t id, const Result<Answer>& outcome);
  [[nodiscard]] Result<Answer> handle(ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> hello(ChannelMessage& message);
  [[nodiscard]] Result<void> start_threads(std::uint32_t count);
  [[nodiscard]] Result<Answer> add_device(ChannelMessage& message);
  [[nodiscard]] Result<Answer> remove_device(const ChannelMessage& message);
  [[nodiscard]] Result<Answer> install_sa(const ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> expect_sa(const ChannelMessage& message);
  [[nodiscard]] Result<Answer> remove_sa(const ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> bind_flow(const ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> move_sa(const ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> place_sa(const ChannelMessage& message);
  [[nodiscard]] Result<Answer> list_sas(const ChannelMessage& message, SaInstaller who);
  [[nodiscard]] Result<Answer> set_generation(const ChannelMessage& message);
  [[nodiscard]] Result<Answer> set_policy(const ChannelMessage& message);
  [[nodiscard]] Result<Answer> start_capture(ChannelMessage& message);
  [[nodiscard]] Result<Answer> get_descriptors();
  [[nodiscard]] Answer traits() const;

  // control_sas.cpp: the second peer.
  [[nodiscard]] Result<Answer> add_client(ChannelMessage& message);
  [[nodiscard]] Result<Answer> ask_posternd(std::uint32_t slot, std::uint64_t request);
  void confirmed(const ChannelMessage& message);
  void settle(const Unconfirmed& install, std::int32_t code);
  void settle_overdue(Time now);
  void settle_all();
  [[nodiscard]] int wait_ms() const;
  // Where there is no SA, the request itself finds out.
  [[nodiscard]] Result<void> must_own(std::uint32_t slot, SaInstaller who) const;
  // The dummy packets of a flow's SA are one thread's to send.
  void schedule_dummies(const SaRow& bound, std::uint32_t flow);
  void announce_removal(const SaRow& gone, SaInstaller by);
  void pass_on_news();
  void pass_on(const Resolve& news);
  void pass_on(const RemoveDevice& news);
  void pass_on(const SaNews& news);
  void pass_on(const PeerNews& news);
  void pass_on(const Acquire& news);
  template <class T>
  void tell(SaInstaller who, ChannelType type, const T& body, bool must_arrive);

  Config config_;
  Fd channel_, client_;
  std::vector<Unconfirmed> unconfirmed_;
  std::uint64_t next_event_ = 1;
  std::unique_ptr<SharedFiles> shared_;
  std::unique_ptr<Sad> sad_;
  std::unique_ptr<Team> team_;  // with more than one thread
  Outbox<WorkerNews> outbox_;
  std::vector<std::unique_ptr<DataThread>> threads_;  // go before what they borrow
  bool stopping_ = false;
};

}  // namespace postern

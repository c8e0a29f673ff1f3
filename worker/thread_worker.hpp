// The inside of a DataThread (worker/thread.hpp): its loop and its devices. Owner: that thread.
#pragma once

#include "worker/dummy_schedule.hpp"
#include "worker/thread.hpp"

namespace postern {

struct DataThread::Worker {
  Worker(const DataThreadConfig& configuration, Mailbox& box, std::unique_ptr<Ring> own_ring,
         crypto::EspEngine own_engine);

  void loop();

  [[nodiscard]] Result<std::uint32_t> add_device(const AddDevice& spec, std::vector<Fd> fds);
  [[nodiscard]] std::uint32_t remove_device(const RemoveDevice& which);
  void refresh_counters();

  void round();
  void deal_with_backlog();
  void dispatch(const Completion& done);
  [[nodiscard]] std::int64_t wait_ns() const;
  void keep_time();
  [[nodiscard]] bool help_others();
  [[nodiscard]] std::int64_t wait_in_team();
  void drain();
  void publish_ring_counters();

  [[nodiscard]] Result<void> place_files(Device& device, std::vector<Fd> fds);
  [[nodiscard]] Result<void> prepare(Device& device, Fd umem_file);
  [[nodiscard]] Result<void> prepare_xsk(Device& device, Fd umem_file);
  [[nodiscard]] Result<Umem*> umem_for(const AddDevice& spec, Fd file);
  [[nodiscard]] Result<void> move_home(Umem& umem, const Device& device);
  void let_go_of_frames();
  [[nodiscard]] FrameHolder new_holder();
  [[nodiscard]] Result<void> attach(Device& device);
  void begin_reading(Device& device);
  void share_fill_frames();
  void remove(Device& device);
  void reclaim_quarantine();

  // A UMEM and the file it is in: two ids name one UMEM when the file is the same.
  struct OwnedUmem {
    std::unique_ptr<Umem> umem;
    std::uint64_t inode = 0;
  };
  // Frames of a socket that was closed: the kernel may still be letting go of them.
  struct Quarantine {
    Umem* umem = nullptr;
    FrameHolder holder = held_by_worker;
    std::uint64_t until_ns = 0;
  };

  const DataThreadConfig config;
  Mailbox& mailbox;
  std::unique_ptr<Ring> ring;
  std::vector<OwnedUmem> umems;
  ThreadContext context;
  ThreadEgress egress;
  ThreadInput input;
  std::optional<crypto::EspEngine> engine;  // until the pipeline takes it
  std::unique_ptr<Pipeline> pipeline;
  std::vector<Quarantine> quarantine;
  FrameHolder last_holder = held_by_worker;
  std::uint32_t oldest_generation = 0;
  std::shared_ptr<const LoopPolicy> policy;
  DummySchedule dummies;
  bool stopping = false;
  bool kick_soon = false;       // a kick that failed is to be tried again
  bool counters_stale = false;  // packets moved since XDP_STATISTICS were read
  std::uint64_t refreshed_ns = 0, held_polled_ns = 0;
};

}  // namespace postern

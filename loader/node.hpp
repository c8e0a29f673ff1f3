// posternd's centre: one node's life from start to stop. It compares what is (State) with what shall be (Plan) and does
// the difference, additions first and removals last; a start, an apply, a link that comes back and an adoption are all
// this.
//
//   start:  state.json, pins, living children -> devices and routes -> interfaces blocked -> worker -> AF_XDP, SAs,
//   flows,
//           policies -> unblock -> READY
//   node.cpp life and events | node_realize.cpp plan to kernel | node_worker.cpp the worker | node_sas.cpp its manual
//   SAs | node_config.cpp the document in force | node_control.cpp commands
//
// One thread, one loop. Everything here may block for a moment on the kernel or the worker, nothing on a client.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "config/load.hpp"
#include "loader/acl_log.hpp"
#include "loader/adjacency_keeper.hpp"
#include "loader/broker.hpp"
#include "loader/children.hpp"
#include "loader/confirmation.hpp"
#include "loader/control_server.hpp"
#include "loader/devices.hpp"
#include "loader/event_loop.hpp"
#include "loader/kernel_side.hpp"
#include "loader/lingering.hpp"
#include "loader/link_stats.hpp"
#include "loader/netlink.hpp"
#include "loader/netlink_monitor.hpp"
#include "loader/node_paths.hpp"
#include "loader/node_view.hpp"
#include "loader/plain_side.hpp"
#include "loader/plan.hpp"
#include "loader/plan_ike.hpp"
#include "loader/shared_memory.hpp"
#include "loader/side_child.hpp"
#include "loader/state_file.hpp"
#include "loader/worker_devices.hpp"

namespace postern::loader {

// What happens to an SA that is installed and whose document says something else now (MAN-11).
enum class SaUpdate : std::uint8_t {
  keep,     // apply: edits wait for `clear crypto sa`; an SA that cannot work where it is (moved()) is replaced all the
            // same
  replace,  // start, adoption, links: the document counts
};

// Why a plan is made. What an operator asks for is done whole; a change of the network only brings back what the kernel
// took with it, so that a route deleted or a tunnel set down by hand stays that way.
enum class Cause : std::uint8_t { request, network };

class Node {
 public:
  // Everything up to READY. An error leaves what was made in place and blocked.
  // `loaded` with its text; `applied`: it came by `config apply`, not from the node's file.
  [[nodiscard]] static Result<std::unique_ptr<Node>> start(const NodePaths& paths, config::Loaded loaded, bool applied,
                                                           MemoryFiles stored);
  ~Node();

  // The event loop, until SIGTERM, `stop` or `teardown`; then the stop itself, as the document's on_stop says.
  [[nodiscard]] Result<void> run();
  [[nodiscard]] Result<void> stop();

  // Boot guard: policies in force and every protected interface blocked. Returns when all of the document's interfaces
  // exist and are, or when posternd has taken over.
  [[nodiscard]] static Result<void> guard(const NodePaths& paths, const config::Document& document);

 private:
  explicit Node(NodePaths paths) : paths_(std::move(paths)) {}

  // node.cpp
  [[nodiscard]] Result<void> open();
  [[nodiscard]] Result<void> load_state();
  [[nodiscard]] Result<void> begin(config::Document document, MemoryFiles stored);
  [[nodiscard]] Result<void> watch_everything();
  void on_signal();
  void on_network();
  void look_again_soon(Duration delay);
  void look_again();
  [[nodiscard]] bool new_link(const NetworkChanges& changes);
  [[nodiscard]] Result<bool> guard_once(const config::Document& document, std::set<std::uint32_t>& guarded);
  void on_keeper_timer();
  void arm_keeper();
  void sample_stats();
  void kick_watchdog();
  [[nodiscard]] Result<void> watch_acl_log();
  void on_acl_log_timer();
  void report_state();
  [[nodiscard]] std::string state_text() const;
  void save_state();

  // node_realize.cpp
  [[nodiscard]] Result<void> realize(const config::Document& document, SaUpdate update, Cause cause);
  [[nodiscard]] Result<void> apply(config::Document document);
  [[nodiscard]] Result<void> make_devices(const config::Document& document, Cause cause);
  [[nodiscard]] Result<void> address_interfaces(const config::Document& document, const Plan& plan);
  [[nodiscard]] Result<void> enslave(const config::Document& document, const std::string& device,
                                     const std::optional<std::string>& vrf);
  [[nodiscard]] Result<void> make_tunnel(const config::Document& document, const PlannedTunnel& tunnel, bool restore);
  [[nodiscard]] Result<void> enter_interface(const config::Document& document, const PlannedInterface& planned,
                                             std::uint32_t steer);
  [[nodiscard]] Result<void> switch_ports(const Plan& plan, const PlannedInterface& bond, std::uint32_t generation);
  [[nodiscard]] std::uint32_t first_generation(const PlannedInterface& planned);
  void drop_devices(const config::Document& document);
  [[nodiscard]] Result<Facts> current_facts(const config::Document& document);
  [[nodiscard]] Result<Facts> kernel_facts(const config::Document& document);  // without what lingers
  [[nodiscard]] Result<void> reconcile(const config::Document& document, const Plan& plan, SaUpdate update);
  [[nodiscard]] Result<void> enter_interfaces(const config::Document& document, const Plan& plan);
  [[nodiscard]] Result<void> switch_policies(const Plan& plan);
  [[nodiscard]] Result<void> tell_worker_policy(const Plan& plan);
  [[nodiscard]] Result<void> unblock(const Plan& plan);
  void remove_rest(const config::Document& document, const Plan& plan);
  void sync_surroundings(const Plan& plan);
  [[nodiscard]] Result<void> tell_generations();
  void retire_generations();
  [[nodiscard]] std::uint32_t new_generation() { return ++state_.generation; }
  [[nodiscard]] std::uint32_t free_xsk_base(std::uint32_t queues) const;
  [[nodiscard]] std::uint32_t steer_ifindex() const;
  [[nodiscard]] TunSpec steer_spec(std::uint32_t threads) const;

  // node_worker.cpp
  [[nodiscard]] Result<void> bring_worker(MemoryFiles stored);
  [[nodiscard]] Result<bool> try_adopt();
  [[nodiscard]] Result<void> make_memory(MemoryFiles stored);
  void use_memory(SharedMemory memory);
  [[nodiscard]] Result<void> start_new_worker();
  [[nodiscard]] Result<void> watch_worker();
  void worker_lost(const std::string& why);
  void restart_worker();
  void on_worker_message();
  [[nodiscard]] bool take_worker_events();
  [[nodiscard]] Result<void> on_sa_event(const ChannelMessage& event);
  [[nodiscard]] Result<void> on_sa_installed(const SaRow& row);
  void on_sa_removed(const SaRow& row);
  void on_sa_expected(const ExpectSa& inbound);
  void forget_expected(Time now);
  [[nodiscard]] Result<void> follow_temporaries();
  void check_temporaries();
  void check_worker();
  [[nodiscard]] Result<void> renew_worker(const config::Document& document);
  [[nodiscard]] Result<void> serve(const config::Document& document, const Plan& plan, SaUpdate update);
  [[nodiscard]] Result<void> serve_devices(const config::Document& document, const Plan& plan);
  [[nodiscard]] HandOver hand_over_of(const config::Document& document, const Plan& plan);
  [[nodiscard]] Result<void> take_away(const std::vector<PlannedDevice>& devices);
  [[nodiscard]] Result<void> serve_xsks(const HandOver& to, std::vector<PlannedDevice> xsks, const Plan& plan);
  // node_sas.cpp
  [[nodiscard]] Result<void> install_sas(const Plan& plan, SaUpdate update);
  [[nodiscard]] Result<void> install_pair(const PlannedSaPair& pair);
  [[nodiscard]] Result<void> remove_pair(const std::string& key);
  [[nodiscard]] Result<void> bind_flows(const PlannedSaPair& pair);
  [[nodiscard]] Result<void> remove_conflicting(const Plan& plan, const PlannedSaPair& pair);
  [[nodiscard]] const SaSlot* own_sa(std::uint32_t slot, SaDirection direction) const;
  [[nodiscard]] bool must_replace(const PlannedSaPair& pair, const InstalledSaPair& installed, SaUpdate update) const;
  [[nodiscard]] Result<std::uint32_t> clear_sas(const std::function<bool(const PlannedSaPair&)>& chosen);
  void remove_orphans();
  // node_interfaces.cpp
  [[nodiscard]] Result<void> place_sas(const Plan& plan);
  [[nodiscard]] Result<void> place_new_sa(const SaRow& row);
  void arm_grace();
  [[nodiscard]] bool stays_guarded(const config::Document& document, const std::string& name,
                                   const InstalledInterface& installed);
  // node_ike.cpp
  void bring_ike();
  void ike_lost();
  [[nodiscard]] Result<void> watch_ike();
  [[nodiscard]] std::unique_ptr<Broker> broker_for_ike(Fd socket);
  [[nodiscard]] BrokerGrant grant_for_ike() const;
  void set_policy(ike::Policy policy);
  void tell_ike();
  [[nodiscard]] Result<void> hand_policy_over();
  [[nodiscard]] Result<Fd> worker_channel_for_ike();
  [[nodiscard]] Result<void> lend_address(const std::string& name, Family family,
                                          const std::optional<IpAddress>& address);
  [[nodiscard]] std::vector<Prefix> lent_addresses(const config::Tunnel& tunnel) const;
  [[nodiscard]] Result<void> keep_routes(const config::Tunnel& tunnel);
  // node_pki.cpp
  void bring_pki();
  [[nodiscard]] Result<void> configure_pki();
  [[nodiscard]] Result<Fd> pki_channel_for_ike();
  [[nodiscard]] ControlReply ask_pki(const std::string& command, const nlohmann::json& args);
  [[nodiscard]] ControlReply command_bundle(const std::string& command, const nlohmann::json& args);
  // node_resolver.cpp
  void bring_resolver();
  [[nodiscard]] Result<Fd> resolver_channel_for_ike();
  [[nodiscard]] Result<Fd> open_for_ike(std::uint32_t vrf, Family family, std::uint16_t port);

  // node_routes.cpp
  [[nodiscard]] config::Problems ways_past_maps(const config::Document& document, const Facts& facts);
  void check_ways();
  void check_ways_soon();

  // node_config.cpp
  [[nodiscard]] ControlReply command_diff(nlohmann::json args);
  [[nodiscard]] ControlReply command_apply(nlohmann::json args);
  [[nodiscard]] ControlReply command_confirm();
  void reload();
  void in_force(Secret text, bool applied);
  [[nodiscard]] std::string unconfirmed_text() const;
  [[nodiscard]] Result<void> begin_confirmation(std::uint32_t seconds);
  void resume_confirmation();
  void arm_confirmation();
  void end_confirmation();
  void go_back();

  // node_control.cpp
  [[nodiscard]] ControlReply command(const std::string& command, nlohmann::json args);
  [[nodiscard]] ControlReply command_clear(const nlohmann::json& args);
  [[nodiscard]] ControlReply command_clear_entry(const nlohmann::json& entry);
  [[nodiscard]] const SaSlot* find_sa(const IpAddress& destination, IpProto protocol, std::uint32_t spi) const;
  [[nodiscard]] ControlReply command_capture(const nlohmann::json& args);
  [[nodiscard]] ControlReply ask_ike(const std::string& command, const nlohmann::json& args);
  [[nodiscard]] ControlReply command_show(const std::string& command, const nlohmann::json& args);
  [[nodiscard]] NodeView view();

  NodePaths paths_;
  Fd lock_;
  std::unique_ptr<EventLoop> loop_;
  Fd signals_;
  std::optional<Netlink> netlink_;
  std::optional<NetworkMonitor> monitor_;
  std::optional<PlainSide> plain_side_;
  std::unique_ptr<KernelSide> kernel_;
  std::optional<Devices> devices_;
  std::optional<SharedMemory> memory_;
  std::optional<AdjacencyKeeper> keeper_;
  LinkStats stats_;
  std::unique_ptr<AclLog> acl_log_;
  bool acl_log_timer_ = false;

  std::optional<WorkerChild> worker_;
  Time worker_started_{};
  RestartPace worker_pace_, ike_pace_;
  int unanswered_ = 0;
  std::optional<IkeChild> ike_;
  Time ike_started_{};
  std::unique_ptr<SideChild> pki_, resolver_;  // once they were needed
  std::optional<ike::Policy> policy_;          // what postern-ike shall negotiate by
  std::uint64_t told_generation_ = 0;          // what it has
  std::unique_ptr<ControlServer> control_;

  State state_;
  config::Document document_;
  Secret text_;           // the same as it came
  bool applied_ = false;  // by a command
  struct Unconfirmed {
    Confirmation when;
    config::Document document;  // the way back
    Secret text;
  };
  std::optional<Unconfirmed> pending_;
  config::Problems ways_past_maps_;  // said already
  EventLoop::TimerId ways_timer_ = 0;
  Duration ways_took_{};
  EventLoop::TimerId confirm_timer_ = 0;
  Facts facts_;
  Plan plan_;
  FlowBook flows_;
  Temporaries temporaries_;
  std::deque<std::pair<Time, ExpectSa>> expected_;  // until when, the first to end in front
  Lingering lingering_;
  XskBindings bindings_;
  XskGroups xsks_;
  std::uint32_t oldest_generation_ = 0;  // verdicts of older ones are stale
  std::set<std::uint32_t> flushed_;      // tunnels that were down: the kernel took their routes
  WorkerTraits worker_traits_;
  bool adopted_ = false;
  bool release_ = false;  // teardown, or on_stop release
  std::string trouble_;   // why the node is degraded, beyond what the plan misses
  std::string reported_;  // the state that the service manager knows
  Time started_ = Clock::now();
  EventLoop::TimerId look_timer_ = 0, periodic_timer_ = 0, keeper_timer_ = 0, grace_timer_ = 0;
};

}  // namespace postern::loader

// Loads the BPF programs of one node, pins their maps, and attaches the programs to interfaces. What is attached and
// pinned outlives the process; a restarted posternd loads again, finds the pins, and replaces the programs without a
// gap.
//
// One thread. Interfaces are those of the caller's network namespace; the pin directory must be on a bpffs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "config/model.hpp"
#include "maps/bpf_maps.hpp"

namespace postern::loader {

enum class XdpModeUsed : std::uint8_t { native, generic };
[[nodiscard]] constexpr std::string_view name_of(XdpModeUsed mode) {
  return mode == XdpModeUsed::native ? "native" : "generic";
}

enum class TcSide : std::uint8_t {
  egress,   // postern_tc_egress: on an outside interface
  ingress,  // postern_tc_ingress: on the steer TAP
};

struct XdpAttachment {
  XdpModeUsed mode = XdpModeUsed::native;
  bool replaced = false;       // a pinned link of this node was already there and got the new program
  std::string native_refusal;  // automatic, and generic was used: why native was not possible; for the log
};

class BpfPrograms {
 public:
  // Loads the programs. Maps pinned under `pin_dir` (made if absent) are reused when their `abi` entry is
  // POSTERN_ABI_VERSION and their shapes fit; otherwise their pins are removed and new, empty ones are made: then
  // maps_are_new() and the caller fills every map again before it attaches anything.
  // Errors: what libbpf said, with the verifier's last lines.
  [[nodiscard]] static Result<BpfPrograms> load(const std::filesystem::path& pin_dir);

  BpfPrograms(BpfPrograms&&) noexcept;
  BpfPrograms& operator=(BpfPrograms&&) noexcept;
  ~BpfPrograms();  // detaches nothing

  [[nodiscard]] bool maps_are_new() const { return maps_are_new_; }
  [[nodiscard]] const NodeMaps& maps() const { return maps_; }

  // Attaches XDP ingress by a bpf_link pinned as pin_dir/links/xdp-<name>; an own link that is already there is updated
  // in place, without a packet in between. automatic: native, then generic. EBUSY: another XDP program is on the
  // interface. The caller sets POSTERN_IF_GENERIC in `interfaces` by the mode (before traffic is injected).
  [[nodiscard]] Result<XdpAttachment> attach_xdp(std::uint32_t ifindex, std::string_view name, config::XdpMode mode);
  // True when it was attached. Also when the interface is gone.
  [[nodiscard]] static Result<bool> detach_xdp(const std::filesystem::path& pin_dir, std::string_view name);
  // What is attached now by this node's link; an error when nothing is.
  [[nodiscard]] static Result<XdpModeUsed> attached_xdp(const std::filesystem::path& pin_dir, std::string_view name);

  // Attaches through clsact at a fixed handle and priority (others' filters stay); replaces our own in place.
  [[nodiscard]] Result<void> attach_tc(std::uint32_t ifindex, TcSide side);
  // Removes our filter alone; clsact stays when somebody else's filters use it, and goes when we were the last. True
  // when something was removed.
  [[nodiscard]] static Result<bool> detach_tc(std::uint32_t ifindex, TcSide side);

  // Detaches XDP everywhere and removes all pins. Missing directory: no error.
  [[nodiscard]] static Result<void> remove_pins(const std::filesystem::path& pin_dir);

  // For BPF_PROG_TEST_RUN.
  [[nodiscard]] int xdp_ingress_fd() const;
  [[nodiscard]] int tc_egress_fd() const;
  [[nodiscard]] int tc_ingress_fd() const;

 private:
  struct Skeleton;
  BpfPrograms(std::unique_ptr<Skeleton> skeleton, std::filesystem::path pin_dir);
  [[nodiscard]] Result<void> load_object();
  [[nodiscard]] Result<bool> update_link(const std::filesystem::path& path, std::uint32_t ifindex,
                                         config::XdpMode mode) const;
  std::unique_ptr<Skeleton> skeleton_;
  std::filesystem::path pin_dir_;
  NodeMaps maps_;
  bool maps_are_new_ = true;
};

}  // namespace postern::loader

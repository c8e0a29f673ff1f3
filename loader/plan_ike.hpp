// The IKE half of the plan: from the document, the facts and the plan's flows to what postern-ike negotiates by. Pure.
//
// One Connection for each negotiated crypto map entry on an interface and for each negotiated tunnel; its names are
// those of the plan's SA pairs ("M1 10 out0", "Tunnel0"). One child for each permit ACE (CM-17) with the ACE as its
// traffic selectors; a tunnel has one, any to any of the families that it carries (SV-02). A deny ACE is not told to
// the peer: BPF keeps what it matches out of the flow, and inbound an SA takes what its selectors say.
#pragma once

#include <string>
#include <vector>

#include "config/model.hpp"
#include "ike/policy.hpp"
#include "loader/plan.hpp"

namespace postern::loader {

struct IkePlan {
  ike::Policy policy;                // generation 0: the node counts
  std::vector<std::string> missing;  // why a connection is not there: "M1 10 out0: no IKEv2 profile matches 192.0.2.2"
};

// `plan` is make_plan()'s for the same document and facts. With ikev2.enabled false there is no connection. Error: an
// ACE whose port ranges need more traffic selectors than an SA holds.
[[nodiscard]] Result<IkePlan> plan_ike(const config::Document& document, const Facts& facts, const Plan& plan);

// All but the generation.
[[nodiscard]] bool same_policy(const ike::Policy& a, const ike::Policy& b);

}  // namespace postern::loader

"""Policy mutations for `scripts/test --mutate`: each takes one thing that a document says out of what a node is given, behind the back of
the test that guards it, which must fail then. $POSTERN_MUTATE names one. Whoever wrote the document goes on believing in it."""
import copy
import dataclasses
import os
from typing import Callable

LISTS = "tests/e2e/test_access_lists.py"
WORDS = f"{LISTS}::test_each_word_takes_what_it_says"
OUTER = "tests/e2e/test_encapsulation.py"
IKE = "tests/e2e/ikev2"


@dataclasses.dataclass(frozen=True)
class Mutation:
    what: str
    change: Callable[[dict], None]
    test: str  # pytest's name of the test that must fail


def rules(document: dict) -> list[dict]:
    return [rule for acl in document.get("acls", []) for rule in acl["rules"]]


def entries(document: dict) -> list[dict]:
    return [entry for one in document.get("crypto_maps", []) for entry in one["entries"]]


def encapsulations(document: dict) -> list[dict]:
    ipsec = document.get("ipsec", {})
    return [*entries(document), *ipsec.get("profiles", []), *document.get("tunnels", []), *([ipsec["global"]] if "global" in ipsec else [])]


def associations(document: dict) -> list[dict]:
    return [one["security_association"] for one in encapsulations(document) if "security_association" in one]


def forget(where: Callable[[dict], list[dict]], *keys: str) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        for one in where(document):
            for key in keys:
                one.pop(key, None)
    return change


def say(where: Callable[[dict], list[dict]], key: str, said, but) -> Callable[[dict], None]:
    """Where `key` is `said`, it becomes `but`."""
    def change(document: dict) -> None:
        for one in where(document):
            if one.get(key) == said:
                one[key] = but
    return change


def no_denies(document: dict) -> None:
    for acl in document.get("acls", []):
        acl["rules"] = [rule for rule in acl["rules"] if rule["action"] == "permit"] or acl["rules"]


def widened_hosts(document: dict) -> None:
    for rule in rules(document):
        for side in ("source", "destination"):
            if rule[side].startswith("host 10."):
                rule[side] = rule[side].removeprefix("host ").rsplit(".", 2)[0] + ".0.0/16"


def widened_wildcards(document: dict) -> None:
    for rule in rules(document):
        if rule["destination"].endswith(" 0.0.0.1"):
            rule["destination"] = "10.2.0.0/16"


def maps_on_no_interface(document: dict) -> None:
    for one in document.get("interfaces", []):
        one.pop("crypto_map", None)


def sets_of_tunnel_mode(document: dict) -> None:
    for one in document["ipsec"]["transform_sets"]:
        one["mode"] = "tunnel"


def always(document: dict) -> None:
    document["time_ranges"] = [{"name": one["name"], "start": "2000-01-01T00:00"} for one in document.get("time_ranges", [])]


MUTATIONS = {
    "map": Mutation("a crypto map is on no interface (IF-01)", maps_on_no_interface, "tests/e2e/test_flow.py::test_ping_both_ways[map4]"),
    "deny": Mutation("denies are as good as absent (TS-03)", no_denies, f"{LISTS}::test_deny_goes_on_to_later_entries"),
    "host": Mutation("a host is its network (TS-04)", widened_hosts, f"{WORDS}[host]"),
    "wildcard": Mutation("a wildcard takes all (TS-04)", widened_wildcards, f"{WORDS}[wildcard]"),
    "destination_ports": Mutation("any destination port (TS-04)", forget(rules, "destination_ports"), f"{WORDS}[port range]"),
    "lt": Mutation("any port for `lt` (TS-04)", forget(rules, "destination_ports"), f"{WORDS}[less]"),
    "gt": Mutation("any port for `gt` (TS-04)", forget(rules, "destination_ports"), f"{WORDS}[more]"),
    "source_ports": Mutation("any source port (TS-04)", forget(rules, "source_ports"), f"{WORDS}[not a port]"),
    "dscp": Mutation("any DSCP (TS-04)", forget(rules, "dscp"), f"{WORDS}[dscp]"),
    "precedence": Mutation("any precedence (TS-04)", forget(rules, "precedence"), f"{WORDS}[precedence]"),
    "tos": Mutation("any type of service (TS-04)", forget(rules, "tos"), f"{WORDS}[tos]"),
    "icmp_type": Mutation("any ICMP type (TS-04)", forget(rules, "icmp_type", "icmp_code"), f"{WORDS}[icmp type]"),
    "icmp_code": Mutation("any ICMP code (TS-04)", forget(rules, "icmp_code"), f"{WORDS}[icmp code]"),
    "established": Mutation("every TCP packet is established (TS-04)", forget(rules, "established"), f"{WORDS}[established]"),
    "tcp_flags": Mutation("any TCP flags (TS-04)", forget(rules, "tcp_flags"), f"{WORDS}[all flags]"),
    "time_range": Mutation("rules hold at any time (TS-04)", always, f"{LISTS}::test_a_time_range_opens_and_closes"),
    "log_tag": Mutation("records have no tag (TS-04)", forget(rules, "log_tag"), f"{LISTS}::test_rules_count_what_they_decided"),
    "log-input": Mutation("records have no source (TS-12)", say(rules, "log", "input", True),
                          "tests/e2e/test_group_and_log.py::test_a_record_at_once_and_the_count_after_the_interval"),
    "log": Mutation("nothing is logged (TS-12)", forget(rules, "log", "log_tag"), "tests/e2e/test_group_and_log.py::test_a_deny_is_logged_as_denied_and_without_source"),
    "transport": Mutation("transport mode is taken as tunnel (TS-34)", sets_of_tunnel_mode, "tests/e2e/test_ah.py::test_modes_are_shown"),
    "ecn": Mutation("ECN as by default (R43-04)", forget(encapsulations, "ecn"), f"{OUTER}::test_ecn_discard_drops_the_mark_and_keeps_the_packet"),
    "outer dscp": Mutation("the outer DSCP is copied (R43)", forget(encapsulations, "dscp"), f"{OUTER}::test_dscp_copied_or_set"),
    "df_bit": Mutation("the DF bit is copied (R43-09)", forget(encapsulations, "df_bit"), f"{OUTER}::test_df_of_an_entry_wins[set]"),
    "tcp_mss": Mutation("no clamp of the MSS", forget(encapsulations, "tcp_mss"), f"{OUTER}::test_the_mss_clamp[S]"),
    "fragmentation": Mutation("cut before encryption", forget(encapsulations, "fragmentation"), f"{OUTER}::test_fragmentation_after_encryption[map]"),
    "pfs": Mutation("no PFS (TS-44)", forget(encapsulations, "pfs"), f"{IKE}/test_ike_algorithms.py::test_pfs_by_both"),
    "lifetime_packets": Mutation("no lifetime in packets", forget(associations, "lifetime_packets"), f"{IKE}/test_ike_life.py::test_packet_lifetime"),
    "lifetime_kilobytes": Mutation("no lifetime in bytes", forget(associations, "lifetime_kilobytes"),
                                   f"{IKE}/test_ike_lifetime.py::test_five_megabytes[tcp-out]"),
    "dpd": Mutation("no liveness checks", lambda document: forget(lambda one: one["ikev2"]["profiles"], "dpd")(document),
                    f"{IKE}/test_ike_life.py::test_dead_peer_is_detected"),
}


def mutated(document: dict) -> dict:
    """What the node is given instead: the document itself, unless $POSTERN_MUTATE says otherwise."""
    name = os.environ.get("POSTERN_MUTATE")
    if not name:
        return document
    made = copy.deepcopy(document)
    MUTATIONS[name].change(made)
    return made

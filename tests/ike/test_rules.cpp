#include <algorithm>
#include <initializer_list>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "ike/payload_rules.hpp"
#include "wire.hpp"

namespace postern::ike {
namespace {

using test::octets;

SaPayload proposals(std::initializer_list<ProtocolId> protocols) {
  SaPayload sa;
  for (const ProtocolId protocol : protocols) {
    Proposal proposal;
    proposal.number = static_cast<std::uint8_t>(sa.proposals.size() + 1);
    proposal.protocol = protocol;
    sa.proposals.push_back(proposal);
  }
  return sa;
}

// One word a payload; "SA" proposes ESP, "SAi" IKE, "SAm" both; "Nerr" an error, "Nrekey" REKEY_SA, "Ncookie" a cookie,
// "N" a flag, "?" a type that we do not know.
Message message(ExchangeType exchange, bool response, const std::string& words) {
  using enum PayloadType;
  Message out{{1, response ? 2U : 0U, exchange, !response, response, exchange == ExchangeType::ike_sa_init ? 0U : 1U},
              {}};
  for (std::size_t at = 0; at < words.size();) {
    const std::size_t end = std::min(words.find(' ', at), words.size());
    const std::string word = words.substr(at, end - at);
    at = end + 1;
    if (word == "SA")
      out.add(sa, proposals({ProtocolId::esp}));
    else if (word == "SAi")
      out.add(sa, proposals({ProtocolId::ike}));
    else if (word == "SAm")
      out.add(sa, proposals({ProtocolId::ike, ProtocolId::esp}));
    else if (word == "SA2")
      out.add(sa, proposals({ProtocolId::esp, ProtocolId::ah}));
    else if (word == "KE")
      out.add(ke, KePayload{crypto::DhGroup::ecp256, Octets(64)});
    else if (word == "No")
      out.add(nonce, NoncePayload{Octets(32)});
    else if (word == "IDi")
      out.add(id_initiator, IdPayload{});
    else if (word == "IDr")
      out.add(id_responder, IdPayload{});
    else if (word == "AUTH")
      out.add(auth, AuthPayload{});
    else if (word == "TSi")
      out.add(ts_initiator, TsPayload{});
    else if (word == "TSr")
      out.add(ts_responder, TsPayload{});
    else if (word == "D")
      out.add(delete_, DeletePayload{});
    else if (word == "V")
      out.add(vendor_id, VendorIdPayload{});
    else if (word == "CERT")
      out.add(certificate, RawPayload{});
    else if (word == "CERTREQ")
      out.add(certificate_request, RawPayload{});
    else if (word == "CP")
      out.add(configuration, RawPayload{});
    else if (word == "EAP")
      out.add(eap, RawPayload{});
    else if (word == "N")
      out.add_notify(NotifyType::initial_contact);
    else if (word == "Nerr")
      out.add_notify(NotifyType::no_proposal_chosen);
    else if (word == "Ncookie")
      out.add_notify(NotifyType::cookie, Octets(8));
    else if (word == "Nrekey")
      out.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, octets("01020304"));
    else if (word == "?")
      out.add(PayloadType{200}, RawPayload{});
    else
      FAIL(word);
  }
  return out;
}

constexpr bool request = false, response = true;

struct Row {
  bool response;
  const char* payloads;
  const char* why;  // what the words for the log hold; nullptr: legal
};

void check(ExchangeType exchange, std::span<const Row> rows) {
  for (const Row& row : rows) {
    CAPTURE(std::string(row.payloads));
    CAPTURE(row.response);
    const auto why = broken_rule(message(exchange, row.response, row.payloads));
    REQUIRE(why.has_value() == (row.why != nullptr));
    if (why) CHECK(*why == text(exchange) + (row.response ? " response " : " request ") + row.why);
  }
}

}  // namespace

TEST_CASE("rules: IKE_SA_INIT") {
  const Row rows[] = {
      {request, "SAi KE No", nullptr},
      {request, "No V KE N SAi N V ?", nullptr},  // any order, and what stands beside
      {request, "Ncookie SAi KE No", nullptr},
      {request, "KE No", "without SA"},
      {request, "SAi No", "without KE"},
      {request, "SAi KE", "without Nonce"},
      {request, "SAi SAi KE No", "with more than one SA"},
      {request, "SAi KE KE No", "with more than one KE"},
      {request, "SAi KE No No", "with more than one Nonce"},
      {request, "SAi KE No AUTH", "with AUTH"},
      {request, "SAi KE No CERTREQ", "with CERTREQ"},
      {request, "SAi KE No TSi", "with TSi"},
      {request, "SA KE No", "with an SA payload that proposes ESP"},
      {request, "SAm KE No", "with an SA payload that proposes ESP"},
      {request, "Nerr", "without SA"},  // a refusal is a response
      {request, "", "without SA"},
      {response, "SAi KE No", nullptr},
      {response, "SAi KE No CERTREQ CERTREQ N V", nullptr},
      {response, "Ncookie", nullptr},
      {response, "Ncookie N V ?", nullptr},
      {response, "Nerr", nullptr},
      {response, "Nerr N", nullptr},
      {response, "N", "without SA"},
      {response, "Ncookie KE", "without SA"},
      {response, "SAi KE", "without Nonce"},
      {response, "SAi KE No CP", "with CP"},
      {response, "SAm KE No", "with an SA payload that proposes ESP"},
  };
  check(ExchangeType::ike_sa_init, rows);
}

TEST_CASE("rules: the header of IKE_SA_INIT (RFC 7296 3.1)") {
  const auto sent = [](bool answer, auto change) {
    Message out = message(ExchangeType::ike_sa_init, answer, "SAi KE No");
    change(out.header);
    return broken_rule(out).has_value();
  };
  CHECK(!sent(request, [](Header&) {}));
  CHECK(sent(request, [](Header& h) { h.from_initiator = false; }));
  CHECK(sent(request, [](Header& h) { h.message_id = 1; }));
  CHECK(sent(request, [](Header& h) { h.responder_spi = 1; }));
  CHECK(!sent(response, [](Header&) {}));
  CHECK(sent(response, [](Header& h) { h.from_initiator = true; }));
  CHECK(sent(response, [](Header& h) { h.message_id = 1; }));
}

TEST_CASE("rules: IKE_AUTH") {
  const Row rows[] = {
      {request, "IDi AUTH SA TSi TSr", nullptr},
      {request, "IDi CERT CERT N CERTREQ IDr AUTH CP N SA TSi TSr V N ?", nullptr},
      {request, "IDi AUTH SA2 TSi TSr", nullptr},
      {request, "IDi SA TSi TSr", nullptr},  // asks for EAP
      {request, "EAP", nullptr},
      {request, "AUTH", nullptr},
      {request, "AUTH SA TSi TSr", "without IDi"},
      {request, "IDi AUTH TSi TSr", "without SA"},
      {request, "IDi AUTH SA TSr", "without TSi"},
      {request, "IDi AUTH SA TSi", "without TSr"},
      {request, "IDi IDi AUTH SA TSi TSr", "with more than one IDi"},
      {request, "IDi AUTH AUTH SA TSi TSr", "with more than one AUTH"},
      {request, "IDi AUTH SA TSi TSr KE", "with KE"},
      {request, "IDi AUTH SA TSi TSr No", "with Nonce"},
      {request, "IDi AUTH SA TSi TSr EAP", "with EAP"},
      {request, "IDi AUTH SAi TSi TSr", "with an SA payload that proposes IKE"},
      {request, "IDi AUTH Nrekey Nrekey SA TSi TSr", "with more than one REKEY_SA"},
      {request, "", "without IDi"},
      {response, "IDr AUTH SA TSi TSr", nullptr},
      {response, "IDr CERT AUTH CP N SA TSi TSr N V ?", nullptr},
      {response, "IDr AUTH Nerr", nullptr},  // the child alone failed
      {response, "IDr CERT AUTH CP Nerr N", nullptr},
      {response, "Nerr", nullptr},
      {response, "IDr CERT AUTH EAP", nullptr},
      {response, "EAP", nullptr},
      {response, "AUTH CP SA TSi TSr", nullptr},
      {response, "IDr AUTH", nullptr},  // RFC 6023
      {response, "IDr AUTH CP N", nullptr},
      {response, "IDr AUTH TSi TSr", "without SA"},
      {response, "IDr SA TSi TSr", "without AUTH"},
      {response, "IDr AUTH SA TSi TSr IDi", "with IDi"},
      {response, "IDr AUTH SA2 TSi TSr", "with a choice of not exactly one proposal"},
      {response, "IDr AUTH SA TSi TSr CERTREQ", "with CERTREQ"},
      {response, "Ncookie", "without IDr"},
  };
  check(ExchangeType::ike_auth, rows);
}

TEST_CASE("rules: CREATE_CHILD_SA, told apart by its contents") {
  const Row rows[] = {
      {request, "SA No TSi TSr", nullptr},
      {request, "SA No KE TSi TSr N V CP ?", nullptr},
      {request, "Nrekey SA No KE TSi TSr", nullptr},
      {request, "SAi No KE", nullptr},
      {request, "SAi No", "without KE"},
      {request, "SAi No KE TSi TSr", "with TSi"},
      {request, "SAi No KE CP", "with CP"},
      {request, "SAm No KE", "with an SA payload that proposes ESP"},
      {request, "Nrekey SAi No TSi TSr", "with an SA payload that proposes IKE"},
      {request, "Nrekey Nrekey SA No TSi TSr", "with more than one REKEY_SA"},
      {request, "No TSi TSr", "without SA"},
      {request, "SA TSi TSr", "without Nonce"},
      {request, "SA No TSr", "without TSi"},
      {request, "SA No TSi", "without TSr"},
      {request, "SA No KE KE TSi TSr", "with more than one KE"},
      {request, "SA No TSi TSr IDi", "with IDi"},
      {request, "SA No TSi TSr D", "with D"},
      {request, "Nerr", "without SA"},
      {response, "SA No TSi TSr", nullptr},
      {response, "SA No KE TSi TSr N", nullptr},
      {response, "SAi No KE", nullptr},
      {response, "Nerr", nullptr},
      {response, "Nerr V", nullptr},
      {response, "SAi No", "without KE"},
      {response, "Nerr No", "without SA"},
      {response, "SA2 No TSi TSr", "with a choice of not exactly one proposal"},
      {response, "", "without SA"},
  };
  check(ExchangeType::create_child_sa, rows);
}

TEST_CASE("rules: INFORMATIONAL, and exchanges that we do not know") {
  const Row rows[] = {
      {request, "", nullptr},         {request, "D", nullptr},          {request, "D D N CP V ?", nullptr},
      {request, "N", nullptr},        {request, "Nerr", nullptr},       {request, "SA", "with SA"},
      {request, "KE", "with KE"},     {request, "AUTH D", "with AUTH"}, {request, "CP CP", "with more than one CP"},
      {response, "", nullptr},        {response, "D", nullptr},         {response, "N D CP", nullptr},
      {response, "No", "with Nonce"},
  };
  check(ExchangeType::informational, rows);
  CHECK(broken_rule(message(ExchangeType{77}, request, "")) == "77 request that we do not know");
  CHECK(broken_rule(message(ExchangeType{77}, response, "Nerr")).has_value());
}

TEST_CASE("rules: an offer's proposals are numbered 1, 2, 3 (RFC 7296 3.3.1); an answer's is the chosen one") {
  const auto numbered = [](bool answer, std::uint8_t first, std::uint8_t second) {
    Message out = message(ExchangeType::create_child_sa, answer, "SA2 No TSi TSr");
    auto& list = std::get<SaPayload>(out.payloads[0].body).proposals;
    list[0].number = first;
    list[1].number = second;
    if (answer) list.pop_back();
    return !broken_rule(out);
  };
  CHECK(numbered(request, 1, 2));
  CHECK(!numbered(request, 1, 1));
  CHECK(!numbered(request, 0, 1));
  CHECK(!numbered(request, 1, 3));
  CHECK(numbered(response, 1, 0));
  CHECK(numbered(response, 5, 0));
}

TEST_CASE("rules: the order of payloads never matters (RFC 7296 2.5)") {
  std::mt19937 random(7);
  Message sent = message(ExchangeType::ike_auth, request, "IDi CERT CERTREQ IDr AUTH CP N SA TSi TSr V");
  for (int i = 0; i < 200; ++i) {
    std::ranges::shuffle(sent.payloads, random);
    CHECK(!broken_rule(sent));
  }
}

}  // namespace postern::ike

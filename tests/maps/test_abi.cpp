// maps/abi.h as C++ compiled it against the types (BTF) of the object that the kernel loaded.
#include <cstddef>
#include <memory>

#include <bpf/btf.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

struct Field {
  const char* name;
  std::size_t offset, size;
};

struct BtfDeleter {
  void operator()(btf* types) const { btf__free(types); }
};
using Types = std::unique_ptr<btf, BtfDeleter>;

Types types_of(int program) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  REQUIRE(bpf_obj_get_info_by_fd(program, &info, &size) == 0);
  Types types(btf__load_from_kernel_by_id(info.btf_id));
  REQUIRE(types);
  return types;
}

// A struct may be known to one program's object alone: all of them are asked.
void check_struct(const btf* types, const char* name, std::size_t size, const std::vector<Field>& fields) {
  CAPTURE(name);
  const std::int32_t id = btf__find_by_name_kind(types, name, BTF_KIND_STRUCT);
  REQUIRE(id > 0);
  const btf_type* const type = btf__type_by_id(types, static_cast<std::uint32_t>(id));
  CHECK(type->size == size);
  REQUIRE(btf_vlen(type) == fields.size());  // no member is missing from the list below
  std::size_t end = 0;
  for (std::uint32_t i = 0; i < fields.size(); ++i) {
    const btf_member* const member = btf_members(type) + i;
    const std::string member_name = btf__name_by_offset(types, member->name_off);
    CAPTURE(member_name);
    CHECK(member_name == fields[i].name);
    CHECK(btf_member_bit_offset(type, i) == fields[i].offset * 8);
    CHECK(static_cast<std::size_t>(btf__resolve_size(types, member->type)) == fields[i].size);
    CHECK(fields[i].offset == end);  // no padding that the compiler put in
    end = fields[i].offset + fields[i].size;
  }
  CHECK(end == size);
}

}  // namespace

#define FIELD(type, member) \
  Field { #member, offsetof(type, member), sizeof(type::member) }
#define FIELDS_1(t, a) FIELD(t, a)
#define FIELDS_2(t, a, ...) FIELD(t, a), FIELDS_1(t, __VA_ARGS__)
#define FIELDS_3(t, a, ...) FIELD(t, a), FIELDS_2(t, __VA_ARGS__)
#define FIELDS_4(t, a, ...) FIELD(t, a), FIELDS_3(t, __VA_ARGS__)
#define FIELDS_5(t, a, ...) FIELD(t, a), FIELDS_4(t, __VA_ARGS__)
#define FIELDS_6(t, a, ...) FIELD(t, a), FIELDS_5(t, __VA_ARGS__)
#define FIELDS_7(t, a, ...) FIELD(t, a), FIELDS_6(t, __VA_ARGS__)
#define FIELDS_8(t, a, ...) FIELD(t, a), FIELDS_7(t, __VA_ARGS__)
#define FIELDS_9(t, a, ...) FIELD(t, a), FIELDS_8(t, __VA_ARGS__)
#define CHECK_STRUCT(types, n, type, ...) check_struct(types, #type, sizeof(type), {FIELDS_##n(type, __VA_ARGS__)})

TEST_CASE("every struct of abi.h has the same members, offsets and sizes on both sides, and no padding") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const Types loaded = types_of(node.programs().xdp_ingress_fd());
  const btf* const types = loaded.get();
  CHECK_STRUCT(types, 1, postern_address, bytes);
  CHECK_STRUCT(types, 3, postern_stamp, generation, flow, ifindex);
  CHECK_STRUCT(types, 9, postern_interface, generation, vrf, xsk_base, queues, steer, flow, flags, mac, inject_source);
  CHECK_STRUCT(types, 2, postern_local_key, vrf, address);
  CHECK_STRUCT(types, 1, postern_local, ifindex);
  CHECK_STRUCT(types, 5, postern_sa_key, vrf, spi, destination, protocol, reserved);
  CHECK_STRUCT(types, 5, postern_sa, slot, flow, encap_port, reserved, peer);
  CHECK_STRUCT(types, 2, postern_ace_bits, summary, words);
  CHECK_STRUCT(types, 3, postern_prefix_key, prefix_length, generation, address);
  CHECK_STRUCT(types, 2, postern_protocol_key, generation, protocol);
  CHECK_STRUCT(types, 4, postern_port_key, prefix_length, generation, port, reserved);
  CHECK_STRUCT(types, 2, postern_ace_key, generation, index);
  CHECK_STRUCT(types, 7, postern_ace, flow, entry, first_ace, last_ace, action, log, reserved);
  CHECK_STRUCT(types, 8, postern_flow_key, generation, source, destination, source_port, destination_port, protocol,
               fragment, reserved);
  CHECK_STRUCT(types, 3, postern_flow_verdict, flow, ace, logged);
  CHECK_STRUCT(types, 7, postern_fragment_key, generation, source, destination, identification, protocol, hook,
               reserved);
  CHECK_STRUCT(types, 3, postern_fragment, until_ns, bytes, reserved);
  CHECK_STRUCT(types, 6, postern_log_key, flow, ace, ifindex, mac, mirrored, reserved);
  CHECK_STRUCT(types, 1, postern_log_count, packets);
  CHECK_STRUCT(types, 3, postern_verdict_key, ifindex, hook, verdict);
  CHECK_STRUCT(types, 2, postern_count, packets, bytes);
}

TEST_CASE("the names of drops and verdicts follow their enums") {
  CHECK(drop_texts.size() == POSTERN_DROP_COUNT);
  CHECK(drop_texts[POSTERN_DROP_none].name == "none");
  CHECK(drop_texts[POSTERN_DROP_clear_text].name == "clear_text");
  CHECK(drop_texts[POSTERN_DROP_shutting_down].name == "shutting_down");
  CHECK(describe(Drop::no_sa).text == "no SA for this SPI at this address");
  CHECK(verdict_texts[POSTERN_VERDICT_to_steer].name == "to_steer");
  CHECK(verdict_texts[POSTERN_VERDICT_drop].name == "drop");
}

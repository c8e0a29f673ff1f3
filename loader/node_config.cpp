// The document in force: compared, changed, confirmed, read again. One change at a time, since there is one thread.
#include <algorithm>

#include "base/log.hpp"
#include "config/load.hpp"
#include "config/render.hpp"
#include "loader/node.hpp"
#include "loader/service_manager.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds go_back_again{10};

json problems_json(const config::Problems& problems) {
  json out = json::array();
  for (const config::Problem& problem : problems)
    out.push_back({{"path", problem.path},
                   {"message", problem.message},
                   {"allowed", problem.allowed},
                   {"severity", problem.severity == config::Severity::error ? "error" : "warning"}});
  return out;
}

ControlReply refused(const config::Problems& problems) {
  ControlReply reply = ControlReply::failure(config::to_text(problems));
  reply.line["error"]["path"] = problems.front().path;
  reply.line["error"]["problems"] = problems_json(problems);
  return reply;
}

// An error of the plan or the kernel names its place in the document in front, where it has one.
ControlReply not_applied(const Error& error) {
  ControlReply reply = ControlReply::failure("nothing was changed: " + error.message());
  if (error.what.starts_with('/')) reply.line["error"]["path"] = error.what.substr(0, error.what.find(": "));
  return reply;
}

// With its text: what is in force may have to be put in force again.
Result<config::Loaded, config::Problems> load_given(json& args) {
  return config::load(std::move(args["document"]), {.keep_text = true});
}

Result<std::uint32_t> confirm_seconds(const json& args) {
  if (!args.contains("confirm")) return 0U;
  const json& given = args["confirm"];
  if (!given.is_number_unsigned() || given == 0U || given > most_confirm_seconds)
    return fail("--confirm wants seconds, 1 to " + std::to_string(most_confirm_seconds));
  return given.get<std::uint32_t>();
}

}  // namespace

// What a plan of it would say, without a change: an error that only the kernel knows can still follow.
ControlReply Node::command_diff(json args) {
  if (!args.contains("document")) return ControlReply::failure("config diff wants \"document\"", 2);
  auto loaded = load_given(args);
  if (!loaded) return refused(loaded.error());
  const auto facts = current_facts(loaded->document);
  if (!facts) return ControlReply::failure(facts.error().message());
  FlowBook book = flows_;
  auto plan = make_plan(loaded->document, *facts, book);
  if (!plan) return ControlReply::failure("it would be refused: " + plan.error().message());
  const auto ike_plan = plan_ike(loaded->document, *facts, *plan);
  if (!ike_plan) return ControlReply::failure("it would be refused: " + ike_plan.error().message());
  std::ranges::move(ways_past_maps(loaded->document, *facts), std::back_inserter(loaded->warnings));
  return ControlReply::success({{"changes", config::to_json(config::diff(document_, loaded->document))},
                                {"warnings", problems_json(loaded->warnings)}});
}

ControlReply Node::command_apply(json args) {
  if (!args.contains("document")) return ControlReply::failure("config apply wants \"document\"", 2);
  const auto seconds = confirm_seconds(args);
  if (!seconds) return ControlReply::failure(seconds.error().message(), 2);
  if (pending_) return ControlReply::failure("nothing was changed: " + unconfirmed_text());
  auto loaded = load_given(args);
  if (!loaded) return refused(loaded.error());
  const auto changes = config::diff(document_, loaded->document);
  if (*seconds != 0)
    if (auto begun = begin_confirmation(*seconds); !begun) return not_applied(begun.error());
  if (auto applied = apply(std::move(loaded->document)); !applied) {
    end_confirmation();
    return not_applied(applied.error());
  }
  in_force(std::move(loaded->text), true);
  spdlog::info("config apply: {} changes{}", changes.size(), pending_ ? ", " + unconfirmed_text() : std::string());
  std::ranges::copy(ways_past_maps_, std::back_inserter(loaded->warnings));
  json data = {
      {"changes", config::to_json(changes)}, {"warnings", problems_json(loaded->warnings)}, {"state", state_text()}};
  if (*seconds != 0) data["confirm_within_s"] = *seconds;
  return ControlReply::success(std::move(data));
}

ControlReply Node::command_confirm() {
  if (!pending_) return ControlReply::failure("nothing waits for a confirmation");
  end_confirmation();
  spdlog::info("config confirm: the document in force stays");
  return ControlReply::success({{"confirmed", true}});
}

// SIGHUP: the node's own file counts again.
void Node::reload() {
  notify_reloading();
  auto loaded = config::load_file(paths_.config, {.keep_text = true});
  if (pending_) {
    spdlog::error("{} is not taken over: {}", paths_.config, unconfirmed_text());
  } else if (!loaded) {
    spdlog::error("{} is not taken over:\n{}", paths_.config, config::to_text(loaded.error()));
  } else if (const auto applied = apply(std::move(loaded->document)); !applied) {
    spdlog::error("{}: {}", paths_.config, applied.error().message());
  } else {
    in_force(std::move(loaded->text), false);
    spdlog::info("{} is in force", paths_.config);
  }
  notify_ready(state_text());
}

// --- what is in force, and what it replaced

// `applied`: by a command, so that a posternd after a crash goes on with it and not with the node's file.
void Node::in_force(Secret text, bool applied) {
  text_ = std::move(text);
  applied_ = applied;
  if (!applied) return forget_running(paths_);
  if (const auto kept = write_running(paths_, text_); !kept) spdlog::warn("{}", kept.error().message());
}

std::string Node::unconfirmed_text() const {
  const auto left = (pending_->when.left_ms() + 999) / 1000;
  return "the document in force goes back in " + std::to_string(left) + " s unless `postern config confirm` is said";
}

Result<void> Node::begin_confirmation(std::uint32_t seconds) {
  const Confirmation when = confirm_within(seconds, applied_);
  POSTERN_CHECK(write_confirmation(paths_, when, text_));
  pending_.emplace(when, document_, text_);
  arm_confirmation();
  return {};
}

// Of the posternd before this one. Its previous document cannot be read: nothing to go back to, so it stays.
void Node::resume_confirmation() {
  const auto when = read_confirmation(paths_);
  if (!when) return;
  auto previous = config::load_file(paths_.file("previous.json"), {.keep_text = true});
  if (!previous) {
    spdlog::error("the document in force cannot go back: {}", config::to_text(previous.error()));
    return forget_confirmation(paths_);
  }
  pending_.emplace(*when, std::move(previous->document), std::move(previous->text));
  spdlog::info("{}", unconfirmed_text());
  arm_confirmation();
}

void Node::arm_confirmation() {
  confirm_timer_ = loop_->after(std::chrono::milliseconds(pending_->when.left_ms()), [this] { go_back(); });
}

void Node::end_confirmation() {
  if (confirm_timer_ != 0) loop_->cancel(confirm_timer_);
  confirm_timer_ = 0;
  pending_.reset();
  forget_confirmation(paths_);
}

void Node::go_back() {
  confirm_timer_ = 0;
  spdlog::warn("config apply was not confirmed in time: going back to the document before it");
  if (const auto back = apply(pending_->document); !back) {
    trouble_ = "going back to the document before the unconfirmed one: " + back.error().message();
    spdlog::error("{}", trouble_);
    report_state();
    confirm_timer_ = loop_->after(go_back_again, [this] { go_back(); });
    return;
  }
  in_force(std::move(pending_->text), pending_->when.previous_applied);
  end_confirmation();
  report_state();
}

}  // namespace postern::loader

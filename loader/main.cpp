// posternd --name NODE --config FILE [--netns NAME] [--foreground] | --guard | --teardown
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "base/log.hpp"
#include "config/load.hpp"
#include "loader/node.hpp"
#include "loader/privileges.hpp"
#include "loader/service_manager.hpp"
#include "loader/teardown.hpp"

namespace {

using namespace postern;
using namespace postern::loader;

struct Options {
  std::string name, config, netns;
  bool foreground = false, teardown = false, guard = false;
};

Result<config::Loaded> load_document(const std::string& path) {
  auto loaded = config::load_file(path, {.keep_text = true});
  if (!loaded) return fail(path + ":\n" + config::to_text(loaded.error()));
  for (const auto& warning : loaded->warnings) spdlog::warn("{}", warning.text());
  return std::move(*loaded);
}

bool worker_lives(const NodePaths& paths) {
  const auto state = read_state(paths.file("state.json"));
  return state && *state && find_process((*state)->worker);
}

struct Chosen {
  config::Loaded loaded;
  bool applied = false;  // by `config apply`
};

// An apply that nobody confirmed while no posternd ran: the document before it.
Result<Chosen> go_back(const NodePaths& paths, const Confirmation& unconfirmed) {
  POSTERN_TRY(previous, load_document(paths.file("previous.json")));
  spdlog::warn("config apply was not confirmed in time: going back to the document before it");
  if (unconfirmed.previous_applied)
    POSTERN_CHECK(write_running(paths, previous.text));
  else
    forget_running(paths);
  forget_confirmation(paths);
  return Chosen{std::move(previous), unconfirmed.previous_applied};
}

// After a crash of posternd the document that was applied last goes on, as long as the worker that serves it lives.
Result<Chosen> choose_document(const NodePaths& paths) {
  if (worker_lives(paths)) {
    const auto unconfirmed = read_confirmation(paths);
    if (unconfirmed && unconfirmed->left_ms() == 0) {
      auto before = go_back(paths, *unconfirmed);
      if (before) return before;
      spdlog::error("{}", before.error().message());
    } else if (const auto running = paths.file("running.json"); ::access(running.c_str(), F_OK) == 0) {
      spdlog::info("going on with the document that was applied last; SIGHUP goes back to {}", paths.config);
      if (auto loaded = load_document(running)) return Chosen{std::move(*loaded), true};
    }
  }
  forget_running(paths);
  forget_confirmation(paths);
  POSTERN_TRY(loaded, load_document(paths.config));
  return Chosen{std::move(loaded), false};
}

Result<void> serve(const NodePaths& paths) {
  auto stored = take_stored_memory_files();
  POSTERN_TRY(chosen, choose_document(paths));
  spdlog::set_level(spdlog::level::from_str(chosen.loaded.document.system.log_level));
  POSTERN_TRY(node, Node::start(paths, std::move(chosen.loaded), chosen.applied, std::move(stored)));
  if (auto dropped = drop_privileges(); !dropped) {
    if (const auto stopped = node->stop(); !stopped) spdlog::error("{}", stopped.error().message());
    return dropped;
  }
  return node->run();
}

Result<void> run(const Options& options) {
  POSTERN_TRY(paths, node_paths(options.name, options.config, options.netns));
  POSTERN_CHECK(ensure_bpffs());
  if (options.teardown) return teardown_without_daemon(paths);
  POSTERN_CHECK(enter_netns(options.netns));
  if (!options.guard) return serve(paths);
  POSTERN_TRY(loaded, load_document(paths.config));
  return Node::guard(paths, loaded.document);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"posternd: a Postern node's supervisor"};
  app.add_option("--name", options.name, "Name of the node")->required();
  auto* const config = app.add_option("--config", options.config, "Its JSON document");
  app.add_option("--netns", options.netns, "Network namespace to live in: a name under /run/netns, or a path");
  app.add_flag("--foreground", options.foreground,
               "Stay in the foreground, log to standard error (the only form there is)");
  auto* const teardown =
      app.add_flag("--teardown", options.teardown, "Remove everything of the node; no posternd may run");
  app.add_flag("--guard", options.guard,
               "Put policies in force and block protected interfaces; exit when all of them exist")
      ->needs(config);
  teardown->excludes(config);
  CLI11_PARSE(app, argc, argv);
  if (!options.teardown && options.config.empty()) {
    std::fputs("posternd: --config is required\n", stderr);
    return 2;
  }
  loader::protect_process();
  start_log("posternd", options.name);
  if (const auto outcome = run(options); !outcome) {
    spdlog::error("{}", outcome.error().message());
    return 1;
  }
  return 0;
}

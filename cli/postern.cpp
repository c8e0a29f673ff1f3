#include "cli/postern.hpp"

#include <algorithm>
#include <ostream>

#include <CLI/CLI.hpp>
#include <fmt/ostream.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/capture.hpp"
#include "cli/control_client.hpp"
#include "cli/convert.hpp"
#include "cli/pki_bundle.hpp"
#include "cli/render.hpp"
#include "cli/text.hpp"
#include "cli/words.hpp"
#include "config/load.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

struct Request {
  std::string node;
  bool as_json = false;
  bool skip_secrets = false;
  std::uint32_t confirm = 0;  // config apply: seconds; 0: for good
  ConvertOptions convert;
  CaptureOptions capture;
  bool capture_given = false;  // an option of capture was used
  std::vector<std::string> words;
  Parsed parsed;
};

struct Streams {
  std::ostream& out;
  std::ostream& err;
};

constexpr int end_timeout_ms = 30000;

Failure with(Exit exit, std::string message, std::string hint = {}) {
  return {exit, std::move(message), std::move(hint)};
}

// Names in foreign text are escaped line by line: messages may have several.
void say(std::ostream& err, const Failure& failure) {
  std::string_view rest = failure.message;
  if (rest.ends_with('\n')) rest.remove_suffix(1);
  std::string shown;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    shown += printable(rest.substr(0, end)) + (end == std::string_view::npos ? "" : "\n");
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  fmt::print(err, "postern: {}\n", shown);
  if (!failure.hint.empty()) fmt::print(err, "  {}\n", printable(failure.hint));
}

void say(std::ostream& err, const config::Problems& problems) {
  for (const config::Severity severity : {config::Severity::error, config::Severity::warning})
    for (const config::Problem& problem : problems)
      if (problem.severity == severity) fmt::print(err, "{}\n", printable(problem.text()));
}

json problems_json(const config::Problems& problems, config::Severity severity) {
  json out = json::array();
  for (const config::Problem& problem : problems)
    if (problem.severity == severity)
      out.push_back({{"path", problem.path}, {"message", problem.message}, {"allowed", problem.allowed}});
  return out;
}

Outcome<Reply> ask(const Request& request, const Surroundings& around, const std::string& command, json args) {
  POSTERN_TRY(node, choose_node(request.node, around.run_directory));
  POSTERN_TRY(client, ControlClient::connect(node, around.run_directory));
  return client.ask(command, std::move(args));
}

Outcome<void> print_data(const Request& request, const json& data, std::ostream& out) {
  if (request.as_json) {
    out << render_json(data);
    return {};
  }
  try {
    json shown = data;
    if (request.parsed.detail) shown["detail"] = true;
    out << request.parsed.command->render(shown);
  } catch (const json::exception&) {
    return std::unexpected(with(Exit::failed, "the node's answer has another shape than this postern knows",
                                "postern and posternd must be of one version; --json prints it as it is"));
  }
  return {};
}

Outcome<void> simple(const Request& request, const Surroundings& around, Streams io) {
  POSTERN_TRY(reply, ask(request, around, std::string(request.parsed.command->words), request.parsed.args));
  return print_data(request, reply.data, io.out);
}

Outcome<void> config_check(const Request& request, Streams io) {
  const std::string& file = request.parsed.positional;
  config::LoadOptions options;
  options.read_secret_files = !request.skip_secrets;
  const auto loaded = config::load_file(file, options);
  const config::Problems& problems = loaded ? loaded->warnings : loaded.error();
  if (request.as_json)
    io.out << render_json({{"valid", loaded.has_value()},
                           {"errors", problems_json(problems, config::Severity::error)},
                           {"warnings", problems_json(problems, config::Severity::warning)}});
  else
    say(io.err, problems);
  if (!loaded) return std::unexpected(with(Exit::failed, request.as_json ? "" : printable(file) + " is not valid"));
  if (!request.as_json) fmt::print(io.out, "{} is valid\n", printable(file));
  return {};
}

// What only the node could see, its routes for instance.
config::Problems warnings_of_node(const json& data, const config::Problems& said) {
  config::Problems out;
  for (const json& one : list(data, "warnings")) {
    config::Problem problem{text(one, "path"), text(one, "message"), text(one, "allowed"), config::Severity::warning};
    if (std::ranges::find(said, problem) == said.end()) out.push_back(std::move(problem));
  }
  return out;
}

// config diff and config apply. Checked here first, where every problem can be listed; posternd checks again and reads
// the key files itself.
Outcome<void> config_send(const Request& request, const Surroundings& around, Streams io) {
  const std::string& file = request.parsed.positional;
  const auto refused = [&](const config::Problems& problems) {
    say(io.err, problems);
    return std::unexpected(with(Exit::failed, printable(file) + " is not valid; nothing was changed"));
  };
  auto document = config::read_json_file(file);
  if (!document) return refused(document.error());
  const auto checked = config::load(*document, config::LoadOptions{.read_secret_files = false});
  if (!checked) return refused(checked.error());
  say(io.err, checked->warnings);
  json args = {{"document", std::move(*document)}};
  if (request.confirm != 0) args["confirm"] = request.confirm;
  POSTERN_TRY(reply, ask(request, around, std::string(request.parsed.command->words), std::move(args)));
  say(io.err, warnings_of_node(reply.data, checked->warnings));
  return print_data(request, reply.data, io.out);
}

std::map<std::uint32_t, std::string> device_names(const json& data) {
  std::map<std::uint32_t, std::string> out;
  for (const json& device : list(data, "interfaces"))
    if (device.is_object()) out[static_cast<std::uint32_t>(number(device, "ifindex"))] = text(device, "name");
  return out;
}

Outcome<void> capture(const Request& request, const Surroundings& around, Streams io) {
  POSTERN_TRY(node, choose_node(request.node, around.run_directory));
  POSTERN_TRY(client, ControlClient::connect(node, around.run_directory));
  POSTERN_TRY(output, open_output(request.capture.file));
  POSTERN_TRY(reply, client.ask("capture", {{"side", request.capture.side}}));
  if (!reply.descriptor) return std::unexpected(with(Exit::failed, "the node gave no capture"));
  POSTERN_TRY(result,
              copy_records(reply.descriptor.get(), output.get(), request.capture, node, device_names(reply.data)));
  fmt::print(io.err, "{} packet{} captured\n", result.packets, result.packets == 1 ? "" : "s");
  if (result.malformed != 0) fmt::print(io.err, "{} records were not understood\n", result.malformed);
  if (result.ended_by_node) return std::unexpected(with(Exit::failed, "the worker ended the capture"));
  return {};
}

// What is said of it goes where it is not in the way of the bytes.
Outcome<void> pki_bundle(const Request& request, const Surroundings& around, Streams io) {
  POSTERN_TRY(reply, ask(request, around, std::string(request.parsed.command->words), request.parsed.args));
  const auto written = write_bundle(reply.data, request.parsed.positional);
  if (!written) return written;
  return print_data(request, reply.data, request.parsed.positional == "-" ? io.err : io.out);
}

Outcome<void> end_node(const Request& request, const Surroundings& around, const std::string& command) {
  POSTERN_TRY(reply, ask(request, around, command, json::object()));
  if (reply.daemon > 0 && !wait_for_exit(reply.daemon, end_timeout_ms))
    return std::unexpected(
        with(Exit::failed, fmt::format("posternd (pid {}) has not ended yet", reply.daemon), "look at its log"));
  return {};
}

// Without a daemon, posternd itself does it from what it wrote down.
Outcome<void> tear_down_without_daemon(const std::string& node, const Surroundings& around) {
  const std::string program = around.program_directory + "/posternd";
  const pid_t child = ::fork();
  if (child < 0) return std::unexpected(with(Exit::failed, fail_errno("fork").error().message()));
  if (child == 0) {
    ::execl(program.c_str(), "posternd", "--name", node.c_str(), "--teardown", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    return std::unexpected(with(Exit::failed, "cannot run " + program));
  return std::unexpected(with(Exit::failed, "posternd --teardown failed", ::geteuid() == 0 ? "" : "run as root"));
}

Outcome<void> teardown(const Request& request, const Surroundings& around) {
  auto done = end_node(request, around, "teardown");
  if (done || done.error().exit != Exit::not_running) return done;
  auto node = choose_node(request.node, around.run_directory);
  if (!node) return std::unexpected(node.error());
  return tear_down_without_daemon(*node, around);
}

Outcome<void> dispatch(const Request& request, const Surroundings& around, Streams io) {
  switch (request.parsed.command->action) {
    case Action::ask: return simple(request, around, io);
    case Action::config_check: return config_check(request, io);
    case Action::config_diff:
    case Action::config_apply: return config_send(request, around, io);
    case Action::config_convert:
      return convert_file(request.parsed.positional, request.convert, request.as_json, io.out, io.err);
    case Action::pki_bundle: return pki_bundle(request, around, io);
    case Action::capture: return capture(request, around, io);
    case Action::stop: return end_node(request, around, "stop");
    case Action::teardown: return teardown(request, around);
  }
  return {};
}

void describe(CLI::App& app, Request& request) {
  app.add_option("--node", request.node, "node to speak to; else $POSTERN_NODE, else the only one that runs")
      ->type_name("NAME");
  app.add_flag("--json", request.as_json, "print the data as JSON");
  app.add_flag("--skip-secrets", request.skip_secrets, "config check: do not read key files");
  app.add_option("--confirm", request.confirm, "config apply: go back after so many seconds without config confirm")
      ->check(CLI::Range(1, 86400))
      ->type_name("SECONDS");
  app.add_option("--interface", request.convert.interfaces,
                 "config convert: the Linux device of an interface; repeatable")
      ->type_name("IOS=DEVICE");
  app.add_option("--keys", request.convert.key_directory, "config convert: write the keys into files there")
      ->type_name("DIR");
  app.add_option("--side", request.capture.side, "capture: plain, cipher or both")
      ->check(CLI::IsMember({"plain", "cipher", "both"}))
      ->type_name("SIDE");
  app.add_option("-c,--count", request.capture.count, "capture: end after so many packets")->type_name("COUNT");
  app.add_option("-t,--time", request.capture.seconds, "capture: end after so many seconds (60; 0: when interrupted)")
      ->type_name("SECONDS");
  app.add_option("-w,--write", request.capture.file, "capture: file to write, - for standard output")
      ->type_name("FILE");
  app.add_option("command", request.words, "see below")->type_name("WORDS");
  app.set_version_flag("--version", "postern " POSTERN_VERSION);
  app.footer(command_summary() +
             "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 node not running, 4 not permitted.\nSee postern(8) "
             "and postern.json(5).");
}

// CLI11 reads options; the words are ours, since it knows no unique prefixes.
Outcome<bool> parse(const std::vector<std::string>& arguments, Request& request, Streams io) {
  CLI::App app("Speaks to a Postern node.", "postern");
  describe(app, request);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    io.out << app.help();
    return false;
  } catch (const CLI::CallForVersion&) {
    io.out << "postern " POSTERN_VERSION "\n";
    return false;
  } catch (const CLI::ParseError& error) {
    return std::unexpected(with(Exit::usage, error.what(), "postern --help lists commands and options"));
  }
  auto parsed = parse_words(request.words);
  if (!parsed)
    return std::unexpected(with(Exit::usage, parsed.error().message(), "postern --help lists commands and options"));
  request.parsed = std::move(*parsed);
  const bool capture_option =
      app.count("--side") + app.count("--count") + app.count("--time") + app.count("--write") != 0;
  if (capture_option && request.parsed.command->action != Action::capture)
    return std::unexpected(with(Exit::usage, "--side, -c, -t and -w belong to capture"));
  if (app.count("--interface") + app.count("--keys") != 0 && request.parsed.command->action != Action::config_convert)
    return std::unexpected(with(Exit::usage, "--interface and --keys belong to config convert"));
  if (request.confirm != 0 && request.parsed.command->action != Action::config_apply)
    return std::unexpected(with(Exit::usage, "--confirm belongs to config apply"));
  return true;
}

}  // namespace

Exit run(const std::vector<std::string>& arguments, const Surroundings& around, std::ostream& out, std::ostream& err) {
  const Streams io{out, err};
  Request request;
  const auto wanted = parse(arguments, request, io);
  if (wanted && !*wanted) return Exit::ok;
  const auto done = wanted ? dispatch(request, around, io) : Outcome<void>(std::unexpected(wanted.error()));
  out.flush();
  if (done) return out.good() ? Exit::ok : Exit::failed;
  if (!done.error().message.empty()) say(err, done.error());
  return done.error().exit;
}

}  // namespace postern::cli

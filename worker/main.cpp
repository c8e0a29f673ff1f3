// postern-worker: the data plane of one node. Started by posternd with a listening socket; everything else comes
// through it.
#include <charconv>
#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>

#include <getopt.h>
#include <malloc.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "worker/control.hpp"
#include "worker/sandbox.hpp"

namespace {

using namespace postern;

constexpr int exit_usage = 2;

struct Options {
  std::string node;
  int listen_fd = -1;
};

Result<Options> parse_options(int argc, char** argv) {
  Options out;
  const option known[] = {
      {"node", required_argument, nullptr, 'n'}, {"listen-fd", required_argument, nullptr, 'l'}, {}};
  for (int which = 0; (which = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    const std::string_view value = optarg == nullptr ? "" : optarg;
    if (which == 'n') {
      out.node = value;
    } else if (which == 'l') {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.listen_fd);
      if (error != std::errc{} || end != value.data() + value.size()) return fail("--listen-fd: a number is needed");
    } else {
      return fail("unknown option");
    }
  }
  if (optind != argc || out.node.empty() || out.listen_fd < 3)
    return fail("--node NAME and --listen-fd 3 or above are needed");
  return out;
}

Result<Fd> check_listener(int fd) {
  Fd listener(fd);
  int type = 0, listening = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return fail_errno("--listen-fd");
  size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) return fail_errno("--listen-fd");
  if (type != SOCK_SEQPACKET || listening == 0)
    return fail("--listen-fd: not a listening SOCK_SEQPACKET socket", EINVAL);
  return listener;
}

Result<Fd> watch_signals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&wanted, signal);
  if (::sigprocmask(SIG_BLOCK, &wanted, nullptr) != 0) return fail_errno("sigprocmask");
  for (const int ignored : {SIGPIPE, SIGHUP}) std::signal(ignored, SIG_IGN);
  Fd fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("signalfd");
  return fd;
}

// The C library gives each thread a heap of its own, and asks a file of /proc whether one may shrink, which the sandbox
// forbids. All share the first one: nothing on the packets' way allocates.
void use_one_heap() { ::mallopt(M_ARENA_MAX, 1); }

Result<void> serve(const Options& options) {
  use_one_heap();
  ::close_range(static_cast<unsigned>(options.listen_fd) + 1, ~0U, 0);  // what a careless parent left open
  const uid_t owner = ::getuid();
  POSTERN_TRY(listener, check_listener(options.listen_fd));
  POSTERN_TRY(signals, watch_signals());
  POSTERN_CHECK(open_sandbox());
  Control::Config config;
  config.node = options.node;
  config.listener = std::move(listener);
  config.signals = std::move(signals);
  config.owner = owner;
  POSTERN_TRY(control, Control::create(std::move(config)));
  return control->run();
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "postern-worker: %s\n", options.error().message().c_str());
    return exit_usage;
  }
  start_log("postern-worker", options->node);
  spdlog::info("started");
  if (const auto served = serve(*options); !served) {
    spdlog::critical("{}", served.error().message());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

// postern-resolver --node NAME --listen-fd N
#include "base/child_loop.hpp"
#include "base/log.hpp"
#include "resolver/daemon.hpp"
#include "resolver/fetch.hpp"

namespace {

postern::Result<void> run(postern::Fd listener) {
  POSTERN_CHECK(postern::resolver::choose_services());
  POSTERN_CHECK(postern::resolver::prepare_fetches());
  POSTERN_TRY(daemon, postern::resolver::Daemon::create(std::move(listener), postern::resolver::ask_c_library,
                                                        [](const postern::resolver::UrlQuestion& question) {
                                                          return postern::resolver::fetch(question);
                                                        }));
  spdlog::info("starting");  // also makes the C library read its time zone, which the sandbox would forbid
  POSTERN_CHECK(postern::resolver::enter_sandbox());
  POSTERN_CHECK(daemon->start());
  return daemon->run();
}

}  // namespace

int main(int argc, char** argv) { return postern::run_child("postern-resolver", argc, argv, run); }

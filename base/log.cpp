#include "base/log.hpp"

#include <cstdlib>
#include <memory>
#include <string>

#include <spdlog/sinks/stdout_color_sinks.h>

namespace postern {

void start_log(std::string_view process, std::string_view node, std::string_view level) {
  auto name = std::string(process);
  if (!node.empty()) name += "[" + std::string(node) + "]";
  auto logger = spdlog::stderr_color_mt(name);
  logger->set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%n: %l: %v" : "%H:%M:%S.%e %n %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace postern

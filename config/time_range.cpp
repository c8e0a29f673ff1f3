// Times at which access rules hold, by the clock on the wall.
#include <algorithm>
#include <array>
#include <cstdio>

#include <time.h>

#include "config/acl_options.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 7> day_names = {"sunday",   "monday", "tuesday", "wednesday",
                                                       "thursday", "friday", "saturday"};
constexpr const char* moment_form = "\"2026-12-31T08:00\" or \"2026-12-31T08:00:30\", local time";

std::uint8_t days_of(const json& names) {
  unsigned out = 0;
  for (const json& name : names) {
    const auto& word = name.get_ref<const std::string&>();
    if (word == "daily") out |= 0x7f;
    if (word == "weekdays") out |= 0x3e;
    if (word == "weekend") out |= 0x41;
    const auto day = std::ranges::find(day_names, word);
    if (day != day_names.end()) out |= 1U << (day - day_names.begin());
  }
  return static_cast<std::uint8_t>(out);
}

std::optional<std::int64_t> moment(const std::string& text) {
  tm when{};
  int used = 0;
  when.tm_isdst = -1;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d%n", &when.tm_year, &when.tm_mon, &when.tm_mday, &when.tm_hour,
                  &when.tm_min, &used) != 5)
    return std::nullopt;
  const std::string rest = text.substr(static_cast<std::size_t>(used));
  if (!rest.empty() && (rest.size() != 3 || std::sscanf(rest.c_str(), ":%2d", &when.tm_sec) != 1)) return std::nullopt;
  when.tm_year -= 1900;
  when.tm_mon -= 1;
  const tm said = when;
  const time_t made = ::mktime(&when);
  // mktime() makes the 30th of February another day; the schema has seen to the digits.
  if (made == -1 || when.tm_mday != said.tm_mday || when.tm_mon != said.tm_mon || when.tm_min != said.tm_min)
    return std::nullopt;
  return made;
}

std::optional<std::int64_t> convert_moment(const json& range, const char* key, const std::string& path,
                                           Conversion& conversion) {
  if (!range.contains(key)) return std::nullopt;
  const auto made = moment(range[key].get<std::string>());
  if (!made) conversion.report.error(path + "/" + key, "is no moment", moment_form);
  return made;
}

std::optional<std::uint32_t> of_day(const std::string& text) {
  unsigned hour = 0, minute = 0;
  if (std::sscanf(text.c_str(), "%2u:%2u", &hour, &minute) != 2 || minute > 59 || hour > 24 ||
      hour * 60 + minute > 1440)
    return std::nullopt;
  return hour * 3600 + minute * 60;
}

TimeRange::Periodic convert_periodic(const json& given, const std::string& path, Conversion& conversion) {
  TimeRange::Periodic out;
  out.days = days_of(given["days"]);
  const auto start = of_day(given["start"].get<std::string>()), end = of_day(given["end"].get<std::string>());
  if (!start || !end) {
    conversion.report.error(path, "start or end is no time of a day", "\"00:00\" to \"24:00\"");
    return out;
  }
  if (*end <= *start)
    conversion.report.error(path + "/end", "is not behind start", "a window of one day; two windows around midnight");
  out.start_s = *start;
  out.end_s = *end;
  return out;
}

std::string text_of_moment(std::int64_t when) {
  const time_t seconds = when;
  tm local{};
  ::localtime_r(&seconds, &local);
  char text[32];
  ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &local);
  return text;
}

}  // namespace

bool holds(const TimeRange& range, std::int64_t now) {
  if ((range.start && now < *range.start) || (range.end && now >= *range.end)) return false;
  if (range.periodic.empty()) return true;
  const time_t seconds = now;
  tm local{};
  ::localtime_r(&seconds, &local);
  const auto of_today = static_cast<std::uint32_t>(local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec);
  return std::ranges::any_of(range.periodic, [&](const TimeRange::Periodic& one) {
    return (one.days >> local.tm_wday & 1) != 0 && one.start_s <= of_today && of_today < one.end_s;
  });
}

std::vector<TimeRange> convert_time_ranges(const json& ranges, Conversion& conversion) {
  std::vector<TimeRange> out;
  for (const json& given : ranges) {
    const std::string path = at("/time_ranges/{}", out.size());
    TimeRange& made = out.emplace_back();
    made.name = given["name"];
    made.start = convert_moment(given, "start", path, conversion);
    made.end = convert_moment(given, "end", path, conversion);
    if (made.start && made.end && *made.end <= *made.start)
      conversion.report.error(path + "/end", "is not behind start", "a later moment");
    if (given.contains("periodic"))
      for (const json& one : given["periodic"])
        made.periodic.push_back(convert_periodic(one, at("{}/periodic/{}", path, made.periodic.size()), conversion));
  }
  return out;
}

json render_time_range(const TimeRange& range) {
  json out = {{"name", range.name}};
  if (range.start) out["start"] = text_of_moment(*range.start);
  if (range.end) out["end"] = text_of_moment(*range.end);
  for (const TimeRange::Periodic& one : range.periodic) {
    json days = json::array();
    for (std::size_t day = 0; day < day_names.size(); ++day)
      if ((one.days >> day & 1) != 0) days.push_back(day_names[day]);
    out["periodic"].push_back({{"days", std::move(days)},
                               {"start", fmt::format("{:02}:{:02}", one.start_s / 3600, one.start_s / 60 % 60)},
                               {"end", fmt::format("{:02}:{:02}", one.end_s / 3600, one.end_s / 60 % 60)}});
  }
  return out;
}

}  // namespace postern::config

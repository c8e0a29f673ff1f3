/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* A rule as a list holds it: the reference that the bench walks. Shared by its BPF and C++ halves. */
#ifndef POSTERN_TESTS_LINEAR_RULE_H
#define POSTERN_TESTS_LINEAR_RULE_H

#include "maps/abi.h"

struct linear_rule {
  struct postern_address source, source_mask, destination, destination_mask;
  __u32 flow;
  __u32 reserved;
};

#endif

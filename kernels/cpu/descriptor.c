/* hr_duplicate_descriptor. */
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#include <fcntl.h>

#include "pool.h"

HR_EXPORT int64_t hr_duplicate_descriptor(int64_t descriptor) {
  return fcntl((int)descriptor, F_DUPFD_CLOEXEC, 0);
}

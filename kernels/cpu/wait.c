/* hr_wait_in_context. */
#include "pool.h"

typedef int (*hr_handle_function)(void *handle);

HR_EXPORT int64_t hr_wait_in_context(void *set_current, void *context, void *wait, void *handle) {
  const int status = ((hr_handle_function)(uintptr_t)set_current)(context);
  return status != 0 ? status : ((hr_handle_function)(uintptr_t)wait)(handle);
}

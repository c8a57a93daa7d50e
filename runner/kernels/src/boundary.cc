#include "boundary.h"

static thread_local char last_message[256];

void remember(const char* message) noexcept { std::strncpy(last_message, message, sizeof last_message - 1); }

// Why the last function of this thread that returned FAILED has failed.
EXPORT const char* failure() { return last_message; }

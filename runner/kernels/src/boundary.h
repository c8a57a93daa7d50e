// Where C++ ends: exceptions become what a caller in C can read.
#pragma once

#include <exception>
#include <new>

#include "common.h"

// What a function that can fail returns. Must agree with `OUTCOMES` of native.py.
enum Outcome { DONE, NO_MEMORY, FAILED };

void remember(const char* message) noexcept;  // for `failure`

// Nothing may be thrown in a parallel region: memory is taken, and sizes are looked at, before it begins.
template <typename Function>
int guarded(Function&& function) noexcept {
  try {
    function();
    return DONE;
  } catch (const std::bad_alloc&) {
    return NO_MEMORY;
  } catch (const std::exception& error) {
    remember(error.what());
    return FAILED;
  }
}

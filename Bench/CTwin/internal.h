// Words shared by the twin's sources.
#pragma once

#include "ctwin.h"

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

// For reading, into every cache level.
INLINE void prefetch(const void *at) { __builtin_prefetch(at, 0, 3); }

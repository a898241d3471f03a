// Processor hints that Swift has no word for. Inlined across the module map,
// no call remains. The attributes promise the compiler that nothing here
// allocates or locks, so that the packet path may use them.
#pragma once

#include <sched.h>
#include <stdint.h>
#include <time.h>

#define CLINUX_PACKET_PATH                                  \
  __attribute__((swift_attr("@_noLocks")))                  \
  __attribute__((swift_attr("@_noAllocation")))

/// Asks for the cache line at `address`, for reading, in every cache level.
CLINUX_PACKET_PATH
static inline void clinux_prefetch(const void *address) {
  __builtin_prefetch(address, 0, 3);
}

/// CLOCK_MONOTONIC, ns; no system call where the kernel's clock is the processor's.
CLINUX_PACKET_PATH
static inline uint64_t clinux_monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/// CLOCK_MONOTONIC_COARSE, ns: the time of the last tick, for a few ns.
CLINUX_PACKET_PATH
static inline uint64_t clinux_monotonic_coarse(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/// Lets another thread have the processor.
CLINUX_PACKET_PATH
static inline void clinux_yield(void) { sched_yield(); }

/// Tells the core that this is a spin loop.
CLINUX_PACKET_PATH
static inline void clinux_spin_hint(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

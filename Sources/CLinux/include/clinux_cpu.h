// Processor hints that Swift has no word for. Inlined across the module map,
// no call remains. The attributes promise the compiler that nothing here
// allocates or locks, so that the packet path may use them.
#pragma once

#define CLINUX_PACKET_PATH                                  \
  __attribute__((swift_attr("@_noLocks")))                  \
  __attribute__((swift_attr("@_noAllocation")))

/// Asks for the cache line at `address`, for reading, in every cache level.
CLINUX_PACKET_PATH
static inline void clinux_prefetch(const void *address) {
  __builtin_prefetch(address, 0, 3);
}

/// Tells the core that this is a spin loop.
CLINUX_PACKET_PATH
static inline void clinux_spin_hint(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// The bytes of a frame for BPF/parse.h: plain memory. `holds` has proved that what is read is there.
#pragma once

#include "internal.h"

#include <string.h>

struct wire {
  const uint8_t *base;
  long available;
};

INLINE bool holds(struct wire f, long count, long at) { return at + count <= f.available; }

INLINE uint8_t byte_at(struct wire f, long at) { return f.base[at]; }

INLINE uint16_t word16(struct wire f, long at) {
  uint16_t x;
  memcpy(&x, f.base + at, sizeof x);
  return __builtin_bswap16(x);
}

INLINE uint32_t word32(struct wire f, long at) {
  uint32_t x;
  memcpy(&x, f.base + at, sizeof x);
  return __builtin_bswap32(x);
}

INLINE uint64_t word64(struct wire f, long at) {
  uint64_t x;
  memcpy(&x, f.base + at, sizeof x);
  return __builtin_bswap64(x);
}

#define SPLIT(function) function
#include "../../BPF/parse.h"

INLINE void parse_burst(const uint8_t *const *frames, const uint32_t *available, const uint32_t *wire_lengths,
                        size_t count, struct frame_headers *restrict headers) {
  for (size_t i = 0; i < count; i++) {
    struct frame_headers *h = &headers[i];
    *h = (struct frame_headers){.network_offset = 14};
    h->cause = parse_ethernet((struct wire){frames[i], available[i]}, wire_lengths[i], h);
  }
}

// The rings a socket shares with the kernel: Ring.swift. Single producer, single consumer.
//
// Each side keeps its own copy of both indices and reads the other side's only when the copy says full or
// empty: that line is in the other core's cache. A stale copy is always safe.
#pragma once

#include "internal.h"

struct producer {
  uint32_t *producer, *consumer, *flags;
  void *entries;
  uint32_t size, mask;
  uint32_t next;   // next place to write; ahead of the published index
  uint32_t limit;  // the consumer's index when last read, plus the ring's size
};

struct consumer {
  uint32_t *producer, *consumer;
  const void *entries;
  uint32_t mask;
  uint32_t next;   // next place to read; ahead of the published index
  uint32_t limit;  // the producer's index when last read
};

INLINE uint32_t load_relaxed(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
INLINE uint32_t load_acquire(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
INLINE void store_release(uint32_t *at, uint32_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

INLINE struct producer producer_of(const struct ctwin_ring *ring) {
  return (struct producer){
      .producer = ring->producer,
      .consumer = ring->consumer,
      .flags = ring->flags,
      .entries = ring->entries,
      .size = ring->size,
      .mask = ring->size - 1,
      .next = load_relaxed(ring->producer),
      .limit = load_acquire(ring->consumer) + ring->size,
  };
}

INLINE struct consumer consumer_of(const struct ctwin_ring *ring) {
  uint32_t next = load_relaxed(ring->consumer);
  return (struct consumer){
      .producer = ring->producer,
      .consumer = ring->consumer,
      .entries = ring->entries,
      .mask = ring->size - 1,
      .next = next,
      .limit = next,
  };
}

// Free places, at least `wanted` if there are so many.
INLINE uint32_t room(struct producer *r, uint32_t wanted) {
  // Acquire: the consumer has read an entry before it gave the place back.
  if (r->limit - r->next < wanted) r->limit = load_acquire(r->consumer) + r->size;
  return r->limit - r->next;
}

// Hands all that was put to the consumer. Release: entries are written before the index that shows them.
INLINE void publish(struct producer *r) { store_release(r->producer, r->next); }

// Whether the consumer has not taken all yet.
INLINE bool is_pending(const struct producer *r) { return load_relaxed(r->consumer) != r->next; }

// Whether the kernel sleeps until it is called (XDP_RING_NEED_WAKEUP).
INLINE bool needs_wakeup(const struct producer *r) { return load_relaxed(r->flags) & 1; }

// Looks at the producer's index. Acquire: entries are read after the index that shows them.
INLINE void refresh(struct consumer *r) { r->limit = load_acquire(r->producer); }

// Entries that can be read now, up to `most`.
INLINE uint32_t available(struct consumer *r, uint32_t most) {
  if (r->limit == r->next) refresh(r);
  uint32_t count = r->limit - r->next;
  return count < most ? count : most;
}

// Gives entries back. Release: they are read before their places may be written again.
INLINE void release(struct consumer *r, uint32_t count) {
  r->next += count;
  store_release(r->consumer, r->next);
}

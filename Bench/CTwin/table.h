// The exact tables: keys, their hash, and lookups (KeyHash.swift, TableKeys.swift, PerfectTable.swift).
#pragma once

#include "internal.h"

// Odd, from the golden ratio: carries the low bits of a folded product to the top, where buckets are cut.
#define HASH_FINISH 0x9E3779B97F4A7C15u
// Odd: brings the pilot's 8 bits to the top, where `scaled` looks.
#define HASH_DISPLACE 0xD6E8FEB86659FD93u

// Up to these sizes the bytes are in L2 and the processor overlaps the misses by itself.
#define SLOTS_WITHOUT_PREFETCH (256u << 10)
#define PILOTS_WITHOUT_PREFETCH (512u << 10)

// A reference with this bit would be a list of narrowed rules, which no image holds.
#define LIST_BIT 0x80000000u

INLINE uint64_t mum(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

// Maps a uniform x to 0..<range.
INLINE uint64_t scaled(uint64_t x, uint64_t range) { return (uint64_t)((unsigned __int128)x * range >> 64); }

INLINE uint64_t displaced(uint64_t rest, uint8_t pilot, uint64_t slots_per_part) {
  return scaled((rest ^ pilot) * HASH_DISPLACE, slots_per_part);
}

INLINE uint64_t key_tail(uint16_t port, uint8_t proto, uint8_t kind) {
  return (uint64_t)port << 16 | (uint64_t)proto << 8 | kind;
}

INLINE uint64_t hash_4(const struct ctwin_key4 *key, const uint64_t seed[4]) {
  return mum(key->addresses ^ seed[0], (key->tail & 0xFFFFFFFF) ^ seed[1]) * HASH_FINISH;
}

INLINE uint64_t hash_6(const struct ctwin_key6 *key, const uint64_t seed[4]) {
  uint64_t first = mum(key->client.high ^ seed[0], key->client.low ^ seed[1]);
  // Other words for the second pair, or client and server could be swapped unnoticed.
  uint64_t second = mum(key->server.high ^ seed[2], key->server.low ^ seed[3]);
  return mum(first ^ seed[1], second ^ seed[0] ^ (key->tail & 0xFFFFFFFF)) * HASH_FINISH;
}

INLINE bool holds_4(const struct ctwin_key4 *slot, const struct ctwin_key4 *key) {
  return ((slot->addresses ^ key->addresses) | ((slot->tail ^ key->tail) & 0xFFFFFFFF)) == 0;
}

INLINE bool holds_6(const struct ctwin_key6 *slot, const struct ctwin_key6 *key) {
  return ((slot->client.high ^ key->client.high) | (slot->client.low ^ key->client.low) |
          (slot->server.high ^ key->server.high) | (slot->server.low ^ key->server.low) |
          ((slot->tail ^ key->tail) & 0xFFFFFFFF)) == 0;
}

INLINE void prefetch_slot_4(const struct ctwin_key4 *slot) { prefetch(slot); }

// 40-byte keys straddle cache lines.
INLINE void prefetch_slot_6(const struct ctwin_key6 *slot) {
  prefetch(slot);
  prefetch((const char *)slot + sizeof *slot - 1);
}

#define KEY ctwin_key4
#define NAME(what) what##_4
#include "lookup.h"

#define KEY ctwin_key6
#define NAME(what) what##_6
#include "lookup.h"

// Lookups of a burst of keys, for one kind of key: PerfectTable.swift. Included once for each kind, with
//   KEY   struct of a key
//   NAME  name of a function for it
//
//   hash ─► part ─► bucket ─► pilots[bucket] ─► slot ─► whole key compared

// Buckets and what of the hash is left: uniform among the keys of one bucket.
INLINE uint64_t NAME(split)(const struct KEY *key, const struct ctwin_lookup *t, uint64_t *rest) {
  unsigned __int128 product = (unsigned __int128)NAME(hash)(key, t->seed) * t->bucket_count;
  *rest = (uint64_t)product;
  return (uint64_t)(product >> 64);
}

// The only slot that can hold a key of this bucket and rest.
INLINE const struct KEY *NAME(slot)(const struct ctwin_lookup *t, uint64_t bucket, uint64_t rest) {
  uint64_t base = (bucket >> t->part_shift) * t->slots_per_part;
  return (const struct KEY *)t->slots + base + displaced(rest, t->pilots[bucket], t->slots_per_part);
}

// Without a branch: a miss costs what a hit costs.
INLINE uint32_t NAME(compare)(const struct KEY *slot, const struct KEY *key) {
  uint32_t found = (uint32_t)(slot->tail >> 32);
  return NAME(holds)(slot, key) ? found : NO_RULE;
}

// Linear probing. Load is at most one half, and ctwin_table_open has seen an empty slot, which ends every walk.
NOINLINE uint32_t NAME(plain)(const struct ctwin_lookup *t, const struct KEY *key) {
  const struct KEY *slots = t->slots, *end = slots + t->slots_per_part;
  const struct KEY *slot = slots + scaled(NAME(hash)(key, t->seed), t->slots_per_part);
  while ((slot->tail & 0xFF) != CTWIN_KIND_EMPTY) {
    if (NAME(holds)(slot, key)) return (uint32_t)(slot->tail >> 32);
    if (++slot == end) slot = slots;
  }
  return NO_RULE;
}

INLINE void NAME(lookup)(const struct ctwin_lookup *table, const struct KEY *restrict keys, size_t n,
                         const void **restrict slots, uint64_t *restrict rests, uint32_t *restrict references) {
  // A copy, which no store below can change: it stays in registers.
  const struct ctwin_lookup t = *table;
  if (UNLIKELY(t.is_plain)) {
    for (size_t i = 0; i < n; i++) references[i] = NAME(plain)(table, &keys[i]);
    return;
  }
  uint64_t rest;
  if (t.part_shift == 63 && t.slots_per_part * sizeof(struct KEY) <= SLOTS_WITHOUT_PREFETCH) {
    for (size_t i = 0; i < n; i++) {
      uint64_t bucket = NAME(split)(&keys[i], &t, &rest);
      const struct KEY *slot =
          (const struct KEY *)t.slots + displaced(rest, t.pilots[bucket], t.slots_per_part);
      references[i] = NAME(compare)(slot, &keys[i]);
    }
    return;
  }
  if (t.bucket_count > PILOTS_WITHOUT_PREFETCH) {
    for (size_t i = 0; i < n; i++) {
      uint64_t bucket = NAME(split)(&keys[i], &t, &rests[i]);
      prefetch(t.pilots + bucket);
      references[i] = (uint32_t)bucket;
    }
    for (size_t i = 0; i < n; i++) {
      const struct KEY *slot = NAME(slot)(&t, references[i], rests[i]);
      slots[i] = slot;
      NAME(prefetch_slot)(slot);
    }
  } else {
    for (size_t i = 0; i < n; i++) {
      uint64_t bucket = NAME(split)(&keys[i], &t, &rest);
      const struct KEY *slot = NAME(slot)(&t, bucket, rest);
      slots[i] = slot;
      NAME(prefetch_slot)(slot);
    }
  }
  for (size_t i = 0; i < n; i++) references[i] = NAME(compare)(slots[i], &keys[i]);
}

#undef KEY
#undef NAME

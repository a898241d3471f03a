// The C twin of the packet path: the yardstick for the price of Swift.
//
//   table image ─► ctwin_table ┐
//   RX ring ─► gather ─► parse ─► judge ─► transmit ─► complete ─► refill
//
// Same algorithms, constants, memory layout and memory order as Sources/Frames,
// Sources/Allowlist and Sources/Datapath, exact tiers only: no networks, no
// rules narrowed to VLANs or a side, no MAC bindings.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Causes, headers and verdicts, shared with the kernel's twin.
#include "../../../BPF/frames.h"

// Frames of one burst at the most.
#define CTWIN_BURST 64

// Stable name of a cause, as in Swift's counters; NULL for a number that none has.
const char *ctwin_cause_name(unsigned cause);

// Parses `count` frames. `available` bytes may be read of each; it had `wire_lengths` on the wire.
void ctwin_parse_burst(const uint8_t *const *frames, const uint32_t *available, const uint32_t *wire_lengths,
                       size_t count, struct frame_headers *headers);

// ---- Table ------------------------------------------------------------------

// Slots, as in TableKeys.swift. tail: reference << 32 | port << 16 | protocol << 8 | kind
struct ctwin_key4 {
  uint64_t addresses;  // client << 32 | server
  uint64_t tail;
};
struct ctwin_key6 {
  struct address_words client, server;
  uint64_t tail;
};
_Static_assert(sizeof(struct ctwin_key4) == 16 && sizeof(struct ctwin_key6) == 40, "slots of the image");

#define CTWIN_KIND_EMPTY 0xFF

// What Swift writes: little-endian, offsets from the image's first byte, which lies on a cache line.
struct ctwin_perfect {
  uint64_t slots_offset;  // a multiple of 64
  uint64_t pilots_offset;
  uint64_t seed[4];
  uint64_t bucket_count;
  uint64_t part_shift;
  uint64_t slots_per_part;
  uint64_t count;
  uint64_t is_plain;
};
struct ctwin_image {
  char magic[8];
  uint64_t bytes;
  struct ctwin_perfect exact4, exact6;
  uint64_t ethertypes_offset;  // 8192 bytes, a bit for each EtherType
  uint64_t mode;               // enum mode
  uint64_t rules;
  uint64_t version;
};
// More follows, for tables that this twin cannot read.
_Static_assert(sizeof(struct ctwin_image) == 224, "the image's header has no padding");

#define CTWIN_MAGIC "SKTABLE2"

// A table as the packet path reads it.
struct ctwin_lookup {
  const void *slots;
  const uint8_t *pilots;
  uint64_t seed[4];
  uint64_t bucket_count;
  uint64_t part_shift;
  uint64_t slots_per_part;
  uint64_t count;
  bool is_plain;
};
struct ctwin_table {
  struct ctwin_lookup exact4, exact6;
  const uint64_t *ethertypes;
  uint64_t mode;
  uint64_t rules;
  uint64_t version;
  void *owned;  // what ctwin_table_load read
};

// Checks an image and points `table` into it: the image must outlive it, unchanged. Whatever it holds,
// nothing outside it is ever read through `table`. 0 or -errno; then `why` says what is wrong.
int ctwin_table_open(struct ctwin_table *table, const void *image, size_t size, const char **why);
// The same from a file, read into memory of its own.
int ctwin_table_load(struct ctwin_table *table, const char *path, const char **why);
void ctwin_table_close(struct ctwin_table *table);

// Room for the lookups of one burst.
struct ctwin_scratch {
  struct ctwin_key4 keys4[CTWIN_BURST];
  struct ctwin_key6 keys6[CTWIN_BURST];
  const void *slots[CTWIN_BURST];
  uint64_t rests[CTWIN_BURST];
  uint32_t references[CTWIN_BURST];
  uint8_t list4[CTWIN_BURST];
  uint8_t list6[CTWIN_BURST];
};

// Stages of a verdict, for benchmarks. `list` names `n` ≤ CTWIN_BURST of the headers.
void ctwin_keys4(const struct frame_headers *headers, const uint8_t *list, size_t n, bool is_reply,
                 struct ctwin_key4 *keys);
void ctwin_keys6(const struct frame_headers *headers, const uint8_t *list, size_t n, bool is_reply,
                 struct ctwin_key6 *keys);
// `n` ≤ CTWIN_BURST keys into references: a rule, or NO_RULE.
void ctwin_lookup4(const struct ctwin_table *table, const struct ctwin_key4 *keys, size_t n,
                   struct ctwin_scratch *scratch, uint32_t *references);
void ctwin_lookup6(const struct ctwin_table *table, const struct ctwin_key6 *keys, size_t n,
                   struct ctwin_scratch *scratch, uint32_t *references);
// The verdicts of a burst of `count` ≤ CTWIN_BURST frames; under every mode they are those of enforce.
void ctwin_judge_burst(const struct ctwin_table *table, const struct frame_headers *headers, size_t count,
                       struct ctwin_scratch *scratch, struct verdict *verdicts);

// ---- Worker -----------------------------------------------------------------

// A ring as the kernel, or a test, lays it out. `size` is a power of two.
struct ctwin_ring {
  uint32_t *producer, *consumer, *flags;
  void *entries;
  uint32_t size;
};
struct ctwin_rings {
  struct ctwin_ring rx, tx;             // struct xdp_desc
  struct ctwin_ring fill, completion;  // uint64_t
  int fd;                              // -1: nobody is woken
};

// What the published pointer leads to.
struct ctwin_publication {
  const struct ctwin_table *table;
  uint64_t version;
  uint64_t *const *hits;  // one array of `rules` counters for each worker
};

#define CTWIN_OFFLINE UINT64_MAX
#define CTWIN_RETURNING 0

struct ctwin_worker_config {
  const struct ctwin_rings *sockets;  // the inside port's first
  size_t inside_count, outside_count;
  void *umem;
  size_t frame_count, frame_size;  // frame_size is a power of two
  const struct ctwin_publication *const *current;
  uint64_t *seen;  // a cache line of its own
  size_t index;    // of this worker in `hits`
};

// Counters, in 64-bit words, as in Counters.swift: frames, then bytes.
enum {
  CTWIN_RECEIVED = 0,
  CTWIN_FORWARDED = 2,
  CTWIN_DENIED = 4,
  CTWIN_NOTED = CTWIN_DENIED + 2 * CAUSE_CAPACITY,
  CTWIN_PER_SIDE = CTWIN_NOTED + 2 * CAUSE_CAPACITY,
  CTWIN_POLLS = 2 * CTWIN_PER_SIDE,
  CTWIN_SLEEPS,
  CTWIN_KICKS,
  CTWIN_KICK_ERRORS,
  CTWIN_FREE_FRAMES,
  CTWIN_COUNTERS,
};

struct ctwin_worker;

// NULL and errno on failure. All frames of the UMEM are the worker's.
struct ctwin_worker *ctwin_worker_create(const struct ctwin_worker_config *config);
void ctwin_worker_destroy(struct ctwin_worker *worker);
// Fills the fill rings, before the sockets are bound.
void ctwin_worker_prepare(struct ctwin_worker *worker);
// One turn over all sockets. Returns frames handled.
size_t ctwin_worker_poll(struct ctwin_worker *worker);
// The same with neither parser nor verdicts: everything is allowed. What the rings alone cost.
size_t ctwin_worker_poll_rings(struct ctwin_worker *worker);
bool ctwin_worker_has_pending(const struct ctwin_worker *worker);
void ctwin_worker_retry_stuck(struct ctwin_worker *worker);
void ctwin_worker_go_offline(struct ctwin_worker *worker);
void ctwin_worker_go_online(struct ctwin_worker *worker);
// CTWIN_COUNTERS words; read them with relaxed loads while the worker runs.
uint64_t *ctwin_worker_counters(struct ctwin_worker *worker);

// Where the frames are: free + in_flight + filled = all.
struct ctwin_census {
  size_t free, in_flight, filled;
};
struct ctwin_census ctwin_worker_census(const struct ctwin_worker *worker);
// The stack of free frames, `census.free` of them.
const uint64_t *ctwin_worker_free_frames(const struct ctwin_worker *worker);

// ---- A kernel for benchmarks in memory --------------------------------------

struct ctwin_fake_port {
  uint32_t *rx_producer, *rx_consumer, *tx_producer, *tx_consumer;
  uint32_t *fill_producer, *fill_consumer, *completion_producer, *completion_consumer;
  void *rx, *tx;
  uint64_t *fill, *completion;
  uint32_t rx_mask, tx_mask, fill_mask, completion_mask;
  uint32_t rx_next, tx_next, fill_next, completion_next;
};

// The kernel's side of two sockets. The bytes were written into the UMEM before and stay there: a frame
// that comes back to the fill ring is delivered again with what is in it.
struct ctwin_fake_kernel {
  struct ctwin_fake_port ports[2];
  const uint32_t *lengths;  // by frame of the UMEM
  uint32_t frame_shift;
  uint32_t data_offset;
};

// `lengths` must live as long; frame_size is a power of two.
void ctwin_fake_init(struct ctwin_fake_kernel *kernel, const struct ctwin_rings sockets[2], const uint32_t *lengths,
                     uint32_t frame_size, uint32_t data_offset);
// Receives up to `n` frames on a socket. Returns how many there was room for.
uint32_t ctwin_fake_deliver(struct ctwin_fake_kernel *kernel, int socket, uint32_t n);
// Sends and completes everything in a socket's TX ring. Returns how many.
uint32_t ctwin_fake_transmit(struct ctwin_fake_kernel *kernel, int socket);

// The poll loop of one core: Worker.swift. Parser and verdicts are inlined into it.
//
//   for each socket:  RX ring ─► burst ─► parse ─► judge ─► TX ring of the other side ─► kick
//   then:             completion rings ─► free stack ─► fill rings
#define _GNU_SOURCE
#include "judge.h"
#include "ring.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
  PKT_CONTD = 1,  // XDP_PKT_CONTD (Linux 6.6): the frame goes on in the next descriptor
  // Buffers one frame may span: CONFIG_MAX_SKB_FRAGS + 1 at the most.
  LONGEST_CHAIN = 46,
  // Times a full TX ring is kicked and looked at again before frames are dropped.
  TRANSMIT_RETRIES = 4,
  // Turns between attempts to send on a port that is down; a power of two.
  TURNS_BETWEEN_ATTEMPTS = 1024,
};

struct worker_socket {
  struct consumer rx;
  struct producer tx;
  struct producer fill;
  struct consumer completion;
  int fd;
  uint32_t in_flight;  // sent, but not completed yet
  uint32_t filled;     // in the fill ring or with the kernel, to be received into
  bool is_stuck;       // the port takes nothing; it is asked again now and then
  bool skips_chain;    // in the middle of a frame in more buffers than a burst holds: its rest is dropped
  // The XDP program's count of timed frames, and how many of them were met. The twin times nothing; it only looks, as
  // the Swift worker does for every burst.
  const uint64_t *stamped;
  uint64_t stamps_met;
  struct worker_socket *to;
};

static const uint64_t never_timed;

// What is known of each frame of a burst.
struct burst {
  const uint8_t *frames[CTWIN_BURST];
  uint32_t first_lengths[CTWIN_BURST];  // bytes in the first buffer, which holds all headers
  uint32_t lengths[CTWIN_BURST];        // bytes on the wire
  uint8_t first_descriptors[CTWIN_BURST];
  uint8_t chain_lengths[CTWIN_BURST];
  struct frame_headers headers[CTWIN_BURST];
  struct verdict verdicts[CTWIN_BURST];
};

struct ctwin_worker {
  struct worker_socket *sockets;
  size_t inside_count, socket_count;
  const uint8_t *umem;
  uint64_t *free;  // a stack, so that the warmest frame goes first
  size_t free_count;
  uint64_t frame_mask;
  uint32_t fill_target;
  const struct ctwin_publication *const *current;
  uint64_t *seen;
  size_t index;
  uint64_t *counters;
  struct burst burst;
  struct ctwin_scratch scratch;
};

// ---- Counters: one writer, so two plain moves and an add --------------------

INLINE void add(uint64_t *counter, uint64_t amount) {
  __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

INLINE void add_frame(uint64_t *frames_and_bytes, uint64_t bytes) {
  add(&frames_and_bytes[0], 1);
  add(&frames_and_bytes[1], bytes);
}

INLINE uint64_t *of_side(struct ctwin_worker *w, enum side side, size_t place) {
  return w->counters + (size_t)side * CTWIN_PER_SIDE + place;
}

// ---- Frames' way back -------------------------------------------------------

// Tells the kernel to send. In copy mode one call sends 32 frames, or the budget set at start, and asks for
// another with EAGAIN; a rest is kicked again in the next turn.
INLINE void kick(struct ctwin_worker *w, struct worker_socket *s) {
  if (s->fd < 0 || !needs_wakeup(&s->tx)) return;
  for (int i = 0; i < TRANSMIT_RETRIES; i++) {
    add(&w->counters[CTWIN_KICKS], 1);
    int error = sendto(s->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
    // EBUSY, ENOBUFS: the driver is full. Others (ENETDOWN, ENXIO): the port is down or gone.
    s->is_stuck = error != 0 && error != EAGAIN && error != EBUSY && error != ENOBUFS;
    if (error == 0) return;
    if (error != EAGAIN) {
      add(&w->counters[CTWIN_KICK_ERRORS], 1);
      return;
    }
    if (!is_pending(&s->tx)) return;
  }
}

// Frames that have left come back to the free stack.
INLINE uint32_t complete(struct ctwin_worker *w, struct worker_socket *s) {
  bool is_time =
      !s->is_stuck ||
      (__atomic_load_n(&w->counters[CTWIN_POLLS], __ATOMIC_RELAXED) & (TURNS_BETWEEN_ATTEMPTS - 1)) == 0;
  if (is_pending(&s->tx) && is_time) kick(w, s);
  uint32_t done = available(&s->completion, UINT32_MAX);
  const uint64_t *restrict entries = s->completion.entries;
  uint64_t *restrict free = w->free + w->free_count;
  const uint32_t next = s->completion.next, mask = s->completion.mask;
  const uint64_t frame_mask = w->frame_mask;
  for (uint32_t k = 0; k < done; k++) free[k] = entries[(next + k) & mask] & frame_mask;
  w->free_count += done;
  if (done > 0) release(&s->completion, done);
  s->in_flight -= done;
  return done;
}

// Keeps frames ready for reception. All ports draw on one stack, so traffic in one direction cannot starve
// the other.
INLINE void refill(struct ctwin_worker *w, struct worker_socket *s) {
  uint32_t missing = w->fill_target - s->filled;
  // Not one by one: the line is shared with the kernel.
  if (missing >= 32 || missing == w->fill_target) {
    uint32_t count = missing, places = room(&s->fill, missing);
    if (count > w->free_count) count = (uint32_t)w->free_count;
    if (count > places) count = places;
    uint64_t *restrict entries = s->fill.entries;
    const uint64_t *restrict top = w->free + w->free_count;
    const uint32_t next = s->fill.next, mask = s->fill.mask;
    for (uint32_t k = 0; k < count; k++) entries[(next + k) & mask] = *--top;
    w->free_count -= count;
    s->fill.next += count;
    if (count > 0) publish(&s->fill);
    s->filled += count;
  }
  if (needs_wakeup(&s->fill) && s->fd >= 0) recvfrom(s->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

// Pushes what waits in a full TX ring out, a bounded number of times.
NOINLINE uint32_t make_room(struct ctwin_worker *w, struct worker_socket *to, uint32_t wanted) {
  publish(&to->tx);
  for (int i = 0; i < TRANSMIT_RETRIES; i++) {
    kick(w, to);
    complete(w, to);
    uint32_t places = room(&to->tx, wanted);
    if (places >= wanted) return places;
  }
  return room(&to->tx, wanted);
}

// ---- One burst --------------------------------------------------------------

// Notes where each frame of the burst begins and ends; `taken` descriptors belong to whole ones. Descriptors
// of one frame follow each other, all but the last marked; a frame whose end has not arrived waits.
INLINE uint32_t gather(struct ctwin_worker *w, struct worker_socket *from, uint32_t count, uint32_t *taken) {
  struct burst *restrict burst = &w->burst;
  const struct xdp_desc *restrict entries = from->rx.entries;
  const uint8_t *umem = w->umem;
  const uint32_t next = from->rx.next, mask = from->rx.mask;
  bool skips = from->skips_chain;
  uint32_t frame = 0, chain = 0, whole = 0;
  for (uint32_t i = 0; i < count; i++) {
    const struct xdp_desc descriptor = entries[(next + i) & mask];
    bool goes_on = descriptor.options & PKT_CONTD;
    if (LIKELY(chain == 0)) {
      const uint8_t *data = umem + descriptor.addr;
      prefetch(data);
      burst->frames[frame] = data;
      burst->first_lengths[frame] = descriptor.len;
      burst->lengths[frame] = descriptor.len;
      burst->first_descriptors[frame] = (uint8_t)i;
    } else {
      burst->lengths[frame] += descriptor.len;
    }
    if (UNLIKELY(skips)) {
      burst->first_lengths[frame] = 0;
      burst->chain_lengths[frame] = 1;
      skips = goes_on;
      frame++;
      whole = i + 1;
      continue;
    }
    chain++;
    if (LIKELY(!goes_on) || chain == CTWIN_BURST) {
      burst->chain_lengths[frame] = (uint8_t)chain;
      skips = goes_on;
      frame++;
      whole = i + 1;
      chain = 0;
    }
  }
  from->skips_chain = skips;
  *taken = whole;
  return frame;
}

// The general form: frames in several buffers, a TX ring that is full, a port that is down. `judges` is a constant.
NOINLINE void transmit(struct ctwin_worker *w, enum side side, struct worker_socket *from, uint32_t count,
                     const struct ctwin_publication *publication, bool judges) {
  struct burst *restrict burst = &w->burst;
  struct worker_socket *to = from->to;
  const bool enforces = publication->table->mode == MODE_ENFORCE;
  uint64_t *hits = judges ? publication->hits[w->index] : NULL;
  const struct xdp_desc *restrict rx = from->rx.entries;
  struct xdp_desc *restrict tx = to->tx.entries;
  const uint32_t rx_next = from->rx.next, rx_mask = from->rx.mask, tx_mask = to->tx.mask;
  uint64_t *free = w->free;
  const uint64_t frame_mask = w->frame_mask;
  uint64_t received_bytes = 0, sent_frames = 0, sent_bytes = 0;
  // What a port that is down would take now, it would send when it is up again, under a policy that is gone.
  bool may_wait = !to->is_stuck;
  uint32_t places = may_wait ? room(&to->tx, CTWIN_BURST) : 0;
  // In registers, and written back before anybody else looks.
  uint32_t tx_next = to->tx.next, in_flight = to->in_flight;
  size_t free_count = w->free_count;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t bytes = burst->lengths[i];
    const uint32_t chain = burst->chain_lengths[i];
    uint32_t cause = CAUSE_NONE;
    received_bytes += bytes;
    if (judges) {
      const struct verdict verdict = burst->verdicts[i];
      cause = verdict.cause;
      if (cause == CAUSE_NONE) {
        if (verdict.rule != NO_RULE) add(&hits[verdict.rule], 1);
      } else if (!enforces) {
        add_frame(of_side(w, side, CTWIN_NOTED + 2 * cause), bytes);
        cause = CAUSE_NONE;
      }
    }
    if (UNLIKELY(chain > LONGEST_CHAIN || burst->first_lengths[i] == 0)) cause = CAUSE_FRAME_CHAIN;
    if (UNLIKELY(cause == CAUSE_NONE && places < chain)) {
      if (may_wait) {
        to->tx.next = tx_next;
        to->in_flight = in_flight;
        w->free_count = free_count;
        places = make_room(w, to, chain);
        in_flight = to->in_flight;
        free_count = w->free_count;
      }
      // Once in a burst: the frames behind this one must not wait for each other.
      may_wait = places >= chain;
      if (places < chain) cause = CAUSE_TRANSMIT_FULL;
    }
    const uint32_t first = rx_next + burst->first_descriptors[i];
    if (cause == CAUSE_NONE) {
      for (uint32_t k = 0; k < chain; k++) tx[tx_next++ & tx_mask] = rx[(first + k) & rx_mask];
      in_flight += chain;
      places -= chain;
      sent_frames++;
      sent_bytes += bytes;
    } else {
      add_frame(of_side(w, side, CTWIN_DENIED + 2 * cause), bytes);
      // The kernel leaves head room in front of the data; a frame is known by where it begins.
      for (uint32_t k = 0; k < chain; k++) free[free_count++] = rx[(first + k) & rx_mask].addr & frame_mask;
    }
  }
  to->tx.next = tx_next;
  to->in_flight = in_flight;
  w->free_count = free_count;
  add(of_side(w, side, CTWIN_RECEIVED), count);
  add(of_side(w, side, CTWIN_RECEIVED + 1), received_bytes);
  if (sent_frames > 0) {
    add(of_side(w, side, CTWIN_FORWARDED), sent_frames);
    add(of_side(w, side, CTWIN_FORWARDED + 1), sent_bytes);
    publish(&to->tx);
    kick(w, to);
  }
}

// Notes where each frame of the burst is, if every one has one buffer: the usual case. False if one has more or nothing in
// it, or the rest of such a frame is to be dropped; then `gather` does it.
INLINE bool gather_whole(struct ctwin_worker *w, struct worker_socket *from, uint32_t count) {
  struct burst *restrict burst = &w->burst;
  const struct xdp_desc *restrict entries = from->rx.entries;
  const uint8_t *umem = w->umem;
  const uint32_t next = from->rx.next, mask = from->rx.mask;
  uint32_t options = from->skips_chain ? PKT_CONTD : 0, shortest = UINT32_MAX;
  for (uint32_t i = 0; i < count; i++) {
    const struct xdp_desc descriptor = entries[(next + i) & mask];
    const uint8_t *data = umem + descriptor.addr;
    prefetch(data);
    burst->frames[i] = data;
    burst->lengths[i] = descriptor.len;
    options |= descriptor.options;
    shortest = descriptor.len < shortest ? descriptor.len : shortest;
  }
  return !(options & PKT_CONTD) && shortest > 0;
}

// A frame goes to the other port as a descriptor: its bytes stay where they are. `judges` is a constant.
INLINE void send_whole(struct ctwin_worker *w, enum side side, struct worker_socket *from, uint32_t count,
                       const struct ctwin_publication *publication, bool judges) {
  struct burst *restrict burst = &w->burst;
  struct worker_socket *to = from->to;
  if (UNLIKELY(to->is_stuck || room(&to->tx, count) < count)) {
    for (uint32_t i = 0; i < count; i++) {
      burst->first_lengths[i] = burst->lengths[i];
      burst->first_descriptors[i] = (uint8_t)i;
      burst->chain_lengths[i] = 1;
    }
    if (judges)
      transmit(w, side, from, count, publication, true);
    else
      transmit(w, side, from, count, publication, false);
    return;
  }
  const bool enforces = publication->table->mode == MODE_ENFORCE;
  uint64_t *hits = judges ? publication->hits[w->index] : NULL;
  const struct xdp_desc *restrict rx = from->rx.entries;
  struct xdp_desc *restrict tx = to->tx.entries;
  const uint32_t rx_next = from->rx.next, rx_mask = from->rx.mask, tx_mask = to->tx.mask, tx_first = to->tx.next;
  uint64_t *free = w->free;
  const uint64_t frame_mask = w->frame_mask;
  uint64_t received_bytes = 0, kept_bytes = 0;
  // In registers until the end of the burst.
  uint32_t tx_next = tx_first;
  size_t free_count = w->free_count;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t bytes = burst->lengths[i];
    received_bytes += bytes;
    const struct xdp_desc descriptor = rx[(rx_next + i) & rx_mask];
    if (judges) {
      const struct verdict verdict = burst->verdicts[i];
      if (verdict.cause == CAUSE_NONE) {
        if (verdict.rule != NO_RULE) add(&hits[verdict.rule], 1);
      } else if (enforces) {
        add_frame(of_side(w, side, CTWIN_DENIED + 2 * verdict.cause), bytes);
        kept_bytes += bytes;
        free[free_count++] = descriptor.addr & frame_mask;
        continue;
      } else {
        add_frame(of_side(w, side, CTWIN_NOTED + 2 * verdict.cause), bytes);
      }
    }
    tx[tx_next++ & tx_mask] = descriptor;
  }
  w->free_count = free_count;
  add(of_side(w, side, CTWIN_RECEIVED), count);
  add(of_side(w, side, CTWIN_RECEIVED + 1), received_bytes);
  const uint32_t sent = tx_next - tx_first;
  if (sent > 0) {
    to->in_flight += sent;
    to->tx.next = tx_next;
    add(of_side(w, side, CTWIN_FORWARDED), sent);
    add(of_side(w, side, CTWIN_FORWARDED + 1), received_bytes - kept_bytes);
    publish(&to->tx);
    kick(w, to);
  }
}

// The burst with frames in several buffers.
NOINLINE uint32_t forward_chains(struct ctwin_worker *w, enum side side, struct worker_socket *from, uint32_t waiting,
                                 const struct ctwin_publication *publication, bool judges) {
  uint32_t taken, count = gather(w, from, waiting, &taken);
  if (taken == 0) {
    // The beginning of a frame whose end has not arrived.
    refresh(&from->rx);
    return 0;
  }
  struct burst *burst = &w->burst;
  if (judges) {
    parse_burst(burst->frames, burst->first_lengths, burst->lengths, count, burst->headers);
    judge_burst(publication->table, burst->headers, count, &w->scratch, burst->verdicts);
    transmit(w, side, from, count, publication, true);
  } else {
    transmit(w, side, from, count, publication, false);
  }
  release(&from->rx, taken);
  from->filled -= taken;
  return count;
}

// Receives a burst from a socket, judges it and sends what may pass.
INLINE uint32_t forward(struct ctwin_worker *w, enum side side, struct worker_socket *from,
                        const struct ctwin_publication *publication, bool judges) {
  uint32_t waiting = available(&from->rx, CTWIN_BURST);
  if (waiting == 0) return 0;
  if (UNLIKELY(!gather_whole(w, from, waiting))) return forward_chains(w, side, from, waiting, publication, judges);
  struct burst *burst = &w->burst;
  if (judges) {
    if (UNLIKELY(__atomic_load_n(from->stamped, __ATOMIC_RELAXED) != from->stamps_met)) from->stamps_met = *from->stamped;
    parse_burst(burst->frames, burst->lengths, burst->lengths, waiting, burst->headers);
    judge_burst(publication->table, burst->headers, waiting, &w->scratch, burst->verdicts);
  }
  send_whole(w, side, from, waiting, publication, judges);
  release(&from->rx, waiting);
  from->filled -= waiting;
  return waiting;
}

INLINE size_t poll_sockets(struct ctwin_worker *w, bool judges) {
  // Sequentially consistent, as go_online before it: the publisher stores the pointer and then reads `seen`,
  // we store `seen` and then read the pointer. On x86-64 an acquire load is the same instruction.
  const struct ctwin_publication *publication = __atomic_load_n(w->current, __ATOMIC_SEQ_CST);
  struct worker_socket *sockets = w->sockets;
  const size_t inside_count = w->inside_count, count = w->socket_count;
  size_t handled = 0;
  for (size_t i = 0; i < inside_count; i++) handled += forward(w, SIDE_INSIDE, &sockets[i], publication, judges);
  for (size_t i = inside_count; i < count; i++) handled += forward(w, SIDE_OUTSIDE, &sockets[i], publication, judges);
  // The rest of a burst that one call could not send.
  for (size_t i = 0; i < count; i++)
    if (sockets[i].in_flight > 0) handled += complete(w, &sockets[i]);
  for (size_t i = 0; i < count; i++) refill(w, &sockets[i]);
  __atomic_store_n(w->seen, publication->version, __ATOMIC_RELEASE);
  add(&w->counters[CTWIN_POLLS], 1);
  __atomic_store_n(&w->counters[CTWIN_FREE_FRAMES], w->free_count, __ATOMIC_RELAXED);
  return handled;
}

size_t ctwin_worker_poll(struct ctwin_worker *worker) { return poll_sockets(worker, true); }

size_t ctwin_worker_poll_rings(struct ctwin_worker *worker) { return poll_sockets(worker, false); }

// ---- Around the loop --------------------------------------------------------

static void *zeroed_lines(size_t size) {
  // Two lines of padding: the prefetcher fetches lines in pairs.
  size = (size + 128 + 127) / 128 * 128;
  void *memory = aligned_alloc(128, size);
  if (memory) __builtin_memset(memory, 0, size);
  return memory;
}

struct ctwin_worker *ctwin_worker_create(const struct ctwin_worker_config *config) {
  size_t count = config->inside_count + config->outside_count;
  if (!config->inside_count || !config->outside_count || !config->frame_size ||
      config->frame_size & (config->frame_size - 1)) {
    errno = EINVAL;
    return NULL;
  }
  struct ctwin_worker *w = zeroed_lines(sizeof *w);
  if (!w) return NULL;
  w->sockets = zeroed_lines(count * sizeof *w->sockets);
  w->counters = zeroed_lines(CTWIN_COUNTERS * sizeof *w->counters);
  w->free = zeroed_lines(config->frame_count * sizeof *w->free);
  if (!w->sockets || !w->counters || !w->free) {
    ctwin_worker_destroy(w);
    errno = ENOMEM;
    return NULL;
  }
  w->inside_count = config->inside_count;
  w->socket_count = count;
  for (size_t i = 0; i < count; i++) {
    const struct ctwin_rings *rings = &config->sockets[i];
    bool is_inside = i < config->inside_count;
    size_t to = is_inside ? config->inside_count + i % config->outside_count
                          : (i - config->inside_count) % config->inside_count;
    w->sockets[i] = (struct worker_socket){
        .rx = consumer_of(&rings->rx),
        .tx = producer_of(&rings->tx),
        .fill = producer_of(&rings->fill),
        .completion = consumer_of(&rings->completion),
        .fd = rings->fd,
        .to = &w->sockets[to],
        .stamped = &never_timed,
    };
  }
  w->umem = config->umem;
  for (size_t i = 0; i < config->frame_count; i++)
    w->free[i] = (config->frame_count - 1 - i) * config->frame_size;
  w->free_count = config->frame_count;
  w->frame_mask = ~(uint64_t)(config->frame_size - 1);
  // Half of the frames wait for reception, spread over the sockets; the other half is on its way out.
  w->fill_target = (uint32_t)(config->frame_count / 2 / count);
  w->current = config->current;
  w->seen = config->seen;
  w->index = config->index;
  return w;
}

void ctwin_worker_destroy(struct ctwin_worker *worker) {
  if (!worker) return;
  free(worker->sockets);
  free(worker->counters);
  free(worker->free);
  free(worker);
}

void ctwin_worker_prepare(struct ctwin_worker *worker) {
  for (size_t i = 0; i < worker->socket_count; i++) refill(worker, &worker->sockets[i]);
}

bool ctwin_worker_has_pending(const struct ctwin_worker *worker) {
  for (size_t i = 0; i < worker->socket_count; i++)
    if (is_pending(&worker->sockets[i].tx) && !worker->sockets[i].is_stuck) return true;
  return false;
}

void ctwin_worker_retry_stuck(struct ctwin_worker *worker) {
  for (size_t i = 0; i < worker->socket_count; i++) worker->sockets[i].is_stuck = false;
}

void ctwin_worker_go_offline(struct ctwin_worker *worker) {
  __atomic_store_n(worker->seen, CTWIN_OFFLINE, __ATOMIC_RELEASE);
}

void ctwin_worker_go_online(struct ctwin_worker *worker) {
  __atomic_store_n(worker->seen, CTWIN_RETURNING, __ATOMIC_SEQ_CST);
}

uint64_t *ctwin_worker_counters(struct ctwin_worker *worker) { return worker->counters; }

struct ctwin_census ctwin_worker_census(const struct ctwin_worker *worker) {
  struct ctwin_census census = {.free = worker->free_count};
  for (size_t i = 0; i < worker->socket_count; i++) {
    census.in_flight += worker->sockets[i].in_flight;
    census.filled += worker->sockets[i].filled;
  }
  return census;
}

const uint64_t *ctwin_worker_free_frames(const struct ctwin_worker *worker) { return worker->free; }

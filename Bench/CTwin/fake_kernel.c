// The kernel's side of two sockets, in plain memory, for benchmarks: the Swift worker and the twin are driven
// by the same code, which does as little as it can.
#include "ring.h"

#include <linux/if_xdp.h>

void ctwin_fake_init(struct ctwin_fake_kernel *kernel, const struct ctwin_rings sockets[2], const uint32_t *lengths,
                     uint32_t frame_size, uint32_t data_offset) {
  *kernel = (struct ctwin_fake_kernel){
      .lengths = lengths,
      .frame_shift = (uint32_t)__builtin_ctz(frame_size),
      .data_offset = data_offset,
  };
  for (int i = 0; i < 2; i++) {
    const struct ctwin_rings *s = &sockets[i];
    kernel->ports[i] = (struct ctwin_fake_port){
        .rx_producer = s->rx.producer,
        .rx_consumer = s->rx.consumer,
        .tx_producer = s->tx.producer,
        .tx_consumer = s->tx.consumer,
        .fill_producer = s->fill.producer,
        .fill_consumer = s->fill.consumer,
        .completion_producer = s->completion.producer,
        .completion_consumer = s->completion.consumer,
        .rx = s->rx.entries,
        .tx = s->tx.entries,
        .fill = s->fill.entries,
        .completion = s->completion.entries,
        .rx_mask = s->rx.size - 1,
        .tx_mask = s->tx.size - 1,
        .fill_mask = s->fill.size - 1,
        .completion_mask = s->completion.size - 1,
        .rx_next = load_relaxed(s->rx.producer),
        .tx_next = load_relaxed(s->tx.consumer),
        .fill_next = load_relaxed(s->fill.consumer),
        .completion_next = load_relaxed(s->completion.producer),
    };
  }
}

uint32_t ctwin_fake_deliver(struct ctwin_fake_kernel *kernel, int socket, uint32_t n) {
  struct ctwin_fake_port *p = &kernel->ports[socket];
  struct xdp_desc *restrict rx = p->rx;
  const uint64_t *restrict fill = p->fill;
  const uint32_t *restrict lengths = kernel->lengths;
  const uint32_t rx_next = p->rx_next, fill_next = p->fill_next, rx_mask = p->rx_mask, fill_mask = p->fill_mask;
  const uint32_t shift = kernel->frame_shift, offset = kernel->data_offset;
  const uint32_t filled = load_acquire(p->fill_producer) - fill_next;
  const uint32_t places = rx_mask + 1 - (rx_next - load_acquire(p->rx_consumer));
  if (n > filled) n = filled;
  if (n > places) n = places;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t frame = fill[(fill_next + i) & fill_mask];
    rx[(rx_next + i) & rx_mask] = (struct xdp_desc){.addr = frame + offset, .len = lengths[frame >> shift]};
  }
  p->fill_next = fill_next + n;
  p->rx_next = rx_next + n;
  store_release(p->fill_consumer, p->fill_next);
  store_release(p->rx_producer, p->rx_next);
  return n;
}

uint32_t ctwin_fake_transmit(struct ctwin_fake_kernel *kernel, int socket) {
  struct ctwin_fake_port *p = &kernel->ports[socket];
  const struct xdp_desc *restrict tx = p->tx;
  uint64_t *restrict completion = p->completion;
  const uint32_t tx_next = p->tx_next, completion_next = p->completion_next;
  const uint32_t tx_mask = p->tx_mask, completion_mask = p->completion_mask;
  uint32_t n = load_acquire(p->tx_producer) - tx_next;
  const uint32_t places = completion_mask + 1 - (completion_next - load_acquire(p->completion_consumer));
  if (n > places) n = places;
  for (uint32_t i = 0; i < n; i++)
    completion[(completion_next + i) & completion_mask] = tx[(tx_next + i) & tx_mask].addr;
  p->tx_next = tx_next + n;
  p->completion_next = completion_next + n;
  store_release(p->tx_consumer, p->tx_next);
  store_release(p->completion_producer, p->completion_next);
  return n;
}

// The verdicts of one burst: Judge.swift, exact tiers.
//
//   sort by form ─► exact, sender as client ─► exact, sender as server
//
// Each pass works on the frames no earlier one has allowed. What nothing allows is denied.
#pragma once

#include "wire.h"
#include "table.h"

INLINE bool allows_ethertype(const struct ctwin_table *t, uint16_t type) {
  return t->ethertypes[type >> 6] >> (type & 63) & 1;
}

// A kind no stored key has: the lookup misses, without a branch here.
INLINE uint8_t key_kind(uint8_t marks, bool is_reply) {
  return marks & (is_reply ? MARK_NEVER_REVERSE : MARK_NEVER_FORWARD);
}

INLINE void make_keys_4(const struct frame_headers *restrict headers, const uint8_t *restrict list, size_t n,
                        bool is_reply, struct ctwin_key4 *restrict keys) {
  for (size_t i = 0; i < n; i++) {
    const struct frame_headers *h = &headers[list[i]];
    uint64_t client = is_reply ? h->destination.low : h->source.low;
    uint64_t server = is_reply ? h->source.low : h->destination.low;
    keys[i] = (struct ctwin_key4){
        .addresses = client << 32 | (uint32_t)server,
        .tail = key_tail(is_reply ? h->source_port : h->destination_port, h->ip_protocol,
                         key_kind(h->marks, is_reply)),
    };
  }
}

INLINE void make_keys_6(const struct frame_headers *restrict headers, const uint8_t *restrict list, size_t n,
                        bool is_reply, struct ctwin_key6 *restrict keys) {
  for (size_t i = 0; i < n; i++) {
    const struct frame_headers *h = &headers[list[i]];
    keys[i] = (struct ctwin_key6){
        .client = is_reply ? h->destination : h->source,
        .server = is_reply ? h->source : h->destination,
        .tail = key_tail(is_reply ? h->source_port : h->destination_port, h->ip_protocol,
                         key_kind(h->marks, is_reply)),
    };
  }
}

// Writes a verdict if there is a rule. Returns whether the frame is settled: a server's attempt to open a
// connection is not, another rule may make it the client.
INLINE bool record(uint32_t rule, const struct frame_headers *h, bool is_reply, struct verdict *verdict) {
  if (rule & LIST_BIT) return false;  // no rule
  if (is_reply && h->ip_protocol == PROTO_TCP && (h->tcp_flags & 0x12) == 0x02 && !(h->marks & MARK_ICMP_ERROR)) {
    verdict->cause = CAUSE_SYN_FROM_SERVER;
    return false;
  }
  *verdict = (struct verdict){.rule = rule, .cause = CAUSE_NONE, .is_reply = is_reply};
  return true;
}

// Turns references into verdicts. Returns how many of the list are still not allowed; they stay in it, in order.
INLINE size_t settle(const struct frame_headers *restrict headers, const uint32_t *restrict references,
                     uint8_t *restrict list, size_t n, bool is_reply, struct verdict *restrict verdicts) {
  size_t left = 0;
  for (size_t i = 0; i < n; i++) {
    uint8_t place = list[i];
    list[left] = place;
    left += !record(references[i], &headers[place], is_reply, &verdicts[place]);
  }
  return left;
}

INLINE void judge_burst(const struct ctwin_table *t, const struct frame_headers *restrict headers, size_t count,
                        struct ctwin_scratch *restrict s, struct verdict *restrict verdicts) {
  size_t n4 = 0, n6 = 0;
  for (size_t i = 0; i < count; i++) {
    uint8_t form = headers[i].form;
    uint8_t cause = headers[i].cause;
    if (LIKELY(cause == CAUSE_NONE)) {
      if (LIKELY(form == FORM_IPV4 || form == FORM_IPV6)) {
        if (headers[i].marks & MARK_LATER_FRAGMENT) {
          cause = CAUSE_FRAGMENT_UNTRACKED;
        } else {
          cause = CAUSE_NOT_IN_POLICY;
          s->list4[n4] = (uint8_t)i;
          s->list6[n6] = (uint8_t)i;
          n4 += form == FORM_IPV4;
          n6 += form == FORM_IPV6;
        }
      } else {
        // Neighbour discovery is IPv6's ARP, and passes where ARP does.
        uint16_t type = form == FORM_NEIGHBOUR ? TYPE_ARP : headers[i].ethertype;
        cause = allows_ethertype(t, type) ? CAUSE_NONE : CAUSE_ETHERTYPE_NOT_ALLOWED;
      }
    }
    verdicts[i] = (struct verdict){.rule = NO_RULE, .cause = cause};
  }
  if (n4 > 0 && t->exact4.count > 0) {
    make_keys_4(headers, s->list4, n4, false, s->keys4);
    lookup_4(&t->exact4, s->keys4, n4, s->slots, s->rests, s->references);
    n4 = settle(headers, s->references, s->list4, n4, false, verdicts);
    if (n4 > 0) {
      make_keys_4(headers, s->list4, n4, true, s->keys4);
      lookup_4(&t->exact4, s->keys4, n4, s->slots, s->rests, s->references);
      settle(headers, s->references, s->list4, n4, true, verdicts);
    }
  }
  if (n6 > 0 && t->exact6.count > 0) {
    make_keys_6(headers, s->list6, n6, false, s->keys6);
    lookup_6(&t->exact6, s->keys6, n6, s->slots, s->rests, s->references);
    n6 = settle(headers, s->references, s->list6, n6, false, verdicts);
    if (n6 > 0) {
      make_keys_6(headers, s->list6, n6, true, s->keys6);
      lookup_6(&t->exact6, s->keys6, n6, s->slots, s->rests, s->references);
      settle(headers, s->references, s->list6, n6, true, verdicts);
    }
  }
}

// What a frame is and what becomes of it, in C: Sources/Frames and Sources/Allowlist's Verdict.swift, number by number.
//
// For the kernel's twin of the worker (twin.h) and for the C twin of the packet path (Bench/CTwin).
#pragma once

#ifdef __bpf__
#include <linux/types.h>
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __u64 uint64_t;
typedef _Bool bool;
#define true 1
#define false 0
#else
#include <stdbool.h>
#include <stdint.h>
#endif

enum side { SIDE_INSIDE, SIDE_OUTSIDE };
enum mode { MODE_LEARN, MODE_MONITOR, MODE_ENFORCE };

// Why a frame did not pass; the numbers of Swift's `Cause`.
enum cause {
  CAUSE_NONE,
  CAUSE_TRUNCATED,
  CAUSE_ETHERNET_HEADER,
  CAUSE_VLAN_DEPTH,
  CAUSE_LLC_HEADER,
  CAUSE_LLC_ENCAPSULATED,
  CAUSE_ARP_HEADER,
  CAUSE_IP_HEADER,
  CAUSE_IP_LENGTH,
  CAUSE_IP_OPTIONS,
  CAUSE_IPV6_EXTENSIONS,
  CAUSE_FRAGMENT_TINY,
  CAUSE_FRAGMENT_OVERLAP,
  CAUSE_FRAGMENT_LENGTH,
  CAUSE_TCP_HEADER,
  CAUSE_TCP_FLAGS,
  CAUSE_UDP_LENGTH,
  CAUSE_ICMP_HEADER,
  CAUSE_ICMP_ERROR_UNRELATED,
  CAUSE_NEIGHBOUR_HEADER,
  CAUSE_TRANSPORT_HEADER,
  CAUSE_NOT_IN_POLICY = 32,
  CAUSE_SYN_FROM_SERVER,
  CAUSE_ETHERTYPE_NOT_ALLOWED,
  CAUSE_FRAGMENT_UNTRACKED,
  CAUSE_ADDRESS_BINDING,
  // 37 to 43 are of the flow table, which is not here.
  CAUSE_WRONG_SIDE = 44,
  CAUSE_QUARANTINED,
  CAUSE_ISOLATED,
  CAUSE_TRANSMIT_FULL = 48,
  CAUSE_FRAME_CHAIN,
  CAUSE_NO_WORKER,
  CAUSE_CAPACITY = 64,
};

enum form { FORM_OTHER, FORM_IPV4, FORM_IPV6, FORM_ARP, FORM_NEIGHBOUR };

enum marks {
  MARK_FIRST_FRAGMENT = 1,
  MARK_LATER_FRAGMENT = 2,
  MARK_ICMP_ERROR = 4,
  MARK_NEVER_FORWARD = 8,
  MARK_NEVER_REVERSE = 16,
};

struct address_words {
  uint64_t high, low;
};

// Swift's FrameHeaders, field by field.
struct frame_headers {
  struct address_words source, destination;
  uint16_t source_port, destination_port;
  uint16_t ethertype;
  uint16_t vlan;
  uint8_t form;
  uint8_t cause;
  uint8_t ip_protocol;
  uint8_t tcp_flags;
  uint8_t network_offset;
  uint8_t marks;
  uint16_t transport_offset;
  // Swift's `detail`; a fragment's place is not filled in here.
  uint64_t claimed_mac;
};
_Static_assert(sizeof(struct frame_headers) == 56, "Swift's MemoryLayout<FrameHeaders>.size");

struct verdict {
  uint32_t rule;
  uint8_t cause;
  bool is_reply;
};

#define NO_RULE 0xFFFFFFFFu

// Ethernet … TCP/UDP/ICMP of one frame into struct frame_headers: Sources/Frames, check by check.
//
// The includer brings the bytes: `struct wire`, and `holds`, `byte_at`, `word16`, `word32`, `word64` over it; and INLINE,
// NOINLINE, LIKELY, UNLIKELY. SPLIT(f) is f, or another function that does the same: the verifier takes a program in parts.
//
// Every byte is hostile. `holds` proves once for each header that it may be read; offsets are
// sums of 16-bit lengths and cannot overflow a long.
#pragma once

#include "frames.h"

enum {
  TYPE_IPV4 = 0x0800,
  TYPE_ARP = 0x0806,
  TYPE_IPV6 = 0x86DD,
  TYPE_VLAN = 0x8100,
  TYPE_SERVICE_VLAN = 0x88A8,
  TYPE_OLD_SERVICE_VLAN = 0x9100,
  TYPE_MINIMUM = 0x0600,
  LENGTH_MAXIMUM = 1500,

  PROTO_HOP_BY_HOP = 0,
  PROTO_ICMP = 1,
  PROTO_TCP = 6,
  PROTO_UDP = 17,
  PROTO_DCCP = 33,
  PROTO_ROUTING = 43,
  PROTO_FRAGMENT = 44,
  PROTO_ICMPV6 = 58,
  PROTO_DESTINATION_OPTIONS = 60,
  PROTO_SCTP = 132,
  PROTO_UDP_LITE = 136,

  // More extension headers than any stack sends.
  EXTENSION_BOUND = 6,
};

INLINE struct address_words ipv4_at(struct wire f, long at) { return (struct address_words){0, word32(f, at)}; }

INLINE struct address_words ipv6_at(struct wire f, long at) {
  return (struct address_words){word64(f, at), word64(f, at + 8)};
}

INLINE uint64_t mac_at(struct wire f, long at) { return (uint64_t)word16(f, at) << 32 | word32(f, at + 2); }

INLINE bool same_address(struct address_words a, struct address_words b) {
  return ((a.high ^ b.high) | (a.low ^ b.low)) == 0;
}

INLINE bool is_vlan_tag(uint16_t type) {
  return type == TYPE_VLAN || type == TYPE_SERVICE_VLAN || type == TYPE_OLD_SERVICE_VLAN;
}

INLINE bool has_ports(uint8_t proto) {
  return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP || proto == PROTO_UDP_LITE ||
         proto == PROTO_DCCP;
}

// ---- Not IP -----------------------------------------------------------------

NOINLINE uint8_t parse_llc(struct wire f, long at, long wire_length, struct frame_headers *h) {
  long length = h->ethertype;
  if (length > LENGTH_MAXIMUM) return CAUSE_ETHERNET_HEADER;
  if (at + length > wire_length) return CAUSE_TRUNCATED;
  if (length < 3) return CAUSE_LLC_HEADER;
  if (!holds(f, 3, at)) return CAUSE_TRUNCATED;
  uint8_t dsap = byte_at(f, at);
  h->ethertype = dsap;
  // SNAP can carry any EtherType, judged by nobody; OUI 00-00-F8 is its bridge-tunnel form.
  if ((dsap & 0xFE) == 0xAA) {
    if (length < 8) return CAUSE_LLC_HEADER;
    if (!holds(f, 8, at)) return CAUSE_TRUNCATED;
    uint32_t oui = word32(f, at + 2) & 0x00FFFFFF;
    if (oui == 0 || oui == 0xF8) return CAUSE_LLC_ENCAPSULATED;
  }
  // IP straight over LLC.
  return dsap == 0x06 ? CAUSE_LLC_ENCAPSULATED : CAUSE_NONE;
}

NOINLINE uint8_t parse_arp(struct wire f, long at, struct frame_headers *h) {
  if (!holds(f, 28, at)) return CAUSE_TRUNCATED;
  h->form = FORM_ARP;
  // Ethernet, IPv4, 6, 4.
  if (word16(f, at) != 1 || word16(f, at + 2) != TYPE_IPV4 || word16(f, at + 4) != 0x0604) return CAUSE_ARP_HEADER;
  uint16_t operation = word16(f, at + 6);
  if (operation != 1 && operation != 2) return CAUSE_ARP_HEADER;
  h->claimed_mac = mac_at(f, at + 8);
  h->source = ipv4_at(f, at + 14);
  h->destination = ipv4_at(f, at + 24);
  // A probe claims what it asks for.
  if (h->source.low == 0) h->source = h->destination;
  return CAUSE_NONE;
}

// ---- Transport --------------------------------------------------------------

// A header that does not fit: in a first fragment that is an attempt to hide it.
INLINE uint8_t too_short(const struct frame_headers *h, uint8_t cause) {
  return h->marks & MARK_FIRST_FRAGMENT ? CAUSE_FRAGMENT_TINY : cause;
}

INLINE bool is_icmp_error(uint8_t type, uint8_t form) {
  return form == FORM_IPV6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

// The request a reply answers, or -1.
INLINE int icmp_request_of(uint8_t type, uint8_t form) {
  if (form == FORM_IPV6) return type == 129 ? 128 : -1;
  switch (type) {
  case 0: return 8;
  case 14: return 13;
  case 16: return 15;
  case 18: return 17;
  default: return -1;
  }
}

// A request is the client's, a reply the server's.
INLINE void set_icmp_ports(uint8_t type, uint8_t code, struct frame_headers *h) {
  int request = icmp_request_of(type, h->form);
  h->destination_port = (uint16_t)(type << 8 | code);
  if (request >= 0) {
    h->marks |= MARK_NEVER_FORWARD;
    h->source_port = (uint16_t)(request << 8 | code);
  } else {
    h->marks |= MARK_NEVER_REVERSE;
  }
}

// Puts the packet inside an ICMP error into the headers: the verdict is that of its conversation.
// sender_counts: only the packet's receiver, which `sender` must be, can send this error.
NOINLINE uint8_t parse_embedded(struct wire f, long at, long length, bool sender_counts, struct frame_headers *h) {
  struct address_words sender = h->source, receiver = h->destination;
  bool is_ipv6 = h->form == FORM_IPV6;
  long fixed = is_ipv6 ? 40 : 20;
  if (length < fixed + 8) return CAUSE_ICMP_HEADER;
  if (!holds(f, fixed + 8, at)) return CAUSE_TRUNCATED;
  h->marks |= MARK_ICMP_ERROR;
  long transport = at + fixed;
  if (is_ipv6) {
    if (byte_at(f, at) >> 4 != 6) return CAUSE_ICMP_HEADER;
    h->source = ipv6_at(f, at + 8);
    h->destination = ipv6_at(f, at + 24);
    // No walk here: an error about a packet with extension headers is rare, and denied.
    h->ip_protocol = byte_at(f, at + 6);
  } else {
    long header_length = (byte_at(f, at) & 0x0F) * 4;
    if (byte_at(f, at) >> 4 != 4 || header_length < 20 || length < header_length + 8) return CAUSE_ICMP_HEADER;
    if (!holds(f, header_length + 8, at)) return CAUSE_TRUNCATED;
    // A later fragment has no ports to judge by.
    if (word16(f, at + 6) & 0x1FFF) return CAUSE_ICMP_HEADER;
    h->source = ipv4_at(f, at + 12);
    h->destination = ipv4_at(f, at + 16);
    h->ip_protocol = byte_at(f, at + 9);
    transport = at + header_length;
  }
  if (!same_address(h->source, receiver) || (sender_counts && !same_address(sender, h->destination)))
    return CAUSE_ICMP_ERROR_UNRELATED;
  h->source_port = 0;
  h->destination_port = 0;
  uint8_t proto = h->ip_protocol;
  h->transport_offset = (uint16_t)transport;
  if (has_ports(proto)) {
    h->source_port = word16(f, transport);
    h->destination_port = word16(f, transport + 2);
  } else if (proto == (is_ipv6 ? PROTO_ICMPV6 : PROTO_ICMP)) {
    uint8_t type = byte_at(f, transport);
    // No error answers an error.
    if (is_icmp_error(type, h->form)) return CAUSE_ICMP_ERROR_UNRELATED;
    set_icmp_ports(type, byte_at(f, transport + 1), h);
  }
  return CAUSE_NONE;
}

INLINE uint8_t parse_icmp(struct wire f, long at, long length, struct frame_headers *h) {
  if (length < 8) return too_short(h, CAUSE_ICMP_HEADER);
  if (!holds(f, 8, at)) return CAUSE_TRUNCATED;
  uint8_t type = byte_at(f, at), code = byte_at(f, at + 1);
  if (is_icmp_error(type, h->form)) {
    bool is_ipv6 = h->form == FORM_IPV6;
    // An error fits one packet, and has no room for a message of its own.
    if (h->marks) return CAUSE_ICMP_HEADER;
    if (length > (is_ipv6 ? 1280 - 40 : 576 - 20)) return CAUSE_ICMP_HEADER;
    // Port and protocol unreachable come from the host itself, the others from any router on the way.
    bool is_hosts = is_ipv6 ? type == 1 && code == 4 : type == 3 && (code == 2 || code == 3);
    return SPLIT(parse_embedded)(f, at + 8, length - 8, is_hosts, h);
  }
  set_icmp_ports(type, code, h);
  return CAUSE_NONE;
}

NOINLINE uint8_t parse_other_transport(struct wire f, long at, long length, struct frame_headers *h) {
  uint8_t proto = h->ip_protocol;
  if ((proto == PROTO_ICMP && h->form == FORM_IPV4) || (proto == PROTO_ICMPV6 && h->form == FORM_IPV6))
    return parse_icmp(f, at, length, h);
  if (!has_ports(proto)) return CAUSE_NONE;
  if (length < (proto == PROTO_UDP_LITE ? 8 : 12)) return too_short(h, CAUSE_TRANSPORT_HEADER);
  if (!holds(f, 4, at)) return CAUSE_TRUNCATED;
  h->source_port = word16(f, at);
  h->destination_port = word16(f, at + 2);
  return CAUSE_NONE;
}

// `length`: bytes from `at` on, as the network header says.
INLINE uint8_t parse_transport(struct wire f, long at, long length, struct frame_headers *h) {
  h->transport_offset = (uint16_t)at;
  uint8_t proto = h->ip_protocol;
  if (LIKELY(proto == PROTO_TCP)) {
    if (UNLIKELY(length < 20)) return too_short(h, CAUSE_TCP_HEADER);
    if (UNLIKELY(!holds(f, 20, at))) return CAUSE_TRUNCATED;
    h->source_port = word16(f, at);
    h->destination_port = word16(f, at + 2);
    uint8_t flags = byte_at(f, at + 13);
    h->tcp_flags = flags;
    long header_length = (byte_at(f, at + 12) >> 4) * 4;
    if (UNLIKELY(header_length < 20)) return CAUSE_TCP_HEADER;
    if (UNLIKELY(header_length > length)) return too_short(h, CAUSE_TCP_HEADER);
    // SYN, SYN+ACK, RST, RST+ACK, ACK, FIN+ACK; bits: ack rst syn fin.
    unsigned index = (flags & 0x07) | (flags & 0x10) >> 1;
    return 0x1714 >> index & 1 ? CAUSE_NONE : CAUSE_TCP_FLAGS;
  }
  if (LIKELY(proto == PROTO_UDP)) {
    if (UNLIKELY(length < 8)) return too_short(h, CAUSE_UDP_LENGTH);
    if (UNLIKELY(!holds(f, 8, at))) return CAUSE_TRUNCATED;
    h->source_port = word16(f, at);
    h->destination_port = word16(f, at + 2);
    long udp_length = word16(f, at + 4);
    // A first fragment's datagram is longer than what is here.
    if (udp_length < 8 || (udp_length > length && !(h->marks & MARK_FIRST_FRAGMENT))) return CAUSE_UDP_LENGTH;
    return CAUSE_NONE;
  }
  return parse_other_transport(f, at, length, h);
}

// ---- IPv4 -------------------------------------------------------------------

// Options must be well formed and may not route the packet.
NOINLINE uint8_t check_ipv4_options(struct wire f, long at, long end) {
  while (at < end) {
    uint8_t kind = byte_at(f, at);
    if (kind == 0) return CAUSE_NONE;
    if (kind == 1) {
      at++;
      continue;
    }
    if (at + 2 > end) return CAUSE_IP_OPTIONS;
    long length = byte_at(f, at + 1);
    if (length < 2 || at + length > end) return CAUSE_IP_OPTIONS;
    if (kind == 131 || kind == 137) return CAUSE_IP_OPTIONS;
    at += length;
  }
  return CAUSE_NONE;
}

// before: bytes in front of the payload that the reassembled packet's 16-bit length counts too.
NOINLINE uint8_t mark_fragment(long offset, bool more, long length, long before, struct frame_headers *h) {
  if (length <= 0 || (more && length % 8) || before + offset + length > 0xFFFF) return CAUSE_FRAGMENT_LENGTH;
  if (offset == 0) {
    h->marks |= MARK_FIRST_FRAGMENT;
    return CAUSE_NONE;
  }
  // No honest fragment begins inside the transport header.
  if (offset < 20) return CAUSE_FRAGMENT_OVERLAP;
  h->marks |= MARK_LATER_FRAGMENT;
  return CAUSE_NONE;
}

INLINE uint8_t parse_ipv4(struct wire f, long at, long wire_length, struct frame_headers *h) {
  if (UNLIKELY(!holds(f, 20, at))) return CAUSE_TRUNCATED;
  h->form = FORM_IPV4;
  h->source.low = word32(f, at + 12);
  h->destination.low = word32(f, at + 16);
  h->ip_protocol = byte_at(f, at + 9);
  uint8_t version_and_length = byte_at(f, at);
  long header_length = (version_and_length & 0x0F) * 4;
  if (UNLIKELY(version_and_length >> 4 != 4 || header_length < 20)) return CAUSE_IP_HEADER;
  long total_length = word16(f, at + 2);
  if (UNLIKELY(total_length < header_length)) return CAUSE_IP_LENGTH;
  if (UNLIKELY(at + total_length > wire_length)) return CAUSE_TRUNCATED;
  if (UNLIKELY(header_length > 20)) {
    if (!holds(f, header_length, at)) return CAUSE_TRUNCATED;
    uint8_t cause = SPLIT(check_ipv4_options)(f, at + 20, at + header_length);
    if (cause) return cause;
  }
  long length = total_length - header_length;
  uint16_t fragment = word16(f, at + 6);
  if (UNLIKELY(fragment & 0x3FFF)) {
    uint8_t cause = mark_fragment((fragment & 0x1FFF) * 8, fragment & 0x2000, length, header_length, h);
    if (cause || h->marks & MARK_LATER_FRAGMENT) return cause;
  }
  return SPLIT(parse_transport)(f, at + header_length, length, h);
}

// ---- IPv6 -------------------------------------------------------------------

INLINE bool is_extension(uint8_t next) {
  return next == PROTO_FRAGMENT || next == PROTO_HOP_BY_HOP || next == PROTO_ROUTING ||
         next == PROTO_DESTINATION_OPTIONS;
}

// Walks from the fixed header to the upper layer. `end`: where the payload ends, which lies inside the frame.
NOINLINE uint8_t walk_extensions(struct wire f, long *at_out, long end, uint8_t *next_out, struct frame_headers *h) {
  const long start = *at_out;
  long at = start;
  uint8_t next = *next_out, cause = CAUSE_NONE;
  bool saw_fragment = false;
  for (int walked = 0; is_extension(next); walked++) {
    bool is_fragment = next == PROTO_FRAGMENT;
    if (walked >= EXTENSION_BOUND || (next == PROTO_HOP_BY_HOP && walked > 0) || (is_fragment && saw_fragment)) {
      cause = CAUSE_IPV6_EXTENSIONS;
      break;
    }
    if (at + 8 > end) {
      // The first fragment holds the whole header chain.
      cause = too_short(h, CAUSE_IPV6_EXTENSIONS);
      break;
    }
    if (!holds(f, 8, at)) {
      cause = CAUSE_TRUNCATED;
      break;
    }
    uint8_t following = byte_at(f, at);
    long length = 8;
    if (is_fragment) {
      saw_fragment = true;
      uint16_t field = word16(f, at + 2);
      // Offset 0 and no more: an atomic fragment is a whole packet.
      if (field & 0xFFF9) {
        next = following;
        cause = mark_fragment(field & 0xFFF8, field & 1, end - at - 8, at - start, h);
        if (cause || h->marks & MARK_LATER_FRAGMENT) break;
      }
    } else {
      // Type 0 is a source route.
      if (next == PROTO_ROUTING && byte_at(f, at + 2) == 0) {
        cause = CAUSE_IPV6_EXTENSIONS;
        break;
      }
      length = (byte_at(f, at + 1) + 1) * 8;
      if (at + length > end) {
        cause = too_short(h, CAUSE_IPV6_EXTENSIONS);
        break;
      }
    }
    next = following;
    at += length;
  }
  *at_out = at;
  *next_out = next;
  return cause;
}

// Neighbour solicitation and advertisement: as ARP.
NOINLINE uint8_t parse_neighbour(struct wire f, long network, long at, long end, struct frame_headers *h) {
  bool is_advertisement = byte_at(f, at) == 136;
  h->form = FORM_NEIGHBOUR;
  if (end - at < 24) return CAUSE_NEIGHBOUR_HEADER;
  if (!holds(f, end - at, at)) return CAUSE_TRUNCATED;
  // Hop limit 255: nobody on another link can have sent it. Code 0; a multicast target has no owner.
  if (byte_at(f, network + 7) != 255 || byte_at(f, at + 1) != 0 || byte_at(f, at + 8) == 0xFF)
    return CAUSE_NEIGHBOUR_HEADER;
  struct address_words target = ipv6_at(f, at + 8);
  bool is_probe = false;
  if (is_advertisement) {
    h->source = target;
    h->claimed_mac = mac_at(f, 6);
  } else {
    h->destination = target;
    h->claimed_mac = mac_at(f, 6);
    // Duplicate address detection has the unspecified source and claims what it asks for.
    is_probe = (h->source.high | h->source.low) == 0;
    if (is_probe) h->source = target;
  }
  // The link-layer option is what the receiver will believe; of two, stacks differ in which they take.
  uint8_t seen = 0;
  for (long option = at + 24; option < end;) {
    if (option + 8 > end) return CAUSE_NEIGHBOUR_HEADER;
    long length = byte_at(f, option + 1) * 8;
    if (length == 0 || option + length > end) return CAUSE_NEIGHBOUR_HEADER;
    uint8_t kind = byte_at(f, option);
    if (kind == 1 || kind == 2) {
      if (length != 8 || seen & kind || (is_probe && kind == 1)) return CAUSE_NEIGHBOUR_HEADER;
      seen |= kind;
      if ((kind == 2) == is_advertisement) h->claimed_mac = mac_at(f, option + 2);
    }
    option += length;
  }
  return CAUSE_NONE;
}

// Not inlined: the IPv4 loop around it stays small.
NOINLINE uint8_t parse_ipv6(struct wire f, long network, long wire_length, struct frame_headers *h) {
  if (UNLIKELY(!holds(f, 40, network))) return CAUSE_TRUNCATED;
  h->form = FORM_IPV6;
  h->source = ipv6_at(f, network + 8);
  h->destination = ipv6_at(f, network + 24);
  if (UNLIKELY(byte_at(f, network) >> 4 != 6)) return CAUSE_IP_HEADER;
  long at = network + 40;
  long end = at + word16(f, network + 4);
  if (UNLIKELY(end > wire_length)) return CAUSE_TRUNCATED;
  uint8_t next = byte_at(f, network + 6), cause = CAUSE_NONE;
  if (UNLIKELY(is_extension(next))) {
    // Copies, so that `at` and `next` need not live in memory when there is nothing to walk.
    long walked_at = at;
    uint8_t walked_next = next;
    cause = SPLIT(walk_extensions)(f, &walked_at, end, &walked_next, h);
    at = walked_at;
    next = walked_next;
  }
  h->ip_protocol = next;
  if (UNLIKELY(cause || h->marks & MARK_LATER_FRAGMENT)) return cause;
  if (next == PROTO_ICMPV6 && at < end && holds(f, 1, at)) {
    uint8_t type = byte_at(f, at);
    if (type == 135 || type == 136) {
      // Never in fragments: by a rule for ICMPv6 it would get past the bindings of addresses.
      if (h->marks & MARK_FIRST_FRAGMENT) return CAUSE_NEIGHBOUR_HEADER;
      return SPLIT(parse_neighbour)(f, network, at, end, h);
    }
  }
  return SPLIT(parse_transport)(f, at, end - at, h);
}

// ---- Ethernet ---------------------------------------------------------------

INLINE uint8_t parse_ethernet(struct wire f, long wire_length, struct frame_headers *h) {
  if (UNLIKELY(!holds(f, 14, 0))) return CAUSE_TRUNCATED;
  if (UNLIKELY(byte_at(f, 6) & 1)) return CAUSE_ETHERNET_HEADER;  // a group cannot send
  uint16_t type = word16(f, 12);
  long at = 14;
  if (is_vlan_tag(type)) {
    if (!holds(f, 4, at)) return CAUSE_TRUNCATED;
    h->vlan = word16(f, at) & 0x0FFF;
    type = word16(f, at + 2);
    at += 4;
    if (is_vlan_tag(type)) {
      if (!holds(f, 4, at)) return CAUSE_TRUNCATED;
      type = word16(f, at + 2);
      at += 4;
      if (is_vlan_tag(type)) return CAUSE_VLAN_DEPTH;
    }
  }
  h->ethertype = type;
  h->network_offset = (uint8_t)at;
  if (LIKELY(type == TYPE_IPV4)) return parse_ipv4(f, at, wire_length, h);
  if (type == TYPE_IPV6) return SPLIT(parse_ipv6)(f, at, wire_length, h);
  if (type == TYPE_ARP) return parse_arp(f, at, h);
  if (type < TYPE_MINIMUM) return parse_llc(f, at, wire_length, h);
  return CAUSE_NONE;
}

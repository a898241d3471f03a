// The parser by itself, for benchmarks and tests; the worker inlines it.
#include "wire.h"

void ctwin_parse_burst(const uint8_t *const *frames, const uint32_t *available, const uint32_t *wire_lengths,
                       size_t count, struct frame_headers *headers) {
  parse_burst(frames, available, wire_lengths, count, headers);
}

const char *ctwin_cause_name(unsigned cause) {
  static const char *const names[CAUSE_CAPACITY] = {
      [CAUSE_NONE] = "none",
      [CAUSE_TRUNCATED] = "truncated",
      [CAUSE_ETHERNET_HEADER] = "ethernet-header",
      [CAUSE_VLAN_DEPTH] = "vlan-depth",
      [CAUSE_LLC_HEADER] = "llc-header",
      [CAUSE_LLC_ENCAPSULATED] = "llc-encapsulated",
      [CAUSE_ARP_HEADER] = "arp-header",
      [CAUSE_IP_HEADER] = "ip-header",
      [CAUSE_IP_LENGTH] = "ip-length",
      [CAUSE_IP_OPTIONS] = "ip-options",
      [CAUSE_IPV6_EXTENSIONS] = "ipv6-extensions",
      [CAUSE_FRAGMENT_TINY] = "fragment-tiny",
      [CAUSE_FRAGMENT_OVERLAP] = "fragment-overlap",
      [CAUSE_FRAGMENT_LENGTH] = "fragment-length",
      [CAUSE_TCP_HEADER] = "tcp-header",
      [CAUSE_TCP_FLAGS] = "tcp-flags",
      [CAUSE_UDP_LENGTH] = "udp-length",
      [CAUSE_ICMP_HEADER] = "icmp-header",
      [CAUSE_ICMP_ERROR_UNRELATED] = "icmp-error-unrelated",
      [CAUSE_NEIGHBOUR_HEADER] = "neighbour-header",
      [CAUSE_TRANSPORT_HEADER] = "transport-header",
      [CAUSE_NOT_IN_POLICY] = "not-in-policy",
      [CAUSE_SYN_FROM_SERVER] = "syn-from-server",
      [CAUSE_ETHERTYPE_NOT_ALLOWED] = "ethertype",
      [CAUSE_FRAGMENT_UNTRACKED] = "fragment-untracked",
      [CAUSE_TRANSMIT_FULL] = "transmit-full",
      [CAUSE_FRAME_CHAIN] = "frame-chain",
  };
  return cause < CAUSE_CAPACITY ? names[cause] : NULL;
}

// The parser by itself, for benchmarks and tests; the worker inlines it.
#include "parse.h"

void ctwin_parse_burst(const uint8_t *const *frames, const uint32_t *available, const uint32_t *wire_lengths,
                       size_t count, struct ctwin_headers *headers) {
  parse_burst(frames, available, wire_lengths, count, headers);
}

const char *ctwin_cause_name(unsigned cause) {
  static const char *const names[CTWIN_CAUSES] = {
      [CTWIN_NONE] = "none",
      [CTWIN_TRUNCATED] = "truncated",
      [CTWIN_ETHERNET_HEADER] = "ethernet-header",
      [CTWIN_VLAN_DEPTH] = "vlan-depth",
      [CTWIN_LLC_HEADER] = "llc-header",
      [CTWIN_LLC_ENCAPSULATED] = "llc-encapsulated",
      [CTWIN_ARP_HEADER] = "arp-header",
      [CTWIN_IP_HEADER] = "ip-header",
      [CTWIN_IP_LENGTH] = "ip-length",
      [CTWIN_IP_OPTIONS] = "ip-options",
      [CTWIN_IPV6_EXTENSIONS] = "ipv6-extensions",
      [CTWIN_FRAGMENT_TINY] = "fragment-tiny",
      [CTWIN_FRAGMENT_OVERLAP] = "fragment-overlap",
      [CTWIN_FRAGMENT_LENGTH] = "fragment-length",
      [CTWIN_TCP_HEADER] = "tcp-header",
      [CTWIN_TCP_FLAGS] = "tcp-flags",
      [CTWIN_UDP_LENGTH] = "udp-length",
      [CTWIN_ICMP_HEADER] = "icmp-header",
      [CTWIN_ICMP_ERROR_UNRELATED] = "icmp-error-unrelated",
      [CTWIN_NEIGHBOUR_HEADER] = "neighbour-header",
      [CTWIN_TRANSPORT_HEADER] = "transport-header",
      [CTWIN_NOT_IN_POLICY] = "not-in-policy",
      [CTWIN_SYN_FROM_SERVER] = "syn-from-server",
      [CTWIN_ETHERTYPE_NOT_ALLOWED] = "ethertype",
      [CTWIN_FRAGMENT_UNTRACKED] = "fragment-untracked",
      [CTWIN_TRANSMIT_FULL] = "transmit-full",
      [CTWIN_FRAME_CHAIN] = "frame-chain",
  };
  return cause < CTWIN_CAUSES ? names[cause] : NULL;
}

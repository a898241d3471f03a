// Tests of the C twin: tables built by hand, frames of every kind, and the worker over rings in plain memory.
//
//   clang -O1 -g -std=gnu11 -fsanitize=address,undefined -ICTwin/include CTwin/*.c c-selftest/main.c && ./a.out
#include "ctwin.h"

#include <linux/if_xdp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                                  \
  do {                                                                            \
    if (!(x)) {                                                                   \
      fprintf(stderr, "c-selftest: line %d: not so: %s\n", __LINE__, #x);         \
      exit(1);                                                                    \
    }                                                                             \
  } while (0)

static uint64_t random_state = 1;

static uint64_t rnd(void) {
  uint64_t z = random_state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint64_t below(uint64_t n) { return rnd() % n; }

// ---- Images by hand ---------------------------------------------------------
// The hash is said a second time here: a mistake in the twin's must not hide behind itself.

static uint64_t high(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
static uint64_t fold(uint64_t a, uint64_t b) { return high(a, b) ^ a * b; }

static uint64_t hash_of(const void *key, size_t size, const uint64_t s[4]) {
  uint64_t w[5];
  memcpy(w, key, size);
  uint64_t finish = 0x9E3779B97F4A7C15u;
  if (size == 16) return fold(w[0] ^ s[0], (uint32_t)w[1] ^ s[1]) * finish;
  return fold(fold(w[0] ^ s[0], w[1] ^ s[1]) ^ s[1], fold(w[2] ^ s[2], w[3] ^ s[3]) ^ s[0] ^ (uint32_t)w[4]) * finish;
}

static uint64_t slot_of(uint64_t hash, uint64_t buckets, uint64_t pilot, uint64_t slots) {
  return high((hash * buckets ^ pilot) * 0xD6E8FEB86659FD93u, slots);
}

struct shape {
  bool is_plain;
  uint64_t buckets, part_shift, slots_per_part;
};

struct keys {
  const void *at;
  size_t count, size;
  struct shape shape;
};

static uint64_t parts_of(struct shape s) { return s.is_plain ? 1 : ((s.buckets - 1) >> s.part_shift) + 1; }

// One attempt with one seed; false if a bucket finds no pilot.
static bool place_keys(const struct keys *k, struct ctwin_perfect *p, char *slots, uint8_t *pilots) {
  struct shape s = k->shape;
  uint64_t total = parts_of(s) * s.slots_per_part;
  for (uint64_t i = 0; i < total; i++) {
    uint64_t tail = CTWIN_KIND_EMPTY;
    memset(slots + i * k->size, 0, k->size);
    memcpy(slots + (i + 1) * k->size - 8, &tail, 8);
  }
  for (int i = 0; i < 4; i++) p->seed[i] = rnd() | 0x8000000000000001u;
  const char *keys = k->at;
  uint64_t *hashes = calloc(k->count + 1, 8), *next = calloc(k->count + 1, 8);
  uint64_t *first = calloc(s.buckets, 8);
  uint8_t *used = calloc(total, 1);
  size_t largest = 0;
  bool done = true;
  for (size_t i = 0; i < k->count; i++) hashes[i] = hash_of(keys + i * k->size, k->size, p->seed);
  if (s.is_plain) {
    for (size_t i = 0; i < k->count; i++) {
      uint64_t at = high(hashes[i], s.slots_per_part);
      while (used[at]) at = (at + 1) % s.slots_per_part;
      used[at] = 1;
      memcpy(slots + at * k->size, keys + i * k->size, k->size);
    }
  } else {
    // Chains of keys by bucket (index + 1), largest buckets first.
    size_t *sizes = calloc(s.buckets, sizeof *sizes);
    for (size_t i = 0; i < k->count; i++) {
      uint64_t b = high(hashes[i], s.buckets);
      next[i] = first[b];
      first[b] = i + 1;
      if (++sizes[b] > largest) largest = sizes[b];
    }
    for (size_t size = largest; size > 0 && done; size--)
      for (uint64_t b = 0; b < s.buckets && done; b++) {
        if (sizes[b] != size) continue;
        uint64_t base = (b >> s.part_shift) * s.slots_per_part;
        bool found = false;
        for (unsigned pilot = 0; pilot < 256 && !found; pilot++) {
          uint64_t i;
          for (i = first[b]; i; i = next[i - 1]) {
            uint64_t at = base + slot_of(hashes[i - 1], s.buckets, pilot, s.slots_per_part);
            if (used[at]) break;
            used[at] = 2;
          }
          found = i == 0;
          for (uint64_t j = first[b]; j != i; j = next[j - 1]) {
            uint64_t at = base + slot_of(hashes[j - 1], s.buckets, pilot, s.slots_per_part);
            used[at] = found;
            if (found) memcpy(slots + at * k->size, keys + (j - 1) * k->size, k->size);
          }
          if (found) pilots[b] = (uint8_t)pilot;
        }
        done = found;
      }
    free(sizes);
  }
  free(hashes);
  free(next);
  free(first);
  free(used);
  return done;
}

static size_t lines(size_t size) { return (size + 63) / 64 * 64; }

// 64-byte aligned, and of exactly `bytes`, so that a sanitizer sees what lies behind.
static struct ctwin_image *make_image(struct keys k4, struct keys k6, uint64_t rules, uint64_t mode) {
  struct keys *k[2] = {&k4, &k6};
  struct ctwin_perfect p[2];
  size_t at = lines(sizeof(struct ctwin_image)), ethertypes = at;
  at += 8192;
  for (int i = 0; i < 2; i++) {
    struct shape s = k[i]->shape;
    p[i] = (struct ctwin_perfect){
        .slots_offset = at,
        .pilots_offset = at + lines(parts_of(s) * s.slots_per_part * k[i]->size),
        .bucket_count = s.buckets,
        .part_shift = s.part_shift,
        .slots_per_part = s.slots_per_part,
        .count = k[i]->count,
        .is_plain = s.is_plain,
    };
    at = lines(p[i].pilots_offset + s.buckets);
  }
  void *memory;
  CHECK(posix_memalign(&memory, 64, at) == 0);
  memset(memory, 0, at);
  for (int i = 0; i < 2; i++) {
    int tries = 0;
    while (!place_keys(k[i], &p[i], (char *)memory + p[i].slots_offset, (uint8_t *)memory + p[i].pilots_offset))
      CHECK(++tries < 20);
  }
  struct ctwin_image *image = memory;
  *image = (struct ctwin_image){
      .bytes = at,
      .exact4 = p[0],
      .exact6 = p[1],
      .ethertypes_offset = ethertypes,
      .mode = mode,
      .rules = rules,
      .version = 7,
  };
  memcpy(image->magic, CTWIN_MAGIC, 8);
  return image;
}

static void allow_ethertype(struct ctwin_image *image, uint16_t type) {
  ((uint64_t *)((char *)image + image->ethertypes_offset))[type >> 6] |= 1ull << (type & 63);
}

static struct ctwin_key4 key4(uint32_t client, uint32_t server, uint16_t port, uint8_t proto, uint32_t rule) {
  return (struct ctwin_key4){(uint64_t)client << 32 | server,
                             (uint64_t)rule << 32 | (uint64_t)port << 16 | (uint64_t)proto << 8};
}

static struct ctwin_key6 key6(struct address_words client, struct address_words server, uint16_t port, uint8_t proto,
                              uint32_t rule) {
  return (struct ctwin_key6){client, server, (uint64_t)rule << 32 | (uint64_t)port << 16 | (uint64_t)proto << 8};
}

// ---- Lookups ----------------------------------------------------------------

static void test_lookups(const char *name, size_t n, struct shape s4, struct shape s6) {
  struct ctwin_key4 *k4 = calloc(n, sizeof *k4);
  struct ctwin_key6 *k6 = calloc(n, sizeof *k6);
  for (size_t i = 0; i < n; i++) {
    k4[i] = key4((uint32_t)rnd(), (uint32_t)rnd(), (uint16_t)rnd(), 6, (uint32_t)i);
    k6[i] = key6((struct address_words){rnd(), rnd()}, (struct address_words){rnd(), rnd()}, (uint16_t)rnd(), 17,
                 (uint32_t)i);
  }
  struct ctwin_image *image =
      make_image((struct keys){k4, n, sizeof *k4, s4}, (struct keys){k6, n, sizeof *k6, s6}, n, MODE_ENFORCE);
  struct ctwin_table table;
  const char *why;
  CHECK(ctwin_table_open(&table, image, image->bytes, &why) == 0);
  struct ctwin_scratch scratch;
  uint32_t found[CTWIN_BURST];
  for (size_t at = 0; at < n; at += CTWIN_BURST) {
    size_t count = n - at < CTWIN_BURST ? n - at : CTWIN_BURST;
    struct ctwin_key4 ask4[CTWIN_BURST];
    struct ctwin_key6 ask6[CTWIN_BURST];
    for (int miss = 0; miss < 2; miss++) {
      for (size_t i = 0; i < count; i++) {
        ask4[i] = k4[at + i];
        ask6[i] = k6[at + i];
        // The reference takes no part.
        ask4[i].tail &= 0xFFFFFFFF;
        ask6[i].tail &= 0xFFFFFFFF;
        if (miss) {
          if (below(2)) ask4[i].addresses ^= 1ull << below(64);
          else ask4[i].tail ^= 1ull << below(32);
          uint64_t *word = (uint64_t *)&ask6[i] + below(5);
          *word ^= 1ull << below(word == &ask6[i].tail ? 32 : 64);
        }
      }
      ctwin_lookup4(&table, ask4, count, &scratch, found);
      for (size_t i = 0; i < count; i++) CHECK(found[i] == (miss ? NO_RULE : (uint32_t)(at + i)));
      ctwin_lookup6(&table, ask6, count, &scratch, found);
      for (size_t i = 0; i < count; i++) CHECK(found[i] == (miss ? NO_RULE : (uint32_t)(at + i)));
    }
  }
  printf("lookups, %s: %zu keys of each kind, hit and miss\n", name, n);
  free(image);
  free(k4);
  free(k6);
}

// ---- Frames -----------------------------------------------------------------

enum { MTU = 1514 };

struct frame {
  uint8_t bytes[MTU];
  size_t length;
};

static void put8(struct frame *f, uint8_t x) { f->bytes[f->length++] = x; }
static void put16(struct frame *f, uint16_t x) { put8(f, (uint8_t)(x >> 8)), put8(f, (uint8_t)x); }
static void put32(struct frame *f, uint32_t x) { put16(f, (uint16_t)(x >> 16)), put16(f, (uint16_t)x); }
static void put64(struct frame *f, uint64_t x) { put32(f, (uint32_t)(x >> 32)), put32(f, (uint32_t)x); }

static void ethernet(struct frame *f, int vlan, uint16_t type) {
  static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
  memcpy(f->bytes, macs, 12);
  f->length = 12;
  if (vlan >= 0) put16(f, 0x8100), put16(f, (uint16_t)vlan);
  put16(f, type);
}

static void ipv4(struct frame *f, uint32_t source, uint32_t destination, uint8_t proto, uint16_t fragment, size_t payload) {
  put16(f, 0x4500), put16(f, (uint16_t)(20 + payload)), put16(f, 9), put16(f, fragment);
  put8(f, 64), put8(f, proto), put16(f, 0), put32(f, source), put32(f, destination);
}

static void ipv6(struct frame *f, struct address_words s, struct address_words d, uint8_t next, uint8_t hops, size_t payload) {
  put32(f, 0x60000000), put16(f, (uint16_t)payload), put8(f, next), put8(f, hops);
  put64(f, s.high), put64(f, s.low), put64(f, d.high), put64(f, d.low);
}

static void tcp(struct frame *f, uint16_t source, uint16_t destination, uint8_t flags) {
  put16(f, source), put16(f, destination), put32(f, 1), put32(f, 2), put8(f, 0x50), put8(f, flags);
  put16(f, 8192), put32(f, 0);
}

static void udp(struct frame *f, uint16_t source, uint16_t destination) {
  put16(f, source), put16(f, destination), put16(f, 12), put16(f, 0), put32(f, 0x01020304);
}

static void icmp(struct frame *f, uint8_t type, uint8_t code) { put8(f, type), put8(f, code), put16(f, 0), put32(f, 0x10001); }

#define CLIENT 0x0A030101u
#define SERVER 0x0A030202u
#define OTHER 0x0A030303u
static const struct address_words CLIENT6 = {0xFD00000300000000, 1}, SERVER6 = {0xFD00000300000000, 2};

enum { RULE_TCP, RULE_UDP6, RULE_ECHO, RULE_UDP, RULE_ECHO6, RULES };

enum kind {
  REQUEST, REPLY, TAGGED, SYN_FROM_SERVER, DENIED, DENIED_HOST, UDP4, UDP4_REPLY, UDP6, UDP6_REPLY, ECHO, ECHO_REPLY,
  ECHO_FROM_SERVER, ECHO6, UNREACHABLE, UNREACHABLE_FORGED, ARP_REQUEST, ARP_BAD, LLDP, STP, SNAP, SOLICITATION,
  DENIED6, LATER_FRAGMENT, FIRST_FRAGMENT, TINY_FRAGMENT, TRUNCATED, SHORT, BAD_FLAGS, GROUP_SOURCE, THREE_TAGS,
  EXTENSIONS, KINDS,
};

static const struct { const char *name; uint8_t cause; uint32_t rule; } expected[KINDS] = {
    [REQUEST] = {"TCP request", 0, RULE_TCP},
    [REPLY] = {"TCP reply", 0, RULE_TCP},
    [TAGGED] = {"TCP request with a VLAN tag", 0, RULE_TCP},
    [SYN_FROM_SERVER] = {"SYN from the server", CAUSE_SYN_FROM_SERVER, NO_RULE},
    [DENIED] = {"TCP to another port", CAUSE_NOT_IN_POLICY, NO_RULE},
    [DENIED_HOST] = {"TCP to another host", CAUSE_NOT_IN_POLICY, NO_RULE},
    [UDP4] = {"UDP", 0, RULE_UDP},
    [UDP4_REPLY] = {"UDP reply", 0, RULE_UDP},
    [UDP6] = {"UDP over IPv6", 0, RULE_UDP6},
    [UDP6_REPLY] = {"UDP reply over IPv6", 0, RULE_UDP6},
    [ECHO] = {"echo", 0, RULE_ECHO},
    [ECHO_REPLY] = {"echo reply", 0, RULE_ECHO},
    [ECHO_FROM_SERVER] = {"echo from the server", CAUSE_NOT_IN_POLICY, NO_RULE},
    [ECHO6] = {"echo over IPv6", 0, RULE_ECHO6},
    [UNREACHABLE] = {"port unreachable", 0, RULE_UDP},
    [UNREACHABLE_FORGED] = {"port unreachable from a stranger", CAUSE_ICMP_ERROR_UNRELATED, NO_RULE},
    [ARP_REQUEST] = {"ARP", 0, NO_RULE},
    [ARP_BAD] = {"ARP of an unknown operation", CAUSE_ARP_HEADER, NO_RULE},
    [LLDP] = {"LLDP", CAUSE_ETHERTYPE_NOT_ALLOWED, NO_RULE},
    [STP] = {"spanning tree", 0, NO_RULE},
    [SNAP] = {"IP in SNAP", CAUSE_LLC_ENCAPSULATED, NO_RULE},
    [SOLICITATION] = {"neighbour solicitation", 0, NO_RULE},
    [DENIED6] = {"UDP over IPv6 the wrong way", CAUSE_NOT_IN_POLICY, NO_RULE},
    [LATER_FRAGMENT] = {"later fragment", CAUSE_FRAGMENT_UNTRACKED, NO_RULE},
    [FIRST_FRAGMENT] = {"first fragment", 0, RULE_UDP},
    [TINY_FRAGMENT] = {"tiny first fragment", CAUSE_FRAGMENT_TINY, NO_RULE},
    [TRUNCATED] = {"truncated TCP", CAUSE_TRUNCATED, NO_RULE},
    [SHORT] = {"13 bytes", CAUSE_TRUNCATED, NO_RULE},
    [BAD_FLAGS] = {"SYN and FIN", CAUSE_TCP_FLAGS, NO_RULE},
    [GROUP_SOURCE] = {"group source", CAUSE_ETHERNET_HEADER, NO_RULE},
    [THREE_TAGS] = {"three tags", CAUSE_VLAN_DEPTH, NO_RULE},
    [EXTENSIONS] = {"UDP behind IPv6 options", 0, RULE_UDP6},
};

static struct frame make_frame(enum kind kind) {
  struct frame f = {.length = 0};
  ethernet(&f, kind == TAGGED ? 12 : -1, 0x0800);
  switch (kind) {
  case REQUEST:
  case TAGGED: ipv4(&f, CLIENT, SERVER, 6, 0, 20), tcp(&f, 40000, 502, 0x02); break;
  case REPLY: ipv4(&f, SERVER, CLIENT, 6, 0, 20), tcp(&f, 502, 40000, 0x12); break;
  case SYN_FROM_SERVER: ipv4(&f, SERVER, CLIENT, 6, 0, 20), tcp(&f, 502, 40000, 0x02); break;
  case DENIED: ipv4(&f, CLIENT, SERVER, 6, 0, 20), tcp(&f, 40000, 503, 0x10); break;
  case DENIED_HOST: ipv4(&f, OTHER, SERVER, 6, 0, 20), tcp(&f, 40000, 502, 0x10); break;
  case UDP4: ipv4(&f, CLIENT, SERVER, 17, 0, 12), udp(&f, 40000, 161); break;
  case UDP4_REPLY: ipv4(&f, SERVER, CLIENT, 17, 0, 12), udp(&f, 161, 40000); break;
  case UDP6: ethernet(&f, -1, 0x86DD), ipv6(&f, CLIENT6, SERVER6, 17, 64, 12), udp(&f, 40000, 161); break;
  case UDP6_REPLY: ethernet(&f, -1, 0x86DD), ipv6(&f, SERVER6, CLIENT6, 17, 64, 12), udp(&f, 161, 40000); break;
  case DENIED6: ethernet(&f, -1, 0x86DD), ipv6(&f, SERVER6, CLIENT6, 17, 64, 12), udp(&f, 40000, 161); break;
  case EXTENSIONS:
    ethernet(&f, 5, 0x86DD), ipv6(&f, CLIENT6, SERVER6, 0, 64, 28);
    put64(&f, 0x3C00010400000000), put64(&f, 0x1100010400000000), udp(&f, 40000, 161);
    break;
  case ECHO: ipv4(&f, CLIENT, SERVER, 1, 0, 8), icmp(&f, 8, 0); break;
  case ECHO_REPLY: ipv4(&f, SERVER, CLIENT, 1, 0, 8), icmp(&f, 0, 0); break;
  case ECHO_FROM_SERVER: ipv4(&f, SERVER, CLIENT, 1, 0, 8), icmp(&f, 8, 0); break;
  case ECHO6: ethernet(&f, -1, 0x86DD), ipv6(&f, CLIENT6, SERVER6, 58, 64, 8), icmp(&f, 128, 0); break;
  case UNREACHABLE:
  case UNREACHABLE_FORGED:
    ipv4(&f, kind == UNREACHABLE ? SERVER : OTHER, CLIENT, 1, 0, 36), icmp(&f, 3, 3);
    ipv4(&f, CLIENT, SERVER, 17, 0, 12), put16(&f, 40000), put16(&f, 161), put32(&f, 0);
    break;
  case ARP_REQUEST:
  case ARP_BAD:
    ethernet(&f, -1, 0x0806), put64(&f, 0x0001080006040000 | (kind == ARP_BAD ? 9 : 1));
    put16(&f, 0x0200), put32(&f, 1), put32(&f, CLIENT), put16(&f, 0), put32(&f, 0), put32(&f, SERVER);
    break;
  case LLDP: ethernet(&f, -1, 0x88CC), put64(&f, 0); break;
  case STP: ethernet(&f, -1, 38), put8(&f, 0x42), put8(&f, 0x42), put8(&f, 3), f.length += 35; break;
  case SNAP: ethernet(&f, -1, 40), put64(&f, 0xAAAA030000000800), f.length += 32; break;
  case SOLICITATION:
    ethernet(&f, -1, 0x86DD), ipv6(&f, CLIENT6, (struct address_words){0xFF02000000000000, 0x1FF000002}, 58, 255, 32);
    icmp(&f, 135, 0), put64(&f, SERVER6.high), put64(&f, SERVER6.low), put64(&f, 0x0101020000000001);
    break;
  case LATER_FRAGMENT: ipv4(&f, CLIENT, SERVER, 17, 0x2003, 24), f.length += 24; break;
  case FIRST_FRAGMENT: ipv4(&f, CLIENT, SERVER, 17, 0x2000, 16), udp(&f, 40000, 161), put32(&f, 0); break;
  case TINY_FRAGMENT: ipv4(&f, CLIENT, SERVER, 6, 0x2000, 8), put64(&f, 0x9C4001F600000001); break;
  case TRUNCATED: ipv4(&f, CLIENT, SERVER, 6, 0, 20), tcp(&f, 40000, 502, 0x10), f.length -= 1; break;
  case SHORT: f.length = 13; break;
  case BAD_FLAGS: ipv4(&f, CLIENT, SERVER, 6, 0, 20), tcp(&f, 40000, 502, 0x03); break;
  case GROUP_SOURCE: ipv4(&f, CLIENT, SERVER, 6, 0, 20), tcp(&f, 40000, 502, 0x10), f.bytes[6] |= 1; break;
  case THREE_TAGS:
    ethernet(&f, 1, 0x8100), put16(&f, 2), put16(&f, 0x8100), put16(&f, 3), put16(&f, 0x0800), f.length += 40;
    break;
  case KINDS: break;
  }
  return f;
}

static struct ctwin_image *policy(uint64_t mode, bool is_plain) {
  struct ctwin_key4 k4[] = {
      key4(CLIENT, SERVER, 502, 6, RULE_TCP),
      key4(CLIENT, SERVER, 161, 17, RULE_UDP),
      key4(CLIENT, SERVER, 8 << 8, 1, RULE_ECHO),
  };
  struct ctwin_key6 k6[] = {key6(CLIENT6, SERVER6, 161, 17, RULE_UDP6), key6(CLIENT6, SERVER6, 128 << 8, 58, RULE_ECHO6)};
  struct shape plain4 = {true, 1, 63, 7}, plain6 = {true, 1, 63, 5}, perfect = {false, 2, 63, 5};
  struct ctwin_image *image =
      make_image((struct keys){k4, 3, sizeof *k4, is_plain ? plain4 : perfect},
                 (struct keys){k6, 2, sizeof *k6, is_plain ? plain6 : perfect}, RULES, mode);
  allow_ethertype(image, 0x0806);
  allow_ethertype(image, 0x42);
  return image;
}

static void test_verdicts(bool is_plain) {
  struct ctwin_image *image = policy(MODE_ENFORCE, is_plain);
  struct ctwin_table table;
  const char *why;
  CHECK(ctwin_table_open(&table, image, image->bytes, &why) == 0);
  uint8_t *bytes[KINDS];
  uint32_t lengths[KINDS];
  for (int kind = 0; kind < KINDS; kind++) {
    struct frame f = make_frame(kind);
    bytes[kind] = malloc(f.length);
    memcpy(bytes[kind], f.bytes, f.length);
    lengths[kind] = (uint32_t)f.length;
  }
  struct frame_headers headers[KINDS];
  struct verdict verdicts[KINDS];
  struct ctwin_scratch scratch;
  ctwin_parse_burst((const uint8_t *const *)bytes, lengths, lengths, KINDS, headers);
  ctwin_judge_burst(&table, headers, KINDS, &scratch, verdicts);
  for (int kind = 0; kind < KINDS; kind++)
    if (verdicts[kind].cause != expected[kind].cause || verdicts[kind].rule != expected[kind].rule) {
      fprintf(stderr, "c-selftest: %s: %s, rule %u; not %s, rule %u\n", expected[kind].name,
              ctwin_cause_name(verdicts[kind].cause), verdicts[kind].rule, ctwin_cause_name(expected[kind].cause),
              expected[kind].rule);
      exit(1);
    }
  CHECK(headers[TAGGED].vlan == 12 && headers[TAGGED].network_offset == 18 && headers[REQUEST].network_offset == 14);
  CHECK(headers[SOLICITATION].claimed_mac == 0x020000000001 && headers[SOLICITATION].form == FORM_NEIGHBOUR);
  CHECK(verdicts[REPLY].is_reply && !verdicts[REQUEST].is_reply && verdicts[UDP6_REPLY].is_reply);
  for (int kind = 0; kind < KINDS; kind++) free(bytes[kind]);
  free(image);
  printf("verdicts, %s table: %d kinds of frames\n", is_plain ? "plain" : "perfect", KINDS);
}

// As Linux says: net/netfilter/nf_conntrack_proto_tcp.c, with PSH, URG, ECE and CWR masked out.
static void test_tcp_flags(void) {
  for (unsigned flags = 0; flags < 256; flags++) {
    struct frame f = make_frame(REQUEST);
    f.bytes[14 + 20 + 13] = (uint8_t)flags;
    const uint8_t *bytes = f.bytes;
    uint32_t length = (uint32_t)f.length;
    struct frame_headers header;
    ctwin_parse_burst(&bytes, &length, &length, 1, &header);
    unsigned f17 = flags & 0x17;
    bool is_possible = f17 == 0x02 || f17 == 0x12 || f17 == 0x04 || f17 == 0x14 || f17 == 0x10 || f17 == 0x11;
    CHECK(header.cause == (is_possible ? CAUSE_NONE : CAUSE_TCP_FLAGS) && header.tcp_flags == flags);
  }
}

// Bytes of all kinds, changed and cut: nothing outside them may be read, whatever comes out.
static void test_hostile_frames(int rounds) {
  struct ctwin_image *image = policy(MODE_ENFORCE, false);
  struct ctwin_table table;
  CHECK(ctwin_table_open(&table, image, image->bytes, NULL) == 0);
  struct ctwin_scratch scratch;
  int causes[CAUSE_CAPACITY] = {0};
  for (int round = 0; round < rounds; round++) {
    struct frame f = make_frame((enum kind)below(KINDS));
    for (uint64_t n = below(4); n > 0; n--) f.bytes[below(f.length)] = (uint8_t)rnd();
    size_t cut = below(3) ? f.length : below(f.length + 1);
    uint8_t *bytes = malloc(cut ? cut : 1);
    memcpy(bytes, f.bytes, cut);
    uint32_t held = (uint32_t)cut, wire = below(2) ? held : (uint32_t)f.length;
    struct frame_headers header;
    struct verdict verdict;
    ctwin_parse_burst((const uint8_t *const *)&bytes, &held, &wire, 1, &header);
    ctwin_judge_burst(&table, &header, 1, &scratch, &verdict);
    CHECK(ctwin_cause_name(verdict.cause) && (verdict.cause || verdict.rule < RULES || header.form != FORM_IPV4));
    causes[verdict.cause]++;
    free(bytes);
  }
  int seen = 0;
  for (int i = 0; i < CAUSE_CAPACITY; i++) seen += causes[i] > 0;
  printf("hostile frames: %d, %d different verdicts\n", rounds, seen);
  free(image);
}

// Words of an image changed at random: it is refused, or reads nothing outside itself.
static void test_hostile_images(int rounds) {
  int accepted = 0;
  for (int round = 0; round < rounds; round++) {
    struct ctwin_image *image = policy(MODE_ENFORCE, round & 1);
    uint64_t bytes = image->bytes;
    for (uint64_t n = 1 + below(3); n > 0; n--) {
      // The header, or a slot.
      uint64_t *word = (uint64_t *)image + (below(2) ? below(sizeof *image / 8)
                                                     : image->exact4.slots_offset % bytes / 8 % (bytes / 8 - 64) + below(64));
      switch (below(6)) {
      case 0: *word = rnd(); break;
      case 1: *word ^= 1ull << below(64); break;
      case 2: *word += below(3) - 1; break;
      case 3: *word = below(bytes * 2); break;
      case 4: *word = below(4); break;
      default: *word = ~below(bytes); break;
      }
    }
    struct ctwin_table table;
    const char *why = NULL;
    uint64_t size = below(4) ? bytes : below(bytes + 1);
    int error = ctwin_table_open(&table, image, size, &why);
    CHECK(!error == !why);
    if (!error) {
      accepted++;
      struct ctwin_scratch scratch;
      struct ctwin_key4 k4[CTWIN_BURST];
      struct ctwin_key6 k6[CTWIN_BURST];
      uint32_t found[CTWIN_BURST];
      for (int i = 0; i < CTWIN_BURST; i++) {
        k4[i] = key4((uint32_t)rnd(), (uint32_t)rnd(), (uint16_t)rnd(), 6, 0);
        k6[i] = key6((struct address_words){rnd(), rnd()}, (struct address_words){rnd(), rnd()}, (uint16_t)rnd(), 6, 0);
      }
      k4[0] = key4(CLIENT, SERVER, 502, 6, 0);
      k6[0] = key6(CLIENT6, SERVER6, 161, 17, 0);
      ctwin_lookup4(&table, k4, CTWIN_BURST, &scratch, found);
      for (int i = 0; i < CTWIN_BURST; i++) CHECK(found[i] == NO_RULE || found[i] < table.rules);
      ctwin_lookup6(&table, k6, CTWIN_BURST, &scratch, found);
      for (int i = 0; i < CTWIN_BURST; i++) CHECK(found[i] == NO_RULE || found[i] < table.rules);
    }
    free(image);
  }
  CHECK(accepted > 0 && accepted < rounds);
  printf("hostile images: %d, %d of them harmless\n", rounds, accepted);
}

// ---- The worker -------------------------------------------------------------

enum { FRAMES = 512, FRAME_SIZE = 2048, RING = 64, BIG_RING = 512, HEADROOM = 256 };

struct port {
  uint32_t words[12];
  struct xdp_desc rx[RING], tx[RING];
  uint64_t fill[BIG_RING], completion[BIG_RING];
  // Taken to be sent and not completed yet.
  uint64_t sending[FRAMES];
  size_t sending_count;
};

struct bench {
  struct port ports[2];
  struct ctwin_rings rings[2];
  uint8_t *umem;
  enum kind kind_of[FRAMES];
  struct ctwin_table table;
  struct ctwin_image *image;
  uint64_t hits[RULES];
  uint64_t *hits_of[1];
  struct ctwin_publication publication;
  const struct ctwin_publication *current;
  uint64_t seen;
  struct ctwin_worker *worker;
  uint64_t delivered[2], delivered_of[2][KINDS], sent[2], sent_of[2][KINDS];
};

static struct bench *make_bench(uint64_t mode, uint32_t index) {
  struct bench *b = calloc(1, sizeof *b);
  b->umem = aligned_alloc(4096, FRAMES * FRAME_SIZE);
  memset(b->umem, 0, FRAMES * FRAME_SIZE);
  for (int i = 0; i < 2; i++) {
    struct port *p = &b->ports[i];
    for (int k = 0; k < 12; k++) p->words[k] = k % 3 == 2 ? 0 : index;
    b->rings[i] = (struct ctwin_rings){
        .rx = {&p->words[0], &p->words[1], &p->words[2], p->rx, RING},
        .tx = {&p->words[3], &p->words[4], &p->words[5], p->tx, RING},
        .fill = {&p->words[6], &p->words[7], &p->words[8], p->fill, BIG_RING},
        .completion = {&p->words[9], &p->words[10], &p->words[11], p->completion, BIG_RING},
        .fd = -1,
    };
  }
  b->image = policy(mode, true);
  CHECK(ctwin_table_open(&b->table, b->image, b->image->bytes, NULL) == 0);
  b->hits_of[0] = b->hits;
  b->publication = (struct ctwin_publication){&b->table, b->table.version, b->hits_of};
  b->current = &b->publication;
  struct ctwin_worker_config config = {
      .sockets = b->rings,
      .inside_count = 1,
      .outside_count = 1,
      .umem = b->umem,
      .frame_count = FRAMES,
      .frame_size = FRAME_SIZE,
      .current = &b->current,
      .seen = &b->seen,
  };
  b->worker = ctwin_worker_create(&config);
  CHECK(b->worker);
  ctwin_worker_prepare(b->worker);
  return b;
}

static void free_bench(struct bench *b) {
  ctwin_worker_destroy(b->worker);
  free(b->image);
  free(b->umem);
  free(b);
}

static uint32_t held(struct ctwin_ring r) { return *r.producer - *r.consumer; }

// Takes a buffer from the fill ring and shows it on the RX ring.
static bool push(struct bench *b, int side, const uint8_t *bytes, size_t length, uint32_t options, uint32_t *frame) {
  struct ctwin_rings *r = &b->rings[side];
  if (held(r->fill) == 0 || held(r->rx) == RING) return false;
  uint64_t address = ((uint64_t *)r->fill.entries)[(*r->fill.consumer)++ & (BIG_RING - 1)];
  CHECK(address % FRAME_SIZE == 0 && address < FRAMES * FRAME_SIZE);
  memcpy(b->umem + address + HEADROOM, bytes, length);
  ((struct xdp_desc *)r->rx.entries)[(*r->rx.producer)++ & (RING - 1)] =
      (struct xdp_desc){address + HEADROOM, (uint32_t)length, options};
  if (frame) *frame = (uint32_t)(address / FRAME_SIZE);
  return true;
}

static void deliver(struct bench *b, int side, enum kind kind) {
  struct frame f = make_frame(kind);
  uint32_t frame;
  if (!push(b, side, f.bytes, f.length, 0, &frame)) return;
  b->kind_of[frame] = kind;
  b->delivered[side]++;
  b->delivered_of[side][kind]++;
}

// Sends up to `count` and checks that they are what came in by the other side.
static void send_some(struct bench *b, int side, uint64_t count, bool checks) {
  struct ctwin_rings *r = &b->rings[side];
  for (; count > 0 && held(r->tx) > 0; count--) {
    struct xdp_desc d = ((struct xdp_desc *)r->tx.entries)[(*r->tx.consumer)++ & (RING - 1)];
    CHECK(d.addr % FRAME_SIZE == HEADROOM && d.addr < FRAMES * FRAME_SIZE);
    if (checks) {
      enum kind kind = b->kind_of[d.addr / FRAME_SIZE];
      struct frame f = make_frame(kind);
      CHECK(d.len == f.length && memcmp(b->umem + d.addr, f.bytes, f.length) == 0);
      b->sent_of[!side][kind]++;
      b->sent[!side]++;
    }
    b->ports[side].sending[b->ports[side].sending_count++] = d.addr;
  }
}

static void complete_some(struct bench *b, int side, uint64_t count) {
  struct port *p = &b->ports[side];
  struct ctwin_rings *r = &b->rings[side];
  for (; count > 0 && p->sending_count > 0 && held(r->completion) < BIG_RING; count--) {
    size_t i = below(p->sending_count);
    ((uint64_t *)r->completion.entries)[(*r->completion.producer)++ & (BIG_RING - 1)] = p->sending[i];
    p->sending[i] = p->sending[--p->sending_count];
  }
}

static void mark(uint8_t *seen, uint64_t address) {
  CHECK(address < FRAMES * FRAME_SIZE);
  CHECK(!seen[address / FRAME_SIZE]++);  // in two places at once
}

// Every frame is in exactly one place.
static void check_frames(struct bench *b) {
  uint8_t seen[FRAMES] = {0};
  struct ctwin_census census = ctwin_worker_census(b->worker);
  CHECK(census.free + census.in_flight + census.filled == FRAMES);
  for (size_t i = 0; i < census.free; i++) mark(seen, ctwin_worker_free_frames(b->worker)[i]);
  for (int side = 0; side < 2; side++) {
    struct ctwin_rings *r = &b->rings[side];
    for (uint32_t i = *r->fill.consumer; i != *r->fill.producer; i++) mark(seen, b->ports[side].fill[i & (BIG_RING - 1)]);
    for (uint32_t i = *r->rx.consumer; i != *r->rx.producer; i++) mark(seen, b->ports[side].rx[i & (RING - 1)].addr);
    for (uint32_t i = *r->tx.consumer; i != *r->tx.producer; i++) mark(seen, b->ports[side].tx[i & (RING - 1)].addr);
    for (uint32_t i = *r->completion.consumer; i != *r->completion.producer; i++)
      mark(seen, b->ports[side].completion[i & (BIG_RING - 1)]);
    for (size_t i = 0; i < b->ports[side].sending_count; i++) mark(seen, b->ports[side].sending[i]);
  }
  for (int i = 0; i < FRAMES; i++) CHECK(seen[i] == 1);
}

static void drain(struct bench *b) {
  for (int i = 0; i < 40; i++) {
    ctwin_worker_poll(b->worker);
    for (int side = 0; side < 2; side++) send_some(b, side, RING, true), complete_some(b, side, FRAMES);
    check_frames(b);
  }
  struct ctwin_census census = ctwin_worker_census(b->worker);
  CHECK(census.in_flight == 0 && !ctwin_worker_has_pending(b->worker));
}

static void test_worker(uint64_t mode, int turns) {
  // Indices that wrap on the way.
  struct bench *b = make_bench(mode, 0xFFFFFF00u);
  check_frames(b);
  for (int turn = 0; turn < turns; turn++) {
    for (int side = 0; side < 2; side++) {
      // Sometimes more than the rings hold, sometimes a port that does not send for a while.
      for (uint64_t n = below(below(8) ? 20 : 120); n > 0; n--) deliver(b, side, (enum kind)below(KINDS));
      if (turn / 50 % 4 != side) send_some(b, side, below(RING + 1), true);
      complete_some(b, side, below(200));
    }
    ctwin_worker_poll(b->worker);
    CHECK(b->seen == 7);
    check_frames(b);
  }
  drain(b);
  const uint64_t *counters = ctwin_worker_counters(b->worker);
  CHECK(counters[CTWIN_POLLS] == (uint64_t)turns + 40);
  CHECK(counters[CTWIN_FREE_FRAMES] == ctwin_worker_census(b->worker).free);
  uint64_t hits[RULES] = {0}, full = 0, sent = 0;
  for (int side = 0; side < 2; side++) {
    const uint64_t *c = counters + side * CTWIN_PER_SIDE;
    CHECK(c[CTWIN_RECEIVED] == b->delivered[side] && c[CTWIN_FORWARDED] == b->sent[side]);
    uint64_t by_cause[CAUSE_CAPACITY] = {0}, allowed = 0, denied = 0;
    for (int kind = 0; kind < KINDS; kind++) {
      by_cause[expected[kind].cause] += b->delivered_of[side][kind];
      if (expected[kind].rule != NO_RULE) hits[expected[kind].rule] += b->delivered_of[side][kind];
      if (expected[kind].cause == 0) allowed += b->delivered_of[side][kind];
      if (mode == MODE_ENFORCE && expected[kind].cause) CHECK(b->sent_of[side][kind] == 0);
      CHECK(b->sent_of[side][kind] <= b->delivered_of[side][kind]);
    }
    for (int cause = 1; cause < CAUSE_CAPACITY; cause++) {
      uint64_t d = c[CTWIN_DENIED + 2 * cause], n = c[CTWIN_NOTED + 2 * cause];
      denied += d;
      if (cause == CAUSE_TRANSMIT_FULL) continue;
      CHECK(d == (mode == MODE_ENFORCE ? by_cause[cause] : 0));
      CHECK(n == (mode == MODE_ENFORCE ? 0 : by_cause[cause]));
    }
    uint64_t transmit_full = c[CTWIN_DENIED + 2 * CAUSE_TRANSMIT_FULL];
    CHECK(denied + b->sent[side] == b->delivered[side]);
    CHECK(b->sent[side] + transmit_full == (mode == MODE_ENFORCE ? allowed : b->delivered[side]));
    full += transmit_full;
    sent += b->sent[side];
  }
  for (int rule = 0; rule < RULES; rule++) CHECK(hits[rule] == b->hits[rule]);
  CHECK(full > 0 && sent > 1000);
  printf("worker, mode %d: %d turns, %llu frames, %llu sent, %llu to a full ring\n", (int)mode, turns,
         (unsigned long long)(b->delivered[0] + b->delivered[1]), (unsigned long long)sent, (unsigned long long)full);
  free_bench(b);
}

// Frames in several buffers: whole, waiting for their end, longer than any kernel's, longer than a burst.
static void test_chains(int turns) {
  struct bench *b = make_bench(MODE_ENFORCE, 5);
  struct frame f = make_frame(REQUEST);
  // The IP length of the first buffer: as a frame of `pieces` buffers would have it.
  uint64_t whole = 0, too_long = 0, empty = 0;
  for (int turn = 0; turn < turns; turn++) {
    unsigned kind = (unsigned)below(8), pieces = kind == 0 ? 47 + (unsigned)below(17) : 1 + (unsigned)below(46);
    if (kind == 1) {
      if (push(b, 0, f.bytes, 0, 0, NULL)) empty++;
      pieces = 0;
    }
    for (unsigned piece = 0; piece < pieces;) {
      // Some of it, then a turn: the worker must wait for the rest.
      for (unsigned n = 1 + (unsigned)below(40); n > 0 && piece < pieces; n--) {
        if (!push(b, 0, f.bytes, f.length, piece + 1 < pieces, NULL)) break;
        piece++;
      }
      ctwin_worker_poll(b->worker);
      check_frames(b);
      send_some(b, 1, RING, false);
      complete_some(b, 1, FRAMES);
    }
    if (pieces > 46) too_long++;
    else if (pieces > 0) whole++;
    for (int i = 0; i < 3; i++) {
      ctwin_worker_poll(b->worker);
      send_some(b, 1, RING, false);
      complete_some(b, 1, FRAMES);
    }
    check_frames(b);
  }
  const uint64_t *c = ctwin_worker_counters(b->worker);
  CHECK(c[CTWIN_FORWARDED] == whole);
  CHECK(c[CTWIN_DENIED + 2 * CAUSE_FRAME_CHAIN] == too_long + empty);
  // 150 buffers: the first 64 are dropped as one frame, the rest one by one. And then all is well again.
  uint64_t dropped = c[CTWIN_DENIED + 2 * CAUSE_FRAME_CHAIN];
  for (int piece = 0; piece < 150; piece++) {
    CHECK(push(b, 0, f.bytes, f.length, piece + 1 < 150, NULL));
    if (held(b->rings[0].rx) == RING) ctwin_worker_poll(b->worker);
  }
  CHECK(push(b, 0, f.bytes, f.length, 0, NULL));
  for (int i = 0; i < 4; i++) ctwin_worker_poll(b->worker), check_frames(b);
  CHECK(c[CTWIN_DENIED + 2 * CAUSE_FRAME_CHAIN] == dropped + 1 + (150 - 64));
  CHECK(c[CTWIN_FORWARDED] == whole + 1);
  printf("chains: %llu whole, %llu too long, %llu empty\n", (unsigned long long)whole, (unsigned long long)too_long,
         (unsigned long long)empty);
  free_bench(b);
}

// The kernel for benchmarks, with parser and verdicts and without.
static void test_fake_kernel(int turns, bool rings_only) {
  struct bench *b = make_bench(MODE_ENFORCE, 0xFFFFFFF0u);
  uint32_t lengths[FRAMES];
  bool passes[FRAMES];
  for (int i = 0; i < FRAMES; i++) {
    enum kind kind = (enum kind)below(KINDS);
    struct frame f = make_frame(kind);
    memcpy(b->umem + i * FRAME_SIZE + HEADROOM, f.bytes, f.length);
    lengths[i] = (uint32_t)f.length;
    passes[i] = rings_only || expected[kind].cause == 0;
  }
  struct ctwin_fake_kernel kernel;
  ctwin_fake_init(&kernel, b->rings, lengths, FRAME_SIZE, HEADROOM);
  uint64_t delivered[2] = {0}, passed[2] = {0}, sent[2] = {0};
  for (int turn = 0; turn < turns; turn++) {
    for (int side = 0; side < 2; side++) {
      uint32_t from = *b->rings[side].rx.producer;
      delivered[side] += ctwin_fake_deliver(&kernel, side, (uint32_t)below(100));
      for (uint32_t i = from; i != *b->rings[side].rx.producer; i++) {
        struct xdp_desc d = b->ports[side].rx[i & (RING - 1)];
        CHECK(d.len == lengths[d.addr / FRAME_SIZE] && d.addr % FRAME_SIZE == HEADROOM);
        passed[side] += passes[d.addr / FRAME_SIZE];
      }
      if (below(2)) sent[side] += ctwin_fake_transmit(&kernel, side);
    }
    if (rings_only)
      ctwin_worker_poll_rings(b->worker);
    else
      ctwin_worker_poll(b->worker);
    check_frames(b);
  }
  for (int i = 0; i < 20; i++) {
    if (rings_only) ctwin_worker_poll_rings(b->worker);
    else ctwin_worker_poll(b->worker);
    for (int side = 0; side < 2; side++) sent[side] += ctwin_fake_transmit(&kernel, side);
  }
  check_frames(b);
  const uint64_t *counters = ctwin_worker_counters(b->worker);
  for (int side = 0; side < 2; side++) {
    const uint64_t *c = counters + side * CTWIN_PER_SIDE;
    CHECK(c[CTWIN_RECEIVED] == delivered[side] && c[CTWIN_FORWARDED] == sent[!side]);
    CHECK(sent[!side] + c[CTWIN_DENIED + 2 * CAUSE_TRANSMIT_FULL] == passed[side]);
  }
  printf("fake kernel, %s: %d turns, %llu frames\n", rings_only ? "rings only" : "whole", turns,
         (unsigned long long)(delivered[0] + delivered[1]));
  free_bench(b);
}

int main(int argc, char **argv) {
  if (argc > 1) random_state = strtoull(argv[1], NULL, 0);
  // Nearly full: walks go round the end.
  test_lookups("plain", 700, (struct shape){true, 1, 63, 701}, (struct shape){true, 1, 63, 702});
  test_lookups("in the cache", 1000, (struct shape){false, 334, 63, 1500}, (struct shape){false, 334, 63, 1500});
  test_lookups("slots fetched ahead", 30000, (struct shape){false, 10001, 63, 50000},
               (struct shape){false, 10001, 63, 50000});
  test_lookups("many parts", 20000, (struct shape){false, 64 * 128, 7, 600}, (struct shape){false, 64 * 128, 7, 600});
  test_lookups("pilots fetched ahead", 20000, (struct shape){false, 17 << 15, 15, 3000},
               (struct shape){false, 17 << 15, 15, 3000});
  test_verdicts(true);
  test_verdicts(false);
  test_tcp_flags();
  test_hostile_frames(400000);
  test_hostile_images(20000);
  test_worker(MODE_ENFORCE, 4000);
  test_worker(MODE_MONITOR, 4000);
  test_chains(2000);
  test_fake_kernel(4000, false);
  test_fake_kernel(4000, true);
  puts("all well");
  return 0;
}

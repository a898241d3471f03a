// The kernel's twin of the worker: parses and judges one frame by the same table, read from a map.
//
//   frame ─► work.bytes ─► parse.h ─► exact, as client ─► exact, as server ─► labels, both ways ─► bindings
//
// The table is Allowlist's TableImage, word by word in an array map: whatever the image holds, the verifier has proved
// that nothing beside it is read. Verdicts are the worker's, but for what stands in docs/design.md (each stricter).

// ---- Words, and what parse.h asks for ---------------------------------------

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define INLINE static inline __attribute__((always_inline))
// A call takes five words at most: too few for the parser's functions.
#define NOINLINE INLINE
// Not static: such a function is verified by itself, whatever its callers know, and the parts' paths do not multiply.
#define PART __attribute__((noinline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#include "frames.h"

// Bytes of a frame that are looked at: more than its headers ever take, but for long chains of IPv6 extensions.
#define LOOKED_AT 256

// Room for one frame. Programs on one processor do not nest.
struct work {
    uint8_t bytes[LOOKED_AT + 16];
    struct frame_headers headers;
    struct verdict verdict;
    // On the wire, and of these how many are in `bytes`.
    uint32_t length;
    uint32_t available;
    uint32_t labels[2]; // of source and destination
    // Where walk_extensions came to, and the protocol there.
    uint32_t walked_at;
    uint32_t walked_next;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct work);
} work SEC(".maps");

struct wire {
    struct work *work;
    long available;
};

INLINE bool holds(struct wire f, long count, long at) { return at + count <= f.available; }

// The mask changes no offset that `holds` has proved; it is there for the verifier.
INLINE uint8_t byte_at(struct wire f, long at) { return f.work->bytes[at & (LOOKED_AT - 1)]; }

INLINE uint16_t word16(struct wire f, long at)
{
    uint16_t x;
    __builtin_memcpy(&x, f.work->bytes + (at & (LOOKED_AT - 1)), sizeof x);
    return __builtin_bswap16(x);
}

INLINE uint32_t word32(struct wire f, long at)
{
    uint32_t x;
    __builtin_memcpy(&x, f.work->bytes + (at & (LOOKED_AT - 1)), sizeof x);
    return __builtin_bswap32(x);
}

INLINE uint64_t word64(struct wire f, long at)
{
    uint64_t x;
    __builtin_memcpy(&x, f.work->bytes + (at & (LOOKED_AT - 1)), sizeof x);
    return __builtin_bswap64(x);
}

#define SPLIT(function) split_##function

INLINE uint8_t split_check_ipv4_options(struct wire f, long at, long end);
INLINE uint8_t split_parse_embedded(struct wire f, long at, long length, bool sender_counts, struct frame_headers *h);
INLINE uint8_t split_parse_transport(struct wire f, long at, long length, struct frame_headers *h);
INLINE uint8_t split_walk_extensions(struct wire f, long *at, long end, uint8_t *next, struct frame_headers *h);
INLINE uint8_t split_parse_neighbour(struct wire f, long network, long at, long end, struct frame_headers *h);
INLINE uint8_t split_parse_ipv6(struct wire f, long network, long wire_length, struct frame_headers *h);

#include "parse.h"

// ---- The parser in parts ----------------------------------------------------
//
// Offsets are below LOOKED_AT wherever something is read: more would be "truncated" anyway.

#define WIRE(w) ((struct wire){w, (w)->available})

PART int part_ipv4_options(struct work *w, uint32_t at, uint32_t end)
{
    // No header is longer: the walk ends for the verifier, too.
    if (!w || end > LOOKED_AT)
        return CAUSE_TRUNCATED;
    return check_ipv4_options(WIRE(w), at, end);
}

PART int part_embedded(struct work *w, uint32_t at, uint32_t length, uint32_t sender_counts)
{
    return w ? parse_embedded(WIRE(w), at, length, sender_counts != 0, &w->headers) : CAUSE_TRUNCATED;
}

PART int part_transport(struct work *w, uint32_t at, uint32_t length)
{
    return w ? parse_transport(WIRE(w), at, length, &w->headers) : CAUSE_TRUNCATED;
}

PART int part_extensions(struct work *w, uint32_t end)
{
    if (!w)
        return CAUSE_TRUNCATED;
    long at = w->walked_at;
    uint8_t next = w->walked_next;
    uint8_t cause = walk_extensions(WIRE(w), &at, end, &next, &w->headers);
    w->walked_at = at;
    w->walked_next = next;
    return cause;
}

PART int part_neighbour(struct work *w, uint32_t network, uint32_t at, uint32_t end)
{
    if (!w || end > LOOKED_AT)
        return CAUSE_TRUNCATED;
    return parse_neighbour(WIRE(w), network, at, end, &w->headers);
}

PART int part_ipv6(struct work *w, uint32_t network)
{
    return w ? parse_ipv6(WIRE(w), network, w->length, &w->headers) : CAUSE_TRUNCATED;
}

INLINE uint8_t split_check_ipv4_options(struct wire f, long at, long end) { return part_ipv4_options(f.work, at, end); }

INLINE uint8_t split_parse_embedded(struct wire f, long at, long length, bool sender_counts, struct frame_headers *h)
{
    return part_embedded(f.work, at, length, sender_counts);
}

INLINE uint8_t split_parse_transport(struct wire f, long at, long length, struct frame_headers *h)
{
    return part_transport(f.work, at, length);
}

INLINE uint8_t split_walk_extensions(struct wire f, long *at, long end, uint8_t *next, struct frame_headers *h)
{
    f.work->walked_at = *at;
    f.work->walked_next = *next;
    uint8_t cause = part_extensions(f.work, end);
    *at = f.work->walked_at;
    *next = f.work->walked_next;
    return cause;
}

INLINE uint8_t split_parse_neighbour(struct wire f, long network, long at, long end, struct frame_headers *h)
{
    return part_neighbour(f.work, network, at, end);
}

INLINE uint8_t split_parse_ipv6(struct wire f, long network, long wire_length, struct frame_headers *h)
{
    return part_ipv6(f.work, network);
}

PART int part_ethernet(struct work *w)
{
    return w ? parse_ethernet(WIRE(w), w->length, &w->headers) : CAUSE_TRUNCATED;
}

#undef NOINLINE
#define NOINLINE static __attribute__((noinline))

// ---- The table --------------------------------------------------------------

// PerfectTable.swift; offsets in bytes from the image's beginning.
struct perfect {
    uint64_t slots;
    uint64_t pilots;
    uint64_t seed[4];
    uint64_t bucket_count;
    uint64_t part_shift;
    uint64_t slots_per_part;
    uint64_t count;
    uint64_t is_plain;
};

// "SKTABLE2": there is a table.
#define TABLE_MAGIC 0x32454C4241544B53ull

// TableImage.swift's header, word by word.
struct table {
    uint64_t magic;
    uint64_t bytes;
    struct perfect exact4, exact6;
    uint64_t ethertypes;
    uint64_t mode;
    uint64_t rules;
    uint64_t version;
    struct perfect pairs, bindings4, bindings6;
    uint64_t root4, nodes4, root6, nodes6;
    uint64_t projections;
    uint64_t port_sets;
    uint64_t narrowings, vlans, lists;
    uint64_t bound_macs;
    uint64_t probes_in_use;
    uint64_t has_bindings;
    // Written by whoever puts it into the map: where the image begins, in words of `image`, and its rules in `hits`.
    uint64_t image_base;
    uint64_t hits_base;
};

// Two tables: the one in use, and the one that is being written.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct table);
} tables SEC(".maps");

// Sized when the program is loaded; two halves.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u64);
} image SEC(".maps");

// Frames by rule; two halves.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u64);
} hits SEC(".maps");

#define NO_REFERENCE 0xFFFFFFFFu
// A walk through a plain table that came to no end: for rules as good as none, for bindings not.
#define UNKNOWN_REFERENCE 0xFFFFFFFEu
#define LIST_BIT 0x80000000u
#define NODE_BIT 0x80000000u

// The word at `offset`, a multiple of 8.
INLINE uint64_t image64(const struct table *t, uint64_t offset)
{
    __u32 at = t->image_base + (offset >> 3);
    uint64_t *word = bpf_map_lookup_elem(&image, &at);
    return word ? *word : 0;
}

INLINE uint32_t image32(const struct table *t, uint64_t offset)
{
    return image64(t, offset) >> (offset & 4) * 8;
}

INLINE uint16_t image16(const struct table *t, uint64_t offset)
{
    return image64(t, offset) >> (offset & 6) * 8;
}

INLINE uint8_t image8(const struct table *t, uint64_t offset)
{
    return image64(t, offset) >> (offset & 7) * 8;
}

// ---- Hash, as KeyHash.swift -------------------------------------------------

struct product {
    uint64_t high, low;
};

// BPF has no 128-bit product.
INLINE struct product multiply(uint64_t a, uint64_t b)
{
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t ll = al * bl, lh = al * bh, hl = ah * bl, hh = ah * bh;
    uint64_t middle = (ll >> 32) + (uint32_t)lh + (uint32_t)hl;
    return (struct product){hh + (lh >> 32) + (hl >> 32) + (middle >> 32), a * b};
}

INLINE uint64_t mum(uint64_t a, uint64_t b)
{
    struct product p = multiply(a, b);
    return p.high ^ p.low;
}

INLINE uint64_t scaled(uint64_t x, uint64_t range) { return multiply(x, range).high; }

#define HASH_FINISH 0x9E3779B97F4A7C15ull
#define DISPLACE 0xD6E8FEB86659FD93ull
// Slots a walk through a plain table looks at; there is one only where no perfect hash was found.
#define PLAIN_WALK 64

struct key4 {
    uint64_t addresses;
    uint64_t tail;
};

struct key6 {
    struct address_words client, server;
    uint64_t tail;
};

INLINE uint64_t key_tail(uint16_t port, uint8_t proto, uint8_t kind)
{
    return (uint64_t)port << 16 | (uint64_t)proto << 8 | kind;
}

// Byte offset of the only slot that can hold a key with this hash.
INLINE uint64_t slot_of(const struct table *t, const struct perfect *p, uint64_t hash, uint64_t size)
{
    struct product split = multiply(hash, p->bucket_count);
    uint8_t pilot = image8(t, p->pilots + split.high);
    uint64_t base = (split.high >> (p->part_shift & 63)) * p->slots_per_part;
    return p->slots + (base + scaled((split.low ^ pilot) * DISPLACE, p->slots_per_part)) * size;
}

// What the key maps to, or NO_REFERENCE.
PART uint32_t find4(const struct table *t, const struct perfect *p, const struct key4 *key)
{
    if (!t || !p || !key)
        return NO_REFERENCE;
    uint64_t addresses = key->addresses, tail = key->tail;
    uint64_t hash = mum(addresses ^ p->seed[0], tail ^ p->seed[1]) * HASH_FINISH;
    if (LIKELY(!p->is_plain)) {
        uint64_t slot = slot_of(t, p, hash, sizeof *key);
        uint64_t found = image64(t, slot + 8);
        uint64_t differs = (image64(t, slot) ^ addresses) | ((found ^ tail) & 0xFFFFFFFF);
        return differs ? NO_REFERENCE : found >> 32;
    }
    uint64_t at = scaled(hash, p->slots_per_part);
    for (int i = 0; i < PLAIN_WALK; i++) {
        uint64_t slot = p->slots + at * sizeof *key;
        uint64_t found = image64(t, slot + 8);
        if ((found & 0xFF) == 0xFF)
            return NO_REFERENCE;
        if (((image64(t, slot) ^ addresses) | ((found ^ tail) & 0xFFFFFFFF)) == 0)
            return found >> 32;
        if (++at == p->slots_per_part)
            at = 0;
    }
    return UNKNOWN_REFERENCE;
}

INLINE bool slot_holds6(const struct table *t, uint64_t slot, const struct key6 *key, uint64_t found)
{
    uint64_t differs = (image64(t, slot) ^ key->client.high) | (image64(t, slot + 8) ^ key->client.low) |
                       (image64(t, slot + 16) ^ key->server.high) | (image64(t, slot + 24) ^ key->server.low);
    return (differs | ((found ^ key->tail) & 0xFFFFFFFF)) == 0;
}

PART uint32_t find6(const struct table *t, const struct perfect *p, const struct key6 *key)
{
    if (!t || !p || !key)
        return NO_REFERENCE;
    uint64_t first = mum(key->client.high ^ p->seed[0], key->client.low ^ p->seed[1]);
    uint64_t second = mum(key->server.high ^ p->seed[2], key->server.low ^ p->seed[3]);
    uint64_t hash = mum(first ^ p->seed[1], second ^ p->seed[0] ^ key->tail) * HASH_FINISH;
    if (LIKELY(!p->is_plain)) {
        uint64_t slot = slot_of(t, p, hash, sizeof *key);
        uint64_t found = image64(t, slot + 32);
        return slot_holds6(t, slot, key, found) ? found >> 32 : NO_REFERENCE;
    }
    uint64_t at = scaled(hash, p->slots_per_part);
    for (int i = 0; i < PLAIN_WALK; i++) {
        uint64_t slot = p->slots + at * sizeof *key;
        uint64_t found = image64(t, slot + 32);
        if ((found & 0xFF) == 0xFF)
            return NO_REFERENCE;
        if (slot_holds6(t, slot, key, found))
            return found >> 32;
        if (++at == p->slots_per_part)
            at = 0;
    }
    return UNKNOWN_REFERENCE;
}

// ---- References to rules, as RuleReferences.swift ---------------------------

struct resolving {
    const struct table *table;
    uint64_t list;
    uint32_t rule;
    uint16_t vlan;
    uint8_t client_side;
    // For the VLANs of one rule.
    uint64_t vlans;
    bool found;
};

static long is_vlan(__u32 turn, struct resolving *r)
{
    r->found = image16(r->table, r->vlans + turn * 2) == r->vlan;
    return r->found;
}

static long holds_rule(__u32 turn, struct resolving *r)
{
    uint32_t rule = image32(r->table, r->list + 4 + (uint64_t)turn * 4);
    // RuleNarrowing: sides in byte 0, VLANs in bytes 2 and 3, where they begin in bytes 4 to 7.
    uint64_t narrowing = image64(r->table, r->table->narrowings + (uint64_t)rule * 8);
    if (!(narrowing >> r->client_side & 1))
        return 0;
    uint32_t count = narrowing >> 16 & 0xFFFF;
    if (count) {
        r->found = false;
        r->vlans = r->table->vlans + (narrowing >> 32) * 2;
        bpf_loop(count, is_vlan, r, 0);
        if (!r->found)
            return 0;
    }
    r->rule = rule;
    return 1;
}

// The first rule of the reference that holds for this frame, or NO_RULE.
PART uint32_t resolve(const struct table *t, const struct work *w, uint32_t reference, uint32_t client_side)
{
    if (!t || !w)
        return NO_RULE;
    if (reference >= UNKNOWN_REFERENCE)
        return NO_RULE;
    if (!(reference & LIST_BIT))
        return reference;
    struct resolving r = {
        .table = t,
        .list = t->lists + (uint64_t)(reference & ~LIST_BIT) * 4,
        .rule = NO_RULE,
        .vlan = w->headers.vlan,
        .client_side = client_side & 1,
    };
    bpf_loop(image32(t, r.list), holds_rule, &r, 0);
    return r.rule;
}

// ---- Verdict, as Judge.swift ------------------------------------------------

// A kind no stored key has: then the lookup misses.
INLINE uint8_t key_kind(uint8_t marks, bool is_reply)
{
    return marks & (is_reply ? MARK_NEVER_REVERSE : MARK_NEVER_FORWARD);
}

INLINE uint8_t client_side(const struct work *w, bool is_reply, uint8_t side)
{
    bool is_error = w->headers.marks & MARK_ICMP_ERROR;
    return is_reply != is_error ? !side : side;
}

// Writes a verdict if there is a rule. Returns whether the frame is settled.
INLINE bool record(struct work *w, uint32_t rule, bool is_reply)
{
    if (rule == NO_RULE)
        return false;
    if (is_reply && w->headers.ip_protocol == PROTO_TCP && (w->headers.tcp_flags & 0x12) == 0x02 &&
        !(w->headers.marks & MARK_ICMP_ERROR)) {
        w->verdict.cause = CAUSE_SYN_FROM_SERVER;
        return false;
    }
    w->verdict.rule = rule;
    w->verdict.cause = CAUSE_NONE;
    w->verdict.is_reply = is_reply;
    return true;
}

PART int judge_exact(const struct table *t, struct work *w, uint32_t side, uint32_t is_reply)
{
    if (!t || !w)
        return false;
    const struct frame_headers *h = &w->headers;
    uint64_t tail = key_tail(is_reply ? h->source_port : h->destination_port, h->ip_protocol, key_kind(h->marks, is_reply));
    uint32_t reference;
    if (h->form == FORM_IPV4) {
        if (!t->exact4.count)
            return false;
        uint64_t client = is_reply ? h->destination.low : h->source.low;
        uint64_t server = is_reply ? h->source.low : h->destination.low;
        struct key4 key = {client << 32 | (uint32_t)server, tail};
        reference = find4(t, &t->exact4, &key);
    } else {
        if (!t->exact6.count)
            return false;
        struct key6 key = {is_reply ? h->destination : h->source, is_reply ? h->source : h->destination, tail};
        reference = find6(t, &t->exact6, &key);
    }
    return record(w, resolve(t, w, reference, client_side(w, is_reply, side)), is_reply);
}

// ---- Labels, as LabelTier.swift ---------------------------------------------

PART uint32_t label4(const struct table *t, uint32_t address)
{
    if (!t)
        return 0;
    uint32_t entry = image32(t, t->root4 + (uint64_t)(address >> 16) * 4);
    uint32_t rest = address << 16;
    for (int i = 0; i < 4 && entry & NODE_BIT; i++) {
        entry = image32(t, t->nodes4 + ((uint64_t)(entry & ~NODE_BIT) * 16 + (rest >> 28)) * 4);
        rest <<= 4;
    }
    return entry;
}

PART uint32_t label6(const struct table *t, const struct address_words *address)
{
    if (!t || !address)
        return 0;
    uint32_t entry = image32(t, t->root6 + (address->high >> 48) * 4);
    uint64_t high = address->high << 16 | address->low >> 48, low = address->low << 16;
    for (int i = 0; i < 28 && entry & NODE_BIT; i++) {
        entry = image32(t, t->nodes6 + ((uint64_t)(entry & ~NODE_BIT) * 16 + (high >> 60)) * 4);
        high = high << 4 | low >> 60;
        low <<= 4;
    }
    return entry;
}

// The reference for protocol and port in the set at `offset`, in words of 4 bytes.
PART uint32_t in_port_set(const struct table *t, uint32_t key, uint32_t offset)
{
    if (!t)
        return NO_REFERENCE;
    uint64_t set = t->port_sets + (uint64_t)offset * 4;
    uint32_t count = image32(t, set), base = 0;
    for (int i = 0; i < 32 && count > 1; i++) {
        uint32_t half = count >> 1;
        if (image32(t, set + 4 + (uint64_t)(base + half) * 12) <= key)
            base += half;
        count -= half;
    }
    uint64_t segment = set + 4 + (uint64_t)base * 12;
    if (image32(t, segment) <= key && key <= image32(t, segment + 4))
        return image32(t, segment + 8);
    return NO_REFERENCE;
}

PART uint32_t probe(const struct table *t, struct work *w, uint64_t pair, uint32_t side, uint32_t is_reply)
{
    if (!t || !w)
        return NO_RULE;
    uint32_t client = pair >> 32, server = pair;
    if (!client || !server)
        return NO_RULE;
    struct key4 key = {pair, 0};
    uint32_t set = find4(t, &t->pairs, &key);
    if (set >= UNKNOWN_REFERENCE)
        return NO_RULE;
    uint16_t port = is_reply ? w->headers.source_port : w->headers.destination_port;
    uint32_t reference = in_port_set(t, (uint32_t)w->headers.ip_protocol << 16 | port, set);
    return resolve(t, w, reference, client_side(w, is_reply, side));
}

INLINE uint32_t lower(uint32_t a, uint32_t b) { return a < b ? a : b; }

PART int judge_labels(const struct table *t, struct work *w, uint32_t side, uint32_t is_reply)
{
    if (!t || !w)
        return false;
    if (w->headers.marks & (is_reply ? MARK_NEVER_REVERSE : MARK_NEVER_FORWARD))
        return false;
    // LabelProjection: narrow and wide client, narrow and wide server, 4 bytes each.
    uint64_t of_client = t->projections + (uint64_t)w->labels[is_reply & 1] * 16;
    uint64_t of_server = t->projections + (uint64_t)w->labels[~is_reply & 1] * 16;
    uint64_t clients = image64(t, of_client), servers = image64(t, of_server + 8);
    uint64_t narrow_client = clients << 32, wide_client = clients >> 32 << 32;
    uint64_t narrow_server = (uint32_t)servers, wide_server = servers >> 32;
    uint64_t probes = t->probes_in_use;
    uint32_t rule = NO_RULE;
    if (probes & 1)
        rule = probe(t, w, narrow_client | narrow_server, side, is_reply);
    if (probes & 2)
        rule = lower(rule, probe(t, w, wide_client | narrow_server, side, is_reply));
    if (probes & 4)
        rule = lower(rule, probe(t, w, narrow_client | wide_server, side, is_reply));
    if (probes & 8)
        rule = lower(rule, probe(t, w, wide_client | wide_server, side, is_reply));
    return record(w, rule, is_reply);
}

// ---- Bindings ---------------------------------------------------------------

// MAC addresses carry the side they came in by above their 48 bits, as a bit; none: the side does not matter.
#define AT_SIDE(mac, side) ((mac) | (uint64_t)1 << (48 + (side)))

struct listing {
    const struct table *table;
    uint64_t list;
    uint64_t mac;
    bool found;
};

static long is_mac(__u32 turn, struct listing *l)
{
    l->found = image64(l->table, l->list + 8 + (uint64_t)turn * 8) == l->mac;
    return l->found;
}

// 0, or the cause to deny by.
PART int is_listed(const struct table *t, uint32_t place, uint64_t mac)
{
    if (!t)
        return CAUSE_ADDRESS_BINDING;
    if (place == NO_REFERENCE)
        return CAUSE_NONE;
    if (place == UNKNOWN_REFERENCE)
        return CAUSE_ADDRESS_BINDING;
    struct listing l = {t, t->bound_macs + (uint64_t)place * 8, mac & 0xFFFFFFFFFFFF, false};
    uint64_t head = image64(t, l.list);
    uint64_t count = head & 0xFFFFFFFF;
    // A loop that the kernel inlines compares all 64 bits, though its parameter has 32: the upper half must be 0 in the register.
    asm volatile("" : "+r"(count));
    uint64_t sides = head >> 32;
    if (count) {
        bpf_loop(count, is_mac, &l, 0);
        if (!l.found)
            return CAUSE_ADDRESS_BINDING;
    }
    return mac >> 48 & ~sides ? CAUSE_WRONG_SIDE : CAUSE_NONE;
}

PART int is_bound4(const struct table *t, uint32_t address, uint64_t mac)
{
    if (!t)
        return CAUSE_ADDRESS_BINDING;
    if (!t->bindings4.count)
        return CAUSE_NONE;
    struct key4 key = {(uint64_t)address << 32, 0};
    return is_listed(t, find4(t, &t->bindings4, &key), mac);
}

PART int is_bound6(const struct table *t, const struct address_words *address, uint64_t mac)
{
    if (!t || !address)
        return CAUSE_ADDRESS_BINDING;
    if (!t->bindings6.count)
        return CAUSE_NONE;
    struct key6 key = {*address, {0, 0}, 0};
    return is_listed(t, find6(t, &t->bindings6, &key), mac);
}

// Whether the sender's MAC address belongs to the side it came in by.
PART int is_at_side(const struct table *t, uint64_t mac)
{
    if (!t)
        return CAUSE_ADDRESS_BINDING;
    // The port 1 sets such keys apart from addresses.
    struct key4 key = {(mac & 0xFFFFFFFFFFFF) << 16, 1 << 16};
    return is_listed(t, find4(t, &t->bindings4, &key), mac);
}

PART int keeps_bindings4(const struct table *t, struct work *w, uint32_t side)
{
    if (!t || !w || side > 1)
        return CAUSE_ADDRESS_BINDING;
    struct wire f = WIRE(w);
    uint64_t source = AT_SIDE(mac_at(f, 6), side);
    const struct frame_headers *h = &w->headers;
    if (h->form == FORM_ARP) {
        int cause = is_bound4(t, h->source.low, source);
        return cause ? cause : is_bound4(t, h->source.low, h->claimed_mac);
    }
    // Not the headers' addresses: for an ICMP error those are the addresses of the packet inside.
    long network = h->network_offset;
    int cause = is_bound4(t, word32(f, network + 12), source);
    return cause ? cause : is_bound4(t, word32(f, network + 16), mac_at(f, 0));
}

PART int keeps_bindings6(const struct table *t, struct work *w, uint32_t side)
{
    if (!t || !w || side > 1)
        return CAUSE_ADDRESS_BINDING;
    struct wire f = WIRE(w);
    const struct frame_headers *h = &w->headers;
    long network = h->network_offset;
    struct address_words from = ipv6_at(f, network + 8), to = ipv6_at(f, network + 24);
    int cause = is_bound6(t, &from, AT_SIDE(mac_at(f, 6), side));
    if (!cause)
        cause = is_bound6(t, &to, mac_at(f, 0));
    if (cause || h->form != FORM_NEIGHBOUR || h->claimed_mac == 0)
        return cause;
    struct address_words claimed = h->source;
    return is_bound6(t, &claimed, AT_SIDE(h->claimed_mac, side));
}

// The cause by which an allowed frame breaks the bindings of its addresses, or 0.
INLINE int keeps_bindings(const struct table *t, struct work *w, uint8_t side)
{
    uint8_t form = w->headers.form;
    int cause = CAUSE_NONE;
    if (t->has_bindings & 2)
        cause = is_at_side(t, AT_SIDE(mac_at(WIRE(w), 6), side));
    if (cause || form == FORM_OTHER)
        return cause;
    return form == FORM_ARP || form == FORM_IPV4 ? keeps_bindings4(t, w, side) : keeps_bindings6(t, w, side);
}

// ---- One frame --------------------------------------------------------------

// The verdict that `enforce` gives, into `w->verdict`. `w` holds the frame's first bytes and its length.
INLINE void judge(const struct table *t, struct work *w, uint8_t side)
{
    struct frame_headers *h = &w->headers;
    *h = (struct frame_headers){.network_offset = 14};
    w->verdict = (struct verdict){.rule = NO_RULE};
    h->cause = part_ethernet(w);
    w->verdict.cause = h->cause;
    if (h->cause)
        return;
    if (h->form == FORM_IPV4 || h->form == FORM_IPV6) {
        if (h->marks & MARK_LATER_FRAGMENT) {
            w->verdict.cause = CAUSE_FRAGMENT_UNTRACKED;
            return;
        }
        w->verdict.cause = CAUSE_NOT_IN_POLICY;
        bool settled = judge_exact(t, w, side, false) || judge_exact(t, w, side, true);
        if (!settled && t->probes_in_use) {
            struct address_words source = h->source, destination = h->destination;
            bool is_ipv4 = h->form == FORM_IPV4;
            w->labels[0] = is_ipv4 ? label4(t, source.low) : label6(t, &source);
            w->labels[1] = is_ipv4 ? label4(t, destination.low) : label6(t, &destination);
            if (!judge_labels(t, w, side, false))
                judge_labels(t, w, side, true);
        }
    } else {
        // Neighbour discovery is IPv6's ARP, and passes where ARP does.
        uint32_t type = h->form == FORM_NEIGHBOUR ? TYPE_ARP : h->ethertype;
        if (!(image64(t, t->ethertypes + (type >> 6) * 8) >> (type & 63) & 1))
            w->verdict.cause = CAUSE_ETHERTYPE_NOT_ALLOWED;
    }
    if (t->has_bindings && w->verdict.cause == CAUSE_NONE)
        w->verdict.cause = keeps_bindings(t, w, side);
}

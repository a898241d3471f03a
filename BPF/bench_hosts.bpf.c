// The end hosts of a comparison run: a generator that keeps its own time, sinks that stamp, and the kernel's own redirect.
//
//   generate ─► end host's port ═══ forwarder under test ═══ other end host's port ─► sink
//
// The generator is run by BPF_PROG_RUN with live frames: every run of the program is one frame. It waits for the frame's time
// by itself, because a system call for each frame would cost more than the frame, and a call that sends many sends them at once.
// Latency counts from the time a frame was due, not from when it got away: a generator that is held up
// would otherwise leave out just the frames that waited longest (coordinated omission).

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

// Shared with Sources/Measure/HostPrograms.swift: change both.

struct frame {
    // Nanoseconds after the start of the loop; used if the plan is to keep recorded times.
    __u64 offset;
    // Bytes on the wire, and how many of them are kept below; the rest is whatever the page holds.
    __u16 length;
    __u16 kept;
    // Place in `ends` it leaves by.
    __u8 end;
    // 1: the policy does not allow it.
    __u8 denied;
    __u16 unused;
    __u8 bytes[];
};

struct plan {
    // CLOCK_MONOTONIC, ns.
    __u64 begin;
    __u64 end;
    // Time between two frames, in 1/65536 ns.
    __u64 interval;
    // Frames that are due at the same time.
    __u64 burst;
    // Frames to send, and frames in the list, which is sent round and round.
    __u64 total;
    __u64 listed;
    // Length of one round in ns if frames keep their recorded times, else 0.
    __u64 round;
    // Written by the generator: frames sent, ns spent waiting, place in the list and the round.
    __u64 sent;
    __u64 waited;
    __u64 place;
    __u64 rounds;
    // Not 0: latency counts from when a frame got away, and a frame that is late pushes all that follow; for trials in
    // which the generator shares its processor and must not make up for it by a burst.
    __u64 yields;
};

// What ends a frame, so that it can be known again whatever it is.
struct trailer {
    __u32 magic;
    __u32 sequence;
    __u64 due;
} __attribute__((packed));

#define MAGIC 0x534B5300 // "SKS", and in the low byte: bit 0 denied, bit 1 the end it left by

struct sample {
    __u32 latency;
    __u32 sequence;
};

struct arrivals {
    __u64 frames;
    // Of those that the policy does not allow.
    __u64 denied;
    // At the end they left by.
    __u64 reflected;
    __u64 reordered;
    __u64 last;
    __u64 unused[3];
};

// Set before loading.
const volatile __u32 kept_most = 112;
const volatile __u32 samples_most = 1 << 22;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(key_size, 4);
    __uint(value_size, sizeof(struct frame) + 112);
} frames SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct plan);
} plan SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1 << 22);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct sample);
} samples SEC(".maps");

// By end; then the number of samples.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 3);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct arrivals);
} arrived SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u32);
} ends SEC(".maps");

static long is_due(__u32 turn, void *due)
{
    return bpf_ktime_get_ns() >= *(__u64 *)due;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct plan *p = bpf_map_lookup_elem(&plan, &zero);
    if (!p || p->sent >= p->total)
        return XDP_DROP;
    __u32 place = p->place;
    struct frame *f = bpf_map_lookup_elem(&frames, &place);
    if (!f)
        return XDP_DROP;
    __u64 n = p->sent;
    __u64 due = p->begin;
    if (p->round)
        due += p->rounds * p->round + f->offset;
    else
        due += (n - n % (p->burst ?: 1)) * p->interval >> 16;
    __u64 now = bpf_ktime_get_ns();
    if (now > p->end)
        return XDP_DROP;
    if (p->yields && now > due)
        p->begin += now - due;
    if (now < due) {
        // Bounded by the verifier's largest count; a turn takes some 20 ns.
        for (int i = 0; i < 64 && bpf_ktime_get_ns() < due; i++)
            bpf_loop(1 << 23, is_due, &due, 0);
        p->waited += bpf_ktime_get_ns() - now;
    }
    p->sent = n + 1;
    if (place + 1 < p->listed) {
        p->place = place + 1;
    } else {
        p->place = 0;
        p->rounds++;
    }
    int longest = ctx->data_end - ctx->data;
    if (bpf_xdp_adjust_tail(ctx, (int)f->length - longest))
        return XDP_DROP;
    __u32 kept = f->kept;
    if (kept == 0 || kept > kept_most || bpf_xdp_store_bytes(ctx, 0, f->bytes, kept))
        return XDP_DROP;
    __u32 end = f->end & 1;
    struct trailer trailer = {MAGIC | (f->denied & 1) | end << 1, n, p->yields ? bpf_ktime_get_ns() : due};
    if (bpf_xdp_store_bytes(ctx, f->length - sizeof trailer, &trailer, sizeof trailer))
        return XDP_DROP;
    return bpf_redirect_map(&ends, end, 0);
}

static __always_inline int arrive(struct __sk_buff *skb, __u32 end)
{
    struct trailer trailer;
    __u32 counter = 2;
    if (skb->len < sizeof trailer || bpf_skb_load_bytes(skb, skb->len - sizeof trailer, &trailer, sizeof trailer))
        return TC_ACT_OK;
    if ((trailer.magic & ~3u) != MAGIC)
        return TC_ACT_OK;
    __u64 now = bpf_ktime_get_ns();
    struct arrivals *a = bpf_map_lookup_elem(&arrived, &end);
    struct arrivals *all = bpf_map_lookup_elem(&arrived, &counter);
    if (!a || !all)
        return TC_ACT_SHOT;
    if ((trailer.magic >> 1 & 1) == end) {
        __sync_fetch_and_add(&a->reflected, 1);
        return TC_ACT_SHOT;
    }
    // Two processors may deliver at once where a forwarder spreads frames.
    __sync_fetch_and_add(&a->frames, 1);
    if (trailer.magic & 1)
        __sync_fetch_and_add(&a->denied, 1);
    if (trailer.sequence < a->last)
        __sync_fetch_and_add(&a->reordered, 1);
    a->last = trailer.sequence;
    __u64 at = __sync_fetch_and_add(&all->frames, 1);
    if (at < samples_most) {
        __u32 key = at;
        struct sample *s = bpf_map_lookup_elem(&samples, &key);
        if (s) {
            __u64 latency = now - trailer.due;
            s->latency = latency > 0xFFFFFFFF ? 0xFFFFFFFF : latency;
            s->sequence = trailer.sequence;
        }
    }
    return TC_ACT_SHOT;
}

SEC("tc")
int sink_outside(struct __sk_buff *skb)
{
    return arrive(skb, 0);
}

SEC("tc")
int sink_inside(struct __sk_buff *skb)
{
    return arrive(skb, 1);
}

// The peer "XDP redirect": every frame to the other port, nothing judged.

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u32);
} ports SEC(".maps");

SEC("xdp")
int to_outside(struct xdp_md *ctx)
{
    return bpf_redirect_map(&ports, 0, 0);
}

SEC("xdp")
int to_inside(struct xdp_md *ctx)
{
    return bpf_redirect_map(&ports, 1, 0);
}

char _license[] SEC("license") = "Apache-2.0";

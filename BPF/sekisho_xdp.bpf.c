// The kernel's part: hands every frame to the AF_XDP socket of the queue it came in by, and knows what to do without one.
//
//   NIC queue n ─► this program ─┬─► xsks[n] ─► worker            while the worker is alive
//                                ├─► dropped and counted          else, as the policy says: closed
//                                ├─► the other port               open
//                                └─► judged here ─► other port    kernel (twin.h)
//
// Nothing is passed to the kernel's network stack. One frame in so many gets the time in front of it (metadata area).
//
// License: GPL-compatible is required for some helpers; none is used here.

#include "twin.h"

// More queues than any port driver of today offers a bridge.
#define MAX_QUEUES 256

// Queues of the inside port, then of the outside port.
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 2 * MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} xsks SEC(".maps");

// The two ports, inside first.
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u32);
} ports SEC(".maps");

// What the bridge is doing; an index of `control.actions`.
enum state { STARTING, RUNNING, STOPPING, STATES };
// What becomes of frames that no worker judges.
enum action { CLOSED, OPEN, KERNEL };

// Sources/Datapath/XDPProgram.swift writes the same words.
struct control {
    __u32 outside; // interface index of the outside port
    __u32 state;
    // By state; in RUNNING: when the worker is dead.
    __u32 actions[4];
    // Not 0: everything is judged here, whether there are workers or not.
    __u32 only_kernel;
    // Which of `tables` is in use.
    __u32 table;
    // Nanoseconds after which a heartbeat is old.
    __u64 deadline;
    // One frame in so many is timed, on average; 0: none.
    __u32 gap;
    // Known to this process's workers only, in the low 16 bits: what lies in front of a frame by accident is no time.
    __u32 tag;
    // The longest frame that the sockets take: a longer one wakes nobody.
    __u32 longest;
    // Devices in `quarantine`; with SECOND_HALF they are in that one; with ISLAND nothing crosses.
    __u32 quarantined;
    // ns of CLOCK_MONOTONIC until which nothing crosses: it ends without a process as well.
    __u64 island_until;
};
#define ISLAND 0x80000000u
#define SECOND_HALF 0x40000000u

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct control);
} control SEC(".maps");

// Quarantine.swift's entries, but for the exceptions: while the kernel judges there are none. Two halves: the one in use, and the
// one that is being written.
#define MAX_QUARANTINED 64
struct quarantined {
    struct address_words address; // all ones: none
    __u64 mac;                    // 0: none
    __u64 is_ipv6;
    __u64 until;                  // ns of CLOCK_MONOTONIC
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2 * MAX_QUARANTINED);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct quarantined);
} quarantine SEC(".maps");

// A queue of a port, indexed as `xsks`.
struct queue {
    // Frames timed so far. The worker looks in front of frames only when this has moved: the cache line in front of
    // every frame would cost more than the frame.
    __u64 stamped;
    // Who serves it.
    __u64 worker;
    // Where the kernel judges its frames: a processor, plus 1; 0: where they come in.
    __u64 judge;
    // Frames sent there; some may find its queue full.
    __u64 sent;
    __u64 unused[4];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2 * MAX_QUEUES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct queue);
} queues SEC(".maps");

// Written by the workers, a cache line each: CLOCK_MONOTONIC_COARSE of the last sign of life, ns. 0: asleep until a
// frame comes; then this program writes the time, and the worker has `deadline` from then on.
struct beat {
    __u64 at;
    // Not 0: found dead; written by the program below.
    __u64 failing;
    __u64 unused[6];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MAX_QUEUES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct beat);
} beats SEC(".maps");

// Times in which frames came and no worker judged them, by state.
struct failure {
    __u64 episodes;
    // Of the last one, CLOCK_MONOTONIC: begin, last frame in it, and the frame that ended it; 0 if it goes on.
    __u64 since;
    __u64 last;
    __u64 until;
    // How many workers it is about; starting and stopping: 1.
    __u64 active;
    __u64 unused[3];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STATES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct failure);
} failures SEC(".maps");

// What became of frames that no worker judged, in frames and bytes: Counters.swift has the same layout for workers.
struct traffic {
    __u64 frames, bytes;
};

struct counts {
    struct traffic received, forwarded;
    struct traffic denied[CAUSE_CAPACITY];
    // Forwarded in `learn` or `monitor` although `enforce` would have denied them.
    struct traffic noted[CAUSE_CAPACITY];
};

// By the port a frame came in by.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct counts);
} kernel_counts SEC(".maps");

// Frames until the next one is timed.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} frames_left SEC(".maps");

#define TIME_BITS 48

INLINE void stamp(struct xdp_md *ctx, const struct control *c, struct queue *queue)
{
    __u32 zero = 0;
    __u32 *left = bpf_map_lookup_elem(&frames_left, &zero);
    if (!left)
        return;
    if (*left > 0) {
        (*left)--;
        return;
    }
    if (c->gap == 0)
        return;
    // Random steps with the gap as their mean: every so-manieth frame of a periodic sender would always be the same one.
    *left = bpf_get_prandom_u32() % (2 * c->gap - 1);
    // A driver without a metadata area refuses; the frame goes on untimed.
    if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(__u64)))
        return;
    __u64 *time = (void *)(long)ctx->data_meta;
    if ((void *)(time + 1) > (void *)(long)ctx->data)
        return;
    // Before the frame is shown to the worker. One processor serves a queue at a time.
    queue->stamped++;
    *time = (__u64)c->tag << TIME_BITS | (bpf_ktime_get_ns() & ((1ULL << TIME_BITS) - 1));
}

INLINE void add(struct traffic *traffic, __u32 bytes)
{
    traffic->frames++;
    traffic->bytes += bytes;
}

// Where frames come and no worker judges them: begins an episode, or goes on with it. `mine` is `control.state`;
// `beat` the worker's, or NULL.
NOINLINE void fail(__u32 mine, struct beat *beat)
{
    struct failure *f = bpf_map_lookup_elem(&failures, &mine);
    if (!f)
        return;
    __u64 now = bpf_ktime_get_ns();
    f->last = now;
    // Two processors may come here at once: the episode is one.
    if (beat ? __sync_lock_test_and_set(&beat->failing, 1) : f->active)
        return;
    if (__sync_fetch_and_add(&f->active, 1))
        return;
    f->since = now;
    f->until = 0;
    __sync_fetch_and_add(&f->episodes, 1);
}

// A worker that was dead judges again. The episode is over when all do.
NOINLINE void recover(struct beat *beat)
{
    __u32 running = RUNNING;
    struct failure *f = bpf_map_lookup_elem(&failures, &running);
    if (!f || !beat || !__sync_lock_test_and_set(&beat->failing, 0))
        return;
    if (f->active && __sync_fetch_and_add(&f->active, -1) == 1)
        f->until = bpf_ktime_get_ns();
}

// The frame's first bytes into this processor's `work`.
INLINE struct work *take(struct xdp_md *ctx, __u32 length)
{
    __u32 zero = 0;
    struct work *w = bpf_map_lookup_elem(&work, &zero);
    if (!w)
        return 0;
    w->length = length;
    __u64 take = length > LOOKED_AT ? LOOKED_AT : length;
    w->available = take;
    // The compiler knows the bounds and would leave out the check; the verifier needs it.
    asm volatile("" : "+r"(take));
    if (take == 0 || take > LOOKED_AT || bpf_xdp_load_bytes(ctx, 0, w->bytes, take))
        w->available = 0; // "truncated"
    return w;
}

INLINE int leave(__u32 side, struct counts *counts, __u32 length)
{
    add(&counts->forwarded, length);
    return bpf_redirect_map(&ports, !side, 0);
}

// Whether a frame that was parsed is to or from a device that is cut off.
PART int is_quarantined(struct work *w, uint32_t count)
{
    // Of a frame whose addresses were not reached there are none.
    if (!w)
        return false;
    struct wire f = WIRE(w);
    const struct frame_headers *h = &w->headers;
    uint64_t receiver = word64(f, 0) >> 16, sender = word64(f, 6) >> 16;
    struct address_words source = h->source, destination = h->destination;
    if (h->marks & MARK_ICMP_ERROR && h->cause == CAUSE_NONE) {
        // Those are the addresses of the packet inside.
        long network = h->network_offset;
        if (h->form == FORM_IPV4) {
            source = (struct address_words){0, word32(f, network + 12)};
            destination = (struct address_words){0, word32(f, network + 16)};
        } else {
            source = (struct address_words){word64(f, network + 8), word64(f, network + 16)};
            destination = (struct address_words){word64(f, network + 24), word64(f, network + 32)};
        }
    }
    bool is_ipv6 = h->form == FORM_IPV6 || h->form == FORM_NEIGHBOUR;
    __u64 now = bpf_ktime_get_ns();
    __u32 half = count & SECOND_HALF ? MAX_QUARANTINED : 0;
    count &= 0xFF;
    for (__u32 i = 0; i < MAX_QUARANTINED && i < count; i++) {
        __u32 place = half + i;
        const struct quarantined *q = bpf_map_lookup_elem(&quarantine, &place);
        if (!q)
            break;
        if (q->until <= now)
            continue;
        if (q->mac && (q->mac == sender || q->mac == receiver))
            return true;
        if (h->form == FORM_OTHER || (q->is_ipv6 != 0) != is_ipv6)
            continue;
        if ((q->address.high == source.high && q->address.low == source.low) ||
            (q->address.high == destination.high && q->address.low == destination.low))
            return true;
    }
    return false;
}

INLINE int is_island(const struct control *c)
{
    return c->quarantined & ISLAND && bpf_ktime_get_ns() < c->island_until;
}

INLINE int judge_here(struct xdp_md *ctx, const struct control *c, __u32 side, struct counts *counts, __u32 length)
{
    __u32 place = c->table & 1;
    struct table *t = bpf_map_lookup_elem(&tables, &place);
    struct work *w = take(ctx, length);
    if (!t || !w)
        return XDP_DROP;
    if (t->magic != TABLE_MAGIC) {
        add(&counts->denied[CAUSE_NO_WORKER], length);
        return XDP_DROP;
    }
    judge(t, w, side);
    __u32 cause = w->verdict.cause & (CAUSE_CAPACITY - 1);
    __u32 quarantined = c->quarantined;
    if (UNLIKELY(quarantined)) {
        int island = is_island(c);
        if (island || is_quarantined(w, quarantined)) {
            add(&counts->denied[island ? CAUSE_ISOLATED : CAUSE_QUARANTINED], length);
            return XDP_DROP;
        }
    }
    if (cause == CAUSE_NONE) {
        __u32 rule = t->hits_base + w->verdict.rule;
        __u64 *hit = w->verdict.rule == NO_RULE ? 0 : bpf_map_lookup_elem(&hits, &rule);
        if (hit)
            __sync_fetch_and_add(hit, 1);
        return leave(side, counts, length);
    }
    if (t->mode == MODE_ENFORCE) {
        add(&counts->denied[cause], length);
        return XDP_DROP;
    }
    add(&counts->noted[cause], length);
    return leave(side, counts, length);
}

// Processors that judge in the kernel's stead, for ports with too few queues to use them all.
struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    // As many as there may be processors, which the loader knows.
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct bpf_cpumap_val);
} processors SEC(".maps");

// Runs on one of these, for frames that sekisho_xdp has sent there.
SEC("xdp.frags/cpumap")
int sekisho_judge(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct control *c = bpf_map_lookup_elem(&control, &zero);
    if (!c)
        return XDP_DROP;
    __u32 side = ctx->ingress_ifindex == c->outside;
    struct counts *counts = bpf_map_lookup_elem(&kernel_counts, &side);
    if (!counts)
        return XDP_DROP;
    __u32 length = bpf_xdp_get_buff_len(ctx);
    add(&counts->received, length);
    return judge_here(ctx, c, side, counts, length);
}

// "xdp.frags": frames larger than one buffer are welcome (multi-buffer XDP).
SEC("xdp.frags")
int sekisho_xdp(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct control *c = bpf_map_lookup_elem(&control, &zero);
    if (!c)
        return XDP_DROP;
    __u32 side = ctx->ingress_ifindex == c->outside;
    __u32 state = c->state & 3;
    struct beat *beat = 0;
    if (LIKELY(state == RUNNING && !c->only_kernel)) {
        __u32 index = side * MAX_QUEUES + (ctx->rx_queue_index & (MAX_QUEUES - 1));
        struct queue *queue = bpf_map_lookup_elem(&queues, &index);
        __u32 worker = queue ? queue->worker : 0;
        beat = bpf_map_lookup_elem(&beats, &worker);
        if (!queue || !beat)
            return XDP_DROP;
        __u64 now = bpf_ktime_get_coarse_ns(), at = beat->at;
        if (UNLIKELY(at == 0)) {
            at = now;
            if (bpf_xdp_get_buff_len(ctx) <= c->longest)
                beat->at = now;
        }
        if (LIKELY(at + c->deadline >= now)) {
            stamp(ctx, c, queue);
            // The flags say what to return where the map has no socket.
            if (LIKELY(bpf_redirect_map(&xsks, index, XDP_DROP) == XDP_REDIRECT)) {
                if (UNLIKELY(beat->failing))
                    recover(beat);
                return XDP_REDIRECT;
            }
        }
    }
    if (c->only_kernel && state == RUNNING) {
        __u32 index = side * MAX_QUEUES + (ctx->rx_queue_index & (MAX_QUEUES - 1));
        struct queue *queue = bpf_map_lookup_elem(&queues, &index);
        // One queue's frames stay in order.
        if (queue && queue->judge) {
            queue->sent++;
            return bpf_redirect_map(&processors, queue->judge - 1, 0);
        }
    }
    struct counts *counts = bpf_map_lookup_elem(&kernel_counts, &side);
    if (!counts)
        return XDP_DROP;
    __u32 length = bpf_xdp_get_buff_len(ctx);
    add(&counts->received, length);
    if (c->only_kernel && state == RUNNING)
        return judge_here(ctx, c, side, counts, length);
    fail(state, beat);
    __u32 action = c->actions[state];
    if (action == KERNEL)
        return judge_here(ctx, c, side, counts, length);
    if (UNLIKELY(is_island(c))) {
        add(&counts->denied[CAUSE_ISOLATED], length);
        return XDP_DROP;
    }
    if (action == OPEN)
        return leave(side, counts, length);
    add(&counts->denied[CAUSE_NO_WORKER], length);
    return XDP_DROP;
}

// For tests (BPF_PROG_TEST_RUN): what the twin says of a frame, as `cause << 40 | is_reply << 32 | rule` in `said`.
// The side is that of `control`, as above.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u64);
} said SEC(".maps");

SEC("xdp.frags")
int sekisho_say(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct control *c = bpf_map_lookup_elem(&control, &zero);
    __u64 *answer = bpf_map_lookup_elem(&said, &zero);
    if (!c || !answer)
        return XDP_ABORTED;
    __u32 place = c->table & 1;
    struct table *t = bpf_map_lookup_elem(&tables, &place);
    struct work *w = take(ctx, bpf_xdp_get_buff_len(ctx));
    if (!t || !w)
        return XDP_ABORTED;
    judge(t, w, c->state & 1);
    *answer = (__u64)w->verdict.cause << 40 | (__u64)w->verdict.is_reply << 32 | w->verdict.rule;
    return XDP_PASS;
}

char _license[] SEC("license") = "Apache-2.0";

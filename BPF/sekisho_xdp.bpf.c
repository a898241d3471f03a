// The kernel's part: hands every frame of a port to the AF_XDP socket of the queue it came in by.
//
//   NIC queue n ─► this program ─► xsks[n] ─► worker
//                    │   └─ no socket there ─► dropped and counted
//                    └─ one frame in so many gets the time in front of it (metadata area)
//
// It judges nothing and passes nothing to the kernel's network stack: a frame
// that no worker takes is dropped, so the bridge fails closed.
//
// License: GPL-compatible is required for some helpers; none is used here.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// More queues than any port driver of today offers a bridge.
#define MAX_QUEUES 256

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} xsks SEC(".maps");

// Frames dropped because their queue had no socket.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} no_socket SEC(".maps");

// Which frames are timed; Sources/CLinux/xdp.c (clinux_xdp_set_sampling) writes the same words.
struct sampling {
    // One frame in so many, on average; 0: none.
    __u32 gap;
    // Known to this process's workers only, in the low 16 bits: what lies in front of a frame by accident is no time.
    __u32 tag;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sampling);
} sampling SEC(".maps");

// Frames until the next one is timed.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} frames_left SEC(".maps");

// Frames timed so far, by queue; mapped into the worker, which looks in front of frames only when this has moved: the
// cache line in front of every frame would cost more than the frame.
struct stamped {
    __u64 frames;
    __u64 unused[7];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MAX_QUEUES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct stamped);
} stamped SEC(".maps");

#define TIME_BITS 48

static __always_inline void stamp(struct xdp_md *ctx)
{
    __u32 zero = 0;
    __u32 *left = bpf_map_lookup_elem(&frames_left, &zero);
    if (!left)
        return;
    if (*left > 0) {
        (*left)--;
        return;
    }
    struct sampling *s = bpf_map_lookup_elem(&sampling, &zero);
    if (!s || s->gap == 0)
        return;
    // Random steps with the gap as their mean: every so-manieth frame of a periodic sender would always be the same one.
    *left = bpf_get_prandom_u32() % (2 * s->gap - 1);
    // A driver without a metadata area refuses; the frame goes on untimed.
    if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(__u64)))
        return;
    __u64 *time = (void *)(long)ctx->data_meta;
    if ((void *)(time + 1) > (void *)(long)ctx->data)
        return;
    __u32 queue = ctx->rx_queue_index;
    struct stamped *count = bpf_map_lookup_elem(&stamped, &queue);
    if (!count)
        return;
    // Before the frame is shown to the worker. One processor serves a queue at a time.
    count->frames++;
    *time = (__u64)s->tag << TIME_BITS | (bpf_ktime_get_ns() & ((1ULL << TIME_BITS) - 1));
}

// "xdp.frags": frames larger than one buffer are welcome (multi-buffer XDP).
SEC("xdp.frags")
int sekisho_xdp(struct xdp_md *ctx)
{
    stamp(ctx);
    // The flags say what to return where the map has no socket.
    int action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);
    if (action != XDP_REDIRECT) {
        __u32 zero = 0;
        __u64 *count = bpf_map_lookup_elem(&no_socket, &zero);
        if (count)
            (*count)++;
    }
    return action;
}

char _license[] SEC("license") = "Apache-2.0";

// The kernel's part: hands every frame of a port to the AF_XDP socket of the queue it came in by.
//
//   NIC queue n ─► this program ─► xsks[n] ─► worker
//                        └─ no socket there ─► dropped and counted
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

// "xdp.frags": frames larger than one buffer are welcome (multi-buffer XDP).
SEC("xdp.frags")
int sekisho_xdp(struct xdp_md *ctx)
{
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

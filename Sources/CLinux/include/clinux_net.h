// Port settings: what takes a union, a variable argument list or a macro to ask for.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/// What the driver says of itself.
typedef struct {
  char driver[32];
} clinux_driver;

// Each returns 0 or -errno.

int clinux_driver_info(const char *name, clinux_driver *out);

/// RX queues in use and the most the driver offers. A driver that cannot say has one.
int clinux_queues(const char *name, uint32_t *rx, uint32_t *rx_max);

/// Offloads that change what an XDP program sees, by the kernel's names: "rx-vlan-hw-parse". -EOPNOTSUPP where
/// there is no such thing.
int clinux_feature_get(const char *name, const char *feature, bool *on);
int clinux_feature_set(const char *name, const char *feature, bool on);

/// Interface flags (IFF_*), MTU and hardware address.
int clinux_flags(const char *name, uint32_t *flags);
int clinux_set_up(const char *name, bool up);
int clinux_set_promiscuous(const char *name, bool on);
int clinux_mtu(const char *name, uint32_t *mtu);
int clinux_mac(const char *name, uint8_t mac[6], uint16_t *hardware_type);

/// What the kernel says that the driver can do with XDP (NETDEV_XDP_ACT_*, Linux 6.3). 0 or -errno; older kernels: -ENOENT.
int clinux_xdp_features(int ifindex, uint64_t *features);

/// A socket that keeps the port in promiscuous mode for as long as it is open, or -errno.
/// The kernel counts such memberships: nothing is left behind by a killed process.
int clinux_promiscuous(int ifindex);

/// A socket that sends whole frames by a port and receives nothing, or -errno.
int clinux_sender(int ifindex);

/// Sends frames without waiting, 64 at the most; how many, or -errno if it was not even one.
int clinux_send_frames(int fd, struct iovec *frames, int count);

/// Pins the calling thread to one processor.
int clinux_pin_thread(int cpu);
/// Lets the calling thread, and those it starts, run on these processors only.
int clinux_keep_thread_to(const int *cpus, int count);
/// Lets the calling thread run before others (nice value); needs CAP_SYS_NICE to go below 0.
int clinux_set_nice(int nice);
/// Processors this process may use, written to `cpus`; returns how many.
int clinux_allowed_cpus(int *cpus, int capacity);
/// Names the calling thread for /proc and debuggers; 15 characters.
/// Takes from the calling thread, and those it starts, every capability that is not in `keep` (a bit each), and
/// every way to get one back. 0 or -errno.
int clinux_keep_capabilities(uint64_t keep);

/// User at the other end of a connected Unix socket; -1 if it cannot be told.
int64_t clinux_peer_user(int fd);

/// Leaves the calling thread the system calls of the packet path, of waiting, and of its own end; every other fails with
/// EPERM from now on (libseccomp). 0 or -errno.
int clinux_confine_worker(void);

void clinux_name_thread(const char *name);
/// Lets the calling thread run where the first one of this process may. 0 or -errno.
int clinux_follow_first_thread(void);
/// Thread id as in /proc.
int clinux_thread_id(void);

/// A non-blocking eventfd: wakes a thread that sleeps in poll. -1 and errno on failure.
int clinux_wakeup(void);

/// A signalfd for a set of signals, and the next of them (0 if there is none).
int clinux_signals(const void *signal_set);
int clinux_next_signal(int descriptor);

/// Writes what was printed and is still in memory. 0 or -errno; -EIO also where something before could not be written, and why is
/// not known any more.
int clinux_finish_output(void);

/// Gives freed memory back to the system.
void clinux_release_memory(void);

/// "EPERM" for 1, and so on; "errno 4711" for what has no name.
const char *clinux_errno_name(int code);

/// Bit of a capability in the effective set (CAP_*). -errno if it cannot be told.
int clinux_has_capability(int capability);

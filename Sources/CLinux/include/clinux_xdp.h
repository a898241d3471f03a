// AF_XDP and libbpf as Swift needs them.
//
// The kernel's headers of Debian 12 (6.1) lack what newer kernels offer, so it
// is named here, with the version it came in. Rings and their memory order are
// written in Swift (Sources/Datapath); only what Swift cannot say stands here.
#pragma once

#include "clinux_cpu.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

enum {
  /// Multi-buffer at bind (Linux 6.6).
  clinux_XDP_USE_SG = 1 << 4,
  /// In a descriptor's options: the frame goes on in the next one (Linux 6.6).
  clinux_XDP_PKT_CONTD = 1 << 0,
  /// Frames one sendto may send in copy mode (Linux 6.18); 32 before.
  clinux_XDP_MAX_TX_SKB_BUDGET = 9,
};

/// Asks the kernel to send what is in a socket's TX ring. 0 or -errno.
CLINUX_PACKET_PATH
static inline int clinux_kick_tx(int fd) {
  return sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? -errno : 0;
}

/// Asks the kernel to look at a socket's fill ring. 0 or -errno.
CLINUX_PACKET_PATH
static inline int clinux_kick_rx(int fd) {
  return recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 ? -errno : 0;
}

// MARK: - The XDP program

/// An XDP program of one port: loaded, attached by a link of this process, and its maps.
/// The kernel takes it off the port when the last file descriptor of the link goes, so a killed process leaves nothing.
typedef struct clinux_xdp_program clinux_xdp_program;

/// Loads `object` (an ELF file in memory). NULL and `errno` on failure; `log` gets
/// what libbpf and the verifier said.
clinux_xdp_program *clinux_xdp_load(const void *object, size_t size, char *log, size_t log_size);

/// Attaches to `ifindex`. `native`: in the driver; else in the generic path. 0 or -errno.
int clinux_xdp_attach(clinux_xdp_program *program, int ifindex, bool native, char *log, size_t log_size);

/// Puts a socket at `queue`. 0 or -errno.
int clinux_xdp_set_socket(clinux_xdp_program *program, uint32_t queue, int socket);

/// Which frames get a time: one in `gap` on average (0: none), marked with `tag`. 0 or -errno.
int clinux_xdp_set_sampling(clinux_xdp_program *program, uint32_t gap, uint16_t tag);

/// Maps the counts of timed frames: a 64-bit counter for each queue, 64 bytes apart. The mapping outlives the program.
/// NULL and errno on failure.
void *clinux_xdp_stamped(const clinux_xdp_program *program, size_t *bytes);

/// Frames dropped for want of a socket, over all processors.
uint64_t clinux_xdp_no_socket(const clinux_xdp_program *program);

/// Detaches and unloads.
void clinux_xdp_close(clinux_xdp_program *program);

/// Program attached to a port now: its id (0: none) and its name.
typedef struct {
  uint32_t id;
  char name[16];
} clinux_xdp_attached;

/// 0 or -errno.
int clinux_xdp_query(int ifindex, clinux_xdp_attached *out);

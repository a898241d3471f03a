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

/// The XDP program of both ports, its maps, and the links that hold it to them. `side`: 0 inside, 1 outside.
///
/// The kernel takes it off a port when the link's last file descriptor goes, so a killed process leaves nothing,
/// unless the link is pinned: then it stays until the file is removed.
typedef struct clinux_xdp_program clinux_xdp_program;

/// Loads `object` (an ELF file in memory). NULL and `errno` on failure; `log` gets what libbpf and the verifier said.
///
/// - image_words, rules: room for tables and for counters of rules, both halves together.
/// - before: a program of this process, whose other maps this one takes over, or NULL.
/// - predecessor: the pinned link of a program whose counters go on in this one's, or NULL.
clinux_xdp_program *clinux_xdp_load(
    const void *object, size_t size, uint32_t image_words, uint32_t rules, const clinux_xdp_program *before,
    const char *predecessor, char *log, size_t log_size);

/// Says which ports they are, before anything is attached. 0 or -errno.
int clinux_xdp_set_port(clinux_xdp_program *program, int side, int ifindex);

/// Attaches to `ifindex`. `native`: in the driver; else in the generic path. 0 or -errno.
int clinux_xdp_attach(clinux_xdp_program *program, int side, int ifindex, bool native, char *log, size_t log_size);

/// Gives a port's link a file, which keeps it when this process ends. 0 or -errno.
int clinux_xdp_pin(clinux_xdp_program *program, int side, const char *pin);

/// Makes `folder` a place where links can be pinned, if it is none. 0 or -errno.
int clinux_mount_bpffs(const char *folder);
bool clinux_is_bpffs(const char *folder);

/// Takes over the pinned link of a port, whose program is replaced at once: no frame meets none. 0 or -errno;
/// -ENOENT: there is none; -ENODEV: it is for another port.
int clinux_xdp_adopt(clinux_xdp_program *program, int side, int ifindex, const char *pin);

/// Puts it on the links it holds once more, whoever was there meanwhile. 0 or -errno.
int clinux_xdp_reassert(clinux_xdp_program *program);

/// Puts back what was on the links it has taken over.
void clinux_xdp_give_back(clinux_xdp_program *program);

/// Puts `program` in the place of `before` on both ports. 0 or -errno; then all is as it was.
int clinux_xdp_replace(clinux_xdp_program *program, clinux_xdp_program *before);

/// Puts a socket at `place` (side × 256 + queue). 0 or -errno.
int clinux_xdp_set_socket(clinux_xdp_program *program, uint32_t place, int socket);

/// Says who serves the queue at `place`, and on which processor the kernel judges its frames if it does (-1: where they
/// come in). 0 or -errno.
int clinux_xdp_set_worker(clinux_xdp_program *program, uint32_t place, uint32_t worker, int judge);

/// Maps a map's values; the mapping outlives the program. NULL and errno on failure.
void *clinux_xdp_map(const clinux_xdp_program *program, const char *name, bool writable, size_t *bytes);

/// What became of frames that no worker judged, over all processors: `words` 64-bit counters. 0 or -errno.
int clinux_xdp_counts(const clinux_xdp_program *program, uint32_t side, uint64_t *sums, size_t words);

/// Has the twin judge a frame; what it says is in the map "said". 0 or -errno.
int clinux_xdp_say(const clinux_xdp_program *program, const void *frame, uint32_t length);

/// Returns when no processor runs an XDP program that began before the call.
void clinux_xdp_wait_for_programs(void);

/// Closes its links: what is not pinned comes off its port.
void clinux_xdp_release(clinux_xdp_program *program);

/// The same, and unloads.
void clinux_xdp_close(clinux_xdp_program *program);

/// Program attached to a port now: its id (0: none) and its name.
typedef struct {
  uint32_t id;
  char name[16];
  bool native;
} clinux_xdp_attached;

/// 0 or -errno.
int clinux_xdp_query(int ifindex, clinux_xdp_attached *out);

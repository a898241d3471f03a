// An AF_XDP forwarder between two ports, one queue each, in C: what Sekisho is measured against on the wire.
//
//   c-forwarder INSIDE OUTSIDE TABLE_IMAGE [--cpu N] [--idle spin|hybrid] [--object XDP.o]
//
// Sockets, rings and their sizes are those of Sources/Datapath. Promiscuous mode and the ports' offloads are
// the caller's business. Prints "forwarding" when it does, and its counters as one line of JSON at the end.
#define _GNU_SOURCE
#include "ctwin.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// The kernel's headers of Debian 12 (6.1) lack what newer kernels offer.
enum {
  USE_SG = 1 << 4,            // multi-buffer at bind (Linux 6.6)
  MAX_TX_SKB_BUDGET = 9,      // frames one sendto may send in copy mode (Linux 6.18)
  FRAMES_PER_SOCKET = 8192,   // twice the RX ring
  RX_RING_SIZE = 4096,
  TX_RING_SIZE = 2048,
  HEADROOM = 256,             // XDP_PACKET_HEADROOM
  LINK_HEADER = 14 + 8,       // Ethernet and two VLAN tags
  EMPTY_TURNS_BEFORE_SLEEP = 4096,
  TURNS_PER_CHECK = 64,
  LONGEST_SLEEP = 500,        // milliseconds
  RELEASE_PATIENCE = 3000,    // milliseconds: what a killed process held is being taken apart
  MAX_QUEUES = 256,
  EXIT_USAGE = 64,
};

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static _Noreturn __attribute__((format(printf, 3, 4))) void fail(int status, int error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("c-forwarder: ", stderr);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (error) {
    const char *name = strerrorname_np(error);
    fprintf(stderr, ": %s (%s)", name ? name : "unknown", strerror(error));
  }
  fputc('\n', stderr);
  exit(status);
}

static _Noreturn void usage(const char *what, const char *which) {
  fprintf(stderr,
          "c-forwarder: %s%s%s\n"
          "usage: c-forwarder INSIDE OUTSIDE TABLE_IMAGE [--cpu N] [--idle spin|hybrid] [--object XDP.o]\n",
          what, which ? ": " : "", which ? which : "");
  exit(EXIT_USAGE);
}

// ---- Arguments --------------------------------------------------------------

struct options {
  const char *ports[2];
  const char *image;
  const char *object;
  int cpu;  // -1: the last one this process may use
  bool spins;
};

static struct options read_options(int argc, char **argv) {
  struct options options = {.cpu = -1};
  const char *words[3];
  int count = 0;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (strncmp(word, "--", 2)) {
      if (count == 3) usage("too many arguments", word);
      words[count++] = word;
      continue;
    }
    bool is_cpu = !strcmp(word, "--cpu"), is_idle = !strcmp(word, "--idle"), is_object = !strcmp(word, "--object");
    if (!is_cpu && !is_idle && !is_object) usage("unknown option", word);
    if (++i == argc) usage("an option without its value", word);
    const char *value = argv[i];
    if (is_object) {
      options.object = value;
    } else if (is_idle) {
      options.spins = !strcmp(value, "spin");
      if (!options.spins && strcmp(value, "hybrid")) usage("--idle takes spin or hybrid, not", value);
    } else {
      char *end;
      errno = 0;
      long cpu = strtol(value, &end, 10);
      if (errno || end == value || *end || cpu < 0 || cpu >= CPU_SETSIZE) usage("--cpu takes a processor, not", value);
      options.cpu = (int)cpu;
    }
  }
  if (count < 3) usage("two ports and a table image are needed", NULL);
  options.ports[0] = words[0];
  options.ports[1] = words[1];
  options.image = words[2];
  if (!strcmp(words[0], words[1])) usage("INSIDE and OUTSIDE must be two ports, not", words[0]);
  return options;
}

struct port {
  const char *name;
  int index;
  int mtu;
  bool is_native;
  // The link detaches the program when it is closed, so a killed process leaves nothing.
  int link, map;
  struct bpf_object *object;
};

static struct port open_port(const char *name) {
  struct port port = {.name = name, .link = -1, .map = -1};
  if (strlen(name) >= IFNAMSIZ) fail(EXIT_USAGE, ENODEV, "no port %s", name);
  port.index = (int)if_nametoindex(name);
  if (!port.index) fail(EXIT_USAGE, errno, "no port %s", name);
  struct ifreq request = {0};
  strcpy(request.ifr_name, name);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0) fail(1, errno, "reading the MTU of %s", name);
  port.mtu = request.ifr_mtu;
  close(fd);
  return port;
}

// ---- The XDP program --------------------------------------------------------

static int keep_quiet(enum libbpf_print_level level, const char *format, va_list arguments) {
  return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

// Six instructions: to the socket of the queue a frame came in by; dropped where there is none.
static int load_program(struct port *port) {
  port->map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "xsks", 4, 4, MAX_QUEUES, NULL);
  if (port->map < 0) fail(1, errno, "making the map of sockets for %s", port->name);
  const struct bpf_insn program[] = {
      // r2 = ctx->rx_queue_index
      {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1,
       .off = offsetof(struct xdp_md, rx_queue_index)},
      // r1 = the map: two slots
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = port->map},
      {0},
      // r3 = what to return where the map has no socket
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_DROP},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
      {.code = BPF_JMP | BPF_EXIT},
  };
  static char log[16384];
  // Frames larger than one buffer are welcome.
  LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = BPF_F_XDP_HAS_FRAGS, .log_buf = log, .log_size = sizeof log,
              .expected_attach_type = BPF_XDP);
  int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "c_forwarder", "Apache-2.0", program, sizeof program / sizeof *program,
                         &options);
  if (fd < 0) fail(1, errno, "loading the XDP program for %s (%s)", port->name, log);
  return fd;
}

// Sekisho's own object, or another with an XDP program and a map "xsks".
static int load_object(struct port *port, const char *path) {
  port->object = bpf_object__open_file(path, NULL);
  if (!port->object) fail(EXIT_USAGE, errno, "opening %s", path);
  if (bpf_object__load(port->object)) fail(1, errno, "loading %s for %s", path, port->name);
  struct bpf_program *program = bpf_object__next_program(port->object, NULL);
  port->map = bpf_object__find_map_fd_by_name(port->object, "xsks");
  if (!program || port->map < 0) fail(EXIT_USAGE, 0, "%s has no XDP program with a map \"xsks\"", path);
  return bpf_program__fd(program);
}

static void sleep_ms(long milliseconds) {
  struct timespec time = {.tv_nsec = milliseconds * 1000000};
  nanosleep(&time, NULL);
}

static void attach(struct port *port, int program) {
  for (int waited = 0;; waited += 50) {
    LIBBPF_OPTS(bpf_link_create_opts, native, .flags = XDP_FLAGS_DRV_MODE);
    port->link = bpf_link_create(program, port->index, BPF_XDP, &native);
    if (port->link >= 0) {
      port->is_native = true;
      return;
    }
    int error = errno;
    // A program is there already: native or generic makes no difference.
    if (error != EBUSY && error != EEXIST) {
      LIBBPF_OPTS(bpf_link_create_opts, generic, .flags = XDP_FLAGS_SKB_MODE);
      port->link = bpf_link_create(program, port->index, BPF_XDP, &generic);
      if (port->link >= 0) return;
      fail(1, errno, "attaching the XDP program to %s (native: %s; generic)", port->name, strerrorname_np(error));
    }
    if (waited >= RELEASE_PATIENCE) fail(1, error, "attaching the XDP program to %s", port->name);
    sleep_ms(50);
  }
}

// ---- Frames and sockets -----------------------------------------------------

struct umem {
  void *base;
  size_t frame_count, frame_size, size;
};

static struct umem map_umem(size_t frame_count, size_t frame_size) {
  struct umem umem = {.frame_count = frame_count, .frame_size = frame_size, .size = frame_count * frame_size};
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
  // Reserved huge pages where there are any; else normal ones, which the kernel may join.
  umem.base = mmap(NULL, umem.size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
  if (umem.base == MAP_FAILED) umem.base = mmap(NULL, umem.size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (umem.base == MAP_FAILED) fail(1, errno, "reserving %zu MiB for frames", umem.size >> 20);
  madvise(umem.base, umem.size, MADV_DONTDUMP);
  return umem;
}

struct mapping {
  void *at;
  size_t size;
};

struct xsk {
  struct ctwin_rings rings;
  struct mapping mappings[4];
};

static void close_xsk(struct xsk *xsk) {
  for (int i = 0; i < 4; i++)
    if (xsk->mappings[i].at) munmap(xsk->mappings[i].at, xsk->mappings[i].size);
  if (xsk->rings.fd >= 0) close(xsk->rings.fd);
  *xsk = (struct xsk){.rings.fd = -1};
}

static struct ctwin_ring map_ring(struct xsk *xsk, int which, const struct xdp_ring_offset *offset, uint32_t size,
                                  size_t entry, uint64_t page, const char *port) {
  size_t bytes = offset->desc + size * entry;
  char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, xsk->rings.fd, (off_t)page);
  if (at == MAP_FAILED) fail(1, errno, "mapping the rings of %s queue 0", port);
  xsk->mappings[which] = (struct mapping){at, bytes};
  return (struct ctwin_ring){
      .producer = (uint32_t *)(at + offset->producer),
      .consumer = (uint32_t *)(at + offset->consumer),
      .flags = (uint32_t *)(at + offset->flags),
      .entries = at + offset->desc,
      .size = size,
  };
}

// A socket and its rings, not bound yet. The first one registers the UMEM.
static struct xsk open_xsk(const char *port, const struct umem *umem, bool is_first) {
  struct xsk xsk = {.rings.fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  int fd = xsk.rings.fd;
  if (fd < 0) fail(1, errno, "opening an AF_XDP socket for %s queue 0", port);
  if (is_first) {
    struct xdp_umem_reg region = {
        .addr = (uintptr_t)umem->base, .len = umem->size, .chunk_size = (uint32_t)umem->frame_size};
    if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &region, sizeof region) < 0)
      fail(1, errno, "registering %zu MiB of frames as UMEM of %s queue 0", umem->size >> 20, port);
  }
  // Fill and completion rings hold all frames, so that nobody ever waits for room in them.
  const uint32_t all = (uint32_t)umem->frame_count;
  const struct {
    int option;
    uint32_t size;
    const char *name;
  } rings[] = {
      {XDP_UMEM_FILL_RING, all, "fill"},
      {XDP_UMEM_COMPLETION_RING, all, "completion"},
      {XDP_RX_RING, RX_RING_SIZE, "RX"},
      {XDP_TX_RING, TX_RING_SIZE, "TX"},
  };
  for (int i = 0; i < 4; i++)
    if (setsockopt(fd, SOL_XDP, rings[i].option, &rings[i].size, sizeof rings[i].size) < 0)
      fail(1, errno, "making the %s ring (%u entries) of %s queue 0", rings[i].name, rings[i].size, port);
  struct xdp_mmap_offsets offsets;
  socklen_t length = sizeof offsets;
  if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) < 0)
    fail(1, errno, "reading the ring offsets of %s queue 0", port);
  xsk.rings.rx = map_ring(&xsk, 0, &offsets.rx, RX_RING_SIZE, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING, port);
  xsk.rings.tx = map_ring(&xsk, 1, &offsets.tx, TX_RING_SIZE, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING, port);
  xsk.rings.fill = map_ring(&xsk, 2, &offsets.fr, all, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING, port);
  xsk.rings.completion = map_ring(&xsk, 3, &offsets.cr, all, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING, port);
  return xsk;
}

// 0 or the errno. `shared`: the socket with the UMEM, or -1 if this is it; then `flags` count.
static int bind_xsk(int fd, const struct port *port, int shared, uint16_t flags) {
  struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_ifindex = (uint32_t)port->index};
  if (shared >= 0) {
    address.sxdp_flags = XDP_SHARED_UMEM;
    address.sxdp_shared_umem_fd = (uint32_t)shared;
  } else {
    address.sxdp_flags = flags | XDP_USE_NEED_WAKEUP;
  }
  for (int waited = 0;; waited += 50) {
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return 0;
    // The queue's former socket is closed, but the kernel frees it later.
    if (errno != EBUSY || waited >= RELEASE_PATIENCE) return errno;
    sleep_ms(50);
  }
}

static bool is_zero_copy(int fd) {
  struct xdp_options options = {0};
  socklen_t length = sizeof options;
  return getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &length) == 0 && options.flags & XDP_OPTIONS_ZEROCOPY;
}

// ---- The thread -------------------------------------------------------------

static void pin(int cpu) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) fail(1, errno, "asking for the processors of this process");
  if (cpu < 0)
    for (int i = 0; i < CPU_SETSIZE; i++)
      if (CPU_ISSET(i, &set)) cpu = i;
  if (!CPU_ISSET(cpu, &set)) fail(EXIT_USAGE, 0, "processor %d is none this process may use", cpu);
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) fail(1, errno, "pinning to processor %d", cpu);
  // Best effort: whoever shares the processor comes after the wire.
  setpriority(PRIO_PROCESS, 0, -20);
}

static void spin_hint(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Polls until there was nothing to do for `limit` turns, or it is time to end. Returns false if it may sleep.
static bool poll_while_busy(struct ctwin_worker *worker, long limit) {
  long empty = 0;
  unsigned turns = 0;
  while (empty < limit) {
    if (ctwin_worker_poll(worker) > 0) {
      empty = 0;
    } else {
      empty++;
      spin_hint();
    }
    if ((++turns & (TURNS_PER_CHECK - 1)) == 0 && stopped) return true;
  }
  // What could not be sent yet must be tried again soon.
  return ctwin_worker_has_pending(worker);
}

static void run(struct ctwin_worker *worker, const struct xsk xsks[2], bool spins) {
  struct pollfd waiting[2] = {{.fd = xsks[0].rings.fd, .events = POLLIN}, {.fd = xsks[1].rings.fd, .events = POLLIN}};
  uint64_t *sleeps = &ctwin_worker_counters(worker)[CTWIN_SLEEPS];
  while (!stopped) {
    if (poll_while_busy(worker, spins ? __LONG_MAX__ : EMPTY_TURNS_BEFORE_SLEEP)) continue;
    ++*sleeps;
    ctwin_worker_go_offline(worker);
    poll(waiting, 2, LONGEST_SLEEP);
    ctwin_worker_go_online(worker);
    ctwin_worker_retry_stuck(worker);
  }
  ctwin_worker_go_offline(worker);
}

// ---- The end ----------------------------------------------------------------

static void print_direction(const char *name, const uint64_t *counters, int fd) {
  uint64_t denied = 0;
  for (int cause = 1; cause < CAUSE_CAPACITY; cause++) denied += counters[CTWIN_DENIED + 2 * cause];
  printf("\"%s\":{\"received\":%llu,\"forwarded\":%llu,\"denied\":%llu,\"received_bytes\":%llu,"
         "\"forwarded_bytes\":%llu,\"causes\":{",
         name, (unsigned long long)counters[CTWIN_RECEIVED], (unsigned long long)counters[CTWIN_FORWARDED],
         (unsigned long long)denied, (unsigned long long)counters[CTWIN_RECEIVED + 1],
         (unsigned long long)counters[CTWIN_FORWARDED + 1]);
  const char *comma = "";
  for (int cause = 1; cause < CAUSE_CAPACITY; cause++) {
    if (!counters[CTWIN_DENIED + 2 * cause]) continue;
    printf("%s\"%s\":%llu", comma, ctwin_cause_name((unsigned)cause),
           (unsigned long long)counters[CTWIN_DENIED + 2 * cause]);
    comma = ",";
  }
  struct xdp_statistics statistics = {0};
  socklen_t length = sizeof statistics;
  getsockopt(fd, SOL_XDP, XDP_STATISTICS, &statistics, &length);
  printf("},\"rx_dropped\":%llu,\"rx_ring_full\":%llu,\"rx_fill_ring_empty_descs\":%llu}",
         (unsigned long long)statistics.rx_dropped, (unsigned long long)statistics.rx_ring_full,
         (unsigned long long)statistics.rx_fill_ring_empty_descs);
}

int main(int argc, char **argv) {
  struct options options = read_options(argc, argv);
  struct ctwin_table table;
  const char *why;
  int error = ctwin_table_load(&table, options.image, &why);
  if (error) fail(EXIT_USAGE, -error, "reading the table %s%s%s", options.image, why ? ": " : "", why ? why : "");
  struct port ports[2];
  for (int i = 0; i < 2; i++) ports[i] = open_port(options.ports[i]);
  if (ports[0].index == ports[1].index) usage("INSIDE and OUTSIDE are one port", options.ports[1]);
  if (ports[0].mtu != ports[1].mtu) fail(EXIT_USAGE, 0, "%s and %s differ in MTU", ports[0].name, ports[1].name);
  pin(options.cpu);

  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);

  libbpf_set_print(keep_quiet);
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  for (int i = 0; i < 2; i++) {
    int program = options.object ? load_object(&ports[i], options.object) : load_program(&ports[i]);
    attach(&ports[i], program);
    if (!options.object) close(program);  // the link keeps it
  }

  // 2048 holds a frame of a normal MTU, a page anything larger, in several buffers if need be.
  int longest = ports[0].mtu + LINK_HEADER;
  size_t frame_size = longest <= 2048 - HEADROOM ? 2048 : 4096;
  uint16_t chains = longest > (int)frame_size - HEADROOM ? USE_SG : 0;

  uint64_t *hits = calloc(table.rules + 16, sizeof *hits);
  uint64_t *hits_of[1] = {hits};
  static uint64_t seen[16] __attribute__((aligned(128)));
  const struct ctwin_publication publication = {.table = &table, .version = table.version, .hits = hits_of};
  const struct ctwin_publication *current = &publication;
  if (!hits) fail(1, ENOMEM, "counting the hits of %llu rules", (unsigned long long)table.rules);

  // Zero copy, or else everything again in copy mode.
  struct ctwin_worker *worker = NULL;
  struct xsk xsks[2];
  bool tries_zero_copy = ports[0].is_native && ports[1].is_native;
  for (int copies = !tries_zero_copy; !worker; copies = 1) {
    struct umem umem = map_umem(2 * FRAMES_PER_SOCKET, frame_size);
    for (int i = 0; i < 2; i++) xsks[i] = open_xsk(ports[i].name, &umem, i == 0);
    const struct ctwin_rings rings[2] = {xsks[0].rings, xsks[1].rings};
    const struct ctwin_worker_config config = {
        .sockets = rings,
        .inside_count = 1,
        .outside_count = 1,
        .umem = umem.base,
        .frame_count = umem.frame_count,
        .frame_size = frame_size,
        .current = &current,
        .seen = seen,
    };
    worker = ctwin_worker_create(&config);
    if (!worker) fail(1, errno, "making the worker");
    // Before the sockets are bound: some drivers leak what comes too early.
    ctwin_worker_prepare(worker);
    int failed = 0;
    for (int i = 0; i < 2 && !error; i++) {
      failed = i;
      error = bind_xsk(rings[i].fd, &ports[i], i ? rings[0].fd : -1, (copies ? XDP_COPY : XDP_ZEROCOPY) | chains);
      // Lets one call send a whole ring in copy mode; older kernels stay at 32 frames.
      uint32_t budget = TX_RING_SIZE;
      if (!error) setsockopt(rings[i].fd, SOL_XDP, MAX_TX_SKB_BUDGET, &budget, sizeof budget);
    }
    if (!error) break;
    if (copies) fail(1, error, "binding an AF_XDP socket to %s queue 0", ports[failed].name);
    error = 0;
    ctwin_worker_destroy(worker);
    worker = NULL;
    for (int i = 1; i >= 0; i--) close_xsk(&xsks[i]);
    munmap(umem.base, umem.size);
  }

  ctwin_worker_go_online(worker);
  for (int i = 0; i < 2; i++) {
    uint32_t queue = 0, fd = (uint32_t)xsks[i].rings.fd;
    if (bpf_map_update_elem(ports[i].map, &queue, &fd, BPF_ANY) < 0)
      fail(1, errno, "giving queue 0 of %s its socket", ports[i].name);
  }
  puts("forwarding");
  fflush(stdout);
  run(worker, xsks, options.spins);

  // The programs go first: a socket closed under load upsets some drivers.
  for (int i = 0; i < 2; i++) close(ports[i].link);
  const uint64_t *counters = ctwin_worker_counters(worker);
  putchar('{');
  print_direction("inside", counters, xsks[0].rings.fd);
  putchar(',');
  print_direction("outside", counters + CTWIN_PER_SIDE, xsks[1].rings.fd);
  printf(",\"mode\":\"%s\",\"xdp\":\"%s\",\"polls\":%llu,\"sleeps\":%llu,\"kicks\":%llu,\"kick_errors\":%llu}\n",
         is_zero_copy(xsks[0].rings.fd) && is_zero_copy(xsks[1].rings.fd) ? "zero-copy" : "copy",
         ports[0].is_native && ports[1].is_native ? "native" : "generic", (unsigned long long)counters[CTWIN_POLLS],
         (unsigned long long)counters[CTWIN_SLEEPS], (unsigned long long)counters[CTWIN_KICKS],
         (unsigned long long)counters[CTWIN_KICK_ERRORS]);
  fflush(stdout);
  for (int i = 0; i < 2; i++) {
    close_xsk(&xsks[i]);
    bpf_object__close(ports[i].object);
  }
  ctwin_worker_destroy(worker);
  ctwin_table_close(&table);
  free(hits);
  return 0;
}

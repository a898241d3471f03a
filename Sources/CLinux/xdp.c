#define _GNU_SOURCE
#include "clinux_xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "log.h"

static char *log_at;
static size_t log_left;

static int keep_log(enum libbpf_print_level level, const char *format, va_list arguments) {
  if (level == LIBBPF_DEBUG || !log_at || log_left < 2) return 0;
  int n = vsnprintf(log_at, log_left, format, arguments);
  if (n < 0) return 0;
  size_t used = (size_t)n < log_left ? (size_t)n : log_left - 1;
  log_at += used;
  log_left -= used;
  return 0;
}

void clinux_begin_log(char *log, size_t size) {
  log_at = log;
  log_left = size;
  if (size) log[0] = 0;
  libbpf_set_print(keep_log);
}

void clinux_end_log(void) {
  log_at = NULL;
  log_left = 0;
}

struct clinux_xdp_program {
  struct bpf_object *object;
  int program, judge_program, test_program;
  int links[2];
  // What was on a link before it was taken over, or -1.
  int previous[2];
};

// Maps that a program of another size takes over from the one before: all but the table.
static const char *const shared_maps[] = {"xsks", "ports", "control", "queues", "beats", "failures", "kernel_counts", "frames_left", "processors", "quarantine"};

static int map_of(const clinux_xdp_program *own, const char *name) {
  return bpf_object__find_map_fd_by_name(own->object, name);
}

// What a program that is still attached has counted goes on in the next one's maps, if they have the same shape.
static const char *const inherited_maps[] = {"failures", "kernel_counts"};

static void inherit(clinux_xdp_program *own, const char *pin) {
  int link = bpf_obj_get(pin);
  if (link < 0) return;
  struct bpf_link_info link_info = {0};
  uint32_t size = sizeof link_info;
  int program = bpf_obj_get_info_by_fd(link, &link_info, &size) < 0 ? -1 : bpf_prog_get_fd_by_id(link_info.prog_id);
  close(link);
  if (program < 0) return;
  uint32_t ids[64];
  struct bpf_prog_info info = {.nr_map_ids = 64, .map_ids = (uint64_t)(uintptr_t)ids};
  size = sizeof info;
  int error = bpf_obj_get_info_by_fd(program, &info, &size);
  close(program);
  for (uint32_t i = 0; !error && i < info.nr_map_ids && i < 64; i++) {
    int fd = bpf_map_get_fd_by_id(ids[i]);
    struct bpf_map_info found = {0};
    size = sizeof found;
    if (fd < 0 || bpf_obj_get_info_by_fd(fd, &found, &size) < 0) continue;
    for (size_t k = 0; k < sizeof inherited_maps / sizeof *inherited_maps; k++) {
      struct bpf_map *map = bpf_object__find_map_by_name(own->object, inherited_maps[k]);
      if (map && !strncmp(found.name, inherited_maps[k], sizeof found.name - 1) && found.type == bpf_map__type(map) &&
          found.value_size == bpf_map__value_size(map) && found.max_entries == bpf_map__max_entries(map))
        bpf_map__reuse_fd(map, fd);
    }
    close(fd);
  }
}

clinux_xdp_program *clinux_xdp_load(
    const void *bytes, size_t size, uint32_t image_words, uint32_t rules, const clinux_xdp_program *before,
    const char *predecessor, char *log, size_t log_size) {
  clinux_xdp_program *own = calloc(1, sizeof *own);
  if (!own) return NULL;
  own->links[0] = own->links[1] = own->previous[0] = own->previous[1] = -1;
  clinux_begin_log(log, log_size);
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "sekisho");
  own->object = bpf_object__open_mem(bytes, size, &options);
  if (!own->object) goto failed;
  struct bpf_map *image = bpf_object__find_map_by_name(own->object, "image");
  struct bpf_map *hits = bpf_object__find_map_by_name(own->object, "hits");
  struct bpf_map *processors = bpf_object__find_map_by_name(own->object, "processors");
  int possible = libbpf_num_possible_cpus();
  // The kernel refuses more than it is built for.
  if (!processors || possible <= 0 || bpf_map__set_max_entries(processors, (uint32_t)possible)) goto failed;
  if (!image || !hits || bpf_map__set_max_entries(image, image_words) || bpf_map__set_max_entries(hits, rules)) goto failed;
  if (before)
    for (size_t i = 0; i < sizeof shared_maps / sizeof *shared_maps; i++) {
      struct bpf_map *map = bpf_object__find_map_by_name(own->object, shared_maps[i]);
      if (!map || bpf_map__reuse_fd(map, map_of(before, shared_maps[i]))) goto failed;
    }
  if (predecessor) inherit(own, predecessor);
  if (bpf_object__load(own->object)) goto failed;
  struct bpf_program *program = bpf_object__find_program_by_name(own->object, "sekisho_xdp");
  struct bpf_program *test = bpf_object__find_program_by_name(own->object, "sekisho_say");
  struct bpf_program *judge = bpf_object__find_program_by_name(own->object, "sekisho_judge");
  own->program = program ? bpf_program__fd(program) : -1;
  own->test_program = test ? bpf_program__fd(test) : -1;
  own->judge_program = judge ? bpf_program__fd(judge) : -1;
  if (own->program < 0 || own->judge_program < 0 || own->test_program < 0) {
    errno = ENOENT;
    goto failed;
  }
  clinux_end_log();
  return own;
failed:;
  int error = errno;
  if (own->object) bpf_object__close(own->object);
  free(own);
  clinux_end_log();
  errno = error;
  return NULL;
}

int clinux_xdp_set_port(clinux_xdp_program *own, int side, int ifindex) {
  uint32_t place = (uint32_t)side, port = (uint32_t)ifindex;
  return bpf_map_update_elem(map_of(own, "ports"), &place, &port, BPF_ANY) < 0 ? -errno : 0;
}

int clinux_xdp_attach(clinux_xdp_program *own, int side, int ifindex, bool native, char *log, size_t log_size) {
  clinux_begin_log(log, log_size);
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  int link = bpf_link_create(own->program, ifindex, BPF_XDP, &options);
  int error = link < 0 ? -errno : 0;
  clinux_end_log();
  if (!error) own->links[side] = link;
  return error;
}

int clinux_xdp_pin(clinux_xdp_program *own, int side, const char *pin) {
  return bpf_obj_pin(own->links[side], pin) < 0 ? -errno : 0;
}

int clinux_mount_bpffs(const char *folder) {
  struct statfs status;
  if (statfs(folder, &status) < 0) return -errno;
  if ((uint32_t)status.f_type == BPF_FS_MAGIC) return 0;
  return mount("bpf", folder, "bpf", 0, "mode=0700") < 0 ? -errno : 0;
}

bool clinux_is_bpffs(const char *folder) {
  struct statfs status;
  return statfs(folder, &status) == 0 && (uint32_t)status.f_type == BPF_FS_MAGIC;
}

int clinux_xdp_adopt(clinux_xdp_program *own, int side, int ifindex, const char *pin) {
  int link = bpf_obj_get(pin);
  if (link < 0) return -errno;
  struct bpf_link_info info = {0};
  uint32_t size = sizeof info;
  int error = bpf_obj_get_info_by_fd(link, &info, &size) < 0 ? -errno : 0;
  // The port it was for may have gone, and its number may have another.
  if (!error && (info.type != BPF_LINK_TYPE_XDP || info.xdp.ifindex != (uint32_t)ifindex)) error = -ENODEV;
  int previous = error ? -1 : bpf_prog_get_fd_by_id(info.prog_id);
  if (!error && bpf_link_update(link, own->program, NULL) < 0) error = -errno;
  if (error) {
    close(link);
    if (previous >= 0) close(previous);
    return error;
  }
  own->links[side] = link;
  own->previous[side] = previous;
  return 0;
}

int clinux_xdp_reassert(clinux_xdp_program *own) {
  for (int side = 0; side < 2; side++)
    if (own->links[side] >= 0 && bpf_link_update(own->links[side], own->program, NULL) < 0) return -errno;
  return 0;
}

void clinux_xdp_give_back(clinux_xdp_program *own) {
  for (int side = 0; side < 2; side++)
    if (own->links[side] >= 0 && own->previous[side] >= 0) bpf_link_update(own->links[side], own->previous[side], NULL);
}

// Frames that may wait for a processor that judges: as many as in a RX ring.
enum { JUDGE_QUEUE = 4096 };

static int set_judge(clinux_xdp_program *own, uint32_t cpu) {
  struct bpf_cpumap_val value = {.qsize = JUDGE_QUEUE, .bpf_prog.fd = own->judge_program};
  return bpf_map_update_elem(map_of(own, "processors"), &cpu, &value, BPF_ANY) < 0 ? -errno : 0;
}

static int set_judges(clinux_xdp_program *own) {
  int possible = libbpf_num_possible_cpus(), error = 0;
  for (int cpu = 0; cpu < possible; cpu++) {
    struct bpf_cpumap_val value;
    if (bpf_map_lookup_elem(map_of(own, "processors"), &cpu, &value) || !value.qsize) continue;
    int failed = set_judge(own, (uint32_t)cpu);
    if (failed) error = failed;
  }
  return error;
}

int clinux_xdp_replace(clinux_xdp_program *own, clinux_xdp_program *before) {
  int error = set_judges(own);
  for (int side = 0; side < 2 && !error; side++)
    if (before->links[side] >= 0 && bpf_link_update(before->links[side], own->program, NULL) < 0) error = -errno;
  if (error) {
    // All or nothing: the table that is in use is the old program's.
    for (int side = 0; side < 2; side++)
      if (before->links[side] >= 0) bpf_link_update(before->links[side], before->program, NULL);
    set_judges(before);
    return error;
  }
  for (int side = 0; side < 2; side++) {
    own->links[side] = before->links[side];
    own->previous[side] = before->previous[side];
    before->links[side] = before->previous[side] = -1;
  }
  return 0;
}

int clinux_xdp_set_socket(clinux_xdp_program *own, uint32_t place, int socket) {
  uint32_t value = (uint32_t)socket;
  return bpf_map_update_elem(map_of(own, "xsks"), &place, &value, BPF_ANY) < 0 ? -errno : 0;
}

int clinux_xdp_set_worker(clinux_xdp_program *own, uint32_t place, uint32_t worker, int judge) {
  // Where that cannot be, frames are judged where they come in.
  bool has_judge = judge >= 0 && set_judge(own, (uint32_t)judge) == 0;
  // struct queue of BPF/sekisho_xdp.bpf.c.
  uint64_t value[8] = {0, worker, has_judge ? (uint64_t)judge + 1 : 0};
  return bpf_map_update_elem(map_of(own, "queues"), &place, value, BPF_ANY) < 0 ? -errno : 0;
}

void *clinux_xdp_map(const clinux_xdp_program *own, const char *name, bool writable, size_t *bytes) {
  struct bpf_map *map = bpf_object__find_map_by_name(own->object, name);
  if (!map) { errno = ENOENT; return NULL; }
  // The kernel rounds each value up to 8 bytes.
  *bytes = ((size_t)bpf_map__value_size(map) + 7) / 8 * 8 * bpf_map__max_entries(map);
  void *at = mmap(NULL, *bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, bpf_map__fd(map), 0);
  return at == MAP_FAILED ? NULL : at;
}

int clinux_xdp_counts(const clinux_xdp_program *own, uint32_t side, uint64_t *sums, size_t words) {
  int processors = libbpf_num_possible_cpus();
  if (processors <= 0) return processors;
  uint64_t *values = calloc((size_t)processors * words, sizeof *values);
  if (!values) return -ENOMEM;
  int error = bpf_map_lookup_elem(map_of(own, "kernel_counts"), &side, values) < 0 ? -errno : 0;
  memset(sums, 0, words * sizeof *sums);
  if (!error)
    for (int i = 0; i < processors; i++)
      for (size_t w = 0; w < words; w++) sums[w] += values[(size_t)i * words + w];
  free(values);
  return error;
}

int clinux_xdp_say(const clinux_xdp_program *own, const void *frame, uint32_t length) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = length, .repeat = 1);
  int error = bpf_prog_test_run_opts(own->test_program, &options);
  return error ? -errno : options.retval == XDP_PASS ? 0 : -EBADMSG;
}

void clinux_xdp_wait_for_programs(void) {
  // Waits until no processor runs a program that began before (synchronize_rcu); refused where processors run without ticks.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0) usleep(50000);
}

void clinux_xdp_release(clinux_xdp_program *own) {
  for (int side = 0; side < 2; side++) {
    if (own->links[side] >= 0) close(own->links[side]);
    if (own->previous[side] >= 0) close(own->previous[side]);
    own->links[side] = own->previous[side] = -1;
  }
}

void clinux_xdp_close(clinux_xdp_program *own) {
  if (!own) return;
  clinux_xdp_release(own);
  bpf_object__close(own->object);
  free(own);
}

int clinux_xdp_query(int ifindex, clinux_xdp_attached *out) {
  memset(out, 0, sizeof *out);
  clinux_begin_log(NULL, 0);
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  int error = bpf_xdp_query(ifindex, 0, &query);
  clinux_end_log();
  if (error) return error;
  out->id = query.drv_prog_id ? query.drv_prog_id : query.skb_prog_id ? query.skb_prog_id : query.prog_id;
  out->native = query.drv_prog_id != 0;
  if (!out->id) return 0;
  int fd = bpf_prog_get_fd_by_id(out->id);
  if (fd < 0) return 0;
  struct bpf_prog_info info = {0};
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) memcpy(out->name, info.name, sizeof out->name - 1);
  close(fd);
  return 0;
}

#define _GNU_SOURCE
#include "clinux_bench.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"

struct clinux_bpf {
  struct bpf_object *object;
};

clinux_bpf *clinux_bpf_load(
    const void *bytes, size_t size, const clinux_map_size *sizes, int size_count, const uint32_t *rodata, int rodata_count,
    char *log, size_t log_size) {
  clinux_bpf *own = calloc(1, sizeof *own);
  if (!own) return NULL;
  clinux_begin_log(log, log_size);
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "sekisho_bench");
  own->object = bpf_object__open_mem(bytes, size, &options);
  if (!own->object) goto failed;
  for (int i = 0; i < size_count; i++) {
    struct bpf_map *map = bpf_object__find_map_by_name(own->object, sizes[i].map);
    if (!map) { errno = ENOENT; goto failed; }
    if (sizes[i].entries && bpf_map__set_max_entries(map, sizes[i].entries)) goto failed;
    if (sizes[i].value_size && bpf_map__set_value_size(map, sizes[i].value_size)) goto failed;
  }
  if (rodata) {
    struct bpf_map *map, *constants = NULL;
    bpf_object__for_each_map(map, own->object)
      if (strstr(bpf_map__name(map), ".rodata")) constants = map;
    size_t have = 0;
    const void *now = constants ? bpf_map__initial_value(constants, &have) : NULL;
    if (!now || have < (size_t)rodata_count * 4) { errno = ENOENT; goto failed; }
    char *changed = malloc(have);
    if (!changed) goto failed;
    memcpy(changed, now, have);
    memcpy(changed, rodata, (size_t)rodata_count * 4);
    int error = bpf_map__set_initial_value(constants, changed, have);
    free(changed);
    if (error) goto failed;
  }
  if (bpf_object__load(own->object)) goto failed;
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

void clinux_bpf_close(clinux_bpf *own) {
  if (!own) return;
  bpf_object__close(own->object);
  free(own);
}

static int map_of(const clinux_bpf *own, const char *name) { return bpf_object__find_map_fd_by_name(own->object, name); }

static int program_of(const clinux_bpf *own, const char *name) {
  struct bpf_program *program = bpf_object__find_program_by_name(own->object, name);
  return program ? bpf_program__fd(program) : -ENOENT;
}

void *clinux_bpf_map(const clinux_bpf *own, const char *name, size_t *bytes) {
  struct bpf_map *map = bpf_object__find_map_by_name(own->object, name);
  if (!map) { errno = ENOENT; return NULL; }
  // The kernel's layout of a mappable array: values rounded up to 8 bytes, the whole to pages.
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t length = (((size_t)bpf_map__value_size(map) + 7) & ~(size_t)7) * bpf_map__max_entries(map);
  length = (length + page - 1) & ~(page - 1);
  void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
  if (at == MAP_FAILED) return NULL;
  *bytes = length;
  return at;
}

int clinux_bpf_set(const clinux_bpf *own, const char *map, uint32_t key, uint32_t value) {
  return bpf_map_update_elem(map_of(own, map), &key, &value, BPF_ANY) < 0 ? -errno : 0;
}

int clinux_bpf_attach_xdp(const clinux_bpf *own, const char *program, int ifindex) {
  int fd = program_of(own, program);
  if (fd < 0) return fd;
  clinux_begin_log(NULL, 0);
  int error = bpf_xdp_attach(ifindex, fd, XDP_FLAGS_DRV_MODE, NULL);
  clinux_end_log();
  return error;
}

int clinux_bpf_attach_ingress(const clinux_bpf *own, const char *program, int ifindex) {
  int fd = program_of(own, program);
  if (fd < 0) return fd;
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = fd, .handle = 1, .priority = 1, .flags = BPF_TC_F_REPLACE);
  clinux_begin_log(NULL, 0);
  int error = bpf_tc_hook_create(&hook);
  if (error == -EEXIST) error = 0;
  if (!error) error = bpf_tc_attach(&hook, &options);
  clinux_end_log();
  return error;
}

int clinux_bpf_run_live(
    const clinux_bpf *own, const char *program, int ifindex, uint32_t length, uint32_t repeat, uint32_t batch) {
  int fd = program_of(own, program);
  if (fd < 0) return fd;
  void *frame = calloc(1, length);
  if (!frame) return -ENOMEM;
  struct xdp_md context = {.data_end = length, .ingress_ifindex = (uint32_t)ifindex};
  LIBBPF_OPTS(
      bpf_test_run_opts, options, .data_in = frame, .data_size_in = length, .ctx_in = &context, .ctx_size_in = sizeof context,
      .repeat = (int)repeat, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = batch);
  int error = bpf_prog_test_run_opts(fd, &options);
  free(frame);
  return error < 0 ? -errno : 0;
}

int clinux_enter_namespace(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int error = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
  close(fd);
  return error;
}

int clinux_set_realtime(int priority) {
  struct sched_param parameter = {.sched_priority = priority};
  return sched_setscheduler(0, priority ? SCHED_FIFO : SCHED_OTHER, &parameter) < 0 ? -errno : 0;
}

#define _GNU_SOURCE
#include "clinux_xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
  int program, sockets, no_socket, sampling, link;
};

clinux_xdp_program *clinux_xdp_load(const void *bytes, size_t size, char *log, size_t log_size) {
  clinux_xdp_program *own = calloc(1, sizeof *own);
  if (!own) return NULL;
  own->link = -1;
  clinux_begin_log(log, log_size);
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "sekisho");
  own->object = bpf_object__open_mem(bytes, size, &options);
  if (!own->object) goto failed;
  if (bpf_object__load(own->object)) goto failed;
  struct bpf_program *program = bpf_object__find_program_by_name(own->object, "sekisho_xdp");
  own->program = program ? bpf_program__fd(program) : -1;
  own->sockets = bpf_object__find_map_fd_by_name(own->object, "xsks");
  own->no_socket = bpf_object__find_map_fd_by_name(own->object, "no_socket");
  own->sampling = bpf_object__find_map_fd_by_name(own->object, "sampling");
  if (own->program < 0 || own->sockets < 0 || own->no_socket < 0 || own->sampling < 0) {
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

int clinux_xdp_attach(clinux_xdp_program *own, int ifindex, bool native, char *log, size_t log_size) {
  clinux_begin_log(log, log_size);
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  int link = bpf_link_create(own->program, ifindex, BPF_XDP, &options);
  int error = link < 0 ? -errno : 0;
  clinux_end_log();
  if (link >= 0) own->link = link;
  return error;
}

int clinux_xdp_set_socket(clinux_xdp_program *own, uint32_t queue, int socket) {
  uint32_t value = (uint32_t)socket;
  return bpf_map_update_elem(own->sockets, &queue, &value, BPF_ANY) < 0 ? -errno : 0;
}

int clinux_xdp_set_sampling(clinux_xdp_program *own, uint32_t gap, uint16_t tag) {
  // struct sampling of BPF/sekisho_xdp.bpf.c.
  uint32_t value[2] = {gap, tag}, zero = 0;
  return bpf_map_update_elem(own->sampling, &zero, value, BPF_ANY) < 0 ? -errno : 0;
}

void *clinux_xdp_stamped(const clinux_xdp_program *own, size_t *bytes) {
  struct bpf_map *map = bpf_object__find_map_by_name(own->object, "stamped");
  if (!map) { errno = ENOENT; return NULL; }
  *bytes = (size_t)bpf_map__value_size(map) * bpf_map__max_entries(map);
  void *at = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, bpf_map__fd(map), 0);
  return at == MAP_FAILED ? NULL : at;
}

uint64_t clinux_xdp_no_socket(const clinux_xdp_program *own) {
  int processors = libbpf_num_possible_cpus();
  if (processors <= 0) return 0;
  uint64_t *values = calloc((size_t)processors, sizeof *values);
  if (!values) return 0;
  uint32_t zero = 0;
  uint64_t sum = 0;
  if (bpf_map_lookup_elem(own->no_socket, &zero, values) == 0)
    for (int i = 0; i < processors; i++) sum += values[i];
  free(values);
  return sum;
}

void clinux_xdp_close(clinux_xdp_program *own) {
  if (!own) return;
  if (own->link >= 0) close(own->link);
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
  if (!out->id) return 0;
  int fd = bpf_prog_get_fd_by_id(out->id);
  if (fd < 0) return 0;
  struct bpf_prog_info info = {0};
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) memcpy(out->name, info.name, sizeof out->name - 1);
  close(fd);
  return 0;
}

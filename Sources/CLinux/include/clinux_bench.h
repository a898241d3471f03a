// What a comparison run needs of the kernel: BPF programs and maps by name, BPF_PROG_RUN with live frames, tc, namespaces.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A loaded BPF object. Opaque; its programs and maps are reached by name.
typedef struct clinux_bpf clinux_bpf;

/// Before loading: makes a map's entries this many, with values of this size (0: as compiled).
typedef struct {
  const char *map;
  uint32_t entries;
  uint32_t value_size;
} clinux_map_size;

/// Loads an ELF object in memory.
///
/// `rodata`: the object's constants, in order, as 32-bit words; NULL leaves them. NULL and `errno` on failure; `log` gets
/// what libbpf and the verifier said.
clinux_bpf *clinux_bpf_load(
    const void *object, size_t size, const clinux_map_size *sizes, int size_count, const uint32_t *rodata, int rodata_count,
    char *log, size_t log_size);
void clinux_bpf_close(clinux_bpf *object);

// Each returns 0 or -errno, unless it says otherwise.

/// Maps an array (BPF_F_MMAPABLE) into memory; NULL and errno on failure. `bytes` gets its length.
void *clinux_bpf_map(const clinux_bpf *object, const char *map, size_t *bytes);
int clinux_bpf_set(const clinux_bpf *object, const char *map, uint32_t key, uint32_t value);

/// Attaches a program to a port of this thread's namespace, in the driver. It stays until taken off or the port goes.
int clinux_bpf_attach_xdp(const clinux_bpf *object, const char *program, int ifindex);
/// Attaches a classifier to a port's ingress. It goes with the port.
int clinux_bpf_attach_ingress(const clinux_bpf *object, const char *program, int ifindex);

/// Runs an XDP program on live frames of `length` zero bytes, `repeat` times, in batches of `batch` frames between which the
/// kernel does its other work.
int clinux_bpf_run_live(
    const clinux_bpf *object, const char *program, int ifindex, uint32_t length, uint32_t repeat, uint32_t batch);

/// Moves the calling thread to a network namespace. `path` as in /run/netns.
int clinux_enter_namespace(const char *path);

/// Gives the calling thread a real-time priority (SCHED_FIFO), or takes it back with 0.
int clinux_set_realtime(int priority);

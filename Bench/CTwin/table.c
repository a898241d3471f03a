// Table images: checked once, whole, so that the packet path need not check anything.
#define _GNU_SOURCE
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "images are little-endian and read in place"
#endif

// Whether `count` × `size` bytes at `offset` lie behind the header and inside the image.
static bool is_inside(uint64_t offset, uint64_t count, uint64_t size, uint64_t bytes) {
  uint64_t length, end;
  return offset >= sizeof(struct ctwin_image) && !__builtin_mul_overflow(count, size, &length) &&
         !__builtin_add_overflow(offset, length, &end) && end <= bytes;
}

// Every slot is empty or maps to a rule there is; a plain table needs an empty one to end its walks.
static const char *check_slots(const char *slots, uint64_t count, size_t size, const struct ctwin_perfect *perfect,
                               uint64_t rules) {
  uint64_t occupied = 0;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t tail;
    memcpy(&tail, slots + (i + 1) * size - sizeof tail, sizeof tail);
    if ((tail & 0xFF) == CTWIN_KIND_EMPTY) continue;
    occupied++;
    if (tail >> 32 >= rules) return "a key maps to a rule that is not there, or to a narrowed one";
  }
  if (occupied != perfect->count) return "the number of keys is not that of the occupied slots";
  if (perfect->is_plain && occupied == count) return "a plain table without an empty slot";
  return NULL;
}

static const char *open_perfect(const char *image, const struct ctwin_image *header,
                                const struct ctwin_perfect *perfect, size_t size, struct ctwin_lookup *out) {
  if (perfect->is_plain > 1) return "is_plain is neither 0 nor 1";
  if (perfect->part_shift > 63) return "part_shift is above 63";
  if (perfect->slots_per_part == 0) return "a table without slots";
  // Lookups keep a bucket in 32 bits for a while.
  if (perfect->bucket_count == 0 || perfect->bucket_count > UINT32_MAX) return "bucket_count is out of range";
  uint64_t parts = perfect->is_plain ? 1 : ((perfect->bucket_count - 1) >> perfect->part_shift) + 1, slots;
  if (__builtin_mul_overflow(parts, perfect->slots_per_part, &slots)) return "slots_per_part is out of range";
  if (perfect->slots_offset % 64 || !is_inside(perfect->slots_offset, slots, size, header->bytes))
    return "slots are not aligned, or outside the image";
  if (!perfect->is_plain && !is_inside(perfect->pilots_offset, perfect->bucket_count, 1, header->bytes))
    return "pilots outside the image";
  *out = (struct ctwin_lookup){
      .slots = image + perfect->slots_offset,
      .pilots = perfect->is_plain ? NULL : (const uint8_t *)image + perfect->pilots_offset,
      .bucket_count = perfect->bucket_count,
      .part_shift = perfect->part_shift,
      .slots_per_part = perfect->slots_per_part,
      .count = perfect->count,
      .is_plain = perfect->is_plain,
  };
  memcpy(out->seed, perfect->seed, sizeof out->seed);
  return check_slots(out->slots, slots, size, perfect, header->rules);
}

int ctwin_table_open(struct ctwin_table *table, const void *image, size_t size, const char **why) {
  memset(table, 0, sizeof *table);
  // A copy: what was checked is what is used.
  struct ctwin_image header;
  const char *wrong = NULL;
  if (size < sizeof header || (uintptr_t)image % 64) {
    wrong = size < sizeof header ? "shorter than its header" : "not on a cache line";
  } else {
    memcpy(&header, image, sizeof header);
    if (memcmp(header.magic, CTWIN_MAGIC, sizeof header.magic))
      wrong = "no table image";
    else if (header.bytes > size || header.bytes < sizeof header)
      wrong = "shorter than its header says";
    else if (header.mode > MODE_ENFORCE)
      wrong = "an unknown mode";
    else if (header.rules >= LIST_BIT)
      wrong = "too many rules";
    else if (header.ethertypes_offset % 8 || !is_inside(header.ethertypes_offset, 8192, 1, header.bytes))
      wrong = "the EtherType list is not aligned, or outside the image";
  }
  if (!wrong) wrong = open_perfect(image, &header, &header.exact4, sizeof(struct ctwin_key4), &table->exact4);
  if (!wrong) wrong = open_perfect(image, &header, &header.exact6, sizeof(struct ctwin_key6), &table->exact6);
  if (why) *why = wrong;
  if (wrong) {
    memset(table, 0, sizeof *table);
    return -EINVAL;
  }
  table->ethertypes = (const uint64_t *)((const char *)image + header.ethertypes_offset);
  table->mode = header.mode;
  table->rules = header.rules;
  table->version = header.version;
  return 0;
}

int ctwin_table_load(struct ctwin_table *table, const char *path, const char **why) {
  memset(table, 0, sizeof *table);
  if (why) *why = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct stat status;
  int error = fstat(fd, &status) < 0 ? -errno : 0;
  // Not mapped: a file that changes or shrinks later must not matter, and huge pages are wanted, as Swift's
  // TableMemory has them.
  size_t size = error ? 0 : (size_t)status.st_size, huge = (size_t)2 << 20;
  void *memory = NULL;
  if (!error) error = -posix_memalign(&memory, size >= huge ? huge : 64, size + 64);
  if (!error && size >= huge) madvise(memory, size + 64, MADV_HUGEPAGE);
  for (size_t at = 0; !error && at < size;) {
    ssize_t n = read(fd, (char *)memory + at, size - at);
    if (n > 0)
      at += (size_t)n;
    else if (n == 0)
      size = at;
    else if (errno != EINTR)
      error = -errno;
  }
  close(fd);
  if (!error) error = ctwin_table_open(table, memory, size, why);
  if (error)
    free(memory);
  else
    table->owned = memory;
  return error;
}

void ctwin_table_close(struct ctwin_table *table) {
  free(table->owned);
  memset(table, 0, sizeof *table);
}

void ctwin_lookup4(const struct ctwin_table *table, const struct ctwin_key4 *keys, size_t n,
                   struct ctwin_scratch *scratch, uint32_t *references) {
  lookup_4(&table->exact4, keys, n, scratch->slots, scratch->rests, references);
}

void ctwin_lookup6(const struct ctwin_table *table, const struct ctwin_key6 *keys, size_t n,
                   struct ctwin_scratch *scratch, uint32_t *references) {
  lookup_6(&table->exact6, keys, n, scratch->slots, scratch->rests, references);
}

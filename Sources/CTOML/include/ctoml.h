// TOML with the place of every value, for Swift: a flat view of what toml++ has read.
//
// toml++ (Debian: libtomlplusplus-dev) does the parsing. TOMLKit, the Swift wrapper of
// the same library, keeps no line numbers, and a policy file's errors need them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ctoml_kind {
  CTOML_TABLE,
  CTOML_ARRAY,
  CTOML_STRING,
  CTOML_INTEGER,
  CTOML_FLOAT,
  CTOML_BOOLEAN,
  CTOML_DATE,        // local date
  CTOML_TIME,        // local time
  CTOML_DATE_TIME,   // date and time; `has_offset` says whether it names an instant
};

/// One value. Children of tables and arrays are linked; a table's are in no particular order.
typedef struct {
  enum ctoml_kind kind;
  /// Where the value stands; 1-based. Columns count code points.
  uint32_t line, column;
  /// The key it stands under in a table; NULL in arrays and at the root. UTF-8, `key_length` bytes.
  const char *key;
  size_t key_length;
  uint32_t key_line, key_column;
  const char *string;
  size_t string_length;
  int64_t integer;
  double real;
  bool boolean;
  bool has_offset;
  int32_t year, month, day, hour, minute, second, offset_minutes;
  uint32_t nanosecond;
  /// Index of the first child and of the next sibling; -1: none.
  int32_t first_child, next_sibling;
} ctoml_node;

typedef struct ctoml_document ctoml_document;

/// Never NULL but for want of memory. Ask `ctoml_error` first.
ctoml_document *ctoml_parse(const char *text, size_t length);

/// NULL if the text is TOML; else what is wrong, and where.
const char *ctoml_error(const ctoml_document *document, uint32_t *line, uint32_t *column);

/// All nodes; the root table is the first. Valid until `ctoml_free`.
const ctoml_node *ctoml_nodes(const ctoml_document *document, size_t *count);

void ctoml_free(ctoml_document *document);

#ifdef __cplusplus
}
#endif

// The verdicts and their keys by themselves, for benchmarks and tests; the worker inlines them.
#include "judge.h"

void ctwin_judge_burst(const struct ctwin_table *table, const struct frame_headers *headers, size_t count,
                       struct ctwin_scratch *scratch, struct verdict *verdicts) {
  judge_burst(table, headers, count, scratch, verdicts);
}

// Both ways round by themselves, so that neither asks in its loop.
void ctwin_keys4(const struct frame_headers *headers, const uint8_t *list, size_t n, bool is_reply,
                 struct ctwin_key4 *keys) {
  if (is_reply)
    make_keys_4(headers, list, n, true, keys);
  else
    make_keys_4(headers, list, n, false, keys);
}

void ctwin_keys6(const struct frame_headers *headers, const uint8_t *list, size_t n, bool is_reply,
                 struct ctwin_key6 *keys) {
  if (is_reply)
    make_keys_6(headers, list, n, true, keys);
  else
    make_keys_6(headers, list, n, false, keys);
}

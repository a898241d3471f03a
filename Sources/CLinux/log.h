// libbpf prints through one global callback; set-up is done by one thread, so one buffer is enough.
#pragma once
#include <stddef.h>

/// What libbpf and the verifier say from here on goes to `log`; NULL: nowhere.
void clinux_begin_log(char *log, size_t size);
void clinux_end_log(void);

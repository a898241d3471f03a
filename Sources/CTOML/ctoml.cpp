#include "ctoml.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <new>
#include <string>
#include <vector>

struct ctoml_document {
  toml::table root;
  std::vector<ctoml_node> nodes;
  std::string error;
  uint32_t line = 0, column = 0;
};

namespace {

void set_date(ctoml_node &out, const toml::date &date) {
  out.year = date.year;
  out.month = date.month;
  out.day = date.day;
}

void set_time(ctoml_node &out, const toml::time &time) {
  out.hour = time.hour;
  out.minute = time.minute;
  out.second = time.second;
  out.nanosecond = time.nanosecond;
}

void set_value(ctoml_node &out, const toml::node &node) {
  if (const auto *value = node.as_string()) {
    out.kind = CTOML_STRING;
    out.string = value->get().data();
    out.string_length = value->get().size();
  } else if (const auto *value = node.as_integer()) {
    out.kind = CTOML_INTEGER;
    out.integer = value->get();
  } else if (const auto *value = node.as_floating_point()) {
    out.kind = CTOML_FLOAT;
    out.real = value->get();
  } else if (const auto *value = node.as_boolean()) {
    out.kind = CTOML_BOOLEAN;
    out.boolean = value->get();
  } else if (const auto *value = node.as_date()) {
    out.kind = CTOML_DATE;
    set_date(out, value->get());
  } else if (const auto *value = node.as_time()) {
    out.kind = CTOML_TIME;
    set_time(out, value->get());
  } else if (const auto *value = node.as_date_time()) {
    out.kind = CTOML_DATE_TIME;
    set_date(out, value->get().date);
    set_time(out, value->get().time);
    out.has_offset = value->get().offset.has_value();
    if (out.has_offset) out.offset_minutes = value->get().offset->minutes;
  }
}

// Depth is bounded by toml++ itself (TOML_MAX_NESTED_VALUES, 256).
int32_t add(ctoml_document &document, const toml::node &node, const toml::key *key) {
  const auto index = static_cast<int32_t>(document.nodes.size());
  document.nodes.emplace_back();
  {
    ctoml_node &out = document.nodes.back();
    out = ctoml_node{};
    out.first_child = out.next_sibling = -1;
    out.line = node.source().begin.line;
    out.column = node.source().begin.column;
    if (key) {
      out.key = key->str().data();
      out.key_length = key->str().size();
      out.key_line = key->source().begin.line;
      out.key_column = key->source().begin.column;
    }
    out.kind = node.is_table() ? CTOML_TABLE : CTOML_ARRAY;
    set_value(out, node);
  }
  int32_t last = -1;
  auto link = [&](int32_t child) {
    (last < 0 ? document.nodes[index].first_child : document.nodes[last].next_sibling) = child;
    last = child;
  };
  if (const auto *table = node.as_table())
    for (auto &&[name, value] : *table) link(add(document, value, &name));
  else if (const auto *array = node.as_array())
    for (const auto &value : *array) link(add(document, value, nullptr));
  return index;
}

}  // namespace

extern "C" ctoml_document *ctoml_parse(const char *text, size_t length) {
  auto *document = new (std::nothrow) ctoml_document;
  if (!document) return nullptr;
  auto result = toml::parse(std::string_view(text, length));
  if (!result) {
    document->error = std::string(result.error().description());
    document->line = result.error().source().begin.line;
    document->column = result.error().source().begin.column;
    return document;
  }
  document->root = std::move(result).table();
  add(*document, document->root, nullptr);
  return document;
}

extern "C" const char *ctoml_error(const ctoml_document *document, uint32_t *line, uint32_t *column) {
  if (document->error.empty()) return nullptr;
  *line = document->line;
  *column = document->column;
  return document->error.c_str();
}

extern "C" const ctoml_node *ctoml_nodes(const ctoml_document *document, size_t *count) {
  *count = document->nodes.size();
  return document->nodes.data();
}

extern "C" void ctoml_free(ctoml_document *document) { delete document; }

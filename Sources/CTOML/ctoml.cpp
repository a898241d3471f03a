#include "ctoml.h"

#include <pthread.h>

#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// toml++ 3.3 asserts where it meets some mistakes ("[[[allow]]]", "[}"). They must be errors of the
// file, never the end of a running bridge; without the assertions it would go on as if they held.
#define TOML_EXCEPTIONS 1
#define TOML_ASSERT(condition) \
  if (!(condition)) throw std::logic_error("the text ends or turns where TOML does not allow it")
#define TOML_ENABLE_FORMATTERS 0
#pragma GCC diagnostic push
// It also asserts in functions that may not throw; no text is known to reach those.
#pragma GCC diagnostic ignored "-Wexceptions"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

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

// A policy nests four deep. Who reads the nodes recurses into them, on a stack of ordinary size.
constexpr int deepest = 32;
// Parts of a dotted key. toml++ bounds brackets (TOML_MAX_NESTED_VALUES, 256), but not these.
constexpr int longest_key = 100;
// Brackets times dots times a frame of toml++ or of its destructor: 16 MiB at the worst.
constexpr size_t stack_size = 64 << 20;

int32_t add(ctoml_document &document, const toml::node &node, const toml::key *key, int depth) {
  if (depth > deepest && document.error.empty()) {
    document.error = "values are nested more than " + std::to_string(deepest) + " deep";
    document.line = node.source().begin.line;
    document.column = node.source().begin.column;
  }
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
    for (auto &&[name, value] : *table) {
      if (!document.error.empty()) break;
      link(add(document, value, &name, depth + 1));
    }
  else if (const auto *array = node.as_array())
    for (const auto &value : *array) {
      if (!document.error.empty()) break;
      link(add(document, value, nullptr, depth + 1));
    }
  return index;
}

// Dots since the last character that ends a key: an upper bound for the parts of a dotted key, without parsing.
bool has_endless_key(std::string_view text, ctoml_document &document) {
  uint32_t line = 1;
  int dots = 0;
  for (char c : text) {
    if (c == '\n') line++;
    if (c == '\n' || c == '=' || c == ',' || c == '{' || c == '[')
      dots = 0;
    else if (c == '.' && ++dots > longest_key) {
      document.error = "a key of more than " + std::to_string(longest_key) + " parts (or as many dots in a row of text)";
      document.line = line;
      document.column = 1;
      return true;
    }
  }
  return false;
}

struct Job {
  ctoml_document *document;
  std::string_view text;
};

void *parse(void *argument) {
  auto &[document, text] = *static_cast<Job *>(argument);
  try {
    document->root = toml::parse(text);
    add(*document, document->root, nullptr, 0);
  } catch (const toml::parse_error &error) {
    document->error = std::string(error.description());
    document->line = error.source().begin.line;
    document->column = error.source().begin.column;
  } catch (const std::exception &error) {
    document->error = error.what();
    document->line = document->column = 1;
  }
  // What is too deep must be destroyed here, where the stack is.
  if (!document->error.empty()) document->root.clear();
  return nullptr;
}

}  // namespace

extern "C" ctoml_document *ctoml_parse(const char *text, size_t length) {
  auto *document = new (std::nothrow) ctoml_document;
  if (!document) return nullptr;
  Job job{document, std::string_view(text, length)};
  if (has_endless_key(job.text, *document)) return document;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack_size);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, parse, &job);
  pthread_attr_destroy(&attributes);
  if (error) {
    delete document;
    return nullptr;
  }
  pthread_join(thread, nullptr);
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

/* Large paid orders from Europe, as examples/filter-rust, without any library: what a plugin
 * exports is written by hand here. protocol/ABI.md draws the bytes. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILTER "switchyard:plugin/filter@1.0.0"
#define EXPORT(name) __attribute__((export_name(name)))
#define HEAP_BYTES (3u << 20)
#define MESSAGES_MAX 256

/* --- memory: what a call gets and gives lies here, and is gone when the call is over ------- */

static _Alignas(16) uint8_t heap[HEAP_BYTES];
static size_t used;

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) {
  size_t at = (used + align - 1) & ~(align - 1);
  if (bytes > HEAP_BYTES - at) __builtin_trap();
  used = at + bytes;
  for (size_t i = 0; i < old_bytes && i < bytes; i++) heap[at + i] = ((uint8_t *)old)[i];
  return heap + at;
}

/* --- the packed frame ------------------------------------------------------------------------ */

typedef struct {
  const uint8_t *at;
  size_t bytes;
} text;

static uint16_t u16(const uint8_t *p) { return p[0] | p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }

static bool equal(text a, const char *b) {
  size_t i = 0;
  while (i < a.bytes && b[i] == (char)a.at[i]) i++;
  return i == a.bytes && b[i] == 0;
}

/* The host gives whole frames, as ABI.md says, so lengths are not checked again. */
static text tag(const uint8_t *m) { return (text){m + u16(m + 4), u16(m + 42)}; }

static text property(const uint8_t *m, const char *name) {
  text t = tag(m);
  const uint8_t *p = t.at + t.bytes;
  for (uint16_t left = u16(m + 44); left > 0; left--) {
    text found = {p + 4, u16(p)}, value = {p + 4 + u16(p), u16(p + 2)};
    if (equal(found, name)) return value;
    p = value.at + value.bytes;
  }
  return (text){0, 0};
}

/* Whole numbers are enough for an example. */
static bool above(text number, uint64_t least) {
  uint64_t value = 0;
  if (number.bytes == 0 || number.bytes > 18) return false;
  for (size_t i = 0; i < number.bytes; i++) {
    if (number.at[i] < '0' || number.at[i] > '9') return false;
    value = value * 10 + (number.at[i] - '0');
  }
  return value > least;
}

static bool keep(const uint8_t *m) {
  return equal(tag(m), "paid") && equal(property(m, "region"), "eu") &&
         above(property(m, "amount"), 100);
}

/* --- what the interface `filter` exports -------------------------------------------------- */

typedef struct {
  const void *at;
  uint32_t count;
} list;

static list result;
static uint8_t bits[MESSAGES_MAX / 8];

static list judge(const uint8_t *frame, uint32_t count) {
  const uint8_t *m = frame + 8;
  if (count > MESSAGES_MAX) __builtin_trap();
  for (size_t i = 0; i < sizeof bits; i++) bits[i] = 0;
  for (uint32_t i = 0; i < count; i++, m += u32(m)) bits[i / 8] |= keep(m) << i % 8;
  return (list){bits, (count + 7) / 8};
}

__attribute__((import_module("[export]" FILTER), import_name("[resource-new]predicate")))
int32_t new_predicate(int32_t representation);

EXPORT(FILTER "#[static]predicate.compile")
void *compile(const char *text, uint32_t bytes, const void *config, uint32_t settings) {
  static struct {
    uint8_t is_error;
    union {
      int32_t predicate;
      struct {
        const char *at;
        uint32_t bytes;
      } says;
    };
  } made;
  static const char says[] = "`filter-c` takes no expression";
  (void)text, (void)config, (void)settings;
  made.is_error = bytes > 0;
  if (made.is_error) {
    made.says.at = says;
    made.says.bytes = sizeof says - 1;
  } else {
    made.predicate = new_predicate(1); /* All predicates are the same. */
  }
  return &made;
}

EXPORT(FILTER "#[method]predicate.needs")
void *needs(int32_t self) {
  static struct {
    uint32_t body_bytes;
    list properties;
  } none;
  (void)self;
  return &none;
}

EXPORT(FILTER "#[method]predicate.evaluate")
void *evaluate(int32_t self, const uint8_t *frame, uint32_t bytes, uint32_t count) {
  (void)self, (void)bytes;
  result = judge(frame, count);
  return &result;
}

EXPORT(FILTER "#evaluate-all")
void *evaluate_all(const int32_t *predicates, uint32_t asked, const uint8_t *frame,
                   uint32_t bytes, uint32_t count) {
  (void)predicates, (void)bytes;
  list *all = cabi_realloc(NULL, 0, sizeof(void *), asked * sizeof(list));
  list same = judge(frame, count);
  for (uint32_t i = 0; i < asked; i++) all[i] = same;
  result = (list){all, asked};
  return &result;
}

/* The host calls these when it has read what came out. */
#define AFTER(name, function) \
  EXPORT("cabi_post_" FILTER name) void function(void *r) { (void)r; used = 0; }
AFTER("#[static]predicate.compile", after_compile)
AFTER("#[method]predicate.needs", after_needs)
AFTER("#[method]predicate.evaluate", after_evaluate)
AFTER("#evaluate-all", after_evaluate_all)

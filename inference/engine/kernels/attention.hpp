// Causal attention over a paged cache, for a ragged batch: decoding rows and parts of prompts in one call.
//
// A sequence's queries that share a kv head are its rows: row r is token r / group, query head head * group + r % group.
// Rows are worked on in tiles, over the context in segments of 512 positions, each in chunks of 64. A segment has its
// own running maximum and sum, and segments are folded in their order, be it by one thread or after several computed
// them: a row's result does not depend on what else is in the batch, on the threads, or on how a prompt was cut.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <type_traits>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace custos {

constexpr int kChunk = 64;
constexpr int kSegment = 512;
constexpr int kTileRows = 48;
constexpr int kRowTile = 6;                        // rows of a register tile
constexpr int kLaneTile = kLanes == 16 ? 4 : 2;    // and its vectors
constexpr int kKeyGroups = kChunk / kLanes;
constexpr float kNothing = -INFINITY;

static_assert(kChunk % (kLanes * kLaneTile) == 0 && kSegment % kChunk == 0);

template <class T>
struct Strided {  // (heads, tokens, size)
  T* data;
  int64_t head, token, unit;
};

template <class T>
struct Attention {
  Strided<const T> query, key, value;
  T* result;  // (tokens, query heads, value size)
  T *keys, *values;  // (blocks, kv heads, block size, size)
  int tokens, heads, kv_heads, key_size, value_size, block_size;
  const int32_t* tables;  // (sequences, table_width)
  int64_t table_width;
  int sequences;
  const int32_t *starts, *contexts;
  float scale, softcap;
  int window;
  const float* sinks;  // one for each query head, or null

  int group() const { return heads / kv_heads; }
  int words() const { return sizeof(T) == 4 ? key_size : (key_size + 1) / 2; }  // of 32 bits in a key
  int width() const { return (value_size + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes); }  // of a row of sums
  int64_t slot(const int32_t* table, int head, int position) const {
    return (int64_t(table[position / block_size]) * kv_heads + head) * block_size + position % block_size;
  }
};

// Running maximum, sum of exponentials and weighted values of the rows of a tile.
struct State {
  float *most, *sum, *values;  // (rows), (rows), (rows, width)

  static int64_t size(int rows, int width) { return int64_t(rows) * (width + 2); }
  static State at(float* memory, int rows) { return {memory, memory + rows, memory + 2 * rows}; }
  void clear(int rows, int width) const {
    std::fill(most, most + rows, kNothing);
    std::fill(sum, sum + int64_t(rows) * (width + 1), 0.0f);
  }
};

struct Item {  // rows [first, last) of a sequence under a kv head, over segments [begin, end)
  int sequence, head, first, last, begin, end;
  int split = -1;  // the split tile that this is a segment of, or -1: fold all segments here
};

// A tile whose segments are items of their own. Who finishes the last of them folds them.
struct Split {
  Item all;
  int64_t partials;  // where its segments' states lie
  std::atomic<int> left;

  Split(const Item& item, int64_t at) : all(item), partials(at), left(item.end - item.begin) {}
};

struct Scratch {
  std::vector<uint32_t> queries, keys;
  std::vector<float> scores, states;
};

struct Rows {  // of a chunk
  const void **keys, **values;
};

template <class T>
static inline void write_token(const Attention<T>& a, const int32_t* table, int position, int token) {
  for (int head = 0; head < a.kv_heads; head++) {
    const int64_t slot = a.slot(table, head, position);
    const T* key = a.key.data + head * a.key.head + token * a.key.token;
    const T* value = a.value.data + head * a.value.head + token * a.value.token;
    T* to = a.keys + slot * a.key_size;
    if (a.key.unit == 1)
      memcpy(to, key, a.key_size * sizeof(T));
    else
      for (int d = 0; d < a.key_size; d++) to[d] = key[d * a.key.unit];
    to = a.values + slot * a.value_size;
    if (a.value.unit == 1)
      memcpy(to, value, a.value_size * sizeof(T));
    else
      for (int d = 0; d < a.value_size; d++) to[d] = value[d * a.value.unit];
  }
}

static inline WordLanes load_words(const void* row, int64_t word, int64_t bytes) {
  WordLanes words{};
  const int64_t left = bytes - word * 4;
  memcpy(&words, (const char*)row + word * 4, left < int64_t(sizeof(words)) ? left : int64_t(sizeof(words)));
  return words;
}

// Into the second level: asking for the first takes twice as long, for it has fewer requests under way.
static inline void ask_for(const void* const* rows, int64_t at) {
  for (int i = 0; i < kLanes; i++) __builtin_prefetch((const char*)rows[i] + at, 0, 2);
}

// Keys of a chunk, turned: for each group of kLanes keys and each word of a key, those keys' words side by side.
// Meanwhile the memory is asked for what comes next: this chunk's values and the following chunk's keys.
static inline void turn_keys(const void* const* rows, int words, int64_t bytes, uint32_t* to,
                             const void* const* values, int64_t value_bytes, const void* const* next) {
  for (int group = 0; group < kKeyGroups; group++, rows += kLanes, values += kLanes, next += kLanes) {
    for (int word = 0; word < words; word += kLanes) {
      if (word * 4 < value_bytes) ask_for(values, word * 4);
      ask_for(next, word * 4);
      WordLanes square[kLanes];
      if (word * 4 + int64_t(sizeof(WordLanes)) <= bytes)
        for (int i = 0; i < kLanes; i++) memcpy(&square[i], (const char*)rows[i] + word * 4, sizeof(WordLanes));
      else
        for (int i = 0; i < kLanes; i++) square[i] = load_words(rows[i], word, bytes);
      transpose(square);
      const int count = std::min(kLanes, words - word);
      for (int i = 0; i < count; i++, to += kLanes) memcpy(to, &square[i], sizeof(WordLanes));
    }
  }
}

// sum + query * keys, a word of each: one float, or two bfloat16 numbers.
static inline Lanes multiply_word(float, Lanes sum, uint32_t query, WordLanes keys) {
  return sum + splat(bitcast<float>(query)) * bitcast<Lanes>(keys);
}

static inline Lanes multiply_word(bf16, Lanes sum, uint32_t query, WordLanes keys) {
#if defined(CUSTOS_AVX512_BF16)
  return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(query), (__m512bh)keys);
#else
  sum += splat(bitcast<float>(query << 16)) * bitcast<Lanes>(keys << 16);
  return sum + splat(bitcast<float>(query & 0xffff0000u)) * bitcast<Lanes>(keys & 0xffff0000u);
#endif
}

template <class T, int R>
static void score_tile(const uint32_t* queries, const uint32_t* keys, int words, float* scores) {
  for (int group = 0; group < kKeyGroups; group += kLaneTile) {
    Lanes sums[R][kLaneTile] = {};
    for (int word = 0; word < words; word++) {
      WordLanes key[kLaneTile];
#pragma GCC unroll 4
      for (int c = 0; c < kLaneTile; c++)
        memcpy(&key[c], keys + (int64_t(group + c) * words + word) * kLanes, sizeof(WordLanes));
#pragma GCC unroll 6
      for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < kLaneTile; c++)
          sums[r][c] = multiply_word(T{}, sums[r][c], queries[r * words + word], key[c]);
    }
    for (int r = 0; r < R; r++)
      for (int c = 0; c < kLaneTile; c++) store(sums[r][c], scores + r * kChunk + (group + c) * kLanes);
  }
}

// values += shares * the rows [low, high) of the chunk, C vectors wide from `column`.
template <class T, int R, int C>
static inline void value_tile(const float* shares, const void* const* rows, int low, int high, int column, int size,
                              float* values, int width) {
  Lanes sums[R][C];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) sums[r][c] = load(values + r * width + column + c * kLanes);
  const bool whole = column + C * kLanes <= size;
  for (int key = low; key < high; key++) {
    const T* row = (const T*)rows[key] + column;
    Lanes value[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) value[c] = whole ? load(row + c * kLanes) : load_part(row, size - column);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const Lanes share = splat(shares[r * kChunk + key]);
#pragma GCC unroll 4
      for (int c = 0; c < C; c++) sums[r][c] += share * value[c];
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) store(sums[r][c], values + r * width + column + c * kLanes);
}

#if defined(CUSTOS_AVX512_BF16)
// The same with bfloat16 shares, two keys at once, C times 32 columns wide.
template <int R, int C>
static inline void value_tile_of_pairs(const bf16* shares, const void* const* rows, int low, int high, int column,
                                       int size, float* values, int width) {
  const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  const int left = size - column - (C - 1) * 32;
  const __mmask32 mask = left >= 32 ? ~__mmask32(0) : (__mmask32(1) << left) - 1;
  __m512 sums[R][2 * C];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < 2 * C; c++) sums[r][c] = _mm512_loadu_ps(values + r * width + column + c * 16);
  for (int key = low & ~1; key < high; key += 2) {
    __m512bh value[2 * C];
#pragma GCC unroll 2
    for (int c = 0; c < C; c++) {
      const __mmask32 here = c == C - 1 ? mask : ~__mmask32(0);
      const __m512i even = _mm512_maskz_loadu_epi16(here, (const bf16*)rows[key] + column + c * 32);
      const __m512i odd = _mm512_maskz_loadu_epi16(here, (const bf16*)rows[key + 1] + column + c * 32);
      value[2 * c] = (__m512bh)_mm512_permutex2var_epi16(even, first, odd);
      value[2 * c + 1] = (__m512bh)_mm512_permutex2var_epi16(even, second, odd);
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      int32_t both;
      memcpy(&both, shares + r * 2 * kChunk + key, 4);
      const __m512bh share = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 4
      for (int c = 0; c < 2 * C; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], share, value[c]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < 2 * C; c++) _mm512_storeu_ps(values + r * width + column + c * 16, sums[r][c]);
}
#endif

// Whether shares are kept as bfloat16, in the first half of each row of scores.
template <class T>
constexpr bool kPairs = false;
#if defined(CUSTOS_AVX512_BF16)
template <>
constexpr bool kPairs<bf16> = true;
#endif

template <class T, int R>
static void value_rows(const float* shares, const void* const* rows, int low, int high, int size, float* values,
                       int width) {
  int column = 0;
  if constexpr (kPairs<T>) {
    for (; column + 32 < size; column += 64)
      value_tile_of_pairs<R, 2>((const bf16*)shares, rows, low, high, column, size, values, width);
    if (column < size) value_tile_of_pairs<R, 1>((const bf16*)shares, rows, low, high, column, size, values, width);
  } else {
    for (; column + kLaneTile * kLanes <= size; column += kLaneTile * kLanes)
      value_tile<T, R, kLaneTile>(shares, rows, low, high, column, size, values, width);
    for (; column < size; column += kLanes)
      value_tile<T, R, 1>(shares, rows, low, high, column, size, values, width);
  }
}

static inline void store_shares(const Lanes (&shares)[kKeyGroups], float* to, std::false_type) {
  for (int i = 0; i < kKeyGroups; i++) store(shares[i], to + i * kLanes);
}

#if defined(CUSTOS_AVX512_BF16)
static inline void store_shares(const Lanes (&shares)[kKeyGroups], float* to, std::true_type) {
  for (int i = 0; i < kKeyGroups; i += 2)
    _mm512_storeu_si512(to + i * kLanes / 2, (__m512i)_mm512_cvtne2ps_pbh((__m512)shares[i + 1], (__m512)shares[i]));
}
#endif

// Scores of one row, of which it sees [low, high), become shares, and the row's state makes room for them.
template <bool Pairs>
static inline void soften(float* scores, int low, int high, float scale, float softcap, int row, State state,
                          int width) {
  if (low >= high) {
    std::fill(scores, scores + kChunk, 0.0f);
    return;
  }
  for (int i = 0; i < kChunk; i += kLanes) {
    const Lanes score = load(scores + i) * scale;
    store(softcap > 0 ? softcap * hyperbolic_tangent(score / softcap) : score, scores + i);
  }
  std::fill(scores, scores + low, kNothing);
  std::fill(scores + high, scores + kChunk, kNothing);
  Lanes most = splat(kNothing), lanes[kKeyGroups];
  for (int i = 0; i < kKeyGroups; i++) {
    lanes[i] = load(scores + i * kLanes);
    most = larger(most, lanes[i]);
  }
  const float before = state.most[row], now = std::max(before, largest(most));
  Lanes sum{};
  for (int i = 0; i < kKeyGroups; i++) {
    lanes[i] = exponential(lanes[i] - now);
    sum += lanes[i];
  }
  store_shares(lanes, scores, std::bool_constant<Pairs>());
  const float shrink = before == now ? 1.0f : exponential(splat(before - now))[0];
  state.most[row] = now;
  state.sum[row] = state.sum[row] * shrink + total(sum);
  if (shrink != 1.0f)
    for (int d = 0; d < width; d += kLanes)
      store(load(state.values + int64_t(row) * width + d) * shrink, state.values + int64_t(row) * width + d);
}

template <class T>
struct Tile {
  const Attention<T>& a;
  const Item& item;
  Scratch& scratch;

  int rows() const { return item.last - item.first; }
  const int32_t* table() const { return a.tables + item.sequence * a.table_width; }
  int token(int row) const { return (item.first + row) / a.group(); }
  int position(int row) const {
    return a.contexts[item.sequence] - (a.starts[item.sequence + 1] - a.starts[item.sequence]) + token(row);
  }
  int query_head(int row) const { return item.head * a.group() + (item.first + row) % a.group(); }
  int earliest(int row) const { return a.window > 0 ? std::max(0, position(row) - a.window + 1) : 0; }

  void take_queries() {
    const int words = a.words();
    scratch.queries.assign(int64_t(rows()) * words, 0);
    for (int row = 0; row < rows(); row++) {
      const T* from = a.query.data + query_head(row) * a.query.head +
                      int64_t(a.starts[item.sequence] + token(row)) * a.query.token;
      T* to = (T*)(scratch.queries.data() + int64_t(row) * words);
      for (int d = 0; d < a.key_size; d++) to[d] = from[d * a.query.unit];
    }
  }

  // Where the keys and values [begin, begin + kChunk) lie. In place of those that no row sees stands one that is seen:
  // what lies outside the context or the window was perhaps never written, or belongs to another sequence.
  // False: no row sees any.
  bool find(int begin, int first, int last, const void** keys, const void** values) const {
    if (first >= last) return false;
    int offset = first % a.block_size, entry = first / a.block_size;
    int64_t slot = a.slot(table(), item.head, first);
    const int64_t key_bytes = a.key_size * sizeof(T), value_bytes = a.value_size * sizeof(T);
    const auto place = [&](int i) {
      keys[i] = (const char*)a.keys + slot * key_bytes;
      values[i] = (const char*)a.values + slot * value_bytes;
    };
    for (int i = 0; i < first - begin; i++) place(i);
    for (int i = first - begin; i < last - begin; i++, slot++) {
      if (offset++ == a.block_size) {
        slot = (int64_t(table()[++entry]) * a.kv_heads + item.head) * a.block_size;
        offset = 1;
      }
      place(i);
    }
    slot--;
    for (int i = last - begin; i < kChunk; i++) place(i);
    return true;
  }

  int first_seen(int begin) const { return std::max(begin, earliest(0)); }
  int last_seen(int begin) const { return std::min(begin + kChunk, position(rows() - 1) + 1); }

  bool find(int begin, const Rows& rows) const {
    return find(begin, first_seen(begin), last_seen(begin), rows.keys, rows.values);
  }

  void chunk(int begin, State state, const Rows& here, const Rows& next) {
    const int first = first_seen(begin), last = last_seen(begin), words = a.words(), width = a.width();
    float* const scores = scratch.scores.data();
    turn_keys(here.keys, words, int64_t(a.key_size) * sizeof(T), scratch.keys.data(), here.values,
              int64_t(a.value_size) * sizeof(T), next.keys);
    by_rows<kRowTile>(rows(), [&](auto count, int row) {
      score_tile<T, count>(scratch.queries.data() + int64_t(row) * words, scratch.keys.data(), words,
                           scores + row * kChunk);
    });
    for (int row = 0; row < rows(); row++)
      soften<kPairs<T>>(scores + row * kChunk, std::max(first, earliest(row)) - begin,
                        std::min(last, position(row) + 1) - begin, a.scale, a.softcap, row, state, width);
    by_rows<kRowTile>(rows(), [&](auto count, int row) {
      value_rows<T, count>(scores + row * kChunk, here.values, first - begin, last - begin, a.value_size,
                           state.values + int64_t(row) * width, width);
    });
  }

  void segment(int number, State state) {
    state.clear(rows(), a.width());
    // The next chunk's rows are found early, so that the memory can be asked for them.
    const void* pointers[4][kChunk];
    Rows here{pointers[0], pointers[1]}, next{pointers[2], pointers[3]};
    bool seen = find(number * kSegment, here);
    for (int begin = number * kSegment; begin < (number + 1) * kSegment; begin += kChunk) {
      const bool more = find(begin + kChunk, next);
      if (seen) chunk(begin, state, here, more ? next : here);
      std::swap(here, next);
      seen = more;
    }
  }

  void fold(State into, State from) {
    for (int row = 0; row < rows(); row++) {
      if (from.most[row] == kNothing) continue;
      const float most = std::max(into.most[row], from.most[row]);
      const float old = exponential(splat(into.most[row] - most))[0];
      const float add = exponential(splat(from.most[row] - most))[0];
      into.most[row] = most;
      into.sum[row] = into.sum[row] * old + from.sum[row] * add;
      float* values = into.values + int64_t(row) * a.width();
      const float* others = from.values + int64_t(row) * a.width();
      for (int d = 0; d < a.width(); d += kLanes) store(load(values + d) * old + load(others + d) * add, values + d);
    }
  }

  void finish(State state) {
    for (int row = 0; row < rows(); row++) {
      float sum = state.sum[row];
      if (a.sinks) sum += std::exp(a.sinks[query_head(row)] - state.most[row]);
      const float inverse = 1.0f / sum;
      const float* values = state.values + int64_t(row) * a.width();
      T* to = a.result + (int64_t(a.starts[item.sequence] + token(row)) * a.heads + query_head(row)) * a.value_size;
      for (int d = 0; d < a.value_size; d++) from_float(values[d] * inverse, to + d);
    }
  }
};

static inline Scratch& scratch_of_thread(int words, int width) {
  static thread_local Scratch scratch;
  scratch.keys.resize(int64_t(kChunk) * words);
  scratch.scores.resize(kTileRows * kChunk);
  scratch.states.resize(2 * State::size(kTileRows, width));
  return scratch;
}

// What a call works on.
struct Plan {
  std::vector<Item> items;
  std::deque<Split> splits;
  std::vector<float> partials;
  double work = 0;  // multiplications
};

template <class T>
static void fold_split(const Attention<T>& a, const Split& split, float* partials) {
  Tile<T> tile{a, split.all, scratch_of_thread(a.words(), a.width())};
  const State all = State::at(tile.scratch.states.data(), tile.rows());
  all.clear(tile.rows(), a.width());
  const int64_t size = State::size(tile.rows(), a.width());
  for (int number = 0; number < split.all.end - split.all.begin; number++)
    tile.fold(all, State::at(partials + split.partials + number * size, tile.rows()));
  tile.finish(all);
}

template <class T>
static void work_on(const Attention<T>& a, const Item& item, Plan& plan) {
  Tile<T> tile{a, item, scratch_of_thread(a.words(), a.width())};
  tile.take_queries();
  const int64_t size = State::size(tile.rows(), a.width());
  if (item.split >= 0) {
    Split& split = plan.splits[item.split];
    float* const partial = plan.partials.data() + split.partials + (item.begin - split.all.begin) * size;
    tile.segment(item.begin, State::at(partial, tile.rows()));
    if (split.left.fetch_sub(1, std::memory_order_acq_rel) == 1) fold_split(a, split, plan.partials.data());
    return;
  }
  const State all = State::at(tile.scratch.states.data(), tile.rows());
  const State part = State::at(tile.scratch.states.data() + size, tile.rows());
  all.clear(tile.rows(), a.width());
  for (int number = item.begin; number < item.end; number++) {
    tile.segment(number, part);
    tile.fold(all, part);
  }
  tile.finish(all);
}

template <class T>
static void add_tile(const Attention<T>& a, const Item& tile, bool splitting, Plan& plan) {
  if (!splitting || tile.end - tile.begin == 1) {
    plan.items.push_back(tile);
    return;
  }
  const int64_t size = State::size(tile.last - tile.first, a.width()), at = plan.partials.size();
  plan.splits.emplace_back(tile, at);
  plan.partials.resize(at + size * (tile.end - tile.begin));
  for (int number = tile.begin; number < tile.end; number++)
    plan.items.push_back({tile.sequence, tile.head, tile.first, tile.last, number, number + 1,
                          int(plan.splits.size()) - 1});
}

template <class T>
static void make_plan(const Attention<T>& a, int64_t threads, Plan& plan) {
  plan.items.clear();
  plan.splits.clear();
  plan.partials.clear();
  plan.work = 0;
  int64_t tiles = 0;
  for (int s = 0; s < a.sequences; s++)
    tiles += int64_t((a.starts[s + 1] - a.starts[s]) * a.group() + kTileRows - 1) / kTileRows * a.kv_heads;
  const bool splitting = threads > 1 && tiles < 8 * threads;
  for (int s = 0; s < a.sequences; s++) {
    const int tokens = a.starts[s + 1] - a.starts[s], rows = tokens * a.group(), base = a.contexts[s] - tokens;
    for (int first = 0; first < rows; first += kTileRows) {
      const int last = std::min(rows, first + kTileRows);
      const int low = a.window > 0 ? std::max(0, base + first / a.group() - a.window + 1) : 0;
      const int high = base + (last - 1) / a.group() + 1;
      plan.work += double(high - low) * (last - first + 4) * (a.key_size + a.value_size) * a.kv_heads;
      for (int head = 0; head < a.kv_heads; head++)
        add_tile(a, {s, head, first, last, low / kSegment, (high + kSegment - 1) / kSegment}, splitting, plan);
    }
  }
}

constexpr double kSerialMultiplications = 150e3;  // some 5 microseconds: waking another thread costs as much
constexpr int64_t kSerialCopies = 64 * 1024;      // numbers

template <class T>
static void write_tokens(const Attention<T>& a, int sequence) {
  const int base = a.contexts[sequence] - a.starts[sequence + 1];
  for (int token = a.starts[sequence]; token < a.starts[sequence + 1]; token++)
    write_token(a, a.tables + sequence * a.table_width, base + token, token);
}

template <class T>
static void attention(const Attention<T>& a) {
  static thread_local Plan plan_of_thread;
  Plan& plan = plan_of_thread;  // this thread's, also in the threads that help
  make_plan(a, thread_count(), plan);
  // Every key and value is in its place before any thread reads one.
  const int64_t copies = int64_t(a.tokens) * a.kv_heads * (a.key_size + a.value_size);
  share(a.sequences, copies > kSerialCopies, [&](int64_t sequence) { write_tokens(a, sequence); });
  share(plan.items.size(), plan.work > kSerialMultiplications,
        [&](int64_t item) { work_on(a, plan.items[item], plan); });
}

}  // namespace custos

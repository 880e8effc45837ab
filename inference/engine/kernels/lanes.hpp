// Vectors of floats in the compiler's own notation: the same source serves AVX-512, AVX2 and ARM.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace custos {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#define CUSTOS_AVX512_BF16 1
#endif
#if defined(CUSTOS_AVX512_BF16) && defined(__AVX512VNNI__)
#define CUSTOS_AVX512_INT8 1
#endif

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Lanes __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * 4)));
typedef uint32_t WordLanes __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfLanes __attribute__((vector_size(kLanes * 2)));

// work(count, first) for rows, `Most` at a time and the rest together; the count is known to the compiler.
template <int Most, int R = Most, class Work>
static inline void by_rows(int64_t rows, const Work& work, int64_t first = 0) {
  if constexpr (R == Most)
    for (; first + R <= rows; first += R) work(std::integral_constant<int, R>(), first);
  if (first == rows) return;
  if constexpr (R > 1) {
    if (rows - first == R - 1)
      work(std::integral_constant<int, R - 1>(), first);
    else
      by_rows<Most, R - 1>(rows, work, first);
  }
}

struct bf16 {
  uint16_t bits;
};

template <class To, class From>
static inline To bitcast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

static inline Lanes splat(float x) { return x - Lanes{}; }

static inline float to_float(float x) { return x; }
static inline float to_float(bf16 x) { return bitcast<float>(uint32_t(x.bits) << 16); }

static inline void from_float(float x, float* to) { *to = x; }
static inline void from_float(float x, bf16* to) {
  const uint32_t bits = bitcast<uint32_t>(x);
  to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline Lanes load(const float* from) {
  Lanes lanes;
  memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

static inline Lanes load(const bf16* from) {
#if defined(__AVX512F__)  // the compiler takes four instructions for what is one
  return (Lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
#else
  HalfLanes half;
  memcpy(&half, from, sizeof(half));
  return bitcast<Lanes>(__builtin_convertvector(half, WordLanes) << 16);
#endif
}

static inline void store(Lanes lanes, float* to) { memcpy(to, &lanes, sizeof(lanes)); }

// The first `count` numbers, zeros after them.
template <class T>
static inline Lanes load_part(const T* from, int count) {
  T whole[kLanes] = {};
  for (int i = 0; i < count; i++) whole[i] = from[i];
  return load(whole);
}

static inline Lanes choose(IntLanes condition, Lanes yes, Lanes no) { return condition ? yes : no; }

static inline Lanes larger(Lanes a, Lanes b) { return choose(a > b, a, b); }

static inline float largest(Lanes lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)lanes);
#else
  float result = lanes[0];
  for (int i = 1; i < kLanes; i++) result = lanes[i] > result ? lanes[i] : result;
  return result;
#endif
}

static inline float total(Lanes lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)lanes);
#else
  float result = 0;
  for (int i = 0; i < kLanes; i++) result += lanes[i];
  return result;
#endif
}

// e^x for x <= 0, within 2e-7 of it; exactly zero below -87, so also for minus infinity.
static inline Lanes exponential(Lanes x) {
  const Lanes powers = larger(x, splat(-88.0f)) * 1.44269504f;
  const Lanes magic = splat(12582912.0f);  // adding 1.5 * 2^23 rounds to a whole number
  const Lanes whole = (powers + magic) - magic;
  const Lanes part = (powers - whole) * 0.69314718f;
  Lanes sum = splat(1.0f / 720);
  sum = sum * part + 1.0f / 120;
  sum = sum * part + 1.0f / 24;
  sum = sum * part + 1.0f / 6;
  sum = sum * part + 0.5f;
  sum = sum * part + 1.0f;
  sum = sum * part + 1.0f;
  const IntLanes exponent = (__builtin_convertvector(whole, IntLanes) + 127) << 23;
  return choose(x < splat(-87.0f), Lanes{}, sum * bitcast<Lanes>(exponent));
}

static inline Lanes hyperbolic_tangent(Lanes x) {
  const Lanes small = exponential(-2.0f * choose(x < 0.0f, -x, x));
  const Lanes size = (1.0f - small) / (1.0f + small);
  return choose(x < 0.0f, -size, size);
}

// Rows become columns: a[i][j] goes to a[j][i].
static inline void transpose(WordLanes (&a)[kLanes]) {
  IntLanes low, high;
  for (int i = 0; i < kLanes; i++) {
    low[i] = i / 2 + (i % 2) * kLanes;
    high[i] = low[i] + kLanes / 2;
  }
  WordLanes b[kLanes];
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; i++) {
#if defined(__clang__)
      for (int j = 0; j < kLanes; j++) {
        b[2 * i][j] = j % 2 ? a[i + kLanes / 2][j / 2] : a[i][j / 2];
        b[2 * i + 1][j] = j % 2 ? a[i + kLanes / 2][kLanes / 2 + j / 2] : a[i][kLanes / 2 + j / 2];
      }
#else
      b[2 * i] = __builtin_shuffle(a[i], a[i + kLanes / 2], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + kLanes / 2], high);
#endif
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) a[i] = b[i];
  }
}

}  // namespace custos

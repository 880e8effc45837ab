// Rows of activations times packed weights, (outputs / 32, inputs / 2, 32, 2) of bfloat16 or int8.
//
// A block of 32 outputs is one stretch of memory that one thread reads from start to end, once for up to 12 rows: few
// rows run at the speed of memory, many at that of the multipliers. Each row's sum is made in the same order whatever
// the number of rows and threads, so that a token's result does not depend on its company.
#pragma once

#include <algorithm>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace custos {

constexpr int kBlock = 32;     // outputs of a packed block
constexpr int kGroup = 256;    // inputs that share a scale when activations are made integers
#if defined(CUSTOS_AVX512_BF16)
constexpr int kRows = 12;  // rows of a register tile
#else
constexpr int kRows = 2;
#endif
constexpr int kWeightLimit = 127;
constexpr int kActivationLimit = 32767;

struct Weight {
  const void* data;
  const float* scale;  // of int8 weights, one for each output; null for bfloat16
  int64_t blocks;
  int64_t outputs;
  bf16* result;  // (rows, outputs)
};

// Activations as the kernels want them: bfloat16 with an even number of inputs, or int16 with scales for int8 weights.
struct Activations {
  const bf16* data;
  int64_t rows, inputs, stride;
  const int16_t* whole = nullptr;  // (rows, inputs), for int8 weights
  const float* scales = nullptr;   // (rows, ceil(inputs / kGroup))

  int64_t groups() const { return (inputs + kGroup - 1) / kGroup; }
};

#if defined(CUSTOS_AVX512_BF16)

static inline void store_tile(__m512 low, __m512 high, bf16* to, int count) {
  const __mmask32 mask = count >= kBlock ? ~__mmask32(0) : (__mmask32(1) << count) - 1;
  _mm512_mask_storeu_epi16(to, mask, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

static inline __m512i pair(const void* from) {
  int32_t both;
  memcpy(&both, from, 4);
  return _mm512_set1_epi32(both);
}

// Few rows wait for memory: ask for it early.
template <int R>
static inline void ask(const char* weight) {
  if constexpr (R <= 4) _mm_prefetch(weight + 2048, _MM_HINT_T0);
}

template <int R>
static void tile(const Activations& x, int64_t row, const bf16* weight, int64_t stride, bf16* to, int count) {
  __m512 sums[R][2];
  for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  const bf16* from = x.data + row * x.stride;
  for (int64_t k = 0; k < x.inputs; k += 2, weight += 2 * kBlock) {
    ask<R>((const char*)weight);
    ask<R>((const char*)weight + 64);
    const __m512bh low = (__m512bh)_mm512_loadu_si512(weight);
    const __m512bh high = (__m512bh)_mm512_loadu_si512(weight + kBlock);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const __m512bh both = (__m512bh)pair(from + r * x.stride + k);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], both, low);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], both, high);
    }
  }
  for (int r = 0; r < R; r++) store_tile(sums[r][0], sums[r][1], to + r * stride, count);
}

#endif

#if defined(CUSTOS_AVX512_INT8)

static_assert(int64_t(kGroup) * kWeightLimit * kActivationLimit <= INT32_MAX, "an integer sum must not overflow");

// Each row in groups of 256: divided by the group's largest, to int16. Finer than bfloat16 where it weighs.
static inline void to_integers(const bf16* from, int64_t inputs, int16_t* whole, float* scales) {
  const auto part = [](int64_t left) { return left >= 16 ? __mmask16(0xffff) : __mmask16((1 << left) - 1); };
  for (int64_t start = 0; start < inputs; start += kGroup) {
    const int64_t end = std::min(inputs, start + kGroup);
    const auto numbers = [&](int64_t k) {
      const __m256i half = _mm256_maskz_loadu_epi16(part(end - k), from + k);
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    };
    __m512 lanes = _mm512_setzero_ps();
    for (int64_t k = start; k < end; k += 16) lanes = _mm512_max_ps(lanes, _mm512_abs_ps(numbers(k)));
    const float most = _mm512_reduce_max_ps(lanes);
    scales[start / kGroup] = most / kActivationLimit;
    const __m512 inverse = _mm512_set1_ps(most > 0 ? kActivationLimit / most : 0.0f);
    for (int64_t k = start; k < end; k += 16) {
      const __m512i nearest = _mm512_cvtps_epi32(_mm512_mul_ps(numbers(k), inverse));
      _mm256_mask_storeu_epi16(whole + k, part(end - k), _mm512_cvtsepi32_epi16(nearest));
    }
  }
}

static inline __m512i weights(const int8_t* from) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)from));
}
static inline __m512i weights(const int16_t* from) { return _mm512_loadu_si512(from); }

// sums[R][32] += a group's inputs times their weights. All of this shape is for GCC 12, which otherwise keeps the
// integers in memory: the instruction by name (its intrinsic copies the sums), loops unrolled by order, not inlined.
template <int R, class W>
[[gnu::noinline]] static void add_group(const int16_t* from, int64_t stride, const W* weight, int64_t inputs,
                                        const float* scales, int64_t groups, float* sums) {
  __m512i whole[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) whole[r][0] = whole[r][1] = _mm512_setzero_si512();
  for (int64_t k = 0; k < inputs; k += 2, weight += 2 * kBlock) {
    if constexpr (sizeof(W) == 1) ask<R>((const char*)weight);
    const __m512i low = weights(weight), high = weights(weight + kBlock);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const __m512i both = pair(from + r * stride + k);
      asm("vpdpwssd %2, %1, %0" : "+v"(whole[r][0]) : "v"(both), "v"(low));
      asm("vpdpwssd %2, %1, %0" : "+v"(whole[r][1]) : "v"(both), "v"(high));
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++, sums += kBlock) {
    const __m512 unit = _mm512_set1_ps(scales[r * groups]);
    _mm512_storeu_ps(sums, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[r][0]), unit, _mm512_loadu_ps(sums)));
    _mm512_storeu_ps(sums + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[r][1]), unit, _mm512_loadu_ps(sums + 16)));
  }
}

// A block of int8 weights for all rows. For many rows a group's weights are widened once, for few as they are read.
static void int8_block(const Activations& x, const Weight& w, int64_t block) {
  static thread_local std::vector<float> sums;
  alignas(64) int16_t wide[kGroup * kBlock];
  sums.assign(x.rows * kBlock, 0.0f);
  const int8_t* const weight = (const int8_t*)w.data + block * kBlock * x.inputs;
  for (int64_t start = 0; start < x.inputs; start += kGroup) {
    const int64_t inputs = std::min<int64_t>(kGroup, x.inputs - start);
    const auto add = [&](const auto* weights) {
      by_rows<kRows>(x.rows, [&](auto count, int64_t row) {
        add_group<count>(x.whole + row * x.inputs + start, x.inputs, weights, inputs,
                         x.scales + row * x.groups() + start / kGroup, x.groups(), sums.data() + row * kBlock);
      });
    };
    if (x.rows < 2 * kRows) {
      add(weight + start * kBlock);
    } else {
      for (int64_t i = 0; i < inputs * kBlock; i += kBlock) {
        _mm_prefetch((const char*)weight + (start + kGroup) * kBlock + i, _MM_HINT_T1);  // to come while this is used
        _mm512_store_si512(wide + i, weights(weight + start * kBlock + i));
      }
      add((const int16_t*)wide);
    }
  }
  const float* const scale = w.scale + block * kBlock;
  const __m512 low = _mm512_loadu_ps(scale), high = _mm512_loadu_ps(scale + 16);
  const int count = int(std::min<int64_t>(kBlock, w.outputs - block * kBlock));
  for (int64_t row = 0; row < x.rows; row++) {
    const float* const from = sums.data() + row * kBlock;
    store_tile(_mm512_mul_ps(_mm512_loadu_ps(from), low), _mm512_mul_ps(_mm512_loadu_ps(from + 16), high),
               w.result + row * w.outputs + block * kBlock, count);
  }
}

#endif

// Without the instructions above: plain loops that the compiler turns into vectors.

static inline float even(const bf16* pairs, int lane) { return to_float(pairs[2 * lane]); }
static inline float odd(const bf16* pairs, int lane) { return to_float(pairs[2 * lane + 1]); }
static inline float even(const int8_t* pairs, int lane) { return pairs[2 * lane]; }
static inline float odd(const int8_t* pairs, int lane) { return pairs[2 * lane + 1]; }

template <int R, class W>
static void plain_tile(const Activations& x, int64_t row, const W* weight, const float* scale, int64_t stride, bf16* to,
                       int count) {
  float sums[R][kBlock] = {};
  const bf16* from = x.data + row * x.stride;
  for (int64_t k = 0; k < x.inputs; k += 2, weight += 2 * kBlock)
    for (int r = 0; r < R; r++) {
      const float first = to_float(from[r * x.stride + k]), second = to_float(from[r * x.stride + k + 1]);
      for (int lane = 0; lane < kBlock; lane++) sums[r][lane] += first * even(weight, lane) + second * odd(weight, lane);
    }
  for (int r = 0; r < R; r++)
    for (int lane = 0; lane < count; lane++)
      from_float(scale ? sums[r][lane] * scale[lane] : sums[r][lane], to + r * stride + lane);
}

static void one_block(const Activations& x, const Weight& w, int64_t block) {
#if defined(CUSTOS_AVX512_INT8)
  if (w.scale) return int8_block(x, w, block);
#endif
  const int64_t offset = block * kBlock * x.inputs;
  const int count = int(std::min<int64_t>(kBlock, w.outputs - block * kBlock));
  const bf16* const weight = (const bf16*)w.data + offset;
  by_rows<kRows>(x.rows, [&](auto rows, int64_t row) {
    bf16* const to = w.result + row * w.outputs + block * kBlock;
#if !defined(CUSTOS_AVX512_INT8)
    if (w.scale)
      return plain_tile<rows>(x, row, (const int8_t*)w.data + offset, w.scale + block * kBlock, w.outputs, to, count);
#endif
#if defined(CUSTOS_AVX512_BF16)
    tile<rows>(x, row, weight, w.outputs, to, count);
#else
    plain_tile<rows>(x, row, weight, (const float*)nullptr, w.outputs, to, count);
#endif
  });
}

// Below this many bytes of weights and rows, waking a second thread costs more than it brings.
constexpr int64_t kSerialWork = 128 * 1024;

#if defined(CUSTOS_AVX512_INT8)
static void add_integers(Activations& x) {
  static thread_local std::vector<int16_t> whole;
  static thread_local std::vector<float> scales;
  whole.resize(x.rows * x.inputs);
  scales.resize(x.rows * x.groups());
  x.whole = whole.data();
  x.scales = scales.data();
  int16_t* const to = whole.data();
  float* const units = scales.data();
  share(x.rows, x.rows * x.inputs > kSerialWork, [&](int64_t row) {
    to_integers(x.data + row * x.stride, x.inputs, to + row * x.inputs, units + row * x.groups());
  });
}
#endif

static void linear(Activations x, const Weight* weights, int count) {
  int64_t blocks = 0;
  bool integers = false;
  for (int i = 0; i < count; i++) {
    blocks += weights[i].blocks;
    integers |= weights[i].scale != nullptr;
  }
#if defined(CUSTOS_AVX512_INT8)
  if (integers) add_integers(x);
#endif
  share(blocks, blocks * kBlock * x.inputs * (1 + x.rows / kRows) > kSerialWork, [&](int64_t block) {
    const Weight* w = weights;
    while (block >= w->blocks) block -= (w++)->blocks;
    one_block(x, *w, block);
  });
}

// Rows of a packed weight. Ids were checked.
static void embedding(const int64_t* ids, int64_t count, const void* weight, const float* scale, int64_t width,
                      bf16* result) {
  const int64_t pairs = (width + 1) / 2;
  share(count, count * width > kSerialWork, [&](int64_t i) {
    const int64_t first = ids[i] / kBlock * pairs * kBlock + ids[i] % kBlock;
    for (int64_t k = 0; k < width; k++) {
      const int64_t place = 2 * (first + k / 2 * kBlock) + k % 2;
      if (scale)
        from_float(((const int8_t*)weight)[place] * scale[ids[i]], result + i * width + k);
      else
        result[i * width + k] = ((const bf16*)weight)[place];
    }
  });
}

}  // namespace custos

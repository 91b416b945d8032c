// Products of a matrix of zeros and ones with a matrix in bf16 or float32: sums of the rows that the ones choose, in float32.
//
// A dense product pays for the zeros; where four of five values are zero, adding rows is cheaper, and no value is rounded on its
// way.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

typedef uint32_t Words __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Lanes __attribute__((vector_size(64)));

constexpr int kLanes = 16;
// Columns that are summed at a time: eight sums in registers, a block of the table in the second-level cache.
constexpr int kBlock = 8 * kLanes;

constexpr uint16_t kOne = 0x3f80;  // 1 in bf16

// Sums of a block of columns. The lanes of two vectors hold the columns of a part in the order that adding left them in.
struct Sums {
  Floats first[4], second[4];
};

#if defined(__AVX512BF16__)
constexpr Lanes kLower = {0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23};
constexpr Lanes kUpper = {8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31};

// Two rows at once: paired, their values are summed by the instruction that multiplies and adds pairs, here by one.
inline void add_rows(Sums& sums, const uint16_t* row, const uint16_t* other) {
  const __m512bh ones = (__m512bh)_mm512_set1_epi16((short)kOne);
  for (int part = 0; part < 4; part++) {
    __m512i a = _mm512_loadu_si512(row + 2 * kLanes * part), b = _mm512_loadu_si512(other + 2 * kLanes * part);
    sums.first[part] = (Floats)_mm512_dpbf16_ps((__m512)sums.first[part], (__m512bh)_mm512_unpacklo_epi16(a, b), ones);
    sums.second[part] = (Floats)_mm512_dpbf16_ps((__m512)sums.second[part], (__m512bh)_mm512_unpackhi_epi16(a, b), ones);
  }
}
#else
constexpr Lanes kLower = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr Lanes kUpper = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

// Two bf16 numbers lie in one 32-bit lane; shifted left or masked, each is the float32 that it stands for.
inline void add_rows(Sums& sums, const uint16_t* row, const uint16_t* other) {
  for (const uint16_t* from : {row, other})
    for (int part = 0; part < 4; part++) {
      Words words;
      std::memcpy(&words, from + 2 * kLanes * part, sizeof words);
      sums.first[part] += (Floats)(words << 16);
      sums.second[part] += (Floats)(words & 0xffff0000u);
    }
}
#endif

alignas(64) constexpr uint16_t kNothing[kBlock] = {};

inline void store(const Sums& sums, float* out, long columns, float shift, const float* along) {
  float values[kBlock];
  for (int part = 0; part < 4; part++) {
    Floats lower = __builtin_shuffle(sums.first[part], sums.second[part], kLower);
    Floats upper = __builtin_shuffle(sums.first[part], sums.second[part], kUpper);
    std::memcpy(values + 2 * kLanes * part, &lower, sizeof lower);
    std::memcpy(values + 2 * kLanes * part + kLanes, &upper, sizeof upper);
  }
  if (along == nullptr) {
    for (long c = 0; c < columns; c++) out[c] = values[c];
  } else {
    for (long c = 0; c < columns; c++) out[c] = values[c] - shift * along[c];
  }
}

// Writes the places of the ones of a row; returns their number, or -1.
inline int32_t ones_of(const uint16_t* row, long columns, uint16_t* out) {
  int32_t count = 0;
  long c = 0;
#if defined(__AVX512VBMI2__)
  const __m512i one = _mm512_set1_epi16(kOne), step = _mm512_set1_epi16(32);
  uint16_t first[32];
  for (int k = 0; k < 32; k++) first[k] = (uint16_t)k;
  __m512i numbers = _mm512_loadu_si512(first);
  uint32_t strange = 0;
  for (; c + 32 <= columns; c += 32) {
    __m512i loaded = _mm512_loadu_si512(row + c);
    uint32_t ones = _mm512_cmpeq_epi16_mask(loaded, one);
    strange |= ones ^ (uint32_t)_mm512_test_epi16_mask(loaded, loaded);
    _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi16(ones, numbers));
    count += __builtin_popcount(ones);
    numbers = _mm512_add_epi16(numbers, step);
  }
  if (strange) return -1;
#endif
  for (; c < columns; c++) {
    if (row[c] != 0 && row[c] != kOne) return -1;
    out[count] = (uint16_t)c;
    count += row[c] != 0;  // without a branch; what is written past the ones is overwritten or ignored
  }
  return count;
}

// The same of float32 values.
inline int32_t ones_of(const float* row, long columns, uint16_t* out) {
  int32_t count = 0;
  long c = 0;
#if defined(__AVX512VBMI2__) && defined(__AVX512VL__)
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m256i step = _mm256_set1_epi16(kLanes);
  uint16_t first[kLanes];
  for (int k = 0; k < kLanes; k++) first[k] = (uint16_t)k;
  __m256i numbers = _mm256_loadu_si256((const __m256i*)first);
  uint32_t strange = 0;
  for (; c + kLanes <= columns; c += kLanes) {
    __m512 loaded = _mm512_loadu_ps(row + c);
    __mmask16 ones = _mm512_cmp_ps_mask(loaded, one, _CMP_EQ_OQ);
    strange |= ones ^ _mm512_cmp_ps_mask(loaded, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    _mm256_storeu_si256((__m256i*)(out + count), _mm256_maskz_compress_epi16(ones, numbers));
    count += __builtin_popcount(ones);
    numbers = _mm256_add_epi16(numbers, step);
  }
  if (strange) return -1;
#endif
  for (; c < columns; c++) {
    if (row[c] != 0.0f && row[c] != 1.0f) return -1;
    out[count] = (uint16_t)c;
    count += row[c] != 0.0f;
  }
  return count;
}

// Sum of `count` terms, several at once, for one after another waits for each addition.
template <int Parts, class Term>
inline float sum_of(long count, Term term) {
  float parts[Parts] = {}, sum = 0.0f;
  long k = 0;
  for (; k + Parts <= count; k += Parts)
    for (int part = 0; part < Parts; part++) parts[part] += term(k + part);
  for (; k < count; k++) parts[0] += term(k);
  for (int part = 0; part < Parts; part++) sum += parts[part];
  return sum;
}

inline float widened(uint16_t value) {
  uint32_t bits = (uint32_t)value << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// To the nearest bf16, ties to even; NaN stays NaN.
inline uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)(value != value ? 0x7fc0u : nearest);
}

// The same by column, from the lists of the rows. `places` has room for `rows` numbers a column.
void turn(const uint16_t* by_row, long row_room, const int32_t* row_counts, long rows, long columns,
                    uint16_t* places, int32_t* counts, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; part++) {
    long first = columns * part / threads, end = columns * (part + 1) / threads;
    for (long c = first; c < end; c++) counts[c] = 0;
    for (long r = 0; r < rows; r++) {
      const uint16_t* list = by_row + r * row_room;
      int32_t low = 0, high = row_counts[r];
      while (low < high) {  // the first one that is in this part
        int32_t middle = (low + high) / 2;
        if (list[middle] < first) low = middle + 1; else high = middle;
      }
      for (int32_t k = low; k < row_counts[r] && list[k] < end; k++) {
        long c = list[k];
        places[c * rows + counts[c]++] = (uint16_t)r;
      }
    }
  }
}

// out[r, :] = sum of table[i, :] over i in the list of r, less down[r] * along[:] where these are given.
// `padded` is the row length of the table, a multiple of the block; what lies beyond `columns` in it is never stored.
void sum_rows(const uint16_t* places, const int32_t* counts, long rows, long room, const uint16_t* table, long padded,
                   float* out, long columns, const float* down, const float* along, int threads) {
#pragma omp parallel num_threads(threads)
  for (long first = 0; first < columns; first += kBlock) {
    long width = columns - first < kBlock ? columns - first : kBlock;
#pragma omp for schedule(static) nowait
    for (long r = 0; r < rows; r++) {
      Sums sums;
      std::memset(&sums, 0, sizeof sums);
      const uint16_t* list = places + r * room;
      const uint16_t* block = table + first;
      for (int32_t k = 0; k + 1 < counts[r]; k += 2) add_rows(sums, block + list[k] * padded, block + list[k + 1] * padded);
      if (counts[r] % 2) add_rows(sums, block + list[counts[r] - 1] * padded, kNothing);
      store(sums, out + r * columns + first, width, down ? down[r] : 0.0f, along ? along + first : nullptr);
    }
  }
}

// out = the sums of the rows of a float32 table that each list names.
void sum_wide_rows(const uint16_t* places, const int32_t* counts, long rows, long room, const float* table, long stride,
                   float* out, long columns, int threads) {
#pragma omp parallel num_threads(threads)
  for (long first = 0; first < columns; first += kBlock) {
    const long width = columns - first < kBlock ? columns - first : kBlock;
#if defined(__AVX512F__)
    __mmask16 inside[8];
    for (int part = 0; part < 8; part++) {
      long left = width - part * kLanes;
      inside[part] = (__mmask16)(left >= kLanes ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
    }
#endif
#pragma omp for schedule(static) nowait
    for (long r = 0; r < rows; r++) {
      const uint16_t* list = places + r * room;
      float* to = out + r * columns + first;
#if defined(__AVX512F__)
      __m512 sums[8];
      for (auto& sum : sums) sum = _mm512_setzero_ps();
      for (int32_t k = 0; k < counts[r]; k++) {
        const float* row = table + list[k] * stride + first;
        for (int part = 0; part < 8; part++)
          sums[part] = _mm512_add_ps(sums[part], _mm512_maskz_loadu_ps(inside[part], row + part * kLanes));
      }
      for (int part = 0; part < 8; part++) _mm512_mask_storeu_ps(to + part * kLanes, inside[part], sums[part]);
#else
      for (long c = 0; c < width; c++) to[c] = 0.0f;
      for (int32_t k = 0; k < counts[r]; k++)
        for (long c = 0; c < width; c++) to[c] += table[list[k] * stride + first + c];
#endif
    }
  }
}

}  // namespace

extern "C" {

// Where the ones of each row are, or a count of -1 if a value of the row is neither 0 nor 1. `places` has `room` numbers a row, at
// least 32 more than there are columns: whole vectors are written.
void bits_by_row(const void* values, int is_wide, long rows, long columns, long stride, uint16_t* places, long room,
                 int32_t* counts, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long r = 0; r < rows; r++)
    counts[r] = is_wide ? ones_of((const float*)values + r * stride, columns, places + r * room)
                        : ones_of((const uint16_t*)values + r * stride, columns, places + r * room);
}

// out = bits times table, a row of the table for each place in a list.
void bits_product(const uint16_t* places, long room, const int32_t* counts, long rows, const uint16_t* table, long padded,
                  float* out, long columns, int threads) {
  sum_rows(places, counts, rows, room, table, padded, out, columns, nullptr, nullptr, threads);
}

// The same with a table in float32, whose rows need no room beyond their columns.
void bits_wide_product(const uint16_t* places, long room, const int32_t* counts, long rows, const float* table, long stride,
                       float* out, long columns, int threads) {
  sum_wide_rows(places, counts, rows, room, table, stride, out, columns, threads);
}

// Moments of bits b and values p over the chains, the first `chains` rows, less those over the data, the others; rows of either
// weigh 1 / their number. With offsets m of the bits and l of the values, of the centred ones:
//   weight[i, :] = sum_r w_r b_ri (p_r - l) - m_i upper[:]      w_r = 1/chains or -1/data
//   lower[i] = sum_r w_r b_ri,   upper[j] = sum_r w_r p_rj      and what centring takes from either bias:
//   lower_turn[i] = weight[i, :] . l,   upper_turn[j] = m . weight[:, j]
// which follow from sums over rows, so that no pass over the weights is needed.
void bits_moments(const uint16_t* places, long room, const int32_t* counts, long rows, long chains, long bits,
                  const uint16_t* dreaming, long dreaming_stride, const uint16_t* given, long given_stride, long width,
                  const float* m, const float* l, uint16_t* table, long padded, uint16_t* by_column, int32_t* column_counts,
                  float* row_sums, float* weight, float* lower, float* upper, float* lower_turn, float* upper_turn, int threads) {
  const float chain = 1.0f / (float)chains, datum = -1.0f / (float)(rows - chains);
  float* along_l = row_sums + rows;  // of each row of the table, the product with l
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (long r = 0; r < rows; r++) {
      const uint16_t* list = places + r * room;
      row_sums[r] = sum_of<4>(counts[r], [=](long k) { return m[list[k]]; });
    }
#pragma omp for schedule(static)
    for (long first = 0; first < width; first += 4 * kLanes) {
      long end = width - first < 4 * kLanes ? width : first + 4 * kLanes;
      for (long j = first; j < end; j++) upper[j] = upper_turn[j] = 0.0f;
      for (long r = 0; r < rows; r++) {
        const uint16_t* row = r < chains ? dreaming + r * dreaming_stride : given + (r - chains) * given_stride;
        float scale = r < chains ? chain : datum, sum = row_sums[r];
        for (long j = first; j < end; j++) {
          float value = scale * (widened(row[j]) - l[j]);
          upper[j] += value;
          upper_turn[j] += sum * value;
          table[r * padded + j] = rounded(value);
        }
      }
    }
#pragma omp for schedule(static)
    for (long r = 0; r < rows; r++) {
      const uint16_t* row = table + r * padded;
      along_l[r] = sum_of<kLanes>(width, [=](long k) { return widened(row[k]) * l[k]; });
    }
  }
  float square = 0.0f, crossed = 0.0f;
  for (long i = 0; i < bits; i++) square += m[i] * m[i];
  for (long j = 0; j < width; j++) crossed += upper[j] * l[j];
  for (long j = 0; j < width; j++) upper_turn[j] -= square * upper[j];
  turn(places, room, counts, rows, bits, by_column, column_counts, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long i = 0; i < bits; i++) {
    const uint16_t* list = by_column + i * rows;
    const int32_t count = column_counts[i], dreamt = (int32_t)(std::lower_bound(list, list + count, chains) - list);
    lower[i] = chain * (float)dreamt + datum * (float)(count - dreamt);
    lower_turn[i] = sum_of<4>(count, [=](long k) { return along_l[list[k]]; }) - m[i] * crossed;
  }
  sum_rows(by_column, column_counts, bits, rows, table, padded, weight, width, m, upper, threads);
}

}  // extern "C"

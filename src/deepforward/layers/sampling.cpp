// Binary units of Boltzmann machines: probabilities with draws from them, and sums of softplus, each in one pass over memory.
//
// A matrix is [rows][columns] of float32 or bfloat16 with any distance between its rows; arithmetic is float32. Random numbers
// are Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3). Group g of 64 columns of a
// row takes the 16 counters (16 g + i, row, 0, 0): word w of the output for the i-th is for column 64 g + 16 w + i. So a draw
// depends on nothing but the key, its row and its column, and vectors are filled without shuffling.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include <omp.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "two 32-bit lanes make a 64-bit lane low half first"
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, ROWS = 2;  // ROWS are drawn together, as many as there are registers for
#elif defined __AVX2__
constexpr int LANES = 8, ROWS = 1;
#else
constexpr int LANES = 4, ROWS = 1;
#endif
constexpr int COUNTERS = 16;         // of a group of columns
constexpr int GROUP = 4 * COUNTERS;  // columns that share their counters
constexpr int VECTORS = GROUP / LANES;
constexpr long BLOCK = 128;  // rows that a thread takes at a time
constexpr long SMALL = 20000;  // units that one thread has done before a second has woken up

using bfloat16 = uint16_t;
using Floats = float __attribute__((vector_size(4 * LANES)));
using Words = uint32_t __attribute__((vector_size(4 * LANES)));
using Halves = uint16_t __attribute__((vector_size(2 * LANES)));
using Wide = uint64_t __attribute__((vector_size(4 * LANES)));
using HalfFloats = float __attribute__((vector_size(2 * LANES)));
using Doubles = double __attribute__((vector_size(4 * LANES)));

inline Floats widen(Halves halves) {
#ifdef __AVX512F__
    Words words = (Words)_mm512_cvtepu16_epi32((__m256i)halves);
#else
    Words words = __builtin_convertvector(halves, Words);
#endif
    return (Floats)(words << 16);
}

inline void narrow(Floats values, Halves &halves) {
#ifdef __AVX512BF16__
    __m256bh rounded = _mm512_cvtneps_pbh((__m512)values);
    memcpy(&halves, &rounded, sizeof halves);
#else
    Words bits = (Words)values;
    Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    Words not_a_number = (Words)(values != values);  // rounding could carry a NaN over to zero
    halves = __builtin_convertvector((rounded & ~not_a_number) | (not_a_number & 0x7fc0u), Halves);
#endif
}

inline Floats widen(Floats values) { return values; }

inline void narrow(Floats values, Floats &same) { same = values; }

// Vectors side by side, which stay in registers.
template <int V>
struct Tile {
    Floats part[V];

    template <class Function>
    friend Tile map(const Tile &a, const Tile &b, Function function) {
        Tile result;
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) result.part[v] = function(a.part[v], b.part[v]);
        return result;
    }
};

// A matrix that is walked by tiles of a row; `left` columns are left in it, and lanes behind them are read as zero.
struct Matrix {
    void *data;
    long stride;
    bool is_bfloat16;

    explicit operator bool() const { return data; }

    template <int V>
    Tile<V> load(long row, long column, long left) const {
        long at = row * stride + column;
        if (is_bfloat16) return load<V, Halves>((const bfloat16 *)data + at, left);
        return load<V, Floats>((const float *)data + at, left);
    }

    template <int V>
    void store(long row, long column, long left, const Tile<V> &tile) const {
        long at = row * stride + column;
        if (is_bfloat16) store<V, Halves>((bfloat16 *)data + at, left, tile);
        else store<V, Floats>((float *)data + at, left, tile);
    }

private:
    template <int V, class Vector, class T>
    static Tile<V> load(const T *from, long left) {
        T all[V * LANES];
        if (left < V * LANES) {
            std::fill(std::copy(from, from + left, all), all + V * LANES, T());
            from = all;
        }
        Tile<V> tile;
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
            Vector values;
            memcpy(&values, from + v * LANES, sizeof values);
            tile.part[v] = widen(values);
        }
        return tile;
    }

    template <int V, class Vector, class T>
    static void store(T *to, long left, const Tile<V> &tile) {
        T all[V * LANES], *at = left < V * LANES ? all : to;
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
            Vector values;
            narrow(tile.part[v], values);
            memcpy(at + v * LANES, &values, sizeof values);
        }
        if (at == all) std::copy(all, all + left, to);
    }
};

// The low halves of the lanes times a number, in 64 bits; the high halves may be anything.
inline Wide product(Wide lanes, uint32_t number) {
#ifdef __AVX512F__
    return (Wide)_mm512_mul_epu32((__m512i)lanes, _mm512_set1_epi64(number));
#elif defined __AVX2__
    return (Wide)_mm256_mul_epu32((__m256i)lanes, _mm256_set1_epi64x(number));
#elif defined __SSE2__
    return (Wide)_mm_mul_epu32((__m128i)lanes, _mm_set1_epi64x(number));
#else
    return (lanes & 0xffffffffu) * (uint64_t)number;
#endif
}

// Philox4x32-10 with the low halves of 64-bit lanes as its words: a product's halves are then the two words that it gives.
class Philox {
    static constexpr int ROUNDS = 10;
    static constexpr uint32_t MULTIPLIERS[2] = {0xD2511F53, 0xCD9E8D57}, STEPS[2] = {0x9E3779B9, 0xBB67AE85};
    uint64_t keys[ROUNDS][2];

    // Sets of counters that go through the rounds together; alone, each would wait for its own products.
    static constexpr int PAIRS = COUNTERS / LANES, SETS = 2 * PAIRS * ROWS;

public:
    explicit Philox(uint64_t key) {
        for (uint32_t i = 0; i < ROUNDS; i++)
            for (int j = 0; j < 2; j++) keys[i][j] = (uint32_t)(key >> (32 * j)) + i * STEPS[j];
    }

    // Uniform words, in the guise of floats, for the 64 columns of a group in ROWS rows.
    void draw(uint32_t row, uint32_t group, Tile<VECTORS> uniform[ROWS]) const {
        Wide words[SETS][4];  // of the even lanes of a vector, of its odd ones, and so on, row by row
        Wide even;
        for (int i = 0; i < LANES / 2; i++) even[i] = group * COUNTERS + 2 * i;
#pragma GCC unroll 16
        for (int s = 0; s < SETS; s++) {
            Wide first = product(even + (uint64_t)(s / 2 % PAIRS * LANES + s % 2), MULTIPLIERS[0]);
            words[s][0] = Wide{} + ((row + s / (2 * PAIRS)) ^ keys[0][0]);
            words[s][1] = Wide{};  // the other product of round one is zero
            words[s][2] = (first >> 32) ^ keys[0][1];
            words[s][3] = first;
        }
#pragma GCC unroll 16
        for (int i = 1; i < ROUNDS; i++) {
#pragma GCC unroll 16
            for (int s = 0; s < SETS; s++) {
                Wide a = product(words[s][0], MULTIPLIERS[0]), b = product(words[s][2], MULTIPLIERS[1]);
                words[s][0] = (b >> 32) ^ words[s][1] ^ keys[i][0];
                words[s][1] = b;
                words[s][2] = (a >> 32) ^ words[s][3] ^ keys[i][1];
                words[s][3] = a;
            }
        }
#pragma GCC unroll 16
        for (int s = 0; s < SETS; s += 2)
#pragma GCC unroll 4
            for (int w = 0; w < 4; w++)
                uniform[s / (2 * PAIRS)].part[w * PAIRS + s / 2 % PAIRS] =
                    (Floats)((words[s][w] & 0xffffffffu) | (words[s + 1][w] << 32));
    }
};

constexpr float LIMIT = 87.3f;

// exp(x) for |x| <= LIMIT, NaN for NaN, and anything elsewhere: 2^n * exp(r), where |r| <= log(2) / 2 and the polynomial, the
// best in relative error that ends in 1 + r, is off by 1e-7. The two parts of log(2) are those of Cephes (Moshier 1992).
inline Floats exponential(Floats x) {
    constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: the last bit of a sum with it is worth one
    Floats shifted = x * 1.44269504088896341f + TO_INTEGER, n = shifted - TO_INTEGER;
    Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats y = r * 8.3125201e-3f + 4.18901568e-2f;
    y = y * r + 1.66671147e-1f;
    y = y * r + 4.99992315e-1f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return y * (Floats)(((Words)shifted << 23) + 0x3f800000u);
}

// 1 / (1 + exp(-x)), and zero where that is hardly above the smallest normal number.
inline Floats logistic(Floats x) {
    Floats bounded = x > LIMIT ? Floats{} + LIMIT : x;
    Floats p = 1.0f / (1.0f + exponential(-bounded));
    return x < -LIMIT ? Floats{} : p;
}

// log(1 + e) for 0 <= e <= 1 as 2 artanh(s), s = e / (2 + e) <= 1/3: what is left out is below 2e-8 of the whole.
inline Floats log_of_one_and(Floats e) {
    Floats s = e / (2.0f + e), square = s * s;
    Floats y = square * (1.0f / 13) + 1.0f / 11;
    y = y * square + 1.0f / 9;
    y = y * square + 1.0f / 7;
    y = y * square + 1.0f / 5;
    y = y * square + 1.0f / 3;
    return 2.0f * (s + s * (y * square));
}

// One where uniform < round(2^32 * p), or p >= 1; else zero, and NaN where p is. Rounding makes the error at most 2^-33.
// Where 2^32 * p is nothing that a word can hold, p is at least one or NaN, and the threshold does not matter.
inline Floats fires(Floats p, Floats uniform) {
    Words threshold = __builtin_convertvector(p * 4294967296.0f + 0.5f, Words);
    return p * 0.0f + (((Words)uniform < threshold) | (p >= 1.0f) ? Floats{} + 1.0f : Floats{});
}

// A vector of one number a column, or zeros, up to a whole group.
std::vector<float> padded(const float *from, long columns) {
    std::vector<float> result((columns + GROUP - 1) / GROUP * GROUP);
    if (from) std::copy(from, from + columns, result.begin());
    return result;
}

struct Sampler {
    Matrix inputs, probabilities, samples;
    const float *bias;  // null where the inputs are probabilities
    Philox philox;
    long columns;

    // Rows [first, last) of a group of columns.
    void block(long first, long last, long group) const {
        Tile<VECTORS> shift{};
        if (bias) memcpy(shift.part, bias + group * GROUP, sizeof shift.part);
        for (long row = first; row < last; row += ROWS) {
            Tile<VECTORS> uniform[ROWS]{};
            if (samples) philox.draw(row, group, uniform);
            for (int r = 0; r < ROWS && row + r < last; r++) units(row + r, group, shift, uniform[r]);
        }
    }

private:
    // Writes what is wanted of a group of a row.
    void units(long row, long group, const Tile<VECTORS> &shift, const Tile<VECTORS> &uniform) const {
        long column = group * GROUP, left = columns - column;
        Tile<VECTORS> p = inputs.load<VECTORS>(row, column, left);
        if (bias) p = map(p, shift, [](Floats x, Floats b) { return logistic(x + b); });
        else p = map(p, p, [](Floats x, Floats) { return x < 0.0f ? Floats{} : x; });
        if (probabilities) probabilities.store(row, column, left, p);
        if (samples) samples.store(row, column, left, map(p, uniform, fires));
    }
};

// Sum over columns of log(1 + exp(factor * (x + bias))). What grows with the input is added in float64, where it is exact
// however many columns round the same way; the rest, at most log 2, is float32.
double softplus_of_row(const Matrix &inputs, const float *bias, double factor, long row, long columns) {
    Doubles sum[2]{};
    for (long column = 0; column < columns; column += LANES) {
        const long left = columns - column;
        Floats x = inputs.load<1>(row, column, left).part[0], b;
        memcpy(&b, bias + column, sizeof b);
        Floats z = (x + b) * (float)factor, down = z < -z ? z : -z;
        Floats rest = log_of_one_and(down < -LIMIT ? Floats{} : exponential(down));
        for (long i = left; i < LANES; i++) rest[i] = 0.0f;
        HalfFloats xs[2], bs[2], rests[2];
        memcpy(xs, &x, sizeof x);
        memcpy(bs, &b, sizeof b);
        memcpy(rests, &rest, sizeof rest);
        for (int h = 0; h < 2; h++) {
            Doubles line = (__builtin_convertvector(xs[h], Doubles) + __builtin_convertvector(bs[h], Doubles)) * factor;
            sum[h] += (line <= 0.0 ? Doubles{} : line) + __builtin_convertvector(rests[h], Doubles);
        }
    }
    double total = 0;
    for (int i = 0; i < LANES; i++) total += sum[i % 2][i / 2];
    return total;
}

}  // namespace

extern "C" {

void binary_units_sample(void *x, long x_stride, int x_bfloat16, void *probabilities, long probabilities_stride,
                         int probabilities_bfloat16, void *samples, long samples_stride, int samples_bfloat16,
                         const float *bias, long rows, long columns, int is_logit, uint64_t key, int threads) {
    const std::vector<float> shifts = padded(bias, columns);
    const Sampler sampler{{x, x_stride, !!x_bfloat16},
                          {probabilities, probabilities_stride, !!probabilities_bfloat16},
                          {samples, samples_stride, !!samples_bfloat16},
                          is_logit ? shifts.data() : nullptr,
                          Philox(key),
                          columns};
    long groups = (columns + GROUP - 1) / GROUP, blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(rows * columns < SMALL ? 1 : threads)
    for (long i = 0; i < blocks * groups; i++) {
        long first = i / groups * BLOCK;
        sampler.block(first, std::min(first + BLOCK, rows), i % groups);
    }
}

void binary_units_softplus(void *x, long x_stride, int x_bfloat16, const float *bias, double *sums, long rows, long columns,
                           double factor, int threads) {
    const Matrix inputs{x, x_stride, !!x_bfloat16};
    const std::vector<float> shifts = padded(bias, columns);
#pragma omp parallel for schedule(static) num_threads(rows * columns < SMALL ? 1 : threads)
    for (long row = 0; row < rows; row++) sums[row] = softplus_of_row(inputs, shifts.data(), factor, row, columns);
}

}

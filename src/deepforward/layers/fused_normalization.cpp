// Training-mode batch normalisation with what follows it, an addition and a ReLU, in as few passes over memory as there can be.
//
// A channels-last tensor is an array [rows][channels], where rows = batch * height * width and channels is a multiple of 16.
// A table holds four rows of `channels` floats: mean, 1 / standard deviation, and the scale and shift of y = scale * x + shift.
// Arithmetic is float32, sums over rows are float64 from blocks of 512 rows; tensors are float32 or bfloat16.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <omp.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;
constexpr long BLOCK = 512;

using bfloat16 = uint16_t;
using Floats = float __attribute__((vector_size(4 * LANES)));
using Words = uint32_t __attribute__((vector_size(4 * LANES)));
using Halves = uint16_t __attribute__((vector_size(2 * LANES)));

inline Floats load(const float *from) {
    Floats values;
    memcpy(&values, from, sizeof values);
    return values;
}

inline Floats load(const bfloat16 *from) {
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

inline void store(float *to, Floats values) { memcpy(to, &values, sizeof values); }

inline void store(bfloat16 *to, Floats values) {
#ifdef __AVX512BF16__
    __m256bh halves = _mm512_cvtneps_pbh((__m512)values);
#else
    Words bits = (Words)values;
    Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    Words quiet_nan = (Words)(values != values);  // rounding could carry a NaN over to zero
    Halves halves = __builtin_convertvector((rounded & ~quiet_nan) | (quiet_nan & 0x7fc0u), Halves);
#endif
    memcpy(to, &halves, sizeof halves);
}

// The values where `output` is above zero, else zero; where `output` is NaN the values pass, as in torch.
inline Floats where_positive(Floats values, Floats output) { return (Floats)((Words)values & ~(Words)(output <= 0.0f)); }

// V vectors side by side, which stay in registers.
template <int V>
struct Tile {
    Floats part[V];

    Tile() : part{} {}

    template <class T>
    explicit Tile(const T *from) {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) part[v] = load(from + v * LANES);
    }

    template <class T>
    void store_to(T *to) const {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store(to + v * LANES, part[v]);
    }

    template <class Function>
    friend Tile map(const Tile &a, const Tile &b, Function function) {
        Tile result;
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) result.part[v] = function(a.part[v], b.part[v]);
        return result;
    }

    friend Tile operator+(const Tile &a, const Tile &b) { return map(a, b, [](Floats x, Floats y) { return x + y; }); }
    friend Tile operator-(const Tile &a, const Tile &b) { return map(a, b, [](Floats x, Floats y) { return x - y; }); }
    friend Tile operator*(const Tile &a, const Tile &b) { return map(a, b, [](Floats x, Floats y) { return x * y; }); }
    friend Tile rectify(const Tile &values, const Tile &output) { return map(values, output, where_positive); }
};

// The array as it is walked: with 16 or 32 channels, several rows count as one of 64, so that inner loops are never short.
struct Grid {
    long rows, width, channels;
    int threads;

    Grid(long rows, long channels, int threads) : rows(rows), width(channels), channels(channels), threads(threads) {
        if (64 % channels == 0 && rows * channels % 64 == 0) {
            this->rows = rows * channels / 64;
            width = 64;
        }
    }

    std::vector<float> widen(const float *per_channel) const {
        std::vector<float> wide(width);
        for (long i = 0; i < width; i++) wide[i] = per_channel[i % channels];
        return wide;
    }

    // Rows [first, last) of the calling thread.
    void share(long &first, long &last) const {
        long thread = omp_get_thread_num(), all = omp_get_num_threads();
        first = rows * thread / all;
        last = rows * (thread + 1) / all;
    }
};

// Calls visit_at(column)(offset) for every tile of the array.
template <int V, class VisitAt>
void for_each(const Grid &grid, VisitAt visit_at) {
#pragma omp parallel num_threads(grid.threads)
    {
        long first, last;
        grid.share(first, last);
        for (long column = 0; column < grid.width; column += V * LANES) {
            auto visit = visit_at(column);
            for (long row = first; row < last; row++) visit(row * grid.width + column);
        }
    }
}

// Two sums a channel, [2][channels], of what visit_at(column)(offset, sum1, sum2) adds.
template <int V, class VisitAt>
std::vector<double> sum_rows(const Grid &grid, VisitAt visit_at) {
    std::vector<double> partial(grid.threads * 2 * grid.width), sums(2 * grid.channels);
#pragma omp parallel num_threads(grid.threads)
    {
        double *mine = &partial[omp_get_thread_num() * 2 * grid.width];
        long first, last;
        grid.share(first, last);
        for (long column = 0; column < grid.width; column += V * LANES) {
            auto visit = visit_at(column);
            for (long block = first; block < last; block += BLOCK) {
                Tile<V> sum1, sum2;
                for (long row = block; row < std::min(block + BLOCK, last); row++)
                    visit(row * grid.width + column, sum1, sum2);
                for (int i = 0; i < V * LANES; i++) {
                    mine[column + i] += sum1.part[i / LANES][i % LANES];
                    mine[grid.width + column + i] += sum2.part[i / LANES][i % LANES];
                }
            }
        }
    }
    for (long i = 0; i < (long)partial.size(); i++) {
        long row = i / grid.width % 2, channel = i % grid.width % grid.channels;
        sums[row * grid.channels + channel] += partial[i];
    }
    return sums;
}

template <class T, int V>
void statistics(const T *x, const float *weight, const float *bias, float *running_mean, float *running_var, float *table,
                long rows, long channels, double momentum, double eps, int threads) {
    Grid grid(rows, channels, threads);
    // Deviations from the first row instead of from zero: the variance of far-away values keeps its digits.
    std::vector<float> first_row(channels);
    for (long c = 0; c < channels; c += LANES) store(&first_row[c], load(x + c));
    const std::vector<float> wide = grid.widen(first_row.data());
    auto sums = sum_rows<V>(grid, [=, origins = wide.data()](long column) {
        const Tile<V> origin(origins + column);
        return [=](long at, Tile<V> &sum, Tile<V> &square) {
            Tile<V> deviation = Tile<V>(x + at) - origin;
            sum = sum + deviation;
            square = square + deviation * deviation;
        };
    });
    for (long c = 0; c < channels; c++) {
        double offset = sums[c] / rows, variance = sums[channels + c] / rows - offset * offset;
        if (variance < 0) variance = 0;  // and NaN stays
        double mean = first_row[c] + offset, inverse = 1 / std::sqrt(variance + eps);
        table[c] = mean;
        table[channels + c] = inverse;
        table[2 * channels + c] = weight[c] * inverse;
        table[3 * channels + c] = bias[c] - mean * weight[c] * inverse;
        if (running_mean) {
            running_mean[c] += momentum * (mean - running_mean[c]);
            running_var[c] += momentum * (variance * rows / (rows - 1) - running_var[c]);
        }
    }
}

template <class T, int V>
void forward(const T *x, const T *residual, T *y, const float *table, long rows, long channels, bool relu, int threads) {
    Grid grid(rows, channels, threads);
    const std::vector<float> scales = grid.widen(table + 2 * channels), shifts = grid.widen(table + 3 * channels);
    for_each<V>(grid, [=, scales = scales.data(), shifts = shifts.data()](long column) {
        const Tile<V> scale(scales + column), shift(shifts + column);
        return [=](long at) {
            Tile<V> value = Tile<V>(x + at) * scale + shift;
            if (residual) value = value + Tile<V>(residual + at);
            if (relu) value = rectify(value, value);
            value.store_to(y + at);
        };
    });
}

// The gradient behind the ReLU; without `y`, which is given where a residual went into it, the output is computed again from x.
template <class T, int V>
struct Rectified {
    const T *y, *gradient;
    bool relu;
    Tile<V> scale, shift;

    Tile<V> operator()(long at, const Tile<V> &x) const {
        Tile<V> value(gradient + at);
        if (!relu) return value;
        return rectify(value, y ? Tile<V>(y + at) : x * scale + shift);
    }
};

// `grad_residual`, where it is wanted, receives the gradient behind the ReLU.
template <class T, int V>
void backward(const T *x, const T *y, const T *gradient, T *grad_residual, T *grad_x, const float *table, float *grad_weight,
              float *grad_bias, long rows, long channels, bool relu, int threads) {
    Grid grid(rows, channels, threads);
    const std::vector<float> means = grid.widen(table), scales = grid.widen(table + 2 * channels),
                             shifts = grid.widen(table + 3 * channels);
    auto rectified_at = [=, scales = scales.data(), shifts = shifts.data()](long column) {
        return Rectified<T, V>{y, gradient, relu, Tile<V>(scales + column), Tile<V>(shifts + column)};
    };
    auto sums = sum_rows<V>(grid, [=, means = means.data()](long column) {
        const auto rectified = rectified_at(column);
        const Tile<V> mean(means + column);
        return [=](long at, Tile<V> &sum, Tile<V> &product) {
            Tile<V> input(x + at), value = rectified(at, input);
            if (grad_residual) value.store_to(grad_residual + at);
            sum = sum + value;
            product = product + value * (input - mean);
        };
    });
    // grad_x = scale * (g - mean(g) - (x - mean) * mean(g * (x - mean)) / variance) = scale * g + slope * x + level
    std::vector<float> slope(channels), level(channels);
    for (long c = 0; c < channels; c++) {
        double inverse = table[channels + c], gain = table[2 * channels + c];
        grad_bias[c] = sums[c];
        grad_weight[c] = sums[channels + c] * inverse;
        double steepness = -gain * sums[channels + c] * inverse * inverse / rows;
        slope[c] = steepness;
        level[c] = -gain * sums[c] / rows - steepness * table[c];
    }
    const std::vector<float> slopes = grid.widen(slope.data()), levels = grid.widen(level.data());
    for_each<V>(grid, [=, slopes = slopes.data(), levels = levels.data()](long column) {
        const auto rectified = rectified_at(column);
        const Tile<V> slope(slopes + column), level(levels + column);
        return [=](long at) {
            Tile<V> input(x + at), value = grad_residual ? Tile<V>(grad_residual + at) : rectified(at, input);
            (value * rectified.scale + (input * slope + level)).store_to(grad_x + at);
        };
    });
}

// Vectors that are walked together: 64 channels where that comes out even.
bool by_four(long rows, long channels) { return channels % 64 == 0 || Grid(rows, channels, 1).width == 64; }

}  // namespace

// Calls FUNCTION<type of the tensors, vectors walked together> with the pointers in ARGUMENTS, which are written in terms of T.
#define DISPATCH(FUNCTION, ...)                                                \
    auto call = [&](auto kind) {                                               \
        using T = decltype(kind);                                              \
        if (by_four(rows, channels)) FUNCTION<T, 4>(__VA_ARGS__);              \
        else FUNCTION<T, 1>(__VA_ARGS__);                                      \
    };                                                                         \
    if (is_bfloat16) call(bfloat16());                                         \
    else call(float())

extern "C" {

void batch_norm_statistics(int is_bfloat16, const void *x, const float *weight, const float *bias, float *running_mean,
                           float *running_var, float *table, long rows, long channels, double momentum, double eps, int threads) {
    DISPATCH(statistics, (const T *)x, weight, bias, running_mean, running_var, table, rows, channels, momentum, eps, threads);
}

void batch_norm_forward(int is_bfloat16, const void *x, const void *residual, void *y, const float *table, long rows,
                        long channels, int relu, int threads) {
    DISPATCH(forward, (const T *)x, (const T *)residual, (T *)y, table, rows, channels, relu, threads);
}

void batch_norm_backward(int is_bfloat16, const void *x, const void *y, const void *gradient, void *grad_residual, void *grad_x,
                         const float *table, float *grad_weight, float *grad_bias, long rows, long channels, int relu,
                         int threads) {
    DISPATCH(backward, (const T *)x, (const T *)y, (const T *)gradient, (T *)grad_residual, (T *)grad_x, table, grad_weight,
             grad_bias, rows, channels, relu, threads);
}

}

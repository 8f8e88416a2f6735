// Sixteen floats at a time, in sums whose order is written out: a row's bits depend on nothing but the row.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define LANES 16
#define UNROLLED _Pragma("GCC unroll 16")
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef float half __attribute__((vector_size(32)));
typedef float quarter __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));

const char *compiler = __VERSION__;  // its choice to fuse multiplications and additions decides the last bits

static inline vec all_of(float x) { return (vec){} + x; }

static inline vec chosen(ints where, vec yes, vec no) { return (vec)((where & (ints)yes) | (~where & (ints)no)); }

static inline float sum_of(vec x) {
    union { vec whole; half parts[2]; } a = {x};
    union { half whole; quarter parts[2]; } b = {a.parts[0] + a.parts[1]};
    quarter c = b.parts[0] + b.parts[1];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

// exp of x <= 0 to about one unit in the last place (Cephes' polynomial); 0 under exp(-87), NaN of NaN.
static inline vec exp_of(vec x) {
    const vec magic = all_of(12582912.0f);  // adding it rounds to a whole number
    ints under = x < all_of(-87.0f);
    vec kept = chosen(under, all_of(-87.0f), x);
    vec whole = (kept * 1.44269504f + magic) - magic;
    vec r = kept - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ints power = (__builtin_convertvector(whole, ints) + 127) << 23;
    return chosen(under, (vec){}, p * (vec)power);
}

// log of a normal x > 0 (Cephes' polynomial).
static inline vec log_of(vec x) {
    ints bits = (ints)x, power = (bits >> 23) - 126;
    vec m = (vec)((bits & 0x007fffff) | 0x3f000000);  // [0.5, 1)
    ints small = m < all_of(0.707106781f);
    vec e = __builtin_convertvector(power + small, vec);  // a true lane is -1
    m = chosen(small, m + m, m) - 1.0f;
    vec p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    vec square = m * m;
    return m + (p * m * square - e * 2.12194440e-4f - square * 0.5f) + e * 0.693359375f;
}

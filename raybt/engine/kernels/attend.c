// Attention of one new token a slot over that slot's own keys and values, each read once for all heads that share them.
// Compiled for one shape: DIM is a head's width, a multiple of 16; GROUP the query heads of one key head.
// Every sum runs in an order written out here, so that a row's bits depend on nothing but the row.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define LANES 16
#define PARTS (DIM / LANES)
#define AHEAD 8  // tokens whose keys are asked for early
#define UNROLLED _Pragma("GCC unroll 16")
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef float half __attribute__((vector_size(32)));
typedef float quarter __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(64)));

const char *compiler = __VERSION__;  // its choice to fuse multiplications and additions decides the last bits

static inline float sum_of(vec x) {
    union { vec whole; half parts[2]; } a = {x};
    union { half whole; quarter parts[2]; } b = {a.parts[0] + a.parts[1]};
    quarter c = b.parts[0] + b.parts[1];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

// exp of x <= 0 to about one unit in the last place (Cephes' polynomial); 0 under exp(-87), NaN of NaN.
static inline vec exp_of(vec x) {
    const vec magic = (vec){} + 12582912.0f;  // adding it rounds to a whole number
    const vec least = (vec){} - 87.0f;
    ints under = x < least;
    vec kept = (vec)((under & (ints)least) | (~under & (ints)x));
    vec whole = (kept * 1.44269504f + magic) - magic;
    vec r = kept - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ints power = (__builtin_convertvector(whole, ints) + 127) << 23;
    return (vec)(~under & (ints)(p * (vec)power));
}

// Ask for one token's key or value; asking for what lies beyond the last token does no harm.
static inline void fetch(const float *row) {
    UNROLLED for (int p = 0; p < PARTS; p++) __builtin_prefetch(row + p * LANES);
}

// The heads of one slot that share keys. weights: [GROUP, room] to write scores in.
static void attend_group(
    const float *query, int64_t q_head, const float *keys, int64_t k_token, const float *values, int64_t v_token,
    float *out, int64_t length, float scale, float *weights, int64_t room
) {
    vec q[GROUP][PARTS], summed[GROUP][PARTS];
    float highest[GROUP], total[GROUP];
    UNROLLED for (int g = 0; g < GROUP; g++) {
        highest[g] = -INFINITY;
        UNROLLED for (int p = 0; p < PARTS; p++) {
            q[g][p] = *(const vec *)(query + g * q_head + p * LANES) * scale;
            summed[g][p] = (vec){};
        }
    }
    for (int64_t t = 0; t < length; t++) {
        const vec *key = (const vec *)(keys + t * k_token);
        fetch(keys + (t + AHEAD) * k_token);
        fetch(values + t * v_token);
        UNROLLED for (int g = 0; g < GROUP; g++) {
            vec product = q[g][0] * key[0];
            UNROLLED for (int p = 1; p < PARTS; p++) product += q[g][p] * key[p];
            float score = sum_of(product);
            weights[g * room + t] = score;
            highest[g] = score > highest[g] ? score : highest[g];
        }
    }
    for (int g = 0; g < GROUP; g++) {
        float *row = weights + g * room;
        vec sums = {};
        for (int64_t t = length; t % LANES; t++) row[t] = -INFINITY;
        for (int64_t t = 0; t < length; t += LANES) {
            vec weight = exp_of(*(vec *)(row + t) - highest[g]);
            *(vec *)(row + t) = weight;
            sums += weight;
        }
        total[g] = sum_of(sums);
    }
    for (int64_t t = 0; t < length; t++) {
        const vec *value = (const vec *)(values + t * v_token);
        UNROLLED for (int g = 0; g < GROUP; g++) {
            float weight = weights[g * room + t];
            UNROLLED for (int p = 0; p < PARTS; p++) summed[g][p] += value[p] * weight;
        }
    }
    UNROLLED for (int g = 0; g < GROUP; g++)
        UNROLLED for (int p = 0; p < PARTS; p++)
            *(vec *)(out + g * DIM + p * LANES) = summed[g][p] / total[g];
}

// Slots `begin` to `end`, the latter excluded. query: [slots, heads, DIM]; keys, values: [slots, window, kv heads, DIM];
// out: [slots, heads, DIM], contiguous. Slot s sees positions first[s] to last[s], both included, within the window.
// Gives 0, or 1 where memory ran out.
int attend(
    const float *query, const float *keys, const float *values, float *out, const int64_t *first, const int64_t *last,
    int64_t begin, int64_t end, int64_t kv_heads, int64_t window, int64_t q_slot, int64_t q_head, int64_t k_slot,
    int64_t k_token, int64_t k_head, int64_t v_slot, int64_t v_token, int64_t v_head, float scale
) {
    int64_t room = (window + LANES - 1) / LANES * LANES;
    float *weights = malloc(GROUP * room * sizeof(float));
    if (!weights) return 1;
    for (int64_t s = begin; s < end; s++) {
        int64_t to = last[s] < window ? last[s] : window - 1;  // a slot out of use may stand beyond
        int64_t from = first[s] < to ? first[s] : to;
        for (int64_t h = 0; h < kv_heads; h++)
            attend_group(
                query + s * q_slot + h * GROUP * q_head, q_head,
                keys + s * k_slot + from * k_token + h * k_head, k_token,
                values + s * v_slot + from * v_token + h * v_head, v_token,
                out + (s * kv_heads + h) * GROUP * DIM, to + 1 - from, scale, weights, room
            );
    }
    free(weights);
    return 0;
}

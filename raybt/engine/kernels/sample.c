// The exponential race of raybt.engine.sampling, noise and all: a row's logits to its token.

#include "vec.h"

#define BLOCKS 8            // Philox blocks made side by side, for one waits for its own multiplications
#define GROUP (BLOCKS * 8)  // their words, one a token

// Philox4x64-10 as in NumPy, counters from `first` on; counter and key are the low words, all others 0.
static inline void draw(uint64_t first, uint64_t key, uint32_t *drawn) {
    uint64_t c[4][BLOCKS] = {}, k0 = key, k1 = 0;
    UNROLLED for (int b = 0; b < BLOCKS; b++) c[0][b] = first + b;
    UNROLLED for (int round = 0; round < 10; round++) {
        UNROLLED for (int b = 0; b < BLOCKS; b++) {
            unsigned __int128 x = (unsigned __int128)0xD2E7470EE14C6C93u * c[0][b];
            unsigned __int128 y = (unsigned __int128)0xCA5A826395121157u * c[2][b];
            c[0][b] = (uint64_t)(y >> 64) ^ c[1][b] ^ k0;
            c[1][b] = (uint64_t)y;
            c[2][b] = (uint64_t)(x >> 64) ^ c[3][b] ^ k1;
            c[3][b] = (uint64_t)x;
        }
        k0 += 0x9E3779B97F4A7C15u;
        k1 += 0xBB67AE8584CAA73Bu;
    }
    UNROLLED for (int b = 0; b < BLOCKS; b++)
        UNROLLED for (int i = 0; i < 4; i++) {
            drawn[b * 8 + i * 2] = (uint32_t)c[i][b];
            drawn[b * 8 + i * 2 + 1] = (uint32_t)(c[i][b] >> 32);
        }
}

// E = -log1p(-v), v = (word + 1/2) / 2**32 below 1: the logarithm of 1 - v, and what rounding 1 - v lost.
static inline vec exponential_of(const uint32_t *drawn) {
    vec v = (__builtin_convertvector(*(const words *)drawn, vec) + 0.5f) * 2.3283064365386963e-10f;
    v = chosen(v > all_of(0.99999994f), all_of(0.99999994f), v);
    vec rest = 1.0f - v;
    return ((rest - 1.0f) + v) / rest - log_of(rest);
}

// The best score among weights above `pivot`, the first of equals, and in `mass` the sum of those weights.
static int64_t best_of(const float *weights, const float *scores, int64_t room, float pivot, float *mass) {
    vec best = all_of(-1.0f), sums = {};
    ints token = {}, ids;
    for (int i = 0; i < LANES; i++) ids[i] = i;
    for (int64_t t = 0; t < room; t += LANES, ids += LANES) {
        vec weight = *(const vec *)(weights + t), score = *(const vec *)(scores + t);
        ints above = weight > all_of(pivot), better = above & (score > best);
        sums += chosen(above, weight, (vec){});
        best = chosen(better, score, best);
        token = (better & ids) | (~better & token);
    }
    int lane = 0;
    for (int i = 1; i < LANES; i++)
        if (best[i] > best[lane] || (best[i] == best[lane] && token[i] < token[lane])) lane = i;
    *mass = sum_of(sums);
    return token[lane];
}

// Sixteen logits from `at` on; beyond the vocabulary, minus infinity.
static inline vec row_part(const float *logits, int64_t at, int64_t vocabulary) {
    if (at + LANES <= vocabulary) return *(const vec *)(logits + at);
    vec part = all_of(-INFINITY);
    for (int i = 0; at + i < vocabulary; i++) part[i] = logits[at + i];
    return part;
}

// The largest logit; NaN where one of them is NaN or the largest infinite.
static float largest_of(const float *logits, int64_t vocabulary) {
    vec most = all_of(-INFINITY);
    ints odd = {};
    for (int64_t t = 0; t < vocabulary; t += LANES) {
        vec x = row_part(logits, t, vocabulary);
        most = chosen(x > most, x, most);
        odd |= x != x;
    }
    float largest = -INFINITY;
    int wrong = 0;
    for (int i = 0; i < LANES; i++) {
        largest = most[i] > largest ? most[i] : largest;
        wrong |= odd[i];
    }
    return wrong || isinf(largest) ? NAN : largest;
}

// Weights exp((logit - largest) / temperature), 0 under the floor, and scores weight / E. Both have room for whole groups.
static void weigh(
    const float *logits, int64_t vocabulary, float largest, float floor, float temperature, uint64_t first,
    uint64_t key, float *weights, float *scores
) {
    uint32_t drawn[GROUP];
    for (int64_t t = 0; t < vocabulary; t += GROUP) {
        draw(first + t / 8, key, drawn);
        for (int64_t at = t; at < t + GROUP; at += LANES) {
            vec logit = row_part(logits, at, vocabulary);
            vec weight = chosen(logit < all_of(floor), (vec){}, exp_of((logit - largest) / temperature));
            *(vec *)(weights + at) = weight;
            *(vec *)(scores + at) = weight / exponential_of(drawn + at - t);
        }
    }
}

// Rows `begin` to `end`, the latter excluded; logits rows lie `stride` apart. Gives 0, or 1 where memory ran out.
int sample(
    const float *logits, const float *floors, const uint64_t *streams, const int64_t *steps, int64_t *tokens,
    uint8_t *usable, int64_t begin, int64_t end, int64_t vocabulary, int64_t stride, float temperature, float top_p
) {
    int64_t room = (vocabulary + GROUP - 1) / GROUP * GROUP, per_step = (vocabulary + 7) / 8;
    float *weights = malloc(2 * room * sizeof(float)), *scores = weights + room;
    if (!weights) return 1;
    for (int64_t row = begin; row < end; row++) {
        const float *own = logits + row * stride;
        float largest = largest_of(own, vocabulary), total, likelier;
        usable[row] = !isnan(largest);
        tokens[row] = 0;
        if (!usable[row]) continue;
        uint64_t first = (uint64_t)steps[row] * per_step + 1;  // NumPy counts up before it draws
        weigh(own, vocabulary, largest, floors[row], temperature, first, streams[row], weights, scores);
        int64_t token = best_of(weights, scores, room, -1.0f, &total);
        while (top_p < 1.0f) {  // a winner outside the top-p set is a miss: run again among what is likelier
            int64_t other = best_of(weights, scores, room, weights[token], &likelier);
            if (likelier < top_p * total) break;
            token = other;
        }
        tokens[row] = token;
    }
    free(weights);
    return 0;
}

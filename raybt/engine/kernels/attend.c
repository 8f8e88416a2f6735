// Attention of one new token a slot over that slot's own keys and values, each read once for all heads that share them.
// Compiled for one shape: DIM is a head's width, a multiple of 16; GROUP the query heads of one key head.

#include "vec.h"

#define PARTS (DIM / LANES)
#define AHEAD (512 / DIM)  // tokens whose keys are asked for early: 2 KiB of them

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

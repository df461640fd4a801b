/* Decode greedily in plain C, for comparison: fp32, cached keys and values, one thread.
 *
 *   cc -O3 -march=native reference.c -lm -o reference
 *   ./reference WEIGHTS COUNT KEEP SYMBOL...
 *
 * Reads the weights that decode.py writes, feeds the symbols, then decodes COUNT symbols, always
 * the most likely one. Prints the seconds of decoding, the ids, and the logits after the last one.
 * Matrices are stored by input, so that the compiler vectorises sums without reordering them. When
 * 256 positions are cached, only the last KEEP symbols are kept and recomputed, as in
 * noskgpt/inference/decoder.py.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { V = 65, T = 256, L = 5, H = 4, C = 128, D = C / H, W = 4 * C };

typedef struct {
    float norm1[2][C], qkv[C][3 * C], projection[C][C], projection_bias[C];
    float norm2[2][C], expand[C][W], expand_bias[W], contract[W][C], contract_bias[C];
} Block;

typedef struct {
    float token[V][C], position[T][C];
    Block block[L];
    float expand[C][W], expand_bias[W], contract[W][C], contract_bias[C];
    float head[C][V], head_bias[V];
} Weights;

static Weights w;
static float keys[L][T][C], values[L][T][C], logits[V];
static int window[T], cached;

static void multiply(float *restrict out, const float *restrict x, const float *restrict m,
                     int inputs, int outputs) {
    for (int i = 0; i < inputs; i++)
        for (int o = 0; o < outputs; o++) out[o] += x[i] * m[i * outputs + o];
}

static void normalize(float *out, const float *x, float norm[2][C]) {
    float mean = 0, square = 0;
    for (int j = 0; j < C; j++) mean += x[j] / C;
    for (int j = 0; j < C; j++) square += (x[j] - mean) * (x[j] - mean) / C;
    float scale = 1 / sqrtf(square + 1e-5f);
    for (int j = 0; j < C; j++) out[j] = (x[j] - mean) * scale * norm[0][j] + norm[1][j];
}

static void relu(float *x) {
    for (int j = 0; j < W; j++) x[j] = x[j] > 0 ? x[j] : 0;
}

static void feed(int symbol) {
    int position = cached++;
    float x[C], n[C], qkv[3 * C], hidden[W], scores[T];
    window[position] = symbol;
    for (int j = 0; j < C; j++) x[j] = w.token[symbol][j] + w.position[position][j];
    for (int l = 0; l < L; l++) {
        Block *b = &w.block[l];
        normalize(n, x, b->norm1);
        memset(qkv, 0, sizeof qkv);
        multiply(qkv, n, &b->qkv[0][0], C, 3 * C);
        memcpy(keys[l][position], qkv + C, sizeof keys[l][position]);
        memcpy(values[l][position], qkv + 2 * C, sizeof values[l][position]);
        for (int h = 0; h < H; h++) {
            float *q = qkv + h * D, *out = n + h * D, largest = -INFINITY, total = 0;
            for (int t = 0; t <= position; t++) {
                float s = 0;
                for (int d = 0; d < D; d++) s += q[d] * keys[l][t][h * D + d];
                scores[t] = s / sqrtf(C);
                if (scores[t] > largest) largest = scores[t];
            }
            for (int t = 0; t <= position; t++) total += scores[t] = expf(scores[t] - largest);
            memset(out, 0, D * sizeof *out);
            for (int t = 0; t <= position; t++)
                for (int d = 0; d < D; d++) out[d] += scores[t] / total * values[l][t][h * D + d];
        }
        for (int j = 0; j < C; j++) x[j] += b->projection_bias[j];
        multiply(x, n, &b->projection[0][0], C, C);
        normalize(n, x, b->norm2);
        memcpy(hidden, b->expand_bias, sizeof hidden);
        multiply(hidden, n, &b->expand[0][0], C, W);
        relu(hidden);
        for (int j = 0; j < C; j++) x[j] += b->contract_bias[j];
        multiply(x, hidden, &b->contract[0][0], W, C);
    }
    memcpy(hidden, w.expand_bias, sizeof hidden);
    multiply(hidden, x, &w.expand[0][0], C, W);
    relu(hidden);
    memcpy(n, w.contract_bias, sizeof n);
    multiply(n, hidden, &w.contract[0][0], W, C);
    memcpy(logits, w.head_bias, sizeof logits);
    multiply(logits, n, &w.head[0][0], C, V);
}

static void extend(int symbol, int keep) {
    if (cached == T) {
        int tail[T];
        memcpy(tail, window + T - keep + 1, (keep - 1) * sizeof *tail);
        cached = 0;
        for (int i = 0; i < keep - 1; i++) feed(tail[i]);
    }
    feed(symbol);
}

static int most_likely(void) {
    int best = 0;
    for (int i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    FILE *file = fopen(argv[1], "rb");
    if (!file || fread(&w, sizeof w, 1, file) != 1) return 1;
    int count = atoi(argv[2]), keep = atoi(argv[3]), *out = malloc(count * sizeof *out);
    for (int i = 4; i < argc; i++) extend(atoi(argv[i]), keep);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < count; i++) {
        out[i] = most_likely();
        extend(out[i], keep);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("{\"seconds\": %.9f, \"ids\": [", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) * 1e-9);
    for (int i = 0; i < count; i++) printf("%s%d", i ? ", " : "", out[i]);
    printf("], \"logits\": [");
    for (int i = 0; i < V; i++) printf("%s%.9g", i ? ", " : "", logits[i]);
    printf("]}\n");
    return 0;
}

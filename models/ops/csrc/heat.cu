// Explicit steps of u_t = D Laplacian(u), no flux through the border, all steps in registers:
//
//     u_ij <- u_ij + a (u_i-1,j + u_i+1,j + u_i,j-1 + u_i,j+1 - 4 u_ij),   a = tau_k D,
//
// a neighbor beyond the border being the pixel itself. One warp per tile (tile.cuh), 128 threads a
// block. Memory: one read and one write per pixel, whatever the number of steps; for planes larger
// than a tile 16/9 of a read and one write for every HALO steps. The operator is symmetric, so this
// is its own backward pass.
//
// East + south of pixel (i, j) is north + west of (i + 1, j + 1): where no wall runs through a
// lane, that sum is made once, 17 operations for a row of 4 pixels in place of 20.

#include "device.cuh"
#include "tile.cuh"

constexpr bool SHARED_SUMS = WHOLE && HEIGHT % ROWS == 0 && !LARGE;

__device__ inline void step(const Lane& lane, real v[ROWS][COLS], const real a[PARTS]) {
    real south_halo[COLS], north[COLS];
#pragma unroll
    for (int c = 0; c < COLS; ++c) {
        real below = lane.below(v[0][c]), above = lane.above(v[ROWS - 1][c]);
        south_halo[c] = lane.open_below(ROWS - 1) ? below : v[ROWS - 1][c];
        north[c] = lane.row(0) > 0 ? above : v[0][c];
    }
    real sums[COLS];  // north + west of column c, for c > 0
    bool west_open = lane.col(0) > 0;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        real right = lane.right(v[r][0]), left = lane.left(v[r][COLS - 1]);
        real east = lane.open_right(COLS - 1) ? right : v[r][COLS - 1];
        real west = west_open ? left : v[r][0];
        real rate = a[r / (ROWS / PARTS)];
        real old[COLS], next[COLS];
#pragma unroll
        for (int c = 0; c < COLS; ++c) old[c] = v[r][c];
#pragma unroll
        for (int c = 0; c < COLS; ++c) {
            real e = c < COLS - 1 ? (lane.open_right(c) ? old[c + 1 < COLS ? c + 1 : c] : old[c]) : east;
            real s = r < ROWS - 1 ? (lane.open_below(r) ? v[r + 1 < ROWS ? r + 1 : r][c] : old[c]) : south_halo[c];
            if (SHARED_SUMS) {
                real es = e + s;
                real nw = c == 0 ? north[0] + west : r == 0 ? north[c] + old[c > 0 ? c - 1 : 0] : sums[c];
                next[c] = es;  // becomes north + west of the next row, one column on
                v[r][c] = (1 - 4 * rate) * old[c] + rate * (es + nw);
            } else {
                real w = c > 0 ? (lane.open_right(c > 0 ? c - 1 : 0) ? old[c > 0 ? c - 1 : 0] : old[c]) : west;
                real n = r > 0 && lane.row(r) == 0 ? old[c] : north[c];
                v[r][c] = old[c] + rate * (((e - old[c]) + (w - old[c])) + ((s - old[c]) + (n - old[c])));
            }
        }
#pragma unroll
        for (int c = 0; c < COLS; ++c) {
            if (c > 0) sums[c] = next[c > 0 ? c - 1 : 0];
            north[c] = old[c];
        }
    }
}

// D: one diffusivity per channel, or for all if `channels` is 0.
extern "C" __global__ void __launch_bounds__(128)
heat(const stored* u, stored* out, const real* taus, const real* D, int num_steps, int channels,
     long long planes) {
    long long tile = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (tile * PLANES >= planes * TILES) return;
    Lane lane(tile);
    real v[ROWS][COLS];
    load(u, planes, lane, v);
    real rate[PARTS];
#pragma unroll
    for (int p = 0; p < PARTS; ++p)
        rate[p] = D[channels ? lane.plane_of(p * CELL_H) % channels : 0];
#pragma unroll 1
    for (int k = 0; k < num_steps; ++k) {
        real a[PARTS];
#pragma unroll
        for (int p = 0; p < PARTS; ++p) a[p] = taus[k] * rate[p];
        step(lane, v, a);
    }
    store(out, planes, lane, v);
}

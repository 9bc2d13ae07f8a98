// Explicit steps of u_t = div(g(|grad u|) grad u) on planes, or on CHANNELS planes of an image with
// one g (d² the sum of theirs; "plane" then means all planes of an image), no flux through the border, all
// steps in registers, and their backward pass:
//
//     u_i <- u_i + dt sum_j phi(u_j - u_i),   phi(d) = d g(d² / kappa²),   j the four neighbors.
//
// One warp per tile (tile.cuh). Each flux is computed once, by the pixel to its left or above it;
// across lanes the flux travels, not the value, so no lane repeats a neighbor's reciprocal: 64 per
// lane and step. Rows are swept downwards in place, keeping the fluxes from the row above.
//
// Backward: the march is repeated from u, keeping u_k (4 KiB per tile and step, in shared memory, or
// in `history` if that is given), then lam <- lam + dt sum_j phi'(d) (lam_j - lam_i) backwards, and
// rates = -dt sum (lam_j - lam_i) dphi/dkappa per plane. Each lane reads back only what it wrote.
//
// Planes larger than a tile: a launch marches at most HALO steps forward or HALO / 2 backward. There
// and back, 2 k - 1 pixels from the rim are spoilt by k steps: k by the states, which meet their
// neighbors k - 1 times, and the others by lam.
//
// EDGE_STOP: 0 rational, 1 exponential, 2 weickert. Memory: forward one read and one write per
// pixel, backward two reads and one write.

#include "device.cuh"
#include "tile.cuh"

#define LOG2_E 1.4426950408889634
#define WEICKERT 3.31488

// Large planes of coupled channels take all registers, else some of their states would not fit.
#if CHANNELS > 1 && (HEIGHT > 32 || WIDTH > 32)
#define ROOM , 1
#else
#define ROOM
#endif

// g(q), q = d² / kappa², and with it slope = phi'(d), bend = kappa dphi/dkappa / d and turn = 2 g'(q).
struct Conductance {
    real g, slope, bend, turn;

    __device__ Conductance(real q) {
#if EDGE_STOP == 0
        g = reciprocal(1 + q);
        slope = g * (2 * g - 1);
        bend = 2 * g * (1 - g);
        turn = -2 * g * g;
#elif EDGE_STOP == 1
        g = power_of_two(real(-LOG2_E) * q);
        slope = g - 2 * q * g;
        bend = 2 * q * g;
        turn = -2 * g;
        if (!(g > 0)) slope = bend = 0;  // q may be infinite
#else
        real q4 = q * q * (q * q);
        real x = real(WEICKERT) * reciprocal(q4 > real(1e-30) ? q4 : real(1e-30));
        real loss = power_of_two(real(-LOG2_E) * x);
        g = 1 - loss;
        bend = loss > 0 ? 8 * x * loss : real(0);
        slope = g - bend;
        turn = loss > 0 ? -bend * reciprocal(q) : real(0);
#endif
    }
};

struct Forward {
    __device__ value operator()(value d, value, real inverse, int, bool) const {
        value s = inverse * d;
        return Conductance(dot(s, s)).g * d;
    }
};

struct Backward {
    real* rates;  // of the lane's planes

    __device__ value operator()(value d, value e, real inverse, int part, bool counts) const {
        value s = inverse * d;
        Conductance at(dot(s, s));
        rates[part] += counts ? at.bend * dot(e, d) : real(0);
        return along(at, s, e);
    }
    __device__ real along(const Conductance& at, real, real e) const { return e * at.slope; }
    __device__ Color along(const Conductance& at, Color s, Color e) const {
        real turned = at.g > 0 ? at.turn * dot(e, s) : real(0);  // s may be infinite where g is 0
        return at.g > 0 ? at.g * e + turned * s : Color{};
    }
};

// v += dt div(flux(differences of seen, differences of v)); forward sees v itself.
template <class Row, class Flux>
__device__ inline void sweep(const Lane& lane, value v[ROWS][COLS], Row seen, const Flux& flux,
                             const real inverse[PARTS], real dt) {
    value last[COLS], north[COLS], here[COLS], next[COLS];
    seen(ROWS - 1, last);
    seen(0, here);
#pragma unroll
    for (int c = 0; c < COLS; ++c) {
        value d = lane.below(here[c]) - last[c], e = lane.below(v[0][c]) - v[ROWS - 1][c];
        last[c] = lane.open_below(ROWS - 1) ? flux(d, e, inverse[PARTS - 1], PARTS - 1, lane.owns(ROWS - 1)) : value{};
        north[c] = lane.above(last[c]);  // closed above the first row: the torus ends at a wall
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        int part = r / (ROWS / PARTS);
        if (r < ROWS - 1) seen(r + 1, next);
        value across[COLS];
        {
            value d = lane.right(here[0]) - here[COLS - 1];
            value e = lane.right(v[r][0]) - v[r][COLS - 1];
            across[COLS - 1] =
                lane.open_right(COLS - 1) ? flux(d, e, inverse[part], part, lane.owns(r)) : value{};
        }
        value west = lane.left(across[COLS - 1]);
#pragma unroll
        for (int c = 0; c < COLS - 1; ++c)
            across[c] = lane.open_right(c)
                            ? flux(here[c + 1] - here[c], v[r][c + 1] - v[r][c], inverse[part], part, lane.owns(r))
                            : value{};
#pragma unroll
        for (int c = 0; c < COLS; ++c) {
            value south = last[c];
            if (r < ROWS - 1)
                south = lane.open_below(r)
                            ? flux(next[c] - here[c], v[r + 1 < ROWS ? r + 1 : r][c] - v[r][c],
                                   inverse[part], part, lane.owns(r))
                            : value{};
            value balance = (south - north[c]) + (across[c] - (c > 0 ? across[c > 0 ? c - 1 : 0] : west));
            north[c] = south;
            here[c] = next[c];
            next[c] = balance;
        }
#pragma unroll
        for (int c = 0; c < COLS; ++c) v[r][c] = v[r][c] + dt * next[c];
    }
}

struct Itself {
    const value (*v)[COLS];
    __device__ void operator()(int r, value row[COLS]) const {
#pragma unroll
        for (int c = 0; c < COLS; ++c) row[c] = v[r][c];
    }
};

struct Past {
    const real* history;
    __device__ void operator()(int r, value row[COLS]) const {
#pragma unroll
        for (int i = 0; i < COLS * CHANNELS; ++i)
            channel(row[i / CHANNELS], i % CHANNELS) = history[(r * COLS * CHANNELS + i) * 32];
    }
};

// kappas: one per image of `channels` planes, or for all if `channels` is 0.
__device__ inline void edge_scales(const Lane& lane, const real* kappas, int channels,
                                   long long planes, real inverse[PARTS]) {
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
        long long plane = lane.plane_of(p * CELL_H);
        inverse[p] = 1 / kappas[channels && plane < planes ? plane / channels : 0];
    }
}

extern "C" __global__ void __launch_bounds__(128 ROOM)
perona_malik(const stored* u, stored* out, const real* kappas, real dt, int num_steps, int channels,
             long long planes) {
    long long tile = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (tile * PLANES >= planes * TILES) return;
    Lane lane(tile);
    value v[ROWS][COLS];
    real inverse[PARTS];
    load(u, planes, lane, v);
    edge_scales(lane, kappas, channels, planes, inverse);
#pragma unroll 1
    for (int k = 0; k < num_steps; ++k) sweep(lane, v, Itself{v}, Forward{}, inverse, dt);
    store(out, planes, lane, v);
}

extern __shared__ double shared_memory[];

// One warp per block. rates: one number per plane; of planes larger than a tile, one per tile.
extern "C" __global__ void __launch_bounds__(32 ROOM)
perona_malik_backward(const stored* grad, const stored* u, stored* out, real* rates,
                      const real* kappas, real* history, real dt, int num_steps, int channels,
                      long long planes) {
    Lane lane(blockIdx.x);
    value v[ROWS][COLS];
    real inverse[PARTS], rate[PARTS] = {};
    real* past = history && !LARGE ? history + (long long)blockIdx.x * num_steps * 1024 * CHANNELS
                         : reinterpret_cast<real*>(shared_memory);
    past += lane.index;
    load(u, planes, lane, v);
    edge_scales(lane, kappas, channels, planes, inverse);
#pragma unroll 1
    for (int k = 0; k < num_steps; ++k) {
#pragma unroll
        for (int i = 0; i < ROWS * COLS * CHANNELS; ++i)
            past[i * 32] = channel(v[i / CHANNELS / COLS][i / CHANNELS % COLS], i % CHANNELS);
        past += 1024 * CHANNELS;
        if (k < num_steps - 1) sweep(lane, v, Itself{v}, Forward{}, inverse, dt);
    }
    load(grad, planes, lane, v);
#pragma unroll 1
    for (int k = 0; k < num_steps; ++k) {
        past -= 1024 * CHANNELS;
        sweep(lane, v, Past{past}, Backward{rate}, inverse, dt);
    }
    store(out, planes, lane, v);
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
#pragma unroll
        for (int on = 1; on < 32; on *= 2) {  // over the lanes of the plane
            real other = __shfl_xor_sync(EVERYONE, rate[p], on);
            if (on < 8 ? on * COLS < CELL_W : on / 8 * ROWS < CELL_H) rate[p] += other;
        }
        long long plane = lane.plane_of(p * CELL_H);
        if (LARGE && lane.index == 0) rates[blockIdx.x] = -dt * rate[p] * inverse[p];
        if (!LARGE && lane.col(0) == 0 && lane.row(p * CELL_H) == 0 && plane < planes)
            rates[plane] = -dt * rate[p] * inverse[p];
    }
}

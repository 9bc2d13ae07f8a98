// A tile of 32 x 32 pixels in the registers of one warp.
//
// Lane l holds the 4 columns from 4 (l % 8) and the 8 rows from 8 (l / 8). Planes of HEIGHT x WIDTH
// <= 32 x 32, compile-time constants, lie in cells of the next power of two (at least 4), so a tile
// packs several small planes: 1, 4, 16 or 64 of the sides 32, 16, 8, 4. What a lane needs of its
// neighbors comes by shuffles around the torus of lanes; a face that leaves its plane is closed, so
// nothing passes from plane to plane. No shared memory, no barrier, no redundant pixel.
//
// Larger planes are covered by tiles that share HALO pixels with each neighbor on every side. What
// comes around the torus spoils one more pixel from the rim inwards at each step, so a launch takes
// at most HALO steps and writes the FREE x FREE pixels in the middle.
//
// STORAGE says what lies in memory: 0 float, 1 double, 2 half, 3 bfloat16. Arithmetic is in `real`,
// double for double and float for all others. Reads and writes: one of each per pixel, 4 at a time
// where WIDTH is a multiple of 4.

#if STORAGE == 1
typedef double real;
#else
typedef float real;
#endif

#if STORAGE == 0
typedef float stored;
#elif STORAGE == 1
typedef double stored;
#else
typedef unsigned short stored;
#endif

#define ROWS 8
#define COLS 4
#define EVERYONE 0xffffffffu

__device__ constexpr int cell_of(int n) { return n <= 4 ? 4 : n <= 8 ? 8 : n <= 16 ? 16 : 32; }
#define HALO 4

constexpr bool LARGE = HEIGHT > 32 || WIDTH > 32;
constexpr int FREE = 32 - 2 * HALO;
constexpr int TILES_ACROSS = LARGE ? (WIDTH + FREE - 1) / FREE : 1;
constexpr int TILES = TILES_ACROSS * (LARGE ? (HEIGHT + FREE - 1) / FREE : 1);  // of a large plane
constexpr int CELL_H = LARGE ? 32 : cell_of(HEIGHT), CELL_W = LARGE ? 32 : cell_of(WIDTH);
constexpr int ACROSS = 32 / CELL_W, PLANES = ACROSS * (32 / CELL_H);  // planes of a tile
constexpr int PARTS = CELL_H < ROWS ? ROWS / CELL_H : 1;              // planes of a lane
constexpr bool WHOLE = WIDTH % COLS == 0;                             // no wall within a lane's row

struct alignas(COLS * sizeof(stored)) Four {
    stored of[COLS];
};

#ifndef CHANNELS
#define CHANNELS 1
#endif

// The channels of a pixel that share one conductance.
struct Color {
    real of[CHANNELS];
};
template <int N> struct Either { typedef Color type; };
template <> struct Either<1> { typedef real type; };
typedef Either<CHANNELS>::type value;

__device__ inline real& channel(real& x, int) { return x; }
__device__ inline real& channel(Color& x, int ch) { return x.of[ch]; }
__device__ inline real dot(real a, real b) { return a * b; }
__device__ inline real dot(const Color& a, const Color& b) {
    real sum = a.of[0] * b.of[0];
#pragma unroll
    for (int ch = 1; ch < CHANNELS; ++ch) sum += a.of[ch] * b.of[ch];
    return sum;
}
__device__ inline Color operator*(real a, Color b) {
#pragma unroll
    for (int ch = 0; ch < CHANNELS; ++ch) b.of[ch] *= a;
    return b;
}
__device__ inline Color operator+(Color a, const Color& b) {
#pragma unroll
    for (int ch = 0; ch < CHANNELS; ++ch) a.of[ch] += b.of[ch];
    return a;
}
__device__ inline Color operator-(Color a, const Color& b) {
#pragma unroll
    for (int ch = 0; ch < CHANNELS; ++ch) a.of[ch] -= b.of[ch];
    return a;
}

struct Lane {
    int x, y, index;            // of its first pixel in the tile (large: the plane); of the lane
    long long plane;            // of its first pixel
    bool own_columns;           // not in the halo

    __device__ Lane(long long tile) {
        index = threadIdx.x % 32;
        x = COLS * (index % 8);
        y = ROWS * (index / 8);
        own_columns = !LARGE || (x >= HALO && x < 32 - HALO);
        if (LARGE) {
            plane = tile / TILES;
            int of_plane = tile % TILES;
            x += of_plane % TILES_ACROSS * FREE - HALO;
            y += of_plane / TILES_ACROSS * FREE - HALO;
        } else {
            plane = tile * PLANES + (y / CELL_H) * ACROSS + x / CELL_W;
        }
    }
    // The plane of row r: packed cells of 4 rows put two of them into a lane.
    __device__ long long plane_of(int r) const { return plane + (r / CELL_H) * ACROSS; }
    __device__ int row(int r) const {
        return LARGE ? y + r : CELL_H <= ROWS ? r % CELL_H : (y + r) % CELL_H;
    }
    __device__ int col(int c) const { return LARGE ? x + c : (x + c) % CELL_W; }
    // Does this tile answer for row r of the lane?
    __device__ bool owns(int r) const {
        return !LARGE || (own_columns && (index >= 8 || r >= HALO) && (index < 24 || r < ROWS - HALO));
    }
    // Is the face to the right of column c, below row r, within a plane?
    __device__ bool open_right(int c) const {
        return (WHOLE && c < COLS - 1) || (col(c) < WIDTH - 1 && (!LARGE || col(c) >= 0));
    }
    __device__ bool open_below(int r) const {
        if (LARGE) return row(r) >= 0 && row(r) < HEIGHT - 1;
        return (HEIGHT % ROWS == 0 && r < ROWS - 1) || row(r) < HEIGHT - 1;
    }
    __device__ real from(real value, int lanes_on) const {
        return __shfl_sync(EVERYONE, value, (index + lanes_on) % 32);
    }
    __device__ Color from(Color value, int lanes_on) const {
#pragma unroll
        for (int ch = 0; ch < CHANNELS; ++ch) value.of[ch] = from(value.of[ch], lanes_on);
        return value;
    }
    template <class T> __device__ T right(T value) const { return from(value, 1); }
    template <class T> __device__ T left(T value) const { return from(value, 31); }
    template <class T> __device__ T below(T value) const { return from(value, 8); }
    template <class T> __device__ T above(T value) const { return from(value, 24); }
};

__device__ inline real to_real(stored s) {
#if STORAGE < 2
    return s;
#elif STORAGE == 2
    return half_to_float(s);
#else
    return __uint_as_float((unsigned)s << 16);
#endif
}

__device__ inline stored to_stored(real x) {
#if STORAGE < 2
    return x;
#elif STORAGE == 2
    return float_to_half(x);
#else
    unsigned bits = __float_as_uint(x);  // to nearest, ties to even; NaN stays NaN
    return x == x ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : 0x7fc0;
#endif
}

__device__ inline void load(const stored* u, long long planes, const Lane& lane, value v[ROWS][COLS]) {
#pragma unroll
    for (int i = 0; i < ROWS * CHANNELS; ++i) {
        int r = i / CHANNELS, ch = i % CHANNELS;
        const stored* from = u + ((lane.plane_of(r) * CHANNELS + ch) * HEIGHT + lane.row(r)) * WIDTH + lane.col(0);
        bool inside = lane.plane_of(r) < planes && ((HEIGHT == CELL_H && !LARGE) || lane.row(r) < HEIGHT) &&
                      (!LARGE || (lane.row(r) >= 0 && lane.col(0) >= 0));
        if (WHOLE) {
            Four four = {};
            if (inside && ((WIDTH == CELL_W && !LARGE) || lane.col(0) < WIDTH))
                four = *reinterpret_cast<const Four*>(from);
#pragma unroll
            for (int c = 0; c < COLS; ++c) channel(v[r][c], ch) = to_real(four.of[c]);
        } else {
#pragma unroll
            for (int c = 0; c < COLS; ++c)
                channel(v[r][c], ch) = inside && lane.col(c) < WIDTH ? to_real(from[c]) : real(0);
        }
    }
}

__device__ inline void store(stored* u, long long planes, const Lane& lane, value v[ROWS][COLS]) {
#pragma unroll
    for (int i = 0; i < ROWS * CHANNELS; ++i) {
        int r = i / CHANNELS, ch = i % CHANNELS;
        stored* to = u + ((lane.plane_of(r) * CHANNELS + ch) * HEIGHT + lane.row(r)) * WIDTH + lane.col(0);
        bool inside = lane.plane_of(r) < planes && ((HEIGHT == CELL_H && !LARGE) || lane.row(r) < HEIGHT) &&
                      lane.owns(r);
        if (WHOLE) {
            Four four;
#pragma unroll
            for (int c = 0; c < COLS; ++c) four.of[c] = to_stored(channel(v[r][c], ch));
            if (inside && ((WIDTH == CELL_W && !LARGE) || lane.col(0) < WIDTH))
                *reinterpret_cast<Four*>(to) = four;
        } else {
#pragma unroll
            for (int c = 0; c < COLS; ++c)
                if (inside && lane.col(c) < WIDTH) to[c] = to_stored(channel(v[r][c], ch));
        }
    }
}

// The warps of a kernel, run on the CPU: what csrc/*.cu asks of CUDA, in plain C++.
//
// Every lane is a fiber with its own stack. A shuffle puts the lane's value into one of two slots,
// lets the other lanes run up to the same shuffle, and reads; the two slots take turns, so a lane
// that is ahead by one shuffle overwrites nothing. A warp whose lanes do not all make the same
// number of shuffles is reported. Warps share nothing and run one after the other.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __shared__
#define __launch_bounds__(...)

struct Dim {
    unsigned x;
};
static Dim threadIdx, blockIdx, blockDim;

namespace warp {
constexpr size_t STACK = 1 << 16;
static ucontext_t scheduler, lanes[32];
static std::vector<char> stacks(32 * STACK);
static uint64_t slots[2][32];
static unsigned shuffles[32];
static bool done[32];
static int current;
static std::function<void()> body;

inline void fiber() {
    body();
    done[current] = true;
    swapcontext(&lanes[current], &scheduler);
}

template <class T> T exchange(T value, int source) {
    int me = current, slot = shuffles[me]++ % 2;
    std::memcpy(&slots[slot][me], &value, sizeof value);
    swapcontext(&lanes[me], &scheduler);
    std::memcpy(&value, &slots[slot][source], sizeof value);
    return value;
}

// Return false if the lanes of a warp part ways.
inline bool run(int blocks, int threads, std::function<void()> kernel) {
    body = kernel;
    blockDim.x = threads;
    for (int block = 0; block < blocks; ++block)
        for (int first = 0; first < threads; first += 32) {
            for (int lane = 0; lane < 32; ++lane) {
                getcontext(&lanes[lane]);
                lanes[lane].uc_stack.ss_sp = &stacks[lane * STACK];
                lanes[lane].uc_stack.ss_size = STACK;
                lanes[lane].uc_link = nullptr;
                makecontext(&lanes[lane], fiber, 0);
                shuffles[lane] = 0;
                done[lane] = false;
            }
            for (int finished = 0; finished < 32;) {
                finished = 0;
                for (current = 0; current < 32; ++current) {
                    blockIdx.x = block;
                    threadIdx.x = first + current;
                    if (!done[current]) swapcontext(&scheduler, &lanes[current]);
                    finished += done[current];
                }
                for (int lane = 1; lane < 32; ++lane)
                    if (done[lane] != done[0] || shuffles[lane] != shuffles[0]) return false;
            }
        }
    return true;
}
}  // namespace warp

template <class T> T __shfl_sync(unsigned, T value, int source) {
    return warp::exchange(value, source);
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return warp::exchange(value, warp::current ^ mask);
}

inline float reciprocal(float x) { return 1 / x; }
inline double reciprocal(double x) { return 1 / x; }
inline float power_of_two(float x) { return std::exp2(x); }
inline double power_of_two(double x) { return std::exp2(x); }
inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float half_to_float(unsigned short bits) {
    _Float16 h;
    std::memcpy(&h, &bits, 2);
    return h;
}
inline unsigned short float_to_half(float x) {
    _Float16 h = x;
    unsigned short bits;
    std::memcpy(&bits, &h, 2);
    return bits;
}

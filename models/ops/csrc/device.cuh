// What the sources ask of a GPU beyond C++: approximate reciprocal and power of two, half precision.
// The tests put plain C++ in its place and run the same kernels on the CPU.

__device__ inline float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));  // 1 ulp; 0 for infinity
    return y;
}
__device__ inline double reciprocal(double x) { return 1 / x; }

__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));  // 2 ulp; 0 for minus infinity
    return y;
}
__device__ inline double power_of_two(double x) { return exp2(x); }

__device__ inline float half_to_float(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
__device__ inline unsigned short float_to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

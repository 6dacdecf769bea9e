"""Device functions that generated kernels may call; a module holds only those it uses."""

from __future__ import annotations

HELPERS: dict[str, str] = {
    "tanh_of": '''
@triton.jit
def tanh_of(x):
    """Hyperbolic tangent; near 0, where the quotient cancels, its series."""
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    square = x * x
    tail = 0.13333334 + square * (-0.053968254 + square * 0.021869488)
    series = x * (1.0 + square * (-0.33333334 + square * tail))
    return tl.where(square < 0.09, series, tl.where(x < 0.0, -y, y))
''',
    "sigmoid_of": '''
@triton.jit
def sigmoid_of(x):
    """Logistic function, without overflow on either side."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)
''',
    "elu_of": '''
@triton.jit
def elu_of(x, ALPHA: tl.constexpr):
    """x above 0, ALPHA (e^x - 1) below; near 0, where the difference cancels, its series."""
    tail = 0.008333334 + x * (0.0013888889 + x * (0.00019841270 + x * 0.000024801587))
    series = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * tail))))
    below = ALPHA * tl.where(x > -0.35, series, tl.exp(x) - 1.0)
    return tl.where(x > 0.0, x, below)
''',
    "hard_sigmoid_of": '''
@triton.jit
def hard_sigmoid_of(x):
    """A line through (0, 1/2) of slope 1/5, cut off at 0 and 1."""
    y = 0.2 * x + 0.5
    return tl.where(y <= 0.0, 0.0, tl.where(y >= 1.0, 1.0, y))
''',
    "inverse_deviation_of": '''
@triton.jit
def inverse_deviation_of(x, ALPHA: tl.constexpr):
    """One over the square root of x, or over ALPHA where that is larger."""
    deviation = tl.sqrt_rn(x)
    return 1.0 / tl.where(deviation <= ALPHA, ALPHA, deviation)
''',
    "inverse_deviation_slope": '''
@triton.jit
def inverse_deviation_slope(x, ALPHA: tl.constexpr):
    """The derivative of inverse_deviation_of: -1/2 x^(-3/2), or 0 where ALPHA is larger."""
    inverse = tl.rsqrt(x)
    return tl.where(x <= ALPHA * ALPHA, 0.0, -0.5 * inverse * inverse * inverse)
''',
    "window_count": '''
@triton.jit
def window_count(start, low, high, TAPS: tl.constexpr, DILATION: tl.constexpr):
    """How many of the taps start, start + DILATION, ... lie in [low, high)."""
    first = (tl.maximum(low - start, 0) + DILATION - 1) // DILATION
    last = (tl.maximum(high - start, 0) + DILATION - 1) // DILATION
    return tl.minimum(last, TAPS) - tl.minimum(first, TAPS)
''',
    "tent_share": '''
@triton.jit
def tent_share(p, h, H, FACTOR: tl.constexpr):
    """The weight of pixel h of H in output p of bilinear up-sampling; beyond the border the last pixel has all."""
    apart = 2 * p + 1 - FACTOR - 2 * FACTOR * h
    beyond = ((apart < 0) & (h == 0)) | ((apart > 0) & (h == H - 1))
    return tl.where(beyond, 1.0, 1.0 - tl.abs(apart).to(tl.float32) / (2.0 * FACTOR))
''',
    "keep": '''
@triton.jit
def keep(index, stream, seed, step, THRESHOLD: tl.constexpr):
    """Dropout's mask: the first word of Philox-4x32-10 at (index, index >> 32, stream, step) against a threshold."""
    low = (index & 0xFFFFFFFF).to(tl.uint32)
    high = (index >> 32).to(tl.uint32)
    zero = low & 0
    word, _, _, _ = tl.philox(seed, low, high, zero + stream, zero + step)
    return word.to(tl.int64) >= THRESHOLD
''',
}

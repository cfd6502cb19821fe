"""Transformer blocks on a CPU: all blocks of a step in one call, compiled by Numba.

Streaming runs one to a few rows through small matrices. Operator by operator, most of that time goes into calling and
into matrix products made for many rows; here a step is one loop that reads every weight once, in the narrowest type
that holds it (`Matrices`), and the interpreter's lock is free meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba.extending import overload

Function = TypeVar("Function", bound=Callable[..., Any])

# exp(x) = 2^n e^r with |r| <= ln 2 / 2: Cody and Waite's two parts of ln 2, and Taylor's polynomial. Unlike the library's
# it is made of plain arithmetic, of which the compiler makes vectors.
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_TAYLOR = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_LOWEST = np.float32(-50.0)  # beside e^0, e^-50 is nothing, and products with much less are subnormal: slow
_HIGHEST = np.float32(88.0)
_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


def kernel(function: Function) -> Function:
    """Compile `function` for the types it is called with; kept on disk where a folder for that can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
    try:
        compiled: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither beside the source nor in the user's cache folder
        compiled = numba.njit(function, **options)
    return compiled


def _number(stored: Any) -> Any:
    """The weight that `stored` stands for: a float32, the bits of a bfloat16 (uint16), or steps of a scale (int8)."""
    raise NotImplementedError  # Numba puts one of the functions below in its place, by the type of `stored`


overload(_number, inline="always")(
    lambda stored: (
        (lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32))
        if stored == numba.types.uint16
        else (lambda stored: np.float32(stored))
    )
)


@kernel
def _exp(x: Any) -> Any:
    x = min(max(x, _LOWEST), _HIGHEST)
    n = np.float32(math.floor(x * _LOG2_E + np.float32(0.5)))
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    c0, c1, c2, c3, c4, c5, c6, c7 = _TAYLOR
    near = c0 + r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))))
    return near * np.int32((np.int32(n) + _BIAS) << _MANTISSA_BITS).view(np.float32)


@kernel
def linear(x: Any, matrix: Any, scale: Any, out: Any) -> None:
    """Rows x [n, inputs] times matrix [outputs, inputs], its row j multiplied with scale[j], into out [n, outputs].

    Two outputs and up to four rows at once, so that what is read once is used several times.
    """
    n, (outputs, inputs) = x.shape[0], matrix.shape
    zero = np.float32(0)
    for j in range(0, outputs - 1, 2):
        s, t = scale[j], scale[j + 1]
        r = 0
        while r + 4 <= n:
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
            for i in range(inputs):
                v, w = _number(matrix[j, i]), _number(matrix[j + 1, i])
                x0, x1, x2, x3 = x[r, i], x[r + 1, i], x[r + 2, i], x[r + 3, i]
                a0 += x0 * v
                a1 += x1 * v
                a2 += x2 * v
                a3 += x3 * v
                b0 += x0 * w
                b1 += x1 * w
                b2 += x2 * w
                b3 += x3 * w
            out[r, j], out[r, j + 1] = a0 * s, b0 * t
            out[r + 1, j], out[r + 1, j + 1] = a1 * s, b1 * t
            out[r + 2, j], out[r + 2, j + 1] = a2 * s, b2 * t
            out[r + 3, j], out[r + 3, j + 1] = a3 * s, b3 * t
            r += 4
        if r + 2 <= n:
            a0 = a1 = b0 = b1 = zero
            for i in range(inputs):
                v, w = _number(matrix[j, i]), _number(matrix[j + 1, i])
                a0 += x[r, i] * v
                a1 += x[r + 1, i] * v
                b0 += x[r, i] * w
                b1 += x[r + 1, i] * w
            out[r, j], out[r, j + 1] = a0 * s, b0 * t
            out[r + 1, j], out[r + 1, j + 1] = a1 * s, b1 * t
            r += 2
        if r < n:
            a0 = b0 = zero
            for i in range(inputs):
                a0 += x[r, i] * _number(matrix[j, i])
                b0 += x[r, i] * _number(matrix[j + 1, i])
            out[r, j], out[r, j + 1] = a0 * s, b0 * t
    if outputs % 2:
        last = outputs - 1
        for r in range(n):
            a0 = zero
            for i in range(inputs):
                a0 += x[r, i] * _number(matrix[last, i])
            out[r, last] = a0 * scale[last]


@kernel
def _add(x: Any, added: Any) -> None:
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[r, i] += added[r, i]


@kernel
def _add_bias(x: Any, bias: Any) -> None:
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[r, i] += bias[i]


@kernel
def rms_norm(x: Any, gain: Any, eps: Any, out: Any) -> None:
    """Root-mean-square norm of every row of x [n, dim]."""
    n, dim = x.shape
    for r in range(n):
        squares = np.float32(0)
        for i in range(dim):
            squares += x[r, i] * x[r, i]
        factor = np.float32(1) / np.float32(math.sqrt(squares / np.float32(dim) + eps))
        for i in range(dim):
            out[r, i] = x[r, i] * factor * gain[i]


@kernel
def layer_norm(x: Any, gain: Any, bias: Any, eps: Any, out: Any) -> None:
    """Layer norm of every row of x [n, dim]."""
    n, dim = x.shape
    for r in range(n):
        total = np.float32(0)
        for i in range(dim):
            total += x[r, i]
        mean = total / np.float32(dim)
        squares = np.float32(0)
        for i in range(dim):
            squares += (x[r, i] - mean) * (x[r, i] - mean)
        factor = np.float32(1) / np.float32(math.sqrt(squares / np.float32(dim) + eps))
        for i in range(dim):
            out[r, i] = (x[r, i] - mean) * factor * gain[i] + bias[i]


@kernel
def _turn(row: Any, start: Any, cos: Any, sin: Any) -> None:
    """Rotary embedding of one head, which begins at `start` of `row`; halves convention."""
    half = cos.shape[0]
    for i in range(half):
        first, second = row[start + i], row[start + half + i]
        row[start + i] = first * cos[i] - second * sin[i]
        row[start + half + i] = second * cos[i] + first * sin[i]


@kernel
def _score(query: Any, keys: Any, seen: Any, scaling: Any, scores: Any) -> None:
    """Products of query [head_dim] and the first `seen` of keys [places, head_dim], four keys at once."""
    size, p = query.shape[0], 0
    while p + 4 <= seen:
        d0 = d1 = d2 = d3 = np.float32(0)
        for i in range(size):
            q = query[i]
            d0 += q * keys[p, i]
            d1 += q * keys[p + 1, i]
            d2 += q * keys[p + 2, i]
            d3 += q * keys[p + 3, i]
        scores[p], scores[p + 1], scores[p + 2], scores[p + 3] = d0 * scaling, d1 * scaling, d2 * scaling, d3 * scaling
        p += 4
    for last in range(p, seen):
        d0 = np.float32(0)
        for i in range(size):
            d0 += query[i] * keys[last, i]
        scores[last] = d0 * scaling


@kernel
def _mix(scores: Any, seen: Any, values: Any, out: Any) -> None:
    """The first `seen` of values [places, head_dim], weighted by the softmax of as many scores, into out [head_dim]."""
    largest = scores[0]
    for p in range(1, seen):
        largest = max(largest, scores[p])
    total = np.float32(0)
    for p in range(seen):
        scores[p] = _exp(scores[p] - largest)
        total += scores[p]
    size, p = out.shape[0], 0
    out[:] = np.float32(0)
    while p + 4 <= seen:
        w0, w1, w2, w3 = scores[p], scores[p + 1], scores[p + 2], scores[p + 3]
        for i in range(size):
            out[i] += w0 * values[p, i] + w1 * values[p + 1, i] + w2 * values[p + 2, i] + w3 * values[p + 3, i]
        p += 4
    for last in range(p, seen):
        for i in range(size):
            out[i] += scores[last] * values[last, i]
    for i in range(size):
        out[i] /= total


@kernel
def run_blocks(
    x: Any,
    slots: Any,
    places: Any,
    seen: Any,
    cos: Any,
    sin: Any,
    keys: Any,
    values: Any,
    heads: Any,
    eps: Any,
    scaling: Any,
    first_norm: Any,
    qkv: Any,
    qkv_scale: Any,
    qkv_bias: Any,
    output: Any,
    output_scale: Any,
    second_norm: Any,
    gate_up: Any,
    gate_up_scale: Any,
    down: Any,
    down_scale: Any,
) -> None:
    """All blocks on rows x [n, dim], which is overwritten: norm, attention, norm, SwiGLU (arXiv 2302.13971).

    Row r writes its key and value at `places[r]` of slot `slots[r]`, and attends to the first `seen[r]` places there.
    cos, sin [n, head_dim / 2]; keys, values [blocks, slots, kv_heads, places, head_dim]; weights by block first.
    """
    n, dim = x.shape
    blocks, _, kv_heads, _, head_dim = keys.shape
    group, wide = heads // kv_heads, heads * head_dim
    width = down.shape[2]
    normed, added = np.empty((n, dim), np.float32), np.empty((n, dim), np.float32)
    projected = np.empty((n, qkv.shape[1]), np.float32)
    attended = np.empty((n, wide), np.float32)
    gated = np.empty((n, 2 * width), np.float32)
    inner = np.empty((n, width), np.float32)
    scores = np.empty(seen.max(), np.float32)
    for block in range(blocks):
        rms_norm(x, first_norm[block], eps, normed)
        linear(normed, qkv[block], qkv_scale[block], projected)
        _add_bias(projected, qkv_bias[block])
        for r in range(n):
            row = projected[r]
            for head in range(heads + kv_heads):
                _turn(row, head * head_dim, cos[r], sin[r])
            for head in range(kv_heads):
                key, value = wide + head * head_dim, wide + (kv_heads + head) * head_dim
                for i in range(head_dim):
                    keys[block, slots[r], head, places[r], i] = row[key + i]
                    values[block, slots[r], head, places[r], i] = row[value + i]
        for r in range(n):
            query = projected[r, :wide].reshape((kv_heads, group, head_dim))
            out = attended[r].reshape((kv_heads, group, head_dim))
            for head in range(kv_heads):
                k, v = keys[block, slots[r], head], values[block, slots[r], head]
                for g in range(group):
                    _score(query[head, g], k, seen[r], scaling, scores)
                    _mix(scores, seen[r], v, out[head, g])
        linear(attended, output[block], output_scale[block], added)
        _add(x, added)
        rms_norm(x, second_norm[block], eps, normed)
        linear(normed, gate_up[block], gate_up_scale[block], gated)
        for r in range(n):
            for i in range(width):
                gate = gated[r, i]
                inner[r, i] = gate / (np.float32(1) + _exp(-gate)) * gated[r, width + i]
        linear(inner, down[block], down_scale[block], added)
        _add(x, added)


@kernel
def run_encoder_blocks(
    x: Any,
    keys: Any,
    values: Any,
    distances: Any,
    positions: Any,
    content_bias: Any,
    position_bias: Any,
    eps: Any,
    first_norm: Any,
    qkv: Any,
    qkv_scale: Any,
    qkv_bias: Any,
    output: Any,
    output_scale: Any,
    output_bias: Any,
    second_norm: Any,
    wide: Any,
    wide_scale: Any,
    wide_bias: Any,
    narrow: Any,
    narrow_scale: Any,
    narrow_bias: Any,
) -> None:
    """All blocks of the speech encoder on rows x [streams * frames, dim], which are overwritten.

    keys, values [blocks, streams, heads, places, head_dim]: the last `frames` places are written, the others were
    before. distances [frames, places]: which row of positions [blocks, heads, distances, head_dim] tells how far a key
    is; content_bias, position_bias [blocks, heads, head_dim]; norms [blocks, 2, dim]: gains and biases.
    """
    blocks, streams, heads, places, size = keys.shape
    n, dim = x.shape
    frames = n // streams
    scaling = np.float32(1) / np.float32(math.sqrt(np.float32(size)))
    normed, added, attended = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    projected = np.empty((n, 3 * dim), np.float32)
    inner = np.empty((n, wide.shape[1]), np.float32)
    scores, far = np.empty(places, np.float32), np.empty(positions.shape[2], np.float32)
    query, asking = np.empty(size, np.float32), np.empty(size, np.float32)
    for block in range(blocks):
        layer_norm(x, first_norm[block, 0], first_norm[block, 1], eps, normed)
        linear(normed, qkv[block], qkv_scale[block], projected)
        _add_bias(projected, qkv_bias[block])
        for r in range(n):
            stream, place = r // frames, places - frames + r % frames
            for head in range(heads):
                for i in range(size):
                    keys[block, stream, head, place, i] = projected[r, dim + head * size + i]
                    values[block, stream, head, place, i] = projected[r, 2 * dim + head * size + i]
        for r in range(n):
            stream, frame = r // frames, r % frames
            for head in range(heads):
                for i in range(size):
                    query[i] = projected[r, head * size + i] + content_bias[block, head, i]
                    asking[i] = projected[r, head * size + i] + position_bias[block, head, i]
                _score(query, keys[block, stream, head], places, scaling, scores)
                _score(asking, positions[block, head], positions.shape[2], scaling, far)
                for place in range(places):
                    scores[place] += far[distances[frame, place]]
                _mix(scores, places, values[block, stream, head], attended[r, head * size : (head + 1) * size])
        linear(attended, output[block], output_scale[block], added)
        _add_bias(added, output_bias[block])
        _add(x, added)
        layer_norm(x, second_norm[block, 0], second_norm[block, 1], eps, normed)
        linear(normed, wide[block], wide_scale[block], inner)
        for r in range(n):
            for i in range(inner.shape[1]):
                inner[r, i] = max(inner[r, i] + wide_bias[block, i], np.float32(0))
        linear(inner, narrow[block], narrow_scale[block], added)
        _add_bias(added, narrow_bias[block])
        _add(x, added)

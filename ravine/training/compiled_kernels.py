"""Updates of small networks, compiled: each network in turn, its weights in the core's cache.

A product of matrices is made of tiles of vector registers whose loop is emitted as LLVM's
instructions, because Numba has no type for vectors and LLVM makes no such tiles of plain loops. All
else is plain loops, which it makes vectors of. Rows of matrices are padded to whole vectors; no sum
over real entries reads the padding, so it may hold anything. All kernels stand in one file, by
whose time the compiled code is kept on disk.

Letters: P networks, W weights, S steps, N examples, F inputs, L layers.
"""

import math
from typing import Any

import llvmlite.binding
import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

PADDED_TO = 16  # floats: a vector of AVX-512, two of AVX2
TILE_ROWS = 6
SOFTMAX_LOSS, SQUARED_LOSS, BINARY_LOSS = 0, 1, 2
NO_ACTIVATION, RELU_ACTIVATION, TANH_ACTIVATION = 0, 1, 2
SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE = 0, 1, 2, 3
# Not "nnan" and "ninf": what diverges must stay visible
FAST_MATH = {"reassoc", "nsz", "arcp", "contract", "afn"}
# Python's division has a branch that raises, and no loop with one becomes vectors
JIT_OPTIONS: Any = {"fastmath": FAST_MATH, "nogil": True, "error_model": "numpy"}

intrinsic: Any = numba.extending.intrinsic  # they change what a function's arguments are
njit: Any = numba.njit
Float, Index, Pointer = types.float32, types.int64, types.CPointer(types.float32)
f32 = np.float32


def _vector_size() -> int:
    """Floats in a vector of this processor."""
    known = llvmlite.binding.get_host_cpu_features()
    if known.get("avx512f"):
        return 16
    return 8 if known.get("avx2") and known.get("fma") else 4


VECTOR_FLOATS = _vector_size()
# 6 x 4 sums fill the 32 registers of AVX-512, 6 x 2 the 16 of others
TILE_VECTORS = 4 if VECTOR_FLOATS == 16 else 2


@intrinsic
def pointer_to(_, array, offset):
    """The address of array[offset], of an argument of the compiled function or a view of it."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return Pointer(array, Index), codegen


@intrinsic
def advance_pointer(_, pointer, by):
    """The address so many floats advance_pointer on."""
    return Pointer(Pointer, Index), lambda context, builder, signature, args: builder.gep(
        args[0], [args[1]]
    )


@intrinsic
def load_float(_, pointer, index):
    """The float at pointer[index]."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]), align=4)

    return Float(Pointer, Index), codegen


@intrinsic
def store_float(_, pointer, index, value):
    """Write a float to pointer[index]."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]), align=4)
        return context.get_dummy_value()

    return types.void(Pointer, Index, Float), codegen


@intrinsic
def power_of_two(_, exponent):
    """2 to a whole exponent from −126 to 127, made of bits; whatever else for NaN."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        kind = ir.FunctionType(i32, [ir.FloatType()])
        name = "llvm.fptosi.sat.i32.f32"  # 0 for NaN
        convert = cgutils.get_or_insert_function(builder.module, kind, name)
        shifted = builder.add(builder.call(convert, [args[0]]), ir.Constant(i32, 127))
        return builder.bitcast(builder.shl(shifted, ir.Constant(i32, 23)), ir.FloatType())

    return Float(Float), codegen


@intrinsic(prefer_literal=True)
def tile(_, rows, vectors, a, b, c, inner, bias, has_bias):
    """c = a b (+ bias) for `rows` rows and `vectors` vectors of columns, the sums in registers.

    a, b, c are addresses, each with how many floats it is from row to row, a also from column to
    column; `inner` is the number of a's columns.
    """
    height, width = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        inner, bias, has_bias = args[5:]
        a, a_row, a_column = cgutils.unpack_tuple(builder, args[2], 3)
        (b, b_row), (c, c_row) = (cgutils.unpack_tuple(builder, args[i], 2) for i in (3, 4))
        i64, i32 = ir.IntType(64), ir.IntType(32)
        vector = ir.VectorType(ir.FloatType(), VECTOR_FLOATS)
        first_lane = ir.Constant(ir.VectorType(i32, VECTOR_FLOATS), [0] * VECTOR_FLOATS)
        unknown, none = ir.Constant(vector, ir.Undefined), ir.Constant(i64, 0)

        def address(pointer, j):
            place = builder.gep(pointer, [ir.Constant(i64, j * VECTOR_FLOATS)])
            return builder.bitcast(place, vector.as_pointer())

        def spread(value):
            one = builder.insert_element(unknown, value, ir.Constant(i32, 0))
            return builder.shuffle_vector(one, unknown, first_lane)

        zero = ir.Constant(vector, [0.0] * VECTOR_FLOATS)
        biases = [builder.load(address(bias, j), align=4) for j in range(width)]
        biases = [builder.select(has_bias, value, zero) for value in biases]
        offsets = [builder.mul(a_row, ir.Constant(i64, i)) for i in range(height)]
        before = builder.block
        loop, after = builder.append_basic_block("inner"), builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed(">", inner, none), loop, after)

        builder.position_at_end(loop)
        p, a_now, b_now = builder.phi(i64), builder.phi(a.type), builder.phi(b.type)
        sums = [[builder.phi(vector) for _ in range(width)] for _ in range(height)]
        columns = [builder.load(address(b_now, j), align=4) for j in range(width)]
        more = []
        for i in range(height):
            x = spread(builder.load(builder.gep(a_now, [offsets[i]]), align=4))
            products = [builder.fmul(x, y, flags=("contract",)) for y in columns]
            pairs = zip(sums[i], products, strict=True)
            more.append([builder.fadd(s, y, flags=("contract",)) for s, y in pairs])
        following = builder.add(p, ir.Constant(i64, 1))
        a_next, b_next = builder.gep(a_now, [a_column]), builder.gep(b_now, [b_row])
        builder.cbranch(builder.icmp_signed("<", following, inner), loop, after)
        for phi, start, then in ((p, none, following), (a_now, a, a_next), (b_now, b, b_next)):
            phi.add_incoming(start, before)
            phi.add_incoming(then, loop)

        builder.position_at_end(after)
        ends = [[builder.phi(vector) for _ in range(width)] for _ in range(height)]
        for i in range(height):
            for j in range(width):
                for phi in (sums[i][j], ends[i][j]):
                    phi.add_incoming(biases[j], before)
                    phi.add_incoming(more[i][j], loop)
        for i in range(height):
            row = builder.gep(c, [builder.mul(c_row, ir.Constant(i64, i))])
            for j in range(width):
                builder.store(ends[i][j], address(row, j), align=4)
        return context.get_dummy_value()

    matrix, view = types.Tuple((Pointer, Index)), types.Tuple((Pointer, Index, Index))
    return types.void(rows, vectors, view, matrix, matrix, Index, Pointer, types.boolean), codegen


def _strip(rows: int) -> Any:
    """The function that multiplies so many rows by all columns, which are whole vectors."""

    @njit(**JIT_OPTIONS)
    def strip(a, b, c, columns, inner, bias, has_bias):
        (b_start, b_row), (c_start, c_row), j = b, c, 0
        while j < columns:
            here, to, add = (
                (advance_pointer(b_start, j), b_row),
                (advance_pointer(c_start, j), c_row),
                advance_pointer(bias, j),
            )
            if columns - j >= TILE_VECTORS * VECTOR_FLOATS:
                tile(rows, TILE_VECTORS, a, here, to, inner, add, has_bias)
                j += TILE_VECTORS * VECTOR_FLOATS
            elif columns - j >= 2 * VECTOR_FLOATS:
                tile(rows, 2, a, here, to, inner, add, has_bias)
                j += 2 * VECTOR_FLOATS
            else:
                tile(rows, 1, a, here, to, inner, add, has_bias)
                j += VECTOR_FLOATS

    return strip


full_strip, double_strip, single_strip = _strip(TILE_ROWS), _strip(2), _strip(1)


@njit(**JIT_OPTIONS)
def multiply(a, b, c, rows, columns, inner, bias, has_bias):
    """c = a b (+ bias); see `tile`."""
    (a_start, a_row, a_column), (c_start, c_row), i = a, c, 0
    while i < rows:
        here, to = (
            (advance_pointer(a_start, i * a_row), a_row, a_column),
            (advance_pointer(c_start, i * c_row), c_row),
        )
        if rows - i >= TILE_ROWS:
            full_strip(here, b, to, columns, inner, bias, has_bias)
            i += TILE_ROWS
        elif rows - i >= 2:
            double_strip(here, b, to, columns, inner, bias, has_bias)
            i += 2
        else:
            single_strip(here, b, to, columns, inner, bias, has_bias)
            i += 1


@njit(**JIT_OPTIONS, inline="always")
def exponential(x):
    """e^x to two units in the last place, NaN of NaN: 2^n times a polynomial (Cephes)."""
    x = f32(-87) if x < f32(-87) else x
    x = f32(88) if x > f32(88) else x
    n = f32(math.floor(x * f32(1.44269504) + f32(0.5)))
    r = x - n * f32(0.693359375) - n * f32(-2.12194440e-4)
    y = f32(1.9875691500e-4)
    y = y * r + f32(1.3981999507e-3)
    y = y * r + f32(8.3334519073e-3)
    y = y * r + f32(4.1665795894e-2)
    y = y * r + f32(1.6666665459e-1)
    y = y * r + f32(5.0000001201e-1)
    return (y * r * r + r + f32(1)) * power_of_two(n)


@njit(**JIT_OPTIONS, inline="always")
def hyperbolic_tangent(x):
    """tanh x: a polynomial where |x| < 0.625 (Cephes), else by the exponential."""
    z = x * x
    y = f32(-5.70498872745e-3)
    y = y * z + f32(2.06390887954e-2)
    y = y * z + f32(-5.37397155531e-2)
    y = y * z + f32(1.33314422036e-1)
    y = y * z + f32(-3.33332819422e-1)
    size = abs(x)
    far = f32(1) - f32(2) / (exponential(size + size) + f32(1))
    far = -far if x < f32(0) else far
    return x + x * z * y if size < f32(0.625) else far


@njit(**JIT_OPTIONS)
def activate(a, count, kind):
    """f(a), written into a."""
    if kind == RELU_ACTIVATION:
        for i in range(count):
            x = load_float(a, i)
            store_float(a, i, f32(0) if x < f32(0) else x)
    elif kind == TANH_ACTIVATION:
        for i in range(count):
            store_float(a, i, hyperbolic_tangent(load_float(a, i)))


@njit(**JIT_OPTIONS)
def multiply_by_slope(delta, a, count, kind):
    """δ f′, written into δ, given a = f(x)."""
    if kind == RELU_ACTIVATION:
        for i in range(count):
            store_float(delta, i, load_float(delta, i) if load_float(a, i) > f32(0) else f32(0))
    elif kind == TANH_ACTIVATION:
        for i in range(count):
            y = load_float(a, i)
            store_float(delta, i, load_float(delta, i) * (f32(1) - y * y))


@njit(**JIT_OPTIONS)
def softmax_loss(z, delta, target, outputs, wide, share, smoothing):
    """The loss of an example's logits z; writes its gradient times `share` into delta."""
    highest = load_float(z, 0)
    for c in range(1, outputs):
        x = load_float(z, c)
        highest = x if x > highest else highest
    total, mean = f32(0), f32(0)
    for c in range(wide):  # the padding, too: whole vectors
        x = exponential(load_float(z, c) - highest) if c < outputs else f32(0)
        store_float(delta, c, x)
        total += x
    for c in range(outputs):
        mean += load_float(z, c) - highest
    small = smoothing / f32(outputs)
    scale = f32(1) / total
    for c in range(wide):
        store_float(
            delta, c, (load_float(delta, c) * scale - small) * share if c < outputs else f32(0)
        )
    store_float(delta, target, load_float(delta, target) - (f32(1) - smoothing) * share)
    spread = (f32(1) - smoothing) * (load_float(z, target) - highest) + small * mean
    return f32(math.log(total)) - spread


@njit(**JIT_OPTIONS)
def squared_loss(z, delta, y, outputs, share):
    """½ |z − y|², summed over an example's outputs; writes the gradient times `share`."""
    total = f32(0)
    for c in range(outputs):
        error = load_float(z, c) - load_float(y, c)
        store_float(delta, c, error * share)
        total += f32(0.5) * error * error
    return total


@njit(**JIT_OPTIONS)
def binary_loss(z, delta, y, outputs, share, smoothing):
    """(1 − y) z − log σ(z), summed over an example's outputs; writes (σ(z) − y) share."""
    total = f32(0)
    for c in range(outputs):
        x = load_float(z, c)
        target = load_float(y, c) * (f32(1) - smoothing) + f32(0.5) * smoothing
        size = abs(x)
        small = exponential(-size)
        part = f32(1) / (f32(1) + small)
        probability = part if x > f32(0) else small * part
        probability = x if x != x else probability
        log_probability = (x if x < f32(0) else f32(0)) - f32(math.log1p(small))
        store_float(delta, c, (probability - target) * share)
        total += (f32(1) - target) * x - log_probability
    return total


@njit(**JIT_OPTIONS)
def sum_rows(delta, into, rows, columns):
    """The sum of the rows of a matrix."""
    for j in range(columns):
        store_float(into, j, f32(0))
    for i in range(rows):
        row = advance_pointer(delta, i * columns)
        for j in range(columns):
            store_float(into, j, load_float(into, j) + load_float(row, j))


@njit(**JIT_OPTIONS)
def transpose(w, into, rows, columns, row_size, into_size):
    """into [columns, into_size] = w [rows, row_size] turned; columns of `into` past it are 0."""
    for j in range(columns):
        row = advance_pointer(into, j * into_size)
        for i in range(rows):
            store_float(row, i, load_float(w, i * row_size + j))
        for i in range(rows, into_size):
            store_float(row, i, f32(0))


@njit(**JIT_OPTIONS)
def add_decay(g, w, mask, decay, count):
    """g + λ w where the mask is 1, written into g."""
    for i in range(count):
        store_float(g, i, load_float(g, i) + decay * load_float(mask, i) * load_float(w, i))


@njit(**JIT_OPTIONS)
def update_weights(rule, w, first, second, g, count, rate, settings, step):
    """One update of a network's weights; `settings` are momentum, dampening, beta1, beta2, eps."""
    if rule == SGD_RULE:
        r = f32(rate)
        for i in range(count):
            store_float(w, i, load_float(w, i) - r * load_float(g, i))
    elif rule == ADAM_RULE:
        beta1, beta2, eps = settings[2], settings[3], f32(settings[4])
        scale = f32(1 / math.sqrt(1 - beta2**step))
        r = f32(rate / (1 - beta1**step))
        b1, b2 = f32(1 - beta1), f32(beta2)
        rest = f32(1 - beta2)
        for i in range(count):
            q = load_float(g, i)
            m = load_float(first, i) + b1 * (q - load_float(first, i))
            v = b2 * load_float(second, i) + rest * q * q
            store_float(first, i, m)
            store_float(second, i, v)
            store_float(w, i, load_float(w, i) - r * m / (f32(math.sqrt(v)) * scale + eps))
    else:
        momentum, r = f32(settings[0]), f32(rate)
        gradient_share = f32(1) if step == 1 else f32(1 - settings[1])
        for i in range(count):
            q = gradient_share * load_float(g, i)
            v = momentum * load_float(first, i) + q
            store_float(first, i, v)
            move = v if rule == MOMENTUM_RULE else momentum * v + q
            store_float(w, i, load_float(w, i) - r * move)


@njit(**JIT_OPTIONS)
def whole_vectors(n):
    """The next multiple of PADDED_TO."""
    return (n + PADDED_TO - 1) // PADDED_TO * PADDED_TO


@njit(**JIT_OPTIONS)
def copy_in(row, into, sizes):
    """A network's weights [W] as padded matrices, each followed by its biases."""
    at, to = 0, 0
    for layer in range(len(sizes) - 1):
        n, wide = sizes[layer + 1], whole_vectors(sizes[layer + 1])
        for _ in range(sizes[layer] + 1):
            for j in range(n):
                store_float(into, to + j, row[at + j])
            for j in range(n, wide):
                store_float(into, to + j, f32(0))
            at, to = at + n, to + wide


@njit(**JIT_OPTIONS)
def copy_out(source, row, sizes):
    """The inverse of `copy_in`."""
    at, to = 0, 0
    for layer in range(len(sizes) - 1):
        n, wide = sizes[layer + 1], whole_vectors(sizes[layer + 1])
        for _ in range(sizes[layer] + 1):
            for j in range(n):
                row[at + j] = load_float(source, to + j)
            at, to = at + n, to + wide


@njit(**JIT_OPTIONS)
def gather_rows(flat, features, chosen, into):
    """The inputs of the chosen examples, each row padded."""
    wide = whole_vectors(features)
    for i in range(len(chosen)):
        source, row = pointer_to(flat, chosen[i] * features), advance_pointer(into, i * wide)
        for j in range(features):
            store_float(row, j, load_float(source, j))


@njit(**JIT_OPTIONS)
def forward(scratch, w_at, matrices, signals, sizes, activations, count):
    """Each layer's outputs for `count` examples, at `signals`."""
    for layer in range(len(matrices)):
        n = whole_vectors(sizes[layer + 1])
        w = pointer_to(scratch, w_at + matrices[layer])
        z = pointer_to(scratch, signals[layer + 1])
        x = (pointer_to(scratch, signals[layer]), whole_vectors(sizes[layer]), 1)
        bias = advance_pointer(w, sizes[layer] * n)
        multiply(x, (w, n), (z, n), count, n, sizes[layer], bias, True)
        activate(z, count * n, activations[layer])


@njit(**JIT_OPTIONS)
def batch_loss(z, delta, chosen, classes, targets, example_weights, outputs, loss, smoothing):
    """The mean loss of outputs z; writes its gradient into delta. `targets` are flat."""
    total, wide, count = f32(0), whole_vectors(outputs), len(chosen)
    for i in range(count):
        e = chosen[i]
        weight = example_weights[e] if len(example_weights) else f32(1)
        share = weight / f32(count)
        own, slope = advance_pointer(z, i * wide), advance_pointer(delta, i * wide)
        if loss == SOFTMAX_LOSS:
            value = softmax_loss(own, slope, classes[e], outputs, wide, share, smoothing)
        else:
            y = pointer_to(targets, e * outputs)
            for j in range(outputs, wide):
                store_float(slope, j, f32(0))
            if loss == SQUARED_LOSS:
                value = squared_loss(own, slope, y, outputs, share)
            else:
                value = binary_loss(own, slope, y, outputs, share, smoothing)
        total += value * weight
    return total / f32(count)


@njit(**JIT_OPTIONS)
def backward(scratch, places, matrices, signals, sizes, activations, count):
    """The gradient of all weights, from the outputs' in delta; `places` are where things lie."""
    w_at, g_at, delta_at, other_at, transposed_at = places
    nothing = pointer_to(scratch, 0)
    for layer in range(len(matrices) - 1, -1, -1):
        n, wide = whole_vectors(sizes[layer + 1]), whole_vectors(sizes[layer])
        g, delta = pointer_to(scratch, g_at + matrices[layer]), pointer_to(scratch, delta_at)
        before = pointer_to(scratch, signals[layer])
        multiply((before, 1, wide), (delta, n), (g, n), sizes[layer], n, count, nothing, False)
        sum_rows(delta, advance_pointer(g, sizes[layer] * n), count, n)
        if layer:
            w, inner = pointer_to(scratch, w_at + matrices[layer]), sizes[layer + 1]
            turned, other = pointer_to(scratch, transposed_at), pointer_to(scratch, other_at)
            transpose(w, turned, sizes[layer], inner, n, wide)
            to = (other, wide)
            multiply((delta, n, 1), (turned, wide), to, count, wide, inner, nothing, False)
            multiply_by_slope(other, before, count * wide, activations[layer - 1])
            delta_at, other_at = other_at, delta_at


ARGUMENT_TYPES = (
    "void(f4[:,::1], f4[:,::1], f4[:,::1], f8[::1], f4[:,::1], i8[::1], f4[:,::1], f4[::1],"
    " i8[:,::1], i8[::1], i8[::1], i8[::1], i8, i8, b1, f8[:,::1], f8[:,::1], f8[:,::1], f4[::1],"
    " i8, f4[::1])"
)


def _train(
    rows,
    first,
    second,
    losses,
    inputs,
    classes,
    targets,
    example_weights,
    order,
    ends,
    sizes,
    activations,
    loss,
    rule,
    is_decoupled,
    rates,
    decays,
    settings,
    decay_mask,
    steps_before,
    scratch,
):
    """Make S updates of each of P networks.

    rows, first, second [P, W]: weights and the optimizer's state, changed in place. losses [P]: the
    sums of the mean losses, added to. inputs [N, F]; classes [N] or targets [N, C];
    example_weights [N] or empty; order [P, examples]: which are taken; ends [S]: where each batch
    ends in it. sizes [L + 1], activations [L]. rates, decays [P, S]; settings [P, 6]: those of
    `update_weights` and the label smoothing. `scratch` has `floats_needed` floats.
    """
    layers, features = len(sizes) - 1, inputs.shape[1]
    flat, flat_targets = inputs.reshape(-1), targets.reshape(-1)
    largest_batch = 0
    for s in range(len(ends)):
        largest_batch = max(largest_batch, ends[s] - (ends[s - 1] if s else 0))
    width, widest, place = 0, 0, 0
    matrices, signals = np.empty(layers, np.int64), np.empty(layers + 1, np.int64)
    for layer in range(layers + 1):
        signals[layer] = place
        place += largest_batch * whole_vectors(sizes[layer])
        widest = max(widest, whole_vectors(sizes[layer]))
        if layer < layers:
            matrices[layer] = width
            width += (sizes[layer] + 1) * whole_vectors(sizes[layer + 1])
    delta_at, other_at = place, place + largest_batch * widest
    transposed_at = other_at + largest_batch * widest
    g_at = transposed_at + widest * widest
    w_at = g_at + width
    places = (w_at, g_at, delta_at, other_at, transposed_at)
    scratch[:] = f32(0)
    w, g, mask = (
        pointer_to(scratch, w_at),
        pointer_to(scratch, g_at),
        pointer_to(scratch, w_at + width),
    )
    m, v = pointer_to(scratch, w_at + 2 * width), pointer_to(scratch, w_at + 3 * width)
    z, delta = pointer_to(scratch, signals[layers]), pointer_to(scratch, delta_at)
    copy_in(decay_mask, mask, sizes)
    for p in range(len(rows)):
        copy_in(rows[p], w, sizes)
        if rule != SGD_RULE:
            copy_in(first[p], m, sizes)
        if rule == ADAM_RULE:
            copy_in(second[p], v, sizes)
        smoothing = f32(settings[p, 5])
        for s in range(len(ends)):
            chosen = order[p, (ends[s - 1] if s else 0) : ends[s]]
            gather_rows(flat, features, chosen, pointer_to(scratch, 0))
            forward(scratch, w_at, matrices, signals, sizes, activations, len(chosen))
            losses[p] += batch_loss(
                z,
                delta,
                chosen,
                classes,
                flat_targets,
                example_weights,
                sizes[layers],
                loss,
                smoothing,
            )
            backward(scratch, places, matrices, signals, sizes, activations, len(chosen))
            decay = f32(decays[p, s])
            if decay != 0 and is_decoupled:
                add_decay(w, w, mask, -decay, width)
            elif decay != 0:
                add_decay(g, w, mask, decay, width)
            step = steps_before + s + 1
            update_weights(rule, w, m, v, g, width, rates[p, s], settings[p], step)
        copy_out(w, rows[p], sizes)
        if rule != SGD_RULE:
            copy_out(m, first[p], sizes)
        if rule == ADAM_RULE:
            copy_out(v, second[p], sizes)


def floats_needed(sizes: tuple[int, ...], batch: int) -> int:
    """How many floats `train_networks` needs to work in."""
    wide = [-(-n // PADDED_TO) * PADDED_TO for n in sizes]
    weights = sum((n + 1) * m for n, m in zip(sizes[:-1], wide[1:], strict=True))
    return batch * sum(wide) + 2 * batch * max(wide) + max(wide) ** 2 + 5 * weights


# with its types: compiled, or read from the disk, when this file is imported, and never again
try:
    train_networks = njit(ARGUMENT_TYPES, cache=True, **JIT_OPTIONS)(_train)
except RuntimeError:  # there is no folder in which the compiled code can be kept
    train_networks = njit(ARGUMENT_TYPES, **JIT_OPTIONS)(_train)

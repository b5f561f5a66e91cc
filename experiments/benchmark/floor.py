"""The floor under one example at a time: stochastic descent on digits as a person writes it in C.

A linear model or a perceptron with tanh, softmax and cross entropy, in float32: the loops of the mathematics,
and nothing around them.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from torch_backprop.optim.descend.loops import HEADER, compiler, load

TEXT = """
enum {{ I = {inputs}, H = {hidden}, O = 10 }};
static void forward(const float *restrict w, const float *restrict b, const float *restrict x,
                    float *restrict y, int rows, int columns) {{
  for (int i = 0; i < rows; i++) {{
    float sum = b[i];
    for (int j = 0; j < columns; j++) sum += w[i * columns + j] * x[j];
    y[i] = sum;
  }}
}}
static void update(float *restrict w, float *restrict b, const float *restrict g, const float *restrict x,
                   float lr, int rows, int columns) {{
  for (int i = 0; i < rows; i++) {{
    float step = lr * g[i];
    for (int j = 0; j < columns; j++) w[i * columns + j] -= step * x[j];
    b[i] -= step;
  }}
}}
int64_t descend(int64_t examples, float **state, void **fixed, const float *inputs, const int64_t *targets,
                const double *rates, double *costs, char *scratch) {{
  float *w = state[0], *b = state[1], *w1 = state[2], *b1 = state[3], h[H + 1], e[H + 1], y[O];
  for (int64_t n = 0; n < examples; n++) {{
    const float *x = inputs + n * I, *last = x;
    float lr = (float)rates[n];
    if (H) {{
      forward(w1, b1, x, h, H, I);
      for (int i = 0; i < H; i++) h[i] = tanhf(h[i]);
      last = h;
    }}
    forward(w, b, last, y, O, H ? H : I);
    float most = y[0], sum = 0, own = y[targets[n]];
    for (int i = 1; i < O; i++) most = y[i] > most ? y[i] : most;
    for (int i = 0; i < O; i++) sum += y[i] = expf(y[i] - most);
    costs[n] = logf(sum) + most - own;
    for (int i = 0; i < O; i++) y[i] = y[i] / sum - (i == targets[n]);
    if (H) {{
      for (int j = 0; j < H; j++) e[j] = 0;
      for (int i = 0; i < O; i++)
        for (int j = 0; j < H; j++) e[j] += y[i] * w[i * H + j];
      for (int j = 0; j < H; j++) e[j] *= 1 - h[j] * h[j];
      update(w1, b1, e, x, lr, H, I);
    }}
    update(w, b, y, last, lr, O, H ? H : I);
  }}
  return examples;
}}
"""


def why_not() -> str:
    """Return why there is no floor; nothing if there is one."""
    return "" if compiler() else "There is no C compiler, and so no floor."


def descent(hidden: int, x: Tensor, t: Tensor, lr: float) -> Callable[[int], object]:
    """Return what descends over so many examples, by a perceptron of `hidden` units or a linear model."""
    function = load(HEADER + TEXT.format(inputs=x.shape[1], hidden=hidden))
    shapes = [(10, hidden or x.shape[1]), (10,), *([(hidden, x.shape[1]), (hidden,)] if hidden else [])]
    state = [torch.randn(shape) / 8 for shape in shapes]
    pointers = (ctypes.c_void_p * 4)(*(theta.data_ptr() for theta in state))
    rates, costs = torch.full((len(t),), lr, dtype=torch.float64), torch.empty(len(t), dtype=torch.float64)
    kept = (state, x, t, rates, costs)

    def descend(examples: int) -> object:
        function(examples, pointers, None, *(tensor.data_ptr() for tensor in kept[1:]), None)
        return costs[:examples]

    return descend

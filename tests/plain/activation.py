"""Activations, as their definitions say them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .twin import Twin

MATRIX = ((3, 4),)


def relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)


def hard_gate(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def elu(x: Tensor, scale: float = 1, alpha: float = 1) -> Tensor:
    return scale * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def softplus(x: Tensor) -> Tensor:
    return torch.where(x > 20, x, torch.log1p(x.clamp(max=20).exp()))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def glu(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return a * torch.sigmoid(b)


def softmax(x: Tensor) -> Tensor:
    e = (x - x.amax(-1, keepdim=True).detach()).exp()
    return e / e.sum(-1, keepdim=True)


def log_softmax(x: Tensor) -> Tensor:
    return x - x.logsumexp(-1, keepdim=True)


TWINS = (
    Twin("relu", F.relu, lambda x: torch.where(x > 0, x, 0), MATRIX),
    Twin("relu6", F.relu6, relu6, MATRIX),
    Twin("hardtanh", F.hardtanh, lambda x: x.clamp(-1, 1), MATRIX),
    Twin("leaky_relu", F.leaky_relu, lambda x: torch.where(x > 0, x, 0.01 * x), MATRIX),
    Twin("threshold", lambda x: F.threshold(x, 0.1, 2.0), lambda x: torch.where(x > 0.1, x, 2.0), MATRIX),
    Twin("hardshrink", F.hardshrink, lambda x: torch.where(x.abs() > 0.5, x, 0), MATRIX),
    Twin("softshrink", F.softshrink, lambda x: x.sign() * (x.abs() - 0.5).clamp(min=0), MATRIX),
    Twin("hardsigmoid", F.hardsigmoid, hard_gate, MATRIX),
    Twin("hardswish", F.hardswish, lambda x: x * hard_gate(x), MATRIX),
    Twin("sigmoid", torch.sigmoid, lambda x: 1 / (1 + torch.exp(-x)), MATRIX),
    Twin("tanh", torch.tanh, lambda x: 2 * torch.sigmoid(2 * x) - 1, MATRIX),
    Twin("logsigmoid", F.logsigmoid, lambda x: -torch.log1p(torch.exp(-x)), MATRIX),
    Twin("softplus", F.softplus, softplus, MATRIX),
    Twin("elu", F.elu, elu, MATRIX),
    Twin("selu", F.selu, lambda x: elu(x, 1.0507009873554805, 1.6732632423543772), MATRIX),
    Twin("celu", F.celu, elu, MATRIX),
    Twin("softsign", F.softsign, lambda x: x / (1 + x.abs()), MATRIX),
    Twin("tanhshrink", F.tanhshrink, lambda x: x - x.tanh(), MATRIX),
    Twin("silu", F.silu, lambda x: x * torch.sigmoid(x), MATRIX),
    Twin("mish", F.mish, lambda x: x * softplus(x).tanh(), MATRIX),
    Twin("gelu", F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), MATRIX),
    Twin("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), gelu_tanh, MATRIX),
    Twin("glu", F.glu, glu, MATRIX),
    Twin("prelu", F.prelu, lambda x, w: torch.where(x > 0, x, w * x), ((3, 4), (4,))),
    Twin("rrelu", F.rrelu, lambda x: torch.where(x > 0, x, x * (1 / 8 + 1 / 3) / 2), MATRIX),
    Twin("softmax", lambda x: F.softmax(x, -1), softmax, MATRIX),
    Twin("softmin", lambda x: F.softmin(x, -1), lambda x: softmax(-x), MATRIX),
    Twin("log_softmax", lambda x: F.log_softmax(x, -1), log_softmax, MATRIX),
    Twin("normalize", F.normalize, lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-12), MATRIX),
)

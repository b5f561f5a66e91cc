"""Architectures that people train, small, and built as people build them; each with the cost of a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORDS = 11


class Architecture(nn.Module):
    """A model that draws a batch and says what it costs."""

    def cost(self) -> Tensor:
        raise NotImplementedError


class Residual(nn.Module):
    """A block of a ResNet: He et al. (2016), arXiv:1512.03385, figure 2."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.path(x) + self.shortcut(x))


class ResNet(Architecture):
    """Images to classes."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        self.layers = nn.Sequential(*stem, Residual(4, 4, 1), Residual(4, 8, 2), *head)

    def cost(self) -> Tensor:
        return F.cross_entropy(self.layers(torch.randn(4, 3, 8, 8).double()), torch.randint(5, (4,)))


class LanguageModel(Architecture):
    """Long short-term memory over words, with dropout: Zaremba et al. (2014), arXiv:1409.2329."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 6, padding_idx=0)
        self.memory = nn.LSTM(6, 6, num_layers=2, dropout=0.3, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(6, WORDS)
        self.loss = nn.CrossEntropyLoss(ignore_index=0)

    def forward(self, words: Tensor) -> Tensor:
        hidden, _ = self.memory(self.dropout(self.embedding(words)))
        return self.head(self.dropout(hidden))

    def cost(self) -> Tensor:
        words = torch.randint(WORDS, (3, 8))
        return self.loss(self(words[:, :-1]).mT, words[:, 1:])


class Translator(Architecture):
    """An encoder and a decoder: Vaswani et al. (2017), arXiv:1706.03762."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, 8), nn.Embedding(WORDS, 8)
        self.transformer = nn.Transformer(8, 2, 2, 2, 16, dropout=0.1, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64)
        hidden = self.transformer(self.source(source), self.target(target), tgt_mask=mask)
        return self.head(hidden)

    def cost(self) -> Tensor:
        source, target = torch.randint(WORDS, (3, 5)), torch.randint(WORDS, (3, 7))
        words = self(source, target[:, :-1])
        return F.cross_entropy(words.mT, target[:, 1:], label_smoothing=0.1)


class UNet(Architecture):
    """Down, up, and across: Ronneberger et al. (2015), arXiv:1505.04597, figure 1."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.block(1, 4)
        self.pool = nn.MaxPool2d(2)
        self.bottom = self.block(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.across = self.block(8, 4)
        self.head = nn.Conv2d(4, 1, 1)
        self.loss = nn.BCEWithLogitsLoss()

    @staticmethod
    def block(channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(2, out), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        left = self.down(x)
        right = self.up(self.bottom(self.pool(left)))
        return self.head(self.across(torch.cat((left, right), 1)))

    def cost(self) -> Tensor:
        image = torch.randn(2, 1, 8, 8).double()
        return self.loss(self(image), (image > 0).double())


class Attention(nn.Module):
    """Causal self-attention, as written by hand over scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm block of a GPT."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.attention = Attention(width, 2)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.feed_forward(self.norms[1](x))


class GPT(Architecture):
    """Radford et al. (2019), with the embedding's weight tied to the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 8), nn.Embedding(7, 8)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, WORDS, bias=False)
        self.head.weight = self.words.weight
        nn.init.normal_(self.words.weight, std=1 / math.sqrt(8))

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places(torch.arange(words.shape[1]))
        return self.head(self.norm(self.blocks(x)))

    def cost(self) -> Tensor:
        words = torch.randint(WORDS, (3, 8))
        return F.cross_entropy(self(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())


ARCHITECTURES: tuple[type[Architecture], ...] = (ResNet, LanguageModel, Translator, UNet, GPT)

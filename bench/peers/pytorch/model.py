"""The benchmark's language model: pre-RMSNorm, rotary positions, causal SDPA, every feed-forward layer sparse."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Sizes:
    """What the benchmark trains: 16 sequences of 256 tokens are the 4096 tokens of one step."""

    batch: int = 16
    context: int = 256
    width: int = 256
    ff: int = 1024
    experts: int = 16
    layers: int = 4
    heads: int = 8
    vocabulary: int = 256

    @property
    def tokens(self):
        return self.batch * self.context


def rotary_tables(context, head_width, base=10000.0):
    """Cosines and sines `[context, head_width]` for rotary positions in the half-split layout."""
    frequency = base ** (-torch.arange(0, head_width, 2).float() / head_width)
    angle = torch.outer(torch.arange(context).float(), frequency)
    return torch.cat([angle.cos()] * 2, dim=-1), torch.cat([angle.sin()] * 2, dim=-1)


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x, cos, sin):
        batch, time, width = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.heads, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(dim=2))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    def __init__(self, sizes, moe):
        super().__init__()
        self.norm1 = nn.RMSNorm(sizes.width, eps=1e-5)
        self.attention = Attention(sizes.width, sizes.heads)
        self.norm2 = nn.RMSNorm(sizes.width, eps=1e-5)
        self.moe = moe

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        y, balance = self.moe(self.norm2(x))
        return x + y, balance


class LanguageModel(nn.Module):
    """`make_moe(sizes)` builds one sparse layer: `[batch, time, width]` -> (the same, balance loss)."""

    def __init__(self, sizes, make_moe, balance_weight=0.01):
        super().__init__()
        self.balance_weight = balance_weight
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes, make_moe(sizes)) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.width, eps=1e-5)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        cos, sin = rotary_tables(sizes.context, sizes.width // sizes.heads)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, tokens, targets):
        """Tokens and targets `[batch, time]` -> the training loss: mean cross-entropy plus balance losses."""
        x = self.embedding(tokens)
        balance_sum = 0.0
        for block in self.blocks:
            x, balance = block(x, self.cos, self.sin)
            balance_sum = balance_sum + balance
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + self.balance_weight * balance_sum

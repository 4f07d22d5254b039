"""Switch (top-1) feed-forward layers written with PyTorch's vectorised operations, eager mode, float32.

Five ways to bring tokens to their experts. All share the router (float32 softmax, gate = the raw probability of
the chosen expert) and the balance loss of Switch Transformers section 2.2. `FASTEST` is the peer that the
benchmarks quote; the README keeps the timings of the others.

  padded-scatter  capacity 1.25: position by one-hot and cumsum, `index_copy` into expert buffers, `bmm`, gather
  padded-gather   capacity 1.25: the same buffers filled and emptied by gathers, forwards and backwards
  sorted-split    dropless: stable sort by expert, `torch.split`, one GEMM per expert on a stacked weight
  sorted-params   dropless: the same, each expert's matrices being parameters of their own (no stacking backwards)
  sorted-grouped  dropless: stable sort by expert, `torch.nn.functional.grouped_mm`
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

VARIANTS = ("padded-scatter", "padded-gather", "sorted-split", "sorted-params", "sorted-grouped")
FASTEST = "sorted-params"


class Permute(torch.autograd.Function):
    """`x[order]` whose gradient is a gather by the inverse permutation instead of a scatter-add."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad):
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class MaskedGather(torch.autograd.Function):
    """`x[index]` for an index that repeats only where `grad_mask` says that no gradient comes back.

    `inverse` says for each row of `x` which row of the result it went to; rows that went nowhere have
    `grad_mask` 0. Both directions are then gathers, which are faster on a CPU than scatter-adds.
    """

    @staticmethod
    def forward(ctx, x, index, inverse, grad_mask):
        ctx.save_for_backward(inverse, grad_mask)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        inverse, grad_mask = ctx.saved_tensors
        return grad.index_select(0, inverse).mul_(grad_mask), None, None, None


class VectorisedMoE(nn.Module):
    """`[..., width]` -> (`[..., width]`, balance loss). `capacity_factor` counts for the padded variants only."""

    def __init__(self, width, ff, experts, variant=FASTEST, capacity_factor=1.25):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"dispatch must be one of {', '.join(VARIANTS)}, not {variant!r}")
        self.width, self.experts, self.variant, self.capacity_factor = width, experts, variant, capacity_factor
        self.router = nn.Linear(width, experts, bias=False)
        w1 = torch.randn(experts, width, ff) / math.sqrt(width)
        w2 = torch.randn(experts, ff, width) / math.sqrt(ff)
        if variant == "sorted-params":
            self.w1 = nn.ParameterList(w1.unbind())
            self.w2 = nn.ParameterList(w2.unbind())
        else:
            self.w1, self.w2 = nn.Parameter(w1), nn.Parameter(w2)
        self._run = getattr(self, "_" + variant.replace("-", "_"))

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, self.width)
        probs = F.softmax(self.router(x), dim=-1, dtype=torch.float32)
        gate, expert = probs.max(dim=-1)
        counts = torch.bincount(expert, minlength=self.experts)
        balance = self.experts * torch.dot(counts.float() / x.shape[0], probs.mean(dim=0))
        return self._run(x, gate, expert, counts).view(shape), balance

    def _capacity(self, tokens):
        return math.ceil(tokens / self.experts * self.capacity_factor)

    def _bmm(self, rows):
        hidden = torch.bmm(rows.view(self.experts, -1, self.width), self.w1).relu_()
        return torch.bmm(hidden, self.w2).view(-1, self.width)

    def _padded_scatter(self, x, gate, expert, counts):
        capacity = self._capacity(x.shape[0])
        position = F.one_hot(expert, self.experts).cumsum(dim=0).gather(1, expert[:, None]).squeeze(1) - 1
        keep = position < capacity
        # Tokens over capacity share one spare row at the end, which no expert reads.
        slot = torch.where(keep, expert * capacity + position, self.experts * capacity)
        rows = x.new_zeros(self.experts * capacity + 1, self.width).index_copy(0, slot, x)[:-1]
        out = self._bmm(rows)
        return F.embedding(slot.clamp(max=out.shape[0] - 1), out) * (gate * keep)[:, None]

    def _padded_gather(self, x, gate, expert, counts):
        tokens, capacity = x.shape[0], self._capacity(x.shape[0])
        order = torch.argsort(expert, stable=True)
        start = counts.cumsum(0) - counts
        lane = torch.arange(capacity)
        # Slot -> token. An empty slot reads some token; nothing reads its result, so its gradient is zero.
        token_of_slot = order[(start[:, None] + lane).clamp_(max=tokens - 1).view(-1)]
        slot_used = (lane < counts[:, None]).view(-1, 1).to(x.dtype)
        position = torch.empty_like(order)
        position[order] = torch.arange(tokens) - start[expert[order]]
        kept = (position < capacity).to(x.dtype)
        slot_of_token = expert * capacity + position.clamp_(max=capacity - 1)
        rows = MaskedGather.apply(x, token_of_slot, slot_of_token, kept[:, None])
        out = MaskedGather.apply(self._bmm(rows), slot_of_token, token_of_slot, slot_used)
        return out * (gate * kept)[:, None]

    def _sort(self, x, expert):
        order = torch.argsort(expert, stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.shape[0])
        return Permute.apply(x, order, inverse), order, inverse

    def _sorted_split(self, x, gate, expert, counts):
        rows, order, inverse = self._sort(x, expert)
        out = [
            (part @ w1).relu_() @ w2
            for part, w1, w2 in zip(rows.split(counts.tolist()), self.w1.unbind(), self.w2.unbind())
        ]
        return Permute.apply(torch.cat(out), inverse, order) * gate[:, None]

    def _sorted_params(self, x, gate, expert, counts):
        rows, order, inverse = self._sort(x, expert)
        out = [
            (part @ w1).relu_() @ w2 for part, w1, w2 in zip(rows.split(counts.tolist()), self.w1, self.w2)
        ]
        return Permute.apply(torch.cat(out), inverse, order) * gate[:, None]

    def _sorted_grouped(self, x, gate, expert, counts):
        rows, order, inverse = self._sort(x, expert)
        ends = counts.cumsum(0).to(torch.int32)
        hidden = F.grouped_mm(rows, self.w1, offs=ends).relu_()
        out = F.grouped_mm(hidden, self.w2, offs=ends)
        return Permute.apply(out, inverse, order) * gate[:, None]

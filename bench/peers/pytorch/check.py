"""Checks that all PyTorch peers compute the same layer: same weights, same outputs, losses and gradients.

    python3 check.py

The padded variants are compared twice: with room for every token against the dropless ones, and with so little
room that many tokens are dropped against each other. Exits with 1 and the names of what differs.
"""

import sys

import torch

from loop_block import LoopMoE
from moe_vectorised import VARIANTS, VectorisedMoE

BATCH, CONTEXT, WIDTH, FF, EXPERTS = 4, 64, 32, 64, 8
TOLERANCE = 1e-5


def set_weights(layer, router, w1, w2):
    with torch.no_grad():
        if isinstance(layer, LoopMoE):
            layer.block.router.classifier.weight.copy_(router)
            for i in range(EXPERTS):
                expert = layer.block.experts[f"expert_{i}"]
                expert.wi.weight.copy_(w1[i].T)
                expert.wo.weight.copy_(w2[i].T)
        else:
            layer.router.weight.copy_(router)
            for i in range(EXPERTS):
                layer.w1[i].copy_(w1[i])
                layer.w2[i].copy_(w2[i])


def weight_gradients(layer):
    if isinstance(layer, LoopMoE):
        experts = [layer.block.experts[f"expert_{i}"] for i in range(EXPERTS)]
        w1 = torch.stack([expert.wi.weight.grad.T for expert in experts])
        return layer.block.router.classifier.weight.grad, w1, torch.stack([e.wo.weight.grad.T for e in experts])
    if layer.variant == "sorted-params":
        stacked = [torch.stack([part.grad for part in parts]) for parts in (layer.w1, layer.w2)]
        return layer.router.weight.grad, *stacked
    return layer.router.weight.grad, layer.w1.grad, layer.w2.grad


def main():
    torch.manual_seed(0)
    x = torch.randn(BATCH, CONTEXT, WIDTH)
    upstream = torch.randn_like(x)
    weights = torch.randn(EXPERTS, WIDTH), torch.randn(EXPERTS, WIDTH, FF), torch.randn(EXPERTS, FF, WIDTH)
    names = ("output", "balance", "x gradient", "router gradient", "w1 gradient", "w2 gradient")

    def run(layer):
        set_weights(layer, *weights)
        leaf = x.clone().requires_grad_()
        y, balance = layer(leaf)
        torch.autograd.backward([y, balance], [upstream, torch.tensor(0.01)])
        return dict(zip(names, (y.detach(), balance.detach(), leaf.grad, *weight_gradients(layer))))

    failures = 0

    def compare(label, got, want):
        nonlocal failures
        error = {name: float((got[name] - want[name]).norm() / want[name].norm()) for name in names}
        wrong = [name for name in names if not error[name] <= TOLERANCE]
        failures += len(wrong)
        verdict = "  DIFFERS: " + ", ".join(wrong) if wrong else ""
        print(f"{label:40} largest relative error {max(error.values()):.1e}{verdict}")

    loop = run(LoopMoE(WIDTH, FF, EXPERTS, CONTEXT))
    for variant in VARIANTS:
        compare(f"{variant} against the loop", run(VectorisedMoE(WIDTH, FF, EXPERTS, variant, float(EXPERTS))), loop)
    small = [run(VectorisedMoE(WIDTH, FF, EXPERTS, variant, 0.5)) for variant in ("padded-scatter", "padded-gather")]
    dropped = int((small[0]["output"] == 0).all(dim=-1).sum())
    compare(f"padded, {dropped} of {BATCH * CONTEXT} tokens dropped", small[1], small[0])
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

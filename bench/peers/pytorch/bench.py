"""Times PyTorch peers of the benchmark model on the CPU, eager mode, float32; prints one JSON object.

    python3 bench.py --what step --variant vectorised --threads 2 --json
    python3 bench.py --what layer --variant loop --threads 2 --json
    python3 bench.py --what layer --variant vectorised --dispatch padded-gather --json
"""

import argparse
import json
import statistics
import sys
import time

import torch

from loop_block import LoopMoE
from model import LanguageModel, Sizes
from moe_vectorised import FASTEST, VARIANTS, VectorisedMoE


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return value


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("step", "layer"), required=True)
    parser.add_argument("--variant", choices=("vectorised", "loop"), required=True)
    parser.add_argument("--dispatch", choices=VARIANTS, default=None, help=f"of the vectorised variant ({FASTEST})")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--warmup", type=positive, default=5, help="untimed runs before the timed ones")
    parser.add_argument("--repeats", type=positive, default=20, help="timed runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines for reading")
    args = parser.parse_args()
    if args.variant == "loop" and args.dispatch is not None:
        parser.error("--dispatch belongs to --variant vectorised: the loop block has one way of dispatching")
    if args.variant == "vectorised" and args.dispatch is None:
        args.dispatch = FASTEST
    return args


def moe_factory(args):
    if args.variant == "loop":
        return lambda sizes: LoopMoE(sizes.width, sizes.ff, sizes.experts, sizes.context)
    return lambda sizes: VectorisedMoE(sizes.width, sizes.ff, sizes.experts, args.dispatch)


def step_phases(args, sizes):
    """A function that runs one training step and returns the seconds of its phases."""
    model = LanguageModel(sizes, moe_factory(args))
    # The vectorised peer takes PyTorch's fastest optimiser; the loop peer what transformers' users get by default.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True if args.variant == "vectorised" else None)
    foreach = True if args.variant == "vectorised" else None
    batches = torch.randint(sizes.vocabulary, (8, sizes.batch, sizes.context + 1))
    count = 0

    def run():
        nonlocal count
        batch = batches[count % len(batches)]
        count += 1
        start = time.perf_counter()
        loss = model(batch[:, :-1], batch[:, 1:])
        after_forward = time.perf_counter()
        loss.backward()
        after_backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        end = time.perf_counter()
        return after_forward - start, after_backward - after_forward, end - after_backward

    return run


def layer_phases(args, sizes):
    """A function that runs one sparse layer forwards and backwards and returns the seconds of both."""
    layer = moe_factory(args)(sizes)
    x = torch.randn(sizes.batch, sizes.context, sizes.width, requires_grad=True)
    upstream = torch.randn(sizes.batch, sizes.context, sizes.width) / sizes.tokens
    balance_weight = torch.tensor(0.01)

    def run():
        x.grad = None
        layer.zero_grad(set_to_none=True)
        start = time.perf_counter()
        y, balance = layer(x)
        after_forward = time.perf_counter()
        torch.autograd.backward([y, balance], [upstream, balance_weight])
        end = time.perf_counter()
        return after_forward - start, end - after_forward

    return run


def best_rate(left, right, repeats=20):
    """The best GFLOP/s of `left @ right` over some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.matmul(left, right)
        best = min(best, time.perf_counter() - start)
    return round(2 * left.numel() * right.shape[-1] / best / 1e9, 1)


def matmul_rates(sizes):
    rows = sizes.tokens // sizes.experts
    return {
        # One expert's own batch (the average number of tokens), four times that, and all experts in one bmm.
        "oneExpert": best_rate(torch.randn(rows, sizes.width), torch.randn(sizes.width, sizes.ff)),
        "expertShape": best_rate(torch.randn(sizes.ff, sizes.width), torch.randn(sizes.width, sizes.ff)),
        "batchedExperts": best_rate(
            torch.randn(sizes.experts, rows, sizes.width), torch.randn(sizes.experts, sizes.width, sizes.ff)
        ),
        "square2048": best_rate(torch.randn(2048, 2048), torch.randn(2048, 2048), repeats=10),
    }


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(fraction * (len(ordered) - 1)))]


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    sizes = Sizes()
    run = step_phases(args, sizes) if args.what == "step" else layer_phases(args, sizes)
    for _ in range(args.warmup):
        run()
    phases = [[1000 * seconds for seconds in run()] for _ in range(args.repeats)]
    totals = [sum(each) for each in phases]
    median = statistics.median(totals)
    result = {
        "peer": "pytorch",
        "what": args.what,
        "variant": args.variant,
        "dispatch": args.dispatch or "SwitchTransformersSparseMLP",
        "threads": args.threads,
        "warmup": args.warmup,
        "repeats": args.repeats,
        "medianMs": round(median, 3),
        "minMs": round(min(totals), 3),
        "p90Ms": round(percentile(totals, 0.9), 3),
        "tokensPerSecond": round(sizes.tokens / median * 1000),
        "forwardMs": round(statistics.median(each[0] for each in phases), 3),
        "backwardMs": round(statistics.median(each[1] for each in phases), 3),
        "optimizerMs": round(statistics.median(each[2] for each in phases), 3) if args.what == "step" else None,
        "matmulGflops": matmul_rates(sizes),
        "torchVersion": torch.__version__,
        "transformersVersion": sys.modules["transformers"].__version__ if args.variant == "loop" else None,
        "pythonVersion": sys.version.split()[0],
    }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:20} {value}")


if __name__ == "__main__":
    main()

"""One layer aligned and decomposed as the reference does: POT's exact transport, NumPy's averages and SVD.

Reads experts of float32 from a file, `[experts, rows, width]`. Prints one JSON object: seconds of the alignment (distances,
transport, averages), of the SVDs and of pruning; the objective (1/N) sum ||T D - centre||^2 of the last alignment; the
squared errors of the truncated SVD and of pruning, summed over the experts.
"""

import argparse
import json
import time

import numpy as np
import ot

parser = argparse.ArgumentParser()
parser.add_argument("--file", required=True)
parser.add_argument("--experts", type=int, required=True)
parser.add_argument("--rows", type=int, required=True)
parser.add_argument("--ratio", type=float, default=0.25)
parser.add_argument("--iterations", type=int, default=100)
parser.add_argument("--decompose", type=int, default=1, help="experts to decompose; times are for all")
options = parser.parse_args()

experts = np.fromfile(options.file, dtype=np.float32).reshape(options.experts, options.rows, -1)
masses = np.full(options.rows, 1 / options.rows)


def align(centre):
    """The neuron of each expert that sits at each row of the centre."""
    orders = []
    for expert in experts:
        costs = ot.dist(centre, expert).astype(np.float64)
        # The default limit of pivots may end with a plan that is no permutation.
        plan = ot.emd(masses, masses, costs, numItermax=100_000_000)
        order = plan.argmax(axis=1)
        assert len(set(order.tolist())) == options.rows, "not a permutation"
        orders.append(order)
    return orders


began = time.perf_counter()
centre = experts[0].copy()
previous = None
rounds = 0
for rounds in range(1, options.iterations + 1):
    orders = align(centre)
    if rounds == options.iterations:
        break
    if previous is not None and all((a == b).all() for a, b in zip(orders, previous)):
        break
    previous = orders
    centre = np.mean([expert[order] for expert, order in zip(experts, orders)], axis=0)
align_seconds = time.perf_counter() - began

residuals = [expert[order] - centre for expert, order in zip(experts, orders)]
objective = float(np.mean([np.square(residual, dtype=np.float64).sum() for residual in residuals]))

rows, width = residuals[0].shape
rank = int(options.ratio * rows * width / (rows + width))
svd_error = 0.0
began = time.perf_counter()
for residual in residuals[: options.decompose]:
    left, values, right = np.linalg.svd(residual, full_matrices=False)
    small = (left[:, :rank] * values[:rank], right[:rank])
    svd_error += float(np.square(values[rank:], dtype=np.float64).sum())
svd_seconds = (time.perf_counter() - began) * options.experts / options.decompose

prune_error = 0.0
began = time.perf_counter()
for residual in residuals[: options.decompose]:
    count = round((1 - options.ratio) * residual.size)
    magnitudes = np.abs(residual)
    threshold = np.partition(magnitudes.ravel(), count)[count]
    kept = np.where(magnitudes >= threshold, residual, 0)
    prune_error += float(np.square(residual - kept, dtype=np.float64).sum())
prune_seconds = (time.perf_counter() - began) * options.experts / options.decompose

print(
    json.dumps(
        {
            "alignSeconds": align_seconds,
            "iterations": rounds,
            "svdSeconds": svd_seconds,
            "pruneSeconds": prune_seconds,
            "objective": objective,
            "svdError": svd_error,
            "pruneError": prune_error,
            "decomposed": options.decompose,
            "versions": {"pot": ot.__version__, "numpy": np.__version__},
        }
    )
)

"""scipy's assignment solver on a square matrix of float32 costs from a file. Prints one JSON object."""

import argparse
import json
import time

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment

parser = argparse.ArgumentParser()
parser.add_argument("--file", required=True)
parser.add_argument("--size", type=int, required=True)
parser.add_argument("--repeats", type=int, default=1)
options = parser.parse_args()

costs = np.fromfile(options.file, dtype=np.float32).reshape(options.size, options.size)
best = float("inf")
for _ in range(options.repeats):
    began = time.perf_counter()
    rows, columns = linear_sum_assignment(costs)
    best = min(best, time.perf_counter() - began)
print(
    json.dumps(
        {"seconds": best, "total": float(costs[rows, columns].sum(dtype=np.float64)), "scipy": scipy.__version__}
    )
)

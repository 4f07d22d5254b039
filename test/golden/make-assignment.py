"""Totals of scipy.optimize.linear_sum_assignment for costs that any language makes alike.

    pip install numpy==2.4.6 scipy==1.17.1
    python test/golden/make-assignment.py > test/golden/assignment.json
"""

import json

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment

cases = []
for name, size in [("fine", 5), ("fine", 64), ("coarse", 9), ("fine", 301), ("coarse", 17)]:
    index = np.arange(1, size * size + 1, dtype=object)
    hashed = np.array([(int(i) * 2654435761) % 2**32 for i in index], dtype=np.uint64)
    costs = (hashed >> np.uint64(28 if name == "coarse" else 8)).astype(np.float64)
    if name == "fine":
        costs /= 2**24
    costs = costs.reshape(size, size)
    rows, columns = linear_sum_assignment(costs)
    cases.append({"name": name, "size": size, "total": float(costs[rows, columns].sum())})

print(json.dumps({"scipy": scipy.__version__, "numpy": np.__version__, "cases": cases}, indent=2))

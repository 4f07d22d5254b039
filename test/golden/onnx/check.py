"""Loads the models that make.mjs exported with Python's onnxruntime and compares all numbers.

    pip install onnx==1.23.2 onnxruntime==1.32.0
    python test/golden/onnx/check.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

folder = Path(sys.argv[1])
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
worst = 0.0
for name, sample in json.loads((folder / "samples.json").read_text()).items():
    path = folder / name
    # Its checker knows no SimplifiedLayerNormalization, which ONNX Runtime has among the standard operators; loading
    # reads every constant from the file of weights.
    model = onnx.load(str(path))
    assert all(len(tensor.raw_data) > 0 for tensor in model.graph.initializer)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        dtype = np.int64 if value.type == "tensor(int64)" else np.float32
        feeds[value.name] = np.array(sample["feeds"][value.name], dtype).reshape(value.shape)
    (result,) = session.run([sample["output"]], feeds)
    expected = np.array(sample["values"], np.float32).reshape(result.shape)
    scale = float(np.abs(expected).max())
    assert scale > 0.01, scale
    difference = float(np.abs(result - expected).max()) / scale
    worst = max(worst, difference)
    print(f"{name}: {sample['output']} {list(result.shape)}, largest {scale:.3f}, difference at most {difference:.1e} of it")
assert worst < 1e-5, worst

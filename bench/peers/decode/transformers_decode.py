"""One JSON line: milliseconds a token of a Hugging Face checkpoint, greedy, one text, float32, with a cache.

    python transformers_decode.py FOLDER [--tokens 32] [--threads 2] [--experts NAME ...]

`--experts` names implementations of the experts (transformers' `experts_implementation`); the fastest counts.
"""

import argparse
import json
import statistics
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--tokens", type=int, default=32)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--prompt", type=int, default=16)
parser.add_argument("--experts", nargs="*", default=["eager", "batched_mm", "grouped_mm"])
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)

model = transformers.AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
prompt = torch.tensor([[(31 * i + 7) % model.config.vocab_size for i in range(arguments.prompt)]])


@torch.inference_mode()
def decode():
    result = model(prompt, use_cache=True)
    token = result.logits[:, -1:].argmax(-1)
    times, tokens = [], [token.item()]
    for _ in range(arguments.tokens):
        began = time.perf_counter()
        result = model(token, past_key_values=result.past_key_values, use_cache=True)
        token = result.logits[:, -1:].argmax(-1)
        times.append(1000 * (time.perf_counter() - began))
        tokens.append(token.item())
    return times, tokens


results = {}
for name in arguments.experts:
    try:
        model.set_experts_implementation(name)
        times, tokens = decode()
    except Exception as error:  # an implementation that this machine does not have
        results[name] = {"error": str(error).splitlines()[0]}
        continue
    results[name] = {"medianMs": statistics.median(times), "minMs": min(times), "tokens": tokens[:8]}
best = min((name for name in results if "medianMs" in results[name]), key=lambda name: results[name]["medianMs"])
print(
    json.dumps(
        {
            "experts": best,
            **results[best],
            "others": {name: result.get("medianMs") for name, result in results.items() if name != best},
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
    )
)

"""Whether `transformers` loads what we export, and computes what it computed from its own files.

    npm run build && python test/golden/check-encoder-decoder-exports.py switch_transformers
    npm run build && python test/golden/check-encoder-decoder-exports.py t5

Every golden case is imported into a model folder of ours, exported from there, and loaded again: no tensor may be missing
or left over, states and logits must agree with `expected.safetensors`, greedy targets must be the same tokens. Versions as
in `make-encoder-decoder-models.py`. Prints a table for `docs/results/encoder-decoder-exports.md`.
"""

import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
golden = import_module("make-encoder-decoder-models")


def switchyard(*arguments):
    subprocess.run(["node", str(HERE / "../../dist/cli/main.js"), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@torch.no_grad()
def check(kind, name, folder):
    switchyard("import", HERE / kind / name, folder / "ours")
    switchyard("export", folder / "ours", folder / "back", "--to", "hf")
    model, info = golden.CLASSES[kind][1].from_pretrained(folder / "back", output_loading_info=True)
    problems = [f"{key}: {sorted(info[key])}" for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]]
    expected = load_file(HERE / kind / name / "expected.safetensors")
    mask, target_mask = expected["source_mask"], expected["target_mask"]
    ids = dict(input_ids=expected["source"].long(), attention_mask=mask.long())
    use_cache = model.config.num_decoder_layers <= model.config.num_layers
    out = model.eval()(**ids, decoder_input_ids=expected["target"].long(), decoder_attention_mask=target_mask.long(),
                       use_cache=use_cache)
    worst = max(
        ((out.encoder_last_hidden_state - expected["encoder_states"]).abs().amax(-1) * mask).max().item(),
        ((out.logits - expected["logits"]).abs().amax(-1) * target_mask).max().item(),
    )
    generated = model.generate(**ids, max_new_tokens=16, do_sample=False, num_beams=1, use_cache=use_cache)
    same = generated.int().tolist() == expected["generated"].tolist()
    print(f"| {kind}/{name} | {len(load_file(folder / 'back/model.safetensors'))} | {worst:.1e} | {'same' if same else 'OTHER'} |")
    return worst < 1e-5 and same and not problems, problems


def main(kind):
    torch.set_num_threads(1)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}\n")
    print("| model | tensors | largest difference of states and logits | greedy targets |\n|---|---|---|---|")
    failed = False
    for name in golden.CASES[kind]:
        with tempfile.TemporaryDirectory() as folder:
            passed, problems = check(kind, name, Path(folder))
        for problem in problems:
            print(f"{name}: {problem}", file=sys.stderr)
        failed |= not passed
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1])

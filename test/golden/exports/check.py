"""Opens what make.mjs exported with `transformers` and compares logits; prints a line for every folder.

    python test/golden/exports/check.py FOLDER

Switch Transformers are opened by transformers 4.57 (requirements-switch.txt), all others by 5.x
(requirements-decoders.txt); run it with each.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

IS_OLD = transformers.__version__.startswith("4.")


@torch.no_grad()
def difference(folder, model_type):
    expected = load_file(folder / "expected.safetensors")
    is_pair = model_type in ("t5", "switch_transformers")
    options = {} if is_pair else {"attn_implementation": "eager", **({} if IS_OLD else {"experts_implementation": "eager"})}
    model, info = (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM).from_pretrained(
        folder, output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], f"{folder.name}: {kind} {sorted(info[kind])}"
    if is_pair:
        mask = expected["target_mask"]
        out = model.eval()(input_ids=expected["source"].long(), attention_mask=expected["source_mask"].long(),
                           decoder_input_ids=expected["target"].long(), decoder_attention_mask=mask.long(),
                           use_cache=False)
    else:
        mask = expected["mask"]
        out = model.eval()(input_ids=expected["tokens"].long(), attention_mask=mask.long())
    wanted = expected["logits"].reshape(out.logits.shape)
    return ((out.logits - wanted).abs() * mask.unsqueeze(-1)).max().item(), wanted.abs().max().item()


def main(root):
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    worst = 0.0
    for folder in sorted(Path(root).iterdir()):
        model_type = json.loads((folder / "config.json").read_text())["model_type"]
        if (model_type == "switch_transformers") != IS_OLD:
            continue
        error, largest = difference(folder, model_type)
        assert error < 1e-4, f"{folder.name}: logits differ by {error}"
        worst = max(worst, error)
        print(f"{folder.name}: largest logit {largest:.2f}, difference at most {error:.1e}")
    print(f"worst {worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])

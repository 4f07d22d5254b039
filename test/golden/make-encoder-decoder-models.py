"""Tiny random encoder-decoders as `transformers` saves and runs them: what `src/checkpoints/` must read, and compute.

    pip install -r test/golden/requirements-switch.txt && python test/golden/make-encoder-decoder-models.py switch_transformers
    pip install -r test/golden/requirements-t5.txt && python test/golden/make-encoder-decoder-models.py t5

Every case is a folder `test/golden/<model_type>/<case>/` with `config.json` and `model.safetensors` as saved, and
`expected.safetensors`: what went in, and what came out in float32. Switch Transformers need the last 4.57 of
`transformers`: before spring 2025 dropped tokens passed through, and in early 5.x the places were never counted.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
BATCH = 2

# Sizes are odd on purpose: heads that do not fill the hidden size, stacks of different depth, buckets that do not halve.
CASES = {
    "switch_transformers": {
        # Few places: tokens are dropped. Encoder blocks 1 and 3 of 5 are sparse, decoder block 1 of 3.
        "dropping": dict(
            lengths=([17, 13], [11, 8]),
            config=dict(vocab_size=37, d_model=12, d_kv=5, num_heads=3, d_ff=20, num_layers=5, num_decoder_layers=3,
                        num_sparse_encoder_layers=2, num_sparse_decoder_layers=1, num_experts=4, expert_capacity=3),
        ),
        # Every encoder block is sparse; an output layer and router biases of their own.
        "untied": dict(
            lengths=([19, 7], [6, 9]),
            config=dict(vocab_size=29, d_model=10, d_kv=3, num_heads=2, d_ff=14, num_layers=2, num_decoder_layers=4,
                        num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, num_experts=5, router_bias=True,
                        tie_word_embeddings=False, dense_act_fn="gelu_new", relative_attention_num_buckets=9,
                        relative_attention_max_distance=20, layer_norm_epsilon=1e-5),
        ),
        # No padding, no drops, steps above 1: the auxiliary losses that are returned are those of the paper, pooled.
        "balanced": dict(
            lengths=([41, 41], [13, 13]),
            config=dict(vocab_size=31, d_model=9, d_kv=4, num_heads=3, d_ff=11, num_layers=4, num_decoder_layers=5,
                        num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, num_experts=7, dense_act_fn="silu",
                        router_aux_loss_coef=0.01),
        ),
        # "0 sparse layers" make block 1 sparse; the key of the step, saved with it, makes blocks 1 and 4 sparse.
        "steps": dict(
            lengths=([5, 3], [4, 7]),
            config=dict(vocab_size=23, d_model=8, d_kv=8, num_heads=1, d_ff=6, num_layers=3, num_decoder_layers=5,
                        num_sparse_encoder_layers=0, num_sparse_decoder_layers=1, decoder_sparse_step=3, num_experts=3),
        ),
    },
    "t5": {
        "relu": dict(
            lengths=([41, 23], [11, 9]),
            config=dict(vocab_size=37, d_model=12, d_kv=5, num_heads=3, d_ff=20, num_layers=3, num_decoder_layers=2),
        ),
        # T5 v1.1: gated, with an output layer of its own.
        "v1.1": dict(
            lengths=([19, 7], [6, 9]),
            config=dict(vocab_size=29, d_model=10, d_kv=3, num_heads=2, d_ff=14, num_layers=2, num_decoder_layers=4,
                        feed_forward_proj="gated-gelu", tie_word_embeddings=False, relative_attention_num_buckets=9,
                        relative_attention_max_distance=20, layer_norm_epsilon=1e-5),
        ),
        "silu": dict(
            lengths=([5, 3], [4, 7]),
            config=dict(vocab_size=23, d_model=7, d_kv=8, num_heads=1, d_ff=6, num_layers=1,
                        feed_forward_proj="gated-silu", pad_token_id=3, eos_token_id=4, decoder_start_token_id=5),
        ),
    },
}
CLASSES = {
    "switch_transformers": (transformers.SwitchTransformersConfig, transformers.SwitchTransformersForConditionalGeneration),
    "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration),
}
VERSIONS = {"switch_transformers": "4.57.", "t5": "5."}


def randomize(model):
    """Numbers that leave nothing at its start: norms that scale, biases that are not 0, outputs of about 1."""
    seen = set()
    for name, parameter in model.named_parameters():
        if parameter.data_ptr() in seen:
            continue
        seen.add(parameter.data_ptr())
        if parameter.dim() == 1 and "norm" in name:
            parameter.data = 1 + 0.3 * torch.randn_like(parameter)
        elif "shared" in name:
            parameter.data.copy_(torch.randn_like(parameter))
        else:
            parameter.data.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)


def create(kind, sizes, seed):
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[kind]
    config = config_class(**{"decoder_start_token_id": 0, **sizes})
    model = model_class(config).eval()
    if sizes.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    randomize(model)
    return model


def tokens_of(lengths, vocab_size, pad):
    mask = torch.zeros(BATCH, max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    ids = torch.randint(6, vocab_size, mask.shape)
    return torch.where(mask == 1, ids, pad), mask


def choices(router_outputs):
    """Expert of the largest logit, by sparse layer, and the logits."""
    found = [logits for logits, _ in (output for output in router_outputs if len(output[0].shape) > 1)]
    return torch.stack([logits.argmax(-1) for logits in found]).int()


@torch.no_grad()
def expect(model, kind, case):
    config = model.config
    source, source_mask = tokens_of(case["lengths"][0], config.vocab_size, config.pad_token_id)
    target, target_mask = tokens_of(case["lengths"][1], config.vocab_size, config.pad_token_id)
    target[:, 0] = config.decoder_start_token_id
    # The cache has as many layers as the encoder: a deeper decoder runs without one. Both ways say the same here, as
    # only the case "dropping" can run out of places.
    use_cache = config.num_decoder_layers <= config.num_layers
    out = model(input_ids=source, attention_mask=source_mask, decoder_input_ids=target, output_hidden_states=True,
                decoder_attention_mask=target_mask, use_cache=use_cache,
                **({"output_router_logits": True} if kind != "t5" else {}))
    generated = model.generate(input_ids=source, attention_mask=source_mask, max_new_tokens=16, do_sample=False,
                               num_beams=1, use_cache=use_cache, output_scores=True,
                               return_dict_in_generate=True)
    top = torch.stack([score.topk(2).values for score in generated.scores])
    # A token that wins by less would not be a test of ours but of rounding.
    is_clear = bool((top[..., 0] - top[..., 1]).min() > 1e-2)
    expected = {
        "source": source.int(), "source_mask": source_mask.float(),
        "target": target.int(), "target_mask": target_mask.float(),
        "encoder_states": out.encoder_last_hidden_state, "decoder_states": out.decoder_hidden_states[-1],
        "logits": out.logits, "generated": generated.sequences.int(),
    }
    if kind == "switch_transformers":
        for side in ("encoder", "decoder"):
            expected[f"{side}_experts"] = choices(getattr(out, f"{side}_router_logits"))
            for loss in ("z", "aux"):
                value = getattr(out, f"{side}_{loss}_loss")
                expected[f"{side}_{loss}_loss"] = torch.as_tensor(value, dtype=torch.float32).reshape(1)
    return {name: value.contiguous() for name, value in expected.items()}, is_clear


def main(kind):
    if not transformers.__version__.startswith(VERSIONS[kind]):
        sys.exit(f"{kind} is made with transformers {VERSIONS[kind]}x, not {transformers.__version__}")
    torch.set_num_threads(1)
    for name, case in CASES[kind].items():
        for seed in range(1, 100):
            model = create(kind, case["config"], seed)
            expected, is_clear = expect(model, kind, case)
            if is_clear:
                break
        folder = HERE / kind / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if kind == "switch_transformers" and not model.config.tie_word_embeddings:
            # Untied, transformers reads both tables of the stacks, but leaves out all but one of equal tensors.
            weights = load_file(folder / "model.safetensors")
            stacks = {f"{side}.embed_tokens.weight": weights["shared.weight"].clone() for side in ("encoder", "decoder")}
            save_file(weights | stacks, folder / "model.safetensors", metadata={"format": "pt"})
        save_file(expected, folder / "expected.safetensors")
        # What was saved is what ran.
        again, _ = CLASSES[kind][1].from_pretrained(folder, output_loading_info=True)
        rerun = again.eval()(input_ids=expected["source"].long(), attention_mask=expected["source_mask"].long(),
                             decoder_input_ids=expected["target"].long(),
                             decoder_attention_mask=expected["target_mask"].long(), use_cache=False)
        worst = (rerun.logits - expected["logits"]).abs().max().item()
        assert worst < 1e-5, f"{name}: reloaded it differs by {worst}"
        print(f"{kind}/{name}: seed {seed}, {len(load_file(folder / 'model.safetensors'))} tensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (HERE / kind / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CASES:
        sys.exit(f"usage: make-encoder-decoder-models.py {'|'.join(CASES)}")
    main(sys.argv[1])

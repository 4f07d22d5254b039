"""Tiny random decoders as `transformers` saves and runs them: what `src/checkpoints/` must read, and compute.

    pip install -r test/golden/requirements-decoders.txt && python test/golden/make-decoder-models.py

Every case is a folder `test/golden/decoders/<model_type>-<case>/` with `config.json` and `model.safetensors` as saved, and
`expected.safetensors`: what went in, and what came out in float32. Experts are stored one by one, or fused where a case
says so; the keys of rotary positions are those of this version, or of older ones where a case says so.
"""

import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent / "decoders"
LENGTHS = [11, 7]
NEW_TOKENS = 24

# Sizes are odd on purpose: heads that do not fill the hidden size, three heads, one key head for all, uneven widths.
CASES = {
    "llama": {
        "grouped": dict(vocab_size=37, hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=6,
                        num_key_value_heads=2, max_position_embeddings=48, rms_norm_eps=1e-5, rope_theta=500.0),
        "tied-biased": dict(vocab_size=29, hidden_size=10, intermediate_size=14, num_hidden_layers=2,
                            num_attention_heads=5, num_key_value_heads=1, head_dim=6, max_position_embeddings=64,
                            tie_word_embeddings=True, attention_bias=True, mlp_bias=True, hidden_act="gelu"),
        "stretched": dict(vocab_size=31, hidden_size=18, intermediate_size=9, num_hidden_layers=2, num_attention_heads=3,
                          max_position_embeddings=64, rope_theta=100.0,
                          rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                            original_max_position_embeddings=16)),
        "linear": dict(vocab_size=23, hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=1,
                       max_position_embeddings=40, rope_scaling=dict(rope_type="linear", factor=2.5), old_rotary=True),
    },
    "mixtral": {
        "grouped": dict(vocab_size=37, hidden_size=12, intermediate_size=10, num_hidden_layers=2, num_attention_heads=6,
                        num_key_value_heads=3, num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=48),
        "fused": dict(vocab_size=29, hidden_size=14, intermediate_size=9, num_hidden_layers=3, num_attention_heads=7,
                      num_key_value_heads=1, head_dim=4, num_local_experts=3, num_experts_per_tok=3,
                      max_position_embeddings=40, sliding_window=40, fused=True),
        "tied-single": dict(vocab_size=31, hidden_size=10, intermediate_size=7, num_hidden_layers=2, num_attention_heads=5,
                            num_key_value_heads=5, num_local_experts=7, num_experts_per_tok=1, tie_word_embeddings=True,
                            max_position_embeddings=64, old_rotary=True),
    },
    "olmoe": {
        "grouped": dict(vocab_size=37, hidden_size=12, intermediate_size=10, num_hidden_layers=2, num_attention_heads=6,
                        num_key_value_heads=2, num_experts=6, num_experts_per_tok=3, max_position_embeddings=48),
        "clipped": dict(vocab_size=29, hidden_size=18, intermediate_size=7, num_hidden_layers=2, num_attention_heads=3,
                        num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, clip_qkv=0.8, attention_bias=True,
                        max_position_embeddings=40),
        "fused": dict(vocab_size=31, hidden_size=10, intermediate_size=11, num_hidden_layers=3, num_attention_heads=1,
                      num_experts=9, num_experts_per_tok=4, tie_word_embeddings=True, max_position_embeddings=40,
                      fused=True),
    },
    "qwen2_moe": {
        "mixed": dict(vocab_size=37, hidden_size=12, intermediate_size=17, moe_intermediate_size=5,
                      shared_expert_intermediate_size=11, num_hidden_layers=4, num_attention_heads=6,
                      num_key_value_heads=2, num_experts=5, num_experts_per_tok=2, decoder_sparse_step=2,
                      mlp_only_layers=[3], max_position_embeddings=48),
        "listed": dict(vocab_size=29, hidden_size=14, intermediate_size=9, moe_intermediate_size=6,
                       shared_expert_intermediate_size=4, num_hidden_layers=3, num_attention_heads=7,
                       num_key_value_heads=7, num_experts=4, num_experts_per_tok=4, norm_topk_prob=True,
                       mlp_only_layers=[0], tie_word_embeddings=True, max_position_embeddings=40),
        "fused": dict(vocab_size=31, hidden_size=10, intermediate_size=8, moe_intermediate_size=7,
                      shared_expert_intermediate_size=9, num_hidden_layers=2, num_attention_heads=5,
                      num_key_value_heads=1, num_experts=6, num_experts_per_tok=3, qkv_bias=False,
                      max_position_embeddings=40, fused=True),
    },
    "qwen3_moe": {
        "wide-heads": dict(vocab_size=37, hidden_size=10, intermediate_size=17, moe_intermediate_size=5,
                           num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=8, num_experts=6,
                           num_experts_per_tok=2, norm_topk_prob=True, mlp_only_layers=[1], max_position_embeddings=48),
        "yarn": dict(vocab_size=29, hidden_size=14, intermediate_size=9, moe_intermediate_size=6, num_hidden_layers=2,
                     num_attention_heads=3, num_key_value_heads=1, head_dim=6, num_experts=4, num_experts_per_tok=3,
                     attention_bias=True, tie_word_embeddings=True, max_position_embeddings=64,
                     rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
        "fused": dict(vocab_size=31, hidden_size=12, intermediate_size=8, moe_intermediate_size=7, num_hidden_layers=2,
                      num_attention_heads=4, num_key_value_heads=4, head_dim=4, num_experts=5, num_experts_per_tok=1,
                      decoder_sparse_step=2, max_position_embeddings=40, fused=True),
    },
    "deepseek_v2": {
        "grouped": dict(vocab_size=37, hidden_size=12, intermediate_size=17, moe_intermediate_size=5, num_hidden_layers=3,
                        num_attention_heads=3, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=2,
                        v_head_dim=3, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2, n_group=3,
                        topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=1.7,
                        first_k_dense_replace=1, max_position_embeddings=48),
        "yarn": dict(vocab_size=29, hidden_size=15, intermediate_size=9, moe_intermediate_size=6, num_hidden_layers=2,
                     num_attention_heads=5, q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=2, qk_rope_head_dim=4,
                     v_head_dim=5, n_routed_experts=5, num_experts_per_tok=3, n_shared_experts=1,
                     attention_bias=True, max_position_embeddings=64, rope_theta=50.0,
                     rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.9,
                                       mscale_all_dim=0.6, beta_fast=8, beta_slow=2)),
        "fused": dict(vocab_size=31, hidden_size=8, intermediate_size=11, moe_intermediate_size=4, num_hidden_layers=2,
                      num_attention_heads=1, q_lora_rank=3, kv_lora_rank=4, qk_nope_head_dim=2, qk_rope_head_dim=6,
                      v_head_dim=7, n_routed_experts=4, num_experts_per_tok=1, n_shared_experts=3,
                      tie_word_embeddings=True, max_position_embeddings=40, fused=True),
    },
    "deepseek_v3": {
        "grouped": dict(vocab_size=37, hidden_size=12, intermediate_size=17, moe_intermediate_size=5, num_hidden_layers=3,
                        num_attention_heads=3, num_key_value_heads=3, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=2,
                        v_head_dim=3, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1, n_group=4,
                        topk_group=2, routed_scaling_factor=2.5, first_k_dense_replace=1, max_position_embeddings=48),
        "halves": dict(vocab_size=29, hidden_size=15, intermediate_size=9, moe_intermediate_size=6, num_hidden_layers=2,
                       num_attention_heads=5, num_key_value_heads=5, q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=3, qk_rope_head_dim=4,
                       v_head_dim=5, n_routed_experts=5, num_experts_per_tok=2, n_shared_experts=2, n_group=1,
                       topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=False, first_k_dense_replace=0,
                       rope_interleave=False, max_position_embeddings=64,
                       rope_scaling=dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=32, mscale=1.0,
                                         mscale_all_dim=1.0)),
        "fused": dict(vocab_size=31, hidden_size=8, intermediate_size=11, moe_intermediate_size=4, num_hidden_layers=3,
                      num_attention_heads=4, num_key_value_heads=4, q_lora_rank=6, kv_lora_rank=4, qk_nope_head_dim=2, qk_rope_head_dim=2,
                      v_head_dim=3, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1, n_group=2,
                      topk_group=1, first_k_dense_replace=2, attention_bias=True, max_position_embeddings=40, fused=True),
    },
}


def create(model_type, sizes, seed):
    torch.manual_seed(seed)
    sizes = {key: value for key, value in sizes.items() if key not in ("fused", "old_rotary")}
    config = AutoConfig.for_model(model_type, bos_token_id=None, eos_token_id=None, pad_token_id=None, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager").eval()
    seen = set()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.data_ptr() in seen or "inv_freq" in name:
            continue
        seen.add(tensor.data_ptr())
        # Numbers that leave nothing at its start: norms that scale, biases that are not 0, outputs of about 1.
        if "norm" in name:
            tensor.data = 1 + 0.3 * torch.randn_like(tensor)
        elif "e_score_correction_bias" in name:
            tensor.data = 0.2 * torch.randn_like(tensor)
        elif "embed_tokens" in name:
            tensor.data = torch.randn_like(tensor)
        else:
            tensor.data = torch.randn_like(tensor) * tensor.shape[-1] ** -0.5
    return model


@torch.no_grad()
def expect(model, recorded):
    config = model.config
    mask = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    tokens = torch.where(mask == 1, torch.randint(1, config.vocab_size, mask.shape), 0)
    recorded.clear()
    out = model(input_ids=tokens, attention_mask=mask)
    # Chosen experts of every sparse layer, in ascending order: some routers leave them unsorted.
    experts = [indices.reshape(*mask.shape, -1).sort(-1).values for indices in recorded]
    prompt = tokens[:1, : LENGTHS[0] // 2]
    generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS,
                               do_sample=False, output_scores=True, return_dict_in_generate=True)
    top = torch.stack([score.topk(2).values for score in generated.scores])
    # A token that wins by less would not be a test of ours but of rounding.
    is_clear = bool((top[..., 0] - top[..., 1]).min() > 1e-2)
    expected = {"tokens": tokens.int(), "mask": mask.float(), "logits": out.logits,
                "prompt": prompt.int(), "generated": generated.sequences.int()}
    if experts:
        expected["experts"] = torch.stack(experts).int()
    if experts and hasattr(config, "router_aux_loss_coef"):
        expected["aux_loss"] = model(input_ids=tokens, attention_mask=mask, labels=tokens,
                                     output_router_logits=True).aux_loss.reshape(1)
    return {name: value.contiguous() for name, value in expected.items()}, is_clear


def record_choices(model, recorded):
    for name, module in model.named_modules():
        if type(module).__name__.endswith(("TopKRouter", "TopkRouter")):
            module.register_forward_hook(lambda _module, _inputs, output: recorded.append(output[2]))


def main():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    for model_type, cases in CASES.items():
        for name, sizes in cases.items():
            for seed in range(1, 100):
                model = create(model_type, sizes, seed)
                recorded = []
                record_choices(model, recorded)
                expected, is_clear = expect(model, recorded)
                if is_clear:
                    break
            folder = HERE / f"{model_type}-{name}"
            model.save_pretrained(folder, **({"save_original_format": False} if sizes.get("fused") else {}))
            (folder / "generation_config.json").unlink(missing_ok=True)
            if sizes.get("old_rotary"):
                config = json.loads((folder / "config.json").read_text())
                parameters = config.pop("rope_parameters")
                config["rope_theta"] = parameters.pop("rope_theta")
                parameters["type"] = parameters.pop("rope_type")
                config["rope_scaling"] = None if parameters["type"] == "default" else parameters
                (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            save_file(expected, folder / "expected.safetensors")
            # What was saved is what ran.
            again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager").eval()
            with torch.no_grad():
                rerun = again(input_ids=expected["tokens"].long(), attention_mask=expected["mask"].long())
            worst = (rerun.logits - expected["logits"]).abs().max().item()
            assert worst < 1e-5, f"{folder.name}: reloaded it differs by {worst}"
            print(f"{folder.name}: seed {seed}, clear {is_clear}, {len(load_file(folder / 'model.safetensors'))} tensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()

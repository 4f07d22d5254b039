"""Turns a Hugging Face checkpoint of OLMoE's shape into a GGUF file for llama.cpp, matrices as Q4_0 or Q8_0.

    python make_gguf.py FOLDER OUT.gguf [--type Q4_0]

The vocabulary is made up: only ids are ever fed.
"""

import argparse
import json
import mmap
import pathlib
import struct

import gguf
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("out")
parser.add_argument("--type", default="Q4_0", choices=["Q4_0", "Q8_0"])
arguments = parser.parse_args()
config = json.loads((arguments.folder / "config.json").read_text())
kind = gguf.GGMLQuantizationType[arguments.type]

file = open(arguments.folder / "model.safetensors", "rb")
(length,) = struct.unpack("<Q", file.read(8))
header = json.loads(file.read(length))
data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read(name):
    begin, end = header[name]["data_offsets"]
    return numpy.frombuffer(data, numpy.float32, (end - begin) // 4, 8 + length + begin).reshape(header[name]["shape"])


writer = gguf.GGUFWriter(arguments.out, "olmoe")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(config["num_attention_heads"])
writer.add_head_count_kv(config["num_key_value_heads"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_rope_freq_base(config["rope_theta"])
writer.add_expert_count(config["num_experts"])
writer.add_expert_used_count(config["num_experts_per_tok"])
writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{arguments.type}"])
vocabulary = config["vocab_size"]
writer.add_tokenizer_model("llama")
writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *(f"t{i}" for i in range(259, vocabulary))])
writer.add_token_scores([0.0] * vocabulary)
normal, byte = gguf.TokenType.NORMAL, gguf.TokenType.BYTE
writer.add_token_types([gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *([byte] * 256), *([normal] * (vocabulary - 259))])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)


def add(name, weight, quantise=True):
    if not quantise:
        writer.add_tensor(name, weight.astype(numpy.float32))
        return
    writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)


add("token_embd.weight", read("model.embed_tokens.weight"))
add("output_norm.weight", read("model.norm.weight"), False)
add("output.weight", read("lm_head.weight"))
for layer in range(config["num_hidden_layers"]):
    theirs, ours = f"model.layers.{layer}", f"blk.{layer}"
    add(f"{ours}.attn_norm.weight", read(f"{theirs}.input_layernorm.weight"), False)
    add(f"{ours}.ffn_norm.weight", read(f"{theirs}.post_attention_layernorm.weight"), False)
    add(f"{ours}.attn_q_norm.weight", read(f"{theirs}.self_attn.q_norm.weight"), False)
    add(f"{ours}.attn_k_norm.weight", read(f"{theirs}.self_attn.k_norm.weight"), False)
    for part, own in (("q_proj", "attn_q"), ("k_proj", "attn_k"), ("v_proj", "attn_v"), ("o_proj", "attn_output")):
        add(f"{ours}.{own}.weight", read(f"{theirs}.self_attn.{part}.weight"))
    add(f"{ours}.ffn_gate_inp.weight", read(f"{theirs}.mlp.gate.weight"), False)
    for part in ("gate", "up", "down"):
        experts = [
            gguf.quants.quantize(read(f"{theirs}.mlp.experts.{expert}.{part}_proj.weight"), kind)
            for expert in range(config["num_experts"])
        ]
        writer.add_tensor(f"{ours}.ffn_{part}_exps.weight", numpy.stack(experts), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

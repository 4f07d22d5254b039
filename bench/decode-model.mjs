/**
 * A checkpoint of OLMoE's shape in Hugging Face's format with seeded random weights, for benchmarks: every library can open
 * the same one. Fewer layers and a smaller vocabulary than OLMoE, so that it fits.
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { saveSafetensors } from '../dist/checkpoints/index.js';
import { RandomStream } from '../dist/nn/index.js';

export const olmoeShape = {
  hidden_size: 2048,
  intermediate_size: 1024,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  num_experts: 64,
  num_experts_per_tok: 8,
  vocab_size: 8192,
  max_position_embeddings: 512,
};

/** Weights that one token multiplies with. */
export function activeWeights(layers) {
  const {
    hidden_size: width,
    intermediate_size: inner,
    num_experts,
    num_experts_per_tok,
    vocab_size,
  } = olmoeShape;
  const dense = layers * (4 * width * width + num_experts * width) + vocab_size * width;
  return { experts: layers * num_experts_per_tok * 3 * width * inner, dense };
}

/** Writes the folder if it is not there. */
export async function makeModel(folder, layers) {
  if (existsSync(folder)) return;
  const making = `${folder}.making`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(making, { recursive: true });
  const { hidden_size: width, intermediate_size: inner, num_experts, vocab_size } = olmoeShape;
  const random = new RandomStream(1);
  // As many different numbers as a matrix has; every tensor begins elsewhere among them.
  const noise = Float32Array.from({ length: (1 << 22) + 77 }, () => 0.07 * (random.uniform() - 0.5));
  let count = 0;
  const tensor = (name, shape) => ({
    name,
    dtype: 'F32',
    shape,
    data: () => {
      const values = new Float32Array(shape.reduce((a, b) => a * b));
      if (shape.length === 1) return values.fill(1);
      let from = (count++ * 1_000_003) % noise.length;
      for (let at = 0; at < values.length; from = 0) {
        const part = noise.subarray(from, from + values.length - at);
        values.set(part, at);
        at += part.length;
      }
      return values;
    },
  });
  const tensors = [tensor('model.embed_tokens.weight', [vocab_size, width])];
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}`;
    for (const part of 'qkvo') tensors.push(tensor(`${name}.self_attn.${part}_proj.weight`, [width, width]));
    for (const part of [
      'self_attn.q_norm',
      'self_attn.k_norm',
      'input_layernorm',
      'post_attention_layernorm',
    ]) {
      tensors.push(tensor(`${name}.${part}.weight`, [width]));
    }
    tensors.push(tensor(`${name}.mlp.gate.weight`, [num_experts, width]));
    for (let expert = 0; expert < num_experts; expert++) {
      const at = `${name}.mlp.experts.${expert}`;
      tensors.push(
        tensor(`${at}.gate_proj.weight`, [inner, width]),
        tensor(`${at}.up_proj.weight`, [inner, width]),
      );
      tensors.push(tensor(`${at}.down_proj.weight`, [width, inner]));
    }
  }
  tensors.push(tensor('model.norm.weight', [width]), tensor('lm_head.weight', [vocab_size, width]));
  await saveSafetensors(join(making, 'model.safetensors'), tensors, { metadata: { format: 'pt' } });
  const config = {
    architectures: ['OlmoeForCausalLM'],
    model_type: 'olmoe',
    ...olmoeShape,
    num_hidden_layers: layers,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    norm_topk_prob: false,
    tie_word_embeddings: false,
    attention_bias: false,
    clip_qkv: null,
    bos_token_id: 1,
    eos_token_id: 0,
    pad_token_id: 0,
    torch_dtype: 'float32',
  };
  writeFileSync(join(making, 'config.json'), JSON.stringify(config, undefined, 2));
  renameSync(making, folder);
}

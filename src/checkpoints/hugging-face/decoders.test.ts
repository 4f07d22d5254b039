import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../json.js';
import { openCheckpoint } from '../model-folder/checkpoint.js';
import { readParameters } from '../model-folder/read-parameters.js';
import { saveSafetensors, type NamedTensor } from '../safetensors/index.js';
import { openTensors } from '../tensors/index.js';
import { ConfigReader } from './config-reader.js';
import { configText } from './config-text.js';
import { architectures } from './index.js';

const golden = join(import.meta.dirname, '../../../test/golden/decoders');
let root: string;
let next = 0;
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'decoders-'))));
afterAll(() => rm(root, { recursive: true }));

const configOf = (name: string): JsonObject =>
  JSON.parse(readFileSync(join(golden, name, 'config.json'), 'utf8')) as JsonObject;

/** What opening a golden folder says once its configuration is another. */
async function refusal(name: string, change: JsonObject): Promise<string> {
  const folder = join(root, String(next++));
  cpSync(join(golden, name), folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...configOf(name), ...change }));
  const opened = await openCheckpoint(folder).catch((error: unknown) => error as Error);
  if (!(opened instanceof Error)) {
    await opened.close();
    return expect.unreachable('it was opened');
  }
  expect(opened.name).toBe('ModelFolderError');
  expect(opened.message).not.toContain('\n');
  return opened.message;
}

/** Changes the tensors of a folder. */
async function rewrite(
  folder: string,
  change: (tensors: readonly NamedTensor[]) => readonly NamedTensor[],
): Promise<void> {
  const source = await openTensors(folder);
  const tensors: NamedTensor[] = [];
  for (const { name, dtype, shape } of source.tensors.values())
    tensors.push({ name, dtype, shape, data: await source.read(name) });
  await source.close();
  await saveSafetensors(join(folder, 'model.safetensors'), change(tensors));
}

describe('D2.20: a configuration that disagrees with the tensors is refused with both numbers', () => {
  test.each<[string, JsonObject, string]>([
    ['mixtral-grouped', { num_local_experts: 4 }, 'config.json asks for 4 experts, but the tensors hold 5'],
    ['mixtral-grouped', { num_local_experts: 6 }, 'config.json asks for 6 experts, but the tensors hold 5'],
    ['mixtral-fused', { num_local_experts: 4 }, 'gate_up_proj" is [3, 18, 14] instead of [4, 18, 14]'],
    [
      'olmoe-grouped',
      { num_experts: 1e9 },
      'config.json asks for 1000000000 experts, but the tensors hold 6',
    ],
    ['olmoe-fused', { num_experts: 1e9 }, 'config.json asks for 1000000000 experts, which no model has'],
    ['mixtral-grouped', { num_experts_per_tok: 6 }, 'topK 6 is more than numExperts 5'],
    ['deepseek_v3-grouped', { num_experts_per_tok: 9 }, 'topK 9 is more than numExperts 8'],
    [
      'deepseek_v3-grouped',
      { num_experts_per_tok: 5 },
      'topK 5 is more than the 4 experts of groups.chosen 2',
    ],
    ['deepseek_v3-grouped', { n_group: 3 }, 'numExperts 8 is not divisible by groups.count 3'],
    ['llama-grouped', { hidden_size: 18 }, 'embed_tokens.weight" is [37, 12] instead of [37, 18]'],
    ['llama-grouped', { vocab_size: 38 }, 'embed_tokens.weight" is [37, 12] instead of [38, 12]'],
    ['llama-grouped', { intermediate_size: 21 }, 'gate_proj.weight" is [20, 12] instead of [21, 12]'],
    ['llama-grouped', { num_key_value_heads: 3 }, 'k_proj.weight" is [4, 12] instead of [6, 12]'],
    ['qwen2_moe-mixed', { moe_intermediate_size: 6 }, 'gate_proj.weight" is [5, 12] instead of [6, 12]'],
    ['qwen2_moe-mixed', { mlp_only_layers: [] }, 'missing model.layers.3.mlp.gate.weight'],
    ['qwen3_moe-wide-heads', { head_dim: 6 }, 'q_proj.weight" is [48, 10] instead of [36, 10]'],
    ['deepseek_v2-grouped', { kv_lora_rank: 8 }, 'kv_a_proj_with_mqa.weight" is [8, 12] instead of [10, 12]'],
    ['deepseek_v2-grouped', { q_lora_rank: null }, 'missing model.layers.0.self_attn.q_proj.weight'],
    ['deepseek_v2-grouped', { first_k_dense_replace: 2 }, 'missing model.layers.1.mlp.gate_proj.weight'],
    ['llama-grouped', { num_hidden_layers: 2 }, 'not expected model.layers.2.'],
    ['llama-grouped', { num_hidden_layers: 4 }, 'missing model.layers.3.'],
    ['llama-tied-biased', { tie_word_embeddings: false }, 'missing lm_head.weight'],
  ])('%s, %j', async (name, change, message) => {
    expect(await refusal(name, change)).toContain(message);
  });
});

describe('keys that would change the model are refused by name', () => {
  const latent = 'deepseek_v2-grouped';
  test.each<[string, JsonObject, string]>([
    [
      'llama-grouped',
      { rope_parameters: { rope_type: 'dynamic', factor: 2 } },
      'rope_type is "dynamic"; expected one of',
    ],
    [
      'llama-grouped',
      { rope_parameters: { rope_type: 'longrope' } },
      'rope_type is "longrope"; expected one of',
    ],
    ['llama-grouped', { rope_parameters: { rope_type: 'linear' } }, 'rope_parameters: factor is missing'],
    [
      'llama-grouped',
      { rope_parameters: { rope_type: 'linear', factor: 2, attention_factor: 3 } },
      'linear scaling has no "attention_factor" (here 3)',
    ],
    ['llama-grouped', { rope_scaling: { type: 'linear', factor: 2 } }, 'both set the angles; keep one'],
    ['llama-grouped', { rope_theta: 7 }, 'rope_theta is 7, but 500 in rope_parameters'],
    ['llama-grouped', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor 0.5 is not supported'],
    ['llama-grouped', { hidden_act: 'quick_gelu' }, 'hidden_act is "quick_gelu"; expected one of silu'],
    ['llama-grouped', { sliding_window: 4 }, 'llama has no "sliding_window" (here 4)'],
    ['llama-grouped', { quantization_config: { quant_method: 'fp8' } }, 'quantised weights are not read'],
    ['mixtral-grouped', { sliding_window: 4 }, 'sliding_window 4 hides tokens of a text of 48'],
    ['qwen2_moe-mixed', { use_sliding_window: true, sliding_window: 4 }, 'sliding_window 4 hides tokens'],
    ['qwen2_moe-mixed', { layer_types: ['sliding_attention'] }, 'layer_types has others than full_attention'],
    [
      'qwen2_moe-mixed',
      { mlp_only_layers: [-1] },
      'mlp_only_layers is [-1]; expected a list of whole numbers',
    ],
    [latent, { norm_topk_prob: true }, 'norm_topk_prob true is not supported; only false'],
    [latent, { scoring_func: 'sigmoid' }, 'scoring_func "sigmoid" is not supported; only "softmax"'],
    [
      latent,
      { topk_method: 'noaux_tc' },
      'topk_method is "noaux_tc"; expected one of greedy, group_limited_greedy',
    ],
    [latent, { topk_group: null }, 'n_group is 3, but topk_group is missing'],
    [latent, { moe_layer_freq: 2 }, 'moe_layer_freq 2 is not supported'],
    [latent, { num_key_value_heads: 1 }, 'num_key_value_heads 1 differs from num_attention_heads 3'],
    ['deepseek_v3-grouped', { scoring_func: 'softmax' }, 'scoring_func "softmax" is not supported'],
    ['olmoe-clipped', { clip_qkv: 'much' }, 'clip_qkv is "much"; expected a number'],
    ['olmoe-clipped', { attention_bias: 1 }, 'attention_bias is 1; expected true or false'],
  ])('%s, %j', async (name, change, message) => expect(await refusal(name, change)).toContain(message));
});

test('a tied table may lie there under both names, with the same numbers', async () => {
  const folder = join(root, String(next++));
  cpSync(join(golden, 'llama-grouped'), folder, { recursive: true });
  const config = { ...configOf('llama-grouped'), tie_word_embeddings: true };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const checkpoint = await openCheckpoint(folder);
  await expect(readParameters(checkpoint, new Map())).rejects.toThrow(
    '"model.embed_tokens.weight" and "lm_head.weight" are one in this model, but their numbers differ',
  );
  await checkpoint.close();
  await rewrite(folder, (tensors) =>
    tensors.map((tensor) =>
      tensor.name === 'lm_head.weight'
        ? { ...tensor, data: tensors.find(({ name }) => name === 'model.embed_tokens.weight')!.data }
        : tensor,
    ),
  );
  const same = await openCheckpoint(folder);
  await readParameters(same, new Map());
  await same.close();
});

test('a window as long as the longest text hides nothing', async () => {
  const checkpoint = await openCheckpoint(join(golden, 'mixtral-fused'));
  expect(checkpoint.config['sliding_window']).toBe(40);
  await checkpoint.close();
});

test('modules that predict further tokens ahead are left unread, other layers are not', async () => {
  const folder = join(root, String(next++));
  cpSync(join(golden, 'deepseek_v3-grouped'), folder, { recursive: true });
  const extra = (name: string): NamedTensor => ({
    name,
    dtype: 'F32',
    shape: [1],
    data: new Float32Array(1),
  });
  await rewrite(folder, (tensors) => [...tensors, extra('model.layers.3.embed_tokens.weight')]);
  await expect(openCheckpoint(folder)).rejects.toThrow('not expected model.layers.3.embed_tokens.weight');
  await rewrite(folder, (tensors) => [...tensors, extra('model.layers.3.eh_proj.weight')]);
  await (await openCheckpoint(folder)).close();
});

test('tables of angles that older versions saved are left unread', () => {
  for (const { modelType, ignores } of architectures.filter((each) => !/t5|switch/.test(each.modelType))) {
    const options = architectures
      .find((each) => each.modelType === modelType)!
      .readConfig(
        new ConfigReader(
          configOf(
            `${modelType}-${modelType === 'qwen2_moe' ? 'mixed' : modelType === 'qwen3_moe' ? 'yarn' : 'grouped'}`,
          ),
          'here',
        ),
      );
    expect(ignores?.('model.layers.0.self_attn.rotary_emb.inv_freq', options, new Set()), modelType).toBe(
      true,
    );
    expect(ignores?.('model.layers.0.self_attn.q_proj.weight', options, new Set()), modelType).toBe(false);
  }
});

test('numbers that Python takes as floats keep their point', () => {
  const text = configText({
    attention_dropout: 0,
    num_experts: 4,
    rope_scaling: { factor: 2, rope_type: 'linear' },
    rope_theta: 1e6,
    rms_norm_eps: 1e-6,
  });
  expect(text).toContain('"attention_dropout": 0.0,');
  expect(text).toContain('"num_experts": 4,');
  expect(text).toContain('"factor": 2.0,');
  expect(text).toContain('"rope_theta": 1000000.0,');
  expect(JSON.parse(text)).toMatchObject({
    attention_dropout: 0,
    rope_scaling: { factor: 2 },
    rms_norm_eps: 1e-6,
  });
});

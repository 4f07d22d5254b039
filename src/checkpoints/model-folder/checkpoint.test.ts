import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createModel } from '../../models/index.js';
import { parseOptions } from '../hugging-face/options.js';
import { saveSafetensors, type NamedTensor } from '../safetensors/index.js';
import { openCheckpoint } from './checkpoint.js';
import { expertLayers } from './expert-layers.js';

let folder: string;
let next = 0;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'checkpoint-'))));
afterAll(() => rm(folder, { recursive: true }));

const llama = {
  model_type: 'llama',
  vocab_size: 7,
  hidden_size: 6,
  intermediate_size: 5,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  num_key_value_heads: 1,
  max_position_embeddings: 8,
};

/** Tensors `shapes` whose elements count up from 0 over all of them. */
function counted(shapes: Readonly<Record<string, readonly number[]>>): NamedTensor[] {
  let at = 0;
  return Object.entries(shapes).map(([name, shape]) => {
    const length = shape.reduce((a, b) => a * b, 1);
    at += length;
    return { name, dtype: 'F32', shape, data: Float32Array.from({ length }, (_, i) => at - length + i) };
  });
}

function llamaShapes(): Record<string, number[]> {
  const shapes: Record<string, number[]> = { 'model.embed_tokens.weight': [7, 6] };
  for (const layer of [0, 1]) {
    const prefix = `model.layers.${layer}`;
    Object.assign(shapes, {
      [`${prefix}.input_layernorm.weight`]: [6],
      [`${prefix}.self_attn.q_proj.weight`]: [6, 6],
      [`${prefix}.self_attn.k_proj.weight`]: [2, 6],
      [`${prefix}.self_attn.v_proj.weight`]: [2, 6],
      [`${prefix}.self_attn.o_proj.weight`]: [6, 6],
      [`${prefix}.post_attention_layernorm.weight`]: [6],
      [`${prefix}.mlp.gate_proj.weight`]: [5, 6],
      [`${prefix}.mlp.up_proj.weight`]: [5, 6],
      [`${prefix}.mlp.down_proj.weight`]: [6, 5],
    });
  }
  return { ...shapes, 'model.norm.weight': [6], 'lm_head.weight': [7, 6] };
}

async function makeFolder(config: object, tensors: readonly NamedTensor[]): Promise<string> {
  const path = await mkdtemp(join(folder, `${next++}-`));
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  await saveSafetensors(join(path, 'model.safetensors'), tensors);
  return path;
}

test('a Hugging Face folder: options, and every parameter from the tensor that it is', async () => {
  const tensors = counted(llamaShapes());
  const checkpoint = await openCheckpoint(await makeFolder(llama, tensors));
  expect(checkpoint.options).toMatchObject({ kind: 'languageModel', numLayers: 2, activation: 'swiglu' });
  const names = [...createModel(checkpoint.options).parameters().keys()];
  expect(checkpoint.mapping.flatMap(({ parts }) => parts.map(({ parameter }) => parameter))).toEqual(names);
  const key = await checkpoint.readParameter('blocks.1.attention.key.weight');
  expect(key).toEqual(tensors.find(({ name }) => name === 'model.layers.1.self_attn.k_proj.weight')!.data);
  await checkpoint.close();
});

describe('experts', () => {
  const input = {
    hiddenSize: 4,
    numLayers: 1,
    numHeads: 2,
    intermediateSize: 3,
    contextLength: 4,
    vocabSize: 5,
  };
  const options = { ...input, activation: 'swiglu', sparse: { numExperts: 3 } };

  test('our own folder: experts as torch.nn.Linear lays them out', async () => {
    const parsed = parseOptions(options, 'here');
    const shapes = [...createModel(parsed).parameters()].map(([name, { shape }]) => [name, shape] as const);
    const tensors = counted(Object.fromEntries(shapes));
    const path = await makeFolder({ model_type: 'switchyard_language_model', ...options }, tensors);
    const checkpoint = await openCheckpoint(path);
    const [layer, ...others] = expertLayers(checkpoint);
    expect(others).toEqual([]);
    const described = { numExperts: 3, hiddenSize: 4, intermediateSize: 3, gated: true, bias: false };
    expect(layer).toMatchObject({ name: 'blocks.0', bank: 'blocks.0.feedForward.experts', ...described });
    const { up, down } = await layer.readExpert(2);
    const stored = (name: string): number =>
      tensors.find((tensor) => tensor.name.endsWith(name))!.data[0] as number;
    // Row 1 of `up` is column 1 of the stored [in, out]: from element 24 of the bank, in steps of 3.
    expect([...up.subarray(4, 8)]).toEqual([25, 28, 31, 34].map((at) => stored('experts.up') + at));
    expect([...down.subarray(3, 6)]).toEqual([25, 29, 33].map((at) => stored('experts.down') + at));
    await checkpoint.close();
  });
});

describe('refused in one line', () => {
  test.each<[string, object, (shapes: Record<string, number[]>) => void, string]>([
    ['a missing tensor', {}, (shapes) => delete shapes['model.norm.weight'], 'missing model.norm.weight'],
    ['a tensor too many', {}, (shapes) => (shapes['extra'] = [1]), 'not expected extra'],
    [
      'another width',
      { hidden_size: 12 },
      () => undefined,
      '"model.embed_tokens.weight" is [7, 6] instead of [7, 12]',
    ],
    ['an unknown key', { logit_softcap: 30 }, () => undefined, 'llama has no "logit_softcap" (here 30)'],
    ['an unknown type', { model_type: 'gpt' }, () => undefined, 'model_type "gpt" is not known'],
    [
      'more layers than tensors',
      { num_hidden_layers: 1e9 },
      () => undefined,
      '1000000000 layers, but there are 21 tensors',
    ],
    [
      'an odd number of heads',
      { num_attention_heads: 4 },
      () => undefined,
      'hiddenSize 6 is not divisible by numHeads 4',
    ],
    [
      'a size in words',
      { hidden_size: 'six' },
      () => undefined,
      'hidden_size is "six"; expected a whole number',
    ],
  ])('%s', async (_, config, change, message) => {
    const shapes = llamaShapes();
    change(shapes);
    const path = await makeFolder({ ...llama, ...config }, counted(shapes));
    const error = await openCheckpoint(path).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).name).toBe('ModelFolderError');
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain('\n');
  });
});

import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createModel, modelSchema, type ModelOptions } from '../../models/index.js';
import { exportHuggingFace, importCheckpoint } from '../convert/index.js';
import { fitArchitecture } from '../convert/fit.js';
import type { JsonObject } from '../json.js';
import { openTensors } from '../tensors/index.js';
import { ConfigReader } from './config-reader.js';
import { isUnusedBias } from './encoder-decoder.js';
import { switchTransformers } from './switch-transformers.js';
import { t5 } from './t5.js';

const golden = join(import.meta.dirname, '../../../test/golden');
const cases = [
  ...['balanced', 'dropping', 'steps', 'untied'].map((name) => `switch_transformers/${name}`),
  ...['relu', 'silu', 'v1.1'].map((name) => `t5/${name}`),
];
const configOf = (name: string): JsonObject =>
  JSON.parse(readFileSync(join(golden, name, 'config.json'), 'utf8')) as JsonObject;
const architectureOf = (name: string) => (name.startsWith('t5') ? t5 : switchTransformers);

function read(name: string, change: JsonObject = {}) {
  return architectureOf(name).readConfig(new ConfigReader({ ...configOf(name), ...change }, 'config.json'));
}

describe('configuration', () => {
  test.each(cases)('%s: what is written reads back as it was', (name) => {
    const options = read(name);
    const written = architectureOf(name).writeConfig(options);
    expect(architectureOf(name).readConfig(new ConfigReader(written, 'again'))).toEqual(options);
  });

  test.each<[string, JsonObject, string]>([
    [
      't5/relu',
      { feed_forward_proj: 'gated-tanh' },
      'feed_forward_proj is "gated-tanh"; expected one of relu',
    ],
    ['t5/relu', { num_decoder_layers: 2e9 }, 'a stack of 2000000000 layers is more than any model has'],
    ['switch_transformers/steps', { num_layers: 2e9 }, 'a stack of 2000000000 layers'],
    ['t5/relu', { d_model: null }, 'd_model is missing'],
    ['t5/relu', { sliding_window: 5 }, 't5 has no "sliding_window" (here 5)'],
    ['t5/relu', { relative_attention_max_distance: 16 }, 'maxDistance 16 is not beyond the 16 distances'],
    [
      'switch_transformers/steps',
      { dense_act_fn: 'gated-gelu' },
      'dense_act_fn is "gated-gelu"; expected one of',
    ],
    ['switch_transformers/steps', { is_gated_act: true }, 'is_gated_act true is not supported; only false'],
    ['switch_transformers/steps', { router_dtype: 'bfloat16' }, 'router_dtype "bfloat16" is not supported'],
    [
      'switch_transformers/steps',
      { num_selected_experts: 2 },
      'num_selected_experts 2 is not supported; only 1',
    ],
    [
      'switch_transformers/steps',
      { batch_prioritized_routing: true },
      'batch_prioritized_routing true is not',
    ],
    ['switch_transformers/steps', { num_experts: 0 }, 'num_experts is 0; expected a whole number above 0'],
  ])('%s with %j is refused', (name, change, message) => {
    expect(() => read(name, change)).toThrow(message);
  });

  test('what google wrote beside: keys of no consequence are passed over', () => {
    const keys = {
      n_positions: 512,
      feed_forward_proj: 'relu',
      router_type: 'tokens_masked',
      add_router_probs: false,
    };
    expect(read('switch_transformers/dropping', keys)).toMatchObject({ contextLength: 512 });
  });

  // transformers: step = layers // sparse layers, blocks i with i % step = 1; all for 1, none for 0.
  test.each([
    { layers: 12, sparse: 6, blocks: [1, 3, 5, 7, 9, 11] },
    { layers: 12, sparse: 3, blocks: [1, 5, 9] },
    { layers: 5, sparse: 2, blocks: [1, 3] },
    { layers: 8, sparse: 3, blocks: [1, 3, 5, 7] },
    { layers: 3, sparse: 2, blocks: [0, 1, 2] },
    { layers: 4, sparse: 0, blocks: [1] },
    { layers: 1, sparse: 0, blocks: [0] },
    { layers: 2, sparse: 3, blocks: [] },
    { layers: 6, sparse: 2, step: 0, blocks: [] },
    { layers: 6, sparse: 2, step: 5, blocks: [1] },
  ])(
    '$sparse sparse of $layers layers, step $step: blocks $blocks, in each stack',
    ({ layers, sparse, step, blocks }) => {
      const one = {
        num_layers: layers,
        num_sparse_encoder_layers: sparse,
        encoder_sparse_step: step ?? null,
      };
      const other = { num_decoder_layers: 3, num_sparse_decoder_layers: 1, decoder_sparse_step: null };
      const options = read('switch_transformers/steps', { ...one, ...other });
      const parameters = [...createModel(options).parameters().keys()];
      const found = parameters
        .filter((name) => name.endsWith('.experts.up'))
        .map((name) => name.split('.feed')[0]);
      expect(found).toEqual([...blocks.map((block) => `encoder.blocks.${block}`), 'decoder.blocks.1']);
      const written = switchTransformers.writeConfig(options);
      expect(switchTransformers.readConfig(new ConfigReader(written, 'again'))).toEqual(options);
    },
  );

  test('places for the longest sequence are places for everyone', () => {
    const dispatch = (change: JsonObject): unknown => {
      const { sparse } = read('switch_transformers/steps', change) as ModelOptions;
      return sparse?.kind === 'experts' ? sparse.dispatch : undefined;
    };
    expect(dispatch({ expert_capacity: 511 })).toMatchObject({
      kind: 'capacity',
      capacity: 511,
      group: 'sequence',
    });
    expect(dispatch({ expert_capacity: 512 })).toEqual({ kind: 'dropless' });
    expect(dispatch({ expert_capacity: 512, n_decoder_positions: 513 })).toMatchObject({ kind: 'capacity' });
  });
});

describe('a model of ours', () => {
  const like = {
    kind: 'encoderDecoder',
    vocabSize: 11,
    hiddenSize: 8,
    numEncoderLayers: 2,
    numDecoderLayers: 3,
    numHeads: 2,
    intermediateSize: 6,
    contextLength: 16,
    targetLength: 12,
    attentionScale: 1,
    scaleLogits: true,
    dropout: 0.1,
  };
  const fit = (change: object) => {
    const options = modelSchema.parse({ ...like, ...change }) as ModelOptions;
    return fitArchitecture(options, 'switch_transformers', 'model');
  };
  const sparse = { every: 2, numExperts: 3 };

  test('trained as a recipe says is a Switch Transformer, and a T5 without experts', () => {
    const { config } = fit({ sparse });
    expect(config).toMatchObject({
      encoder_sparse_step: 2,
      decoder_sparse_step: 2,
      num_sparse_encoder_layers: 1,
      expert_capacity: 16,
      n_positions: 16,
      n_decoder_positions: 12,
    });
    const dense = modelSchema.parse(like) as ModelOptions;
    expect(fitArchitecture(dense, undefined, 'model').architecture).toBe(t5);
  });

  test.each<[string, object, string]>([
    [
      'places by a factor',
      { sparse: { ...sparse, dispatch: { kind: 'capacity' } } },
      'a fixed number of places per sequence',
    ],
    ['two choices', { sparse: { ...sparse, topK: 2 } }, 'num_selected_experts 2 is not supported'],
    ['every third block', { sparse: { ...sparse, every: 3 } }, 'not 2'],
    ['another router', { sparse: { ...sparse, router: { kind: 'sigmoid' } } }, 'no router of kind sigmoid'],
    ['another layer', { sparse: { kind: 'topKActivation', topK: 2 } }, 'no layers of kind topKActivation'],
    ['a gate', { sparse, activation: 'swiglu' }, 'there is no activation swiglu'],
    ['scaled scores', { sparse, attentionScale: null }, 'it has attentionScale 1, not'],
    [
      'gates that sum to 1',
      { sparse: { ...sparse, router: { kind: 'softmax', normalizeGates: true } } },
      'normalizeGates false, not',
    ],
    ['unscaled states', { sparse, scaleLogits: false }, 'it has scaleLogits true, not'],
    ['biases', { sparse, bias: true }, 'it has bias false, not'],
  ])('with %s is none', (_, change, message) => {
    expect(() => fit(change)).toThrow(message);
  });
});

describe('round trip', () => {
  let root: string;
  beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'encoder-decoder-'))));
  afterAll(() => rm(root, { recursive: true }));

  // Every tensor of the first is there again, once, with the same bytes; and nothing else.
  test.each(cases)('%s into a folder of ours and back: every tensor the same', async (name) => {
    const [ours, back] = ['ours', 'back'].map((part) => join(root, `${name.replace('/', '-')}-${part}`));
    await importCheckpoint(join(golden, name), ours!);
    await exportHuggingFace(ours!, back!);
    const [before, after] = [await openTensors(join(golden, name)), await openTensors(back!)];
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    for (const tensor of before.tensors.keys())
      expect(await after.read(tensor), tensor).toEqual(await before.read(tensor));
    await before.close();
    await after.close();
    const written = JSON.parse(readFileSync(join(back!, 'config.json'), 'utf8')) as JsonObject;
    expect(architectureOf(name).readConfig(new ConfigReader(written, 'again'))).toEqual(read(name));
    expect(written['architectures']).toEqual(configOf(name)['architectures']);
  });

  test('a bias that early versions of transformers saved and never used is passed over', () => {
    expect(isUnusedBias('decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight')).toBe(true);
    expect(isUnusedBias('decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight')).toBe(false);
  });
});

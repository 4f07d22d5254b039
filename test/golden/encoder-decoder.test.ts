import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint, SafetensorsFile } from '../../src/checkpoints/index.js';
import { Generator } from '../../src/decode/index.js';
import { cast, concat, input, reshape, type Tensor } from '../../src/graph/index.js';
import { createModel, EncoderDecoder } from '../../src/models/index.js';
import { balanceLoss, type RoutingRecord } from '../../src/moe/index.js';
import { evaluationContext, nameParameters } from '../../src/nn/index.js';
import { run, type Feeds } from '../support/numbers.js';
import { matrix } from '../support/reference-moe.js';

/** Sequences in each case. */
const BATCH = 2;

const here = import.meta.dirname;
const cases = ['switch_transformers', 't5'].flatMap((kind) =>
  readdirSync(join(here, kind), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(kind, name)),
);

type Expected = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>;

async function readExpected(folder: string): Promise<Expected> {
  const file = await SafetensorsFile.open(join(folder, 'expected.safetensors'));
  const found = new Map<string, { shape: readonly number[]; data: ArrayLike<number> }>();
  for (const { name, shape } of file.tensors.values())
    found.set(name, { shape, data: (await file.read(name)) as ArrayLike<number> });
  await file.close();
  return found;
}

async function open(name: string) {
  const folder = join(here, name);
  const checkpoint = await openCheckpoint(folder);
  const model = createModel(checkpoint.options);
  if (!(model instanceof EncoderDecoder)) throw new Error(`${name} is no encoder–decoder`);
  const weights = new Map<string, Float32Array>();
  for (const parameter of model.parameters().keys())
    weights.set(parameter, await checkpoint.readParameter(parameter));
  await checkpoint.close();
  nameParameters(model);
  return { model, weights, expected: await readExpected(folder) };
}

function trace(model: EncoderDecoder, expected: Expected) {
  const leaf = (name: string, dtype: 'int32' | 'float32') => input(name, dtype, expected.get(name)!.shape);
  return model.forward(
    {
      source: leaf('source', 'int32'),
      sourceMask: leaf('source_mask', 'float32'),
      target: leaf('target', 'int32'),
      targetMask: leaf('target_mask', 'float32'),
    },
    evaluationContext(),
  );
}

/** Largest difference over real positions: rows of `width` whose mask is 1. */
function worst(actual: ArrayLike<number>, expected: ArrayLike<number>, mask: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  const width = expected.length / mask.length;
  return Array.from(actual, (value, i) =>
    mask[Math.floor(i / width)] === 1 ? Math.abs(value - expected[i]) : 0,
  ).reduce((a, b) => Math.max(a, b), 0);
}

/** What stands before an index; everything where it is −1. */
const before = (row: number[], at: number): number[] => (at === -1 ? row : row.slice(0, at));

/** Hugging Face's: the layers of a stack one behind the other, as if they were tokens of the same sequence. */
function pooledBalance(records: readonly RoutingRecord[]): Tensor {
  const layers = (of: 'probabilities' | 'experts'): Tensor => {
    const width = of === 'experts' ? 1 : records[0]!.numExperts;
    const open = records.map((record) =>
      reshape(record[of], [BATCH, (record[of].shape[0] as number) / BATCH, width]),
    );
    return reshape(concat(open, 1), [-1, width]);
  };
  return balanceLoss(layers('probabilities'), cast(layers('experts'), 'int64'), undefined, BATCH);
}

describe.each(cases)('%s computes what transformers computes', async (name) => {
  const { model, weights, expected } = await open(name);
  const data = (key: string): ArrayLike<number> => expected.get(key)!.data;
  const [sourceMask, targetMask] = [data('source_mask'), data('target_mask')];
  const output = trace(model, expected);
  const { sourceStates, targetStates, logits, records, losses } = output;
  const side = (prefix: string) => records.filter((record) => record.name.startsWith(prefix));
  const tensors: Record<string, Tensor> = Object.fromEntries([
    ...records.flatMap(({ name: record, experts, dropped }) => [
      [`experts ${record}`, experts],
      [`dropped ${record}`, dropped],
    ]),
    ...losses.map(({ name: loss, layerIndex, value }) => [`${loss} ${layerIndex}`, value]),
  ]);
  const pooled: Record<string, Tensor> = Object.fromEntries(
    records.length === 0
      ? []
      : (['encoder', 'decoder'] as const).map((prefix) => [`balance ${prefix}`, pooledBalance(side(prefix))]),
  );
  const feeds: Feeds = [
    ...weights,
    ...['source', 'target'].map((key) => [key, Int32Array.from(data(key))] as const),
    ['source_mask', Float32Array.from(sourceMask)],
    ['target_mask', Float32Array.from(targetMask)],
  ];
  const actual: Record<string, number[]> = await run(
    { sourceStates, targetStates, logits, ...tensors, ...pooled },
    feeds,
    'float32',
  );

  test('states and logits, within 1e-4', () => {
    expect(worst(actual['sourceStates']!, data('encoder_states'), sourceMask)).toBeLessThan(1e-4);
    expect(worst(actual['targetStates']!, data('decoder_states'), targetMask)).toBeLessThan(1e-4);
    expect(worst(actual['logits']!, data('logits'), targetMask)).toBeLessThan(1e-4);
    // They are not all the same number.
    expect(Math.max(...Array.from(data('logits'))) - Math.min(...Array.from(data('logits')))).toBeGreaterThan(
      1,
    );
  });

  if (records.length > 0)
    test('every router chooses the same expert for every token', () => {
      for (const [prefix, mask] of [
        ['encoder', sourceMask],
        ['decoder', targetMask],
      ] as const) {
        const chosen = side(prefix).flatMap((record) => actual[`experts ${record.name}`]!);
        const wanted = Array.from(data(`${prefix}_experts`));
        const real = (_: number, i: number): boolean => mask[i % mask.length] === 1;
        expect(chosen.filter(real)).toEqual(wanted.filter(real));
      }
    });

  if (name.endsWith('dropping'))
    test('places run out in every sparse layer', () => {
      for (const record of records)
        expect(actual[`dropped ${record.name}`]![0], record.name).toBeGreaterThan(0);
    });

  // Elsewhere transformers counts padding, counts dropped tokens for expert 0, or returns 0 (step 1).
  if (name.endsWith('balanced'))
    test('auxiliary losses are those of transformers where it is right', () => {
      for (const prefix of ['encoder', 'decoder'] as const) {
        const layers = side(prefix).map(({ layerIndex }) => actual[`z ${layerIndex}`]![0]!);
        const z = layers.reduce((sum, value) => sum + value, 0) / layers.length;
        expect(Math.abs(z - data(`${prefix}_z_loss`)[0]!)).toBeLessThan(1e-5);
        expect(Math.abs(actual[`balance ${prefix}`]![0]! - data(`${prefix}_aux_loss`)[0]!)).toBeLessThan(
          1e-5,
        );
      }
    });

  test('greedy targets are the same tokens, alone and together', async () => {
    const { eosTokenId, decoderStartTokenId } = model.options;
    const rows = (key: string): number[][] => matrix(data(key), expected.get(key)!.shape[1]!);
    const prompts = rows('source').map((row, at) => before(row, rows('source_mask')[at]!.indexOf(0)));
    const wanted = rows('generated').map(([start, ...row]) => {
      expect(start).toBe(decoderStartTokenId);
      return before(row, row.indexOf(eosTokenId!));
    });
    const generator = await Generator.create(model, weights);
    const options = { maxTokens: 16, temperature: 0, topK: 0, topP: 1, seed: 1, stopTokens: [eosTokenId!] };
    const together = await generator.complete(prompts, options);
    expect(together.map(({ ids }) => ids)).toEqual(wanted);
    for (const [at, prompt] of prompts.entries())
      expect((await generator.complete([prompt], options))[0]!.ids).toEqual(wanted[at]);
    await generator.release();
  });
});

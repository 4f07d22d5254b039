import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint, readParameters, SafetensorsFile } from '../../src/checkpoints/index.js';
import { Generator } from '../../src/decode/index.js';
import { input, type Tensor } from '../../src/graph/index.js';
import { createModel, LanguageModel } from '../../src/models/index.js';
import { pooledBalanceLoss } from '../../src/moe/index.js';
import { evaluationContext, nameParameters } from '../../src/nn/index.js';
import { run } from '../support/numbers.js';

const here = join(import.meta.dirname, 'decoders');
const cases = readdirSync(here, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

type Expected = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: number[] }>;

async function readExpected(folder: string): Promise<Expected> {
  const file = await SafetensorsFile.open(join(folder, 'expected.safetensors'));
  const found = new Map<string, { shape: readonly number[]; data: number[] }>();
  for (const { name, shape } of file.tensors.values())
    found.set(name, { shape, data: Array.from((await file.read(name)) as ArrayLike<number>) });
  await file.close();
  return found;
}

async function open(name: string) {
  const checkpoint = await openCheckpoint(join(here, name));
  const model = createModel(checkpoint.options);
  if (!(model instanceof LanguageModel)) throw new Error(`${name} is no language model`);
  const weights = new Map([...nameParameters(model)].map(([key, { size }]) => [key, new Float32Array(size)]));
  await readParameters(checkpoint, weights);
  await checkpoint.close();
  return { model, weights, expected: await readExpected(join(here, name)) };
}

test('every architecture has at least three odd shapes', () => {
  const counts = new Map<string, number>();
  for (const name of cases) {
    const [modelType] = name.split('-');
    counts.set(modelType, (counts.get(modelType) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual(
    ['deepseek_v2', 'deepseek_v3', 'llama', 'mixtral', 'olmoe', 'qwen2_moe', 'qwen3_moe'].sort(),
  );
  expect(Math.min(...counts.values())).toBeGreaterThanOrEqual(3);
});

describe.each(cases)('%s computes what transformers computes', async (name) => {
  const { model, weights, expected } = await open(name);
  const { shape, data: tokens } = expected.get('tokens')!;
  const mask = expected.get('mask')!.data;
  const leaves = { tokens: input('tokens', 'int32', shape), mask: input('mask', 'float32', shape) };
  const { logits, records } = model.forward(leaves, evaluationContext());
  const outputs: Record<string, Tensor> = {
    logits,
    ...Object.fromEntries(records.map(({ experts }, layer) => [`experts ${layer}`, experts])),
    ...(expected.has('aux_loss') && {
      aux: pooledBalanceLoss(records, input('rows', 'float32', [mask.length])),
    }),
  };
  const actual: Record<string, number[]> = await run(
    outputs,
    [
      ...weights,
      ['tokens', Int32Array.from(tokens)],
      ['mask', Float32Array.from(mask)],
      ['rows', Float32Array.from(mask)],
    ],
    'float32',
  );

  test('logits, within 1e-4', () => {
    const { data: wanted } = expected.get('logits')!;
    const width = model.options.vocabSize;
    const worst = wanted.reduce(
      (most, value, i) =>
        mask[Math.floor(i / width)] === 1 ? Math.max(most, Math.abs(value - actual['logits']![i]!)) : most,
      0,
    );
    expect(worst).toBeLessThan(1e-4);
    // They are not all the same number.
    expect(Math.max(...wanted) - Math.min(...wanted)).toBeGreaterThan(1);
  });

  if (expected.has('experts'))
    test('every router chooses the same experts for every token', () => {
      const { shape: chosen, data: wanted } = expected.get('experts')!;
      const [layers, , , topK] = chosen as [number, number, number, number];
      expect(records).toHaveLength(layers);
      for (let layer = 0; layer < layers; layer++) {
        const of = actual[`experts ${layer}`]!;
        for (let token = 0; token < mask.length; token++) {
          if (mask[token] === 0) continue;
          const ours = of.slice(token * topK, (token + 1) * topK).sort((a, b) => a - b);
          const start = (layer * mask.length + token) * topK;
          expect(ours, `layer ${layer}, token ${token}`).toEqual(wanted.slice(start, start + topK));
        }
      }
    });

  if (expected.has('aux_loss'))
    test('the auxiliary loss of all layers, padding left out', () => {
      expect(Math.abs(actual['aux']![0]! - expected.get('aux_loss')!.data[0]!)).toBeLessThan(1e-5);
    });

  test('greedy text, token by token', async () => {
    const { data: prompt } = expected.get('prompt')!;
    const { data: wanted } = expected.get('generated')!;
    const generator = await Generator.create(model, weights);
    try {
      const options = { maxTokens: wanted.length - prompt.length, temperature: 0, topK: 0, topP: 1, seed: 1 };
      const [text] = await generator.complete([prompt], options);
      expect(text!.ids).toEqual(wanted.slice(prompt.length));
    } finally {
      await generator.release();
    }
  });
});

import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createModel, type ModelOptions } from '../../models/index.js';
import type { TensorMapping } from '../hugging-face/architecture.js';
import { architectures } from '../hugging-face/index.js';
import { parseOptions } from '../hugging-face/options.js';
import { openCheckpoint, type Checkpoint } from '../model-folder/checkpoint.js';
import { expertLayers } from '../model-folder/expert-layers.js';
import { readParameters } from '../model-folder/read-parameters.js';
import { openTensors } from '../tensors/index.js';
import { exportDense, exportHuggingFace, importCheckpoint } from './convert.js';
import { fitArchitecture } from './fit.js';

const golden = join(import.meta.dirname, '../../../test/golden');
const folders = ['decoders', 'switch_transformers', 't5'].flatMap((group) =>
  readdirSync(join(golden, group), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(group, name)),
);

let root: string;
let next = 0;
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'convert-'))));
afterAll(() => rm(root, { recursive: true }));
const fresh = (): string => join(root, String(next++));

/** Name, element type, shape and SHA-256 of every tensor. */
async function hashes(folder: string): Promise<ReadonlyMap<string, string>> {
  const source = await openTensors(folder);
  const found = new Map<string, string>();
  for (const { name, dtype, shape } of source.tensors.values()) {
    const data = await source.read(name);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const digest = createHash('sha256').update(bytes).digest('hex');
    found.set(name, `${dtype} [${shape.join()}] ${digest}`);
  }
  await source.close();
  return found;
}

/** Every place of every parameter and of every stored tensor, as often as the mapping names it. */
function visits(mapping: readonly TensorMapping[], options: ModelOptions): void {
  const parameters = createModel(options).parameters();
  const seen = new Map<string, number>();
  for (const { tensor, shape, parts } of mapping) {
    const stored = parts.reduce((sum, { parameter, at }) => {
      const sizes = parameters.get(parameter)!.shape;
      const size = (at === undefined ? sizes : sizes.slice(1)).reduce((a, b) => a * b, 1);
      const key = `${parameter}[${at ?? 'all'}]`;
      expect(seen.has(key), `${tensor}: ${key}`).toBe(false);
      seen.set(key, size);
      return sum + size;
    }, 0);
    expect(stored, tensor).toBe(shape.reduce((a, b) => a * b, 1));
  }
  const covered = [...seen.values()].reduce((a, b) => a + b, 0);
  expect(covered).toBe([...parameters.values()].reduce((sum, { size }) => sum + size, 0));
}

async function open<Result>(
  folder: string,
  use: (checkpoint: Checkpoint) => Promise<Result>,
): Promise<Result> {
  const checkpoint = await openCheckpoint(folder);
  try {
    return await use(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

const weightsOf = (folder: string): Promise<Map<string, Float32Array>> =>
  open(folder, async (checkpoint) => {
    const parameters = createModel(checkpoint.options).parameters();
    const weights = new Map([...parameters].map(([name, { size }]) => [name, new Float32Array(size)]));
    await readParameters(checkpoint, weights);
    return weights;
  });

describe.each(folders)('%s, out and back', (name) => {
  const folder = join(golden, name);
  const layout = name.endsWith('fused') ? 'fused' : 'perExpert';

  test('every tensor and every parameter is visited exactly once', () =>
    open(folder, async ({ mapping, options }) => visits(mapping, options)));

  test('through our own layout every tensor has its bytes again, under its name', async () => {
    const [ours, back] = [fresh(), fresh()];
    await importCheckpoint(folder, ours);
    await exportHuggingFace(ours, back, { layout });
    const [before, after] = [await hashes(folder), await hashes(back)];
    // Of several names of one tensor, one is written; of an untied Switch all, which transformers reads one by one.
    const aliases = await open(folder, async ({ mapping, options, architecture }) => {
      const written = architecture
        .tensors(options, { layout, present: new Set() })
        .map(({ tensor }) => tensor);
      return mapping.flatMap((entry) => entry.aliases ?? []).filter((alias) => !written.includes(alias));
    });
    const wanted = new Map([...before].filter(([tensor]) => !aliases.includes(tensor)));
    expect(after).toEqual(wanted);
    await open(folder, async ({ architecture }) => {
      await open(back, async (again) => expect(again.architecture.modelType).toBe(architecture.modelType));
    });
    expect(await weightsOf(ours)).toEqual(await weightsOf(folder));
  });

  test('dense, it is itself', async () => {
    const copy = fresh();
    await exportDense(folder, copy);
    expect(await hashes(copy)).toEqual(await hashes(folder));
  });
});

describe.each(folders.filter((name) => name.startsWith('decoders') && !name.includes('llama')))(
  '%s',
  (name) => {
    const folder = join(golden, name);

    test('the other layout of experts holds the same numbers', async () => {
      const [other, back] = [fresh(), fresh()];
      const isFused = name.endsWith('fused');
      await exportHuggingFace(folder, other, { layout: isFused ? 'perExpert' : 'fused' });
      const names = [...(await hashes(other)).keys()];
      expect(names.some((tensor) => tensor.endsWith('experts.gate_up_proj'))).toBe(!isFused);
      expect(await weightsOf(other)).toEqual(await weightsOf(folder));
      await exportHuggingFace(other, back, { layout: isFused ? 'fused' : 'perExpert' });
      expect(await hashes(back)).toEqual(await hashes(folder));
    });

    test('experts are the same whatever the layout', async () => {
      const other = fresh();
      await exportHuggingFace(folder, other, { layout: name.endsWith('fused') ? 'perExpert' : 'fused' });
      await open(folder, (one) =>
        open(other, async (another) => {
          const [layers, others] = [expertLayers(one), expertLayers(another)];
          expect(others.map((layer) => layer.name)).toEqual(layers.map((layer) => layer.name));
          for (const [at, layer] of layers.entries())
            for (let expert = 0; expert < layer.numExperts; expert++)
              expect(await others[at]!.readExpert(expert)).toEqual(await layer.readExpert(expert));
        }),
      );
    });
  },
);

test.each(['bfloat16', 'float16'] as const)(
  '%s: read as float32, and written back in its own type',
  async (dtype) => {
    const [narrow, ours, back] = [fresh(), fresh(), fresh()];
    await exportHuggingFace(join(golden, 'decoders/mixtral-grouped'), narrow, { dtype });
    const [first] = (await hashes(narrow)).values();
    expect(first).toMatch(dtype === 'bfloat16' ? /^BF16 / : /^F16 /);
    await open(narrow, async ({ config }) => expect(config['torch_dtype']).toBe(dtype));
    await importCheckpoint(narrow, ours, { dtype: 'float32' });
    await exportHuggingFace(ours, back, { dtype });
    expect(await hashes(back)).toEqual(await hashes(narrow));
    const step = dtype === 'bfloat16' ? 2 ** -8 : 2 ** -11;
    const exact = await weightsOf(join(golden, 'decoders/mixtral-grouped'));
    for (const [parameter, values] of await weightsOf(narrow))
      values.forEach((value, i) => {
        const wanted = exact.get(parameter)![i]!;
        if (!(Math.abs(value - wanted) <= Math.abs(wanted) * step + 2 ** -24))
          expect.unreachable(`${value} of ${wanted}`);
      });
  },
);

describe('models of ours', () => {
  const sizes = {
    hiddenSize: 8,
    numLayers: 4,
    numHeads: 2,
    intermediateSize: 6,
    contextLength: 9,
    vocabSize: 11,
  };
  const gated = { ...sizes, activation: 'swiglu' };
  const fit = (options: object, modelType?: string): string =>
    fitArchitecture(parseOptions(options, 'here'), modelType, 'model').architecture.modelType;

  test.each<[string, object]>([
    ['llama', gated],
    ['llama', { ...gated, bias: true, initialization: { kind: 'normal' }, dropout: 0.1 }],
    ['mixtral', { ...gated, sparse: { numExperts: 4, router: { kind: 'softmax', normalizeGates: true } } }],
    [
      'mixtral',
      {
        ...gated,
        sparse: { numExperts: 4, intermediateSize: 5, router: { kind: 'softmax', normalizeGates: true } },
      },
    ],
    ['olmoe', { ...gated, queryKeyNorm: 'all', sparse: { numExperts: 4, topK: 2 } }],
    [
      'qwen2_moe',
      { ...gated, sparse: { numExperts: 4, every: 2, sharedIntermediateSize: 3, sharedGate: true } },
    ],
    ['qwen3_moe', { ...gated, queryKeyNorm: 'head', sparse: { numExperts: 4, layers: [1, 3] } }],
    ['qwen3_moe', { ...gated, queryKeyNorm: 'head', sparse: { numExperts: 4, layers: [0, 1, 3] } }],
  ])('%s: %j', (modelType, options) => expect(fit(options)).toBe(modelType));

  test.each<[string, object, string]>([
    ['no gate', sizes, 'llama: its feed-forward layers are gated, unlike relu'],
    ['positions', { ...gated, positions: 'learned' }, 'llama: its positions are rotary, not learned'],
    [
      'gates that do not add up',
      { ...gated, sparse: { numExperts: 4 } },
      'mixtral: it has sparse.router.normalizeGates true, not sparse.router.normalizeGates false',
    ],
    [
      'a shared expert without a gate',
      { ...gated, sparse: { numExperts: 4, sharedIntermediateSize: 3 } },
      'qwen2_moe: it has a shared expert with a gate',
    ],
    [
      'no norms of queries',
      { ...gated, sparse: { numExperts: 4 } },
      'olmoe: it has queryKeyNorm "all", not no queryKeyNorm',
    ],
    [
      'another layer',
      { ...gated, sparse: { kind: 'topKActivation', topK: 2 } },
      'its sparse layers have experts, unlike topKActivation',
    ],
    [
      'capacity',
      { ...gated, sparse: { numExperts: 4, dispatch: { kind: 'capacity' } } },
      'sparse.dispatch.kind "dropless", not',
    ],
    [
      'neighbours as pairs',
      { ...gated, rotary: { interleaved: true } },
      'llama: it has rotary.interleaved false, not rotary.interleaved true',
    ],
  ])('%s: told for each architecture, in one line', (_, options, reason) => {
    const message = (() => {
      try {
        return fit(options);
      } catch (error) {
        return (error as Error).message;
      }
    })();
    expect(message).toContain('model is no model of Hugging Face');
    expect(message).toContain(reason);
    expect(message).not.toContain('\n');
    for (const { modelType } of architectures) expect(message).toContain(`${modelType}: `);
  });

  test('an unknown architecture is refused with the known ones', () =>
    expect(() => fit(gated, 'gpt2')).toThrow('there is no architecture "gpt2"; known are llama, mixtral'));
});

import { copyFile, mkdtemp, open, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeModelFolder } from '../../../../test/support/model-folders.js';
import { importCheckpoint, openCheckpoint, SafetensorsFile } from '../../../checkpoints/index.js';
import { modelSchema, type ModelOptions } from '../../../models/index.js';
import { coldExpertsConformance } from '../cold-experts.case.js';
import type { ColdExperts } from '../cold-experts.js';
import { expertBanks } from '../expert-banks.js';
import { SlotMemory, type Slot } from '../slot-memory.js';
import { CheckpointExperts } from './checkpoint-experts.js';
import { openColdExperts } from './open.js';
import { PackedExperts } from './packed-experts.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cold-experts-'));
  for (const [name, options] of Object.entries(models)) {
    await writeModelFolder(join(root, name), options);
    for (const dtype of ['float32', 'bfloat16', 'float16'] as const)
      await importCheckpoint(join(root, name), join(root, `${name}-${dtype}`), { pack: true, dtype });
  }
}, 120_000);
afterAll(() => rm(root, { recursive: true }));

const optionsOf = (input: unknown): ModelOptions => modelSchema.parse(input) as ModelOptions;
const small = { hiddenSize: 12, numHeads: 2, intermediateSize: 20, contextLength: 8, vocabSize: 11 };
const models: Readonly<Record<string, ModelOptions>> = {
  'gated decoder': optionsOf({
    ...{ kind: 'languageModel', ...small, numLayers: 4, activation: 'swiglu' },
    sparse: { every: 2, numExperts: 3 },
  }),
  'encoder with biases': optionsOf({
    ...{ kind: 'encoderDecoder', ...small, numEncoderLayers: 2, numDecoderLayers: 2 },
    sparse: { every: 2, numExperts: 4, experts: { kind: 'feedForward', bias: true } },
  }),
};

const path = (name: string): string => join(root, name);

/** Weights of an expert by way of the model's parameters. */
async function weightsOf(
  folder: string,
  options: ModelOptions,
  transposed: boolean,
  layer: number,
  expert: number,
): Promise<Record<string, Float32Array>> {
  const checkpoint = await openCheckpoint(folder);
  const { name, parameters } = expertBanks(options, transposed)[layer];
  const weights: Record<string, Float32Array> = {};
  for (const [parameter, shape] of Object.entries(parameters)) {
    const data = await checkpoint.readParameter(`${name}.${parameter}`, { at: expert });
    const [height, width] = shape;
    weights[parameter] =
      transposed && shape.length === 2
        ? data.map((_, i) => data[(i % width) * height + Math.floor(i / width)])
        : data;
  }
  await checkpoint.close();
  return weights;
}

for (const [name, options] of Object.entries(models)) {
  for (const transposed of [true, false]) {
    coldExpertsConformance(`${name} by range, ${transposed ? '[out, in]' : '[in, out]'}`, {
      open: async () =>
        new CheckpointExperts(await openCheckpoint(path(name)), expertBanks(options, transposed)),
      expected: (layer, expert) => weightsOf(path(name), options, transposed, layer, expert),
    });
  }
  for (const dtype of ['float32', 'bfloat16', 'float16']) {
    const packed = `${name}-${dtype}`;
    for (const direct of [true, false]) {
      coldExpertsConformance(`${name}, packed as ${dtype}, ${direct ? 'direct' : 'plain'} reads`, {
        open: async () => {
          const checkpoint = await openCheckpoint(path(packed));
          return (await PackedExperts.open(checkpoint, expertBanks(options, true), direct))!;
        },
        expected: (layer, expert) => weightsOf(path(packed), options, true, layer, expert),
      });
    }
  }
}

describe('which tier a folder gets', () => {
  const [[name, options]] = Object.entries(models);
  const traitsOf = async (folder: string, transposed: boolean): Promise<ColdExperts['traits']> => {
    const checkpoint = await openCheckpoint(folder);
    const cold = await openColdExperts(checkpoint, expertBanks(options, transposed));
    await cold.close();
    return cold.traits;
  };

  test('packed folders are read directly where the system can', async () => {
    const traits = await traitsOf(path(`${name}-bfloat16`), true);
    expect(traits.description).toBe('packed folder, bfloat16');
    if (traits.pageCache === 'used') expect(traits.reason).toContain('O_DIRECT');
  });

  test('others are read by range, and so is a pack that lies the wrong way round', async () => {
    expect(await traitsOf(path(name), true)).toMatchObject({ pageCache: 'used' });
    expect((await traitsOf(path(`${name}-float32`), false)).description).toBe('model folder, by range');
  });
});

describe('a packed folder', () => {
  const [[name, options]] = Object.entries(models);

  test('is a model folder like any other, with the same numbers', async () => {
    const [one, other] = [await openCheckpoint(path(name)), await openCheckpoint(path(`${name}-float32`))];
    expect(other.options).toEqual(one.options);
    for (const { parts } of one.mapping) {
      for (const { parameter } of parts)
        expect(await other.readParameter(parameter)).toEqual(await one.readParameter(parameter));
    }
    await one.close();
    await other.close();
  });

  test('has every expert in one piece on a block boundary, and files of whole blocks', async () => {
    const file = join(path(`${name}-float32`), 'model-00002-of-00002.safetensors');
    expect((await stat(file)).size % 4096).toBe(0);
    const tensors = await SafetensorsFile.open(file);
    const order = [...tensors.tensors.keys()]
      .slice(0, 4)
      .map((tensor) => tensor.split('.').slice(3).join('.'));
    expect(order.slice(0, 3)).toEqual([
      'experts.0.gate.weight',
      'experts.0.up.weight',
      'experts.0.down.weight',
    ]);
    expect([...tensors.tensors.keys()][3]).toBe('padding.0');
    expect(tensors.extentOf('blocks.1.feedForward.experts.0.gate.weight')!.begin % 4096).toBe(0);
    expect(tensors.extentOf('blocks.1.feedForward.experts.1.gate.weight')!.begin % 4096).toBe(0);
    await tensors.close();
  });

  test('a dense model has nothing to pack', async () => {
    const dense = optionsOf({ kind: 'languageModel', ...small, numLayers: 1 });
    await writeModelFolder(path('dense'), dense);
    await expect(importCheckpoint(path('dense'), path('packed'), { pack: true })).rejects.toThrow(
      'the model has no experts that could be packed',
    );
    await expect(stat(path('packed'))).rejects.toThrow();
  });

  const slotFor = ({ slotBytes }: ColdExperts): Slot => new SlotMemory(1, slotBytes).slots[0];

  /** A copy of a packed folder, and its file of experts. */
  async function copied(): Promise<{ folder: string; file: string }> {
    const folder = await mkdtemp(join(root, 'copy-'));
    const from = path(`${name}-float32`);
    const index = 'model.safetensors.index.json';
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    for (const each of ['config.json', index, ...shards])
      await copyFile(join(from, each), join(folder, each));
    return { folder, file: join(folder, shards[1]) };
  }

  test('cut short or changed while it is open: that read fails, in one line', async () => {
    const { folder, file } = await copied();
    const cold = await openColdExperts(await openCheckpoint(folder), expertBanks(options, true));
    const slot = slotFor(cold);
    await cold.read(0, 0, slot);
    await truncate(file, (await stat(file)).size - 4096);
    await expect(cold.read(1, 2, slot)).rejects.toThrow(/00002-of-00002\.safetensors: the file was changed/);
    await cold.close();
  });

  test('touched: refused as well', async () => {
    const { folder, file } = await copied();
    const cold = await openColdExperts(await openCheckpoint(folder), expertBanks(options, true));
    await utimes(file, 1, 1);
    await expect(cold.read(0, 0, slotFor(cold))).rejects.toThrow('was changed while it was open');
    await cold.close();
  });

  test.each([1, 4095, 4096, 5000])(
    'cut short by %d bytes before: refused when it is opened',
    async (bytes) => {
      const { folder, file } = await copied();
      await truncate(file, (await stat(file)).size - bytes);
      await expect(openCheckpoint(folder)).rejects.toThrow('bytes too short for its tensors');
    },
  );

  test('a header that was tampered with is refused', async () => {
    const { folder, file } = await copied();
    const bytes = await readFile(file);
    const at = bytes.indexOf('"shape":[20,12]');
    bytes.write('"shape":[20,13]', at);
    await writeFile(file, bytes);
    await expect(openCheckpoint(folder)).rejects.toThrow('spans 960 bytes, but F32 [20, 13] takes 1040');
  });

  test('damaged by any single byte of the header: as before, or one of our errors', async () => {
    const { folder, file } = await copied();
    const handle = await open(file, 'r+');
    const header = Buffer.alloc(4096);
    await handle.read(header, 0, 4096, 0);
    for (let at = 0; at < 600; at += 7) {
      await handle.write(Buffer.of(header[at] ^ 0x11), 0, 1, at);
      try {
        const checkpoint = await openCheckpoint(folder);
        const cold = await openColdExperts(checkpoint, expertBanks(options, true));
        await cold.read(0, 0, slotFor(cold));
        await cold.close();
      } catch (error) {
        expect((error as Error).name).toMatch(/SafetensorsError|ModelFolderError/);
        expect((error as Error).message).not.toContain('\n');
      }
      await handle.write(header, at, 1, at);
    }
    await handle.close();
  });
});

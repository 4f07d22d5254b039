import { existsSync, readdirSync } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { relatedExperts, withJob } from '../../../test/support/compression.js';
import { temporaryFolder } from '../../../test/support/tiny-training.js';
import { compareLogits, logitsOfText, type TextLogits } from '../../analyze/index.js';
import {
  openCheckpoint,
  readFloats,
  RestoringSource,
  SafetensorsFile,
  sparseMatrix,
  type CompressedLayer,
} from '../../checkpoints/index.js';
import type { LanguageModel } from '../../models/index.js';
import { loadLanguageModel, loadModel, type LoadedModel } from '../../train/index.js';
import { matrixCompressorNames } from '../matrices/index.js';
import type { CompressionMethod } from '../method.js';
import { compressFolder } from './compress-folder.js';
import { readCompressionNumbers } from './numbers.js';
import { verifyFolder } from './verify.js';

let root: string;
let folder: string;
let out: string;
beforeEach(async () => {
  root = await temporaryFolder();
  folder = await relatedExperts(join(root, 'model'));
  out = join(root, 'small');
});
afterEach(() => rm(root, { recursive: true, force: true }));

const compress: typeof withJob<Awaited<ReturnType<typeof compressFolder>>> = (...given) => withJob(...given);
const run = (options?: Parameters<typeof withJob>[3], to = out, from = folder) =>
  compress(from, to, (job) => compressFolder(job), options);

const text = 'Thirty-six tokens, each of them a byte';

async function logits(path: string): Promise<TextLogits> {
  const { model, tokenizer, weights } = await loadLanguageModel(path);
  return logitsOfText(model, weights, [...tokenizer.encode(text)]);
}

/** Every file of a folder with its bytes. */
async function contents(path: string): Promise<Record<string, string>> {
  const names = readdirSync(path).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(path, name), 'latin1')));
  return Object.fromEntries(names.map((name, i) => [name, texts[i]]));
}

describe('the folder', () => {
  test('is smaller by what the accounting says, and opens as the same model', async () => {
    const outcome = await run();
    expect(readdirSync(out).sort()).toEqual([
      'LICENSE',
      'compression.json',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    expect(existsSync(`${out}.partial`)).toBe(false);
    const file = await SafetensorsFile.open(join(out, 'model.safetensors'));
    const bytes = [...file.tensors.values()].reduce((total, { begin, end }) => total + end - begin, 0);
    await file.close();
    expect(bytes).toBe(outcome.predictedBytes);
    expect(outcome.after.bytes).toBe((await stat(join(out, 'model.safetensors'))).size);
    expect(outcome.after.bytes).toBeLessThan(outcome.before.bytes);
    const numbers = await readCompressionNumbers(out);
    expect(numbers).toMatchObject({ method: 'resmoe', layers: outcome.layers });
    // The singular values hold all of the energy of what is left of the first expert.
    for (const { spectrum = [], report } of numbers!.layers) {
      const energy = spectrum.reduce((sum, value) => sum + value * value, 0);
      expect(energy / report.redundancy!.residuals[0]).toBeCloseTo(1, 6);
      expect(spectrum).toEqual(spectrum.toSorted((a, b) => b - a));
    }
    // (1 + N s) / N of each layer's numbers; a bit beside each place.
    for (const { before, after } of outcome.layers) {
      expect(after.parameters / before.parameters).toBe((1 + 4 * 0.25) / 4);
      expect(after.bytes - 4 * after.parameters).toBe(before.parameters / 8);
    }
    await withJob(folder, out, async (_, checkpoint) => {
      const { equal, restored } = await verifyFolder(checkpoint.source, out);
      expect(restored).toBe(4);
      expect(equal).toBe(checkpoint.source.tensors.size - 4);
    });
    const [before, after] = [await loadModel(folder), await loadModel(out)];
    expect(after.model.options).toEqual(before.model.options);
  });

  test('takes in memory, held as it is stored, what the accounting says', async () => {
    const { layers } = await run();
    const { source, close } = await openCheckpoint(out, undefined, { hold: 'memory', cacheBytes: 0 });
    expect((source as RestoringSource).residentBytes).toEqual({
      compressed: layers.reduce((total, { after }) => total + after.bytes, 0),
      cache: 0,
    });
    await close();
  });

  test('compresses the layers that it is told to, and leaves the others bit for bit', async () => {
    const { layers } = await run({ layers: 'last:1' });
    expect(layers.map(({ name }) => name)).toEqual(['blocks.1']);
    const [a, b] = [await openCheckpoint(folder), await openCheckpoint(out)];
    const name = 'blocks.0.feedForward.experts.up';
    expect(await readFloats(b.source, name)).toEqual(await readFloats(a.source, name));
    await a.close();
    await b.close();
  });

  test('in shards is the same model', async () => {
    await run();
    await withJob(folder, `${out}2`, (job) => compressFolder({ ...job, maxShardBytes: 4096 }));
    expect(readdirSync(`${out}2`).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(3);
    expect((await loadModel(`${out}2`)).weights).toEqual((await loadModel(out)).weights);
  });
});

describe('the function', () => {
  test.each([{ bias: true, activation: 'gelu' }, { activation: 'swiglu' }])(
    'comes back to 1e-6 where everything is kept: %o',
    async (options) => {
      await relatedExperts(join(root, 'other'), options);
      for (const residual of matrixCompressorNames) {
        const to = `${out}-${residual}`;
        await run({ ratio: 1, options: { residual } }, to, join(root, 'other'));
        const { maxAbsolute } = compareLogits(await logits(join(root, 'other')), await logits(to));
        expect(maxAbsolute).toBeLessThan(1e-6);
      }
    },
  );

  test('is the same whatever order the neurons of an expert were in', async () => {
    // Expert 2 of every layer backwards: its gate and up by columns, its down by rows.
    const shuffled = await relatedExperts(join(root, 'shuffled'), {}, (weights) => {
      for (const [name, data] of weights) {
        if (!/experts\.(up|down)$/.test(name)) continue;
        const expert = data.subarray(2 * 16 * 32, 3 * 16 * 32);
        const [width, length] = name.endsWith('up') ? [1, 32] : [16, 512];
        for (let at = 0; at < expert.length; at += length) {
          const row = expert.slice(at, at + length);
          for (let i = 0; i < length; i += width)
            expert.set(row.subarray(length - i - width, length - i), at + i);
        }
      }
    });
    const [before, permuted] = [await logits(folder), await logits(shuffled)];
    expect(compareLogits(before, permuted).maxAbsolute).toBeLessThan(1e-6);
    const options = { centre: { kind: 'barycenter' } };
    await run({ options });
    await run({ options }, `${out}2`, shuffled);
    const small = await logits(out);
    expect(compareLogits(small, await logits(`${out}2`)).maxAbsolute).toBeLessThan(1e-5);
    expect(compareLogits(small, before).maxAbsolute).toBeGreaterThan(1e-3);
  });
});

/** Keeps some experts whole. */
function keeping(expertOf: readonly number[]): CompressionMethod {
  return {
    needsCalibration: false,
    compress: async (layer) => {
      const stored = Math.max(...expertOf) + 1;
      const experts: CompressedLayer['experts'][number][] = [];
      for (let expert = 0; expert < stored; expert++) {
        const values = await layer.readDesign(expertOf.indexOf(expert));
        const rows = layer.intermediateSize;
        experts.push({ matrices: [{ kind: 'dense', rows, columns: values.length / rows, values }] });
      }
      const { name, intermediateSize, hiddenSize, blocks } = layer;
      return {
        layer: { name, intermediateSize, hiddenSize, blocks, experts, expertOf },
        report: { error: 0, energy: 1 },
      };
    },
  };
}

describe('fewer experts', () => {
  test('all kept is the identity', async () => {
    await run({ method: keeping([0, 1, 2, 3]) });
    expect((await loadModel(out)).weights).toEqual((await loadModel(folder)).weights);
  });

  test.each([
    ['merged', [0, 1, 0, 1], 2],
    ['dropped', [-1, 0, -1, -1], 1],
  ] as const)('%s: bytes fall as predicted, and each is what stands for it', async (_, expertOf, stored) => {
    const { layers, before, after, predictedBytes } = await run({ method: keeping(expertOf) });
    for (const layer of layers) expect(layer.after.bytes).toBe((layer.before.bytes * stored) / 4);
    expect(before.bytes - after.bytes).toBeGreaterThan(
      0.9 * (layers.length * 4 - layers.length * stored) * 4096,
    );
    expect(Math.abs(after.bytes / predictedBytes - 1)).toBeLessThan(0.06);
    const [original, small] = [await loadModel(folder), await loadModel(out)];
    for (const name of ['up', 'down'].map((part) => `blocks.1.feedForward.experts.${part}`)) {
      const [a, b] = [original.weights.get(name)!, small.weights.get(name)!];
      expertOf.forEach((at, expert) => {
        const part = b.subarray(expert * 512, (expert + 1) * 512);
        const source = at < 0 ? -1 : (expertOf as readonly number[]).indexOf(at);
        expect(part).toEqual(
          source < 0 ? new Float32Array(512) : a.subarray(source * 512, (source + 1) * 512),
        );
      });
    }
  });

  test('two equal experts merge without loss', async () => {
    const twins = await relatedExperts(join(root, 'twins'), {}, (weights) => {
      for (const [name, data] of weights)
        if (/experts\.(up|down)$/.test(name)) data.copyWithin(3 * 512, 512, 2 * 512);
    });
    await run({ method: keeping([0, 1, 2, 1]) }, out, twins);
    expect((await loadModel(out)).weights).toEqual((await loadModel(twins)).weights);
  });
});

describe('going on', () => {
  /** Fails when the n-th layer has begun. */
  const failAt = (index: number, reason = 'stopped') =>
    withJob(folder, out, (job) =>
      compressFolder(job, {
        onLayer: (at) => {
          if (at === index) throw new Error(reason);
        },
      }),
    );

  test('takes finished layers over, and gives the same bytes', async () => {
    await run(undefined, `${out}-whole`);
    await expect(failAt(1)).rejects.toThrow('stopped');
    expect(existsSync(out)).toBe(false);
    const kept: boolean[] = [];
    await withJob(folder, out, (job) => compressFolder(job, { onLayer: (_, was) => kept.push(was) }));
    expect(kept).toEqual([true, false]);
    expect(await contents(out)).toEqual(await contents(`${out}-whole`));
  });

  test('makes a layer again whose file was damaged', async () => {
    await run(undefined, `${out}-whole`);
    await expect(failAt(1)).rejects.toThrow('stopped');
    const file = join(`${out}.partial`, 'layer-0000.safetensors');
    const bytes = await readFile(file);
    bytes[bytes.length - 3] ^= 1;
    await writeFile(file, bytes);
    const kept: boolean[] = [];
    await withJob(folder, out, (job) => compressFolder(job, { onLayer: (_, was) => kept.push(was) }));
    expect(kept).toEqual([false, false]);
    expect(await contents(out)).toEqual(await contents(`${out}-whole`));
  });

  test('refuses layers that were made with other options', async () => {
    await expect(failAt(1)).rejects.toThrow('stopped');
    await expect(run({ ratio: 0.5 })).rejects.toThrow(
      /small\.partial: holds the layers of another compression/,
    );
    await expect(run()).resolves.toBeDefined();
  });

  test('refuses two at a time', async () => {
    let refused: unknown;
    await withJob(folder, out, (job) =>
      compressFolder(job, {
        onStep: () => {
          refused ??= run().catch((error: unknown) => error);
        },
      }),
    );
    expect(String(await refused)).toMatch(
      /small\.partial: another process compresses into it: .*process \d+/,
    );
  });

  test('refuses an output that is there', async () => {
    await run();
    await expect(run()).rejects.toThrow(`${out}: is there already; name a folder that does not exist yet`);
  });

  test('says what to do when the disk is full', async () => {
    const full = Object.assign(new Error('write failed'), { code: 'ENOSPC' });
    const failing: CompressionMethod = {
      needsCalibration: false,
      compress: () => Promise.reject(new Error('cannot write', { cause: full })),
    };
    await expect(run({ method: failing })).rejects.toThrow(
      /cannot write; make room and run the same command again$/,
    );
    expect(readdirSync(root)).toEqual(['model']);
    await expect(failAt(1, 'x')).rejects.toThrow('x');
    await expect(
      withJob(folder, out, (job) =>
        compressFolder(job, {
          onLayer: (at) => {
            if (at === 1) throw full;
          },
        }),
      ),
    ).rejects.toThrow(`again: it goes on from the finished layers in ${out}.partial`);
  });
});

test('numbers that are not finite are found when it is opened again', async () => {
  const broken: CompressionMethod = {
    needsCalibration: false,
    compress: async (layer, context) => {
      const made = await keeping([0, 1, 2, 3]).compress(layer, context);
      const values = new Float32Array(32 * 32).fill(NaN);
      const matrices = [sparseMatrix(32, 32, values, (_, place) => place === 5)];
      return {
        ...made,
        layer: { ...made.layer, experts: [...made.layer.experts.slice(0, 3), { matrices }] },
      };
    },
  };
  await run({ method: broken });
  await withJob(folder, out, (_, { source }) =>
    expect(verifyFolder(source, out)).rejects.toThrow(
      `${out}: tensor "blocks.0.feedForward.experts.up" comes back with numbers that are not finite`,
    ),
  );
});

describe('experts that are computed from their factors', () => {
  test.each([{ activation: 'swiglu' }, { bias: true, activation: 'gelu' }])(
    'give the logits of rebuilt ones, and stay as small as they are stored: %o',
    async (options) => {
      await relatedExperts(join(root, 'other'), options);
      const { layers } = await run(
        { options: { residual: 'svd' }, layers: 'last:1' },
        out,
        join(root, 'other'),
      );
      const rebuilt = await loadModel(out);
      const small = await loadModel(out, undefined, { experts: 'factorised' });
      const ids = [...rebuilt.tokenizer!.encode(text)];
      const [a, b] = await Promise.all(
        [rebuilt, small].map(({ model, weights }) => logitsOfText(model as LanguageModel, weights, ids)),
      );
      const { maxAbsolute } = compareLogits(a, b);
      expect(maxAbsolute).toBeLessThan(1e-5);
      const bytes = ({ weights }: LoadedModel): number =>
        [...weights.values()].reduce((total, { byteLength }) => total + byteLength, 0);
      const [{ before, after }] = layers;
      expect(bytes(rebuilt) - bytes(small)).toBe(before.bytes - after.bytes);
    },
  );

  test('are refused where they are not stored so', async () => {
    await run();
    await expect(loadModel(out, undefined, { experts: 'factorised' })).rejects.toThrow(
      'blocks.0 is not stored as a centre with one pair of factors for each expert; load it with rebuilt experts',
    );
    await expect(loadModel(folder, undefined, { experts: 'factorised' })).rejects.toThrow(
      'it is not compressed',
    );
  });
});

import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compressedLayer, fusedTensors, tensorsPerExpert } from '../../../test/support/compressed-layer.js';
import { decodeFloats, SafetensorsFile, saveSafetensors, type NamedTensor } from '../safetensors/index.js';
import { compressedSize, originalSize } from './accounting.js';
import { EXPERT, scatterDesign, sliceOf, type ExpertTensor } from './expert-tensors.js';
import { COMPRESSED_VERSION, parseCompression, type CompressedDType } from './header.js';
import { designWidth, type CompressedLayer } from './layer.js';
import { packLayer } from './pack.js';
import { restoreExpert } from './restore.js';
import { sparseIndexBytes } from './sparse-index.js';
import { RestoringSource, type RestoreOptions } from './restoring-source.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-compressed-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let files = 0;

const other: NamedTensor = { name: 'router', dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) };

async function stored(
  layer: CompressedLayer,
  tensors: readonly ExpertTensor[],
  dtype: CompressedDType = 'F32',
  options?: RestoreOptions,
): Promise<{ path: string; source: RestoringSource }> {
  const packed = packLayer(layer, dtype, tensors);
  const path = join(folder, `${files++}.safetensors`);
  await saveSafetensors(path, [other, ...packed.tensors]);
  const value = { version: COMPRESSED_VERSION, method: 'test', options: {}, layers: [packed.header] };
  const header = parseCompression(JSON.parse(JSON.stringify(value)), 'config.json');
  return { path, source: await RestoringSource.open(await SafetensorsFile.open(path), header, options) };
}

const bytesPerValue = { F32: 4, BF16: 2, F16: 2 };

const biased = { roles: ['up', 'upBias', 'down'], outputBiases: true } as const;

describe.each([
  ['sparse', compressedLayer(1)],
  ['sparse beside a centre', compressedLayer(2, { centre: true })],
  ['very sparse, by rows', compressedLayer(3, { hiddenSize: 40, centre: true, density: 0.01 })],
  ['low rank beside a centre', compressedLayer(4, { centre: true, kinds: ['lowRank'] })],
  ['low rank, block by block', compressedLayer(5, { kinds: ['lowRank'], perBlock: true })],
  [
    'dense, sparse and low rank',
    compressedLayer(6, { kinds: ['dense', 'sparse', 'lowRank'], perBlock: true }),
  ],
  ['fewer neurons', compressedLayer(7, { kinds: ['dense'], rows: 3 })],
  ['merged', compressedLayer(8, { kinds: ['dense'], expertOf: [1, 0, 1, 1] })],
  ['dropped', compressedLayer(9, { kinds: ['dense'], expertOf: [-1, 0, -1] })],
  ['with biases', compressedLayer(10, { ...biased, centre: true, kinds: ['lowRank', 'sparse'] })],
  ['with biases, dropped', compressedLayer(11, { ...biased, kinds: ['dense'], expertOf: [0, -1, 0] })],
])('%s', (_, layer) => {
  const layouts = [
    tensorsPerExpert(layer),
    ...(layer.blocks[0].role === 'gate' ? [fusedTensors(layer)] : []),
  ];

  it.each(['F32', 'BF16', 'F16'] as const)('comes back under its original names as %s', async (dtype) => {
    for (const tensors of layouts) {
      const { source } = await stored(layer, tensors, dtype);
      expect([...((await source.read('router')) as Float32Array)]).toEqual([1, 2]);
      expect([...source.tensors.keys()].filter((name) => name.startsWith('compressed.'))).toEqual([]);
      for (const tensor of tensors) {
        for (const [expert] of layer.expertOf.entries()) {
          const perExpert = tensor.name.includes(EXPERT);
          const name = tensor.name.replace(EXPERT, String(expert));
          expect(source.tensors.get(name)).toEqual({ name, dtype, shape: tensor.shape });
          const read = await source.read(name, perExpert ? {} : { rows: [expert, expert + 1] });
          const actual = decodeFloats(dtype, read);
          const expected = new Float32Array(sliceOf(tensor).reduce((a, b) => a * b));
          const biases = layer.outputBiases?.[layer.expertOf[expert]] ?? new Float32Array(5);
          scatterDesign(tensor, expected, layer.blocks, restoreExpert(layer, expert), biases);
          const tolerance = { F32: 0, BF16: 2 ** -6, F16: 2 ** -9 }[dtype];
          actual.forEach((value, i) => expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(tolerance));
        }
      }
      await source.close();
    }
  });

  it('has the smaller index', () => {
    for (const matrix of layer.experts.flatMap(({ matrices }) => matrices)) {
      if (matrix.kind !== 'sparse') continue;
      const { rows, columns, values, index } = matrix;
      expect(index.kind).toBe(columns === 120 ? 'csr' : 'bitmap');
      const bytes =
        index.kind === 'csr' ? index.rowStarts.byteLength + index.columns.byteLength : index.bits.length;
      expect(bytes).toBe(sparseIndexBytes(rows, columns, values.length));
    }
  });

  it('takes on disk and in memory what the accounting says', async () => {
    for (const dtype of ['F32', 'BF16'] as const) {
      const { path, source } = await stored(layer, layouts[0], dtype, { hold: 'memory', cacheBytes: 0 });
      const { bytes } = compressedSize(layer, bytesPerValue[dtype]);
      expect([...source.layers.values()].map((reader) => reader.bytes)).toEqual([bytes]);
      const file = await SafetensorsFile.open(path);
      const data = [...file.tensors.values()].reduce((total, { begin, end }) => total + end - begin, 0);
      expect(data - other.data.byteLength).toBe(bytes);
      expect((await stat(path)).size).toBeGreaterThan(bytes);
      expect(source.residentBytes).toEqual({ compressed: bytes, cache: 0 });
      await file.close();
      await source.close();
    }
  });
});

it('counts the centre as extra: (1 + N s) / N of the layer', () => {
  const layer = compressedLayer(1, { centre: true, expertOf: [0, 1, 2, 3], density: 2 });
  // Every place kept: s = 1.
  const share = compressedSize(layer, 4).parameters / originalSize(layer, 4).parameters;
  expect(share).toBe((1 + 4) / 4);
  const factored = compressedLayer(1, { centre: true, kinds: ['lowRank'] });
  const [p, m] = [factored.intermediateSize, designWidth(factored.blocks)];
  expect(compressedSize(factored, 2)).toEqual({
    parameters: p * m + 3 * 2 * (p + m),
    bytes: 2 * (p * m + 3 * 2 * (p + m)),
  });
});

it('rebuilds the same bits with any cache, and keeps within its budget', async () => {
  const layer = compressedLayer(12, { centre: true, expertOf: [0, 1, 2, 3] });
  const design = layer.intermediateSize * designWidth(layer.blocks) * 4;
  let first: string | undefined;
  for (const hold of ['disk', 'memory'] as const) {
    for (const cacheBytes of [0, design - 1, design, 2 * design, 3 * design, 100 * design]) {
      const { source } = await stored(layer, fusedTensors(layer), 'BF16', { hold, cacheBytes });
      const order = [0, 1, 2, 3, 0, 3, 1, 2, 2];
      const parts: unknown[] = [];
      for (const expert of order) {
        for (const name of ['blocks.1.experts.gate_up_proj', 'blocks.1.experts.down_proj']) {
          parts.push([...(await source.read(name, { rows: [expert, expert + 1] }))]);
          expect(source.residentBytes.cache).toBeLessThanOrEqual(cacheBytes);
        }
      }
      const all = await Promise.all(
        ['gate_up_proj', 'down_proj'].map((name) => source.read(`blocks.1.experts.${name}`)),
      );
      const text = JSON.stringify([parts, all.map((tensor) => [...tensor])]);
      first ??= text;
      expect(text).toBe(first);
      await source.close();
    }
  }
});

it('refuses rows and arrays that do not fit', async () => {
  const layer = compressedLayer(13);
  const { source } = await stored(layer, fusedTensors(layer));
  const name = 'blocks.1.experts.down_proj';
  await expect(source.read(name, { rows: [2, 4] })).rejects.toThrow('has no rows 2 to 4');
  await expect(source.read(name, { into: new Float32Array(3) })).rejects.toThrow(
    'takes a Float32Array of 105',
  );
  await expect(source.read(name, { into: new Uint16Array(105) })).rejects.toThrow(
    'takes a Float32Array of 105',
  );
  await expect(source.read('compressed.blocks.1.experts.0.0.values')).rejects.toThrow('there is no tensor');
  await source.close();
});

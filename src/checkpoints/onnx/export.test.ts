import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor as NodeTensor } from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportedModels, memoryModel, type MemoryModel } from '../../../test/support/exported-models.js';
import { relativeDifference } from '../../../test/support/operator-check.js';
import { cast, input, type Tensor } from '../../graph/index.js';
import { createModel, EncoderDecoder } from '../../models/index.js';
import { evaluationContext, nameParameters } from '../../nn/index.js';
import { compile } from '../../runtime/index.js';
import { layOut } from './data-file.js';
import { exportOnnx } from './index.js';

web.env.wasm.numThreads = 1;
web.env.logLevel = 'error';

const [batchSize, sequenceLength, targetLength] = [2, 9, 7];
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-onnx-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Ids and a mask whose second text is shorter. */
function text(length: number): { ids: number[]; mask: number[] } {
  const ids = Array.from({ length: batchSize * length }, (_, i) => (i * 7 + 3) % 23);
  return { ids, mask: ids.map((_, i) => Number(i < 2 * length - 3)) };
}

/** What our own engine computes: logits. */
async function ours({ options, weights }: MemoryModel): Promise<Float32Array> {
  const model = createModel(options);
  nameParameters(model);
  const int = (name: string, length: number): Tensor => input(name, 'int32', [batchSize, length]);
  const mask = (name: string, length: number): Tensor => cast(int(name, length), 'float32');
  const tokens = int('ids', sequenceLength);
  const source = { source: tokens, sourceMask: mask('mask', sequenceLength) };
  const { logits } =
    model instanceof EncoderDecoder
      ? model.forward(
          { ...source, target: int('target', targetLength), targetMask: mask('targetMask', targetLength) },
          evaluationContext(),
        )
      : model.forward({ ...source, tokens, mask: source.sourceMask }, evaluationContext());
  const program = await compile({ logits });
  const [long, short] = [text(sequenceLength), text(targetLength)];
  const feeds = { ids: long.ids, mask: long.mask, target: short.ids, targetMask: short.mask };
  program
    .bindKnown(weights)
    .bindKnown(Object.entries(feeds).map(([name, ids]) => [name, Int32Array.from(ids)]));
  const result = Float32Array.from((await program.run()).logits as Float32Array);
  await program.release();
  return result;
}

type Values = Readonly<Record<string, readonly number[] | Float32Array>>;
type Runner = (file: string, feeds: Values) => Promise<Record<string, Float32Array>>;

/** Feeds of a graph by its inputs' names, with the shapes that the export says. */
function shapesOf(exported: Awaited<ReturnType<typeof exportOnnx>>, file: string): Map<string, number[]> {
  return new Map(exported.graphs[file].inputs.map(({ name, shape }) => [name, shape as number[]]));
}

async function logitsBy(
  run: Runner,
  exported: Awaited<ReturnType<typeof exportOnnx>>,
): Promise<Float32Array> {
  const [long, short] = [text(sequenceLength), text(targetLength)];
  const source = { input_ids: long.ids, attention_mask: long.mask };
  if ('model.onnx' in exported.graphs) return (await run('model.onnx', source))['logits'];
  const { last_hidden_state: states } = await run('encoder_model.onnx', source);
  const { logits } = await run('decoder_model.onnx', {
    input_ids: short.ids,
    decoder_attention_mask: short.mask,
    encoder_hidden_states: states,
    encoder_attention_mask: long.mask,
  });
  return logits;
}

describe.each(Object.entries(exportedModels))('%s', (name, options) => {
  const model = memoryModel(options);
  let path: string;
  let exported: Awaited<ReturnType<typeof exportOnnx>>;
  let expected: Float32Array;
  beforeAll(async () => {
    path = join(folder, name);
    const progress: number[] = [];
    exported = await exportOnnx(model, path, {
      batchSize,
      sequenceLength,
      targetLength,
      onProgress: ({ bytes }) => progress.push(bytes),
    });
    expected = await ours(model);
    expect(progress.at(-1)).toBe(exported.dataBytes);
  });

  it('has named inputs and outputs, and its weights outside', async () => {
    const isTwo = name.startsWith('encoder');
    const files = isTwo ? ['decoder_model.onnx', 'encoder_model.onnx'] : ['model.onnx'];
    expect((await readdir(path)).sort()).toEqual([...files, 'model.onnx.data'].sort());
    expect(exported.opset).toBe(21);
    expect(Object.keys(exported.graphs).sort()).toEqual(files);
    const first = exported.graphs[isTwo ? 'encoder_model.onnx' : 'model.onnx'];
    expect(first.inputs).toEqual(
      ['input_ids', 'attention_mask'].map((each) => ({ name: each, elementType: 'INT64', shape: [2, 9] })),
    );
    const numbers = [...model.weights.values()].reduce((sum, { length }) => sum + length, 0);
    expect((await stat(join(path, 'model.onnx.data'))).size).toBe(exported.dataBytes);
    expect(exported.dataBytes).toBeGreaterThanOrEqual(4 * numbers);
    const last = exported.graphs[isTwo ? 'decoder_model.onnx' : 'model.onnx'];
    const shape = name.startsWith('classifier') ? [2, 3] : [2, isTwo ? 7 : 9, 23];
    expect(last.outputs).toEqual([{ name: 'logits', elementType: 'FLOAT', shape }]);
  });

  it('computes on onnxruntime-node what it computes here', async () => {
    const run: Runner = async (file, feeds) => {
      const session = await InferenceSession.create(join(path, file), { logSeverityLevel: 3 });
      const shapes = shapesOf(exported, file);
      const tensors = Object.entries(feeds).map(([each, values]): [string, NodeTensor] => [
        each,
        values instanceof Float32Array
          ? new NodeTensor('float32', values, shapes.get(each))
          : new NodeTensor('int64', BigInt64Array.from(values, BigInt), shapes.get(each)),
      ]);
      const results = await session.run(Object.fromEntries(tensors));
      await session.release();
      return Object.fromEntries(
        Object.entries(results).map(([each, { data }]) => [each, data as Float32Array]),
      );
    };
    const logits = await logitsBy(run, exported);
    expect(logits.length).toBe(expected.length);
    expect(relativeDifference([...logits], [...expected])).toBeLessThan(1e-5);
  });

  it('computes on onnxruntime-web what it computes here', async () => {
    const data = await readFile(join(path, 'model.onnx.data'));
    const run: Runner = async (file, feeds) => {
      const session = await web.InferenceSession.create(await readFile(join(path, file)), {
        executionProviders: ['wasm'],
        externalData: [{ path: 'model.onnx.data', data }],
      });
      const shapes = shapesOf(exported, file);
      const tensors = Object.entries(feeds).map(([each, values]): [string, web.Tensor] => [
        each,
        values instanceof Float32Array
          ? new web.Tensor('float32', values, shapes.get(each))
          : new web.Tensor('int64', BigInt64Array.from(values, BigInt), shapes.get(each)),
      ]);
      const results = await session.run(Object.fromEntries(tensors));
      await session.release();
      return Object.fromEntries(
        Object.entries(results).map(([each, { data: out }]) => [each, out as Float32Array]),
      );
    };
    const logits = await logitsBy(run, exported);
    expect(relativeDifference([...logits], [...expected])).toBeLessThan(1e-5);
  });
});

describe('what cannot be exported', () => {
  const dense = Object.values(exportedModels)[0];

  it.each<[string, object, RegExp]>([
    ['no texts', { batchSize: 0 }, /^batchSize must be a whole number above 0, not 0$/],
    ['half a token', { sequenceLength: 1.5 }, /^sequenceLength must be a whole number above 0, not 1.5$/],
    ['more tokens than the model takes', { sequenceLength: 13 }, /13 tokens do not fit contextLength 12/],
  ])('%s: one line, no folder', async (name, settings, message) => {
    const path = join(folder, name);
    const error = await exportOnnx(memoryModel(dense), path, settings).catch((e: unknown) => e);
    expect((error as Error).message).toMatch(message);
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  it('weights that cannot be read, or are not what the options say', async () => {
    const model = memoryModel(dense);
    const path = join(folder, 'unread');
    const gone = { ...model, readParameter: () => Promise.reject(new Error('the disk is gone')) };
    await expect(exportOnnx(gone, path)).rejects.toThrow('the disk is gone');
    const short = { ...model, readParameter: () => Promise.resolve(new Float32Array(3)) };
    await expect(exportOnnx(short, path)).rejects.toThrow('embedding.weight has 3 numbers, not 368');
    expect((await readdir(folder)).filter((each) => each.startsWith('unread'))).toEqual([]);
  });
});

it('large parameters lie on pages, small ones on cache lines, in the order given', () => {
  const { parameters, bytes } = layOut([
    ['a', [3]],
    ['b', [512, 1024]],
    ['c', [1]],
    ['d', [1024, 1024]],
    ['e', []],
  ]);
  expect(parameters.map(({ offset, length }) => [offset, length])).toEqual([
    [0, 12],
    [4096, 2 << 20],
    [4096 + (2 << 20), 4],
    [8192 + (2 << 20), 4 << 20],
    [8192 + (6 << 20), 4],
  ]);
  expect(bytes).toBe(8196 + (6 << 20));
});

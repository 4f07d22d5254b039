import { appendFile, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { temporaryFolder, tinyModel } from '../../test/support/tiny-training.js';
import {
  ModelFolderError,
  readModelConfig,
  saveSafetensors,
  type NamedTensor,
} from '../checkpoints/index.js';
import { ByteTokenizer, CharacterTokenizer, type Tokenizer } from '../data/index.js';
import { CheckpointStore } from './checkpoint-store.js';
import { createWeights } from './freeze.js';
import {
  loadLanguageModel,
  loadModel,
  namedTensors,
  saveModelConfig,
  saveModelWeights,
} from './model-folder.js';

let folder: string;
beforeEach(async () => {
  folder = join(await temporaryFolder(), 'model');
});
afterEach(() => rm(join(folder, '..'), { recursive: true, force: true }));

const model = tinyModel({ sparse: { numExperts: 3 }, positions: 'learned', bias: true });
const parameters = model.parameters();
const shapes = new Map([...parameters].map(([name, { shape }]) => [name, shape]));
const weights = (seed = 1): Map<string, Float32Array> => new Map(createWeights(parameters, [], seed).all);
const tensors = (seed?: number): NamedTensor[] => namedTensors(shapes, weights(seed));

async function save(tokenizer: Tokenizer = new ByteTokenizer(), at = folder): Promise<void> {
  await saveModelConfig(at, model.options, tokenizer);
  await saveModelWeights(at, tensors());
}
async function editConfig(change: Readonly<Record<string, unknown>>): Promise<void> {
  const file = join(folder, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  await writeFile(file, JSON.stringify({ ...config, ...change }));
}
async function refusal(path = folder): Promise<string> {
  const error = await loadLanguageModel(path).then(
    () => expect.unreachable('it was opened'),
    (reason: unknown) => reason as Error,
  );
  expect(error.message).not.toContain('\n');
  return error.message;
}

describe('a model folder', () => {
  test('brings options, tokenizer and every bit of the weights back, wherever it is moved', async () => {
    await save();
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    const moved = join(folder, '..', 'elsewhere');
    await rename(folder, moved);
    const loaded = await loadModel(moved);
    expect(loaded.model.options).toEqual(model.options);
    expect(loaded.weights).toEqual(weights());
    expect(loaded.tokenizer?.encode('né')).toEqual(new ByteTokenizer().encode('né'));
    expect(loaded).toMatchObject({ source: moved, warnings: [] });
    expect((await readModelConfig(moved)).options).toEqual(model.options);
  });

  test('may have room for more tokens than its tokenizer knows', async () => {
    await save(new CharacterTokenizer(['a', 'b']));
    const loaded = await loadModel(folder);
    expect([loaded.tokenizer?.vocabSize, loaded.model.options.vocabSize]).toEqual([2, 256]);
  });

  test('is refused when it has less', async () => {
    await save(new ByteTokenizer({ specialTokens: true }));
    expect(await refusal()).toBe(
      `${join(folder, 'tokenizer.json')}: the tokenizer has 259 tokens but the model has room for 256`,
    );
  });

  test.each<[string, () => Promise<unknown>, string | RegExp]>([
    ['no folder', () => rm(folder, { recursive: true }), 'there is no model here: cannot read'],
    ['text that is not JSON', () => writeFile(join(folder, 'config.json'), '{"a'), 'config.json: not JSON:'],
    ['null', () => writeFile(join(folder, 'config.json'), 'null'), 'config.json: not an object'],
    [
      'a model of others',
      () => editConfig({ model_type: 'gpt' }),
      'config.json: model_type "gpt" is not known; expected one of llama',
    ],
    ['an option of the wrong type', () => editConfig({ hiddenSize: 'wide' }), 'config.json: hiddenSize: '],
    ['an unknown option', () => editConfig({ heads: 2 }), 'config.json: '],
    ['no vocabulary', () => editConfig({ vocabSize: undefined }), 'config.json: vocabSize is missing'],
    ['no tokenizer', () => rm(join(folder, 'tokenizer.json')), 'tokenizer.json'],
    ['no weights', () => rm(join(folder, 'model.safetensors')), 'model.safetensors'],
    ['cut weights', () => truncate(join(folder, 'model.safetensors'), 9000), 'model.safetensors'],
    [
      'weights with something behind them',
      () => appendFile(join(folder, 'model.safetensors'), 'x'),
      'model.safetensors',
    ],
    [
      'other sizes',
      () => editConfig({ intermediateSize: 48 }),
      /does not fit config\.json: "blocks\.0\.\S+ is \[3, .*32.*\] instead of \[3, .*48.*\]/,
    ],
    ['fewer layers', () => editConfig({ numLayers: 1 }), 'does not fit config.json: not expected blocks.1'],
    ['more layers', () => editConfig({ numLayers: 3 }), 'does not fit config.json: missing blocks.2'],
  ])('%s: one clear line', async (_, damage, message) => {
    await save();
    await damage();
    expect(await refusal()).toMatch(message);
  });

  test('weights of a narrower type are widened', async () => {
    await save();
    const halves = tensors().map(({ name, shape, data }, i): NamedTensor =>
      i === 2
        ? { name, shape, dtype: 'F16', data: new Uint16Array(data.length) }
        : { name, shape, dtype: 'F32', data },
    );
    await saveSafetensors(join(folder, 'model.safetensors'), halves);
    const loaded = await loadModel(folder);
    expect([...loaded.weights.values()].map((values) => values.some((value) => value !== 0))).toEqual(
      [...weights().values()].map((values, i) => i !== 2 && values.some((value) => value !== 0)),
    );
  });

  test('a refused folder is a ModelFolderError', async () => {
    await expect(loadModel(folder)).rejects.toBeInstanceOf(ModelFolderError);
  });
});

describe('a run folder', () => {
  const run = (): string => join(folder, '..', 'run');
  const store = (): CheckpointStore => new CheckpointStore(join(run(), 'checkpoints'));
  beforeEach(async () => {
    await mkdir(run());
    await writeFile(join(run(), 'recipe.json'), '{}');
    await saveModelConfig(join(run(), 'model'), model.options, new ByteTokenizer());
  });
  const saveStep = (step: number): Promise<unknown> =>
    store().save(step, { model: tensors(step), optimizer: [], state: {} });

  test('opens at its newest checkpoint', async () => {
    await saveStep(10);
    await saveStep(20);
    const loaded = await loadModel(run());
    expect(loaded.weights).toEqual(weights(20));
    expect(loaded).toMatchObject({ source: `${run()} at step 20`, warnings: [] });
  });

  test('opens at its model once that is written, whatever checkpoints say', async () => {
    await saveStep(10);
    await saveModelWeights(join(run(), 'model'), tensors(7));
    const loaded = await loadModel(run());
    expect(loaded.weights).toEqual(weights(7));
    expect(loaded).toMatchObject({ source: run(), warnings: [] });
  });

  test.each(['model.safetensors', 'manifest.json'])('passes over a damaged %s and says so', async (file) => {
    await saveStep(10);
    await saveStep(20);
    await truncate(join(run(), 'checkpoints', 'step-000020', file), 100);
    const loaded = await loadModel(run());
    expect(loaded.weights).toEqual(weights(10));
    expect(loaded.source).toBe(`${run()} at step 10`);
    expect(loaded.warnings).toHaveLength(1);
    expect(loaded.warnings[0]).toMatch(
      /^checkpoint step-000020 is damaged: .*; falling back to step-000010$/,
    );
    expect(loaded.warnings[0]).toContain(join('step-000020', file));
  });

  test('with nothing but damage is refused by name', async () => {
    await saveStep(10);
    await truncate(join(run(), 'checkpoints', 'step-000010', 'model.safetensors'), 100);
    expect(await refusal(run())).toMatch(/^no checkpoint in .* is usable: checkpoint step-000010 is damaged/);
  });

  test('without a checkpoint is refused', async () => {
    expect(await refusal(run())).toBe(`${run()}: the run has no checkpoint yet`);
  });
});

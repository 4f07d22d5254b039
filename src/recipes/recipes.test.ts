import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { createModel } from '../models/index.js';
import {
  loadRecipe,
  nearestKey,
  parseRecipe,
  recipeDifferences,
  RecipeError,
  requireLanguageModel,
  recipeNames,
  recipeOfRun,
  versions,
} from './index.js';

const valid = {
  name: 'tiny',
  model: {
    hiddenSize: 16,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: 8,
    sparse: {
      numExperts: 4,
      router: { kind: 'softmax' },
      dispatch: { kind: 'capacity' },
      experts: { kind: 'feedForward' },
    },
  },
  data: { kind: 'text', path: 'book.txt', tokenizer: { kind: 'bpe', vocabSize: 300 } },
  train: { batchSize: 4, steps: 20, optimizer: { kind: 'adamw' }, schedule: {}, earlyStop: {} },
};

/** A copy with one value changed; undefined removes it. */
function withValue(path: string, value: unknown): unknown {
  const copy = structuredClone(valid) as Record<string, unknown>;
  const keys = path.split('.');
  let node = copy;
  for (const key of keys.slice(0, -1)) node = (node[key] ??= {}) as Record<string, unknown>;
  node[keys.at(-1)!] = value;
  return JSON.parse(JSON.stringify(copy));
}
function refusal(value: unknown): string {
  try {
    parseRecipe(value, 'my.json');
  } catch (error) {
    expect(error).toBeInstanceOf(RecipeError);
    expect((error as Error).message).not.toContain('\n');
    return (error as Error).message;
  }
  return expect.unreachable('it was accepted');
}

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the library', () => {
  test('has the recipes that the documentation names', () => {
    expect(recipeNames()).toEqual(
      expect.arrayContaining(['demo', 'paper/switch-base-8', 'shakespeare-dense', 'shakespeare-switch']),
    );
  });

  test.each(recipeNames())('%s parses, is named as its file, and describes a model', (name) => {
    const recipe = loadRecipe(name);
    expect(recipe.name).toBe(basename(name));
    expect(recipe.description).toMatch(/\.$/);
    const model = createModel({ ...recipe.model, vocabSize: recipe.model.vocabSize ?? 256 });
    expect(model.parameters().size).toBeGreaterThan(10);
    // Defaults are filled in, and a complete recipe stays as it is.
    expect(recipe.train.clipNorm).not.toBeUndefined();
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe)), name)).toEqual(recipe);
  });
});

describe('unknown keys name the nearest', () => {
  test.each([
    ['trian', 'train'],
    ['Seed', 'seed'],
    ['model.hidenSize', 'hiddenSize'],
    ['model.initialization.standardDevation', 'standardDeviation'],
    ['model.sparse.numExpert', 'numExperts'],
    ['model.sparse.router.jiter', 'jitter'],
    ['model.sparse.router.balancecoefficient', 'balanceCoefficient'],
    ['model.sparse.dispatch.capacityfactor', 'capacityFactor'],
    ['model.sparse.experts.expertDropuot', 'expertDropout'],
    ['data.pth', 'path'],
    ['data.tokenizer.vocabsize', 'vocabSize'],
    ['train.batchsize', 'batchSize'],
    ['train.schedule.warmupStep', 'warmupSteps'],
    ['train.optimizer.beta3', 'beta1'],
    ['train.evaluation.evry', 'every'],
    ['train.checkpoint.kep', 'keep'],
    ['train.earlyStop.patiance', 'patience'],
  ])('%s → %s', (path, nearest) => {
    expect(refusal(withValue(path, 1))).toContain(`my.json: ${path}: unknown key; did you mean ${nearest}?`);
  });

  test('or all known ones when none is near', () => {
    expect(refusal(withValue('train.schedule.zzzzzz', 1))).toBe(
      'my.json: train.schedule.zzzzzz: unknown key; known keys: kind, learningRate, warmupSteps, finalFraction',
    );
  });

  test('options of another kind are unknown, and the hint comes from the chosen kind', () => {
    const recipe = withValue('train.optimizer', { kind: 'sgd', beta1: 0.9 });
    expect(refusal(recipe)).toBe(
      'my.json: train.optimizer.beta1: unknown key; known keys: kind, momentum, weightDecay',
    );
  });

  test('several problems are told together', () => {
    const recipe = { ...(withValue('train.steps', 0) as object), extra: 1, sed: 2 };
    expect(refusal(recipe).split('; ').length).toBeGreaterThanOrEqual(4);
    expect(refusal(recipe)).toMatch(
      /train\.steps: .*extra: unknown key.*sed: unknown key; did you mean seed\?/,
    );
  });

  test.each([
    ['hidenSize', ['hiddenSize', 'headSize'], 'hiddenSize'],
    ['HIDDENSIZE', ['hiddenSize'], 'hiddenSize'],
    ['a', ['b', 'abc'], 'b'],
    ['completelyElse', ['kind', 'path'], undefined],
    ['x', [], undefined],
  ])('nearestKey(%s, %j) is %s', (key, known, expected) => {
    expect(nearestKey(key, known)).toBe(expected);
  });
});

describe('models of several kinds', () => {
  const pair = {
    kind: 'encoderDecoder',
    hiddenSize: 16,
    numEncoderLayers: 2,
    numDecoderLayers: 2,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: 8,
    sparse: { numExperts: 4 },
  };
  const withModel = (model: unknown): unknown => ({ ...valid, model });

  test('without a kind it is a language model', () => {
    expect(parseRecipe(valid, 'it').model).toMatchObject({ kind: 'languageModel', positions: 'rotary' });
    expect(parseRecipe(withModel(pair), 'it').model).toMatchObject({
      kind: 'encoderDecoder',
      positions: 'relative',
      sparse: { kind: 'experts', numExperts: 4 },
    });
  });

  test.each([
    [{ ...pair, numEncoderLayer: 1 }, 'model.numEncoderLayer: unknown key; did you mean numEncoderLayers?'],
    [{ ...pair, atentionScale: 1 }, 'model.atentionScale: unknown key; did you mean attentionScale?'],
    [
      { ...pair, sparse: { numExperts: 4, router: { kind: 'softmax', jiter: 1 } } },
      'model.sparse.router.jiter: unknown key; did you mean jitter?',
    ],
    [
      { ...valid.model, kind: 'languageModel', hidenSize: 1 },
      'model.hidenSize: unknown key; did you mean hiddenSize?',
    ],
    [
      { ...pair, kind: 'seq2seq' },
      "model.kind: Invalid discriminator value. Expected 'languageModel' | 'encoderDecoder' | 'classifier'",
    ],
    [{ ...pair, positions: 'rotary' }, 'model.positions: Invalid option: expected one of "relative"'],
  ])('%# is refused where it is wrong', (model, message) => {
    expect(refusal(withModel(model))).toContain(message);
  });

  const classifier = { ...pair, kind: 'classifier', head: 'decoderEos', numLabels: 2 };
  const task = { kind: 'task', train: 'a.tsv', validation: 'b.tsv', source: '{text}' };
  test.each([
    [
      valid.model,
      { ...task, target: '{word}' },
      'data.kind: a language model reads kind text, dataset or cldr',
    ],
    [
      valid.model,
      { kind: 'cldr', spanCorruption: {} },
      'data.spanCorruption: a language model predicts the next token',
    ],
    [pair, { ...task, label: 'class' }, 'data.target: an encoder–decoder says text'],
    [classifier, { ...task, target: '{word}' }, 'data.label: a classifier learns classes'],
    [classifier, { kind: 'cldr' }, 'data.kind: a classifier learns from kind task, not cldr'],
  ])('%# data that the model does not read', (model, data, message) => {
    expect(refusal({ ...valid, model, data })).toContain(message);
  });
  test('a comparison is of language models', () => {
    expect(() => requireLanguageModel(parseRecipe(withModel(pair), 'it'))).toThrow(
      'tiny is of kind encoderDecoder; a languageModel is needed here',
    );
  });
});

describe('wrong values say where, what, and what would be right', () => {
  test.each([
    ['model.hiddenSize', undefined, 'model.hiddenSize: is missing; expected number'],
    ['train', undefined, 'train: is missing; expected object'],
    [
      'model.hiddenSize',
      'wide',
      'model.hiddenSize: Invalid input: expected number, received string (got "wide")',
    ],
    [
      'model.numHeads',
      3,
      'model.hiddenSize: hiddenSize 16 is not divisible by numHeads 3; change one, or set headSize',
    ],
    ['model.sparse.topK', 5, 'model.sparse.topK: topK 5 is more than numExperts 4; choose 1 … 4'],
    [
      'model.sparse.every',
      3,
      'model.sparse.every: every 3 is more than numLayers 2: no layer would be sparse',
    ],
    [
      'model.sparse.dispatch.capacityFactor',
      0,
      'model.sparse.dispatch.capacityFactor: Too small: expected number to be >0 (got 0)',
    ],
    [
      'model.sparse.dispatch.capacityFactor',
      -1,
      'capacityFactor: Too small: expected number to be >0 (got -1)',
    ],
    ['model.dropout', 1, 'model.dropout: Too big: expected number to be <1 (got 1)'],
    ['model.activation', 'tanhh', 'model.activation: Invalid option: expected one of'],
    ['model.sparse.router.kind', 'oracle', 'model.sparse.router.kind: '],
    ['data.kind', 'texts', "data.kind: Invalid discriminator value. Expected 'cldr' | 'text' | 'dataset'"],
    [
      'data.tokenizer',
      { vocabSize: 300 },
      "data.tokenizer.kind: is missing; expected 'byte' | 'character' | 'bpe' | 'file'",
    ],
    ['data.validation', '', 'data.validation: '],
    [
      'train.optimizer.kind',
      'lion',
      "train.optimizer.kind: Invalid discriminator value. Expected 'adamw' | 'sgd'",
    ],
    ['train.steps', 2.5, 'train.steps: Invalid input: expected int, received number (got 2.5)'],
    ['train.freeze', ['a', ''], 'train.freeze.1: '],
    [
      'train.device',
      'gpu',
      'train.device: Invalid option: expected one of "cpu"|"webgpu"|"cuda" (got "gpu")',
    ],
    ['seed', -1, 'seed: Too small: expected number to be >=0 (got -1)'],
    ['name', 'a/b', 'name: '],
  ])('%s = %j', (path, value, message) => {
    expect(refusal(withValue(path, value))).toContain(message);
  });

  test.each([[null], [[]], ['text'], [7]])('a recipe that is %j', (value) => {
    expect(refusal(value)).toMatch(/^my\.json: the recipe: Invalid input: expected object, received /);
  });
});

describe('loadRecipe', () => {
  test('reads a file, and names it when it is not JSON or not an object', async () => {
    const file = join(folder, 'mine.json');
    await writeFile(file, JSON.stringify(valid));
    expect(loadRecipe(file)).toEqual(parseRecipe(valid, file));
    await writeFile(file, '{"name": ');
    expect(() => loadRecipe(file)).toThrow(`${file}: not JSON: `);
    for (const text of ['null', '[]', '"demo"', '3']) {
      await writeFile(file, text);
      expect(() => loadRecipe(file, ['seed=2'])).toThrow(
        new RecipeError(`${file}: a recipe is a JSON object`),
      );
    }
    await writeFile(file, JSON.stringify(withValue('sed', 1)));
    expect(() => loadRecipe(file)).toThrow(`${file}: sed: unknown key; did you mean seed?`);
  });

  test('names the library when there is no such recipe, and what is near', () => {
    const all = `give the path of a JSON file, or one of ${recipeNames().join(', ')}`;
    expect(() => loadRecipe('completely-else')).toThrow(`there is no recipe 'completely-else': ${all}`);
    expect(() => loadRecipe('demoo')).toThrow(
      `there is no recipe 'demoo': did you mean demo? Otherwise ${all}`,
    );
    expect(() => loadRecipe('paper/sigma-moe-enwik')).toThrow('did you mean paper/sigma-moe-enwik8?');
  });

  test('--set takes JSON, plain text, null, new branches and list entries', () => {
    const recipe = loadRecipe('demo', [
      'model.sparse.numExperts=16',
      'train.optimizer={"kind":"sgd","momentum":0.5}',
      'train.clipNorm=null',
      'train.earlyStop.patience=7',
      'data.languages.0=it',
      'description=a=b, not JSON',
      'name=other',
    ]);
    expect(recipe.model.sparse).toHaveProperty('numExperts', 16);
    expect(recipe.train.optimizer).toEqual({ kind: 'sgd', momentum: 0.5, weightDecay: 0 });
    expect(recipe.train).toMatchObject({ clipNorm: null, earlyStop: { patience: 7 } });
    expect(recipe.data).toMatchObject({ languages: expect.arrayContaining(['it']) as string[] });
    expect(recipe).toMatchObject({ description: 'a=b, not JSON', name: 'other' });
    expect(loadRecipe('demo', ['model.sparse=null']).model.sparse).toBeNull();
  });

  test.each([
    ['nothing', '--set nothing: expected path=value, such as train.steps=500'],
    ['=5', '--set =5: expected path=value'],
    ['train..steps=5', '--set train..steps=5: expected path=value'],
    ['__proto__.polluted=5', '--set __proto__.polluted=5: expected path=value'],
    ['constructor.prototype.polluted=5', "--set constructor.prototype.polluted=5: 'constructor'"],
    ['model.hiddenSize.x=5', "--set model.hiddenSize.x=5: 'hiddenSize' is 128, which has no keys"],
    ['train.stepz=5', 'demo.json with --set: train.stepz: unknown key; did you mean steps?'],
  ])('--set %s is refused', (override, message) => {
    expect(() => loadRecipe('demo', [override])).toThrow(message);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

describe('recipeDifferences', () => {
  test('lists paths with both values', () => {
    const before = { seed: 1, model: { a: [1, 2], b: null }, same: { x: 1 } };
    const after = { seed: 2, model: { a: [1, 3, 4], b: { c: 1 } }, same: { x: 1 }, extra: 'e' };
    expect(recipeDifferences(before, after)).toEqual([
      'seed: 1 → 2',
      'model.a.1: 2 → 3',
      'model.a.2: absent → 4',
      'model.b: null → {"c":1}',
      'extra: absent → "e"',
    ]);
    expect(recipeDifferences(after, structuredClone(after))).toEqual([]);
    expect(recipeDifferences(1, 2)).toEqual([': 1 → 2']);
  });
});

test('versions names everything that decides the bits of a run', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(versions()).toEqual({
    switchyard: version,
    node: process.version,
    onnxruntime: expect.stringMatching(/^1\.\d+\.\d+/) as string,
    icu: process.versions['icu'],
  });
});

test('recipeOfRun reads and checks the recipe of a run', async () => {
  const run = join(folder, 'run');
  await mkdir(run);
  const written = { ...valid, environment: versions() };
  await writeFile(join(run, 'recipe.json'), JSON.stringify(written));
  expect(await recipeOfRun(run)).toEqual(parseRecipe(written, 'it'));
  await writeFile(join(run, 'recipe.json'), JSON.stringify({ ...written, sed: 1 }));
  await expect(recipeOfRun(run)).rejects.toThrow(
    `${join(run, 'recipe.json')}: sed: unknown key; did you mean seed?`,
  );
  await expect(recipeOfRun(join(folder, 'nothing'))).rejects.toThrow('there is no run in');
});

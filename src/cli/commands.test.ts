import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Command, switchyard, tinyRecipe, twoAtATime, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import type { Recipe } from '../recipes/index.js';
import { loadLanguageModel } from '../train/index.js';

let folder: string;
let trained: Ended;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });

/** The one JSON object on standard output. */
function json({ code, stdout, stderr }: Ended): Record<string, unknown> {
  expect(code, stderr).toBe(0);
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
  return JSON.parse(stdout) as Record<string, unknown>;
}

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'tiny.json'), JSON.stringify(tinyRecipe));
  await writeFile(
    join(folder, 'book.txt'),
    'It was the best of times, it was the worst of times.\n'.repeat(20),
  );
  trained = await command('train', 'tiny.json', '--out', 'run', '--json');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('train', () => {
  test('--json prints one object; progress goes to standard error in plain lines', () => {
    const result = json(trained);
    expect(Object.keys(result)).toEqual([
      'run',
      'outcome',
      'step',
      'modelStep',
      'parameters',
      'seconds',
      'validation',
    ]);
    expect(result).toMatchObject({
      run: 'run',
      outcome: 'finished',
      step: 20,
      modelStep: 20,
      parameters: 11_408,
    });
    expect(Object.keys(result['validation'] as object)).toEqual([
      'loss',
      'perplexity',
      'bitsPerByte',
      'tokens',
      'bytes',
      'loads',
      'dropped',
    ]);
    const lines = trained.stderr.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^step 1\/20 {2}loss 5\.\d{3} {2}\S+ tokens\/s {2}balance 0\.\d\d {2}\S+ left$/);
    expect(lines[1]).toMatch(/^step 10 {2}validation loss \d\.\d{4} {2}\d\.\d{4} bits\/byte$/);

    expect(trained.stderr).not.toMatch(/[\r\x1b]/);
  });

  test('leaves a run folder in standard formats', async () => {
    expect(readdirSync(join(folder, 'run')).sort()).toEqual([
      'checkpoints',
      'metrics.jsonl',
      'model',
      'recipe.json',
      'routing',
    ]);
    expect(readdirSync(join(folder, 'run', 'routing'))).toEqual(['step-000010.json', 'step-000020.json']);
    expect(readdirSync(join(folder, 'run', 'checkpoints')).sort()).toEqual([
      'latest',
      'step-000015',
      'step-000020',
    ]);
    expect(readdirSync(join(folder, 'run', 'model')).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    const recipe = JSON.parse(await readFile(join(folder, 'run', 'recipe.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(recipe).toMatchObject({ name: 'tiny', seed: 3, train: { steps: 20, clipNorm: 1 } });
    expect(Object.keys(recipe['environment'] as object)).toEqual([
      'switchyard',
      'node',
      'onnxruntime',
      'icu',
      'data',
    ]);
  });

  test('says in words how it went, in runs/<name> by default', async () => {
    const { code, stdout } = await command(
      'train',
      'tiny.json',
      '--set',
      'train.steps=3',
      '--set',
      'name=second',
      '--threads',
      '1',
    );
    expect(code).toBe(0);
    expect(stdout).toBe(
      `finished at step 3 (11.4k parameters); the model is in ${join('runs', 'second', 'model')}\n`,
    );
    const recipe = JSON.parse(await readFile(join(folder, 'runs/second/recipe.json'), 'utf8')) as {
      train: object;
    };
    expect(recipe.train).toMatchObject({ steps: 3, threads: 1 });
  });

  test('--from starts at the weights of a run, and --freeze keeps some of them', async () => {
    const args = [
      '--from',
      'run',
      '--freeze',
      'embedding.*',
      '--freeze',
      '*.router.*',
      '--set',
      'train.steps=4',
    ];
    json(await command('train', 'tiny.json', '--out', 'tuned', '--json', ...args));
    const losses = (run: string): number[] =>
      readFileLines(join(folder, run, 'metrics.jsonl')).flatMap(({ taskLoss }) =>
        taskLoss === undefined ? [] : [taskLoss as number],
      );
    expect(losses('tuned')[0]).toBeLessThan(losses('run')[0] - 0.05);
    const recipe = JSON.parse(await readFile(join(folder, 'tuned/recipe.json'), 'utf8')) as Recipe;
    expect(recipe.environment).toMatchObject({ from: 'run' });
    expect(recipe.train.freeze).toEqual(['embedding.*', '*.router.*']);
    const weights = async (run: string): Promise<ReadonlyMap<string, Float32Array>> =>
      (await loadLanguageModel(join(folder, run))).weights;
    const [before, after] = [await weights('run'), await weights('tuned')];
    for (const [name, values] of after) {
      const isFrozen = name.startsWith('embedding.') || name.includes('.router.');
      expect(Buffer.from(values.buffer).equals(Buffer.from(before.get(name)!.buffer)), name).toBe(isFrozen);
    }
  });
});

describe('eval', () => {
  test('a run on its own validation set', async () => {
    const result = json(await command('eval', 'run', '--json'));
    expect(Object.keys(result)).toEqual([
      'model',
      'data',
      'loss',
      'perplexity',
      'bitsPerByte',
      'tokens',
      'bytes',
      'loads',
      'dropped',
    ]);
    expect(result).toMatchObject({ model: 'run', data: 'validation set of run' });
    const { validation } = json(trained) as { validation: { loss: number; tokens: number } };
    expect(result['loss']).toBeCloseTo(validation.loss, 5);
    expect(result['tokens']).toBe(validation.tokens);
  });

  test('with other routing than in training', async () => {
    const starving = 'model.sparse.dispatch={"kind":"capacity","evalCapacityFactor":0.5,"minimumCapacity":1}';
    const result = json(await command('eval', 'run', '--set', starving, '--json'));
    const { validation } = json(trained) as { validation: { dropped: number; tokens: number } };
    expect(validation.dropped).toBe(0);
    expect(result['dropped']).toBeGreaterThan(0.3 * validation.tokens);
  });

  test('a model folder on a text, in words', async () => {
    const { code, stdout, stderr } = await command(
      'eval',
      'run/model',
      '--data',
      'book.txt',
      '--max-batches',
      '2',
      '-b',
      '3',
    );
    expect(code, stderr).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(/ {2,}| (?=[\d.]+$)/)[0])).toEqual([
      'model',
      'data',
      'loss',
      'perplexity',
      'bits per byte',
      'tokens',
      'layer 1',
    ]);
    expect(lines[5]).toBe('tokens        96 (96 bytes)');
    expect(stderr).toBe('');
  });
});

describe('generate', () => {
  test('--json: prompt, text, tokens; the same seed gives the same text', async () => {
    const args = ['generate', 'run', '--prompt', 'Il y a', '--tokens', '12', '--json'];
    const [one, again, other] = await twoAtATime([args, args, [...args, '--seed', '2']], (some) =>
      command(...some),
    );
    const result = json(one);
    expect(Object.keys(result)).toEqual(['prompt', 'text', 'tokens', 'reason']);
    expect(result).toMatchObject({ prompt: 'Il y a', tokens: 12 });
    expect(json(again)).toEqual(result);
    expect(json(other)).not.toEqual(result);
  });

  test('prints the prompt and its continuation, from a model folder', async () => {
    const { code, stdout, stderr } = await command(
      'generate',
      'run/model',
      '-p',
      'né',
      '-n',
      '5',
      '-t',
      '0',
      '--top-k',
      '3',
      '--top-p',
      '0.9',
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^né[^]*\n$/);
    expect(stderr).toBe('');
  });
});

describe('inspect', () => {
  test.each(['run', 'tiny.json', 'run/model'])('%s: parameters, compute, memory', async (what) => {
    const result = json(await command('inspect', what, '--json'));
    expect(Object.keys(result)).toEqual([
      'kind',
      'vocabSize',
      'parameters',
      'activeParameters',
      'sparseParameters',
      'forwardFlopsPerToken',
      'trainingFlopsPerToken',
      'weightBytes',
      'trainingBytes',
      'sparseLayers',
      'sparse',
    ]);
    expect(result).toMatchObject({
      parameters: 11_408,
      activeParameters: 8336,
      weightBytes: 4 * 11_408,
      sparseLayers: [1],
    });
  });

  test('--parameters lists them, --set changes the recipe', async () => {
    const args = ['inspect', 'tiny.json', '--parameters', '--set', 'model.sparse.numExperts=9'];
    const { list, parameters } = json(await command(...args, '--json')) as {
      list: { count: number; shape: number[] }[];
      parameters: number;
    };
    expect(list.reduce((sum, { count }) => sum + count, 0)).toBe(parameters);
    expect(list.some(({ shape }) => shape[0] === 9)).toBe(true);
    const { stdout } = await command(...args);
    expect(stdout).toMatch(
      /^layers {13}2 \(1 sparse: 1\)\nexperts {12}9 a layer, top 1, router softmax, dispatch dropless\n/,
    );
    expect(stdout).toContain('embedding.weight');
  });
});

describe('data', () => {
  test('list names languages and data sets', async () => {
    const result = json(await command('data', 'list', '--json'));
    expect(Object.keys(result)).toEqual(['languages', 'datasets']);
    expect(result['datasets']).toMatchObject([{ name: 'tinyshakespeare', bytes: 1_115_394 }]);
    const { stdout } = await command('data', 'list');
    expect(stdout).toMatch(
      /^cldr {2}built in, 51 languages: en de .*\ntinyshakespeare {2}1\.12MB, switchyard data fetch tinyshakespeare \(https:/,
    );
  });

  test('show prints the lines of a seed', async () => {
    const args = ['data', 'show', '--languages', 'ja,en', '--lines', '6'];
    const [one, again, other] = await twoAtATime([args, args, [...args, '--seed', '4']], (some) =>
      command(...some),
    );
    expect(one.stdout.trimEnd().split('\n')).toHaveLength(6);
    expect(one.stdout).toMatch(/^(?:(?:ja|en)\t.+\n){6}$/);
    expect(again.stdout).toBe(one.stdout);
    expect(other.stdout).not.toBe(one.stdout);
  });
});

describe('demo', () => {
  const set = [
    'hiddenSize=16',
    'numLayers=2',
    'numHeads=2',
    'intermediateSize=32',
    'contextLength=16',
  ].flatMap((value) => ['--set', `model.${value}`]);
  const args = [
    'demo',
    '--out',
    'demo',
    ...set,
    '--set',
    'train.steps=10',
    '--set',
    'data.languages=["en","ja","ar"]',
    '--set',
    'data.validationLines=24',
  ];

  test('trains both models, compares them and shows who handles what; again it only shows', async () => {
    const result = json(await command(...args, '--json'));
    expect(Object.keys(result)).toEqual(['switch', 'dense', 'samples', 'specialization', 'seconds']);
    const [sparse, dense] = [result['switch'], result['dense']] as {
      loss: number;
      bitsPerByte: number;
      loads: unknown[];
    }[];
    expect([sparse.loads.length, dense.loads.length]).toEqual([1, 0]);
    expect(result['samples']).toMatchObject([{ language: 'en' }, { language: 'ar' }, { language: 'ja' }]);
    const table = {
      layer: '1',
      languages: ['en', 'ja', 'ar'],
      counts: expect.any(Array) as number[][],
      mutualInformation: expect.any(Number) as number,
    };
    expect(result['specialization']).toEqual([table]);
    expect(
      JSON.parse(await readFile(join(folder, 'demo/switch/routing/expert-language.json'), 'utf8')),
    ).toEqual(result['specialization']);

    const { code, stdout, stderr } = await command(...args);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(
      `switch          ${sparse.bitsPerByte.toFixed(4)}          ${sparse.loss.toFixed(4)}`,
    );
    expect(stdout).toMatch(
      /The Switch model's loss is \d+\.\d % (?:lower|higher) than that of the dense model/,
    );
    expect(stdout).toContain('Who handles what in layer 1');
    expect(stderr).not.toContain('step 1/10');
  });

  test('--fresh starts over', async () => {
    const { code, stderr } = await command(...args, '--fresh', '--set', 'train.steps=2', '--json');
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('step 1/2');
    expect(existsSync(join(folder, 'demo/switch/checkpoints/step-000002'))).toBe(true);
  });
});

test('--help of every command has an example', async () => {
  const all = [
    [],
    ['demo'],
    ['train'],
    ['eval'],
    ['generate'],
    ['inspect'],
    ['import'],
    ['export'],
    ['compress'],
    ['data'],
    ['data', 'list'],
    ['data', 'show'],
    ['data', 'fetch'],
  ];
  const helps = await twoAtATime(all, (args) => command(...args, '--help'));
  helps.forEach(({ code, stdout, stderr }, i) => {
    const name = ['switchyard', ...all[i]].join(' ');
    expect([code, stderr], name).toEqual([0, '']);
    expect(stdout, name).toContain(`Usage: ${name} `);
    expect(stdout.slice(stdout.indexOf('Example')), name).toContain(`\n  ${name} `);
  });
});

test('a closed pipe is no error', async () => {
  const running = new Command(['data', 'show', '--lines', '100000'], { cwd: folder });
  running.process.stdout!.once('data', () => running.process.stdout!.destroy());
  expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
});

test('--version is that of the package', async () => {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect((await command('--version')).stdout).toBe(`${version}\n`);
});

function readFileLines(path: string): Record<string, unknown>[] {
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

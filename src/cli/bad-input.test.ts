import { existsSync, readdirSync } from 'node:fs';
import { chmod, cp, mkdir, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, tinyRecipe, twoAtATime, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });
const isRoot = process.getuid?.() === 0;

beforeAll(async () => {
  folder = await temporaryFolder();
  const write = (name: string, content: string | Uint8Array): Promise<void> =>
    writeFile(join(folder, name), content);
  await write('tiny.json', JSON.stringify(tinyRecipe));
  await write('not-json.json', '{"name": ');
  await write('null.json', 'null');
  await write('empty.txt', '');
  await write(
    'latin1.txt',
    Buffer.concat([Buffer.from('caf'), Buffer.from([0xe9]), Buffer.alloc(900, 'x ')]),
  );
  await write('short.txt', 'hello wo\n');
  await write('one.txt', 'a');
  await write('book.txt', 'It was the best of times.\n'.repeat(40));
  expect(await command('train', 'tiny.json', '--out', 'run')).toMatchObject({ code: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Checks that a command failed with one line on standard error that says all of `parts`. */
function expectRefusal({ code, stdout, stderr }: Ended, ...parts: (string | RegExp)[]): void {
  expect(stdout).toBe('');
  expect(stderr).toMatch(/^(?:switchyard|error): [^\n]+\n(?:\(add --help for options and examples\)\n)?$/);
  for (const part of parts) expect(stderr).toMatch(part);
  expect(code).toBe(1);
}

/** Rows of what is wrong, a command, and what its error must say; the commands run before the tests, two at a time. */
function refusals(rows: readonly (readonly [string, readonly string[], string])[]): void {
  let results: Ended[];
  beforeAll(async () => {
    results = await twoAtATime(rows, ([, args]) => command(...args));
  }, 120_000);
  test.each(rows.map(([what], i) => [what, i] as const))('%s', (_, i) => {
    // Commander puts its guess on a line of its own.
    const stderr = results[i].stderr.replace('\n(Did', ' (Did');
    expectRefusal({ ...results[i], stderr }, rows[i][2]);
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });
}

const text = (path: string): string => `data={"kind":"text","path":"${path}"}`;

/** Arguments of `train` after `tiny.json --out …`, and what the error must say. */
const training: readonly (readonly [what: string, args: readonly string[], ...parts: (string | RegExp)[]])[] =
  [
    [
      'an unknown key',
      ['--set', 'model.hidenSize=4'],
      'tiny.json with --set: model.hidenSize: unknown key; did you mean hiddenSize?',
    ],
    [
      'a nested unknown key',
      ['--set', 'model.sparse.router.jiter=0'],
      'model.sparse.router.jiter: unknown key; did you mean jitter?',
    ],
    [
      'a width that heads do not divide',
      ['--set', 'model.numHeads=3'],
      'hiddenSize 16 is not divisible by numHeads 3',
    ],
    [
      'more choices than experts',
      ['--set', 'model.sparse.topK=9'],
      'model.sparse.topK: topK 9 is more than numExperts 4; choose 1 … 4',
    ],
    [
      'no capacity',
      ['--set', 'model.sparse.dispatch={"kind":"capacity","capacityFactor":0}'],
      'model.sparse.dispatch.capacityFactor: Too small: expected number to be >0 (got 0)',
    ],
    [
      'a vocabulary below the tokenizer',
      ['--set', 'model.vocabSize=100'],
      "model.vocabSize 100 is less than the tokenizer's 256 tokens",
    ],
    [
      'a vocabulary beyond the text',
      ['--set', 'data={"kind":"text","path":"book.txt","tokenizer":{"kind":"bpe","vocabSize":5000}}'],
      '5000',
    ],
    [
      'an override without a value',
      ['--set', 'steps'],
      '--set steps: expected path=value, such as train.steps=500',
    ],
    ['a missing corpus', ['--set', text('nothing.txt')], 'nothing.txt: there is no such file or folder'],
    ['an empty corpus', ['--set', text('empty.txt')], 'empty.txt is empty'],
    ['a corpus that is not UTF-8', ['--set', text('latin1.txt')], 'latin1.txt is not UTF-8: byte 3 (0xe9)'],
    [
      'a corpus below one context',
      ['--set', text('short.txt')],
      'the training text of short.txt has 8 tokens, but a context of 16 needs at least 17',
    ],
    [
      'a data set that was not fetched',
      ['--set', 'data={"kind":"dataset","name":"tinyshakespeare"}'],
      'run `switchyard data fetch tinyshakespeare`',
    ],
    [
      'CUDA where there is none',
      ['--device', 'cuda'],
      "device 'cuda' is not available here: it needs an NVIDIA GPU",
    ],
    [
      'an unknown device',
      ['--device', 'tpu'],
      'train.device: Invalid option: expected one of "cpu"|"webgpu"|"cuda" (got "tpu")',
    ],
    [
      'threads that are no number',
      ['--threads', 'many'],
      'train.threads: Invalid input: expected number, received string (got "many")',
    ],
    [
      'a pattern that freezes nothing',
      ['--freeze', 'encoder.*'],
      "train.freeze: 'encoder.*' fits no parameter; parameters are named like embedding.weight",
    ],
    ['everything frozen', ['--freeze', '*'], 'train.freeze: every parameter is frozen'],
    ['no model to start from', ['--from', 'nothing'], 'there is no model here: cannot read', 'nothing'],
    [
      'a model that does not fit',
      ['--from', 'run', '--set', 'model.intermediateSize=48'],
      'the model in run does not fit the recipe: blocks.0.feedForward.',
      /is \[.*32.*\] there and \[.*48.*\] here/,
    ],
    [
      'a model with more layers',
      ['--from', 'run', '--set', 'model.numLayers=1', '--set', 'model.sparse=null'],
      'the model in run does not fit the recipe: blocks.1.',
      'there and absent here',
    ],
    [
      'a model beyond memory',
      ['--set', 'model.hiddenSize=1000000'],
      /the model has \d+ parameters to train: .* cannot be allocated/,
    ],
    [
      'a folder below a file',
      ['--out', 'tiny.json/run'],
      'cannot create the run folder tiny.json/run: ',
      'ENOTDIR',
    ],
    ['a folder that is a file', ['--out', 'book.txt'], 'cannot create the run folder book.txt: '],
  ];

describe('train leaves nothing behind but one clear line', () => {
  let results: Ended[];
  beforeAll(async () => {
    results = await twoAtATime([...training.keys()], (i) =>
      command('train', 'tiny.json', '--out', `refused-${i}`, ...training[i][1]),
    );
  }, 120_000);

  test.each(training.map(([what], i) => [what, i] as const))('%s', (_, i) => {
    const [, , ...parts] = training[i];
    expectRefusal(results[i], ...parts);
    expect(existsSync(join(folder, `refused-${i}`))).toBe(false);
  });

  test('no temporary file is left in the cache', () => {
    const left = readdirSync(folder, { recursive: true }).map(String);
    expect(left.filter((name) => name.includes('.tmp'))).toEqual([]);
    expect(left.filter((name) => name.startsWith('refused'))).toEqual([]);
  });
});

describe('recipes and commands', () => {
  refusals([
    ['a recipe that is not JSON', ['train', 'not-json.json', '--out', 'x'], 'not-json.json: not JSON: '],
    [
      'a recipe that is no object',
      ['train', 'null.json', '--out', 'x', '--set', 'seed=1'],
      'null.json: a recipe is a JSON object',
    ],
    [
      'no such recipe',
      ['train', 'nothing', '--out', 'x'],
      "there is no recipe 'nothing': give the path of a JSON file, or one of cola, demo, ",
    ],
    ['no recipe at all', ['train'], 'give a recipe, or --resume with --out to continue a run'],
    ['an unknown command', ['trian'], "unknown command 'trian' (Did you mean train?)"],
    ['an unknown option', ['train', 'tiny.json', '--step', '3'], "unknown option '--step'"],
    ['a missing argument', ['eval'], "missing required argument 'model'"],
    ['inspecting nothing', ['inspect', 'nothing'], "there is no recipe 'nothing'"],
    ['--set on a run', ['inspect', 'run', '--set', 'seed=2'], '--set changes recipes; run is a run'],
    ['an unknown language', ['data', 'show', '--languages', 'en,xx'], 'the corpus does not speak "xx"'],
    [
      'a number out of range',
      ['generate', 'run', '--top-p', '0'],
      "expected a number from 1e-9 to 1, not '0'",
    ],
    [
      'an unknown data set',
      ['data', 'fetch', 'nothing'],
      'there is no data set "nothing"; known are: tinyshakespeare',
    ],
  ]);
});

describe('eval and generate', () => {
  refusals([
    ['no model', ['eval', 'nothing'], 'there is no model here: cannot read nothing/config.json'],
    [
      'a model folder without data',
      ['eval', 'run/model'],
      'run/model is a model folder without a recipe: say what to measure it on with --data FILE',
    ],
    [
      'a window without a text',
      ['eval', 'run', '--context-length', '4'],
      '--context-length is for language models on a text: give --data FILE as well, or leave it out',
    ],
    [
      'a window beyond the model',
      ['eval', 'run', '--data', 'one.txt', '--context-length', '99999'],
      "--context-length 99999 is more than the model's contextLength",
    ],
    ['a text of no token', ['eval', 'run', '--data', 'empty.txt'], 'empty.txt is empty'],
    [
      'a text of one token',
      ['eval', 'run', '--data', 'one.txt'],
      'one.txt has 1 tokens: nothing can be predicted',
    ],
    ['a text that is not UTF-8', ['eval', 'run', '--data', 'latin1.txt'], 'latin1.txt is not UTF-8'],
    [
      'a missing text',
      ['eval', 'run', '--data', 'nothing.txt'],
      'nothing.txt: there is no such file or folder',
    ],
    [
      'a recipe section that a model does not have',
      ['eval', 'run', '--set', 'train.steps=5'],
      '--set train.steps=5: a trained model has only its model section, such as model.sparse.router.stats=prefix',
    ],
    [
      'routing that needs other weights',
      ['generate', 'run', '--set', 'model.sparse.numExperts=5'],
      'run/model/model.safetensors does not fit config.json: "blocks.1.feedForward.router.classifier.weight" is [4, 16] instead of [5, 16]',
    ],
    [
      'a misspelt option of the model',
      ['eval', 'run', '--set', 'model.sparse.router.jiter=0'],
      'run/model/config.json: sparse.router: Unrecognized key: "jiter"',
    ],
    ['CUDA where there is none', ['eval', 'run', '--device', 'cuda'], "device 'cuda' is not available here"],
    [
      'an unknown device',
      ['generate', 'run', '--device', 'tpu'],
      "there is no device 'tpu'; the devices are: cpu, webgpu, cuda",
    ],
    [
      'an empty prompt',
      ['generate', 'run', '--prompt', ''],
      '--prompt is empty: give at least one character to continue',
    ],
  ]);
});

describe('runs', () => {
  test('train into an existing run', async () => {
    const before = await readFile(join(folder, 'run/recipe.json'), 'utf8');
    expectRefusal(
      await command('train', 'tiny.json', '--out', 'run'),
      'there is a run in run; resume it, or choose another folder',
    );
    expect(await readFile(join(folder, 'run/recipe.json'), 'utf8')).toBe(before);
  });

  test('resume with another recipe lists what differs', async () => {
    const result = await command(
      'train',
      'tiny.json',
      '--out',
      'run',
      '--resume',
      '--set',
      'train.steps=30',
      '--set',
      'model.sparse.topK=2',
    );
    expectRefusal(
      result,
      'run was made with another recipe; it differs in model.sparse.topK: 1 → 2; train.steps: 20 → 30',
    );
  });

  test.each<[string, string[], string]>([
    ['no run', ['--out', 'nothing'], 'there is no run in nothing: nothing/recipe.json does not exist'],
    [
      'other options',
      ['--out', 'run', '--threads', '1'],
      'a resumed run keeps its recipe: leave out --set, --freeze, --device and --threads',
    ],
    ['other weights', ['--out', 'run', '--from', 'run'], 'leave out --from run'],
  ])('resume with %s', async (_, args, message) => {
    expectRefusal(await command('train', '--resume', ...args), message);
    expect(existsSync(join(folder, 'nothing'))).toBe(false);
  });

  test('a folder that may not be written', async () => {
    const closed = join(folder, 'closed');
    await mkdir(closed);
    await chmod(closed, 0o555);
    await chmod(folder, 0o755);
    const user = isRoot ? { uid: 65534, gid: 65534 } : {};
    const args = ['train', 'tiny.json', '--out', 'closed/run', '--cache', join(folder, 'cache')];
    const result = await switchyard(args, { cwd: folder, ...user });
    expectRefusal(result, 'cannot create the run folder closed/run: ', 'EACCES');
    expect(readdirSync(closed)).toEqual([]);
  });
});

describe('damaged checkpoints', () => {
  let copies = 0;
  /** A copy of the run, whose checkpoints are of steps 15 and 20; as if stopped there, or with its finished model. */
  async function copyOfRun(finished = false): Promise<string> {
    const name = `damaged-${copies++}`;
    await cp(join(folder, 'run'), join(folder, name), { recursive: true });
    if (!finished) await rm(join(folder, name, 'model/model.safetensors'));
    return name;
  }
  async function flipBit(path: string, at: number): Promise<void> {
    const file = await open(path, 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0] ^= 4;
    await file.write(byte, 0, 1, at);
    await file.close();
  }
  const checkpoint = (run: string, step: number, file: string): string =>
    join(folder, run, 'checkpoints', `step-0000${step}`, file);

  test.each(['cut', 'flipped'])('eval passes over a %s one, says so, and names the file', async (how) => {
    const run = await copyOfRun();
    const file = checkpoint(run, 20, 'model.safetensors');
    await (how === 'cut' ? truncate(file, 5000) : flipBit(file, 30_000));
    const { code, stdout, stderr } = await command('eval', run, '--json');
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: `${run} at step 15` });
    expect(stderr).toMatch(
      /^warning: checkpoint step-000020 is damaged: \S+model\.safetensors: .*; falling back to step-000015\n$/,
    );
  });

  test('resume passes over a flipped one, says so, and ends where the run ended', async () => {
    const run = await copyOfRun();
    await flipBit(checkpoint(run, 20, 'optimizer.safetensors'), 40_000);
    const { code, stdout, stderr } = await command('train', '--resume', '--out', run, '--json');
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ outcome: 'finished', step: 20 });
    expect(stderr).toMatch(
      /^warning: checkpoint step-000020 is damaged: \S+optimizer\.safetensors: .*; falling back to step-000015\n/,
    );
    expect(stderr).toMatch(/\nwarning: set aside \S+step-000020\.abandoned-1\n/);
    const model = (name: string): Promise<Buffer> => readFile(join(folder, name, 'model/model.safetensors'));
    expect(Buffer.compare(await model(run), await model('run'))).toBe(0);
  });

  test('when all are damaged, eval and resume refuse and name the files', async () => {
    const run = await copyOfRun();
    for (const step of [15, 20]) await truncate(checkpoint(run, step, 'model.safetensors'), 100);
    const before = readdirSync(join(folder, run), { recursive: true }).map(String).sort();
    for (const args of [
      ['eval', run],
      ['generate', run],
      ['train', '--resume', '--out', run],
    ]) {
      expectRefusal(
        await command(...args),
        /no checkpoint in \S+ is usable: .*step-000020\S+model\.safetensors: .*step-000015/,
      );
    }
    expect(readdirSync(join(folder, run), { recursive: true }).map(String).sort()).toEqual(before);
  });

  test('a damaged model folder is refused by name', async () => {
    const run = await copyOfRun(true);
    await truncate(join(folder, run, 'model/model.safetensors'), 20_000);
    expectRefusal(await command('eval', run), /model\.safetensors/);
    expectRefusal(await command('eval', `${run}/model`, '--data', 'book.txt'), /model\.safetensors/);
    await writeFile(join(folder, run, 'model/config.json'), '{');
    expectRefusal(await command('inspect', run), /config\.json: not JSON/);
  });
});

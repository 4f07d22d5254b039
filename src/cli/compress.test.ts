import { readdirSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, twoAtATime, type Ended } from '../../test/support/command.js';
import { relatedExperts } from '../../test/support/compression.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });

beforeAll(async () => {
  folder = await temporaryFolder();
  await relatedExperts(join(folder, 'model'));
  await relatedExperts(join(folder, 'dense'), { sparse: undefined });
  await writeFile(join(folder, 'text.txt'), 'It was the best of times.\n'.repeat(20));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test(
  'compress, then diff: what is smaller, and how far the logits are apart',
  { timeout: 120_000 },
  async () => {
    const made = await command(
      'compress',
      'model',
      '-o',
      'small',
      '--residual',
      'svd',
      '--layers',
      'last:1',
      '--json',
    );
    expect(made).toMatchObject({ code: 0, stderr: '' });
    const told = JSON.parse(made.stdout) as { layers: { name: string }[]; verified: unknown };
    expect(told).toMatchObject({ output: 'small', verified: { restored: 2 } });
    expect(told.layers.map(({ name }) => name)).toEqual(['blocks.1']);
    const config = JSON.parse(await readFile(join(folder, 'small/config.json'), 'utf8')) as object;
    expect(config).toMatchObject({
      model_type: 'switchyard_language_model',
      compression: { version: 1, method: 'resmoe', options: { residual: 'svd', perExpert: 0.25 } },
    });
    const [plain, json, factored, rebuilt, written] = await twoAtATime(
      [
        ['diff', 'model', 'small', '--text', 'text.txt', '--exit-code'],
        ['diff', 'model', 'model', '--json', '--exit-code'],
        ['eval', 'small', '--data', 'text.txt', '--experts', 'factorised', '--json'],
        ['eval', 'small', '--data', 'text.txt', '--json'],
        ['generate', 'small', '--prompt', 'It', '--tokens', '3', '--experts', 'factorised', '--json'],
      ],
      (args) => command(...args),
    );
    expect(plain.code).toBe(1);
    expect(plain.stdout).toMatch(/! "blocks\.1\.feedForward\.experts\.up" F32 \[4, 16, 32\] {2}\d+ differ/);
    expect(plain.stdout).toMatch(/\d+ equal, 2 changed, 0 only in the first, 0 only in the second/);
    expect(plain.stdout).toMatch(/logits +at \d+ positions: [\d.e+-]+ apart at most, KL [\d.e+-]+ nats/);
    expect(json.code).toBe(0);
    expect(JSON.parse(json.stdout)).toMatchObject({ onlyFirst: [], onlySecond: [], changed: [] });
    const loss = ({ stdout }: Ended): number => (JSON.parse(stdout) as { loss: number }).loss;
    expect(Math.abs(loss(factored) - loss(rebuilt))).toBeLessThan(1e-5);
    expect(written).toMatchObject({ code: 0 });
  },
);

test('a method that looks at a text', { timeout: 120_000 }, async () => {
  const made = await command('compress', 'model', '-o', 'wanda', '-m', 'wanda', '--calibration', 'text.txt');
  expect(made).toMatchObject({ code: 0 });
  expect(made.stdout).toMatch(/parameters .* → .*\non disk .*; by the accounting .*\nopened/);
  expect(made.stderr).toContain(
    'compressing 2 of 2 layers of experts; finished ones are kept in wanda.partial',
  );
});

test('a page about a model and its compressed forms', { timeout: 120_000 }, async () => {
  for (const ratio of ['0.1', '0.4'])
    expect(await command('compress', 'model', '-o', `kept-${ratio}`, '--ratio', ratio)).toMatchObject({
      code: 0,
    });
  const folders = ['model', 'kept-0.1', 'kept-0.4'];
  const made = await command('report', ...folders, '--data', 'text.txt', '-o', 'page.html', '--json');
  expect(made).toMatchObject({ code: 0 });
  const { models } = JSON.parse(made.stdout) as { models: { name: string; bytes: number; loss: number }[] };
  expect(models.map(({ name }) => name)).toEqual(folders);
  expect(models[1].bytes).toBeLessThan(models[2].bytes);
  for (const { loss } of models) expect(loss).toBeGreaterThan(0);
  const page = await readFile(join(folder, 'page.html'), 'utf8');
  for (const id of ['size', 'errors', 'spectrum']) expect(page).toContain(`<section id="${id}"`);
  expect(JSON.parse(await readFile(join(folder, 'page.json'), 'utf8'))).toMatchObject({ version: 1, models });
});

describe('one line says what is wrong, and nothing is written', () => {
  const rows: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['no such folder', ['nowhere'], /there is no model here: cannot read nowhere\/config\.json/],
    ['no experts', ['dense'], /the model has no layers of experts/],
    [
      'no such layer',
      ['model', '--layers', '7'],
      /'7' is no layer of experts; there are blocks\.0, blocks\.1/,
    ],
    ['no such method', ['model', '--method', 'zip'], /Allowed choices are resmoe/],
    [
      'an option of another method',
      ['model', '--method', 'average', '--residual', 'up'],
      /residual: unknown key/,
    ],
    ['no such centre', ['model', '--centre', 'median'], /centre/],
    ['a ratio of nothing', ['model', '--ratio', '0'], /expected a number from 0\.000001 to 1, not '0'/],
    ['less than a centre', ['model', '--layer-fraction', '0.2'], /a centre alone takes 1\/4 of the layer/],
    ['no text to look at', ['model', '--method', 'wanda'], /give it a text with --calibration FILE/],
  ];
  let results: Ended[];
  beforeAll(async () => {
    results = await twoAtATime(rows, ([, args]) => command('compress', ...args, '--output', 'x', '--json'));
  }, 120_000);
  test.each(rows.map(([what], i) => [what, i] as const))('%s', (_, i) => {
    const { code, stdout, stderr } = results[i];
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^(?:switchyard|error): [^\n]+\n(?:\(add --help for options and examples\)\n)?$/);
    expect(stderr).toMatch(rows[i][2]);
    expect(readdirSync(folder).filter((name) => name.startsWith('x'))).toEqual([]);
  });
});

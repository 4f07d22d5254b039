import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { switchyard, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { openCheckpoint } from '../checkpoints/index.js';

let folder: string;
beforeAll(async () => void (folder = await temporaryFolder()));
afterAll(() => rm(folder, { recursive: true, force: true }));

const dense = resolve('test/golden/t5/relu');
const command = (...args: string[]): Promise<Ended> => switchyard(['upcycle', ...args], { cwd: folder });

test('a dense T5 becomes a model with experts in every second block', async () => {
  const set = ['--set', 'model.sparse.router.jitter=0.1'];
  const { code, stdout, stderr } = await command(
    dense,
    'sparse',
    '--experts',
    '3',
    '--noise',
    '0.01',
    ...set,
  );
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^sparse: [\d.]+k parameters, [\d.]+k active, 2 sparse layers\n$/);
  const { options, close } = await openCheckpoint(join(folder, 'sparse'));
  await close();
  expect(options.sparse).toMatchObject({
    every: 2,
    numExperts: 3,
    topK: 2,
    router: { normalizeGates: true, jitter: 0.1 },
  });
});

test('--raw-gates', async () => {
  const { code, stderr } = await command(dense, 'raw', '-e', '2', '-k', '1', '--raw-gates');
  expect(code, stderr).toBe(0);
  const { options, close } = await openCheckpoint(join(folder, 'raw'));
  await close();
  expect(options.sparse).toMatchObject({ topK: 1, router: { normalizeGates: false } });
});

test.each<[string, string[], string]>([
  ['no experts', [], "required option '-e, --experts <count>' not specified"],
  ['more choices than experts', ['-e', '2', '-k', '3'], 'sparse.topK: topK 3 is more than numExperts 2'],
  ['an option of other layers', ['-e', '2', '-s', 'model.hiddenSize=3'], 'only the sparse layers are new'],
])('%s: one line, nothing written', async (_, flags, message) => {
  const { code, stdout, stderr } = await command(dense, 'bad', ...flags);
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toContain(message);
  expect(existsSync(join(folder, 'bad'))).toBe(false);
});

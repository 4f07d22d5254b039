/**
 * Compression under fire: killed processes, full disks, missing shards.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { openTensors, saveTensors } from '../../src/checkpoints/index.js';
import { switchyard } from '../support/command.js';
import { relatedExperts } from '../support/compression.js';
import { temporaryFolder } from '../support/tiny-training.js';
import { fixture, node, requireBuild } from './child.js';

const isLong = process.env['SWITCHYARD_LONG'] === '1';
const isRoot = process.getuid?.() === 0;

let root: string;
let folder: string;
let out: string;
beforeAll(requireBuild);
beforeEach(async () => {
  root = await temporaryFolder();
  folder = await relatedExperts(join(root, 'model'));
  out = join(root, 'small');
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function contents(path: string): Promise<Record<string, string>> {
  const names = (await readdir(path)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(path, name), 'latin1')));
  return Object.fromEntries(names.map((name, i) => [name, texts[i]]));
}

it(
  'killed anywhere and begun again, gives the same bytes as uninterrupted',
  { timeout: 600_000 },
  async () => {
    const whole = node('compress.mjs', [folder, `${out}-whole`]);
    expect(await whole.ended).toBe(0);
    const heard = whole.told[0]['heard'] as number;
    expect(heard).toBeGreaterThan(20);
    const expected = await contents(`${out}-whole`);
    // Long: every point. Short: the first, the last, and some between.
    const stride = isLong ? 1 : Math.ceil(heard / 4);
    const points = Array.from({ length: heard }, (_, i) => i + 1).filter(
      (point) => point % stride === 1 % stride || point === heard,
    );
    let takenOver = 0;
    for (const point of points) {
      const killed = node('compress.mjs', [folder, out, point]);
      expect(await killed.ended, `at ${point}`).toBe('SIGKILL');
      expect(existsSync(out), `at ${point}`).toBe(false);
      const names = await readdir(`${out}.partial`);
      takenOver += names.filter((name) => name.endsWith('.safetensors.json')).length;
      const again = node('compress.mjs', [folder, out]);
      expect(await again.ended).toBe(0);
      expect(again.told[0]).toHaveProperty('heard');
      expect(await contents(out), `at ${point}`).toEqual(expected);
      expect((await readdir(root)).sort(), `at ${point}`).toEqual(['model', 'small', 'small-whole']);
      await rm(out, { recursive: true });
    }
    expect(takenOver).toBeGreaterThan(0);
  },
);

it('killed twice by the command, then finished by it', { timeout: 120_000 }, async () => {
  const args = ['compress', folder, '--output', out, '--json'];
  for (const point of [5, 20]) {
    const killed = node('compress.mjs', [folder, `${out}-other`, point]);
    expect(await killed.ended).toBe('SIGKILL');
  }
  expect(await switchyard(args)).toMatchObject({ code: 0, stderr: '' });
  const again = node('compress.mjs', [folder, `${out}-other`]);
  expect(await again.ended).toBe(0);
  const [command, library] = [await contents(out), await contents(`${out}-other`)];
  expect(command['model.safetensors']).toBe(library['model.safetensors']);
});

const unshare = isRoot ? ['--mount'] : ['--mount', '--map-root-user'];
const canMount =
  spawnSync('unshare', [...unshare, 'sh', '-c', 'mount -t tmpfs -o size=1m none /tmp']).status === 0;
if (!canMount) console.log('skipped: a full disk, because this machine does not permit to mount a tmpfs');

it.runIf(canMount).each([
  ['the first layer', '16k', '', []],
  ['the folder', '72k', ': it goes on from the finished layers in .*small\\.partial', ['small.partial']],
])('a disk that is full at %s: what to do, and nothing half-written', async (_, size, more, left) => {
  const disk = join(root, 'disk');
  await mkdir(disk);
  const target = join(disk, 'small');
  // In its own mount namespace, and what is left is listed there.
  const inside = `mount -t tmpfs -o size=${size} none "$0" && "$@"; ls "$0"`;
  const program = [process.execPath, fixture('compress.mjs'), folder, target];
  const run = spawnSync('unshare', [...unshare, 'sh', '-c', inside, disk, ...program], { encoding: 'utf8' });
  expect(run.stderr).toBe('');
  const [told, ...names] = run.stdout.trim().split('\n');
  const { message } = JSON.parse(told) as { message: string };
  expect(message).toMatch(
    new RegExp(`no space left on the device \\(ENOSPC\\).*make room and run the same command again${more}$`),
  );
  expect(names).toEqual(left);
});

it('a missing shard: one line that names it, and nothing written', async () => {
  const sharded = join(root, 'sharded');
  await cp(folder, sharded, { recursive: true });
  await rename(join(sharded, 'model.safetensors'), join(root, 'all.safetensors'));
  const source = await openTensors(join(root, 'all.safetensors'));
  const tensors = [...source.tensors.values()].map((info) => ({
    ...info,
    data: () => source.read(info.name),
  }));
  await saveTensors(sharded, tensors, { maxShardBytes: 20_000 });
  await source.close();
  const shard = (await readdir(sharded)).filter((name) => /^model-00002-of-/.test(name))[0];
  await rm(join(sharded, shard));
  const { code, stderr } = await switchyard(['compress', sharded, '--output', out]);
  expect(code).toBe(1);
  expect(stderr).toMatch(new RegExp(`^switchyard: [^\\n]*${shard}[^\\n]*\\n$`));
  expect((await readdir(root)).sort()).toEqual(['all.safetensors', 'model', 'sharded']);
});

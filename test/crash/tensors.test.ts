/**
 * Model folders under fire: killed processes, full disks, forbidden folders. Long form with SWITCHYARD_LONG=1.
 */
import { spawnSync } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { openTensors, SafetensorsError } from '../../src/checkpoints/index.js';
import { uniformAt } from '../../src/nn/index.js';
import { fixture, node, requireBuild } from './child.js';

const isLong = process.env['SWITCHYARD_LONG'] === '1';
const isRoot = process.getuid?.() === 0;

let folder: string;
beforeAll(requireBuild);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-tensors-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Reads every number of a model folder. */
async function expectSound(path: string, bytes: number): Promise<void> {
  const source = await openTensors(path);
  expect([...source.tensors.keys()]).toEqual(['t0', 't1', 't2', 't3']);
  for (const [i, name] of [...source.tensors.keys()].entries()) {
    const read = (await source.read(name)) as Uint8Array;
    expect(read.length).toBe(bytes);
    expect(read.every((value) => value === i + 1)).toBe(true);
  }
  await source.close();
}

it.each([['a folder around them'], ['shards and index alone']])(
  'killed at random moments (seed 1), %s: whole or not at all',
  { timeout: 600_000 },
  async (form) => {
    const isBare = form === 'shards and index alone';
    const [kills, bytes] = [isLong ? 100 : 12, isLong ? 1 << 20 : 1 << 16];
    let [sound, unfinished] = [0, 0];
    for (let kill = 0; kill < kills; kill++) {
      const child = node('save-tensors.mjs', [folder, bytes, 1000, ...(isBare ? ['bare'] : [])]);
      // Half of the kills come before the first save is over, if the machine is slow.
      await child.tells(kill % 2 === 0 ? 'ready' : 'saved');
      await delay(uniformAt(1, kill) * 40);
      child.process.kill('SIGKILL');
      expect(await child.ended).toBe('SIGKILL');
      const told = child.told.flatMap((line) => ('saved' in line ? [line['saved'] as string] : []));
      const names = await readdir(folder);
      for (const name of told) expect(names).toContain(name);
      for (const name of names) {
        const path = join(folder, name);
        if (name.includes('.tmp-')) unfinished++;
        else if (isBare && !told.includes(name)) {
          // Either the index is there and everything with it, or nobody takes the folder for a checkpoint.
          const error = await expectSound(path, bytes).catch((e: unknown) => e);
          if (error !== undefined) {
            expect(error).toBeInstanceOf(SafetensorsError);
            expect((error as Error).message).toContain('holds neither');
            unfinished++;
          }
        } else await expectSound(path, bytes);
        sound += name.includes('.tmp-') ? 0 : 1;
        await rm(path, { recursive: true });
      }
    }
    // Otherwise the kills came between the saves, and nothing was tested.
    expect(unfinished).toBeGreaterThan(kills / 4);
    expect(sound).toBeGreaterThan(0);
  },
);

const unshare = isRoot ? ['--mount'] : ['--mount', '--map-root-user'];
const canMount =
  spawnSync('unshare', [...unshare, 'sh', '-c', 'mount -t tmpfs -o size=1m none /tmp']).status === 0;
if (!canMount) console.log('skipped: a full disk, because this machine does not permit to mount a tmpfs');

it.runIf(canMount).each([[[]], [['bare']]])(
  'a disk that is full %s: one clear error, nothing left of the save',
  (form) => {
    // In its own mount namespace, on a file system of 4 MB that has room for one model of 2.4 MB.
    const inside = `mount -t tmpfs -o size=4m none "$0" && exec "$@"`;
    const program = [process.execPath, fixture('save-tensors.mjs'), folder, '600000', '3', ...form];
    const run = spawnSync('unshare', [...unshare, 'sh', '-c', inside, folder, ...program], {
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    const [, saved, failed] = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(saved).toEqual({ saved: 'model-0' });
    expect(failed['message']).toMatch(/: cannot write: no space left on the device \(ENOSPC\)/);
    expect(failed['message']).not.toContain('\n');
    const whole = [
      '',
      '/model-00001-of-00002.safetensors',
      '/model-00002-of-00002.safetensors',
      '/model.safetensors.index.json',
    ];
    expect(failed['names']).toEqual([
      ...whole.map((name) => `model-0${name}`),
      ...(form.length > 0 ? ['model-1'] : []),
    ]);
  },
);

const asNobody = isRoot ? { uid: 65534, gid: 65534 } : {};
const canRead =
  spawnSync(process.execPath, ['-e', `require('fs').readdirSync(process.argv[1])`, fixture('.')], asNobody)
    .status === 0;
if (!canRead) console.log('skipped: a forbidden folder, because another user cannot read this project');

it.runIf(canRead && process.platform !== 'win32')(
  'a folder that cannot be written: one clear error',
  async () => {
    await chmod(folder, 0o555);
    const child = node('save-tensors.mjs', [folder, 1000, 1], asNobody);
    expect(await child.ended).toBe(0);
    expect(child.told[1]).toMatchObject({
      name: 'FolderError',
      message: `${join(folder, 'model-0')}: cannot write: permission denied (EACCES); nothing was left behind`,
      names: [],
    });
  },
);

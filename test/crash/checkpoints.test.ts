/**
 * Checkpoints under fire: killed processes, full disks, forbidden folders. Long form with SWITCHYARD_LONG=1.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { saveStages } from '../../src/train/checkpoint-save.js';
import { CheckpointStore } from '../../src/train/checkpoint-store.js';
import { Child, emptyPayload, fixture, node, payload, requireBuild } from './child.js';

const isLong = process.env['SWITCHYARD_LONG'] === '1';
const isRoot = process.getuid?.() === 0;

let parent: string;
let folder: string;
beforeAll(requireBuild);
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'switchyard-crash-'));
  folder = join(parent, 'checkpoints');
});
afterEach(() => rm(parent, { recursive: true, force: true }));

/** Loads every listed checkpoint and compares every number. */
async function expectAllSound(elements: number): Promise<number[]> {
  const store = new CheckpointStore(folder);
  const steps = (await store.list()).map((info) => info.step);
  const into = emptyPayload(elements);
  for (const step of steps) {
    const { state } = await store.load(step, into);
    const expected = payload(step, elements);
    expect(state).toEqual(expected.state);
    for (const part of ['model', 'optimizer'] as const) {
      expected[part].forEach(({ name, data }, i) => {
        const found = into[part][i].data;
        expect(Buffer.compare(bytes(found), bytes(data)), `${name} of step ${step}`).toBe(0);
      });
    }
  }
  return steps;
}

const bytes = (data: NodeJS.ArrayBufferView): Buffer =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength);

/** A seeded sequence of numbers in [0, 1) (mulberry32). */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('SIGKILL', () => {
  const kills = isLong ? 200 : 50;
  const elements = isLong ? 2 << 20 : 32 << 10;

  it(
    `at ${kills} random moments (seed 1): the newest checkpoint is sound and the one before survives`,
    { timeout: 1_800_000 },
    async () => {
      const random = uniform(1);
      let told = 0;
      let broken = 0;
      for (let kill = 0; kill < kills; kill++) {
        const child = node('save-loop.mjs', [folder, elements, 1000]);
        await child.tells('ready');
        await delay(random() * (isLong ? 400 : 60));
        child.process.kill('SIGKILL');
        expect(await child.ended).toBe('SIGKILL');
        told = Math.max(told, ...child.told.map((line) => Number(line['saved'] ?? 0)));
        const steps = await expectAllSound(elements);
        // What was told to be saved is there; more may be.
        expect(steps.at(-1) ?? 0).toBeGreaterThanOrEqual(told);
        expect(steps.length).toBeGreaterThanOrEqual(Math.min(told, 2));
        if (told > 1) expect(steps.at(-1)! - steps.at(-2)!).toBe(1);
        if (existsSync(folder))
          broken += (await readdir(folder)).some((name) => name.includes('.tmp-')) ? 1 : 0;
      }
      console.log(`${kills} kills, ${told} checkpoints saved, ${broken} kills left work half done`);
      // Otherwise the kills came between the saves, and nothing was tested.
      expect(broken).toBeGreaterThan(kills / 4);
      const last = node('save-loop.mjs', [folder, elements, 1]);
      expect(await last.ended).toBe(0);
      expect((await readdir(folder)).filter((name) => name.includes('.tmp-'))).toEqual([]);
    },
  );

  it.each(saveStages)("before stage '%s': old or new, never half", async (stage) => {
    const child = node('save-loop.mjs', [folder, 1000, 10, stage, 3]);
    expect(await child.ended).toBe('SIGKILL');
    const steps = await expectAllSound(1000);
    const isNew = stage === 'latest' || stage === 'retention';
    expect(steps).toEqual(isNew ? [1, 2, 3] : [1, 2]);
    // `latest` never names what is not there, and lags behind by one step at most.
    expect(await readFile(join(folder, 'latest'), 'utf8')).toBe(
      stage === 'retention' ? 'step-000003\n' : 'step-000002\n',
    );
    const next = node('save-loop.mjs', [folder, 1000, 1]);
    expect(await next.ended).toBe(0);
    expect((await readdir(folder)).sort()).toEqual(
      isNew ? ['latest', 'step-000003', 'step-000004'] : ['latest', 'step-000002', 'step-000003'],
    );
    await expectAllSound(1000);
  });
});

describe('a disk that is full', () => {
  /** Runs in its own mount namespace, on a file system of 4 MB. */
  const inside = ['-c', `mount -t tmpfs -o size=4m none "$0" && exec "$@"`, '', process.execPath] as const;
  const unshare = isRoot ? ['--mount'] : ['--mount', '--map-root-user'];
  const canMount =
    spawnSync('unshare', [...unshare, 'sh', '-c', 'mount -t tmpfs -o size=1m none /tmp']).status === 0;
  if (!canMount) console.log('skipped: a full disk, because this machine does not permit to mount a tmpfs');

  it.runIf(canMount)('stops the save with one clear error; the old checkpoints are whole', async () => {
    await mkdir(folder);
    const [flag, script, , program] = inside;
    const run = spawnSync(
      'unshare',
      [...unshare, 'sh', flag, script, folder, program, fixture('save-until-it-fails.mjs'), folder, '100000'],
      { encoding: 'utf8' },
    );
    expect(run.stderr).toBe('');
    const told = JSON.parse(run.stdout) as { message: string; steps: number[]; names: string[] };
    expect(told).toMatchObject({ name: 'CheckpointError', code: 'save' });
    expect(told.message).toMatch(
      /^cannot save checkpoint step-00000\d in .*: no space left on the device \(ENOSPC\)/,
    );
    expect(told.message).not.toContain('\n');
    expect(told.steps.length).toBeGreaterThan(1);
    expect(told.names).toEqual(['latest', ...told.steps.map((step) => `step-00000${step}`)]);
  });
});

describe('a folder that cannot be written', () => {
  const nobody = 65534;
  const asNobody = isRoot ? { uid: nobody, gid: nobody } : {};
  const canRead =
    spawnSync(process.execPath, ['-e', `require('fs').readdirSync(process.argv[1])`, fixture('.')], asNobody)
      .status === 0;
  if (!canRead) console.log('skipped: a forbidden folder, because another user cannot read this project');

  it.runIf(canRead && process.platform !== 'win32')(
    'one clear error; the old checkpoint is whole and loads',
    async () => {
      const store = new CheckpointStore(folder);
      await store.save(1, payload(1, 1000));
      await chmod(parent, 0o755);
      await chmod(folder, 0o555);
      const child = node('save-until-it-fails.mjs', [folder, 1000], asNobody);
      expect(await child.ended).toBe(0);
      expect(child.told[0]).toMatchObject({ code: 'save', steps: [1], names: ['latest', 'step-000001'] });
      expect(child.told[0]['message']).toMatch(
        /^cannot save checkpoint step-000002 in .*: permission denied \(EACCES\)/,
      );
      const run = node('run.mjs', [join(folder, 'run'), 'create', 10], asNobody);
      expect(await run.ended).toBe(1);
      expect(run.told).toEqual([
        {
          code: 'system',
          refused: `cannot create the run folder ${join(folder, 'run')}: permission denied (EACCES)`,
        },
      ]);
      await chmod(folder, 0o755);
      expect(await expectAllSound(1000)).toEqual([1]);
    },
  );
});

it('many saves neither leak files nor memory', async () => {
  const saves = isLong ? 400 : 80;
  const command = ['--expose-gc', fixture('save-loop.mjs'), folder, String(64 << 10), String(saves)];
  const child = new Child(process.execPath, command);
  expect(await child.ended).toBe(0);
  const told = child.told.slice(1) as { openFiles: number; rss: number }[];
  expect(told).toHaveLength(saves);
  const half = told.slice(saves / 2);
  expect(new Set(half.map((line) => line.openFiles)).size).toBe(1);
  const growth =
    Math.max(...half.map((line) => line.rss)) / Math.max(...told.slice(0, saves / 2).map((line) => line.rss));
  expect(growth).toBeLessThan(1.1);
});

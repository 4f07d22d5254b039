import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { RunFolderError } from './run-folder-error.js';
import { RunLock } from './run-lock.js';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-lock-'));
  path = join(folder, 'run.lock');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const lockOf = (pid: number, host = hostname()): string =>
  `${JSON.stringify({ pid, hostname: host, token: '00' })}\n`;

/** A process id that was in use and no longer is. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid!;
}

it('refuses a second holder in one line that names the process, and lets it in after the release', async () => {
  const lock = await RunLock.acquire(path);
  const error = await RunLock.acquire(path).catch((e: unknown) => e as RunFolderError);
  expect(error).toBeInstanceOf(RunFolderError);
  expect(error).toMatchObject({ code: 'locked' });
  expect((error as Error).message).toContain(`process ${process.pid} on ${hostname()}`);
  expect((error as Error).message).not.toContain('\n');
  lock.release();
  lock.release();
  expect(await readdir(folder)).toEqual([]);
  expect(() => lock.assertHeld()).toThrow('it was released');
  (await RunLock.acquire(path)).release();
});

it('refuses while the process lives, on this host or with fresh heartbeats on another', async () => {
  await writeFile(path, lockOf(process.ppid));
  await expect(RunLock.acquire(path)).rejects.toThrow(`process ${process.ppid}`);
  await writeFile(path, lockOf(await deadPid(), 'elsewhere'));
  await expect(RunLock.acquire(path)).rejects.toThrow('on elsewhere');
});

it.each([
  ['a dead process on this host', async () => writeFile(path, lockOf(await deadPid()))],
  [
    'an old heartbeat of another host',
    async () => {
      await writeFile(path, lockOf(1, 'elsewhere'));
      const old = Date.now() / 1000 - 301;
      await utimes(path, old, old);
    },
  ],
  [
    'an earlier process with the id of this one',
    async () => {
      await writeFile(path, lockOf(process.pid));
      const old = Date.now() / 1000 - process.uptime() - 10;
      await utimes(path, old, old);
    },
  ],
  ['a process that died before it wrote its name', () => writeFile(path, '')],
])('takes over from %s', async (_, leave) => {
  await leave();
  const lock = await RunLock.acquire(path);
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: process.pid, hostname: hostname() });
  lock.assertHeld();
  lock.release();
  expect(await readdir(folder)).toEqual([]);
});

it('beats, so that a long run does not look stale', async () => {
  const lock = await RunLock.acquire(path, { beatEvery: 20 });
  const old = Date.now() / 1000 - 1000;
  await utimes(path, old, old);
  await delay(100);
  expect(Date.now() - statSync(path).mtimeMs).toBeLessThan(1000);
  lock.release();
});

it('notices that it was taken over, and then leaves the lock of the new holder alone', async () => {
  const lock = await RunLock.acquire(path);
  const old = Date.now() / 1000 - 10;
  await utimes(path, old, old);
  const other = await RunLock.acquire(path, { staleAfter: 5000 });
  expect(() => lock.assertHeld()).toThrow('is no longer held by this process');
  lock.release();
  other.assertHeld();
  other.release();
});

it('has one winner when many take over at once', async () => {
  await writeFile(path, lockOf(await deadPid()));
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => RunLock.acquire(path)));
  const winners = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  expect(winners).toHaveLength(1);
  winners[0].assertHeld();
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'locked' });
  winners[0].release();
});

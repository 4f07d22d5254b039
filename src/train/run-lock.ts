/**
 * One process at a time on a run folder.
 *
 * The lock is a file with the process id, the host and a random token. Its modification time is the heartbeat, so
 * that a beat can never tear the content. The owner keeps the file open: as long as the name leads to the open file,
 * the lock is held.
 * @module
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  futimesSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { explain, systemCode, temporaryName } from '../checkpoints/index.js';
import { isProcessAlive } from './process-alive.js';
import { RunFolderError } from './run-folder-error.js';

/** Times of a {@link RunLock}, in milliseconds. */
export interface RunLockOptions {
  /** A lock without a heartbeat for so long is stale; default 5 minutes. */
  readonly staleAfter?: number;
  /** Time between heartbeats; default 5 seconds. */
  readonly beatEvery?: number;
}

const ownerSchema = z.object({ pid: z.int().positive(), hostname: z.string(), token: z.string() });
type Owner = z.output<typeof ownerSchema>;

/** Time in which two processes that take over the same stale lock must see each other. */
const SETTLE = 100;

/** A held lock. It is released by {@link release} and when the process exits. */
export class RunLock {
  private readonly timer: NodeJS.Timeout;
  private lastBeat = Date.now();
  private isOpen = true;
  private readonly onExit = (): void => this.release();

  private constructor(
    readonly path: string,
    private readonly descriptor: number,
    private readonly beatEvery: number,
  ) {
    this.timer = setInterval(() => this.beat(), beatEvery);
    this.timer.unref();
    process.on('exit', this.onExit);
  }

  /**
   * Takes the lock `path`, also over from a process that is gone: one that no longer runs on this host, or whose
   * heartbeat is too old.
   *
   * @throws RunFolderError `locked`, naming the process that holds it; `system`.
   */
  static async acquire(
    path: string,
    { staleAfter = 5 * 60_000, beatEvery = 5_000 }: RunLockOptions = {},
  ): Promise<RunLock> {
    const owner: Owner = { pid: process.pid, hostname: hostname(), token: randomBytes(8).toString('hex') };
    const text = `${JSON.stringify(owner)}\n`;
    try {
      let descriptor = tryCreate(path, text);
      if (descriptor === undefined) {
        const held = await inspect(path);
        if (held && !isStale(held, staleAfter)) throw heldBy(path, held);
        descriptor = takeOver(path, text);
        await delay(SETTLE);
        if (!leadsTo(path, descriptor)) {
          closeSync(descriptor);
          const winner = await inspect(path);
          throw winner
            ? heldBy(path, winner)
            : new RunFolderError('locked', `${path} changes hands; try again`);
        }
      }
      return new RunLock(path, descriptor, beatEvery);
    } catch (error) {
      if (error instanceof RunFolderError) throw error;
      throw new RunFolderError('system', `cannot write ${path}: ${explain(error)}`, { cause: error });
    }
  }

  /** Shows that the process lives; does nothing if it did so a moment ago. A timer calls it as well. */
  beat(): void {
    const now = Date.now();
    if (!this.isOpen || now - this.lastBeat < this.beatEvery / 2) return;
    this.lastBeat = now;
    try {
      futimesSync(this.descriptor, now / 1000, now / 1000);
    } catch {
      // One missed beat is no reason to lose a step; whether the lock is held is found out before every save.
    }
  }

  /** @throws RunFolderError `lost` if the lock is no longer held. */
  assertHeld(): void {
    if (this.isOpen && leadsTo(this.path, this.descriptor)) return;
    const reason = this.isOpen
      ? 'another process has taken the run over, or the lock was deleted'
      : 'it was released';
    throw new RunFolderError(
      'lost',
      `${this.path} is no longer held by this process (${process.pid}): ${reason}`,
    );
  }

  /** Gives the lock back. A second call does nothing. */
  release(): void {
    if (!this.isOpen) return;
    clearInterval(this.timer);
    process.off('exit', this.onExit);
    const isHeld = leadsTo(this.path, this.descriptor);
    this.isOpen = false;
    closeSync(this.descriptor);
    if (isHeld) rmSync(this.path, { force: true });
  }
}

interface Held {
  /** Absent if the file does not say. */
  readonly owner?: Owner;
  readonly beatAt: number;
}

function tryCreate(path: string, text: string): number | undefined {
  try {
    return create(path, text);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return undefined;
    throw error;
  }
}

function create(path: string, text: string): number {
  const descriptor = openSync(path, 'wx');
  try {
    writeSync(descriptor, text);
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    rmSync(path, { force: true });
    throw error;
  }
}

function takeOver(path: string, text: string): number {
  const temporary = temporaryName(path);
  const descriptor = create(temporary, text);
  renameSync(temporary, path);
  return descriptor;
}

/** Who holds a lock; `undefined` if it has gone meanwhile. */
async function inspect(path: string): Promise<Held | undefined> {
  for (let attempt = 0; ; attempt++) {
    try {
      const text = readFileSync(path, 'utf8');
      const beatAt = statSync(path).mtimeMs;
      const parsed = ownerSchema.safeParse(parseJson(text));
      if (parsed.success) return { owner: parsed.data, beatAt };
      // Between creation and writing a lock is empty for a moment.
      if (attempt === 2) return { beatAt };
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    await delay(SETTLE);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isStale({ owner, beatAt }: Held, staleAfter: number): boolean {
  // An empty lock is what a process leaves that dies between creating and writing it.
  if (!owner || Date.now() - beatAt > staleAfter) return true;
  if (owner.hostname !== hostname()) return false;
  // In a container every process may have the same id: a lock from before this process started is not its own.
  const startedAt = Date.now() - process.uptime() * 1000;
  return owner.pid === process.pid ? beatAt < startedAt - 1000 : !isProcessAlive(owner.pid);
}

function heldBy(path: string, { owner, beatAt }: Held): RunFolderError {
  const who = owner ? `process ${owner.pid} on ${owner.hostname}` : 'another process';
  const seconds = Math.max(0, Math.round((Date.now() - beatAt) / 1000));
  return new RunFolderError(
    'locked',
    `the run is in use by ${who} (last sign of life ${seconds} s ago); stop it, or delete ${path} if it is gone`,
  );
}

/** Whether a name leads to an open file. */
function leadsTo(path: string, descriptor: number): boolean {
  try {
    const named = statSync(path, { bigint: true });
    const opened = fstatSync(descriptor, { bigint: true });
    return named.ino === opened.ino && named.dev === opened.dev;
  } catch {
    return false;
  }
}

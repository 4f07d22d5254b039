/**
 * Child processes of the crash suite: built code, run by plain Node, so that a kill hits what users run.
 * @module
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { NamedTensor } from '../../src/checkpoints/index.js';
import type { CheckpointContents } from '../../src/train/checkpoint-save.js';
import { payload as untyped } from './fixtures/payload.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Contents of checkpoint `step`, as the children save them. */
export const payload = untyped as (step: number, elements: number) => CheckpointContents;

/** Views of the shape of {@link payload}, filled with zeros. */
export function emptyPayload(elements: number): {
  model: readonly NamedTensor[];
  optimizer: readonly NamedTensor[];
} {
  const { model, optimizer } = payload(0, elements);
  for (const { data } of [...model, ...optimizer]) (data as Float32Array).fill(0);
  return { model, optimizer };
}

/** Path of a fixture. */
export const fixture = (name: string): string => join(root, 'test/crash/fixtures', name);

/** A child that tells JSON, one line each. */
export class Child {
  /** Everything it has told. */
  readonly told: Record<string, unknown>[] = [];
  readonly process: ChildProcess;
  /** Its exit code, or the signal that ended it, once everything it told has been read. */
  readonly ended: Promise<number | NodeJS.Signals>;
  private wake: (() => void)[] = [];
  private isOver = false;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.process = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.process.stdout! });
    lines.on('line', (line) => {
      // A killed child may leave half a line.
      if (line.endsWith('}')) this.told.push(JSON.parse(line) as Record<string, unknown>);
      this.notify();
    });
    this.ended = new Promise((resolve, reject) => {
      this.process.on('error', reject);
      this.process.on('close', (code, signal) => {
        this.isOver = true;
        this.notify();
        resolve(code ?? signal!);
      });
    });
  }

  /** Waits until it has told something with a key; fails if it ends before. */
  async tells(key: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.told.find((line) => key in line);
      if (found) return found;
      if (this.isOver)
        throw new Error(`the child ended without telling '${key}'; it told ${JSON.stringify(this.told)}`);
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
  }

  private notify(): void {
    for (const wake of this.wake.splice(0)) wake();
  }
}

/** Runs a fixture. */
export const node = (name: string, args: readonly (string | number)[], options?: SpawnOptions): Child =>
  new Child(process.execPath, [fixture(name), ...args.map(String)], options);

/** @throws Error unless `dist/` holds what `src/` says: a stale build would test yesterday's code. */
export function requireBuild(): void {
  for (const room of [
    'checkpoints',
    'checkpoints/safetensors',
    'checkpoints/tensors',
    'checkpoints/onnx',
    'train',
    'compress/folder',
  ]) {
    for (const name of readdirSync(join(root, 'src', room))) {
      if (!name.endsWith('.ts') || /\.(test|case)\.ts$/.test(name)) continue;
      const source = join(root, 'src', room, name);
      const built = join(root, 'dist', room, name.replace(/\.ts$/, '.js'));
      if (!existsSync(built) || statSync(built).mtimeMs < statSync(source).mtimeMs)
        throw new Error(
          `dist/${room}/${name.replace(/\.ts$/, '.js')} is older than its source: run npm run build`,
        );
    }
  }
}

/**
 * The built command, run as users run it.
 * @module
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** How a command ended. */
export interface Ended {
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running command. */
export class Command {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  private stdout = '';
  private stderr = '';

  constructor(args: readonly string[], options: SpawnOptions = {}) {
    this.process = spawn(process.execPath, [main, ...args], {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    this.process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve, reject) => {
      this.process.on('error', reject);
      this.process.on('close', (code, signal) =>
        resolve({ code: code ?? signal!, stdout: this.stdout, stderr: this.stderr }),
      );
    });
  }

  /** Waits until standard error has said something; fails if the command ends before. */
  async says(text: string): Promise<void> {
    await this.wait(text, () => this.stderr);
  }

  /** Waits until standard output has something; returns all of it. */
  async prints(text: string): Promise<string> {
    return this.wait(text, () => this.stdout);
  }

  private async wait(text: string, output: () => string): Promise<string> {
    let ended: Ended | undefined;
    void this.ended.then((result) => (ended = result));
    while (!output().includes(text)) {
      if (ended) throw new Error(`it ended without saying '${text}': ${JSON.stringify(ended)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return output();
  }
}

/** Runs a command to its end. */
export function switchyard(args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
  return new Command(args, options).ended;
}

/** Runs `work` on all items, two at a time: as many as there are cores where this must be quick. */
export async function twoAtATime<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = new Array<Result>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      results[i] = await work(items[i]);
    }
  };
  await Promise.all([worker(), worker()]);
  return results;
}

/** A recipe that trains in a second: a switch layer with noise, two languages. */
export const tinyRecipe = {
  name: 'tiny',
  seed: 3,
  model: {
    hiddenSize: 16,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: 16,
    dropout: 0.1,
    sparse: { every: 2, numExperts: 4, router: { kind: 'softmax', jitter: 0.05 } },
  },
  data: { kind: 'cldr', languages: ['en', 'ja'], validationLines: 16 },
  train: {
    batchSize: 4,
    steps: 20,
    schedule: { warmupSteps: 2 },
    evaluation: { every: 10 },
    checkpoint: { every: 5 },
  },
};

/**
 * A request about texts: the class or the vector of each.
 * @module
 */
import type { TokenRouting } from '../engine-client.js';
import { Job, type JobOptions } from './job.js';
import { noNumbers } from './no-numbers.js';

/** What a pass made of one text. */
export interface TextResult {
  /** Scores of classes, or numbers of a vector. */
  readonly numbers: Float32Array;
  readonly tokens: number;
  readonly routing: readonly TokenRouting[] | undefined;
}

/** Which passes it needs. */
export type TextsTask = 'classify' | 'embed';

/** Complete when every text has its result. */
export class TextsJob extends Job {
  readonly results: Promise<readonly TextResult[]>;
  private readonly made: TextResult[] = [];
  private missing: number;
  private settle!: {
    readonly resolve: (results: readonly TextResult[]) => void;
    readonly reject: (error: Error) => void;
  };

  /** @param texts their ids */
  constructor(
    readonly task: TextsTask,
    readonly texts: readonly (readonly number[])[],
    readonly routing: boolean,
    options: JobOptions,
  ) {
    super(options);
    this.missing = texts.length;
    this.results = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    // The caller may have gone.
    this.results.catch(() => undefined);
  }

  /** Leaves the queue. */
  begin(): void {
    this.started = performance.now();
  }

  /** A pass has computed a text. Numbers that are none fail this request alone. */
  add(index: number, result: TextResult): void {
    const { numbers } = result;
    const place = numbers.findIndex((number) => !Number.isFinite(number));
    if (place >= 0) {
      const what = this.task === 'classify' ? 'the score of class' : 'of the vector, number';
      return this.fail(noNumbers(`inputs.${index}`, `${what} ${place} is ${numbers[place]}`), 'failed');
    }
    this.made[index] = result;
    if (--this.missing === 0) this.complete();
  }

  protected reject(error: Error): void {
    this.settle.reject(error);
  }

  protected resolve(): void {
    this.settle.resolve(this.made);
  }
}

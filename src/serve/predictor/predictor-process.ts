/**
 * A predictor in a process of its own.
 * @module
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { PredictorError } from './errors.js';
import type { TablePredictor } from './hash-table.js';
import type { PredictedLayer } from './options.js';
import type { LayerPrediction } from './predictor-program.js';
import type { FromPredictor, ToPredictor } from './predictor-worker.js';

/** Settings of {@link PredictorProcess.open}. */
export interface PredictorProcessOptions {
  /** Folder of the predictor. */
  readonly predictor: string;
  /** Folder of the model that it was trained for. */
  readonly model: string;
  /** Guesses for a token; each layer's own number of choices when absent. */
  readonly topK?: number | undefined;
  /** Texts at once. */
  readonly batchSize?: number;
  /** Threads of an operator; default 1, so that passes keep theirs. */
  readonly threads?: number;
}

interface Waiting {
  readonly resolve: (predictions: readonly LayerPrediction[]) => void;
  readonly reject: (error: Error) => void;
}

/** Milliseconds before the first start after a death; doubles with every further one, up to the longest. */
const [SHORTEST_PAUSE, LONGEST_PAUSE] = [500, 30_000];
/** Milliseconds after which a death is not counted to those before. */
const LASTING = 60_000;
/** Milliseconds for the process to end by itself. */
const CLOSING = 5_000;
const ENDED = 'the process of the predictor has ended';

/**
 * Predicts beside the passes: requests are answered in their order, while this thread is blocked or not. A process that
 * dies is started again after a pause; what was asked of it, and is asked until then, is refused.
 */
export class PredictorProcess implements TablePredictor {
  private readonly waiting = new Map<number, Waiting>();
  private child: ChildProcess | undefined;
  /** Whether the process that there is has opened the predictor. */
  private isOpen = false;
  private ended: Promise<void> = Promise.resolve();
  private pause: NodeJS.Timeout | undefined;
  private deaths = 0;
  private next = 0;
  private closed = false;
  private layers_: readonly PredictedLayer[] = [];
  private milliseconds_ = 0;

  private constructor(private readonly options: PredictorProcessOptions) {}

  /**
   * Starts the process and waits until the predictor is open.
   * @throws PredictorError with the child's own message, or saying that it died.
   */
  static async open(options: PredictorProcessOptions): Promise<PredictorProcess> {
    const process = new PredictorProcess(options);
    try {
      await process.launch();
    } catch (error) {
      await process.release();
      throw error;
    }
    return process;
  }

  /** The layers that are predicted. */
  get layers(): readonly PredictedLayer[] {
    return this.layers_;
  }

  /** Of the process that predicts; undefined while there is none. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Milliseconds that the process has spent on predictions. */
  get milliseconds(): number {
    return this.milliseconds_;
  }

  /** @throws PredictorError if the texts are refused, or there is no process now. */
  predict(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]> {
    const { child } = this;
    if (this.closed || !this.isOpen || !child) return Promise.reject(new PredictorError(ENDED));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      // What does not arrive is refused when the process has ended.
      child.send({ kind: 'predict', id, rows } satisfies ToPredictor, () => undefined);
    });
  }

  /** Ends the process. */
  async release(): Promise<void> {
    this.closed = true;
    clearTimeout(this.pause);
    const { child } = this;
    // One that could not be started has no end.
    if (child?.pid === undefined) return;
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), CLOSING);
    await this.ended;
    clearTimeout(timer);
  }

  /** Starts a process; resolves when it has opened the predictor. */
  private launch(): Promise<void> {
    const { threads = 1, ...rest } = this.options;
    const child = fork(fileURLToPath(new URL('./predictor-worker.js', import.meta.url)), [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.child = child;
    const started = performance.now();
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('message', (message: FromPredictor) => {
        if (message.kind === 'failed') return reject(new PredictorError(message.message));
        if (message.kind !== 'opened') return this.receive(message);
        this.layers_ = message.layers;
        this.isOpen = true;
        resolve();
      });
      this.ended = new Promise((done) => {
        const end = (): void => {
          if (this.child !== child) return;
          reject(new PredictorError('the process of the predictor ended before it was open'));
          this.died(performance.now() - started > LASTING);
          done();
        };
        // Its last messages come before `close`, which a channel that was closed from here does not tell.
        child.once('close', end);
        child.once('exit', () => this.closed && end());
      });
      child.send({ kind: 'open', threads, ...rest } satisfies ToPredictor, () => undefined);
    });
  }

  private receive(message: Extract<FromPredictor, { id: number }>): void {
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.kind === 'refused') waiting?.reject(new PredictorError(message.message));
    else {
      this.milliseconds_ += message.milliseconds;
      waiting?.resolve(message.predictions);
    }
  }

  /** Refuses what the process leaves, and starts the next one if this one, or one before it, was ever open. */
  private died(lasted: boolean): void {
    this.child = undefined;
    this.isOpen = false;
    for (const { reject } of this.waiting.values()) reject(new PredictorError(ENDED));
    this.waiting.clear();
    if (this.closed || this.layers_.length === 0) return;
    this.deaths = lasted ? 1 : this.deaths + 1;
    const pause = Math.min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** (this.deaths - 1));
    process.emitWarning(`${ENDED}; it is started again in ${pause / 1000} s`);
    // Why a process does not open, its own death says, which comes to this again.
    this.pause = setTimeout(() => void this.launch().catch(() => undefined), pause).unref();
  }
}

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
  readonly topK?: number;
  /** Texts at once. */
  readonly batchSize?: number;
  /** Threads of an operator; default 1, so that passes keep theirs. */
  readonly threads?: number;
}

interface Waiting {
  readonly resolve: (predictions: readonly LayerPrediction[]) => void;
  readonly reject: (error: Error) => void;
}

/** Predicts beside the passes: requests are answered in their order, while this thread is blocked or not. */
export class PredictorProcess implements TablePredictor {
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  private closed = false;
  private milliseconds_ = 0;

  private constructor(
    private readonly child: ChildProcess,
    /** The layers that are predicted. */
    readonly layers: readonly PredictedLayer[],
  ) {
    child.on('message', (message: FromPredictor) => this.receive(message));
    child.on('exit', () => this.refuseAll('the process of the predictor has ended'));
  }

  /**
   * Starts the process and waits until the predictor is open.
   * @throws PredictorError with the child's own message, or saying that it died.
   */
  static open({ threads = 1, ...rest }: PredictorProcessOptions): Promise<PredictorProcess> {
    const child = fork(fileURLToPath(new URL('./predictor-worker.js', import.meta.url)), [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    return new Promise((resolve, reject) => {
      const died = (): void =>
        reject(new PredictorError('the process of the predictor ended before it was open'));
      child.once('error', reject);
      child.once('exit', died);
      child.once('message', (message: FromPredictor) => {
        child.off('exit', died);
        if (message.kind === 'opened') resolve(new PredictorProcess(child, message.layers));
        else reject(new PredictorError(message.kind === 'failed' ? message.message : message.kind));
      });
      child.send({ kind: 'open', threads, ...rest } satisfies ToPredictor);
    });
  }

  /** Milliseconds that the process has spent on predictions. */
  get milliseconds(): number {
    return this.milliseconds_;
  }

  /** @throws PredictorError if the texts are refused, or the process has ended. */
  predict(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]> {
    if (this.closed) return Promise.reject(new PredictorError('the process of the predictor has ended'));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.child.send({ kind: 'predict', id, rows } satisfies ToPredictor);
    });
  }

  /** Ends the process. */
  async release(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.disconnect();
    await ended;
  }

  private receive(message: FromPredictor): void {
    if (message.kind !== 'predicted' && message.kind !== 'refused') return;
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.kind === 'refused') waiting?.reject(new PredictorError(message.message));
    else {
      this.milliseconds_ += message.milliseconds;
      waiting?.resolve(message.predictions);
    }
  }

  private refuseAll(reason: string): void {
    this.closed = true;
    for (const { reject } of this.waiting.values()) reject(new PredictorError(reason));
    this.waiting.clear();
  }
}

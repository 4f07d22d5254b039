/**
 * A child process that performs one run: memory comes back with its end, and its crash is one failed run.
 * @module
 */
import { env } from 'onnxruntime-node';
import { performRun, type RunOutcome, type RunSettings } from './perform-run.js';
import type { PlannedRun } from './plan.js';
import type { EvaluationReport, StepReport } from '../train/index.js';

/** What the parent sends. */
export type ToWorker =
  | { readonly kind: 'run'; readonly run: PlannedRun; readonly settings: RunSettings }
  | { readonly kind: 'stop' };

/** What the worker sends. */
export type FromWorker =
  | { readonly kind: 'step'; readonly report: StepReport }
  | { readonly kind: 'evaluation'; readonly step: number; readonly report: EvaluationReport }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'ended'; readonly outcome: RunOutcome }
  | { readonly kind: 'failed'; readonly message: string };

if (process.send) {
  env.logLevel = 'fatal';
  process.on('message', (message: ToWorker) => {
    if (message.kind === 'run') void work(message);
    // Training listens for signals only; while there is nobody to listen, the run is short of its end.
    else if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT', 'SIGINT');
  });
  // Nobody would write the table: end; the newest checkpoint is where the run goes on.
  process.on('disconnect', () => process.exit(130));
}

async function work({ run, settings }: Extract<ToWorker, { kind: 'run' }>): Promise<void> {
  const send = (message: FromWorker): Promise<void> =>
    new Promise((resolve) => process.send!(message, undefined, undefined, () => resolve()));
  try {
    const outcome = await performRun(run, settings, {
      onStep: (report) => void send({ kind: 'step', report }),
      onEvaluation: (step, report) => void send({ kind: 'evaluation', step, report }),
      onWarning: (message) => void send({ kind: 'warning', message }),
    });
    await send({ kind: 'ended', outcome });
  } catch (error) {
    await send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
  process.exit(0);
}

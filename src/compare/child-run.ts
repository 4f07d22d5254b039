/**
 * Performs a run in a child process.
 * @module
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { TrainingListener } from '../train/index.js';
import type { RunOutcome, RunSettings } from './perform-run.js';
import type { PlannedRun } from './plan.js';
import type { FromWorker, ToWorker } from './worker.js';

/**
 * @param onStop is given a function that asks the child to finish its step, save and end.
 * @throws Error with the child's own message, or saying how it died.
 */
export function performInChild(
  run: PlannedRun,
  settings: RunSettings,
  listener: TrainingListener,
  onStop: (stop: () => void) => void,
): Promise<RunOutcome> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // Out of the terminal's reach: Ctrl-C is for the parent, which asks its children in turn.
      detached: true,
    });
    const errors: Buffer[] = [];
    child.stderr!.on('data', (piece: Buffer) => errors.push(piece));
    let isDone = false;
    const send = (message: ToWorker): void => {
      if (child.connected) child.send(message, () => undefined);
    };
    child.on('message', (message: FromWorker) => {
      switch (message.kind) {
        case 'step':
          return listener.onStep?.(message.report);
        case 'evaluation':
          return listener.onEvaluation?.(message.step, message.report);
        case 'warning':
          return listener.onWarning?.(message.message);
        case 'ended':
          isDone = true;
          return resolve(message.outcome);
        case 'failed':
          isDone = true;
          return reject(new Error(message.message));
      }
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (isDone) return;
      const last = Buffer.concat(errors).toString('utf8').trim().split('\n').at(-1);
      const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
      reject(new Error(`its process ${how}${last ? `: ${last}` : ''}; the run can be continued`));
    });
    onStop(() => send({ kind: 'stop' }));
    send({ kind: 'run', run, settings });
  });
}

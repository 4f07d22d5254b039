/**
 * What people see of a training run.
 * @module
 */
import type { EvaluationReport, StepReport, TrainingListener } from '../train/index.js';
import { formatCount, formatDuration, type Progress } from './progress.js';

/** Weight of the newest step in the moving averages. */
const SMOOTHING = 0.05;

/**
 * A listener that draws loss, rate, balance of the experts and time left.
 * @param label begins every line; empty for a single run.
 */
export function trainingProgress(progress: Progress, totalSteps: number, label = ''): TrainingListener {
  const prefix = label === '' ? '' : `${label}  `;
  let loss: number | undefined;
  let rate: number | undefined;
  let previous = performance.now();
  const average = (before: number | undefined, value: number): number =>
    before === undefined ? value : before + SMOOTHING * (value - before);
  return {
    onStep: (report) => {
      const now = performance.now();
      loss = average(loss, report.taskLoss);
      rate = average(rate, now - previous);
      previous = now;
      progress.update(() => {
        const left = ((totalSteps - report.step) * rate!) / 1000;
        const tokensPerSecond = (report.tokens / rate!) * 1000;
        return `${prefix}step ${report.step}/${totalSteps}  loss ${loss!.toFixed(3)}  ${formatCount(tokensPerSecond)} tokens/s${experts(report)}  ${formatDuration(left)} left`;
      });
    },
    onEvaluation: (step, report) => {
      previous = performance.now();
      progress.line(
        `${prefix}step ${step}  validation loss ${report.loss.toFixed(4)}  ${achievement(report)}`,
      );
    },
    onWarning: (message) => progress.line(`${prefix}warning: ${message}`),
  };
}

function achievement({ classification, bitsPerByte }: EvaluationReport): string {
  if (!classification) return `${bitsPerByte.toFixed(4)} bits/byte`;
  const { accuracy, matthews } = classification;
  return `accuracy ${accuracy.value.toFixed(4)}  Matthews ${matthews.value.toFixed(4)}`;
}

function experts({ loads, balances, dropped }: StepReport): string {
  if (loads.length === 0) return '';
  const choices = loads.reduce((sum, load) => sum + load.reduce((a, b) => a + b, 0), 0);
  const lost = dropped > 0 ? `  dropped ${((100 * dropped) / choices).toFixed(1)} %` : '';
  return `  balance ${Math.min(...balances).toFixed(2)}${lost}`;
}

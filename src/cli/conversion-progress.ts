/**
 * Progress of commands that write checkpoints.
 * @module
 */
import type { SaveProgress } from '../checkpoints/index.js';
import { formatCount, formatDuration, Progress } from './progress.js';

/** A status line with bytes, rate and time left. */
export function conversionProgress(verb: string): {
  readonly update: (progress: Pick<SaveProgress, 'bytes' | 'totalBytes'>) => void;
  readonly clear: () => void;
} {
  const progress = new Progress();
  const began = performance.now();
  return {
    update: ({ bytes, totalBytes }) =>
      progress.update(() => {
        const rate = bytes / Math.max((performance.now() - began) / 1000, 0.001);
        const left = formatDuration((totalBytes - bytes) / rate);
        return `${verb}  ${formatCount(bytes)}B of ${formatCount(totalBytes)}B  ${formatCount(rate)}B/s  ${left} left`;
      }),
    clear: () => progress.clear(),
  };
}

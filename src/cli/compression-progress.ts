/**
 * What people see of a compression.
 * @module
 */
import type {
  CompressionJob,
  CompressionListener,
  FolderOutcome,
  Size,
  Verified,
} from '../compress/index.js';
import { formatCount, formatDuration, type Progress } from './progress.js';

/** A listener that draws the layer, the step within it, the rate and the time left; and what layers have in common. */
export function compressionProgress(progress: Progress, { layers }: CompressionJob): CompressionListener {
  const start = performance.now();
  let kept = 0;
  const named = (index: number): string => `layer ${index + 1}/${layers.length} ${layers[index].layout.name}`;
  const left = (done: number): string => {
    const seconds = (performance.now() - start) / 1000;
    const made = done - kept;
    const rate = made > 0 ? `${((60 * made) / seconds).toPrecision(3)} layers/min  ` : '';
    return `${rate}${formatDuration(made > 0 ? (seconds / made) * (layers.length - done) : Infinity)} left`;
  };
  return {
    onLayer: (index, wasKept) => {
      if (!wasKept) return;
      kept++;
      progress.line(`${named(index)}: finished before`);
    },
    onRedundancy: (index, { ratio }) => {
      const { numExperts, intermediateSize, hiddenSize } = layers[index].layout;
      progress.line(
        `${named(index)}: ${numExperts} experts of ${hiddenSize} × ${intermediateSize}; ` +
          `beside their centre is ρ = ${ratio.toFixed(4)} of their energy (unrelated experts: ${(1 - 1 / numExperts).toFixed(4)})`,
      );
    },
    onStep: (index, { stage, done, total }) =>
      progress.update(() => `${named(index)}  ${stage} ${done}/${total}  ${left(index + done / total)}`),
    onSave: ({ bytes, totalBytes, shard, numShards }) =>
      progress.update(
        () => `writing ${formatCount(bytes)}B of ${formatCount(totalBytes)}B, file ${shard} of ${numShards}`,
      ),
  };
}

/** The summary of a compression in lines. */
export function describeOutcome(
  out: string,
  { layers, before, after, predictedBytes }: FolderOutcome,
  { equal, restored }: Verified,
): string[] {
  const width = Math.max(5, ...layers.map(({ name }) => name.length));
  return [
    `${'layer'.padEnd(width)}  error ε     of energy  parameters  bytes`,
    ...layers.map(({ name, report: { error, energy }, before: was, after: is }) =>
      [
        name.padEnd(width),
        error.toExponential(3).padEnd(10),
        percent(error, energy).padStart(9),
        percent(is.parameters, was.parameters).padStart(10),
        percent(is.bytes, was.bytes).padStart(8),
      ].join('  '),
    ),
    '',
    `parameters  ${change(before, after, 'parameters', '')}`,
    `on disk     ${change(before, after, 'bytes', 'B')}; by the accounting ${formatCount(predictedBytes)}B`,
    `opened      ${equal} tensors bit for bit as they were, ${restored} rebuilt`,
    out,
  ];
}

function change(before: Size, after: Size, key: keyof Size, unit: string): string {
  return `${formatCount(before[key])}${unit} → ${formatCount(after[key])}${unit} (${percent(after[key], before[key])})`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '0 %' : `${((100 * part) / whole).toFixed(2)} %`;
}

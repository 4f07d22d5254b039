/**
 * Batches of recorded sequences to train a predictor on.
 * @module
 */
import { decodeFloats } from '../../checkpoints/index.js';
import { RandomStream, streamKey } from '../../nn/index.js';
import type { TensorData } from '../../runtime/index.js';
import type { RoutingRecording } from './recording.js';

/** Batches whose sequences are sorted by length before they are cut into batches. */
const WINDOW = 16;

/** Every sequence once an epoch, those of like length together, in an order that differs from epoch to epoch. */
export class TrainingBatches {
  private epoch = -1;
  private order: readonly (readonly number[])[] = [];

  constructor(
    private readonly recording: RoutingRecording,
    readonly batchSize: number,
    private readonly seed: number,
  ) {}

  /** Batches of one epoch. */
  get perEpoch(): number {
    return Math.ceil(this.recording.sequences / this.batchSize);
  }

  /** Sequences of batch `step`, counted over all epochs; the last batch of an epoch may have fewer. */
  at(step: number): readonly number[] {
    const epoch = Math.floor(step / this.perEpoch);
    if (epoch !== this.epoch) {
      this.epoch = epoch;
      this.order = this.batchesOf(epoch);
    }
    return this.order[step % this.perEpoch];
  }

  private batchesOf(epoch: number): number[][] {
    const { recording, batchSize } = this;
    const random = new RandomStream(streamKey(this.seed, 'recorded sequences', epoch));
    const all = shuffled(
      Array.from({ length: recording.sequences }, (_, i) => i),
      random,
    );
    const batches: number[][] = [];
    for (let first = 0; first < all.length; first += WINDOW * batchSize) {
      const window = all
        .slice(first, first + WINDOW * batchSize)
        .sort((a, b) => recording.lengthOf(a) - recording.lengthOf(b));
      for (let at = 0; at < window.length; at += batchSize) batches.push(window.slice(at, at + batchSize));
    }
    return shuffled(batches, random);
  }
}

function shuffled<T>(items: T[], random: RandomStream): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

/** Tokens of sequences in rows of one length, with the mask of what is recorded: `[rows, length]`. */
export function tokenFeeds(
  rows: readonly Int32Array[],
  batchSize: number,
  length: number,
): { readonly ids: Int32Array; readonly mask: Uint8Array } {
  const ids = new Int32Array(batchSize * length);
  const mask = new Uint8Array(batchSize * length);
  rows.forEach((tokens, row) => {
    ids.set(tokens, row * length);
    mask.fill(1, row * length, row * length + tokens.length);
  });
  return { ids, mask };
}

/** What the router said of them, as the feeds of {@link predictorLoss}: its best `truncation` experts. */
export function teacherFeeds(
  recording: RoutingRecording,
  sequences: readonly number[],
  { batchSize, length, truncation }: { batchSize: number; length: number; truncation: number },
): Record<string, TensorData> {
  const feeds: Record<string, TensorData> = {};
  recording.layers.forEach(({ topK, numExperts, candidates: stored }, l) => {
    const width = Math.min(truncation, stored);
    const first = new Int32Array(batchSize * length);
    const candidates = new Int32Array(batchSize * length * width);
    const shares = new Float32Array(batchSize * length * width);
    sequences.forEach((sequence, row) => {
      const decisions = recording.decisionsOf(sequence, l);
      const probabilities = decodeFloats('F16', decisions.probabilities);
      for (let t = 0; t < recording.lengthOf(sequence); t++) {
        const at = row * length + t;
        const expert = decisions.experts[t * topK];
        first[at] = expert < numExperts ? expert : decisions.candidates[t * stored];
        let total = 0;
        for (let k = 0; k < width; k++) total += probabilities[t * stored + k];
        for (let k = 0; k < width; k++) {
          candidates[at * width + k] = decisions.candidates[t * stored + k];
          shares[at * width + k] = total > 0 ? probabilities[t * stored + k] / total : 0;
        }
      }
    });
    feeds[`first.${l}`] = first;
    feeds[`candidates.${l}`] = candidates;
    feeds[`shares.${l}`] = shares;
  });
  return feeds;
}

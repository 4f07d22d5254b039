/**
 * Segment recurrence (Transformer-XL, arXiv 1901.02860 §3.2): what layers remember of the tokens before a segment.
 * @module
 */
import { concat, fill, input, slice, stopGradient, type DType, type Tensor } from '../graph/index.js';
import type { LanguageModelOptions } from './language-model-options.js';

/** States of the tokens before a segment, oldest first. */
export interface SegmentMemory {
  /** Inputs of every block, each `[batch, length, hiddenSize]`. */
  readonly hidden: readonly Tensor[];
  /** Float `[batch, length]`: 1 where there was a token. Absent for `span`, which sees zeros before the text. */
  readonly visible?: Tensor | undefined;
}

/** How far the memory of a model reaches. */
export interface MemoryLengths {
  readonly training: number;
  readonly evaluation: number;
}

/** Lengths of a model's memory, or undefined where it has none. */
export function memoryLengths(options: Omit<LanguageModelOptions, 'vocabSize'>): MemoryLengths | undefined {
  const { positions, contextLength, memoryLength = contextLength } = options;
  if (positions !== 'transformerXL' && positions !== 'span') return undefined;
  const evaluation = options.evaluationMemoryLength ?? memoryLength;
  return memoryLength + evaluation === 0 ? undefined : { training: memoryLength, evaluation };
}

/** Feeds of a memory by name, with their shapes: `memory.0` …, and `memory.visible`. None for a length of 0. */
export function memoryShapes(
  { positions, numLayers, hiddenSize }: LanguageModelOptions,
  batch: number,
  length: number,
): ReadonlyMap<string, readonly number[]> {
  if (length === 0) return new Map();
  const layers = Array.from({ length: numLayers }, (_, layer) => [
    `memory.${layer}`,
    [batch, length, hiddenSize],
  ]) as [string, readonly number[]][];
  return new Map(positions === 'span' ? layers : [...layers, ['memory.visible', [batch, length]]]);
}

/** Fed tensors of a memory. */
export function memoryInputs(
  options: LanguageModelOptions,
  batch: number,
  length: number,
  dtype: DType = 'float32',
): SegmentMemory | undefined {
  const feeds = [...memoryShapes(options, batch, length)].map(([name, shape]) => input(name, dtype, shape));
  if (feeds.length === 0) return undefined;
  return { hidden: feeds.slice(0, options.numLayers), visible: feeds[options.numLayers] };
}

/** The memory that a segment leaves, by the names of the feeds that take it in the next step. */
export function memoryOutputs({ hidden, visible }: SegmentMemory): Record<string, Tensor> {
  const layers = hidden.map((tensor, layer): [string, Tensor] => [`memory.${layer}`, tensor]);
  return Object.fromEntries(visible ? [...layers, ['memory.visible', visible]] : layers);
}

/** What remains of a memory once a segment has passed: the same length, without a gradient. */
export function pushSegment(memory: Tensor, segment: Tensor): Tensor {
  const [length, time] = [memory.shape[1] as number, segment.shape[1] as number];
  const added = length < time ? slice(segment, 1, time - length, time) : segment;
  return stopGradient(length > time ? concat([slice(memory, 1, time, length), added], 1) : added);
}

/** A memory before any text: zeros that can be seen. */
export function emptySpan(batch: number, length: number, hiddenSize: number, dtype: DType): Tensor {
  return fill(dtype, [batch, length, hiddenSize], 0);
}

/**
 * The experts of a checkpoint, whatever the layout that they are stored in.
 * @module
 */
import { createModel } from '../../models/index.js';
import { transposeMatrix } from './transpose.js';
import type { Checkpoint } from './checkpoint.js';

/** Weights of one expert, as `torch.nn.Linear` lays them out. */
export interface Expert {
  /** `[intermediateSize, hiddenSize]`, inside the activation; gated experts only. */
  readonly gate?: Float32Array;
  /** `[intermediateSize, hiddenSize]` */
  readonly up: Float32Array;
  /** `[intermediateSize]` */
  readonly upBias?: Float32Array;
  /** `[hiddenSize, intermediateSize]` */
  readonly down: Float32Array;
  /** `[hiddenSize]` */
  readonly downBias?: Float32Array;
}

/** A layer of experts of equal shape. */
export interface ExpertLayer {
  /** Its block: `blocks.3`, `encoder.blocks.1`. */
  readonly name: string;
  /** Dotted name of the bank: `blocks.3.feedForward.experts`. */
  readonly bank: string;
  readonly numExperts: number;
  readonly hiddenSize: number;
  /** Inner neurons of one expert. */
  readonly intermediateSize: number;
  readonly gated: boolean;
  /** Whether neurons and outputs have biases. */
  readonly bias: boolean;
  /** Reads one expert. */
  readExpert(expert: number): Promise<Expert>;
}

/** All layers of experts in a checkpoint, in the order of its blocks; none in a dense model. */
export function expertLayers(checkpoint: Checkpoint): readonly ExpertLayer[] {
  const parameters = createModel(checkpoint.options).parameters();
  return [...parameters].flatMap(([parameter, { shape }]): ExpertLayer[] => {
    const [, bank, block] = /^((.*blocks\.\d+)\.feedForward\.experts)\.up$/.exec(parameter) ?? [];
    if (bank === undefined || shape.length !== 3) return [];
    const [numExperts, hiddenSize, intermediateSize] = shape;
    const has = (name: string): boolean => parameters.has(`${bank}.${name}`);
    const [gated, bias] = [has('gate'), has('upBias')];
    const read = (name: string, at: number): Promise<Float32Array> =>
      checkpoint.readParameter(`${bank}.${name}`, { at });
    const matrix = async (name: string, at: number): Promise<Float32Array> =>
      name === 'down'
        ? transposeMatrix(await read(name, at), intermediateSize, hiddenSize)
        : transposeMatrix(await read(name, at), hiddenSize, intermediateSize);
    return [
      {
        name: block,
        bank,
        numExperts,
        hiddenSize,
        intermediateSize,
        gated,
        bias,
        readExpert: async (expert) => ({
          ...(gated ? { gate: await matrix('gate', expert) } : {}),
          up: await matrix('up', expert),
          down: await matrix('down', expert),
          ...(bias ? { upBias: await read('upBias', expert), downBias: await read('downBias', expert) } : {}),
        }),
      },
    ];
  });
}

import {
  EXPERT,
  designBlocks,
  designWidth,
  sparseMatrix,
  type CompressedLayer,
  type CompressedMatrix,
  type DesignRole,
  type ExpertTensor,
} from '../../src/checkpoints/index.js';

/** Numbers in (−1, 1) from a seed. */
export function numbersOf(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  };
}

export interface LayerWanted {
  readonly name?: string;
  readonly roles?: readonly DesignRole[];
  readonly kinds?: readonly CompressedMatrix['kind'][];
  readonly centre?: boolean;
  /** A matrix for each block, or one for all. */
  readonly perBlock?: boolean;
  readonly outputBiases?: boolean;
  readonly expertOf?: readonly number[];
  /** Neurons of a stored expert. */
  readonly rows?: number;
  /** 5 when absent. */
  readonly hiddenSize?: number;
  /** Share of places that sparse matrices keep. */
  readonly density?: number;
}

/** A layer of random numbers: experts of 7 neurons over 5 features, or as wanted. */
export function compressedLayer(seed: number, wanted: LayerWanted = {}): CompressedLayer {
  const random = numbersOf(seed);
  const { roles = ['gate', 'up', 'down'], kinds = ['sparse'], expertOf = [0, 1, 2], density = 0.25 } = wanted;
  const { hiddenSize = 5 } = wanted;
  const intermediateSize = 7;
  const { rows = intermediateSize } = wanted;
  const blocks = designBlocks({ hiddenSize, roles });
  const floats = (length: number): Float32Array => Float32Array.from({ length }, random);
  const matrix = (kind: CompressedMatrix['kind'], columns: number): CompressedMatrix => {
    if (kind === 'dense') return { kind, rows, columns, values: floats(rows * columns) };
    if (kind === 'lowRank')
      return { kind, rows, columns, rank: 2, left: floats(rows * 2), right: floats(2 * columns) };
    return sparseMatrix(rows, columns, floats(rows * columns), () => (random() + 1) / 2 < density);
  };
  const width = designWidth(blocks);
  const count = Math.max(...expertOf) + 1;
  return {
    name: wanted.name ?? 'blocks.1',
    hiddenSize,
    intermediateSize,
    blocks,
    ...(wanted.centre ? { centre: floats(intermediateSize * width) } : {}),
    experts: Array.from({ length: count }, (_, i) => {
      const kind = kinds[i % kinds.length];
      const widths = wanted.perBlock ? blocks.map((block) => block.width) : [width];
      return { matrices: widths.map((columns) => matrix(kind, columns)) };
    }),
    expertOf,
    ...(wanted.outputBiases ? { outputBiases: Array.from({ length: count }, () => floats(hiddenSize)) } : {}),
  };
}

/** A tensor per expert and role, a neuron being a row of each but `down`, as Mixtral has them. */
export function tensorsPerExpert(layer: CompressedLayer): ExpertTensor[] {
  const { name, hiddenSize, intermediateSize, blocks, outputBiases } = layer;
  const tensors = blocks.map(({ role, width }): ExpertTensor => {
    const neurons = role === 'down' ? 'columns' : 'rows';
    const shape =
      width === 1
        ? [intermediateSize]
        : neurons === 'rows'
          ? [intermediateSize, hiddenSize]
          : [hiddenSize, intermediateSize];
    return { name: `${name}.experts.${EXPERT}.${role}`, shape, parts: [{ role, neurons }] };
  });
  if (!outputBiases) return tensors;
  const parts: ExpertTensor['parts'] = [{ role: 'outputBias', neurons: 'rows' }];
  return [...tensors, { name: `${name}.experts.${EXPERT}.output_bias`, shape: [hiddenSize], parts }];
}

/** One tensor for gate and up of all experts, one for down, as the newer Mixtral has them. */
export function fusedTensors(layer: CompressedLayer): ExpertTensor[] {
  const { name, hiddenSize, intermediateSize, expertOf } = layer;
  const numExperts = expertOf.length;
  return [
    {
      name: `${name}.experts.gate_up_proj`,
      shape: [numExperts, 2 * intermediateSize, hiddenSize],
      parts: [
        { role: 'gate', rows: [0, intermediateSize], neurons: 'rows' },
        { role: 'up', rows: [intermediateSize, 2 * intermediateSize], neurons: 'rows' },
      ],
    },
    {
      name: `${name}.experts.down_proj`,
      shape: [numExperts, hiddenSize, intermediateSize],
      parts: [{ role: 'down', neurons: 'columns' }],
    },
  ];
}

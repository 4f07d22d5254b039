/**
 * A compressed checkpoint whose experts are never rebuilt: the model computes with the centre and the factors as they are
 * stored. Only of ResMoE with SVD residuals over whole experts.
 * @module
 */
import {
  designWidth,
  RestoringSource,
  type CompressedMatrix,
  type DesignRole,
  type LayerReader,
} from '../compressed/index.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import { parseOptions } from '../hugging-face/options.js';
import type { Checkpoint } from './checkpoint.js';
import { expertLayers } from './expert-layers.js';
import type { ParameterSlice } from './parameter-reader.js';

/** Reads one slice of a parameter, or all of one that belongs to all experts. */
type Reader = (layer: LayerReader, expert: number) => Promise<Float32Array>;

/** Parameters of a factorised bank, and whether each expert has its own. */
const readers = new Map<string, { readonly perExpert: boolean; readonly read: Reader }>([
  ['centreGate', centre('gate', true)],
  ['centreUp', centre('up', true)],
  ['centreUpBias', centre('upBias', true)],
  ['centreDown', centre('down', false)],
  ['left', { perExpert: true, read: async (layer, expert) => (await factors(layer, expert)).left }],
  ['rightGate', right('gate', true)],
  ['rightUp', right('up', true)],
  ['rightUpBias', right('upBias', true)],
  ['rightDown', right('down', false)],
  ['downBias', { perExpert: true, read: (layer, expert) => layer.readOutputBiases(expert) }],
]);

/**
 * The same checkpoint as a model with factorised experts: other options, and other parameters where experts are
 * compressed. Its `source` and `mapping` stay those of the original.
 *
 * @throws ModelFolderError naming a layer that is not stored as a centre and factors of one rank.
 */
export function factorised(checkpoint: Checkpoint): Checkpoint {
  const { source, location, options } = checkpoint;
  const fail = (reason: string): never => {
    throw new ModelFolderError(
      `${location}: its experts cannot be computed from factors: ${reason}; load it with rebuilt experts instead`,
    );
  };
  if (!(source instanceof RestoringSource)) return fail('it is not compressed');
  const { sparse } = options;
  if (sparse?.kind !== 'experts' || sparse.experts.kind !== 'feedForward')
    return fail('the model has no ordinary experts');
  const ranks = new Set<number>();
  for (const layer of source.layers.values()) {
    if (!isFactored(layer))
      return fail(`${layer.header.name} is not stored as a centre with one pair of factors for each expert`);
    for (const rank of layer.ranks) ranks.add(rank);
  }
  if (ranks.size > 1) return fail(`its ranks differ: ${[...ranks].join(', ')}`);
  const blocks = new Set([...source.layers.keys()].map(blockOf));
  const other = expertLayers(checkpoint).find(
    ({ name }) => blocks.has(blockOf(name)) && !source.layers.has(name),
  );
  if (other) return fail(`${other.name} is not compressed, though the other stack's block of this number is`);
  const { activation, bias } = sparse.experts;
  const experts = {
    kind: 'factorised',
    rank: [...ranks][0],
    layers: [...blocks].sort((a, b) => a - b),
    ...(activation ? { activation } : {}),
    ...(bias === undefined ? {} : { bias }),
  };
  return {
    ...checkpoint,
    options: parseOptions({ ...options, sparse: { ...sparse, experts } }, location),
    readParameter: (name, slice) => {
      const [, block, parameter] = /^(.*blocks\.\d+)\.feedForward\.experts\.(\w+)$/.exec(name) ?? [];
      const layer = source.layers.get(block ?? '');
      return layer ? readFactor(layer, parameter, slice) : checkpoint.readParameter(name, slice);
    },
  };
}

async function readFactor(
  layer: LayerReader,
  parameter: string,
  { at, into, transposed = false }: ParameterSlice = {},
): Promise<Float32Array> {
  if (transposed) throw new RangeError(`factors are read as they are, not transposed: ${parameter}`);
  const reader = readers.get(parameter);
  if (!reader) throw new RangeError(`factorised experts have no parameter ${parameter}`);
  if (!reader.perExpert || at !== undefined) {
    const read = await reader.read(layer, at ?? 0);
    into?.set(read);
    return into ?? read;
  }
  const first = await reader.read(layer, 0);
  const target = into ?? new Float32Array(first.length * layer.header.expertOf.length);
  target.set(first);
  for (let expert = 1; expert < layer.header.expertOf.length; expert++)
    target.set(await reader.read(layer, expert), expert * first.length);
  return target;
}

function isFactored({ header }: LayerReader): boolean {
  const { centre: hasCentre, experts, expertOf, roles } = header;
  return (
    hasCentre &&
    !roles.includes('gateBias') &&
    expertOf.every((stored, expert) => stored === expert) &&
    experts.every(({ matrices }) => matrices.join() === 'lowRank')
  );
}

/** `3` of `encoder.blocks.3` */
function blockOf(name: string): number {
  return Number(/\d+$/.exec(name)![0]);
}

async function factors(
  layer: LayerReader,
  expert: number,
): Promise<Extract<CompressedMatrix, { kind: 'lowRank' }>> {
  const [matrix] = await layer.readMatrices(expert);
  if (matrix.kind !== 'lowRank') throw new RangeError(`expert ${expert} is not stored as factors`);
  return matrix;
}

/** Columns of a role out of rows of design width: `[rows, width]`, or transposed. */
function columnsOf(
  layer: LayerReader,
  rows: Float32Array,
  role: DesignRole,
  transpose: boolean,
): Float32Array {
  const stride = designWidth(layer.blocks);
  const at = layer.blocks.findIndex((block) => block.role === role);
  const begin = designWidth(layer.blocks.slice(0, at));
  const { width } = layer.blocks[at];
  const height = rows.length / stride;
  const columns = new Float32Array(height * width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++)
      columns[transpose ? column * height + row : row * width + column] = rows[row * stride + begin + column];
  }
  return columns;
}

function centre(role: DesignRole, transpose: boolean): { perExpert: false; read: Reader } {
  return {
    perExpert: false,
    read: async (layer) => columnsOf(layer, (await layer.readCentre())!, role, transpose),
  };
}

function right(role: DesignRole, transpose: boolean): { perExpert: true; read: Reader } {
  return {
    perExpert: true,
    read: async (layer, expert) => columnsOf(layer, (await factors(layer, expert)).right, role, transpose),
  };
}

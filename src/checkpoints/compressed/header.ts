/**
 * The `compression` block of `config.json`: what was compressed, how, and what it was before.
 * @module
 */
import { z } from 'zod';
import type { JsonValue } from '../json.js';
import { checkExpertTensors, EXPERT, expertTensorSchema, type ExpertShape } from './expert-tensors.js';
import { CompressedFormatError } from './errors.js';
import { designBlocks, designRoles, designWidth } from './layer.js';

/** Version of the format that this code writes and reads. */
export const COMPRESSED_VERSION = 1;

/** Element types that compressed numbers are stored in: those of the original experts. */
export const compressedDTypes = ['F32', 'BF16', 'F16'] as const;

/** One of {@link compressedDTypes}. */
export type CompressedDType = (typeof compressedDTypes)[number];

const size = z
  .int()
  .min(1)
  .max(2 ** 24);
const count = z
  .int()
  .min(1)
  .max(2 ** 16);

const layerSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[\w.]+$/)
    .max(200),
  hiddenSize: size,
  intermediateSize: size,
  roles: z.array(z.enum(designRoles)).min(2).max(designRoles.length),
  dtype: z.enum(compressedDTypes),
  centre: z.boolean(),
  outputBiases: z.boolean(),
  /** What is stored for each stored expert: its neurons, and the kinds of its matrices. */
  experts: z
    .array(
      z.strictObject({
        rows: size,
        matrices: z
          .array(z.enum(['dense', 'sparse', 'lowRank']))
          .min(1)
          .max(designRoles.length),
      }),
    )
    .max(2 ** 16),
  expertOf: z
    .array(z.int().min(-1))
    .min(1)
    .max(2 ** 16),
  /** Where the experts lay before. */
  tensors: z
    .array(expertTensorSchema)
    .min(1)
    .max(designRoles.length + 1),
});

const compressionSchema = z.strictObject({
  version: z.literal(COMPRESSED_VERSION),
  method: z.string().min(1).max(100),
  /** The method's options as they were given, for the reader; loading does not need them. */
  options: z.record(z.string(), z.json()),
  layers: z.array(layerSchema).min(1).max(count.maxValue!),
});

/** A layer in the {@link CompressionHeader}. */
export type LayerHeader = z.infer<typeof layerSchema>;

/** The block; `options` are the method's. */
export interface CompressionHeader {
  readonly version: typeof COMPRESSED_VERSION;
  readonly method: string;
  readonly options: Readonly<Record<string, JsonValue>>;
  readonly layers: readonly LayerHeader[];
}

/** Most values of one expert: a typed array holds no more in every engine. */
const MAX_VALUES = 2 ** 31;

/**
 * Checks a `compression` block by itself, before anything is read or allocated for it.
 * @param file for messages: the path of `config.json`.
 * @throws CompressedFormatError naming the key.
 */
export function parseCompression(value: unknown, file: string): CompressionHeader {
  const parsed = compressionSchema.safeParse(value);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    throw new CompressedFormatError(file, `compression${describePath(path)}: ${message}`);
  }
  const names = new Set<string>();
  const tensors = new Set<string>();
  for (const [i, layer] of parsed.data.layers.entries()) {
    const wrong = checkLayer(layer, names, tensors);
    if (wrong !== undefined) throw new CompressedFormatError(file, `compression.layers[${i}]: ${wrong}`);
  }
  return parsed.data;
}

/** Sizes of a layer's original experts. */
export function shapeOf({ expertOf, hiddenSize, intermediateSize, roles }: LayerHeader): ExpertShape {
  return {
    numExperts: expertOf.length,
    hiddenSize,
    intermediateSize,
    blocks: designBlocks({ hiddenSize, roles }),
  };
}

function checkLayer(layer: LayerHeader, names: Set<string>, tensors: Set<string>): string | undefined {
  const { name, intermediateSize, roles, centre, experts, expertOf } = layer;
  if (names.has(name)) return `the layer ${name} is there twice`;
  names.add(name);
  const shape = shapeOf(layer);
  if (shape.blocks.map(({ role }) => role).join() !== roles.join())
    return `roles must be different and in the order ${designRoles.join(', ')}`;
  if (!roles.includes('up') || !roles.includes('down')) return 'roles must have up and down';
  if (intermediateSize * designWidth(shape.blocks) > MAX_VALUES)
    return `an expert of ${intermediateSize} neurons of width ${designWidth(shape.blocks)} is too large`;
  for (const [i, { rows, matrices }] of experts.entries()) {
    if (rows > intermediateSize || (centre && rows !== intermediateSize))
      return `experts[${i}].rows is ${rows}, but the ${centre ? 'centre' : 'original'} has ${intermediateSize} neurons`;
    if (matrices.length !== 1 && matrices.length !== roles.length)
      return `experts[${i}].matrices must be 1, or ${roles.length} for the blocks ${roles.join(', ')}, not ${matrices.length}`;
  }
  const stray = expertOf.findIndex((stored) => stored >= experts.length);
  if (stray >= 0) return `expertOf[${stray}] is ${expertOf[stray]}, but ${experts.length} experts are stored`;
  const unused = experts.findIndex((_, stored) => !expertOf.includes(stored));
  if (unused >= 0) return `stored expert ${unused} stands for no original expert`;
  for (const tensor of layer.tensors) {
    const first = tensor.name.replaceAll(EXPERT, '0');
    if (tensors.has(first)) return `tensor ${tensor.name} is there twice`;
    tensors.add(first);
  }
  return checkExpertTensors(layer.tensors, shape, layer.outputBiases);
}

function describePath(path: readonly PropertyKey[]): string {
  return path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('');
}

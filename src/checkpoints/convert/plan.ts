/**
 * Tensors to be written, put together from parameters when their turn comes.
 * @module
 */
import type { TensorMapping, TensorPart } from '../hugging-face/architecture.js';
import type { Checkpoint } from '../model-folder/checkpoint.js';
import { transposeMatrix } from '../model-folder/transpose.js';
import { elementsOf, storedDTypes, type PlannedTensor, type StoredDType } from '../safetensors/dtypes.js';
import { encodableDTypes, encodeFloats, type EncodableDType } from '../safetensors/encode.js';
import { readFloats, type TensorSource } from '../tensors/index.js';

/** Element types that a conversion can be told to write. */
export const floatDTypes = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;

/** One of {@link floatDTypes}, by the name that `config.json` has for it. */
export type FloatDTypeName = keyof typeof floatDTypes;

const encodable = new Set<StoredDType>(encodableDTypes);

/** The type itself if it can be written, else float32, which holds all narrower ones. */
function writable(dtype: StoredDType): EncodableDType {
  return encodable.has(dtype) ? (dtype as EncodableDType) : 'F32';
}

/**
 * The tensors of a mapping with the numbers of a checkpoint, whatever its own layout. At most one tensor and one slice of
 * a parameter, such as an expert, are in memory.
 *
 * @param dtype of all tensors; when absent each has that of the tensors it comes from, float32 where they differ.
 */
export function planParameters(
  checkpoint: Checkpoint,
  mapping: readonly TensorMapping[],
  dtype: EncodableDType | undefined,
): PlannedTensor[] {
  const dtypes = new Map<string, Set<EncodableDType>>();
  const slices = new Map<string, number>();
  for (const { tensor, parts } of checkpoint.mapping) {
    const stored = writable(checkpoint.source.tensors.get(tensor)!.dtype);
    for (const { parameter, at } of parts) {
      dtypes.set(parameter, (dtypes.get(parameter) ?? new Set()).add(stored));
      if (at !== undefined) slices.set(parameter, Math.max(slices.get(parameter) ?? 0, at + 1));
    }
  }
  return mapping.map(({ tensor, shape, parts }) => {
    const found = new Set(parts.flatMap(({ parameter }) => [...dtypes.get(parameter)!]));
    const [only, ...others] = found;
    const target = dtype ?? (others.length === 0 ? only : 'F32');
    return {
      name: tensor,
      dtype: target,
      shape,
      data: async () => {
        const data = new storedDTypes[target].array(elementsOf(shape));
        for (const part of parts.flatMap((each) => sliced(each, slices.get(each.parameter)))) {
          await place(checkpoint, shape, part, (values, offset) =>
            data.set(encodeFloats(target, values) as never, offset),
          );
        }
        return data;
      },
    };
  });
}

/** A whole parameter that is read in slices as its slices, so that the float32 form of a bank is never whole. */
function sliced(part: TensorPart, count: number | undefined): TensorPart[] {
  if (count === undefined || part.at !== undefined || part.from !== undefined || part.rows || part.transpose)
    return [part];
  return Array.from({ length: count }, (_, at) => ({ parameter: part.parameter, at, from: at }));
}

async function place(
  checkpoint: Checkpoint,
  shape: readonly number[],
  { parameter, at, from, rows, transpose = false }: TensorPart,
  put: (values: Float32Array, offset: number) => void,
): Promise<void> {
  // Of a slice the reader knows which way round it is stored.
  const isTurned = transpose && at !== undefined;
  const values = await checkpoint.readParameter(
    parameter,
    at === undefined ? {} : { at, transposed: isTurned },
  );
  const inner = from === undefined ? shape : shape.slice(1);
  const width = elementsOf(inner.slice(1));
  const offset = (from ?? 0) * elementsOf(inner) + (rows?.[0] ?? 0) * width;
  put(transpose && !isTurned ? transposeMatrix(values, width, values.length / width) : values, offset);
}

/**
 * The tensors of a source as they are: bit for bit, or as another element type. Integers stay what they are.
 * @param skip names that are left out.
 */
export function planCopy(
  source: TensorSource,
  dtype: EncodableDType | undefined,
  skip: (name: string) => boolean = () => false,
): PlannedTensor[] {
  return [...source.tensors.values()]
    .filter(({ name }) => !skip(name))
    .map(({ name, dtype: stored, shape }) => {
      const isFloat = encodable.has(stored) || stored.startsWith('F');
      if (dtype === undefined || !isFloat)
        return { name, dtype: stored, shape, data: () => source.read(name) };
      const data = async () => encodeFloats(dtype, await readFloats(source, name));
      return { name, dtype, shape, data };
    });
}

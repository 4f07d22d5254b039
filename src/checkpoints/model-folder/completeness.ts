/**
 * Whether a checkpoint has exactly the tensors that its configuration asks for.
 * @module
 */
import type { ModelOptions } from '../../models/index.js';
import type { Architecture, ExpertLayout, TensorMapping } from '../hugging-face/architecture.js';
import { ModelFolderError, UnfitModelError } from '../hugging-face/errors.js';
import { decodableDTypes } from '../safetensors/decode.js';
import type { TensorInfo } from '../safetensors/index.js';
import { quote } from '../safetensors/errors.js';
import type { TensorSource } from '../tensors/index.js';

/** Names in one message. */
const MOST_NAMES = 12;

/** More experts than any model has: above, a damaged configuration would ask for a mapping that fills the memory. */
const MOST_EXPERTS = 1 << 16;

/**
 * Finds out which stored tensor is which parameter.
 *
 * @returns a mapping of which every tensor is in the source; an alias stands in for a name that is absent.
 * @throws ModelFolderError listing the tensors that are missing, not expected, or of another shape or type.
 */
export function checkTensors(
  source: TensorSource,
  architecture: Architecture,
  options: ModelOptions,
): readonly TensorMapping[] {
  const { tensors, location } = source;
  checkCounts(source, options);
  const wanted = expectedTensors(source, architecture, options);
  const used = new Set<string>();
  const missing: string[] = [];
  const unfit: string[] = [];
  const mapping = wanted.map((entry) => {
    const names = [entry.tensor, ...(entry.aliases ?? [])].filter((name) => tensors.has(name));
    for (const name of names) {
      used.add(name);
      unfit.push(...differences(tensors.get(name)!, entry));
    }
    if (names.length === 0) {
      missing.push(entry.tensor);
      return entry;
    }
    const { aliases: _, ...bare } = entry;
    return { ...bare, tensor: names[0], ...(names.length > 1 ? { aliases: names.slice(1) } : {}) };
  });
  const present = new Set(tensors.keys());
  const extra = [...present].filter(
    (name) => !used.has(name) && !architecture.ignores?.(name, options, present),
  );
  const problems = [
    ...(missing.length > 0 ? [`missing ${list(missing)}`] : []),
    ...(extra.length > 0 ? [`not expected ${list(extra)}`] : []),
    ...(unfit.length > 0 ? [list(unfit, '; ')] : []),
  ];
  if (problems.length > 0)
    throw new ModelFolderError(`${location} does not fit config.json: ${problems.join('; ')}`);
  return mapping;
}

/** How experts are stored where they have these names. */
function layoutOf(names: Iterable<string>): ExpertLayout {
  for (const name of names) if (/\.experts\.(gate_up_proj|down_proj)$/.test(name)) return 'fused';
  return 'perExpert';
}

function expectedTensors(
  { tensors, location }: TensorSource,
  architecture: Architecture,
  options: ModelOptions,
): readonly TensorMapping[] {
  const present = new Set(tensors.keys());
  try {
    return architecture.tensors(options, { present, layout: layoutOf(present) });
  } catch (error) {
    if (!(error instanceof UnfitModelError || error instanceof RangeError)) throw error;
    throw new ModelFolderError(`${location}: ${architecture.modelType}: ${error.message}`, { cause: error });
  }
}

/** Refuses counts that the file contradicts before a module is made for each. */
function checkCounts({ tensors, location }: TensorSource, options: ModelOptions): void {
  const numLayers =
    options.kind === 'languageModel'
      ? options.numLayers
      : options.numEncoderLayers + options.numDecoderLayers;
  if (numLayers > tensors.size)
    throw new ModelFolderError(
      `${location}: config.json asks for ${numLayers} layers, but there are ${tensors.size} tensors`,
    );
  const { sparse } = options;
  if (sparse?.kind !== 'experts') return;
  const experts = storedExperts(tensors.keys());
  if (experts !== undefined && experts !== sparse.numExperts)
    throw new ModelFolderError(
      `${location}: config.json asks for ${sparse.numExperts} experts, but the tensors hold ${experts}`,
    );
  if (sparse.numExperts > MOST_EXPERTS)
    throw new ModelFolderError(
      `${location}: config.json asks for ${sparse.numExperts} experts, which no model has`,
    );
}

/** One more than the largest index of an expert that is stored by itself. */
function storedExperts(names: Iterable<string>): number | undefined {
  let largest = -1;
  for (const name of names) {
    const [, index] = /\.experts\.(?:expert_)?(\d+)\./.exec(name) ?? [];
    if (index !== undefined) largest = Math.max(largest, Number(index));
  }
  return largest === -1 ? undefined : largest + 1;
}

const decodable = new Set<string>([...decodableDTypes, 'F64']);

function differences({ name, dtype, shape }: TensorInfo, wanted: TensorMapping): string[] {
  const [here, there] = [shape, wanted.shape].map((sizes) => `[${sizes.join(', ')}]`);
  return [
    ...(here === there ? [] : [`${quote(name)} is ${here} instead of ${there}`]),
    ...(decodable.has(dtype) ? [] : [`${quote(name)} is ${dtype}, which is no float`]),
  ];
}

function list(items: readonly string[], separator = ', '): string {
  const shown = items.slice(0, MOST_NAMES).join(separator);
  return items.length > MOST_NAMES ? `${shown} and ${items.length - MOST_NAMES} more` : shown;
}

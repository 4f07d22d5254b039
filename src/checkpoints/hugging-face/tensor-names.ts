/**
 * Tensor names by rules: what our parameters are called elsewhere.
 * @module
 */
import { createModel, type ModelOptions } from '../../models/index.js';
import type { Parameter } from '../../nn/index.js';
import type { TensorChoice, TensorMapping, TensorPart } from './architecture.js';
import { UnfitModelError } from './errors.js';

/** One of the matrices of an expert. */
export type ExpertRole = 'gate' | 'up' | 'down';

/** How a family names its tensors. */
export interface TensorNames {
  /** What stands for the start of a parameter's name, first match first; `$1` is the pattern's first group. */
  readonly rules: readonly (readonly [pattern: RegExp, replacement: string])[];
  /** Experts of a layer. */
  readonly experts?: ExpertNames;
  /** Other names of a tensor. */
  readonly aliases?: (tensor: string) => readonly string[];
}

/** Names of the experts' tensors. Stored matrices are `[out, in]`, those of our banks `[in, out]`. */
export interface ExpertNames {
  /** Matches the parameters of a bank; the groups are what names depend on, and the {@link ExpertRole} last. */
  readonly pattern: RegExp;
  /** Name of one matrix of one expert. */
  readonly perExpert: (groups: readonly string[], role: ExpertRole, expert: number) => string;
  /** Name of the tensor of all experts, `[numExperts, out, in]`; `gateUp` has gates first and ups after them. */
  readonly fused?: (groups: readonly string[], role: 'gateUp' | 'down') => string;
}

/**
 * The tensors of a model by the names of a family.
 * @throws UnfitModelError naming the parameters that no rule is for.
 */
export function nameTensors(
  options: ModelOptions,
  names: TensorNames,
  { layout }: TensorChoice,
): readonly TensorMapping[] {
  const parameters = createModel(options).parameters();
  const unnamed: string[] = [];
  const mapping: TensorMapping[] = [];
  for (const [parameter, { shape }] of parameters) {
    const groups = names.experts?.pattern.exec(parameter)?.slice(1);
    if (groups && names.experts) {
      mapping.push(...nameExperts({ parameter, shape, groups }, names.experts, layout, parameters));
      continue;
    }
    const rule = names.rules.find(([pattern]) => pattern.test(parameter));
    if (!rule) {
      unnamed.push(parameter);
      continue;
    }
    const tensor = parameter.replace(...(rule as [RegExp, string]));
    const aliases = names.aliases?.(tensor) ?? [];
    mapping.push({ tensor, shape, parts: [{ parameter }], ...(aliases.length > 0 ? { aliases } : {}) });
  }
  if (unnamed.length > 0)
    throw new UnfitModelError(
      `there is no tensor for ${unnamed.slice(0, 5).join(', ')}${unnamed.length > 5 ? ' …' : ''}`,
    );
  return mapping;
}

interface Bank {
  readonly parameter: string;
  readonly shape: readonly number[];
  readonly groups: readonly string[];
}

function nameExperts(
  { parameter, shape, groups }: Bank,
  names: ExpertNames,
  layout: TensorChoice['layout'],
  parameters: ReadonlyMap<string, Parameter>,
): TensorMapping[] {
  const [numExperts, inSize, outSize] = shape;
  const role = groups.at(-1) as ExpertRole;
  const each = (part: (at: number) => TensorPart): TensorPart[] =>
    Array.from({ length: numExperts }, (_, at) => part(at));
  if (layout === 'perExpert' || !names.fused) {
    return each((at) => ({ parameter, at, transpose: true })).map((part, expert) => ({
      tensor: names.perExpert(groups, role, expert),
      shape: [outSize, inSize],
      parts: [part],
    }));
  }
  if (role === 'down') {
    const parts = each((at) => ({ parameter, at, from: at, transpose: true }));
    return [{ tensor: names.fused(groups, 'down'), shape: [numExperts, outSize, inSize], parts }];
  }
  const gate = parameter.replace(/up$/, 'gate');
  // Gates and ups are one tensor, which stands where the ups are.
  if (role === 'gate') return [];
  if (!parameters.has(gate)) throw new UnfitModelError(`fused experts are gated, but there is no ${gate}`);
  const half = (of: string, begin: number) => (at: number) =>
    ({ parameter: of, at, from: at, rows: [begin, begin + outSize], transpose: true }) as const;
  return [
    {
      tensor: names.fused(groups, 'gateUp'),
      shape: [numExperts, 2 * outSize, inSize],
      parts: [...each(half(gate, 0)), ...each(half(parameter, outSize))],
    },
  ];
}

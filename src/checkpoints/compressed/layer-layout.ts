/**
 * Where a checkpoint keeps the experts of each layer: one tensor an expert or one for all, matrices either way round.
 * @module
 */
import type { TensorMapping, TensorPart } from '../hugging-face/index.js';
import type { Checkpoint, ExpertLayer } from '../model-folder/index.js';
import { CompressedFormatError } from './errors.js';
import { EXPERT, type ExpertTensor } from './expert-tensors.js';
import { designBlocks, type DesignRole } from './layer.js';
import type { LayerLayout } from './stored-experts.js';

type Role = ExpertTensor['parts'][number]['role'];

/** Parameters of a bank and what they hold; of all but `down` a column is a neuron, unless it is a bias. */
const roles = new Map<string, Role>([
  ['gate', 'gate'],
  ['up', 'up'],
  ['upBias', 'upBias'],
  ['down', 'down'],
  ['downBias', 'outputBias'],
]);

/**
 * The tensors that the experts of a layer lie in.
 * @throws CompressedFormatError if they lie in tensors together with something else.
 */
export function layerLayout(checkpoint: Checkpoint, layer: ExpertLayer): LayerLayout {
  const { name, bank, numExperts, hiddenSize, intermediateSize, gated, bias } = layer;
  const entries = checkpoint.mapping.filter(({ parts }) => roleOf(parts[0], bank) !== undefined);
  const whole = entries.filter(({ parts }) => parts[0].at === undefined || parts[0].from !== undefined);
  const single = entries.filter((entry) => !whole.includes(entry));
  const fail = (reason: string): never => {
    throw new CompressedFormatError(checkpoint.location, `layer ${name}: ${reason}`);
  };
  const inOne = whole.map(({ tensor, shape, parts, aliases }): ExpertTensor => {
    if (aliases) return fail(`tensor ${tensor} is stored twice, as ${aliases.join(' and ')} too`);
    const first = parts.filter(({ at = 0, from = 0 }) => at === 0 && from === 0);
    return { name: tensor, shape: [...shape], parts: first.map((part) => partOf(part, bank)) };
  });
  const byPart = new Map<string, TensorMapping[]>();
  for (const entry of single) {
    const key = JSON.stringify(entry.parts.map(({ at: _, ...part }) => part));
    byPart.set(key, [...(byPart.get(key) ?? []), entry]);
  }
  const each = [...byPart.values()].map((group): ExpertTensor => {
    const ordered = group.toSorted((a, b) => a.parts[0].at! - b.parts[0].at!);
    const [{ shape, parts }] = ordered;
    const template = nameOfEach(ordered.map(({ tensor }) => tensor));
    if (template === undefined || ordered.length !== numExperts)
      return fail(`the names of its tensors do not count experts: ${ordered[0].tensor}`);
    return { name: template, shape: [...shape], parts: parts.map((part) => partOf(part, bank)) };
  });
  const wanted: DesignRole[] = [
    ...(gated ? ['gate' as const] : []),
    'up',
    ...(bias ? ['upBias' as const] : []),
    'down',
  ];
  const blocks = designBlocks({ hiddenSize, roles: wanted });
  return { name, numExperts, hiddenSize, intermediateSize, blocks, tensors: [...inOne, ...each] };
}

function roleOf({ parameter }: TensorPart, bank: string): Role | undefined {
  return parameter.startsWith(`${bank}.`) ? roles.get(parameter.slice(bank.length + 1)) : undefined;
}

function partOf(part: TensorPart, bank: string): ExpertTensor['parts'][number] {
  const role = roleOf(part, bank)!;
  // Biases are vectors. Of ours, `down` alone has a row for each neuron; others may store any of them transposed.
  const hasRows = role.endsWith('Bias') || (role === 'down') !== (part.transpose ?? false);
  return {
    role,
    ...(part.rows ? { rows: [part.rows[0], part.rows[1]] as [number, number] } : {}),
    neurons: hasRows ? 'rows' : 'columns',
  };
}

/** A name with {@link EXPERT} that gives all names; undefined if there is none. */
function nameOfEach(names: readonly string[]): string | undefined {
  const cut = names.map((name) => name.split(/(\d+)/));
  for (let at = cut[0].length - 2; at > 0; at -= 2) {
    const template = [...cut[0].slice(0, at), EXPERT, ...cut[0].slice(at + 1)].join('');
    if (names.every((name, expert) => name === template.replace(EXPERT, String(expert)))) return template;
  }
  return undefined;
}

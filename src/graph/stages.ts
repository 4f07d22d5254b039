/**
 * Cuts a graph into stages that run one after the other, with work between them that is not part of the graph.
 * @module
 */
import { inputName, inputOperator, input } from './leaf.js';
import { apply } from './operator.js';
import { simplify } from './simplify.js';
import type { Node, Tensor } from './tensor.js';

/** Where a graph is cut. */
export interface Cut {
  /** A fed tensor, whose numbers are made between two stages … */
  readonly placeholder: Tensor;
  /** … from these, by name. */
  readonly needs: Readonly<Record<string, Tensor>>;
}

/** One stage: a graph of its own. */
export interface Stage {
  /** Outputs of the whole graph that this stage makes, by their names. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** What the cut after this stage needs, by name; nothing after the last. */
  readonly needs: Readonly<Record<string, Tensor>>;
  /** What later stages read, by the name of their feed. */
  readonly crossing: Readonly<Record<string, Tensor>>;
}

/**
 * Cuts a graph in front of placeholders: stage k makes what cut k needs, and whatever depends on its placeholder comes
 * after it. Numbers that several stages read are computed once and cross as feeds called `crossing.0` …; what depends on
 * nothing that changes from run to run is computed wherever it is read. Nothing is computed before it is needed.
 *
 * @param outputs by name
 * @param cuts in an order in which what one needs depends on earlier placeholders only
 * @param isFixed whether a feed holds the same numbers in every run (weights)
 * @returns one stage more than there are cuts
 * @throws Error if a cut needs the placeholder of itself or of a later one.
 */
export function splitStages(
  outputs: Readonly<Record<string, Tensor>>,
  cuts: readonly Cut[],
  isFixed: (feed: string) => boolean,
): readonly Stage[] {
  const wanted = [...Object.values(outputs), ...cuts.flatMap(({ needs }) => Object.values(needs))];
  const { order, canonical } = simplify(wanted);
  const levels = levelsOf(order, canonical, cuts, isFixed);
  const stageOf = new Map<Node, number>();
  const readAt = (tensor: Tensor, stage: number): void => {
    const { node } = canonical(tensor);
    stageOf.set(node, Math.min(stage, stageOf.get(node) ?? Infinity));
  };
  cuts.forEach(({ needs }, stage) => {
    for (const [name, tensor] of Object.entries(needs)) {
      const level = levels.get(canonical(tensor).node) ?? 0;
      if (level > stage) throw new Error(`cut ${stage} needs '${name}', which depends on cut ${level - 1}`);
      readAt(tensor, stage);
    }
  });
  for (const tensor of Object.values(outputs)) readAt(tensor, levels.get(canonical(tensor).node) ?? 0);
  // Backwards, so that all readers of a node have their stage before the node itself.
  for (const node of [...order].reverse())
    if (levels.has(node)) for (const tensor of node.inputs) readAt(tensor, stageOf.get(node)!);

  const builder = new StageBuilder(canonical, (node) => (levels.has(node) ? stageOf.get(node) : undefined));
  return Array.from({ length: cuts.length + 1 }, (_, stage) => ({
    outputs: builder.take(
      Object.entries(outputs).filter(([, tensor]) => (stageOf.get(canonical(tensor).node) ?? 0) === stage),
      stage,
    ),
    needs: builder.take(Object.entries(cuts[stage]?.needs ?? {}), stage),
  })).map((parts, stage) => ({ ...parts, crossing: builder.crossingFrom(stage) }));
}

/** The stage before which a node cannot run; nodes whose numbers never change have none. */
function levelsOf(
  order: readonly Node[],
  canonical: (tensor: Tensor) => Tensor,
  cuts: readonly Cut[],
  isFixed: (feed: string) => boolean,
): ReadonlyMap<Node, number> {
  const levels = new Map<Node, number>();
  const after = new Map(cuts.map(({ placeholder }, index) => [placeholder.node, index + 1]));
  for (const node of order) {
    if (node.operator === inputOperator) {
      const placeholder = after.get(node);
      if (placeholder !== undefined) levels.set(node, placeholder);
      else if (!isFixed(inputName(node.outputs[0])!)) levels.set(node, 0);
      continue;
    }
    const read = node.inputs.flatMap((tensor) => levels.get(canonical(tensor).node) ?? []);
    if (read.length > 0) levels.set(node, Math.max(...read));
  }
  return levels;
}

/** Copies nodes into stages, with feeds in place of what an earlier stage made. */
class StageBuilder {
  private readonly made = new Map<number, Map<Tensor, Tensor>>();
  private readonly names = new Map<Tensor, string>();

  constructor(
    private readonly canonical: (tensor: Tensor) => Tensor,
    /** Undefined for what is computed wherever it is read. */
    private readonly stageOf: (node: Node) => number | undefined,
  ) {}

  take(tensors: readonly (readonly [string, Tensor])[], stage: number): Record<string, Tensor> {
    return Object.fromEntries(tensors.map(([name, tensor]) => [name, this.copy(tensor, stage)]));
  }

  crossingFrom(stage: number): Record<string, Tensor> {
    const own = [...this.names].filter(([tensor]) => this.stageOf(tensor.node) === stage);
    return Object.fromEntries(own.map(([tensor, name]) => [name, this.copy(tensor, stage)]));
  }

  /** The tensor as a stage sees it. */
  private copy(original: Tensor, stage: number): Tensor {
    const copies = this.made.get(stage) ?? new Map<Tensor, Tensor>();
    this.made.set(stage, copies);
    // With a stack of its own, so that a deep model cannot overflow it.
    const stack = [this.canonical(original)];
    while (stack.length > 0) {
      const tensor = stack.at(-1)!;
      const { node } = tensor;
      const pending = copies.has(tensor) ? [] : this.open(tensor, stage, copies);
      if (pending.length > 0) {
        stack.push(...pending);
        continue;
      }
      stack.pop();
      if (copies.has(tensor)) continue;
      const inputs = node.inputs.map((read) => copies.get(this.canonical(read))!);
      const outputs = apply(node.operator, inputs, node.outputs, node.attributes);
      node.outputs.forEach((output, index) => copies.set(output, outputs[index]));
    }
    return copies.get(this.canonical(original))!;
  }

  /** Inputs that must be copied first. Leaves and what crosses are settled here. */
  private open(tensor: Tensor, stage: number, copies: Map<Tensor, Tensor>): readonly Tensor[] {
    const { node } = tensor;
    if (node.operator === inputOperator) {
      copies.set(tensor, tensor);
      return [];
    }
    const home = this.stageOf(node);
    if (home !== undefined && home !== stage) {
      const name = this.names.get(tensor) ?? `crossing.${this.names.size}`;
      this.names.set(tensor, name);
      copies.set(tensor, input(name, tensor.dtype, tensor.shape));
      return [];
    }
    return node.inputs.map(this.canonical).filter((read) => !copies.has(read));
  }
}

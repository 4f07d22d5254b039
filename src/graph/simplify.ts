/**
 * Removes what need not be computed: dead nodes, aliases, and nodes equal to one that is already there.
 * @module
 */
import type { Node, Tensor } from './tensor.js';
import { topologicalOrder } from './traverse.js';

/** The nodes left to lower, and what every tensor of the original graph is called among them. */
export interface SimplifiedGraph {
  /** Kept nodes, each after its inputs. */
  readonly order: readonly Node[];
  /** The kept tensor that holds the numbers of `tensor`. */
  readonly canonical: (tensor: Tensor) => Tensor;
}

/** Constants up to this length are compared by value; longer ones count as distinct. */
const COMPARED_CONSTANT = 64;

/**
 * Merges equal subgraphs under `outputs`. Leaves are never merged: two noise inputs stay two.
 * @param stopAt tensors that are given from outside and not looked behind.
 */
export function simplify(
  outputs: readonly Tensor[],
  stopAt: ReadonlySet<Tensor> = new Set(),
): SimplifiedGraph {
  const canonicalOf = new Map<Tensor, Tensor>();
  const canonical = (tensor: Tensor): Tensor => canonicalOf.get(tensor) ?? tensor;
  const identity = new Map<Tensor, number>();
  const idOf = (tensor: Tensor): number => {
    const known = identity.get(tensor);
    if (known !== undefined) return known;
    identity.set(tensor, identity.size);
    return identity.size - 1;
  };
  const byKey = new Map<string, Node>();
  const kept: Node[] = [];
  for (const node of topologicalOrder(outputs, stopAt)) {
    if (node.operator.alias) {
      canonicalOf.set(node.outputs[0], canonical(node.inputs[0]));
      continue;
    }
    const attributes = node.operator.unique ? undefined : attributeKey(node);
    if (attributes === undefined) {
      kept.push(node);
      continue;
    }
    const inputs = node.inputs.map((tensor) => idOf(canonical(tensor))).join(',');
    const types = node.outputs.map((tensor) => tensor.toString()).join(',');
    const key = `${node.operator.name}(${inputs})${attributes}:${types}`;
    const equal = byKey.get(key);
    if (equal) {
      node.outputs.forEach((output, i) => canonicalOf.set(output, equal.outputs[i]));
    } else {
      byKey.set(key, node);
      kept.push(node);
    }
  }
  return { order: removeDead(kept, outputs, canonical, stopAt), canonical };
}

/** Merging can orphan what only a merged twin used, such as the forward half of a custom gradient. */
function removeDead(
  nodes: readonly Node[],
  outputs: readonly Tensor[],
  canonical: (tensor: Tensor) => Tensor,
  stopAt: ReadonlySet<Tensor>,
): Node[] {
  const needed = new Set(outputs.map((tensor) => canonical(tensor).node));
  const live: Node[] = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i];
    if (!needed.has(node)) continue;
    live.push(node);
    for (const tensor of node.inputs) if (!stopAt.has(tensor)) needed.add(canonical(tensor).node);
  }
  return live.reverse();
}

function attributeKey(node: Node): string | undefined {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(node.attributes)) {
    if (ArrayBuffer.isView(value) || Array.isArray(value)) {
      if ((value as ArrayLike<unknown>).length > COMPARED_CONSTANT) return undefined;
      const list = Array.from(value as ArrayLike<unknown>);
      // Object.is semantics: −0 and NaN constants must not merge with 0 and null.
      parts.push(`${name}=[${list.map((item) => (Object.is(item, -0) ? '-0' : String(item))).join(',')}]`);
    } else if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean') {
      parts.push(`${name}=${Object.is(value, -0) ? '-0' : String(value)}`);
    } else if (value !== undefined) {
      return undefined;
    }
  }
  return `{${parts.join(';')}}`;
}

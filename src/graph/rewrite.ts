/**
 * Copies of graphs in which some nodes are replaced.
 * @module
 */
import { apply } from './operator.js';
import type { Node, Tensor } from './tensor.js';
import { topologicalOrder } from './traverse.js';

/** New outputs for a node, whose inputs are given as the copy has them; undefined where it stays as it is. */
export type Replacement = (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined;

/**
 * Copies everything that `outputs` depend on.
 * @param replace called once for every node, after those that it reads; the order depends only on the graph. What it returns has the types of
 *   the node's outputs.
 * @returns the outputs as the copy has them, by the same names.
 */
export function rewrite<Names extends string>(
  outputs: Readonly<Record<Names, Tensor>>,
  replace: Replacement,
): Record<Names, Tensor> {
  const copies = new Map<Tensor, Tensor>();
  const copyOf = (tensor: Tensor): Tensor => copies.get(tensor) ?? tensor;
  for (const node of topologicalOrder(Object.values<Tensor>(outputs))) {
    const inputs = node.inputs.map(copyOf);
    const isSame = inputs.every((tensor, index) => tensor === node.inputs[index]);
    const made =
      replace(node, inputs) ??
      (isSame ? node.outputs : apply(node.operator, inputs, node.outputs, node.attributes));
    node.outputs.forEach((output, index) => copies.set(output, made[index]));
  }
  const named = Object.entries<Tensor>(outputs).map(([name, tensor]) => [name, copyOf(tensor)]);
  return Object.fromEntries(named) as Record<Names, Tensor>;
}

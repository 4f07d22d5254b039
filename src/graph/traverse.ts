/**
 * Walks over the graph without recursion, so that a deep model cannot overflow the stack.
 * @module
 */
import type { Node, Tensor } from './tensor.js';

/**
 * All nodes that `outputs` depend on, each after its inputs. The order depends only on the graph.
 * @param stopAt tensors treated as given: nothing behind them is visited.
 * @param extra further tensors that a node depends on (sources of run-time sizes).
 */
export function topologicalOrder(
  outputs: readonly Tensor[],
  stopAt: ReadonlySet<Tensor> = new Set(),
  extra: (node: Node) => readonly Tensor[] = () => [],
): Node[] {
  const order: Node[] = [];
  const done = new Set<Node>();
  const entered = new Set<Node>();
  const stack: Node[] = [];
  const push = (tensor: Tensor): void => {
    if (!stopAt.has(tensor) && !done.has(tensor.node)) stack.push(tensor.node);
  };
  for (const output of outputs) {
    push(output);
    while (stack.length > 0) {
      const node = stack[stack.length - 1];
      if (done.has(node)) {
        stack.pop();
      } else if (entered.has(node)) {
        stack.pop();
        done.add(node);
        order.push(node);
      } else {
        entered.add(node);
        const dependencies = [...node.inputs, ...extra(node)];
        for (let i = dependencies.length - 1; i >= 0; i--) push(dependencies[i]);
      }
    }
  }
  return order;
}

/** The nodes among `order` (topological) that depend on any of `sources`. */
export function dependents(order: readonly Node[], sources: ReadonlySet<Tensor>): Set<Node> {
  const result = new Set<Node>();
  for (const node of order) {
    if (node.inputs.some((tensor) => sources.has(tensor) || result.has(tensor.node))) result.add(node);
  }
  return result;
}

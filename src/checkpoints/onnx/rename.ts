/**
 * Public names for the outputs of a lowered graph.
 * @module
 */
import type { OnnxAttribute, OnnxGraph, OnnxNode } from '../../graph/index.js';

/**
 * A graph whose values have other names.
 * @param names from a value's name to its new one, which nothing else may have.
 */
export function renameValues(graph: OnnxGraph, names: ReadonlyMap<string, string>): OnnxGraph {
  const rename = (name: string): string => names.get(name) ?? name;
  const attribute = (value: OnnxAttribute): OnnxAttribute =>
    typeof value === 'object' && 'graph' in value ? { graph: renameValues(value.graph, names) } : value;
  const node = ({ inputs, outputs, attributes, ...rest }: OnnxNode): OnnxNode => ({
    ...rest,
    inputs: inputs.map(rename),
    outputs: outputs.map(rename),
    attributes: Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, attribute(value)])),
  });
  return {
    ...graph,
    outputs: graph.outputs.map((output) => ({ ...output, name: rename(output.name) })),
    nodes: graph.nodes.map(node),
  };
}

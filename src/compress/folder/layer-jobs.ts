/**
 * The layers of a checkpoint as methods read them.
 * @module
 */
import {
  expertLayers,
  layerLayout,
  StoredExperts,
  type Checkpoint,
  type ExpertLayer,
} from '../../checkpoints/index.js';
import { chooseLayers } from './choose-layers.js';
import type { LayerJob } from './job.js';

/**
 * The layers of experts that a text names, as {@link chooseLayers} has it.
 * @throws RangeError or CompressedFormatError if there is no such layer, or its experts cannot be told apart.
 */
export function layerJobs(checkpoint: Checkpoint, wanted = 'all'): LayerJob[] {
  const all = expertLayers(checkpoint);
  const names = all.map(({ name }) => name);
  const chosen = new Set(chooseLayers(wanted, names));
  return all.filter(({ name }) => chosen.has(name)).map((layer) => layerJob(checkpoint, layer));
}

/** With the router, where that has a row for each expert. */
function layerJob(checkpoint: Checkpoint, layer: ExpertLayer): LayerJob {
  const layout = layerLayout(checkpoint, layer);
  const classifier = `${layer.name}.feedForward.router.classifier.weight`;
  const hasRouter = checkpoint.mapping.some(({ parts }) =>
    parts.some(({ parameter }) => parameter === classifier),
  );
  return {
    layout,
    open: async () => {
      const experts = await StoredExperts.open(checkpoint.source, layout);
      return hasRouter
        ? Object.assign(experts, { router: await checkpoint.readParameter(classifier) })
        : experts;
    },
  };
}

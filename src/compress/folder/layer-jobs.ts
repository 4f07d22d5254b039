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
import type { LayerCalibration } from '../calibration.js';
import type { LayerJob } from './job.js';

/** Runs a text through the model. */
type Calibration = () => Promise<ReadonlyMap<string, LayerCalibration>>;

/**
 * The layers of experts that a text names, as {@link chooseLayers} has it.
 * @param calibration what a text tells of each layer, by name; asked for when the first layer is opened.
 * @throws RangeError or CompressedFormatError if there is no such layer, or its experts cannot be told apart.
 */
export function layerJobs(checkpoint: Checkpoint, wanted = 'all', calibration?: Calibration): LayerJob[] {
  const all = expertLayers(checkpoint);
  const names = all.map(({ name }) => name);
  const chosen = new Set(chooseLayers(wanted, names));
  return all.filter(({ name }) => chosen.has(name)).map((layer) => layerJob(checkpoint, layer, calibration));
}

/** With the router, where that has a row for each expert. */
function layerJob(
  checkpoint: Checkpoint,
  layer: ExpertLayer,
  calibration: Calibration | undefined,
): LayerJob {
  const layout = layerLayout(checkpoint, layer);
  const classifier = `${layer.name}.feedForward.router.classifier.weight`;
  const hasRouter = checkpoint.mapping.some(({ parts }) =>
    parts.some(({ parameter }) => parameter === classifier),
  );
  return {
    layout,
    open: async () => {
      const experts = await StoredExperts.open(checkpoint.source, layout);
      const seen = (await calibration?.())?.get(layer.name);
      return Object.assign(experts, {
        ...(hasRouter ? { router: await checkpoint.readParameter(classifier) } : {}),
        ...(seen ? { calibration: seen } : {}),
      });
    },
  };
}

/**
 * Notices when routing collapses, while there is still time to stop the run.
 * @module
 */
import { loadStatistics } from '../metrics/index.js';
import type { RoutedLayer } from './step-program.js';

/** Steps over which loads are added up: one batch says little about a rarely used expert. */
const WINDOW = 50;

/** Share of all tokens that no expert should see: half of them, or nearly all where an even share is large already. */
function dominantShare(numExperts: number, topK: number): number {
  return Math.min(0.95, Math.max(0.5, (1.8 * topK) / numExperts));
}

/** One finding about one layer. */
export interface CollapseWarning {
  readonly step: number;
  /** Name of the layer, with its stratum where it has several. */
  readonly layer: string;
  readonly kind: 'deadExperts' | 'dominantExpert';
  /** Experts concerned. */
  readonly experts: readonly number[];
  /** One line for people. */
  readonly message: string;
}

/** State of the detector, as JSON, so that a resumed run warns exactly when an uninterrupted one would. */
export interface CollapseState {
  readonly steps: number;
  readonly loads: readonly (readonly number[])[];
  readonly reported: readonly string[];
}

type CheckedLayer = Pick<RoutedLayer, 'name' | 'topK' | 'firstExpert'>;

/** Adds up loads and reports each kind of finding once per layer, and again only after it went away. */
export class CollapseDetector {
  private steps = 0;
  private loads: number[][] = [];
  private reported = new Set<string>();

  /**
   * @param loads choices `[numExperts]` per routed layer, in order of `layers`
   */
  observe(
    step: number,
    layers: readonly CheckedLayer[],
    loads: readonly ArrayLike<number>[],
  ): CollapseWarning[] {
    this.loads = loads.map((load, i) =>
      Array.from(load, (count, expert) => count + (this.loads[i]?.[expert] ?? 0)),
    );
    this.steps++;
    if (this.steps < WINDOW) return [];
    const findings = this.loads.flatMap((load, i) => examine(step, layers[i], load));
    const fresh = findings.filter(({ layer, kind }) => !this.reported.has(`${layer} ${kind}`));
    this.reported = new Set(findings.map(({ layer, kind }) => `${layer} ${kind}`));
    this.steps = 0;
    this.loads = [];
    return fresh;
  }

  /** All of the detector's memory. */
  state(): CollapseState {
    return { steps: this.steps, loads: this.loads.map((load) => [...load]), reported: [...this.reported] };
  }

  /** Continues from `state()`. */
  restore({ steps, loads, reported }: CollapseState): void {
    this.steps = steps;
    this.loads = loads.map((load) => [...load]);
    this.reported = new Set(reported);
  }
}

function examine(
  step: number,
  { name: layer, topK, firstExpert }: CheckedLayer,
  load: readonly number[],
): CollapseWarning[] {
  const { dead, total, utilization } = loadStatistics(load, firstExpert);
  const visible = utilization.length;
  const tokens = total / topK;
  const warnings: CollapseWarning[] = [];
  const span = `in the last ${WINDOW} steps`;
  if (dead.length > 0) {
    const message = `layer ${layer}: ${dead.length} of ${visible} experts got no token ${span} (${dead.join(', ')}); raise router.balanceCoefficient or lower the learning rate`;
    warnings.push({ step, layer, kind: 'deadExperts', experts: dead, message });
  }
  const limit = dominantShare(visible, topK);
  const dominant = topK < visible ? load.findIndex((count) => count > limit * tokens) : -1;
  if (dominant >= 0) {
    const share = Math.round((100 * load[dominant]) / tokens);
    const message = `layer ${layer}: expert ${dominant} took ${share} % of all tokens ${span}: routing has collapsed; raise router.balanceCoefficient`;
    warnings.push({ step, layer, kind: 'dominantExpert', experts: [dominant], message });
  }
  return warnings;
}

/**
 * What predictions are used for: to route (`sida`), or only to load (`prefetch`).
 * @module
 */
import type { Model } from '../../models/index.js';
import type { GateRule } from '../../moe/index.js';
import type {
  PassStart,
  Prefetcher,
  RoutingDecision,
  RoutingSource,
  SuppliedRouting,
} from '../engine/hooks.js';
import { layersOfExperts } from '../engine/layers-of-experts.js';
import type { ExpertStore } from '../store/index.js';
import { PredictorError } from './errors.js';
import { byDemand, type HashTable, type TableSource } from './hash-table.js';
import type { PredictedLayer } from './options.js';
import { passTexts } from './pass-texts.js';

/** Keeps a token whose α are all 0 from a division by 0, as routers do. */
const LEAST_SUM = 1e-9;

/** What a mode needs to know of a store. */
type StoreLayers = Pick<ExpertStore, 'layers'>;

/** Reads the experts of a table ahead, those of early layers first. */
function loadTable(
  store: Pick<ExpertStore, 'layers' | 'prefetch'>,
  names: readonly (string | undefined)[],
  table: HashTable,
): void {
  names.forEach((name, layer) => {
    const found = name === undefined ? undefined : table.layers.get(name);
    if (found) store.prefetch(layer, found.distinct, names.length - layer);
  });
}

/**
 * Name of the predicted layer of each layer of a store; undefined where none is predicted, as in a decoder.
 * @throws PredictorError if a predicted layer is in no layer of the store.
 */
export function predictedNames(
  { layers }: StoreLayers,
  predicted: readonly PredictedLayer[],
): readonly (string | undefined)[] {
  const names = layers.map(({ name, numExperts }) => {
    const [, stack, index] = /^(encoder\.|decoder\.|)blocks\.(\d+)\./.exec(name) ?? [];
    return predicted.find((layer) => layer.name === `${stack}${index}` && layer.numExperts === numExperts)
      ?.name;
  });
  const lost = predicted.find(({ name }) => !names.includes(name));
  if (!lost) return names;
  throw new PredictorError(
    `the predictor foretells layer ${lost.name} of ${lost.numExperts} experts, which the model does not have`,
  );
}

/**
 * How each layer of a store makes gates of predicted α, which are a softmax over all experts.
 * @throws PredictorError naming a layer whose router makes them of anything else.
 */
function gateRules({ layers }: StoreLayers, model: Model): readonly GateRule[] {
  const sparse = new Map(layersOfExperts(model).map((layer) => [layer.name, layer.sparse]));
  return layers.map(({ name }) => {
    const router = sparse.get(name)?.router;
    if (router?.gateRule) return router.gateRule;
    const decides = router ? `a ${router.constructor.name}, whose weights` : 'several gates, whose weights';
    throw new PredictorError(
      `the predictor cannot take the routers' place: layer ${name} has ${decides} are not shares of a softmax over all experts; let it prefetch`,
    );
  });
}

/** Settings of {@link PredictedRouting}. */
export interface PredictedRoutingOptions {
  /** Whose routers' place is taken. */
  readonly model: Model;
  readonly store: Pick<ExpertStore, 'layers' | 'prefetch'>;
  readonly predicted: readonly PredictedLayer[];
  readonly tables: TableSource;
  /** Experts of a token: guesses of the tables that are used. By default each layer's own number. */
  readonly topK?: number;
  /** Factors of first, second … choice: SiDA's δ, whose code has 0.5, 0.25, 0.25; 1 each when absent. */
  readonly factors?: readonly number[];
}

/**
 * `sida`: the prediction takes the router's place, weighed by the predicted α as the router weighs by its own: divided by
 * their sum, or scaled. What is computed differs from the model where the prediction does; the load list of every layer is
 * read ahead, and no decision is waited for.
 */
export class PredictedRouting implements RoutingSource {
  readonly topK: readonly number[];
  private readonly names: readonly (string | undefined)[];
  private readonly rules: readonly GateRule[];

  /** @throws PredictorError if the model has layers that are not predicted, or whose weights are no shares of a softmax. */
  constructor(private readonly options: PredictedRoutingOptions) {
    const { store, predicted, topK, model } = options;
    this.names = predictedNames(store, predicted);
    const unknown = this.names.indexOf(undefined);
    if (unknown >= 0)
      throw new PredictorError(
        `the predictor cannot take the routers' place: layer ${store.layers[unknown].name} is not predicted; let it prefetch`,
      );
    this.rules = gateRules(store, model);
    this.topK = this.names.map((name) => {
      const layer = predicted.find((candidate) => candidate.name === name)!;
      return Math.min(topK ?? layer.topK, layer.numExperts);
    });
  }

  /** @throws PredictorError for a pass whose texts are not whole: SiDA routes texts that are known before the pass. */
  async decide(start: PassStart, layers: readonly number[]): Promise<readonly SuppliedRouting[]> {
    const texts = passTexts(start);
    if (!texts)
      throw new PredictorError(
        `pass '${start.name}' does not have its texts whole, so no prediction can take the routers' place: let it prefetch`,
      );
    const { store, tables } = this.options;
    const table = await tables.tableFor(texts.rows);
    loadTable(store, this.names, table);
    return layers.map((layer) => {
      const width = this.topK[layer];
      const { experts, alphas, topK } = table.layers.get(this.names[layer]!)!;
      const used = Math.min(width, topK);
      const { normalize, scale } = this.rules[layer];
      const supplied = {
        experts: new Int32Array(texts.tokens * width).fill(-1),
        gates: new Float32Array(texts.tokens * width),
      };
      let from = 0;
      texts.rows.forEach(({ length }, row) => {
        for (let t = 0; t < length; t++, from++) {
          const own = alphas.subarray(from * topK, from * topK + used);
          const factor = normalize ? scale / own.reduce((sum, alpha) => sum + alpha, LEAST_SUM) : scale;
          for (let k = 0; k < used; k++) {
            const to = (texts.starts[row] + t) * width + k;
            supplied.experts[to] = experts[from * topK + k];
            supplied.gates[to] = own[k] * factor * (this.options.factors?.[k] ?? 1);
          }
        }
      });
      return supplied;
    });
  }
}

/**
 * `prefetch` for texts that are known before the pass: the predicted experts of all layers are read ahead, those of early
 * layers first; the routers decide, and what is computed is what it would be without.
 */
export class PredictedPrefetch implements Prefetcher {
  private readonly names: readonly (string | undefined)[];

  constructor(
    private readonly store: Pick<ExpertStore, 'layers' | 'prefetch'>,
    predicted: readonly PredictedLayer[],
    private readonly tables: TableSource,
  ) {
    this.names = predictedNames(store, predicted);
  }

  async begin(start: PassStart): Promise<void> {
    const texts = passTexts(start);
    if (!texts || texts.rows.length === 0) return;
    // A pass can do without guesses.
    const table = await this.tables.tableFor(texts.rows).catch(() => undefined);
    if (table) loadTable(this.store, this.names, table);
  }
}

/**
 * `prefetch` without a predictor: the next layer's router, applied to this layer's state, says what to read ahead
 * (Eliseev and Mazur, arXiv 2312.17238 §3.2).
 */
export class LookAheadPrefetch implements Prefetcher {
  readonly lookAhead = true;

  constructor(private readonly store: Pick<ExpertStore, 'layers' | 'prefetch'>) {}

  decided({ layer, tokens, experts, topK, ahead }: RoutingDecision): void {
    if (!ahead) return;
    const width = ahead.length / tokens;
    const guesses = Int32Array.from(ahead);
    // Padding has no choice here, and must load nothing there.
    for (let t = 0; t < tokens; t++) if (experts[t * topK] < 0) guesses.fill(-1, t * width, (t + 1) * width);
    this.store.prefetch(layer + 1, byDemand(guesses, this.store.layers[layer + 1].numExperts));
  }
}

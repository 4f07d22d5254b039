/**
 * Everything about a model's routing on a validation set, as one JSON object.
 * @module
 */
import type { BatchSequence, Tokenizer } from '../data/index.js';
import type { RuntimeOptions } from '../runtime/index.js';
import type { LoadedLanguageModel } from '../train/index.js';
import { capacityDemand, type CapacityDemand } from './capacity-demand.js';
import { classMaps, type ClassMaps } from './class-maps.js';
import { corruptions, type CorruptionKind } from './corruption.js';
import { layerAgreement, type LayerAgreement } from './layer-agreement.js';
import { layerProfile, type LayerProfile } from './layer-profile.js';
import { routingRobustness, type RobustnessReport } from './robustness.js';
import { RoutingTracer, stretchesOf, type RoutingTrace } from './routing-trace.js';
import { scriptOf } from './token-classes.js';
import { displayToken, tokenTexts, type TokenText } from './token-text.js';

/** Result of {@link analyzeRouting}. */
export interface RoutingAnalysis {
  /** Tokens that were routed. */
  readonly tokens: number;
  readonly profiles: readonly LayerProfile[];
  readonly agreement: LayerAgreement;
  readonly classes: readonly ClassMaps[];
  /** One for each stratified layer. */
  readonly capacity: readonly CapacityDemand[];
  readonly robustness: readonly RobustnessReport[];
}

/** Settings of {@link analyzeRouting}. */
export interface RoutingAnalysisOptions {
  /** The tokens to route. */
  readonly sequence: BatchSequence;
  /** Names of the languages that the sequence numbers. */
  readonly languages?: readonly string[];
  /** Tokens that are enough; default 16 384. */
  readonly maxTokens?: number;
  /** Seed of shuffles and corruptions; default 1. */
  readonly seed?: number;
  /** Share of words that are corrupted; default 0.025 as in the adaptive clustering paper. */
  readonly corruptionRate?: number;
  readonly runtime?: RuntimeOptions;
}

/** Sequences that are enough to see the effect of a corruption. */
const CORRUPTED_ROWS = 128;

/**
 * Routes a validation set and measures what the routers do.
 * @returns undefined for a model that keeps no routing records (dense, top-K, product keys).
 * @example
 * const loaded = await loadLanguageModel('runs/demo');
 * const analysis = await analyzeRouting(loaded, { sequence: data.validation() });
 * analysis?.agreement.statistics.matched.adjacent;
 */
export async function analyzeRouting(
  { model, weights, tokenizer }: LoadedLanguageModel,
  options: RoutingAnalysisOptions,
): Promise<RoutingAnalysis | undefined> {
  const { sequence, maxTokens = 16_384, seed = 1, corruptionRate = 0.025, runtime = {} } = options;
  const { batchSize, contextLength } = sequence;
  const shape = { batchSize, contextLength };
  const tracer = await RoutingTracer.create(model, weights, shape, runtime);
  try {
    if (tracer.layers.length === 0) return undefined;
    const trace = await tracer.trace(sequence, maxTokens);
    const tokens = textsOfTrace(tokenizer, trace);
    const texts = tokens.map(({ text }) => text);
    const { languages = [] } = options;
    const known = trace.languages && languages.length > 0;
    const classOf = known
      ? Array.from(trace.languages, (language) => languages[language])
      : texts.map(scriptOf);
    const robustness: RobustnessReport[] = [];
    const settings = { tokenizer, shape, seed, rate: corruptionRate, maxRows: CORRUPTED_ROWS };
    for (const kind of Object.keys(corruptions) as CorruptionKind[]) {
      robustness.push(await routingRobustness(tracer, trace, kind, settings));
    }
    return {
      tokens: trace.tokens.length,
      profiles: trace.layers.map((layer) => layerProfile(layer, trace)),
      agreement: layerAgreement(trace, { seed }),
      classes: classMaps(trace, texts, languages),
      capacity: capacityDemand(trace, tokens.map(displayToken), classOf),
      robustness,
    };
  } finally {
    await tracer.release();
  }
}

/** Texts of all tokens of a trace, sequence by sequence. */
function textsOfTrace(tokenizer: Tokenizer, { tokens, rows }: RoutingTrace): TokenText[] {
  return stretchesOf(rows).flatMap(([start, end]) => tokenTexts(tokenizer, tokens.subarray(start, end)));
}

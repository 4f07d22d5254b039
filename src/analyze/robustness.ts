/**
 * How much routing changes when the text is corrupted (adaptive clustering §12).
 * @module
 */
import type { BatchShape, Tokenizer } from '../data/index.js';
import { corruptText, matchTokens, type CorruptionKind, type MatchedToken } from './corruption.js';
import {
  batchesOfRows,
  stretchesOf,
  type LayerTrace,
  type RoutingTrace,
  type RoutingTracer,
} from './routing-trace.js';

/** Effect of one kind of corruption. */
export interface RobustnessReport {
  readonly kind: CorruptionKind;
  /** Probability that a word is corrupted. */
  readonly rate: number;
  /** Words that were. */
  readonly edits: number;
  /** Tokens that stand in both texts. */
  readonly tokens: number;
  /** Those of them with an edit before them in their sequence: no other can change in a causal model. */
  readonly tokensAfterEdit: number;
  readonly layers: readonly {
    readonly layer: string;
    /** Share of the tokens with another set of experts. */
    readonly changed: number;
    readonly changedAfterEdit: number;
    /** Mean of chosen in both over chosen in either, over tokens after an edit; 1 is unchanged. */
    readonly overlapAfterEdit: number;
  }[];
}

/** Settings of {@link routingRobustness}. */
export interface RobustnessOptions {
  readonly tokenizer: Tokenizer;
  readonly shape: BatchShape;
  readonly seed: number;
  readonly rate: number;
  /** Sequences that are corrupted. */
  readonly maxRows: number;
}

/** Traces the sequences of a trace again, clean and corrupted, and compares the tokens that both have. */
export async function routingRobustness(
  tracer: RoutingTracer,
  trace: RoutingTrace,
  kind: CorruptionKind,
  { tokenizer, shape, seed, rate, maxRows }: RobustnessOptions,
): Promise<RobustnessReport> {
  const pairs = rowsOf(trace, maxRows).map(({ ids, language }, row) => {
    // A sequence may begin or end inside a character.
    const text = tokenizer.decode(ids).replaceAll('\uFFFD', '');
    const corrupted = corruptText(text, kind, rate, seed + row);
    const clean = tokenizer.encode(text).slice(0, shape.contextLength);
    const changed = tokenizer.encode(corrupted.text).slice(0, shape.contextLength);
    const matches = matchTokens(tokenizer, clean, changed, corrupted.edits);
    return { clean, changed, matches, edits: corrupted.edits.length, language };
  });
  const kept = pairs.filter(({ clean, changed }) => clean.length > 0 && changed.length > 0);
  const rows = (pick: 'clean' | 'changed'): Promise<RoutingTrace> =>
    tracer.trace(
      batchesOfRows(
        kept.map((pair) => pair[pick]),
        shape,
        (row) => kept[row].language,
      ),
    );
  const [before, after] = [await rows('clean'), await rows('changed')];
  const matches = alignTraces(kept);
  const later = matches.filter(({ editsBefore }) => editsBefore > 0);
  return {
    kind,
    rate,
    edits: kept.reduce((sum, { edits }) => sum + edits, 0),
    tokens: matches.length,
    tokensAfterEdit: later.length,
    layers: before.layers.map((layer, i) => {
      const overlaps = (of: readonly MatchedToken[]): number[] =>
        of.map(({ clean, corrupted }) => overlap(layer, clean, after.layers[i], corrupted));
      const share = (values: readonly number[]): number =>
        values.filter((value) => value < 1).length / Math.max(1, values.length);
      const [everywhere, behind] = [overlaps(matches), overlaps(later)];
      return {
        layer: layer.name,
        changed: share(everywhere),
        changedAfterEdit: share(behind),
        overlapAfterEdit: behind.length === 0 ? 1 : behind.reduce((a, b) => a + b, 0) / behind.length,
      };
    }),
  };
}

/** Places in the rows as places in the traces, which hold row after row without padding. */
function alignTraces(
  pairs: readonly { clean: Int32Array; changed: Int32Array; matches: readonly MatchedToken[] }[],
): MatchedToken[] {
  let [clean, corrupted] = [0, 0];
  return pairs.flatMap((pair) => {
    const [cleanStart, corruptedStart] = [clean, corrupted];
    clean += pair.clean.length;
    corrupted += pair.changed.length;
    return pair.matches.map((match) => ({
      clean: cleanStart + match.clean,
      corrupted: corruptedStart + match.corrupted,
      editsBefore: match.editsBefore,
    }));
  });
}

function overlap(a: LayerTrace, tokenA: number, b: LayerTrace, tokenB: number): number {
  const chosen = ({ experts, topK }: LayerTrace, token: number): Set<number> =>
    new Set(experts.subarray(token * topK, (token + 1) * topK).filter((expert) => expert >= 0));
  const [left, right] = [chosen(a, tokenA), chosen(b, tokenB)];
  const both = [...left].filter((expert) => right.has(expert)).length;
  const either = left.size + right.size - both;
  return either === 0 ? 1 : both / either;
}

function rowsOf(
  { tokens, rows, languages }: RoutingTrace,
  maxRows: number,
): { ids: Int32Array; language: number }[] {
  return stretchesOf(rows)
    .slice(0, maxRows)
    .map(([start, end]) => ({ ids: tokens.slice(start, end), language: languages?.[start] ?? 0 }));
}

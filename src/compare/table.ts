/**
 * The table of a comparison: every number comes from the records.
 * @module
 */
import { loadStatistics } from '../metrics/index.js';
import { describe, percent } from './match.js';
import { trainedEvaluation, type Plan, type PlannedVariant } from './plan.js';
import type { Measured, RecordedEvaluation, RunRecord } from './record.js';
import { formatSpread, pairedDifference, spread, type Spread } from './statistics.js';

/** One row: a variant under one way of routing. */
export interface ComparisonRow {
  readonly variant: string;
  readonly evaluation: string;
  /** Whether outputs may depend on later tokens: such a loss compares with nothing. */
  readonly leaking: boolean;
  readonly seeds: readonly number[];
  readonly parameters: number;
  readonly activeParameters: number;
  readonly forwardFlopsPerToken: number;
  /** Absent where not every record has it. */
  readonly tokensPerSecond?: Spread;
  readonly loss: Spread;
  readonly perplexity: Spread;
  readonly bitsPerByte: Spread;
  /** Loss on each further text that all of the row's records have. */
  readonly texts: Readonly<Record<string, Spread>>;
  /** Loss less the baseline's, seed by seed; absent for the baseline and without a common seed. */
  readonly difference?: Spread;
  /** Share of choices without a place, on validation. */
  readonly dropped: Spread;
  /** Means over layers and seeds; absent for variants that do not route. */
  readonly routing?: { readonly balance: number; readonly maxOverMean: number; readonly dead: number };
  /** Matched agreement and normalised mutual information of neighbouring layers with their chance levels. */
  readonly agreement?: {
    readonly matched: Spread;
    readonly matchedChance: Spread;
    readonly mutualInformation: Spread;
    readonly mutualInformationChance: Spread;
  };
}

/** Rows of all variants that have a record, in the grid's order; the causal evaluation of a leaking variant first. */
export function comparisonRows(plan: Plan, records: readonly RunRecord[]): ComparisonRow[] {
  const of = (name: string): RunRecord[] =>
    records.filter(({ variant }) => variant === name).sort((a, b) => a.seed - b.seed);
  const reference = headline(of(plan.baseline));
  return plan.variants.flatMap(({ name }) => {
    const mine = of(name);
    const rows = evaluationNames(mine).map((evaluation) =>
      row(name, evaluation, mine, plan.baseline, reference),
    );
    return [...rows].sort((a, b) => Number(a.leaking) - Number(b.leaking));
  });
}

/** Loss by seed of the evaluation that stands for a variant: the trained routing, or a causal one where that leaks. */
function headline(records: readonly RunRecord[]): Map<number, number> {
  return new Map(
    records.map(({ seed, evaluations }) => {
      const all = Object.values(evaluations);
      const chosen = all.find(({ leaks }) => leaks.length === 0) ?? all[0];
      return [seed, chosen.validation.loss];
    }),
  );
}

function evaluationNames(records: readonly RunRecord[]): string[] {
  const all = records.flatMap(({ evaluations }) => Object.keys(evaluations));
  return [...new Set(all)].filter((name) => records.every(({ evaluations }) => name in evaluations));
}

function row(
  variant: string,
  evaluation: string,
  records: readonly RunRecord[],
  baseline: string,
  reference: ReadonlyMap<number, number>,
): ComparisonRow {
  const evaluated = records.map(({ evaluations }): RecordedEvaluation => evaluations[evaluation]);
  const over = (value: (measured: Measured) => number): Spread =>
    spread(evaluated.map(({ validation }) => value(validation)));
  const textNames = Object.keys(evaluated[0].texts).filter((name) =>
    evaluated.every(({ texts }) => name in texts),
  );
  const losses = new Map(records.map(({ seed }, i) => [seed, evaluated[i].validation.loss]));
  const isBaseline = variant === baseline && evaluation === trainedEvaluation;
  const difference = isBaseline ? undefined : pairedDifference(losses, reference);
  const layers = evaluated.flatMap(({ validation }, i) =>
    validation.routing.map(({ layer, load }) => loadStatistics(load, firstExpertOf(layer, records[i]))),
  );
  const mean = (values: readonly number[]): number => spread(values).mean;
  const { parameters, activeParameters, forwardFlopsPerToken } = records[0].size;
  const rates = records.map(({ tokensPerSecond }) => tokensPerSecond);
  return {
    variant,
    evaluation,
    leaking: evaluated.some(({ leaks }) => leaks.length > 0),
    seeds: records.map(({ seed }) => seed),
    parameters,
    activeParameters,
    forwardFlopsPerToken,
    ...(rates.includes(null) ? {} : { tokensPerSecond: spread(rates as number[]) }),
    loss: over(({ loss }) => loss),
    perplexity: over(({ perplexity }) => perplexity),
    bitsPerByte: over(({ bitsPerByte }) => bitsPerByte),
    texts: Object.fromEntries(
      textNames.map((name) => [name, spread(evaluated.map(({ texts }) => texts[name].loss))]),
    ),
    ...(difference ? { difference } : {}),
    dropped: over(({ dropped }) => dropped),
    ...(layers.length === 0
      ? {}
      : {
          routing: {
            balance: mean(layers.map(({ balance }) => balance)),
            maxOverMean: mean(layers.map(({ maxOverMean }) => maxOverMean)),
            dead: mean(layers.map(({ dead }) => dead.length)),
          },
        }),
    ...agreementOf(evaluated),
  };
}

/** First expert that a stratum sees, by its name such as `3.1`; 0 for layers without strata. */
function firstExpertOf(layer: string, { recipe }: RunRecord): number {
  const { sparse } = recipe.model;
  if (sparse?.kind !== 'stratified') return 0;
  const before = sparse.strata.slice(0, Number(layer.split('.')[1]));
  return before.reduce((a, b) => a + b, 0);
}

function agreementOf(evaluated: readonly RecordedEvaluation[]): Pick<ComparisonRow, 'agreement'> {
  const all = evaluated.flatMap(({ agreement }) => (agreement ? [agreement.adjacent] : []));
  if (all.length < evaluated.length) return {};
  return {
    agreement: {
      matched: spread(all.map(({ matched }) => matched)),
      matchedChance: spread(all.map(({ matchedChance }) => matchedChance)),
      mutualInformation: spread(all.map(({ mutualInformation }) => mutualInformation)),
      mutualInformationChance: spread(all.map(({ mutualInformationChance }) => mutualInformationChance)),
    },
  };
}

/** `1,694,144` */
const grouped = (value: number): string => Math.round(value).toLocaleString('en-US');

/**
 * Markdown of a comparison.
 * @param command how to make it again.
 */
export function comparisonTable(plan: Plan, records: readonly RunRecord[], command: string): string {
  const { grid, baseline } = plan;
  const rows = comparisonRows(plan, records);
  const texts = grid.evaluate.map(({ name }) => name);
  const head = [
    'variant',
    'seeds',
    'parameters',
    'active',
    'FLOPs/token',
    'tokens/s',
    'loss',
    `difference to ${baseline}`,
    'perplexity',
    'bits/byte',
    ...texts.map((name) => `loss, ${name}`),
  ];
  const body = rows.map((one) => [
    label(one),
    one.seeds.join(', '),
    grouped(one.parameters),
    grouped(one.activeParameters),
    grouped(one.forwardFlopsPerToken),
    one.tokensPerSecond ? formatRate(one.tokensPerSecond) : '–',
    formatSpread(one.loss, 4),
    one.difference ? formatSpread(one.difference, 4, true) : '',
    formatSpread(one.perplexity, 3),
    formatSpread(one.bitsPerByte, 4),
    ...texts.map((name) => (name in one.texts ? formatSpread(one.texts[name], 4) : '–')),
  ]);
  const routed = rows.filter(({ routing }) => routing);
  return [
    `# ${grid.name}`,
    ...(grid.description === undefined ? [] : ['', grid.description]),
    '',
    markdown(head, body),
    '',
    ...notes(plan, rows, records),
    `- Made by \`${command}\`.`,
    ...(routed.length === 0
      ? []
      : [
          '',
          'Use of the experts on the validation set, means over layers and seeds; balance is the entropy of the load over its maximum.',
          '',
          markdown(
            ['variant', 'dropped', 'balance', 'largest load / mean', 'dead experts a layer'],
            routed.map((one) => [
              label(one),
              `${(100 * one.dropped.mean).toFixed(2)} %`,
              one.routing!.balance.toFixed(3),
              one.routing!.maxOverMean.toFixed(2),
              one.routing!.dead.toFixed(2),
            ]),
          ),
          ...agreementTable(routed),
        ]),
    '',
  ].join('\n');
}

/** How far neighbouring layers route alike, beside what shuffled decisions agree on. */
function agreementTable(rows: readonly ComparisonRow[]): string[] {
  const some = rows.filter(({ agreement }) => agreement);
  if (some.length === 0) return [];
  return [
    '',
    'How far neighbouring layers route alike (chance: the same with shuffled decisions): tokens in the same group once experts are matched, and normalised mutual information.',
    '',
    markdown(
      ['variant', 'matched', 'chance', 'information', 'chance'],
      some.map((one) => [
        label(one),
        formatSpread(one.agreement!.matched, 3),
        formatSpread(one.agreement!.matchedChance, 3),
        formatSpread(one.agreement!.mutualInformation, 3),
        formatSpread(one.agreement!.mutualInformationChance, 3),
      ]),
    ),
  ];
}

const formatRate = ({ mean, sd }: Spread): string =>
  `${grouped(mean)}${sd === null ? '' : ` ± ${grouped(sd)}`}`;

function label({ variant, evaluation, leaking }: ComparisonRow): string {
  const name = evaluation === trainedEvaluation ? variant : `${variant}, ${evaluation}`;
  return leaking ? `${name} (sees later tokens)` : name;
}

function notes(plan: Plan, rows: readonly ComparisonRow[], records: readonly RunRecord[]): string[] {
  const { measure, tolerance, variants, baseline, runs } = plan;
  const planned = runs.length;
  const done = runs.filter(({ id }) =>
    records.some(({ variant, seed }) => `${variant}-seed${seed}` === id),
  ).length;
  const timed = records.filter(({ tokensPerSecond }) => tokensPerSecond !== null);
  const shared = [...new Set(timed.map(({ processes, threads }) => `${processes}:${threads}`))];
  return [
    `- Mean ± standard deviation over seeds (n − 1). Loss in nats per token on ${validationPart(records)}. The difference is taken seed by seed.`,
    ...(done < planned ? [`- Not complete: ${done} of ${planned} runs.`] : []),
    measure === undefined
      ? `- Nothing was matched: mind the parameters and FLOPs.`
      : `- Matched to ${baseline}: ${describe(measure)}, within ${percent(tolerance)}. ${variants
          .filter(({ name }) => name !== baseline)
          .map(matchNote)
          .join('; ')}.`,
    ...(rows.some(({ leaking }) => leaking)
      ? [
          `- Rows that see later tokens know a part of what they predict: their loss is no language model's. The row of the same variant above them is causal.`,
        ]
      : []),
    ...(shared.length > 1
      ? [`- Tokens/s are not comparable: runs had different threads or shared the machine with others.`]
      : shared.length === 1
        ? [`- Tokens/s: median training step on ${threadsOf(timed[0])}.`]
        : []),
  ];
}

/** What of the validation set the losses are about. */
function validationPart(records: readonly RunRecord[]): string {
  const parts = new Set(
    records.map(({ recipe }) => {
      const { maxBatches } = recipe.train.evaluation;
      const tokens = (maxBatches ?? 0) * recipe.train.batchSize * recipe.model.contextLength;
      return maxBatches === null
        ? 'the whole validation set'
        : `the first ${grouped(tokens)} tokens of the validation set, where it has as many`;
    }),
  );
  return parts.size === 1 ? [...parts][0] : 'the validation set';
}

function threadsOf({ threads, processes }: RunRecord): string {
  return `${threads} thread${threads === 1 ? '' : 's'}${processes > 1 ? `, ${processes} runs at once` : ''}`;
}

function matchNote({ name, match }: PlannedVariant): string {
  if (!match) return `${name} is not matched`;
  const sizes = Object.entries(match.sizes).map(([path, size]) => `${path} = ${size}`);
  return `${name} ${match.difference > 0 ? '+' : ''}${percent(match.difference)}${sizes.length === 0 ? '' : ` (${sizes.join(', ')})`}`;
}

function markdown(head: readonly string[], body: readonly (readonly string[])[]): string {
  const align = head.map((_, i) => (i === 0 ? '---' : '---:'));
  return [head, align, ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/**
 * From a grid to the runs that it asks for: recipes, sizes, matching. Nothing is trained or allocated.
 * @module
 */
import { LanguageModel, sizeOfModel, type ModelSize } from '../models/index.js';
import { loadRecipe, RecipeError, requireLanguageModel, type RecipeOf } from '../recipes/index.js';
import {
  GridError,
  suggest,
  variantOverrides,
  type FurtherText,
  type Grid,
  type MatchMeasure,
  type Variant,
} from './grid.js';
import { matchVariant, measureOf, type MatchReport } from './match.js';
import { vocabularyOf } from './vocabulary.js';

/** Recipes that can be compared. */
export type ComparedRecipe = RecipeOf<'languageModel'>;

/** An evaluation of trained weights with other routing. */
export interface PlannedEvaluation {
  readonly name: string;
  readonly overrides: Readonly<Record<string, unknown>>;
  readonly model: ComparedRecipe['model'];
}

/** One variant with its sizes known. */
export interface PlannedVariant {
  readonly name: string;
  readonly description: string | undefined;
  readonly size: ModelSize;
  /** Absent when nothing is matched, or this variant asked not to be. */
  readonly match: MatchReport | undefined;
  /** Why its outputs may depend on later tokens; empty for a causal model. */
  readonly leaks: readonly string[];
  readonly evaluations: readonly PlannedEvaluation[];
}

/** One run of a grid. Plain data: a child process gets it whole. */
export interface PlannedRun {
  /** `VARIANT-seedN`: names its record and its run folder. */
  readonly id: string;
  readonly grid: string;
  readonly variant: string;
  readonly seed: number;
  readonly recipe: ComparedRecipe;
  readonly match: MatchReport | undefined;
  readonly evaluations: readonly PlannedEvaluation[];
  readonly texts: readonly FurtherText[];
}

/** All that a grid asks for. */
export interface Plan {
  readonly grid: Grid;
  readonly baseline: string;
  readonly measure: MatchMeasure | undefined;
  readonly tolerance: number;
  readonly seeds: readonly number[];
  readonly variants: readonly PlannedVariant[];
  /** Seed after seed, variants in the grid's order: every prefix is a fair comparison. */
  readonly runs: readonly PlannedRun[];
}

/** Which runs of a plan are meant. */
export interface RunSelection {
  /** Names of variants. */
  readonly only?: readonly string[] | undefined;
  readonly seeds?: readonly number[] | undefined;
}

/** Settings of {@link planGrid}. */
export interface PlanOptions {
  /** Beside the grid's own. */
  readonly seeds?: readonly number[];
  /** Instead of the grid's own. */
  readonly measure?: MatchMeasure;
  /** Default `.cache`. */
  readonly cacheFolder?: string;
}

/**
 * Works out every run of a grid.
 *
 * @throws GridError in one line: a variant that is no recipe, cannot match, or leaks without a causal evaluation.
 */
export async function planGrid(grid: Grid, options: PlanOptions = {}): Promise<Plan> {
  const { cacheFolder = '.cache' } = options;
  const seeds = [...new Set([...grid.seeds, ...(options.seeds ?? [])])];
  const names = Object.keys(grid.variants);
  const baseline = grid.baseline ?? names[0];
  const measure = options.measure ?? grid.match?.measure;
  const tolerance = grid.match?.tolerance ?? 0.01;
  const vocabularies = new Map<string, number>();
  const sizer = async (variant: string): Promise<(changes: Changes) => ModelSize> => {
    const first = recipeOf(grid, variant, seeds[0]);
    const key = vocabularyKey(first);
    if (!vocabularies.has(key)) vocabularies.set(key, await vocabularyOf(first, cacheFolder));
    const vocabSize = vocabularies.get(key)!;
    return (changes) => {
      const { model } = recipeOf(grid, variant, seeds[0], changes);
      return sizeOfModel(new LanguageModel({ ...model, vocabSize }));
    };
  };
  if (measure !== undefined && grid.variants[baseline].free)
    throw new GridError(
      `variant ${baseline} is the baseline: its sizes are the measure, so none can be free`,
    );
  const target = measure && measureOf((await sizer(baseline))({}), measure);

  const variants: PlannedVariant[] = [];
  const runs: PlannedRun[] = [];
  for (const name of names) {
    const variant = grid.variants[name];
    if (variant.free && measure === undefined) {
      const message = `variant ${name} has free sizes but nothing is matched; say "match": {"measure": "parameters"}`;
      throw new GridError(message);
    }
    const sizeWith = await sizer(name);
    const match =
      measure !== undefined && variant.match
        ? matchVariant(name, variant.free ?? [], sizeWith, { measure, target: target!, tolerance })
        : undefined;
    const sizes = match?.sizes ?? {};
    const vocabSize = vocabularies.get(vocabularyKey(recipeOf(grid, name, seeds[0])))!;
    const model = modelFor(recipeOf(grid, name, seeds[0], sizes), vocabSize);
    const evaluations = Object.entries(variant.evaluations).map(([evaluation, overrides]) => ({
      name: evaluation,
      overrides,
      model: evaluationModel(grid, name, evaluation, sizes, overrides, seeds[0]),
    }));
    checkEvaluations(name, model, evaluations, vocabSize);
    const { description } = variant;
    variants.push({ name, description, size: sizeWith(sizes), match, leaks: model.leaks, evaluations });
    for (const seed of seeds) {
      const recipe = recipeOf(grid, name, seed, sizes);
      const run = { grid: grid.name, variant: name, seed, recipe, match, evaluations, texts: grid.evaluate };
      runs.push({ id: `${name}-seed${seed}`, ...run });
    }
  }
  const order = (run: PlannedRun): number =>
    seeds.indexOf(run.seed) * names.length + names.indexOf(run.variant);
  runs.sort((a, b) => order(a) - order(b));
  return { grid, baseline, measure, tolerance, seeds, variants, runs };
}

/** The runs of chosen variants and seeds; all where nothing is said. @throws GridError naming a variant that is not there. */
export function selectRuns(
  plan: Plan,
  { only = plan.variants.map(({ name }) => name), seeds = plan.seeds }: RunSelection,
): readonly PlannedRun[] {
  const names = plan.variants.map(({ name }) => name);
  const wrong = only.find((name) => !names.includes(name));
  if (wrong !== undefined) throw new GridError(`there is no variant '${wrong}'; ${suggest(wrong, names)}`);
  return plan.runs.filter(({ variant, seed }) => only.includes(variant) && seeds.includes(seed));
}

type Changes = Readonly<Record<string, unknown>>;

const vocabularyKey = ({ data, model }: ComparedRecipe): string => JSON.stringify([data, model.vocabSize]);

const modelFor = ({ model }: Pick<ComparedRecipe, 'model'>, vocabSize: number): LanguageModel =>
  new LanguageModel({ ...model, vocabSize });

function recipeOf(grid: Grid, name: string, seed: number, ...changes: readonly Changes[]): ComparedRecipe {
  const variant: Variant = grid.variants[name];
  const description = variant.description ?? `${name} of the comparison ${grid.name}`;
  const all = [
    grid.overrides,
    variantOverrides(variant),
    ...changes,
    { seed, name: `${name}-seed${seed}`, description },
  ];
  const overrides = all.flatMap((part) =>
    Object.entries(part).map(([path, value]) => `${path}=${JSON.stringify(value)}`),
  );
  try {
    return requireLanguageModel(loadRecipe(grid.base, overrides));
  } catch (error) {
    if (!(error instanceof RecipeError)) throw error;
    throw new GridError(
      `variant ${name}: ${error.message.replace(/ with --set:/, ':').replace(/^--set /, '')}`,
    );
  }
}

function evaluationModel(
  grid: Grid,
  variant: string,
  name: string,
  sizes: Changes,
  overrides: Changes,
  seed: number,
): ComparedRecipe['model'] {
  const wrong = Object.keys(overrides).find((path) => !path.startsWith('model.sparse.'));
  if (wrong !== undefined) {
    const message = `an evaluation changes routing only, by paths below model.sparse, not ${wrong}`;
    throw new GridError(`variant ${variant}, evaluation ${name}: ${message}`);
  }
  if (name === trainedEvaluation)
    throw new GridError(`variant ${variant}: '${name}' names the evaluation as trained; choose another name`);
  return recipeOf(grid, variant, seed, sizes, overrides).model;
}

/** Name of the evaluation with the routing that a model was trained with. */
export const trainedEvaluation = 'asTrained';

function checkEvaluations(
  variant: string,
  trained: LanguageModel,
  evaluations: readonly PlannedEvaluation[],
  vocabSize: number,
): void {
  const others = evaluations.map(({ name, model }) => {
    const other = modelFor({ model }, vocabSize);
    assertSameParameters(`variant ${variant}, evaluation ${name}`, trained, other);
    return other;
  });
  if (trained.leaks.length === 0 || others.some(({ leaks }) => leaks.length === 0)) return;
  throw new GridError(
    `variant ${variant} may see later tokens (${trained.leaks[0]}): its loss cannot stand alone; add to its "evaluations" one that is causal`,
  );
}

/** @throws GridError naming the first parameter that differs. */
export function assertSameParameters(where: string, trained: LanguageModel, other: LanguageModel): void {
  const shapes = (model: LanguageModel): Map<string, string> =>
    new Map([...model.parameters()].map(([name, { shape }]) => [name, `[${shape.join(', ')}]`]));
  const [ours, theirs] = [shapes(trained), shapes(other)];
  for (const name of new Set([...ours.keys(), ...theirs.keys()])) {
    if (ours.get(name) === theirs.get(name)) continue;
    throw new GridError(
      `${where}: the trained weights do not fit: ${name} is ${ours.get(name) ?? 'absent'} as trained and ${theirs.get(name) ?? 'absent'} here`,
    );
  }
}

/**
 * Measures the trained weights of a run: on its validation set and further texts, with the routing of training and
 * with others.
 * @module
 */
import { layerAgreement, RoutingTracer, type AgreementStatistic } from '../analyze/index.js';
import { openData, openTextForEvaluation, type OpenData } from '../data/index.js';
import { LanguageModel } from '../models/index.js';
import { nameParameters } from '../nn/index.js';
import {
  evaluationOrder,
  Evaluator,
  loadLanguageModel,
  runtimeOptions,
  type EvaluationReport,
} from '../train/index.js';
import { assertSameParameters, trainedEvaluation, type ComparedRecipe, type PlannedRun } from './plan.js';
import { measured, type Measured, type RecordedAgreement, type RecordedEvaluation } from './record.js';

/** Tokens of the validation set on which the agreement of layers is measured. */
const AGREEMENT_TOKENS = 8192;

/** What {@link measureRun} measures. */
export interface MeasureOptions {
  /** The run folder with its finished model. */
  readonly folder: string;
  readonly recipe: ComparedRecipe;
  readonly cacheFolder: string;
  /** Validation with the routing of training, where training has just made it. */
  readonly validation?: EvaluationReport | undefined;
}

/**
 * Every evaluation of a run, `asTrained` first.
 * @throws GridError if an evaluation's routing needs other parameters than were trained.
 */
export async function measureRun(
  { id, evaluations, texts }: Pick<PlannedRun, 'id' | 'evaluations' | 'texts'>,
  { folder, recipe, cacheFolder, validation }: MeasureOptions,
): Promise<Record<string, RecordedEvaluation>> {
  const { model, weights } = await loadLanguageModel(folder);
  const { contextLength, vocabSize } = model.options;
  const { batchSize } = recipe.train;
  const data = await openData(recipe.data, { cacheFolder, contextLength, batchSize, seed: recipe.seed });
  const measureWith = async (other: LanguageModel, known?: EvaluationReport): Promise<RecordedEvaluation> => {
    const shape = { batchSize, contextLength };
    const evaluator = await Evaluator.create(other, weights, shape, runtimeOptions(recipe.train));
    try {
      const { maxBatches } = recipe.train.evaluation;
      const report = known ?? (await evaluator.evaluate(data.validation(), data.tokenizer, maxBatches));
      const further: Record<string, Measured> = {};
      for (const text of texts)
        further[text.name] = await measureText(text, evaluator, data, shape, cacheFolder);
      return {
        leaks: other.leaks,
        validation: measured(report, evaluator.routedLayers),
        texts: further,
        ...(evaluator.routedLayers.length < 2
          ? {}
          : { agreement: await measureAgreement(other, weights, recipe, data) }),
      };
    } finally {
      await evaluator.release();
    }
  };
  try {
    const results: Record<string, RecordedEvaluation> = {
      [trainedEvaluation]: await measureWith(model, validation),
    };
    for (const { name, model: options, overrides } of evaluations) {
      const other = new LanguageModel({ ...options, vocabSize });
      assertSameParameters(`${id}, evaluation ${name}`, model, other);
      nameParameters(other);
      results[name] = { ...(await measureWith(other)), overrides };
    }
    return results;
  } finally {
    data.close();
  }
}

async function measureAgreement(
  model: LanguageModel,
  weights: ReadonlyMap<string, Float32Array>,
  { train, seed }: ComparedRecipe,
  data: OpenData,
): Promise<RecordedAgreement> {
  const shape = { batchSize: train.batchSize, contextLength: model.options.contextLength };
  const tracer = await RoutingTracer.create(model, weights, shape, runtimeOptions(train));
  try {
    const trace = await tracer.trace(data.validation(), AGREEMENT_TOKENS);
    const { statistics, routerStability } = layerAgreement(trace, { seed });
    const adjacent = Object.fromEntries(
      Object.entries(statistics).map(([key, { adjacent }]) => [key, adjacent]),
    ) as Record<AgreementStatistic, number>;
    const instability = routerStability.reduce((sum, { mean }) => sum + mean, 0) / routerStability.length;
    return { tokens: trace.tokens.length, adjacent, routerInstability: instability };
  } finally {
    await tracer.release();
  }
}

async function measureText(
  { path, maxBatches }: PlannedRun['texts'][number],
  evaluator: Evaluator<LanguageModel>,
  { tokenizer }: OpenData,
  shape: { readonly batchSize: number; readonly contextLength: number },
  cacheFolder: string,
): Promise<Measured> {
  const order = evaluationOrder(evaluator.model);
  const { sequence, close } = await openTextForEvaluation(path, tokenizer, shape, cacheFolder, order);
  try {
    return measured(await evaluator.evaluate(sequence, tokenizer, maxBatches), evaluator.routedLayers);
  } finally {
    close();
  }
}

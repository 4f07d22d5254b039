/**
 * How a mode of serving looks into passes.
 * @module
 */
import type { Model } from '../../models/index.js';
import {
  CausalPredictor,
  CausalPrefetch,
  LookAheadPrefetch,
  openPredictorFor,
  PredictedPrefetch,
  PredictedRouting,
  PredictorProcess,
  TablesAhead,
} from '../predictor/index.js';
import type { ExpertStore } from '../store/index.js';
import type { EngineSource, ServingMode } from './engine-source.js';
import type { PassStart, Prefetcher, RoutingDecision } from './hooks.js';
import type { SplitModelOptions } from './split-model.js';

/** Reads ahead for passes over whole texts what a predictor foretells, and for all what the next router would choose. */
class BothAhead implements Prefetcher {
  readonly lookAhead = true;

  constructor(
    private readonly predicted: CausalPrefetch | PredictedPrefetch,
    private readonly looked: LookAheadPrefetch,
  ) {}

  begin(start: PassStart): Promise<void> {
    return this.predicted.begin(start);
  }

  decided(decision: RoutingDecision): void {
    this.looked.decided(decision);
  }
}

/** A mode, with the predictor that it needs. */
export class ServingHooks {
  /** Foretells texts that are read whole; absent where nothing does. */
  readonly tables: TablesAhead | undefined;

  private constructor(
    private readonly mode: ServingMode,
    private readonly predictor?: CausalPredictor | PredictorProcess,
    private readonly guesses?: number,
  ) {
    if (predictor instanceof PredictorProcess) this.tables = new TablesAhead(predictor);
  }

  /**
   * @param model the folder of the model that is served
   * @throws RangeError if mode, predictor and guesses do not go together; PredictorError if it is of another model.
   */
  static async open(
    {
      mode,
      predictor,
      guesses,
    }: Pick<EngineSource, 'predictor' | 'guesses'> & { readonly mode: ServingMode },
    model: string,
  ): Promise<ServingHooks> {
    if (mode === 'sida' && predictor === undefined)
      throw new RangeError('mode sida lets a predictor take the routers’ place: name its folder');
    if (mode === 'none' && predictor !== undefined)
      throw new RangeError('mode none needs no predictor: leave it out, or use prefetch or sida');
    if (guesses !== undefined && predictor === undefined)
      throw new RangeError('guesses are made by a predictor: name its folder, or leave their number out');
    if (predictor === undefined) return new ServingHooks(mode);
    const opened = await openPredictorFor(predictor, model);
    // Each token of a text that is being written is foretold when it is known: there is nothing to run ahead of.
    if (opened.options.kind === 'languageModel')
      return new ServingHooks(
        mode,
        await CausalPredictor.open(opened.predictor, opened.embeddings, { topK: guesses }),
      );
    return new ServingHooks(mode, await PredictorProcess.open({ predictor, model, topK: guesses }), guesses);
  }

  /**
   * Hooks over a store.
   * @throws RangeError if the mode is `sida` and the model does not read its texts whole; PredictorError if it has layers
   *   that the predictor does not foretell, or whose weights it cannot make.
   */
  over(model: Model, store: ExpertStore): Pick<SplitModelOptions, 'prefetcher' | 'routing'> {
    const { mode, predictor, tables, guesses: topK } = this;
    if (mode === 'none') return {};
    const looked = new LookAheadPrefetch(store);
    if (!predictor) return { prefetcher: looked };
    const { layers: predicted } = predictor;
    if (mode === 'prefetch' && predictor instanceof CausalPredictor)
      return { prefetcher: new BothAhead(new CausalPrefetch(store, predictor), looked) };
    if (predictor instanceof CausalPredictor || (mode === 'sida' && model.options.kind !== 'classifier'))
      throw new RangeError(
        `mode sida routes texts that are read whole, as classifiers do, and this is of kind ${model.options.kind}: use prefetch`,
      );
    if (mode === 'prefetch')
      return { prefetcher: new BothAhead(new PredictedPrefetch(store, predicted, tables!), looked) };
    return { routing: new PredictedRouting({ model, store, predicted, tables: tables!, topK }) };
  }

  /** Ends the predictor, and its process where it has one. */
  async close(): Promise<void> {
    await this.predictor?.release();
  }
}

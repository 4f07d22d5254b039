/**
 * Passes of a model whose experts are in a store: the graph is cut at its routers.
 * @module
 */
import type { Pass, Passes } from '../../decode/index.js';
import { cast, greater, input, reshape, where, type Cut, type Tensor } from '../../graph/index.js';
import {
  evaluationContext,
  type ExpertRequest,
  type RoutingRequest,
  type TraceContext,
} from '../../nn/index.js';
import type { RuntimeOptions } from '../../runtime/index.js';
import type { RoundedProducts } from '../quantised/rounded-products.js';
import type { ExpertRunner, SizedLayer } from './expert-runner.js';
import type { Prefetcher, RoutingObserver, RoutingSource } from './hooks.js';
import { lookAhead } from './look-ahead.js';
import { SharedPrograms } from './shared-programs.js';
import { StagedPass, type RoutedCut } from './staged-pass.js';

/** What {@link StagedPasses} are made of. */
export interface StagedPassesParts {
  readonly layers: readonly SizedLayer[];
  /** Every parameter that is not of a single expert, by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly runner: ExpertRunner;
  /** Weights that products take in blocks of 4 or 8 bits. */
  readonly rounded?: RoundedProducts | undefined;
  readonly runtime?: RuntimeOptions;
  /** Sees every decision. */
  readonly observer?: RoutingObserver | undefined;
  /** Reads ahead. */
  readonly prefetcher?: Prefetcher | undefined;
  /** Decides in place of the routers. */
  readonly routing?: RoutingSource | undefined;
}

/**
 * Every pass becomes a program for each stretch between two routers, over the weights that are always in memory; between
 * them a runner computes the experts that were chosen. Every choice is served, whatever the layer's dispatch. One pass
 * runs at a time; others wait.
 */
export class StagedPasses implements Passes {
  private readonly opened = new Map<string, Promise<StagedPass>>();
  private readonly indices: ReadonlyMap<object, number>;
  private readonly programs: SharedPrograms;
  private passes = 0;
  /** Ends when the pass that was begun last has ended, however it ends. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: StagedPassesParts) {
    this.programs = new SharedPrograms(parts.runtime);
    this.indices = new Map(parts.layers.map(({ bank }, index) => [bank, index]));
  }

  async get(name: string, trace: (context: TraceContext) => Readonly<Record<string, Tensor>>): Promise<Pass> {
    const known = this.opened.get(name);
    if (known) return known;
    const made = this.open(name, trace);
    this.opened.set(name, made);
    made.catch(() => this.opened.delete(name));
    return made;
  }

  async release(): Promise<void> {
    const passes = await Promise.all(this.opened.values());
    this.opened.clear();
    for (const pass of passes) await pass.release();
    await this.programs.release();
    await this.parts.runner.release();
  }

  private open(
    name: string,
    trace: (context: TraceContext) => Readonly<Record<string, Tensor>>,
  ): Promise<StagedPass> {
    const cuts: RoutedCut[] = [];
    const supplied = this.parts.routing;
    const outputs = trace({
      ...evaluationContext(),
      experts: {
        combine: (request) => {
          const cut = this.cut(request);
          cuts.push(cut);
          return cut.placeholder;
        },
        ...(supplied && { route: (request) => this.supply(request, supplied) }),
      },
    });
    const { programs } = this;
    return StagedPass.open({
      name,
      outputs,
      cuts,
      programs,
      ...this.parts,
      count: () => this.passes++,
      inTurn: (run) => this.inTurn(run),
    });
  }

  /** Passes share what the runner computes in, so one waits for the other. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.last.then(run);
    this.last = turn.catch(() => undefined);
    return turn;
  }

  private cut(request: ExpertRequest): RoutedCut {
    const { site, bank, rows, experts, gates, tokenMask } = request;
    const layer = this.layerOf(bank, site);
    const [tokens, topK] = experts.shape as [number, number];
    const chosen = cast(experts, 'int32');
    const ahead = this.parts.prefetcher?.lookAhead ? lookAhead(this.parts.layers, layer, request) : undefined;
    const cut: Cut = {
      placeholder: input(`experts.${site}`, 'float32', [tokens, this.parts.layers[layer].outputWidth]),
      needs: {
        rows,
        experts: tokenMask ? where(reshape(greater(tokenMask, 0), [-1, 1]), chosen, -1) : chosen,
        gates,
        ...(ahead && { ahead }),
      },
    };
    return { ...cut, layer, tokens, topK, site, supplied: this.parts.routing !== undefined };
  }

  private supply({ site, bank, hidden }: RoutingRequest, { topK }: RoutingSource): SuppliedInputs {
    const shape = [hidden.shape[0], topK[this.layerOf(bank, site)]];
    return {
      experts: cast(input(`routing.${site}.experts`, 'int32', shape), 'int64'),
      gates: input(`routing.${site}.gates`, 'float32', shape),
    };
  }

  private layerOf(bank: object, site: string): number {
    const index = this.indices.get(bank);
    if (index === undefined) throw new Error(`${site}: its experts are in no layer of the store`);
    return index;
  }
}

interface SuppliedInputs {
  readonly experts: Tensor;
  readonly gates: Tensor;
}

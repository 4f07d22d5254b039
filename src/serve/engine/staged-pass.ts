/**
 * One pass as a row of programs with experts between them.
 * @module
 */
import type { Pass } from '../../decode/index.js';
import {
  inputName,
  sizeOf,
  splitStages,
  topologicalOrder,
  type Cut,
  type Tensor,
} from '../../graph/index.js';
import { allocate, type Buffers, type Program, type Results, type TensorData } from '../../runtime/index.js';
import type { ExpertRunner } from './expert-runner.js';
import type { PassStart, Prefetcher, RoutingDecision, RoutingObserver, RoutingSource } from './hooks.js';
import type { SharedPrograms } from './shared-programs.js';
import { weightsFirst } from './weights-first.js';

/** A cut at a router. */
export interface RoutedCut extends Cut {
  /** Index of the layer in the store. */
  readonly layer: number;
  readonly tokens: number;
  readonly topK: number;
  readonly site: string;
  /** Whether the decision is fed, as `routing.<site>.experts` and `.gates`. */
  readonly supplied: boolean;
}

/** What {@link StagedPass.open} needs. */
export interface StagedPassParts {
  readonly name: string;
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly cuts: readonly RoutedCut[];
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly runner: ExpertRunner;
  /** Where stages are compiled. */
  readonly programs: SharedPrograms;
  readonly observer?: RoutingObserver | undefined;
  readonly prefetcher?: Prefetcher | undefined;
  readonly routing?: RoutingSource | undefined;
  /** Number of the next pass. */
  readonly count: () => number;
}

/** A program between two routers. */
interface CompiledStage {
  readonly program: Program;
  /** Those of the pass's feeds that it reads. */
  readonly feeds: readonly string[];
  /** Names of the pass's outputs that it makes. */
  readonly outputs: readonly string[];
}

/** Where a router's decision and what its experts make of it are found. */
interface Junction {
  readonly cut: RoutedCut;
  readonly rows: Float32Array;
  readonly experts: Int32Array;
  readonly gates: Float32Array;
  readonly ahead: Int32Array | undefined;
  readonly combined: Float32Array;
}

/** See `StagedPasses`. */
export class StagedPass implements Pass {
  private running = false;

  private constructor(
    private readonly parts: StagedPassParts,
    private readonly stages: readonly CompiledStage[],
    private readonly junctions: readonly Junction[],
    private readonly feedNames: ReadonlySet<string>,
    private readonly shapes: PassStart['shapes'],
  ) {}

  /** Compiles the stages and joins them by their buffers. */
  static async open(parts: StagedPassParts): Promise<StagedPass> {
    const { outputs, cuts, weights, programs } = parts;
    const isWeight = (feed: string): boolean => weights.has(feed);
    const stages = splitStages(outputs, cuts, isWeight);
    const joints = new Map<string, TensorData>();
    const buffer = (name: string, { dtype, shape }: Tensor): TensorData => {
      const made = joints.get(name) ?? allocate(dtype, sizeOf(shape));
      joints.set(name, made);
      return made;
    };
    const junctions = cuts.map(({ placeholder, needs, ...cut }, index): Junction => {
      const need = (name: string): TensorData => buffer(`${index}.${name}`, needs[name]);
      return {
        cut: { placeholder, needs, ...cut },
        rows: need('rows') as Float32Array,
        experts: need('experts') as Int32Array,
        gates: need('gates') as Float32Array,
        ahead: needs['ahead'] && (need('ahead') as Int32Array),
        combined: buffer(`experts.${cut.site}`, placeholder) as Float32Array,
      };
    });
    const compiled: CompiledStage[] = [];
    const given = new Set(
      cuts.flatMap(({ site, supplied }) =>
        supplied ? [`routing.${site}.experts`, `routing.${site}.gates`] : [],
      ),
    );
    const feedNames = new Set<string>();
    for (const [index, stage] of stages.entries()) {
      const needs = Object.entries(stage.needs).map(
        ([name, tensor]) => [`${index}.${name}`, tensor] as const,
      );
      const crossing = Object.entries(stage.crossing);
      const made = { ...stage.outputs, ...Object.fromEntries([...needs, ...crossing]) };
      const program = await programs.open(weightsFirst(made, isWeight));
      program.bindKnown(weights).bindKnown(joints);
      for (const [name, tensor] of [...needs, ...crossing]) program.bindOutput(name, buffer(name, tensor));
      const feeds = program.feedNames.filter((name) => !weights.has(name) && !joints.has(name));
      for (const feed of feeds) if (!given.has(feed)) feedNames.add(feed);
      compiled.push({ program, feeds, outputs: Object.keys(stage.outputs) });
    }
    const shapes = shapesOf([
      ...Object.values(outputs),
      ...cuts.flatMap(({ needs }) => Object.values(needs)),
    ]);
    const fed = Object.fromEntries([...shapes].filter(([name]) => feedNames.has(name)));
    return new StagedPass(parts, compiled, junctions, feedNames, fed);
  }

  async run(feeds: Buffers): Promise<Results> {
    if (this.running) throw new Error('the pass is already running: await its run before the next');
    for (const name of Object.keys(feeds)) {
      if (!this.feedNames.has(name))
        throw new Error(`the pass has no feed '${name}'; its feeds are: ${[...this.feedNames].join(', ')}`);
    }
    this.running = true;
    try {
      return await this.runStages(feeds);
    } finally {
      this.running = false;
    }
  }

  async release(): Promise<void> {
    for (const { program } of this.stages) await program.release();
  }

  private async runStages(feeds: Buffers): Promise<Results> {
    const { name, count, prefetcher } = this.parts;
    const start: PassStart = { pass: count(), name, feeds, shapes: this.shapes };
    const all = { ...feeds, ...(await this.suppliedFeeds(start)) };
    await prefetcher?.begin?.(start);
    const results: Record<string, TensorData> = {};
    for (const [index, { program, feeds: read, outputs }] of this.stages.entries()) {
      const own = read.flatMap((feed) => (feed in all ? [[feed, all[feed]] as const] : []));
      const made = await program.run(Object.fromEntries(own));
      for (const output of outputs) results[output] = made[output];
      const junction = this.junctions.at(index);
      if (junction) await this.runExperts(start.pass, junction);
    }
    return results;
  }

  private async runExperts(pass: number, junction: Junction): Promise<void> {
    const { runner, observer, prefetcher } = this.parts;
    const { cut, rows, experts, gates, ahead, combined } = junction;
    const { layer, tokens, topK } = cut;
    await runner.run({ layer, topK, rows, experts, gates }, combined, (distinct) => {
      const decision: RoutingDecision = {
        ...{ pass, layer, tokens, topK, experts, gates, distinct },
        ...(ahead && { ahead }),
      };
      observer?.observe(decision);
      prefetcher?.decided?.(decision);
    });
  }

  /** Decisions in place of the routers' own. */
  private async suppliedFeeds(start: PassStart): Promise<Buffers> {
    const { routing } = this.parts;
    if (!routing) return {};
    const cuts = this.junctions.map(({ cut }) => cut);
    const decisions = await routing.decide(
      start,
      cuts.map(({ layer }) => layer),
    );
    if (decisions.length !== cuts.length)
      throw new Error(`${decisions.length} decisions were supplied for ${cuts.length} layers`);
    const supplied: Record<string, TensorData> = {};
    cuts.forEach(({ site }, index) => {
      supplied[`routing.${site}.experts`] = decisions[index].experts;
      supplied[`routing.${site}.gates`] = decisions[index].gates;
    });
    return supplied;
  }
}

/** Shapes of all inputs that tensors depend on, by name. */
function shapesOf(tensors: readonly Tensor[]): Map<string, readonly number[]> {
  const leaves = topologicalOrder(tensors).flatMap(({ outputs }) => outputs);
  return new Map(
    leaves.flatMap((leaf) => {
      const name = inputName(leaf);
      return name === undefined ? [] : [[name, leaf.shape as number[]] as const];
    }),
  );
}

/**
 * What is kept of a finished run: one JSON file. A run whose record exists is not repeated.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgreementStatistic } from '../analyze/index.js';
import { encodeJson, replaceFile } from '../checkpoints/index.js';
import { loadStatistics } from '../metrics/index.js';
import { recipeDifferences } from '../recipes/index.js';
import type { EvaluationReport } from '../train/index.js';
import { GridError } from './grid.js';
import type { MatchReport } from './match.js';
import type { ComparedRecipe, PlannedRun } from './plan.js';

/** Use of the experts of one layer, or of one stratum those that it sees, on an evaluated text. */
export interface LayerLoad {
  readonly layer: string;
  readonly load: readonly number[];
  readonly balance: number;
  readonly maxOverMean: number;
  readonly coefficientOfVariation: number;
  /** Experts without a token. */
  readonly dead: number;
}

/** A model measured on one text. */
export interface Measured {
  /** Nats per token. */
  readonly loss: number;
  readonly perplexity: number;
  readonly bitsPerByte: number;
  readonly tokens: number;
  readonly bytes: number;
  /** Share of the choices that found no place. */
  readonly dropped: number;
  readonly routing: readonly LayerLoad[];
}

/** How far neighbouring layers route alike: means over the pairs. `layerAgreement` in analyze/ says what each is. */
export interface RecordedAgreement {
  /** Validation tokens that were looked at. */
  readonly tokens: number;
  readonly adjacent: Readonly<Record<AgreementStatistic, number>>;
  /** Pairs of tokens that are together in one layer and apart in the next; lower is more stable. */
  readonly routerInstability: number;
}

/** A model measured with one way of routing. */
export interface RecordedEvaluation {
  /** Why a token's output may depend on later ones; empty for a causal evaluation. */
  readonly leaks: readonly string[];
  /** Changes to the recipe; absent for the routing of training. */
  readonly overrides?: Readonly<Record<string, unknown>>;
  readonly validation: Measured;
  /** By the text's name. */
  readonly texts: Readonly<Record<string, Measured>>;
  /** Absent where fewer than two layers route. */
  readonly agreement?: RecordedAgreement;
}

/** The record of a finished run. */
export interface RunRecord {
  readonly grid: string;
  readonly variant: string;
  readonly seed: number;
  readonly recipe: ComparedRecipe;
  /** Versions and data. */
  readonly environment: Readonly<Record<string, string>>;
  readonly outcome: 'finished' | 'stoppedEarly';
  readonly steps: number;
  readonly size: {
    readonly parameters: number;
    readonly activeParameters: number;
    readonly sparseParameters: number;
    readonly forwardFlopsPerToken: number;
  };
  readonly match: MatchReport | null;
  /** The first, `asTrained`, has the routing of training. */
  readonly evaluations: Readonly<Record<string, RecordedEvaluation>>;
  /** Validation on the way. */
  readonly curve: readonly { readonly step: number; readonly loss: number; readonly bitsPerByte: number }[];
  /** At most a hundred points of the training loss, each the mean since the one before. */
  readonly training: readonly { readonly step: number; readonly taskLoss: number }[];
  /** Tokens that training read. */
  readonly tokens: number;
  /** Median over the training steps, evaluations and start left out; null where it was not measured. */
  readonly tokensPerSecond: number | null;
  /** Sum over the training steps; null where it was not measured. */
  readonly seconds: number | null;
  readonly threads: number;
  /** Runs that shared the machine. */
  readonly processes: number;
  /** Share of all choices in training that found no place. */
  readonly trainingDropped: number;
}

/** Path of a run's record. */
export function recordPath(folder: string, { id }: Pick<PlannedRun, 'id'>): string {
  return join(folder, `${id}.json`);
}

/**
 * The record of a run, if there is one.
 * @throws GridError if the file is no record.
 */
export function readRecord(folder: string, run: Pick<PlannedRun, 'id'>): RunRecord | undefined {
  const path = recordPath(folder, run);
  if (!existsSync(path)) return undefined;
  let value: Partial<RunRecord> | null;
  try {
    value = JSON.parse(readFileSync(path, 'utf8')) as Partial<RunRecord> | null;
  } catch (error) {
    throw new GridError(`${path}: not JSON: ${(error as Error).message}; remove it to repeat the run`);
  }
  if (!value?.recipe || !value.evaluations || !value.size || !value.curve)
    throw new GridError(`${path} is not the record of a compared run; move it away, or choose another --out`);
  return value as RunRecord;
}

/** Writes a record, whole or not at all. */
export async function writeRecord(folder: string, id: string, record: RunRecord): Promise<void> {
  await mkdir(folder, { recursive: true });
  const text = `${encodeJson(record, 1)}\n`;
  await replaceFile(recordPath(folder, { id }), (handle) => handle.writeFile(text));
}

/** In what two recipes differ that decides results: not names, nor the threads that a run was given. */
export function meaningfulDifferences(before: ComparedRecipe, after: ComparedRecipe): string[] {
  const comparable = ({ train, ...recipe }: ComparedRecipe): unknown => {
    const { threads: _, ...rest } = train;
    const kept = { ...recipe, train: rest, name: undefined, description: undefined, environment: undefined };
    return JSON.parse(JSON.stringify(kept));
  };
  return recipeDifferences(comparable(before), comparable(after));
}

/** An evaluation as it is kept. @param layers the layers that route, in the order of the report's loads. */
export function measured(
  report: EvaluationReport,
  layers: readonly { readonly name: string; readonly firstExpert: number }[],
): Measured {
  const { loss, perplexity, bitsPerByte, tokens, bytes, loads } = report;
  const choices = loads.flat().reduce((sum, count) => sum + count, 0);
  return {
    loss,
    perplexity,
    bitsPerByte,
    tokens,
    bytes,
    dropped: choices === 0 ? 0 : report.dropped / choices,
    routing: loads.map((load, i) => {
      const { name: layer, firstExpert } = layers[i];
      const { balance, maxOverMean, coefficientOfVariation, dead } = loadStatistics(load, firstExpert);
      return { layer, load, balance, maxOverMean, coefficientOfVariation, dead: dead.length };
    }),
  };
}

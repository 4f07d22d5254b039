import { createHash } from 'node:crypto';
import type { AnyBatch, LabelledBatch, PairBatch } from './batches/batch.js';
import {
  labelledExamples,
  OrderedExamples,
  pairExamples,
  ShuffledExamples,
  type Examples,
} from './batches/example-rows.js';
import type { OpenData, OpenDataOptions, OpenPairsOptions } from './open.js';
import type { TaskConfig } from './schema.js';
import { columnOf, fillTemplate, readTable, type Table } from './task/table.js';
import { openTokenizer } from './tokenizers/open-tokenizer.js';
import { pairTokensOf, type Tokenizer } from './tokenizers/tokenizer.js';

/** A classification task. */
export interface OpenClassification extends OpenData<LabelledBatch> {
  /** Values of the label column, in the order of the classes that batches number. */
  readonly classes: readonly string[];
}

/**
 * Opens a task whose examples have a class.
 * @throws Error naming the file, line or column where the task does not fit it.
 */
export async function openClassification(
  config: TaskConfig,
  options: OpenDataOptions,
): Promise<OpenClassification> {
  const { label } = config;
  if (label === undefined) {
    throw new Error('a classifier learns classes: name their column in data.label, instead of data.target');
  }
  const task = await openTables(config, options);
  const values = (table: Table): string[] => {
    const at = columnOf(table, label);
    return table.rows.map((cells) => cells[at]);
  };
  const found = [...new Set(values(task.train))].sort((a, b) => (a < b ? -1 : 1));
  const classes = config.classes ?? found;
  const examplesOf = (table: Table): Examples<LabelledBatch> => {
    const labels = values(table).map((value, index) => {
      const known = classes.indexOf(value);
      if (known >= 0) return known;
      throw new Error(
        `${table.path}, line ${index + 2}: ${label} is ${JSON.stringify(value)}; the classes are ${classes.join(', ')}`,
      );
    });
    return labelledExamples(task.sources(table), labels, task.pad, task.fingerprint(table));
  };
  return { ...batchesOf(task, examplesOf, options), classes };
}

/**
 * Opens a task whose examples have a text to be said.
 * @throws Error naming the file, line or column where the task does not fit it.
 */
export async function openTextTask(
  config: TaskConfig,
  options: OpenPairsOptions,
): Promise<OpenData<PairBatch>> {
  const { target } = config;
  if (target === undefined) {
    throw new Error(
      `an encoder–decoder says text: give data.target, such as "{${config.label}}", instead of data.label; a model of kind classifier learns classes`,
    );
  }
  const task = await openTables(config, options);
  const tokens = { pad: task.pad, start: options.start ?? task.pad };
  const examplesOf = (table: Table): Examples<PairBatch> =>
    pairExamples(
      task.sources(table),
      fillTemplate(target, table).map(task.encode),
      tokens,
      `${task.fingerprint(table)} ${tokens.start}`,
    );
  return batchesOf(task, examplesOf, options);
}

/** The files of a task with its tokenizer. */
interface TaskTables {
  readonly train: Table;
  readonly validation: Table;
  readonly tokenizer: Tokenizer;
  readonly pad: number;
  readonly encode: (text: string) => Int32Array;
  readonly sources: (table: Table) => Int32Array[];
  readonly fingerprint: (table: Table) => string;
}

async function openTables(config: TaskConfig, { cacheFolder }: OpenDataOptions): Promise<TaskTables> {
  const train = await readTable(config.train);
  const validation = await readTable(config.validation);
  const { source, label, target, classes } = config;
  const hash = (...parts: readonly unknown[]): string =>
    createHash('sha256').update(JSON.stringify(parts)).digest('hex');
  const fingerprint = (table: Table): string =>
    hash(table.columns, table.rows, source, label, target, classes);
  const texts = (): string[] =>
    [source, ...(target === undefined ? [] : [target])].flatMap((template) =>
      fillTemplate(template, train).map((text) => `${text}\n`),
    );
  const tokenizer = await openTokenizer(
    config.tokenizer,
    { trainingText: texts, characters: texts, endless: true, fingerprint: fingerprint(train) },
    cacheFolder,
  );
  const { pad, end } = pairTokensOf(tokenizer);
  const encode = (text: string): Int32Array => Int32Array.of(...tokenizer.encode(text), end);
  return {
    train,
    validation,
    tokenizer,
    pad,
    encode,
    sources: (table) => fillTemplate(source, table).map(encode),
    fingerprint: (table) => hash(fingerprint(table), tokenizer.fingerprint),
  };
}

function batchesOf<Kind extends AnyBatch>(
  { train, validation, tokenizer }: TaskTables,
  examplesOf: (table: Table) => Examples<Kind>,
  options: OpenDataOptions,
): OpenData<Kind> {
  const taught = examplesOf(train);
  const held = examplesOf(validation);
  return {
    tokenizer,
    train: new ShuffledExamples(taught, options),
    validation: () => new OrderedExamples(held, options),
    provenance: [train, validation].map(({ path, rows }) => `${path} (${rows.length} examples)`).join('; '),
    close: () => undefined,
  };
}

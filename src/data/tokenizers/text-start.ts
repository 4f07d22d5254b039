/**
 * The tokens with which a model's texts begin, where its tokenizer says so.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Tokenizer } from './tokenizer.js';

const templateSchema = z.looseObject({
  type: z.literal('TemplateProcessing'),
  single: z.array(z.looseObject({ SpecialToken: z.looseObject({ id: z.string() }).optional() })),
  special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(z.int().min(0)) })),
});
const sequenceSchema = z.looseObject({ type: z.literal('Sequence'), processors: z.array(z.unknown()) });

/**
 * Ids that stand before a text's own: the `TemplateProcessing` of a `tokenizer.json`, or `add_bos_token` in the
 * `tokenizer_config.json` beside it, which comes first. A model that was trained with them is another model without. A
 * template that also ends texts, as BERT's, is not for texts that go on.
 *
 * @param folder that holds `tokenizer_config.json`, if there is one
 */
export function textStart(folder: string, tokenizer: Tokenizer): readonly number[] {
  const { bos } = tokenizer.special;
  const addsBos = readAddsBos(join(folder, 'tokenizer_config.json'));
  if (addsBos === false) return [];
  if (addsBos && bos !== undefined) return [bos];
  return templateStart(tokenizer.toFile()['post_processor']);
}

function templateStart(processor: unknown): readonly number[] {
  const sequence = sequenceSchema.safeParse(processor);
  if (sequence.success) {
    return sequence.data.processors.map(templateStart).find(({ length }) => length > 0) ?? [];
  }
  const template = templateSchema.safeParse(processor);
  if (!template.success) return [];
  const { single, special_tokens: tokens } = template.data;
  if (single.at(-1)?.SpecialToken) return [];
  return single.slice(0, -1).flatMap(({ SpecialToken }) => tokens[SpecialToken?.id ?? '']?.ids ?? []);
}

function readAddsBos(file: string): boolean | undefined {
  if (!existsSync(file)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const parsed = z.looseObject({ add_bos_token: z.boolean().nullish() }).safeParse(value);
  if (!parsed.success) throw new Error(`${file}: add_bos_token: ${parsed.error.issues[0].message}`);
  return parsed.data.add_bos_token ?? undefined;
}

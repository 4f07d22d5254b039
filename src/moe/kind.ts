/**
 * Entries of a registry: the options of a part as they stand in a recipe, and how they become the part.
 * @module
 */
import { z } from 'zod';

type KindObject = z.ZodObject<{ kind: z.ZodLiteral<string> }>;

/** Options of one kind of part: a strict object whose `kind` is a literal. */
export type KindSchema = z.core.$ZodTypeDiscriminable;

/** One kind of router, dispatch, expert bank or feed-forward layer. */
export interface Kind<Schema extends KindSchema, Surroundings, Part> {
  readonly schema: Schema;
  create(options: z.output<Schema>, surroundings: Surroundings): Part;
}

/** A list of kinds, for registries. */
export type Kinds<Surroundings, Part> = readonly [
  // The options of a kind meet their own schema only, which a list cannot say.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  Kind<any, Surroundings, Part>,
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  ...Kind<any, Surroundings, Part>[],
];

type SchemasOf<List extends readonly { readonly schema: KindSchema }[]> = {
  [Index in keyof List]: List[Index]['schema'];
};

/** The union of the kinds' options, told apart by `kind`. */
export function kindUnion<const List extends readonly { readonly schema: KindSchema }[]>(
  kinds: List,
): z.ZodDiscriminatedUnion<SchemasOf<List>, 'kind'> {
  const schemas = kinds.map(({ schema }) => schema) as unknown as [KindSchema];
  return z.discriminatedUnion('kind', schemas) as unknown as z.ZodDiscriminatedUnion<SchemasOf<List>, 'kind'>;
}

/** Looks up the kind that some options name, and builds its part. */
export function createKind<Surroundings, Part>(
  kinds: Kinds<Surroundings, Part>,
  options: { readonly kind: string },
  surroundings: Surroundings,
): Part {
  const found = kinds.find(({ schema }) => (schema as KindObject).shape.kind.value === options.kind);
  if (!found) throw new RangeError(`there is no part of kind '${options.kind}'`);
  return found.create(options, surroundings);
}

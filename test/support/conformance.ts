import { test } from 'vitest';

/** Cases that an implementation does not run, each with the reason, which the test report shows. */
export type Skipped<Case extends string> = Readonly<Partial<Record<Case, string>>>;

/** A case of a conformance suite: a test, or a skipped one that says why. */
export function conformanceCase<Case extends string>(
  skipped: Skipped<Case> | undefined,
  name: Case,
  body: () => Promise<void> | void,
): void {
  const reason = skipped?.[name];
  if (reason === undefined) test(name, body);
  else test.skip(`${name} (not here: ${reason})`);
}

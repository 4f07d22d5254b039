/**
 * The expert banks by the `kind` under which recipes name them.
 * @module
 */
import { kindUnion } from '../kind.js';
import { factorised } from './factorised-bank.js';
import { feedForward } from './feed-forward-bank.js';

/** All expert banks. */
export const bankKinds = [feedForward, factorised] as const;

/** Expert bank options by `kind`. */
export const expertsSchema = kindUnion(bankKinds);

/**
 * The dispatches by the `kind` under which recipes name them.
 * @module
 */
import { kindUnion } from '../kind.js';
import { capacity } from './capacity.js';
import { dropless } from './dropless.js';

/** All dispatches. */
export const dispatchKinds = [dropless, capacity] as const;

/** Dispatch options by `kind`. */
export const dispatchSchema = kindUnion(dispatchKinds);

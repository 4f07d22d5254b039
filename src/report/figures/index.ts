/**
 * All figures, in the order of the page.
 * @module
 */
import type { Figure } from '../figure.js';
import { agreement } from './agreement.js';
import { capacity } from './capacity.js';
import { classes } from './classes.js';
import { coOccurrence } from './co-occurrence.js';
import { decisiveness } from './decisiveness.js';
import { layers } from './layers.js';
import { load } from './load.js';
import { loss } from './loss.js';
import { robustness } from './robustness.js';
import { selectionMass } from './selection-mass.js';
import { stability } from './stability.js';

/** What a report may show; a figure without numbers is left out of the page. */
export const figures: readonly Figure[] = [
  loss,
  classes,
  load,
  agreement,
  layers,
  decisiveness,
  selectionMass,
  coOccurrence,
  stability,
  capacity,
  robustness,
];

/**
 * How much of a layer may be stored. A shared centre is extra: it costs as much as one expert (ResMoE, §6 of its spec).
 * @module
 */

/** A share of each expert's own parameters, whatever they are stored beside; or a share of the whole layer, all counted. */
export type Budget = { readonly perExpert: number } | { readonly layer: number };

/**
 * The share of each expert's parameters that a method may store for that expert alone.
 *
 * A layer fraction f leaves f − 1/N for each expert where all share a centre, and f where they do not.
 *
 * @throws RangeError if the share is not in (0, 1], naming the least layer fraction that would do.
 */
export function perExpertRatio(budget: Budget, numExperts: number, withCentre: boolean): number {
  const fraction = 'layer' in budget ? budget.layer : budget.perExpert;
  if (!(fraction > 0 && fraction <= 1))
    throw new RangeError(`a share of the parameters is more than 0 and at most 1, not ${fraction}`);
  if ('perExpert' in budget || !withCentre) return fraction;
  const ratio = fraction - 1 / numExperts;
  if (ratio <= 0)
    throw new RangeError(
      `a centre alone takes 1/${numExperts} of the layer: store more than that, not ${fraction}`,
    );
  return ratio;
}

/** The share of a layer that is stored when each of its experts keeps `ratio` of its parameters. */
export function layerFraction(ratio: number, numExperts: number, withCentre: boolean): number {
  return ratio + (withCentre ? 1 / numExperts : 0);
}

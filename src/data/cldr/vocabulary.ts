/**
 * What the built-in corpus talks about: codes whose names CLDR knows in every language.
 *
 * Figures (populations, distances, prices) are invented, but each is a fixed function of the things it belongs to,
 * so that there is something to learn: the same country always has the same climate, the same pair the same distance.
 * @module
 */
import { bitsAt, streamKey } from '../../nn/random.js';

const words = (text: string): readonly string[] => text.split(' ');

/** ISO 3166 codes of regions. */
export const regions = words(
  'AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA CF CH CI CL CM CN CO CR CU CV ' +
    'CY CZ DE DJ DK DM DO DZ EC EE EG ER ES ET FI FJ FM FR GA GB GD GE GH GL GM GN GQ GR GT GW GY HK HN HR HT HU ID IE ' +
    'IL IN IQ IR IS IT JM JO JP KE KG KH KI KM KR KW KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MG MH ML MM MN MR ' +
    'MT MU MV MW MX MY MZ NA NE NG NI NL NO NP NR NZ OM PA PE PG PH PK PL PT PW PY QA RO RS RU RW SA SB SC SD SE SG SI ' +
    'SK SL SM SN SO SR SS SV SY TD TG TH TJ TL TM TN TO TR TT TV TW TZ UA UG US UY UZ VE VN VU WS YE ZA ZM ZW',
);

/** Codes of languages that are spoken about. */
export const spokenLanguages = words(
  'af am ar az be bg bn bo bs ca cs cy da de dz el en es et eu fa fi fr ga gl gu ha he hi hr hu hy id ig is it ja jv ka ' +
    'kk km kn ko ku ky la lo lt lv mg mi mk ml mn mr ms mt my nb ne nl om or pa pl ps pt qu rm ro ru rw sa sd si sk sl ' +
    'sm sn so sq sr st su sv sw ta te tg th ti tk tn to tr tt ug uk ur uz vi wo xh yo zh zu',
);

/** ISO 4217 codes of currencies. */
export const currencies = words(
  'AED ARS AUD BDT BGN BRL CAD CHF CLP CNY COP CZK DKK EGP ETB EUR GBP GEL GHS HKD HUF IDR ILS INR IRR ISK JOD JPY KES ' +
    'KHR KRW KZT LKR MAD MXN MYR NGN NOK NPR NZD PEN PHP PKR PLN RON RUB SAR SEK SGD THB TRY TWD TZS UAH USD UYU VND ZAR',
);

/** Calendars that a date is told in beside the one of the language. */
export const calendars = words(
  'buddhist chinese coptic ethiopic gregory hebrew indian islamic-umalqura japanese persian roc',
);

/** Time zones that clocks are compared in. */
export const timeZones = words(
  'America/New_York America/Los_Angeles America/Sao_Paulo Europe/London Europe/Berlin Europe/Moscow Asia/Dubai ' +
    'Asia/Kolkata Asia/Shanghai Asia/Tokyo Australia/Sydney Pacific/Auckland',
);

/** Units of goods that are bought, with the largest amount. */
export const goods: readonly (readonly [unit: string, most: number])[] = [
  ['gram', 900],
  ['kilogram', 40],
  ['liter', 60],
  ['milliliter', 900],
  ['ounce', 30],
  ['pound', 50],
  ['gallon', 20],
  ['meter', 200],
  ['centimeter', 180],
  ['foot', 90],
  ['yard', 120],
];

/** A fixed number in 0 … `below` − 1 that belongs to `parts`, the same for every seed. */
export function fact(below: number, ...parts: readonly string[]): number {
  return bitsAt(streamKey('fact', ...parts), 0) % below;
}

/** The language most spoken in a region by CLDR's likely subtags. */
export function likelyLanguage(region: string): string {
  return new Intl.Locale('und', { region }).maximize().language;
}

/** The script that a language is most often written in by CLDR's likely subtags. */
export function likelyScript(language: string): string {
  return new Intl.Locale(language).maximize().script ?? 'Latn';
}

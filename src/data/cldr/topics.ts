/**
 * The topics of the built-in corpus: each draws the pieces of one sentence.
 * Adding a topic is one entry here.
 * @module
 */
import type { RandomStream } from '../../nn/random.js';
import type { DateStyle, Piece, RelativeUnit } from './meaning.js';
import {
  calendars,
  currencies,
  fact,
  goods,
  likelyLanguage,
  likelyScript,
  regions,
  spokenLanguages,
  timeZones,
} from './vocabulary.js';

const minutesPerDay = 1440;

const name = (kind: 'region' | 'language' | 'currency' | 'script' | 'calendar', code: string): Piece => ({
  say: 'name',
  kind,
  code,
});
const region = (code: string): Piece => name('region', code);
const measure = (unit: string, value: number): Piece => ({ say: 'measure', unit, value });
const money = (currency: string, value: number): Piece => ({ say: 'money', currency, value });
const decimal = (value: number): Piece => ({ say: 'number', style: 'decimal', value });
const percent = (value: number): Piece => ({ say: 'number', style: 'percent', value: value / 100 });
const date = (style: DateStyle, at: number): Piece => ({ say: 'date', style, at });
const group = (...parts: readonly Piece[]): Piece => ({ say: 'group', parts });
const list = (type: 'conjunction' | 'disjunction' | 'unit', items: readonly Piece[]): Piece =>
  items.length === 1 ? items[0] : { say: 'list', type, items };

/** A day from 1950 to 2049, at midnight, in minutes since 1970. */
const drawDay = (random: RandomStream): number => (random.integer(36_500) - 7_305) * minutesPerDay;
/** A moment on a five-minute mark. */
const drawMoment = (random: RandomStream): number => drawDay(random) + random.integer(288) * 5;

function drawDistinct(random: RandomStream, from: readonly string[], count: number): string[] {
  const drawn: string[] = [];
  while (drawn.length < count) {
    const candidate = random.pick(from);
    if (!drawn.includes(candidate)) drawn.push(candidate);
  }
  return drawn;
}

const relativeReach: readonly (readonly [RelativeUnit, number])[] = [
  ['minute', 50],
  ['hour', 40],
  ['day', 25],
  ['week', 12],
  ['month', 20],
  ['quarter', 8],
  ['year', 30],
];

function drawRelative(random: RandomStream): Piece {
  const [unit, reach] = random.pick(relativeReach);
  return { say: 'relative', unit, value: random.integer(2 * reach + 1) - reach };
}

/** Round to two significant digits, so that compact notation loses nothing. */
const twoDigits = (value: number): number => Number(value.toPrecision(2));

/** Population of a region in persons. */
const population = (code: string): number =>
  (10 + fact(90, code, 'people')) * 10 ** (4 + fact(4, code, 'size'));
/** Price of one unit of a currency, in a unit common to all. */
const worth = (currency: string): number =>
  (10 + fact(90, currency, 'worth')) * 10 ** (fact(4, currency, 'scale') - 2);
/** Distance of two regions in kilometres, the same in both directions. */
const distance = (a: string, b: string): number => 100 + 10 * fact(900, ...[a, b].sort(), 'distance');

/** Temperature of a region in a month: its own mean and its own season. */
function temperature(code: string, at: number): number {
  const month = new Date(at * 60_000).getUTCMonth();
  const season = Math.cos(((month - 6) / 6) * Math.PI) * (fact(25, code, 'season') - 8);
  return Math.round(fact(30, code, 'warmth') - 3 + season);
}

const people = (random: RandomStream): Piece[] => {
  const code = random.pick(regions);
  const others = drawDistinct(random, spokenLanguages, 1 + random.integer(3));
  const languages = [...new Set([likelyLanguage(code), ...others])].map((item) => name('language', item));
  const inhabitants: Piece = { say: 'number', style: 'compact', value: population(code) };
  return [region(code), ' (', inhabitants, '): ', list('conjunction', languages)];
};

const weather = (random: RandomStream): Piece[] => {
  const at = drawMoment(random);
  const reports = drawDistinct(random, regions, 1 + random.integer(3)).map((code) =>
    group(region(code), ' ', measure('celsius', temperature(code, at) + random.integer(5) - 2)),
  );
  const wind = measure('kilometer-per-hour', 5 * (1 + random.integer(16)));
  const humidity = percent(5 * (1 + random.integer(20)));
  return [
    date(random.pick(['moment', 'long', 'weekdayHour']), at),
    ': ',
    list('conjunction', reports),
    '; ',
    wind,
    ', ',
    humidity,
  ];
};

const journey = (random: RandomStream): Piece[] => {
  const [from, to] = drawDistinct(random, regions, 2) as [string, string];
  const kilometers = distance(from, to);
  const speed = random.pick([60, 90, 120, 800]);
  const minutes = Math.max(5, Math.round((kilometers / speed) * 12) * 5);
  const time = [measure('hour', Math.floor(minutes / 60)), measure('minute', minutes % 60)].filter(
    (part) => (part as { value: number }).value > 0,
  );
  const currency = random.pick(currencies);
  const price = money(currency, twoDigits((kilometers * (1 + random.integer(4))) / worth(currency) + 1));
  return [
    region(from),
    ' → ',
    region(to),
    ': ',
    measure('kilometer', kilometers),
    ', ',
    list('unit', time),
    ' = ',
    price,
  ];
};

const exchange = (random: RandomStream): Piece[] => {
  const [base, ...others] = drawDistinct(random, currencies, 2 + random.integer(3)) as [string, ...string[]];
  const amount = 10 ** random.integer(4);
  const values = others.map((other) => money(other, twoDigits((amount * worth(base)) / worth(other)) || 1));
  return [date('long', drawDay(random)), ': ', money(base, amount), ' = ', list('disjunction', values)];
};

const meeting = (random: RandomStream): Piece[] => [
  date('moment', drawMoment(random)),
  ' — ',
  list('conjunction', drawDistinct(random, regions, 2 + random.integer(3)).map(region)),
  ' (',
  drawRelative(random),
  ')',
];

const visit = (random: RandomStream): Piece[] => {
  const from = drawDay(random);
  const to = from + (1 + random.integer(40)) * minutesPerDay;
  const places = drawDistinct(random, regions, 1 + random.integer(3)).map(region);
  const length = measure('day', (to - from) / minutesPerDay);
  return [
    { say: 'dates', from, to },
    ' (',
    length,
    '): ',
    list(random.pick(['conjunction', 'disjunction']), places),
  ];
};

const shopping = (random: RandomStream): Piece[] => {
  const items = Array.from({ length: 2 + random.integer(3) }, () => {
    const [unit, most] = random.pick(goods);
    return measure(unit, 1 + random.integer(most));
  });
  const currency = random.pick(currencies);
  const total = money(currency, twoDigits((5 + random.integer(95)) / worth(currency) + 1));
  return [drawRelative(random), ': ', list('conjunction', items), ' = ', total];
};

const download = (random: RandomStream): Piece[] => {
  const megabytes = 10 * (1 + random.integer(200));
  const rate = random.pick([2, 5, 10, 20, 50]);
  const seconds = Math.ceil(megabytes / rate);
  const share = percent(1 + random.integer(100));
  const time =
    seconds < 60
      ? [measure('second', seconds)]
      : [measure('minute', Math.floor(seconds / 60)), measure('second', seconds % 60)];
  return [
    measure('megabyte', megabytes),
    ' / ',
    measure('megabyte-per-second', rate),
    ' = ',
    list('unit', time),
    ' (',
    share,
    '), ',
    drawRelative(random),
  ];
};

const tongue = (random: RandomStream): Piece[] => {
  const codes = drawDistinct(random, spokenLanguages, 1 + random.integer(2));
  const entries = codes.flatMap((code, index) => [
    ...(index ? ['; '] : []),
    name('language', code),
    ' — ',
    name('script', likelyScript(code)),
  ]);
  const places = drawDistinct(random, regions, 1 + random.integer(3)).map(region);
  return [...entries, ': ', list(random.pick(['conjunction', 'disjunction']), places)];
};

const calendar = (random: RandomStream): Piece[] => {
  const at = drawDay(random);
  const told = random.pick(calendars);
  return [
    date('full', at),
    ' = ',
    { say: 'date', style: 'long', at, calendar: told },
    ' (',
    name('calendar', told),
    ')',
  ];
};

const clocks = (random: RandomStream): Piece[] => {
  const at = drawMoment(random);
  const [here, there] = drawDistinct(random, timeZones, 2) as [string, string];
  return [
    date('medium', at),
    ': ',
    { say: 'clock', at, zone: here },
    ' = ',
    { say: 'clock', at, zone: there },
  ];
};

const growth = (random: RandomStream): Piece[] => {
  const month = drawDay(random);
  const lines = drawDistinct(random, regions, 1 + random.integer(3)).map((code): Piece => {
    const tenths = fact(120, code, 'growth') - 40 + random.integer(11) - 5;
    return group(region(code), ' ', { say: 'number', style: 'change', value: tenths / 1000 });
  });
  return [
    date('month', month),
    ', ',
    name('currency', random.pick(currencies)),
    ': ',
    list('conjunction', lines),
  ];
};

const match = (random: RandomStream): Piece[] => {
  const [home, guest] = drawDistinct(random, regions, 2) as [string, string];
  const goals = (code: string): Piece => decimal(Math.max(0, fact(5, code, 'goals') + random.integer(4) - 2));
  const visitors: Piece = { say: 'number', style: 'compact', value: (1 + random.integer(99)) * 1000 };
  return [
    region(home),
    ' – ',
    region(guest),
    ' ',
    goals(home),
    ':',
    goals(guest),
    ' (',
    date('weekdayHour', drawMoment(random)),
    ', ',
    visitors,
    ')',
  ];
};

/** Each topic draws the pieces of one sentence from a stream. */
export const topics = {
  people,
  weather,
  journey,
  exchange,
  meeting,
  visit,
  shopping,
  download,
  tongue,
  calendar,
  clocks,
  growth,
  match,
} satisfies Record<string, (random: RandomStream) => Piece[]>;

/**
 * Speaks meanings in one language with the formatters of `Intl`.
 * @module
 */
import type { DateStyle, NamedKind, Piece } from './meaning.js';

const dateOptions: Record<DateStyle, Intl.DateTimeFormatOptions> = {
  full: { dateStyle: 'full' },
  long: { dateStyle: 'long' },
  medium: { dateStyle: 'medium' },
  month: { year: 'numeric', month: 'long' },
  weekdayHour: { weekday: 'long', day: 'numeric', month: 'long', hour: 'numeric', minute: '2-digit' },
  moment: { dateStyle: 'full', timeStyle: 'short' },
};

const numberOptions = {
  decimal: {},
  percent: { style: 'percent', maximumFractionDigits: 1 },
  change: { style: 'percent', signDisplay: 'exceptZero', minimumFractionDigits: 1 },
  compact: { notation: 'compact', compactDisplay: 'long', maximumSignificantDigits: 2 },
} as const satisfies Record<string, Intl.NumberFormatOptions>;

/**
 * Renders pieces in one locale. Formatters cost up to a millisecond to make and some ten kilobytes to keep, so each
 * is made at its first use and kept; names are looked up once.
 */
export class Speaker {
  readonly #names = new Map<string, string>();
  readonly #displayNames = new Map<NamedKind, Intl.DisplayNames>();
  readonly #numbers = new Map<string, Intl.NumberFormat>();
  readonly #dates = new Map<string, Intl.DateTimeFormat>();
  readonly #lists = new Map<string, Intl.ListFormat>();
  readonly #relative: Intl.RelativeTimeFormat;

  /** @throws RangeError if this build of Node carries no data for the locale (a "small-icu" build). */
  constructor(readonly locale: string) {
    if (Intl.DateTimeFormat.supportedLocalesOf([locale]).length === 0) {
      throw new RangeError(
        `this Node has no CLDR data for "${locale}": use a build with full ICU, as nodejs.org ships`,
      );
    }
    this.#relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  }

  /** The text of a sentence. */
  sentence(pieces: readonly Piece[]): string {
    let text = '';
    for (const piece of pieces) text += this.say(piece);
    return text;
  }

  /** The text of one piece. */
  say(piece: Piece): string {
    if (typeof piece === 'string') return piece;
    switch (piece.say) {
      case 'name':
        return this.#name(piece.kind, piece.code);
      case 'number':
        return this.#number(piece.style, numberOptions[piece.style]).format(piece.value);
      case 'measure':
        return this.#number(piece.unit, { style: 'unit', unit: piece.unit, unitDisplay: 'long' }).format(
          piece.value,
        );
      case 'money':
        return this.#number(piece.currency, {
          style: 'currency',
          currency: piece.currency,
          currencyDisplay: 'name',
          maximumSignificantDigits: 4,
        }).format(piece.value);
      case 'date': {
        const options = { ...dateOptions[piece.style], timeZone: 'UTC' };
        const { calendar } = piece;
        const format = this.#date(
          calendar ? `${piece.style} ${calendar}` : piece.style,
          calendar ? { ...options, calendar } : options,
        );
        return format.format(piece.at * 60_000);
      }
      case 'dates':
        return this.#date('long', { ...dateOptions.long, timeZone: 'UTC' }).formatRange(
          piece.from * 60_000,
          piece.to * 60_000,
        );
      case 'clock': {
        const options = {
          hour: 'numeric',
          minute: '2-digit',
          timeZoneName: 'long',
          timeZone: piece.zone,
        } as const;
        return this.#date(piece.zone, options).format(piece.at * 60_000);
      }
      case 'relative':
        return this.#relative.format(piece.value, piece.unit);
      case 'group':
        return this.sentence(piece.parts);
      case 'list':
        return this.#list(piece.type).format(piece.items.map((item) => this.say(item)));
    }
  }

  #name(kind: NamedKind, code: string): string {
    const key = `${kind} ${code}`;
    let name = this.#names.get(key);
    if (name === undefined) {
      let names = this.#displayNames.get(kind);
      if (!names) this.#displayNames.set(kind, (names = new Intl.DisplayNames(this.locale, { type: kind })));
      this.#names.set(key, (name = names.of(code) ?? code));
    }
    return name;
  }

  #number(key: string, options: Intl.NumberFormatOptions): Intl.NumberFormat {
    let format = this.#numbers.get(key);
    if (!format) this.#numbers.set(key, (format = new Intl.NumberFormat(this.locale, options)));
    return format;
  }

  #date(key: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
    let format = this.#dates.get(key);
    if (!format) this.#dates.set(key, (format = new Intl.DateTimeFormat(this.locale, options)));
    return format;
  }

  #list(type: 'conjunction' | 'disjunction' | 'unit'): Intl.ListFormat {
    let format = this.#lists.get(type);
    if (!format)
      this.#lists.set(
        type,
        (format = new Intl.ListFormat(this.locale, { type, style: type === 'unit' ? 'short' : 'long' })),
      );
    return format;
  }
}

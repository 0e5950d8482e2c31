// How numbers, spans and instants are written; the one place for that. Spans are in ms, instants in ms since the epoch.

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** What stands where there is nothing to tell. */
export const NOTHING = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** A number of things: 12,345. */
export function count(number) {
  return Number.isFinite(number) ? whole.format(number) : NOTHING;
}

/** One noun or several: "1 message", "2 messages". */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** How long something took: "0.8 ms", "12 ms", "3.4 s", "5 min". */
export function latency(spanMs) {
  if (!Number.isFinite(spanMs)) return NOTHING;
  if (spanMs < 10) return `${oneDecimal.format(spanMs)} ms`;
  if (spanMs < SECOND_MS) return `${whole.format(spanMs)} ms`;
  if (spanMs < MINUTE_MS) return `${oneDecimal.format(spanMs / SECOND_MS)} s`;
  return span(spanMs);
}

/** A span for people, in whole units, the largest two: "45 s", "3 min", "2 h 5 min", "4 d 2 h". */
export function span(spanMs) {
  if (!Number.isFinite(spanMs)) return NOTHING;
  const positiveMs = Math.max(0, spanMs);
  if (positiveMs < MINUTE_MS) return `${Math.floor(positiveMs / SECOND_MS)} s`;
  if (positiveMs < HOUR_MS) return `${Math.floor(positiveMs / MINUTE_MS)} min`;
  if (positiveMs < DAY_MS) return two(positiveMs, HOUR_MS, "h", MINUTE_MS, "min");
  return two(positiveMs, DAY_MS, "d", HOUR_MS, "h");
}

function two(spanMs, largeMs, large, smallMs, small) {
  const rest = Math.floor((spanMs % largeMs) / smallMs);
  return `${Math.floor(spanMs / largeMs)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** How long ago an instant was. */
export function ago(at, now) {
  if (!Number.isFinite(at)) return "never";
  return now - at < SECOND_MS ? "just now" : `${span(now - at)} ago`;
}

/** A time of day with seconds, in the reader's zone; with the date if that is another day than `now`. */
export function instant(at, now) {
  if (!Number.isFinite(at)) return NOTHING;
  const date = new Date(at);
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
  return date.toDateString() === new Date(now).toDateString() ? time : `${day(date)} ${time}`;
}

/** The same with ms, as a life's steps need it. */
export function exactInstant(at, now) {
  return Number.isFinite(at) ? `${instant(at, now)}.${String(new Date(at).getMilliseconds()).padStart(3, "0")}` : NOTHING;
}

function day(date) {
  return `${date.getFullYear()}-${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

/** By how much a clock differs: "in step", "+120 ms", "−3 s". */
export function skew(aheadMs) {
  if (!Number.isFinite(aheadMs)) return NOTHING;
  if (Math.abs(aheadMs) < 50) return "in step";
  return `${aheadMs > 0 ? "+" : "−"}${latency(Math.abs(aheadMs))}`;
}

/** A size: "512 B", "3.2 KiB", "1.5 GiB". */
export function bytes(size) {
  if (!Number.isFinite(size)) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = size < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(size) / 10));
  return `${oneDecimal.format(size / 1024 ** step)} ${units[step]}`;
}

/** Any JSON value as text, for reading. */
export function json(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

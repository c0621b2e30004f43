// Numbers and messages as people read them.

/** Decimal units, as download sizes are usually given. */
export function bytes(n: number): string {
  if (n < 1e3) return `${Math.round(n)} bytes`;
  if (n < 1e6) return `${Math.round(n / 1e3)} kB`;
  if (n < 1e9) return `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`;
  return `${(n / 1e9).toFixed(2)} GB`;
}

export function seconds(n: number): string {
  if (n < 1) return "less than a second";
  if (n < 90) return `${Math.round(n)} s`;
  return `${Math.round(n / 60)} min`;
}

export function milliseconds(n: number): string {
  return n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`;
}

export function rate(n: number): string {
  return n < 10 ? n.toFixed(1) : String(Math.round(n));
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

/** The engine's messages begin small, since they may stand behind a prefix; file names stay as they are. */
export function sentence(message: string): string {
  const text = message.replace(/^[a-z](?=[a-z']*[ ,:])/, (first) => first.toUpperCase());
  return /[.!?)]$/.test(text) ? text : `${text}.`;
}

/** How long ago a time in milliseconds since 1970 is, in days. */
export function ago(then: number): string {
  const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(Date.now()) - midnight(then)) / 86_400_000);
  // A clock that was wrong then.
  return days < 0 ? "today" : new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-days, "day");
}

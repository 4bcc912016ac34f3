// The formats of texts that answers are held to, as patterns: each a part of what its RFC allows, and of what common validators
// take.

const TWO_DIGITS_TO_23 = String.raw`(?:[01]\d|2[0-3])`;
const LEAP_YEAR = String.raw`(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)`;
const MONTH_AND_DAY = [
  String.raw`(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])`,
  String.raw`(?:0[469]|11)-(?:0[1-9]|[12]\d|30)`,
  String.raw`02-(?:0[1-9]|1\d|2[0-8])`,
].join("|");
/** RFC 3339, days of the calendar only. */
const DATE = String.raw`(?:\d{4}-(?:${MONTH_AND_DAY})|${LEAP_YEAR}-02-29)`;
/** RFC 3339, without leap seconds. */
const TIME = String.raw`${TWO_DIGITS_TO_23}(?::[0-5]\d){2}(?:\.\d{1,9})?(?:Z|[+-]${TWO_DIGITS_TO_23}:[0-5]\d)`;
/** Letters, digits and hyphens within. */
const LABEL = "[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*";
const ATOM = String.raw`[A-Za-z0-9!#$%&'*+/=?^_${"`"}{|}~-]+`;

export const FORMAT_PATTERNS: Readonly<Record<string, string>> = {
  "date-time": `^${DATE}T${TIME}$`,
  time: `^${TIME}$`,
  date: `^${DATE}$`,
  email: String.raw`^${ATOM}(?:\.${ATOM})*@(?:${LABEL}\.)+${LABEL}$`,
  uuid: "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
  ipv4: String.raw`^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$`,
};

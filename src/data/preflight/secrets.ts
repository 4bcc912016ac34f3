// Keys and personal data, by rule: what a model has trained on it may say to anyone. Each rule takes a documented format that
// hardly anything else has, and shows only the first characters of what it found.
import type { DatasetParam } from "../dataset.ts";
import { Places, rows } from "./report.ts";
import type { Finding } from "./report.ts";
import type { Row, Rule } from "./row.ts";

interface SecretRule {
  kind: string;
  /** "an AWS key id". */
  what: string;
  pattern: RegExp;
  /** What every match contains, one or another of them: looking for a text is quicker than for a pattern. */
  marks?: readonly string[];
  /** A second look at a match. */
  accept?: (match: string) => boolean;
}

const KEYS: readonly SecretRule[] = [
  // docs.aws.amazon.com, IAM identifiers: AKIA for long-term, ASIA for temporary keys.
  {
    kind: "secret_key",
    what: "AWS key id",
    pattern: /\b(?:AKIA|ASIA)[A-Z2-7]{16}\b/g,
    marks: ["AKIA", "ASIA"],
  },
  // github.blog, "Behind GitHub's new authentication token formats".
  {
    kind: "secret_key",
    what: "GitHub token",
    pattern: /\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})/g,
    marks: ["_"],
  },
  // Keys of OpenAI and Anthropic as their consoles print them.
  {
    kind: "secret_key",
    what: "model API key",
    pattern: /\bsk-(?:proj-|svcacct-|ant-)?[\w-]{20,}/g,
    marks: ["sk-"],
    accept: hasDigitsAndLetters,
  },
  // docs.stripe.com/keys: only live ones.
  { kind: "secret_key", what: "Stripe key", pattern: /\b[rs]k_live_[A-Za-z0-9]{16,}/g, marks: ["k_live_"] },
  // api.slack.com/authentication/token-types.
  { kind: "secret_key", what: "Slack token", pattern: /\bxox[abeoprs]-[A-Za-z0-9-]{10,}/g, marks: ["xox"] },
  // cloud.google.com/docs/authentication/api-keys: AIza and 35 characters.
  { kind: "secret_key", what: "Google API key", pattern: /\bAIza[\w-]{35}\b/g, marks: ["AIza"] },
  // RFC 7468.
  {
    kind: "secret_key",
    what: "private key",
    pattern: /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/g,
    marks: ["PRIVATE KEY"],
  },
  // RFC 7519: header and payload begin with {" in base64url. Bounded, and begun only where a run of such characters begins: else
  // a text of "eyJ-" over and over takes the square of its length.
  {
    kind: "secret_key",
    what: "JSON web token",
    pattern: /(?<![\w-])eyJ[\w-]{10,4096}\.eyJ[\w-]{10,8192}\.[\w-]{10,1024}/g,
    marks: ["eyJ"],
  },
];

const PERSONAL: readonly SecretRule[] = [
  // ISO/IEC 7812: 13 to 19 digits, the last by Luhn's rule.
  {
    kind: "card_numbers",
    what: "card number",
    pattern: /(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d.,-]\d|\d)/g,
    accept: isCard,
  },
  // ISO 13616.
  {
    kind: "bank_accounts",
    what: "IBAN",
    pattern: /\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b/g,
    accept: isIban,
  },
  {
    kind: "email_addresses",
    what: "e-mail address",
    pattern: /(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b/g,
    marks: ["@"],
    accept: isPersonalEmail,
  },
  // E.164 with its plus sign, or as North America writes it: any other run of digits may be anything.
  {
    kind: "phone_numbers",
    what: "phone number",
    pattern:
      /(?<![\w+])(?:\+[1-9]\d{0,2}(?:[ .()-]{0,2}\d){7,12}|\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4})(?![\d-])/g,
    accept: isRealPhone,
  },
];

const ADVICE: Readonly<Record<string, string>> = {
  secret_key: "Take the keys out and replace them at their provider: whoever has the file has them.",
  card_numbers: "Replace them by made-up ones, such as the test numbers of card networks.",
  bank_accounts: "Replace them by made-up ones.",
  email_addresses:
    "Replace them by addresses at example.com, unless they are public contacts the model shall give.",
  phone_numbers:
    "Replace them by made-up ones (555-01xx), unless they are public contacts the model shall give.",
};

const NAMES: Readonly<Record<string, readonly [string, string]>> = {
  secret_key: ["a secret key", "secret keys"],
  card_numbers: ["a payment card's number", "payment card numbers"],
  bank_accounts: ["an IBAN", "IBANs"],
  email_addresses: ["an e-mail address", "e-mail addresses"],
  phone_numbers: ["a phone number", "phone numbers"],
};

export class Secrets implements Rule<Finding> {
  readonly #file: DatasetParam;
  readonly #found = new Map<string, Places>();

  constructor(file: DatasetParam) {
    this.#file = file;
  }

  add({ messages, line }: Row): void {
    const text = messages
      .map(({ content, tool_calls: calls }) =>
        [content ?? "", ...(calls ?? []).map((call) => call.function.arguments)].join("\n"),
      )
      .join("\n");
    const named = new Set<string>();
    for (const { kind, what, pattern, marks, accept } of RULES) {
      if (named.has(kind) || marks?.some((mark) => text.includes(mark)) === false) continue;
      for (const [match] of text.matchAll(pattern)) {
        if (accept !== undefined && !accept(match)) continue;
        const places = this.#found.get(kind) ?? new Places();
        places.add(line, `${what} ${masked(match)}`);
        this.#found.set(kind, places);
        named.add(kind);
        break;
      }
    }
  }

  findings(): Finding[] {
    return [...this.#found].map(([kind, { count, places }]) => ({
      kind,
      severity:
        kind === "email_addresses" || kind === "phone_numbers" ? ("note" as const) : ("warning" as const),
      file: this.#file,
      message: `${rows(count)} ${count === 1 ? "holds" : "hold"} what looks like ${NAMES[kind]?.[count === 1 ? 0 : 1] ?? kind}`,
      fix: ADVICE[kind] ?? "",
      count,
      places,
    }));
  }
}

const RULES = [...KEYS, ...PERSONAL];

/** A report is passed on: it must not spread what it warns of. */
function masked(secret: string): string {
  return `${secret.slice(0, Math.min(4, Math.floor(secret.length / 4)))}…`;
}

/** "sk-" also begins words: a real key has digits and capitals. */
function hasDigitsAndLetters(key: string): boolean {
  return /\d/.test(key) && /[A-Z]/.test(key) && !/example|your|xxxx/i.test(key);
}

/** Test numbers of the card networks are made to be written down. */
const TEST_CARDS =
  /^(?:4242|4111111111111111|4000|5555555555554444|378282246310005|5105105105105100|6011111111111117)/;

function isCard(match: string): boolean {
  const digits = match.replaceAll(/\D/g, "");
  // Visa, Mastercard, American Express, Discover: what other networks begin with begins other numbers too.
  if (!/^(?:4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|5\d\d)\d{12})$/.test(digits)) return false;
  if (TEST_CARDS.test(digits) || /^(\d)\1+$/.test(digits)) return false;
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i]);
    sum += i % 2 === 0 ? digit : digit * 2 - (digit > 4 ? 9 : 0);
  }
  return sum % 10 === 0;
}

/** ISO 13616: letters are two digits, the first four characters go to the end, the rest by 97 is 1. */
function isIban(match: string): boolean {
  const compact = match.replaceAll(" ", "");
  if (compact.length < 15 || compact.length > 34) return false;
  let rest = 0;
  for (const character of compact.slice(4) + compact.slice(0, 4)) {
    for (const digit of String(parseInt(character, 36))) rest = (rest * 10 + Number(digit)) % 97;
  }
  return rest === 1;
}

/** RFC 2606 keeps names for examples; addresses of no person end the list. */
function isPersonalEmail(address: string): boolean {
  return (
    !/@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid|localhost)|(?:email|domain|company|yourcompany|example\w*)\.com)$/i.test(
      address,
    ) &&
    !/^(?:no-?reply|info|support|sales|contact|hello|help|admin|press|jobs|name|user|email|someone)@/i.test(
      address,
    )
  );
}

/** 555-0100 to 555-0199 belong to nobody (North American Numbering Plan). */
function isRealPhone(number: string): boolean {
  const digits = number.replaceAll(/\D/g, "");
  return (
    !/555-?\d{4}$/.test(digits) && !/^(?:\+?1)?(?:123|111|000)/.test(digits) && !/(\d)\1{5}/.test(digits)
  );
}

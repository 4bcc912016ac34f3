import { describe, expect, it } from "vitest";
import { rowOf } from "./row.ts";
import { Secrets } from "./secrets.ts";

function kinds(text: string): string[] {
  const secrets = new Secrets("training_file");
  secrets.add(
    rowOf("training_file", {
      line: 1,
      messages: [
        { role: "user", content: text },
        { role: "assistant", content: "Thanks." },
      ],
    }),
  );
  return secrets.findings().flatMap(({ kind, places }) => places.map(({ detail }) => `${kind}: ${detail}`));
}

// Put together from pieces: scanners of repositories would take them for real.
const aws = `AKIA${"J4Q7".repeat(4)}`;
const github = `ghp_${"a1B2c3".repeat(6)}`;

describe("Secrets", () => {
  it("takes no longer for what looks like the beginning of a token over and over", () => {
    const start = performance.now();
    expect(kinds("eyJ-".repeat(50_000))).toEqual([]);
    // The square of 200,000 characters took a minute.
    expect(performance.now() - start).toBeLessThan(2_000);
  });

  it.each([
    [`use ${aws} please`, "secret_key: AWS key id AKIA…"],
    [`token=${github}`, "secret_key: GitHub token ghp_…"],
    [`sk-proj-${"aB3".repeat(12)}`, "secret_key: model API key sk-p…"],
    [`-----BEGIN ${"RSA"} PRIVATE KEY-----`, "secret_key: private key ----…"],
    ["pay with 4539 1488 0343 6467", "card_numbers: card number 4539…"],
    ["to DE89 3704 0044 0532 0130 00", "bank_accounts: IBAN DE89…"],
    ["I am jane.doe@mailbox.org", "email_addresses: e-mail address jane…"],
    ["call +49 30 901820", "phone_numbers: phone number +49…"],
    ["call (212) 664-7665", "phone_numbers: phone number (21…"],
  ])("%s", (text, expected) => {
    expect(kinds(text)).toEqual([expected]);
  });

  it.each([
    "order 80947, serial 4539148803436468 and id 1234567890123456",
    "the test card 4242 4242 4242 4242",
    "write to jane@example.com or support@shop.com",
    "call 555-0123 or (212) 555-0199",
    "sk-learn and sk-your-key-here-example-text",
    "IPs 192.168.100.200, 2024-11-24 17:00:00, 3.14159265358979, 12345-6789",
    "DE00 3704 0044 0532 0130 00",
    "https://example.org/a+1-234-567",
    "x".repeat(200_000),
    "1 ".repeat(100_000),
    "a@".repeat(50_000),
  ])("nothing in %#", (text) => {
    expect(kinds(text)).toEqual([]);
  });
});
